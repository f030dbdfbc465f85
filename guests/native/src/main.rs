//! Runs a tracker's native build over a recording: `facestream-native track|time botsort|bytetrack RECORDING`.
//!
//! `track` prints every answer and every saved state to the last bit, for comparison with the component's. `time` waits
//! for a line on standard input, runs the recording, prints the nanoseconds of the calls and waits again, so that a
//! benchmark can alternate between this build and the component.
//!
//! A recording is text, a line a record; numbers are decimal, but every `f32` is its bits in hexadecimal:
//! `frame SESSION SEQUENCE TIMESTAMP CAPTURED_AT WIDTH HEIGHT`, then the frame's `motion` (six f32), if known, and a
//! `box` each detection: x, y, width, height, confidence, class, and ten f32 more when it has landmarks; `save` after a
//! frame asks for its state.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Instant;

use facestream_botsort::Botsort;
use facestream_bytetrack::Bytetrack;
use facestream_guest::{
    Affine, Camera, Detection, FrameInfo, Landmarks, Point, Rect, Snapshot, Track, TrackPhase, Tracker, TrackerRunner,
    Update,
};

/// One frame of a recording.
struct Recorded {
    info: FrameInfo,
    motion: Option<Affine>,
    detections: Vec<Detection>,
    save: bool,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        [task, "botsort", path] => run::<Botsort>(task, path),
        [task, "bytetrack", path] => run::<Bytetrack>(task, path),
        _ => Err("usage: facestream-native track|time botsort|bytetrack RECORDING".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run<T: Tracker>(task: &str, path: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    let frames = parse(&text).map_err(|e| format!("{path}: {e}"))?;
    match task {
        "track" => track::<T>(&frames),
        "time" => time::<T>(&frames),
        _ => Err(format!("no task `{task}`")),
    }
}

fn fresh<T: Tracker>() -> Result<TrackerRunner<T>, String> {
    let mut runner = TrackerRunner::new();
    let camera = Camera { id: "camera".to_owned(), config: "{}".to_owned(), max_message_bytes: 1_000_000 };
    runner.configure(&camera).map_err(|e| e.message().to_owned())?;
    Ok(runner)
}

fn track<T: Tracker>(frames: &[Recorded]) -> Result<(), String> {
    let mut runner = fresh::<T>()?;
    let mut out = String::new();
    let failed = |e: facestream_guest::GuestError| e.message().to_owned();
    for f in frames {
        let update = runner.advance(&f.info, &f.detections, f.motion.as_ref()).map_err(failed)?;
        write_update(&mut out, &update);
        if f.save {
            write_state(&mut out, &runner.save().map_err(failed)?);
        }
    }
    std::io::stdout().write_all(out.as_bytes()).map_err(|e| e.to_string())
}

fn time<T: Tracker>(frames: &[Recorded]) -> Result<(), String> {
    for line in std::io::stdin().lock().lines() {
        line.map_err(|e| e.to_string())?;
        let mut runner = fresh::<T>()?;
        let mut nanoseconds = 0;
        for f in frames {
            let began = Instant::now();
            let update = runner.advance(&f.info, &f.detections, f.motion.as_ref());
            nanoseconds += began.elapsed().as_nanos();
            drop(update.map_err(|e| e.message().to_owned())?);
        }
        println!("{nanoseconds}");
    }
    Ok(())
}

fn hex(out: &mut String, values: &[f32]) {
    for v in values {
        out.push_str(&format!(" {:08x}", v.to_bits()));
    }
}

fn write_update(out: &mut String, update: &Update) {
    let mut line =
        |text: std::fmt::Arguments<'_>| out.write_fmt(text).unwrap_or_else(|_| unreachable!("a string takes all"));
    line(format_args!("frame\n"));
    for t in &update.tracks {
        let Track { id, phase, bbox, velocity, confidence, class_id, detection, first_seen, last_seen } = t;
        let phase = match phase {
            TrackPhase::Tentative => "tentative",
            TrackPhase::Confirmed => "confirmed",
            TrackPhase::Lost => "lost",
        };
        let mut floats = String::new();
        hex(&mut floats, &[bbox.x, bbox.y, bbox.width, bbox.height, velocity.x, velocity.y, *confidence]);
        line(format_args!("track {id} {phase}{floats} {class_id} {detection:?} {first_seen} {last_seen}\n"));
    }
    line(format_args!("ended {:?}\n", update.ended));
}

fn write_state(out: &mut String, state: &Snapshot) {
    out.push_str("state ");
    out.push_str(&state.schema);
    out.push(' ');
    out.extend(state.data.iter().map(|b| format!("{b:02x}")));
    out.push('\n');
}

fn parse(text: &str) -> Result<Vec<Recorded>, String> {
    let mut frames: Vec<Recorded> = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let mut words = Words { line: n + 1, words: line.split(' ') };
        let kind = words.words.next().unwrap_or_default();
        if kind == "frame" {
            let info = FrameInfo {
                session: words.number()?,
                sequence: words.number()?,
                timestamp: words.number()?,
                captured_at: words.number()?,
                width: words.number()?,
                height: words.number()?,
            };
            frames.push(Recorded { info, motion: None, detections: Vec::new(), save: false });
            continue;
        }
        let frame = frames.last_mut().ok_or("it does not begin with a frame")?;
        match kind {
            "motion" => {
                let [a, b, tx, c, d, ty] = words.floats()?;
                frame.motion = Some(Affine { a, b, tx, c, d, ty });
            }
            "box" => {
                let [x, y, width, height, confidence] = words.floats()?;
                let class_id = words.number()?;
                let landmarks = if words.words.clone().next().is_some() { Some(words.landmarks()?) } else { None };
                frame.detections.push(Detection {
                    bbox: Rect { x, y, width, height },
                    confidence,
                    class_id,
                    landmarks,
                });
            }
            "save" => frame.save = true,
            other => return Err(format!("line {}: no record is called `{other}`", n + 1)),
        }
    }
    Ok(frames)
}

/// The words of one line.
struct Words<'a> {
    line: usize,
    words: std::str::Split<'a, char>,
}

impl Words<'_> {
    fn number<N: FromStr>(&mut self) -> Result<N, String> {
        let word = self.words.next().and_then(|w| w.parse().ok());
        word.ok_or_else(|| format!("line {}: a number is missing or none", self.line))
    }

    fn floats<const N: usize>(&mut self) -> Result<[f32; N], String> {
        let mut floats = [0.0; N];
        for f in &mut floats {
            let bits = self.words.next().and_then(|w| u32::from_str_radix(w, 16).ok());
            *f = f32::from_bits(
                bits.ok_or_else(|| format!("line {}: eight hexadecimal digits are missing", self.line))?,
            );
        }
        Ok(floats)
    }

    fn landmarks(&mut self) -> Result<Landmarks, String> {
        let p: [f32; 10] = self.floats()?;
        let at = |i: usize| Point { x: p[2 * i], y: p[2 * i + 1] };
        Ok(Landmarks { left_eye: at(0), right_eye: at(1), nose: at(2), mouth_left: at(3), mouth_right: at(4) })
    }
}
