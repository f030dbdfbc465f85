//! The conformance kit: tests a guest on a machine with no camera, no model and no GPU, in the sandbox that hosts use.
//!
//! Owns scenes made from numbers, the named cases that a guest must pass, and the benchmark of one guest. Must not know
//! video, models, HTTP or wasmtime: guests are driven through `facestream-guest-host` alone.
//!
//! ```text
//! bytes ─► Kit::new ─► cases(world) ─► Kit::run(case) ─► Report: table, JSON, JUnit
//!                                   └► Kit::golden (outputs over the scenes, kept and compared)
//! ```
#![forbid(unsafe_code)]

mod bench;
mod cases;
mod describe;
mod diff;
mod golden;
mod guest;
mod junit;
mod kit;
mod picture;
mod report;
mod rules;
mod scene;
mod scenes;
mod script;
mod table;

pub use bench::{Measured, Share, compare};
pub use cases::{Case, cases};
pub use describe::{Described, describe};
pub use kit::{Kit, KitError, KitOptions};
pub use report::{CaseResult, REPORT_VERSION, Report, Status, Summary};
