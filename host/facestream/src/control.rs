//! What the API asks of the host, answered by the supervisor, the guest store, the models and the sinks.
//!
//! Owns the translation of errors into those of [`facestream_api::Control`]. Work that may block runs on blocking
//! threads, and goes on to its end when the client has gone.

mod errors;
mod gpus;
mod rollouts;
mod trials;

use std::sync::Arc;

use bytes::Bytes;
use facestream_api::AuditEntry;
use facestream_api::control::{
    Answer, Brief, CameraDefaults, CameraRef, Control, ControlError, GuestAdded, GuestInfo, GuestPulled, GuestUpload,
    MetricFamily, MetricKind, MetricSample, ModelInfo, SinkStatus, Started,
};
use facestream_core::event::Event;
use facestream_core::guest::{SlotChange, SlotKind, SlotRequest, SlotSpec, SwapReport};
use facestream_core::{CameraId, CameraSpec, CameraStatus};
use facestream_guest_host::{CacheStats, GuestStore, StoredGuest};
use facestream_pipeline::Supervisor;
use facestream_registry::{PullReference, Registries};
use facestream_sink::Sinks;
use tokio::sync::broadcast;

use crate::audit::AuditLog;
use errors::{registry_error, start_error, store_error, swap_error, with_guests_of};

/// The host behind the API.
pub(crate) struct Host {
    pub(crate) supervisor: Arc<Supervisor>,
    pub(crate) sinks: Arc<Sinks>,
    pub(crate) defaults: CameraDefaults,
    pub(crate) audit: Arc<AuditLog>,
    pub(crate) registries: Registries,
}

impl Host {
    fn store(&self) -> &Arc<GuestStore> {
        &self.supervisor.parts().guests
    }
}

/// Runs `work` where blocking is allowed; it goes on also when the caller is dropped.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ControlError> + Send + 'static,
) -> Result<T, ControlError> {
    tokio::task::spawn_blocking(work).await.map_err(ControlError::internal)?
}

fn guest_info(guest: StoredGuest) -> GuestInfo {
    GuestInfo {
        name: guest.name,
        version: Some(guest.version),
        digest: guest.info.digest.to_string(),
        slots: vec![guest.info.kind],
        size_bytes: guest.info.bytes,
        builtin: guest.builtin,
        imports: guest.info.imports,
        wit_version: guest.info.wit_version,
        producers: guest.producers,
        signed_by: guest.signed_by,
        added_unix_ms: guest.added_unix_ms,
    }
}

impl Control for Host {
    fn start(&self, spec: CameraSpec) -> Answer<'_, Started> {
        let supervisor = Arc::clone(&self.supervisor);
        Box::pin(blocking(move || {
            let (worker_id, created) = supervisor.start(spec).map_err(start_error)?;
            Ok(Started { worker_id, created })
        }))
    }

    fn stop(&self, which: CameraRef) -> Answer<'_, ()> {
        let supervisor = Arc::clone(&self.supervisor);
        Box::pin(async move {
            let id = match which {
                CameraRef::Camera(id) => id,
                CameraRef::Worker(worker) => supervisor.by_worker(worker).ok_or(ControlError::UnknownWorker(worker))?,
            };
            // A task of its own: a client that hangs up must not leave a camera half stopped.
            let stopping = id.clone();
            let stopped = tokio::spawn(async move { supervisor.stop(&stopping).await });
            let unforgotten = |error| {
                ControlError::Unavailable(format!(
                    "the camera does not run any more, but could not be forgotten ({error}): it comes back with the next \
                     start of the host; stop it again when that is mended"
                ))
            };
            match stopped.await.map_err(ControlError::internal)?.map_err(unforgotten)? {
                true => Ok(()),
                false => Err(ControlError::UnknownCamera(id)),
            }
        })
    }

    fn statuses(&self) -> Vec<CameraStatus> {
        self.supervisor.statuses()
    }

    fn status(&self, camera: &CameraId) -> Option<CameraStatus> {
        let absent = || self.supervisor.absent_statuses().into_iter().find(|c| c.camera_id == *camera);
        self.supervisor.camera(camera).map(|c| c.status()).or_else(absent)
    }

    fn each_brief(&self, visit: &mut dyn FnMut(Brief<'_>)) {
        for camera in self.supervisor.cameras() {
            let state = camera.state();
            visit(Brief { camera: camera.id(), worker: camera.worker(), state: &state, fps: camera.fps() });
        }
        for absent in self.supervisor.absent_statuses() {
            let CameraStatus { camera_id, worker_id, state, .. } = &absent;
            visit(Brief { camera: camera_id, worker: *worker_id, state, fps: 0.0 });
        }
    }

    fn defaults(&self) -> CameraDefaults {
        self.defaults.clone()
    }

    fn slot_wish<'a>(&'a self, camera: &'a CameraId, slot: SlotKind) -> Answer<'a, (SlotSpec, String)> {
        let (supervisor, camera) = (Arc::clone(&self.supervisor), camera.clone());
        Box::pin(blocking(move || supervisor.wish(&camera, slot).map_err(swap_error)))
    }

    fn swap<'a>(&'a self, camera: &'a CameraId, slot: SlotKind, change: SlotRequest) -> Answer<'a, SwapReport> {
        let (supervisor, camera) = (Arc::clone(&self.supervisor), camera.clone());
        Box::pin(blocking(move || {
            let swapped = supervisor.swap(&camera, slot, &change).map_err(swap_error);
            swapped.map_err(|error| with_guests_of(slot, &supervisor.parts().guests, error))
        }))
    }

    fn roll_back<'a>(&'a self, camera: &'a CameraId, slot: SlotKind, who: &'a str) -> Answer<'a, SwapReport> {
        let (supervisor, camera, who) = (Arc::clone(&self.supervisor), camera.clone(), who.to_owned());
        Box::pin(blocking(move || supervisor.roll_back(&camera, slot, &who).map_err(swap_error)))
    }

    fn slot_history(&self, camera: &CameraId, slot: SlotKind) -> Option<Vec<SlotChange>> {
        self.supervisor.history(camera, slot)
    }

    fn guests(&self) -> Answer<'_, Vec<GuestInfo>> {
        let store = Arc::clone(self.store());
        Box::pin(blocking(move || Ok(store.list().into_iter().map(guest_info).collect())))
    }

    fn guest<'a>(&'a self, reference: &'a str) -> Answer<'a, GuestInfo> {
        let (store, reference) = (Arc::clone(self.store()), reference.to_owned());
        Box::pin(blocking(move || store.resolve(&reference).map(guest_info).map_err(store_error)))
    }

    fn add_guest(&self, upload: GuestUpload) -> Answer<'_, GuestAdded> {
        let store = Arc::clone(self.store());
        Box::pin(blocking(move || {
            let GuestUpload { name, version, signature, component } = upload;
            let Some(name) = name else {
                let text = "the guest needs a name: POST /api/v1/guests?name=NAME&version=VERSION";
                return Err(ControlError::GuestRefused(text.to_owned()));
            };
            let version = version.unwrap_or_else(|| "0.1.0".to_owned());
            let before = store.resolve(&format!("{name}@{version}")).is_ok();
            let guest = store.add_signed(&component, &name, &version, signature.as_deref()).map_err(store_error)?;
            Ok(GuestAdded { guest: guest_info(guest), created: !before })
        }))
    }

    fn pull_guest<'a>(&'a self, reference: &'a str, max_bytes: usize) -> Answer<'a, GuestPulled> {
        Box::pin(async move {
            let reference: PullReference = reference.parse().map_err(registry_error)?;
            let pulled = self.registries.pull(&reference, max_bytes).await.map_err(registry_error)?;
            Ok(GuestPulled {
                reference: reference.to_string(),
                manifest_digest: reference.digest().to_owned(),
                name: pulled.name.unwrap_or_else(|| reference.name().to_owned()),
                version: pulled.version,
                signature: pulled.signature,
                component: pulled.component,
            })
        })
    }

    fn now_unix_ms(&self) -> u64 {
        self.supervisor.parts().shared.clock.wall_ns() / 1_000_000
    }

    fn remove_guest<'a>(&'a self, reference: &'a str) -> Answer<'a, ()> {
        let (supervisor, reference) = (Arc::clone(&self.supervisor), reference.to_owned());
        Box::pin(blocking(move || {
            let store = &supervisor.parts().guests;
            let guest = store.resolve(&reference).map_err(store_error)?;
            if guest.builtin {
                return Err(ControlError::GuestConflict(format!("`{reference}` comes with the host")));
            }
            let digest = guest.info.digest.to_string();
            if let Some((camera, slot)) = supervisor.user_of(&digest) {
                return Err(ControlError::GuestConflict(format!("`{reference}` is the {slot} of camera {camera}")));
            }
            if let Some((camera, slot)) = supervisor.candidate_of(&digest) {
                return Err(ControlError::GuestConflict(format!(
                    "`{reference}` is a candidate beside the {slot} of camera {camera}; promote or drop it first"
                )));
            }
            if let Some(rollout) = supervisor.rollout_of(&digest) {
                return Err(ControlError::GuestConflict(format!(
                    "rollout {rollout} needs `{reference}`, until it has ended"
                )));
            }
            store.remove(&reference).map_err(store_error)
        }))
    }

    fn audit(&self, entry: AuditEntry) -> Answer<'_, ()> {
        let log = Arc::clone(&self.audit);
        Box::pin(blocking(move || log.append(&entry).map_err(ControlError::internal)))
    }

    fn audited(&self, limit: usize) -> Answer<'_, Vec<AuditEntry>> {
        let log = Arc::clone(&self.audit);
        Box::pin(blocking(move || log.latest(limit).map_err(ControlError::internal)))
    }

    fn models(&self) -> Vec<ModelInfo> {
        let info = |model: facestream_pipeline::models::ModelStatus| {
            let place = |i: &facestream_infer::ModelInfo| match i.gpu {
                Some(gpu) => format!("{} cuda:{gpu}", i.provider.as_str()),
                None => i.provider.as_str().to_owned(),
            };
            let (family, provider) = model.loaded.as_ref().map(|i| (i.family.to_owned(), place(i))).unzip();
            let notes = model.loaded.as_ref().map(|i| i.notes.clone()).unwrap_or_default();
            ModelInfo {
                name: model.name,
                family,
                default: model.default,
                loaded: model.loaded.is_some(),
                provider,
                notes,
                problem: model.problem,
            }
        };
        self.supervisor.parts().models.statuses().into_iter().map(info).collect()
    }

    fn snapshot<'a>(&'a self, camera: &'a CameraId) -> Answer<'a, Option<Bytes>> {
        Box::pin(async move {
            let running = self.supervisor.camera(camera).ok_or_else(|| ControlError::UnknownCamera(camera.clone()))?;
            blocking(move || running.latest().jpeg().map(|jpeg| jpeg.map(Bytes::from)).map_err(ControlError::internal))
                .await
        })
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.supervisor.parts().shared.events.subscribe()
    }

    fn sinks(&self) -> Vec<SinkStatus> {
        self.sinks.status().into_iter().map(sink_status).collect()
    }

    fn not_ready(&self) -> Vec<String> {
        let models = self.supervisor.parts().models.statuses();
        let missing = (!models.iter().any(|m| m.default)).then(|| {
            let known: Vec<&str> = models.iter().map(|m| m.name.as_str()).collect();
            format!("there is no model of the name in defaults.model; there are: {}", known.join(", "))
        });
        let broken = models.into_iter().filter(|m| m.default).filter_map(|m| m.problem);
        let restoring = (!self.supervisor.restored()).then(|| "cameras of the last run are being started".to_owned());
        // Only a new process can use such a GPU again: who watches this one restarts it.
        let lost = self.supervisor.parts().gpus.lost().into_iter().map(|lost| lost.to_string());
        let broken = broken.map(|p| format!("the default model cannot be used: {p}"));
        broken.chain(missing).chain(restoring).chain(lost).collect()
    }

    fn metrics(&self) -> Vec<MetricFamily> {
        let parts = self.supervisor.parts();
        let mut families = trials::metrics(&parts.recordings);
        families.extend(gpus::metrics(&parts.gpus));
        families.extend(rollouts::metrics(&self.supervisor));
        families.extend(cache_metrics(parts.guests.engine().cache_stats()));
        families
    }
}

fn cache_metrics(stats: CacheStats) -> [MetricFamily; 2] {
    let family = |name: &str, help: &str, kind: MetricKind, value: u64| MetricFamily {
        name: name.to_owned(),
        help: help.to_owned(),
        kind,
        samples: vec![MetricSample { labels: Vec::new(), value: value as f64 }],
    };
    let (bytes, removed) = ("Bytes of compiled guests on disk.", "Compiled guests deleted from disk for lack of room.");
    [
        family("facestream_guest_cache_bytes", bytes, MetricKind::Gauge, stats.bytes),
        family("facestream_guest_cache_removed", removed, MetricKind::Counter, stats.removed),
    ]
}

fn sink_status(status: facestream_sink::SinkStatus) -> SinkStatus {
    let reason = match status.state {
        facestream_sink::SinkState::Ok => None,
        facestream_sink::SinkState::Degraded(reason) => Some(reason),
    };
    SinkStatus {
        kind: status.name.clone(),
        name: status.name,
        degraded: reason.is_some(),
        reason,
        accepted: status.accepted,
        delivered: status.delivered,
        queued: status.queued_messages,
        queued_bytes: status.queued_bytes,
        lost: status.lost.into_iter().map(|(reason, n)| (reason.to_owned(), n)).collect(),
    }
}
