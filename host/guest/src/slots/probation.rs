//! Back to the guest before, with its state, when a new one fails on probation.
//!
//! The old instance is as it was at the swap. What it gets before it goes on is a compromise between two aims: nothing
//! that the failed guest says in private is believed, and nothing of the frames since is lost.
//!
//! - Tracker: when no frame has passed since the swap it goes on as it is. Else it gets the live tracks from the host's
//!   own book, in neutral form: no id changes, none is used again, and no track ends twice. Its own picture of each
//!   track's motion begins anew from the latest box and velocity.
//! - Scorer: its own private state of the swap, and the shots that the failed guest held after its last good frame (saved
//!   after every frame of a probation, checked by the host). No shot that was given up since is given up again.
//! - Formatter: there is no neutral form of what it gathers. When both write the same schema the old guest takes the
//!   failed one's state of the last good frame: with its own of the swap it would send again what was sent since. Else
//!   it had sent what it had gathered at the swap, and goes on with nothing.
//!
//! The call that failed is made again with the old guest, so that no frame and no event is lost.

use super::{CameraGuests, Outcome};
use crate::convert::Snapshot;
use crate::error::GuestFailure;
use crate::slot::RolledBack;

impl CameraGuests {
    /// Counts a frame for every guest on probation.
    pub(super) fn frame_passed(&mut self, out: &mut Outcome) {
        self.tracker.frame_passed(&mut out.events);
        self.scorer.frame_passed(&mut out.events);
        self.formatter.frame_passed(&mut out.events);
    }

    /// False when there is nothing to go back to.
    pub(super) fn roll_back_tracker(&mut self, out: &mut Outcome) -> bool {
        let Some(RolledBack { stale, .. }) = self.tracker.roll_back(self.now.timestamp_ns, &mut out.events) else {
            return false;
        };
        self.ledger.new_instance();
        let live = self.ledger.live_for_guest();
        if stale
            && let Some(old) = self.tracker.running()
            && let Err(failure) = old.restore(&Snapshot::default(), &live)
        {
            // Tracks that have ended since must not come back: a fresh instance takes over the live ones, as after a
            // failure.
            tracing::warn!(camera = %self.factory.camera(), guest = %self.tracker.filling.reference, %failure, "the tracker that was rolled back to did not take over the live tracks; it is made anew");
            self.tracker.discard();
        }
        true
    }

    /// False when there is nothing to go back to.
    pub(super) fn roll_back_scorer(&mut self, out: &mut Outcome) -> bool {
        let Some(RolledBack { saved, .. }) = self.scorer.roll_back(self.now.timestamp_ns, &mut out.events) else {
            return false;
        };
        if let Some((state, _)) = &mut self.scorer_saved {
            *state = saved.unwrap_or_default();
        }
        // It gave its shots away at the swap, so it gets them back whether frames have passed or not.
        let revived = self.revive_scorer();
        if let Err(failure) = revived {
            tracing::warn!(camera = %self.factory.camera(), guest = %self.scorer.filling.reference, %failure, "the scorer that was rolled back to did not take over the held shots; it is made anew");
            self.scorer.discard();
        }
        true
    }

    /// False when there is nothing to go back to.
    pub(super) fn roll_back_formatter(&mut self, out: &mut Outcome) -> bool {
        let now = self.now.timestamp_ns;
        let Some(RolledBack { saved, stale }) = self.formatter.roll_back(now, &mut out.events) else { return false };
        let gathered = match (self.formatter_saved.take(), saved) {
            (Some(new), Some(old)) if new.schema == old.schema => Some(new),
            _ => None,
        };
        if let Some(old) = self.formatter.running() {
            self.interest = old.interest();
            if stale && let Some(state) = &gathered {
                match old.restore(state) {
                    Ok(()) | Err(GuestFailure::Refused(_)) => {}
                    Err(failure) => {
                        tracing::warn!(camera = %self.factory.camera(), guest = %self.formatter.filling.reference, %failure, "the formatter that was rolled back to did not take over what was gathered; it is made anew");
                        self.formatter.discard();
                        return true;
                    }
                }
            }
        }
        self.formatter_saved = gathered;
        true
    }
}
