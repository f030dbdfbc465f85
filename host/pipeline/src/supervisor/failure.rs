//! Why a camera was not started, and why a slot was not changed.
//!
//! Owns the sentences. Must not decide anything.

use facestream_core::CameraId;
use facestream_core::guest::SlotKind;
use facestream_guest_host::StoreError;
use facestream_ingest::PolicyError;

use crate::camera::SpawnError;
use crate::lane::LaneError;
use crate::models::ModelError;
use crate::placement::Full;
use crate::wanted::WantedError;

/// Why a swap did not happen; what ran before still runs.
#[derive(Debug, thiserror::Error)]
pub enum SwapFailure {
    /// No such camera.
    #[error("no camera {0}")]
    UnknownCamera(CameraId),
    /// Limits that are above what the host allows: names and sentences.
    #[error("{} of the limits are not possible", .0.len())]
    Limits(Vec<(&'static str, String)>),
    /// The guest is unknown, refused, or failed.
    #[error("{reason}")]
    Guest {
        /// As it was asked for.
        guest: String,
        /// Whether the store has nothing of that name.
        unknown: bool,
        /// Why, in words.
        reason: String,
    },
    /// The host is busy with something that this must wait for.
    #[error("{0}")]
    Later(String),
    /// There was no other guest.
    #[error("the {0} has had no other guest, so there is nothing to go back to")]
    NothingBefore(SlotKind),
    /// The guest before is not in the store any more.
    #[error("`{guest}`, which ran in the {slot} before ({digest}), is not in the store any more")]
    BeforeGone {
        /// Which slot.
        slot: SlotKind,
        /// As it was asked for.
        guest: String,
        /// Of its component.
        digest: String,
    },
    /// What was to be taken back is not there any more.
    #[error("somebody else has changed the {0} since, or it has gone back by itself")]
    ChangedSince(SlotKind),
    /// The camera does not take it now.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// Swapped, but not remembered for the next start.
    #[error(transparent)]
    Wanted(#[from] WantedError),
}

impl SwapFailure {
    /// The guest was refused, or failed.
    pub(super) fn refused(guest: &str, reason: String) -> Self {
        Self::Guest { guest: guest.to_owned(), unknown: false, reason }
    }

    /// The store does not give it: for now, or because it has none or a bad one.
    pub(super) fn of_store(guest: &str, error: &StoreError) -> Self {
        if error.is_for_now() {
            return Self::Later(error.to_string());
        }
        let unknown = matches!(error, StoreError::NotFound { .. });
        Self::Guest { guest: guest.to_owned(), unknown, reason: error.to_string() }
    }
}

/// Why a camera was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another camera of that id is wanted.
    #[error("camera {camera} exists with other settings: {difference}")]
    Conflict {
        /// Which.
        camera: CameraId,
        /// Names of the settings that differ.
        difference: String,
    },
    /// The same id is being started or stopped right now.
    #[error("camera {0} is being started or stopped right now; try again")]
    Busy(CameraId),
    /// The host is busy with something that this must wait for.
    #[error("{0}")]
    Later(String),
    /// Its address may not be reached.
    #[error("rtsp_link refused: {0}")]
    Address(#[from] PolicyError),
    /// `detect_fps` or the like is out of range.
    #[error("{0}")]
    Invalid(String),
    /// Its model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// One of its guests.
    #[error("{slot}: {reason}")]
    Guest {
        /// Slot.
        slot: SlotKind,
        /// Whether the store has nothing of that name.
        unknown: bool,
        /// Why, in words.
        reason: String,
    },
    /// A limit of a slot that this host does not allow.
    #[error("{slot}: {limit} {reason}")]
    Limit {
        /// Slot.
        slot: SlotKind,
        /// The limit's name.
        limit: &'static str,
        /// Why, in words.
        reason: String,
    },
    /// It names a GPU that this host does not use.
    #[error("there is no GPU {wanted}: this host uses {there}, numbered as in `facestream doctor` (infer.device)")]
    NoSuchGpu {
        /// Asked for.
        wanted: usize,
        /// How many are in use.
        there: usize,
    },
    /// Its GPU has no room for it.
    #[error(transparent)]
    Full(#[from] Full),
    /// Every GPU that could run it is lost.
    #[error(transparent)]
    Lost(#[from] facestream_gpu::GpuError),
    /// It could not be remembered.
    #[error(transparent)]
    Wanted(#[from] WantedError),
    /// It could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The host is going down.
    #[error("the host is stopping")]
    Stopping,
}
