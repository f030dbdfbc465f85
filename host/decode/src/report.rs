//! What the FFmpeg libraries on this machine can do, for `facestream doctor`.

use ffmpeg_next::codec::{Id, decoder};
use serde::Serialize;

use crate::ffi;

/// A coding and the decoder that would be used for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DecoderReport {
    /// `h264`, `hevc` or `mjpeg`.
    pub codec: &'static str,
    /// FFmpeg's name of the decoder; `None` when this FFmpeg has none.
    pub decoder: Option<String>,
}

/// The FFmpeg libraries in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FfmpegReport {
    /// FFmpeg's version, e.g. `5.1.9-0+deb12u1`.
    pub version: String,
    /// Version of libavcodec as major.minor.micro.
    pub libavcodec: String,
    /// `GPL version 2 or later`, `LGPL …`.
    pub license: &'static str,
    /// Whether it can decode on NVIDIA GPUs (NVDEC).
    pub cuda: bool,
    /// What live cameras need.
    pub decoders: Vec<DecoderReport>,
}

impl FfmpegReport {
    /// What is missing, in words that say what to do; empty when all is well.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let missing = self.decoders.iter().filter(|d| d.decoder.is_none());
        missing
            .map(|d| {
                format!(
                    "FFmpeg {} has no {} decoder: install a full build (Debian and Ubuntu: `apt-get install libavcodec-extra`)",
                    self.version, d.codec
                )
            })
            .collect()
    }
}

/// Asks the FFmpeg libraries what they are and which decoders for cameras they have.
#[must_use]
pub fn available() -> FfmpegReport {
    let v = ffmpeg_next::codec::version();
    let decoders = [("h264", Id::H264), ("hevc", Id::HEVC), ("mjpeg", Id::MJPEG)]
        .map(|(codec, id)| DecoderReport { codec, decoder: decoder::find(id).map(|d| d.name().to_owned()) });
    FfmpegReport {
        version: ffi::version(),
        libavcodec: format!("{}.{}.{}", v >> 16, (v >> 8) & 0xff, v & 0xff),
        license: ffmpeg_next::codec::license(),
        cuda: ffi::has_cuda(),
        decoders: decoders.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_what_cameras_need_and_a_missing_decoder_is_named() {
        let report = available();
        assert_eq!(report.problems(), Vec::<String>::new());
        assert!(report.version.starts_with(|c: char| c.is_ascii_alphanumeric()), "{}", report.version);
        let mut poor = report;
        poor.decoders[1].decoder = None;
        assert!(poor.problems()[0].contains("no hevc decoder"), "{:?}", poor.problems());
    }
}
