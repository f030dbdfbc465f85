//! Operations on pictures in host memory: crops, measures, grey and RGB copies, JPEG.
//!
//! Owns all per-pixel work on the processor outside inference. Must not know FFmpeg, wasm or ONNX Runtime. Works on
//! [`facestream_core::frame::Planes`]: I420, I422, I444 and NV12, any stride, limited or full range, BT.601 or BT.709.
#![forbid(unsafe_code)]

mod color;
mod convert;
mod crop;
mod jpeg;
mod measure;
mod picture;
mod scale;
mod taps;

pub use convert::{Image, full_range, luma, rgb, working_luma};
pub use crop::{crop_planes, crop_window, measured_window};
pub use jpeg::{JpegError, jpeg};
pub use measure::{measure, quality};
pub use picture::HostPicture;
pub use scale::Window;
pub use taps::{Scaling, Taps};
