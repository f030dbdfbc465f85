//! One camera from access units to messages, and the supervisor that owns all cameras.
//!
//! Owns the threads between stages (a decode thread a camera, the pool that runs guests) and the wanted cameras.
//! Must not speak HTTP, must not know RTSP, FFmpeg, ONNX Runtime or wasmtime beyond the crates that own them, and
//! must never run a guest on the async runtime's threads.
#![forbid(unsafe_code)]

pub mod book;
pub mod camera;
mod changes;
pub mod config;
pub mod file;
pub mod lane;
pub mod models;
mod motion;
pub mod placement;
pub mod places;
mod rate;
pub mod recordings;
mod rollout;
mod rollouts;
pub mod snapshot;
pub mod stage;
pub mod supervisor;
pub mod wanted;

pub use config::PipelineConfig;
pub use models::Models;
pub use placement::{AdmissionConfig, Gpus};
pub use supervisor::{StartError, Supervisor};
