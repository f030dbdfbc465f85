//! Who fills a slot while its guest fails again and again.
//!
//! Owns what the policy of a slot means. How state goes over to the one that stands in, and back, differs from slot to
//! slot: `slots`.

use facestream_core::event::Event;
use facestream_core::guest::OnFailure;

use super::{Filling, Guest, Slot};
use crate::error::{GuestFailure, one_line};

/// Who fills a slot.
#[derive(Debug)]
pub(crate) enum Standing {
    /// The wanted guest.
    Wanted,
    /// The built-in one, because this one fails again and again.
    StandIn(Box<Filling>),
    /// The wanted guest, tried again while the one that stood in waits in the probation.
    Probing,
    /// Nobody: given up.
    Dropped,
}

impl<G: Guest> Slot<G> {
    /// The guest that was asked for.
    pub(crate) fn wanted(&self) -> &Filling {
        match &self.standing {
            Standing::StandIn(wanted) => wanted,
            _ => &self.filling,
        }
    }

    /// The guest that another stands in for, or that was given up: what messages are marked with.
    pub(crate) fn degraded_by(&self) -> Option<&str> {
        match self.standing {
            Standing::StandIn(_) | Standing::Dropped => Some(&self.wanted().reference),
            Standing::Wanted | Standing::Probing => None,
        }
    }

    /// The breaker has opened: what the slot's policy says is done.
    pub(super) fn degrade(&mut self, reason: String, events: &mut Vec<Event>) {
        let guest = self.filling.reference.clone();
        let stand_in = match self.filling.on_failure {
            OnFailure::Restart => return,
            OnFailure::Drop => {
                self.standing = Standing::Dropped;
                None
            }
            OnFailure::Fallback => {
                // None where the host has no built-in guest for the slot: then it is restarted as by default.
                let Some(stand_in) = self.filling.stand_in.clone() else { return };
                let name = stand_in.reference.clone();
                let wanted = std::mem::replace(&mut self.filling, *stand_in);
                self.standing = Standing::StandIn(Box::new(wanted));
                self.backoff.reset();
                self.totals.begin_guest();
                Some(name)
            }
        };
        tracing::error!(camera = %self.camera, slot = %self.kind, %guest, stand_in = stand_in.as_deref().unwrap_or("nothing"), "the guest failed too often; it is no longer called");
        events.push(Event::GuestDegraded { camera: self.camera.clone(), slot: self.kind, guest, stand_in, reason });
    }

    /// A fresh instance of the wanted guest, when another stands in for it and it is time to try. `None` most of the time.
    pub(crate) fn probe(&mut self, now_ns: u64) -> Option<(Filling, G)> {
        let Standing::StandIn(wanted) = &self.standing else { return None };
        // With the one that stands in away its state cannot go over; nor may a probation be interrupted.
        if !self.breaker.probe_is_due(now_ns) || self.guest.is_none() || self.probation.is_some() {
            return None;
        }
        let wanted = (**wanted).clone();
        match wanted.start(&self.camera) {
            Ok(guest) => Some((wanted, guest)),
            Err(failure) => {
                self.probe_failed(&failure, now_ns);
                None
            }
        }
    }

    /// The wanted guest could not even take over; the one that stands in goes on.
    pub(crate) fn probe_failed(&mut self, failure: &GuestFailure, now_ns: u64) {
        self.breaker.probe_failed(now_ns);
        self.totals.failed(failure);
        self.last_error = Some(one_line(&failure.to_string(), 1024));
        tracing::warn!(camera = %self.camera, slot = %self.kind, guest = %self.wanted().reference, %failure, "the guest was tried again and still fails");
    }
}
