//! Compressed video to frames: live access units, and local files at full speed.
//!
//! Owns FFmpeg: no other crate may depend on it. Must not open network addresses, must not know RTSP, inference, wasm
//! or Kafka. Frames keep the decoder's planar YUV without a copy; per-pixel work is `facestream-pixels`'.
//!
//! On NVIDIA GPUs FFmpeg decodes into device memory: such frames are `facestream_gpu::DevicePicture`s, whose `planes()` is
//! `None`. The seam for other decoders is [`Decoder`] and [`facestream_core::Picture`].
#![deny(unsafe_code)]

mod annexb;
mod clip;
mod config;
mod demux;
mod engine;
mod error;
mod ffi;
mod file;
mod live;
mod picture;
mod place;
mod report;
mod selector;
mod timeline;

use std::sync::Arc;

use facestream_core::clock::Clock;
use facestream_core::frame::Frame;
use facestream_core::media::{AccessUnit, StreamParams};
use facestream_core::metrics::CameraMetrics;
use facestream_gpu::Gpu;

pub use clip::ClipReader;
pub use config::{Acceleration, DamagedFrames, DecodeConfig};
pub use error::DecodeError;
pub use file::FileSource;
pub use picture::DecodedPicture;
pub use report::{DecoderReport, FfmpegReport, available};
pub use selector::FrameSelector;
pub use timeline::Timeline;

/// What one call of a decoder did. All but `frames` and `skipped` is in the camera's metrics as well, under
/// `decode-error`, by units: `dropped`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeReport {
    /// Frames given out.
    pub frames: u32,
    /// Units left out on purpose (`keyframes_only`).
    pub skipped: u32,
    /// Errors that the decoder reported.
    pub errors: u32,
    /// Pictures that the decoder could only conceal; dropped or kept by `DecodeConfig::damaged_frames`.
    pub damaged: u32,
    /// Units that gave no frame, and damaged pictures that were dropped.
    pub dropped: u32,
    /// The decoder was built anew after too many errors in a row.
    pub rebuilt: bool,
}

/// Decodes one camera's access units, on whatever hardware.
///
/// One instance serves a camera for as long as it runs, on one thread at a time. Frames come in presentation order, which
/// with B-frames is later than their unit. `FrameInfo::session` is the unit's, `sequence` counts the session's decoded
/// pictures from 0 (a damaged picture that is dropped leaves a gap), `timestamp_ns` increases strictly for as long as the
/// decoder lives, `captured_at_ns` is that of the unit the picture came in. A new session is noticed by the unit's
/// number: what the old one held back is given out first.
pub trait Decoder: Send {
    /// Decodes one access unit; calls `out` for each frame that is ready, zero or more.
    ///
    /// Damage is no error: it is counted (report and metrics) and survived.
    ///
    /// # Errors
    /// What trying again cannot mend: a picture above the configured size, or a decoder that cannot be rebuilt.
    fn decode(&mut self, unit: &AccessUnit, out: &mut dyn FnMut(Frame)) -> Result<DecodeReport, DecodeError>;

    /// Gives out the frames held back for reordering; the decoder can be used on, from a key frame.
    ///
    /// # Errors
    /// As `decode`.
    fn flush(&mut self, out: &mut dyn FnMut(Frame)) -> Result<DecodeReport, DecodeError>;

    /// Begins anew with other stream parameters (after a reconnect the camera may send another coding), timestamps
    /// going on. Frames held back are given out first.
    ///
    /// # Errors
    /// As [`open_decoder`].
    fn restart(&mut self, params: &StreamParams, out: &mut dyn FnMut(Frame)) -> Result<DecodeReport, DecodeError>;

    /// What decodes, for logs and status, e.g. `h264 (FFmpeg 5.1.9, cpu, 1 thread)`.
    fn describe(&self) -> String;
}

/// Opens a decoder for a live stream, on `gpu` where there is one and `config` allows it.
///
/// # Errors
/// `UnsupportedCodec` for a coding that cameras do not send or this FFmpeg lacks, `TooLarge`, `Open`; `Device` when only
/// the GPU is allowed and it refuses.
pub fn open_decoder(
    params: &StreamParams,
    config: &DecodeConfig,
    gpu: Option<&Arc<Gpu>>,
    metrics: Arc<CameraMetrics>,
    clock: Arc<dyn Clock>,
) -> Result<Box<dyn Decoder>, DecodeError> {
    Ok(Box::new(live::LiveDecoder::open(params, config, gpu, metrics, clock)?))
}
