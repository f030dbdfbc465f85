//! `facestream guest track`: a tracker component over a MOTChallenge detection file, for comparisons.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use facestream_core::guest::{SlotKind, SlotSpec};
use facestream_core::{CameraId, Detection, FrameInfo, Rect};
use facestream_guest_host::{GuestConfig, GuestEnv, TrackerGuest};

use crate::lines::mot_rows;
use crate::parts;

/// `facestream guest track`.
#[derive(Debug, Args)]
pub struct TrackArgs {
    /// Tracker: a built-in guest's name or a component file
    pub guest: String,
    /// MOTChallenge detections: frame,-1,x,y,width,height,score
    #[arg(long, value_name = "DET.txt")]
    pub detections: PathBuf,
    /// Frames a second of the video they came from
    #[arg(long, default_value_t = 30.0)]
    pub fps: f64,
    /// MOTChallenge tracks: frame,id,x,y,width,height,score,-1,-1,-1
    #[arg(long, value_name = "TRACKS.txt")]
    pub out: PathBuf,
    /// Settings of the tracker, as a JSON object
    #[arg(long, default_value = "{}", value_name = "JSON")]
    pub config: String,
    /// Size of the frames, for trackers that clip to it
    #[arg(long, default_value = "1920x1080", value_name = "WxH")]
    pub size: String,
}

/// Reads detections, calls the tracker for every frame from 1 to the last, writes what it followed.
///
/// # Errors
/// When a file cannot be read or written, or the guest is refused or fails.
pub fn run(args: &TrackArgs) -> anyhow::Result<ExitCode> {
    crate::logging::start(false, "warn");
    ensure!(args.fps.is_finite() && args.fps > 0.0, "--fps must be above 0");
    let size = args.size.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    let Some((width, height)) = size else { bail!("--size takes WxH, e.g. 1920x1080") };
    let frames = read(&args.detections)?;

    let (store, engine) = parts::guest_store(&GuestConfig::default(), None)?;
    let config = serde_json::from_str(&args.config).context("--config is no JSON")?;
    let spec = SlotSpec::new(&args.guest, config);
    let guest = parts::slot_guest(&store, &engine, SlotKind::Tracker, &spec)?;
    let camera = CameraId::new("mot").context("a fixed name")?;
    let env = GuestEnv { camera, guest: guest.reference, limits: GuestConfig::default().limits };
    let mut tracker = TrackerGuest::instantiate(&guest.component, &env)?;
    tracker.configure(&guest.config)?;

    let file = std::fs::File::create(&args.out).with_context(|| format!("cannot write {}", args.out.display()))?;
    let mut out = BufWriter::new(file);
    let last = frames.keys().next_back().copied().unwrap_or(0);
    let none = Vec::new();
    let (mut rows, mut spent) = (0usize, std::time::Duration::ZERO);
    for number in 1..=last {
        let timestamp_ns = ((number - 1) as f64 * 1e9 / args.fps) as u64;
        let info =
            FrameInfo { session: 1, sequence: number - 1, timestamp_ns, captured_at_ns: timestamp_ns, width, height };
        let detections = frames.get(&number).unwrap_or(&none);
        let begun = Instant::now();
        let update = tracker.advance(&info, detections, None).with_context(|| format!("frame {number}"))?;
        spent += begun.elapsed();
        for row in mot_rows(number, &update.tracks) {
            writeln!(out, "{row}")?;
            rows += 1;
        }
    }
    out.flush()?;
    let per_frame = spent.as_secs_f64() * 1e6 / last.max(1) as f64;
    eprintln!("{last} frames, {rows} rows, {per_frame:.1} us a frame in the tracker");
    Ok(ExitCode::SUCCESS)
}

/// Frame number to detections. Columns beyond the seventh are ignored, as the format allows.
fn read(path: &Path) -> anyhow::Result<BTreeMap<u64, Vec<Detection>>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut frames: BTreeMap<u64, Vec<Detection>> = BTreeMap::new();
    for (n, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let row = || format!("{}:{}: expected frame,id,x,y,width,height,score", path.display(), n + 1);
        let columns: Vec<f64> =
            line.split(',').take(7).map(|c| c.trim().parse()).collect::<Result<_, _>>().with_context(row)?;
        let &[frame, _, x, y, width, height, score] = columns.as_slice() else { bail!(row()) };
        // A score outside [0, 1] (some public files hold logits) would be refused by every tracker.
        ensure!(frame >= 1.0 && (0.0..=1.0).contains(&score), "{}; frames count from 1, scores lie in [0, 1]", row());
        let bbox = Rect { x: x as f32, y: y as f32, width: width as f32, height: height as f32 };
        frames.entry(frame as u64).or_default().push(Detection {
            bbox,
            confidence: score as f32,
            class_id: 0,
            landmarks: None,
        });
    }
    Ok(frames)
}
