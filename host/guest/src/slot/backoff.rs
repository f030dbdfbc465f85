//! When a failed guest may be tried again, on the frame clock.

use std::collections::VecDeque;

use crate::config::{BreakerConfig, RestartConfig};

const MS: u64 = 1_000_000;

/// Waits between restarts.
#[derive(Debug)]
pub(crate) struct Backoff {
    config: RestartConfig,
    streak: u32,
    last_failure_ns: Option<u64>,
    next_try_ns: u64,
}

impl Backoff {
    pub(crate) fn new(config: &RestartConfig) -> Self {
        Self { config: config.clone(), streak: 0, last_failure_ns: None, next_try_ns: 0 }
    }

    pub(crate) fn failed(&mut self, now_ns: u64) {
        let stable = self.config.stable_after_ms.saturating_mul(MS);
        if self.last_failure_ns.is_none_or(|last| now_ns.saturating_sub(last) >= stable) {
            self.streak = 0;
        }
        let wait_ms = match self.streak {
            0 => 0,
            n => self.config.backoff_ms.saturating_mul(1 << (n - 1).min(32)).min(self.config.max_backoff_ms),
        };
        self.streak = self.streak.saturating_add(1);
        self.last_failure_ns = Some(now_ns);
        self.next_try_ns = now_ns.saturating_add(wait_ms.saturating_mul(MS));
    }

    pub(crate) fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.next_try_ns
    }

    /// As if nothing had failed.
    pub(crate) fn reset(&mut self) {
        (self.streak, self.last_failure_ns, self.next_try_ns) = (0, None, 0);
    }
}

/// Opens when a guest fails too often. Open, it says when the guest may be tried again (half-open).
#[derive(Debug)]
pub(crate) struct Breaker {
    config: BreakerConfig,
    /// Frame clock of the latest failures, at most as many as open it.
    failures: VecDeque<u64>,
    open: bool,
    wait_ms: u64,
    probe_at_ns: u64,
}

impl Breaker {
    pub(crate) fn new(config: &BreakerConfig) -> Self {
        let wait_ms = config.probe_after_ms;
        Self { config: config.clone(), failures: VecDeque::new(), open: false, wait_ms, probe_at_ns: 0 }
    }

    /// Counts a failure of the wanted guest; true when this one opens the breaker.
    pub(crate) fn failed(&mut self, now_ns: u64) -> bool {
        self.failures.push_back(now_ns);
        let most = usize::try_from(self.config.failures).unwrap_or(usize::MAX);
        while self.failures.len() > most {
            self.failures.pop_front();
        }
        let window = self.config.window_ms.saturating_mul(MS);
        let within = self.failures.front().is_some_and(|&first| now_ns.saturating_sub(first) <= window);
        if self.open || self.failures.len() < most || !within {
            return false;
        }
        self.reopen(now_ns);
        true
    }

    /// Opens it, as after a failure too many.
    pub(crate) fn reopen(&mut self, now_ns: u64) {
        self.open = true;
        self.wait_ms = self.config.probe_after_ms;
        self.probe_at_ns = now_ns.saturating_add(self.wait_ms.saturating_mul(MS));
    }

    /// It was tried and failed: the next try is farther away.
    pub(crate) fn probe_failed(&mut self, now_ns: u64) {
        self.wait_ms = self.wait_ms.saturating_mul(2).clamp(1, self.config.max_probe_after_ms.max(1));
        self.probe_at_ns = now_ns.saturating_add(self.wait_ms.saturating_mul(MS));
    }

    /// Whether the wanted guest may be tried again.
    pub(crate) fn probe_is_due(&self, now_ns: u64) -> bool {
        self.open && now_ns >= self.probe_at_ns
    }

    /// Open, and so many failures lately that it would open again: under `restart`, where nobody tries on purpose, it
    /// closes by itself when a window has passed without a failure.
    pub(crate) fn is_open(&self, now_ns: u64) -> bool {
        let window = self.config.window_ms.saturating_mul(MS);
        self.open && self.failures.back().is_some_and(|&last| now_ns.saturating_sub(last) <= window)
    }

    pub(crate) fn reset(&mut self) {
        self.failures.clear();
        self.open = false;
        self.wait_ms = self.config.probe_after_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_first_restart_is_at_once_and_later_ones_wait_longer_and_longer() {
        let config = RestartConfig { backoff_ms: 1_000, max_backoff_ms: 3_000, stable_after_ms: 60_000 };
        let mut backoff = Backoff::new(&config);
        let mut now = 10 * SECOND;
        for wait in [0, 1, 2, 3, 3] {
            backoff.failed(now);
            assert_eq!(backoff.next_try_ns, now + wait * SECOND);
            now = backoff.next_try_ns;
        }
        backoff.failed(now + 60 * SECOND);
        assert_eq!(backoff.next_try_ns, now + 60 * SECOND, "it was stable in between");
    }

    #[test]
    fn a_breaker_opens_at_so_many_failures_within_its_window_and_not_else() {
        let config =
            BreakerConfig { failures: 3, window_ms: 10_000, probe_after_ms: 5_000, max_probe_after_ms: 15_000 };
        let mut breaker = Breaker::new(&config);
        let opened: Vec<bool> = [0, 1, 12, 13, 21].map(|at| breaker.failed(at * SECOND)).to_vec();
        assert_eq!(opened, [false, false, false, false, true], "12, 13 and 21 lie within ten seconds");
        assert!(!breaker.failed(22 * SECOND), "it is open already");
        assert!(!breaker.probe_is_due(25 * SECOND) && breaker.probe_is_due(26 * SECOND));
        for wait in [10, 15, 15] {
            breaker.probe_failed(100 * SECOND);
            assert!(!breaker.probe_is_due((99 + wait) * SECOND) && breaker.probe_is_due((100 + wait) * SECOND));
        }
        breaker.reset();
        assert!(!breaker.probe_is_due(1000 * SECOND) && !breaker.failed(1001 * SECOND));
    }
}
