//! One rollout as a plain state machine: what comes next, and what each piece of news means.
//!
//! Owns the order of cameras, the count of failures, and when all go back. Must not know threads, time, guests or what a
//! swap is: whoever drives it makes the steps that [`Rollout::next`] asks for and tells what came of them.

mod news;

use facestream_core::CameraId;
use facestream_core::event::Event;
use facestream_core::guest::{RolloutCamera, RolloutState, RolloutStatus, RolloutStep};

pub(crate) use news::{BackEnd, Next, NoStop, SwapEnd, Told};

/// What only the machine needs of a camera.
#[derive(Debug, Default)]
struct Private {
    /// Why no frames come, while none do.
    away: Option<String>,
    on_probation: bool,
}

/// A rollout.
#[derive(Debug)]
pub(crate) struct Rollout {
    status: RolloutStatus,
    private: Vec<Private>,
    /// Whether all is to go back, once an operator has stopped it.
    stop: Option<bool>,
    events: Vec<Event>,
}

const CHANGED_BY_ANOTHER: &str = "somebody else changed its slot";

impl Rollout {
    /// Begins with all cameras pending.
    pub(crate) fn new(status: RolloutStatus) -> Self {
        let private = status.cameras.iter().map(|_| Private::default()).collect();
        let mut rollout = Self { status, private, stop: None, events: Vec::new() };
        rollout.tell_state();
        rollout
    }

    /// One of an earlier run of the host. What that did not come to say how it went is told as not known.
    pub(crate) fn ended(status: RolloutStatus, now_ms: u64) -> Self {
        let mut rollout = Self::new(status);
        rollout.interrupt(now_ms);
        // News of another time.
        rollout.events.clear();
        rollout
    }

    /// Everything about it.
    pub(crate) fn status(&self) -> &RolloutStatus {
        &self.status
    }

    /// What has happened since this was last asked.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Cameras on probation: whether frames come from them matters.
    pub(crate) fn on_probation(&self) -> Vec<CameraId> {
        let cameras = self.status.cameras.iter().zip(&self.private);
        cameras.filter(|(_, p)| p.on_probation).map(|(c, _)| c.camera.clone()).collect()
    }

    /// Says what is to be done, and that it is being done.
    pub(crate) fn next(&mut self, now_ms: u64) -> Next {
        self.apply_stop(now_ms);
        if self.status.state == RolloutState::Running {
            let failures = self.status.failures();
            if failures > self.status.max_failures {
                self.go_back(self.why_it_goes_back(failures));
            }
        }
        match self.status.state {
            RolloutState::Running => self.go_on(now_ms),
            RolloutState::RollingBack => {
                let changed = |c: &RolloutCamera| c.guest_is_in && c.step != RolloutStep::RollbackFailed;
                let Some(at) = self.status.cameras.iter().rposition(changed) else {
                    self.end(RolloutState::RolledBack, now_ms);
                    return Next::End;
                };
                let reason = self.status.cameras[at].reason.take();
                self.set(at, RolloutStep::RollingBack, reason, now_ms);
                Next::RollBack(self.status.cameras[at].camera.clone())
            }
            RolloutState::Done | RolloutState::RolledBack | RolloutState::Stopped => Next::End,
        }
    }

    fn go_on(&mut self, now_ms: u64) -> Next {
        let batch = self.status.batch.max(1);
        for (n, cameras) in self.status.cameras.chunks(batch).enumerate() {
            if let Some(at) = cameras.iter().position(|c| c.step == RolloutStep::Pending) {
                let at = n * batch + at;
                self.status.cameras[at].began_unix_ms = Some(now_ms);
                self.set(at, RolloutStep::Swapping, None, now_ms);
                return Next::Swap(self.status.cameras[at].camera.clone());
            }
            if cameras.iter().any(|c| matches!(c.step, RolloutStep::Swapping | RolloutStep::Probation)) {
                return Next::Wait;
            }
        }
        self.end(RolloutState::Done, now_ms);
        Next::End
    }

    /// Putting the guest in has ended. That it is in was told before ([`Told::PutIn`]).
    pub(crate) fn swapped(&mut self, camera: &CameraId, end: SwapEnd, now_ms: u64) {
        let Some(at) = self.at(camera) else { return };
        let (step, reason) = match end {
            SwapEnd::Changed(old_digest) => {
                self.status.cameras[at].old_digest = Some(old_digest);
                return;
            }
            SwapEnd::NotRemembered(reason) => return self.fail(at, reason, now_ms),
            // Stopped while the guest was loading: that was told, and says more.
            _ if self.status.cameras[at].step != RolloutStep::Swapping => return,
            SwapEnd::Unchanged => (RolloutStep::Done, Some("it ran this guest with these settings already".to_owned())),
            SwapEnd::Skip(reason) => (RolloutStep::Skipped, Some(reason)),
            SwapEnd::Refused(reason) => return self.fail(at, reason, now_ms),
        };
        self.set(at, step, reason, now_ms);
    }

    /// Putting the guest before in again has ended.
    pub(crate) fn taken_back(&mut self, camera: &CameraId, end: BackEnd, now_ms: u64) {
        let Some(at) = self.at(camera) else { return };
        if self.status.cameras[at].step != RolloutStep::RollingBack {
            return;
        }
        let before = self.status.cameras[at].reason.take();
        match end {
            BackEnd::Back(word) => {
                self.out(at);
                self.set(at, RolloutStep::RolledBack, word.or(before), now_ms);
            }
            BackEnd::Skip(reason) => {
                self.out(at);
                self.set(at, RolloutStep::Skipped, Some(reason), now_ms);
            }
            BackEnd::Failed(reason) => self.set(at, RolloutStep::RollbackFailed, Some(reason), now_ms),
        }
    }

    /// There is news of a slot.
    pub(crate) fn told(&mut self, camera: &CameraId, told: Told, now_ms: u64) {
        let Some(at) = self.at(camera) else { return };
        let step = self.status.cameras[at].step;
        match told {
            Told::PutIn { probation } => {
                self.status.cameras[at].guest_is_in = true;
                self.private[at].on_probation = probation;
                match &self.private[at].away {
                    _ if !probation => self.set(at, RolloutStep::Done, None, now_ms),
                    Some(why) => self.set(at, RolloutStep::Skipped, Some(away(why)), now_ms),
                    None => self.set(at, RolloutStep::Probation, None, now_ms),
                }
            }
            Told::Confirmed => {
                self.private[at].on_probation = false;
                if matches!(step, RolloutStep::Probation | RolloutStep::Skipped) {
                    self.set(at, RolloutStep::Done, None, now_ms);
                }
            }
            Told::RolledBack(reason) => {
                self.out(at);
                if step == RolloutStep::RollingBack {
                    self.set(at, RolloutStep::RolledBack, Some(reason), now_ms);
                } else {
                    self.fail(at, reason, now_ms);
                }
            }
            // On probation it gives way to the guest before, which is told next.
            Told::Failed(reason) => {
                if !self.private[at].on_probation && matches!(step, RolloutStep::Done | RolloutStep::Skipped) {
                    self.fail(at, reason, now_ms);
                }
            }
            Told::Superseded => {
                self.out(at);
                match step {
                    RolloutStep::Probation => {
                        self.set(at, RolloutStep::Skipped, Some(CHANGED_BY_ANOTHER.to_owned()), now_ms);
                    }
                    RolloutStep::Done => self.status.cameras[at].reason = Some(format!("{CHANGED_BY_ANOTHER} since")),
                    // Its own way back.
                    _ => {}
                }
            }
        }
    }

    /// Frames come from a camera, or do not, for this reason. One that is away is not waited for: its probation goes on when
    /// it is back.
    pub(crate) fn frames(&mut self, camera: &CameraId, why_not: Option<String>, now_ms: u64) {
        let Some(at) = self.at(camera) else { return };
        let waits = self.private[at].on_probation;
        match (&why_not, self.status.cameras[at].step) {
            (Some(why), RolloutStep::Probation) => self.set(at, RolloutStep::Skipped, Some(away(why)), now_ms),
            (None, RolloutStep::Skipped) if waits => self.set(at, RolloutStep::Probation, None, now_ms),
            _ => {}
        }
        self.private[at].away = why_not;
    }

    /// A camera is there no more.
    pub(crate) fn gone(&mut self, camera: &CameraId, now_ms: u64) {
        let Some(at) = self.at(camera) else { return };
        self.out(at);
        let open = [RolloutStep::Pending, RolloutStep::Swapping, RolloutStep::Probation, RolloutStep::RollingBack];
        if open.contains(&self.status.cameras[at].step) {
            self.set(at, RolloutStep::Skipped, Some("the camera was stopped".to_owned()), now_ms);
        }
    }

    /// An operator wants it to stop, at the latest when the step that is being made has ended.
    pub(crate) fn stop(&mut self, roll_back: bool, who: &str, now_ms: u64) -> Result<(), NoStop> {
        match self.status.state {
            RolloutState::Running => {}
            RolloutState::RollingBack if roll_back => return Ok(()),
            RolloutState::RollingBack => return Err(NoStop::GoesBack),
            over => return Err(NoStop::Over(over)),
        }
        self.stop = Some(roll_back);
        self.status.reason = Some(format!("{who} has stopped it"));
        self.apply_stop(now_ms);
        Ok(())
    }

    /// The host ends.
    pub(crate) fn interrupt(&mut self, now_ms: u64) {
        if self.status.state.is_over() {
            return;
        }
        for at in 0..self.status.cameras.len() {
            let (step, reason) = match self.status.cameras[at].step {
                RolloutStep::Swapping => (RolloutStep::Skipped, "the host ended while the guest was being put in"),
                RolloutStep::Probation => {
                    (RolloutStep::Skipped, "the host ended within its probation; it keeps the guest")
                }
                RolloutStep::RollingBack => (RolloutStep::RollbackFailed, "the host ended before it had gone back"),
                _ => continue,
            };
            self.set(at, step, Some(reason.to_owned()), now_ms);
        }
        self.status.reason = Some("the host was stopped; cameras keep what they have".to_owned());
        self.end(RolloutState::Stopped, now_ms);
    }

    fn apply_stop(&mut self, now_ms: u64) {
        // The step that is being made is waited for: what it changes must be known.
        if self.status.at(RolloutStep::Swapping) > 0 {
            return;
        }
        match self.stop.take() {
            Some(true) => self.go_back(self.status.reason.clone().unwrap_or_default()),
            Some(false) => self.end(RolloutState::Stopped, now_ms),
            None => {}
        }
    }

    fn why_it_goes_back(&self, failures: usize) -> String {
        let last = self.status.cameras.iter().rev().find(|c| c.failed);
        let why =
            last.and_then(|c| Some(format!(" (camera {}: {})", c.camera, c.reason.as_ref()?))).unwrap_or_default();
        format!("{failures} failed, {} may{why}", self.status.max_failures)
    }

    fn go_back(&mut self, reason: String) {
        self.status.state = RolloutState::RollingBack;
        self.status.reason = Some(reason);
        self.tell_state();
    }

    fn end(&mut self, state: RolloutState, now_ms: u64) {
        for at in 0..self.status.cameras.len() {
            if self.status.cameras[at].step == RolloutStep::Pending {
                self.set(at, RolloutStep::Skipped, Some("the rollout ended before its turn".to_owned()), now_ms);
            }
        }
        self.status.state = state;
        self.status.ended_unix_ms = Some(now_ms);
        self.tell_state();
    }

    /// Where a camera is, while the rollout goes on.
    fn at(&self, camera: &CameraId) -> Option<usize> {
        let at = || self.status.cameras.iter().position(|c| c.camera == *camera);
        if self.status.state.is_over() { None } else { at() }
    }

    fn out(&mut self, at: usize) {
        self.status.cameras[at].guest_is_in = false;
        self.private[at].on_probation = false;
    }

    fn fail(&mut self, at: usize, reason: String, now_ms: u64) {
        self.status.cameras[at].failed = true;
        self.set(at, RolloutStep::Failed, Some(reason), now_ms);
    }

    fn set(&mut self, at: usize, step: RolloutStep, reason: Option<String>, now_ms: u64) {
        let camera = &mut self.status.cameras[at];
        (camera.step, camera.reason, camera.changed_unix_ms) = (step, reason.clone(), Some(now_ms));
        let camera = camera.camera.clone();
        let (rollout, slot) = (self.status.id, self.status.slot);
        self.events.push(Event::RolloutCamera { camera, rollout, slot, step, reason });
    }

    fn tell_state(&mut self) {
        let RolloutStatus { id, slot, state, .. } = self.status;
        let (guest, reason) = (self.status.guest.clone(), self.status.reason.clone());
        self.events.push(Event::Rollout { rollout: id, slot, guest, state, reason });
    }
}

fn away(why: &str) -> String {
    format!("not waited for: {why}; its probation goes on when frames come")
}

#[cfg(test)]
pub(crate) mod tests;
