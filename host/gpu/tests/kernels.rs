//! The kernels without a GPU: `kernels.cu` is compiled for the processor and compared with plain models of what it should
//! compute (`harness.cpp`). That a GPU computes the same is `tests/tests/on_gpu.rs`' business.

use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

fn here(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// The program embeds the PTX, so it must be that of the source.
#[test]
fn the_embedded_ptx_was_made_of_this_source() {
    let source = std::fs::read(here("kernels/kernels.cu")).unwrap();
    let ptx = std::fs::read_to_string(here("kernels/kernels.ptx")).unwrap();
    let digest: String = Sha256::digest(&source).iter().map(|b| format!("{b:02x}")).collect();
    let first = ptx.lines().next().unwrap();
    assert!(first.ends_with(&digest), "run host/gpu/kernels/build.py: {first}");
    let entry = |name: &str| ptx.find(&format!(".entry {name}(")).unwrap_or_else(|| panic!("{name} is missing"));
    let (letterbox, others) = (entry("letterbox"), [entry("sieve"), entry("pack"), entry("scale"), ptx.len()]);
    let end = others.into_iter().filter(|at| *at > letterbox).min().unwrap();
    // A contracted letterbox would not equal the processor's.
    assert!(!ptx[letterbox..end].contains("fma.rn.f32"), "compiled without --fmad=false");
}

#[test]
fn kernels_compute_what_they_should_on_the_processor() {
    let compilers = ["c++", "g++", "clang++"];
    let compiler = compilers.into_iter().find(|c| Command::new(c).arg("--version").output().is_ok());
    let Some(compiler) = compiler else {
        facestream_test_support::skip("kernels_compute_what_they_should_on_the_processor", "no C++ compiler");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("harness");
    let compiled = Command::new(compiler)
        .args(["-O2", "-ffp-contract=off", "-std=c++17", "-w", "-I"])
        .args([here("kernels").as_os_str(), "-o".as_ref(), program.as_os_str(), here("tests/harness.cpp").as_os_str()])
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let ran = Command::new(&program).output().unwrap();
    let told = String::from_utf8_lossy(&ran.stdout);
    println!("{told}");
    assert!(ran.status.success(), "{told}");
    // `src/kernels.rs` passes structs of these sizes.
    let sizes = facestream_gpu::ARGUMENT_SIZES.map(|n| n.to_string()).join(" ");
    assert!(told.contains(&format!("sizes {sizes}\n")), "{sizes}: {told}");
}
