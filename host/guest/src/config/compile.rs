//! What compiling one component may cost.
//!
//! Owns the settings, their defaults and checks. `compile` keeps them.

use serde::{Deserialize, Serialize};

const MIB: u64 = 1024 * 1024;

/// Bounds of a compilation, section `[guests.compile]`. The service compiles in a process of its own, one component at
/// a time; these hold there. Components that were compiled before come from the cache and wait for nobody.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CompileConfig {
    /// Time on the wall that one compilation may take. Below `server.slow_request_timeout_ms`, so that whoever uploads
    /// hears why.
    pub timeout_ms: u32,
    /// Address space of the compiling process. A Rust guest needs 0.3 GiB, program and libraries included.
    pub max_memory_bytes: u64,
    /// Threads of one compilation, so that an upload leaves processors to the cameras.
    pub threads: u32,
    /// Components that may wait for their turn; more are refused for now.
    pub max_waiting: u32,
}

impl Default for CompileConfig {
    fn default() -> Self {
        Self { timeout_ms: 120_000, max_memory_bytes: 4096 * MIB, threads: 2, max_waiting: 8 }
    }
}

impl CompileConfig {
    /// Every problem, in words that name the key.
    pub(crate) fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.timeout_ms == 0 {
            problems.push("guests.compile.timeout_ms is 0; nothing compiles in no time".to_owned());
        }
        if self.max_memory_bytes < 64 * MIB {
            let most = self.max_memory_bytes;
            problems.push(format!("guests.compile.max_memory_bytes is {most}; the program itself needs 64 MiB"));
        }
        if !(1..=256).contains(&self.threads) {
            problems.push(format!("guests.compile.threads is {}; it must be from 1 to 256", self.threads));
        }
        problems
    }
}
