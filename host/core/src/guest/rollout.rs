//! One guest for many cameras, one after another: what is asked for, and how it goes.
//!
//! Owns the words. The order of steps is the pipeline's.

use serde::{Deserialize, Serialize};

use super::{SlotKind, SlotRequest};
use crate::camera::CameraId;

/// A guest for a slot of many cameras.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutRequest {
    /// Which slot.
    pub slot: SlotKind,
    /// What is asked of it, on each camera.
    pub change: SlotRequest,
    /// Which cameras.
    pub choice: RolloutChoice,
    /// Of these, only cameras whose slot wants this guest now: `name`, `name@version` or `sha256:<hex>`.
    pub only_from: Option<String>,
    /// Cameras that are changed and watched at once; at least 1.
    pub batch: usize,
    /// So many cameras may fail; one more and all go back.
    pub max_failures: usize,
}

/// Which cameras a rollout is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolloutChoice {
    /// These, in this order.
    Cameras(Vec<CameraId>),
    /// So many percent (1 to 100) of all, rounded up. The same cameras give the same choice, and a greater share includes a
    /// smaller one.
    Share(u8),
}

macro_rules! states {
    ($(#[$about:meta])* $type:ident { $($(#[$doc:meta])* $name:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $type { $($(#[$doc])* $name,)+ }

        impl $type {
            /// Every state.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The name used in REST, events and metrics.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

states! {
    /// What a rollout is doing.
    RolloutState {
        /// Cameras get the guest.
        Running = "running",
        /// Cameras get back what they had.
        RollingBack = "rolling-back",
        /// It came to its end; some cameras may have failed or been left out, within what was asked for.
        Done = "done",
        /// Too many failed, or an operator wanted it: what was changed has gone back, where it could.
        RolledBack = "rolled-back",
        /// It was ended before its time, and cameras keep what they have.
        Stopped = "stopped",
    }
}

states! {
    /// What a rollout is doing with a camera.
    RolloutStep {
        /// Its turn has not come.
        Pending = "pending",
        /// The guest is being put in.
        Swapping = "swapping",
        /// The guest is in, on probation.
        Probation = "probation",
        /// The guest is in and has passed its probation, or there was none.
        Done = "done",
        /// The guest was refused, or failed.
        Failed = "failed",
        /// The guest before is being put in again.
        RollingBack = "rolling-back",
        /// The guest before is in again.
        RolledBack = "rolled-back",
        /// The guest before could not be put in again: the new one is still there.
        RollbackFailed = "rollback-failed",
        /// Left out, or no longer waited for.
        Skipped = "skipped",
    }
}

impl RolloutState {
    /// Whether nothing more comes.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::RolledBack | Self::Stopped)
    }
}

/// A camera of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutCamera {
    /// Which.
    pub camera: CameraId,
    /// What is done with it.
    pub step: RolloutStep,
    /// Why it failed, went back or was left out.
    pub reason: Option<String>,
    /// Whether the rollout's guest is in the slot, as far as the rollout knows.
    pub guest_is_in: bool,
    /// Whether it counts as failed.
    pub failed: bool,
    /// Digest of the component that ran before, once it was changed.
    pub old_digest: Option<String>,
    /// When its turn came, milliseconds since the Unix epoch.
    pub began_unix_ms: Option<u64>,
    /// When it last came to another step.
    pub changed_unix_ms: Option<u64>,
}

impl RolloutCamera {
    /// A camera whose turn has not come.
    #[must_use]
    pub fn pending(camera: CameraId) -> Self {
        Self {
            camera,
            step: RolloutStep::Pending,
            reason: None,
            guest_is_in: false,
            failed: false,
            old_digest: None,
            began_unix_ms: None,
            changed_unix_ms: None,
        }
    }
}

/// A rollout. It is kept in this form; grows by optional fields only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutStatus {
    /// Its number: unique, over restarts of the host too.
    pub id: u64,
    /// Which slot.
    pub slot: SlotKind,
    /// The guest as it was asked for.
    pub guest: String,
    /// Digest of the component that this meant when it began: all cameras get this one.
    pub digest: String,
    /// Name of the token that asked for it.
    pub who: String,
    /// Settings that the guest is given.
    #[serde(default)]
    pub config: serde_json::Value,
    /// Frames of each camera's probation, when others than the host's were asked for.
    #[serde(default)]
    pub probation_frames: Option<u32>,
    /// The share of all cameras that was asked for, percent; nothing when cameras were named.
    #[serde(default)]
    pub share: Option<u8>,
    /// The guest that cameras had to want to be chosen.
    #[serde(default)]
    pub only_from: Option<String>,
    /// Cameras at once.
    pub batch: usize,
    /// So many cameras may fail.
    pub max_failures: usize,
    /// What it is doing.
    pub state: RolloutState,
    /// Why it went back or was stopped.
    pub reason: Option<String>,
    /// When it began, milliseconds since the Unix epoch.
    pub began_unix_ms: u64,
    /// When it ended.
    pub ended_unix_ms: Option<u64>,
    /// Its cameras, in the order of their turns.
    pub cameras: Vec<RolloutCamera>,
}

impl RolloutStatus {
    /// How many cameras are at a step.
    #[must_use]
    pub fn at(&self, step: RolloutStep) -> usize {
        self.cameras.iter().filter(|c| c.step == step).count()
    }

    /// How many cameras count as failed.
    #[must_use]
    pub fn failures(&self) -> usize {
        self.cameras.iter().filter(|c| c.failed).count()
    }

    /// In a line: how many cameras are at which step, and why it ended so.
    #[must_use]
    pub fn summary(&self) -> String {
        let counts = RolloutStep::ALL.iter().map(|&step| (self.at(step), step)).filter(|(n, _)| *n > 0);
        let counts: Vec<String> = counts.map(|(n, step)| format!("{n} {}", step.as_str())).collect();
        let reason = self.reason.as_ref().map(|reason| format!("; {reason}")).unwrap_or_default();
        format!("of {} cameras {}{reason}", self.cameras.len(), counts.join(", "))
    }
}
