//! What a guest asked the host for during a call, and what it was answered.
//!
//! Owns the words. What is noted and given again `tape` decides.

use facestream_core::{Quality, Rect, Shot};
use serde::{Deserialize, Serialize};

use super::call::{Blob, PictureRecord};

/// What a guest asked the host for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum HostRequest {
    /// Sharpness and brightness of a part of the frame.
    Measure {
        /// Which part.
        area: Rect,
    },
    /// A piece of the frame.
    Crop {
        /// Which piece.
        area: Rect,
        /// Widened by, as a share of its size.
        margin: f32,
        /// Longer side at most; 0 for the source's resolution.
        max_side: u32,
    },
    /// The frame in grey.
    Luma {
        /// Longer side at most.
        max_side: u32,
    },
    /// Sharpness and brightness of a crop.
    CropMeasure {
        /// Which crop.
        of: CropOrigin,
    },
    /// A crop in grey.
    CropLuma {
        /// Which crop.
        of: CropOrigin,
        /// Longer side at most.
        max_side: u32,
    },
    /// A crop as RGB.
    CropRgb {
        /// Which crop.
        of: CropOrigin,
        /// Longer side at most.
        max_side: u32,
    },
    /// A crop as JPEG.
    CropJpeg {
        /// Which crop.
        of: CropOrigin,
        /// 1 to 100.
        quality: u8,
    },
}

/// What makes a crop the one it is, whichever guest asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum CropOrigin {
    /// Cut out of a frame by this guest.
    Frame {
        /// Session of the frame.
        session: u64,
        /// Sequence of the frame.
        sequence: u64,
        /// Which piece.
        area: Rect,
        /// Widened by.
        margin: f32,
        /// Longer side at most.
        max_side: u32,
    },
    /// Came with a shot.
    Shot {
        /// Track it shows.
        track: u64,
        /// Session of its frame.
        session: u64,
        /// Sequence of its frame.
        sequence: u64,
    },
}

impl CropOrigin {
    pub(crate) fn of(shot: &Shot) -> Self {
        Self::Shot { track: shot.track_id, session: shot.session, sequence: shot.sequence }
    }
}

/// What the host answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum HostAnswer {
    /// To `measure`.
    Quality(Quality),
    /// To `crop`.
    Crop(PictureRecord),
    /// To `luma` and `rgb`.
    Image {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// Row by row.
        data: Blob,
    },
    /// To `jpeg`.
    Jpeg(Blob),
    /// The rectangle does not touch the frame.
    OutOfFrame,
    /// The guest holds as much as it may.
    OverBudget,
    /// In words.
    Failed(String),
}

impl HostAnswer {
    pub(super) fn kept_len(&self) -> usize {
        match self {
            Self::Crop(picture) => picture.kept.bytes(),
            Self::Image { data, .. } | Self::Jpeg(data) => data.kept_len(),
            Self::Failed(text) => text.len(),
            Self::Quality(_) | Self::OutOfFrame | Self::OverBudget => 0,
        }
    }
}

/// A question of a guest to the host, and the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostCall {
    /// Asked.
    pub request: HostRequest,
    /// Answered.
    pub answer: HostAnswer,
}
