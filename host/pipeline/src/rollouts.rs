//! The rollouts: those under way, and the latest that have ended, of earlier runs of the host too.
//!
//! Owns their numbers, their bounds, who is told and when their driver wakes. Must not make a step itself: the supervisor
//! does. News comes on guest threads and never waits for more than a moment.
//!
//! Bounds: one rollout a slot is under way; [`KEPT`] are kept in all, of which the oldest that has ended is forgotten first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use facestream_core::event::Event;
use facestream_core::guest::{RolloutState, RolloutStatus, RolloutStep, SlotKind};
use facestream_core::{CameraId, Clock};
use tokio::sync::{Notify, broadcast};

use crate::rollout::{Rollout, Told};

/// Rollouts that are remembered.
const KEPT: usize = crate::wanted::ROLLOUTS;

struct Kept {
    rollout: Rollout,
    /// There is news.
    news: Arc<Notify>,
}

#[derive(Default)]
struct Inner {
    /// The oldest first.
    kept: VecDeque<Kept>,
    latest_id: u64,
    ended: BTreeMap<RolloutState, u64>,
}

/// All rollouts.
pub(crate) struct Rollouts {
    inner: Mutex<Inner>,
    clock: Arc<dyn Clock>,
    events: broadcast::Sender<Event>,
}

impl Rollouts {
    pub(crate) fn new(clock: Arc<dyn Clock>, events: broadcast::Sender<Event>) -> Self {
        Self { inner: Mutex::default(), clock, events }
    }

    /// Those of earlier runs of the host, the oldest first. One that was under way when the host ended is over: nobody knows
    /// whether it was the reason. Gives those, as they are now, to be written down.
    pub(crate) fn restore(&self, earlier: Vec<RolloutStatus>) -> Vec<RolloutStatus> {
        let now = self.now_ms();
        let mut inner = self.lock();
        let mut interrupted = Vec::new();
        for status in earlier {
            let was_over = status.state.is_over();
            inner.latest_id = inner.latest_id.max(status.id);
            let rollout = Rollout::ended(status, now);
            if !was_over {
                interrupted.push(rollout.status().clone());
            }
            inner.kept.push_back(Kept { rollout, news: Arc::default() });
        }
        interrupted
    }

    /// Begins one; its number is set here. Gives what wakes its driver.
    ///
    /// # Errors
    /// The number of the one that is under way for the slot.
    pub(crate) fn begin(&self, status: RolloutStatus) -> Result<(RolloutStatus, Arc<Notify>), u64> {
        let now = self.now_ms();
        let mut inner = self.lock();
        let over = |k: &Kept| k.rollout.status().state.is_over();
        if let Some(other) = inner.kept.iter().find(|k| !over(k) && k.rollout.status().slot == status.slot) {
            return Err(other.rollout.status().id);
        }
        while inner.kept.len() >= KEPT {
            // Those under way are at most one a slot.
            let Some(oldest) = inner.kept.iter().position(over) else { break };
            inner.kept.remove(oldest);
        }
        // The time, so that a history from before a restart does not name another rollout.
        inner.latest_id = now.max(inner.latest_id + 1);
        let status = RolloutStatus { id: inner.latest_id, began_unix_ms: now, ..status };
        let (mut rollout, news) = (Rollout::new(status.clone()), Arc::new(Notify::new()));
        let events = rollout.take_events();
        inner.kept.push_back(Kept { rollout, news: Arc::clone(&news) });
        drop(inner);
        self.send(events);
        Ok((status, news))
    }

    /// Brings news, and wakes the driver. `None` when there is none of that number.
    pub(crate) fn news<T>(&self, id: u64, change: impl FnOnce(&mut Rollout, u64) -> T) -> Option<T> {
        let answer = self.with(id, change)?;
        let news = self.lock().kept.iter().find(|k| k.rollout.status().id == id).map(|k| Arc::clone(&k.news));
        if let Some(news) = news {
            news.notify_one();
        }
        Some(answer)
    }

    /// The same for the driver itself, which is awake.
    pub(crate) fn with<T>(&self, id: u64, change: impl FnOnce(&mut Rollout, u64) -> T) -> Option<T> {
        let now = self.now_ms();
        let mut inner = self.lock();
        let Inner { kept, ended, .. } = &mut *inner;
        let kept = kept.iter_mut().find(|k| k.rollout.status().id == id)?;
        let was_over = kept.rollout.status().state.is_over();
        let answer = change(&mut kept.rollout, now);
        let state = kept.rollout.status().state;
        if state.is_over() && !was_over {
            *ended.entry(state).or_default() += 1;
        }
        let events = kept.rollout.take_events();
        drop(inner);
        self.send(events);
        Some(answer)
    }

    /// News of a slot that a rollout has changed.
    pub(crate) fn told(&self, id: u64, camera: &CameraId, told: Told) {
        // One that was forgotten has ended.
        self.news(id, |rollout, now| rollout.told(camera, told, now));
    }

    /// A camera is there no more.
    pub(crate) fn gone(&self, camera: &CameraId) {
        for status in self.all().into_iter().filter(|s| !s.state.is_over()) {
            self.news(status.id, |rollout, now| rollout.gone(camera, now));
        }
    }

    /// One.
    pub(crate) fn status(&self, id: u64) -> Option<RolloutStatus> {
        let inner = self.lock();
        inner.kept.iter().map(|k| k.rollout.status()).find(|s| s.id == id).cloned()
    }

    /// All that are kept, the newest first.
    pub(crate) fn all(&self) -> Vec<RolloutStatus> {
        self.lock().kept.iter().rev().map(|k| k.rollout.status().clone()).collect()
    }

    /// The rollout under way that puts this component in, or may have to put it in again.
    pub(crate) fn user_of(&self, digest: &str) -> Option<u64> {
        let uses = |s: &RolloutStatus| {
            s.digest == digest || s.cameras.iter().any(|c| c.guest_is_in && c.old_digest.as_deref() == Some(digest))
        };
        let inner = self.lock();
        inner.kept.iter().map(|k| k.rollout.status()).find(|s| !s.state.is_over() && uses(s)).map(|s| s.id)
    }

    /// How many have ended how, since the host began.
    pub(crate) fn ended(&self) -> BTreeMap<RolloutState, u64> {
        let mut ended: BTreeMap<_, _> =
            RolloutState::ALL.iter().filter(|s| s.is_over()).map(|&state| (state, 0)).collect();
        ended.extend(self.lock().ended.iter());
        ended
    }

    /// How many cameras are at which step of the rollouts under way.
    pub(crate) fn under_way(&self) -> BTreeMap<(SlotKind, RolloutStep), usize> {
        let inner = self.lock();
        let under_way = inner.kept.iter().map(|k| k.rollout.status()).filter(|s| !s.state.is_over());
        under_way.flat_map(|s| RolloutStep::ALL.iter().map(|&step| ((s.slot, step), s.at(step)))).collect()
    }

    fn now_ms(&self) -> u64 {
        self.clock.wall_ns() / 1_000_000
    }

    fn send(&self, events: Vec<Event>) {
        for event in events {
            // No listener is no error.
            drop(self.events.send(event));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held; should it, the machines are still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use facestream_core::SimulatedClock;

    use super::*;
    use crate::rollout::{Next, SwapEnd};

    fn wanted(slot: SlotKind) -> RolloutStatus {
        crate::rollout::tests::status(slot, &["a"])
    }

    fn rollouts() -> (Rollouts, broadcast::Receiver<Event>) {
        let (events, heard) = broadcast::channel(64);
        (Rollouts::new(Arc::new(SimulatedClock::at(0)), events), heard)
    }

    #[test]
    fn one_a_slot_is_under_way_and_only_so_many_are_kept() {
        let (rollouts, mut heard) = rollouts();
        let (first, _) = rollouts.begin(wanted(SlotKind::Tracker)).unwrap();
        assert_eq!(rollouts.begin(wanted(SlotKind::Tracker)).unwrap_err(), first.id);
        let (other, _) = rollouts.begin(wanted(SlotKind::Scorer)).unwrap();
        assert!(other.id > first.id);
        for _ in 0..KEPT * 2 {
            let (status, _) = rollouts.begin(wanted(SlotKind::Formatter)).unwrap();
            rollouts.with(status.id, |r, now| r.stop(false, "ops", now)).unwrap().unwrap();
            while heard.try_recv().is_ok() {}
        }
        let kept = rollouts.all();
        assert_eq!(kept.len(), KEPT);
        assert_eq!(rollouts.ended()[&RolloutState::Stopped], 2 * KEPT as u64);
        assert_eq!((kept[KEPT - 1].id, kept[KEPT - 2].id), (first.id, other.id), "those under way are not forgotten");
        assert!(kept.windows(2).all(|two| two[0].id > two[1].id), "the newest first, each its own number");
        rollouts.told(3, &first.cameras[0].camera, Told::Confirmed);
    }

    #[test]
    fn rollouts_of_an_earlier_run_are_kept_and_those_under_way_then_are_over() {
        let (rollouts, mut heard) = rollouts();
        let earlier = |id: u64, step: RolloutStep| {
            let mut status = RolloutStatus { id, ..wanted(SlotKind::Tracker) };
            status.cameras[0].step = step;
            status
        };
        let interrupted = rollouts.restore(vec![
            RolloutStatus { state: RolloutState::Done, ..earlier(5, RolloutStep::Done) },
            earlier(1_000, RolloutStep::Probation),
        ]);
        assert_eq!(interrupted, [rollouts.status(1_000).unwrap()], "to be written down");
        assert!(heard.try_recv().is_err(), "no news");
        let all = rollouts.all();
        assert_eq!(
            (all[0].id, all[0].state, all[0].cameras[0].step),
            (1_000, RolloutState::Stopped, RolloutStep::Skipped)
        );
        assert!(all[0].cameras[0].reason.as_ref().unwrap().contains("it keeps the guest"), "{all:?}");
        assert!(all[0].reason.as_ref().unwrap().contains("the host was stopped"), "{all:?}");
        assert_eq!((all[1].state, all[1].ended_unix_ms), (RolloutState::Done, None), "what had ended is as it was");
        let (next, _) = rollouts.begin(wanted(SlotKind::Tracker)).unwrap();
        assert!(next.id > 1_000, "no number twice");
    }

    #[test]
    fn news_wakes_the_driver_and_goes_to_whoever_listens() {
        let (rollouts, mut heard) = rollouts();
        let (status, news) = rollouts.begin(wanted(SlotKind::Tracker)).unwrap();
        let camera = &status.cameras[0].camera;
        assert_eq!(rollouts.with(status.id, |r, now| r.next(now)), Some(Next::Swap(camera.clone())));
        rollouts.told(status.id, camera, Told::PutIn { probation: true });
        assert_eq!(rollouts.under_way()[&(SlotKind::Tracker, RolloutStep::Probation)], 1);
        rollouts.with(status.id, |r, now| r.swapped(camera, SwapEnd::Changed("sha256:old".to_owned()), now));
        assert_eq!(rollouts.user_of("sha256:new"), Some(status.id));
        assert_eq!(rollouts.user_of("sha256:old"), Some(status.id), "it may have to come back");
        rollouts.gone(camera);
        assert!(rollouts.user_of("sha256:old").is_none());
        assert_eq!(rollouts.with(status.id, |r, now| r.next(now)), Some(Next::End));
        assert!(rollouts.user_of("sha256:new").is_none() && rollouts.under_way().is_empty());
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(news.notified());
        let events: Vec<_> =
            std::iter::from_fn(|| heard.try_recv().ok()).map(|e| serde_json::to_value(e).unwrap()).collect();
        let told: Vec<_> = events.iter().map(|e| e["state"].as_str().unwrap()).collect();
        assert_eq!(told, ["running", "swapping", "probation", "skipped", "done"]);
        assert_eq!((events[1]["event"].as_str(), events[1]["camera"].as_str()), (Some("rollout-camera"), Some("a")));
    }
}
