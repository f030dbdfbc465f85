//! The part of the seam that looks at guests without changing them: recordings, dry runs, candidates, explanations.
//!
//! Owns the trait [`Trials`] and its values. Reports are JSON as the guest host makes them: the API passes them on and must
//! not know what is in them.

use bytes::Bytes;
use facestream_core::CameraId;
use facestream_core::guest::{SlotKind, SlotSpec, SwapReport};
use serde_json::Value;

use crate::control::{Answer, SlotRequest};

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
    fn recordings(&self) -> Answer<'_, Vec<RecordingInfo>>;

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

/// A recording on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingInfo {
    /// Name of the file.
    pub name: String,
    /// Whose guest.
    pub camera: String,
    /// Which slot.
    pub slot: SlotKind,
    /// `failure`, `swap` or `demand`.
    pub reason: String,
    /// Milliseconds since the Unix epoch.
    pub written_unix_ms: u64,
    /// Size of the file.
    pub bytes: u64,
}

/// A recording that was just written.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordingWritten {
    /// The file.
    pub file: RecordingInfo,
    /// Calls of the guest in it.
    pub calls: u64,
    /// Different frames in it.
    pub frames: u64,
    /// From the first of them to the last, seconds of the frame clock.
    pub seconds: f64,
}
