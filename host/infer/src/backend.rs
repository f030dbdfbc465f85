//! The seam between the engine and whatever runs a model.
//!
//! Owns two traits. A backend does everything from pixels to detections, the letterbox included, so that one whose
//! frames live on a device never brings pixels to host memory; one that reads host memory brings them there itself.

use std::fmt;
use std::sync::Arc;

use facestream_core::{Detection, Frame, Picture, Rect};

use crate::error::InferError;

/// Something that finds objects: a loaded model, ready to open sessions.
pub trait Detector: Send + Sync + fmt::Debug {
    /// For logs and errors.
    fn name(&self) -> &str;
    /// Opens one more session. Called once for each worker when the engine starts, and again after a panic.
    ///
    /// # Errors
    /// When the session cannot be made.
    fn open(&self) -> Result<Box<dyn Backend>, InferError>;
    /// Frames of equal group can share a run (for a tensor: their inputs have one size).
    fn group(&self, frame: &Frame) -> u64;
    /// Frames that one run can take; `None` when there is no limit.
    fn max_batch(&self) -> Option<usize> {
        None
    }
    /// Frames a run that are best where the configuration leaves it open.
    fn best_batch(&self) -> usize {
        1
    }
    /// Sessions, and so worker threads, that are best; `None`: as many as the configuration's threads make.
    fn sessions(&self) -> Option<usize> {
        None
    }
}

/// One session, used by one thread at a time.
pub trait Backend: Send {
    /// Analyses frames of one group: for each, in order, its detections in source pixels, best first.
    ///
    /// # Errors
    /// When the run as a whole failed. The engine then tries the frames one by one, so that one bad frame does not
    /// cost its neighbours their results.
    fn infer(&mut self, frames: &[Frame]) -> Result<Vec<Vec<Detection>>, InferError>;
}

/// The picture in host memory, whole: itself, or a copy of one that lies on a device which this backend cannot read (a
/// GPU decodes, and the model runs on the processor or on another GPU).
pub(crate) fn in_host_memory(picture: &Arc<dyn Picture>) -> Result<Arc<dyn Picture>, InferError> {
    if picture.planes().is_some() {
        return Ok(Arc::clone(picture));
    }
    let whole = Rect::from_corners(0.0, 0.0, picture.width() as f32, picture.height() as f32);
    picture.crop(whole, 0).map_err(|e| InferError::Picture(e.to_string()))
}
