//! The program: parses the command line, runs one command, turns its outcome into an exit code.
#![deny(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use facestream::cli::{Cli, Command};

fn main() -> ExitCode {
    let (name, value) = facestream_infer::NO_TELEMETRY;
    // SAFETY: no other thread of this process runs yet that could read the environment.
    #[allow(unsafe_code)]
    unsafe {
        std::env::set_var(name, value);
    }
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Serve(args) => facestream::serve::run(&args),
        Command::Run(args) => facestream::run::run(&args),
        Command::Sim(args) => facestream::sim::run(&args),
        Command::Doctor(args) => facestream::doctor::run(&args),
        Command::Bench(command) => facestream::bench::run(&command),
        Command::CompileGuest { arguments } => {
            return ExitCode::from(facestream_guest_host::compile_child(&arguments));
        }
        Command::Guest(command) => facestream::guest::run(&command),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", facestream::told(&error));
            ExitCode::FAILURE
        }
    }
}
