//! The seam between HTTP and everything else: what the API asks of the host, in the host's own words.
//!
//! Owns the trait [`Control`], its error and the values that only REST shows. Must not know the pipeline, the guest
//! engine, sinks or HTTP: the assembly implements the trait over the supervisor, tests implement it in memory.
//!
//! Every future may be dropped half way (a client hangs up, a request times out), so work that must finish once it has
//! begun belongs into a task of the implementation's own.

use std::collections::BTreeMap;

use bytes::Bytes;
use facestream_core::event::Event;
use facestream_core::guest::{GuestsSpec, SlotChange, SlotKind, SlotRequest, SlotSpec, SwapReport};
use facestream_core::{CameraId, CameraSpec, CameraState, CameraStatus, WorkerId};
use futures::future::BoxFuture;
use tokio::sync::broadcast;

use crate::audit::AuditEntry;
use crate::rollouts::Rollouts;
use crate::trials::Trials;

/// Answer of a call that may wait.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, ControlError>>;

/// What the API needs of the host. Object-safe: the API holds an `Arc<dyn Control>`.
///
/// Calls that return a plain value are made on the async runtime's threads and must neither block nor wait for a
/// camera, a guest or a broker.
pub trait Control: Trials + Rollouts + Send + Sync + 'static {
    /// Makes a camera wanted. Returns as soon as it is, long before its first frame: a camera that cannot be reached
    /// is a state, not an error. An equal specification under the same id is no change (`created: false`).
    ///
    /// # Errors
    /// [`ControlError::CameraConflict`] when the id is taken by a different specification, [`ControlError::Invalid`]
    /// when a guest, a model or the address is refused, [`ControlError::NoCapacity`].
    fn start(&self, spec: CameraSpec) -> Answer<'_, Started>;

    /// Makes a camera unwanted and returns when it is gone from the wanted ones; its frames may still drain.
    ///
    /// # Errors
    /// [`ControlError::UnknownCamera`], [`ControlError::UnknownWorker`].
    fn stop(&self, which: CameraRef) -> Answer<'_, ()>;

    /// Every camera, in order of their ids.
    fn statuses(&self) -> Vec<CameraStatus>;

    /// One camera.
    fn status(&self, camera: &CameraId) -> Option<CameraStatus>;

    /// The four facts of `GET /camera/status` for each camera, in order of their ids. The default takes them from
    /// [`Control::statuses`]; an implementation that can answer without making whole statuses should.
    fn each_brief(&self, visit: &mut dyn FnMut(Brief<'_>)) {
        for status in self.statuses() {
            visit(Brief { camera: &status.camera_id, worker: status.worker_id, state: &status.state, fps: status.fps });
        }
    }

    /// What a camera gets that its start request does not say.
    fn defaults(&self) -> CameraDefaults;

    /// What a slot wants now: the guest by the component that runs, with settings, limits and policy as they were asked
    /// for; and that component's digest.
    ///
    /// # Errors
    /// [`ControlError::UnknownCamera`], [`ControlError::Unavailable`].
    fn slot_wish<'a>(&'a self, camera: &'a CameraId, slot: SlotKind) -> Answer<'a, (SlotSpec, String)>;

    /// Makes a slot run what is asked for, between two frames, state carried over. When only settings change, the guest
    /// that runs takes them as it is, if it can. When it fails, the old guest still runs.
    ///
    /// # Errors
    /// [`ControlError::UnknownCamera`], [`ControlError::UnknownGuest`], [`ControlError::GuestRefused`] (it does not
    /// fit the slot, its settings are refused, it failed its self-test), [`ControlError::Invalid`] (limits above those
    /// of the host), [`ControlError::Unavailable`] while the camera has no running slot.
    fn swap<'a>(&'a self, camera: &'a CameraId, slot: SlotKind, change: SlotRequest) -> Answer<'a, SwapReport>;

    /// Puts the guest back that ran before in a slot, with its settings; asked for by `who`.
    ///
    /// # Errors
    /// [`ControlError::NothingBefore`], and as [`Control::swap`].
    fn roll_back<'a>(&'a self, camera: &'a CameraId, slot: SlotKind, who: &'a str) -> Answer<'a, SwapReport>;

    /// What was changed in a slot, the newest first; `None` when there is no such camera.
    fn slot_history(&self, camera: &CameraId, slot: SlotKind) -> Option<Vec<SlotChange>>;

    /// Every guest in the store, by name, newest version first.
    ///
    /// # Errors
    /// [`ControlError::Internal`] when the store cannot be read.
    fn guests(&self) -> Answer<'_, Vec<GuestInfo>>;

    /// One guest by `name`, `name@version` or `sha256:<hex>`.
    ///
    /// # Errors
    /// [`ControlError::UnknownGuest`].
    fn guest<'a>(&'a self, reference: &'a str) -> Answer<'a, GuestInfo>;

    /// Checks, compiles and stores a component. The same bytes under the same name are no change.
    ///
    /// # Errors
    /// [`ControlError::GuestRefused`] with what is wrong with it, [`ControlError::GuestConflict`] when the name and
    /// version hold other bytes.
    fn add_guest(&self, upload: GuestUpload) -> Answer<'_, GuestAdded>;

    /// Brings a component of at most `max_bytes` from a registry, which must be one that the host's configuration allows,
    /// and checks it against the digests. Stores nothing.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] for a reference without digest, [`ControlError::RegistryNotAllowed`],
    /// [`ControlError::NotInRegistry`], [`ControlError::RegistryFailed`], [`ControlError::TooLarge`],
    /// [`ControlError::GuestRefused`] for something else than a component.
    fn pull_guest<'a>(&'a self, reference: &'a str, max_bytes: usize) -> Answer<'a, GuestPulled>;

    /// Deletes an uploaded guest.
    ///
    /// # Errors
    /// [`ControlError::UnknownGuest`], [`ControlError::GuestConflict`] when it is built in or a camera wants it.
    fn remove_guest<'a>(&'a self, reference: &'a str) -> Answer<'a, ()>;

    /// The time now, milliseconds since the Unix epoch: what the audit log is stamped with.
    fn now_unix_ms(&self) -> u64;

    /// Writes down what somebody did with guests, or tried to.
    ///
    /// # Errors
    /// [`ControlError::Internal`] when it cannot be written.
    fn audit(&self, entry: AuditEntry) -> Answer<'_, ()>;

    /// The latest entries, the newest first.
    ///
    /// # Errors
    /// [`ControlError::Internal`] when they cannot be read.
    fn audited(&self, limit: usize) -> Answer<'_, Vec<AuditEntry>>;

    /// The models that cameras can name.
    fn models(&self) -> Vec<ModelInfo>;

    /// The latest analysed picture of a camera with its boxes, as JPEG; `None` before the first.
    ///
    /// # Errors
    /// [`ControlError::UnknownCamera`].
    fn snapshot<'a>(&'a self, camera: &'a CameraId) -> Answer<'a, Option<Bytes>>;

    /// Listens to what happens from now on. A listener that is too slow loses the oldest and is told how many.
    fn events(&self) -> broadcast::Receiver<Event>;

    /// How each sink is doing.
    fn sinks(&self) -> Vec<SinkStatus>;

    /// Why the host is not ready to take cameras, in words that hold no secret; empty when it is. A degraded sink is
    /// no reason: messages wait in the spool.
    fn not_ready(&self) -> Vec<String>;

    /// Numbers for `/metrics` beyond those of cameras, guests and sinks (batcher, engine, process).
    fn metrics(&self) -> Vec<MetricFamily>;
}

/// A camera that is wanted now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// Its worker.
    pub worker_id: WorkerId,
    /// Whether this call made it; `false` when it was wanted already.
    pub created: bool,
}

/// How a request names a camera.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CameraRef {
    /// By its id.
    Camera(CameraId),
    /// By its worker's number.
    Worker(WorkerId),
}

/// A camera in one line.
#[derive(Clone, Copy, Debug)]
pub struct Brief<'a> {
    /// Its id.
    pub camera: &'a CameraId,
    /// Its worker.
    pub worker: WorkerId,
    /// What it is doing.
    pub state: &'a CameraState,
    /// Decoded frames a second.
    pub fps: f64,
}

/// What a camera gets that its start request does not say (`[defaults]` in the configuration).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CameraDefaults {
    /// Model; `None` leaves the choice to the host at each start.
    pub model: Option<String>,
    /// Frames a second to analyse; `None` for all.
    pub detect_fps: Option<f32>,
    /// Whether to estimate the camera's own motion.
    pub camera_motion: bool,
    /// Guests.
    pub guests: GuestsSpec,
}

/// A component as it was uploaded.
#[derive(Clone, Debug)]
pub struct GuestUpload {
    /// Name; `None` takes the one in the component's metadata or its digest.
    pub name: Option<String>,
    /// Version; `None` takes the one in the component's metadata.
    pub version: Option<String>,
    /// Signature over name, version and component.
    pub signature: Option<String>,
    /// The component.
    pub component: Bytes,
}

/// A component that was brought from a registry.
#[derive(Clone, Debug)]
pub struct GuestPulled {
    /// The reference as it was understood: registry, repository and the digest of the manifest, nothing else.
    pub reference: String,
    /// Digest of the manifest, `sha256:<hex>`.
    pub manifest_digest: String,
    /// Name for the guest: what the artifact says, else the last part of the repository.
    pub name: String,
    /// Version, when the artifact says one.
    pub version: Option<String>,
    /// Signature, when the artifact has one.
    pub signature: Option<String>,
    /// The component.
    pub component: Bytes,
}

/// An upload that was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct GuestAdded {
    /// The guest as stored.
    pub guest: GuestInfo,
    /// `false` when the store held exactly this already.
    pub created: bool,
}

/// A guest in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct GuestInfo {
    /// Name, without version.
    pub name: String,
    /// Version, when it has one.
    pub version: Option<String>,
    /// `sha256:<hex>` of the component.
    pub digest: String,
    /// Slots it fits.
    pub slots: Vec<SlotKind>,
    /// Size of the component, bytes.
    pub size_bytes: u64,
    /// Ships with the host and cannot be deleted.
    pub builtin: bool,
    /// Interfaces it imports: what it can reach. One without `pixels` never sees a picture.
    pub imports: Vec<String>,
    /// Version of the WIT package it was built against.
    pub wit_version: String,
    /// Languages and tools that say they made it.
    pub producers: Vec<String>,
    /// The public key that signed it, when it is signed.
    pub signed_by: Option<String>,
    /// When it was stored, milliseconds since the Unix epoch; `None` for built-in ones.
    pub added_unix_ms: Option<u64>,
}

/// A model that cameras can name.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    /// Name.
    pub name: String,
    /// Family, e.g. `yunet`; `None` while it was not loaded yet.
    pub family: Option<String>,
    /// Used by cameras that name none.
    pub default: bool,
    /// Loaded and in use.
    pub loaded: bool,
    /// Where it runs, e.g. `cpu` or `tensorrt cuda:0`; `None` while it is not loaded.
    pub provider: Option<String>,
    /// Why a provider that is preferred is not in use.
    pub notes: Vec<String>,
    /// Why it cannot be used, when it cannot.
    pub problem: Option<String>,
}

/// How a sink is doing.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkStatus {
    /// Name, unique among sinks.
    pub name: String,
    /// Kind: `kafka`, `jsonl`, ….
    pub kind: String,
    /// Messages are kept but do not get through at present.
    pub degraded: bool,
    /// Why it is degraded, in words that hold no credential.
    pub reason: Option<String>,
    /// Messages accepted since the start.
    pub accepted: u64,
    /// Messages whose delivery was confirmed since the start.
    pub delivered: u64,
    /// Messages accepted and not confirmed yet.
    pub queued: u64,
    /// Bytes of those.
    pub queued_bytes: u64,
    /// Messages lost since the start, by reason.
    pub lost: BTreeMap<String, u64>,
}

/// A metric beyond the ones that the API derives itself.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricFamily {
    /// Full name, without `_total`: `facestream_batch_frames`.
    pub name: String,
    /// One sentence.
    pub help: String,
    /// How it behaves.
    pub kind: MetricKind,
    /// One row a set of labels. Keep label values to closed lists and camera ids: each set is a series for ever.
    pub samples: Vec<MetricSample>,
}

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows; shown with `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One row of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSample {
    /// Labels, in order.
    pub labels: Vec<(String, String)>,
    /// Value now.
    pub value: f64,
}

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldProblem {
    /// JSON pointer (RFC 6901) into the request's body; empty for the whole.
    pub pointer: String,
    /// What is wrong and what would be right; must not repeat a credential.
    pub detail: String,
}

impl FieldProblem {
    /// Names a place in the body and what is wrong there.
    #[must_use]
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// Why the host did not do what a request asked. All texts but the source of [`ControlError::Internal`] go to the client.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No camera of that id.
    #[error("no camera `{0}`")]
    UnknownCamera(CameraId),
    /// No worker of that number.
    #[error("no worker {0}")]
    UnknownWorker(WorkerId),
    /// No guest of that reference.
    #[error("no guest `{reference}` in the store; {hint}")]
    UnknownGuest {
        /// As it was asked for.
        reference: String,
        /// What there is instead, or how to find out.
        hint: String,
    },
    /// The id is taken by a camera with another specification.
    #[error("camera `{camera}` exists with other settings: {difference}; stop it first, or use another id")]
    CameraConflict {
        /// Which.
        camera: CameraId,
        /// What differs, e.g. `rtsp_link, detect_fps`; no values.
        difference: String,
    },
    /// The guest store holds something that stands against it.
    #[error("{0}")]
    GuestConflict(String),
    /// A component, or its settings, cannot be used: says what is wrong with it.
    #[error("{0}")]
    GuestRefused(String),
    /// A rollback of a slot that has had one guest only.
    #[error("the {0} has had no other guest, so there is nothing to go back to")]
    NothingBefore(SlotKind),
    /// No candidate runs beside the guest of that slot.
    #[error("no candidate runs beside the {0}; PUT one there first")]
    NoCandidate(SlotKind),
    /// No recording of that name.
    #[error("no recording `{0}`; GET /api/v1/recordings lists them")]
    UnknownRecording(String),
    /// No rollout of that number.
    #[error("no rollout {0} since the host was started; GET /api/v1/rollouts lists them")]
    UnknownRollout(u64),
    /// A rollout stands against it: says which, and what to do.
    #[error("{0}")]
    RolloutConflict(String),
    /// Calls that would be needed were never kept, or are no longer: says which.
    #[error("{0}")]
    NotKept(String),
    /// Parts of the request make no sense to the host.
    #[error("the request has {} problem(s)", .0.len())]
    Invalid(Vec<FieldProblem>),
    /// A registry that the host may not be made to call: says which it may.
    #[error("{0}")]
    RegistryNotAllowed(String),
    /// The registry has no such artifact: its words.
    #[error("{0}")]
    NotInRegistry(String),
    /// The registry was not reached, said no, or sent something else: says which.
    #[error("{0}")]
    RegistryFailed(String),
    /// More bytes than are taken.
    #[error("{0}")]
    TooLarge(String),
    /// The host is full: says of what.
    #[error("{0}")]
    NoCapacity(String),
    /// Not now: says why, and when to try again.
    #[error("{0}")]
    Unavailable(String),
    /// Something broke inside; the client hears only that, the log gets the chain.
    #[error("internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl ControlError {
    /// No guest of that reference.
    #[must_use]
    pub fn unknown_guest(reference: impl Into<String>) -> Self {
        Self::UnknownGuest { reference: reference.into(), hint: "GET /api/v1/guests lists them".to_owned() }
    }

    /// Wraps whatever broke inside.
    #[must_use]
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(source.into())
    }
}
