//! What can go wrong between a file or stream and its frames, in words that say what to do.

use std::path::PathBuf;

/// Why video could not be opened or decoded. Damage within a stream is no error: it is counted and survived.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// There is no such file.
    #[error("{path}: no such file")]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// The file is there but cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder, a device, or a URL where a file was wanted.
    #[error("{path}: is not a regular file; network streams are opened by their URL as cameras")]
    NotAFile {
        /// What was given.
        path: PathBuf,
    },
    /// Zero bytes.
    #[error("{path}: the file is empty (0 bytes)")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// No known container or elementary stream.
    #[error("{path}: is not a video file that can be read: {reason}")]
    NotAVideo {
        /// The file.
        path: PathBuf,
        /// What the demuxer said.
        reason: String,
    },
    /// A container without video, such as an audio file.
    #[error("no video stream found in {path}")]
    NoVideoStream {
        /// The file.
        path: PathBuf,
    },
    /// This FFmpeg has no decoder for the coding.
    #[error("no decoder for {codec} in the FFmpeg libraries of this machine; `facestream doctor` lists what they have")]
    UnsupportedCodec {
        /// The coding.
        codec: String,
    },
    /// The picture is larger than `decode.max_width` x `decode.max_height`.
    #[error(
        "the video is {width}x{height}, above the configured limit of {max_width}x{max_height} (decode.max_width, decode.max_height)"
    )]
    TooLarge {
        /// Width found.
        width: u32,
        /// Height found.
        height: u32,
        /// Largest width allowed.
        max_width: u32,
        /// Largest height allowed.
        max_height: u32,
    },
    /// The decoder could not be opened.
    #[error("the {codec} decoder could not be opened: {reason}")]
    Open {
        /// The coding.
        codec: String,
        /// What FFmpeg said.
        reason: String,
    },
    /// A GPU was to decode and cannot, or cannot any more.
    #[error("{codec} cannot be decoded on the GPU: {reason}")]
    Device {
        /// The coding.
        codec: String,
        /// What FFmpeg or the GPU said.
        reason: String,
    },
    /// The file ends in the middle. Everything before was delivered: this is always a reader's last item.
    #[error("{path}: the file is truncated or damaged at its end: {reason}; {read} pictures were read before it")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Frames (or access units) delivered before.
        read: u64,
        /// How the end showed.
        reason: String,
    },
}

impl DecodeError {
    /// Whether everything up to here was delivered and only the end is missing.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Truncated { .. })
    }
}
