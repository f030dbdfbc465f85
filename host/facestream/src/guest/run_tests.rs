//! `facestream guest run-tests`: the tests of a guest's crate, compiled to WebAssembly, in the sandbox.
//!
//! The runner for cargo: `CARGO_TARGET_WASM32_WASIP1_RUNNER="facestream guest run-tests"` (or `…_WASIP2_…`) makes `cargo
//! test --target wasm32-wasip1` and `cargo component test` run here instead of needing another WebAssembly runtime.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use facestream_guest_host::{CommandLimits, GuestConfig, GuestEngine, run_command};

/// `facestream guest run-tests`.
#[derive(Debug, Args)]
pub struct RunTestsArgs {
    /// What cargo compiled: a wasm32-wasip1 module or a wasm32-wasip2 command component with tests in it
    #[arg(value_name = "FILE.wasm")]
    pub file: PathBuf,
    /// Linear memory that the tests may use, MiB
    #[arg(long, default_value_t = 512, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub memory_mib: u64,
    /// Seconds that all tests together may take
    #[arg(long, default_value_t = 600, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// Arguments of the test program: names of tests, --nocapture, --list …
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    pub args: Vec<String>,
}

/// Runs the tests; the exit code is theirs.
///
/// # Errors
/// When the file is no such program, or it traps or runs past its limits.
pub fn run(args: &RunTestsArgs) -> anyhow::Result<ExitCode> {
    crate::logging::start(false, "warn");
    let bytes = std::fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let engine = GuestEngine::new(&GuestConfig { max_instances: 4, ..GuestConfig::default() })?;
    let limits = CommandLimits { max_memory_bytes: args.memory_mib << 20, wall: Duration::from_secs(args.seconds) };
    let name = args.file.file_name().map_or_else(|| "tests".to_owned(), |n| n.to_string_lossy().into_owned());
    let arguments: Vec<String> = std::iter::once(name).chain(args.args.iter().cloned()).collect();
    let code =
        run_command(&engine, &bytes, arguments, limits).with_context(|| format!("running {}", args.file.display()))?;
    Ok(ExitCode::from(code))
}
