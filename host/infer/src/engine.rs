//! Worker threads around the batcher: one session each.
//!
//! Owns threads, the lock and the two conditions. What runs next is the batcher's decision, what a run does the
//! backend's. A backend that panics costs the frames of that run (delivered as errors, counted), never a worker.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use facestream_core::metrics::{CameraMetrics, DropReason};
use facestream_core::{Detection, Frame};
use serde::Serialize;

use crate::backend::{Backend, Detector};
use crate::batcher::{Batcher, Delivery, FeedKind, Job, Next, Sink};
use crate::config::InferConfig;
use crate::error::InferError;

/// Counters of an engine since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EngineStats {
    /// Sessions, each with a thread.
    pub workers: u64,
    /// Runs.
    pub batches: u64,
    /// Frames in them.
    pub frames: u64,
    /// Frames that failed.
    pub errors: u64,
    /// Panics of backends, contained.
    pub panics: u64,
    /// Nanoseconds spent in runs, summed over workers.
    pub busy_ns: u64,
}

#[derive(Debug, Default)]
struct Counters {
    batches: AtomicU64,
    frames: AtomicU64,
    errors: AtomicU64,
    panics: AtomicU64,
    busy_ns: AtomicU64,
}

struct State {
    batcher: Batcher,
    stopping: bool,
}

struct Shared {
    detector: Arc<dyn Detector>,
    state: Mutex<State>,
    /// Something may be taken, or the engine stops. Workers wait on it.
    work: Condvar,
    /// Something was delivered or given up. Offerers of lossless feeds and `drain` wait on it.
    space: Condvar,
    counters: Counters,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it but an allocation failure; the state is consistent between calls.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sessions of one model with the queue in front of them. Stops when it is dropped.
pub struct Engine {
    shared: Arc<Shared>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    count: usize,
    max_batch: usize,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("detector", &self.shared.detector.name()).field("workers", &self.count).finish()
    }
}

/// One camera's or file's way into an engine. Dropping it gives up what is on its way (counted `shutdown-grace`); after
/// that its sink is not called again. Call [`Feed::drain`] first to lose nothing.
pub struct Feed {
    shared: Arc<Shared>,
    id: u64,
    metrics: Arc<CameraMetrics>,
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the sessions and starts their threads.
    ///
    /// # Errors
    /// When a session cannot be opened or a thread cannot be started.
    pub fn start(detector: Arc<dyn Detector>, config: &InferConfig) -> Result<Arc<Self>, InferError> {
        let count = detector.sessions().unwrap_or_else(|| config.sessions());
        let (batch, wait) = match config.max_batch {
            // An idle session takes what is there.
            0 => (detector.best_batch(), 0),
            batch => (batch, config.max_wait_ms),
        };
        let max_batch = batch.min(detector.max_batch().unwrap_or(usize::MAX));
        let max_wait = Duration::from_millis(wait);
        // Here, not in the threads: an error is an answer to whoever starts the engine.
        let backends = (0..count).map(|_| detector.open()).collect::<Result<Vec<_>, _>>()?;
        let shared = Arc::new(Shared {
            detector,
            state: Mutex::new(State {
                batcher: Batcher::new(max_batch, max_wait, count, config.live_queue),
                stopping: false,
            }),
            work: Condvar::new(),
            space: Condvar::new(),
            counters: Counters::default(),
        });
        let engine = Arc::new(Self { shared: Arc::clone(&shared), workers: Mutex::new(Vec::new()), count, max_batch });
        for (n, backend) in backends.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            let thread =
                std::thread::Builder::new()
                    .name(format!("infer-{n}"))
                    .spawn(move || work(&shared, backend))
                    .map_err(|e| InferError::Config(format!("worker thread {n} of {count} cannot be started: {e}")))?;
            engine.workers.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(engine)
    }

    /// Adds a source. Its counters get `analysed` and `detections`, its drops `superseded`, `inference-error` and
    /// `shutdown-grace`.
    #[must_use]
    pub fn attach(&self, kind: FeedKind, metrics: Arc<CameraMetrics>, sink: Sink) -> Feed {
        let id = self.shared.lock().batcher.attach(kind, Arc::clone(&metrics), sink);
        Feed { shared: Arc::clone(&self.shared), id, metrics }
    }

    /// Frames of a file that keep every session busy: a batch in work and one in waiting for each, and some.
    #[must_use]
    pub fn lossless_depth(&self) -> usize {
        2 * self.count * self.max_batch + 2
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        let c = &self.shared.counters;
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        EngineStats {
            workers: self.count as u64,
            batches: read(&c.batches),
            frames: read(&c.frames),
            errors: read(&c.errors),
            panics: read(&c.panics),
            busy_ns: read(&c.busy_ns),
        }
    }

    /// Lets running frames finish and be delivered, gives up the waiting ones (counted) and ends the threads. Offers
    /// after that are refused.
    pub fn stop(&self) {
        {
            let mut state = self.shared.lock();
            state.stopping = true;
            for id in state.batcher.feeds() {
                state.batcher.discard(id);
            }
        }
        self.shared.work.notify_all();
        self.shared.space.notify_all();
        let workers = std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        for worker in workers {
            // A sink may drop the last handle of the engine: a thread cannot wait for itself.
            if worker.thread().id() != std::thread::current().id() && worker.join().is_err() {
                tracing::error!("an inference worker had panicked outside its backend");
            }
        }
        self.shared.space.notify_all();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Feed {
    /// Gives a frame to analyse. A live feed never waits: a frame that still waits is replaced and counted as
    /// superseded. A lossless feed waits until there is room; do not call it from a sink or on an async runtime.
    ///
    /// Returns false when the engine has stopped; the frame is then counted as `shutdown-grace`.
    pub fn offer(&self, frame: Frame) -> bool {
        let group = self.shared.detector.group(&frame);
        let mut frame = frame;
        let mut state = self.shared.lock();
        loop {
            if state.stopping {
                drop(state);
                self.metrics.dropped(DropReason::ShutdownGrace, 1);
                return false;
            }
            match state.batcher.offer(self.id, frame, group, Instant::now()) {
                Ok(()) => {
                    drop(state);
                    self.shared.work.notify_one();
                    return true;
                }
                Err(back) => {
                    frame = back;
                    state = self.shared.space.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Waits until everything offered so far was delivered. Returns false when `timeout` passed first, or the engine
    /// stopped with frames on their way. Do not call it from a sink.
    #[must_use]
    pub fn drain(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        state.batcher.set_draining(self.id, true);
        self.shared.work.notify_all();
        let drained = loop {
            if state.batcher.is_drained(self.id) {
                break true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break false;
            }
            (state, _) = self.shared.space.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        };
        state.batcher.set_draining(self.id, false);
        drained
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.batcher.discard(self.id);
        // Whoever drops a feed may free what its sink points to: no call may be under way afterwards.
        let me = std::thread::current().id();
        while state.batcher.delivering(self.id).is_some_and(|thread| thread != me) {
            state = self.shared.space.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.batcher.detach(self.id);
    }
}

/// A worker's life.
fn work(shared: &Shared, backend: Box<dyn Backend>) {
    let mut backend = Some(backend);
    loop {
        let Some(jobs) = next_jobs(shared) else { return };
        let started = Instant::now();
        let frames: Vec<Frame> = jobs.iter().map(|job| job.frame.clone()).collect();
        let results = analyse(shared, &mut backend, &frames);
        drop(frames);
        let c = &shared.counters;
        let busy = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        c.busy_ns.fetch_add(busy, Ordering::Relaxed);
        c.batches.fetch_add(1, Ordering::Relaxed);
        c.frames.fetch_add(jobs.len() as u64, Ordering::Relaxed);
        c.errors.fetch_add(results.iter().filter(|r| r.is_err()).count() as u64, Ordering::Relaxed);
        deliver(shared, jobs, results);
    }
}

/// Waits for frames; `None` when the engine stops.
fn next_jobs(shared: &Shared) -> Option<Vec<Job>> {
    let mut state = shared.lock();
    loop {
        if state.stopping {
            return None;
        }
        match state.batcher.next(Instant::now()) {
            Next::Run(jobs) => {
                drop(state);
                // More may be waiting than this worker took, and one notification may have stood for several offers.
                shared.work.notify_one();
                return Some(jobs);
            }
            Next::Wait(time) => {
                (state, _) = shared.work.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner);
            }
            Next::Idle => state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner),
        }
    }
}

type Found = Result<Vec<Detection>, InferError>;

/// One result a frame, whatever the backend does.
fn analyse(shared: &Shared, backend: &mut Option<Box<dyn Backend>>, frames: &[Frame]) -> Vec<Found> {
    match run(shared, backend, frames) {
        Ok(found) => found.into_iter().map(Ok).collect(),
        Err(error) if frames.len() == 1 => vec![Err(error)],
        // Frame by frame, so that only the bad one fails.
        Err(_) => frames
            .iter()
            .map(|frame| run(shared, backend, std::slice::from_ref(frame)).map(|f| f.into_iter().flatten().collect()))
            .collect(),
    }
}

fn run(
    shared: &Shared,
    backend: &mut Option<Box<dyn Backend>>,
    frames: &[Frame],
) -> Result<Vec<Vec<Detection>>, InferError> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let session = match backend {
            Some(session) => session,
            // After a panic. A session that cannot be opened is tried again with the next frames.
            None => backend.insert(shared.detector.open()?),
        };
        let found = session.infer(frames)?;
        if found.len() == frames.len() {
            return Ok(found);
        }
        let reason = format!("{} results for {} frames", found.len(), frames.len());
        Err(InferError::Output { model: shared.detector.name().to_owned(), reason })
    }));
    outcome.unwrap_or_else(|panic| {
        // What it left behind cannot be trusted.
        *backend = None;
        shared.counters.panics.fetch_add(1, Ordering::Relaxed);
        let why = message(panic.as_ref());
        tracing::error!(model = shared.detector.name(), "the inference backend panicked: {why}");
        Err(InferError::Panicked(why))
    })
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// Hands results to sinks in the order of their feeds. A worker whose frame came back too early leaves it to the worker
/// that has the earlier one.
fn deliver(shared: &Shared, jobs: Vec<Job>, results: Vec<Found>) {
    let me = std::thread::current().id();
    let mut feeds: Vec<u64> = jobs.iter().map(|job| job.feed).collect();
    feeds.sort_unstable();
    feeds.dedup();
    let mut state = shared.lock();
    for (job, result) in jobs.into_iter().zip(results) {
        state.batcher.finish(job, result);
    }
    for feed in feeds {
        while let Some(Delivery { sink, frame, result }) = state.batcher.begin_delivery(feed, me) {
            drop(state);
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| sink(frame, result))) {
                tracing::error!("a sink of detections panicked: {}", message(panic.as_ref()));
            }
            // The last handle of a sink may own what its camera owns: not to be dropped under the lock.
            drop(sink);
            state = shared.lock();
            state.batcher.end_delivery(feed);
            shared.space.notify_all();
            // A live feed at its limit may be taken from again.
            shared.work.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
