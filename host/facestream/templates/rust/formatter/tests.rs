//! With the SDK's runner: no camera, no sandbox.

use facestream_guest::testing::{camera, detection, frame, track};
use facestream_guest::{Event, FormatterRunner, Interest};

use super::*;

#[test]
fn who_has_left_is_told_with_the_time_in_sight() {
    let mut formatter = FormatterRunner::<Mine>::new();
    assert_eq!(formatter.configure(&camera("")).unwrap(), Interest::ENDINGS);
    let (info, face) = (frame(0, 0), detection(0.0, 0.0, 10.0, 10.0, 0.9));
    let left = Track { last_seen: 2_500_000_000, ..track(7, &info, &face, 0) };
    let messages = formatter.format(Event::Ending(left)).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&messages[0].payload).unwrap();
    assert_eq!(body, serde_json::json!({"camera_id": "camera-1", "track_id": 7, "seconds_in_sight": 2.5}));
    assert_eq!(messages[0].key, b"camera-1");
}

#[test]
fn an_empty_topic_is_refused() {
    let error = FormatterRunner::<Mine>::new().configure(&camera(r#"{"topic": ""}"#)).unwrap_err();
    assert!(error.message().contains("topic"), "{}", error.message());
}
