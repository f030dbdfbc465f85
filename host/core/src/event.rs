//! What happened, for operators: one value that becomes a log line, a server-sent event and an entry in a ring.

use serde::Serialize;

use crate::camera::{CameraId, CameraState};
use crate::guest::{RolloutState, RolloutStep, SlotKind, SwapReport};

/// One operational event.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Event {
    /// A camera changed its state.
    Camera { camera: CameraId, status: CameraState },
    /// A guest failed.
    GuestFailed { camera: CameraId, slot: SlotKind, guest: String, reason: String },
    /// A fresh instance took over after a failure.
    GuestRestarted { camera: CameraId, slot: SlotKind, guest: String },
    /// A guest was replaced.
    GuestSwapped { camera: CameraId, report: SwapReport },
    /// A new guest has passed its probation; the one before it is gone.
    GuestConfirmed { camera: CameraId, slot: SlotKind, guest: String },
    /// A new guest failed on probation; the one before it is back with its state.
    GuestRolledBack { camera: CameraId, slot: SlotKind, guest: String, back_to: String, reason: String },
    /// A guest failed too often: the built-in one stands in, or nothing does (`stand_in` is null).
    GuestDegraded { camera: CameraId, slot: SlotKind, guest: String, stand_in: Option<String>, reason: String },
    /// A guest that another stood in for works again.
    GuestRecovered { camera: CameraId, slot: SlotKind, guest: String },
    /// An instance whose memory had grown was made anew, state kept.
    GuestRecycled { camera: CameraId, slot: SlotKind, guest: String, memory_bytes: u64 },
    /// A rollout has begun, goes back, or has ended.
    Rollout { rollout: u64, slot: SlotKind, guest: String, state: RolloutState, reason: Option<String> },
    /// A camera of a rollout came to another step.
    RolloutCamera {
        camera: CameraId,
        rollout: u64,
        slot: SlotKind,
        #[serde(rename = "state")]
        step: RolloutStep,
        reason: Option<String>,
    },
    /// A sink went from or to working order.
    Sink { sink: String, degraded: bool, reason: Option<String> },
}
