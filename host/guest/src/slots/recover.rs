//! The recovery probe: a guest that another stands in for is tried again.
//!
//! It is a swap with probation in which the guest that stands in is the one before: it takes over the state, and when it
//! fails the one that stood in goes on with it. What is due when, the slot decides.

use super::prepare::Ready;
use super::{CameraGuests, Outcome};
use crate::slot::Entry;

impl CameraGuests {
    /// Tries what is due, between two frames.
    pub(super) fn try_again(&mut self, out: &mut Outcome) {
        let now = self.now.timestamp_ns;
        // Without frames to prove itself in, one failure more would open the breaker for good.
        let entry = Entry { probation_frames: self.config().probation_frames.max(1), probe: true };
        macro_rules! probe {
            ($slot:ident, $ready:path) => {
                if let Some((filling, guest)) = self.$slot.probe(now)
                    && let Err(failure) = self.put_in(filling, $ready(guest, String::new()), entry, out)
                {
                    self.$slot.probe_failed(&failure, now);
                }
            };
        }
        probe!(tracker, Ready::Tracker);
        probe!(scorer, Ready::Scorer);
        probe!(formatter, Ready::Formatter);
    }
}
