//! JSON lines and MOTChallenge rows of `facestream run`.
//!
//! Owns their shape, which scripts rely on. Must not decide what is printed when.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use facestream_core::{Detection, FrameInfo, Message, Rect, Shot, Track, TrackPhase};
use facestream_pipeline::stage::Observer;
use serde_json::{Value, json};

use crate::cli::Emit;

/// Where lines and rows go; the first write error is kept and ends the run.
pub(crate) struct Output {
    lines: Box<dyn Write + Send>,
    mot: Option<Box<dyn Write + Send>>,
    error: Option<std::io::Error>,
    written: bool,
}

/// A file that keeps what it held until something new is written to it or it is flushed: a run that fails before its first
/// frame must not have emptied the results of the last one.
pub(crate) struct Replaced {
    file: File,
    begun: bool,
}

impl Replaced {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        OpenOptions::new().write(true).create(true).truncate(false).open(path).map(|file| Self { file, begun: false })
    }

    fn begin(&mut self) -> std::io::Result<()> {
        // Pipes and devices have no length.
        if !self.begun && self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.begun = true;
        Ok(())
    }
}

impl Write for Replaced {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.begin()?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.begin()?;
        self.file.flush()
    }
}

impl Output {
    pub(crate) fn new(lines: Box<dyn Write + Send>, mot: Option<Box<dyn Write + Send>>) -> Self {
        Self { lines, mot, error: None, written: false }
    }

    /// Flushes both, and gives the first error of the whole run. Of one that failed with nothing written files stay as they
    /// were.
    pub(crate) fn finish(&mut self, failed: bool) -> std::io::Result<()> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if failed && !self.written {
            return Ok(());
        }
        self.lines.flush()?;
        self.mot.as_mut().map_or(Ok(()), |mot| mot.flush())
    }

    pub(crate) fn failed(&self) -> bool {
        self.error.is_some()
    }

    fn line(&mut self, value: &Value) {
        let mut written = serde_json::to_writer(&mut self.lines, value).map_err(Into::into);
        if written.is_ok() {
            written = self.lines.write_all(b"\n");
        }
        self.keep(written);
    }

    fn row(&mut self, row: std::fmt::Arguments<'_>) {
        let written = self.mot.as_mut().map_or(Ok(()), |mot| mot.write_fmt(row));
        self.keep(written);
    }

    fn keep(&mut self, done: std::io::Result<()>) {
        self.written = true;
        if let Err(error) = done {
            self.error.get_or_insert(error);
        }
    }
}

/// Prints what one input produces.
pub(crate) struct Printer {
    output: Arc<Mutex<Output>>,
    emit: Vec<Emit>,
    /// Named in every line when there are several inputs.
    input: Option<String>,
}

impl Printer {
    pub(crate) fn new(output: Arc<Mutex<Output>>, emit: Vec<Emit>, input: Option<String>) -> Self {
        Self { output, emit, input }
    }

    fn print(&self, kind: Emit, make: impl FnOnce() -> Value) {
        if self.emit.contains(&kind) {
            let mut value = make();
            if let (Some(input), Some(object)) = (&self.input, value.as_object_mut()) {
                object.insert("input".to_owned(), json!(input));
            }
            self.output.lock().unwrap_or_else(PoisonError::into_inner).line(&value);
        }
    }
}

/// `[x1, y1, x2, y2]` in source pixels.
fn corners(b: &Rect) -> Value {
    json!(b.corners().map(rounded))
}

/// Hundredths of a pixel: finer is noise, and shorter lines are quicker to read and to write.
fn rounded(value: f32) -> f64 {
    (f64::from(value) * 100.0).round() / 100.0
}

/// Scores to five digits.
fn score(value: f32) -> f64 {
    (f64::from(value) * 1e5).round() / 1e5
}

fn detection(d: &Detection) -> Value {
    let mut value = json!({ "box": corners(&d.bbox), "score": score(d.confidence), "class": d.class_id });
    if let (Some(landmarks), Some(object)) = (&d.landmarks, value.as_object_mut()) {
        let points = landmarks.points().map(|p| json!([rounded(p.x), rounded(p.y)]));
        object.insert("landmarks".to_owned(), json!(points));
    }
    value
}

fn track(t: &Track) -> Value {
    json!({
        "id": t.id,
        "phase": t.phase,
        "box": corners(&t.bbox),
        "score": score(t.confidence),
        "class": t.class_id,
        "detection": t.detection,
        "velocity": [rounded(t.velocity.x), rounded(t.velocity.y)],
    })
}

/// Bytes as JSON where they are JSON, as text where they are text, else as base64.
fn payload(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "base64": base64::engine::general_purpose::STANDARD.encode(bytes) }),
    })
}

impl Observer for Printer {
    fn frame(&mut self, info: &FrameInfo, detections: &[Detection], tracks: Option<&[Track]>, ended: &[Track]) {
        self.print(Emit::Detections, || {
            json!({
                "type": "detections",
                "frame": info.sequence,
                "timestamp_ns": info.timestamp_ns,
                "detections": detections.iter().map(detection).collect::<Vec<_>>(),
            })
        });
        let Some(tracks) = tracks else { return };
        self.print(Emit::Tracks, || {
            let ended: BTreeSet<u64> = ended.iter().map(|t| t.id).collect();
            json!({
                "type": "tracks",
                "frame": info.sequence,
                "timestamp_ns": info.timestamp_ns,
                "tracks": tracks.iter().map(track).collect::<Vec<_>>(),
                "ended": ended,
            })
        });
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        for row in mot_rows(info.sequence + 1, tracks) {
            output.row(format_args!("{row}\n"));
        }
    }

    fn shot(&mut self, shot: &Shot) {
        self.print(Emit::Shots, || {
            json!({
                "type": "shot",
                "track": shot.track_id,
                "frame": shot.sequence,
                "reason": shot.reason,
                "score": score(shot.score),
                "confidence": score(shot.confidence),
                "sharpness": rounded(shot.quality.sharpness),
                "brightness": rounded(shot.quality.brightness),
                "box": corners(&shot.bbox),
                "size": [shot.picture.width(), shot.picture.height()],
            })
        });
    }

    fn message(&mut self, message: &Message) {
        self.print(Emit::Messages, || {
            json!({
                "type": "message",
                "id": message.id,
                "topic": message.topic,
                "key": String::from_utf8_lossy(&message.key),
                "headers": message.headers,
                "content_type": message.content_type,
                "payload": payload(&message.payload),
            })
        });
    }
}

/// Rows of the MOTChallenge format for the tracks that were seen on a frame (counted from 1, as that format does).
pub(crate) fn mot_rows(frame: u64, tracks: &[Track]) -> Vec<String> {
    let seen = tracks.iter().filter(|t| t.phase == TrackPhase::Confirmed && t.detection.is_some());
    seen.map(|t| {
        let Rect { x, y, width, height } = t.bbox;
        format!("{frame},{},{x:.2},{y:.2},{width:.2},{height:.2},{:.4},-1,-1,-1", t.id, t.confidence)
    })
    .collect()
}
