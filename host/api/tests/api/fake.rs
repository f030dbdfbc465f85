//! A test double of the host: keeps cameras and guests in memory, connects to nothing, runs nothing. It follows the
//! promises of `Control` that the API relies on (idempotent start, conflicts, who is unknown), nothing more.

// By its path: an example includes this file by path, too, and would look for it elsewhere.
#[path = "fake/rollouts.rs"]
mod rollouts;
#[path = "fake/trials.rs"]
mod trials;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use facestream_api::AuditEntry;
use facestream_api::control::*;
use facestream_core::camera::{CameraState, CameraStatus};
use facestream_core::event::Event;
use facestream_core::guest::{
    ChangeKind, ChangeOutcome, GuestRef, RolloutStatus, SlotChange, SlotKind, SlotRequest, SlotSpec, SlotStatus,
    SwapReport,
};
use facestream_core::metrics::CameraMetrics;
use facestream_core::{CameraId, CameraSpec};
use futures::FutureExt;
use tokio::sync::{Notify, broadcast};

/// What the double keeps of a camera.
#[derive(Clone)]
pub struct Kept {
    pub spec: CameraSpec,
    /// Latest change last; slots apart are not kept apart here.
    pub changes: Vec<SlotChange>,
    pub previous: Option<SlotSpec>,
    pub worker: u64,
    pub state: CameraState,
    pub fps: f64,
}

/// What its clock always says.
pub const NOW_UNIX_MS: u64 = 1_700_000_000_123;

pub struct FakeControl {
    pub cameras: Mutex<BTreeMap<CameraId, Kept>>,
    pub guests: Mutex<Vec<(GuestInfo, Bytes)>>,
    pub audited: Mutex<Vec<AuditEntry>>,
    pub tried: Mutex<trials::Tried>,
    pub rollouts: Mutex<Vec<RolloutStatus>>,
    pub events: broadcast::Sender<Event>,
    pub not_ready: Mutex<Vec<String>>,
    pub sinks: Mutex<Vec<SinkStatus>>,
    pub defaults: CameraDefaults,
    /// Makes the next `start` fail with something that must stay inside.
    pub break_start: AtomicBool,
    /// Makes `models` panic.
    pub panic: AtomicBool,
    /// `add_guest` waits here while set.
    pub hold_uploads: AtomicBool,
    pub uploads_released: Notify,
    /// Uploads that have arrived.
    pub uploads_arrived: Notify,
}

pub fn guest(name: &str, slot: SlotKind, builtin: bool) -> GuestInfo {
    GuestInfo {
        name: name.into(),
        version: Some("0.1.0".into()),
        digest: format!("sha256:{name}"),
        slots: vec![slot],
        size_bytes: 25_000,
        builtin,
        imports: vec!["facestream:analytics/log@0.1.0".into()],
        wit_version: "0.1.1".into(),
        producers: vec!["Rust".into()],
        signed_by: None,
        added_unix_ms: None,
    }
}

impl Default for FakeControl {
    fn default() -> Self {
        let builtin = SlotKind::ALL.map(|kind| (guest(kind.default_guest(), kind, true), Bytes::new()));
        Self {
            cameras: Mutex::default(),
            guests: Mutex::new(builtin.to_vec()),
            audited: Mutex::default(),
            tried: Mutex::default(),
            rollouts: Mutex::default(),
            events: broadcast::channel(8).0,
            not_ready: Mutex::default(),
            sinks: Mutex::new(vec![SinkStatus {
                name: "jsonl".into(),
                kind: "jsonl".into(),
                degraded: false,
                reason: None,
                accepted: 7,
                delivered: 5,
                queued: 2,
                queued_bytes: 2048,
                lost: BTreeMap::from([("too-large".to_owned(), 1)]),
            }]),
            defaults: CameraDefaults::default(),
            break_start: AtomicBool::new(false),
            panic: AtomicBool::new(false),
            hold_uploads: AtomicBool::new(false),
            uploads_released: Notify::new(),
            uploads_arrived: Notify::new(),
        }
    }
}

impl FakeControl {
    fn view(kept: &Kept) -> CameraStatus {
        let metrics = CameraMetrics::default();
        metrics.add(facestream_core::metrics::Counter::Detections, 12);
        metrics.dropped(facestream_core::DropReason::Superseded, 3);
        CameraStatus {
            camera_id: kept.spec.id.clone(),
            worker_id: kept.worker,
            state: kept.state.clone(),
            url: kept.spec.url.to_string(),
            fps: kept.fps,
            analysed_fps: 10.0,
            model: kept.spec.model.clone().unwrap_or_else(|| "yunet".into()),
            decoder: Some("h264 (FFmpeg 5.1.9, cpu, 1 thread)".into()),
            gpu: None,
            codec: Some("h264"),
            size: Some((1280, 720)),
            counters: metrics.counters(),
            drops: metrics.all_drops(),
            slots: SlotKind::ALL
                .map(|slot| {
                    let spec = kept.spec.guests.slot(slot);
                    SlotStatus {
                        config: spec.config.clone(),
                        limits: spec.limits,
                        on_failure: spec.on_failure,
                        calls: 100,
                        mean_call_us: 12.5,
                        memory_bytes: 1 << 20,
                        ..SlotStatus::fresh(slot, &spec.guest, &format!("sha256:{}", spec.guest))
                    }
                })
                .to_vec(),
        }
    }

    pub fn set_state(&self, id: &str, state: CameraState) {
        self.cameras.lock().unwrap().get_mut(&CameraId::new(id).unwrap()).unwrap().state = state;
    }

    fn find(&self, reference: &str) -> Result<GuestInfo, ControlError> {
        let guests = self.guests.lock().unwrap();
        let found = guests.iter().map(|(g, _)| g).find(|g| {
            let versioned = g.version.as_ref().map(|v| format!("{}@{v}", g.name));
            g.name == reference || g.digest == reference || versioned.as_deref() == Some(reference)
        });
        found.cloned().ok_or_else(|| ControlError::unknown_guest(reference))
    }
}

impl Control for FakeControl {
    fn start(&self, spec: CameraSpec) -> Answer<'_, Started> {
        async move {
            if self.break_start.swap(false, Ordering::SeqCst) {
                return Err(ControlError::internal(std::io::Error::other("canary: /var/lib/cameras.db is locked")));
            }
            if spec.url.bare().scheme() != "rtsp" {
                return Err(ControlError::Invalid(vec![FieldProblem::new("/rtsp_link", "only rtsp:// is allowed")]));
            }
            let mut cameras = self.cameras.lock().unwrap();
            if let Some(kept) = cameras.get(&spec.id) {
                return if kept.spec == spec {
                    Ok(Started { worker_id: kept.worker, created: false })
                } else {
                    Err(ControlError::CameraConflict { camera: spec.id, difference: "rtsp_link".into() })
                };
            }
            let worker = cameras.values().map(|c| c.worker).max().unwrap_or(0) + 1;
            cameras.insert(
                spec.id.clone(),
                Kept { spec, changes: Vec::new(), previous: None, worker, state: CameraState::Running, fps: 29.97 },
            );
            Ok(Started { worker_id: worker, created: true })
        }
        .boxed()
    }

    fn stop(&self, which: CameraRef) -> Answer<'_, ()> {
        async move {
            let mut cameras = self.cameras.lock().unwrap();
            let id = match &which {
                CameraRef::Camera(id) => id.clone(),
                CameraRef::Worker(worker) => cameras
                    .iter()
                    .find(|(_, c)| c.worker == *worker)
                    .map(|(id, _)| id.clone())
                    .ok_or(ControlError::UnknownWorker(*worker))?,
            };
            cameras.remove(&id).map(|_| ()).ok_or(ControlError::UnknownCamera(id))
        }
        .boxed()
    }

    fn statuses(&self) -> Vec<CameraStatus> {
        self.cameras.lock().unwrap().values().map(Self::view).collect()
    }

    fn status(&self, camera: &CameraId) -> Option<CameraStatus> {
        self.cameras.lock().unwrap().get(camera).map(Self::view)
    }

    fn each_brief(&self, visit: &mut dyn FnMut(Brief<'_>)) {
        for (id, kept) in self.cameras.lock().unwrap().iter() {
            visit(Brief { camera: id, worker: kept.worker, state: &kept.state, fps: kept.fps });
        }
    }

    fn defaults(&self) -> CameraDefaults {
        self.defaults.clone()
    }

    fn slot_wish<'a>(&'a self, camera: &'a CameraId, slot: SlotKind) -> Answer<'a, (SlotSpec, String)> {
        async move {
            let cameras = self.cameras.lock().unwrap();
            let kept = cameras.get(camera).ok_or_else(|| ControlError::UnknownCamera(camera.clone()))?;
            let wanted = kept.spec.guests.slot(slot).clone();
            let digest = format!("sha256:{}", wanted.guest);
            Ok((wanted, digest))
        }
        .boxed()
    }

    fn swap<'a>(&'a self, camera: &'a CameraId, slot: SlotKind, change: SlotRequest) -> Answer<'a, SwapReport> {
        async move {
            let mut cameras = self.cameras.lock().unwrap();
            let kept = cameras.get_mut(camera).ok_or_else(|| ControlError::UnknownCamera(camera.clone()))?;
            let SlotRequest { wanted, probation_frames, who, rollout, only_while } = change;
            let runs = format!("sha256:{}", kept.spec.guests.slot(slot).guest);
            assert!(only_while.is_none_or(|digest| digest == runs), "settings alone are for the guest that runs");
            let probation_frames = probation_frames.unwrap_or(50);
            if wanted.limits.deadline_ms.is_some_and(|ms| ms > 500) {
                let problem = FieldProblem::new("/limits/deadline_ms", "is above what this host allows");
                return Err(ControlError::Invalid(vec![problem]));
            }
            let guest = self.find(&wanted.guest)?;
            if !guest.slots.contains(&slot) {
                return Err(ControlError::GuestRefused(format!("`{}` is no {slot}", wanted.guest)));
            }
            let to = GuestRef { guest: wanted.guest.clone(), digest: guest.digest.clone() };
            let old = std::mem::replace(kept.spec.guests.slot_mut(slot), wanted);
            kept.previous = Some(old.clone());
            kept.changes.push(SlotChange {
                at_unix_ms: 1_700_000_000_000,
                who,
                change: ChangeKind::Swap,
                from: GuestRef { guest: old.guest.clone(), digest: format!("sha256:{}", old.guest) },
                to,
                state: Some("private".to_owned()),
                pause_us: Some(900),
                outcome: ChangeOutcome::Probation,
                reason: None,
                rollout,
            });
            let old_digest = format!("sha256:{}", old.guest);
            let (change, state) = ("swapped", "private");
            let new_digest = guest.digest;
            Ok(SwapReport { slot, change, old_digest, new_digest, state, pause_us: 900, probation_frames })
        }
        .boxed()
    }

    fn roll_back<'a>(&'a self, camera: &'a CameraId, slot: SlotKind, who: &'a str) -> Answer<'a, SwapReport> {
        async move {
            let previous = {
                let mut cameras = self.cameras.lock().unwrap();
                let kept = cameras.get_mut(camera).ok_or_else(|| ControlError::UnknownCamera(camera.clone()))?;
                kept.previous.take().ok_or(ControlError::NothingBefore(slot))?
            };
            let change = SlotRequest {
                wanted: previous,
                probation_frames: Some(0),
                who: who.to_owned(),
                rollout: None,
                only_while: None,
            };
            self.swap(camera, slot, change).await
        }
        .boxed()
    }

    fn slot_history(&self, camera: &CameraId, _slot: SlotKind) -> Option<Vec<SlotChange>> {
        self.cameras.lock().unwrap().get(camera).map(|kept| kept.changes.iter().rev().cloned().collect())
    }

    fn guests(&self) -> Answer<'_, Vec<GuestInfo>> {
        async move { Ok(self.guests.lock().unwrap().iter().map(|(g, _)| g.clone()).collect()) }.boxed()
    }

    fn guest<'a>(&'a self, reference: &'a str) -> Answer<'a, GuestInfo> {
        async move { self.find(reference) }.boxed()
    }

    fn add_guest(&self, upload: GuestUpload) -> Answer<'_, GuestAdded> {
        async move {
            self.uploads_arrived.notify_one();
            while self.hold_uploads.load(Ordering::SeqCst) {
                self.uploads_released.notified().await;
            }
            if !upload.component.starts_with(b"\0asm") {
                return Err(ControlError::GuestRefused("this is no WebAssembly".into()));
            }
            let name = upload.name.unwrap_or_else(|| "unnamed".into());
            let mut guests = self.guests.lock().unwrap();
            if let Some((guest, bytes)) = guests.iter().find(|(g, _)| g.name == name) {
                return if *bytes == upload.component {
                    Ok(GuestAdded { guest: guest.clone(), created: false })
                } else {
                    Err(ControlError::GuestConflict(format!("`{name}` holds other bytes")))
                };
            }
            let mut guest = guest(&name, SlotKind::Scorer, false);
            guest.version = upload.version;
            guest.size_bytes = upload.component.len() as u64;
            guest.added_unix_ms = Some(1_700_000_000_000);
            guests.push((guest.clone(), upload.component));
            Ok(GuestAdded { guest, created: true })
        }
        .boxed()
    }

    fn pull_guest<'a>(&'a self, reference: &'a str, max_bytes: usize) -> Answer<'a, GuestPulled> {
        async move {
            // What each kind of reference comes to; a registry is asked in `tests/tests/guest_registry.rs`.
            let host = reference.trim_start_matches("oci://").split('/').next().unwrap_or_default().to_owned();
            match host.as_str() {
                "gone.example" => Err(ControlError::NotInRegistry(format!("{host} has no such manifest"))),
                "down.example" => Err(ControlError::RegistryFailed(format!("{host} cannot be reached"))),
                "huge.example" => Err(ControlError::TooLarge(format!("at most {max_bytes}"))),
                "good.example" => Ok(GuestPulled {
                    reference: reference.to_owned(),
                    manifest_digest: reference.split('@').next_back().unwrap_or_default().to_owned(),
                    name: "pulled".into(),
                    version: reference.contains("/versioned@").then(|| "2.0.0".to_owned()),
                    signature: None,
                    component: Bytes::from_static(b"\0asm pulled"),
                }),
                // Not repeated, as the host does not either: it may hold a password.
                _ => Err(ControlError::RegistryNotAllowed("no registry of this host's".into())),
            }
        }
        .boxed()
    }

    fn now_unix_ms(&self) -> u64 {
        NOW_UNIX_MS
    }

    fn remove_guest<'a>(&'a self, reference: &'a str) -> Answer<'a, ()> {
        async move {
            let guest = self.find(reference)?;
            if guest.builtin {
                return Err(ControlError::GuestConflict(format!("`{reference}` ships with the host")));
            }
            self.guests.lock().unwrap().retain(|(g, _)| g.name != guest.name);
            Ok(())
        }
        .boxed()
    }

    fn audit(&self, entry: AuditEntry) -> Answer<'_, ()> {
        self.audited.lock().unwrap().insert(0, entry);
        async { Ok(()) }.boxed()
    }

    fn audited(&self, limit: usize) -> Answer<'_, Vec<AuditEntry>> {
        async move { Ok(self.audited.lock().unwrap().iter().take(limit).cloned().collect()) }.boxed()
    }

    fn models(&self) -> Vec<ModelInfo> {
        assert!(!self.panic.load(Ordering::SeqCst), "canary: asked to panic");
        vec![ModelInfo {
            name: "yunet".into(),
            family: Some("yunet".into()),
            default: true,
            loaded: true,
            provider: Some("cpu".into()),
            notes: vec!["openvino: this processor has no amx_bf16".into()],
            problem: None,
        }]
    }

    fn snapshot<'a>(&'a self, camera: &'a CameraId) -> Answer<'a, Option<Bytes>> {
        async move {
            match self.cameras.lock().unwrap().get(camera) {
                None => Err(ControlError::UnknownCamera(camera.clone())),
                Some(kept) => Ok((kept.state == CameraState::Running).then(|| Bytes::from_static(b"\xff\xd8jpeg"))),
            }
        }
        .boxed()
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    fn sinks(&self) -> Vec<SinkStatus> {
        self.sinks.lock().unwrap().clone()
    }

    fn not_ready(&self) -> Vec<String> {
        self.not_ready.lock().unwrap().clone()
    }

    fn metrics(&self) -> Vec<MetricFamily> {
        vec![MetricFamily {
            name: "facestream_batches".into(),
            help: "Runs of a model.".into(),
            kind: MetricKind::Counter,
            samples: vec![MetricSample { labels: vec![("model".into(), "yu\"net\\".into())], value: 4.0 }],
        }]
    }
}
