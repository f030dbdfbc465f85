//! Shape, selection and splitting.

use super::*;
use facestream_guest::FormatterRunner;
use facestream_guest::testing::{camera, detection, frame, track};
use serde_json::{Value, json};

fn runner(config: &str, max_message_bytes: u32) -> FormatterRunner<FrameTracks> {
    let mut runner = FormatterRunner::new();
    assert_eq!(runner.configure(&Camera { max_message_bytes, ..camera(config) }).unwrap(), Interest::FRAMES);
    runner
}

fn event(k: u64, n: u64) -> Event {
    let info = frame(k, k * 40);
    let tracks = (1..=n)
        .map(|id| {
            let mut t = track(id, &info, &detection(10.0 * id as f32, 20.0, 30.0, 40.5, 0.75), 0);
            t.phase = [TrackPhase::Confirmed, TrackPhase::Lost, TrackPhase::Tentative][(id % 3) as usize];
            t
        })
        .collect();
    Event::Frame(info, tracks)
}

fn bodies(messages: &[Message]) -> Vec<Value> {
    messages.iter().map(|m| serde_json::from_slice(&m.payload).unwrap()).collect()
}

#[test]
fn every_field() {
    let messages = runner("", 900_000).format(event(2, 3)).unwrap();
    assert_eq!((messages[0].topic.as_str(), messages[0].key.as_slice()), ("frame-tracks", b"camera-1".as_slice()));
    assert_eq!(
        bodies(&messages),
        vec![json!({
            "camera_id": "camera-1", "session": 1, "sequence": 2, "captured_at": "2026-02-11T08:56:12.080Z",
            "timestamp_ns": 80_000_000, "width": 1280, "height": 720,
            "tracks": [{
                "id": 3, "phase": "confirmed", "box": [30.0, 20.0, 60.0, 60.5], "velocity": [0.0, 0.0],
                "confidence": 0.75, "class_id": 0, "first_seen_ns": 80_000_000, "last_seen_ns": 80_000_000,
            }],
        })]
    );
}

#[test]
fn phases_are_chosen() {
    let ids = |config: &str| {
        let messages = runner(config, 900_000).format(event(0, 3)).unwrap();
        bodies(&messages)[0]["tracks"].as_array().unwrap().iter().map(|t| t["id"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ids(r#"{"include_lost":true}"#), vec![1, 3]);
    assert_eq!(ids(r#"{"include_tentative":true}"#), vec![2, 3]);
}

#[test]
fn every_nth_also_across_a_swap() {
    let mut r = runner(r#"{"every_nth":3}"#, 900_000);
    let mut written = Vec::new();
    for k in 0..10 {
        for body in bodies(&r.format(event(k, 3)).unwrap()) {
            written.push(body["sequence"].as_u64().unwrap());
        }
        let state = r.save().unwrap();
        r = runner(r#"{"every_nth":3}"#, 900_000);
        r.restore(&state).unwrap();
    }
    assert_eq!(written, vec![0, 3, 6, 9]);
}

#[test]
fn empty_frames_are_left_out_when_asked() {
    assert_eq!(runner("", 900_000).format(event(0, 0)).unwrap().len(), 1);
    assert!(runner(r#"{"include_empty":false}"#, 900_000).format(event(0, 0)).unwrap().is_empty());
}

#[test]
fn a_crowd_is_split_and_nobody_is_left_out() {
    let config = r#"{"include_lost":true,"include_tentative":true}"#;
    let messages = runner(config, 4_000).format(event(0, 100)).unwrap();
    assert!(messages.len() > 1 && messages.iter().all(|m| m.payload.len() <= 4_000));
    let bodies = bodies(&messages);
    let mut ids = Vec::new();
    for (index, body) in bodies.iter().enumerate() {
        assert_eq!(body["part"], json!({"index": index, "count": bodies.len()}));
        ids.extend(body["tracks"].as_array().unwrap().iter().map(|t| t["id"].as_u64().unwrap()));
    }
    assert_eq!(ids, (1..=100).collect::<Vec<_>>());
    assert!(runner(config, 100).format(event(0, 3)).unwrap_err().message().contains("max_message_bytes"));
}

#[test]
fn settings_are_strict() {
    let mut r = FormatterRunner::<FrameTracks>::new();
    assert!(r.configure(&camera(r#"{"every_nth":0}"#)).is_err());
    assert!(r.configure(&camera(r#"{"every":2}"#)).unwrap_err().message().contains("every_nth"));
}
