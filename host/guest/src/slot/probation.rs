//! A guest on probation, and the one before it that waits meanwhile.
//!
//! Owns when a probation ends. How state goes back to the old guest differs from slot to slot: `slots::probation`.

use facestream_core::event::Event;
use facestream_core::guest::ProbationStatus;

use super::{Filling, Guest, Slot, Standing};
use crate::convert::Snapshot;
use crate::instance::CallStats;

/// How a guest is put into a slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// For so many frames the one before it is kept.
    pub(crate) probation_frames: u32,
    /// It is the wanted guest, tried again by the host.
    pub(crate) probe: bool,
}

/// What is kept for a guest on probation.
#[derive(Debug)]
pub(crate) struct Probation<G> {
    /// The instance that ran before; `None` when the guest was away at the swap.
    pub(crate) old: Option<G>,
    /// What it is an instance of.
    pub(crate) filling: Filling,
    /// Whether that one was the wanted guest or stood in for it.
    pub(crate) standing: Standing,
    /// The old guest's own state as it was at the swap.
    pub(crate) saved: Option<Snapshot>,
    /// Frames of the probation, and those still to come.
    pub(crate) frames: u32,
    pub(crate) left: u32,
    /// Whether frames have passed since the old guest was last called: it does not know of them.
    pub(crate) stale: bool,
    /// Why it is over, from the failure until the old guest is back.
    pub(crate) failure: Option<String>,
}

impl<G> Probation<G> {
    pub(crate) fn status(&self) -> ProbationStatus {
        ProbationStatus { frames_left: self.left, frames: self.frames, instead_of: self.filling.name() }
    }
}

/// What came back when a probation failed.
#[derive(Debug)]
pub(crate) struct RolledBack {
    /// The old guest's own state as it was at the swap.
    pub(crate) saved: Option<Snapshot>,
    /// Whether frames have passed that the old guest does not know of.
    pub(crate) stale: bool,
}

impl<G: Guest> Slot<G> {
    /// Another guest or configuration runs from now on.
    pub(crate) fn install(&mut self, filling: Filling, mut guest: G, saved: Option<Snapshot>, entry: Entry) {
        let old = self.retire();
        let new_standing = if entry.probe { Standing::Probing } else { Standing::Wanted };
        let standing = std::mem::replace(&mut self.standing, new_standing);
        let old_filling = std::mem::replace(&mut self.filling, filling);
        let earlier = self.probation.take();
        let frames = entry.probation_frames;
        if frames > 0 {
            self.probation = Some(match earlier {
                // The latest guest that has proved itself stays the one to go back to.
                Some(earlier) => Probation { frames, left: frames, stale: true, failure: None, ..earlier },
                None => Probation {
                    old,
                    filling: old_filling,
                    standing,
                    saved,
                    frames,
                    left: frames,
                    stale: false,
                    failure: None,
                },
            });
        }
        // What it was tried with is none of the camera's calls.
        guest.sandbox_mut().stats = CallStats::default();
        self.totals.begin_guest();
        self.place(guest);
        if !entry.probe {
            self.totals.swaps.swapped += 1;
            self.start_over();
        }
    }

    /// Whether it is on probation.
    pub(crate) fn on_probation(&self) -> bool {
        self.probation.is_some()
    }

    /// One more frame has passed with the guest in its slot; the last one of a probation confirms it.
    pub(crate) fn frame_passed(&mut self, events: &mut Vec<Event>) {
        let Some(probation) = &mut self.probation else { return };
        if self.guest.is_none() || probation.failure.is_some() {
            return;
        }
        probation.stale = true;
        probation.left = probation.left.saturating_sub(1);
        if probation.left > 0 {
            return;
        }
        self.probation = None;
        let (camera, slot, guest) = (self.camera.clone(), self.kind, self.filling.reference.clone());
        if matches!(self.standing, Standing::Probing) {
            self.standing = Standing::Wanted;
            self.start_over();
            tracing::info!(%camera, %slot, %guest, "the guest works again");
            events.push(Event::GuestRecovered { camera, slot, guest });
        } else {
            self.totals.swaps.confirmed += 1;
            tracing::info!(%camera, %slot, %guest, "the new guest has passed its probation");
            events.push(Event::GuestConfirmed { camera, slot, guest });
        }
    }

    /// After a failure on probation: the guest before it is back in its slot, as it was when it was last called. Its state
    /// is brought up to date by whoever knows what state is. `None` when there is nothing to roll back.
    pub(crate) fn roll_back(&mut self, now_ns: u64, events: &mut Vec<Event>) -> Option<RolledBack> {
        let probation = self.probation.take_if(|p| p.failure.is_some())?;
        let Probation { old, filling, standing, saved, stale, failure, .. } = probation;
        let failed = std::mem::replace(&mut self.filling, filling);
        let probed = matches!(std::mem::replace(&mut self.standing, standing), Standing::Probing);
        self.refusals = Default::default();
        self.down_since_ns = None;
        self.totals.begin_guest();
        if let Some(old) = old {
            self.place(old);
        }
        if probed {
            self.breaker.probe_failed(now_ns);
        } else {
            self.backoff.reset();
            match self.standing {
                Standing::StandIn(_) => self.breaker.reopen(now_ns),
                _ => self.breaker.reset(),
            }
            self.totals.swaps.rolled_back += 1;
            let (guest, back_to) = (failed.reference, self.wanted().reference.clone());
            tracing::warn!(camera = %self.camera, slot = %self.kind, %guest, %back_to, "the new guest failed on probation; the one before it is back");
            events.push(Event::GuestRolledBack {
                camera: self.camera.clone(),
                slot: self.kind,
                guest,
                back_to,
                reason: failure.unwrap_or_default(),
            });
        }
        Some(RolledBack { saved, stale })
    }
}
