//! Builds the guests in `guests/`, and the examples in `examples/guests/`, to components.
//!
//! Owns the choice of toolchain, the compiler's flags, the step from module to component, and skipping what is up to
//! date. Must not install anything: what is missing is named with the command that brings it.
//!
//! Same sources and same toolchain give the same bytes: paths of the machine are remapped, one codegen unit is used,
//! and nothing writes a time.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The built-in guests: folder under `guests/` and, with `facestream-` before it, crate.
pub(crate) const GUESTS: [&str; 7] =
    ["best-shot", "botsort", "bytetrack", "frame-tracks", "gate-and-mega", "gate-metric", "mega"];

/// Examples: folder under `examples/guests/` and crate. No built-ins, so they lie in a folder of their own.
pub(crate) const EXAMPLES: [&str; 1] = ["steady-shot"];

/// One component, ready to be loaded.
#[derive(Clone, Debug)]
pub(crate) struct BuiltGuest {
    /// Name under which the host knows it.
    pub(crate) name: String,
    /// SHA-256 of the file, hexadecimal.
    pub(crate) sha256: String,
    /// Size of the file.
    pub(crate) bytes: u64,
    /// Compiled now, rather than found up to date.
    pub(crate) rebuilt: bool,
}

impl fmt::Display for BuiltGuest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.rebuilt { "built" } else { "up to date" };
        write!(f, "{:<14} {:>4} KiB  sha256:{}  {how}", self.name, self.bytes.div_ceil(1024), self.sha256)
    }
}

/// A compiler that can make wasm.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Toolchain {
    /// The one in PATH has the target installed.
    Installed { target: &'static str, version: String },
    /// Debian's rustc-web with the standard library built from source: for machines where rustup cannot fetch targets.
    Debian { version: String },
}

const CORE_TARGET: &str = "wasm32-unknown-unknown";
const WASI_TARGET: &str = "wasm32-wasip2";
/// Profile in `guests/Cargo.toml`.
const PROFILE: &str = "component";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// What was built from what; lies beside the components.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Stamp {
    inputs: String,
    outputs: BTreeMap<String, String>,
}

/// Set to keep function names and line tables in the components (several times the size, same speed), so that a trap's
/// backtrace is readable.
const DEBUG_VARIABLE: &str = "FACESTREAM_GUEST_DEBUG";

/// Which guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    /// The built-in ones.
    BuiltIn,
    /// Those that show how to write one.
    Examples,
}

impl Set {
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::BuiltIn => &GUESTS,
            Self::Examples => &EXAMPLES,
        }
    }

    /// The file that the compiler writes, without its ending.
    fn module(self, name: &str) -> String {
        let name = name.replace('-', "_");
        match self {
            Self::BuiltIn => format!("facestream_{name}"),
            Self::Examples => name,
        }
    }
}

/// Builds every guest of a set into `out/<name>.wasm`; with `debug` as if [`DEBUG_VARIABLE`] were set.
///
/// # Errors
/// No toolchain that makes wasm (the message says how to get one), a guest that does not compile, or a module that is
/// no component of our worlds.
pub(crate) fn build(root: &Path, set: Set, out: &Path, debug: bool) -> Result<Vec<BuiltGuest>> {
    let debug = debug || std::env::var_os(DEBUG_VARIABLE).is_some_and(|v| !v.is_empty() && v != "0");
    let toolchain = Toolchain::find()?;
    let inputs = inputs_digest(root, set, &toolchain, debug)?;
    fs::create_dir_all(out).with_context(|| format!("creating {}", out.display()))?;
    let stamp_path = out.join(".built.json");
    if let Some(stamp) = read_stamp(&stamp_path).filter(|s| s.inputs == inputs)
        && let Some(found) = up_to_date(set, out, &stamp)?
    {
        return Ok(found);
    }
    match set {
        Set::BuiltIn => {
            let crates: Vec<String> = GUESTS.iter().map(|name| format!("--package=facestream-{name}")).collect();
            compile(root, &root.join("guests"), &toolchain, debug, &crates)?;
        }
        Set::Examples => {
            for name in EXAMPLES {
                compile(root, &root.join("examples/guests").join(name), &toolchain, debug, &[])?;
            }
        }
    }
    let mut built = Vec::new();
    for &name in set.names() {
        let bytes = component(root, &toolchain, &set.module(name))
            .with_context(|| format!("making a component of guest {name}"))?;
        let path = out.join(format!("{name}.wasm"));
        // Written beside and renamed: a host that loads guests meanwhile never reads half a file.
        let partial = out.join(format!(".{name}.wasm.partial"));
        fs::write(&partial, &bytes).with_context(|| format!("writing {}", partial.display()))?;
        fs::rename(&partial, &path).with_context(|| format!("writing {}", path.display()))?;
        built.push(BuiltGuest {
            name: name.to_owned(),
            sha256: hex_digest(&bytes),
            bytes: bytes.len() as u64,
            rebuilt: true,
        });
    }
    let outputs = built.iter().map(|g| (g.name.clone(), g.sha256.clone())).collect();
    fs::write(&stamp_path, serde_json::to_vec_pretty(&Stamp { inputs, outputs })?)
        .with_context(|| format!("writing {}", stamp_path.display()))?;
    Ok(built)
}

impl Toolchain {
    fn find() -> Result<Self> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        for target in [CORE_TARGET, WASI_TARGET] {
            if has_target(&rustc, target) {
                return Ok(Self::Installed { target, version: version(&rustc)? });
            }
        }
        let missing = missing_for_debian();
        ensure!(
            missing.is_empty(),
            "no compiler here makes wasm: {} has neither {CORE_TARGET} nor {WASI_TARGET}, and Debian's compiler lacks {}.\n\
             Run `rustup target add {CORE_TARGET}`, or on Debian \
             `apt-get install --no-install-recommends rustc-web cargo-web rust-web-src lld`.",
            rustc.display(),
            missing.join(", "),
        );
        Ok(Self::Debian { version: version(DEBIAN_RUSTC.as_ref())? })
    }

    fn target(&self) -> &'static str {
        match self {
            Self::Installed { target, .. } => target,
            Self::Debian { .. } => CORE_TARGET,
        }
    }

    fn cargo(&self) -> Command {
        match self {
            Self::Installed { .. } => Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())),
            Self::Debian { .. } => {
                let mut cargo = Command::new(DEBIAN_CARGO);
                // Cargo sets these for what it runs; Debian's must not use rustup's compiler.
                for name in ["RUSTC", "RUSTDOC", "CARGO", "RUSTUP_TOOLCHAIN", "RUSTC_WRAPPER"] {
                    cargo.env_remove(name);
                }
                let mut path = OsString::from("/usr/bin:");
                path.push(std::env::var_os("PATH").unwrap_or_default());
                cargo
                    .env("PATH", path)
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld");
                cargo
            }
        }
    }
}

fn version(rustc: &std::ffi::OsStr) -> Result<String> {
    let out = Command::new(rustc).arg("-vV").output().with_context(|| format!("running {}", rustc.display()))?;
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Whether the standard library of a target is installed; the folder's name alone says nothing.
fn has_target(rustc: &std::ffi::OsStr, target: &str) -> bool {
    let Ok(out) = Command::new(rustc).args(["--print", "target-libdir", "--target", target]).output() else {
        return false;
    };
    let dir = PathBuf::from(String::from_utf8_lossy(&out.stdout).trim());
    out.status.success()
        && fs::read_dir(dir).is_ok_and(|entries| {
            entries.flatten().any(|e| {
                let name = e.file_name();
                let name = name.to_string_lossy();
                name.starts_with("libstd-") && name.ends_with(".rlib")
            })
        })
}

fn missing_for_debian() -> Vec<&'static str> {
    let mut missing = Vec::new();
    for (file, package) in [(DEBIAN_RUSTC, "rustc-web"), (DEBIAN_CARGO, "cargo-web"), ("/usr/bin/wasm-ld", "lld")] {
        if !Path::new(file).exists() {
            missing.push(package);
        }
    }
    let sysroot = Command::new(DEBIAN_RUSTC).args(["--print", "sysroot"]).output().ok();
    let source = sysroot.map(|out| {
        Path::new(String::from_utf8_lossy(&out.stdout).trim()).join("lib/rustlib/src/rust/library/std/Cargo.toml")
    });
    if !source.is_some_and(|s| s.exists()) {
        missing.push("rust-web-src");
    }
    missing
}

/// Compiles the workspace in `dir`, of it the crates that `more` selects.
fn compile(root: &Path, dir: &Path, toolchain: &Toolchain, debug: bool, more: &[String]) -> Result<()> {
    let mut cargo = toolchain.cargo();
    cargo
        .current_dir(dir)
        .args(["build", "--profile", PROFILE, "--locked", "--target", toolchain.target(), "--target-dir"])
        .arg(target_dir(root))
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(root))
        .env_remove("RUSTFLAGS");
    if debug {
        cargo.env("CARGO_PROFILE_COMPONENT_DEBUG", "line-tables-only").env("CARGO_PROFILE_COMPONENT_STRIP", "none");
    }
    if matches!(toolchain, Toolchain::Debian { .. }) {
        cargo.args(["-Z", "build-std=std,panic_abort"]);
    }
    let status = cargo.args(more).status().context("running cargo for the guests")?;
    if !status.success() {
        bail!("the guests in {} did not compile (cargo's messages are above): {status}", dir.display());
    }
    Ok(())
}

/// One for all guests, so that examples find the SDK compiled.
fn target_dir(root: &Path) -> PathBuf {
    root.join("guests/target")
}

/// Panic messages carry paths of source files: those of this machine would change the digest and tell who built it.
fn rustflags(root: &Path) -> OsString {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let mut flags = OsString::from("-Ctarget-feature=+simd128");
    let mut remap = |from: &Path, to: &str| {
        flags.push("\u{1f}--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    };
    remap(root, "facestream");
    if let Some(home) = home {
        remap(&home, "cargo");
    }
    flags
}

fn component(root: &Path, toolchain: &Toolchain, module: &str) -> Result<Vec<u8>> {
    let path = target_dir(root).join(toolchain.target()).join(PROFILE).join(format!("{module}.wasm"));
    let module = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    if toolchain.target() == WASI_TARGET {
        // Its linker makes components itself.
        return Ok(module);
    }
    let component = wit_component::ComponentEncoder::default().validate(true).module(&module)?.encode()?;
    only_our_imports(&component)?;
    Ok(component)
}

/// A component that asks for anything but the project's own interfaces would be refused by every host: say so here.
fn only_our_imports(component: &[u8]) -> Result<()> {
    let wit_component::DecodedWasm::Component(resolve, world) = wit_component::decode(component)? else {
        bail!("the bytes are no component");
    };
    for key in resolve.worlds[world].imports.keys() {
        let name = resolve.name_world_key(key);
        ensure!(name.starts_with("facestream:analytics/"), "it imports {name}, which no host gives");
    }
    Ok(())
}

/// Everything that the components depend on, as one digest.
fn inputs_digest(root: &Path, set: Set, toolchain: &Toolchain, debug: bool) -> Result<String> {
    let mut files = vec![root.join("guests/Cargo.lock"), root.join("guests/Cargo.toml")];
    if set == Set::Examples {
        for name in EXAMPLES {
            let dir = root.join("examples/guests").join(name);
            files.push(dir.join("Cargo.lock"));
            collect(&dir, &mut files)?;
        }
    }
    collect(&root.join("wit"), &mut files)?;
    for entry in fs::read_dir(root.join("guests")).context("reading guests/")? {
        let path = entry?.path();
        if path.is_dir() && path.file_name().is_some_and(|n| n != "target") {
            collect(&path, &mut files)?;
        }
    }
    files.sort();
    let mut hash = Sha256::new();
    hash.update(format!("{toolchain:?} {debug} {:?}", rustflags(root)));
    for file in files {
        let content = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        hash.update(file.strip_prefix(root).unwrap_or(&file).as_os_str().as_encoded_bytes());
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    Ok(hex(&hash.finalize()))
}

fn collect(dir: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|n| n != "target") {
                collect(&path, into)?;
            }
        } else if path.extension().is_some_and(|e| e == "rs" || e == "toml" || e == "wit") {
            into.push(path);
        }
    }
    Ok(())
}

fn read_stamp(path: &Path) -> Option<Stamp> {
    // A missing or damaged stamp means building again, which is always right.
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn up_to_date(set: Set, out: &Path, stamp: &Stamp) -> Result<Option<Vec<BuiltGuest>>> {
    let mut found = Vec::new();
    for &name in set.names() {
        let path = out.join(format!("{name}.wasm"));
        let Some(wanted) = stamp.outputs.get(name) else { return Ok(None) };
        if !path.exists() {
            return Ok(None);
        }
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        if hex_digest(&bytes) != *wanted {
            return Ok(None);
        }
        let (name, sha256, bytes) = (name.to_owned(), wanted.clone(), bytes.len() as u64);
        found.push(BuiltGuest { name, sha256, bytes, rebuilt: false });
    }
    Ok(Some(found))
}

fn hex_digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
