//! Everything about a new guest that takes time or can fail by itself: made, configured, tried, on any thread, while the
//! camera runs.
//!
//! Must not touch what the camera runs.

use std::sync::Arc;

use facestream_core::CameraId;
use facestream_core::guest::SlotKind;

use super::selftest::{self, SelfTest};
use super::{CameraGuests, SlotGuest};
use crate::config::GuestConfig;
use crate::error::{GuestFailure, SwapError};
use crate::formatter::FormatterGuest;
use crate::scorer::ScorerGuest;
use crate::slot::{Filling, Guest};
use crate::tracker::TrackerGuest;

/// Makes instances for one camera. Cheap to clone, free to move to another thread.
#[derive(Clone, Debug)]
pub struct GuestFactory {
    camera: CameraId,
    config: Arc<GuestConfig>,
}

/// An instance that is ready to take over a slot.
#[derive(Debug)]
pub struct PreparedGuest {
    pub(super) filling: Filling,
    pub(super) ready: Ready,
    pub(super) probation_frames: u32,
}

/// With the name of the schema of its state, empty when it does not support saving.
#[derive(Debug)]
pub(super) enum Ready {
    Tracker(TrackerGuest, String),
    Scorer(ScorerGuest, String),
    Formatter(FormatterGuest, String),
}

impl GuestFactory {
    pub(super) fn new(camera: CameraId, config: GuestConfig) -> Self {
        Self { camera, config: Arc::new(config) }
    }

    pub(super) fn camera(&self) -> &CameraId {
        &self.camera
    }

    /// Settings of the guest platform.
    #[must_use]
    pub fn config(&self) -> &GuestConfig {
        &self.config
    }

    /// Makes, configures and tries an instance for a slot: its first `save` by itself, a few made-up frames in a second
    /// instance that is thrown away. Takes milliseconds (start-up code of the guest included); call it off the camera's
    /// worker.
    ///
    /// # Errors
    /// `WrongSlot`; `Start` when the guest refuses its settings, traps or runs past its deadline; `SelfTest`.
    pub fn prepare(&self, kind: SlotKind, guest: SlotGuest) -> Result<PreparedGuest, SwapError> {
        let (filling, ready) = match kind {
            SlotKind::Tracker => {
                let (filling, mut guest) = self.make::<TrackerGuest>(kind, guest)?;
                let schema = self.probe(kind, &filling, guest.save())?.map_or_else(String::new, |s| s.schema);
                self.self_test::<TrackerGuest>(kind, &filling)?;
                (filling, Ready::Tracker(guest, schema))
            }
            SlotKind::Scorer => {
                let (filling, mut guest) = self.make::<ScorerGuest>(kind, guest)?;
                let schema = self.probe(kind, &filling, guest.save())?.map_or_else(String::new, |s| s.0.schema);
                self.self_test::<ScorerGuest>(kind, &filling)?;
                (filling, Ready::Scorer(guest, schema))
            }
            SlotKind::Formatter => {
                let (filling, mut guest) = self.make::<FormatterGuest>(kind, guest)?;
                let schema = self.probe(kind, &filling, guest.save())?.map_or_else(String::new, |s| s.schema);
                self.self_test::<FormatterGuest>(kind, &filling)?;
                (filling, Ready::Formatter(guest, schema))
            }
        };
        Ok(PreparedGuest { filling, ready, probation_frames: 0 })
    }

    /// A guest may refuse to save; any other failure of it shows before it is let near a camera.
    fn probe<T>(
        &self,
        slot: SlotKind,
        filling: &Filling,
        saved: Result<T, GuestFailure>,
    ) -> Result<Option<T>, SwapError> {
        match saved {
            Ok(saved) => Ok(Some(saved)),
            Err(GuestFailure::Refused(_)) => Ok(None),
            Err(failure) => Err(SwapError::Start { slot, guest: filling.reference.clone(), failure }),
        }
    }

    fn self_test<G: SelfTest>(&self, slot: SlotKind, filling: &Filling) -> Result<(), SwapError> {
        selftest::run::<G>(filling, &self.camera).map_err(|failure| SwapError::SelfTest {
            slot,
            guest: filling.reference.clone(),
            failure,
        })
    }

    pub(super) fn make<G: Guest>(&self, slot: SlotKind, guest: SlotGuest) -> Result<(Filling, G), SwapError> {
        let found = guest.component.kind();
        if found != slot {
            return Err(SwapError::WrongSlot { guest: guest.reference, found, wanted: slot });
        }
        let filling = self.filling(guest);
        let instance = filling.start(&self.camera).map_err(|failure| SwapError::Start {
            slot,
            guest: filling.reference.clone(),
            failure,
        })?;
        Ok((filling, instance))
    }

    fn filling(&self, guest: SlotGuest) -> Filling {
        let SlotGuest { reference, component, config, limits, on_failure, stand_in } = guest;
        // One for another slot could never run here.
        let stand_in = stand_in.filter(|s| s.component.kind() == component.kind());
        Filling {
            reference,
            component,
            config,
            limits: limits.unwrap_or_else(|| self.config.limits.clone()),
            on_failure,
            stand_in: stand_in.map(|guest| Box::new(self.filling(*guest))),
        }
    }
}

impl PreparedGuest {
    /// The slot it is for.
    #[must_use]
    pub fn kind(&self) -> SlotKind {
        self.filling.component.kind()
    }

    /// Keeps the guest before it for so many frames after the swap, to come back with the state when this one fails. By
    /// default it is gone at once.
    #[must_use]
    pub fn on_probation_for(mut self, frames: u32) -> Self {
        self.probation_frames = frames;
        self
    }
}

impl CameraGuests {
    /// Makes instances for this camera's slots off the hot path; see [`Self::commit_swap`].
    #[must_use]
    pub fn factory(&self) -> GuestFactory {
        self.factory.clone()
    }

    pub(super) fn config(&self) -> &GuestConfig {
        self.factory.config()
    }
}
