//! Slots on the wire: how they are doing, what was changed. What may be asked of them is in `slot_requests`.

use std::collections::BTreeMap;

use facestream_core::guest::{
    BudgetUse, GuestRef, Limits, OnFailure, ProbationStatus, SlotChange, SlotStatus, SwapCounts, SwapReport,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)+) => {
        /// What a guest may use and return. Asked for, each may be left out, and the host's own holds.
        #[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema)]
        #[serde(deny_unknown_fields, default)]
        #[schema(as = Limits)]
        pub(crate) struct LimitsView {
            $($(#[$doc])* #[serde(skip_serializing_if = "Option::is_none")] $name: Option<$type>,)+
        }

        impl From<LimitsView> for Limits {
            fn from(view: LimitsView) -> Self {
                Self { $($name: view.$name),+ }
            }
        }

        impl From<Limits> for LimitsView {
            fn from(limits: Limits) -> Self {
                Self { $($name: limits.$name),+ }
            }
        }
    };
}

facestream_core::for_each_limit!(limits);

/// What happens to a slot whose guest fails again and again.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = OnFailure)]
pub(crate) enum OnFailureView {
    /// It is made again, with growing waits, for ever.
    #[default]
    Restart,
    /// The slot's built-in guest takes over, until the wanted one works again. Messages carry `degraded-by` meanwhile.
    Fallback,
    /// The slot stays empty until it is changed.
    Drop,
}

impl From<OnFailureView> for OnFailure {
    fn from(view: OnFailureView) -> Self {
        match view {
            OnFailureView::Restart => Self::Restart,
            OnFailureView::Fallback => Self::Fallback,
            OnFailureView::Drop => Self::Drop,
        }
    }
}

impl From<OnFailure> for OnFailureView {
    fn from(policy: OnFailure) -> Self {
        match policy {
            OnFailure::Restart => Self::Restart,
            OnFailure::Fallback => Self::Fallback,
            OnFailure::Drop => Self::Drop,
        }
    }
}

/// The guests of a camera.
#[derive(Serialize, ToSchema)]
pub(crate) struct SlotList {
    /// Tracker, scorer, formatter.
    pub(crate) slots: Vec<SlotView>,
}

/// A guest as it was asked for, and the component that this means.
#[derive(Serialize, ToSchema)]
#[schema(as = GuestRef)]
pub(crate) struct GuestRefView {
    /// The reference that was asked for.
    #[schema(example = "botsort")]
    guest: String,
    /// Digest of the component.
    digest: String,
}

impl From<GuestRef> for GuestRefView {
    fn from(GuestRef { guest, digest }: GuestRef) -> Self {
        Self { guest, digest }
    }
}

/// A slot of a camera.
#[derive(Serialize, ToSchema)]
#[schema(as = Slot)]
pub(crate) struct SlotView {
    /// `tracker`, `scorer` or `formatter`.
    #[schema(example = "tracker")]
    slot: &'static str,
    /// The reference of what runs: the one that was asked for, unless `state` is `fallback`.
    #[schema(example = "botsort")]
    guest: String,
    /// Digest of what runs.
    #[schema(example = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    digest: String,
    /// What was asked for.
    wanted: GuestRefView,
    /// Settings in force.
    #[schema(value_type = Object)]
    config: Value,
    /// Limits in force.
    limits: LimitsView,
    /// What happens when the wanted guest fails again and again.
    on_failure: OnFailureView,
    /// `running`; `probation`: new, the guest before it is kept; `restarting` after a failure; `fallback`: the built-in
    /// guest stands in; `dropped`: given up, the slot is empty.
    #[schema(example = "running")]
    state: &'static str,
    /// While the guest is on probation.
    probation: Option<ProbationView>,
    /// `closed`; `open` when the wanted guest failed too often lately; `half-open` while it is tried again.
    #[schema(example = "closed")]
    breaker: &'static str,
    /// Calls of the slot's guests since the camera started.
    calls: u64,
    /// Of these, those of the guest that runs now, since it took the slot.
    guest_calls: u64,
    /// Failures of that guest since then.
    guest_failures: u64,
    /// Mean microseconds a call of that guest, on the wall.
    mean_call_us: f64,
    /// Processor time in all calls since the camera started, microseconds.
    cpu_us: u64,
    /// Failures of the slot's guests since the camera started.
    failures: u64,
    /// The same by kind: `trap`, `deadline`, `memory`, `budget`, `invalid`, `refused`, `instantiate`; only those above
    /// zero.
    failures_by_kind: BTreeMap<&'static str, u64>,
    /// Instances made again after a failure.
    restarts: u64,
    /// Instances made anew because their memory had grown, state kept.
    recycles: u64,
    /// What became of changes since the camera started.
    swaps: SwapCountsView,
    /// Linear memory of the instance, bytes.
    memory_bytes: u64,
    /// Instances that live now: two during probation.
    instances: u32,
    /// The most that the guest that runs now has used in a second of the frames' clock.
    busiest_second: BudgetView,
    /// The latest failure.
    last_error: Option<String>,
}

/// A guest on probation.
#[derive(Serialize, ToSchema)]
#[schema(as = Probation)]
pub(crate) struct ProbationView {
    /// Frames until it is confirmed.
    frames_left: u32,
    /// Frames of the whole probation.
    frames: u32,
    /// The guest that comes back when it fails.
    instead_of: GuestRefView,
}

impl From<ProbationStatus> for ProbationView {
    fn from(status: ProbationStatus) -> Self {
        let ProbationStatus { frames_left, frames, instead_of } = status;
        Self { frames_left, frames, instead_of: instead_of.into() }
    }
}

/// What became of changes.
#[derive(Serialize, ToSchema)]
#[schema(as = SwapCounts)]
pub(crate) struct SwapCountsView {
    /// Guests put in, by a swap or a rollback that was asked for.
    swapped: u64,
    /// Of these, those that passed their probation.
    confirmed: u64,
    /// Of these, those that failed on probation and were taken out again.
    rolled_back: u64,
    /// Changes of settings without a new instance.
    reconfigured: u64,
}

impl From<SwapCounts> for SwapCountsView {
    fn from(SwapCounts { swapped, confirmed, rolled_back, reconfigured }: SwapCounts) -> Self {
        Self { swapped, confirmed, rolled_back, reconfigured }
    }
}

/// What a guest used within one second of the frames' clock.
#[derive(Serialize, ToSchema)]
#[schema(as = BudgetUse)]
pub(crate) struct BudgetView {
    /// Processor time, microseconds.
    cpu_us: u64,
    /// Calls of the host's functions.
    host_calls: u64,
    /// Log text, bytes.
    log_bytes: u64,
    /// Pictures asked for, bytes.
    crop_bytes: u64,
}

impl From<BudgetUse> for BudgetView {
    fn from(BudgetUse { cpu_us, host_calls, log_bytes, crop_bytes }: BudgetUse) -> Self {
        Self { cpu_us, host_calls, log_bytes, crop_bytes }
    }
}

impl From<SlotStatus> for SlotView {
    fn from(status: SlotStatus) -> Self {
        Self {
            slot: status.slot.as_str(),
            guest: status.guest,
            digest: status.digest,
            wanted: status.wanted.into(),
            config: status.config,
            limits: status.limits.into(),
            on_failure: status.on_failure.into(),
            state: status.state,
            probation: status.probation.map(Into::into),
            breaker: status.breaker,
            calls: status.calls,
            guest_calls: status.guest_calls,
            guest_failures: status.guest_failures,
            mean_call_us: status.mean_call_us,
            cpu_us: status.cpu_us,
            failures: status.failures,
            failures_by_kind: status.failures_by_kind,
            restarts: status.restarts,
            recycles: status.recycles,
            swaps: status.swaps.into(),
            memory_bytes: status.memory_bytes,
            instances: status.instances,
            busiest_second: status.busiest_second.into(),
            last_error: status.last_error,
        }
    }
}

/// How a change of a slot went.
#[derive(Serialize, ToSchema)]
#[schema(as = SwapReport)]
pub(crate) struct SwapView {
    /// Which slot.
    #[schema(example = "scorer")]
    slot: &'static str,
    /// `swapped`: another instance; `reconfigured`: the same one with new settings; `unchanged`.
    #[schema(example = "swapped")]
    change: &'static str,
    /// Digest that ran before.
    old_digest: String,
    /// Digest that runs now.
    new_digest: String,
    /// What state came along: `private` (the same schema), `neutral` or `none`.
    #[schema(example = "private")]
    state: &'static str,
    /// How long the camera's guests stood still, microseconds.
    pause_us: u64,
    /// For so many frames the guest before is kept; 0: it is gone.
    probation_frames: u32,
}

impl From<SwapReport> for SwapView {
    fn from(report: SwapReport) -> Self {
        Self {
            slot: report.slot.as_str(),
            change: report.change,
            old_digest: report.old_digest,
            new_digest: report.new_digest,
            state: report.state,
            pause_us: report.pause_us,
            probation_frames: report.probation_frames,
        }
    }
}

/// What was changed in a slot.
#[derive(Serialize, ToSchema)]
#[schema(as = SlotHistory)]
pub(crate) struct HistoryView {
    /// The newest first.
    pub(crate) changes: Vec<ChangeView>,
}

/// One change of a slot.
#[derive(Serialize, ToSchema)]
#[schema(as = SlotChange)]
pub(crate) struct ChangeView {
    /// When, milliseconds since the Unix epoch.
    at_unix_ms: u64,
    /// Name of the token that asked for it; `anonymous` where none is asked for.
    #[schema(example = "operations")]
    who: String,
    /// `swap`, `reconfigure` or `rollback`.
    #[schema(example = "swap")]
    change: &'static str,
    /// What ran before.
    from: GuestRefView,
    /// What was to run.
    to: GuestRefView,
    /// What state came along: `private`, `neutral` or `none`.
    state: Option<String>,
    /// How long the camera stood still for it, microseconds; null when it was refused.
    pause_us: Option<u64>,
    /// `done` (without probation), `probation`, `confirmed`, `rolled-back`, `superseded` (by another change before its
    /// probation was over), `refused`, or `unknown` (the host ended meanwhile).
    #[schema(example = "confirmed")]
    outcome: &'static str,
    /// Why it was refused or taken back.
    reason: Option<String>,
    /// Number of the rollout that it was a part of.
    rollout: Option<u64>,
}

impl From<SlotChange> for ChangeView {
    fn from(change: SlotChange) -> Self {
        Self {
            at_unix_ms: change.at_unix_ms,
            who: change.who,
            change: change.change.as_str(),
            from: change.from.into(),
            to: change.to.into(),
            state: change.state,
            pause_us: change.pause_us,
            outcome: change.outcome.as_str(),
            reason: change.reason,
            rollout: change.rollout,
        }
    }
}
