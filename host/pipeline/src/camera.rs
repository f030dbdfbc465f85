//! One running camera: ingest, decode thread, place in the batcher, lane before its guests.
//!
//! Owns their lives from start to drained stop. Must not choose models, guests or addresses; it is given them.
//!
//! Queues: ingest → decode, see `facestream_ingest`; decode → inference, see `facestream_infer::Feed`; inference →
//! guests, see [`crate::lane`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use facestream_core::event::Event;
use facestream_core::guest::SlotStatus;
use facestream_core::metrics::Counter;
use facestream_core::{
    CameraId, CameraMetrics, CameraSpec, CameraState, CameraStatus, Clock, DropReason, Frame, StreamParams, WorkerId,
};
use facestream_decode::{DecodeConfig, DecodeError, DecodeReport, Decoder, FrameSelector, open_decoder};
use facestream_guest_host::GuestFactory;
use facestream_infer::{Engine, Feed, FeedKind};
use facestream_ingest::{IngestEnv, IngestEvent, IngestHandle};
use tokio::sync::{broadcast, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::book::SlotBook;
use crate::lane::{GuestPool, Lane, LaneError, WhenFull};
use crate::placement::{Demand, Seat};
use crate::rate::Rate;
use crate::snapshot::Latest;
use crate::stage::Stage;

/// What all cameras share.
pub struct Shared {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Addresses, connection, retries.
    pub ingest: Arc<IngestEnv>,
    /// Decoder settings.
    pub decode: DecodeConfig,
    /// Frames that may wait before a camera's guests.
    pub mailbox_frames: usize,
    /// How long a stopping camera may take to hand over what is on its way.
    pub drain: Duration,
    /// Guest threads.
    pub pool: GuestPool,
    /// Who listens to events.
    pub events: broadcast::Sender<Event>,
}

/// A camera that runs.
pub struct RunningCamera {
    id: CameraId,
    worker: WorkerId,
    book: Arc<SlotBook>,
    model: String,
    url: String,
    metrics: Arc<CameraMetrics>,
    state: watch::Receiver<CameraState>,
    stopping: AtomicBool,
    lane: Arc<Lane<Stage>>,
    factory: GuestFactory,
    latest: Arc<Latest>,
    slots: Arc<Mutex<Vec<SlotStatus>>>,
    stream: Arc<Mutex<Option<StreamParams>>>,
    /// What decodes, once something does.
    decoder: Arc<Mutex<Option<String>>>,
    seat: Option<Arc<Seat>>,
    rates: Mutex<(Rate, Rate)>,
    cancel: CancellationToken,
    decoding: Mutex<Option<oneshot::Receiver<()>>>,
}

/// A camera's threads could not be started.
#[derive(Debug, thiserror::Error)]
#[error("camera {camera}: its decode thread could not be started: {source}")]
pub struct SpawnError {
    camera: CameraId,
    source: std::io::Error,
}

impl RunningCamera {
    /// Starts everything; returns at once. To be called within the async runtime.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(
        shared: &Arc<Shared>,
        worker: WorkerId,
        book: Arc<SlotBook>,
        model: &str,
        placed: (&Arc<Engine>, Option<Seat>),
        stage: Stage,
        metrics: Arc<CameraMetrics>,
    ) -> Result<Arc<Self>, SpawnError> {
        let cancel = CancellationToken::new();
        // Until everything runs: without its decode thread a camera must not go on connecting.
        let guard = cancel.clone().drop_guard();
        let (env, spec) = (Arc::clone(&shared.ingest), book.spec());
        let IngestHandle { events, state, .. } =
            facestream_ingest::spawn(env, &spec, Arc::clone(&metrics), cancel.clone());
        let camera = Self::start_with(shared, worker, book, model, placed, stage, metrics, (events, state, cancel))?;
        guard.disarm();
        Ok(camera)
    }

    /// As [`RunningCamera::start`], for access units that come from elsewhere than a network: a benchmark's memory. To stop,
    /// the source is cancelled; it then says [`IngestEvent::Ended`].
    ///
    /// # Errors
    /// When the system refuses a thread.
    #[allow(clippy::too_many_arguments)] // As `start`, and the source.
    pub fn start_with(
        shared: &Arc<Shared>,
        worker: WorkerId,
        book: Arc<SlotBook>,
        model: &str,
        (engine, seat): (&Arc<Engine>, Option<Seat>),
        stage: Stage,
        metrics: Arc<CameraMetrics>,
        (events, state, cancel): (
            crossbeam_channel::Receiver<IngestEvent>,
            watch::Receiver<CameraState>,
            CancellationToken,
        ),
    ) -> Result<Arc<Self>, SpawnError> {
        let seat = seat.map(Arc::new);
        let spec = book.spec();
        let (latest, slots, factory) = (stage.latest(), stage.slots(), stage.guests.factory());
        let bound = shared.mailbox_frames;
        let lane = shared.pool.lane(spec.id.as_str(), stage, bound, WhenFull::DropOldest, Arc::clone(&metrics));
        let feed = {
            let lane = Arc::clone(&lane);
            let camera = spec.id.clone();
            let failed = AtomicU64::new(0);
            engine.attach(
                FeedKind::Live,
                Arc::clone(&metrics),
                Arc::new(move |frame, result| match result {
                    Ok(detections) => {
                        failed.store(0, Ordering::Relaxed);
                        lane.frame(frame, detections);
                    }
                    // Counted by the engine; told at the first, second, fourth, eighth in a row: a lost GPU fails on all.
                    Err(error) => {
                        let in_a_row = failed.fetch_add(1, Ordering::Relaxed) + 1;
                        if in_a_row.is_power_of_two() {
                            tracing::warn!(%camera, %error, in_a_row, "inference failed on a frame");
                        }
                    }
                }),
            )
        };

        let stream = Arc::new(Mutex::new(None));
        let decoder = Arc::new(Mutex::new(None));
        let (done, decoding) = oneshot::channel();
        let looping = DecodeLoop {
            spec: spec.clone(),
            config: DecodeConfig { keyframes_only: spec.keyframes_only, ..shared.decode.clone() },
            drain: shared.drain,
            metrics: Arc::clone(&metrics),
            clock: Arc::clone(&shared.clock),
            stream: Arc::clone(&stream),
            decoder: Arc::clone(&decoder),
            seat: seat.clone(),
            feed,
        };
        std::thread::Builder::new()
            // Linux keeps 15 bytes of it; the id's head tells cameras apart in `top -H`.
            .name(format!("dec-{}", spec.id))
            .spawn(move || {
                // A decoder that panics is given up like one that fails: its units are dropped, counted, until the watchdog
                // brings a new session.
                while catch_unwind(AssertUnwindSafe(|| looping.decode(&events))).is_err() {
                    tracing::error!(camera = %looping.spec.id, "decoding panicked: this is a bug in the host");
                }
                looping.drain();
                // Nobody waits any more when the grace period has run out.
                done.send(()).ok();
            })
            .map_err(|source| SpawnError { camera: spec.id.clone(), source })?;

        tokio::spawn(announce(spec.id.clone(), state.clone(), shared.events.clone()));
        Ok(Arc::new(Self {
            id: spec.id.clone(),
            worker,
            model: model.to_owned(),
            url: spec.url.to_string(),
            book,
            metrics,
            state,
            stopping: AtomicBool::new(false),
            lane,
            factory,
            latest,
            slots,
            stream,
            decoder,
            seat,
            rates: Mutex::default(),
            cancel,
            decoding: Mutex::new(Some(decoding)),
        }))
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &CameraId {
        &self.id
    }

    /// Its worker's number.
    #[must_use]
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// As it is wanted.
    #[must_use]
    pub fn spec(&self) -> CameraSpec {
        self.book.spec()
    }

    /// What is wanted of it, and what was changed.
    #[must_use]
    pub fn book(&self) -> &Arc<SlotBook> {
        &self.book
    }

    /// Its counters.
    #[must_use]
    pub fn metrics(&self) -> &Arc<CameraMetrics> {
        &self.metrics
    }

    /// Its guests' lane, for calls between two frames.
    #[must_use]
    pub fn lane(&self) -> &Arc<Lane<Stage>> {
        &self.lane
    }

    /// Puts a question to its stage between two frames and waits for the answer.
    ///
    /// # Errors
    /// When the lane takes no more calls, or ends before this one.
    pub fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Stage) -> T + Send + 'static,
    ) -> Result<T, LaneError> {
        let (answer, answered) = crossbeam_channel::bounded(1);
        // The caller is gone only when it panicked.
        self.lane.call(move |stage| drop(answer.send(question(stage))))?;
        answered.recv().map_err(|_| LaneError::Closed)
    }

    /// Makes instances for its slots, on any thread.
    #[must_use]
    pub fn factory(&self) -> &GuestFactory {
        &self.factory
    }

    /// Its latest picture.
    #[must_use]
    pub fn latest(&self) -> &Arc<Latest> {
        &self.latest
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> CameraState {
        if self.stopping.load(Ordering::Relaxed) { CameraState::Stopping } else { self.state.borrow().clone() }
    }

    /// What its network side is doing, and when that changes. It ends with the camera.
    #[must_use]
    pub fn states(&self) -> watch::Receiver<CameraState> {
        self.state.clone()
    }

    /// Called once a second.
    pub fn sample_rates(&self, now_ns: u64) {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.0.sample(now_ns, self.metrics.get(Counter::Decoded));
        rates.1.sample(now_ns, self.metrics.get(Counter::Analysed));
    }

    /// Decoded frames a second.
    #[must_use]
    pub fn fps(&self) -> f64 {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner).0.per_second()
    }

    /// What it asks of its GPU, and which one that is; `None` when it is on the processor.
    #[must_use]
    pub fn demand(&self, assumed_fps: f64) -> Option<(usize, Demand)> {
        let seat = self.seat.as_ref()?;
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let (codec, size) = (stream.as_ref().map(|s| s.codec), stream.as_ref().and_then(|s| s.size));
        drop(stream);
        let rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let (fps, analysed) = (rates.0.per_second(), rates.1.per_second());
        drop(rates);
        // One that is away will be back.
        let away = fps <= 0.0;
        let wanted = self.book.spec().detect_fps.map_or(assumed_fps, f64::from);
        let demand = Demand {
            codec,
            size,
            fps: if away { assumed_fps } else { fps },
            analysed_fps: if away { wanted } else { analysed },
        };
        Some((seat.gpu().ordinal(), demand))
    }

    /// Everything about it. Never waits for a guest.
    #[must_use]
    pub fn status(&self) -> CameraStatus {
        let rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let (fps, analysed_fps) = (rates.0.per_second(), rates.1.per_second());
        drop(rates);
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let (codec, size) = (stream.as_ref().map(|p| p.codec.as_str()), stream.as_ref().and_then(|p| p.size));
        drop(stream);
        CameraStatus {
            camera_id: self.id.clone(),
            worker_id: self.worker,
            state: self.state(),
            url: self.url.clone(),
            fps,
            analysed_fps,
            model: self.model.clone(),
            decoder: self.decoder.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            gpu: self.seat.as_ref().map(|seat| seat.gpu().ordinal()),
            codec,
            size,
            counters: self.metrics.counters(),
            drops: self.metrics.all_drops(),
            slots: self.slots.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Stops it: no new access units, what was received is decoded, analysed and handed over, guests give up what
    /// they hold. What is not through within `grace` is counted as `shutdown-grace`.
    pub async fn stop(&self, grace: Duration) {
        if self.stopping.swap(true, Ordering::Relaxed) {
            return;
        }
        self.cancel.cancel();
        let decoding = self.decoding.lock().unwrap_or_else(PoisonError::into_inner).take();
        let drained = tokio::time::timeout(grace, async {
            if let Some(decoding) = decoding {
                // An error means that the thread is gone, which is what is waited for.
                drop(decoding.await);
            }
            let (done, finished) = oneshot::channel();
            self.lane.close(move |stage| {
                stage.finish();
                done.send(()).ok();
            });
            // An error: `finish` panicked; the pool has logged it.
            drop(finished.await);
        });
        if drained.await.is_err() {
            self.metrics.dropped(DropReason::ShutdownGrace, 1);
            tracing::warn!(camera = %self.id, ?grace, "did not drain in time");
            self.lane.close(Stage::finish);
        }
    }
}

/// Turns changes of state into events until the camera is gone; ingest writes the log lines.
async fn announce(camera: CameraId, mut state: watch::Receiver<CameraState>, events: broadcast::Sender<Event>) {
    while state.changed().await.is_ok() {
        let status = state.borrow_and_update().clone();
        // No listener is no error.
        drop(events.send(Event::Camera { camera: camera.clone(), status }));
    }
}

/// The decode thread's own things.
struct DecodeLoop {
    spec: CameraSpec,
    config: DecodeConfig,
    drain: Duration,
    metrics: Arc<CameraMetrics>,
    clock: Arc<dyn Clock>,
    stream: Arc<Mutex<Option<StreamParams>>>,
    decoder: Arc<Mutex<Option<String>>>,
    seat: Option<Arc<Seat>>,
    feed: Feed,
}

impl DecodeLoop {
    /// Until the source ends.
    fn decode(&self, events: &crossbeam_channel::Receiver<IngestEvent>) {
        let mut selector = FrameSelector::new(self.spec.detect_fps, Arc::clone(&self.metrics));
        let mut decoder: Option<Box<dyn Decoder>> = None;
        // A refused frame is counted by the feed.
        let mut offer = |frame: Frame| {
            if selector.take(&frame.info) {
                self.feed.offer(frame);
            }
        };
        for event in events {
            match event {
                IngestEvent::Started { params, .. } => {
                    let opened = match decoder.take() {
                        // The same decoder goes on, so that timestamps do, and what it held back is not lost.
                        Some(mut decoder) => decoder.restart(&params, &mut offer).map(|_| decoder),
                        None => {
                            let gpu = self.seat.as_ref().map(|seat| seat.gpu());
                            let (metrics, clock) = (Arc::clone(&self.metrics), Arc::clone(&self.clock));
                            open_decoder(&params, &self.config, gpu, metrics, clock)
                        }
                    };
                    match opened {
                        Ok(opened) => {
                            tracing::info!(camera = %self.spec.id, decoder = opened.describe(), "decoding");
                            self.tell_decoder(&*opened);
                            decoder = Some(opened);
                        }
                        Err(error) => tracing::error!(camera = %self.spec.id, %error, "cannot decode this camera"),
                    }
                    *self.stream.lock().unwrap_or_else(PoisonError::into_inner) = Some(params);
                }
                IngestEvent::AccessUnit(unit) => match &mut decoder {
                    Some(open) => {
                        let done = open.decode(&unit, &mut offer);
                        if done.as_ref().is_ok_and(|report| report.rebuilt) {
                            // It may have left the GPU.
                            self.tell_decoder(&**open);
                        }
                        if self.failed(done) {
                            decoder = None;
                        }
                    }
                    // Until the watchdog brings a new session.
                    None => self.metrics.dropped(DropReason::DecodeError, 1),
                },
                IngestEvent::Ended => break,
            }
        }
        if let Some(mut decoder) = decoder {
            self.failed(decoder.flush(&mut offer));
        }
    }

    fn drain(self) {
        if !self.feed.drain(self.drain) {
            tracing::warn!(camera = %self.spec.id, "frames were still in inference when the grace period ran out");
        }
    }

    /// What decodes from here on, for the camera's status.
    fn tell_decoder(&self, decoder: &dyn Decoder) {
        *self.decoder.lock().unwrap_or_else(PoisonError::into_inner) = Some(decoder.describe());
    }

    /// Damage is no error, so what comes here cannot be mended by going on.
    fn failed(&self, done: Result<DecodeReport, DecodeError>) -> bool {
        match done {
            Ok(report) => {
                if report.rebuilt {
                    tracing::warn!(camera = %self.spec.id, "decoder built anew after too many errors in a row");
                }
                false
            }
            Err(error) => {
                tracing::error!(camera = %self.spec.id, %error, "decoding ended");
                true
            }
        }
    }
}
