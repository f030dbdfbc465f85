//! Settings of the guest platform: what a guest may use, how many fit, how failures are answered.
//!
//! Owns defaults and their checks. Must not read files or the environment.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

const MIB: u64 = 1024 * 1024;

/// Settings of the guest platform, section `[guests]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuestConfig {
    /// What one guest may use and return.
    pub limits: GuestLimits,
    /// What happens when a guest fails.
    pub restart: RestartConfig,
    /// Guest instances that can live at once, over all cameras. A camera has three and a fourth for the moment of a
    /// swap, so 150 cameras need 600. Each instance reserves address space (about 4 GiB, not memory) up front.
    pub max_instances: u32,
    /// Ceiling for `limits.max_memory_bytes`, of any slot. Address space only. Default 1 GiB.
    pub largest_memory_bytes: u64,
    /// Largest component that is accepted. Default 64 MiB: a Rust guest has 0.1 MiB, one in JavaScript about 12, one in
    /// Python 38, so that a tighter default would refuse whole languages.
    pub max_component_bytes: u64,
    /// Where compiled components are kept (a folder that only its owner can read); `None` compiles anew at each start.
    pub cache_dir: Option<PathBuf>,
    /// A guest's state is saved after so many frames, so that a failure loses at most these. 0 never saves.
    pub save_every_frames: u32,
    /// After so long without a working tracker its tracks are ended by the host, so that later slots do not wait for ever.
    pub orphan_tracks_after_ms: u64,
}

impl Default for GuestConfig {
    fn default() -> Self {
        Self {
            limits: GuestLimits::default(),
            restart: RestartConfig::default(),
            max_instances: 1000,
            largest_memory_bytes: 1024 * MIB,
            max_component_bytes: 64 * MIB,
            cache_dir: None,
            save_every_frames: 25,
            orphan_tracks_after_ms: 3_000,
        }
    }
}

/// What one guest may use and return.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuestLimits {
    /// Processor time one call may take.
    pub deadline_ms: u32,
    /// Time on the wall that one call may take, for a guest whose thread was kept waiting by others. At least
    /// `deadline_ms`; the processor time decides on a machine that is not overloaded.
    pub wall_deadline_ms: u32,
    /// Time on the wall that instantiation and the first `configure` may take: start-up code of interpreted languages.
    pub start_deadline_ms: u32,
    /// All linear memories and tables of an instance together.
    pub max_memory_bytes: u64,
    /// Bytes of pictures that an instance holds as crops.
    pub max_crop_bytes: u64,
    /// Log lines a second; more are counted and left out.
    pub max_log_lines_per_s: u32,
    /// Bytes of one log line; more are cut off.
    pub max_log_line_bytes: u32,
    /// Live tracks that a tracker may return.
    pub max_tracks: u32,
    /// Shots that one call of a scorer may return, or hold in its neutral state.
    pub max_shots: u32,
    /// Messages that one call of a formatter may return.
    pub max_messages: u32,
    /// Bytes of one message's payload. Kafka's default for a whole message is 1,000,000 (librdkafka) to 1,048,588
    /// (broker); the rest is room for key and headers.
    pub max_message_bytes: u32,
    /// Bytes of saved state.
    pub max_state_bytes: u32,
}

impl Default for GuestLimits {
    fn default() -> Self {
        Self {
            deadline_ms: 20,
            wall_deadline_ms: 400,
            start_deadline_ms: 2_000,
            max_memory_bytes: 64 * MIB,
            max_crop_bytes: 32 * MIB,
            max_log_lines_per_s: 20,
            max_log_line_bytes: 4096,
            max_tracks: 4096,
            max_shots: 512,
            max_messages: 64,
            max_message_bytes: 990_000,
            max_state_bytes: 4 * 1024 * 1024,
        }
    }
}

/// What happens when a guest fails: a fresh instance takes over, at once after the first failure, later with growing
/// waits so that a guest in a crash loop does not burn the processor. Times are of the frame clock, so that a file
/// gives the same output at any speed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RestartConfig {
    /// Wait before the second restart; doubles for each further one.
    pub backoff_ms: u64,
    /// The longest wait.
    pub max_backoff_ms: u64,
    /// A guest that ran so long without a failure starts from no wait again.
    pub stable_after_ms: u64,
}

impl Default for RestartConfig {
    fn default() -> Self {
        Self { backoff_ms: 1_000, max_backoff_ms: 60_000, stable_after_ms: 60_000 }
    }
}

impl GuestConfig {
    /// Every problem, in words that name the key.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = self.limits.validate("guests.limits");
        if !(1..=20_000).contains(&self.max_instances) {
            problems.push(format!("guests.max_instances is {}; it must be from 1 to 20000", self.max_instances));
        }
        if !(MIB..=4096 * MIB).contains(&self.largest_memory_bytes) || !self.largest_memory_bytes.is_multiple_of(65_536)
        {
            problems.push(format!(
                "guests.largest_memory_bytes is {}; it must be from 1 MiB to 4 GiB and a multiple of 65536",
                self.largest_memory_bytes
            ));
        }
        if self.limits.max_memory_bytes > self.largest_memory_bytes {
            problems.push(format!(
                "guests.limits.max_memory_bytes ({}) is above guests.largest_memory_bytes ({})",
                self.limits.max_memory_bytes, self.largest_memory_bytes
            ));
        }
        if self.max_component_bytes < 1024 {
            problems
                .push(format!("guests.max_component_bytes is {}; no component is so small", self.max_component_bytes));
        }
        if self.restart.backoff_ms > self.restart.max_backoff_ms {
            problems.push("guests.restart.backoff_ms is above guests.restart.max_backoff_ms".to_owned());
        }
        problems
    }
}

impl GuestLimits {
    /// Every problem, each key prefixed by `section`.
    #[must_use]
    pub fn validate(&self, section: &str) -> Vec<String> {
        let mut problems = Vec::new();
        let mut positive = |name: &str, value: u64| {
            if value == 0 {
                problems.push(format!("{section}.{name} is 0; a guest could do nothing"));
            }
        };
        positive("deadline_ms", self.deadline_ms.into());
        positive("start_deadline_ms", self.start_deadline_ms.into());
        positive("max_memory_bytes", self.max_memory_bytes);
        positive("max_tracks", self.max_tracks.into());
        positive("max_messages", self.max_messages.into());
        positive("max_message_bytes", self.max_message_bytes.into());
        if self.wall_deadline_ms < self.deadline_ms {
            problems.push(format!(
                "{section}.wall_deadline_ms ({}) is below {section}.deadline_ms ({})",
                self.wall_deadline_ms, self.deadline_ms
            ));
        }
        problems
    }

    /// Bytes that a guest may hand over in one call, all strings and lists together. Wasmtime counts them while it
    /// reads, so that a list of a million strings that all lie on the same megabyte does not become a terabyte here.
    #[must_use]
    pub(crate) fn transfer_bytes(&self) -> usize {
        let messages = u64::from(self.max_messages.min(16)) * u64::from(self.max_message_bytes);
        let tracks = u64::from(self.max_tracks) * 256;
        let all = messages + tracks + u64::from(self.max_state_bytes) + MIB;
        usize::try_from(all).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_every_problem_is_told() {
        assert_eq!(GuestConfig::default().validate(), Vec::<String>::new());
        let mut bad = GuestConfig { max_instances: 0, largest_memory_bytes: 7, ..GuestConfig::default() };
        bad.limits.deadline_ms = 0;
        bad.limits.wall_deadline_ms = 0;
        bad.restart.backoff_ms = 100_000;
        let problems = bad.validate();
        for key in ["max_instances", "largest_memory_bytes", "limits.deadline_ms", "restart.backoff_ms"] {
            assert!(problems.iter().any(|p| p.contains(key)), "{key} in {problems:?}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let error = serde_json::from_str::<GuestConfig>(r#"{"limits":{"deadline":20}}"#).unwrap_err();
        assert!(error.to_string().contains("deadline"), "{error}");
    }
}
