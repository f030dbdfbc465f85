//! Whole cameras: paced access units from memory, through decoding, inference and real guests, into a counting sink.
//!
//! Owns the cameras and the windows in which they are watched: while all run, and while more join. Cameras' starts are
//! spread over two seconds, and so are their key frames. Nothing is dropped silently: what the host drops is counted by
//! the host, what finds a full queue is counted by the pacer.

mod pace;
mod report;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use facestream_core::guest::SlotKind;
use facestream_core::media::{AccessUnit, StreamParams};
use facestream_core::metrics::Counter;
use facestream_core::{
    CameraId, CameraMetrics, CameraSpec, CameraState, Clock, Detection, FrameInfo, Message, Shot, SourceUrl,
    SystemClock, Track,
};
use facestream_decode::ClipReader;
use facestream_guest_host::{CameraGuests, GuestSet};
use facestream_ingest::IngestEvent;
use facestream_pipeline::Gpus;
use facestream_pipeline::book::{SlotBook, SlotRecords};
use facestream_pipeline::camera::{RunningCamera, Shared};
use facestream_pipeline::lane::GuestPool;
use facestream_pipeline::placement::Seat;
use facestream_pipeline::stage::{Observer, Outlet, Stage};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use pace::{Paced, Source};
pub(super) use report::Summary;
use report::{Joined, Percentiles};

use super::Bench;
use super::cpu::{CpuByStage, cpu_seconds};
use crate::parts;

/// Access units that may wait before a decoder, as in the service.
const QUEUE: usize = 64;

/// Counts what comes out while it is measured.
struct Counts {
    measuring: AtomicBool,
    clock: Arc<dyn Clock>,
    seen: Mutex<Seen>,
}

/// Of one window.
#[derive(Default)]
struct Seen {
    frames: u64,
    messages: u64,
    bytes: u64,
    /// Milliseconds: since the unit that completed the frame was due, and since its own.
    latencies: Vec<(f64, f64)>,
    message_latencies: Vec<f64>,
}

impl Counts {
    fn new(clock: &Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { measuring: AtomicBool::new(false), clock: Arc::clone(clock), seen: Mutex::default() })
    }

    fn note(&self, what: impl FnOnce(&mut Seen)) {
        if self.measuring.load(Ordering::Relaxed) {
            what(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Counts until `window` returns.
    fn during<R>(&self, window: impl FnOnce() -> R) -> (R, Seen) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen::default();
        self.measuring.store(true, Ordering::Relaxed);
        let result = window();
        self.measuring.store(false, Ordering::Relaxed);
        (result, std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn since_ms(&self, due_ns: u64) -> f64 {
        self.clock.monotonic_ns().saturating_sub(due_ns) as f64 / 1e6
    }
}

/// Takes every message.
struct CountingSink(Arc<Counts>);

impl Outlet for CountingSink {
    fn accept(&self, message: Message) -> Result<(), String> {
        self.0.note(|seen| {
            seen.messages += 1;
            seen.bytes += message.payload.len() as u64;
        });
        Ok(())
    }
}

/// Sees each frame when the guests are through with it. `captured_at_ns` holds when its access unit was due.
struct Watch {
    counts: Arc<Counts>,
    /// By place in the clip, how much later than its own access unit the one is due that completes a frame.
    reordering_ns: Arc<Vec<u64>>,
    complete_ns: u64,
}

impl Observer for Watch {
    fn frame(&mut self, info: &FrameInfo, _: &[Detection], _: Option<&[Track]>, _: &[Track]) {
        let place = (info.sequence % self.reordering_ns.len().max(1) as u64) as usize;
        let later = self.reordering_ns.get(place).copied().unwrap_or(0);
        self.complete_ns = info.captured_at_ns + later;
        let took = (self.counts.since_ms(self.complete_ns), self.counts.since_ms(info.captured_at_ns));
        self.counts.note(|seen| {
            seen.frames += 1;
            seen.latencies.push(took);
        });
    }

    fn shot(&mut self, _: &Shot) {}

    fn message(&mut self, _: &Message) {
        let took = self.counts.since_ms(self.complete_ns);
        self.counts.note(|seen| seen.message_latencies.push(took));
    }
}

pub(super) fn measure(bench: &Bench<'_>) -> anyhow::Result<Summary> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let clip = ClipReader::open(&bench.clip)?;
    let params = clip.params().clone();
    let units = clip.collect::<Result<Vec<AccessUnit>, _>>()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let reordering = pace::reordering(&params, &units, bench.args.fps)?;
    let mut cameras = Cameras::new(bench, params, Arc::new(reordering), &clock)?;
    let mut sources = cameras.sources()?;
    let (stop, told) = (AtomicBool::new(false), Paced::default());
    let summary = std::thread::scope(|scope| -> anyhow::Result<Summary> {
        let (units, fps, pacing) = (&units, bench.args.fps, &clock);
        let (counts, stop_in, told_in) = (Arc::clone(&cameras.counts), &stop, &told);
        let sources = &mut sources;
        let paced = std::thread::Builder::new().name("pacer".to_owned());
        paced.spawn_scoped(scope, move || {
            pace::pace(sources, units, fps, &**pacing, (&counts.measuring, stop_in, told_in));
        })?;
        let result = cameras.watch(&told);
        stop.store(true, Ordering::Relaxed);
        result
    });
    drop(sources);
    runtime.block_on(async {
        for camera in &cameras.running {
            camera.stop(Duration::from_secs(10)).await;
        }
    });
    summary
}

/// A camera that waits to be started: what the pacer's side sends to.
struct Waiting {
    events: crossbeam_channel::Receiver<IngestEvent>,
    joined: Arc<AtomicBool>,
}

/// The cameras, and what they are made of.
struct Cameras<'a> {
    bench: &'a Bench<'a>,
    params: StreamParams,
    model: String,
    set: GuestSet,
    engine: Arc<facestream_infer::Engine>,
    shared: Arc<Shared>,
    gpus: Gpus,
    reordering_ns: Arc<Vec<u64>>,
    /// Of the cameras from the start, and of those that join: the former are watched while the latter do.
    counts: Arc<Counts>,
    counts_of_joined: Arc<Counts>,
    waiting: std::collections::VecDeque<Waiting>,
    running: Vec<Arc<RunningCamera>>,
    states: Vec<watch::Sender<CameraState>>,
}

/// Sums over cameras, at one moment.
struct Totals {
    at: Instant,
    decoded: u64,
    analysed: u64,
    detections: u64,
    drops: BTreeMap<String, u64>,
    guest_cpu_us: u64,
    engine: facestream_infer::EngineStats,
    cpu_seconds: f64,
    threads: CpuByStage,
}

impl<'a> Cameras<'a> {
    fn new(
        bench: &'a Bench<'a>,
        params: StreamParams,
        reordering_ns: Arc<Vec<u64>>,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let mut config = bench.config.clone();
        config.guests.recorder.seconds = 0;
        let (store, guest_engine) = parts::guest_store(&config.guests, None)?;
        let wanted = &config.defaults.guests;
        let guest = |kind: SlotKind| parts::slot_guest(&store, &guest_engine, kind, wanted.slot(kind));
        let set = GuestSet {
            tracker: guest(SlotKind::Tracker)?,
            scorer: guest(SlotKind::Scorer)?,
            formatter: guest(SlotKind::Formatter)?,
        };
        let models = parts::models(&config.infer, &bench.args.model, None, true)?;
        let file = Path::new(&bench.args.model);
        let model = if file.is_file() { models.add_file(file) } else { bench.args.model.clone() };
        let engine = models.engine(Some(&model), Some(&bench.gpu))?;
        println!("streams: {} of {}", bench.args.streams, models.describe(&model).unwrap_or_default());
        let shared = Arc::new(Shared {
            clock: Arc::clone(clock),
            ingest: facestream_ingest::IngestEnv::with_clock(config.ingest.clone(), Arc::clone(clock)),
            decode: config.decode.clone(),
            mailbox_frames: config.pipeline.mailbox_frames,
            drain: Duration::from_millis(config.pipeline.drain_ms),
            pool: GuestPool::start(config.pipeline.threads()).context("cannot start the guest threads")?,
            events: tokio::sync::broadcast::channel(64).0,
        });
        let gpus = Gpus::new(vec![Arc::clone(&bench.gpu)]);
        let (counts, counts_of_joined) = (Counts::new(clock), Counts::new(clock));
        let (waiting, running, states) = Default::default();
        let parts = Self {
            bench,
            params,
            model,
            set,
            engine,
            shared,
            gpus,
            reordering_ns,
            counts,
            counts_of_joined,
            waiting,
            running,
            states,
        };
        Ok(parts)
    }

    /// The pacer's side of all cameras; each sends once it was started.
    fn sources(&mut self) -> anyhow::Result<Vec<Source>> {
        let (streams, joining) = (self.bench.args.streams, self.bench.args.joining);
        let source = |n: u32| {
            let (send, events) = crossbeam_channel::bounded(QUEUE);
            send.send(IngestEvent::Started { session: 1, params: self.params.clone() })?;
            let phase = Duration::from_secs_f64(2.0 * f64::from(n % streams) / f64::from(streams));
            let joined = Arc::new(AtomicBool::new(false));
            self.waiting.push_back(Waiting { events, joined: Arc::clone(&joined) });
            Ok(Source { send, phase, next: 0, skipping: false, joined })
        };
        (0..streams + joining).map(source).collect()
    }

    /// Starts the next camera.
    fn start_one(&mut self) -> anyhow::Result<()> {
        let n = self.running.len();
        let Waiting { events, joined } = self.waiting.pop_front().context("no camera is left to start")?;
        let id = CameraId::new(&format!("bench-{n}")).context("made of letters and digits")?;
        let metrics = Arc::new(CameraMetrics::default());
        let guests = CameraGuests::new(&id, self.set.clone(), &self.bench.config.guests, Arc::clone(&metrics))?;
        let from_the_start = (n as u64) < u64::from(self.bench.args.streams);
        let counts = if from_the_start { &self.counts } else { &self.counts_of_joined };
        let sink = Arc::new(CountingSink(Arc::clone(counts)));
        let watch_frames =
            Watch { counts: Arc::clone(counts), reordering_ns: Arc::clone(&self.reordering_ns), complete_ns: 0 };
        let motion = self.bench.config.pipeline.camera_motion;
        let stage = Stage::new(guests, sink, Arc::clone(&metrics), Arc::clone(&self.shared.clock))
            .observed_by(Box::new(watch_frames))
            .with_camera_motion(motion);
        let spec = CameraSpec {
            model: Some(self.model.clone()),
            detect_fps: self.bench.args.detect_fps,
            camera_motion: motion,
            // Nothing is fetched from the address: access units come from memory.
            ..CameraSpec::new(id, SourceUrl::parse("rtsp://127.0.0.1/bench")?)
        };
        let book = Arc::new(SlotBook::new(spec, SlotRecords::default()));
        let (state, states_seen) = watch::channel(CameraState::Running);
        let placed: (_, Option<Seat>) = (&self.engine, self.gpus.take(None));
        let source = (events, states_seen, CancellationToken::new());
        let run = n as u64 + 1;
        let camera = RunningCamera::start_with(&self.shared, run, book, &self.model, placed, stage, metrics, source)?;
        joined.store(true, Ordering::Relaxed);
        self.running.push(camera);
        self.states.push(state);
        Ok(())
    }

    /// Waits until all that were started have given a frame.
    fn all_run(&self, since: Instant) -> anyhow::Result<()> {
        while !self.running.iter().all(|camera| camera.metrics().get(Counter::Analysed) > 0) {
            anyhow::ensure!(since.elapsed() < Duration::from_secs(120), "not every camera gave a frame within 120 s");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn totals(&self) -> Totals {
        let sum = |counter| self.running.iter().map(|camera| camera.metrics().get(counter)).sum::<u64>();
        Totals {
            at: Instant::now(),
            decoded: sum(Counter::Decoded),
            analysed: sum(Counter::Analysed),
            detections: sum(Counter::Detections),
            drops: self.drops(self.running.len()),
            guest_cpu_us: self.running.iter().flat_map(|c| c.status().slots).map(|s| s.cpu_us).sum(),
            engine: self.engine.stats(),
            cpu_seconds: cpu_seconds(),
            threads: CpuByStage::read(),
        }
    }

    /// What the first so many cameras dropped, by reason.
    fn drops(&self, cameras: usize) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::<String, u64>::new();
        for (reason, n) in self.running.iter().take(cameras).flat_map(|camera| camera.metrics().all_drops()) {
            *all.entry(reason.to_owned()).or_default() += n;
        }
        all
    }

    /// Starts all, waits until they run, measures, lets others join, and sums up.
    fn watch(&mut self, told: &Paced) -> anyhow::Result<Summary> {
        let begun = Instant::now();
        for _ in 0..self.bench.args.streams {
            self.start_one()?;
        }
        self.all_run(begun)?;
        let start_seconds = begun.elapsed().as_secs_f64();
        // What piled up while decoders were opened one by one must be gone, and all clocks have started after 2 s.
        std::thread::sleep(Duration::from_secs(5));
        let before = self.totals();
        let window = Duration::from_secs(self.bench.args.seconds);
        let ((), seen) = self.counts.during(|| std::thread::sleep(window));
        let now = self.totals();
        let seconds = (now.at - before.at).as_secs_f64();
        let mut drops = since(&before.drops, &now.drops);
        drops.insert("access-unit-queue-full".to_owned(), told.overflow.load(Ordering::Relaxed));
        drops.insert("(sent more than 5 ms late by the benchmark)".to_owned(), told.late.load(Ordering::Relaxed));
        drops.retain(|_, n| *n > 0);
        let frames_due = told.due.load(Ordering::Relaxed);
        let memory = self.bench.gpu.memory()?;
        let picture_memory_mib = self.bench.gpu.picture_bytes() >> 20;
        let mut guest_call_us = BTreeMap::<String, (f64, f64)>::new();
        let mut guests = BTreeMap::new();
        for slot in self.running.iter().flat_map(|camera| camera.status().slots) {
            let entry = guest_call_us.entry(slot.slot.to_string()).or_default();
            *entry = (entry.0 + slot.mean_call_us * slot.calls as f64, entry.1 + slot.calls as f64);
            guests.insert(slot.slot.to_string(), slot.guest);
        }
        let (latencies, reordered): (Vec<f64>, Vec<f64>) = seen.latencies.into_iter().unzip();
        let (batches, frames) = (now.engine.batches - before.engine.batches, now.engine.frames - before.engine.frames);
        let workers = now.engine.workers.max(1) as f64;
        let lost = |(reason, n): (&String, &u64)| !reason.starts_with('(') && *n > 0;
        let mut summary = Summary {
            cameras: self.running.len(),
            seconds,
            guests,
            start_seconds,
            frames_due,
            frames_decoded: now.decoded - before.decoded,
            frames_analysed: now.analysed - before.analysed,
            frames_through_guests: seen.frames,
            detections: now.detections - before.detections,
            messages: seen.messages,
            message_bytes: seen.bytes,
            held: !drops.iter().any(lost),
            drops,
            latency_ms: Percentiles::of(latencies),
            latency_with_reordering_ms: Percentiles::of(reordered),
            message_latency_ms: Percentiles::of(seen.message_latencies),
            cpu_cores: (now.cpu_seconds - before.cpu_seconds) / seconds,
            cores_by_stage: now.threads.cores_since(&before.threads, seconds),
            gpu_memory_mib: (memory.total - memory.free) >> 20,
            picture_memory_mib,
            mean_batch: frames as f64 / batches.max(1) as f64,
            inference_busy: (now.engine.busy_ns - before.engine.busy_ns) as f64 / 1e9 / seconds / workers,
            guest_call_us: guest_call_us.into_iter().map(|(slot, (sum, n))| (slot, sum / n.max(1.0))).collect(),
            guest_cores: now.guest_cpu_us.saturating_sub(before.guest_cpu_us) as f64 / 1e6 / seconds,
            joined: None,
        };
        report::show(&summary);
        if self.bench.args.joining > 0 {
            let joined = self.join(&summary, told)?;
            report::show_joined(&joined);
            summary.joined = Some(joined);
        }
        Ok(summary)
    }

    /// Starts more cameras one after the other while the others run, then measures what all take.
    fn join(&mut self, before: &Summary, told: &Paced) -> anyhow::Result<Joined> {
        let (streams, joining) = (self.bench.args.streams as usize, self.bench.args.joining);
        let counts = Arc::clone(&self.counts);
        let drops = self.drops(streams);
        let overflow = told.overflow.load(Ordering::Relaxed);
        let (started, seen) = counts.during(|| -> anyhow::Result<Vec<f64>> {
            let mut took = Vec::new();
            for _ in 0..joining {
                let one = Instant::now();
                self.start_one()?;
                self.all_run(one)?;
                took.push(one.elapsed().as_secs_f64() * 1e3);
                std::thread::sleep(Duration::from_millis(500));
            }
            Ok(took)
        });
        let started_ms = started?;
        let mut drops_of_others = since(&drops, &self.drops(streams));
        // The pacer does not tell cameras apart: those that join are counted here too.
        let overflow = told.overflow.load(Ordering::Relaxed) - overflow;
        if overflow > 0 {
            drops_of_others.insert("access-unit-queue-full".to_owned(), overflow);
        }
        let others = Percentiles::of(seen.latencies.into_iter().map(|(complete, _)| complete).collect());
        std::thread::sleep(Duration::from_secs(2));
        let (from, at) = (cpu_seconds(), Instant::now());
        std::thread::sleep(Duration::from_secs(self.bench.args.seconds.min(20)));
        let cores = (cpu_seconds() - from) / at.elapsed().as_secs_f64();
        let memory = self.bench.gpu.memory()?;
        let mib = ((memory.total - memory.free) >> 20) as f64;
        let each = |more: f64| more / f64::from(joining);
        Ok(Joined {
            cameras: joining,
            frame_ms: 1e3 / self.bench.args.fps,
            start_ms: Percentiles::of(started_ms),
            others_latency_ms: others,
            others_worst_before_ms: before.latency_ms.max,
            drops_of_others,
            cores_each: each(cores - before.cpu_cores),
            gpu_memory_mib_each: each(mib - before.gpu_memory_mib as f64),
        })
    }
}

/// What was added, where something was.
fn since(before: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let added = |(reason, n): (&String, &u64)| (reason.clone(), n - before.get(reason).copied().unwrap_or(0));
    now.iter().map(added).filter(|(_, n)| *n > 0).collect()
}
