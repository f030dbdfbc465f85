//! Plain types that every stage shares: identities, geometry, frames, tracks, messages, clocks, counters, secrets.
//!
//! Owns the vocabulary. Must not do I/O and must not know wasm, FFmpeg, ONNX Runtime, HTTP or Kafka.
#![forbid(unsafe_code)]

pub mod camera;
pub mod clock;
pub mod event;
pub mod frame;
pub mod geometry;
pub mod guest;
pub mod media;
pub mod message;
pub mod metrics;
pub mod secret;
pub mod track;

pub use camera::{CameraId, CameraSpec, CameraState, CameraStatus, WorkerId};
pub use clock::{Clock, SimulatedClock, SystemClock};
pub use frame::{Frame, FrameInfo, Picture, PictureError, Planes};
pub use geometry::{Affine, Point, Rect};
pub use media::{AccessUnit, Codec, StreamParams};
pub use message::{Message, MessageId};
pub use metrics::{CameraMetrics, DropReason};
pub use secret::SourceUrl;
pub use track::{Detection, Landmarks, Quality, Shot, ShotReason, Track, TrackPhase, TrackUpdate};
