//! What is remembered of a camera's slots: what ran before, and what was changed.
//!
//! Owns the form in which it is written down, and how much is kept.

use std::collections::VecDeque;

use facestream_core::guest::{ChangeOutcome, GuestsSpec, SlotChange, SlotKind, SlotSpec};
use serde::{Deserialize, Serialize};

/// Entries kept of each slot, the oldest forgotten first.
pub const HISTORY: usize = 50;

/// A guest that ran in a slot: as it was asked for, and the component that this meant then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ran {
    /// As it was asked for.
    pub spec: SlotSpec,
    /// `sha256:<hex>`; a name may mean another component by now.
    pub digest: String,
}

impl Ran {
    /// The same, by the component that it meant.
    pub(super) fn pinned(self) -> SlotSpec {
        SlotSpec { guest: self.digest, ..self.spec }
    }
}

/// What is remembered of one slot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlotRecord {
    /// What ran before, and a rollback goes to.
    pub previous: Option<Ran>,
    /// The oldest first.
    pub changes: VecDeque<SlotChange>,
    /// What comes back when the guest that is on probation now fails.
    #[serde(skip)]
    pub(super) waiting: Option<Waiting>,
    /// The rollout whose guest is in the slot, when nobody has changed it since. Rollouts end with the host.
    #[serde(skip)]
    pub(super) rollout: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Waiting {
    pub(super) ran: Ran,
    pub(super) previous: Option<Ran>,
}

/// What is remembered of a camera's slots.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct SlotRecords {
    /// The guests that the camera's start asked for: the same start again means this camera, whatever was swapped since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<GuestsSpec>,
    pub tracker: SlotRecord,
    pub scorer: SlotRecord,
    pub formatter: SlotRecord,
}

impl SlotRecords {
    pub(super) fn slot(&self, kind: SlotKind) -> &SlotRecord {
        match kind {
            SlotKind::Tracker => &self.tracker,
            SlotKind::Scorer => &self.scorer,
            SlotKind::Formatter => &self.formatter,
        }
    }

    pub(super) fn slot_mut(&mut self, kind: SlotKind) -> &mut SlotRecord {
        match kind {
            SlotKind::Tracker => &mut self.tracker,
            SlotKind::Scorer => &mut self.scorer,
            SlotKind::Formatter => &mut self.formatter,
        }
    }
}

impl SlotRecord {
    pub(super) fn add(&mut self, change: SlotChange) {
        self.changes.push_back(change);
        while self.changes.len() > HISTORY {
            self.changes.pop_front();
        }
    }

    /// The change whose probation runs was taken back, and settings that were given to its guest since with it.
    pub(super) fn taken_back(&mut self, reason: &str) {
        let Some(at) = self.changes.iter().rposition(|c| c.outcome == ChangeOutcome::Probation) else { return };
        for change in self.changes.range_mut(at..).filter(|c| c.outcome != ChangeOutcome::Refused) {
            change.outcome = ChangeOutcome::RolledBack;
            change.reason = Some(reason.to_owned());
        }
    }

    /// The change whose probation runs gets its outcome.
    pub(super) fn decide(&mut self, outcome: ChangeOutcome, reason: Option<String>) {
        if let Some(change) = self.changes.iter_mut().rev().find(|c| c.outcome == ChangeOutcome::Probation) {
            change.outcome = outcome;
            change.reason = reason;
        }
    }
}
