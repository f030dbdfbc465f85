//! NVIDIA GPUs: the context that decoders, kernels and inference share, pictures in device memory, and the kernels.
//!
//! The only crate that calls the CUDA driver. Must not know FFmpeg, ONNX Runtime, cameras or models. Everything NVIDIA is
//! loaded when it is first asked for: on a machine without a driver [`Gpu::open`] says so, and nothing else happens.
//!
//! Order of memory: a [`DevicePicture`] is complete when it is given out (its maker has waited for its stream), and every
//! reader waits for its own stream before it lets the picture go. So memory can be used again the moment a picture is
//! dropped, without events between streams.

mod buffer;
mod device;
mod error;
mod fault;
mod kernels;
mod part;
mod picture;
mod scaled;

pub use buffer::{Buffer, Pinned, Stream};
pub use device::{Gpu, GpuInfo, GpuMemory, count};
pub use error::GpuError;
pub use kernels::{ARGUMENT_SIZES, Colours, Group, MAX_IMAGES, MAX_MAPS, Map, Placement, Rule, Tap, Target};
pub use picture::{Colour, DevicePicture, SurfaceLayout};
