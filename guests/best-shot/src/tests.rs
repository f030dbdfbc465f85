//! The scorer against the fake host.

use facestream_guest::testing::{FakeHost, camera, detection, frame, take_logs, track};
use facestream_guest::{Detection, FrameInfo, Point, ScorerRunner, Snapshot};

use super::*;

const WIDE: (u32, u32) = (1280, 720);

struct Rig {
    host: FakeHost,
    runner: ScorerRunner<BestShot>,
    at_ms: u64,
    sequence: u64,
}

/// What a track shows in one frame.
#[derive(Clone, Copy)]
struct Look {
    id: u64,
    confidence: f32,
    sharpness: f32,
    brightness: f32,
}

fn look(id: u64, sharpness: f32) -> Look {
    Look { id, confidence: 0.9, sharpness, brightness: 50.0 }
}

impl Rig {
    fn new(config: &str) -> Self {
        Self::on(FakeHost::default(), config)
    }

    fn on(host: FakeHost, config: &str) -> Self {
        let mut runner = ScorerRunner::new();
        runner.configure(&camera(config)).unwrap();
        Self { host, runner, at_ms: 0, sequence: 0 }
    }

    fn info(&self) -> FrameInfo {
        frame(self.sequence, self.at_ms)
    }

    /// Each track has a 100x100 face of its own at x = 100 * id, so that the fake can tell them apart.
    fn see(&mut self, looks: &[Look], ended: &[u64]) -> Vec<Shot> {
        let info = self.info();
        let detections: Vec<Detection> =
            looks.iter().map(|l| detection(100.0 * l.id as f32, 200.0, 100.0, 100.0, l.confidence)).collect();
        let tracks: Vec<Track> =
            (0..).zip(looks.iter().zip(&detections)).map(|(i, (l, d))| track(l.id, &info, d, i)).collect();
        self.see_raw(&info, looks, &detections, &tracks, ended)
    }

    fn see_raw(&mut self, info: &FrameInfo, looks: &[Look], d: &[Detection], t: &[Track], ended: &[u64]) -> Vec<Shot> {
        let looks = looks.to_vec();
        let picture = self.host.frame_with(WIDE.0, WIDE.1, move |area| {
            let id = (area.center().x / 100.0 - 0.5).round() as u64;
            let l = looks.iter().find(|l| l.id == id).copied().unwrap_or(look(0, 0.0));
            Quality { sharpness: l.sharpness, brightness: l.brightness }
        });
        let shots = self.runner.observe(info, &picture.lend(), d, t, ended).unwrap();
        self.sequence += 1;
        self.at_ms += 40;
        shots
    }
}

fn told(shots: &[Shot]) -> Vec<(u64, Reason, u64)> {
    shots.iter().map(|s| (s.track_id, s.reason, s.sequence)).collect()
}

#[test]
fn the_best_picture_is_given_up_once_at_the_end() {
    let mut rig = Rig::new("");
    for sharpness in [10.0, 30.0, 80.0, 40.0, 20.0] {
        assert!(rig.see(&[look(1, sharpness)], &[]).is_empty());
    }
    let shots = rig.see(&[], &[1]);
    assert_eq!(told(&shots), vec![(1, Reason::Ended, 2)]);
    let s = &shots[0];
    assert_eq!((s.score, s.quality.sharpness, s.confidence), (89.0, 80.0, 0.9));
    assert_eq!(s.bbox, Rect { x: 100.0, y: 200.0, width: 100.0, height: 100.0 });
    assert_eq!(s.picture.size(), (140, 140), "a fifth wider on each side");
    assert_eq!((s.captured_at, s.session), (frame(2, 80).captured_at, 1));
    drop(shots);
    assert_eq!(rig.host.held(), 0);
    assert!(rig.see(&[], &[1]).is_empty(), "a second end of the same track says nothing");
    assert!(rig.runner.flush().unwrap().is_empty());
}

#[test]
fn only_better_candidates_are_cropped() {
    let mut rig = Rig::new("");
    for sharpness in [50.0, 50.2, 49.0, 10.0, 50.4] {
        rig.see(&[look(1, sharpness)], &[]);
    }
    assert_eq!((rig.host.measures(), rig.host.crops(), rig.host.held()), (5, 1, 1), "gains below min_gain are noise");
    rig.see(&[look(1, 51.0)], &[]);
    assert_eq!((rig.host.crops(), rig.host.held()), (2, 1), "the worse one was dropped");
}

#[test]
fn two_seconds_without_a_sighting_give_it_up() {
    let mut rig = Rig::new("");
    rig.see(&[look(1, 50.0)], &[]);
    let seen_at = 0;
    while rig.at_ms < seen_at + 2000 {
        assert!(rig.see(&[], &[]).is_empty());
    }
    assert_eq!(told(&rig.see(&[], &[])), vec![(1, Reason::Inactive, 0)]);
    assert!(rig.see(&[], &[1]).is_empty(), "the end does not send it again");
}

#[test]
fn a_tick_gives_up_what_time_makes_due() {
    let mut rig = Rig::new(r#"{"inactive_ms":500}"#);
    rig.see(&[look(1, 50.0)], &[]);
    assert!(rig.runner.tick(499_999_999).unwrap().is_empty());
    assert_eq!(told(&rig.runner.tick(500_000_000).unwrap()), vec![(1, Reason::Inactive, 0)]);
    assert!(rig.runner.tick(900_000_000).unwrap().is_empty());
}

#[test]
fn a_track_that_comes_back_must_beat_what_was_sent() {
    let mut rig = Rig::new(r#"{"inactive_ms":500}"#);
    rig.see(&[look(1, 50.0)], &[]);
    rig.at_ms = 600;
    assert_eq!(rig.see(&[], &[]).len(), 1);
    rig.see(&[look(1, 40.0)], &[]);
    assert_eq!(rig.host.held(), 0, "worse than the one sent");
    rig.see(&[look(1, 60.0)], &[]);
    assert_eq!(told(&rig.see(&[], &[1])), vec![(1, Reason::Ended, 3)]);
}

#[test]
fn a_return_after_a_long_absence_is_not_inactive() {
    let mut rig = Rig::new(r#"{"inactive_ms":500}"#);
    rig.see(&[look(1, 50.0)], &[]);
    rig.at_ms = 5000;
    assert!(rig.see(&[look(1, 20.0)], &[]).is_empty(), "it is in sight again in this very frame");
}

#[test]
fn intervals_have_a_best_of_their_own() {
    let mut rig = Rig::new(r#"{"interval_ms":400}"#);
    let mut given = Vec::new();
    for k in 0..25 {
        // The best of the first interval is better than that of the second.
        let sharpness = if k == 3 {
            90.0
        } else if k == 14 {
            60.0
        } else {
            10.0
        };
        given.extend(told(&rig.see(&[look(1, sharpness)], &[])));
    }
    assert_eq!(given, vec![(1, Reason::Interval, 3), (1, Reason::Interval, 14)]);
}

#[test]
fn improved_pictures_go_at_once_but_not_in_a_hail() {
    let mut rig = Rig::new(r#"{"improved":true,"improved_spacing_ms":200}"#);
    let mut given = Vec::new();
    for k in 0..10 {
        given.extend(told(&rig.see(&[look(1, 10.0 + 5.0 * k as f32)], &[])));
    }
    assert_eq!(given, vec![(1, Reason::Improved, 0), (1, Reason::Improved, 5)]);
    assert_eq!(told(&rig.see(&[], &[1])), vec![(1, Reason::Ended, 9)], "the best not sent yet");
}

#[test]
fn brightness_is_normalised_within_bounds() {
    let q = |sharpness, brightness| Quality { sharpness, brightness };
    assert_eq!(score(0.5, q(40.0, 50.0), true), 45.0);
    assert_eq!(score(0.5, q(40.0, 25.0), true), 85.0);
    assert_eq!(score(0.5, q(40.0, 1.0), true), 85.0);
    assert_eq!(score(0.5, q(40.0, 0.0), true), 85.0);
    assert_eq!(score(0.5, q(40.0, 100.0), true), 25.0);
    assert_eq!(score(0.5, q(40.0, 25.0), false), 45.0);
}

#[test]
fn vetoes_each_pass_a_face_over() {
    let tries = [
        (r#"{"min_size_px":101}"#, 0),
        (r#"{"min_size_px":100}"#, 1),
        (r#"{"min_confidence":0.95}"#, 0),
        (r#"{"min_sharpness":51}"#, 0),
        (r#"{"min_brightness":60}"#, 0),
        (r#"{"max_brightness":40}"#, 0),
        (r#"{"min_visible_share":1}"#, 1),
    ];
    for (config, held) in tries {
        let mut rig = Rig::new(config);
        rig.see(&[look(1, 50.0)], &[]);
        assert_eq!(rig.host.held(), held, "{config}");
    }
}

fn one(rig: &mut Rig, change: impl FnOnce(&mut Detection, &mut Track)) -> usize {
    let info = rig.info();
    let mut d = detection(100.0, 200.0, 100.0, 100.0, 0.9);
    let mut t = track(1, &info, &d, 0);
    change(&mut d, &mut t);
    rig.see_raw(&info, &[look(1, 50.0)], &[d], &[t], &[]);
    rig.host.held()
}

#[test]
fn profiles_edges_and_tentative_tracks_are_passed_over_when_asked() {
    let profile = |d: &mut Detection, _: &mut Track| {
        let p = |x| Point { x, y: 230.0 };
        d.landmarks = Some(Landmarks {
            left_eye: p(120.0),
            right_eye: p(160.0),
            nose: p(158.0),
            mouth_left: p(125.0),
            mouth_right: p(155.0),
        });
    };
    assert_eq!(one(&mut Rig::new(""), profile), 1);
    assert_eq!(one(&mut Rig::new(r#"{"min_frontality":0.5}"#), profile), 0);
    let edge = |d: &mut Detection, _: &mut Track| d.bbox.x = -50.0;
    assert_eq!(one(&mut Rig::new(r#"{"min_visible_share":0.4}"#), edge), 1);
    assert_eq!(one(&mut Rig::new(r#"{"min_visible_share":0.6}"#), edge), 0);
    let outside = |d: &mut Detection, _: &mut Track| d.bbox.x = 5000.0;
    assert_eq!(one(&mut Rig::new(""), outside), 0);
    let tentative = |_: &mut Detection, t: &mut Track| t.phase = TrackPhase::Tentative;
    assert_eq!(one(&mut Rig::new(""), tentative), 0);
    assert_eq!(one(&mut Rig::new(r#"{"include_tentative":true}"#), tentative), 1);
    // An index that points nowhere is no sighting (the host refuses it; a scorer must not fall over it).
    assert_eq!(one(&mut Rig::new(""), |_, t| t.detection = Some(9)), 0);
}

#[test]
fn when_the_budget_is_spent_nothing_held_is_lost() {
    // Room for one 140x140 crop.
    let mut rig = Rig::on(FakeHost::with_budget(60_000), "");
    rig.see(&[look(1, 50.0)], &[]);
    rig.see(&[look(1, 50.0), look(2, 50.0)], &[]);
    assert_eq!(rig.host.held(), 1, "track 1 is in sight and keeps its picture");
    assert!(take_logs().iter().any(|(_, line)| line.contains("track 2 waits")));
    let early = rig.see(&[look(2, 50.0)], &[]);
    assert_eq!(told(&early), vec![(1, Reason::Inactive, 0)], "out of sight: its picture goes early, not lost");
    drop(early);
    rig.see(&[look(2, 50.0)], &[]);
    assert_eq!(told(&rig.see(&[], &[1, 2])), vec![(2, Reason::Ended, 3)]);
}

#[test]
fn held_pictures_are_bounded() {
    let mut rig = Rig::new(r#"{"max_held":3}"#);
    let all: Vec<Look> = (1..=6).map(|id| look(id, 50.0)).collect();
    rig.see(&all, &[]);
    assert_eq!(rig.host.held(), 3);
    assert_eq!(told(&rig.see(&all[3..], &[])), [1, 2, 3].map(|id| (id, Reason::Inactive, 0)));
    assert_eq!(rig.host.held(), 3, "the newcomers' pictures");
    assert_eq!(told(&rig.see(&[], &[4, 5, 6])), [4, 5, 6].map(|id| (id, Reason::Ended, 1)));
}

#[test]
fn saved_and_restored_in_the_middle_it_gives_up_the_same() {
    let script: Vec<(Vec<Look>, Vec<u64>)> = (0..120u64)
        .map(|k| {
            let looks = (1..=8)
                .filter(|id| (k / 10 + id) % 4 != 0 && k < 60 + id * 5)
                .map(|id| look(id, ((k * 37 + id * 101) % 90) as f32))
                .collect();
            let ended = (1..=8).filter(|id| k == 70 + id * 5).collect();
            (looks, ended)
        })
        .collect();
    let run = |swap: bool| {
        let mut rig = Rig::new(r#"{"inactive_ms":300}"#);
        let mut out = Vec::new();
        for (looks, ended) in &script {
            out.extend(told(&rig.see(looks, ended)));
            if swap {
                let (state, shots) = rig.runner.save().unwrap();
                let held = rig.host.held();
                let mut fresh = ScorerRunner::new();
                fresh.configure(&camera(r#"{"inactive_ms":300}"#)).unwrap();
                fresh.restore(&state, shots).unwrap();
                rig.runner = fresh;
                assert_eq!(rig.host.held(), held);
            }
        }
        out.extend(told(&rig.runner.flush().unwrap()));
        out
    };
    let plain = run(false);
    assert!(plain.len() > 10);
    assert_eq!(run(true), plain);
}

#[test]
fn pictures_of_another_kind_of_scorer_are_taken_over() {
    let mut rig = Rig::new("");
    rig.see(&[look(1, 50.0), look(2, 30.0)], &[]);
    let (_, shots) = rig.runner.save().unwrap();
    let foreign = Snapshot { schema: "somebody.else/3".to_owned(), data: vec![1, 2, 3] };
    let mut next = Rig::on(rig.host.clone(), "");
    next.runner.restore(&foreign, shots).unwrap();
    next.at_ms = 10_000;
    assert!(next.see(&[look(1, 20.0)], &[]).is_empty(), "absence counts from the takeover");
    assert_eq!(told(&next.see(&[], &[1])), vec![(1, Reason::Ended, 0)]);
    next.at_ms = 12_000;
    assert_eq!(told(&next.see(&[], &[])), vec![(2, Reason::Inactive, 0)]);
}

#[test]
fn flush_gives_up_everything() {
    let mut rig = Rig::new("");
    rig.see(&[look(1, 50.0), look(2, 30.0)], &[]);
    assert_eq!(told(&rig.runner.flush().unwrap()), vec![(1, Reason::Flushed, 0), (2, Reason::Flushed, 0)]);
    assert_eq!(rig.host.held(), 0);
}

#[test]
fn settings_are_strict() {
    let error =
        |config: &str| ScorerRunner::<BestShot>::new().configure(&camera(config)).unwrap_err().message().to_owned();
    assert!(error(r#"{"inactiv_ms":5}"#).contains("did you mean `inactive_ms`"));
    let all = error(r#"{"inactive_ms":0,"crop_margin":-1,"min_confidence":2}"#);
    assert!(all.contains("inactive_ms") && all.contains("crop_margin") && all.contains("min_confidence"), "{all}");
}
