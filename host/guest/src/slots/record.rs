//! What a camera's slots give to a recorder, a dry run and a shadow.
//!
//! Owns when a tracker is asked for a state that a replay can begin at. Must not write files: the pipeline does.

use std::sync::Arc;

use facestream_core::guest::SlotKind;
use facestream_core::{Shot, Track};
use serde::Serialize;

use super::{CameraGuests, GuestFactory, Outcome, SlotGuest};
use crate::carry::NONE;
use crate::convert::Snapshot;
use crate::error::{GuestFailure, SwapError};
use crate::record::{Bundle, Reason, RecordedCall, Recording, Replay, ReplayError, ReplayReport, Runner, replay};
use crate::slot::{Guest, Slot};

/// The state of a slot at a moment: what a swap would hand over.
#[derive(Clone, Debug, Default)]
pub struct SlotState {
    /// Private; `None` when the guest gives none.
    pub(super) private: Option<Snapshot>,
    /// A tracker's live tracks.
    pub(super) tracks: Vec<Track>,
    /// A scorer's held shots.
    pub(super) shots: Vec<Shot>,
}

/// What a dry run needs of a running camera, taken between two frames.
#[derive(Clone, Debug)]
pub struct DryRunInput {
    /// The slot as it is.
    pub state: SlotState,
    /// The last seconds of the guest in it; `None` when nothing is kept.
    pub recording: Option<Recording>,
}

/// What a swap would do.
#[derive(Clone, Debug, Serialize)]
pub struct DryRunReport {
    /// Which slot.
    pub slot: SlotKind,
    /// What runs.
    pub old_digest: String,
    /// What would run.
    pub new_digest: String,
    /// What the candidate took of the present state: `private`, `neutral` or `none`.
    pub state: &'static str,
    /// Why it did not take it, when it failed to.
    pub failure: Option<String>,
    /// The last seconds, both guests compared; `None` when nothing is kept (`guests.recorder.seconds` = 0).
    pub replay: Option<ReplayReport>,
}

impl SlotState {
    /// Hands it to a fresh instance; answers what came along.
    pub(super) fn give(&self, runner: &mut Runner) -> Result<&'static str, GuestFailure> {
        runner.take_over(self.private.as_ref(), &self.tracks, &self.shots)
    }
}

fn copy<G: Guest>(slot: &mut Slot<G>, seconds: Option<u32>, reason: Reason) -> Option<Recording> {
    slot.running()?.sandbox().recording(seconds, reason)
}

impl CameraGuests {
    /// The last seconds of the guest in a slot, without stopping anything; `None` when it does not run or nothing is
    /// kept. Cheap: the calls are shared, not copied.
    pub fn recording(&mut self, slot: SlotKind, seconds: Option<u32>, reason: Reason) -> Option<Recording> {
        match slot {
            SlotKind::Tracker => copy(&mut self.tracker, seconds, reason),
            SlotKind::Scorer => copy(&mut self.scorer, seconds, reason),
            SlotKind::Formatter => copy(&mut self.formatter, seconds, reason),
        }
    }

    /// The last seconds of instances that have failed since the last call.
    pub fn take_failed(&mut self) -> impl Iterator<Item = Recording> {
        [self.tracker.black_box.take(), self.scorer.black_box.take(), self.formatter.black_box.take()]
            .into_iter()
            .flatten()
    }

    /// The slot's state, which stays what it was.
    pub fn state_of(&mut self, slot: SlotKind, out: &mut Outcome) -> SlotState {
        match slot {
            SlotKind::Tracker => SlotState {
                private: self.tracker.running().and_then(|guest| guest.save().ok()),
                tracks: self.ledger.live_for_guest(),
                shots: Vec::new(),
            },
            SlotKind::Scorer => {
                let Some(Ok((private, shots))) = self.scorer.running().map(|guest| guest.save()) else {
                    return SlotState::default();
                };
                // The held shots leave the guest with `save`, so they are handed back right away.
                let now = self.now.timestamp_ns;
                if let Some(Err(failure)) = self.scorer.running().map(|guest| guest.restore(&private, &shots)) {
                    self.scorer.failed(&failure, now, &mut out.events);
                }
                SlotState { private: Some(private), tracks: Vec::new(), shots }
            }
            SlotKind::Formatter => {
                let now = self.now;
                self.formatter.set_time(&now);
                SlotState {
                    private: self.formatter.running().and_then(|guest| guest.save().ok()),
                    ..SlotState::default()
                }
            }
        }
    }

    /// What [`GuestFactory::dry_run`] needs, between two frames.
    pub fn dry_run_input(&mut self, slot: SlotKind, out: &mut Outcome) -> DryRunInput {
        let recording = self.recording(slot, None, Reason::Demand);
        DryRunInput { state: self.state_of(slot, out), recording }
    }

    /// Has the calls of a slot listed from now on, or no longer; `false` when it does not run.
    pub(super) fn feed(&mut self, slot: SlotKind, on: bool) -> bool {
        fn feed<G: Guest>(slot: &mut Slot<G>, on: bool) -> bool {
            slot.running().is_some_and(|guest| guest.sandbox_mut().feed(on))
        }
        match slot {
            SlotKind::Tracker => feed(&mut self.tracker, on),
            SlotKind::Scorer => feed(&mut self.scorer, on),
            SlotKind::Formatter => feed(&mut self.formatter, on),
        }
    }

    /// The calls listed since the last time; `None` when no list is kept, because the instance is a new one.
    pub(super) fn take_feed(&mut self, slot: SlotKind) -> Option<Vec<Arc<RecordedCall>>> {
        fn take<G: Guest>(slot: &mut Slot<G>) -> Option<Vec<Arc<RecordedCall>>> {
            slot.running()?.sandbox_mut().recorder.as_mut()?.take_feed()
        }
        match slot {
            SlotKind::Tracker => take(&mut self.tracker),
            SlotKind::Scorer => take(&mut self.scorer),
            SlotKind::Formatter => take(&mut self.formatter),
        }
    }

    /// Scorers and formatters are saved every so many frames anyway. A tracker restarts from its tracks, so that only
    /// the recorder needs its state, twice in the time that is kept.
    pub(super) fn checkpoint_tracker(&mut self, out: &mut Outcome) {
        let now = self.now.timestamp_ns;
        if self.tracker.on_probation() {
            // Its every failure is the guest's before it to mend, and there is such a one now.
            return;
        }
        let Some(guest) = self.tracker.running() else { return };
        let due = |r: &&mut Box<crate::record::Recorder>| !r.gives_no_state && r.ring.checkpoint_due(now);
        if guest.sandbox_mut().recorder.as_mut().filter(due).is_none() {
            return;
        }
        match guest.save() {
            Ok(_) => {}
            Err(GuestFailure::Refused(_)) => {
                if let Some(recorder) = &mut guest.sandbox_mut().recorder {
                    recorder.gives_no_state = true;
                }
            }
            Err(failure) => self.tracker.failed(&failure, now, &mut out.events),
        }
    }
}

impl GuestFactory {
    /// Tries a guest on the slot's present state and on its last seconds. Changes nothing; takes as long as the seconds'
    /// calls do, so call it off the camera's worker.
    ///
    /// # Errors
    /// As [`GuestFactory::prepare`], with the guest's words. That it fails later is told in the report.
    pub fn dry_run(&self, slot: SlotKind, guest: SlotGuest, input: &DryRunInput) -> Result<DryRunReport, SwapError> {
        let (config, component) = (guest.config.clone(), Arc::clone(&guest.component));
        // Its log lines are told from those of a guest that does the camera's work.
        let name = format!("{} (dry run)", guest.reference);
        let mut runner = self.runner(slot, SlotGuest { reference: name.clone(), ..guest })?;
        let limits = Some(runner.sandbox().limits().clone());
        let (state, failure) = match input.state.give(&mut runner) {
            Ok(state) => (state, None),
            Err(failure) => (NONE, Some(failure.to_string())),
        };
        drop(runner);
        let refused = |error: ReplayError| match error {
            ReplayError::Start(failure) => failure,
            error => GuestFailure::Invalid(error.to_string()),
        };
        let replay = match &input.recording {
            Some(recording) => {
                let with = Replay { config: Some(config), limits, name: Some(name) };
                let bundle = Bundle::from_recording(recording).map_err(ReplayError::from);
                let report = bundle.and_then(|bundle| replay(&bundle, &component, &with));
                let guest = component.digest().to_string();
                Some(report.map_err(|e| SwapError::Start { slot, guest, failure: refused(e) })?)
            }
            None => None,
        };
        let old_digest = input.recording.as_ref().map(|r| r.manifest.digest.clone()).unwrap_or_default();
        Ok(DryRunReport { slot, old_digest, new_digest: component.digest().to_string(), state, failure, replay })
    }

    /// An instance of a guest outside of any slot, configured; its calls are not recorded.
    pub(super) fn runner(&self, slot: SlotKind, guest: SlotGuest) -> Result<Runner, SwapError> {
        let mut runner = match slot {
            SlotKind::Tracker => Runner::Tracker(self.make(slot, guest)?.1),
            SlotKind::Scorer => Runner::Scorer(self.make(slot, guest)?.1),
            SlotKind::Formatter => Runner::Formatter(self.make(slot, guest)?.1),
        };
        runner.sandbox().stop_recording();
        Ok(runner)
    }
}
