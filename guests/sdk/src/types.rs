//! The records that cross between host and guest, under short names. Documented in `wit/types.wit`.
//!
//! Owns conveniences on them. They are the generated types themselves: nothing is converted on the hot path.

pub use crate::bindings::tracker::facestream::analytics::types::{
    Affine, Camera, Detection, FrameInfo, GuestError, Landmarks, Point, Rect, Snapshot, Track, TrackPhase,
};

impl GuestError {
    /// A failure in words; the host counts it, logs it and goes on.
    pub fn failed(why: impl Into<String>) -> Self {
        Self::Failed(why.into())
    }

    /// The words, whatever the kind.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::InvalidConfig(text) | Self::UnsupportedSnapshot(text) | Self::Failed(text) => text,
        }
    }
}

impl Track {
    /// Seen often enough to be believed, and seen now.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.phase == TrackPhase::Confirmed
    }

    /// The detection that it was matched with in this frame, when there was one.
    #[must_use]
    pub fn seen_in<'a>(&self, detections: &'a [Detection]) -> Option<&'a Detection> {
        detections.get(self.detection? as usize)
    }
}

impl Landmarks {
    /// In the fixed order left eye, right eye, nose, mouth left, mouth right (left as seen in the image).
    #[must_use]
    pub fn points(&self) -> [Point; 5] {
        [self.left_eye, self.right_eye, self.nose, self.mouth_left, self.mouth_right]
    }
}
