//! Field by field against the first FaceStream's example.

use super::*;
use facestream_guest::testing::{FakeHost, camera, frame};
use facestream_guest::{FormatterRunner, Point};
use serde_json::{Value, json};

fn shot(host: &FakeHost) -> Shot {
    let info = frame(7, 500);
    Shot {
        track_id: 42,
        picture: host.crop(150, 180, Quality { sharpness: 85.2, brightness: 70.1 }),
        bbox: Rect { x: 10.0, y: 20.0, width: 120.0, height: 150.0 },
        confidence: 0.98,
        landmarks: Some(Landmarks {
            left_eye: Point { x: 40.0, y: 60.0 },
            right_eye: Point { x: 90.0, y: 60.0 },
            nose: Point { x: 65.0, y: 90.0 },
            mouth_left: Point { x: 45.0, y: 120.0 },
            mouth_right: Point { x: 85.0, y: 120.0 },
        }),
        quality: Quality { sharpness: 85.2, brightness: 70.1 },
        score: 95.0,
        captured_at: info.captured_at,
        session: 1,
        sequence: 7,
        reason: Reason::Ended,
    }
}

fn run(config: &str, max_message_bytes: u32) -> Result<Vec<Message>, GuestError> {
    let host = FakeHost::default();
    let mut runner = FormatterRunner::<Mega>::new();
    let interest = runner.configure(&Camera { max_message_bytes, ..camera(config) })?;
    assert_eq!(interest, Interest::SHOTS);
    runner.format(Event::Shot(shot(&host)))
}

#[test]
fn every_field_as_the_first_facestream_wrote_it() {
    let messages = run("", 900_000).unwrap();
    let [m] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!((m.topic.as_str(), m.key.as_slice()), ("detectionMega", b"camera-1".as_slice()));
    assert_eq!(m.content_type, "application/json");
    let text = std::str::from_utf8(&m.payload).unwrap();
    let image = serde_json::from_str::<Value>(text).unwrap()["image_base64"].as_str().unwrap().to_owned();
    assert!(image.starts_with("/9h"), "a JPEG's first bytes in base64");
    assert_eq!(
        text,
        format!(
            "{{\"camera_id\":\"camera-1\",\"face_width\":120,\"face_height\":150,\"sharpness\":85.2,\
             \"brightness\":70.1,\"image_base64\":\"{image}\"}}"
        )
    );
}

#[test]
fn more_fields_only_when_asked_for() {
    let m = run(r#"{"provenance":true,"topic":"gates"}"#, 900_000).unwrap().remove(0);
    assert_eq!(m.topic, "gates");
    let body: Value = serde_json::from_slice(&m.payload).unwrap();
    assert_eq!(
        body["provenance"],
        json!({
            "track_id": 42, "session": 1, "sequence": 7, "reason": "ended", "score": 95.0,
            "box": [10.0, 20.0, 130.0, 170.0],
            "landmarks": [[40.0, 60.0], [90.0, 60.0], [65.0, 90.0], [45.0, 120.0], [85.0, 120.0]],
        })
    );
}

#[test]
fn a_message_never_exceeds_the_cameras_limit() {
    for max in [900_000, 16_000, 8_000, 4_000, 2_000] {
        let m = run("", max).unwrap().remove(0);
        assert!(m.payload.len() <= max as usize, "{} > {max}", m.payload.len());
    }
    assert!(run("", 100).unwrap_err().message().contains("max_message_bytes"));
    assert!(run("", 250).unwrap_err().message().contains("max_message_bytes"));
}

#[test]
fn settings_are_strict() {
    let message = |config: &str| run(config, 900_000).unwrap_err().message().to_owned();
    assert!(message(r#"{"jpeg_qualty":80}"#).contains("did you mean `jpeg_quality`"));
    let both = message(r#"{"jpeg_quality":0,"topic":"a b"}"#);
    assert!(both.contains("jpeg_quality") && both.contains("topic"), "{both}");
}
