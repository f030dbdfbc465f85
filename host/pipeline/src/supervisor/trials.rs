//! Looking at a guest without changing anything: recordings, a dry run, a candidate beside it, what made a message.
//!
//! Owns that none of these leaves a trace in what runs. Blocks while guests load and lanes answer; to be called where that
//! is allowed.

use std::sync::TryLockError;

use facestream_core::CameraId;
use facestream_core::guest::{ChangeKind, RecordingWritten, SlotKind, SlotRequest, SlotSpec, SwapReport};
use facestream_guest_host::record::Reason;
use facestream_guest_host::{
    DryRunReport, ExplainError, Explanation, MessageRef, Outcome, ShadowReport, SlotGuest, SwapError,
};

use super::{Supervisor, SwapFailure};
use crate::lane::LaneError;
use crate::places::{MAX_CANDIDATES, Occupant};
use crate::recordings::RecordingsError;
use crate::stage::Candidate;

/// Why nothing was tried or told; what runs was not touched.
#[derive(Debug, thiserror::Error)]
pub enum TrialFailure {
    /// As for a swap.
    #[error(transparent)]
    Swap(#[from] SwapFailure),
    /// There is nothing to record.
    #[error(
        "no calls of the {slot} of camera {camera} are kept: it does not run at present, or guests.recorder.seconds is 0"
    )]
    NothingKept {
        /// Whose.
        camera: CameraId,
        /// Which.
        slot: SlotKind,
    },
    /// No candidate runs there.
    #[error("no candidate runs beside the {0}; PUT one there first")]
    NoCandidate(SlotKind),
    /// Enough of them run.
    #[error("{MAX_CANDIDATES} candidates run beside guests already; drop one first")]
    TooMany,
    /// Files.
    #[error(transparent)]
    Recordings(#[from] RecordingsError),
    /// The message.
    #[error(transparent)]
    Explain(#[from] ExplainError),
}

impl From<LaneError> for TrialFailure {
    fn from(error: LaneError) -> Self {
        Self::Swap(SwapFailure::Lane(error))
    }
}

impl Supervisor {
    /// Writes the last seconds of a slot's guest to disk; all that is kept when `seconds` is left out.
    ///
    /// # Errors
    /// `NothingKept`, and those of the lane and the disk.
    pub fn record(
        &self,
        id: &CameraId,
        slot: SlotKind,
        seconds: Option<u32>,
    ) -> Result<RecordingWritten, TrialFailure> {
        let camera = self.running(id)?;
        let recording = camera.ask(move |stage| stage.guests.recording(slot, seconds, Reason::Demand))?;
        let recording = recording.ok_or_else(|| TrialFailure::NothingKept { camera: id.clone(), slot })?;
        let file = self.parts.recordings.write(&recording)?;
        let calls = recording.calls.len() as u64;
        Ok(RecordingWritten { file, calls, frames: recording.frames(), seconds: recording.seconds() })
    }

    /// Tells what a swap would do: the state and the last seconds are given to an instance that is thrown away.
    ///
    /// # Errors
    /// As [`Supervisor::swap`].
    pub fn dry_run(&self, id: &CameraId, slot: SlotKind, wanted: &SlotSpec) -> Result<DryRunReport, TrialFailure> {
        let camera = self.running(id)?;
        let guest = self.candidate(wanted)?;
        let input = camera.ask(move |stage| {
            let mut out = Outcome::default();
            let input = stage.guests.dry_run_input(slot, &mut out);
            stage.hand_over(out);
            input
        })?;
        let report = camera.factory().dry_run(slot, guest, &input).map_err(|e| refused(&wanted.guest, &e))?;
        if report.old_digest.is_empty() {
            let runs = camera.status().slots.into_iter().find(|s| s.slot == slot);
            return Ok(DryRunReport { old_digest: runs.map_or_else(String::new, |s| s.digest), ..report });
        }
        Ok(report)
    }

    /// Lets a candidate run beside a slot's guest; it takes the place of one that runs there already.
    ///
    /// # Errors
    /// `TooMany`, and as [`Supervisor::swap`].
    pub fn start_candidate(
        &self,
        id: &CameraId,
        slot: SlotKind,
        wanted: SlotSpec,
    ) -> Result<ShadowReport, TrialFailure> {
        let camera = self.running(id)?;
        let guest = self.candidate(&wanted)?;
        let occupant = Occupant { camera: id.clone(), slot, digest: guest.component.digest().to_string() };
        let place = self.places.take(occupant).ok_or(TrialFailure::TooMany)?;
        let shadow = camera.factory().shadow(slot, guest).map_err(|e| refused(&wanted.guest, &e))?;
        Ok(camera.ask(move |stage| stage.let_in(Candidate { wanted, shadow, place }))?)
    }

    /// The camera and slot beside which a guest of this digest runs as a candidate.
    #[must_use]
    pub fn candidate_of(&self, digest: &str) -> Option<(CameraId, SlotKind)> {
        self.places.occupant(digest).map(|occupant| (occupant.camera, occupant.slot))
    }

    /// How a candidate is doing.
    ///
    /// # Errors
    /// `NoCandidate`.
    pub fn look_at_candidate(&self, id: &CameraId, slot: SlotKind) -> Result<ShadowReport, TrialFailure> {
        let camera = self.running(id)?;
        let report = camera.ask(move |stage| stage.candidate(slot).map(|c| c.shadow.report()))?;
        report.ok_or(TrialFailure::NoCandidate(slot))
    }

    /// Ends a candidate; gives its last report.
    ///
    /// # Errors
    /// `NoCandidate`.
    pub fn drop_candidate(&self, id: &CameraId, slot: SlotKind) -> Result<ShadowReport, TrialFailure> {
        let camera = self.running(id)?;
        camera.ask(move |stage| stage.turn_out(slot))?.ok_or(TrialFailure::NoCandidate(slot))
    }

    /// Puts the candidate's guest into the slot as a swap does: a fresh instance takes over the state of the guest that
    /// runs, because the candidate's own state is of its own past. The candidate ends when that went well.
    ///
    /// # Errors
    /// `NoCandidate`, and as [`Supervisor::swap`].
    pub fn promote_candidate(
        &self,
        id: &CameraId,
        slot: SlotKind,
        probation_frames: Option<u32>,
        who: &str,
    ) -> Result<SwapReport, TrialFailure> {
        let camera = self.running(id)?;
        let candidate =
            camera.ask(move |stage| stage.candidate(slot).map(|c| (c.wanted.clone(), c.shadow.report())))?;
        let (wanted, report) = candidate.ok_or(TrialFailure::NoCandidate(slot))?;
        if let Some(why) = report.reason {
            let told = format!("it was given up beside the {slot}: {why}; a swap (PUT) would still try it");
            return Err(SwapFailure::refused(&wanted.guest, told).into());
        }
        let request = SlotRequest { wanted, probation_frames, who: who.to_owned(), rollout: None, only_while: None };
        let report = self.change_slot(id, slot, &request, ChangeKind::Swap)?;
        // It may have been dropped meanwhile, which is what is wanted.
        camera.ask(move |stage| drop(stage.turn_out(slot)))?;
        Ok(report)
    }

    /// Tells the chain that made a message, as far as calls are kept.
    ///
    /// # Errors
    /// `Explain`; `UnknownCamera`.
    pub fn explain(&self, message: &str) -> Result<Explanation, TrialFailure> {
        let message: MessageRef = message.parse()?;
        let id = CameraId::new(&message.camera).map_err(|_| ExplainError::NoId(message.camera.clone()))?;
        let camera = self.running(&id)?;
        let input = camera.ask(|stage| stage.guests.explain_input())?;
        // Whoever may look may ask, so that running guests once more is bounded: one at a time, the others are told less.
        let turn = match self.explaining.try_lock() {
            // Nothing is kept under it.
            Err(TryLockError::Poisoned(turn)) => Some(turn.into_inner()),
            turn => turn.ok(),
        };
        let scorer = match (&turn, input.scorer()) {
            (None, _) => Err("another explanation is being made; ask again".to_owned()),
            (Some(_), Some(digest)) => self.parts.guests.load(digest).map_err(|error| error.to_string()),
            (Some(_), None) => Err("no calls of the scorer are kept".to_owned()),
        };
        Ok(input.explain(&message, scorer.as_ref().map_err(String::as_str))?)
    }

    fn candidate(&self, wanted: &SlotSpec) -> Result<SlotGuest, TrialFailure> {
        self.parts.guest_config.limits_for(&wanted.limits).map_err(SwapFailure::Limits)?;
        self.slot_guest(wanted).map_err(|error| SwapFailure::of_store(&wanted.guest, &error).into())
    }
}

fn refused(guest: &str, error: &SwapError) -> TrialFailure {
    SwapFailure::refused(guest, error.to_string()).into()
}
