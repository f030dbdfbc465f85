//! SDK for FaceStream guests: write a [`Tracker`], a [`Scorer`] or a [`Formatter`] as a plain Rust type, export it
//! with one macro, test it with `cargo test` and no camera.
//!
//! ```no_run
//! use facestream_guest::prelude::*;
//!
//! struct Loudest;
//!
//! impl Formatter for Loudest {
//!     type Config = NoConfig;
//!     type State = ();
//!     const SCHEMA: &'static str = "example.loudest/1";
//!
//!     fn new(_config: NoConfig, _camera: &Camera) -> Result<Self, GuestError> {
//!         Ok(Self)
//!     }
//!     fn interest(&self) -> Interest {
//!         Interest::SHOTS
//!     }
//!     fn format(&mut self, event: Event) -> Result<Vec<Message>, GuestError> {
//!         let Event::Shot(shot) = event else { return Ok(Vec::new()) };
//!         let text = format!("{{\"track\":{},\"score\":{}}}", shot.track_id, shot.score);
//!         Ok(vec![Message::json("loudest", "camera-1", text.into_bytes())])
//!     }
//! }
//!
//! facestream_guest::export_formatter!(Loudest);
//! ```
//!
//! | to write | trait | export it | run it in a test |
//! | --- | --- | --- | --- |
//! | boxes in, tracks out | [`Tracker`] | [`export_tracker!`] | [`TrackerRunner`] |
//! | tracks and pictures in, shots out | [`Scorer`] | [`export_scorer!`] | [`ScorerRunner`] |
//! | shots, endings or frames in, messages out | [`Formatter`] | [`export_formatter!`] | [`FormatterRunner`] |
//!
//! [`testing`] is a fake host: frames and crops that keep the real host's rules, and captured log lines. With the feature
//! `fake-host` (for `[dev-dependencies]` alone) it stands in for the host on `wasm32` too, so that a guest's tests run in
//! the sandbox.
//!
//! Owns the glue between such a type and the component's functions, settings and their errors, and the encoding of
//! state. On `wasm32` pixels and logging are the host's; on every other target they are the fakes of [`testing`], so
//! that the same source runs natively. Must not decide anything about tracks, pictures or messages.

/// The example of the guide, compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub mod readme {}

#[cfg(all(target_arch = "wasm32", not(feature = "fake-host")))]
pub mod abi;
pub mod bindings;
pub mod config;
pub mod formatter;
pub mod geometry;
mod handover;
pub mod held;
pub mod log;
pub mod pixels;
pub mod scorer;
pub mod state;
#[cfg(not(all(target_arch = "wasm32", not(feature = "fake-host"))))]
pub mod testing;
pub mod tracker;
pub mod types;

pub use config::{NoConfig, Settings};
pub use formatter::{Event, Formatter, FormatterRunner, Interest, Message};
pub use held::HeldShots;
pub use pixels::{Crop, CropOptions, Frame, GrayImage, PixelError, Quality, RgbImage};
pub use scorer::{Reason, Scorer, ScorerRunner, Shot};
pub use tracker::{Tracker, TrackerRunner, Update};
pub use types::{
    Affine, Camera, Detection, FrameInfo, GuestError, Landmarks, Point, Rect, Snapshot, Track, TrackPhase,
};

/// Version of `wit/` that this SDK is generated from: a component made with it runs on hosts of this or a later 0.1.
pub const WIT_VERSION: &str = "0.1.1";

/// Everything a guest usually needs.
pub mod prelude {
    pub use crate::{
        Affine, Camera, Crop, CropOptions, Detection, Event, Formatter, Frame, FrameInfo, GuestError, HeldShots,
        Interest, Landmarks, Message, NoConfig, PixelError, Point, Quality, Reason, Rect, Scorer, Settings, Shot,
        Snapshot, Track, TrackPhase, Tracker, Update,
    };
    pub use crate::{log_debug, log_error, log_info, log_warn};
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_is_that_of_the_contract() {
        let wit = include_str!("../../../wit/types.wit");
        assert!(
            wit.starts_with(&format!("package facestream:analytics@{};", super::WIT_VERSION)),
            "{}",
            super::WIT_VERSION
        );
    }
}
