//! What was changed in a slot, by whom, and what became of it.

use serde::{Deserialize, Serialize};

/// A guest as it was asked for, and the component that this meant then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestRef {
    /// `name`, `name@version` or `sha256:<hex>`.
    pub guest: String,
    /// `sha256:<hex>` of the component.
    pub digest: String,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// Another guest, or a new instance of the same one.
    Swap,
    /// New settings for the instance that runs.
    Reconfigure,
    /// Back to the guest before.
    Rollback,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeOutcome {
    /// Done; there was no probation.
    Done,
    /// On probation at present.
    Probation,
    /// It passed its probation.
    Confirmed,
    /// It failed on probation; the guest before it is back.
    RolledBack,
    /// Another change came before its probation was over.
    Superseded,
    /// It was not put in: it did not start, failed its self-test or did not take over the state.
    Refused,
    /// The host ended before its probation was over.
    Unknown,
}

impl ChangeOutcome {
    /// The name used in REST.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Probation => "probation",
            Self::Confirmed => "confirmed",
            Self::RolledBack => "rolled-back",
            Self::Superseded => "superseded",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

impl ChangeKind {
    /// The name used in REST.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Swap => "swap",
            Self::Reconfigure => "reconfigure",
            Self::Rollback => "rollback",
        }
    }
}

/// One entry of a slot's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotChange {
    /// When, milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// Name of the token that asked for it.
    pub who: String,
    /// What was asked for.
    pub change: ChangeKind,
    /// What ran before.
    pub from: GuestRef,
    /// What was to run. Without a digest when the store has nothing of that name.
    pub to: GuestRef,
    /// What state came along: `private`, `neutral` or `none`; nothing when it was refused.
    pub state: Option<String>,
    /// How long the camera stood still for it, microseconds; nothing when it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_us: Option<u64>,
    /// What became of it.
    pub outcome: ChangeOutcome,
    /// Why it was refused or taken back.
    pub reason: Option<String>,
    /// The rollout that it was a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<u64>,
}
