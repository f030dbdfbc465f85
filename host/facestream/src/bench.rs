//! `facestream bench gpu`: what a GPU carries, stage by stage and as whole cameras.
//!
//! Owns the choice of stages and the report. Each stage prints its table when it is through, so that a run that is cut
//! short has told what it knows; the JSON holds all of them.

mod clip;
mod cpu;
mod decoding;
mod inference;
mod preprocessing;
mod streams;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use facestream_gpu::{Gpu, GpuInfo};
use serde::Serialize;

use crate::assets::Assets;
use crate::cli::BenchCommand;
use crate::config::Config;
use crate::parts;

/// A part of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchStage {
    /// Decoded frames a second by number of decoders
    Decode,
    /// The letterbox kernel beside the card's copy bandwidth
    Preprocess,
    /// Images a second by batch, sessions and provider
    Inference,
    /// Paced cameras from memory through inference and real guests into a counting sink
    Streams,
}

/// `facestream bench gpu`.
#[derive(Debug, Args)]
pub struct BenchGpuArgs {
    /// H.264 or H.265 file that every stream shows; default: one is made, 1080p at 30 frames a second and 4 Mb/s
    #[arg(long, value_name = "FILE")]
    pub clip: Option<PathBuf>,
    /// How the clip is coded that is made where none is given
    #[arg(long, value_enum, default_value = "h264", conflicts_with = "clip")]
    pub codec: clip::ClipCodec,
    /// Name of a model, an ONNX file, or a TensorRT engine with its note beside it
    #[arg(long, default_value = "centerface")]
    pub model: String,
    /// What to measure, comma-separated
    #[arg(long, value_enum, value_delimiter = ',', default_value = "decode,preprocess,inference,streams")]
    pub stages: Vec<BenchStage>,
    /// Cameras of the stage `streams`
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub streams: u32,
    /// Cameras that join one by one after the stage `streams` was measured: what that does to the others, and costs
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub joining: u32,
    /// How long the stage `streams` is measured
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Frames a second that every stream sends
    #[arg(long, default_value_t = 30.0)]
    pub fps: f64,
    /// Frames a second to analyse; default: all
    #[arg(long, value_name = "FPS")]
    pub detect_fps: Option<f32>,
    /// Report detections from this score on; default: the configuration's
    #[arg(long, value_name = "SCORE")]
    pub score_threshold: Option<f32>,
    /// Most detections a frame; default: the configuration's
    #[arg(long, value_name = "N")]
    pub max_detections: Option<usize>,
    /// Decoders of the stage `decode`
    #[arg(long, value_delimiter = ',', default_value = "1,8,16,24")]
    pub decoders: Vec<usize>,
    /// Batches of the stage `inference`
    #[arg(long, value_delimiter = ',', default_value = "1,4,8,16,32")]
    pub batches: Vec<usize>,
    /// Also measure ONNX Runtime's CUDA kernels (ONNX files only)
    #[arg(long)]
    pub with_cuda: bool,
    /// Also measure CUDA graphs
    #[arg(long)]
    pub with_graphs: bool,
    /// Where the report goes as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Configuration file, for its sections infer, decode, pipeline and guests
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
struct Report {
    gpu: Option<GpuInfo>,
    clip: String,
    model: String,
    tensorrt: Option<String>,
    decode: Vec<decoding::Line>,
    preprocess: Option<preprocessing::Line>,
    inference: Vec<facestream_infer::speed::Speed>,
    streams: Option<streams::Summary>,
}

/// What the stages share.
struct Bench<'a> {
    args: &'a BenchGpuArgs,
    config: Config,
    gpu: Arc<Gpu>,
    clip: PathBuf,
}

/// Measures.
///
/// # Errors
/// When there is no GPU, or a stage fails.
pub fn run(command: &BenchCommand) -> anyhow::Result<ExitCode> {
    let BenchCommand::Gpu(args) = command;
    crate::logging::start(false, "warn");
    ensure!(args.fps.is_finite() && args.fps > 0.0, "--fps must be above 0");
    let mut config = Config::from_file(args.config.as_deref())?;
    if let Some(threshold) = args.score_threshold {
        config.infer.score_threshold = threshold;
    }
    if let Some(most) = args.max_detections {
        config.infer.max_detections = most;
    }
    let problems = config.infer.validate();
    ensure!(problems.is_empty(), "{}", problems.join("; "));
    let gpus = parts::gpus(&config.infer)?;
    let gpu = Arc::clone(gpus.first().context("there is no GPU to measure; `facestream doctor` says why")?);
    println!("{}", serde_json::to_string(gpu.info())?);
    let clip = match &args.clip {
        Some(file) => file.clone(),
        // Its input is whatever lies in memory.
        None if args.stages.iter().all(|stage| matches!(stage, BenchStage::Inference)) => PathBuf::new(),
        None => {
            let photo = Assets::find().map(|assets| assets.root().join("clips/solvay.jpg")).unwrap_or_default();
            clip::make(args.codec, &photo, &parts::user_cache().join("bench"))?
        }
    };
    let bench = Bench { args, config, gpu, clip };
    let mut report = Report {
        gpu: Some(bench.gpu.info().clone()),
        clip: bench.clip.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
        model: args.model.clone(),
        tensorrt: facestream_infer::tensorrt_version().ok(),
        ..Report::default()
    };
    for stage in &args.stages {
        let started = Instant::now();
        match stage {
            BenchStage::Decode => report.decode = decoding::measure(&bench)?,
            BenchStage::Preprocess => report.preprocess = Some(preprocessing::measure(&bench)?),
            BenchStage::Inference => report.inference = inference::measure(&bench)?,
            BenchStage::Streams => report.streams = Some(streams::measure(&bench)?),
        }
        println!("({stage:?} took {:.1} s)", started.elapsed().as_secs_f64());
    }
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The value below which `share` of the sorted values lie.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let at = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(0.0)
}

/// Time that a stage of short measurements gives each of them.
const SHORT: Duration = Duration::from_millis(1500);
