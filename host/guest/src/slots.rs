//! The three guests of one camera, called frame by frame.
//!
//! Owns the order tracker → scorer → formatter, what each is told when another is away, the identity of messages, and
//! the counting of everything that is lost. Runs on the caller's worker thread; calls may take as long as the limits
//! allow, so never call it on the async runtime. One camera's guests share nothing with another's.
//!
//! When the tracker is away, frames count as `tracker-failed`, the scorer gets ticks, and after
//! `orphan_tracks_after_ms` the host ends the live tracks itself. When the scorer is away, ended tracks are remembered
//! and told to it when it is back, so that shots it held are given up then. When the formatter is away, events count as
//! `formatter-failed`.
//!
//! A failed tracker is given the live tracks of the last good frame in neutral form: a private state from some frames
//! ago would bring tracks back that have ended. A failed scorer and formatter get their state of the last save
//! (`save_every_frames`); shots given up since that save are not given up twice.

mod emit;
mod swap;

use std::collections::HashSet;
use std::sync::Arc;

use facestream_core::event::Event;
use facestream_core::guest::{SlotKind, SlotStatus};
use facestream_core::metrics::Counter;
use facestream_core::{Affine, CameraId, CameraMetrics, Detection, DropReason, Frame, FrameInfo, Message, Shot, Track};
use serde_json::Value;

use crate::component::GuestComponent;
use crate::config::{GuestConfig, GuestLimits};
use crate::convert::Snapshot;
use crate::error::{GuestFailure, SwapError};
use crate::formatter::{FormatEvent, FormatterGuest, Interest};
use crate::ledger::{Applied, Ledger};
use crate::scorer::ScorerGuest;
use crate::slot::Slot;
use crate::tracker::TrackerGuest;

pub use swap::{GuestFactory, PreparedGuest};

/// Endings kept for a scorer that is away; beyond that the oldest are not told.
const MAX_PENDING_ENDINGS: usize = 4096;

/// A guest for a slot: a compiled component, the name it goes by, its settings.
#[derive(Clone, Debug)]
pub struct SlotGuest {
    /// The reference it was asked for by; shown in status and logs.
    pub reference: String,
    /// The component.
    pub component: Arc<GuestComponent>,
    /// A JSON object.
    pub config: Value,
    /// Limits other than the host's defaults.
    pub limits: Option<GuestLimits>,
}

/// The guests that a camera starts with.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct GuestSet {
    pub tracker: SlotGuest,
    pub scorer: SlotGuest,
    pub formatter: SlotGuest,
}

/// What became of a frame, a tick, a flush or a swap.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Messages to send, in order.
    pub messages: Vec<Message>,
    /// Live tracks; `None` when the tracker did not answer (or was not asked).
    pub tracks: Option<Vec<Track>>,
    /// Tracks that ended, with their last state.
    pub ended: Vec<Track>,
    /// Tracks that began.
    pub began: u64,
    /// Shots that the scorer gave up.
    pub shots: Vec<Shot>,
    /// Failures, restarts and swaps.
    pub events: Vec<Event>,
}

/// The three guests of one camera.
#[derive(Debug)]
pub struct CameraGuests {
    factory: GuestFactory,
    metrics: Arc<CameraMetrics>,
    tracker: Slot<TrackerGuest>,
    scorer: Slot<ScorerGuest>,
    formatter: Slot<FormatterGuest>,
    interest: Interest,
    ledger: Ledger,
    now: FrameInfo,
    /// Ended tracks that the scorer has not been told of.
    pending_endings: Vec<u64>,
    scorer_saved: Option<(Snapshot, Vec<Shot>)>,
    formatter_saved: Option<Snapshot>,
    /// Shots given up since the scorer's last save: (track, session, sequence).
    given: HashSet<ShotKey>,
    /// Shots that a restored scorer may hold although they were given up before.
    spent: HashSet<ShotKey>,
    frames_since_save: u32,
    /// Messages of flushes so far: makes their ids differ.
    flushed: u64,
}

type ShotKey = (u64, u64, u64);

fn key(shot: &Shot) -> ShotKey {
    (shot.track_id, shot.session, shot.sequence)
}

impl CameraGuests {
    /// Makes and configures the three instances. Milliseconds once the components are compiled.
    ///
    /// # Errors
    /// The first guest that is for another slot, refuses its settings or does not start.
    pub fn new(
        camera: &CameraId,
        guests: GuestSet,
        config: &GuestConfig,
        metrics: Arc<CameraMetrics>,
    ) -> Result<Self, SwapError> {
        let factory = GuestFactory::new(camera.clone(), config.clone());
        let (tracker, t) = factory.make::<TrackerGuest>(SlotKind::Tracker, guests.tracker)?;
        let (scorer, s) = factory.make::<ScorerGuest>(SlotKind::Scorer, guests.scorer)?;
        let (formatter, f) = factory.make::<FormatterGuest>(SlotKind::Formatter, guests.formatter)?;
        let interest = f.interest();
        let restart = &config.restart;
        Ok(Self {
            tracker: Slot::new(SlotKind::Tracker, camera, tracker, t, restart),
            scorer: Slot::new(SlotKind::Scorer, camera, scorer, s, restart),
            formatter: Slot::new(SlotKind::Formatter, camera, formatter, f, restart),
            factory,
            metrics,
            interest,
            ledger: Ledger::default(),
            now: FrameInfo::default(),
            pending_endings: Vec::new(),
            scorer_saved: None,
            formatter_saved: None,
            given: HashSet::new(),
            spent: HashSet::new(),
            frames_since_save: 0,
            flushed: 0,
        })
    }

    /// One analysed frame: tracker, scorer, formatter. Frames come in order; none is skipped because it is empty.
    pub fn process(&mut self, frame: &Frame, detections: &[Detection], motion: Option<Affine>) -> Outcome {
        self.now = frame.info;
        let mut out = Outcome::default();
        match self.track(&frame.info, detections, motion, &mut out) {
            Some(applied) => {
                self.metrics.add(Counter::Tracks, applied.began);
                out.began = applied.began;
                out.ended = applied.ended;
                self.pending_endings.extend(out.ended.iter().map(|t| t.id));
                self.observe(frame, detections, &applied.tracks, &mut out);
                self.announce_endings(&mut out);
                if self.interest.frames {
                    self.emit_frame(&applied.tracks, &mut out);
                }
                out.tracks = Some(applied.tracks);
            }
            None => {
                self.metrics.dropped(DropReason::TrackerFailed, 1);
                self.without_tracker(frame, &mut out);
            }
        }
        self.save_if_due(&mut out);
        out
    }

    /// No frame came for a while: time alone may make a shot due. `timestamp_ns` is on the frames' clock.
    pub fn tick(&mut self, timestamp_ns: u64) -> Outcome {
        let mut out = Outcome::default();
        self.advance_clock(timestamp_ns);
        self.tick_scorer(&mut out);
        out
    }

    /// The camera stops: everything that guests hold is given up, every live track ends. After it nothing is left;
    /// frames that come later begin anew.
    pub fn flush(&mut self) -> Outcome {
        let mut out = Outcome::default();
        self.flush_scorer(&mut out);
        out.ended = self.ledger.end_all();
        self.announce_endings(&mut out);
        self.flush_formatter(&mut out);
        out
    }

    /// How the slots are doing, in order.
    #[must_use]
    pub fn status(&self) -> Vec<SlotStatus> {
        vec![self.tracker.status(), self.scorer.status(), self.formatter.status()]
    }

    /// Makes instances for this camera's slots off the hot path; see [`Self::commit_swap`].
    #[must_use]
    pub fn factory(&self) -> GuestFactory {
        self.factory.clone()
    }

    fn config(&self) -> &GuestConfig {
        self.factory.config()
    }

    fn advance_clock(&mut self, timestamp_ns: u64) {
        let by = timestamp_ns.saturating_sub(self.now.timestamp_ns);
        self.now.timestamp_ns = self.now.timestamp_ns.saturating_add(by);
        self.now.captured_at_ns = self.now.captured_at_ns.saturating_add(by);
    }

    fn track(
        &mut self,
        frame: &FrameInfo,
        detections: &[Detection],
        motion: Option<Affine>,
        out: &mut Outcome,
    ) -> Option<Applied> {
        let now = frame.timestamp_ns;
        let ledger = &mut self.ledger;
        let revive = |guest: &mut TrackerGuest| {
            ledger.new_instance();
            let live = ledger.live_for_guest();
            if live.is_empty() { Ok(()) } else { guest.restore(&Snapshot::default(), &live) }
        };
        let guest = self.tracker.ensure(now, &mut out.events, revive)?;
        let answer = guest
            .advance(frame, detections, motion)
            .and_then(|update| self.ledger.apply(update).map_err(GuestFailure::Invalid));
        let applied = self.tracker.settle(answer, now, &mut out.events)?;
        if applied.vanished > 0 {
            tracing::warn!(
                camera = %self.factory.camera(), guest = %self.tracker.filling.reference, tracks = applied.vanished,
                "the tracker no longer mentions live tracks without ending them; the host ended them"
            );
        }
        Some(applied)
    }

    fn without_tracker(&mut self, frame: &Frame, out: &mut Outcome) {
        let patience = self.config().orphan_tracks_after_ms.saturating_mul(1_000_000);
        let orphaned = self.tracker.down_for_ns(frame.info.timestamp_ns).is_some_and(|down| down >= patience);
        if orphaned && !self.ledger.is_empty() {
            out.ended = self.ledger.end_all();
            self.pending_endings.extend(out.ended.iter().map(|t| t.id));
            self.observe(frame, &[], &[], out);
            self.announce_endings(out);
        } else {
            self.tick_scorer(out);
        }
    }

    fn ensure_scorer(&mut self, out: &mut Outcome) -> Option<&mut ScorerGuest> {
        let (saved, spent, given, ledger) = (&mut self.scorer_saved, &mut self.spent, &mut self.given, &self.ledger);
        let pending = &self.pending_endings;
        let revive = |guest: &mut ScorerGuest| {
            spent.extend(given.drain());
            let Some((state, shots)) = saved else { return Ok(()) };
            // Of tracks whose end the scorer was told: it would hold such a shot for ever.
            shots.retain(|s| {
                !spent.contains(&key(s)) && (!ledger.has_ended(s.track_id) || pending.contains(&s.track_id))
            });
            match guest.restore(state, shots) {
                Err(GuestFailure::Refused(_)) => guest.restore(&Snapshot::default(), shots),
                answer => answer,
            }
        };
        self.scorer.ensure(self.now.timestamp_ns, &mut out.events, revive)
    }

    fn observe(&mut self, frame: &Frame, detections: &[Detection], tracks: &[Track], out: &mut Outcome) {
        let over = self.pending_endings.len().saturating_sub(MAX_PENDING_ENDINGS);
        self.pending_endings.drain(..over);
        let ended = self.pending_endings.clone();
        let Some(guest) = self.ensure_scorer(out) else {
            self.metrics.dropped(DropReason::ScorerFailed, 1);
            return;
        };
        let answer = guest.observe(frame, detections, tracks, &ended);
        if self.take_shots(answer, out) {
            self.pending_endings.clear();
        } else {
            self.metrics.dropped(DropReason::ScorerFailed, 1);
        }
    }

    fn tick_scorer(&mut self, out: &mut Outcome) {
        let now = self.now.timestamp_ns;
        let Some(guest) = self.ensure_scorer(out) else { return };
        let answer = guest.tick(now);
        self.take_shots(answer, out);
    }

    fn flush_scorer(&mut self, out: &mut Outcome) {
        let Some(guest) = self.ensure_scorer(out) else {
            self.metrics.dropped(DropReason::ScorerFailed, 1);
            return;
        };
        let answer = guest.flush();
        if !self.take_shots(answer, out) {
            self.metrics.dropped(DropReason::ScorerFailed, 1);
        }
        self.scorer_saved = None;
        self.given.clear();
        self.spent.clear();
    }

    /// Takes what the scorer gave up; false when it failed instead.
    fn take_shots(&mut self, answer: Result<Vec<Shot>, GuestFailure>, out: &mut Outcome) -> bool {
        let now = self.now;
        let answer = answer.and_then(|shots| {
            for s in &shots {
                if !self.ledger.knows(s.track_id) {
                    return Err(GuestFailure::Invalid(format!(
                        "a shot of track {}, which the camera never had",
                        s.track_id
                    )));
                }
                if (s.session, s.sequence) > (now.session, now.sequence) {
                    let (session, sequence) = (s.session, s.sequence);
                    return Err(GuestFailure::Invalid(format!(
                        "a shot of frame {session}/{sequence}, which is yet to come"
                    )));
                }
            }
            Ok(shots)
        });
        let Some(shots) = self.scorer.settle(answer, now.timestamp_ns, &mut out.events) else { return false };
        for shot in shots {
            if self.spent.remove(&key(&shot)) {
                // Given up before the scorer failed and was set back to its last save.
                continue;
            }
            self.given.insert(key(&shot));
            self.metrics.add(Counter::Shots, 1);
            if self.interest.shots {
                self.emit_shot(&shot, out);
            }
            out.shots.push(shot);
        }
        true
    }

    fn announce_endings(&mut self, out: &mut Outcome) {
        self.metrics.add(Counter::TracksEnded, out.ended.len() as u64);
        if self.interest.endings {
            for track in std::mem::take(&mut out.ended) {
                self.emit(FormatEvent::Ending(&track), &emit::Origin::ending(&self.now, &track), out);
                out.ended.push(track);
            }
        }
    }

    fn save_if_due(&mut self, out: &mut Outcome) {
        let every = self.config().save_every_frames;
        self.frames_since_save = self.frames_since_save.saturating_add(1);
        if every == 0 || self.frames_since_save < every {
            return;
        }
        self.frames_since_save = 0;
        let now = self.now.timestamp_ns;
        if let Some(guest) = self.scorer.running() {
            // The held shots leave the guest with `save`, so they are handed back right away.
            let answer = guest.save().and_then(|saved| guest.restore(&saved.0, &saved.1).map(|()| saved));
            let saved = match answer {
                // A guest that does not support saving is left alone: it starts from nothing after a failure.
                Err(GuestFailure::Refused(_)) => None,
                answer => self.scorer.settle(answer, now, &mut out.events),
            };
            if let Some(saved) = saved {
                self.scorer_saved = Some(saved);
                self.given.clear();
                self.spent.clear();
            }
        }
        if let Some(guest) = self.formatter.running() {
            match guest.save() {
                Err(GuestFailure::Refused(_)) => self.formatter_saved = None,
                answer => {
                    if let Some(saved) = self.formatter.settle(answer, now, &mut out.events) {
                        self.formatter_saved = Some(saved);
                    }
                }
            }
        }
    }
}
