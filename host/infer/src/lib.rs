//! Finding faces: ONNX Runtime sessions, model families, pre- and post-processing, and the batcher that feeds the
//! sessions from many cameras.
//!
//! The only crate that depends on ONNX Runtime. Must not know RTSP, FFmpeg, wasm or Kafka: frames come in, detections in
//! source pixels go out.
//!
//! ```no_run
//! use std::sync::Arc;
//! use facestream_core::metrics::CameraMetrics;
//! use facestream_infer::{Engine, FeedKind, InferConfig, Model};
//!
//! # fn main() -> Result<(), facestream_infer::InferError> {
//! # let frame: facestream_core::Frame = unimplemented!();
//! let config = InferConfig::default();
//! let model = Model::load("yunet.onnx".as_ref(), &config)?;
//! let engine = Engine::start(model, &config)?;
//! let sink = Arc::new(|frame: facestream_core::Frame, found| println!("{:?}: {found:?}", frame.info));
//! let feed = engine.attach(FeedKind::Live, Arc::new(CameraMetrics::default()), sink);
//! feed.offer(frame);
//! feed.drain(std::time::Duration::from_secs(1));
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]

mod backend;
mod batcher;
mod config;
mod device;
mod engine;
mod engine_file;
mod error;
mod family;
mod geometry;
mod letterbox;
mod load;
mod model;
mod nms;
pub mod onnx;
mod runtime;
pub mod speed;
mod stem;
#[cfg(test)]
mod testing;

pub use backend::{Backend, Detector};
pub use batcher::{FeedKind, Sink};
pub use config::{Device, InferConfig, InputSize, Provider};
pub use device::{DeviceLetterbox, tensorrt_version};
pub use engine::{Engine, EngineStats, Feed};
pub use error::InferError;
pub use family::{Channels, InputSpec};
pub use geometry::{Fit, Geometry, STRIDE, input_for};
pub use letterbox::Letterbox;
pub use load::{gpus, load};
pub use model::{Model, ModelInfo};
pub use runtime::{NO_TELEMETRY, RuntimeInfo, available};
