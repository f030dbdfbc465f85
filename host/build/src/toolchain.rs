//! The compiler that makes wasm: which one, and why.
//!
//! Owns finding it. Must not install or fetch one.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::BuildError;

/// Target without an operating system: components import the project's interfaces alone.
pub const CORE_TARGET: &str = "wasm32-unknown-unknown";
/// Target whose linker makes components itself; they import (an empty) WASI too.
pub const WASI_TARGET: &str = "wasm32-wasip2";

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_LINKER: &str = "/usr/bin/wasm-ld";

/// A compiler that can make wasm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The one in PATH has the target installed.
    Installed {
        /// Which target.
        target: &'static str,
        /// What `rustc -vV` says.
        version: String,
    },
    /// Debian's rustc-web with the standard library built from source: for machines where rustup cannot fetch targets.
    Debian {
        /// What `rustc -vV` says.
        version: String,
    },
}

/// Which target is taken when both are installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefer {
    /// `wasm32-wasip2`: what guest authors are used to; plain `cargo build` makes the same.
    Wasi,
    /// `wasm32-unknown-unknown`: no WASI at all in the component.
    Core,
}

impl Toolchain {
    /// Finds one.
    ///
    /// # Errors
    /// When there is none, with the commands that would bring one.
    pub fn find(prefer: Prefer) -> Result<Self, BuildError> {
        let rustc = rustc();
        let order = match prefer {
            Prefer::Wasi => [WASI_TARGET, CORE_TARGET],
            Prefer::Core => [CORE_TARGET, WASI_TARGET],
        };
        for target in order {
            if has_target(&rustc, target) {
                return Ok(Self::Installed { target, version: version(&rustc)? });
            }
        }
        let missing = missing_for_debian();
        if !missing.is_empty() {
            let rustc = rustc.to_string_lossy().into_owned();
            return Err(BuildError::NoToolchain { rustc, missing: missing.join(", ") });
        }
        Ok(Self::Debian { version: version(DEBIAN_RUSTC.as_ref())? })
    }

    /// The target it compiles for.
    #[must_use]
    pub fn target(&self) -> &'static str {
        match self {
            Self::Installed { target, .. } => target,
            Self::Debian { .. } => CORE_TARGET,
        }
    }

    /// What is taken and why, in words.
    #[must_use]
    pub fn why(&self) -> String {
        let of = |version: &str| version.lines().next().unwrap_or("rustc").to_owned();
        match self {
            Self::Installed { target: WASI_TARGET, version } => {
                format!("{WASI_TARGET}, which is installed, with {}", of(version))
            }
            Self::Installed { target, version } => format!(
                "{target} with {}, made a component here; {WASI_TARGET} is not installed (`rustup target add {WASI_TARGET}`)",
                of(version)
            ),
            Self::Debian { version } => format!(
                "{CORE_TARGET} with Debian's {} and the standard library built from its source (the first time takes 1 to 3 \
                 minutes), made a component here: the compiler in PATH has no wasm target",
                of(version)
            ),
        }
    }

    /// Whether the standard library has to be built too.
    pub(crate) fn builds_std(&self) -> bool {
        matches!(self, Self::Debian { .. })
    }

    /// Its cargo, in an environment that fits it.
    #[must_use]
    pub fn cargo(&self) -> Command {
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

/// The compiler of whoever calls.
fn rustc() -> OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

/// Whether the compiler in PATH can build for a target.
#[must_use]
pub fn target_installed(target: &str) -> bool {
    has_target(&rustc(), target)
}

fn version(rustc: &OsStr) -> Result<String, BuildError> {
    let out = Command::new(rustc).arg("-vV").output();
    let out = out.map_err(|source| BuildError::Start { program: rustc.to_string_lossy().into_owned(), source })?;
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Whether the standard library of a target is installed; the folder's name alone says nothing.
fn has_target(rustc: &OsStr, target: &str) -> bool {
    let Ok(out) = Command::new(rustc).args(["--print", "target-libdir", "--target", target]).output() else {
        return false;
    };
    let dir = PathBuf::from(String::from_utf8_lossy(&out.stdout).trim());
    out.status.success()
        && std::fs::read_dir(dir).is_ok_and(|entries| {
            entries.flatten().any(|e| {
                let name = e.file_name();
                let name = name.to_string_lossy();
                name.starts_with("libstd-") && name.ends_with(".rlib")
            })
        })
}

fn missing_for_debian() -> Vec<&'static str> {
    let mut missing = Vec::new();
    for (file, package) in [(DEBIAN_RUSTC, "rustc-web"), (DEBIAN_CARGO, "cargo-web"), (DEBIAN_LINKER, "lld")] {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_choice_says_what_it_is_and_what_would_be_better() {
        let version = "rustc 1.95.0\nbinary: rustc".to_owned();
        let wasi = Toolchain::Installed { target: WASI_TARGET, version: version.clone() };
        assert!(wasi.why().contains("wasm32-wasip2, which is installed, with rustc 1.95.0"), "{}", wasi.why());
        let core = Toolchain::Installed { target: CORE_TARGET, version: version.clone() };
        assert!(core.why().contains("rustup target add wasm32-wasip2"), "{}", core.why());
        assert!(!wasi.builds_std() && !core.builds_std());
        let debian = Toolchain::Debian { version };
        assert!(debian.why().contains("Debian") && debian.builds_std() && debian.target() == CORE_TARGET);
    }
}
