//! Settings of the stages between decoding and sinks.

use serde::{Deserialize, Serialize};

/// `[pipeline]` of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PipelineConfig {
    /// Threads that run guests; 0: as many as the machine has processors.
    pub guest_threads: usize,
    /// Analysed frames that may wait before a camera's guests. A live camera's oldest is dropped and counted
    /// (`guest-queue-full`), a file waits.
    pub mailbox_frames: usize,
    /// How often guests hear that time passes while no frame comes, milliseconds.
    pub tick_ms: u64,
    /// How long a stopping camera may take to hand over what is on its way, milliseconds.
    pub drain_ms: u64,
    /// Estimate the camera's own motion for trackers, for cameras whose start request does not say.
    pub camera_motion: bool,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        Self { guest_threads: 0, mailbox_frames: 8, tick_ms: 250, drain_ms: 10_000, camera_motion: false }
    }
}

impl PipelineConfig {
    /// Every problem, in words.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.guest_threads > 1024 {
            problems.push(format!("guest_threads = {} is more than 1024", self.guest_threads));
        }
        if !(1..=1024).contains(&self.mailbox_frames) {
            problems.push(format!("mailbox_frames = {} must be from 1 to 1024", self.mailbox_frames));
        }
        if !(10..=60_000).contains(&self.tick_ms) {
            problems.push(format!("tick_ms = {} must be from 10 to 60000", self.tick_ms));
        }
        if self.drain_ms == 0 {
            problems.push("drain_ms = 0 would throw away what is on its way; give it some milliseconds".to_owned());
        }
        problems
    }

    /// Threads to start.
    #[must_use]
    pub fn threads(&self) -> usize {
        match self.guest_threads {
            0 => std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
            n => n,
        }
    }
}
