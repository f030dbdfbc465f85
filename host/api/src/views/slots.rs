//! Slots on the wire: what may be asked of them, how they are doing, what was changed.

use std::collections::BTreeMap;

use facestream_core::guest::{
    BudgetUse, GuestRef, Limits, OnFailure, ProbationStatus, SlotChange, SlotRequest, SlotSpec, SlotStatus, SwapCounts,
    SwapReport,
};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::control::FieldProblem;
use crate::problem::Problem;

/// Why a text is no reference to a guest.
pub(crate) fn reference_problem(reference: &str) -> Option<String> {
    let ok = !reference.is_empty() && reference.len() <= 256 && reference.bytes().all(|b| b.is_ascii_graphic());
    (!ok).then(|| "must be `name`, `name@version` or `sha256:<hex>` of a guest in the store".to_owned())
}

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

/// A guest with its settings.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GuestWithConfig {
    /// `name`, `name@version` or `sha256:<hex>` of a guest in the store.
    #[schema(example = "botsort")]
    guest: String,
    /// Settings for the guest.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    config: Option<Map<String, Value>>,
    /// Limits other than the host's, up to its ceilings.
    #[serde(default)]
    limits: LimitsView,
    /// What happens when it fails again and again: `restart` when left out.
    #[serde(default)]
    on_failure: OnFailureView,
}

/// A guest by its reference, or with settings.
pub(crate) struct GuestChoice(GuestWithConfig);

/// What a slot is to run from now on.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SwapWithConfig {
    /// `name`, `name@version` or `sha256:<hex>` of a guest in the store.
    #[schema(example = "botsort")]
    guest: String,
    /// Settings for the guest.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    config: Option<Map<String, Value>>,
    /// Limits other than the host's, up to its ceilings.
    #[serde(default)]
    limits: LimitsView,
    /// What happens when it fails again and again: `restart` when left out.
    #[serde(default)]
    on_failure: OnFailureView,
    /// For so many frames the guest before is kept, and comes back with the state when this one fails; 0: it goes at
    /// once. Left out: the host's own number (`guests.probation_frames`).
    #[serde(default)]
    #[schema(maximum = 1000000)]
    probation_frames: Option<u32>,
    /// Only try it: the answer tells what a swap would do, and nothing changes.
    #[serde(default)]
    dry_run: bool,
}

/// Body of a change of a slot: a guest by its reference, or with settings.
pub(crate) struct SwapRequest(SwapWithConfig);

/// The longest probation.
const MAX_PROBATION_FRAMES: u32 = 1_000_000;

impl GuestChoice {
    pub(crate) fn guest(&self) -> &str {
        &self.0.guest
    }

    pub(crate) fn has_config(&self) -> bool {
        self.0.config.is_some()
    }

    /// The guest, when its reference can be one.
    pub(crate) fn checked(self) -> Result<SlotSpec, Problem> {
        match reference_problem(&self.0.guest) {
            Some(problem) => Err(Problem::invalid(vec![FieldProblem::new("/guest", problem)])),
            None => Ok(self.into_slot()),
        }
    }

    pub(crate) fn into_slot(self) -> SlotSpec {
        let GuestWithConfig { guest, config, limits, on_failure } = self.0;
        let config = Value::Object(config.unwrap_or_default());
        SlotSpec { limits: limits.into(), on_failure: on_failure.into(), ..SlotSpec::new(guest, config) }
    }
}

/// Refuses a probation that is too long.
pub(crate) fn checked_probation(frames: Option<u32>) -> Result<(), Problem> {
    match probation_problem(frames) {
        Some(problem) => Err(Problem::invalid(vec![problem])),
        None => Ok(()),
    }
}

fn probation_problem(frames: Option<u32>) -> Option<FieldProblem> {
    frames
        .filter(|&frames| frames > MAX_PROBATION_FRAMES)
        .map(|_| FieldProblem::new("/probation_frames", format!("must be at most {MAX_PROBATION_FRAMES}")))
}

impl SwapRequest {
    /// Whether nothing is to change.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.0.dry_run
    }

    /// The change, when it can be one.
    pub(crate) fn checked(self, who: String) -> Result<SlotRequest, Problem> {
        let SwapWithConfig { guest, config, limits, on_failure, probation_frames, dry_run: _ } = self.0;
        let mut problems = Vec::new();
        problems.extend(reference_problem(&guest).map(|p| FieldProblem::new("/guest", p)));
        problems.extend(probation_problem(probation_frames));
        if !problems.is_empty() {
            return Err(Problem::invalid(problems));
        }
        let wanted = GuestChoice(GuestWithConfig { guest, config, limits, on_failure }).into_slot();
        Ok(SlotRequest { wanted, probation_frames, who })
    }
}

/// A JSON string that is a guest's name, or an object that says more. By hand: `serde(untagged)` would answer every
/// mistake with "did not match any variant".
macro_rules! name_or_object {
    ($type:ident, $object:ident, $says:literal, $about:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Choice;
                impl<'de> Visitor<'de> for Choice {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($says)
                    }
                    fn visit_str<E>(self, name: &str) -> Result<$type, E> {
                        Ok($type($object { guest: name.to_owned(), ..$object::default() }))
                    }
                    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<$type, A::Error> {
                        $object::deserialize(MapAccessDeserializer::new(map)).map($type)
                    }
                }
                deserializer.deserialize_any(Choice)
            }
        }

        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                let name = ObjectBuilder::new()
                    .schema_type(Type::String)
                    .description(Some("`name`, `name@version` or `sha256:<hex>` of a guest in the store"))
                    .build();
                OneOfBuilder::new()
                    .description(Some($about))
                    .item(name)
                    .item(Ref::from_schema_name(stringify!($object)))
                    .into()
            }
        }

        impl ToSchema for $type {
            fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                schemas.push((stringify!($object).to_owned(), $object::schema()));
                $object::schemas(schemas);
            }
        }
    };
}

name_or_object!(
    GuestChoice,
    GuestWithConfig,
    "the name of a guest, or {\"guest\": name, \"config\": {…}}",
    "A guest, with or without settings."
);
name_or_object!(
    SwapRequest,
    SwapWithConfig,
    "the name of a guest, or {\"guest\": name, \"config\": {…}, \"probation_frames\": 50}",
    "What a slot is to run from now on: a guest, with or without settings."
);

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
    /// Calls since the camera started.
    calls: u64,
    /// Mean microseconds a call, on the wall.
    mean_call_us: f64,
    /// Processor time in them, microseconds.
    cpu_us: u64,
    /// Failures since the camera started.
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
    /// The most that was used in a second of the frames' clock.
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
    /// Guests put in.
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
    /// `done` (without probation), `probation`, `confirmed`, `rolled-back`, `superseded` (by another change before its
    /// probation was over), `refused`, or `unknown` (the host ended meanwhile).
    #[schema(example = "confirmed")]
    outcome: &'static str,
    /// Why it was refused or taken back.
    reason: Option<String>,
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
            outcome: change.outcome.as_str(),
            reason: change.reason,
        }
    }
}
