//! A fresh instance of the same guest when the old one's memory has grown, between two frames, state kept.
//!
//! Only private state will do: with less than that the guest would notice. A guest that does not save, or does not take
//! what it saved, keeps its instance.

use facestream_core::event::Event;
use facestream_core::guest::SlotKind;

use super::{CameraGuests, Outcome};
use crate::error::GuestFailure;
use crate::slot::{Guest, Slot};

impl CameraGuests {
    pub(super) fn recycle_if_due(&mut self, out: &mut Outcome) {
        if self.tracker.wants_recycling() {
            let live = self.ledger.live_for_guest();
            let camera = self.factory.camera();
            recycle(&mut self.tracker, SlotKind::Tracker, camera, out, |old, new| {
                let saved = old.save()?;
                new.restore(&saved, &live)
            });
        }
        if self.scorer.wants_recycling() {
            let mut taken = None;
            let camera = self.factory.camera();
            let done = recycle(&mut self.scorer, SlotKind::Scorer, camera, out, |old, new| {
                let (state, held) = taken.insert(old.save()?);
                new.restore(state, held)
            });
            if let Some((state, held)) = taken {
                if !done {
                    self.hand_back(&state, &held, out);
                }
                self.scorer_saved = Some((state, held));
                self.given.clear();
                self.spent.clear();
            }
        }
        if self.formatter.wants_recycling() {
            let camera = self.factory.camera();
            recycle(&mut self.formatter, SlotKind::Formatter, camera, out, |old, new| {
                let saved = old.save()?;
                new.restore(&saved)
            });
        }
    }
}

/// False when the old instance stays.
fn recycle<G: Guest>(
    slot: &mut Slot<G>,
    kind: SlotKind,
    camera: &facestream_core::CameraId,
    out: &mut Outcome,
    hand_over: impl FnOnce(&mut G, &mut G) -> Result<(), GuestFailure>,
) -> bool {
    let started = slot.filling.start::<G>(camera);
    let Some(old) = slot.running() else { return false };
    let memory_bytes = old.sandbox().memory_bytes();
    let guest = old.sandbox().name().to_owned();
    let handed_over = started.and_then(|mut new| {
        // Its clocks go on where those of the old one are.
        new.sandbox_mut().state_mut().time = old.sandbox().state().time;
        hand_over(old, &mut new).map(|()| new)
    });
    match handed_over {
        Ok(new) => {
            slot.recycled(new);
            tracing::info!(%camera, slot = %kind, %guest, memory_bytes, "the guest's memory had grown; a fresh instance took over its state");
            out.events.push(Event::GuestRecycled { camera: camera.clone(), slot: kind, guest, memory_bytes });
            true
        }
        Err(failure) => {
            tracing::warn!(%camera, slot = %kind, %guest, memory_bytes, %failure, "the guest's memory has grown, but its state does not go over to a fresh instance; it keeps this one");
            slot.recycle_no_more();
            false
        }
    }
}
