//! Recordings, dry runs, candidates and explanations for the API.
//!
//! Owns the translation of their errors and reports. Work that may block runs on blocking threads.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use facestream_api::Trials;
use facestream_api::control::{Answer, ControlError, FieldProblem, MetricFamily, MetricKind, MetricSample};
use facestream_core::CameraId;
use facestream_core::guest::{RecordingFile, RecordingWritten, SlotKind, SlotRequest, SlotSpec, SwapReport};
use facestream_guest_host::ExplainError;
use facestream_pipeline::recordings::{Recordings, RecordingsError};
use facestream_pipeline::supervisor::TrialFailure;
use serde::Serialize;
use serde_json::Value;

use super::{Host, blocking, swap_error, with_guests_of};

fn trial_error(error: TrialFailure) -> ControlError {
    match error {
        TrialFailure::Swap(error) => swap_error(error),
        TrialFailure::NoCandidate(slot) => ControlError::NoCandidate(slot),
        error @ TrialFailure::NothingKept { .. } => ControlError::NotKept(error.to_string()),
        error @ TrialFailure::TooMany => ControlError::NoCapacity(error.to_string()),
        TrialFailure::Recordings(error) => file_error(error),
        TrialFailure::Explain(ExplainError::NotKept(text)) => ControlError::NotKept(text),
        TrialFailure::Explain(error @ ExplainError::NoId(_)) => {
            ControlError::Invalid(vec![FieldProblem::new("/message", error.to_string())])
        }
    }
}

fn file_error(error: RecordingsError) -> ControlError {
    match error {
        RecordingsError::Unknown(name) => ControlError::UnknownRecording(name),
        error => ControlError::internal(error),
    }
}

fn json(report: Result<impl Serialize, TrialFailure>) -> Result<Value, ControlError> {
    serde_json::to_value(report.map_err(trial_error)?).map_err(ControlError::internal)
}

impl Trials for Host {
    fn record<'a>(
        &'a self,
        camera: &'a CameraId,
        slot: SlotKind,
        seconds: Option<u32>,
    ) -> Answer<'a, RecordingWritten> {
        let (supervisor, camera) = (Arc::clone(&self.supervisor), camera.clone());
        Box::pin(blocking(move || supervisor.record(&camera, slot, seconds).map_err(trial_error)))
    }

    fn recordings(&self) -> Answer<'_, Vec<RecordingFile>> {
        let recordings = Arc::clone(&self.supervisor.parts().recordings);
        Box::pin(blocking(move || recordings.list().map_err(file_error)))
    }

    fn recording<'a>(&'a self, name: &'a str) -> Answer<'a, Bytes> {
        let (recordings, name) = (Arc::clone(&self.supervisor.parts().recordings), name.to_owned());
        Box::pin(blocking(move || recordings.read(&name).map(Bytes::from).map_err(file_error)))
    }

    fn remove_recording<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        let (recordings, name) = (Arc::clone(&self.supervisor.parts().recordings), name.to_owned());
        Box::pin(blocking(move || recordings.remove(&name).map_err(file_error)))
    }

    fn dry_run<'a>(&'a self, camera: &'a CameraId, slot: SlotKind, change: SlotRequest) -> Answer<'a, Value> {
        let (supervisor, camera) = (Arc::clone(&self.supervisor), camera.clone());
        Box::pin(blocking(move || {
            let report = json(supervisor.dry_run(&camera, slot, &change.wanted));
            report.map_err(|error| with_guests_of(slot, &supervisor.parts().guests, error))
        }))
    }

    fn start_candidate<'a>(&'a self, camera: &'a CameraId, slot: SlotKind, wanted: SlotSpec) -> Answer<'a, Value> {
        let (supervisor, camera) = (Arc::clone(&self.supervisor), camera.clone());
        Box::pin(blocking(move || {
            let report = json(supervisor.start_candidate(&camera, slot, wanted));
            report.map_err(|error| with_guests_of(slot, &supervisor.parts().guests, error))
        }))
    }

    fn candidate<'a>(&'a self, camera: &'a CameraId, slot: SlotKind) -> Answer<'a, Value> {
        let (supervisor, camera) = (Arc::clone(&self.supervisor), camera.clone());
        Box::pin(blocking(move || json(supervisor.look_at_candidate(&camera, slot))))
    }

    fn drop_candidate<'a>(&'a self, camera: &'a CameraId, slot: SlotKind) -> Answer<'a, Value> {
        let (supervisor, camera) = (Arc::clone(&self.supervisor), camera.clone());
        Box::pin(blocking(move || json(supervisor.drop_candidate(&camera, slot))))
    }

    fn promote_candidate<'a>(
        &'a self,
        camera: &'a CameraId,
        slot: SlotKind,
        probation_frames: Option<u32>,
        who: &'a str,
    ) -> Answer<'a, SwapReport> {
        let (supervisor, camera, who) = (Arc::clone(&self.supervisor), camera.clone(), who.to_owned());
        Box::pin(blocking(move || {
            supervisor.promote_candidate(&camera, slot, probation_frames, &who).map_err(trial_error)
        }))
    }

    fn explain<'a>(&'a self, message: &'a str) -> Answer<'a, Value> {
        let (supervisor, message) = (Arc::clone(&self.supervisor), message.to_owned());
        Box::pin(blocking(move || json(supervisor.explain(&message))))
    }
}

/// What became of recordings.
pub(super) fn metrics(recordings: &Recordings) -> Vec<MetricFamily> {
    let family = |name: &str, help: &str, counts: BTreeMap<&'static str, u64>| MetricFamily {
        name: name.to_owned(),
        help: help.to_owned(),
        kind: MetricKind::Counter,
        samples: counts
            .into_iter()
            .map(|(reason, n)| MetricSample { labels: vec![("reason".to_owned(), reason.to_owned())], value: n as f64 })
            .collect(),
    };
    vec![
        family("facestream_recordings_written", "Recordings of guests written to disk.", recordings.written()),
        family("facestream_recordings_dropped", "Recordings of guests that were let go.", recordings.dropped()),
    ]
}
