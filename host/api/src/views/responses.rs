//! Answers. Made from core's and the control's values, so that a change there does not change the wire by accident.

use std::collections::BTreeMap;

use facestream_core::camera::{CameraState, CameraStatus};
use serde::Serialize;
use utoipa::ToSchema;

use super::slots::SlotView;
use crate::control::{GuestInfo, ModelInfo, SinkStatus};

/// Answer of `POST /camera/start`, in the first FaceStream's shape.
#[derive(Serialize, ToSchema)]
pub(crate) struct StartResponse {
    /// Always `running`, as the first FaceStream answered: the camera is wanted. `GET /camera/status` has its state.
    #[schema(example = "running")]
    pub(crate) status: &'static str,
    /// Number of the camera's worker.
    #[schema(example = 1)]
    pub(crate) worker_id: u64,
}

/// Answer of `POST /camera/stop`, in the first FaceStream's shape.
#[derive(Serialize, ToSchema)]
pub(crate) struct StopResponse {
    /// Always `stopped`.
    #[schema(example = "stopped")]
    pub(crate) status: &'static str,
}

/// Answer of `GET /camera/status`, in the first FaceStream's shape.
#[derive(Serialize, ToSchema)]
pub(crate) struct LegacyStatus {
    /// Every camera that is wanted, by id.
    pub(crate) active_cameras: Vec<LegacyCamera>,
}

/// A camera in `GET /camera/status`: exactly these four fields.
#[derive(Serialize, ToSchema)]
pub(crate) struct LegacyCamera {
    /// Name.
    #[schema(value_type = String, example = "550e8400-e29b-41d4-a716-446655440000")]
    pub(crate) camera_id: facestream_core::CameraId,
    /// Decoded frames a second, rounded to a whole number as the first FaceStream's clients expect.
    #[schema(example = 30)]
    pub(crate) fps: u32,
    /// `connecting`, `running`, `waiting-to-retry`, `stopping`, `stopped` or `failed`.
    #[schema(example = "running")]
    pub(crate) status: &'static str,
    /// Number of its worker.
    #[schema(example = 1)]
    pub(crate) worker_id: u64,
}

/// All cameras.
#[derive(Serialize, ToSchema)]
pub(crate) struct CameraList {
    /// By id.
    pub(crate) cameras: Vec<CameraView>,
}

/// A camera.
#[derive(Serialize, ToSchema)]
#[schema(as = Camera)]
pub(crate) struct CameraView {
    /// Name.
    camera_id: String,
    /// Number of its worker.
    worker_id: u64,
    /// What it is doing: `connecting`, `running`, `waiting-to-retry`, `stopping`, `stopped` or `failed`.
    #[schema(example = "running")]
    state: &'static str,
    /// Why it waits or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Connects since frames last came, while it connects or waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    /// When the next connect is due, milliseconds since the Unix epoch, while it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_try_unix_ms: Option<u64>,
    /// Address without credentials.
    #[schema(example = "rtsp://***@192.168.1.100/stream")]
    url: String,
    /// Decoded frames a second, lately.
    fps: f64,
    /// Analysed frames a second, lately.
    analysed_fps: f64,
    /// Model in use.
    model: String,
    /// What decodes, once something does, and why it is not the GPU where that was wanted.
    #[schema(example = "h264 (FFmpeg 5.1.9, NVDEC, cuda:0)")]
    decoder: Option<String>,
    /// Number of the GPU that the camera is placed on.
    gpu: Option<usize>,
    /// Coding of the stream, once known.
    codec: Option<&'static str>,
    /// Size of the frames, once known.
    size: Option<SizeView>,
    /// Counters since the camera started.
    counters: BTreeMap<&'static str, u64>,
    /// What was not passed on since the camera started, by reason; only those above zero.
    drops: BTreeMap<&'static str, u64>,
    /// Its guests.
    slots: Vec<SlotView>,
}

/// Width and height in pixels.
#[derive(Serialize, ToSchema)]
#[schema(as = Size)]
pub(crate) struct SizeView {
    /// Pixels.
    width: u32,
    /// Pixels.
    height: u32,
}

impl From<CameraStatus> for CameraView {
    fn from(status: CameraStatus) -> Self {
        let state = status.state.as_str();
        let (reason, attempt, next_try_unix_ms) = match status.state {
            CameraState::Connecting { attempt } => (None, Some(attempt), None),
            CameraState::WaitingToRetry { reason, attempt, next_try_unix_ms } => {
                (Some(reason), Some(attempt), Some(next_try_unix_ms))
            }
            CameraState::Failed { reason } => (Some(reason), None, None),
            CameraState::Running | CameraState::Stopping | CameraState::Stopped => (None, None, None),
        };
        Self {
            camera_id: status.camera_id.into(),
            worker_id: status.worker_id,
            state,
            reason,
            attempt,
            next_try_unix_ms,
            url: status.url,
            fps: status.fps,
            analysed_fps: status.analysed_fps,
            model: status.model,
            decoder: status.decoder,
            gpu: status.gpu,
            codec: status.codec,
            size: status.size.map(|(width, height)| SizeView { width, height }),
            counters: status.counters,
            drops: status.drops,
            slots: status.slots.into_iter().map(SlotView::from).collect(),
        }
    }
}

/// The guest store.
#[derive(Serialize, ToSchema)]
pub(crate) struct GuestList {
    /// By name, newest version first.
    pub(crate) guests: Vec<GuestView>,
}

/// A guest in the store.
#[derive(Serialize, ToSchema)]
#[schema(as = Guest)]
pub(crate) struct GuestView {
    /// Name.
    #[schema(example = "botsort")]
    name: String,
    /// Version, when it has one.
    #[schema(example = "0.1.0")]
    version: Option<String>,
    /// Digest of the component.
    pub(crate) digest: String,
    /// Slots it fits.
    #[schema(example = json!(["tracker"]))]
    slots: Vec<&'static str>,
    /// Size of the component, bytes.
    size_bytes: u64,
    /// Ships with the host and cannot be deleted.
    builtin: bool,
    /// Interfaces it imports: what it can reach. One without `pixels` never sees a picture.
    imports: Vec<String>,
    /// Version of the WIT package it was built against.
    #[schema(example = "0.1.1")]
    wit_version: String,
    /// Languages and tools that say they made it.
    #[schema(example = json!(["Rust", "rustc 1.95.0"]))]
    producers: Vec<String>,
    /// The public key that signed it; left out when nobody did.
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_by: Option<String>,
    /// When it was stored, milliseconds since the Unix epoch.
    added_unix_ms: Option<u64>,
    /// Cameras whose slots run it now.
    used_by: Vec<String>,
}

impl GuestView {
    /// `cameras`: all statuses, to find who runs it.
    pub(crate) fn new(guest: GuestInfo, cameras: &[CameraStatus]) -> Self {
        let used_by = cameras
            .iter()
            .filter(|c| c.slots.iter().any(|s| s.digest == guest.digest))
            .map(|c| c.camera_id.to_string())
            .collect();
        Self {
            name: guest.name,
            version: guest.version,
            digest: guest.digest,
            slots: guest.slots.iter().map(|s| s.as_str()).collect(),
            size_bytes: guest.size_bytes,
            builtin: guest.builtin,
            imports: guest.imports,
            wit_version: guest.wit_version,
            producers: guest.producers,
            signed_by: guest.signed_by,
            added_unix_ms: guest.added_unix_ms,
            used_by,
        }
    }
}

/// A guest that was pulled from a registry.
#[derive(Serialize, ToSchema)]
#[schema(as = PulledGuest)]
pub(crate) struct PulledView {
    /// The guest as stored; `digest` is that of the component itself.
    #[serde(flatten)]
    pub(crate) guest: GuestView,
    /// The artifact it came from.
    #[schema(
        example = "oci://ghcr.io/team/my-scorer@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    )]
    pub(crate) source: String,
    /// Digest of the artifact's manifest.
    pub(crate) manifest_digest: String,
}

/// What was done with guests.
#[derive(Serialize, ToSchema)]
pub(crate) struct AuditList {
    /// The newest first.
    pub(crate) entries: Vec<crate::audit::AuditEntry>,
}

/// The models.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// By name.
    pub(crate) models: Vec<ModelView>,
}

/// A model that cameras can name.
#[derive(Serialize, ToSchema)]
#[schema(as = Model)]
pub(crate) struct ModelView {
    /// Name.
    #[schema(example = "yunet")]
    name: String,
    /// Family, once it was loaded.
    #[schema(example = "yunet")]
    family: Option<String>,
    /// Used by cameras that name none.
    default: bool,
    /// Loaded and in use.
    loaded: bool,
    /// What runs it, and on which GPU: `cpu`, `openvino`, `tensorrt cuda:0`, `cuda cuda:0`.
    #[schema(example = "cpu")]
    provider: Option<String>,
    /// Why a provider that is preferred is not in use.
    notes: Vec<String>,
    /// Why it cannot be used, when it cannot.
    problem: Option<String>,
}

impl From<ModelInfo> for ModelView {
    fn from(model: ModelInfo) -> Self {
        let ModelInfo { name, family, default, loaded, provider, notes, problem } = model;
        Self { name, family, default, loaded, provider, notes, problem }
    }
}

/// The sinks.
#[derive(Serialize, ToSchema)]
pub(crate) struct SinkList {
    /// In configured order.
    pub(crate) sinks: Vec<SinkView>,
}

/// A sink.
#[derive(Serialize, ToSchema)]
#[schema(as = Sink)]
pub(crate) struct SinkView {
    /// Name.
    #[schema(example = "kafka")]
    name: String,
    /// Kind.
    #[schema(example = "kafka")]
    kind: String,
    /// `working` or `degraded`: messages wait at present.
    #[schema(example = "working")]
    state: &'static str,
    /// Why it is degraded.
    reason: Option<String>,
    /// Messages accepted since the start.
    accepted: u64,
    /// Messages whose delivery was confirmed since the start.
    delivered: u64,
    /// Messages accepted and not confirmed yet.
    queued: u64,
    /// Bytes of those.
    queued_bytes: u64,
    /// Messages lost since the start, by reason.
    lost: BTreeMap<String, u64>,
}

impl From<SinkStatus> for SinkView {
    fn from(sink: SinkStatus) -> Self {
        Self {
            name: sink.name,
            kind: sink.kind,
            state: if sink.degraded { "degraded" } else { "working" },
            reason: sink.reason,
            accepted: sink.accepted,
            delivered: sink.delivered,
            queued: sink.queued,
            queued_bytes: sink.queued_bytes,
            lost: sink.lost,
        }
    }
}

/// Liveness or readiness.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok` or `ready`.
    #[schema(example = "ok")]
    pub(crate) status: &'static str,
    /// Version of the host.
    #[schema(example = "0.1.0")]
    pub(crate) version: &'static str,
}
