//! What a lane does with a frame: the three guests, then the outlets.
//!
//! Owns the hand-over from guests to sinks, the latest picture, the slots' status, and that candidates beside guests come
//! last. Must not decide what guests do when one fails: `facestream-guest-host` does.

use std::sync::{Arc, Mutex, PoisonError};

use facestream_core::event::Event;
use facestream_core::guest::{SlotKind, SlotSpec, SlotStatus};
use facestream_core::metrics::Counter;
use facestream_core::{CameraMetrics, Clock, Detection, DropReason, Frame, FrameInfo, Message, Shot, Track};
use facestream_guest_host::record::Reason;
use facestream_guest_host::{CameraGuests, Outcome, Shadow, ShadowReport};

use crate::lane::Work;
use crate::motion::CameraMotion;
use crate::places::Place;
use crate::recordings::Recordings;
use crate::snapshot::Latest;

/// Where messages go. Called on guest threads: may wait for a disk, never for a network.
pub trait Outlet: Send + Sync {
    /// Takes a message, from then on answerable for it.
    ///
    /// # Errors
    /// Why it was not taken, in words.
    fn accept(&self, message: Message) -> Result<(), String>;
}

/// Sees everything one camera produces, in order; `facestream run` prints it.
pub trait Observer: Send {
    /// An analysed frame, its detections, the live tracks after it and the tracks that ended with it. `tracks` is
    /// `None` when the tracker failed on it.
    fn frame(&mut self, info: &FrameInfo, detections: &[Detection], tracks: Option<&[Track]>, ended: &[Track]);
    /// A shot that the scorer gave up.
    fn shot(&mut self, shot: &Shot);
    /// A message that the formatter wrote.
    fn message(&mut self, message: &Message);
}

/// How often the slots' status is copied out, nanoseconds: REST never waits for a guest, and a copy a frame would cost
/// more than the frame's bookkeeping.
const STATUS_EVERY_NS: u64 = 250_000_000;

/// No tick before a camera was silent for so long, nanoseconds: a slow `detect_fps` is no silence.
const SILENCE_NS: u64 = 500_000_000;

/// A guest that runs beside a slot's own.
pub struct Candidate {
    /// As it was asked for.
    pub wanted: SlotSpec,
    /// The instance and its comparison.
    pub shadow: Shadow,
    /// Its place among all that may run, given back when it ends.
    pub place: Place,
}

/// One camera's guests and what they feed.
pub struct Stage {
    /// The three slots.
    pub guests: CameraGuests,
    /// At most one a slot.
    beside: Vec<Candidate>,
    recordings: Option<Arc<Recordings>>,
    outlet: Arc<dyn Outlet>,
    observer: Option<Box<dyn Observer>>,
    on_event: Box<dyn Fn(Event) + Send>,
    latest: Arc<Latest>,
    slots: Arc<Mutex<Vec<SlotStatus>>>,
    motion: Option<CameraMotion>,
    metrics: Arc<CameraMetrics>,
    clock: Arc<dyn Clock>,
    /// Media time of the latest frame and the host's time when it came.
    last_frame: Option<(u64, u64)>,
    /// The latest time that guests were told, by frame or tick: it never goes back, also when a silent connection
    /// delivers its backlog after ticks have run ahead.
    told_ns: Option<u64>,
    status_at_ns: u64,
}

impl Stage {
    /// Puts the parts together; nobody observes, events go nowhere.
    pub fn new(
        guests: CameraGuests,
        outlet: Arc<dyn Outlet>,
        metrics: Arc<CameraMetrics>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            slots: Arc::new(Mutex::new(guests.status())),
            guests,
            beside: Vec::new(),
            recordings: None,
            outlet,
            observer: None,
            on_event: Box::new(drop),
            latest: Arc::default(),
            motion: None,
            metrics,
            clock,
            last_frame: None,
            told_ns: None,
            status_at_ns: 0,
        }
    }

    /// Shows everything to an observer.
    #[must_use]
    pub fn observed_by(mut self, observer: Box<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Tells of failures, restarts and swaps. Called on guest threads: must not block.
    #[must_use]
    pub fn with_events(mut self, on_event: Box<dyn Fn(Event) + Send>) -> Self {
        self.on_event = on_event;
        self
    }

    /// Whether to estimate how the camera moved before each frame, and tell the tracker.
    #[must_use]
    pub fn with_camera_motion(mut self, on: bool) -> Self {
        self.motion = on.then(|| CameraMotion::new(Arc::clone(&self.metrics), Arc::clone(&self.clock)));
        self
    }

    /// Has the last seconds of guests that fail or are replaced written to disk.
    #[must_use]
    pub fn recorded_by(mut self, recordings: Arc<Recordings>) -> Self {
        self.recordings = Some(recordings);
        self
    }

    /// The latest picture, shared with whoever shows it.
    #[must_use]
    pub fn latest(&self) -> Arc<Latest> {
        Arc::clone(&self.latest)
    }

    /// The slots' status, at most a quarter of a second old while frames come, and never older than an event that was told.
    #[must_use]
    pub fn slots(&self) -> Arc<Mutex<Vec<SlotStatus>>> {
        Arc::clone(&self.slots)
    }

    /// The candidate beside a slot's guest.
    pub fn candidate(&mut self, slot: SlotKind) -> Option<&mut Candidate> {
        self.beside.iter_mut().find(|c| c.shadow.slot() == slot)
    }

    /// Lets a candidate in beside its slot's guest; one that was there before goes.
    pub fn let_in(&mut self, mut candidate: Candidate) -> ShadowReport {
        self.turn_out(candidate.shadow.slot());
        let mut outcome = Outcome::default();
        candidate.shadow.begin(&mut self.guests, &mut outcome);
        self.hand_over(outcome);
        let report = candidate.shadow.report();
        self.beside.push(candidate);
        report
    }

    /// Ends the candidate beside a slot's guest; gives its last report.
    pub fn turn_out(&mut self, slot: SlotKind) -> Option<ShadowReport> {
        let at = self.beside.iter().position(|c| c.shadow.slot() == slot)?;
        let Candidate { mut shadow, place: _until_it_has_ended, .. } = self.beside.swap_remove(at);
        let report = shadow.report();
        shadow.end(&mut self.guests);
        Some(report)
    }

    /// The guest in a slot is about to be replaced: its last seconds are kept, when that is wanted. Cheap.
    pub fn record_before_swap(&mut self, slot: SlotKind) {
        let Some(recordings) = self.recordings.as_ref().filter(|r| r.before_swap()) else { return };
        if let Some(recording) = self.guests.recording(slot, None, Reason::Swap) {
            recordings.submit(recording);
        }
    }

    /// What may wait until the frame was handed over: recordings of guests that failed, candidates.
    fn afterwards(&mut self, frame: Option<&Frame>) {
        if let Some(recordings) = &self.recordings {
            self.guests.take_failed().for_each(|recording| recordings.submit(recording));
        }
        for candidate in &mut self.beside {
            candidate.shadow.follow(&mut self.guests, frame);
        }
    }

    /// Copies the slots' status out now.
    pub fn publish_status(&mut self) {
        *self.slots.lock().unwrap_or_else(PoisonError::into_inner) = self.guests.status();
        self.status_at_ns = self.clock.monotonic_ns();
    }

    /// The camera stops: everything that guests hold is given up and handed over.
    pub fn finish(&mut self) {
        let outcome = self.guests.flush();
        self.hand_over(outcome);
        self.afterwards(None);
        for candidate in self.beside.drain(..) {
            candidate.shadow.end(&mut self.guests);
        }
        self.publish_status();
    }

    /// Sends what guests gave up to the outlet; shots, endings and tracks are counted where guests are called.
    pub fn hand_over(&mut self, outcome: Outcome) {
        outcome.events.into_iter().for_each(&self.on_event);
        if let Some(observer) = &mut self.observer {
            outcome.shots.iter().for_each(|shot| observer.shot(shot));
            outcome.messages.iter().for_each(|message| observer.message(message));
        }
        for message in outcome.messages {
            let (camera, id) = (message.camera.clone(), message.id.clone());
            match self.outlet.accept(message) {
                Ok(()) => self.metrics.add(Counter::Messages, 1),
                Err(reason) => {
                    self.metrics.dropped(DropReason::SinkRefused, 1);
                    tracing::warn!(%camera, %id, reason, "no sink took a message");
                }
            }
        }
    }
}

impl Work for Stage {
    fn frame(&mut self, mut frame: Frame, detections: Vec<Detection>) {
        if let Some(told) = self.told_ns {
            frame.info.timestamp_ns = frame.info.timestamp_ns.max(told.saturating_add(1));
        }
        self.told_ns = Some(frame.info.timestamp_ns);
        let moved = self.motion.as_mut().and_then(|m| m.before(&frame, &detections));
        let mut outcome = self.guests.process(&frame, &detections, moved);
        if let Some(motion) = &mut self.motion {
            motion.after(outcome.tracks.is_some());
        }
        let now = self.clock.monotonic_ns();
        self.last_frame = Some((frame.info.timestamp_ns, now));
        let tracks = outcome.tracks.take();
        if let Some(observer) = &mut self.observer {
            observer.frame(&frame.info, &detections, tracks.as_deref(), &outcome.ended);
        }
        if !outcome.events.is_empty() {
            // Whoever hears of it finds it in the status.
            self.publish_status();
        }
        self.hand_over(outcome);
        self.afterwards(Some(&frame));
        self.latest.set(frame, tracks.unwrap_or_default());
        if now.saturating_sub(self.status_at_ns) >= STATUS_EVERY_NS {
            self.publish_status();
        }
    }

    fn tick(&mut self, now_ns: u64) {
        // Media time goes on at the host's pace while no frame comes: guests know one clock only.
        if let Some((media, host)) = self.last_frame {
            let silence = now_ns.saturating_sub(host);
            if silence >= SILENCE_NS {
                let time = media.saturating_add(silence);
                self.told_ns = self.told_ns.max(Some(time));
                let outcome = self.guests.tick(time);
                if !outcome.events.is_empty() {
                    self.publish_status();
                }
                self.hand_over(outcome);
                self.afterwards(None);
            }
        }
        self.publish_status();
    }
}
