//! Settings of the flight recorder.

use serde::{Deserialize, Serialize};

const MIB: u64 = 1024 * 1024;

/// The last seconds of every guest, kept in memory and written out when something happens (`DATA/recordings`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecorderConfig {
    /// Seconds of calls kept for each slot of each camera, on the frame clock. 0 switches the recorder off.
    pub seconds: u32,
    /// Bytes kept for one slot of one camera, at most; fewer seconds are kept then.
    pub max_bytes: u64,
    /// Keep crops, and what guests made of them, too. Without it a recording holds numbers, sizes and digests only.
    pub pictures: bool,
    /// Write a recording when a guest fails.
    pub on_failure: bool,
    /// Write a recording of the guest that a swap replaces.
    pub before_swap: bool,
    /// Recordings on disk, at most; the oldest goes first.
    pub keep_files: u32,
    /// Bytes of them, at most.
    pub keep_bytes: u64,
}

impl Default for RecorderConfig {
    fn default() -> Self {
        Self {
            seconds: 10,
            max_bytes: 4 * MIB,
            pictures: false,
            on_failure: true,
            before_swap: true,
            keep_files: 100,
            keep_bytes: 256 * MIB,
        }
    }
}

impl RecorderConfig {
    /// Every problem, in words that name the key.
    pub(super) fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.seconds > 600 {
            problems.push(format!("guests.recorder.seconds is {}; it must be from 0 (off) to 600", self.seconds));
        }
        if !(64 * 1024..=64 * MIB).contains(&self.max_bytes) {
            problems.push(format!(
                "guests.recorder.max_bytes is {}; it must be from 65536 to {} (64 MiB)",
                self.max_bytes,
                64 * MIB
            ));
        }
        if self.keep_files == 0 {
            problems.push("guests.recorder.keep_files is 0; no recording could be written".to_owned());
        }
        if self.keep_bytes < MIB {
            problems.push(format!("guests.recorder.keep_bytes is {}; it must be 1048576 or more", self.keep_bytes));
        }
        problems
    }
}
