//! A guest for many cameras: choosing them, beginning and stopping.
//!
//! Owns which cameras a rollout is for. Its steps are made by `driver`; what comes next is decided by `crate::rollout`.

mod driver;

use std::collections::BTreeMap;
use std::sync::Arc;

use facestream_core::CameraId;
use facestream_core::guest::{
    RolloutCamera, RolloutChoice, RolloutRequest, RolloutState, RolloutStatus, RolloutStep, SlotKind,
};
use facestream_guest_host::{Digest, StoreError};

use super::{Supervisor, SwapFailure};
use crate::camera::RunningCamera;
use crate::rollout::NoStop;
use driver::Driver;

/// Why a rollout did not begin, or cannot be stopped.
#[derive(Debug, thiserror::Error)]
pub enum RolloutFailure {
    /// Its guest, or its limits.
    #[error(transparent)]
    Swap(#[from] SwapFailure),
    /// Cameras that are not there, by their place in the request.
    #[error("{} of the cameras do not run", .0.len())]
    UnknownCameras(Vec<(usize, CameraId)>),
    /// `only_from` names no guest.
    #[error("no guest `{0}` in the store")]
    UnknownFrom(String),
    /// No camera is left.
    #[error("{0}")]
    NoCamera(String),
    /// Another one is under way for the slot.
    #[error("rollout {0} of the {1} is under way; wait for its end, or POST /api/v1/rollouts/{0}/stop")]
    UnderWay(u64, SlotKind),
    /// No such rollout is kept.
    #[error("no rollout {0}")]
    Unknown(u64),
    /// It has ended.
    #[error("rollout {id} has ended: {state}", state = .state.as_str())]
    Over {
        /// Which.
        id: u64,
        /// How.
        state: RolloutState,
    },
    /// It goes back.
    #[error("rollout {0} is rolling back, which comes to its end")]
    GoesBack(u64),
}

impl Supervisor {
    /// Begins a rollout, and returns. Blocks while the guest loads. `at_end` is called once, where blocking is allowed, when
    /// it has ended.
    ///
    /// # Errors
    /// See [`RolloutFailure`]; nothing was changed then.
    pub fn start_rollout(
        self: &Arc<Self>,
        request: RolloutRequest,
        at_end: impl FnOnce(RolloutStatus) + Send + 'static,
    ) -> Result<RolloutStatus, RolloutFailure> {
        if self.ticker.is_cancelled() {
            return Err(SwapFailure::Later("the host is stopping".to_owned()).into());
        }
        if !self.restored() {
            let text = "cameras of the last run are being started; try again";
            return Err(SwapFailure::Later(text.to_owned()).into());
        }
        let RolloutRequest { slot, change, .. } = &request;
        let wanted = &change.wanted;
        self.parts.guest_config.limits_for(&wanted.limits).map_err(SwapFailure::Limits)?;
        // What can be known about the guest alone is known before the first camera notices.
        let guest = self.slot_guest(wanted).map_err(|error| SwapFailure::of_store(&wanted.guest, &error))?;
        let kind = guest.component.kind();
        if kind != *slot {
            let reason = format!("`{}` is a {kind}, not a {slot}", wanted.guest);
            return Err(SwapFailure::refused(&wanted.guest, reason).into());
        }
        let from = request.only_from.as_deref().map(|from| self.digest_of(from)).transpose()?;
        let cameras = self.chosen(&request, from.as_deref())?;
        let status = RolloutStatus {
            // Both are set as it begins.
            id: 0,
            began_unix_ms: 0,
            slot: *slot,
            guest: wanted.guest.clone(),
            digest: guest.component.digest().to_string(),
            who: change.who.clone(),
            config: wanted.config.clone(),
            probation_frames: change.probation_frames,
            share: match request.choice {
                RolloutChoice::Share(share) => Some(share),
                RolloutChoice::Cameras(_) => None,
            },
            only_from: request.only_from.clone(),
            batch: request.batch.max(1),
            max_failures: request.max_failures,
            state: RolloutState::Running,
            reason: None,
            ended_unix_ms: None,
            cameras: cameras.into_iter().map(RolloutCamera::pending).collect(),
        };
        let (status, news) = self.rollouts.begin(status).map_err(|other| RolloutFailure::UnderWay(other, *slot))?;
        tracing::info!(rollout = status.id, %slot, guest = status.guest, cameras = status.cameras.len(), "a rollout begins");
        let (id, digest, change) = (status.id, status.digest.clone(), change.clone());
        let driver = Driver { supervisor: Arc::clone(self), id, slot: *slot, change, digest, from };
        self.drivers.spawn_on(driver.run(status.clone(), news, at_end), &self.parts.runtime);
        Ok(status)
    }

    /// The rollouts that are kept, the newest first.
    #[must_use]
    pub fn rollouts(&self) -> Vec<RolloutStatus> {
        self.rollouts.all()
    }

    /// One of them.
    #[must_use]
    pub fn rollout(&self, id: u64) -> Option<RolloutStatus> {
        self.rollouts.status(id)
    }

    /// The rollout under way that needs this component.
    #[must_use]
    pub fn rollout_of(&self, digest: &str) -> Option<u64> {
        self.rollouts.user_of(digest)
    }

    /// Rollouts that have ended, by how; and cameras of those under way, by slot and step.
    #[must_use]
    pub fn rollout_counts(&self) -> RolloutCounts {
        RolloutCounts { ended: self.rollouts.ended(), under_way: self.rollouts.under_way() }
    }

    /// Has a rollout stop after the step that is being made; cameras that were changed go back or keep what they have.
    ///
    /// # Errors
    /// `Unknown`, `Over`, `GoesBack`.
    pub fn stop_rollout(&self, id: u64, roll_back: bool, who: &str) -> Result<RolloutStatus, RolloutFailure> {
        let stopped = self.rollouts.news(id, |rollout, now| {
            rollout.stop(roll_back, who, now).map(|()| rollout.status().clone()).map_err(|why| match why {
                NoStop::Over(state) => RolloutFailure::Over { id, state },
                NoStop::GoesBack => RolloutFailure::GoesBack(id),
            })
        });
        stopped.ok_or(RolloutFailure::Unknown(id))?
    }

    /// The component that `only_from` means.
    fn digest_of(&self, reference: &str) -> Result<String, RolloutFailure> {
        match self.parts.guests.resolve(reference) {
            Ok(guest) => Ok(guest.info.digest.to_string()),
            Err(StoreError::NotFound { .. } | StoreError::BadReference(_)) => {
                Err(RolloutFailure::UnknownFrom(reference.to_owned()))
            }
            Err(error) => Err(SwapFailure::of_store(reference, &error).into()),
        }
    }

    fn chosen(&self, request: &RolloutRequest, from: Option<&str>) -> Result<Vec<CameraId>, RolloutFailure> {
        let fits = |camera: &Arc<RunningCamera>| from.is_none_or(|from| wants(camera, request.slot, from));
        let chosen: Vec<CameraId> = match &request.choice {
            RolloutChoice::Cameras(wanted) => {
                let found: Vec<_> = wanted.iter().map(|id| self.camera(id)).collect();
                let missing = wanted.iter().zip(&found).enumerate().filter(|(_, (_, camera))| camera.is_none());
                let missing: Vec<_> = missing.map(|(n, (id, _))| (n, id.clone())).collect();
                if !missing.is_empty() {
                    return Err(RolloutFailure::UnknownCameras(missing));
                }
                found.into_iter().flatten().filter(fits).map(|c| c.id().clone()).collect()
            }
            RolloutChoice::Share(percent) => {
                // Of all, and then those that fit: a greater share later goes on where a smaller one has ended.
                let ids = share(self.cameras().iter().map(|c| c.id().clone()).collect(), *percent);
                ids.into_iter().filter(|id| self.camera(id).is_some_and(|c| fits(&c))).collect()
            }
        };
        if chosen.is_empty() {
            return Err(RolloutFailure::NoCamera(match &request.only_from {
                Some(from) => format!("none of the cameras wants `{from}` as its {}", request.slot),
                None => "there is no camera".to_owned(),
            }));
        }
        Ok(chosen)
    }
}

/// What became of rollouts.
#[derive(Clone, Debug)]
pub struct RolloutCounts {
    /// How many have ended how, since the host began.
    pub ended: BTreeMap<RolloutState, u64>,
    /// Cameras of those under way.
    pub under_way: BTreeMap<(SlotKind, RolloutStep), usize>,
}

/// Whether the guest that is wanted in a camera's slot is this component.
fn wants(camera: &RunningCamera, slot: SlotKind, digest: &str) -> bool {
    camera.status().slots.iter().any(|s| s.slot == slot && s.wanted.digest == digest)
}

/// So many percent of the cameras, rounded up, in an order that follows from their names alone but not from the alphabet:
/// the first ones are a sample, not those of one building.
fn share(mut cameras: Vec<CameraId>, percent: u8) -> Vec<CameraId> {
    cameras.sort_by_cached_key(|id| Digest::of(id.as_str().as_bytes()));
    let n = (cameras.len() * usize::from(percent)).div_ceil(100);
    cameras.truncate(n);
    cameras
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_follows_from_the_names_and_a_greater_one_includes_a_smaller_one() {
        let all: Vec<_> = (0..10).map(|n| CameraId::new(&format!("camera-{n}")).unwrap()).collect();
        let whole = share(all.clone(), 100);
        assert_eq!((whole.len(), share(all.clone(), 50).len(), share(all.clone(), 1).len()), (10, 5, 1));
        assert_eq!(share(all.clone(), 51).len(), 6, "rounded up");
        assert_eq!(share(all.iter().rev().cloned().collect(), 50), whole[..5]);
        assert_ne!(whole, all, "not those of one building first");
        assert!(share(Vec::new(), 100).is_empty());
    }
}
