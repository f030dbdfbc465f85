//! A camera as it is wanted and as it is doing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::guest::{GuestsSpec, SlotStatus};
use crate::secret::SourceUrl;

/// Name of a camera: 1 to 128 of `A-Z a-z 0-9 . _ : -` (a UUID fits). Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CameraId(Arc<str>);

/// A camera id that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("camera_id must be 1 to 128 characters of A-Z a-z 0-9 . _ : -, with a letter or digit first")]
pub struct InvalidCameraId;

impl CameraId {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// When it is empty, too long or has other characters (it becomes a metric label, a file name and a key).
    pub fn new(text: &str) -> Result<Self, InvalidCameraId> {
        let ok = (1..=128).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b));
        if ok { Ok(Self(text.into())) } else { Err(InvalidCameraId) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CameraId {
    type Error = InvalidCameraId;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text)
    }
}

impl From<CameraId> for String {
    fn from(id: CameraId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl std::str::FromStr for CameraId {
    type Err = InvalidCameraId;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::new(s)
    }
}

impl fmt::Display for CameraId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CameraId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Number of a camera's worker, unique while the host runs (the first FaceStream's `worker_id`).
pub type WorkerId = u64;

/// How RTP travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Interleaved in the RTSP connection: nothing is lost on the way.
    #[default]
    Tcp,
    /// Datagrams; lost or reordered packets damage pictures.
    Udp,
}

/// A camera as it is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct CameraSpec {
    /// Name.
    pub id: CameraId,
    /// Where it is.
    pub url: SourceUrl,
    /// How RTP travels.
    pub transport: Transport,
    /// Name of the model, `None` for the host's default.
    pub model: Option<String>,
    /// Frames a second to analyse; `None` for all.
    pub detect_fps: Option<f32>,
    /// Decode and analyse key frames only.
    pub keyframes_only: bool,
    /// Number of the GPU that it shall go to; `None`: the one with the fewest cameras, or the processor where none is.
    pub gpu: Option<usize>,
    /// Estimate the camera's own motion and tell the tracker.
    pub camera_motion: bool,
    /// Give up (state `failed`) after so many connects in a row without a frame; `None`: never.
    pub max_attempts: Option<u32>,
    /// What fills its slots.
    pub guests: GuestsSpec,
}

impl CameraSpec {
    /// A camera of which nothing is asked but to run: everything else is the host's default.
    #[must_use]
    pub fn new(id: CameraId, url: SourceUrl) -> Self {
        Self {
            id,
            url,
            transport: Transport::default(),
            model: None,
            detect_fps: None,
            keyframes_only: false,
            gpu: None,
            camera_motion: false,
            max_attempts: None,
            guests: GuestsSpec::default(),
        }
    }
}

/// What a camera is doing.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum CameraState {
    /// Trying to reach it.
    Connecting {
        /// Attempts since frames last came, from 1.
        attempt: u32,
    },
    /// Frames come.
    Running,
    /// Lost, unreachable, or not started with the host; the next try is due.
    WaitingToRetry {
        /// Why, in words that hold no credential.
        reason: String,
        /// Attempts since frames last came.
        attempt: u32,
        /// When the next try is due, milliseconds since the Unix epoch.
        next_try_unix_ms: u64,
    },
    /// Asked to stop, still draining.
    Stopping,
    /// Stopped.
    Stopped,
    /// Given up for good: `max_attempts` reached, or an error that trying again cannot mend.
    Failed {
        /// Why, in words that hold no credential.
        reason: String,
    },
}

impl CameraState {
    /// One word, as `GET /camera/status` and metrics show it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Connecting { .. } => "connecting",
            Self::Running => "running",
            Self::WaitingToRetry { .. } => "waiting-to-retry",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed { .. } => "failed",
        }
    }
}

/// Snapshot of a camera for REST and tables.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CameraStatus {
    /// Name.
    pub camera_id: CameraId,
    /// Worker number.
    pub worker_id: WorkerId,
    /// What it is doing.
    #[serde(flatten)]
    pub state: CameraState,
    /// Address without credentials.
    pub url: String,
    /// Decoded frames a second over the last few seconds.
    pub fps: f64,
    /// Analysed frames a second over the last few seconds.
    pub analysed_fps: f64,
    /// Model in use.
    pub model: String,
    /// What decodes, once something does, with the reason where it is not what was wanted.
    pub decoder: Option<String>,
    /// Number of the GPU that it is placed on.
    pub gpu: Option<usize>,
    /// Coding of the stream, once known.
    pub codec: Option<&'static str>,
    /// Size of the frames, once known.
    pub size: Option<(u32, u32)>,
    /// Counters since the camera started, by name.
    pub counters: BTreeMap<&'static str, u64>,
    /// Drops since the camera started, by reason; only those above zero.
    pub drops: BTreeMap<&'static str, u64>,
    /// Its guests.
    pub slots: Vec<SlotStatus>,
}
