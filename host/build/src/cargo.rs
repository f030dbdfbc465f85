//! One call of cargo that compiles guests to modules.
//!
//! Owns flags and the reading of what cargo made. Same sources and same toolchain give the same bytes: paths of the
//! machine are remapped, and nothing writes a time.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::error::BuildError;
use crate::toolchain::Toolchain;

/// A name and a value for cargo's environment.
pub type Variable<'a> = (&'a str, &'a str);

/// What to compile.
#[derive(Debug)]
pub struct Compile<'a> {
    /// Folder of the workspace or package.
    pub dir: &'a Path,
    /// Profile of its `Cargo.toml`.
    pub profile: &'a str,
    /// Where cargo puts its results; `None` for the folder's own.
    pub target_dir: Option<&'a Path>,
    /// Refuse to change the lock file.
    pub locked: bool,
    /// Flags of every crate, separated by the unit separator (`CARGO_ENCODED_RUSTFLAGS`); see [`remap`].
    pub flags: OsString,
    /// More for the environment.
    pub variables: &'a [Variable<'a>],
    /// Which packages of a workspace; none for that of the folder.
    pub packages: &'a [String],
    /// Flags of the last crate alone (one package only).
    pub last: &'a [&'a str],
}

/// Flags of every guest. SIMD is on in every host.
#[must_use]
pub(crate) fn base_flags() -> OsString {
    OsString::from("-Ctarget-feature=+simd128")
}

/// Adds a replacement for a path of this machine to flags (empty: to the usual ones): panic messages carry paths of
/// source files, which would change the digest and tell who built it.
pub fn remap(flags: &mut OsString, from: &Path, to: &str) {
    if flags.is_empty() {
        *flags = base_flags();
    }
    flags.push("\u{1f}--remap-path-prefix=");
    flags.push(from);
    flags.push("=");
    flags.push(to);
}

/// Cargo's own folder, where sources of dependencies lie.
#[must_use]
pub fn cargo_home() -> Option<PathBuf> {
    std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
}

/// Compiles, and gives the wasm modules (or components, where the target's linker makes them) that came out.
///
/// # Errors
/// When cargo cannot be started or the sources do not compile.
pub fn compile(toolchain: &Toolchain, what: &Compile<'_>) -> Result<Vec<PathBuf>, BuildError> {
    let mut cargo = toolchain.cargo();
    cargo.current_dir(what.dir);
    if what.last.is_empty() {
        cargo.arg("build")
    } else {
        cargo.args(["rustc", "--lib"])
    };
    cargo.args(["--profile", what.profile, "--target", toolchain.target()]);
    cargo.arg("--message-format=json-render-diagnostics");
    if what.locked {
        cargo.arg("--locked");
    }
    if let Some(dir) = what.target_dir {
        cargo.arg("--target-dir").arg(dir);
    }
    if toolchain.builds_std() {
        cargo.args(["-Z", "build-std=std,panic_abort"]);
    }
    cargo.args(what.packages.iter().map(|p| format!("--package={p}")));
    if !what.last.is_empty() {
        cargo.arg("--").args(what.last);
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", &what.flags).env_remove("RUSTFLAGS").envs(what.variables.iter().copied());

    let start = |source| BuildError::Start { program: "cargo".to_owned(), source };
    let mut child = cargo.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(start)?;
    let mut modules = Vec::new();
    for line in BufReader::new(child.stdout.take().expect("standard output is piped")).lines() {
        modules.extend(line.ok().as_deref().and_then(module));
    }
    let status = child.wait().map_err(start)?;
    if !status.success() {
        let (program, dir) = ("cargo".to_owned(), what.dir.to_owned());
        return Err(BuildError::Failed { program, dir, status });
    }
    Ok(modules)
}

/// The module that a line of cargo's speaks of.
fn module(line: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    let kinds = message["target"]["kind"].as_array()?;
    if message["reason"] != "compiler-artifact" || !kinds.iter().any(|k| k == "cdylib") {
        return None;
    }
    let files = message["filenames"].as_array()?.iter().filter_map(Value::as_str);
    files.map(PathBuf::from).find(|f| f.extension().is_some_and(|e| e == "wasm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_cargos_lines_only_modules_count() {
        let line = r#"{"reason":"compiler-artifact","target":{"kind":["cdylib","rlib"]},"filenames":["/t/libx.rlib","/t/x.wasm"]}"#;
        assert_eq!(module(line), Some(PathBuf::from("/t/x.wasm")));
        for other in [
            "not JSON",
            r#"{"reason":"build-finished","success":true}"#,
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"]},"filenames":["/t/x.wasm"]}"#,
        ] {
            assert_eq!(module(other), None, "{other}");
        }
    }

    #[test]
    fn paths_are_remapped_after_the_usual_flags() {
        let mut flags = OsString::new();
        remap(&mut flags, Path::new("/somewhere"), "here");
        assert_eq!(flags, "-Ctarget-feature=+simd128\u{1f}--remap-path-prefix=/somewhere=here");
    }
}
