//! The numbers of a slot.

use std::collections::BTreeMap;

use facestream_core::guest::{BudgetUse, SlotStatus, SwapCounts};

use super::{Guest, Slot, Standing};
use crate::error::GuestFailure;
use crate::instance::CallStats;

/// Of the guest that runs now, since it took the slot: numbers of two guests are not mixed.
#[derive(Clone, Debug, Default)]
struct OfGuest {
    calls: u64,
    nanoseconds: u64,
    failures: u64,
    busiest: BudgetUse,
}

/// Totals since the camera started, of instances that are gone.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    calls: u64,
    cpu_nanoseconds: u64,
    guest: OfGuest,
    pub(super) failures: u64,
    by_kind: [u64; GuestFailure::KINDS.len()],
    pub(super) restarts: u64,
    pub(super) recycles: u64,
    pub(super) swaps: SwapCounts,
}

impl Totals {
    pub(super) fn add(&mut self, stats: &CallStats) {
        self.calls += stats.calls;
        self.guest.calls += stats.calls;
        self.guest.nanoseconds = self.guest.nanoseconds.saturating_add(stats.nanoseconds);
        self.cpu_nanoseconds = self.cpu_nanoseconds.saturating_add(stats.cpu_nanoseconds);
    }

    pub(super) fn busiest(&mut self, other: BudgetUse) {
        let busiest = &mut self.guest.busiest;
        *busiest = BudgetUse {
            cpu_us: busiest.cpu_us.max(other.cpu_us),
            host_calls: busiest.host_calls.max(other.host_calls),
            log_bytes: busiest.log_bytes.max(other.log_bytes),
            crop_bytes: busiest.crop_bytes.max(other.crop_bytes),
        };
    }

    /// Another guest has the slot from now on.
    pub(super) fn begin_guest(&mut self) {
        self.guest = OfGuest::default();
    }

    pub(super) fn failed(&mut self, failure: &GuestFailure) {
        self.failures += 1;
        self.guest.failures += 1;
        self.by_kind[failure.index()] += 1;
    }
}

impl<G: Guest> Slot<G> {
    pub(crate) fn status(&self) -> SlotStatus {
        let mut totals = self.totals.clone();
        if let Some(guest) = &self.guest {
            totals.add(&guest.sandbox().stats);
            totals.busiest(guest.sandbox().busiest_second());
        }
        let OfGuest { calls, nanoseconds, failures, busiest } = totals.guest;
        let state = match (&self.standing, &self.guest) {
            (Standing::Dropped, _) => "dropped",
            (_, None) => "restarting",
            (Standing::StandIn(_), _) => "fallback",
            _ if self.probation.is_some() => "probation",
            _ => "running",
        };
        let breaker = match self.standing {
            Standing::StandIn(_) | Standing::Dropped => "open",
            Standing::Probing => "half-open",
            Standing::Wanted if self.breaker.is_open(self.now_ns) => "open",
            Standing::Wanted => "closed",
        };
        let waiting = self.probation.as_ref().is_some_and(|p| p.old.is_some());
        let by_kind: BTreeMap<_, _> =
            GuestFailure::KINDS.into_iter().zip(totals.by_kind).filter(|(_, n)| *n > 0).collect();
        SlotStatus {
            slot: self.kind,
            guest: self.filling.reference.clone(),
            digest: self.filling.component.digest().to_string(),
            wanted: self.wanted().name(),
            config: self.filling.config.clone(),
            limits: self.filling.limits.all(),
            on_failure: self.wanted().on_failure,
            state,
            probation: self.probation.as_ref().map(super::Probation::status),
            breaker,
            calls: totals.calls,
            guest_calls: calls,
            guest_failures: failures,
            mean_call_us: if calls == 0 { 0.0 } else { nanoseconds as f64 / calls as f64 / 1000.0 },
            cpu_us: totals.cpu_nanoseconds / 1000,
            failures: totals.failures,
            failures_by_kind: by_kind,
            restarts: totals.restarts,
            recycles: totals.recycles,
            swaps: totals.swaps,
            memory_bytes: self.guest.as_ref().map_or(0, |g| g.sandbox().memory_bytes()),
            instances: u32::from(self.guest.is_some()) + u32::from(waiting),
            busiest_second: busiest,
            last_error: self.last_error.clone(),
        }
    }
}
