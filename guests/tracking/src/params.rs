//! Parameters of association, shared by BoT-SORT and ByteTrack; each guest has settings of its own that fill them.

use serde::{Deserialize, Serialize};

/// Which box a matched track reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Report {
    /// The detector's own.
    Measured,
    /// The Kalman filter's, as the papers' code: steadier, and nearer to the truth in every scene that was measured (LocA 90
    /// where the detector's has 87), since a detector's box trembles by some percent of its size.
    #[default]
    Filtered,
}

/// How the engine associates.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// Detections at or above this confidence enter the first stage.
    pub high: f32,
    /// Detections below `high` and at or above this one enter the second stage.
    pub low: f32,
    /// Confidence that starts a track.
    pub new_track: f32,
    /// How long a track survives without a detection, nanoseconds.
    pub buffer_ns: u64,
    /// Highest cost of the first stage (1 - IoU x confidence, or 1 - IoU).
    pub match_cost: f32,
    /// Highest cost (1 - IoU) of the second stage.
    pub second_cost: f32,
    /// Highest cost of matching tentative tracks.
    pub unconfirmed_cost: f32,
    /// Multiply IoU by the detection's confidence in the first stage and for tentative tracks.
    pub fuse_score: bool,
    /// Matches that confirm a track.
    pub confirm_hits: u32,
    /// A followed and a lost track that overlap more than this are one.
    pub duplicate_iou: f32,
    /// Widening of both boxes, as a share of their size, when a lost track is looked for nearby; 0 switches it off.
    pub recovery_margin: f32,
    /// Highest cost (1 - IoU of the widened boxes) of that.
    pub recovery_cost: f32,
    /// How long a lost track may also come back by a weak detection, nanoseconds; 0: by confident ones only (as the papers).
    pub weak_return_ns: u64,
    /// How much noisier an unsure detection's box is: its deviation is the papers' times 1 + this x (1 - confidence).
    pub doubt_noise: f32,
    /// Apply the host's camera motion.
    pub camera_motion: bool,
    /// Only match detections of the track's own class.
    pub class_aware: bool,
    /// Lost tracks may come back after the camera was connected anew, within the buffer.
    pub keep_across_sessions: bool,
    /// Frames a second that the noise parameters of the papers stand for.
    pub reference_fps: f64,
    /// Most tracks alive at once.
    pub max_tracks: usize,
    /// Which box a matched track reports.
    pub report: Report,
}

impl Params {
    /// What is wrong with them, in the words of the guests' settings.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut out = Vec::new();
        let shares = [
            ("track_high_thresh", self.high),
            ("track_low_thresh", self.low),
            ("new_track_thresh", self.new_track),
            ("match_thresh", self.match_cost),
            ("second_match_thresh", self.second_cost),
            ("unconfirmed_match_thresh", self.unconfirmed_cost),
            ("duplicate_iou", self.duplicate_iou),
            ("recovery_match_thresh", self.recovery_cost),
        ];
        for (name, value) in shares {
            if !(0.0..=1.0).contains(&value) {
                out.push(format!("{name} must be between 0 and 1, not {value}"));
            }
        }
        if self.low > self.high {
            out.push(format!("track_low_thresh ({}) must not be above track_high_thresh ({})", self.low, self.high));
        }
        if self.new_track < self.high {
            out.push(format!(
                "new_track_thresh ({}) must not be below track_high_thresh ({})",
                self.new_track, self.high
            ));
        }
        if !(1_000_000..=3_600_000_000_000).contains(&self.buffer_ns) {
            out.push("track_buffer_ms must be between 1 and 3600000".to_owned());
        }
        if !(0.0..=2.0).contains(&self.recovery_margin) {
            out.push(format!("recovery_margin must be between 0 and 2, not {}", self.recovery_margin));
        }
        if self.weak_return_ns > 3_600_000_000_000 {
            out.push("weak_return_ms must be between 0 and 3600000".to_owned());
        }
        if !(0.0..=100.0).contains(&self.doubt_noise) {
            out.push(format!("doubt_noise must be between 0 and 100, not {}", self.doubt_noise));
        }
        if !(1..=1000).contains(&self.confirm_hits) {
            out.push(format!("confirm_hits must be between 1 and 1000, not {}", self.confirm_hits));
        }
        if !(1.0..=1000.0).contains(&self.reference_fps) {
            out.push(format!("reference_fps must be between 1 and 1000, not {}", self.reference_fps));
        }
        if !(1..=4096).contains(&self.max_tracks) {
            out.push(format!("max_tracks must be between 1 and 4096, not {}", self.max_tracks));
        }
        out
    }
}
