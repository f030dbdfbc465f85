//! What a guest may use within a second, all its calls together.
//!
//! Owns the count and the second, which is one of the frames' clock: a file gives the same answer at any speed, but for
//! processor time, which no two runs have alike. Must not know what was done for it.

use facestream_core::guest::BudgetUse;

use crate::config::GuestLimits;
use crate::error::GuestFailure;

const SECOND_NS: u64 = 1_000_000_000;

/// The budgets of one instance.
#[derive(Debug)]
pub(crate) struct Budgets {
    limit: BudgetUse,
    used: BudgetUse,
    busiest: BudgetUse,
    /// When the second began, on the frames' clock; `None` before the first call.
    began_ns: Option<u64>,
    over: Option<GuestFailure>,
}

impl Budgets {
    pub(crate) fn new(limits: &GuestLimits) -> Self {
        let limit = BudgetUse {
            cpu_us: u64::from(limits.max_cpu_ms_per_s) * 1000,
            host_calls: limits.max_host_calls_per_s.into(),
            log_bytes: limits.max_log_bytes_per_s.into(),
            crop_bytes: limits.max_crop_bytes_per_s,
        };
        Self { limit, used: BudgetUse::default(), busiest: BudgetUse::default(), began_ns: None, over: None }
    }

    /// A call begins: a new second may have begun, too. Seconds follow each other without a gap as long as calls come,
    /// and begin anew with the first call after a pause.
    pub(crate) fn begin(&mut self, now_ns: u64) {
        let began = *self.began_ns.get_or_insert(now_ns);
        let passed = now_ns.saturating_sub(began);
        if passed >= SECOND_NS {
            self.used = BudgetUse::default();
            self.began_ns = Some(if passed < 2 * SECOND_NS { began + SECOND_NS } else { now_ns });
        }
    }

    /// The second and what was used in it go on in another instance of the same guest.
    pub(crate) fn inherit(&mut self, from: &Self) {
        (self.used, self.busiest, self.began_ns) = (from.used, from.busiest, from.began_ns);
    }

    /// The guest has called one of the host's functions.
    pub(crate) fn host_call(&mut self) -> wasmtime::Result<()> {
        self.used.host_calls += 1;
        self.busiest.host_calls = self.busiest.host_calls.max(self.used.host_calls);
        self.check(self.used.host_calls, self.limit.host_calls, "calls of the host's functions", "max_host_calls_per_s")
    }

    /// It has handed over text for the log.
    pub(crate) fn log(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.used.log_bytes = self.used.log_bytes.saturating_add(bytes as u64);
        self.busiest.log_bytes = self.busiest.log_bytes.max(self.used.log_bytes);
        self.check(self.used.log_bytes, self.limit.log_bytes, "bytes of log text", "max_log_bytes_per_s")
    }

    /// It has asked for a picture.
    pub(crate) fn crop(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.used.crop_bytes = self.used.crop_bytes.saturating_add(bytes as u64);
        self.busiest.crop_bytes = self.busiest.crop_bytes.max(self.used.crop_bytes);
        self.check(self.used.crop_bytes, self.limit.crop_bytes, "bytes of pictures", "max_crop_bytes_per_s")
    }

    /// A call has ended after so much processor time.
    pub(crate) fn cpu(&mut self, microseconds: u64) {
        self.used.cpu_us = self.used.cpu_us.saturating_add(microseconds);
        self.busiest.cpu_us = self.busiest.cpu_us.max(self.used.cpu_us);
        if self.used.cpu_us > self.limit.cpu_us {
            let limit = self.limit.cpu_us / 1000;
            self.exceed("milliseconds of processor time", "max_cpu_ms_per_s", limit);
        }
    }

    /// The failure, when a budget is used up.
    pub(crate) fn over(&self) -> Option<GuestFailure> {
        self.over.clone()
    }

    /// The most that was used within a second.
    pub(crate) fn busiest(&self) -> BudgetUse {
        self.busiest
    }

    fn check(&mut self, used: u64, limit: u64, what: &'static str, key: &'static str) -> wasmtime::Result<()> {
        if used <= limit {
            return Ok(());
        }
        self.exceed(what, key, limit);
        // Ends the call; what is told is the failure kept here.
        Err(wasmtime::Error::msg(what))
    }

    fn exceed(&mut self, what: &'static str, key: &'static str, limit: u64) {
        self.over.get_or_insert(GuestFailure::Budget { what, key, limit });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budgets() -> Budgets {
        let limits = GuestLimits {
            max_cpu_ms_per_s: 10,
            max_host_calls_per_s: 3,
            max_log_bytes_per_s: 100,
            max_crop_bytes_per_s: 1000,
            ..GuestLimits::default()
        };
        Budgets::new(&limits)
    }

    #[test]
    fn a_second_is_one_of_the_frames_and_the_next_one_starts_from_nothing() {
        let mut b = budgets();
        for frame in 0..100 {
            b.begin(7 + frame * SECOND_NS / 3);
            b.host_call().unwrap();
        }
        assert_eq!((b.over(), b.busiest().host_calls), (None, 3));
        b.host_call().unwrap();
        b.host_call().unwrap();
        assert!(b.host_call().is_err(), "the second that began with frame 99 has had three");
        assert!(b.over().unwrap().to_string().contains("max_host_calls_per_s"));
    }

    #[test]
    fn each_budget_holds_up_to_its_limit_and_is_named_above() {
        type Use = fn(&mut Budgets) -> bool;
        let cases: [(&str, Use, Use); 3] = [
            ("max_log_bytes_per_s", |b| b.log(100).is_ok(), |b| b.log(1).is_ok()),
            ("max_crop_bytes_per_s", |b| b.crop(1000).is_ok(), |b| b.crop(1).is_ok()),
            (
                "max_cpu_ms_per_s",
                |b| {
                    b.cpu(10_000);
                    b.over().is_none()
                },
                |b| {
                    b.cpu(1);
                    b.over().is_none()
                },
            ),
        ];
        for (name, fits, is_too_much) in cases {
            let mut b = budgets();
            b.begin(0);
            assert!(fits(&mut b), "{name}");
            assert!(!is_too_much(&mut b), "{name}");
            let failure = b.over().unwrap();
            assert!(failure.to_string().contains(name), "{failure}");
            assert_eq!(failure.kind(), "budget");
        }
    }
}
