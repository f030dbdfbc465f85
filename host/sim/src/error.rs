//! Why a simulator could not be made. What clients do wrong is answered in RTSP and is no error here.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a clip could not be loaded or a simulator could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimError {
    /// The file could not be read as video.
    #[error("clip {}: {reason}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        reason: String,
    },
    /// Its coding has no RTP payload format here.
    #[error(
        "the clip is coded as {0}; the simulator serves h264, h265 and mjpeg: convert it, e.g. `ffmpeg -i IN -c:v libx264 -an OUT.mp4`"
    )]
    Coding(&'static str),
    /// Its pictures cannot be served.
    #[error("the clip cannot be served: {0}")]
    Unservable(String),
    /// Settings that contradict themselves, all of them.
    #[error("simulator settings: {}", .0.join("; "))]
    Settings(Vec<String>),
    /// No socket.
    #[error("cannot listen on {address}: {source}; choose another address or port, or stop what holds it")]
    Bind {
        /// The wanted address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// No random number for secrets and session ids.
    #[error("the system gives no randomness: {0}")]
    Randomness(String),
}
