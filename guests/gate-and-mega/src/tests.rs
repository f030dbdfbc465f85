//! Both messages are exactly those of the two single formatters.

use super::*;
use facestream_guest::FormatterRunner;
use facestream_guest::testing::{FakeHost, camera, frame};
use serde_json::Value;

fn shot(host: &FakeHost) -> Shot {
    let info = frame(7, 500);
    let quality = Quality { sharpness: 85.2, brightness: 70.1 };
    Shot {
        track_id: 42,
        picture: host.crop(300, 360, quality),
        bbox: Rect { x: 10.0, y: 20.0, width: 119.6, height: 150.2 },
        confidence: 0.98,
        landmarks: None,
        quality,
        score: 95.0,
        captured_at: info.captured_at,
        session: 1,
        sequence: 7,
        reason: Reason::Inactive,
    }
}

fn run<T: Formatter>(config: &str, max_message_bytes: u32) -> Result<Vec<Message>, GuestError> {
    let mut runner = FormatterRunner::<T>::new();
    runner.configure(&Camera { max_message_bytes, ..camera(config) })?;
    runner.format(Event::Shot(shot(&FakeHost::default())))
}

#[test]
fn both_equal_the_single_formatters() {
    for config in ["", r#"{"provenance":true}"#, r#"{"max_side_px":64,"jpeg_quality":70}"#] {
        let mut singles = run::<facestream_gate_metric::GateMetric>(config, 900_000).unwrap();
        singles.extend(run::<facestream_mega::Mega>(config, 900_000).unwrap());
        assert_eq!(run::<GateAndMega>(config, 900_000).unwrap(), singles, "{config}");
    }
}

#[test]
fn both_fit_and_show_the_same_picture() {
    for max in [900_000, 30_000, 5_000, 2_000] {
        let both = run::<GateAndMega>("", max).unwrap();
        assert_eq!(both.len(), 2);
        assert!(both.iter().all(|m| m.payload.len() <= max as usize && m.key == b"camera-1"));
        let image = |m: &Message| serde_json::from_slice::<Value>(&m.payload).unwrap()["image_base64"].clone();
        assert_eq!(image(&both[0]), image(&both[1]));
    }
    assert!(run::<GateAndMega>("", 200).unwrap_err().message().contains("max_message_bytes"));
}

#[test]
fn topics_are_settings() {
    let both = run::<GateAndMega>(r#"{"gate_topic":"a","mega_topic":"b"}"#, 900_000).unwrap();
    assert_eq!([both[0].topic.as_str(), both[1].topic.as_str()], ["a", "b"]);
    assert!(run::<GateAndMega>(r#"{"gate_topic":""}"#, 900_000).is_err());
}

#[test]
fn other_events_write_nothing() {
    let mut runner = FormatterRunner::<GateAndMega>::new();
    assert_eq!(runner.configure(&camera("")).unwrap(), Interest::SHOTS);
    assert!(runner.format(Event::Frame(frame(1, 0), vec![])).unwrap().is_empty());
    assert!(runner.flush().unwrap().is_empty());
}
