//! With the SDK's fake host: no camera, no sandbox.

use facestream_guest::testing::{FakeHost, camera, detection, frame, track};
use facestream_guest::{Quality, Reason, ScorerRunner};

use super::*;

/// Shows one face in three frames, the second one sharpest, then ends its track.
fn watch(scorer: &mut ScorerRunner<Mine>, host: &FakeHost) -> Vec<Shot> {
    let face = detection(100.0, 100.0, 80.0, 100.0, 0.9);
    for (n, sharpness) in [(0, 10.0), (1, 30.0), (2, 20.0)] {
        let picture = host.frame(1280, 720, Quality { sharpness, brightness: 50.0 });
        let info = frame(n, n * 40);
        let tracks = [track(1, &info, &face, 0)];
        let shots = scorer.observe(&info, &picture.lend(), std::slice::from_ref(&face), &tracks, &[]).unwrap();
        assert!(shots.is_empty(), "nothing is given up while the face is in sight");
    }
    let picture = host.frame(1280, 720, Quality { sharpness: 0.0, brightness: 50.0 });
    scorer.observe(&frame(3, 120), &picture.lend(), &[], &[], &[1]).unwrap()
}

#[test]
fn the_sharpest_picture_is_sent_when_the_track_ends() {
    let (host, mut scorer) = (FakeHost::default(), ScorerRunner::<Mine>::new());
    scorer.configure(&camera("")).unwrap();
    let shots = watch(&mut scorer, &host);
    assert_eq!((shots.len(), shots[0].sequence, shots[0].reason), (1, 1, Reason::Ended));
    drop(shots);
    assert_eq!(host.held(), 0, "no picture is left behind");
}

#[test]
fn small_faces_are_not_kept_and_settings_are_checked() {
    let (host, mut scorer) = (FakeHost::default(), ScorerRunner::<Mine>::new());
    scorer.configure(&camera(r#"{"min_width": 81}"#)).unwrap();
    assert!(watch(&mut scorer, &host).is_empty());
    let mut other = ScorerRunner::<Mine>::new();
    let error = other.configure(&camera(r#"{"min_widht": 81}"#)).unwrap_err();
    assert!(error.message().contains("did you mean `min_width`?"), "{}", error.message());
}
