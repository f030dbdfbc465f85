//! A candidate beside the guest of a slot: told the same, listened to by nobody but a comparison.
//!
//! Owns what a candidate may cost. It runs after the active guests' messages of a frame were handed over, under its own
//! limits; one that traps, runs past its deadline or takes too large a share of the time is given up, with the reason.
//! Nothing it answers reaches a track, a shot, a message or a counter of the camera.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use facestream_core::guest::SlotKind;
use facestream_core::{Frame, FrameInfo, Picture};
use serde::Serialize;
use serde_json::Value;

use super::{CameraGuests, GuestFactory, Outcome, SlotGuest};
use crate::carry::NONE;
use crate::error::SwapError;
use crate::record::{
    Answer, Call, Comparison, ComparisonReport, Kept, PictureRecord, Pictures, RecordedCall, ReplayPicture, Runner,
    ShotRecord,
};

/// A candidate may use this share of the frame clock, over [`WINDOW_NS`]; more would delay the frames of its camera.
const MAX_SHARE: f64 = 0.5;
const WINDOW_NS: u64 = 2_000_000_000;
/// Refusals in a row after which it is given up, as an active guest would be restarted.
const MAX_REFUSALS: u32 = 5;

/// A candidate that runs beside a slot's guest.
#[derive(Debug)]
pub struct Shadow {
    slot: SlotKind,
    guest: String,
    digest: String,
    config: Value,
    runner: Option<Runner>,
    carried: &'static str,
    given_up: Option<String>,
    comparison: Comparison,
    /// The active guest was restarted or replaced: calls between were not seen.
    gaps: u64,
    refusals: u32,
    missing: Arc<AtomicU64>,
    window_began_ns: u64,
    spent_ns: u64,
}

/// How a candidate is doing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShadowReport {
    /// Beside which slot's guest.
    pub slot: SlotKind,
    /// The reference it was asked for by.
    pub guest: String,
    /// `sha256:<hex>` of the component.
    pub digest: String,
    /// Settings in force.
    pub config: Value,
    /// `running`, or `given-up`.
    pub state: &'static str,
    /// Why it was given up.
    pub reason: Option<String>,
    /// What state it began with: `private`, `neutral` or `none`.
    pub carried: &'static str,
    /// How often the active guest was restarted or replaced meanwhile; frames around that were not compared.
    pub gaps: u64,
    /// Bytes of its memories and tables.
    pub memory_bytes: u64,
    /// Both guests so far; the active one is the first side.
    pub comparison: ComparisonReport,
}

impl GuestFactory {
    /// Makes and configures a candidate; [`Shadow::begin`] lets it in. Takes milliseconds, off the camera's worker.
    ///
    /// # Errors
    /// As [`GuestFactory::prepare`].
    pub fn shadow(&self, slot: SlotKind, guest: SlotGuest) -> Result<Shadow, SwapError> {
        let (reference, config) = (guest.reference.clone(), guest.config.clone());
        let digest = guest.component.digest().to_string();
        let runner = Some(self.runner(slot, guest)?);
        Ok(Shadow {
            slot,
            guest: reference,
            digest,
            config,
            runner,
            carried: NONE,
            given_up: None,
            comparison: Comparison::new(slot),
            gaps: 0,
            refusals: 0,
            missing: Arc::default(),
            window_began_ns: 0,
            spent_ns: 0,
        })
    }
}

/// Live pictures.
struct Live<'a> {
    frame: Option<&'a Frame>,
    missing: &'a Arc<AtomicU64>,
}

impl Pictures for Live<'_> {
    fn frame(&self, info: &FrameInfo) -> Arc<dyn Picture> {
        match self.frame {
            Some(frame) => Arc::clone(&frame.picture),
            None => {
                let record = PictureRecord { width: info.width, height: info.height, bytes: 0, kept: Kept::default() };
                ReplayPicture::of(&record, self.missing)
            }
        }
    }

    fn shot(&self, shot: &ShotRecord) -> Arc<dyn Picture> {
        match shot.picture.kept.picture() {
            Some(picture) => Arc::clone(picture),
            None => ReplayPicture::of(&shot.picture, self.missing),
        }
    }
}

impl Shadow {
    /// Takes over the slot's present state and looks on from now. Between two frames.
    pub fn begin(&mut self, guests: &mut CameraGuests, out: &mut Outcome) {
        let state = guests.state_of(self.slot, out);
        if let Some(runner) = &mut self.runner {
            match state.give(runner) {
                Ok(carried) => self.carried = carried,
                Err(failure) => self.give_up(format!("it could not take over the state: {failure}")),
            }
        }
        self.window_began_ns = guests.now.timestamp_ns;
        if self.runner.is_some() {
            guests.feed(self.slot, true);
        }
    }

    /// Makes the calls that the slot's guest was made since the last time. After the frame was handed over.
    pub fn follow(&mut self, guests: &mut CameraGuests, frame: Option<&Frame>) {
        if self.runner.is_none() {
            return;
        }
        let Some(calls) = guests.take_feed(self.slot) else {
            // A new instance of the active guest, or none at present.
            if guests.feed(self.slot, true) {
                self.gaps += 1;
            }
            return;
        };
        for call in calls {
            self.step(&call, frame);
            if self.runner.is_none() {
                guests.feed(self.slot, false);
                return;
            }
        }
        let now = guests.now.timestamp_ns;
        let window = now.saturating_sub(self.window_began_ns);
        if window >= WINDOW_NS {
            let share = self.spent_ns as f64 / window as f64;
            if share > MAX_SHARE {
                self.give_up(format!(
                    "it took {:.0} % of the time, at most {:.0} % are given to a candidate",
                    share * 100.0,
                    MAX_SHARE * 100.0
                ));
                guests.feed(self.slot, false);
            }
            self.window_began_ns = now;
            self.spent_ns = 0;
        }
    }

    fn step(&mut self, recorded: &RecordedCall, frame: Option<&Frame>) {
        if matches!(recorded.call, Call::Configure { .. } | Call::Save | Call::Restore { .. }) {
            // The active guest's own affairs.
            return;
        }
        let Some(runner) = &mut self.runner else { return };
        let active = (&recorded.answer, recorded.nanoseconds);
        if !runner.wants(&recorded.call) {
            return self.comparison.unasked(&recorded.call, active);
        }
        let state = runner.sandbox().state_mut();
        state.time.monotonic_ns = recorded.time_ns;
        state.time.wall_ns = recorded.wall_ns;
        if let Some(frame) = recorded.call.frame() {
            state.frame = (frame.session, frame.sequence);
        }
        // The picture at hand is that of the frame which is being worked on, and of no other.
        let frame = frame.filter(|f| recorded.call.frame().is_some_and(|info| *info == f.info));
        let before = runner.sandbox().stats.nanoseconds;
        let answer = runner.run(&recorded.call, &Live { frame, missing: &self.missing });
        let spent = runner.sandbox().stats.nanoseconds.saturating_sub(before);
        self.spent_ns = self.spent_ns.saturating_add(spent);
        self.comparison.add(&recorded.call, active, (&answer, spent));
        match answer {
            Answer::Failed { kind, text } if kind != "refused" => self.give_up(text),
            Answer::Failed { text, .. } => {
                self.refusals += 1;
                if self.refusals >= MAX_REFUSALS {
                    self.give_up(text);
                }
            }
            _ => self.refusals = 0,
        }
    }

    fn give_up(&mut self, reason: String) {
        tracing::warn!(slot = %self.slot, guest = self.guest, reason, "a candidate beside the active guest was given up");
        self.runner = None;
        self.given_up = Some(crate::error::one_line(&reason, 1024));
    }

    /// Looks on no longer.
    pub fn end(self, guests: &mut CameraGuests) {
        guests.feed(self.slot, false);
    }

    /// Which slot.
    #[must_use]
    pub fn slot(&self) -> SlotKind {
        self.slot
    }

    /// The numbers so far.
    pub fn report(&mut self) -> ShadowReport {
        let memory_bytes = self.runner.as_mut().map_or(0, |runner| runner.sandbox().memory_bytes());
        ShadowReport {
            slot: self.slot,
            guest: self.guest.clone(),
            digest: self.digest.clone(),
            config: self.config.clone(),
            state: if self.runner.is_some() { "running" } else { "given-up" },
            reason: self.given_up.clone(),
            carried: self.carried,
            gaps: self.gaps,
            memory_bytes,
            comparison: self.comparison.report(),
        }
    }
}
