//! Replacing a guest between two frames, with its state.
//!
//! Owns the order: everything that takes time or can fail by itself (compile, instantiate, configure, a first `save` as
//! self-test) happens in [`GuestFactory::prepare`], on any thread, while the camera runs. [`CameraGuests::commit_swap`]
//! only moves state over; when the new guest fails to take it, the old one goes on as if nothing had happened.

use std::sync::Arc;
use std::time::Instant;

use facestream_core::CameraId;
use facestream_core::event::Event;
use facestream_core::guest::{SlotKind, SwapReport};
use serde_json::Value;

use super::{CameraGuests, Outcome, SlotGuest};
use crate::config::GuestConfig;
use crate::convert::Snapshot;
use crate::error::{GuestFailure, SwapError};
use crate::formatter::FormatterGuest;
use crate::scorer::ScorerGuest;
use crate::slot::{Filling, Guest};
use crate::tracker::TrackerGuest;

/// Makes instances for one camera. Cheap to clone, free to move to another thread.
#[derive(Clone, Debug)]
pub struct GuestFactory {
    camera: CameraId,
    config: Arc<GuestConfig>,
}

/// An instance that is ready to take over a slot.
#[derive(Debug)]
pub struct PreparedGuest {
    filling: Filling,
    ready: Ready,
}

#[derive(Debug)]
enum Ready {
    /// With the name of the schema of its state, empty when it does not support saving.
    Tracker(TrackerGuest, String),
    Scorer(ScorerGuest, String),
    Formatter(FormatterGuest, String),
}

/// How state came along.
const PRIVATE: &str = "private";
const NEUTRAL: &str = "neutral";
const NONE: &str = "none";

impl GuestFactory {
    pub(super) fn new(camera: CameraId, config: GuestConfig) -> Self {
        Self { camera, config: Arc::new(config) }
    }

    pub(super) fn camera(&self) -> &CameraId {
        &self.camera
    }

    pub(super) fn config(&self) -> &GuestConfig {
        &self.config
    }

    /// Makes, configures and tries an instance for a slot. Takes milliseconds (start-up code of the guest included);
    /// call it off the camera's worker.
    ///
    /// # Errors
    /// `WrongSlot`; `Start` when the guest refuses its settings, traps or runs past its deadline.
    pub fn prepare(&self, kind: SlotKind, guest: SlotGuest) -> Result<PreparedGuest, SwapError> {
        let (filling, ready) = match kind {
            SlotKind::Tracker => {
                let (filling, mut guest) = self.make::<TrackerGuest>(kind, guest)?;
                let schema = self.probe(kind, &filling, guest.save())?.map_or_else(String::new, |s| s.schema);
                (filling, Ready::Tracker(guest, schema))
            }
            SlotKind::Scorer => {
                let (filling, mut guest) = self.make::<ScorerGuest>(kind, guest)?;
                let schema = self.probe(kind, &filling, guest.save())?.map_or_else(String::new, |s| s.0.schema);
                (filling, Ready::Scorer(guest, schema))
            }
            SlotKind::Formatter => {
                let (filling, mut guest) = self.make::<FormatterGuest>(kind, guest)?;
                let schema = self.probe(kind, &filling, guest.save())?.map_or_else(String::new, |s| s.schema);
                (filling, Ready::Formatter(guest, schema))
            }
        };
        Ok(PreparedGuest { filling, ready })
    }

    /// A guest may refuse to save; any other failure of it shows before it is let near a camera.
    fn probe<T>(
        &self,
        slot: SlotKind,
        filling: &Filling,
        saved: Result<T, GuestFailure>,
    ) -> Result<Option<T>, SwapError> {
        match saved {
            Ok(saved) => Ok(Some(saved)),
            Err(GuestFailure::Refused(_)) => Ok(None),
            Err(failure) => Err(SwapError::Start { slot, guest: filling.reference.clone(), failure }),
        }
    }

    pub(super) fn make<G: Guest>(&self, slot: SlotKind, guest: SlotGuest) -> Result<(Filling, G), SwapError> {
        let found = guest.component.kind();
        if found != slot {
            return Err(SwapError::WrongSlot { guest: guest.reference, found, wanted: slot });
        }
        let limits = guest.limits.unwrap_or_else(|| self.config.limits.clone());
        let filling = Filling { reference: guest.reference, component: guest.component, config: guest.config, limits };
        let instance = G::start(&filling.component, &filling.env(&self.camera), &filling.config)
            .map_err(|failure| SwapError::Start { slot, guest: filling.reference.clone(), failure })?;
        Ok((filling, instance))
    }
}

impl PreparedGuest {
    /// The slot it is for.
    #[must_use]
    pub fn kind(&self) -> SlotKind {
        self.filling.component.kind()
    }
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
        let PreparedGuest { filling, ready } = prepared;
        let guest = filling.reference.clone();
        let new_digest = filling.component.digest().to_string();
        let old_digest = match slot {
            SlotKind::Tracker => self.tracker.filling.component.digest(),
            SlotKind::Scorer => self.scorer.filling.component.digest(),
            SlotKind::Formatter => self.formatter.filling.component.digest(),
        }
        .to_string();
        let state = match ready {
            Ready::Tracker(new, schema) => self.swap_tracker(filling, new, &schema),
            Ready::Scorer(new, schema) => self.swap_scorer(filling, new, &schema, &mut out),
            Ready::Formatter(new, schema) => self.swap_formatter(filling, new, &schema, &mut out),
        }
        .map_err(|failure| SwapError::Restore { slot, guest, failure })?;
        let pause_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let report = SwapReport { slot, old_digest, new_digest, state, pause_us };
        out.events.push(Event::GuestSwapped { camera: self.factory.camera().clone(), report: report.clone() });
        Ok((report, out))
    }

    /// Prepares and commits in one go, for callers that have no frames to lose.
    ///
    /// # Errors
    /// As [`GuestFactory::prepare`] and [`Self::commit_swap`].
    pub fn swap(&mut self, kind: SlotKind, guest: SlotGuest) -> Result<(SwapReport, Outcome), SwapError> {
        let prepared = self.factory.prepare(kind, guest)?;
        self.commit_swap(prepared)
    }

    /// Gives the guest in a slot new settings, state kept, without a new instance. A guest that does not take settings
    /// while it runs (`invalid-config`) keeps the old ones: swap it for an instance of the same component then.
    ///
    /// # Errors
    /// `Start` with the guest's refusal, or with its failure, which is counted and answered by a restart.
    pub fn reconfigure(&mut self, kind: SlotKind, config: Value) -> Result<(SwapReport, Outcome), SwapError> {
        let mut out = Outcome::default();
        let began = Instant::now();
        let now = self.now.timestamp_ns;
        macro_rules! reconfigure {
            ($slot:expr) => {{
                let guest = $slot.filling.reference.clone();
                let digest = $slot.filling.component.digest().to_string();
                let Some(running) = $slot.running() else {
                    let failure = GuestFailure::Instantiate("the guest is not running right now".to_owned());
                    return Err(SwapError::Start { slot: kind, guest, failure });
                };
                if let Err(failure) = running.configure(&config) {
                    if !matches!(failure, GuestFailure::Refused(_)) {
                        $slot.failed(&failure, now, &mut out.events);
                    }
                    return Err(SwapError::Start { slot: kind, guest, failure });
                }
                $slot.filling.config = config;
                digest
            }};
        }
        let digest = match kind {
            SlotKind::Tracker => reconfigure!(self.tracker),
            SlotKind::Scorer => reconfigure!(self.scorer),
            SlotKind::Formatter => {
                let digest = reconfigure!(self.formatter);
                if let Some(guest) = self.formatter.running() {
                    self.interest = guest.interest();
                }
                digest
            }
        };
        let pause_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let report =
            SwapReport { slot: kind, old_digest: digest.clone(), new_digest: digest, state: PRIVATE, pause_us };
        out.events.push(Event::GuestSwapped { camera: self.factory.camera().clone(), report: report.clone() });
        Ok((report, out))
    }

    fn swap_tracker(
        &mut self,
        filling: Filling,
        mut new: TrackerGuest,
        schema: &str,
    ) -> Result<&'static str, GuestFailure> {
        // An old guest that fails while saving has only its tracks to give; the host knows them.
        let saved = self.tracker.running().and_then(|old| old.save().ok());
        let live = self.ledger.live_for_guest();
        let state = match saved {
            Some(saved) => match new.restore(&saved, &live) {
                Ok(()) => Some(if saved.schema == schema { PRIVATE } else { NEUTRAL }),
                Err(GuestFailure::Refused(_)) => None,
                Err(failure) => return Err(failure),
            },
            None => None,
        };
        let state = match state {
            Some(state) => state,
            None if live.is_empty() => NONE,
            None => match new.restore(&Snapshot::default(), &live) {
                Ok(()) => NEUTRAL,
                Err(GuestFailure::Refused(_)) => NONE,
                Err(failure) => return Err(failure),
            },
        };
        self.tracker.retire();
        self.tracker.install(filling, new);
        self.ledger.new_instance();
        Ok(state)
    }

    fn swap_scorer(
        &mut self,
        filling: Filling,
        mut new: ScorerGuest,
        schema: &str,
        out: &mut Outcome,
    ) -> Result<&'static str, GuestFailure> {
        let saved = match self.scorer.running().map(ScorerGuest::save) {
            Some(Ok(saved)) => {
                // Should the old guest fail from here on, this is what it is restarted with.
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
            self.scorer.retire();
            self.scorer.install(filling, new);
            return Ok(NONE);
        };
        let taken = match new.restore(&snapshot, &held) {
            Ok(()) => Ok(if snapshot.schema == schema { PRIVATE } else { NEUTRAL }),
            Err(GuestFailure::Refused(_)) => match new.restore(&Snapshot::default(), &held) {
                Ok(()) => Ok(NEUTRAL),
                Err(failure) => Err(failure),
            },
            Err(failure) => Err(failure),
        };
        match taken {
            Ok(state) => {
                self.scorer.retire();
                self.scorer.install(filling, new);
                Ok(state)
            }
            Err(failure) => {
                self.hand_back(&snapshot, &held, out);
                if !matches!(failure, GuestFailure::Refused(_)) {
                    return Err(failure);
                }
                self.flush_scorer(out);
                self.scorer.retire();
                self.scorer.install(filling, new);
                Ok(NONE)
            }
        }
    }

    /// Gives the old scorer back what `save` took from it.
    fn hand_back(&mut self, snapshot: &Snapshot, held: &[facestream_core::Shot], out: &mut Outcome) {
        if let Some(old) = self.scorer.running()
            && let Err(failure) = old.restore(snapshot, held)
        {
            // It cannot even take its own state: it is restarted with it at the next frame.
            self.scorer.failed(&failure, self.now.timestamp_ns, &mut out.events);
        }
    }

    fn swap_formatter(
        &mut self,
        filling: Filling,
        mut new: FormatterGuest,
        schema: &str,
        out: &mut Outcome,
    ) -> Result<&'static str, GuestFailure> {
        let saved = match self.formatter.running().map(FormatterGuest::save) {
            Some(Ok(saved)) => Some(saved),
            Some(Err(_)) => None,
            None => self.formatter_saved.clone(),
        };
        let state = match saved {
            Some(saved) if saved.schema == schema => match new.restore(&saved) {
                Ok(()) => PRIVATE,
                Err(GuestFailure::Refused(_)) => NONE,
                Err(failure) => return Err(failure),
            },
            _ => NONE,
        };
        if state == NONE && self.formatter.running().is_some() {
            // There is no neutral form of what a formatter gathers: it is sent, not lost.
            self.flush_formatter(out);
        }
        self.formatter.retire();
        self.interest = new.interest();
        self.formatter_saved = None;
        self.formatter.install(filling, new);
        Ok(state)
    }
}
