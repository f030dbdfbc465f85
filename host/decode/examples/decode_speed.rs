//! Decoding speed beside the ffmpeg program on one thread, measured in turns.
//!
//! `cargo run --release -p facestream-decode --example decode_speed -- CLIP [ROUNDS]`
//!
//! The clip is repeated to a minute of video (stream copy), so that starting a process weighs nothing. Prints frames a
//! second of processor time, which other work on the machine disturbs least, and of wall time.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Instant;

use facestream_core::clock::SystemClock;
use facestream_core::metrics::CameraMetrics;
use facestream_decode::{ClipReader, DecodeConfig, DecodeError, FileSource, open_decoder};

/// User and system time of this process and of the children it waited for, in seconds (Linux; proc(5)).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    // utime, stime, cutime, cstime are fields 14 to 17, counted from the state, field 3; in 1/100 s.
    fields.skip(11).take(4).filter_map(|f| f.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn file(path: &Path) -> Result<u64, DecodeError> {
    let mut frames = 0;
    for frame in FileSource::open(path, &DecodeConfig::default(), None)? {
        std::hint::black_box(frame?);
        frames += 1;
    }
    Ok(frames)
}

fn live(path: &Path) -> Result<u64, DecodeError> {
    let clip = ClipReader::open(path)?;
    let metrics = Arc::new(CameraMetrics::default());
    let clock = Arc::new(SystemClock::default());
    let mut decoder = open_decoder(clip.params(), &DecodeConfig::default(), None, metrics, clock)?;
    let mut frames = 0;
    let mut out = |frame| {
        std::hint::black_box(frame);
        frames += 1;
    };
    for unit in clip {
        decoder.decode(&unit?, &mut out)?;
    }
    decoder.flush(&mut out)?;
    Ok(frames)
}

fn program(path: &Path) -> std::io::Result<()> {
    let status = Command::new("ffmpeg")
        .args(["-loglevel", "error", "-nostdin", "-threads", "1", "-i"])
        .arg(path)
        .args(["-an", "-f", "null", "-"])
        .status()?;
    if status.success() { Ok(()) } else { Err(std::io::Error::other("ffmpeg failed")) }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let clip = arguments.next().ok_or("usage: decode_speed CLIP [ROUNDS]")?;
    let rounds: usize = arguments.next().map_or(Ok(5), |r| r.parse())?;
    let dir = tempfile::tempdir()?;
    let long = dir.path().join("long.mp4");
    let seconds =
        FileSource::open(&clip, &DecodeConfig::default(), None)?.duration_ns().unwrap_or(10_000_000_000) as f64 / 1e9;
    let loops = (60.0 / seconds).ceil().max(1.0) as u64 - 1;
    let made = Command::new("ffmpeg")
        .args(["-loglevel", "error", "-nostdin", "-stream_loop", &loops.to_string(), "-i", &clip, "-c", "copy"])
        .arg(&long)
        .status()?;
    if !made.success() {
        return Err("ffmpeg could not repeat the clip".into());
    }
    let frames = file(&long)?;
    type Contestant = (&'static str, fn(&Path) -> Result<(), Box<dyn std::error::Error>>);
    let contestants: [Contestant; 3] = [
        ("ffmpeg -threads 1", |p| Ok(program(p)?)),
        ("FileSource", |p| Ok(file(p).map(drop)?)),
        ("ClipReader + Decoder", |p| Ok(live(p).map(drop)?)),
    ];
    let mut times = vec![Vec::new(); contestants.len()];
    for _ in 0..rounds {
        for ((_, run), times) in contestants.iter().zip(&mut times) {
            let (wall, cpu) = (Instant::now(), cpu_seconds());
            run(&long)?;
            times.push((cpu_seconds() - cpu, wall.elapsed().as_secs_f64()));
        }
    }
    let mut reference = None;
    for ((name, _), times) in contestants.iter().zip(&times) {
        let median = |mut v: Vec<f64>| {
            v.sort_by(f64::total_cmp);
            frames as f64 / v[v.len() / 2]
        };
        let cpu = median(times.iter().map(|t| t.0).collect());
        let wall = median(times.iter().map(|t| t.1).collect());
        let base = *reference.get_or_insert(cpu);
        println!("{name:22} {cpu:7.0} frames/s of cpu  {wall:7.0} frames/s of wall  ratio (cpu) {:.3}", cpu / base);
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("decode_speed: {e}");
            ExitCode::FAILURE
        }
    }
}
