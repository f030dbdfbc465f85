//! With the SDK's fake host: no camera, no sandbox, no pixels.

use facestream_guest::testing::{FakeHost, camera, detection, frame, track};
use facestream_guest::{Landmarks, Point, Quality, Reason, ScorerRunner, TrackPhase};

use super::*;

/// A face at x = 100 whose nose is at this share of the way between the eyes: 0.5 looks straight ahead.
fn face(nose: f32) -> Detection {
    let at = |x: f32, y: f32| Point { x: 100.0 + 80.0 * x, y: 100.0 + 100.0 * y };
    let mut face = detection(100.0, 100.0, 80.0, 100.0, 0.9);
    face.landmarks = Some(Landmarks {
        left_eye: at(0.3, 0.4),
        right_eye: at(0.7, 0.4),
        nose: at(0.3 + 0.4 * nose, 0.6),
        mouth_left: at(0.35, 0.8),
        mouth_right: at(0.65, 0.8),
    });
    face
}

struct Scene {
    host: FakeHost,
    scorer: ScorerRunner<SteadyShot>,
    frames: u64,
}

impl Scene {
    fn new(config: &str) -> Self {
        let mut scorer = ScorerRunner::new();
        scorer.configure(&camera(config)).unwrap();
        Self { host: FakeHost::default(), scorer, frames: 0 }
    }

    /// One frame with track 1, which moves by so many pixels a second.
    fn see(&mut self, face: &Detection, speed: f32, phase: TrackPhase) -> Vec<Shot> {
        let picture = self.host.frame(1280, 720, Quality { sharpness: 20.0, brightness: 50.0 });
        let info = frame(self.frames, self.frames * 40);
        let track = Track { velocity: Point { x: speed, y: 0.0 }, phase, ..track(1, &info, face, 0) };
        self.frames += 1;
        self.scorer.observe(&info, &picture.lend(), std::slice::from_ref(face), &[track], &[]).unwrap()
    }

    fn end(&mut self) -> Vec<Shot> {
        let picture = self.host.frame(1280, 720, Quality { sharpness: 20.0, brightness: 50.0 });
        self.scorer.observe(&frame(self.frames, self.frames * 40), &picture.lend(), &[], &[], &[1]).unwrap()
    }
}

#[test]
fn the_straight_and_still_picture_wins_whenever_it_comes() {
    let moments = [(0.35, 0.0), (0.5, 0.0), (0.5, 200.0), (0.4, 10.0)];
    for turned in 0..moments.len() {
        let mut scene = Scene::new("");
        for i in 0..moments.len() {
            let (nose, speed) = moments[(i + turned) % moments.len()];
            assert!(scene.see(&face(nose), speed, TrackPhase::Confirmed).is_empty(), "nothing is given up early");
            assert_eq!(scene.host.held(), 1, "one picture a track");
        }
        let shots = scene.end();
        let best = (1 + moments.len() - turned) % moments.len();
        assert_eq!((shots.len(), shots[0].sequence, shots[0].reason), (1, best as u64, Reason::Ended));
        assert!((shots[0].score - 100.0).abs() < 0.01, "{}", shots[0].score);
    }
}

#[test]
fn profiles_faces_without_points_and_unconfirmed_tracks_are_not_kept() {
    let mut scene = Scene::new(r#"{"min_frontality": 0.5}"#);
    assert!(scene.see(&face(0.1), 0.0, TrackPhase::Confirmed).is_empty());
    assert!(scene.see(&Detection { landmarks: None, ..face(0.5) }, 0.0, TrackPhase::Confirmed).is_empty());
    assert!(scene.see(&face(0.5), 0.0, TrackPhase::Tentative).is_empty());
    assert_eq!((scene.host.crops(), scene.end().len()), (0, 0));
    let mut lenient = Scene::new("");
    assert!(lenient.see(&face(0.1), 0.0, TrackPhase::Confirmed).is_empty());
    assert_eq!(lenient.end().len(), 1);
}

#[test]
fn held_pictures_travel_over_a_swap_and_leave_with_the_camera() {
    let mut scene = Scene::new("");
    assert!(scene.see(&face(0.45), 0.0, TrackPhase::Confirmed).is_empty());
    let (state, held) = scene.scorer.save().unwrap();
    assert_eq!(held.len(), 1);
    let mut next = ScorerRunner::<SteadyShot>::new();
    next.configure(&camera("")).unwrap();
    next.restore(&state, held).unwrap();
    scene.scorer = next;
    assert!(scene.see(&face(0.5), 0.0, TrackPhase::Confirmed).is_empty());
    let shots = scene.scorer.flush().unwrap();
    assert_eq!((shots.len(), shots[0].sequence, shots[0].reason), (1, 1, Reason::Flushed));
    drop(shots);
    assert_eq!(scene.host.held(), 0, "no crop leaks");
}
