//! The FaceStream program as a library: command line, configuration, assembly of the parts, shutdown.
//!
//! The only crate that knows all others. Must hold no logic of a stage; a module here reads arguments, puts parts
//! together and waits.
#![forbid(unsafe_code)]

pub mod assets;
pub mod cli;
pub mod config;
mod control;
pub mod doctor;
mod lines;
mod logging;
mod parts;
pub mod run;
pub mod serve;
pub mod sim;
pub mod track;
