//! Replacing a guest between two frames, with its state.
//!
//! Owns how state goes from one guest to the next. Everything that takes time or can fail by itself happens before, in
//! [`super::GuestFactory::prepare`]; [`CameraGuests::commit_swap`] only moves state over, and when the new guest fails to
//! take it, the old one goes on as if nothing had happened. Private state that the new guest does not read is followed by
//! the neutral form; a guest that reads neither starts afresh, and one that fails on it is refused.

use std::time::Instant;

use facestream_core::Shot;
use facestream_core::event::Event;
use facestream_core::guest::{SlotKind, SwapReport};
use serde_json::Value;

use super::prepare::Ready;
use super::{CameraGuests, Outcome, PreparedGuest, SlotGuest};
use crate::carry::{NONE, PRIVATE, carry};
use crate::convert::Snapshot;
use crate::error::{GuestFailure, SwapError};
use crate::formatter::FormatterGuest;
use crate::scorer::ScorerGuest;
use crate::slot::{Entry, Filling};
use crate::tracker::TrackerGuest;

/// What came of moving state over.
pub(super) struct Carried {
    how: &'static str,
    /// The old guest's private state, for the case that it comes back.
    saved: Option<Snapshot>,
}

impl CameraGuests {
    /// Puts a prepared guest into its slot, between two frames: saves the old one, restores the new one. Track ids go
    /// on. What the old guest gathered and the new one does not take (a scorer's or formatter's) comes out as messages.
    ///
    /// # Errors
    /// `Restore` when the new guest fails to take over; the old one goes on with its state.
    pub fn commit_swap(&mut self, prepared: PreparedGuest) -> Result<(SwapReport, Outcome), SwapError> {
        let mut out = Outcome::default();
        let began = Instant::now();
        let slot = prepared.kind();
        let PreparedGuest { filling, ready, probation_frames } = prepared;
        let guest = filling.reference.clone();
        let new_digest = filling.component.digest().to_string();
        let old_digest = self.filling(slot).component.digest().to_string();
        let entry = Entry { probation_frames, probe: false };
        let state = self.put_in(filling, ready, entry, &mut out).map_err(|failure| {
            self.late_events.append(&mut out.events);
            SwapError::Restore { slot, guest, failure }
        })?;
        let pause_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let change = "swapped";
        let report = SwapReport { slot, change, old_digest, new_digest, state, pause_us, probation_frames };
        out.events.push(Event::GuestSwapped { camera: self.factory.camera().clone(), report: report.clone() });
        Ok((report, out))
    }

    /// Prepares and commits in one go, for callers that have no frames to lose.
    ///
    /// # Errors
    /// As [`super::GuestFactory::prepare`] and [`Self::commit_swap`].
    pub fn swap(&mut self, kind: SlotKind, guest: SlotGuest) -> Result<(SwapReport, Outcome), SwapError> {
        let prepared = self.factory.prepare(kind, guest)?;
        self.commit_swap(prepared)
    }

    /// Moves the state of a slot to a new instance and puts that one in.
    pub(super) fn put_in(
        &mut self,
        filling: Filling,
        ready: Ready,
        entry: Entry,
        out: &mut Outcome,
    ) -> Result<&'static str, GuestFailure> {
        let now = self.now;
        Ok(match ready {
            Ready::Tracker(mut new, schema) => {
                new.sandbox.set_time(&now);
                let Carried { how, saved } = self.carry_tracker(&mut new, &schema)?;
                self.tracker.install(filling, new, saved, entry);
                self.ledger.new_instance();
                how
            }
            Ready::Scorer(mut new, schema) => {
                new.sandbox.set_time(&now);
                let Carried { how, saved } = self.carry_scorer(&mut new, &schema, out)?;
                self.scorer.install(filling, new, saved, entry);
                how
            }
            Ready::Formatter(mut new, schema) => {
                new.sandbox.set_time(&now);
                let Carried { how, saved } = self.carry_formatter(&mut new, &schema, out)?;
                self.interest = new.interest();
                self.formatter_saved = saved.clone().filter(|_| how == PRIVATE);
                self.formatter.install(filling, new, saved, entry);
                how
            }
        })
    }

    /// Gives the guest in a slot new settings, state kept, without a new instance. A guest that does not take settings
    /// while it runs (`invalid-config`) keeps the old ones: swap it for an instance of the same component then.
    ///
    /// # Errors
    /// `Start` with the guest's refusal, or with its failure, which is counted and answered by a restart, or on probation
    /// by the guest before it, at the next frame.
    pub fn reconfigure(&mut self, kind: SlotKind, config: Value) -> Result<(SwapReport, Outcome), SwapError> {
        let mut out = Outcome::default();
        let began = Instant::now();
        let now = self.now.timestamp_ns;
        macro_rules! reconfigure {
            ($slot:expr) => {{
                let guest = $slot.filling.reference.clone();
                let Some(running) = $slot.running() else {
                    let failure = GuestFailure::Instantiate("the guest is not running right now".to_owned());
                    return Err(SwapError::Start { slot: kind, guest, failure });
                };
                if let Err(failure) = running.configure(&config) {
                    if !matches!(failure, GuestFailure::Refused(_)) {
                        $slot.failed(&failure, now, &mut out.events);
                        self.late_events.append(&mut out.events);
                    }
                    return Err(SwapError::Start { slot: kind, guest, failure });
                }
                $slot.reconfigured(config);
            }};
        }
        match kind {
            SlotKind::Tracker => reconfigure!(self.tracker),
            SlotKind::Scorer => reconfigure!(self.scorer),
            SlotKind::Formatter => {
                reconfigure!(self.formatter);
                if let Some(guest) = self.formatter.running() {
                    self.interest = guest.interest();
                }
            }
        }
        let digest = self.filling(kind).component.digest().to_string();
        let report = SwapReport {
            slot: kind,
            change: "reconfigured",
            old_digest: digest.clone(),
            new_digest: digest,
            state: PRIVATE,
            pause_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
            probation_frames: 0,
        };
        out.events.push(Event::GuestSwapped { camera: self.factory.camera().clone(), report: report.clone() });
        Ok((report, out))
    }

    pub(super) fn filling(&self, slot: SlotKind) -> &Filling {
        match slot {
            SlotKind::Tracker => &self.tracker.filling,
            SlotKind::Scorer => &self.scorer.filling,
            SlotKind::Formatter => &self.formatter.filling,
        }
    }

    fn carry_tracker(&mut self, new: &mut TrackerGuest, schema: &str) -> Result<Carried, GuestFailure> {
        // An old guest that fails while saving has only its tracks to give; the host knows them.
        let saved = self.tracker.running().and_then(|old| old.save().ok());
        let live = self.ledger.live_for_guest();
        let how = carry(saved.as_ref(), schema, !live.is_empty(), |state| new.restore(state, &live))?;
        Ok(Carried { how, saved })
    }

    fn carry_scorer(
        &mut self,
        new: &mut ScorerGuest,
        schema: &str,
        out: &mut Outcome,
    ) -> Result<Carried, GuestFailure> {
        let saved = match self.scorer.running().map(ScorerGuest::save) {
            Some(Ok(saved)) => {
                // Should the guest fail from here on, this is what it is restarted with.
                self.given.clear();
                self.spent.clear();
                self.scorer_saved = Some(saved.clone());
                Some(saved)
            }
            Some(Err(GuestFailure::Refused(_))) => None,
            // Away, or failing: what was last saved of it.
            _ => self.scorer_saved.clone(),
        };
        let Some((snapshot, held)) = saved else {
            // It cannot save: what it holds is given up, the new one starts afresh.
            if self.scorer.running().is_some() {
                self.flush_scorer(out);
            }
            return Ok(Carried { how: NONE, saved: None });
        };
        let taken = carry(Some(&snapshot), schema, true, |state| new.restore(state, &held));
        if taken.as_ref().map_or(true, |how| *how == NONE) {
            self.hand_back(&snapshot, &held, out);
        }
        let how = taken?;
        if how == NONE {
            self.flush_scorer(out);
        }
        Ok(Carried { how, saved: Some(snapshot) })
    }

    /// Gives the old scorer back what `save` took from it.
    pub(super) fn hand_back(&mut self, snapshot: &Snapshot, held: &[Shot], out: &mut Outcome) {
        if let Some(old) = self.scorer.running()
            && let Err(failure) = old.restore(snapshot, held)
        {
            // It cannot even take its own state: it is restarted with it at the next frame.
            self.scorer.failed(&failure, self.now.timestamp_ns, &mut out.events);
        }
    }

    fn carry_formatter(
        &mut self,
        new: &mut FormatterGuest,
        schema: &str,
        out: &mut Outcome,
    ) -> Result<Carried, GuestFailure> {
        let saved = match self.formatter.running().map(FormatterGuest::save) {
            Some(Ok(saved)) => Some(saved),
            Some(Err(_)) => None,
            None => self.formatter_saved.clone(),
        };
        let how = match &saved {
            Some(saved) if saved.schema == schema => match new.restore(saved) {
                Ok(()) => PRIVATE,
                Err(failure) if failure.is_unsupported_state() => NONE,
                Err(failure) => return Err(failure),
            },
            _ => NONE,
        };
        if how == NONE && self.formatter.running().is_some() {
            // There is no neutral form of what a formatter gathers: it is sent, not lost.
            self.flush_formatter(out);
        }
        Ok(Carried { how, saved })
    }
}
