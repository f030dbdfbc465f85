//! Builds the guests in `guests/`, and the examples in `examples/guests/`, to components.
//!
//! Owns which they are, where the components go, and skipping what is up to date; `facestream-guest-build` compiles.
//! Must not install anything: what is missing is named with the command that brings it.
//!
//! Same sources and same toolchain give the same bytes: paths of the machine are remapped, one codegen unit is used,
//! and nothing writes a time.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use facestream_guest_build::{BuildError, CORE_TARGET, Compile, Prefer, Toolchain, Variable, cargo_home, remap};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The built-in guests: folder under `guests/` and, with `facestream-` before it, crate.
pub(crate) const GUESTS: [&str; 7] =
    ["best-shot", "botsort", "bytetrack", "frame-tracks", "gate-and-mega", "gate-metric", "mega"];

/// Examples: folder under `examples/guests/` and crate. No built-ins, so they lie in a folder of their own.
pub(crate) const EXAMPLES: [&str; 2] = ["people-counter", "steady-shot"];

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

/// Profile in `guests/Cargo.toml`.
const PROFILE: &str = "component";

/// What was built from what; lies beside the components.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Stamp {
    inputs: String,
    outputs: BTreeMap<String, String>,
}

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

/// Builds every guest of a set into `out/<name>.wasm`; with `debug` as if `FACESTREAM_GUEST_DEBUG` were set.
///
/// # Errors
/// No toolchain that makes wasm (the message says how to get one), a guest that does not compile, or a module that is
/// no component of our worlds.
pub(crate) fn build(root: &Path, set: Set, out: &Path, debug: bool) -> Result<Vec<BuiltGuest>> {
    let debug = debug || facestream_guest_build::debug_wanted();
    let toolchain = Toolchain::find(Prefer::Core)?;
    let inputs = inputs_digest(root, set, &toolchain, debug)?;
    fs::create_dir_all(out).with_context(|| format!("creating {}", out.display()))?;
    let stamp_path = out.join(".built.json");
    if let Some(stamp) = read_stamp(&stamp_path).filter(|s| s.inputs == inputs)
        && let Some(found) = up_to_date(set, out, &stamp)?
    {
        return Ok(found);
    }
    let mut modules = Vec::new();
    match set {
        Set::BuiltIn => {
            let crates: Vec<String> = GUESTS.iter().map(|name| format!("facestream-{name}")).collect();
            modules.extend(compile(root, &root.join("guests"), &toolchain, debug, &crates)?);
        }
        Set::Examples => {
            for name in EXAMPLES {
                modules.extend(compile(root, &root.join("examples/guests").join(name), &toolchain, debug, &[])?);
            }
        }
    }
    let mut built = Vec::new();
    for &name in set.names() {
        let bytes = component(&toolchain, &modules, &set.module(name))
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

/// Compiles the workspace in `dir`, of it the crates that `packages` names.
fn compile(
    root: &Path,
    dir: &Path,
    toolchain: &Toolchain,
    debug: bool,
    packages: &[String],
) -> Result<Vec<PathBuf>, BuildError> {
    let debugging: [Variable<'_>; 2] =
        [("CARGO_PROFILE_COMPONENT_DEBUG", "line-tables-only"), ("CARGO_PROFILE_COMPONENT_STRIP", "none")];
    let variables = if debug { &debugging[..] } else { &[] };
    // One for all guests, so that examples find the SDK compiled.
    let target_dir = root.join("guests/target");
    let (profile, target_dir) = (PROFILE, Some(target_dir.as_path()));
    let flags = rustflags(root);
    let what = Compile { dir, profile, target_dir, locked: true, flags, variables, packages, last: &[] };
    facestream_guest_build::compile(toolchain, &what)
}

/// Panic messages carry paths of source files: those of this machine would change the digest and tell who built it.
fn rustflags(root: &Path) -> OsString {
    let mut flags = OsString::new();
    remap(&mut flags, root, "facestream");
    if let Some(home) = cargo_home() {
        remap(&mut flags, &home, "cargo");
    }
    flags
}

fn component(toolchain: &Toolchain, modules: &[PathBuf], name: &str) -> Result<Vec<u8>> {
    let file = format!("{name}.wasm");
    let path = modules.iter().find(|m| m.file_name().is_some_and(|f| f == file.as_str()));
    let path = path.with_context(|| format!("cargo made no {file}"))?;
    let module = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let component = facestream_guest_build::component(&module)?;
    // The target with WASI brings its imports along; the host satisfies those.
    if toolchain.target() == CORE_TARGET {
        for import in facestream_guest_build::imports(&component)? {
            ensure!(import.starts_with("facestream:analytics/"), "it imports {import}, which no host gives");
        }
    }
    Ok(component)
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
