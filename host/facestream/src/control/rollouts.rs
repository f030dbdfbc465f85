//! Rollouts for the API.
//!
//! Owns the translation of their errors, their metrics, and that the audit log says how each one ended.

use std::sync::Arc;

use facestream_api::control::{Answer, ControlError, FieldProblem, MetricFamily, MetricKind, MetricSample};
use facestream_api::{AuditEntry, Rollouts};
use facestream_core::guest::{RolloutRequest, RolloutStatus};
use facestream_pipeline::Supervisor;
use facestream_pipeline::supervisor::RolloutFailure;

use super::{Host, blocking, swap_error};

fn rollout_error(error: RolloutFailure) -> ControlError {
    let text = error.to_string();
    match error {
        RolloutFailure::Swap(error) => swap_error(error),
        RolloutFailure::UnknownCameras(missing) => {
            let problem = |(n, id)| FieldProblem::new(format!("/cameras/{n}"), format!("no camera `{id}` runs"));
            ControlError::Invalid(missing.into_iter().map(problem).collect())
        }
        RolloutFailure::UnknownFrom(_) => ControlError::Invalid(vec![FieldProblem::new("/only_from", text)]),
        RolloutFailure::NoCamera(_) => ControlError::Invalid(vec![FieldProblem::new("", text)]),
        RolloutFailure::Unknown(id) => ControlError::UnknownRollout(id),
        RolloutFailure::UnderWay(..) | RolloutFailure::Over { .. } | RolloutFailure::GoesBack(_) => {
            ControlError::RolloutConflict(text)
        }
    }
}

/// How a rollout ended, for the audit log.
fn ended(status: &RolloutStatus, at_unix_ms: u64) -> AuditEntry {
    AuditEntry {
        at_unix_ms,
        who: status.who.clone(),
        peer: None,
        action: "rollout-end".to_owned(),
        place: format!("rollout/{}", status.id),
        guest: Some(status.guest.clone()),
        source: None,
        digest: Some(status.digest.clone()),
        result: status.state.as_str().to_owned(),
        detail: Some(status.summary()),
    }
}

impl Rollouts for Host {
    fn start_rollout(&self, request: RolloutRequest) -> Answer<'_, RolloutStatus> {
        let (supervisor, log) = (Arc::clone(&self.supervisor), Arc::clone(&self.audit));
        let clock = Arc::clone(&self.supervisor.parts().shared.clock);
        let at_end = move |status: RolloutStatus| {
            let entry = ended(&status, clock.wall_ns() / 1_000_000);
            if let Err(error) = log.append(&entry) {
                tracing::error!(%error, ?entry, "The audit log cannot be written.");
            }
        };
        Box::pin(blocking(move || supervisor.start_rollout(request, at_end).map_err(rollout_error)))
    }

    fn rollouts(&self) -> Vec<RolloutStatus> {
        self.supervisor.rollouts()
    }

    fn rollout(&self, id: u64) -> Option<RolloutStatus> {
        self.supervisor.rollout(id)
    }

    fn stop_rollout<'a>(&'a self, id: u64, roll_back: bool, who: &'a str) -> Answer<'a, RolloutStatus> {
        let stopped = self.supervisor.stop_rollout(id, roll_back, who).map_err(rollout_error);
        Box::pin(std::future::ready(stopped))
    }
}

/// How rollouts ended, and where those under way are.
#[expect(clippy::cast_precision_loss, reason = "a count beyond 2^53 may lose its last digit on a dashboard")]
pub(super) fn metrics(supervisor: &Supervisor) -> Vec<MetricFamily> {
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let counts = supervisor.rollout_counts();
    let ended = counts
        .ended
        .into_iter()
        .map(|(state, n)| MetricSample { labels: vec![label("outcome", state.as_str())], value: n as f64 });
    let cameras = counts.under_way.into_iter().map(|((slot, step), n)| MetricSample {
        labels: vec![label("slot", slot.as_str()), label("state", step.as_str())],
        value: n as f64,
    });
    vec![
        MetricFamily {
            name: "facestream_rollouts_ended".to_owned(),
            help: "Rollouts that have ended, by outcome.".to_owned(),
            kind: MetricKind::Counter,
            samples: ended.collect(),
        },
        MetricFamily {
            name: "facestream_rollout_cameras".to_owned(),
            help: "Cameras of rollouts under way, by state.".to_owned(),
            kind: MetricKind::Gauge,
            samples: cameras.collect(),
        },
    ]
}
