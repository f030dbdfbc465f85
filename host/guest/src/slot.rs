//! One slot of a camera: the component that fills it, its instance, its failures and restarts.
//!
//! Owns when an instance is made, given up and made again, who fills the slot while a guest fails again and again, and
//! the numbers of its status. Every call of a frame's path goes through [`Slot::call`]. Must not know what the guests of
//! different slots do: `slots` does.

mod backoff;
mod guest;
mod probation;
mod standing;
mod status;

use facestream_core::event::Event;
use facestream_core::guest::SlotKind;
use facestream_core::{CameraId, FrameInfo};

use crate::config::GuestConfig;
use crate::error::{GuestFailure, one_line};
use crate::record::Recording;
use backoff::{Backoff, Breaker};
use status::Totals;

pub(crate) use guest::{Filling, Guest};
pub(crate) use probation::{Entry, Probation, RolledBack};
pub(crate) use standing::Standing;

/// Refusals of one question in a row after which a guest counts as failed: it answers, but never with a result.
const MAX_REFUSALS: u32 = 5;

/// What a guest is asked on a frame's path. Refusals are counted for each: one that refuses every frame and answers every
/// tick is broken all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// A frame with what was found on it.
    Frame,
    /// A shot to be written.
    Shot,
    /// The end of a track to be written.
    Ending,
    /// That time passes.
    Tick,
    /// What it holds, at the end.
    Flush,
    /// Its state.
    Save,
}

/// Refusals in a row of each question.
type Refusals = [u32; Question::Save as usize + 1];

/// One slot.
#[derive(Debug)]
pub(crate) struct Slot<G> {
    kind: SlotKind,
    camera: CameraId,
    /// What runs, or is about to be made again.
    pub(crate) filling: Filling,
    guest: Option<G>,
    standing: Standing,
    probation: Option<Probation<G>>,
    backoff: Backoff,
    breaker: Breaker,
    recycle_percent: u32,
    /// Memory above which the instance is made anew.
    recycle_above: u64,
    refusals: Refusals,
    totals: Totals,
    last_error: Option<String>,
    /// The latest time on the frame clock that the slot heard of.
    now_ns: u64,
    /// Frame clock of the first failure since a call last went well: restarts alone do not count as being back.
    down_since_ns: Option<u64>,
    /// The last seconds of the latest instance that failed, until somebody fetches them.
    pub(crate) black_box: Option<Recording>,
}

impl<G: Guest> Slot<G> {
    pub(crate) fn new(kind: SlotKind, camera: &CameraId, filling: Filling, guest: G, config: &GuestConfig) -> Self {
        let mut slot = Self {
            kind,
            camera: camera.clone(),
            filling,
            guest: None,
            standing: Standing::Wanted,
            probation: None,
            backoff: Backoff::new(&config.restart),
            breaker: Breaker::new(&config.breaker),
            recycle_percent: config.recycle_above_percent,
            recycle_above: u64::MAX,
            refusals: Refusals::default(),
            totals: Totals::default(),
            last_error: None,
            now_ns: 0,
            down_since_ns: None,
            black_box: None,
        };
        slot.place(guest);
        slot
    }

    /// The instance, if it runs.
    pub(crate) fn running(&mut self) -> Option<&mut G> {
        self.guest.as_mut()
    }

    /// How long no call has gone well since a failure, nanoseconds; `None` when all is well.
    pub(crate) fn down_for_ns(&self, now_ns: u64) -> Option<u64> {
        self.down_since_ns.map(|since| now_ns.saturating_sub(since))
    }

    /// The instance, made again if it is away and its time has come. `revive` gives a fresh one its state back; when it
    /// fails, a second fresh instance starts from nothing: state may be what the guest fails on.
    pub(crate) fn ensure(
        &mut self,
        now: &FrameInfo,
        events: &mut Vec<Event>,
        revive: impl FnOnce(&mut G) -> Result<(), GuestFailure>,
    ) -> Option<&mut G> {
        let now_ns = now.timestamp_ns;
        self.now_ns = self.now_ns.max(now_ns);
        if self.guest.is_none() {
            if matches!(self.standing, Standing::Dropped) || !self.backoff.is_due(now_ns) {
                return None;
            }
            let start = || {
                let mut guest = self.filling.start::<G>(&self.camera)?;
                guest.sandbox_mut().set_time(now);
                Ok(guest)
            };
            let started = start().and_then(|mut guest| match revive(&mut guest) {
                Ok(()) => Ok(guest),
                Err(failure) => {
                    tracing::warn!(camera = %self.camera, slot = %self.kind, guest = %self.filling.reference, %failure, "the restarted guest did not take its saved state; it starts without");
                    drop(guest);
                    start()
                }
            });
            match started {
                Ok(guest) => {
                    self.place(guest);
                    self.refusals = Refusals::default();
                    self.totals.restarts += 1;
                    tracing::info!(camera = %self.camera, slot = %self.kind, guest = %self.filling.reference, "guest restarted");
                    events.push(Event::GuestRestarted {
                        camera: self.camera.clone(),
                        slot: self.kind,
                        guest: self.filling.reference.clone(),
                    });
                }
                Err(failure) => self.failed(&failure, now_ns, events),
            }
        }
        self.guest.as_mut()
    }

    /// Calls the instance on a frame's path and takes its answer; nothing when it is away or fails. The one place where
    /// that happens.
    pub(crate) fn call<T>(
        &mut self,
        question: Question,
        now_ns: u64,
        events: &mut Vec<Event>,
        call: impl FnOnce(&mut G) -> Result<T, GuestFailure>,
    ) -> Option<T> {
        let answer = call(self.guest.as_mut()?);
        self.settle(question, answer, now_ns, events)
    }

    /// Takes the answer of a call: a failure is counted and, unless it was a refusal that may pass, ends the instance.
    fn settle<T>(
        &mut self,
        question: Question,
        answer: Result<T, GuestFailure>,
        now_ns: u64,
        events: &mut Vec<Event>,
    ) -> Option<T> {
        let refusals = &mut self.refusals[question as usize];
        match answer {
            Ok(value) => {
                *refusals = 0;
                self.down_since_ns = None;
                Some(value)
            }
            Err(failure @ GuestFailure::Refused(_)) if *refusals + 1 < MAX_REFUSALS => {
                *refusals += 1;
                self.totals.failed(&failure);
                tracing::warn!(camera = %self.camera, slot = %self.kind, guest = %self.filling.reference, %failure, "guest refused a call");
                self.last_error = Some(one_line(&failure.to_string(), 1024));
                None
            }
            Err(failure) => {
                self.failed(&failure, now_ns, events);
                None
            }
        }
    }

    /// Ends the instance because of a failure. What comes next: on probation the guest before it (see
    /// [`Self::roll_back`]); else a fresh instance after a while, unless this failure was one too many.
    pub(crate) fn failed(&mut self, failure: &GuestFailure, now_ns: u64, events: &mut Vec<Event>) {
        self.now_ns = self.now_ns.max(now_ns);
        if let Some(recording) = self.retire().and_then(|guest| guest.sandbox().failed_recording(failure)) {
            self.black_box = Some(recording);
        }
        self.totals.failed(failure);
        self.down_since_ns.get_or_insert(now_ns);
        let reason = failure.to_string();
        tracing::warn!(
            camera = %self.camera, slot = %self.kind, guest = %self.filling.reference, kind = failure.kind(), failures = self.totals.failures,
            "guest failed: {reason}"
        );
        let reason = one_line(&reason, 1024);
        self.last_error = Some(reason.clone());
        events.push(Event::GuestFailed {
            camera: self.camera.clone(),
            slot: self.kind,
            guest: self.filling.reference.clone(),
            reason: reason.clone(),
        });
        if let Some(probation) = &mut self.probation {
            probation.failure = Some(reason);
            return;
        }
        self.backoff.failed(now_ns);
        if matches!(self.standing, Standing::Wanted) && self.breaker.failed(now_ns) {
            self.degrade(reason, events);
        }
    }

    /// Takes the instance out, its numbers into the totals.
    pub(crate) fn retire(&mut self) -> Option<G> {
        let mut guest = self.guest.take()?;
        self.totals.add(&std::mem::take(&mut guest.sandbox_mut().stats));
        self.totals.busiest(guest.sandbox().busiest_second());
        Some(guest)
    }

    fn place(&mut self, guest: G) {
        let (memory, limit) = (guest.sandbox().memory_bytes(), guest.sandbox().limits().max_memory_bytes);
        self.recycle_above = match self.recycle_percent {
            0 => u64::MAX,
            // A guest that needs much from the start is not made anew at every frame: half of what is left is room to grow.
            percent => (limit / 100 * u64::from(percent)).max(memory + limit.saturating_sub(memory) / 2),
        };
        self.guest = Some(guest);
    }

    /// Failures of another guest are not this one's.
    fn start_over(&mut self) {
        self.backoff.reset();
        self.breaker.reset();
        self.refusals = Refusals::default();
        self.last_error = None;
        self.down_since_ns = None;
    }

    /// The same guest goes on in a fresh instance.
    pub(crate) fn recycled(&mut self, mut guest: G) {
        if let Some(old) = self.retire() {
            guest.sandbox_mut().inherit_budgets(old.sandbox());
        }
        self.place(guest);
        self.totals.recycles += 1;
    }

    /// Whether the instance has grown so much that it is to be made anew.
    pub(crate) fn wants_recycling(&self) -> bool {
        self.probation.is_none() && self.guest.as_ref().is_some_and(|g| g.sandbox().memory_bytes() > self.recycle_above)
    }

    /// It cannot be made anew without losing its state: not tried again.
    pub(crate) fn recycle_no_more(&mut self) {
        self.recycle_above = u64::MAX;
    }

    /// The running guest has taken new settings.
    pub(crate) fn reconfigured(&mut self, config: serde_json::Value) {
        self.filling.config = config;
        self.totals.swaps.reconfigured += 1;
    }

    /// Gives the instance up without a failure: a fresh one is made when it is next needed.
    pub(crate) fn discard(&mut self) {
        drop(self.retire());
    }

    /// Sets the guest's clocks.
    pub(crate) fn set_time(&mut self, frame: &FrameInfo) {
        if let Some(guest) = &mut self.guest {
            guest.sandbox_mut().set_time(frame);
        }
    }
}
