//! Slots of a camera and what is put into them.

use std::fmt;

use serde::{Deserialize, Serialize};

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
}

fn empty_object() -> serde_json::Value {
    serde_json::Value::Object(serde_json::Map::new())
}

impl SlotSpec {
    /// A guest without settings.
    #[must_use]
    pub fn named(guest: &str) -> Self {
        Self { guest: guest.to_owned(), config: empty_object() }
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

/// How a slot is doing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SlotStatus {
    /// Which slot.
    pub slot: SlotKind,
    /// The reference that was asked for.
    pub guest: String,
    /// Digest of what runs, `sha256:<hex>`.
    pub digest: String,
    /// Settings in force.
    pub config: serde_json::Value,
    /// `running`, `restarting` (after a failure, waiting out its back-off) or `bypassed`.
    pub state: &'static str,
    /// Calls made to this slot's guests since the camera started.
    pub calls: u64,
    /// Mean microseconds a call.
    pub mean_call_us: f64,
    /// Failures by kind since the camera started: trap, deadline, invalid, refused.
    pub failures: u64,
    /// Instances made again after a failure.
    pub restarts: u64,
    /// Linear memory of the instance, bytes.
    pub memory_bytes: u64,
    /// The latest failure in words.
    pub last_error: Option<String>,
}

/// How a swap went.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SwapReport {
    /// Which slot.
    pub slot: SlotKind,
    /// Digest that ran before.
    pub old_digest: String,
    /// Digest that runs now.
    pub new_digest: String,
    /// What state came along: `private` (same schema), `neutral` or `none`.
    pub state: &'static str,
    /// How long the camera's guests stood still, microseconds.
    pub pause_us: u64,
}
