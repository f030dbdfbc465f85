//! `cargo xtask`: set-up, demo, tests and checks; what the README's two commands and continuous integration call.
//!
//! Owns the order of steps and says each one. Must build on a machine with nothing but Rust and a linker, so it
//! depends on no crate of ours that needs FFmpeg, OpenSSL or clang; those it installs first.
#![forbid(unsafe_code)]

mod check;
mod clips;
mod demo;
mod fetch;
mod gpu;
mod guests;
mod kafka;
mod packages;
mod setup;
mod shell;
mod test;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set-up, demo, tests and checks of FaceStream")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install or name what is missing, fetch models and runtime, build host and guests, make clips
    Setup,
    /// Set-up, then simulated cameras through the whole system, with a swap of a scorer while it runs
    Demo(demo::Args),
    /// Set-up, then all tests: host, guests, end to end
    Test(test::Args),
    /// Set-up, then the tests that need an NVIDIA GPU; where there is none they fail
    GpuTest,
    /// Build the guests only, to target/assets/guests
    Guests,
    /// Compile cargo-deny into target/tools, for the check of that name
    InstallDeny,
    /// One of the static checks: fmt, clippy, docs, links, deny; without a name all of them
    Check {
        /// Which; all when empty
        which: Vec<check::Check>,
    },
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let root = root()?;
    match cli.task {
        Task::Setup => setup::run(&root),
        Task::Demo(args) => demo::run(&root, &args),
        Task::Test(args) => test::run(&root, &args),
        Task::GpuTest => gpu::test(&root),
        Task::Guests => setup::build_guests(&root),
        Task::InstallDeny => check::install_deny(&root).map(drop),
        Task::Check { which } => check::run(&root, &which),
    }
}

/// The repository's root, whatever folder cargo was called in.
fn root() -> anyhow::Result<PathBuf> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    anyhow::Context::context(here.ancestors().nth(2).map(PathBuf::from), "host/xtask lies two folders below the root")
}

/// The program as cargo built it.
fn facestream(root: &std::path::Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join("release/facestream")
}

/// Where set-up puts what is not built by cargo.
fn assets(root: &std::path::Path) -> PathBuf {
    root.join("target/assets")
}
