//! The FaceStream program as a library: command line, configuration, assembly of the parts, shutdown.
//!
//! The only crate that knows all others. Must hold no logic of a stage; a module here reads arguments, puts parts
//! together and waits.
#![forbid(unsafe_code)]

pub mod assets;
mod audit;
pub mod bench;
pub mod cli;
pub mod config;
mod control;
pub mod doctor;
pub mod guest;
mod interrupts;
mod lines;
mod logging;
mod parts;
pub mod run;
pub mod serve;
pub mod sim;

/// The error with its causes, each once: some already say what caused them.
#[must_use]
pub fn told(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
