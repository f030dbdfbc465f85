//! The program: parses the command line, runs one command, turns its outcome into an exit code.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use facestream::cli::{Cli, Command, GuestCommand};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Serve(args) => facestream::serve::run(&args),
        Command::Run(args) => facestream::run::run(&args),
        Command::Sim(args) => facestream::sim::run(&args),
        Command::Doctor(args) => facestream::doctor::run(&args),
        Command::Guest(GuestCommand::Track(args)) => facestream::track::run(&args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error with its causes, each once: some already say what caused them.
fn told(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
