//! Scenes: faces on known paths, made from numbers and a seed, the same on every machine.
//!
//! Owns paths, noise, clocks and what can be wrong with an input (frames lost, clocks stepped). Must not know guests.

use facestream_core::{Affine, Detection, FrameInfo, Landmarks, Point, Rect};

/// Time between two frames: 25 a second.
pub(crate) const FRAME_NS: u64 = 40_000_000;
/// Timestamp of the first frame.
const START_NS: u64 = 1_000_000_000;
/// Capture time of the first frame: in November 2023.
const EPOCH_NS: u64 = 1_700_000_000_000_000_000;
/// Frames are small, so that drawing them does not outweigh the guest.
pub(crate) const WIDTH: u32 = 640;
/// See [`WIDTH`].
pub(crate) const HEIGHT: u32 = 360;

/// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u64 << 24) as f32
    }

    /// Uniform in [-by, by).
    pub(crate) fn around(&mut self, by: f32) -> f32 {
        (self.unit() * 2.0 - 1.0) * by
    }
}

/// A face that moves in a straight line.
#[derive(Clone, Debug)]
pub(crate) struct Walker {
    /// Box at frame 0.
    start: Rect,
    /// Pixels a frame.
    velocity: (f32, f32),
    /// Frames in which it is there: from, to (exclusive).
    present: (u64, u64),
    /// Frames in which the detector misses it: from, to (exclusive).
    hidden: Vec<(u64, u64)>,
    class_id: u32,
    landmarks: bool,
    /// 0 is a blur, 1 as sharp as the texture goes.
    sharpness: f32,
    /// Frames in which it is sharp, whatever `sharpness` says.
    sharp: Option<(u64, u64)>,
    confidence: f32,
    steady: bool,
}

impl Walker {
    /// A 40 x 50 face at (x, y) in frame 0, moving by so many pixels a frame.
    pub(crate) fn at(x: f32, y: f32, vx: f32, vy: f32) -> Self {
        Self {
            start: Rect { x, y, width: 40.0, height: 50.0 },
            velocity: (vx, vy),
            present: (0, u64::MAX),
            hidden: Vec::new(),
            class_id: 0,
            landmarks: true,
            sharpness: 0.6,
            sharp: None,
            confidence: 0.9,
            steady: false,
        }
    }

    pub(crate) fn sized(mut self, width: f32, height: f32) -> Self {
        (self.start.width, self.start.height) = (width, height);
        self
    }

    pub(crate) fn present(mut self, from: u64, to: u64) -> Self {
        self.present = (from, to);
        self
    }

    pub(crate) fn hidden(mut self, from: u64, to: u64) -> Self {
        self.hidden.push((from, to));
        self
    }

    pub(crate) fn class(mut self, class_id: u32) -> Self {
        self.class_id = class_id;
        self
    }

    pub(crate) fn without_landmarks(mut self) -> Self {
        self.landmarks = false;
        self
    }

    pub(crate) fn sharpness(mut self, sharpness: f32) -> Self {
        self.sharpness = sharpness;
        self
    }

    pub(crate) fn sharp_between(mut self, from: u64, to: u64) -> Self {
        self.sharp = Some((from, to));
        self
    }

    pub(crate) fn confidence(mut self, confidence: f32) -> Self {
        self.confidence = confidence;
        self
    }

    /// Without the detector's noise.
    pub(crate) fn steady(mut self) -> Self {
        self.steady = true;
        self
    }

    fn sharpness_at(&self, frame: u64) -> f32 {
        if self.sharp.is_some_and(|(from, to)| (from..to).contains(&frame)) { 1.0 } else { self.sharpness }
    }
}

/// One face in one frame.
#[derive(Clone, Debug)]
pub(crate) struct Face {
    /// Index of the walker.
    pub(crate) walker: usize,
    /// As a detector gives it.
    pub(crate) detection: Detection,
    /// See [`Walker`].
    pub(crate) sharpness: f32,
}

/// One frame of a scene.
#[derive(Clone, Debug)]
pub(crate) struct SceneFrame {
    pub(crate) info: FrameInfo,
    pub(crate) faces: Vec<Face>,
    pub(crate) motion: Option<Affine>,
}

impl SceneFrame {
    pub(crate) fn detections(&self) -> Vec<Detection> {
        self.faces.iter().map(|f| f.detection).collect()
    }
}

/// A scene: frames in order.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    /// Name, as in reports and golden files.
    pub(crate) name: &'static str,
    pub(crate) frames: Vec<SceneFrame>,
    /// Sharp frames differ; long scenes draw few pictures and repeat them.
    pub(crate) pictures: usize,
}

impl Scene {
    /// So many frames of these walkers at a steady rate.
    pub(crate) fn of(name: &'static str, frames: u64, walkers: &[Walker]) -> Self {
        // One seed for all: scenes that differ in one thing differ in nothing else.
        let mut random = Random::new(7);
        let frames =
            (0..frames).map(|n| SceneFrame { info: info(n), faces: faces(n, walkers, &mut random), motion: None });
        let frames: Vec<_> = frames.collect();
        let pictures = frames.len();
        Self { name, frames, pictures }
    }

    /// The same with each frame's identity and clocks changed.
    pub(crate) fn retimed(mut self, change: impl Fn(u64, &mut FrameInfo)) -> Self {
        for (n, frame) in self.frames.iter_mut().enumerate() {
            change(n as u64, &mut frame.info);
        }
        self
    }

    /// The same without the frames that `keep` refuses: their sequence numbers are gaps.
    pub(crate) fn thinned(mut self, keep: impl Fn(u64) -> bool) -> Self {
        let mut n = 0;
        self.frames.retain(|_| {
            n += 1;
            keep(n - 1)
        });
        self
    }

    /// The same as seen by a camera that moves by so many pixels a frame, and says so.
    pub(crate) fn panned(mut self, by: f32) -> Self {
        for (n, frame) in self.frames.iter_mut().enumerate() {
            let shift = by * n as f32;
            for face in &mut frame.faces {
                face.detection.bbox.x += shift;
                if let Some(landmarks) = &mut face.detection.landmarks {
                    *landmarks = Landmarks::from_points(landmarks.points().map(|p| Point { x: p.x + shift, y: p.y }));
                }
            }
            frame.motion = (n > 0).then_some(Affine { tx: by, ..Affine::IDENTITY });
        }
        self
    }

    /// Only so many different pictures, repeated.
    pub(crate) fn with_pictures(mut self, pictures: usize) -> Self {
        self.pictures = pictures.max(1);
        self
    }
}

/// Frame `n` at a steady rate.
pub(crate) fn info(n: u64) -> FrameInfo {
    FrameInfo {
        session: 1,
        sequence: n,
        timestamp_ns: START_NS + n * FRAME_NS,
        captured_at_ns: EPOCH_NS + n * FRAME_NS,
        width: WIDTH,
        height: HEIGHT,
    }
}

fn faces(n: u64, walkers: &[Walker], random: &mut Random) -> Vec<Face> {
    let mut faces = Vec::new();
    for (walker, w) in walkers.iter().enumerate() {
        // Drawn for all, so that hiding one changes nothing of the others.
        let noise = [random.around(1.0), random.around(1.0), random.around(0.05)];
        let noise = if w.steady { [0.0; 3] } else { noise };
        let there = (w.present.0..w.present.1).contains(&n);
        if !there || w.hidden.iter().any(|(from, to)| (*from..*to).contains(&n)) {
            continue;
        }
        let bbox = Rect {
            x: w.start.x + w.velocity.0 * n as f32 + noise[0],
            y: w.start.y + w.velocity.1 * n as f32 + noise[1],
            ..w.start
        };
        if bbox.clipped(WIDTH, HEIGHT).is_none_or(|seen| seen.area() < 0.3 * bbox.area()) {
            continue;
        }
        let detection = Detection {
            bbox,
            confidence: (w.confidence + noise[2]).clamp(0.05, 1.0),
            class_id: w.class_id,
            landmarks: w.landmarks.then(|| landmarks(&bbox)),
        };
        faces.push(Face { walker, detection, sharpness: w.sharpness_at(n) });
    }
    faces
}

/// A face that looks into the camera.
fn landmarks(bbox: &Rect) -> Landmarks {
    let at = |x: f32, y: f32| Point { x: bbox.x + x * bbox.width, y: bbox.y + y * bbox.height };
    Landmarks::from_points([at(0.3, 0.4), at(0.7, 0.4), at(0.5, 0.6), at(0.35, 0.78), at(0.65, 0.78)])
}

/// Faces side by side in rows, drifting slowly.
pub(crate) fn crowd(count: usize) -> Vec<Walker> {
    // As many columns as keep the grid's cells as wide as high.
    let columns = ((count as f32 * WIDTH as f32 / HEIGHT as f32).sqrt().ceil() as usize).max(1);
    let rows = count.div_ceil(columns);
    let (w, h) = (WIDTH as f32 / columns as f32, HEIGHT as f32 / rows as f32);
    let at = |i: usize| {
        let (x, y) = ((i % columns) as f32 * w, (i / columns) as f32 * h);
        let drift = if i.is_multiple_of(2) { 0.05 } else { -0.05 };
        Walker::at(x + 0.15 * w, y + 0.15 * h, drift, 0.0).sized(0.7 * w, 0.7 * h)
    };
    (0..count).map(at).collect()
}

/// A stream of people: each crosses the picture in its own lane and leaves, so that ids are spent all the time and the
/// number in sight stays the same.
pub(crate) fn flow(name: &'static str, frames: u64) -> Scene {
    const LIFE: u64 = 100;
    let mut walkers = Vec::new();
    for from in (0..frames).step_by(20) {
        let lane = walkers.len() as u64 % 5;
        let speed = 5.5;
        let w = Walker::at(5.0 - speed * from as f32, 10.0 + 65.0 * lane as f32, speed, 0.0);
        walkers.push(w.present(from, from + LIFE));
    }
    // Of the hundreds of walkers only a few are there in any one frame: made frame by frame from those.
    let mut random = Random::new(11);
    let made = (0..frames).map(|n| {
        let first = (n.saturating_sub(LIFE) / 20) as usize;
        let last = ((n / 20) as usize + 1).min(walkers.len());
        let mut faces = faces(n, &walkers[first..last], &mut random);
        faces.iter_mut().for_each(|f| f.walker += first);
        SceneFrame { info: info(n), faces, motion: None }
    });
    Scene { name, frames: made.collect(), pictures: 8 }
}
