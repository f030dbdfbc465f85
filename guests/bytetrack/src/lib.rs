//! ByteTrack (Zhang et al. 2021, arXiv 2110.06864) as a tracker guest: the filter of SORT over (x, y, aspect, height),
//! no camera motion.
//!
//! Owns the settings and the export; association is `facestream-tracking`'s. Where it departs from the paper is said
//! there.

mod config;

pub use config::BytetrackConfig;
use facestream_guest::prelude::*;
use facestream_tracking::{Engine, EngineState, Params, Xyah};

/// The tracker of one camera.
#[derive(Clone, Debug)]
pub struct Bytetrack {
    engine: Engine<Xyah>,
}

impl Bytetrack {
    /// The engine inside, for measurements.
    #[must_use]
    pub fn engine(&self) -> &Engine<Xyah> {
        &self.engine
    }
}

impl Tracker for Bytetrack {
    type Config = BytetrackConfig;
    type State = EngineState<Xyah>;
    const SCHEMA: &'static str = "facestream.bytetrack/1";

    fn new(config: BytetrackConfig, _camera: &Camera) -> Result<Self, GuestError> {
        Ok(Self { engine: Engine::new(Params::from(&config)) })
    }

    fn reconfigure(&mut self, config: BytetrackConfig, _camera: &Camera) -> Result<(), GuestError> {
        self.engine.set_params(Params::from(&config));
        Ok(())
    }

    fn advance(
        &mut self,
        frame: &FrameInfo,
        detections: &[Detection],
        motion: Option<&facestream_guest::Affine>,
    ) -> Result<Update, GuestError> {
        Ok(self.engine.advance(frame, detections, motion))
    }

    fn next_id(&self) -> u64 {
        self.engine.next_id()
    }

    fn save(&self) -> Self::State {
        self.engine.save()
    }

    fn load(&mut self, state: Self::State) -> Result<(), GuestError> {
        self.engine.load(state).map_err(|e| GuestError::UnsupportedSnapshot(e.to_string()))
    }

    fn adopt(&mut self, tracks: &[Track], next_id: u64) -> Result<(), GuestError> {
        self.engine.adopt(tracks, next_id).map_err(|e| GuestError::UnsupportedSnapshot(e.to_string()))
    }
}

facestream_guest::export_tracker!(Bytetrack);
