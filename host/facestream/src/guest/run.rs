//! `facestream guest run`: one guest of one's own over a video file, with built-in guests in the other slots.
//!
//! A front of `facestream run`: it looks at the component's world and fills that slot.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use facestream_core::guest::SlotKind;
use facestream_guest_host::{GuestConfig, inspect};

use crate::cli::{Emit, RunArgs};

/// `facestream guest run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 no guest failed; 1 one did, on frames that the lines name, or nothing could be run."
)]
pub struct GuestRunArgs {
    /// A component file, or the name of a guest
    pub guest: String,
    /// Video file, or an rtsp:// address
    #[arg(value_name = "INPUT")]
    pub input: String,
    /// Settings of the guest, as a JSON object
    #[arg(long, default_value = "{}", value_name = "JSON")]
    pub config: String,
    /// What to print, comma-separated; default: what guests of its world give (tracks, shots or messages)
    #[arg(long, value_enum, value_delimiter = ',')]
    pub emit: Vec<Emit>,
    /// yunet, centerface, or an ONNX file
    #[arg(long, default_value = "yunet")]
    pub model: String,
    /// Where the lines go; `-` is standard output
    #[arg(long, default_value = "-", value_name = "FILE|-")]
    pub out: String,
    /// Analyse so many frames a second of video; default: all
    #[arg(long, value_name = "FPS")]
    pub detect_fps: Option<f32>,
    /// Estimate the camera's own motion and tell the tracker
    #[arg(long)]
    pub camera_motion: bool,
    /// Streams: stop after so many seconds; without it they run until interrupted
    #[arg(long, value_name = "N")]
    pub seconds: Option<u64>,
    /// No progress bar
    #[arg(long, short)]
    pub quiet: bool,
}

/// Runs it. The guest's log lines appear on standard error, each with camera and frame. 1 when something was lost because
/// a guest failed.
///
/// # Errors
/// As `facestream run`.
pub fn run(args: &GuestRunArgs) -> anyhow::Result<ExitCode> {
    // First, so that it wins over the level of `facestream run`.
    crate::logging::start(false, "warn,guest=trace");
    let found = super::find(&args.guest, None)?;
    let info = inspect(&found.bytes, GuestConfig::default().max_component_bytes)
        .with_context(|| format!("this host does not take {}", args.guest))?;
    super::config(&args.config)?;
    let pick = |kind: SlotKind| {
        if kind == info.kind {
            (args.guest.clone(), args.config.clone())
        } else {
            (kind.default_guest().to_owned(), "{}".to_owned())
        }
    };
    let (tracker, tracker_config) = pick(SlotKind::Tracker);
    let (scorer, scorer_config) = pick(SlotKind::Scorer);
    let (formatter, formatter_config) = pick(SlotKind::Formatter);
    let emit = match (&args.emit[..], info.kind) {
        ([], SlotKind::Tracker) => vec![Emit::Tracks],
        ([], SlotKind::Scorer) => vec![Emit::Shots],
        ([], SlotKind::Formatter) => vec![Emit::Messages],
        (chosen, _) => chosen.to_vec(),
    };
    let lost = crate::run::analyse(&RunArgs {
        inputs: vec![args.input.clone()],
        model: args.model.clone(),
        tracker,
        tracker_config,
        scorer,
        scorer_config,
        formatter,
        formatter_config,
        emit,
        mot: None,
        out: args.out.clone(),
        threads: None,
        detect_fps: args.detect_fps,
        camera_motion: args.camera_motion,
        score_threshold: None,
        seconds: args.seconds,
        config: None,
        quiet: args.quiet,
    })?;
    Ok(if lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
