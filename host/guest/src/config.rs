//! Settings of the guest platform: what a guest may use, how many fit, how failures are answered.
//!
//! Owns defaults and their checks. Must not read files or the environment.

mod compile;
mod limits;
mod recorder;
mod signatures;

use std::path::PathBuf;

use facestream_core::guest::Limits;
use serde::{Deserialize, Serialize};

pub use compile::CompileConfig;
pub use limits::{GuestCeilings, GuestLimits};
pub use recorder::RecorderConfig;
pub use signatures::{SignatureConfig, SignaturePolicy, SignerConfig};

const MIB: u64 = 1024 * 1024;

/// Settings of the guest platform, section `[guests]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuestConfig {
    /// What one guest may use and return, where its camera does not ask for other limits.
    pub limits: GuestLimits,
    /// How far a camera may lift the limits of a slot.
    pub ceilings: GuestCeilings,
    /// What happens when a guest fails.
    pub restart: RestartConfig,
    /// When a guest counts as failing again and again.
    pub breaker: BreakerConfig,
    /// The last seconds of every guest, kept in memory and written out when something happens.
    pub recorder: RecorderConfig,
    /// Guest instances that can live at once, over all cameras. A camera has three, one more for each slot whose guest
    /// is on probation, and two for the moment of a swap, so 150 cameras need 600 and more while guests are rolled out.
    /// Each instance reserves address space (about 4 GiB, not memory) up front.
    pub max_instances: u32,
    /// Ceiling for `limits.max_memory_bytes`, of any slot. Address space only. Default 1 GiB.
    pub largest_memory_bytes: u64,
    /// Largest component that is accepted. Default 64 MiB: a Rust guest has 0.1 MiB, one in JavaScript about 12, one in
    /// Python 18, so that a tighter default would refuse whole languages.
    pub max_component_bytes: u64,
    /// All uploaded components together; more are refused until some are deleted.
    pub max_stored_bytes: u64,
    /// Whose uploaded guests are taken.
    pub signatures: SignatureConfig,
    /// What compiling one may cost.
    pub compile: CompileConfig,
    /// Where compiled components are kept (a folder that only its owner can read); `None` compiles anew at each start.
    pub cache_dir: Option<PathBuf>,
    /// All of them together; those that were not used for the longest are deleted, and compiled anew when they are wanted
    /// again. Default 1 GiB: the machine code of a guest in Python has 40 MiB, of one in Rust below 1.
    pub cache_max_bytes: u64,
    /// A guest's state is saved after so many frames, so that a failure loses at most these. 0 never saves.
    pub save_every_frames: u32,
    /// After a swap the old guest is kept for so many frames, and comes back with the state when the new one fails. 0: it
    /// goes at once. A request may ask for another number.
    pub probation_frames: u32,
    /// An instance whose memory is above this share of its limit is made anew between two frames, state kept. Linear
    /// memory never shrinks, so a guest that leaks or had one crowded minute would hold it for ever. 0: never.
    pub recycle_above_percent: u32,
    /// After so long without a working tracker its tracks are ended by the host, so that later slots do not wait for ever.
    pub orphan_tracks_after_ms: u64,
}

impl Default for GuestConfig {
    fn default() -> Self {
        Self {
            limits: GuestLimits::default(),
            ceilings: GuestCeilings::default(),
            restart: RestartConfig::default(),
            breaker: BreakerConfig::default(),
            recorder: RecorderConfig::default(),
            max_instances: 1000,
            largest_memory_bytes: 1024 * MIB,
            max_component_bytes: 64 * MIB,
            max_stored_bytes: 4096 * MIB,
            signatures: SignatureConfig::default(),
            compile: CompileConfig::default(),
            cache_dir: None,
            cache_max_bytes: 1024 * MIB,
            save_every_frames: 25,
            probation_frames: 50,
            recycle_above_percent: 75,
            orphan_tracks_after_ms: 3_000,
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

/// When a guest counts as failing again and again, and what then happens to a slot with `on_failure` other than
/// `restart`. Times are of the frame clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// So many failures within `window_ms` open the breaker.
    pub failures: u32,
    /// The window.
    pub window_ms: u64,
    /// A guest that the built-in one stands in for is tried again after so long; doubles each time that it fails.
    pub probe_after_ms: u64,
    /// The longest wait.
    pub max_probe_after_ms: u64,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { failures: 5, window_ms: 60_000, probe_after_ms: 30_000, max_probe_after_ms: 600_000 }
    }
}

impl GuestConfig {
    /// The limits of a slot that asks for some of its own.
    ///
    /// # Errors
    /// Each limit that is above its ceiling, or makes no sense: its name and a sentence.
    pub fn limits_for(&self, wanted: &Limits) -> Result<GuestLimits, Vec<(&'static str, String)>> {
        let ceilings = self.ceiling();
        let over = ceilings.exceeded_by(wanted);
        if !over.is_empty() {
            let tell = |(name, asked, most): (&'static str, u64, u64)| {
                (name, format!("{asked} is above what this host allows, {most} (guests.ceilings.{name})"))
            };
            return Err(over.into_iter().map(tell).collect());
        }
        let mut limits = self.limits.with(wanted);
        if wanted.wall_deadline_ms.is_none() {
            limits.wall_deadline_ms = limits.wall_deadline_ms.max(limits.deadline_ms);
        }
        // The host's own are checked where they are read.
        let given = |name: &str| wanted.given().any(|(given, _)| given == name);
        let problems: Vec<_> = limits.problems().into_iter().filter(|(name, _)| given(name)).collect();
        if problems.is_empty() { Ok(limits) } else { Err(problems) }
    }

    /// The same, for a camera that was accepted under other ceilings: what is above is cut down to them.
    #[must_use]
    pub fn limits_within(&self, wanted: &Limits) -> GuestLimits {
        let mut limits = self.limits.with(&self.ceiling().cut(wanted));
        limits.wall_deadline_ms = limits.wall_deadline_ms.max(limits.deadline_ms);
        limits
    }

    /// What the host itself uses is always allowed, and no memory is larger than its place in the pool.
    fn ceiling(&self) -> GuestCeilings {
        let mut ceilings = self.ceilings.at_least(&self.limits);
        ceilings.max_memory_bytes = ceilings.max_memory_bytes.min(self.largest_memory_bytes);
        ceilings
    }

    /// Every problem, in words that name the key.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = self.limits.validate("guests.limits");
        problems.extend(self.compile.validate());
        problems.extend(self.signatures.validate());
        if self.breaker.failures == 0 {
            problems.push("guests.breaker.failures is 0; a breaker that is always open lets no guest run".to_owned());
        }
        if self.breaker.probe_after_ms > self.breaker.max_probe_after_ms {
            problems.push("guests.breaker.probe_after_ms is above guests.breaker.max_probe_after_ms".to_owned());
        }
        if self.recycle_above_percent > 100 {
            let percent = self.recycle_above_percent;
            problems.push(format!("guests.recycle_above_percent is {percent}; it must be from 0 to 100"));
        }
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
        if self.cache_max_bytes < MIB {
            let most = self.cache_max_bytes;
            problems.push(format!("guests.cache_max_bytes is {most}; it must be 1 MiB or more, or no guest would fit"));
        }
        if self.max_component_bytes < 1024 {
            problems
                .push(format!("guests.max_component_bytes is {}; no component is so small", self.max_component_bytes));
        }
        problems.extend(self.recorder.validate());
        if self.restart.backoff_ms > self.restart.max_backoff_ms {
            problems.push("guests.restart.backoff_ms is above guests.restart.max_backoff_ms".to_owned());
        }
        problems
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

    #[test]
    fn a_slot_lowers_limits_freely_and_lifts_them_up_to_the_ceiling() {
        let mut config = GuestConfig::default();
        config.ceilings.deadline_ms = 100;
        let ask = |deadline_ms, max_memory_bytes| Limits { deadline_ms, max_memory_bytes, ..Limits::default() };
        let limits = config.limits_for(&ask(Some(5), None)).unwrap();
        assert_eq!(limits, GuestLimits { deadline_ms: 5, ..GuestLimits::default() });
        assert_eq!(config.limits_for(&ask(Some(100), None)).unwrap().deadline_ms, 100);
        let refused = config.limits_for(&ask(Some(101), Some(1 << 60))).unwrap_err();
        assert_eq!(refused.iter().map(|r| r.0).collect::<Vec<_>>(), ["deadline_ms", "max_memory_bytes"]);
        assert!(refused[0].1.contains("guests.ceilings.deadline_ms"), "{refused:?}");
        assert_eq!(config.limits_within(&ask(Some(101), None)).deadline_ms, 100);
        // What the host gives to everybody is never too much.
        config.limits.deadline_ms = 300;
        config.limits.wall_deadline_ms = 400;
        assert_eq!(config.limits_for(&ask(Some(300), None)).unwrap().deadline_ms, 300);
        let refused = config.limits_for(&ask(Some(0), None)).unwrap_err();
        assert_eq!(refused[0].0, "deadline_ms");
        // The pool's places are the last word.
        config.largest_memory_bytes = 128 * MIB;
        assert!(config.limits_for(&ask(None, Some(129 * MIB))).is_err());
    }
}
