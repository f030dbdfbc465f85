//! Compressed video between ingest and decode.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Video coding of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// H.264 / AVC, access units in Annex B form.
    H264,
    /// H.265 / HEVC, access units in Annex B form.
    H265,
    /// Motion JPEG, one JFIF picture an access unit (RFC 2435 on RTP).
    Mjpeg,
    /// Anything else that the file demuxer hands to its own decoder (files only).
    Other,
}

impl Codec {
    /// The name used in configuration, status and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::H265 => "h265",
            Self::Mjpeg => "mjpeg",
            Self::Other => "other",
        }
    }
}

/// What is known about a stream before its first access unit.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamParams {
    /// Coding.
    pub codec: Codec,
    /// Display size, when the parameter sets told it.
    pub size: Option<(u32, u32)>,
    /// Parameter sets in Annex B form (SPS, PPS, VPS); empty when they come in-band.
    pub parameter_sets: Bytes,
    /// Frames a second, when declared.
    pub frame_rate: Option<f64>,
}

/// One coded picture with everything needed to decode it in order.
#[derive(Clone, Debug)]
pub struct AccessUnit {
    /// Connection number, grows by one at each reconnect.
    pub session: u64,
    /// Number within the session, from 0.
    pub sequence: u64,
    /// Presentation time in nanoseconds; continuous over sessions. With B-frames not monotonic in decoding order.
    pub timestamp_ns: u64,
    /// When the host received it, nanoseconds on the host's monotonic clock.
    pub received_ns: u64,
    /// Capture time, nanoseconds since the Unix epoch.
    pub captured_at_ns: u64,
    /// Decoding can start here (IDR / IRAP / any JPEG).
    pub keyframe: bool,
    /// RTP packets known to be lost just before it.
    pub lost_packets: u16,
    /// Annex B NAL units, or a JFIF picture.
    pub data: Bytes,
}
