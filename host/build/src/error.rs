//! What can go wrong while a guest is built, in words that say what to do.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No compiler here makes wasm.
    #[error(
        "no compiler here makes wasm: {rustc} has neither wasm32-wasip2 nor wasm32-unknown-unknown, and Debian's compiler \
         lacks {missing}. Run `rustup target add wasm32-wasip2`, or on Debian `apt-get install --no-install-recommends \
         rustc-web cargo-web rust-web-src lld`"
    )]
    NoToolchain {
        /// The compiler that was asked.
        rustc: String,
        /// Packages of Debian's that are not there.
        missing: String,
    },
    /// A program that the guest's language needs is not in PATH.
    #[error("there is no {program} in PATH; the guest in {} needs {needs}", dir.display())]
    NoProgram {
        /// Its name.
        program: &'static str,
        /// What is to be installed.
        needs: &'static str,
        /// The folder.
        dir: PathBuf,
    },
    /// A program could not be started.
    #[error("could not start {program}: {source}")]
    Start {
        /// Its name.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// A compiler or a tool said no; its own messages stand on standard error.
    #[error("the guest in {} was not built (the messages of {program} are above): {status}", dir.display())]
    Failed {
        /// The compiler.
        program: String,
        /// The folder.
        dir: PathBuf,
        /// How it ended.
        status: ExitStatus,
    },
    /// Cargo was content, but made no component.
    #[error(
        "{} made {found} wasm modules instead of one: its Cargo.toml needs `[lib] crate-type = [\"cdylib\", \"rlib\"]`",
        dir.display()
    )]
    NoModule {
        /// The folder.
        dir: PathBuf,
        /// How many there were.
        found: usize,
    },
    /// The module could not become a component.
    #[error("the module is no guest: {0}. Is the export macro (`export_scorer!` and the like) called?")]
    Component(String),
    /// The folder holds no guest.
    #[error("{} is no guest's folder: {problem}", dir.display())]
    Project {
        /// The folder.
        dir: PathBuf,
        /// What is missing or wrong.
        problem: String,
    },
    /// A file could not be read or written.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// Reading or writing.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl BuildError {
    pub(crate) fn io(what: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), source }
    }

    pub(crate) fn project(dir: &Path, problem: impl Into<String>) -> Self {
        Self::Project { dir: dir.to_owned(), problem: problem.into() }
    }
}
