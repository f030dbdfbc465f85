//! Why a slot was not changed.

use facestream_core::CameraId;
use facestream_core::guest::SlotKind;
use facestream_guest_host::StoreError;

use crate::lane::LaneError;
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
        if error.is_busy() {
            return Self::Later(error.to_string());
        }
        let unknown = matches!(error, StoreError::NotFound { .. });
        Self::Guest { guest: guest.to_owned(), unknown, reason: error.to_string() }
    }
}
