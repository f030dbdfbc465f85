//! The part of the seam that looks at guests without changing them: recordings, dry runs, candidates, explanations.
//!
//! Owns the trait [`Trials`]. Reports are JSON as the guest host makes them: the API passes them on and must
//! not know what is in them.

use bytes::Bytes;
use facestream_core::CameraId;
use facestream_core::guest::{RecordingFile, RecordingWritten, SlotKind, SlotRequest, SlotSpec, SwapReport};
use serde_json::Value;

use crate::control::Answer;

/// What the API asks of the host about guests that are tried and calls that are kept.
pub trait Trials: Send + Sync + 'static {
    /// Writes the last seconds of a slot's guest to disk; all that is kept when `seconds` is left out.
    ///
    /// # Errors
    /// `UnknownCamera`; `NotKept` when the guest does not run or nothing is kept; `Internal` for the disk's own.
    fn record<'a>(&'a self, camera: &'a CameraId, slot: SlotKind, seconds: Option<u32>)
    -> Answer<'a, RecordingWritten>;

    /// Recordings on disk, the newest first.
    ///
    /// # Errors
    /// `Internal` when the folder cannot be read.
    fn recordings(&self) -> Answer<'_, Vec<RecordingFile>>;

    /// The bytes of one.
    ///
    /// # Errors
    /// `UnknownRecording`.
    fn recording<'a>(&'a self, name: &'a str) -> Answer<'a, Bytes>;

    /// Removes one.
    ///
    /// # Errors
    /// `UnknownRecording`.
    fn remove_recording<'a>(&'a self, name: &'a str) -> Answer<'a, ()>;

    /// Tells what a swap would do, and does nothing.
    ///
    /// # Errors
    /// As [`crate::Control::swap`].
    fn dry_run<'a>(&'a self, camera: &'a CameraId, slot: SlotKind, change: SlotRequest) -> Answer<'a, Value>;

    /// Lets a candidate run beside a slot's guest, instead of one that runs there already.
    ///
    /// # Errors
    /// `NoCapacity` when too many run, and as [`crate::Control::swap`].
    fn start_candidate<'a>(&'a self, camera: &'a CameraId, slot: SlotKind, wanted: SlotSpec) -> Answer<'a, Value>;

    /// How a candidate is doing.
    ///
    /// # Errors
    /// `UnknownCamera`, `NoCandidate`.
    fn candidate<'a>(&'a self, camera: &'a CameraId, slot: SlotKind) -> Answer<'a, Value>;

    /// Ends a candidate; gives its last report.
    ///
    /// # Errors
    /// `UnknownCamera`, `NoCandidate`.
    fn drop_candidate<'a>(&'a self, camera: &'a CameraId, slot: SlotKind) -> Answer<'a, Value>;

    /// Puts the candidate's guest into the slot, as a swap that `who` asks for.
    ///
    /// # Errors
    /// `NoCandidate`, and as [`crate::Control::swap`].
    fn promote_candidate<'a>(
        &'a self,
        camera: &'a CameraId,
        slot: SlotKind,
        probation_frames: Option<u32>,
        who: &'a str,
    ) -> Answer<'a, SwapReport>;

    /// The chain that made a message.
    ///
    /// # Errors
    /// `Invalid` when the id is none, `UnknownCamera`, `NotKept`.
    fn explain<'a>(&'a self, message: &'a str) -> Answer<'a, Value>;
}
