//! What can go wrong with a camera, by phase and kind.
//!
//! Owns the words that operators read. Nothing in here is made from text that a camera sent or from the camera's
//! address (host names and IP addresses of [`PolicyError`] excepted), so no message can hold a credential, not even one
//! that a hostile server echoes.

use std::fmt;
use std::time::Duration;

use crate::policy::PolicyError;

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Checking the address and resolving its name.
    Resolve,
    /// Opening the connection.
    Connect,
    /// Asking for the description (DESCRIBE).
    Describe,
    /// Choosing stream and transport (SETUP).
    Setup,
    /// Starting the stream (PLAY).
    Play,
    /// Receiving.
    Stream,
}

impl Phase {
    fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "address",
            Self::Connect => "connecting",
            Self::Describe => "DESCRIBE",
            Self::Setup => "SETUP",
            Self::Play => "PLAY",
            Self::Stream => "streaming",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What went wrong. Every text is the project's own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// The address is not allowed or its name unknown.
    #[error("{0}")]
    Policy(#[from] PolicyError),
    /// Nothing listens there.
    #[error("connection refused: the host is up, but nothing listens on that port; check the port and that RTSP is on")]
    Refused,
    /// No way there.
    #[error("unreachable: no answer from that address; check power, cable and network")]
    Unreachable,
    /// No answer in time.
    #[error("no answer within {} s", seconds(*.0))]
    Timeout(Duration),
    /// 401 without credentials.
    #[error("unauthorised: the camera wants a user name and a password, and its address holds none")]
    CredentialsMissing,
    /// 401 with credentials, or 403.
    #[error("unauthorised: the camera refuses the user name or the password")]
    Unauthorised,
    /// 404.
    #[error("not found: the camera has no stream under this path")]
    NotFound,
    /// Another status.
    #[error("the camera answered with status {0}")]
    Status(u16),
    /// 461.
    #[error("the camera does not offer this transport; try the other of tcp and udp")]
    TransportRefused,
    /// 453 or 503.
    #[error("the camera serves no more viewers now (status {0}); close others or raise its limit")]
    Busy(u16),
    /// Audio or metadata only.
    #[error("the camera's description has no video stream")]
    NoVideo,
    /// Video, but nothing we can take. The name comes from a closed list.
    #[error("the camera sends {0}; supported are H.264, H.265 and MJPEG")]
    UnsupportedCodec(&'static str),
    /// Against RTSP, RTP or the coding. Words from a closed list.
    #[error("{0}")]
    Protocol(&'static str),
    /// The server closed the connection or said BYE.
    #[error("the camera ended the stream")]
    EndedByCamera,
    /// Reset, or a write failed.
    #[error("the connection broke")]
    ConnectionLost,
    /// The watchdog fired.
    #[error("no decoded frame for {} s{}", seconds(*after), hint)]
    Stalled {
        /// How long.
        after: Duration,
        /// What to try, beginning with a semicolon, or nothing.
        hint: &'static str,
    },
    /// A session of ours that this camera has not ended.
    #[error("an earlier session is still open on the camera and would disturb a new one; waiting for its end")]
    StaleSession {
        /// When the camera will have ended it.
        retry_after: Duration,
    },
    /// Code that reads what cameras send panicked; the panic hook has told where.
    #[error("reading the camera's stream failed inside this host, which is a bug; its log has the place")]
    Panicked,
    /// Above `max_access_unit_bytes`.
    #[error("a picture of {bytes} bytes is above max_access_unit_bytes = {limit}")]
    Oversized {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The queue's other end is gone.
    #[error("the decoder is gone")]
    ConsumerGone,
    /// This machine has no sockets or ports left.
    #[error(
        "this machine cannot open another socket (limit of open files or ports); raise it, for example with ulimit -n"
    )]
    NoSockets,
}

/// In seconds, to a tenth.
fn seconds(time: Duration) -> f32 {
    (time.as_secs_f32() * 10.0).round() / 10.0
}

/// A failure with what was being done. Its text is fit for REST, logs and tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestError {
    /// What was being done.
    pub phase: Phase,
    /// What went wrong.
    pub kind: ErrorKind,
}

impl IngestError {
    /// From its parts.
    #[must_use]
    pub fn new(phase: Phase, kind: ErrorKind) -> Self {
        Self { phase, kind }
    }

    /// Whether trying again cannot help until someone changes the camera's address or the host's configuration.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match &self.kind {
            ErrorKind::Policy(error) => error.is_permanent(),
            ErrorKind::ConsumerGone => true,
            _ => false,
        }
    }

    /// A wait that the failure itself asks for.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self.kind {
            ErrorKind::StaleSession { retry_after } => Some(retry_after),
            _ => None,
        }
    }
}

impl fmt::Display for IngestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.kind, self.phase) {
            // These say it all, whatever was being done.
            (
                ErrorKind::Stalled { .. }
                | ErrorKind::EndedByCamera
                | ErrorKind::ConnectionLost
                | ErrorKind::StaleSession { .. }
                | ErrorKind::ConsumerGone,
                Phase::Stream,
            )
            | (ErrorKind::StaleSession { .. }, _)
            | (_, Phase::Resolve) => write!(f, "{}", self.kind),
            (kind, phase) => write!(f, "{phase}: {kind}"),
        }
    }
}

impl std::error::Error for IngestError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.kind)
    }
}
