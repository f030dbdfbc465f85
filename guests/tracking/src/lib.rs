//! What BoT-SORT and ByteTrack share: Kalman filters, optimal assignment, and two-stage association in time.
//!
//! Owns the mathematics of following boxes. Must not know components, pixels or messages. Only IEEE basic operations
//! and square roots are used, so that wasm and native builds give the same bytes.

pub mod assignment;
pub mod engine;
pub mod kalman;
mod live;
mod overlap;
pub mod params;
pub mod scenes;

pub use engine::{Engine, EngineState};
pub use kalman::{Motion, Step, Xyah, Xywh};
pub use params::{Params, Report};
