//! The double's rollouts: it keeps them and swaps the first camera at once; nothing goes on by itself.

use facestream_api::control::*;
use facestream_api::rollouts::Rollouts;
use facestream_core::CameraId;
use facestream_core::guest::{
    RolloutCamera, RolloutChoice, RolloutRequest, RolloutState, RolloutStatus, RolloutStep, SlotRequest,
};
use futures::FutureExt;

use super::FakeControl;

impl Rollouts for FakeControl {
    fn start_rollout(&self, request: RolloutRequest) -> Answer<'_, RolloutStatus> {
        async move {
            let RolloutRequest { slot, change, choice, only_from, batch, max_failures } = request;
            let guest = self.find(&change.wanted.guest)?;
            if !guest.slots.contains(&slot) {
                return Err(ControlError::GuestRefused(format!("`{}` is no {slot}", guest.name)));
            }
            let all: Vec<CameraId> = self.cameras.lock().unwrap().keys().cloned().collect();
            let chosen: Vec<CameraId> = match choice {
                RolloutChoice::Cameras(ids) => ids,
                RolloutChoice::Share(percent) => {
                    let n = (all.len() * usize::from(percent)).div_ceil(100);
                    all.iter().take(n).cloned().collect()
                }
            };
            if let Some(n) = chosen.iter().position(|c| !all.contains(c)) {
                let problem = FieldProblem::new(format!("/cameras/{n}"), "no such camera");
                return Err(ControlError::Invalid(vec![problem]));
            }
            let Some(first) = chosen.first().filter(|_| only_from.is_none_or(|from| from == slot.default_guest()))
            else {
                return Err(ControlError::Invalid(vec![FieldProblem::new("", "there is no camera for it")]));
            };
            let id = 1_700_000_000_000 + self.rollouts.lock().unwrap().len() as u64;
            if self.rollouts.lock().unwrap().iter().any(|r| r.slot == slot && !r.state.is_over()) {
                return Err(ControlError::RolloutConflict("one is under way".to_owned()));
            }
            let (name, who) = (change.wanted.guest.clone(), change.who.clone());
            let report = self.swap(first, slot, SlotRequest { rollout: Some(id), ..change }).await?;
            let camera = |(n, camera): (usize, &CameraId)| RolloutCamera {
                camera: camera.clone(),
                step: if n == 0 { RolloutStep::Probation } else { RolloutStep::Pending },
                reason: None,
                guest_is_in: n == 0,
                failed: false,
                old_digest: (n == 0).then(|| report.old_digest.clone()),
                began_unix_ms: (n == 0).then_some(1_700_000_000_000),
                changed_unix_ms: (n == 0).then_some(1_700_000_000_000),
            };
            let status = RolloutStatus {
                id,
                slot,
                guest: name,
                digest: guest.digest,
                who,
                config: serde_json::json!({}),
                probation_frames: None,
                share: Some(100),
                only_from: None,
                batch,
                max_failures,
                state: RolloutState::Running,
                reason: None,
                began_unix_ms: id,
                ended_unix_ms: None,
                cameras: chosen.iter().enumerate().map(camera).collect(),
            };
            self.rollouts.lock().unwrap().push(status.clone());
            Ok(status)
        }
        .boxed()
    }

    fn rollouts(&self) -> Vec<RolloutStatus> {
        self.rollouts.lock().unwrap().iter().rev().cloned().collect()
    }

    fn rollout(&self, id: u64) -> Option<RolloutStatus> {
        self.rollouts.lock().unwrap().iter().find(|r| r.id == id).cloned()
    }

    fn stop_rollout<'a>(&'a self, id: u64, roll_back: bool, who: &'a str) -> Answer<'a, RolloutStatus> {
        async move {
            let mut rollouts = self.rollouts.lock().unwrap();
            let rollout = rollouts.iter_mut().find(|r| r.id == id).ok_or(ControlError::UnknownRollout(id))?;
            if rollout.state.is_over() {
                return Err(ControlError::RolloutConflict("it has ended".to_owned()));
            }
            rollout.state = if roll_back { RolloutState::RolledBack } else { RolloutState::Stopped };
            rollout.reason = Some(format!("{who} has stopped it"));
            Ok(rollout.clone())
        }
        .boxed()
    }
}
