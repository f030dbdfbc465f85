//! `facestream run`: video files or RTSP streams to JSON lines.
//!
//! Files go one after the other at full speed and lose nothing; streams run together until they are interrupted.

use std::fs::{self, File};
use std::io::{BufWriter, IsTerminal as _, LineWriter, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use facestream_core::guest::{GuestsSpec, SlotKind, SlotSpec};
use facestream_core::metrics::{Counter, DropReason};
use facestream_core::{CameraId, CameraMetrics, CameraSpec, Clock, Message, SourceUrl, SystemClock};
use facestream_gpu::Gpu;
use facestream_guest_host::{CameraGuests, GuestSet};
use facestream_pipeline::book::{SlotBook, SlotRecords};
use facestream_pipeline::camera::{RunningCamera, Shared};
use facestream_pipeline::file::FileRun;
use facestream_pipeline::lane::GuestPool;
use facestream_pipeline::placement::Seat;
use facestream_pipeline::stage::{Outlet, Stage};
use facestream_pipeline::{Gpus, Models};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio_util::sync::CancellationToken;

use crate::cli::RunArgs;
use crate::config::Config;
use crate::interrupts::Interrupts;
use crate::lines::{Output, Printer, Replaced};
use crate::parts;

/// Messages of a run go to its output lines, not to a sink.
struct Nowhere;

impl Outlet for Nowhere {
    fn accept(&self, _: Message) -> Result<(), String> {
        Ok(())
    }
}

/// Everything that all inputs of a run share.
struct Run<'a> {
    args: &'a RunArgs,
    config: Config,
    guests: GuestsSpec,
    set: GuestSet,
    models: Arc<Models>,
    gpus: Vec<Arc<Gpu>>,
    model: String,
    output: Arc<Mutex<Output>>,
    clock: Arc<dyn Clock>,
    /// What was lost because a guest failed.
    lost: AtomicU64,
}

/// Runs all inputs. What guests failed on is told and lost, the rest is analysed.
///
/// # Errors
/// When an input, the model, a guest or an output cannot be used.
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    analyse(args).map(|_| ExitCode::SUCCESS)
}

/// The same; answers how many frames, shots and endings were lost because a guest failed.
pub(crate) fn analyse(args: &RunArgs) -> anyhow::Result<u64> {
    let mut config = Config::from_file(args.config.as_deref())?;
    crate::logging::start(false, "warn");
    if let Some(threads) = args.threads {
        config.infer.threads = usize::from(threads);
    }
    if let Some(threshold) = args.score_threshold {
        config.infer.score_threshold = threshold;
    }
    let problems = config.infer.validate();
    ensure!(problems.is_empty(), "{}", problems.join("; "));
    if let Some(fps) = args.detect_fps {
        ensure!(fps.is_finite() && fps > 0.0, "--detect-fps must be above 0");
    }
    let streams = args.inputs.iter().filter(|i| i.contains("://")).count();
    ensure!(streams == 0 || streams == args.inputs.len(), "give either files or stream addresses, not both");
    ensure!(streams > 0 || args.seconds.is_none(), "--seconds is for streams; files are analysed to their end");
    ensure!(args.mot.is_none() || args.inputs.len() == 1, "--mot takes one input: its rows do not name a file");

    // There is nowhere to write a recording, and nobody who asks.
    config.guests.recorder.seconds = 0;
    let guests = GuestsSpec {
        tracker: slot(SlotKind::Tracker, &args.tracker, &args.tracker_config)?,
        scorer: slot(SlotKind::Scorer, &args.scorer, &args.scorer_config)?,
        formatter: slot(SlotKind::Formatter, &args.formatter, &args.formatter_config)?,
    };
    let gpus = parts::gpus(&config.infer)?;
    let models = parts::models(&config.infer, &args.model, None, !gpus.is_empty())?;
    let model =
        if Path::new(&args.model).is_file() { models.add_file(Path::new(&args.model)) } else { args.model.clone() };
    let set = std::thread::scope(|scope| {
        if streams == 0 && gpus.is_empty() {
            // Beside the guests; whoever asks for it next gets it, or the reason again. Not on a GPU, where it may take
            // minutes, which a mistyped guest should not cost.
            scope.spawn(|| models.engine(Some(&model), None));
        }
        let (store, engine) = parts::guest_store(&config.guests, None)?;
        let guest = |kind: SlotKind| parts::slot_guest(&store, &engine, kind, guests.slot(kind));
        anyhow::Ok(GuestSet {
            tracker: guest(SlotKind::Tracker)?,
            scorer: guest(SlotKind::Scorer)?,
            formatter: guest(SlotKind::Formatter)?,
        })
    })?;
    outputs_are_safe(args, streams == 0)?;
    let lines: Box<dyn Write + Send> = match args.out.as_str() {
        // What a camera sees now is to be read now; a file's lines are quicker in blocks.
        "-" if streams > 0 || std::io::stdout().is_terminal() => Box::new(LineWriter::new(std::io::stdout())),
        "-" => Box::new(BufWriter::new(std::io::stdout())),
        path if streams > 0 => Box::new(LineWriter::new(replaced(Path::new(path))?)),
        path => Box::new(BufWriter::new(replaced(Path::new(path))?)),
    };
    let mot: Option<Box<dyn Write + Send>> = match &args.mot {
        Some(path) => Some(Box::new(BufWriter::new(replaced(path)?))),
        None => None,
    };
    let output = Arc::new(Mutex::new(Output::new(lines, mot)));
    let clock = Arc::new(SystemClock::default());
    let lost = AtomicU64::new(0);
    let run = Run { args, config, guests, set, models, gpus, model, output, clock, lost };
    let done = if streams > 0 { run.streams() } else { run.files() };
    let lost = run.lost.load(Ordering::Relaxed);
    // Also after an error: what was analysed is not lost.
    let flushed = run.output.lock().unwrap_or_else(PoisonError::into_inner).finish(done.is_err());
    match (done, flushed) {
        // `facestream run … | head` is no failure.
        (_, Err(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(lost),
        (Ok(()), flushed) => flushed.context("cannot write the output").map(|()| lost),
        (Err(error), _) => Err(error),
    }
}

fn replaced(path: &Path) -> anyhow::Result<Replaced> {
    Replaced::open(path).with_context(|| format!("cannot write {}", path.display()))
}

/// Writing to an output empties it: not before it is clear that it is none of the inputs, nor the other output, and that
/// there is something to read.
fn outputs_are_safe(args: &RunArgs, files: bool) -> anyhow::Result<()> {
    let place = |path: &Path| fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|m| (m.dev(), m.ino()));
    let same = |a: &Path, b: &Path| a == b || place(a).is_some_and(|at| place(b) == Some(at));
    let out = (args.out != "-").then(|| Path::new(&args.out));
    let mot = args.mot.as_deref();
    for input in args.inputs.iter().map(Path::new).filter(|_| files) {
        match fs::metadata(input) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => bail!("{}: no such file", input.display()),
            // Not to open what is no file: a pipe's writer would be told that its reader is gone.
            Ok(m) if m.is_file() => {
                drop(File::open(input).with_context(|| format!("cannot read {}", input.display()))?)
            }
            _ => {}
        }
        for (option, path) in [("--out", out), ("--mot", mot)] {
            let Some(path) = path else { continue };
            ensure!(!same(path, input), "{option} {} is an input, which it would overwrite", path.display());
        }
    }
    if let (Some(out), Some(mot)) = (out, mot) {
        ensure!(!same(out, mot), "--out and --mot are the same file, {}", out.display());
    }
    Ok(())
}

fn slot(kind: SlotKind, guest: &str, config: &str) -> anyhow::Result<SlotSpec> {
    let config: serde_json::Value =
        serde_json::from_str(config).with_context(|| format!("--{kind}-config is no JSON: {config}"))?;
    ensure!(config.is_object(), "--{kind}-config takes a JSON object, e.g. '{{\"key\": 1}}'");
    Ok(SlotSpec::new(guest, config))
}

/// What a second signal costs.
const LOST: &str = "lines that were not written are lost";

/// Is cancelled at SIGINT, SIGTERM or SIGHUP, which do not end the process any more until they come again.
fn interrupts() -> anyhow::Result<CancellationToken> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let told = {
        let _inside = runtime.enter();
        Interrupts::catch()?.told_to_stop(LOST)
    };
    // Never joined: it waits for signals as long as the process lives.
    std::thread::Builder::new().name("interrupts".to_owned()).spawn(move || {
        runtime.block_on(std::future::pending::<()>());
    })?;
    Ok(told)
}

impl Run<'_> {
    fn stage(&self, id: &CameraId, input: &str, metrics: &Arc<CameraMetrics>) -> anyhow::Result<Stage> {
        let guests = CameraGuests::new(id, self.set.clone(), &self.config.guests, Arc::clone(metrics))?;
        let several = (self.args.inputs.len() > 1).then(|| input.to_owned());
        let printer = Printer::new(Arc::clone(&self.output), self.args.emit.clone(), several);
        let stage = Stage::new(guests, Arc::new(Nowhere), Arc::clone(metrics), Arc::clone(&self.clock));
        Ok(stage.observed_by(Box::new(printer)).with_camera_motion(self.camera_motion()))
    }

    fn camera_motion(&self) -> bool {
        self.args.camera_motion || self.config.pipeline.camera_motion
    }

    fn files(&self) -> anyhow::Result<()> {
        let engine = self.models.engine(Some(&self.model), self.gpus.first())?;
        let run = FileRun {
            // Guests of one file run one frame at a time; a second thread would have nothing to do.
            pool: Arc::new(GuestPool::start(1).context("cannot start the guest thread")?),
            depth: engine.lossless_depth(),
            engine,
            decode: self.config.decode.clone(),
            gpu: self.gpus.first().cloned(),
            clock: Arc::clone(&self.clock),
            detect_fps: self.args.detect_fps,
        };
        let interrupted = interrupts()?;
        let failed = || self.output.lock().unwrap_or_else(PoisonError::into_inner).failed();
        for (n, input) in self.args.inputs.iter().enumerate() {
            let id = CameraId::new(&format!("input-{}", n + 1)).context("made of letters and digits")?;
            let metrics = Arc::new(CameraMetrics::default());
            let stage = self.stage(&id, input, &metrics)?;
            let bar = self.bar(input);
            let done = run.run(Path::new(input), stage, &metrics, &mut |frames, total| {
                if let Some(total) = total {
                    bar.set_length(total.max(frames));
                }
                bar.set_position(frames);
                if interrupted.is_cancelled() || failed() {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            });
            bar.finish_and_clear();
            self.count_lost(input, &metrics);
            if !self.args.quiet && (done.is_ok() || metrics.get(Counter::Decoded) > 0) {
                eprintln!("{input}: {}", summary(&metrics));
            }
            done?;
            ensure!(!interrupted.is_cancelled(), "interrupted; what was analysed until then is written");
            if failed() {
                break;
            }
        }
        Ok(())
    }

    /// Says that guests failed, also with `--quiet`: with much output the lines of each failure are far above.
    fn count_lost(&self, input: &str, metrics: &CameraMetrics) {
        for reason in [DropReason::TrackerFailed, DropReason::ScorerFailed, DropReason::FormatterFailed] {
            let n = metrics.drops(reason);
            if n > 0 {
                self.lost.fetch_add(n, Ordering::Relaxed);
                eprintln!("{input}: {} {n} times: a guest failed, the lines above say why", reason.as_str());
            }
        }
    }

    /// Ends when nobody takes the lines any more.
    async fn output_failed(&self) {
        while !self.output.lock().unwrap_or_else(PoisonError::into_inner).failed() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn bar(&self, input: &str) -> ProgressBar {
        if self.args.quiet || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} frames, {per_sec}, {eta} left");
        // The template is a constant; should it be wrong, the default style shows.
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_prefix(input.to_owned());
        bar
    }

    fn streams(&self) -> anyhow::Result<()> {
        let gpus = Gpus::new(self.gpus.clone());
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let mut ingest = self.config.ingest.clone();
        // Whoever types an address on this machine's command line may reach this machine.
        ingest.addresses.allow_loopback = true;
        let shared = Arc::new(Shared {
            clock: Arc::clone(&self.clock),
            ingest: facestream_ingest::IngestEnv::with_clock(ingest, Arc::clone(&self.clock)),
            decode: self.config.decode.clone(),
            mailbox_frames: self.config.pipeline.mailbox_frames,
            drain: Duration::from_millis(self.config.pipeline.drain_ms),
            pool: GuestPool::start(self.config.pipeline.threads()).context("cannot start the guest threads")?,
            events: tokio::sync::broadcast::channel(64).0,
        });
        runtime.block_on(async {
            let interrupted = Interrupts::catch()?.told_to_stop(LOST);
            let mut cameras = Vec::new();
            for (n, input) in self.args.inputs.iter().enumerate() {
                let url = SourceUrl::parse(input)?;
                let shown = url.to_string();
                shared.ingest.policy.precheck(&url).with_context(|| shown.clone())?;
                let id = CameraId::new(&format!("input-{}", n + 1)).context("made of letters and digits")?;
                let metrics = Arc::new(CameraMetrics::default());
                let stage = self.stage(&id, &shown, &metrics)?;
                let spec = CameraSpec {
                    model: Some(self.model.clone()),
                    detect_fps: self.args.detect_fps,
                    camera_motion: self.camera_motion(),
                    guests: self.guests.clone(),
                    ..CameraSpec::new(id, url)
                };
                let book = Arc::new(SlotBook::new(spec, SlotRecords::default()));
                let seat = gpus.take(None);
                let engine = self.models.engine(Some(&self.model), seat.as_ref().map(Seat::gpu))?;
                let placed = (&engine, seat);
                cameras.push(RunningCamera::start(&shared, n as u64 + 1, book, &self.model, placed, stage, metrics)?);
            }
            let limit = self.args.seconds.map_or(Duration::from_secs(u64::from(u32::MAX)), Duration::from_secs);
            tokio::select! {
                () = interrupted.cancelled() => {}
                () = tokio::time::sleep(limit) => {}
                () = self.output_failed() => {}
            }
            for camera in &cameras {
                camera.stop(Duration::from_millis(self.config.pipeline.drain_ms)).await;
                self.count_lost(&camera.status().url, camera.metrics());
                if !self.args.quiet {
                    eprintln!("{}: {}", camera.status().url, summary(camera.metrics()));
                }
            }
            if cameras.iter().all(|c| c.metrics().get(Counter::Decoded) == 0) {
                bail!("no frame came; the lines above say why");
            }
            Ok(())
        })
    }
}

fn summary(metrics: &CameraMetrics) -> String {
    let get = |c| metrics.get(c);
    let mut text = format!(
        "frames={} analysed={} detections={} tracks={} shots={} messages={}",
        get(Counter::Decoded),
        get(Counter::Analysed),
        get(Counter::Detections),
        get(Counter::Tracks),
        get(Counter::Shots),
        get(Counter::Messages),
    );
    for (reason, n) in metrics.all_drops() {
        text += &format!(" dropped[{reason}]={n}");
    }
    text
}
