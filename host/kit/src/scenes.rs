//! The scenes that the kit plays, by name.
//!
//! Owns what each one shows. Their names are in reports and golden files: a changed scene is a new name.

use facestream_core::Rect;

use crate::scene::{FRAME_NS, HEIGHT, Random, Scene, WIDTH, Walker, crowd, flow};

/// Nanoseconds of an hour.
const HOUR_NS: u64 = 3_600_000_000_000;

/// A scene's name, and how it is made.
type Entry = (&'static str, fn(&'static str) -> Scene);

/// Every scene.
pub(crate) const ALL: &[Entry] = &[
    ("faces", |n| faces(n, 110)),
    ("one-face", |n| Scene::of(n, 50, &[face()])),
    ("no-faces", |n| Scene::of(n, 100, &[])),
    ("miss-one-frame", |n| Scene::of(n, 60, &[face().hidden(30, 31)])),
    ("miss-half-a-second", |n| Scene::of(n, 80, &[face().hidden(30, 43)])),
    ("crossing", |n| {
        let faces = [Walker::at(100.0, 150.0, 4.0, 0.0), Walker::at(500.0, 156.0, -4.0, 0.0)];
        Scene::of(n, 100, &faces)
    }),
    ("leave-and-return", |n| {
        let walker = Walker::at(300.0, 100.0, 0.0, 0.0).hidden(50, 1300);
        Scene::of(n, 1350, &[walker]).with_pictures(50)
    }),
    ("session-change", |n| {
        faces(n, 110).retimed(|at, info| {
            if at >= 55 {
                (info.session, info.sequence) = (2, at - 55);
                info.timestamp_ns += 2_000_000_000;
                info.captured_at_ns += 2_000_000_000;
            }
        })
    }),
    ("clock-step", |n| {
        faces(n, 110).retimed(|at, info| match at {
            0..40 => {}
            40..80 => info.captured_at_ns -= HOUR_NS,
            _ => info.captured_at_ns += HOUR_NS,
        })
    }),
    ("frame-loss", |n| {
        let mut random = Random::new(5);
        let kept: Vec<bool> = (0..110).map(|_| random.unit() < 0.6).collect();
        faces(n, 110).thinned(|at| kept.get(at as usize).copied().unwrap_or(true))
    }),
    ("batch-delay", |n| {
        // Three frames reach the guest stamped a millisecond apart, then nothing for the rest of their time.
        faces(n, 110).retimed(|at, info| info.timestamp_ns -= (at % 3) * (FRAME_NS - 1_000_000))
    }),
    ("equal-timestamps", |n| faces(n, 110).retimed(|at, info| info.timestamp_ns -= (at % 2) * FRAME_NS)),
    ("long-gap", |n| {
        faces(n, 110).retimed(|at, info| {
            if at >= 55 {
                info.timestamp_ns += HOUR_NS;
                info.captured_at_ns += HOUR_NS;
            }
        })
    }),
    ("frame-size", |n| {
        let mut scene = faces(n, 110);
        for frame in &mut scene.frames[55..] {
            (frame.info.width, frame.info.height) = (WIDTH / 2, HEIGHT / 2);
            for face in &mut frame.faces {
                let b = face.detection.bbox;
                face.detection.bbox = Rect { x: b.x / 2.0, y: b.y / 2.0, width: b.width / 2.0, height: b.height / 2.0 };
                face.detection.landmarks = None;
            }
        }
        scene
    }),
    ("no-landmarks", |n| Scene::of(n, 60, &[face().without_landmarks()])),
    ("classes", |n| {
        let second = Walker::at(400.0, 200.0, -1.0, 0.0).class(3);
        Scene::of(n, 60, &[face().class(7), second])
    }),
    ("edges", |n| {
        let faces = [
            Walker::at(-15.0, -20.0, 0.0, 0.2),
            Walker::at(WIDTH as f32 - 25.0, HEIGHT as f32 - 30.0, 0.0, -0.2),
            Walker::at(320.0, 180.0, 0.0, 0.0).sized(1.0, 1.0).steady(),
            Walker::at(200.0, 180.0, 0.0, 0.0).sized(0.5, 0.5).steady(),
            Walker::at(0.0, 0.0, 0.0, 0.0).sized(WIDTH as f32, HEIGHT as f32).steady(),
        ];
        Scene::of(n, 60, &faces)
    }),
    ("weak-detections", |n| Scene::of(n, 80, &[face(), Walker::at(400.0, 200.0, -1.0, 0.0).confidence(0.15)])),
    ("moving-camera", |n| Scene::of(n, 60, &[face(), Walker::at(350.0, 200.0, 0.0, 0.0)]).panned(3.0)),
    ("long-absence", |n| {
        // Seen for two seconds, then 100 seconds of empty frames, four a second.
        Scene::of(n, 450, &[face().present(0, 50)])
            .retimed(|at, info| {
                let slow = at.saturating_sub(50) * (250_000_000 - FRAME_NS);
                info.timestamp_ns += slow;
                info.captured_at_ns += slow;
            })
            .with_pictures(60)
    }),
    ("portrait", |n| {
        let walker = Walker::at(250.0, 120.0, 0.5, 0.0).sized(80.0, 100.0);
        Scene::of(n, 120, &[walker.sharpness(0.05).sharp_between(20, 40).present(0, 70)])
    }),
    ("busy", |n| Scene::of(n, 100, &crowd(60)).with_pictures(10)),
    ("five-hundred-faces", |n| Scene::of(n, 15, &crowd(500)).with_pictures(2)),
    ("flow", |n| flow(n, 6000)),
];

fn face() -> Walker {
    Walker::at(100.0, 100.0, 2.0, 0.5)
}

/// A bit of everything: crossing, missed, leaving, coming late.
fn faces(name: &'static str, frames: u64) -> Scene {
    let walkers = [
        Walker::at(60.0, 100.0, 3.0, 0.3).hidden(35, 37),
        Walker::at(420.0, 110.0, -3.0, 0.2).sharpness(0.9),
        Walker::at(300.0, 250.0, 0.0, 0.0).present(0, 45),
        Walker::at(120.0, 270.0, 1.0, 0.0).present(30, frames).sharp_between(60, 70),
    ];
    Scene::of(name, frames, &walkers)
}
