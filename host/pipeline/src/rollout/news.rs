//! What a rollout asks for, and what it is told.

use facestream_core::CameraId;
use facestream_core::guest::RolloutState;

/// What is to be done now. A step is told as ended ([`super::Rollout::swapped`], [`super::Rollout::taken_back`]) before the next is asked
/// for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The guest is to be put into this camera's slot.
    Swap(CameraId),
    /// The guest before is to be put into it again.
    RollBack(CameraId),
    /// Nothing before there is news.
    Wait,
    /// Nothing any more.
    End,
}

/// News of a slot that the rollout has changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// The guest is in.
    PutIn {
        /// On probation.
        probation: bool,
    },
    /// It has passed its probation.
    Confirmed,
    /// It failed on probation; the guest before is back by itself.
    RolledBack(String),
    /// It failed.
    Failed(String),
    /// Another change has come after the rollout's.
    Superseded,
}

/// What came of putting the guest in.
#[derive(Debug)]
pub(crate) enum SwapEnd {
    /// It is in, instead of this digest.
    Changed(String),
    /// The slot ran just this already.
    Unchanged,
    /// The camera is not there, or not for this.
    Skip(String),
    /// The guest was refused; the slot is as it was.
    Refused(String),
    /// It is in, but not remembered.
    NotRemembered(String),
}

/// What came of putting the guest before in again.
#[derive(Debug)]
pub(crate) enum BackEnd {
    /// It is in; perhaps with a word on what is not as it should be.
    Back(Option<String>),
    /// There is nothing to take back any more.
    Skip(String),
    /// It could not be put in.
    Failed(String),
}

/// Why a rollout cannot be stopped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoStop {
    /// It has ended.
    Over(RolloutState),
    /// It goes back, which comes to its end.
    GoesBack,
}
