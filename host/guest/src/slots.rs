//! The three guests of one camera, called frame by frame.
//!
//! Owns the order tracker → scorer → formatter, what each is told when another is away, the identity of messages, and
//! the counting of everything that is lost. Runs on the caller's worker thread; calls may take as long as the limits
//! allow, so never call it on the async runtime. One camera's guests share nothing with another's.
//!
//! ```text
//! frame      one frame through the three: who is asked, what is believed      swap       another guest, state carried
//! emit       events to the formatter, identity of its messages                probation  back to the guest before
//! save       saving from time to time                                        recover    the wanted guest tried again
//! prepare    a new guest made and tried beside the camera (selftest)          recycle    a fresh instance of the same
//! record     what recorder and dry run are given                              shadow     a candidate beside a guest
//! explain    the chain that made a message
//! ```

mod emit;
mod explain;
mod frame;
mod prepare;
mod probation;
mod record;
mod recover;
mod recycle;
mod save;
mod selftest;
mod shadow;
mod swap;

use std::collections::HashSet;
use std::sync::Arc;

use facestream_core::event::Event;
use facestream_core::guest::{GuestRef, OnFailure, SlotKind, SlotStatus};
use facestream_core::metrics::Counter;
use facestream_core::{Affine, CameraId, CameraMetrics, Detection, DropReason, Frame, FrameInfo, Message, Shot, Track};
use serde_json::Value;

use crate::component::GuestComponent;
use crate::config::{GuestConfig, GuestLimits};
use crate::convert::Snapshot;
use crate::digest::Digest;
use crate::error::SwapError;
use crate::formatter::{FormatterGuest, Interest};
use crate::ledger::Ledger;
use crate::scorer::ScorerGuest;
use crate::slot::Slot;
use crate::tracker::TrackerGuest;

pub use explain::{Considered, ExplainError, ExplainInput, Explanation, GuestView, MessageRef, TrackPoint, Written};
pub use prepare::{GuestFactory, PreparedGuest};
pub use record::{DryRunInput, DryRunReport, SlotState};
pub use shadow::{Shadow, ShadowReport};

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
    /// What happens when it keeps failing.
    pub on_failure: OnFailure,
    /// The guest that takes over then, with [`OnFailure::Fallback`]; without one it is restarted.
    pub stand_in: Option<Box<SlotGuest>>,
}

impl SlotGuest {
    /// A guest with settings (a JSON object), under the host's limits, restarted when it fails.
    #[must_use]
    pub fn new(reference: impl Into<String>, component: Arc<GuestComponent>, config: Value) -> Self {
        let reference = reference.into();
        Self { reference, component, config, limits: None, on_failure: OnFailure::Restart, stand_in: None }
    }
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
    /// Shots that the scorer's last save holds and that were given up since: (track, session, sequence).
    given: HashSet<ShotKey>,
    /// Shots that a restored scorer may hold although they were given up before.
    spent: HashSet<ShotKey>,
    frames_since_save: u32,
    /// Messages of flushes so far: makes their ids differ.
    flushed: u64,
    /// Headers that name the makers of messages.
    provenance: explain::Provenance,
    /// What happened outside of frames, in calls that answered with an error: told with the next frame.
    late_events: Vec<Event>,
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
        Ok(Self {
            tracker: Slot::new(SlotKind::Tracker, camera, tracker, t, config),
            scorer: Slot::new(SlotKind::Scorer, camera, scorer, s, config),
            formatter: Slot::new(SlotKind::Formatter, camera, formatter, f, config),
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
            provenance: explain::Provenance::default(),
            late_events: Vec::new(),
        })
    }

    /// One analysed frame: tracker, scorer, formatter. Frames come in order; none is skipped because it is empty.
    pub fn process(&mut self, frame: &Frame, detections: &[Detection], motion: Option<Affine>) -> Outcome {
        self.now = frame.info;
        let mut out = self.begin();
        self.try_again(&mut out);
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
        self.frame_passed(&mut out);
        self.recycle_if_due(&mut out);
        self.checkpoint_tracker(&mut out);
        out
    }

    /// No frame came for a while: time alone may make a shot due. `timestamp_ns` is on the frames' clock.
    pub fn tick(&mut self, timestamp_ns: u64) -> Outcome {
        self.advance_clock(timestamp_ns);
        let mut out = self.begin();
        self.tick_scorer(&mut out);
        out
    }

    /// The camera stops: everything that guests hold is given up, every live track ends. After it nothing is left;
    /// frames that come later begin anew.
    pub fn flush(&mut self) -> Outcome {
        let mut out = self.begin();
        self.flush_scorer(&mut out);
        out.ended = self.ledger.end_all();
        self.announce_endings(&mut out);
        self.flush_formatter(&mut out);
        out
    }

    /// What is left from before the frame: events, and guests on probation that failed outside of one.
    fn begin(&mut self) -> Outcome {
        let mut out = Outcome { events: std::mem::take(&mut self.late_events), ..Outcome::default() };
        self.roll_back_tracker(&mut out);
        self.roll_back_scorer(&mut out);
        self.roll_back_formatter(&mut out);
        out
    }

    /// How the slots are doing, in order.
    #[must_use]
    pub fn status(&self) -> Vec<SlotStatus> {
        vec![self.tracker.status(), self.scorer.status(), self.formatter.status()]
    }

    /// Component of the guest in a slot.
    #[must_use]
    pub fn digest(&self, slot: SlotKind) -> Digest {
        *self.filling(slot).component.digest()
    }

    /// The guest that a slot is to run: what runs, unless the built-in one stands in for it.
    #[must_use]
    pub fn wanted(&self, slot: SlotKind) -> GuestRef {
        match slot {
            SlotKind::Tracker => self.tracker.wanted(),
            SlotKind::Scorer => self.scorer.wanted(),
            SlotKind::Formatter => self.formatter.wanted(),
        }
        .name()
    }
}
