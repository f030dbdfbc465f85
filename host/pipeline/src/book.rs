//! A camera as it is wanted, and what was changed in its slots.
//!
//! Owns which guest a slot goes back to, and the history: when, who, from what to what, and what became of it. Changes
//! come from the camera's own guest thread, in the order in which they happen, so that what is remembered is what runs.
//! Must not write to a disk: whoever may block takes what is new ([`SlotBook::save_with`]).

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use facestream_core::CameraSpec;
use facestream_core::event::Event;
use facestream_core::guest::{ChangeKind, ChangeOutcome, GuestsSpec, SlotChange, SlotKind, SlotSpec};
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
    fn pinned(self) -> SlotSpec {
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
    waiting: Option<Waiting>,
}

#[derive(Clone, Debug, PartialEq)]
struct Waiting {
    ran: Ran,
    previous: Option<Ran>,
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
    fn slot(&self, kind: SlotKind) -> &SlotRecord {
        match kind {
            SlotKind::Tracker => &self.tracker,
            SlotKind::Scorer => &self.scorer,
            SlotKind::Formatter => &self.formatter,
        }
    }

    fn slot_mut(&mut self, kind: SlotKind) -> &mut SlotRecord {
        match kind {
            SlotKind::Tracker => &mut self.tracker,
            SlotKind::Scorer => &mut self.scorer,
            SlotKind::Formatter => &mut self.formatter,
        }
    }
}

impl SlotRecord {
    fn add(&mut self, change: SlotChange) {
        self.changes.push_back(change);
        while self.changes.len() > HISTORY {
            self.changes.pop_front();
        }
    }

    /// The change whose probation runs gets its outcome.
    fn decide(&mut self, outcome: ChangeOutcome, reason: Option<String>) {
        if let Some(change) = self.changes.iter_mut().rev().find(|c| c.outcome == ChangeOutcome::Probation) {
            change.outcome = outcome;
            change.reason = reason;
        }
    }
}

struct Inner {
    spec: CameraSpec,
    records: SlotRecords,
    unsaved: bool,
}

/// One camera's book.
pub struct SlotBook {
    inner: Mutex<Inner>,
    /// Held while something is written down: the newest is written last. True when nothing is to be written any more.
    closed: Mutex<bool>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while these locks are held; should it, the data are still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SlotBook {
    /// Begins with what is remembered of an earlier run.
    #[must_use]
    pub fn new(spec: CameraSpec, mut records: SlotRecords) -> Self {
        for kind in SlotKind::ALL {
            // Whoever was on probation when the host ended has been put in for good.
            records.slot_mut(kind).decide(ChangeOutcome::Unknown, None);
        }
        records.asked.get_or_insert_with(|| spec.guests.clone());
        Self { inner: Mutex::new(Inner { spec, records, unsaved: false }), closed: Mutex::new(false) }
    }

    /// The camera as it is wanted.
    #[must_use]
    pub fn spec(&self) -> CameraSpec {
        lock(&self.inner).spec.clone()
    }

    /// Whether a start that asks for this means the camera: as it is now, or as it was started before its guests were
    /// changed.
    #[must_use]
    pub fn is_asked_for_by(&self, start: &CameraSpec) -> bool {
        let Inner { spec, records, .. } = &*lock(&self.inner);
        let as_started = |guests: &GuestsSpec| CameraSpec { guests: guests.clone(), ..spec.clone() } == *start;
        spec == start || records.asked.as_ref().is_some_and(as_started)
    }

    /// What a slot wants.
    #[must_use]
    pub fn wanted(&self, slot: SlotKind) -> SlotSpec {
        lock(&self.inner).spec.guests.slot(slot).clone()
    }

    /// What a rollback of the slot goes to.
    #[must_use]
    pub fn previous(&self, slot: SlotKind) -> Option<Ran> {
        lock(&self.inner).records.slot(slot).previous.clone()
    }

    /// Changes of a slot, the newest first.
    #[must_use]
    pub fn history(&self, slot: SlotKind) -> Vec<SlotChange> {
        lock(&self.inner).records.slot(slot).changes.iter().rev().cloned().collect()
    }

    /// A change that was made. To be called on the guest thread, before the next frame.
    pub fn changed(&self, slot: SlotKind, wanted: SlotSpec, change: SlotChange) {
        let mut inner = lock(&self.inner);
        let Inner { spec, records, unsaved } = &mut *inner;
        let record = records.slot_mut(slot);
        let before =
            Ran { spec: std::mem::replace(spec.guests.slot_mut(slot), wanted), digest: change.from.digest.clone() };
        if change.change == ChangeKind::Reconfigure {
            // The same guest goes on, on probation or not.
            record.previous = Some(before);
        } else {
            record.decide(ChangeOutcome::Superseded, None);
            // Of a row of unproven guests the one before them all is the one to go back to.
            let waiting = record.waiting.take();
            let earlier = waiting.as_ref().map_or_else(|| record.previous.clone(), |w| w.previous.clone());
            let ran = waiting.map_or(before, |w| w.ran);
            record.previous = Some(ran.clone());
            if change.outcome == ChangeOutcome::Probation {
                record.waiting = Some(Waiting { ran, previous: earlier });
            }
        }
        record.add(change);
        *unsaved = true;
    }

    /// A change that was refused.
    pub fn refused(&self, slot: SlotKind, change: SlotChange) {
        let mut inner = lock(&self.inner);
        inner.records.slot_mut(slot).add(change);
        inner.unsaved = true;
    }

    /// What became of a guest on probation.
    pub fn note(&self, event: &Event) {
        match event {
            Event::GuestConfirmed { slot, .. } => {
                let mut inner = lock(&self.inner);
                let record = inner.records.slot_mut(*slot);
                record.waiting = None;
                record.decide(ChangeOutcome::Confirmed, None);
                inner.unsaved = true;
            }
            Event::GuestRolledBack { slot, reason, .. } => {
                let mut inner = lock(&self.inner);
                let Inner { spec, records, unsaved } = &mut *inner;
                let record = records.slot_mut(*slot);
                record.decide(ChangeOutcome::RolledBack, Some(reason.clone()));
                if let Some(Waiting { ran, previous }) = record.waiting.take() {
                    let wanted = spec.guests.slot_mut(*slot);
                    // A name alone would mean the newest version after a restart: the one that has just failed.
                    *wanted = if ran.spec.guest == wanted.guest { ran.pinned() } else { ran.spec };
                    record.previous = previous;
                }
                *unsaved = true;
            }
            _ => {}
        }
    }

    /// Whether there is something to write down.
    #[must_use]
    pub fn is_unsaved(&self) -> bool {
        lock(&self.inner).unsaved
    }

    /// Gives what is new to whoever writes it down, when there is something. What fails is given again next time.
    ///
    /// # Errors
    /// Those of `save`.
    pub fn save_with<E>(&self, save: impl FnOnce(&CameraSpec, &SlotRecords) -> Result<(), E>) -> Result<(), E> {
        let closed = lock(&self.closed);
        let (spec, records) = {
            let mut inner = lock(&self.inner);
            if *closed || !inner.unsaved {
                return Ok(());
            }
            inner.unsaved = false;
            (inner.spec.clone(), inner.records.clone())
        };
        let saved = save(&spec, &records);
        if saved.is_err() {
            lock(&self.inner).unsaved = true;
        }
        saved
    }

    /// Has the camera forgotten; when that went well nothing is written down any more.
    ///
    /// # Errors
    /// Those of `forget`.
    pub fn close_with<T, E>(&self, forget: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let mut closed = lock(&self.closed);
        let done = forget()?;
        *closed = true;
        Ok(done)
    }
}

#[cfg(test)]
mod tests;
