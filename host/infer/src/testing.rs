//! Frames and counters for the tests of this crate.

use std::any::Any;
use std::sync::Arc;

use facestream_core::metrics::{CameraMetrics, Counter, DropReason};
use facestream_core::{Frame, FrameInfo, Picture, PictureError, Planes, Rect};

/// A picture without pixels in host memory.
#[derive(Debug)]
struct Blank {
    width: u32,
}

impl Picture for Blank {
    fn width(&self) -> u32 {
        self.width
    }
    fn height(&self) -> u32 {
        10
    }
    fn planes(&self) -> Option<Planes<'_>> {
        None
    }
    fn crop(&self, _: Rect, _: u32) -> Result<Arc<dyn Picture>, PictureError> {
        Err(PictureError::Device("blank".to_owned()))
    }
    fn bytes(&self) -> usize {
        0
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Frame `sequence` of camera `session`; `width` tells groups apart.
pub(crate) fn frame_of(session: u64, sequence: u64, width: u32) -> Frame {
    let info = FrameInfo { session, sequence, width, height: 10, ..FrameInfo::default() };
    Frame { info, picture: Arc::new(Blank { width }) }
}

pub(crate) fn metrics() -> Arc<CameraMetrics> {
    Arc::new(CameraMetrics::default())
}

/// Analysed, superseded, inference errors, lost to stopping.
pub(crate) fn tally(m: &CameraMetrics) -> [u64; 4] {
    [
        m.get(Counter::Analysed),
        m.drops(DropReason::Superseded),
        m.drops(DropReason::InferenceError),
        m.drops(DropReason::ShutdownGrace),
    ]
}
