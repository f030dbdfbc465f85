//! Whole cameras: paced access units from memory, through decoding, inference and real guests, into a counting sink.
//!
//! Owns the clock of the cameras: access unit k of a camera is due at its start + k / fps, come what may; cameras' starts
//! are spread over two seconds, and so are their key frames. Nothing is dropped silently: what the host drops is counted by
//! the host, what finds a full queue is counted here.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use facestream_core::camera::Transport;
use facestream_core::guest::{GuestsSpec, SlotKind};
use facestream_core::media::{AccessUnit, StreamParams};
use facestream_core::metrics::Counter;
use facestream_core::{
    CameraId, CameraMetrics, CameraSpec, CameraState, Clock, Detection, FrameInfo, Message, Shot, SourceUrl,
    SystemClock, Track,
};
use facestream_decode::{Acceleration, ClipReader, DecodeConfig, open_decoder};
use facestream_guest_host::{CameraGuests, GuestSet};
use facestream_ingest::IngestEvent;
use facestream_pipeline::Gpus;
use facestream_pipeline::book::{SlotBook, SlotRecords};
use facestream_pipeline::camera::{RunningCamera, Shared};
use facestream_pipeline::lane::GuestPool;
use facestream_pipeline::placement::Seat;
use facestream_pipeline::stage::{Observer, Outlet, Stage};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Bench, cpu_seconds, percentile};
use crate::parts;

/// Access units that may wait before a decoder, as in the service.
const QUEUE: usize = 64;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    cameras: usize,
    seconds: f64,
    guests: BTreeMap<String, String>,
    /// From the first camera's start until every one had given a frame.
    start_seconds: f64,
    frames_due: u64,
    frames_decoded: u64,
    frames_analysed: u64,
    frames_through_guests: u64,
    detections: u64,
    messages: u64,
    message_bytes: u64,
    /// By reason.
    drops: BTreeMap<String, u64>,
    /// Milliseconds from when the access unit that completed a frame was due until the guests were through with the frame.
    latency_ms: Percentiles,
    /// The same from the frame's own access unit: with B-frames the decoder gives frames out later, in display order.
    latency_with_reordering_ms: Percentiles,
    /// The same until a message was accepted.
    message_latency_ms: Percentiles,
    cpu_cores: f64,
    gpu_memory_mib: u64,
    picture_memory_mib: u64,
    mean_batch: f64,
    /// Share of the time that each session was at work.
    inference_busy: f64,
    /// Mean microseconds of a guest's call.
    guest_call_us: BTreeMap<String, f64>,
    /// Processor cores that guests took.
    guest_cores: f64,
    held: bool,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Percentiles {
    p50: f64,
    p95: f64,
    p99: f64,
    max: f64,
}

impl Percentiles {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share| percentile(&values, share);
        Self { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: values.last().copied().unwrap_or(0.0) }
    }
}

/// Counts what comes out while it is measured.
struct Counts {
    measuring: AtomicBool,
    clock: Arc<dyn Clock>,
    frames: AtomicU64,
    messages: AtomicU64,
    bytes: AtomicU64,
    latencies: Mutex<Vec<(f64, f64)>>,
    message_latencies: Mutex<Vec<f64>>,
}

impl Counts {
    fn since_ms(&self, due_ns: u64) -> f64 {
        self.clock.monotonic_ns().saturating_sub(due_ns) as f64 / 1e6
    }
}

/// Takes every message.
struct CountingSink(Arc<Counts>);

impl Outlet for CountingSink {
    fn accept(&self, message: Message) -> Result<(), String> {
        if self.0.measuring.load(Ordering::Relaxed) {
            self.0.messages.fetch_add(1, Ordering::Relaxed);
            self.0.bytes.fetch_add(message.payload.len() as u64, Ordering::Relaxed);
        }
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
        if self.counts.measuring.load(Ordering::Relaxed) {
            self.counts.frames.fetch_add(1, Ordering::Relaxed);
            let took = (self.counts.since_ms(self.complete_ns), self.counts.since_ms(info.captured_at_ns));
            self.counts.latencies.lock().unwrap_or_else(PoisonError::into_inner).push(took);
        }
    }

    fn shot(&mut self, _: &Shot) {}

    fn message(&mut self, _: &Message) {
        if self.counts.measuring.load(Ordering::Relaxed) {
            let took = self.counts.since_ms(self.complete_ns);
            self.counts.message_latencies.lock().unwrap_or_else(PoisonError::into_inner).push(took);
        }
    }
}

/// One camera's side of the pacer.
struct Source {
    send: crossbeam_channel::Sender<IngestEvent>,
    phase: Duration,
    next: u64,
    /// Until the next key frame everything is left out: a unit found the queue full.
    skipping: bool,
}

/// What the pacer tells.
#[derive(Default)]
struct Paced {
    due: AtomicU64,
    overflow: AtomicU64,
    /// Units that were sent more than 5 ms late: the pacer itself is behind.
    late: AtomicU64,
}

/// Sends access units when they are due, until `stop`.
fn pace(
    sources: &mut [Source],
    units: &[AccessUnit],
    fps: f64,
    clock: &dyn Clock,
    (measuring, stop, told): (&AtomicBool, &AtomicBool, &Paced),
) {
    let period = Duration::from_secs_f64(1.0 / fps);
    let (start, start_ns) = (Instant::now(), clock.monotonic_ns());
    // All have one rate, so the order in which they are due is the same in every period.
    let mut order: Vec<usize> = (0..sources.len()).collect();
    let within = |s: &Source| s.phase.as_secs_f64() % period.as_secs_f64();
    order.sort_by(|&a, &b| within(&sources[a]).total_cmp(&within(&sources[b])));
    for round in 0.. {
        for &n in &order {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let source = &mut sources[n];
            let offset = Duration::from_secs_f64(within(source) + f64::from(round) * period.as_secs_f64());
            if offset < source.phase {
                continue;
            }
            let wait = (start + offset).saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                std::thread::sleep(wait);
            }
            let due_ns = start_ns + offset.as_nanos() as u64;
            let counted = measuring.load(Ordering::Relaxed);
            if counted {
                told.due.fetch_add(1, Ordering::Relaxed);
                if clock.monotonic_ns().saturating_sub(due_ns) > 5_000_000 {
                    told.late.fetch_add(1, Ordering::Relaxed);
                }
            }
            let k = source.next;
            source.next += 1;
            let unit = &units[(k % units.len() as u64) as usize];
            source.skipping &= !unit.keyframe;
            let lap = k / units.len() as u64 * (units.len() as f64 * 1e9 / fps) as u64;
            let unit = AccessUnit {
                session: 1,
                sequence: k,
                timestamp_ns: unit.timestamp_ns + lap,
                received_ns: due_ns,
                captured_at_ns: due_ns,
                ..unit.clone()
            };
            if source.skipping || source.send.try_send(IngestEvent::AccessUnit(unit)).is_err() {
                source.skipping = true;
                if counted {
                    told.overflow.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// For each frame of the clip, in display order: how much later than its own access unit the one is due with which the
/// decoder gives it out. Found by decoding the clip once; in a loop the last frames come with the next lap's first units.
fn reordering(params: &StreamParams, units: &[AccessUnit], fps: f64) -> anyhow::Result<Vec<u64>> {
    let config = DecodeConfig { acceleration: Acceleration::Cpu, ..DecodeConfig::default() };
    let (metrics, clock) = (Arc::new(CameraMetrics::default()), Arc::new(SystemClock::default()));
    let mut decoder = open_decoder(params, &config, None, metrics, clock)?;
    let mut later = Vec::with_capacity(units.len());
    for k in 0..units.len() + 64 {
        let lap = (k / units.len()) as u64;
        let unit = &units[k % units.len()];
        // Its place in decoding order travels as its capture time.
        let unit = AccessUnit {
            sequence: k as u64,
            timestamp_ns: unit.timestamp_ns + lap * (units.len() as f64 * 1e9 / fps) as u64,
            captured_at_ns: k as u64,
            ..unit.clone()
        };
        decoder.decode(&unit, &mut |frame| later.push(k as u64 - frame.info.captured_at_ns))?;
    }
    later.truncate(units.len());
    Ok(later.into_iter().map(|units| (units as f64 * 1e9 / fps) as u64).collect())
}

pub(super) fn measure(bench: &Bench<'_>) -> anyhow::Result<Summary> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let clip = ClipReader::open(&bench.args.clip)?;
    let params = clip.params().clone();
    let units = clip.collect::<Result<Vec<AccessUnit>, _>>()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let counts = Arc::new(Counts {
        measuring: AtomicBool::new(false),
        clock: Arc::clone(&clock),
        frames: AtomicU64::new(0),
        messages: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        latencies: Mutex::default(),
        message_latencies: Mutex::default(),
    });
    let reordering = Arc::new(reordering(&params, &units, bench.args.fps)?);
    let begun = Instant::now();
    let cameras = Cameras::start(bench, &params, &counts, &clock, &reordering)?;
    let Cameras { mut sources, running, engine_stats, .. } = cameras;
    let (stop, told) = (AtomicBool::new(false), Paced::default());
    let summary = std::thread::scope(|scope| -> anyhow::Result<Summary> {
        let (units, fps, pacing) = (&units, bench.args.fps, &clock);
        let (counts_in, stop_in, told_in) = (&counts, &stop, &told);
        let sources = &mut sources;
        scope.spawn(move || pace(sources, units, fps, &**pacing, (&counts_in.measuring, stop_in, told_in)));
        let result = watch_them(bench, &running, &counts, &told, &engine_stats, begun);
        stop.store(true, Ordering::Relaxed);
        result
    });
    drop(sources);
    runtime.block_on(async {
        for camera in &running {
            camera.stop(Duration::from_secs(10)).await;
        }
    });
    summary
}

/// The cameras and what feeds them.
struct Cameras {
    sources: Vec<Source>,
    running: Vec<Arc<RunningCamera>>,
    engine_stats: Box<dyn Fn() -> facestream_infer::EngineStats>,
    _states: Vec<watch::Sender<CameraState>>,
}

impl Cameras {
    fn start(
        bench: &Bench<'_>,
        params: &StreamParams,
        counts: &Arc<Counts>,
        clock: &Arc<dyn Clock>,
        reordering_ns: &Arc<Vec<u64>>,
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
        let (mut sources, mut running, mut states) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..bench.args.streams {
            let id = CameraId::new(&format!("bench-{n}")).context("made of letters and digits")?;
            let metrics = Arc::new(CameraMetrics::default());
            let guests = CameraGuests::new(&id, set.clone(), &config.guests, Arc::clone(&metrics))?;
            let sink = Arc::new(CountingSink(Arc::clone(counts)));
            let watch_frames =
                Watch { counts: Arc::clone(counts), reordering_ns: Arc::clone(reordering_ns), complete_ns: 0 };
            let stage = Stage::new(guests, sink, Arc::clone(&metrics), Arc::clone(clock))
                .observed_by(Box::new(watch_frames))
                .with_camera_motion(config.pipeline.camera_motion);
            let spec = CameraSpec {
                id,
                // Nothing is fetched from it: access units come from memory.
                url: SourceUrl::parse("rtsp://127.0.0.1/bench")?,
                transport: Transport::Tcp,
                model: Some(model.clone()),
                detect_fps: bench.args.detect_fps,
                keyframes_only: false,
                gpu: None,
                camera_motion: config.pipeline.camera_motion,
                max_attempts: None,
                guests: GuestsSpec::default(),
            };
            let book = Arc::new(SlotBook::new(spec, SlotRecords::default()));
            let (send, events) = crossbeam_channel::bounded(QUEUE);
            let (state, states_seen) = watch::channel(CameraState::Running);
            send.send(IngestEvent::Started { session: 1, params: params.clone() })?;
            let placed: (_, Option<Seat>) = (&engine, gpus.take(None));
            let source = (events, states_seen, CancellationToken::new());
            let camera =
                RunningCamera::start_with(&shared, u64::from(n) + 1, book, &model, placed, stage, metrics, source)?;
            running.push(camera);
            states.push(state);
            let phase = Duration::from_secs_f64(2.0 * f64::from(n) / f64::from(bench.args.streams));
            sources.push(Source { send, phase, next: 0, skipping: false });
        }
        let engine_stats = Box::new(move || engine.stats());
        Ok(Self { sources, running, engine_stats, _states: states })
    }
}

/// Waits until all run, measures, and sums up.
fn watch_them(
    bench: &Bench<'_>,
    running: &[Arc<RunningCamera>],
    counts: &Counts,
    told: &Paced,
    engine_stats: &dyn Fn() -> facestream_infer::EngineStats,
    begun: Instant,
) -> anyhow::Result<Summary> {
    let all_run = || running.iter().all(|camera| camera.metrics().get(Counter::Analysed) > 0);
    while !all_run() {
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(120), "not every camera gave a frame within 120 s");
        std::thread::sleep(Duration::from_millis(50));
    }
    let start_seconds = begun.elapsed().as_secs_f64();
    // What piled up while decoders were opened one by one must be gone, and all clocks have started after 2 s.
    std::thread::sleep(Duration::from_secs(5));
    let sum = |counter| running.iter().map(|camera| camera.metrics().get(counter)).sum::<u64>();
    let dropped = || {
        let mut all = BTreeMap::<String, u64>::new();
        for (reason, n) in running.iter().flat_map(|camera| camera.metrics().all_drops()) {
            *all.entry(reason.to_owned()).or_default() += n;
        }
        all
    };
    let guest_cpu = || running.iter().flat_map(|c| c.status().slots).map(|s| s.cpu_us).sum::<u64>();
    let before = (sum(Counter::Decoded), sum(Counter::Analysed), sum(Counter::Detections), dropped(), guest_cpu());
    let (stats, cpu, started) = (engine_stats(), cpu_seconds(), Instant::now());
    counts.measuring.store(true, Ordering::Relaxed);
    std::thread::sleep(Duration::from_secs(bench.args.seconds));
    counts.measuring.store(false, Ordering::Relaxed);
    let seconds = started.elapsed().as_secs_f64();
    let cpu_cores = (cpu_seconds() - cpu) / seconds;
    let now = engine_stats();
    let mut drops = dropped();
    for (reason, n) in &before.3 {
        if let Some(all) = drops.get_mut(reason) {
            *all -= n;
        }
    }
    drops.insert("access-unit-queue-full".to_owned(), told.overflow.load(Ordering::Relaxed));
    drops.insert("(sent more than 5 ms late by the benchmark)".to_owned(), told.late.load(Ordering::Relaxed));
    drops.retain(|_, n| *n > 0);
    let memory = bench.gpu.memory()?;
    let mut guest_call_us = BTreeMap::<String, (f64, f64)>::new();
    let mut guests = BTreeMap::new();
    for slot in running.iter().flat_map(|camera| camera.status().slots) {
        let entry = guest_call_us.entry(slot.slot.to_string()).or_default();
        *entry = (entry.0 + slot.mean_call_us * slot.calls as f64, entry.1 + slot.calls as f64);
        guests.insert(slot.slot.to_string(), slot.guest);
    }
    let (latencies, reordered): (Vec<f64>, Vec<f64>) =
        std::mem::take(&mut *counts.latencies.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().unzip();
    let message_latencies =
        std::mem::take(&mut *counts.message_latencies.lock().unwrap_or_else(PoisonError::into_inner));
    let (batches, frames) = (now.batches - stats.batches, now.frames - stats.frames);
    let lost = |(reason, n): (&String, &u64)| !reason.starts_with('(') && *n > 0;
    let summary = Summary {
        cameras: running.len(),
        seconds,
        guests,
        start_seconds,
        frames_due: told.due.load(Ordering::Relaxed),
        frames_decoded: sum(Counter::Decoded) - before.0,
        frames_analysed: sum(Counter::Analysed) - before.1,
        frames_through_guests: counts.frames.load(Ordering::Relaxed),
        detections: sum(Counter::Detections) - before.2,
        messages: counts.messages.load(Ordering::Relaxed),
        message_bytes: counts.bytes.load(Ordering::Relaxed),
        held: !drops.iter().any(lost),
        drops,
        latency_ms: Percentiles::of(latencies),
        latency_with_reordering_ms: Percentiles::of(reordered),
        message_latency_ms: Percentiles::of(message_latencies),
        cpu_cores,
        gpu_memory_mib: (memory.total - memory.free) >> 20,
        picture_memory_mib: bench.gpu.picture_bytes() >> 20,
        mean_batch: frames as f64 / batches.max(1) as f64,
        inference_busy: (now.busy_ns - stats.busy_ns) as f64 / 1e9 / seconds / now.workers.max(1) as f64,
        guest_call_us: guest_call_us.into_iter().map(|(slot, (sum, n))| (slot, sum / n.max(1.0))).collect(),
        guest_cores: guest_cpu().saturating_sub(before.4) as f64 / 1e6 / seconds,
    };
    show(&summary);
    Ok(summary)
}

fn show(s: &Summary) {
    println!(
        "  {} cameras, {:.0} s: {} due, {} decoded, {} analysed, {} through guests; {} detections, {} messages ({:.1} MB); {}",
        s.cameras,
        s.seconds,
        s.frames_due,
        s.frames_decoded,
        s.frames_analysed,
        s.frames_through_guests,
        s.detections,
        s.messages,
        s.message_bytes as f64 / 1e6,
        if s.held { "HELD, nothing dropped".to_owned() } else { format!("NOT HELD: {:?}", s.drops) }
    );
    let line = |what: &str, p: &Percentiles| {
        println!("  {what}: p50 {:.1}, p95 {:.1}, p99 {:.1}, max {:.1} ms", p.p50, p.p95, p.p99, p.max);
    };
    line("access unit due -> guests through", &s.latency_ms);
    line("  the same from the frame's own access unit (B-frames)", &s.latency_with_reordering_ms);
    line("access unit due -> message", &s.message_latency_ms);
    println!(
        "  {:.2} cores (guests {:.2}), {} MiB of GPU memory (pictures {}), mean batch {:.1}, sessions {:.0} % busy, started in {:.1} s",
        s.cpu_cores,
        s.guest_cores,
        s.gpu_memory_mib,
        s.picture_memory_mib,
        s.mean_batch,
        s.inference_busy * 100.0,
        s.start_seconds
    );
    println!("  mean call of {:?}: {:.0?} us", s.guests, s.guest_call_us);
}
