//! The part of the seam that brings a guest to many cameras.
//!
//! Owns the trait [`Rollouts`]. The words are core's.

use facestream_core::guest::{RolloutRequest, RolloutStatus};

use crate::control::Answer;

/// What the API asks of the host about rollouts.
pub trait Rollouts: Send + Sync + 'static {
    /// Begins a rollout and returns; it goes on by itself.
    ///
    /// # Errors
    /// `UnknownGuest`, `GuestRefused`, `Invalid` (limits, cameras that do not run, no camera that fits), `RolloutConflict`
    /// while another is under way for the slot, `Unavailable`.
    fn start_rollout(&self, request: RolloutRequest) -> Answer<'_, RolloutStatus>;

    /// Those under way and the latest that have ended, the newest first.
    fn rollouts(&self) -> Vec<RolloutStatus>;

    /// One of them.
    fn rollout(&self, id: u64) -> Option<RolloutStatus>;

    /// Ends one after the step that is being made, for `who`. With `roll_back` what it has changed goes back.
    ///
    /// # Errors
    /// `UnknownRollout`, `RolloutConflict` when it has ended or rolls back anyway.
    fn stop_rollout<'a>(&'a self, id: u64, roll_back: bool, who: &'a str) -> Answer<'a, RolloutStatus>;
}
