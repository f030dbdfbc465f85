//! Detections, tracks and shots: what models and guests say about a frame.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::frame::Picture;
use crate::geometry::{Point, Rect};

/// Five facial points as seen in the image (image-left first).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Landmarks {
    /// Eye on the image's left.
    pub left_eye: Point,
    /// Eye on the image's right.
    pub right_eye: Point,
    /// Tip of the nose.
    pub nose: Point,
    /// Mouth corner on the image's left.
    pub mouth_left: Point,
    /// Mouth corner on the image's right.
    pub mouth_right: Point,
}

impl Landmarks {
    /// In the fixed order left eye, right eye, nose, mouth left, mouth right.
    #[must_use]
    pub fn points(&self) -> [Point; 5] {
        [self.left_eye, self.right_eye, self.nose, self.mouth_left, self.mouth_right]
    }

    /// From the fixed order left eye, right eye, nose, mouth left, mouth right.
    #[must_use]
    pub fn from_points(p: [Point; 5]) -> Self {
        Self { left_eye: p[0], right_eye: p[1], nose: p[2], mouth_left: p[3], mouth_right: p[4] }
    }
}

/// One object that a model found in one frame, in source pixels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// Where.
    pub bbox: Rect,
    /// In [0, 1].
    pub confidence: f32,
    /// Class index of the model; 0 for face models.
    pub class_id: u32,
    /// Facial points, when the model gives them.
    pub landmarks: Option<Landmarks>,
}

/// How sure a tracker is of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrackPhase {
    /// Seen once or too few times to be trusted.
    Tentative,
    /// Followed.
    Confirmed,
    /// Not seen lately; may come back.
    Lost,
}

/// One object followed over time. `id` is never used twice for one camera.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Track {
    /// Unique for the camera.
    pub id: u64,
    /// How sure the tracker is.
    pub phase: TrackPhase,
    /// Where it is now (predicted when lost).
    pub bbox: Rect,
    /// Pixels per second.
    pub velocity: Point,
    /// Of the latest matched detection, in [0, 1].
    pub confidence: f32,
    /// Class index of the model.
    pub class_id: u32,
    /// Index into this frame's detections, when one was matched.
    pub detection: Option<u32>,
    /// Timestamp (ns) of the first matched detection.
    pub first_seen_ns: u64,
    /// Timestamp (ns) of the latest matched detection.
    pub last_seen_ns: u64,
}

/// What a tracker says about one frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrackUpdate {
    /// All live tracks, lost ones that may come back included.
    pub tracks: Vec<Track>,
    /// Ended with this frame: each id exactly once, never to be seen again.
    pub ended: Vec<u64>,
}

/// Sharpness (mean Sobel gradient magnitude of the luma, 0 to 255) and brightness (mean luma, 0 to 100), both measured
/// at a fixed working size, so that faces of all sizes compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Quality {
    pub sharpness: f32,
    pub brightness: f32,
}

/// Why a scorer gave up a shot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShotReason {
    /// A better one came.
    Improved,
    /// A configured interval passed.
    Interval,
    /// Its track was not seen for a while.
    Inactive,
    /// Its track ended.
    Ended,
    /// The camera stopped or the guest is about to be removed.
    Flushed,
}

impl ShotReason {
    /// The name used in message ids, JSON and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Improved => "improved",
            Self::Interval => "interval",
            Self::Inactive => "inactive",
            Self::Ended => "ended",
            Self::Flushed => "flushed",
        }
    }
}

/// A picture of a track that was worth keeping.
#[derive(Clone, Debug)]
pub struct Shot {
    /// The track it shows.
    pub track_id: u64,
    /// The crop, in host memory.
    pub picture: Arc<dyn Picture>,
    /// Where in the source frame the object was (not the crop's own, widened rectangle).
    pub bbox: Rect,
    /// Of the detection, in [0, 1].
    pub confidence: f32,
    /// The facial points in source pixels, when the model gave them.
    pub landmarks: Option<Landmarks>,
    /// Measured on the picture.
    pub quality: Quality,
    /// The scorer's verdict; higher is better.
    pub score: f32,
    /// Capture time of the frame, nanoseconds since the Unix epoch.
    pub captured_at_ns: u64,
    /// Session of the frame.
    pub session: u64,
    /// Sequence of the frame.
    pub sequence: u64,
    /// Why it was given up.
    pub reason: ShotReason,
}
