//! Makes recorded calls on a guest: in a replay, a dry run, beside the active guest.
//!
//! Owns the mapping from a call in the log to a call of an instance, and the hand-over of a recorded state. Where the
//! pictures come from is the caller's business.

use std::sync::Arc;

use facestream_core::guest::SlotKind;
use facestream_core::{Frame, FrameInfo, Picture, Shot, Track};
use serde_json::Value;

use super::call::{Answer, Call, ShotRecord, StateRecord};
use crate::carry::carry;
use crate::component::GuestComponent;
use crate::convert::Snapshot;
use crate::error::GuestFailure;
use crate::formatter::{FormatEvent, FormatterGuest};
use crate::instance::{GuestEnv, Sandbox};
use crate::scorer::ScorerGuest;
use crate::tracker::TrackerGuest;

/// Pictures for calls that need some.
pub(crate) trait Pictures {
    /// Of a frame that is lent.
    fn frame(&self, info: &FrameInfo) -> Arc<dyn Picture>;
    /// Of a shot that is handed over.
    fn shot(&self, shot: &ShotRecord) -> Arc<dyn Picture>;
}

/// One instance of any kind of guest.
#[derive(Debug)]
pub(crate) enum Runner {
    Tracker(TrackerGuest),
    Scorer(ScorerGuest),
    Formatter(FormatterGuest),
}

impl Runner {
    /// A fresh instance, not configured.
    pub(crate) fn instantiate(component: &GuestComponent, env: &GuestEnv) -> Result<Self, GuestFailure> {
        Ok(match component.kind() {
            SlotKind::Tracker => Self::Tracker(TrackerGuest::instantiate(component, env)?),
            SlotKind::Scorer => Self::Scorer(ScorerGuest::instantiate(component, env)?),
            SlotKind::Formatter => Self::Formatter(FormatterGuest::instantiate(component, env)?),
        })
    }

    pub(crate) fn sandbox(&mut self) -> &mut Sandbox {
        match self {
            Self::Tracker(guest) => &mut guest.sandbox,
            Self::Scorer(guest) => &mut guest.sandbox,
            Self::Formatter(guest) => &mut guest.sandbox,
        }
    }

    pub(crate) fn configure(&mut self, config: &Value) -> Result<(), GuestFailure> {
        match self {
            Self::Tracker(guest) => guest.configure(config),
            Self::Scorer(guest) => guest.configure(config),
            Self::Formatter(guest) => guest.configure(config).map(drop),
        }
    }

    fn restore(&mut self, state: &Snapshot, tracks: &[Track], shots: &[Shot]) -> Result<(), GuestFailure> {
        match self {
            Self::Tracker(guest) => guest.restore(state, tracks),
            Self::Scorer(guest) => guest.restore(state, shots),
            Self::Formatter(guest) => guest.restore(state),
        }
    }

    /// Name of the format of its own state; empty when it gives none.
    fn schema(&mut self) -> Result<String, GuestFailure> {
        let saved = match self {
            Self::Tracker(guest) => guest.save().map(|s| s.schema),
            Self::Scorer(guest) => guest.save().map(|s| s.0.schema),
            Self::Formatter(guest) => guest.save().map(|s| s.schema),
        };
        match saved {
            Err(GuestFailure::Refused(_)) => Ok(String::new()),
            saved => saved,
        }
    }

    /// Gives a fresh instance a state as a swap does. Answers `private`, `neutral` or `none`.
    pub(crate) fn take_over(
        &mut self,
        state: Option<&Snapshot>,
        tracks: &[Track],
        shots: &[Shot],
    ) -> Result<&'static str, GuestFailure> {
        let own = self.schema()?;
        // There is no neutral form of what a formatter gathers.
        let formatter = matches!(self, Self::Formatter(_));
        let state = state.filter(|s| !formatter || s.schema == own);
        let empty = tracks.is_empty() && shots.is_empty();
        carry(state, &own, !formatter && !empty, |state| self.restore(state, tracks, shots))
    }

    /// Makes a call of the log; one for another slot is answered as refused.
    pub(crate) fn run(&mut self, call: &Call, pictures: &dyn Pictures) -> Answer {
        let done = |answer: Result<(), GuestFailure>| Answer::of(&answer, |()| Answer::Done);
        match (self, call) {
            (guest, Call::Restore { state, tracks, shots }) => {
                done(guest.restore(&state.snapshot().unwrap_or_default(), tracks, &handed(shots, pictures)))
            }
            (Self::Tracker(guest), Call::Configure { config }) => done(guest.configure(&parsed(config))),
            (Self::Tracker(guest), Call::Advance { frame, detections, motion }) => {
                Answer::of(&guest.advance(frame, detections, *motion), Answer::tracks)
            }
            (Self::Tracker(guest), Call::Save) => Answer::of(&guest.save(), |s| state(s, &[])),
            (Self::Scorer(guest), Call::Configure { config }) => done(guest.configure(&parsed(config))),
            (Self::Scorer(guest), Call::Observe { frame, detections, tracks, ended }) => {
                let frame = Frame { info: *frame, picture: pictures.frame(frame) };
                Answer::of(&guest.observe(&frame, detections, tracks, ended), |shots| Answer::shots(shots, false))
            }
            (Self::Scorer(guest), Call::Tick { timestamp_ns }) => {
                Answer::of(&guest.tick(*timestamp_ns), |shots| Answer::shots(shots, false))
            }
            (Self::Scorer(guest), Call::Flush) => Answer::of(&guest.flush(), |shots| Answer::shots(shots, false)),
            (Self::Scorer(guest), Call::Save) => Answer::of(&guest.save(), |s| state(&s.0, &s.1)),
            (Self::Formatter(guest), Call::Configure { config }) => {
                Answer::of(&guest.configure(&parsed(config)), |interest| Answer::wants(*interest))
            }
            (Self::Formatter(guest), Call::Shot(record)) => {
                let shot = record.shot(pictures.shot(record));
                Answer::of(&guest.format(FormatEvent::Shot(&shot)), |m| Answer::messages(m, true))
            }
            (Self::Formatter(guest), Call::Ending(track)) => {
                Answer::of(&guest.format(FormatEvent::Ending(track)), |m| Answer::messages(m, true))
            }
            (Self::Formatter(guest), Call::Frame { frame, tracks }) => {
                Answer::of(&guest.format(FormatEvent::Frame(frame, tracks)), |m| Answer::messages(m, true))
            }
            (Self::Formatter(guest), Call::Flush) => Answer::of(&guest.flush(), |m| Answer::messages(m, true)),
            (Self::Formatter(guest), Call::Save) => Answer::of(&guest.save(), |s| state(s, &[])),
            (_, call) => Answer::Failed {
                kind: "refused".to_owned(),
                text: format!("the recording has a call of `{}`, which is none of this slot", call.name()),
            },
        }
    }

    /// Whether a formatter wants to be called for this.
    pub(crate) fn wants(&self, call: &Call) -> bool {
        let Self::Formatter(guest) = self else { return true };
        let interest = guest.interest();
        match call {
            Call::Shot(_) => interest.shots,
            Call::Ending(_) => interest.endings,
            Call::Frame { .. } => interest.frames,
            _ => true,
        }
    }
}

/// Shots of the log with pictures in their hands.
pub(crate) fn handed(shots: &[ShotRecord], pictures: &dyn Pictures) -> Vec<Shot> {
    shots.iter().map(|s| s.shot(pictures.shot(s))).collect()
}

fn parsed(config: &str) -> Value {
    serde_json::from_str(config).unwrap_or_else(|_| Value::Object(serde_json::Map::new()))
}

fn state(state: &Snapshot, shots: &[Shot]) -> Answer {
    Answer::State {
        state: StateRecord::of(state, true),
        tracks: Vec::new(),
        shots: shots.iter().map(|s| ShotRecord::of(s, false)).collect(),
    }
}
