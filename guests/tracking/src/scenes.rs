//! Scenes of moving faces with known truth, for the trackers' tests and benchmarks: made from numbers, no file.
//!
//! Owns paths and noise. Must not know any tracker.

use facestream_guest::{Affine, Detection, FrameInfo, Rect, Track, TrackPhase, Update};

/// A small generator, so that scenes are the same on every machine and need no crate.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Any seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f32 {
        // xorshift64* (Vigna 2016).
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Uniform in [-by, by).
    pub fn around(&mut self, by: f32) -> f32 {
        (self.unit() * 2.0 - 1.0) * by
    }
}

/// A face that moves in a straight line.
#[derive(Clone, Copy, Debug)]
pub struct Walker {
    /// Box at second 0.
    pub start: Rect,
    /// Pixels a second.
    pub velocity: (f32, f32),
}

impl Walker {
    /// A 60x80 face at (x, y).
    #[must_use]
    pub fn at(x: f32, y: f32, vx: f32, vy: f32) -> Self {
        Self { start: Rect { x, y, width: 60.0, height: 80.0 }, velocity: (vx, vy) }
    }

    /// Where it is.
    #[must_use]
    pub fn bbox(&self, seconds: f32) -> Rect {
        let (vx, vy) = self.velocity;
        Rect { x: self.start.x + vx * seconds, y: self.start.y + vy * seconds, ..self.start }
    }
}

/// One frame of a scene: the detections, and which walker each one shows.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// As a detector would give them.
    pub detections: Vec<Detection>,
    /// Index of the walker, one a detection.
    pub truth: Vec<usize>,
}

impl Seen {
    /// Adds a detection of a walker.
    pub fn push(&mut self, walker: usize, bbox: Rect, confidence: f32) {
        self.detections.push(Detection { bbox, confidence, class_id: 0, landmarks: None });
        self.truth.push(walker);
    }
}

/// A 1280x720 frame of session 1 at so many nanoseconds.
#[must_use]
pub fn frame_at(sequence: u64, timestamp: u64) -> FrameInfo {
    FrameInfo { session: 1, sequence, timestamp, captured_at: timestamp, width: 1280, height: 720 }
}

/// Watches a tracker's output and keeps what must always hold.
#[derive(Clone, Debug, Default)]
pub struct Watcher {
    last_id: Vec<Option<u64>>,
    live: Vec<u64>,
    ended: std::collections::BTreeSet<u64>,
    highest: u64,
    /// Times that a walker changed its confirmed id.
    pub switches: usize,
    /// Detections of walkers that no confirmed track took.
    pub missed: usize,
}

impl Watcher {
    /// Checks one update.
    ///
    /// # Panics
    /// When an id ends twice, comes back after its end, vanishes without an end or repeats; when an index, a number or
    /// a phase is impossible.
    pub fn watch(&mut self, seen: &Seen, update: &Update) {
        let ids: Vec<u64> = update.tracks.iter().map(|t| t.id).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "ids repeat or are out of order: {ids:?}");
        for id in &update.ended {
            assert!(self.ended.insert(*id), "{id} ended twice");
            assert!(self.live.contains(id) || *id > self.highest, "{id} ended without having lived");
            assert!(!ids.contains(id), "{id} is live and ended");
        }
        for id in &ids {
            assert!(!self.ended.contains(id), "{id} came back after its end");
            assert!(self.live.contains(id) || *id > self.highest, "{id} appeared below the highest id");
        }
        for id in &self.live {
            assert!(ids.contains(id) || self.ended.contains(id), "{id} vanished without an end");
        }
        self.highest = self.highest.max(ids.last().copied().unwrap_or(0));
        self.live = ids;
        let mut taken = vec![false; seen.detections.len()];
        for t in &update.tracks {
            assert!(t.bbox.is_valid() && t.velocity.x.is_finite() && t.velocity.y.is_finite(), "{t:?}");
            assert!(t.first_seen <= t.last_seen, "{t:?}");
            assert_eq!(t.detection.is_none(), t.phase == TrackPhase::Lost, "{t:?}");
            if let Some(i) = t.detection {
                assert!(!std::mem::replace(&mut taken[i as usize], true), "detection {i} has two tracks");
            }
        }
        for (i, walker) in seen.truth.iter().enumerate() {
            if self.last_id.len() <= *walker {
                self.last_id.resize(walker + 1, None);
            }
            let of = |t: &&Track| t.detection == Some(i as u32) && t.phase == TrackPhase::Confirmed;
            match update.tracks.iter().find(of) {
                Some(t) => {
                    if self.last_id[*walker].replace(t.id).is_some_and(|before| before != t.id) {
                        self.switches += 1;
                    }
                }
                None => self.missed += 1,
            }
        }
    }

    /// The latest id of a walker.
    #[must_use]
    pub fn id_of(&self, walker: usize) -> Option<u64> {
        self.last_id.get(walker).copied().flatten()
    }

    /// Ids that have ended.
    #[must_use]
    pub fn ended(&self) -> &std::collections::BTreeSet<u64> {
        &self.ended
    }
}

/// A pan of the camera by so many pixels between two frames.
#[must_use]
pub fn pan(tx: f32, ty: f32) -> Affine {
    Affine { tx, ty, ..Affine::IDENTITY }
}
