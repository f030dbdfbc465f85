//! Answers about guests that are tried and calls that are kept.

use facestream_core::guest::{RecordingFile, RecordingWritten};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::slots::SwapView;

/// How much to record.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RecordQuery {
    /// Seconds of the frame clock, counted from now backwards; all that is kept when left out.
    pub(crate) seconds: Option<u32>,
}

/// How to promote.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PromoteQuery {
    /// As `probation_frames` of a change of the slot.
    #[param(maximum = 1000000)]
    pub(crate) probation_frames: Option<u32>,
}

/// Which message.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExplainQuery {
    /// The header `message-id` of a message.
    #[param(example = "door/1/250/7/best/0")]
    pub(crate) message: String,
}

/// A recording on disk.
#[derive(Serialize, ToSchema)]
#[schema(as = Recording)]
pub(crate) struct RecordingView {
    /// Name of the file in DATA/recordings.
    #[schema(example = "door-scorer-1700000000000-demand.zip")]
    name: String,
    /// Whose guest.
    camera: String,
    /// Which slot.
    slot: &'static str,
    /// `failure`, `swap` or `demand`.
    reason: String,
    /// When, milliseconds since the Unix epoch.
    written_unix_ms: u64,
    /// Size of the file.
    bytes: u64,
}

impl From<RecordingFile> for RecordingView {
    fn from(file: RecordingFile) -> Self {
        let RecordingFile { name, camera, slot, reason, written_unix_ms, bytes } = file;
        Self { name, camera, slot: slot.as_str(), reason, written_unix_ms, bytes }
    }
}

/// Recordings on disk.
#[derive(Serialize, ToSchema)]
pub(crate) struct RecordingList {
    /// The newest first.
    pub(crate) recordings: Vec<RecordingView>,
}

/// A recording that was just written.
#[derive(Serialize, ToSchema)]
#[schema(as = RecordingWritten)]
pub(crate) struct RecordingWrittenView {
    /// Name of the file in DATA/recordings.
    #[schema(example = "door-scorer-1700000000000-demand.zip")]
    file: String,
    /// Size of the file.
    bytes: u64,
    /// Calls of the guest in it.
    calls: u64,
    /// Different frames in it.
    frames: u64,
    /// From the first of them to the last, seconds of the frame clock.
    seconds: f64,
}

impl From<RecordingWritten> for RecordingWrittenView {
    fn from(written: RecordingWritten) -> Self {
        let RecordingWritten { file, calls, frames, seconds } = written;
        Self { file: file.name, bytes: file.bytes, calls, frames, seconds }
    }
}

/// What a swap would do: `old_digest`, `new_digest`, the `state` that the candidate took (`private`, `neutral` or `none`),
/// why it did not (`failure`), and `replay`: the last seconds given to both guests, with every answer compared.
#[derive(Serialize, ToSchema)]
#[schema(as = DryRunReport, value_type = Object)]
pub(crate) struct DryRunView(pub(crate) Value);

/// How a candidate beside a slot's guest is doing: `state` (`running` or `given-up`, with the `reason`), what state it began
/// with (`carried`), and the `comparison` with the guest that runs: ids, shots or messages, microseconds, bytes.
#[derive(Serialize, ToSchema)]
#[schema(as = ShadowReport, value_type = Object)]
pub(crate) struct ShadowView(pub(crate) Value);

/// The chain that made a message: `frame`, `detections`, `track` frame by frame, the picture that was `chosen` and those
/// that `lost`, `guests` with their digests and settings, and in `missing` what can no longer be told.
#[derive(Serialize, ToSchema)]
#[schema(as = Explanation, value_type = Object)]
pub(crate) struct ExplanationView(pub(crate) Value);

/// What came of a change, or would have come of it (`dry_run`).
#[derive(Serialize, ToSchema)]
#[schema(as = SwapAnswer)]
#[serde(untagged)]
pub(crate) enum SwapAnswer {
    /// It was made.
    Swapped(SwapView),
    /// It was only tried.
    DryRun(DryRunView),
}
