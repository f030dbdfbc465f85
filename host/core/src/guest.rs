//! Slots of a camera and what is put into them.
//!
//! Owns the words: which guest a slot wants, with which settings and limits, how it is doing, what was changed. Must not
//! know what a guest is made of.

mod history;
mod limits;
mod recording;
mod rollout;
mod status;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use history::{ChangeKind, ChangeOutcome, GuestRef, SlotChange};
pub use limits::Limits;
pub use recording::{RecordingFile, RecordingWritten};
pub use rollout::{RolloutCamera, RolloutChoice, RolloutRequest, RolloutState, RolloutStatus, RolloutStep};
pub use status::{BudgetUse, ProbationStatus, SlotStatus, SwapCounts, SwapReport};

/// The three places of a camera that a guest can fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlotKind {
    /// Detections to tracks.
    Tracker,
    /// Tracks and pixels to shots.
    Scorer,
    /// Events to messages.
    Formatter,
}

impl SlotKind {
    /// In the order in which a frame passes them.
    pub const ALL: [Self; 3] = [Self::Tracker, Self::Scorer, Self::Formatter];

    /// The name used in REST, configuration and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tracker => "tracker",
            Self::Scorer => "scorer",
            Self::Formatter => "formatter",
        }
    }

    /// The built-in guest used when nothing else is asked for.
    #[must_use]
    pub fn default_guest(self) -> &'static str {
        match self {
            Self::Tracker => "botsort",
            Self::Scorer => "best-shot",
            Self::Formatter => "gate-and-mega",
        }
    }
}

impl fmt::Display for SlotKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for SlotKind {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|k| k.as_str() == s)
            .ok_or_else(|| format!("no slot `{s}`; a camera has tracker, scorer and formatter"))
    }
}

/// What a camera wants in one slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotSpec {
    /// Name, `name@version` or `sha256:<hex>` of a guest in the store.
    pub guest: String,
    /// Settings for the guest: a JSON object, empty when none.
    #[serde(default = "empty_object")]
    pub config: serde_json::Value,
    /// Limits other than the host's own.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// What happens when the guest keeps failing.
    #[serde(default, skip_serializing_if = "OnFailure::is_default")]
    pub on_failure: OnFailure,
}

/// What is asked of a slot.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotRequest {
    /// What it is to run.
    pub wanted: SlotSpec,
    /// For so many frames the guest before is kept, to come back when the new one fails; the host's own number when left
    /// out.
    pub probation_frames: Option<u32>,
    /// Name of the token that asks.
    pub who: String,
    /// The rollout that this is a part of.
    pub rollout: Option<u64>,
    /// Digest of the component that the slot must want until then; any, when left out.
    pub only_while: Option<String>,
}

/// What happens to a slot whose guest fails again and again. A single failure is always answered by a fresh instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It is made again, with growing waits, for ever.
    #[default]
    Restart,
    /// The slot's built-in guest takes over, until the wanted one works again.
    Fallback,
    /// The slot stays empty until somebody changes it.
    Drop,
}

impl OnFailure {
    /// The name used in REST and configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Fallback => "fallback",
            Self::Drop => "drop",
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn empty_object() -> serde_json::Value {
    serde_json::Value::Object(serde_json::Map::new())
}

impl SlotSpec {
    /// A guest without settings, under the host's limits.
    #[must_use]
    pub fn named(guest: &str) -> Self {
        Self::new(guest, empty_object())
    }

    /// A guest with settings (a JSON object), under the host's limits.
    #[must_use]
    pub fn new(guest: impl Into<String>, config: serde_json::Value) -> Self {
        Self { guest: guest.into(), config, limits: Limits::default(), on_failure: OnFailure::default() }
    }
}

/// The guests of a camera.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestsSpec {
    /// Detections to tracks.
    pub tracker: SlotSpec,
    /// Tracks and pixels to shots.
    pub scorer: SlotSpec,
    /// Events to messages.
    pub formatter: SlotSpec,
}

impl Default for GuestsSpec {
    fn default() -> Self {
        Self {
            tracker: SlotSpec::named(SlotKind::Tracker.default_guest()),
            scorer: SlotSpec::named(SlotKind::Scorer.default_guest()),
            formatter: SlotSpec::named(SlotKind::Formatter.default_guest()),
        }
    }
}

impl GuestsSpec {
    /// One slot's wish.
    #[must_use]
    pub fn slot(&self, kind: SlotKind) -> &SlotSpec {
        match kind {
            SlotKind::Tracker => &self.tracker,
            SlotKind::Scorer => &self.scorer,
            SlotKind::Formatter => &self.formatter,
        }
    }

    /// One slot's wish, to change it.
    pub fn slot_mut(&mut self, kind: SlotKind) -> &mut SlotSpec {
        match kind {
            SlotKind::Tracker => &mut self.tracker,
            SlotKind::Scorer => &mut self.scorer,
            SlotKind::Formatter => &mut self.formatter,
        }
    }
}
