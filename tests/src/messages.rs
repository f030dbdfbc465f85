//! Messages as the JSONL sink writes them, and what must hold for those of the two topics of the first FaceStream.

use std::path::Path;

use base64::Engine as _;
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// One line.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Line {
    pub topic: String,
    pub key: String,
    pub headers: Value,
    pub payload: Value,
}

impl Line {
    /// Identity of the message.
    #[must_use]
    pub fn id(&self) -> &str {
        self.headers["message-id"].as_str().unwrap_or_default()
    }
}

/// Whole lines of a topic's file; none when there is no file yet.
///
/// # Panics
/// When a line is not as documented.
#[must_use]
pub fn read(data: &Path, topic: &str) -> Vec<Line> {
    let text = std::fs::read_to_string(data.join("messages").join(format!("{topic}.jsonl"))).unwrap_or_default();
    // The last one may be on its way.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{topic}: {e}: {line}"));
    let lines: Vec<Line> = whole.lines().map(parse).collect();
    assert!(lines.iter().all(|l| l.topic == topic), "every line names its topic, {topic}");
    lines
}

/// Number of lines of all topics.
#[must_use]
pub fn count(data: &Path) -> u64 {
    let files = std::fs::read_dir(data.join("messages")).into_iter().flatten().flatten();
    files.map(|f| std::fs::read_to_string(f.path()).unwrap_or_default().lines().count() as u64).sum()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().map(|o| o.keys().map(String::as_str).collect()).unwrap_or_default()
}

#[track_caller]
fn number(value: &Value, least: f64, most: f64) -> f64 {
    let n = value.as_f64().unwrap_or_else(|| panic!("{value} is no number"));
    assert!((least..=most).contains(&n), "{n} is not within {least} to {most}");
    n
}

/// Asserts base64 of a whole JPEG file and gives the picture's size.
///
/// # Panics
/// When it is not.
#[track_caller]
pub fn assert_jpeg_base64(value: &Value) -> (u16, u16) {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is no text"));
    assert_jpeg(&base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_else(|e| panic!("{e}: {text}")))
}

/// Asserts a whole JPEG file and gives the picture's size.
///
/// # Panics
/// When it is not.
#[track_caller]
pub fn assert_jpeg(jpeg: &[u8]) -> (u16, u16) {
    assert!(jpeg.len() > 100 && jpeg[..3] == [0xff, 0xd8, 0xff], "begins as a JPEG file");
    assert_eq!(jpeg[jpeg.len() - 2..], [0xff, 0xd9], "ends as a JPEG file");
    let mut at = 2;
    loop {
        let (marker, length) = (jpeg[at + 1], usize::from(jpeg[at + 2]) << 8 | usize::from(jpeg[at + 3]));
        if (0xc0..=0xc2).contains(&marker) {
            let side = |i: usize| u16::from(jpeg[at + i]) << 8 | u16::from(jpeg[at + i + 1]);
            let (height, width) = (side(5), side(7));
            assert!(width > 0 && height > 0);
            return (width, height);
        }
        at += 2 + length;
    }
}

#[track_caller]
fn common(line: &Line, camera: &str) {
    assert_eq!(line.key, camera, "the key is the camera");
    assert_eq!(line.payload["camera_id"], camera);
    assert_eq!(line.headers["content-type"], "application/json");
    assert!(line.id().starts_with(&format!("{camera}/")), "{}", line.headers);
}

/// Asserts a `gate-metric-detections` message of this camera, field by field in the order on the wire.
///
/// # Panics
/// When a field is not as it must be.
#[track_caller]
pub fn assert_gate(line: &Line, camera: &str) {
    common(line, camera);
    let body = &line.payload;
    let expected = ["camera_id", "detection_time", "image_base64", "confidence", "quality_metadata"];
    assert_eq!(
        keys(body).iter().filter(|k| **k != "provenance").collect::<Vec<_>>(),
        expected.iter().collect::<Vec<_>>()
    );
    let text = body["detection_time"].as_str().unwrap_or_else(|| panic!("{}", body["detection_time"]));
    assert!(text.ends_with('Z') && text.len() == "2026-02-11T08:56:12Z".len(), "{text}");
    let at = OffsetDateTime::parse(text, &Rfc3339).unwrap_or_else(|e| panic!("{text}: {e}"));
    let age = OffsetDateTime::now_utc() - at;
    assert!((-60..3600).contains(&age.whole_seconds()), "{text} is about now");
    number(&body["confidence"], 0.0, 1.0);
    assert_eq!(keys(&body["quality_metadata"]), ["sharpness", "brightness"]);
    number(&body["quality_metadata"]["sharpness"], 0.0, 255.0);
    number(&body["quality_metadata"]["brightness"], 0.0, 100.0);
    assert_jpeg_base64(&body["image_base64"]);
}

/// The same for a `detectionMega` message.
///
/// # Panics
/// When a field is not as it must be.
#[track_caller]
pub fn assert_mega(line: &Line, camera: &str) {
    common(line, camera);
    let body = &line.payload;
    let expected = ["camera_id", "face_width", "face_height", "sharpness", "brightness", "image_base64"];
    assert_eq!(
        keys(body).iter().filter(|k| **k != "provenance").collect::<Vec<_>>(),
        expected.iter().collect::<Vec<_>>()
    );
    assert!(body["face_width"].is_u64() && body["face_height"].is_u64(), "whole pixels: {}", body["face_width"]);
    let (width, height) = (number(&body["face_width"], 4.0, 720.0), number(&body["face_height"], 4.0, 720.0));
    number(&body["sharpness"], 0.0, 255.0);
    number(&body["brightness"], 0.0, 100.0);
    let (w, h) = assert_jpeg_base64(&body["image_base64"]);
    // The picture is the face with a margin, unless the frame's border cuts it.
    assert!(f64::from(w) <= 3.0 * width + 4.0 && f64::from(h) <= 3.0 * height + 4.0, "{w}x{h} for {width}x{height}");
}
