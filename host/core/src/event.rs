//! What happened, for operators: one value that becomes a log line, a server-sent event and an entry in a ring.

use serde::Serialize;

use crate::camera::{CameraId, CameraState};
use crate::guest::{SlotKind, SwapReport};

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
    /// A sink went from or to working order.
    Sink { sink: String, degraded: bool, reason: Option<String> },
}
