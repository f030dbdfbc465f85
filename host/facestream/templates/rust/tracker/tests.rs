//! With the SDK's runner: no camera, no sandbox.

use facestream_guest::testing::{camera, detection, frame};
use facestream_guest::{TrackerRunner, Update};

use super::*;

/// One frame at a number of milliseconds, with faces at these places.
fn see(tracker: &mut TrackerRunner<Mine>, at_ms: u64, places: &[f32]) -> Update {
    let faces: Vec<Detection> = places.iter().map(|x| detection(*x, 100.0, 80.0, 100.0, 0.9)).collect();
    tracker.advance(&frame(at_ms / 40, at_ms), &faces, None).unwrap()
}

fn started() -> TrackerRunner<Mine> {
    let mut tracker = TrackerRunner::new();
    tracker.configure(&camera("")).unwrap();
    tracker
}

#[test]
fn two_faces_keep_their_ids_and_end_once() {
    let mut tracker = started();
    for n in 0..10_u64 {
        let update = see(&mut tracker, n * 40, &[100.0 + n as f32 * 5.0, 600.0]);
        assert_eq!(update.tracks.iter().map(|t| t.id).collect::<Vec<_>>(), [1, 2]);
    }
    assert!(see(&mut tracker, 1_000, &[]).ended.is_empty(), "still looked for");
    assert_eq!(see(&mut tracker, 1_400, &[]).ended, [1, 2]);
    assert!(see(&mut tracker, 1_440, &[]).ended.is_empty());
    assert_eq!(see(&mut tracker, 1_480, &[100.0]).tracks[0].id, 3, "no id is used twice");
}

#[test]
fn a_swap_changes_nothing() {
    let (mut one, mut two) = (started(), started());
    see(&mut one, 0, &[100.0]);
    two.restore(&one.save().unwrap(), &[]).unwrap();
    assert_eq!(see(&mut one, 40, &[103.0, 500.0]).tracks, see(&mut two, 40, &[103.0, 500.0]).tracks);
}
