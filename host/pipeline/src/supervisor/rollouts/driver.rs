//! Making the steps of one rollout, and waiting for news in between.
//!
//! Owns the task. What comes next is decided by `crate::rollout`; guests load on blocking threads.

use std::sync::Arc;

use facestream_core::guest::{ChangeKind, RolloutStatus, SlotKind, SlotRequest};
use facestream_core::{CameraId, CameraState};
use futures::FutureExt as _;
use futures::future::select_all;
use tokio::sync::{Notify, watch};

use super::super::{Supervisor, SwapFailure};
use super::wants;
use crate::lane::LaneError;
use crate::rollout::{BackEnd, Next, Rollout, SwapEnd};

/// Makes the steps of one rollout.
pub(super) struct Driver {
    pub(super) supervisor: Arc<Supervisor>,
    pub(super) id: u64,
    pub(super) slot: SlotKind,
    pub(super) change: SlotRequest,
    /// Digest of what is put in.
    pub(super) digest: String,
    /// Digest of `only_from`.
    pub(super) from: Option<String>,
}

/// Cameras on probation, and whether frames come from them.
type Watched = Vec<(CameraId, watch::Receiver<CameraState>)>;

impl Driver {
    pub(super) async fn run(
        self,
        begun: RolloutStatus,
        news: Arc<Notify>,
        at_end: impl FnOnce(RolloutStatus) + Send + 'static,
    ) {
        let (this, mut watched, mut kept) = (Arc::new(self), Watched::new(), None);
        let rollouts = &this.supervisor.rollouts;
        loop {
            this.keep(&mut kept).await;
            if this.supervisor.ticker.is_cancelled() {
                rollouts.with(this.id, Rollout::interrupt);
            }
            this.watch(&mut watched);
            // One that is under way is not forgotten.
            match rollouts.with(this.id, Rollout::next).unwrap_or(Next::End) {
                Next::Swap(camera) => {
                    this.keep(&mut kept).await;
                    let (driver, id) = (Arc::clone(&this), camera.clone());
                    let end = tokio::task::spawn_blocking(move || driver.swap(&id)).await;
                    let end = end.unwrap_or_else(|error| SwapEnd::Refused(format!("the swap broke off: {error}")));
                    rollouts.with(this.id, |rollout, now| rollout.swapped(&camera, end, now));
                }
                Next::RollBack(camera) => {
                    this.keep(&mut kept).await;
                    let (driver, id) = (Arc::clone(&this), camera.clone());
                    let end = tokio::task::spawn_blocking(move || driver.take_back(&id)).await;
                    let end = end.unwrap_or_else(|error| BackEnd::Failed(format!("the rollback broke off: {error}")));
                    rollouts.with(this.id, |rollout, now| rollout.taken_back(&camera, end, now));
                }
                Next::Wait => this.wait(&news, &mut watched).await,
                Next::End => break,
            }
        }
        this.keep(&mut kept).await;
        let status = rollouts.status(this.id).unwrap_or(begun);
        tracing::info!(rollout = status.id, state = status.state.as_str(), "a rollout has ended: {}", status.summary());
        if let Err(error) = tokio::task::spawn_blocking(move || at_end(status)).await {
            tracing::error!(rollout = this.id, %error, "what was to be done at the end of a rollout was not");
        }
    }

    /// Writes down how it stands, when that is another than what was written last: before a step is made, too, so that a host
    /// that is killed in it says so. What could not be written is tried again at the next turn.
    async fn keep(&self, kept: &mut Option<RolloutStatus>) {
        let Some(status) = self.supervisor.rollouts.status(self.id).filter(|now| kept.as_ref() != Some(now)) else {
            return;
        };
        let (supervisor, to_keep) = (Arc::clone(&self.supervisor), status.clone());
        let written = tokio::task::spawn_blocking(move || supervisor.parts.wanted.put_rollout(&to_keep)).await;
        let failed = match written {
            Ok(Ok(())) => {
                *kept = Some(status);
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        // The cameras matter more than the record of it.
        tracing::warn!(rollout = self.id, error = failed, "how a rollout stands was not written down");
    }

    /// Tells the rollout which cameras on probation have no frames, and keeps an eye on them.
    fn watch(&self, watched: &mut Watched) {
        let rollouts = &self.supervisor.rollouts;
        let on_probation = rollouts.with(self.id, |rollout, _| rollout.on_probation()).unwrap_or_default();
        watched.retain(|(id, _)| on_probation.contains(id));
        for id in on_probation {
            // One that is not there any more is told as gone.
            if let Some(camera) = self.supervisor.camera(&id).filter(|_| watched.iter().all(|(w, _)| *w != id)) {
                watched.push((id, camera.states()));
            }
        }
        for (camera, states) in watched {
            let why_not = why_no_frames(&states.borrow_and_update());
            rollouts.with(self.id, |rollout, now| rollout.frames(camera, why_not, now));
        }
    }

    /// Waits for news of slots, of cameras' connections, or of the host's end.
    async fn wait(&self, news: &Notify, watched: &mut Watched) {
        let changes = watched.iter_mut().map(|(_, states)| {
            let changed = async {
                if states.changed().await.is_err() {
                    // The camera ends, which is told when it has.
                    std::future::pending::<()>().await;
                }
            };
            changed.boxed()
        });
        // `select_all` takes no empty list.
        let changed = select_all(changes.chain([std::future::pending().boxed()]));
        tokio::select! {
            () = news.notified() => {}
            _ = changed => {}
            () = self.supervisor.ticker.cancelled() => {}
        }
    }

    /// Puts the guest into a camera's slot, when the camera is still there for it.
    fn swap(&self, id: &CameraId) -> SwapEnd {
        let stopped = || SwapEnd::Skip("the camera was stopped".to_owned());
        let Some(camera) = self.supervisor.camera(id) else { return stopped() };
        if let Some(why) = why_no_frames(&camera.state()) {
            return SwapEnd::Skip(format!("left as it is: {why}"));
        }
        if self.from.as_deref().is_some_and(|from| !wants(&camera, self.slot, from)) {
            return SwapEnd::Skip("left as it is: it wants another guest by now".to_owned());
        }
        // All cameras get the same component.
        let wanted = self.supervisor.by_component(self.change.wanted.clone(), &self.digest);
        let request = SlotRequest { wanted, rollout: Some(self.id), ..self.change.clone() };
        match self.supervisor.change_slot(id, self.slot, &request, ChangeKind::Swap) {
            Ok(report) if report.change == "unchanged" => SwapEnd::Unchanged,
            Ok(report) => SwapEnd::Changed(report.old_digest),
            Err(SwapFailure::UnknownCamera(_) | SwapFailure::Lane(LaneError::Closed)) => stopped(),
            Err(error @ SwapFailure::Wanted(_)) => SwapEnd::NotRemembered(error.to_string()),
            Err(error) => SwapEnd::Refused(error.to_string()),
        }
    }

    /// Puts the guest before in again.
    fn take_back(&self, id: &CameraId) -> BackEnd {
        match self.supervisor.roll_back_for(id, self.slot, &self.change.who, Some(self.id)) {
            Ok(_) => BackEnd::Back(None),
            Err(error @ SwapFailure::Wanted(_)) => BackEnd::Back(Some(error.to_string())),
            Err(SwapFailure::UnknownCamera(_) | SwapFailure::Lane(LaneError::Closed)) => {
                BackEnd::Skip("the camera was stopped".to_owned())
            }
            Err(error @ SwapFailure::ChangedSince(_)) => BackEnd::Skip(error.to_string()),
            Err(error) => BackEnd::Failed(error.to_string()),
        }
    }
}

/// Why a camera in this state gives no frames; none that is running.
fn why_no_frames(state: &CameraState) -> Option<String> {
    match state {
        CameraState::Running => None,
        CameraState::Connecting { .. } => Some("its camera is being connected to".to_owned()),
        CameraState::WaitingToRetry { reason, .. } | CameraState::Failed { reason } => {
            Some(format!("its camera is away ({reason})"))
        }
        CameraState::Stopping | CameraState::Stopped => Some("its camera is being stopped".to_owned()),
    }
}
