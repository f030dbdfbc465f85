//! The program: parses the command line, runs one command, turns its outcome into an exit code.
#![deny(unsafe_code)]

use std::io::Write as _;
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
    if !matches!(cli.command, Command::Serve(_)) {
        end_with_the_output();
    }
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
            // Where even this cannot be told the exit code does.
            drop(writeln!(std::io::stderr(), "error: {}", facestream::told(&error)));
            ExitCode::FAILURE
        }
    }
}

/// `println!` panics when standard output cannot be written. For a command that means that nobody reads on (`facestream doctor
/// | head -1`), which is no failure, or that a disk is full, which is one to be told in a line.
fn end_with_the_output() {
    let otherwise = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload_as_str().unwrap_or_default();
        let Some(why) = said.strip_prefix("failed printing to stdout: ") else { return otherwise(panic) };
        if why.contains("Broken pipe") {
            std::process::exit(0);
        }
        drop(writeln!(std::io::stderr(), "error: cannot write the output: {why}"));
        std::process::exit(1);
    }));
}
