//! Fixtures with known truth: what a tracker must get right whatever its parameters. Run for both trackers.
#![allow(clippy::unwrap_used, reason = "helpers of a test")]

use std::marker::PhantomData;

use facestream_botsort::Botsort;
use facestream_bytetrack::Bytetrack;
use facestream_guest::testing::camera;
use facestream_guest::{FrameInfo, Rect, TrackPhase, Tracker, TrackerRunner, Update};
use facestream_tracking::scenes::{Random, Seen, Walker, Watcher, frame_at, pan};
use proptest::prelude::*;

const FRAME_NS: u64 = 40_000_000;

struct Scene<T> {
    runner: TrackerRunner<T>,
    watcher: Watcher,
    frame: u64,
    at: u64,
    session: u64,
    kind: PhantomData<T>,
}

impl<T: Tracker> Scene<T> {
    fn new(config: &str) -> Self {
        let mut runner = TrackerRunner::new();
        runner.configure(&camera(config)).unwrap();
        Self { runner, watcher: Watcher::default(), frame: 0, at: 0, session: 1, kind: PhantomData }
    }

    fn info(&self) -> FrameInfo {
        FrameInfo { session: self.session, ..frame_at(self.frame, self.at) }
    }

    fn step(&mut self, seen: &Seen) -> Update {
        let update = self.runner.advance(&self.info(), &seen.detections, None).unwrap();
        self.watcher.watch(seen, &update);
        self.frame += 1;
        self.at += FRAME_NS;
        update
    }

    /// Walkers for so many seconds; `visible(walker, seconds)` is the confidence, 0 for unseen.
    fn walk(&mut self, walkers: &[Walker], seconds: f32, jitter: f32, visible: impl Fn(usize, f32) -> f32) {
        let mut random = Random::new(7);
        let start = self.at;
        for _ in 0..(seconds * 1e9 / FRAME_NS as f32) as usize {
            let t = (self.at - start) as f32 * 1e-9;
            let mut seen = Seen::default();
            for (i, w) in walkers.iter().enumerate() {
                let confidence = visible(i, t);
                let mut b = w.bbox(t);
                b.x += random.around(jitter);
                b.y += random.around(jitter);
                if confidence > 0.0 && b.clipped(1280, 720).is_some() {
                    seen.push(i, b, confidence);
                }
            }
            self.step(&seen);
        }
    }

    fn switches(&self) -> usize {
        self.watcher.switches
    }
}

macro_rules! for_both {
    ($($name:ident)*) => {$(
        mod $name {
            #[test]
            fn botsort() {
                super::$name::<super::Botsort>();
            }
            #[test]
            fn bytetrack() {
                super::$name::<super::Bytetrack>();
            }
        }
    )*};
}

for_both! {
    crossing crossing_with_gaps miss_one_frame miss_many_frames leave_and_return leave_and_return_soon
    low_scores_keep_a_track_but_start_none weak_return five_hundred_faces empty_frames clock_steps session_change
    save_and_restore_at_every_frame the_same_twice
    slow_analysis_keeps_ids too_long_a_gap_ends tentative_tracks_need_a_second_match
    neutral_takeover_keeps_ids_and_never_reuses bounded damaged_state_is_refused
}

fn crossing<T: Tracker>() {
    for speed in [60.0, 120.0, 240.0] {
        let mut s = Scene::<T>::new("");
        let walkers = [Walker::at(200.0, 300.0, speed, 0.0), Walker::at(200.0 + 4.0 * speed, 320.0, -speed, 0.0)];
        s.walk(&walkers, 4.0, 1.0, |_, _| 0.9);
        assert_eq!((s.switches(), s.watcher.missed), (0, 0), "speed {speed}");
    }
}

/// The one behind is not seen while they overlap, and for a while longer: up to a second in all.
fn crossing_with_gaps<T: Tracker>() {
    for speed in [60.0, 120.0, 200.0] {
        for gap in [0.2, 0.5, 1.0] {
            let mut s = Scene::<T>::new("");
            let walkers = [Walker::at(100.0, 300.0, speed, 0.0), Walker::at(100.0 + 4.0 * speed, 310.0, -speed, 0.0)];
            s.walk(&walkers, 4.0, 1.0, |i, t| if i == 1 && (t - 2.0).abs() < gap / 2.0 { 0.0 } else { 0.9 });
            assert_eq!((s.switches(), s.watcher.missed), (0, 0), "speed {speed} gap {gap}");
            assert_ne!(s.watcher.id_of(0), s.watcher.id_of(1));
        }
    }
}

fn miss_one_frame<T: Tracker>() {
    let mut s = Scene::<T>::new("");
    let walkers = [Walker::at(100.0, 100.0, 100.0, 20.0), Walker::at(800.0, 400.0, -50.0, 0.0)];
    s.walk(&walkers, 4.0, 1.0, |i, t| if i == 0 && (t / 0.04).round() as u32 % 7 == 6 { 0.0 } else { 0.9 });
    assert_eq!((s.switches(), s.watcher.missed), (0, 0));
}

fn miss_many_frames<T: Tracker>() {
    for gap in [0.3, 0.6, 1.0, 1.5] {
        let mut s = Scene::<T>::new("");
        s.walk(&[Walker::at(100.0, 100.0, 100.0, 20.0)], 5.0, 1.0, |_, t| {
            if (2.0..2.0 + gap).contains(&t) { 0.0 } else { 0.9 }
        });
        assert_eq!((s.switches(), s.watcher.missed), (0, 0), "gap {gap}");
    }
}

/// Wholly out of the picture, at any side, and back within a second: the same id. As a detector would, faces are found
/// while 60% of them are inside, with boxes cut at the edge.
fn leave_and_return_soon<T: Tracker>() {
    let paths = [
        (Walker::at(300.0, 300.0, -260.0, 0.0), 1.5),
        (Walker::at(900.0, 300.0, 260.0, 10.0), 1.7),
        (Walker::at(600.0, 200.0, 20.0, -200.0), 1.55),
    ];
    // ByteTrack's state is aspect and height: a box that the upper edge cuts distorts both, and the id may change.
    let paths = &paths[..if T::SCHEMA == Botsort::SCHEMA { 3 } else { 2 }];
    for &(walker, turns_after) in paths {
        let mut s = Scene::<T>::new("");
        let (mut first, mut hidden, mut outside) = (None, 0, 0);
        while s.at < 3_500_000_000 {
            let t = s.at as f32 * 1e-9;
            let bbox = walker.bbox(if t > turns_after { (2.0 * turns_after - t).max(0.0) } else { t });
            let mut seen = Seen::default();
            match bbox.clipped(1280, 720) {
                Some(inside) if bbox.visible_share(1280, 720) >= 0.6 => seen.push(0, inside, 0.9),
                inside => (hidden, outside) = (hidden + 1, outside + i32::from(inside.is_none())),
            }
            s.step(&seen);
            first = first.or(s.watcher.id_of(0));
        }
        assert!(outside > 5 && hidden < 25, "{hidden} frames unseen, {outside} of them wholly outside");
        assert_eq!((s.watcher.id_of(0), s.switches()), (first, 0), "{walker:?}");
    }
}

/// Out of the picture for longer than the buffer is somebody new, and the old id ended meanwhile, once.
fn leave_and_return<T: Tracker>() {
    let mut s = Scene::<T>::new("");
    s.walk(&[Walker::at(900.0, 300.0, 200.0, 0.0)], 3.0, 0.0, |_, _| 0.9);
    let first = s.watcher.id_of(0).unwrap();
    s.walk(&[], 3.0, 0.0, |_, _| 0.0);
    assert!(s.watcher.ended().contains(&first));
    s.walk(&[Walker::at(1200.0, 300.0, -200.0, 0.0)], 2.0, 0.0, |_, _| 0.9);
    assert_ne!(s.watcher.id_of(0).unwrap(), first);
}

fn low_scores_keep_a_track_but_start_none<T: Tracker>() {
    let mut s = Scene::<T>::new("");
    let walkers = [Walker::at(100.0, 100.0, 80.0, 0.0), Walker::at(100.0, 500.0, 80.0, 0.0)];
    // The first is weak after a second; the second always was.
    s.walk(&walkers, 3.0, 1.0, |i, t| if i == 1 || t > 1.0 { 0.4 } else { 0.9 });
    assert_eq!(s.switches(), 0);
    assert!(s.watcher.id_of(0).is_some());
    assert_eq!(s.watcher.id_of(1), None, "weak detections start no track");
    assert_eq!(s.watcher.missed, 75, "all of the second's and none of the first's");
}

/// Seen weakly first after having been hidden, as who steps out from behind somebody: a moment later it is the same
/// track, after long hiding only a confident detection brings it back.
fn weak_return<T: Tracker>() {
    for (config, hidden, missed) in [("", 0.32, 0), ("", 0.8, 25), (r#"{"weak_return_ms":0}"#, 0.32, 25)] {
        let mut s = Scene::<T>::new(config);
        s.walk(&[Walker::at(100.0, 100.0, 80.0, 0.0)], 4.0, 1.0, |_, t| match t - 1.99 {
            t if t < 0.0 => 0.9,
            t if t < hidden => 0.0,
            t if t < hidden + 1.0 => 0.4,
            _ => 0.9,
        });
        assert_eq!((s.switches(), s.watcher.missed), (0, missed), "{config} hidden for {hidden}");
    }
}

fn five_hundred_faces<T: Tracker>() {
    let mut s = Scene::<T>::new("");
    let walkers: Vec<Walker> = (0..500)
        .map(|i| {
            let (column, row) = ((i % 25) as f32, (i / 25) as f32);
            let start = Rect { x: column * 50.0, y: row * 35.0, width: 24.0, height: 30.0 };
            Walker { start, velocity: ((i % 5) as f32 * 2.0 - 4.0, (i % 3) as f32 - 1.0) }
        })
        .collect();
    s.walk(&walkers, 2.0, 1.0, |_, _| 0.9);
    assert_eq!((s.switches(), s.watcher.missed), (0, 0));
}

fn empty_frames<T: Tracker>() {
    let mut s = Scene::<T>::new("");
    for _ in 0..10 {
        assert_eq!(s.step(&Seen::default()), Update { tracks: vec![], ended: vec![] });
    }
    let w = Walker::at(100.0, 100.0, 0.0, 0.0);
    s.walk(&[w], 1.0, 0.0, |_, _| 0.9);
    let mut ended = Vec::new();
    for k in 0..60 {
        let update = s.step(&Seen::default());
        assert!(update.tracks.iter().all(|t| t.phase == TrackPhase::Lost));
        ended.extend(update.ended.iter().map(|id| (*id, k)));
    }
    // Last seen a frame before k = 0; the buffer is 2 s, 50 frames: the 51st frame is beyond it.
    assert_eq!(ended, vec![(1, 50)]);
}

/// The host promises a clock that never goes back; if it did, or stood still, nothing breaks.
fn clock_steps<T: Tracker>() {
    let mut s = Scene::<T>::new("");
    let seen = |x: f32| {
        let mut seen = Seen::default();
        seen.push(0, Rect { x, y: 100.0, width: 60.0, height: 80.0 }, 0.9);
        seen
    };
    for k in 0..20 {
        s.step(&seen(100.0 + k as f32));
    }
    s.at = 100;
    for k in 20..40 {
        s.step(&seen(100.0 + k as f32));
    }
    s.at = u64::MAX - 10 * FRAME_NS;
    let update = s.step(&seen(140.0));
    assert_eq!(update.ended, vec![1], "an age later it is another face");
    s.step(&seen(140.0));
    s.at = u64::MAX;
    s.step(&seen(140.0));
    assert_eq!(s.switches(), 1);
}

fn session_change<T: Tracker>() {
    let w = Walker::at(300.0, 300.0, 0.0, 0.0);
    for (keep, pause, same) in [(true, 1.0, true), (true, 3.0, false), (false, 0.1, false)] {
        let mut s = Scene::<T>::new(&format!("{{\"keep_across_sessions\":{keep}}}"));
        s.walk(&[w], 1.0, 1.0, |_, _| 0.9);
        s.session += 1;
        s.frame = 0;
        s.at += (pause * 1e9) as u64;
        s.walk(&[w], 1.0, 1.0, |_, _| 0.9);
        assert_eq!(s.switches() == 0, same, "keep {keep} pause {pause}");
        assert_eq!(s.watcher.ended().contains(&1), !same);
    }
}

fn busy(frames: usize, seed: u64) -> Vec<Seen> {
    let mut random = Random::new(seed);
    let walkers: Vec<Walker> = (0..12)
        .map(|_| Walker::at(random.unit() * 1200.0, random.unit() * 640.0, random.around(150.0), random.around(80.0)))
        .collect();
    (0..frames)
        .map(|k| {
            let mut seen = Seen::default();
            for (i, w) in walkers.iter().enumerate() {
                let mut b = w.bbox(k as f32 * 0.04);
                b.x += random.around(3.0);
                b.width += random.around(2.0);
                if random.unit() > 0.2 && b.clipped(1280, 720).is_some() {
                    seen.push(i, b, 0.3 + random.unit() * 0.7);
                }
            }
            seen
        })
        .collect()
}

fn save_and_restore_at_every_frame<T: Tracker>() {
    let frames = busy(120, 3);
    let (mut plain, mut swapped) = (Scene::<T>::new(""), Scene::<T>::new(""));
    for seen in &frames {
        let expected = plain.step(seen);
        assert_eq!(swapped.step(seen), expected);
        let state = swapped.runner.save().unwrap();
        assert_eq!(state.schema, T::SCHEMA);
        let mut fresh = TrackerRunner::<T>::new();
        fresh.configure(&camera("")).unwrap();
        fresh.restore(&state, &expected.tracks).unwrap();
        swapped.runner = fresh;
    }
    assert_eq!(swapped.runner.save().unwrap(), plain.runner.save().unwrap());
}

fn the_same_twice<T: Tracker>() {
    let frames = busy(200, 11);
    let run = || {
        let mut s = Scene::<T>::new("");
        frames.iter().map(|seen| s.step(seen)).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

/// At 5 analysed frames a second the same walk keeps its ids: time is what counts.
fn slow_analysis_keeps_ids<T: Tracker>() {
    let mut s = Scene::<T>::new("");
    let w = Walker::at(100.0, 300.0, 100.0, 0.0);
    for k in 0..40 {
        s.at = k * 200_000_000;
        let mut seen = Seen::default();
        seen.push(0, w.bbox(k as f32 * 0.2), 0.9);
        s.step(&seen);
    }
    assert_eq!((s.switches(), s.watcher.missed), (0, 0));
    assert_eq!(s.watcher.id_of(0), Some(1));
}

fn too_long_a_gap_ends<T: Tracker>() {
    let mut s = Scene::<T>::new(r#"{"track_buffer_ms":500}"#);
    let w = Walker::at(100.0, 300.0, 0.0, 0.0);
    s.walk(&[w], 1.0, 0.0, |_, _| 0.9);
    s.at += 600_000_000;
    let mut seen = Seen::default();
    seen.push(0, w.bbox(0.0), 0.9);
    let update = s.step(&seen);
    assert_eq!(update.ended, vec![1]);
    assert_eq!(update.tracks.len(), 1);
}

fn tentative_tracks_need_a_second_match<T: Tracker>() {
    let mut s = Scene::<T>::new("");
    s.step(&Seen::default());
    let mut seen = Seen::default();
    seen.push(0, Rect { x: 100.0, y: 100.0, width: 60.0, height: 80.0 }, 0.9);
    assert_eq!(s.step(&seen).tracks[0].phase, TrackPhase::Tentative);
    let gone = s.step(&Seen::default());
    assert_eq!((gone.tracks.len(), gone.ended), (0, vec![1]));
    assert_eq!(s.step(&seen).tracks[0].phase, TrackPhase::Tentative);
    assert_eq!(s.step(&seen).tracks[0].phase, TrackPhase::Confirmed);
}

/// From one kind of tracker to the other and back: live ids stay, spent ids stay spent.
fn neutral_takeover_keeps_ids_and_never_reuses<T: Tracker>() {
    fn over<A: Tracker, B: Tracker>() {
        let mut a = Scene::<A>::new("");
        // Three faces, of which the last and highest id ends before the swap.
        let walkers = [Walker::at(100.0, 100.0, 50.0, 0.0), Walker::at(600.0, 400.0, -50.0, 0.0)];
        a.walk(&[walkers[0], walkers[1], Walker::at(900.0, 100.0, 0.0, 0.0)], 1.0, 1.0, |_, _| 0.9);
        let walkers = walkers.map(|w| Walker { start: w.bbox(1.0), ..w });
        a.walk(&walkers, 2.4, 1.0, |_, _| 0.9);
        assert!(a.watcher.ended().contains(&3));
        let walkers = walkers.map(|w| Walker { start: w.bbox(2.4), ..w });
        let mut seen = Seen::default();
        walkers.iter().enumerate().for_each(|(i, w)| seen.push(i, w.bbox(0.0), 0.9));
        let tracks = a.step(&seen).tracks;
        let state = a.runner.save().unwrap();
        let mut runner = TrackerRunner::<B>::new();
        runner.configure(&camera("")).unwrap();
        runner.restore(&state, &tracks).unwrap();
        let mut b =
            Scene::<B> { runner, watcher: a.watcher.clone(), frame: a.frame, at: a.at, session: 1, kind: PhantomData };
        let newcomer = Walker::at(300.0, 600.0, 0.0, 0.0);
        b.walk(&[walkers[0], walkers[1], newcomer], 2.0, 1.0, |_, _| 0.9);
        assert_eq!([b.watcher.id_of(0), b.watcher.id_of(1)], [Some(1), Some(2)]);
        assert_eq!(b.watcher.id_of(2), Some(4), "id 3 is spent, though no live track says so");
    }
    over::<T, Botsort>();
    over::<T, Bytetrack>();
}

fn bounded<T: Tracker>() {
    let mut s = Scene::<T>::new(r#"{"max_tracks":20,"track_buffer_ms":3600000}"#);
    let mut random = Random::new(5);
    for _ in 0..200 {
        let mut seen = Seen::default();
        for i in 0..15 {
            let (x, y) = (random.unit() * 1200.0, random.unit() * 640.0);
            seen.push(i, Rect { x, y, width: 30.0, height: 30.0 }, 0.9);
        }
        assert!(s.step(&seen).tracks.len() <= 20);
        assert!(s.runner.save().unwrap().data.len() < 20 * 300);
    }
}

fn damaged_state_is_refused<T: Tracker>() {
    let mut s = Scene::<T>::new("");
    for seen in &busy(30, 9) {
        s.step(seen);
    }
    let good = s.runner.save().unwrap();
    let mut fresh = TrackerRunner::<T>::new();
    fresh.configure(&camera("")).unwrap();
    for n in (0..good.data.len()).step_by(7) {
        let mut cut = good.clone();
        cut.data.truncate(n);
        assert!(fresh.restore(&cut, &[]).is_err());
    }
    fresh.restore(&good, &[]).unwrap();
}

#[test]
fn camera_motion_is_taken_out() {
    // The camera pans by 70 pixels a frame, more than a face is wide, back and forth: only with its motion known do
    // boxes meet their tracks.
    let run = |with_motion: bool| {
        let mut s = Scene::<Botsort>::new(r#"{"recovery_margin":0}"#);
        for k in 0..40u64 {
            let shift = if k % 2 == 1 { 70.0 } else { 0.0 };
            let mut seen = Seen::default();
            for i in 0..4 {
                seen.push(i, Rect { x: 200.0 + 250.0 * i as f32 + shift, y: 300.0, width: 60.0, height: 80.0 }, 0.9);
            }
            let moved = pan(
                if k == 0 {
                    0.0
                } else if k % 2 == 1 {
                    70.0
                } else {
                    -70.0
                },
                0.0,
            );
            let update = s.runner.advance(&s.info(), &seen.detections, with_motion.then_some(&moved)).unwrap();
            s.watcher.watch(&seen, &update);
            s.frame += 1;
            s.at += FRAME_NS;
        }
        (s.switches(), s.watcher.missed)
    };
    assert_eq!(run(true), (0, 0));
    assert_ne!(run(false), (0, 0));
}

/// A long buffer and a long gap at high speed: what is reported stays near the picture.
#[test]
fn fast_tracks_do_not_fly_to_the_moon() {
    let mut s = Scene::<Botsort>::new(r#"{"track_buffer_ms":3600000}"#);
    let face = |k: u64| Rect { x: 100.0 * k as f32, y: 300.0, width: 300.0 + 10.0 * k as f32, height: 300.0 };
    for k in 0..8 {
        let mut seen = Seen::default();
        seen.push(0, face(k), 0.9);
        s.step(&seen);
    }
    for pause in [0.04, 1.0, 20.0, 600.0] {
        s.at += (pause * 1e9) as u64;
        for t in s.step(&Seen::default()).tracks {
            let c = t.bbox.corners();
            assert!(c.iter().all(|v| v.abs() < 4.0 * 1280.0 + 1.0), "{t:?}");
        }
    }
}

#[test]
fn nonsense_detections_are_passed_over() {
    let mut s = Scene::<Botsort>::new("");
    let mut seen = Seen::default();
    for (x, w, c) in [(f32::NAN, 10.0, 0.9), (0.0, f32::INFINITY, 0.9), (0.0, -5.0, 0.9), (0.0, 10.0, f32::NAN)] {
        seen.push(0, Rect { x, y: 0.0, width: w, height: 10.0 }, c);
    }
    assert!(s.step(&seen).tracks.is_empty());
}

#[test]
fn settings_are_strict() {
    let error = |config: &str| {
        let mut runner = TrackerRunner::<Botsort>::new();
        runner.configure(&camera(config)).unwrap_err().message().to_owned()
    };
    assert!(error(r#"{"track_hi_thresh":0.5}"#).contains("did you mean `track_high_thresh`"));
    let all = error(r#"{"track_low_thresh":0.9,"max_tracks":0,"match_thresh":7}"#);
    assert!(all.contains("track_low_thresh") && all.contains("max_tracks") && all.contains("match_thresh"), "{all}");
}

#[test]
fn new_settings_keep_tracks() {
    let mut s = Scene::<Botsort>::new("");
    let w = Walker::at(100.0, 100.0, 50.0, 0.0);
    s.walk(&[w], 1.0, 1.0, |_, _| 0.9);
    s.runner.configure(&camera(r#"{"track_buffer_ms":100}"#)).unwrap();
    s.walk(&[Walker { start: w.bbox(1.0), ..w }], 1.0, 1.0, |_, _| 0.9);
    assert_eq!(s.switches(), 0);
    assert!(s.runner.configure(&camera(r#"{"track_buffer_ms":0}"#)).is_err(), "and bad ones are refused");
    for _ in 0..3 {
        s.step(&Seen::default());
    }
    assert!(s.watcher.ended().contains(&1), "the new buffer is in force, the refused one is not");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    /// Whatever is detected, whenever: the watcher's rules hold (one end an id, no reuse, no vanishing).
    #[test]
    fn rules_hold_for_any_input(
        seed in any::<u64>(),
        steps in proptest::collection::vec((0usize..20, 0u64..3_000_000_000, any::<bool>()), 1..60),
    ) {
        let mut random = Random::new(seed);
        let mut s = Scene::<Botsort>::new(r#"{"max_tracks":40}"#);
        for (n, pause, reconnect) in steps {
            let mut seen = Seen::default();
            for _ in 0..n {
                let (x, y) = (random.around(1500.0), random.around(900.0));
                let bbox = Rect { x, y, width: random.unit() * 300.0, height: random.unit() * 300.0 };
                seen.push(0, bbox, random.unit());
            }
            s.at = s.at.saturating_add(pause);
            if reconnect && n % 5 == 0 {
                s.session += 1;
            }
            let update = s.step(&seen);
            prop_assert!(update.tracks.len() <= 40);
        }
    }
}
