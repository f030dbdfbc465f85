//! The clip that every camera shows.
//!
//! Owns the access units, when each is due, and their RTP payloads. Must not know clients.

use std::fmt;
use std::path::Path;

use bytes::Bytes;
use facestream_core::Codec;
use facestream_core::media::StreamParams;
use facestream_decode::{ClipReader, DecodeError};

use crate::annexb;
use crate::error::SimError;
use crate::packetize::{Packetizer, Payloads};

/// One coded picture of a clip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClipUnit {
    /// Annex B NAL units, or a JFIF picture.
    pub data: Bytes,
    /// Presentation time in nanoseconds. With B-frames not monotonic: units are in decoding order.
    pub pts_ns: u64,
    /// Decoding can start here.
    pub keyframe: bool,
}

/// A clip, cut into RTP payloads, to be shared by all cameras (`Arc<Clip>`). Never changes.
#[derive(Clone)]
pub struct Clip {
    params: StreamParams,
    units: Vec<ClipUnit>,
    /// When each unit is sent, nanoseconds from the clip's beginning; never goes back.
    due_ns: Vec<u64>,
    interval_ns: u64,
    duration_ns: u64,
    payloads: Payloads,
}

impl fmt::Debug for Clip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clip({:?}, {} units, {} ms)", self.params, self.units.len(), self.duration_ns / 1_000_000)
    }
}

impl Clip {
    /// Loads a video file: H.264, H.265 or motion JPEG, in any container that FFmpeg reads. A file that ends in the middle
    /// is served as far as it goes, with a warning. Blocks; call it before serving.
    ///
    /// # Errors
    /// When it cannot be read or its video cannot be served.
    pub fn load(path: &Path) -> Result<Self, SimError> {
        let unreadable = |error: DecodeError| SimError::Unreadable { path: path.to_owned(), reason: error.to_string() };
        let reader = ClipReader::open(path).map_err(unreadable)?;
        let params = reader.params().clone();
        if params.codec == Codec::Other {
            return Err(SimError::Coding(reader.codec_name()));
        }
        let mut units = Vec::new();
        for unit in reader {
            match unit {
                Ok(unit) => {
                    units.push(ClipUnit { data: unit.data, pts_ns: unit.timestamp_ns, keyframe: unit.keyframe })
                }
                Err(error @ DecodeError::Truncated { .. }) if !units.is_empty() => {
                    tracing::warn!(%error, units = units.len(), "the clip is served as far as it goes");
                }
                Err(error) => return Err(unreadable(error)),
            }
        }
        Self::from_units(params, units)
    }

    /// Makes a clip of access units in decoding order. Presentation times are moved so that the earliest is zero, and units
    /// before the first key frame are left out (no decoder could show them), with a warning.
    ///
    /// # Errors
    /// When there is no key frame, a unit cannot be packetised, or the coding has no payload format here.
    pub fn from_units(mut params: StreamParams, mut units: Vec<ClipUnit>) -> Result<Self, SimError> {
        let first_key = units
            .iter()
            .position(|unit| unit.keyframe)
            .ok_or_else(|| SimError::Unservable("it has no key frame, so no client could begin".to_owned()))?;
        if first_key > 0 {
            tracing::warn!(units = first_key, "the clip begins before a key frame; these units are left out");
            units.drain(..first_key);
        }
        // The time of sending the i-th unit in decoding order is the i-th smallest presentation time: what a camera with
        // that reordering does, and independent of what a container says about decoding times.
        let mut due_ns: Vec<u64> = units.iter().map(|unit| unit.pts_ns).collect();
        due_ns.sort_unstable();
        let origin = due_ns[0];
        due_ns.iter_mut().for_each(|t| *t -= origin);
        units.iter_mut().for_each(|unit| unit.pts_ns -= origin);
        let span = due_ns[due_ns.len() - 1];
        let gaps = due_ns.len() as u64 - 1;
        let declared = params.frame_rate.filter(|rate| (0.1..=1000.0).contains(rate));
        let interval_ns = match (span, gaps, declared) {
            (1.., 1.., _) => (span + gaps / 2) / gaps,
            (.., Some(rate)) => (1e9 / rate) as u64,
            _ => 40_000_000,
        };
        params.frame_rate = Some(declared.unwrap_or(1e9 / interval_ns as f64));
        if params.parameter_sets.is_empty() {
            params.parameter_sets = in_band_parameter_sets(&params, &units[0].data);
        }
        let mut packetizer = Packetizer::default();
        for unit in &units {
            packetizer.add(params.codec, &unit.data, unit.keyframe, &params.parameter_sets)?;
        }
        let payloads = packetizer.finish();
        Ok(Self { params, units, due_ns, interval_ns, duration_ns: span + interval_ns, payloads })
    }

    /// What is known about the stream; parameter sets are taken from the first key frame when the file declared none.
    #[must_use]
    pub fn params(&self) -> &StreamParams {
        &self.params
    }

    /// The access units in decoding order, beginning with a key frame.
    #[must_use]
    pub fn units(&self) -> &[ClipUnit] {
        &self.units
    }

    /// Mean frames a second.
    #[must_use]
    pub fn frame_rate(&self) -> f64 {
        1e9 / self.interval_ns as f64
    }

    /// Length in nanoseconds, the last picture's own time included.
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        self.duration_ns
    }

    /// Mean nanoseconds from one picture to the next.
    pub(crate) fn interval_ns(&self) -> u64 {
        self.interval_ns
    }

    /// When a unit is sent, nanoseconds from the beginning of the clip.
    pub(crate) fn due_ns(&self, unit: usize) -> u64 {
        self.due_ns[unit]
    }

    pub(crate) fn payloads(&self) -> &Payloads {
        &self.payloads
    }

    /// Mean kilobits a second.
    pub(crate) fn kilobits_per_second(&self) -> u64 {
        let bits = self.payloads.total_bytes() as u128 * 8;
        u64::try_from(bits * 1_000_000 / u128::from(self.duration_ns)).unwrap_or(u64::MAX)
    }

    /// The key frame that the `n`-th of `total` cameras begins with: spread evenly over the clip.
    pub(crate) fn key_frame_for(&self, n: usize, total: usize) -> usize {
        let keys: Vec<usize> = (0..self.units.len()).filter(|&i| self.units[i].keyframe).collect();
        keys[(n % total.max(1)) * keys.len() / total.max(1)]
    }
}

fn in_band_parameter_sets(params: &StreamParams, first: &[u8]) -> Bytes {
    let sets = annexb::nal_units(first).filter(|nal| annexb::parameter_set(params.codec, nal).is_some());
    sets.flat_map(|nal| [&[0, 0, 0, 1], nal].concat()).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Units of the given sizes at 25 frames a second, a key frame every `gop`.
    pub(crate) fn synthetic(count: usize, gop: usize, size: usize) -> Clip {
        let units = (0..count).map(|i| {
            let keyframe = i % gop == 0;
            let header: u8 = if keyframe { 0x65 } else { 0x41 };
            let mut data = vec![0, 0, 0, 1, header];
            data.extend((0..size).map(|j| ((i + j) % 200) as u8 + 1));
            ClipUnit { data: data.into(), pts_ns: i as u64 * 40_000_000, keyframe }
        });
        Clip::from_units(h264(), units.collect()).unwrap()
    }

    pub(crate) fn h264() -> StreamParams {
        StreamParams {
            codec: Codec::H264,
            size: Some((320, 240)),
            parameter_sets: Bytes::from_static(&[0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1e, 9, 0, 0, 0, 1, 0x68, 0xce, 1]),
            frame_rate: Some(25.0),
        }
    }

    fn unit(pts_ms: u64, keyframe: bool) -> ClipUnit {
        ClipUnit { data: Bytes::from_static(&[0, 0, 1, 0x65, 1]), pts_ns: pts_ms * 1_000_000, keyframe }
    }

    #[test]
    fn reordered_pictures_are_sent_at_a_steady_pace() {
        // I P B B: decoding order, presentation 40, 160, 80, 120 ms.
        let units = vec![unit(40, true), unit(160, false), unit(80, false), unit(120, false)];
        let clip = Clip::from_units(h264(), units).unwrap();
        assert_eq!(clip.due_ns, [0, 40_000_000, 80_000_000, 120_000_000]);
        assert_eq!(clip.units.iter().map(|u| u.pts_ns / 1_000_000).collect::<Vec<_>>(), [0, 120, 40, 80]);
        assert_eq!(clip.duration_ns(), 160_000_000);
        assert!((clip.frame_rate() - 25.0).abs() < 1e-9);
    }

    #[test]
    fn units_before_the_first_key_frame_are_left_out_and_none_at_all_is_refused() {
        let clip = Clip::from_units(h264(), vec![unit(0, false), unit(40, true), unit(80, false)]).unwrap();
        assert_eq!(clip.units().len(), 2);
        assert!(clip.units()[0].keyframe);
        let error = Clip::from_units(h264(), vec![unit(0, false)]).unwrap_err();
        assert!(error.to_string().contains("no key frame"), "{error}");
        assert!(Clip::from_units(h264(), Vec::new()).is_err());
    }

    #[test]
    fn cameras_begin_with_different_key_frames() {
        let clip = synthetic(100, 25, 10);
        let starts: Vec<usize> = (0..8).map(|camera| clip.key_frame_for(camera, 8)).collect();
        assert_eq!(starts, [0, 0, 25, 25, 50, 50, 75, 75]);
        assert_eq!(synthetic(10, 10, 10).key_frame_for(7, 8), 0);
    }

    #[test]
    fn parameter_sets_are_found_in_band() {
        let data = Bytes::from_static(&[0, 0, 1, 0x67, 1, 2, 3, 0, 0, 1, 0x68, 4, 0, 0, 1, 0x65, 9]);
        let params = StreamParams { parameter_sets: Bytes::new(), ..h264() };
        let clip = Clip::from_units(params, vec![ClipUnit { data, pts_ns: 0, keyframe: true }]).unwrap();
        assert_eq!(clip.params().parameter_sets, &[0, 0, 0, 1, 0x67, 1, 2, 3, 0, 0, 0, 1, 0x68, 4][..]);
    }
}
