//! Local video files as access units, the same contract as a live camera's.
//!
//! Owns turning a container's packets into Annex B access units with times. Decodes nothing.

use std::path::Path;

use bytes::{BufMut as _, Bytes, BytesMut};
use facestream_core::media::{AccessUnit, Codec, StreamParams};
use ffmpeg_next::Packet;
use ffmpeg_next::codec::Id;

use crate::annexb;
use crate::demux::{Demuxer, Read};
use crate::error::DecodeError;
use crate::ffi::BitstreamFilter;

/// A video file as an iterator of access units.
///
/// H.264 and H.265 come in Annex B form with their parameter sets in-band at each key frame; MJPEG as it is stored.
/// Other codings ([`Codec::Other`]) come as their container's packets, which only [`crate::FileSource`] can decode.
///
/// Times are those of the file, from 0: `timestamp_ns`, `received_ns` and `captured_at_ns` are all the presentation
/// time, as if recording had begun at the Unix epoch, so that reading twice gives the same units. Elementary streams
/// carry no times; theirs count up in decoding order at the declared rate (25 a second without one). AVI has the times of
/// decoding only.
///
/// A file that ends in the middle gives all it has, then [`DecodeError::Truncated`] as the last item.
pub struct ClipReader {
    demuxer: Demuxer,
    filter: Option<BitstreamFilter>,
    params: StreamParams,
    sequence: u64,
    ended: bool,
}

impl std::fmt::Debug for ClipReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClipReader({}, {:?}, unit {})", self.demuxer.path.display(), self.params.codec, self.sequence)
    }
}

impl ClipReader {
    /// Opens a local file: MP4, MKV, AVI, MPEG-TS, elementary streams and others. Never a URL or a playlist.
    ///
    /// # Errors
    /// When it is missing, empty, no video, without a video stream, or of an unreadable name.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DecodeError> {
        let demuxer = Demuxer::open(path.as_ref())?;
        let codec = codec_of(demuxer.codec);
        let name = match codec {
            Codec::H264 => Some(c"h264_mp4toannexb"),
            Codec::H265 => Some(c"hevc_mp4toannexb"),
            Codec::Mjpeg | Codec::Other => None,
        };
        let filter = name
            .map(|name| BitstreamFilter::new(name, &demuxer.parameters(), demuxer.time_base()))
            .transpose()
            .map_err(|e| DecodeError::NotAVideo {
                path: demuxer.path.clone(),
                reason: format!("its {} parameter sets are damaged: {e}", codec.as_str()),
            })?;
        let parameter_sets = filter.as_ref().map(BitstreamFilter::extradata).unwrap_or_default();
        let params = StreamParams {
            codec,
            size: demuxer.size,
            parameter_sets: Bytes::from(parameter_sets),
            frame_rate: demuxer.frame_rate,
        };
        Ok(Self { demuxer, filter, params, sequence: 0, ended: false })
    }

    /// Coding, size, parameter sets and rate.
    #[must_use]
    pub fn params(&self) -> &StreamParams {
        &self.params
    }

    /// FFmpeg's name of the coding, e.g. `h264`, `vp9`.
    #[must_use]
    pub fn codec_name(&self) -> &'static str {
        self.demuxer.codec.name()
    }

    /// FFmpeg's name of the container, e.g. `mov,mp4,m4a,3gp,3g2,mj2`.
    #[must_use]
    pub fn container(&self) -> String {
        self.demuxer.format_name()
    }

    /// Declared or estimated frames a second.
    #[must_use]
    pub fn frame_rate(&self) -> Option<f64> {
        self.params.frame_rate
    }

    /// Length in nanoseconds, where the container tells it.
    #[must_use]
    pub fn duration_ns(&self) -> Option<u64> {
        self.demuxer.duration_ns
    }

    /// About how many pictures there are: the index's count, else length times rate.
    #[must_use]
    pub fn frame_count_estimate(&self) -> Option<u64> {
        estimate(&self.demuxer)
    }

    fn unit(&mut self, packet: &Packet) -> AccessUnit {
        let timestamp_ns = match self.demuxer.timestamp_ns(packet) {
            Some(t) => t,
            None => (self.sequence as f64 * self.demuxer.period_ns()).round() as u64,
        };
        let keyframe = packet.is_key() || self.params.codec == Codec::Mjpeg;
        let data = packet.data().unwrap_or_default();
        let sets = &self.params.parameter_sets;
        let add_sets = keyframe && !sets.is_empty() && !annexb::has_parameter_sets(self.params.codec, data);
        let data = if add_sets {
            let mut joined = BytesMut::with_capacity(sets.len() + data.len());
            joined.put_slice(sets);
            joined.put_slice(data);
            joined.freeze()
        } else {
            Bytes::copy_from_slice(data)
        };
        let sequence = self.sequence;
        self.sequence += 1;
        AccessUnit {
            session: 0,
            sequence,
            timestamp_ns,
            received_ns: timestamp_ns,
            captured_at_ns: timestamp_ns,
            keyframe,
            lost_packets: 0,
            data,
        }
    }

    fn broken(&mut self, reason: String) -> DecodeError {
        self.ended = true;
        DecodeError::Truncated { path: self.demuxer.path.clone(), read: self.sequence, reason }
    }
}

impl Iterator for ClipReader {
    type Item = Result<AccessUnit, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            if let Some(filter) = &mut self.filter {
                match filter.receive() {
                    Ok(Some(packet)) => return Some(Ok(self.unit(&packet))),
                    Ok(None) => {}
                    // One unreadable packet: the next may be whole. Nothing is hidden: units are numbered without gaps,
                    // but the decoder counts what it cannot decode.
                    Err(e) => tracing::debug!(path = %self.demuxer.path.display(), error = %e, "packet left out"),
                }
            }
            match self.demuxer.next_packet() {
                Read::Packet(packet) => match &mut self.filter {
                    None => return Some(Ok(self.unit(&packet))),
                    Some(filter) => {
                        if let Err(e) = filter.send(packet) {
                            tracing::debug!(path = %self.demuxer.path.display(), error = %e, "packet left out");
                        }
                    }
                },
                // Both filters give a packet for each packet and hold none back: nothing is left to drain.
                Read::End => self.ended = true,
                Read::Broken(reason) => return Some(Err(self.broken(reason))),
            }
        }
        None
    }
}

pub(crate) fn codec_of(id: Id) -> Codec {
    match id {
        Id::H264 => Codec::H264,
        Id::HEVC => Codec::H265,
        Id::MJPEG => Codec::Mjpeg,
        _ => Codec::Other,
    }
}

pub(crate) fn estimate(demuxer: &Demuxer) -> Option<u64> {
    demuxer.declared.or_else(|| {
        let seconds = demuxer.duration_ns? as f64 / 1e9;
        Some((seconds * demuxer.frame_rate?).round() as u64)
    })
}
