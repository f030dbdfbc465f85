//! Builds guests: sources in Rust, Python or JavaScript to a WebAssembly component.
//!
//! Owns the choice of toolchain, the calls of other people's compilers, and the step from module to component; both
//! `facestream guest build` and `cargo xtask guests` are made of it. Must build on a machine with nothing but Rust (it is
//! part of xtask), must not install anything outside of the guest's folder (what is missing is named with the command
//! that brings it), and must not know what the host accepts: the guest platform's `inspect` does.
#![forbid(unsafe_code)]

mod cargo;
mod component;
mod error;
mod project;
mod scripts;
mod toolchain;

use std::path::PathBuf;

pub use cargo::{Compile, Variable, cargo_home, compile, remap};
pub use component::{component, imports, named};
pub use error::BuildError;
pub use project::{Language, Project, World};
pub use scripts::COMPONENTIZE_PY;
pub use toolchain::{CORE_TARGET, Prefer, Toolchain, WASI_TARGET, target_installed};

/// Set to keep function names and line tables in components (several times the size, same speed), so that a trap's
/// backtrace is readable.
pub const DEBUG_VARIABLE: &str = "FACESTREAM_GUEST_DEBUG";

/// Whether [`DEBUG_VARIABLE`] asks for names.
#[must_use]
pub fn debug_wanted() -> bool {
    std::env::var_os(DEBUG_VARIABLE).is_some_and(|v| !v.is_empty() && v != "0")
}

/// A component, fresh from its sources.
#[derive(Clone, Debug)]
pub struct Built {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What made it, and why that was taken, in words.
    pub how: String,
}

/// Builds the guest in a folder; messages of compilers go to standard error.
///
/// With `release` nothing is kept that only people read; without it function names and line numbers stay, so that a
/// trap can be read. The code is the same. It makes no difference to Python and JavaScript.
///
/// # Errors
/// See [`BuildError`].
pub fn build(project: &Project, release: bool) -> Result<Built, BuildError> {
    let built = match project.language {
        Language::Rust => rust(project, release),
        Language::Python => scripts::python(project),
        Language::JavaScript => scripts::javascript(project),
    }?;
    Ok(Built { bytes: named(built.bytes, &project.name, project.version.as_deref())?, ..built })
}

fn rust(project: &Project, release: bool) -> Result<Built, BuildError> {
    let dir = project.dir.as_path();
    let toolchain = Toolchain::find(Prefer::Wasi)?;
    let how = toolchain.why();
    eprintln!("   {how}");
    let profile = project.profile.as_deref().unwrap_or("release");
    // Paths below the folder are relative in what cargo passes on; those of dependencies are not.
    let mut flags = cargo::base_flags();
    if let Some(home) = cargo_home() {
        remap(&mut flags, &home, "cargo");
    }
    let strip = release && !debug_wanted();
    // Only the last crate is told to strip: the libraries before it stay built, whichever is asked for.
    let last: &[&str] = if strip { &["-Cstrip=symbols"] } else { &["-Cstrip=none", "-Cdebuginfo=line-tables-only"] };
    let modules: Vec<PathBuf> = compile(
        &toolchain,
        &Compile { dir, profile, target_dir: None, locked: false, flags, variables: &[], packages: &[], last },
    )?;
    let [module] = &modules[..] else {
        return Err(BuildError::NoModule { dir: dir.to_owned(), found: modules.len() });
    };
    let bytes = std::fs::read(module).map_err(|e| BuildError::io("reading", module, e))?;
    Ok(Built { bytes: component(&bytes)?, how })
}
