//! What a lane does with a frame: the three guests, then the outlets.
//!
//! Owns the hand-over from guests to sinks, the latest picture and the slots' status. Must not decide what guests do
//! when one fails: `facestream-guest-host` does.

use std::sync::{Arc, Mutex, PoisonError};

use facestream_core::guest::SlotStatus;
use facestream_core::metrics::Counter;
use facestream_core::{
    CameraMetrics, Clock, Detection, DropReason, Frame, FrameInfo, Message, Shot, TrackUpdate,
};
use facestream_guest_host::{CameraGuests, Outcome};

use crate::lane::Work;
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
    /// An analysed frame, its detections and the tracks after it. `update` is `None` when the tracker failed on it.
    fn frame(&mut self, info: &FrameInfo, detections: &[Detection], update: Option<&TrackUpdate>);
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

/// One camera's guests and what they feed.
pub struct Stage {
    /// The three slots.
    pub guests: CameraGuests,
    outlet: Arc<dyn Outlet>,
    observer: Option<Box<dyn Observer>>,
    latest: Arc<Latest>,
    slots: Arc<Mutex<Vec<SlotStatus>>>,
    metrics: Arc<CameraMetrics>,
    clock: Arc<dyn Clock>,
    /// Media time of the latest frame and the host's time when it came.
    last_frame: Option<(u64, u64)>,
    status_at_ns: u64,
}

impl Stage {
    /// Puts the parts together.
    pub fn new(
        guests: CameraGuests,
        outlet: Arc<dyn Outlet>,
        observer: Option<Box<dyn Observer>>,
        metrics: Arc<CameraMetrics>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let slots = Arc::new(Mutex::new(guests.statuses()));
        let latest = Arc::default();
        Self { guests, outlet, observer, latest, slots, metrics, clock, last_frame: None, status_at_ns: 0 }
    }

    /// The latest picture, shared with whoever shows it.
    #[must_use]
    pub fn latest(&self) -> Arc<Latest> {
        Arc::clone(&self.latest)
    }

    /// The slots' status, at most [`STATUS_EVERY_NS`] old while frames come.
    #[must_use]
    pub fn slots(&self) -> Arc<Mutex<Vec<SlotStatus>>> {
        Arc::clone(&self.slots)
    }

    /// Copies the slots' status out now.
    pub fn publish_status(&mut self) {
        *self.slots.lock().unwrap_or_else(PoisonError::into_inner) = self.guests.statuses();
        self.status_at_ns = self.clock.monotonic_ns();
    }

    /// The camera stops: everything that guests hold is given up and handed over.
    pub fn finish(&mut self) {
        let outcome = self.guests.flush();
        self.hand_over(&outcome.shots, outcome.messages);
        self.publish_status();
    }

    fn hand_over(&mut self, shots: &[Shot], messages: Vec<Message>) {
        self.metrics.add(Counter::Shots, shots.len() as u64);
        if let Some(observer) = &mut self.observer {
            shots.iter().for_each(|shot| observer.shot(shot));
            messages.iter().for_each(|message| observer.message(message));
        }
        for message in messages {
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
    fn frame(&mut self, frame: Frame, detections: Vec<Detection>) {
        self.metrics.add(Counter::Analysed, 1);
        self.metrics.add(Counter::Detections, detections.len() as u64);
        let Outcome { update, shots, messages, .. } = self.guests.process(&frame, &detections);
        let now = self.clock.monotonic_ns();
        self.last_frame = Some((frame.info.timestamp_ns, now));
        if let Some(observer) = &mut self.observer {
            observer.frame(&frame.info, &detections, update.as_ref());
        }
        self.hand_over(&shots, messages);
        if let Some(update) = &update {
            self.metrics.add(Counter::TracksEnded, update.ended.len() as u64);
        }
        self.latest.set(frame, update.map(|u| u.tracks).unwrap_or_default());
        if now.saturating_sub(self.status_at_ns) >= STATUS_EVERY_NS {
            self.publish_status();
        }
    }

    fn tick(&mut self, now_ns: u64) {
        // Media time goes on at the host's pace while no frame comes: guests know one clock only.
        if let Some((media, host)) = self.last_frame {
            let silence = now_ns.saturating_sub(host);
            if silence >= SILENCE_NS {
                let outcome = self.guests.tick(media.saturating_add(silence));
                self.hand_over(&outcome.shots, outcome.messages);
            }
        }
        self.publish_status();
    }
}
