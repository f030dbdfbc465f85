//! Rollouts on the wire: what may be asked for, and how they go.

use std::collections::BTreeSet;

use facestream_core::CameraId;
use facestream_core::guest::{
    RolloutCamera, RolloutChoice, RolloutRequest, RolloutStatus, RolloutStep, SlotKind, SlotRequest,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::slot_requests::{probation_problem, reference_problem, slot_spec};
use super::slots::{LimitsView, OnFailureView};
use crate::control::FieldProblem;
use crate::problem::Problem;

/// Most cameras at once.
const MAX_BATCH: u64 = 64;

/// A guest for a slot of many cameras.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RolloutRequest)]
pub(crate) struct RolloutBody {
    /// `tracker`, `scorer` or `formatter`.
    #[schema(example = "scorer")]
    slot: String,
    /// `name`, `name@version` or `sha256:<hex>` of a guest in the store. All cameras get the component that it means now.
    #[schema(example = "my-scorer@1.2.0")]
    guest: String,
    /// Settings for the guest.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    config: Option<Map<String, Value>>,
    /// Limits other than the host's, up to its ceilings.
    #[serde(default)]
    limits: LimitsView,
    /// What happens when it fails again and again: `restart` when left out.
    #[serde(default)]
    on_failure: OnFailureView,
    /// As in a change of a slot. With 0 no camera is watched before the next one.
    #[serde(default)]
    #[schema(maximum = 1000000)]
    probation_frames: Option<u32>,
    /// These cameras, in this order; left out: a share of all.
    #[serde(default)]
    cameras: Option<Vec<String>>,
    /// So many percent of all cameras, rounded up; 100 when left out. The same cameras give the same choice, and a
    /// greater share includes a smaller one.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 100)]
    share: Option<u64>,
    /// Of these, only cameras whose slot wants this guest now.
    #[serde(default)]
    only_from: Option<String>,
    /// Cameras that are changed and watched at once; 1 when left out.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 64)]
    batch: Option<u64>,
    /// So many cameras may fail; one more, and all that were changed go back. 0 when left out.
    #[serde(default)]
    max_failures: Option<u32>,
}

impl RolloutBody {
    pub(crate) fn guest(&self) -> &str {
        &self.guest
    }

    /// The rollout, when it can be one; else everything that is wrong with it.
    pub(crate) fn checked(self, who: String) -> Result<RolloutRequest, Problem> {
        let mut problems = Vec::new();
        let mut wrong = |pointer: String, detail: String| problems.push(FieldProblem::new(pointer, detail));
        let slot = self.slot.parse::<SlotKind>().map_err(|detail| wrong("/slot".to_owned(), detail)).ok();
        if let Some(problem) = reference_problem(&self.guest) {
            wrong("/guest".to_owned(), problem);
        }
        if let Some(problem) = self.only_from.as_deref().and_then(reference_problem) {
            wrong("/only_from".to_owned(), problem);
        }
        let batch = self.batch.unwrap_or(1);
        if !(1..=MAX_BATCH).contains(&batch) {
            wrong("/batch".to_owned(), format!("must be 1 to {MAX_BATCH}"));
        }
        let choice = match (self.cameras, self.share) {
            (Some(_), Some(_)) => {
                wrong("/share".to_owned(), "give either `cameras` or `share`, not both".to_owned());
                None
            }
            (Some(names), None) => {
                let (mut ids, mut seen) = (Vec::with_capacity(names.len()), BTreeSet::new());
                if names.is_empty() {
                    wrong("/cameras".to_owned(), "names no camera; left out, all are meant".to_owned());
                }
                for (n, name) in names.iter().enumerate() {
                    match CameraId::new(name) {
                        Ok(id) if !seen.insert(id.clone()) => {
                            wrong(format!("/cameras/{n}"), "is there twice".to_owned())
                        }
                        Ok(id) => ids.push(id),
                        Err(error) => wrong(format!("/cameras/{n}"), error.to_string()),
                    }
                }
                Some(RolloutChoice::Cameras(ids))
            }
            (None, share) => match u8::try_from(share.unwrap_or(100)) {
                Ok(share @ 1..=100) => Some(RolloutChoice::Share(share)),
                _ => {
                    wrong("/share".to_owned(), "must be 1 to 100 percent".to_owned());
                    None
                }
            },
        };
        problems.extend(probation_problem(self.probation_frames));
        let (Some(slot), Some(choice), true) = (slot, choice, problems.is_empty()) else {
            return Err(Problem::invalid(problems));
        };
        let wanted = slot_spec(self.guest, self.config, self.limits, self.on_failure);
        let change =
            SlotRequest { wanted, probation_frames: self.probation_frames, who, rollout: None, only_while: None };
        let max_failures = usize::try_from(self.max_failures.unwrap_or(0)).unwrap_or(usize::MAX);
        // At most 64.
        let batch = usize::try_from(batch).unwrap_or(1);
        Ok(RolloutRequest { slot, change, choice, only_from: self.only_from, batch, max_failures })
    }
}

/// How to stop a rollout.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RolloutStop)]
pub(crate) struct StopBody {
    /// Whether cameras that were changed go back, or keep what they have.
    pub(crate) roll_back: bool,
}

/// A camera of a rollout.
#[derive(Serialize, ToSchema)]
#[schema(as = RolloutCamera)]
pub(crate) struct RolloutCameraView {
    /// Name.
    #[schema(example = "door")]
    camera: String,
    /// `pending`, `swapping`, `probation`, `done`, `failed`, `rolling-back`, `rolled-back`, `rollback-failed` or `skipped`.
    #[schema(example = "probation")]
    state: &'static str,
    /// Why it failed, went back or was left out.
    reason: Option<String>,
    /// Whether the rollout's guest is in the slot, as far as the rollout knows.
    guest_is_in: bool,
    /// Whether it counts as failed; so does one that has gone back since.
    failed: bool,
    /// Digest of what ran before, once it was changed.
    old_digest: Option<String>,
    /// When its turn came, milliseconds since the Unix epoch.
    began_unix_ms: Option<u64>,
    /// When it came to its present state.
    changed_unix_ms: Option<u64>,
}

impl From<RolloutCamera> for RolloutCameraView {
    fn from(camera: RolloutCamera) -> Self {
        Self {
            camera: camera.camera.to_string(),
            state: camera.step.as_str(),
            reason: camera.reason,
            guest_is_in: camera.guest_is_in,
            failed: camera.failed,
            old_digest: camera.old_digest,
            began_unix_ms: camera.began_unix_ms,
            changed_unix_ms: camera.changed_unix_ms,
        }
    }
}

/// A rollout.
#[derive(Serialize, ToSchema)]
#[schema(as = Rollout)]
pub(crate) struct RolloutView {
    /// Its number.
    #[schema(example = 1_700_000_000_000_u64)]
    id: u64,
    /// Which slot.
    #[schema(example = "scorer")]
    slot: &'static str,
    /// The guest as it was asked for.
    #[schema(example = "my-scorer@1.2.0")]
    guest: String,
    /// Digest of the component that all cameras get.
    digest: String,
    /// Name of the token that asked for it; `anonymous` where none is asked for.
    #[schema(example = "operations")]
    who: String,
    /// Settings that the guest is given.
    #[schema(value_type = Object)]
    config: Value,
    /// Frames of each camera's probation; null: as many as the host is set to.
    probation_frames: Option<u32>,
    /// The share of all cameras that was asked for, percent; null when cameras were named.
    share: Option<u8>,
    /// The guest that cameras had to want to be chosen.
    only_from: Option<String>,
    /// Cameras at once.
    batch: usize,
    /// So many cameras may fail.
    max_failures: usize,
    /// `running`; `rolling-back`; `done`: it has come to its end; `rolled-back`: what it had changed has gone back, where it
    /// could; `stopped`: cameras keep what they have.
    #[schema(example = "running")]
    state: &'static str,
    /// Why it went back or was stopped.
    reason: Option<String>,
    /// When it began, milliseconds since the Unix epoch.
    began_unix_ms: u64,
    /// When it ended.
    ended_unix_ms: Option<u64>,
    /// Cameras with the guest in, proved.
    done: usize,
    /// Cameras that count as failed.
    failures: usize,
    /// Cameras that were left out, or were no longer waited for.
    skipped: usize,
    /// Its cameras, in the order of their turns.
    cameras: Vec<RolloutCameraView>,
}

impl From<RolloutStatus> for RolloutView {
    fn from(status: RolloutStatus) -> Self {
        let (done, skipped) = (status.at(RolloutStep::Done), status.at(RolloutStep::Skipped));
        Self {
            done,
            failures: status.failures(),
            skipped,
            id: status.id,
            slot: status.slot.as_str(),
            guest: status.guest,
            digest: status.digest,
            who: status.who,
            config: status.config,
            probation_frames: status.probation_frames,
            share: status.share,
            only_from: status.only_from,
            batch: status.batch,
            max_failures: status.max_failures,
            state: status.state.as_str(),
            reason: status.reason,
            began_unix_ms: status.began_unix_ms,
            ended_unix_ms: status.ended_unix_ms,
            cameras: status.cameras.into_iter().map(Into::into).collect(),
        }
    }
}

/// Rollouts, those of earlier runs of the host too: the latest 32.
#[derive(Serialize, ToSchema)]
pub(crate) struct RolloutList {
    /// The newest first.
    pub(crate) rollouts: Vec<RolloutView>,
}
