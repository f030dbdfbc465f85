//! A camera as it is wanted, and what was changed in its slots.
//!
//! Owns which guest a slot goes back to, and the history: when, who, from what to what, and what became of it; tells a
//! rollout what becomes of its changes. Changes come from the camera's own guest thread, in the order in which they happen,
//! so that what is remembered is what runs.
//! Must not write to a disk: whoever may block takes what is new ([`SlotBook::save_with`]).

mod records;

use std::sync::{Mutex, MutexGuard, PoisonError};

use facestream_core::event::Event;
use facestream_core::guest::{ChangeKind, ChangeOutcome, GuestsSpec, SlotChange, SlotKind, SlotSpec};
use facestream_core::{CameraId, CameraSpec};

use crate::rollout::Told;
use records::Waiting;

pub use records::{HISTORY, Ran, SlotRecord, SlotRecords};

/// Hears, on the guest thread, what becomes of a rollout's change.
pub(crate) type RolloutTeller = Box<dyn Fn(u64, &CameraId, Told) + Send + Sync>;

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
    tell: RolloutTeller,
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
        let tell: RolloutTeller = Box::new(|_, _, _| {});
        Self { inner: Mutex::new(Inner { spec, records, unsaved: false }), closed: Mutex::new(false), tell }
    }

    /// Tells what becomes of the changes of rollouts. Called without a lock of the book; must not block.
    #[must_use]
    pub(crate) fn telling(self, tell: RolloutTeller) -> Self {
        Self { tell, ..self }
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
        // Whatever comes after a rollout's change ends its hold on the slot, its own way back too.
        let superseded = record.rollout.take();
        let put_in = change.rollout.filter(|_| change.change == ChangeKind::Swap);
        record.rollout = put_in;
        let (camera, probation) = (spec.id.clone(), change.outcome == ChangeOutcome::Probation);
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
            // Back to that one: what is before it now is what was before it then.
            let now = spec.guests.slot(slot);
            let like_now = SlotSpec { guest: now.guest.clone(), ..ran.spec.clone() };
            let is_back = ran.digest == change.to.digest && like_now == *now;
            record.previous = if is_back { earlier.clone() } else { Some(ran.clone()) };
            if change.outcome == ChangeOutcome::Probation {
                record.waiting = Some(Waiting { ran, previous: earlier });
            }
        }
        record.add(change);
        *unsaved = true;
        drop(inner);
        if let Some(rollout) = superseded {
            (self.tell)(rollout, &camera, Told::Superseded);
        }
        if let Some(rollout) = put_in {
            (self.tell)(rollout, &camera, Told::PutIn { probation });
        }
    }

    /// Whether the guest in a slot is this rollout's, with nothing changed since.
    #[must_use]
    pub fn is_of_rollout(&self, slot: SlotKind, rollout: u64) -> bool {
        lock(&self.inner).records.slot(slot).rollout == Some(rollout)
    }

    /// A change that was refused.
    pub fn refused(&self, slot: SlotKind, change: SlotChange) {
        let mut inner = lock(&self.inner);
        inner.records.slot_mut(slot).add(change);
        inner.unsaved = true;
    }

    /// What became of a guest.
    pub fn note(&self, event: &Event) {
        match event {
            Event::GuestConfirmed { slot, .. } => {
                let mut inner = lock(&self.inner);
                let record = inner.records.slot_mut(*slot);
                record.waiting = None;
                record.decide(ChangeOutcome::Confirmed, None);
                let rollout = record.rollout;
                inner.unsaved = true;
                self.tell_of(inner, rollout, Told::Confirmed);
            }
            Event::GuestRolledBack { slot, reason, .. } => {
                let mut inner = lock(&self.inner);
                let Inner { spec, records, unsaved } = &mut *inner;
                let record = records.slot_mut(*slot);
                record.taken_back(reason);
                if let Some(Waiting { ran, previous }) = record.waiting.take() {
                    let wanted = spec.guests.slot_mut(*slot);
                    // A name alone would mean the newest version after a restart: the one that has just failed.
                    *wanted = if ran.spec.guest == wanted.guest { ran.pinned() } else { ran.spec };
                    record.previous = previous;
                }
                let rollout = record.rollout.take();
                *unsaved = true;
                self.tell_of(inner, rollout, Told::RolledBack(reason.clone()));
            }
            Event::GuestFailed { slot, reason, .. } => {
                let inner = lock(&self.inner);
                let rollout = inner.records.slot(*slot).rollout;
                self.tell_of(inner, rollout, Told::Failed(reason.clone()));
            }
            _ => {}
        }
    }

    fn tell_of(&self, inner: MutexGuard<'_, Inner>, rollout: Option<u64>, told: Told) {
        let Some(rollout) = rollout else { return };
        let camera = inner.spec.id.clone();
        drop(inner);
        (self.tell)(rollout, &camera, told);
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
