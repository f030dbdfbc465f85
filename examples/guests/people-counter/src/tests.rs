//! With the SDK's runner: no camera, no sandbox.

use facestream_guest::testing::{camera, detection, frame, track};
use facestream_guest::{FormatterRunner, TrackPhase};

use super::*;

/// One frame a second with these tracks; what came out, as (people, at once).
fn see(formatter: &mut FormatterRunner<PeopleCounter>, second: u64, ids: &[u64]) -> Vec<(u64, u64)> {
    let (info, face) = (frame(second, second * 1000), detection(0.0, 0.0, 10.0, 10.0, 0.9));
    let tracks = ids.iter().map(|id| track(*id, &info, &face, 0)).collect();
    counts(&formatter.format(Event::Frame(info, tracks)).unwrap())
}

fn counts(messages: &[Message]) -> Vec<(u64, u64)> {
    let body = |m: &Message| serde_json::from_slice::<serde_json::Value>(&m.payload).unwrap();
    messages.iter().map(body).map(|b| (b["people"].as_u64().unwrap(), b["at_once"].as_u64().unwrap())).collect()
}

fn started() -> FormatterRunner<PeopleCounter> {
    let mut formatter = FormatterRunner::new();
    assert_eq!(formatter.configure(&camera("")).unwrap(), Interest::FRAMES);
    formatter
}

#[test]
fn each_person_counts_once_a_minute_and_the_rest_when_the_camera_stops() {
    let mut formatter = started();
    for second in 0..60 {
        assert!(see(&mut formatter, second, if second < 30 { &[1, 2] } else { &[3] }).is_empty());
    }
    assert_eq!(see(&mut formatter, 60, &[3]), [(3, 2)]);
    assert_eq!(counts(&formatter.flush().unwrap()), [(1, 1)]);
    assert!(formatter.flush().unwrap().is_empty(), "told once");
}

#[test]
fn a_swap_in_the_middle_of_a_minute_changes_nothing() {
    let (mut one, mut two) = (started(), started());
    see(&mut one, 0, &[1, 2]);
    two.restore(&one.save().unwrap()).unwrap();
    see(&mut one, 1, &[3]);
    see(&mut two, 1, &[3]);
    assert_eq!(see(&mut one, 60, &[]), see(&mut two, 60, &[]));
}

#[test]
fn who_is_not_confirmed_does_not_count() {
    let mut formatter = started();
    let (info, face) = (frame(0, 0), detection(0.0, 0.0, 10.0, 10.0, 0.9));
    let tentative = Track { phase: TrackPhase::Tentative, ..track(1, &info, &face, 0) };
    formatter.format(Event::Frame(info, vec![tentative])).unwrap();
    assert_eq!(counts(&formatter.flush().unwrap()), [(0, 0)]);
}
