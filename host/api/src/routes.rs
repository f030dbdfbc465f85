//! Handlers by subject. Each checks its input, asks the control once or twice, and shapes the answer.
//!
//! Must not hold state of their own: what there is to know, the control knows.

pub(crate) mod cameras;
pub(crate) mod events;
pub(crate) mod guests;
pub(crate) mod legacy;
pub(crate) mod pages;
pub(crate) mod rollouts;
pub(crate) mod slots;
pub(crate) mod system;
pub(crate) mod trials;

use facestream_core::CameraId;

use crate::problem::{Kind, Problem};

/// A camera's id from a path. One that cannot be an id is a camera that does not exist.
fn camera_id(text: &str) -> Result<CameraId, Problem> {
    CameraId::new(text).map_err(|e| Problem::new(Kind::UnknownCamera, format!("there can be no such camera: {e}")))
}
