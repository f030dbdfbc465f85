//! Wanted cameras that do not run: their turn has not come after the start of the host, or they could not be started.
//!
//! Owns them until they run or are stopped: they are shown with the reason, and tried again, less and less often. Must not
//! decide what is wanted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use facestream_core::{CameraId, CameraSpec, CameraState, CameraStatus, WorkerId};

use super::{StartError, Supervisor, SwapFailure, difference};
use crate::book::SlotBook;
use crate::camera::RunningCamera;

/// Nanoseconds to the first try; doubled after each.
const FIRST_TRY_NS: u64 = 10_000_000_000;

/// The longest time between two tries.
const RARELY_NS: u64 = 300_000_000_000;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Absent(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    cameras: BTreeMap<CameraId, Entry>,
    /// One at a time: loading takes the processor that running cameras need.
    trying: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    worker: WorkerId,
    spec: CameraSpec,
    reason: String,
    /// 0: its turn has not come.
    tries: u32,
    next_ns: u64,
}

impl Absent {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its turn comes.
    pub(super) fn waits(&self, worker: WorkerId, spec: &CameraSpec) {
        let reason = "its turn has not come".to_owned();
        let entry = Entry { worker, spec: spec.clone(), reason, tries: 0, next_ns: 0 };
        self.inner().cameras.insert(spec.id.clone(), entry);
    }

    /// It could not be started, or not again.
    pub(super) fn failed(&self, worker: WorkerId, spec: CameraSpec, reason: String, now_ns: u64) {
        let mut inner = self.inner();
        let tries = inner.cameras.get(&spec.id).map_or(1, |entry| entry.tries + 1);
        let wait = (FIRST_TRY_NS << (tries - 1).min(5)).min(RARELY_NS);
        let next_ns = now_ns.saturating_add(wait);
        inner.cameras.insert(spec.id.clone(), Entry { worker, spec, reason, tries, next_ns });
    }

    /// It runs, or is not wanted any more.
    pub(super) fn forget(&self, id: &CameraId) -> bool {
        self.inner().cameras.remove(id).is_some()
    }

    /// Worker and settings of one.
    pub(super) fn get(&self, id: &CameraId) -> Option<(WorkerId, CameraSpec)> {
        self.inner().cameras.get(id).map(|entry| (entry.worker, entry.spec.clone()))
    }

    pub(super) fn by_worker(&self, worker: WorkerId) -> Option<CameraId> {
        self.inner().cameras.values().find(|entry| entry.worker == worker).map(|entry| entry.spec.id.clone())
    }

    /// One whose next try is due, unless another one is being tried; a [`Trying`] has to be dropped after.
    fn due(&self, now_ns: u64) -> Option<CameraId> {
        let mut inner = self.inner();
        if inner.trying {
            return None;
        }
        // Who waits longest: those that fail slowly must not keep others from their turn.
        let due = inner.cameras.values().filter(|e| e.next_ns <= now_ns).min_by_key(|e| e.next_ns)?.spec.id.clone();
        inner.trying = true;
        Some(due)
    }

    /// As they are shown. `model`: the name that stands for none; times as nanoseconds on the monotonic and the wall clock.
    pub(super) fn statuses(&self, model: impl Fn(Option<&str>) -> String, now: (u64, u64)) -> Vec<CameraStatus> {
        let status = |entry: &Entry| CameraStatus {
            camera_id: entry.spec.id.clone(),
            worker_id: entry.worker,
            state: CameraState::WaitingToRetry {
                reason: format!("it was not started with the host yet: {}", entry.reason),
                attempt: entry.tries,
                next_try_unix_ms: now.1.saturating_add(entry.next_ns.saturating_sub(now.0)) / 1_000_000,
            },
            url: entry.spec.url.to_string(),
            fps: 0.0,
            analysed_fps: 0.0,
            model: model(entry.spec.model.as_deref()),
            decoder: None,
            gpu: None,
            codec: None,
            size: None,
            counters: BTreeMap::new(),
            drops: BTreeMap::new(),
            slots: Vec::new(),
        };
        self.inner().cameras.values().map(status).collect()
    }
}

/// One is being tried, for as long as this lives.
struct Trying<'a>(&'a Absent);

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        self.0.inner().trying = false;
    }
}

impl Supervisor {
    /// A camera that runs.
    ///
    /// # Errors
    /// That there is none, or that it does not run yet.
    pub(super) fn running(&self, id: &CameraId) -> Result<Arc<RunningCamera>, SwapFailure> {
        self.camera(id).ok_or_else(|| match self.absent.inner().cameras.get(id) {
            Some(entry) => SwapFailure::Later(format!(
                "camera {id} was not started with the host yet ({}); it is tried again, or stop it",
                entry.reason
            )),
            None => SwapFailure::UnknownCamera(id.clone()),
        })
    }

    /// Starts a wanted camera; where that fails it is kept for another try.
    pub(super) fn bring_back(&self, worker: WorkerId, spec: CameraSpec) -> Result<(), StartError> {
        let id = spec.id.clone();
        // A GPU that is gone since must not keep its cameras away.
        let seat = self.parts.gpus.take(spec.gpu).or_else(|| self.parts.gpus.take(None));
        if seat.is_none()
            && let Some(lost) = self.parts.gpus.lost().first()
        {
            tracing::error!(camera = %id, error = %lost, "the processor does a camera's work");
        }
        match self.launch(worker, spec.clone(), seat) {
            Ok(camera) => {
                self.write().insert(id.clone(), camera);
                self.absent.forget(&id);
                Ok(())
            }
            Err(error) => {
                tracing::error!(camera = %id, %error, "a wanted camera could not be started; it is tried again");
                self.absent.failed(worker, spec, error.to_string(), self.parts.shared.clock.monotonic_ns());
                Err(error)
            }
        }
    }

    /// A start that asks for a wanted camera which is absent: tried at once, as the worker that it was. `None` when it is
    /// not absent. To be called by whoever changes that camera.
    pub(super) fn start_absent(&self, asked: &CameraSpec) -> Option<Result<WorkerId, StartError>> {
        let (worker, wanted) = self.absent.get(&asked.id)?;
        if !SlotBook::new(wanted.clone(), self.records(&asked.id)).is_asked_for_by(asked) {
            let difference = difference(&wanted, asked);
            return Some(Err(StartError::Conflict { camera: asked.id.clone(), difference }));
        }
        Some(self.bring_back(worker, wanted).map(|()| worker))
    }

    /// Tries one absent camera whose time has come, on a thread where that may take long.
    pub(super) fn try_absent(self: &Arc<Self>, now_ns: u64) {
        if !self.restored() {
            return;
        }
        let Some(id) = self.absent.due(now_ns) else { return };
        let supervisor = Arc::clone(self);
        self.parts.runtime.spawn_blocking(move || {
            let _trying = Trying(&supervisor.absent);
            // Who is being started or stopped by somebody else waits for the next second.
            if let Some(_changing) = supervisor.changes.begin(&id)
                && !supervisor.ticker.is_cancelled()
                && let Some((worker, spec)) = supervisor.absent.get(&id)
            {
                // The failure is kept and told in its status.
                drop(supervisor.bring_back(worker, spec));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use facestream_core::SourceUrl;

    use super::*;

    fn spec(id: &str) -> CameraSpec {
        CameraSpec::new(CameraId::new(id).unwrap(), SourceUrl::parse("rtsp://u:secret@cam/").unwrap())
    }

    #[test]
    fn they_are_tried_one_at_a_time_and_less_and_less_often() {
        let absent = Absent::default();
        let second = 1_000_000_000;
        absent.failed(7, spec("a"), "no such guest".to_owned(), 0);
        absent.failed(8, spec("b"), "no such guest".to_owned(), 0);
        assert_eq!(absent.due(10 * second - 1), None);
        let a = absent.due(10 * second).unwrap();
        assert_eq!((a.as_str(), absent.due(10 * second)), ("a", None), "one at a time");
        absent.failed(7, spec("a"), "no such guest".to_owned(), 10 * second);
        drop(Trying(&absent));
        assert!(absent.forget(&spec("b").id) && !absent.forget(&spec("b").id));
        assert_eq!(absent.due(30 * second - 1), None);
        assert!(absent.due(30 * second).is_some());
        drop(Trying(&absent));
        for tries in 3..80 {
            absent.failed(7, spec("a"), "no such guest".to_owned(), 0);
            let wait = [40, 80, 160].get(tries - 3).copied().unwrap_or(300);
            assert_eq!((tries, absent.due(wait * second - 1)), (tries, None));
            assert!(absent.due(wait * second).is_some());
            drop(Trying(&absent));
        }
        absent.failed(8, spec("b"), "no such guest".to_owned(), 0);
        assert_eq!(absent.due(1000 * second).unwrap().as_str(), "b", "who waits longest");
    }

    #[test]
    fn they_are_shown_with_the_reason_and_the_next_try_and_without_a_password() {
        let absent = Absent::default();
        absent.failed(7, spec("a"), "no such guest".to_owned(), 5_000_000_000);
        let shown = absent.statuses(|_| "yunet".to_owned(), (6_000_000_000, 1_000_000_000_000));
        let text = format!("{shown:?}");
        assert!(text.contains("no such guest") && text.contains("next_try_unix_ms: 1009000"), "{text}");
        assert!(!text.contains("secret"), "{text}");
        assert_eq!(absent.by_worker(7).unwrap().as_str(), "a");
    }
}
