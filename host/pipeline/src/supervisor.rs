//! Owns all cameras: makes the running ones match the wanted ones.
//!
//! Changes of guests are in `supervisor::slots`, of many cameras in `supervisor::rollouts`, wanted cameras that do not
//! run in `supervisor::absent`. Must not speak HTTP. Loading models and guests takes time, so `start` and `swap` are to be
//! called where blocking is allowed; reading status never blocks on a camera or a guest.

mod absent;
mod failure;
mod rollouts;
mod slots;
mod trials;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use facestream_core::event::Event;
use facestream_core::guest::{GuestsSpec, SlotKind};
use facestream_core::metrics::DropReason;
use facestream_core::{CameraId, CameraMetrics, CameraSpec, CameraStatus, WorkerId};
use facestream_guest_host::{CameraGuests, GuestConfig, GuestSet, GuestStore, StoreError, SwapError};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::book::{SlotBook, SlotRecords};
use crate::camera::{RunningCamera, Shared};
use crate::changes::Changes;
use crate::models::Models;
use crate::placement::{AdmissionConfig, Demand, Full, Gpus, Room, Seat, admit};
use crate::places::Places;
use crate::recordings::Recordings;
use crate::rollouts::Rollouts;
use crate::stage::{Outlet, Stage};
use crate::wanted::{Wanted, WantedError, WantedStore};

pub use crate::places::MAX_CANDIDATES;
pub use failure::{StartError, SwapFailure};
pub use rollouts::{RolloutCounts, RolloutFailure};
pub use trials::TrialFailure;

/// What the supervisor is made of.
pub struct Parts {
    /// What all cameras share.
    pub shared: Arc<Shared>,
    /// Models.
    pub models: Arc<Models>,
    /// GPUs.
    pub gpus: Arc<Gpus>,
    /// What they can carry.
    pub admission: AdmissionConfig,
    /// Guests.
    pub guests: Arc<GuestStore>,
    /// Their limits.
    pub guest_config: GuestConfig,
    /// Recordings of guests' calls.
    pub recordings: Arc<Recordings>,
    /// Sinks.
    pub outlet: Arc<dyn Outlet>,
    /// Which cameras are wanted.
    pub wanted: Box<dyn WantedStore>,
    /// The async runtime that cameras' network side runs on.
    pub runtime: Handle,
    /// How often guests hear that time passes.
    pub tick: Duration,
}

/// All cameras.
pub struct Supervisor {
    parts: Parts,
    cameras: RwLock<BTreeMap<CameraId, Arc<RunningCamera>>>,
    /// Cameras that are being started, stopped or changed.
    changes: Changes,
    /// Wanted cameras that do not run.
    absent: absent::Absent,
    next_worker: AtomicU64,
    /// The wanted cameras are known: numbers of new workers begin after theirs.
    recalled: AtomicBool,
    restored: AtomicBool,
    /// Where candidates run.
    places: Places,
    rollouts: Arc<Rollouts>,
    /// Held while kept calls are run once more for an explanation.
    explaining: Mutex<()>,
    /// Those who drive rollouts.
    drivers: TaskTracker,
    ticker: tokio_util::sync::CancellationToken,
}

impl Supervisor {
    /// Starts with no camera; [`Supervisor::restore`] brings the wanted ones back.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let rollouts = Arc::new(Rollouts::new(Arc::clone(&parts.shared.clock), parts.shared.events.clone()));
        let supervisor = Arc::new(Self {
            parts,
            cameras: RwLock::default(),
            changes: Changes::default(),
            absent: absent::Absent::default(),
            next_worker: AtomicU64::new(1),
            recalled: AtomicBool::new(false),
            restored: AtomicBool::new(false),
            places: Places::default(),
            rollouts,
            explaining: Mutex::default(),
            drivers: TaskTracker::new(),
            ticker: tokio_util::sync::CancellationToken::new(),
        });
        let ticking = Arc::downgrade(&supervisor);
        let (every, stop) = (supervisor.parts.tick, supervisor.ticker.clone());
        supervisor.parts.runtime.spawn(async move {
            let mut interval = tokio::time::interval(every);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            let mut sampled_ns = 0;
            while stop.run_until_cancelled(interval.tick()).await.is_some() {
                let Some(supervisor) = ticking.upgrade() else { return };
                let now = supervisor.parts.shared.clock.monotonic_ns();
                let sample = now.saturating_sub(sampled_ns) >= 1_000_000_000;
                if sample {
                    sampled_ns = now;
                    supervisor.try_absent(now);
                }
                for camera in supervisor.cameras() {
                    camera.lane().tick(now);
                    if sample {
                        camera.sample_rates(now);
                        if camera.book().is_unsaved() {
                            supervisor.remember_soon(&camera);
                        }
                    }
                }
            }
        });
        supervisor
    }

    /// Starts every camera of the store. One that cannot be started is logged, shown as waiting, and tried again. Until its
    /// turn has come a camera counts as being started: whoever asks for it meanwhile is told to try again, and gets the
    /// same worker.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn restore(&self) -> Result<usize, WantedError> {
        let restored = self.restore_all();
        self.restored.store(true, Ordering::Release);
        restored
    }

    /// Whether [`Supervisor::restore`] has come to its end.
    #[must_use]
    pub fn restored(&self) -> bool {
        self.restored.load(Ordering::Acquire)
    }

    fn restore_all(&self) -> Result<usize, WantedError> {
        let Wanted { cameras: wanted, unreadable } = self.parts.wanted.all()?;
        for error in unreadable {
            tracing::error!(%error, "a wanted camera is left out; stop it (POST /camera/stop) and start it again");
        }
        // What was rolled out once is for reading: without it cameras run all the same.
        match self.parts.wanted.rollouts() {
            Ok(earlier) => {
                for interrupted in self.rollouts.restore(earlier) {
                    if let Err(error) = self.parts.wanted.put_rollout(&interrupted) {
                        tracing::warn!(rollout = interrupted.id, %error, "how a rollout ended was not written down");
                    }
                }
            }
            Err(error) => tracing::error!(%error, "rollouts of earlier runs are not shown"),
        }
        let next = wanted.iter().map(|(worker, _)| worker + 1).max().unwrap_or(1);
        self.next_worker.fetch_max(next, Ordering::Relaxed);
        // All are marked before the first one is started, and before a client may start any.
        let marked: Vec<_> = wanted.into_iter().filter_map(|w| Some((self.changes.begin(&w.1.id)?, w))).collect();
        marked.iter().for_each(|(_, (worker, spec))| self.absent.waits(*worker, spec));
        self.recalled.store(true, Ordering::Release);
        let mut restored = 0;
        for (changing, (worker, spec)) in marked {
            if self.ticker.is_cancelled() {
                break;
            }
            restored += usize::from(self.bring_back(worker, spec).is_ok());
            drop(changing);
        }
        Ok(restored)
    }

    /// Makes a camera wanted and starts it. Gives its worker and whether this call made it. Blocks while model and
    /// guests load.
    ///
    /// # Errors
    /// See [`StartError`]; a camera that cannot be reached is none of them, but a state.
    pub fn start(&self, spec: CameraSpec) -> Result<(WorkerId, bool), StartError> {
        if !self.recalled.load(Ordering::Acquire) {
            return Err(StartError::Busy(spec.id));
        }
        let _changing = self.changes.begin(&spec.id).ok_or_else(|| StartError::Busy(spec.id.clone()))?;
        if self.ticker.is_cancelled() {
            return Err(StartError::Stopping);
        }
        if let Some(running) = self.camera(&spec.id) {
            if running.book().is_asked_for_by(&spec) {
                return Ok((running.worker(), false));
            }
            let old = running.spec();
            return Err(StartError::Conflict { camera: spec.id.clone(), difference: difference(&old, &spec) });
        }
        if let Some(started) = self.start_absent(&spec) {
            return started.map(|worker| (worker, false));
        }
        if let Some(fps) = spec.detect_fps.filter(|f| !(f.is_finite() && *f > 0.0 && *f <= 1000.0)) {
            return Err(StartError::Invalid(format!("detect_fps = {fps} must be above 0 and at most 1000")));
        }
        for slot in SlotKind::ALL {
            if let Some((limit, reason)) = self.refused_limits(&spec.guests.slot(slot).limits).into_iter().next() {
                return Err(StartError::Limit { slot, limit, reason });
            }
        }
        let id = spec.id.clone();
        // Only what can never become right is refused here; a name that does not resolve now may do so later.
        self.parts.shared.ingest.policy.precheck(&spec.url)?;
        let seat = self.parts.gpus.take(spec.gpu);
        if seat.is_none()
            && let Some(lost) = self.parts.gpus.lost().into_iter().find(|e| spec.gpu.is_none_or(|n| e.gpu() == Some(n)))
        {
            return Err(lost.into());
        }
        if let (Some(wanted), None) = (spec.gpu, &seat) {
            let there = self.parts.gpus.counts().len();
            return Err(StartError::NoSuchGpu { wanted, there });
        }
        if let Some(seat) = &seat {
            self.room_for(&spec, seat)?;
        }
        let worker = self.next_worker.fetch_add(1, Ordering::Relaxed);
        let camera = self.launch(worker, spec.clone(), seat)?;
        if let Err(error) = self.parts.wanted.put(worker, &spec) {
            let drain = self.parts.shared.drain;
            self.parts.runtime.spawn(async move { camera.stop(drain).await });
            return Err(error.into());
        }
        // Also when the host began to stop meanwhile: `shutdown` waits for this change and stops what it finds then.
        self.write().insert(id, camera);
        Ok((worker, true))
    }

    /// Whether the GPU of `seat` has room for one more camera, by the loads of those that it has.
    fn room_for(&self, spec: &CameraSpec, seat: &Seat) -> Result<(), StartError> {
        let (parts, gpu) = (&self.parts, seat.gpu());
        let config = &parts.admission;
        let running: Vec<Demand> = self
            .cameras()
            .iter()
            .filter_map(|camera| camera.demand(config.assumed_fps))
            .filter_map(|(on, demand)| (on == gpu.ordinal()).then_some(demand))
            .collect();
        let fps = config.assumed_fps;
        let analysed_fps = spec.detect_fps.map_or(fps, |n| f64::from(n).min(fps));
        let next = Demand { codec: None, size: None, fps, analysed_fps };
        let room = Room {
            // A GPU that does not answer is not full; starting the camera will say what is wrong with it.
            free_memory: gpu.memory().map_or(u64::MAX, |m| m.free),
            images_per_second: parts.models.images_per_second(spec.model.as_deref(), gpu.ordinal()),
        };
        let full = |reason| Full { gpu: gpu.ordinal(), cameras: running.len(), reason };
        Ok(admit(&running, &next, &room, config).map_err(full)?)
    }

    fn launch(&self, worker: WorkerId, spec: CameraSpec, seat: Option<Seat>) -> Result<Arc<RunningCamera>, StartError> {
        let parts = &self.parts;
        let engine = parts.models.engine(spec.model.as_deref(), seat.as_ref().map(Seat::gpu))?;
        let model = parts.models.resolve(spec.model.as_deref()).to_owned();
        let metrics = Arc::new(CameraMetrics::default());
        let guests = self.guests(&spec.id, &spec.guests, &metrics)?;
        let clock = Arc::clone(&parts.shared.clock);
        let events = parts.shared.events.clone();
        let records = self.records(&spec.id);
        let camera_motion = spec.camera_motion;
        let rollouts = Arc::clone(&self.rollouts);
        let book =
            SlotBook::new(spec, records).telling(Box::new(move |id, camera, told| rollouts.told(id, camera, told)));
        let book = Arc::new(book);
        let noting = Arc::clone(&book);
        let tell = move |event: Event| {
            noting.note(&event);
            // No listener is no error.
            drop(events.send(event));
        };
        let stage = Stage::new(guests, Arc::clone(&parts.outlet), Arc::clone(&metrics), clock)
            .with_events(Box::new(tell))
            .with_camera_motion(camera_motion)
            .recorded_by(Arc::clone(&parts.recordings));
        let _runtime = parts.runtime.enter();
        Ok(RunningCamera::start(&parts.shared, worker, book, &model, (&engine, seat), stage, metrics)?)
    }

    /// What was changed in a camera's slots. A store that cannot be read must not keep it from running.
    fn records(&self, id: &CameraId) -> SlotRecords {
        self.parts.wanted.slots(id).unwrap_or_else(|error| {
            tracing::error!(camera = %id, %error, "the history of its slots begins anew");
            SlotRecords::default()
        })
    }

    fn guests(
        &self,
        camera: &CameraId,
        wanted: &GuestsSpec,
        metrics: &Arc<CameraMetrics>,
    ) -> Result<CameraGuests, StartError> {
        let slot = |slot: SlotKind| {
            self.slot_guest(wanted.slot(slot)).map_err(|error| {
                if error.is_for_now() {
                    return StartError::Later(error.to_string());
                }
                let unknown = matches!(error, StoreError::NotFound { .. });
                StartError::Guest { slot, unknown, reason: error.to_string() }
            })
        };
        let set = GuestSet {
            tracker: slot(SlotKind::Tracker)?,
            scorer: slot(SlotKind::Scorer)?,
            formatter: slot(SlotKind::Formatter)?,
        };
        CameraGuests::new(camera, set, &self.parts.guest_config, Arc::clone(metrics)).map_err(|error| {
            let slot = match error {
                SwapError::WrongSlot { wanted, .. } => wanted,
                SwapError::Start { slot, .. }
                | SwapError::SelfTest { slot, .. }
                | SwapError::Restore { slot, .. }
                | SwapError::NothingBefore { slot } => slot,
            };
            StartError::Guest { slot, unknown: false, reason: error.to_string() }
        })
    }

    /// Makes a camera unwanted, drains and removes it. False when there is none.
    ///
    /// # Errors
    /// When the store could not forget it (a full disk): it does not run any more, but comes back with the next start of the
    /// host, unless another stop has made it forgotten.
    pub async fn stop(self: &Arc<Self>, id: &CameraId) -> Result<bool, WantedError> {
        let was = self.camera(id).is_some();
        let _changing = self.changes.begin_later(id).await;
        let camera = self.camera(id);
        let (supervisor, unwanted, running) = (Arc::clone(self), id.clone(), camera.clone());
        let removing = tokio::task::spawn_blocking(move || {
            let remove = || supervisor.parts.wanted.remove(&unwanted);
            // What its guests do while they are drained is of no account any more.
            running.map_or_else(remove, |camera| camera.book().close_with(remove))
        });
        let removed = unpanicked(removing.await);
        let Some(camera) = camera else {
            let removed = removed?;
            // It may be wanted without running, because it could not be started after a restart. Or another call has
            // stopped it meanwhile, which is what was asked for.
            return Ok(self.absent.forget(id) || removed || was);
        };
        // Also when it is still wanted: a camera that fills the disk must be stoppable for that very reason.
        camera.stop(self.parts.shared.drain).await;
        self.write().remove(id);
        self.rollouts.gone(id);
        removed.map(|_| true)
    }

    /// One camera.
    #[must_use]
    pub fn camera(&self, id: &CameraId) -> Option<Arc<RunningCamera>> {
        self.cameras.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// All cameras, by id.
    #[must_use]
    pub fn cameras(&self) -> Vec<Arc<RunningCamera>> {
        self.cameras.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The camera of a worker, running or not: one that could not be started again after a restart can still be stopped.
    #[must_use]
    pub fn by_worker(&self, worker: WorkerId) -> Option<CameraId> {
        let running = self.cameras().iter().find(|c| c.worker() == worker).map(|c| c.id().clone());
        running.or_else(|| self.absent.by_worker(worker))
    }

    /// Status of all wanted cameras, by id.
    #[must_use]
    pub fn statuses(&self) -> Vec<CameraStatus> {
        let mut statuses: Vec<_> = self.cameras().iter().map(|c| c.status()).collect();
        statuses.extend(self.absent_statuses());
        statuses.sort_by(|a, b| a.camera_id.cmp(&b.camera_id));
        statuses
    }

    /// Of those that do not run: their turn has not come, or they could not be started.
    #[must_use]
    pub fn absent_statuses(&self) -> Vec<CameraStatus> {
        let clock = &self.parts.shared.clock;
        let model = |name: Option<&str>| self.parts.models.resolve(name).to_owned();
        self.absent.statuses(model, (clock.monotonic_ns(), clock.wall_ns()))
    }

    /// What it is made of.
    #[must_use]
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// From now on no camera is started, and [`Supervisor::restore`] ends after the one that it is at.
    pub fn start_no_more(&self) {
        self.ticker.cancel();
    }

    /// Stops all cameras at once and drains them; they stay wanted for the next start. Starts, stops and swaps that are
    /// under way come to their end first: what they flush must reach the sinks.
    pub async fn shutdown(&self) {
        self.start_no_more();
        let drain = self.parts.shared.drain;
        // Once more after the changes have ended: a start that was past its check has added a camera by then.
        for _ in 0..2 {
            let stops = self.cameras().into_iter().map(|camera| async move {
                let _changing = self.changes.begin_later(camera.id()).await;
                camera.stop(drain).await;
            });
            futures::future::join_all(stops).await;
            self.changes.none().await;
        }
        // They see that the host ends, and tell how far they have come.
        self.drivers.close();
        self.drivers.wait().await;
        for camera in self.cameras() {
            if let Err(error) = self.remember(&camera) {
                tracing::error!(camera = %camera.id(), %error, "the latest changes of its slots are not remembered");
            }
        }
        let left: u64 = self.cameras().iter().map(|c| c.metrics().drops(DropReason::ShutdownGrace)).sum();
        if left > 0 {
            tracing::warn!(left, "frames were still on their way when the grace period ran out");
        }
        self.write().clear();
    }

    /// Writes down what its guest thread has noted, where blocking is allowed.
    fn remember_soon(self: &Arc<Self>, camera: &Arc<RunningCamera>) {
        let (supervisor, camera) = (Arc::clone(self), Arc::clone(camera));
        self.parts.runtime.spawn_blocking(move || {
            if let Err(error) = supervisor.remember(&camera) {
                tracing::error!(camera = %camera.id(), %error, "the latest changes of its slots are not remembered; trying again");
            }
        });
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<CameraId, Arc<RunningCamera>>> {
        self.cameras.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a task gave; its panic goes on here.
fn unpanicked<T>(joined: Result<T, tokio::task::JoinError>) -> T {
    joined.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => panic!("blocking tasks are not cancelled: {error}"),
    })
}

/// Names of the settings in which two cameras differ; no values, one of them may be a password.
fn difference(old: &CameraSpec, new: &CameraSpec) -> String {
    let checks = [
        ("rtsp_link", old.url == new.url),
        ("transport", old.transport == new.transport),
        ("model", old.model == new.model),
        ("detect_fps", old.detect_fps == new.detect_fps),
        ("keyframes_only", old.keyframes_only == new.keyframes_only),
        ("gpu", old.gpu == new.gpu),
        ("camera_motion", old.camera_motion == new.camera_motion),
        ("max_attempts", old.max_attempts == new.max_attempts),
        ("guests", old.guests == new.guests),
    ];
    let names: Vec<&str> = checks.iter().filter(|(_, same)| !same).map(|(name, _)| *name).collect();
    names.join(", ")
}
