//! Misbehaviour on request, so that reconnection and tolerance can be tested against a camera that really does it.
//!
//! Owns the vocabulary and the handle that changes it while cameras run. Must not do any of it: connections do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};

use crate::server::Shared;
use crate::stats::CameraStats;

/// How a camera answers requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// As it should.
    #[default]
    Normal,
    /// Never; the connection stays open.
    Never,
    /// Always with this status, e.g. 404 or 503.
    Status(u16),
}

/// How much of a camera stands still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stall {
    /// Nothing.
    #[default]
    None,
    /// No media, but requests are answered.
    Media,
    /// Nothing is read or written any more; the connection stays open (half-open, as after a power cut).
    All,
}

/// Deviations of real cameras from the RFCs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// PLAY is answered without `RTP-Info`.
    pub no_rtp_info: bool,
    /// PLAY is answered with `seq=0;rtptime=0` in `RTP-Info`, whatever is sent.
    pub zero_rtp_info: bool,
    /// DESCRIBE is answered with this `Content-Base` instead of the right one; empty leaves it out.
    pub content_base: Option<String>,
    /// The SDP tells no parameter sets; they come in-band only.
    pub no_parameter_sets_in_sdp: bool,
    /// `Transport` in the answer of SETUP tells `ssrc` before `interleaved`.
    pub ssrc_first: bool,
    /// `Session` is told without `timeout`.
    pub no_session_timeout: bool,
    /// SETUP over TCP is answered 461.
    pub udp_only: bool,
    /// SETUP over UDP is answered 461.
    pub tcp_only: bool,
    /// SET_PARAMETER is advertised, but answered 400.
    pub reject_set_parameter: bool,
    /// SET_PARAMETER and GET_PARAMETER are answered with the `CSeq` of the request before (seen on Tapo cameras).
    pub stale_cseq: bool,
    /// GET_PARAMETER is neither advertised nor understood (405).
    pub no_get_parameter: bool,
    /// No sender reports.
    pub no_reports: bool,
}

/// Something that happens once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultEvent {
    /// The connection is closed in order (FIN).
    Close,
    /// The connection is aborted (RST).
    Abort,
    /// This session falls silent and stays so, as [`Stall::All`].
    HalfOpen,
    /// RTP timestamps jump by so many milliseconds, to either side.
    TimestampJumpMs(i64),
    /// Go on with another of the simulator's clips, e.g. of another resolution. Timestamps stay continuous.
    SwitchClip(usize),
    /// Go on with another SSRC and sequence number, as after a restart of the camera's encoder.
    ChangeSsrc,
}

/// Something that happens once in each session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptedFault {
    /// When the session has sent (or dropped) so many access units.
    pub after_units: u64,
    /// What happens then.
    pub event: FaultEvent,
}

/// What a camera does wrong. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CameraFaults {
    /// Which of the simulator's clips it shows; a change takes effect at once.
    pub clip: usize,
    /// How it answers.
    pub answer: Answer,
    /// What stands still.
    pub stall: Stall,
    /// One RTP packet in so many is lost, by chance from the seed; 0 loses none. Over TCP too: some cameras do that.
    pub lose_one_in: u32,
    /// At most so many bytes a write over TCP; 0 for no limit. 1 tears everything apart.
    pub write_bytes: usize,
    /// What happens in each session, by number of units.
    pub script: Vec<ScriptedFault>,
    /// Deviations from the RFCs.
    pub quirks: Quirks,
}

impl CameraFaults {
    pub(crate) fn problems(&self, clips: usize) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check_clip = |clip: usize| {
            if clip >= clips {
                problems.push(format!("clip {clip} does not exist, there are {clips} (from 0)"));
            }
        };
        check_clip(self.clip);
        for step in &self.script {
            if let FaultEvent::SwitchClip(clip) = step.event {
                check_clip(clip);
            }
        }
        if self.lose_one_in == 1 {
            problems.push("lose_one_in = 1 loses everything; use stall".to_owned());
        }
        if let Answer::Status(status) = self.answer
            && !(300..600).contains(&status)
        {
            problems.push(format!("answer {status} is no error; it must be 300 to 599"));
        }
        problems
    }
}

/// Faults of one camera as its connections see them.
#[derive(Debug)]
pub(crate) struct FaultState {
    pub(crate) lasting: watch::Sender<Arc<CameraFaults>>,
    /// Bound 64 a receiver; a receiver that lags loses the oldest and warns.
    pub(crate) events: broadcast::Sender<FaultEvent>,
}

impl FaultState {
    pub(crate) fn new(faults: CameraFaults) -> Self {
        Self { lasting: watch::Sender::new(Arc::new(faults)), events: broadcast::Sender::new(64) }
    }
}

/// Changes what cameras do wrong while they run. Cheap to clone; cameras are numbered from 0.
#[derive(Clone, Debug)]
pub struct Control {
    pub(crate) shared: Arc<Shared>,
}

impl Control {
    /// Changes the lasting faults of a camera; running sessions see it at once.
    ///
    /// # Errors
    /// When the camera does not exist or the result contradicts itself; then nothing changes.
    pub fn update(&self, camera: usize, change: impl FnOnce(&mut CameraFaults)) -> Result<(), String> {
        let state = &self.camera(camera)?.faults;
        let mut result = Ok(());
        state.lasting.send_if_modified(|faults| {
            let mut next = CameraFaults::clone(faults);
            change(&mut next);
            let problems = next.problems(self.shared.clips.len());
            if !problems.is_empty() {
                result = Err(problems.join("; "));
                return false;
            }
            let changed = next != **faults;
            *faults = Arc::new(next);
            changed
        });
        result
    }

    /// Makes something happen once in every session that the camera has now; tells how many connections heard it.
    ///
    /// # Errors
    /// When the camera or the clip does not exist.
    pub fn fire(&self, camera: usize, event: FaultEvent) -> Result<usize, String> {
        if let FaultEvent::SwitchClip(clip) = event
            && clip >= self.shared.clips.len()
        {
            return Err(format!("clip {clip} does not exist, there are {} (from 0)", self.shared.clips.len()));
        }
        // No receiver: nobody is connected.
        Ok(self.camera(camera)?.faults.events.send(event).unwrap_or(0))
    }

    /// Closes the listening socket (connections are refused by the system) or opens it again on the same port. Running
    /// connections stay. Returns once it is so.
    ///
    /// # Errors
    /// When the port has been taken by somebody else meanwhile, or the simulator is shutting down.
    pub async fn set_listening(&self, listening: bool) -> Result<(), String> {
        self.shared.set_listening(listening).await
    }

    /// Counters of a camera.
    ///
    /// # Errors
    /// When the camera does not exist.
    pub fn stats(&self, camera: usize) -> Result<CameraStats, String> {
        Ok(self.camera(camera)?.counters.snapshot())
    }

    /// Waits until a camera's counters are as wanted; `None` when they are not within `limit`.
    pub async fn wait_for(
        &self,
        camera: usize,
        limit: Duration,
        wanted: impl Fn(&CameraStats) -> bool,
    ) -> Option<CameraStats> {
        let look = async {
            loop {
                let stats = self.stats(camera).ok()?;
                if wanted(&stats) {
                    return Some(stats);
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(limit, look).await.ok().flatten()
    }

    fn camera(&self, camera: usize) -> Result<&crate::server::Camera, String> {
        let cameras = &self.shared.cameras;
        cameras
            .get(camera)
            .ok_or_else(|| format!("camera {camera} does not exist, there are {} (from 0)", cameras.len()))
    }
}

/// Faults of all cameras, those not named behave.
pub(crate) fn states(plan: &BTreeMap<usize, CameraFaults>, cameras: usize) -> impl Iterator<Item = FaultState> {
    (0..cameras).map(|camera| FaultState::new(plan.get(&camera).cloned().unwrap_or_default()))
}
