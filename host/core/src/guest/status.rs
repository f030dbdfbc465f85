//! How slots are doing, and how swaps went.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{GuestRef, Limits, OnFailure, SlotKind};

/// How a slot is doing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SlotStatus {
    /// Which slot.
    pub slot: SlotKind,
    /// The reference of what runs; another than `wanted` while the built-in guest stands in.
    pub guest: String,
    /// Digest of what runs, `sha256:<hex>`.
    pub digest: String,
    /// The guest that was asked for.
    pub wanted: GuestRef,
    /// Settings in force.
    pub config: serde_json::Value,
    /// Limits in force, all of them.
    pub limits: Limits,
    /// What happens when the wanted guest keeps failing.
    pub on_failure: OnFailure,
    /// `running`, `probation` (new, the one before it is kept), `restarting` (after a failure, waiting out its back-off),
    /// `fallback` (the built-in guest stands in) or `dropped` (given up, the slot is empty).
    pub state: &'static str,
    /// While the guest is on probation.
    pub probation: Option<ProbationStatus>,
    /// `closed`; `open` when the wanted guest failed too often lately; `half-open` while it is tried again.
    pub breaker: &'static str,
    /// Calls made to this slot's guests since the camera started.
    pub calls: u64,
    /// Of these, those of the guest that runs now, since it took the slot.
    pub guest_calls: u64,
    /// Failures of that guest since then.
    pub guest_failures: u64,
    /// Mean microseconds a call of that guest, on the wall.
    pub mean_call_us: f64,
    /// Processor time in all calls since the camera started, microseconds.
    pub cpu_us: u64,
    /// Failures since the camera started.
    pub failures: u64,
    /// The same by kind: `trap`, `deadline`, `memory`, `budget`, `invalid`, `refused`, `instantiate`; only those above
    /// zero.
    pub failures_by_kind: BTreeMap<&'static str, u64>,
    /// Instances made again after a failure.
    pub restarts: u64,
    /// Instances made anew because their memory had grown, state kept.
    pub recycles: u64,
    /// What became of swaps since the camera started.
    pub swaps: SwapCounts,
    /// Linear memory of the instance, bytes.
    pub memory_bytes: u64,
    /// Guest instances of the slot that live now: two during probation.
    pub instances: u32,
    /// The most that the guest that runs now has used in a second.
    pub busiest_second: BudgetUse,
    /// The latest failure in words.
    pub last_error: Option<String>,
}

impl SlotStatus {
    /// A slot whose guest runs and has not been called yet.
    #[must_use]
    pub fn fresh(slot: SlotKind, guest: &str, digest: &str) -> Self {
        Self {
            slot,
            guest: guest.to_owned(),
            digest: digest.to_owned(),
            wanted: GuestRef { guest: guest.to_owned(), digest: digest.to_owned() },
            config: super::empty_object(),
            limits: Limits::default(),
            on_failure: OnFailure::default(),
            state: "running",
            probation: None,
            breaker: "closed",
            calls: 0,
            guest_calls: 0,
            guest_failures: 0,
            mean_call_us: 0.0,
            cpu_us: 0,
            failures: 0,
            failures_by_kind: BTreeMap::new(),
            restarts: 0,
            recycles: 0,
            swaps: SwapCounts::default(),
            memory_bytes: 0,
            instances: 1,
            busiest_second: BudgetUse::default(),
            last_error: None,
        }
    }

    /// Whether something other than the wanted guest fills the slot, or nothing.
    #[must_use]
    pub fn degraded(&self) -> bool {
        matches!(self.state, "fallback" | "dropped")
    }
}

/// A guest on probation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbationStatus {
    /// Frames until it is confirmed.
    pub frames_left: u32,
    /// Frames of the whole probation.
    pub frames: u32,
    /// The guest that comes back when it fails.
    pub instead_of: GuestRef,
}

/// What became of swaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SwapCounts {
    /// Guests put in, by a swap or a rollback that was asked for.
    pub swapped: u64,
    /// Of these, those that passed their probation.
    pub confirmed: u64,
    /// Of these, those that failed on probation and were taken out again.
    pub rolled_back: u64,
    /// Changes of settings without a new instance.
    pub reconfigured: u64,
}

/// What a guest used within one second of the frames' clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BudgetUse {
    /// Processor time, microseconds.
    pub cpu_us: u64,
    /// Calls of the host's functions.
    pub host_calls: u64,
    /// Log text, bytes.
    pub log_bytes: u64,
    /// Pictures asked for, bytes.
    pub crop_bytes: u64,
}

/// How a swap went.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SwapReport {
    /// Which slot.
    pub slot: SlotKind,
    /// `swapped` (another instance), `reconfigured` (the same instance, new settings) or `unchanged`.
    pub change: &'static str,
    /// Digest that ran before.
    pub old_digest: String,
    /// Digest that runs now.
    pub new_digest: String,
    /// What state came along: `private` (same schema), `neutral` or `none`.
    pub state: &'static str,
    /// How long the camera's guests stood still, microseconds.
    pub pause_us: u64,
    /// For so many frames the old guest is kept and comes back when the new one fails; 0: it is gone.
    pub probation_frames: u32,
}
