//! The double's trials: it keeps who runs where and what was recorded; its reports say only whom they are about.

use bytes::Bytes;
use facestream_api::control::*;
use facestream_api::trials::Trials;
use facestream_core::CameraId;
use facestream_core::guest::{RecordingFile, RecordingWritten, SlotKind, SlotRequest, SlotSpec, SwapReport};
use futures::FutureExt;
use serde_json::{Value, json};

use super::FakeControl;

/// What the double keeps of trials.
#[derive(Default)]
pub struct Tried {
    recordings: Vec<RecordingFile>,
    candidates: Vec<(CameraId, SlotKind, SlotSpec)>,
}

impl FakeControl {
    fn known(&self, camera: &CameraId) -> Result<(), ControlError> {
        let known = self.cameras.lock().unwrap().contains_key(camera);
        known.then_some(()).ok_or_else(|| ControlError::UnknownCamera(camera.clone()))
    }

    fn beside(&self, camera: &CameraId, slot: SlotKind) -> Result<SlotSpec, ControlError> {
        self.known(camera)?;
        let tried = self.tried.lock().unwrap();
        let found = tried.candidates.iter().find(|(c, s, _)| (c, *s) == (camera, slot));
        found.map(|(_, _, spec)| spec.clone()).ok_or(ControlError::NoCandidate(slot))
    }
}

fn unknown(name: &str) -> ControlError {
    ControlError::UnknownRecording(name.to_owned())
}

impl Trials for FakeControl {
    fn record<'a>(
        &'a self,
        camera: &'a CameraId,
        slot: SlotKind,
        seconds: Option<u32>,
    ) -> Answer<'a, RecordingWritten> {
        async move {
            self.known(camera)?;
            if seconds == Some(0) {
                return Err(ControlError::NotKept(format!("no calls of the {slot} are kept")));
            }
            let (name, reason) = (format!("{camera}-{slot}-1700000000000-demand.zip"), "demand".to_owned());
            let (camera, written_unix_ms) = (camera.to_string(), 1_700_000_000_000);
            let file = RecordingFile { name, camera, slot, reason, written_unix_ms, bytes: 3 };
            self.tried.lock().unwrap().recordings.push(file.clone());
            Ok(RecordingWritten { file, calls: 251, frames: 250, seconds: seconds.map_or(9.96, f64::from) })
        }
        .boxed()
    }

    fn recordings(&self) -> Answer<'_, Vec<RecordingFile>> {
        async move { Ok(self.tried.lock().unwrap().recordings.clone()) }.boxed()
    }

    fn recording<'a>(&'a self, name: &'a str) -> Answer<'a, Bytes> {
        async move {
            let known = self.tried.lock().unwrap().recordings.iter().any(|r| r.name == name);
            known.then(|| Bytes::from_static(b"zip")).ok_or_else(|| unknown(name))
        }
        .boxed()
    }

    fn remove_recording<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        async move {
            let mut tried = self.tried.lock().unwrap();
            let at = tried.recordings.iter().position(|r| r.name == name).ok_or_else(|| unknown(name))?;
            tried.recordings.remove(at);
            Ok(())
        }
        .boxed()
    }

    fn dry_run<'a>(&'a self, camera: &'a CameraId, slot: SlotKind, change: SlotRequest) -> Answer<'a, Value> {
        async move {
            self.known(camera)?;
            let guest = self.find(&change.wanted.guest)?;
            Ok(json!({"slot": slot.as_str(), "new_digest": guest.digest, "state": "private"}))
        }
        .boxed()
    }

    fn start_candidate<'a>(&'a self, camera: &'a CameraId, slot: SlotKind, wanted: SlotSpec) -> Answer<'a, Value> {
        async move {
            self.known(camera)?;
            self.find(&wanted.guest)?;
            self.tried.lock().unwrap().candidates.push((camera.clone(), slot, wanted));
            self.candidate(camera, slot).await
        }
        .boxed()
    }

    fn candidate<'a>(&'a self, camera: &'a CameraId, slot: SlotKind) -> Answer<'a, Value> {
        async move { Ok(json!({"guest": self.beside(camera, slot)?.guest, "state": "running"})) }.boxed()
    }

    fn drop_candidate<'a>(&'a self, camera: &'a CameraId, slot: SlotKind) -> Answer<'a, Value> {
        async move {
            let report = self.candidate(camera, slot).await?;
            self.tried.lock().unwrap().candidates.retain(|(c, s, _)| (c, *s) != (camera, slot));
            Ok(report)
        }
        .boxed()
    }

    fn promote_candidate<'a>(
        &'a self,
        camera: &'a CameraId,
        slot: SlotKind,
        probation_frames: Option<u32>,
        who: &'a str,
    ) -> Answer<'a, SwapReport> {
        async move {
            let wanted = self.beside(camera, slot)?;
            let report = self
                .swap(
                    camera,
                    slot,
                    SlotRequest { wanted, probation_frames, who: who.to_owned(), rollout: None, only_while: None },
                )
                .await?;
            self.drop_candidate(camera, slot).await?;
            Ok(report)
        }
        .boxed()
    }

    fn explain<'a>(&'a self, message: &'a str) -> Answer<'a, Value> {
        async move {
            let camera = message.split_once('/').map(|(camera, _)| camera).and_then(|c| CameraId::new(c).ok());
            let no_id = || ControlError::Invalid(vec![FieldProblem::new("/message", "is no message id")]);
            self.known(&camera.ok_or_else(no_id)?)?;
            Ok(json!({"message": message}))
        }
        .boxed()
    }
}
