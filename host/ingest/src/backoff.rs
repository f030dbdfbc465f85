//! How long to wait before the next try.
//!
//! Owns the sequence. Waiting itself is the runner's business.

use std::fmt;
use std::time::Duration;

use rand::Rng as _;

/// Where chance comes from, so that tests can do without it.
pub trait Jitter: Send + Sync + fmt::Debug {
    /// Evenly distributed in [0, 1).
    fn unit(&self) -> f64;
}

/// The thread's random number generator.
#[derive(Debug, Default)]
pub struct SystemJitter;

impl Jitter for SystemJitter {
    fn unit(&self) -> f64 {
        rand::rng().random()
    }
}

/// Exponential waits with jitter: for the n-th failure in a row evenly between `min · 2^(n-1)` and `min · 2^n`, once
/// that reaches `max` evenly in its upper half. All waits are within `min` and `max`; half of every wait is chance, so
/// that cameras lost together do not come back together ("Exponential backoff and jitter", AWS Architecture Blog, 2015,
/// calls it equal jitter).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The shortest wait.
    pub min: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Backoff {
    /// The wait after `failures` failures in a row; 0 (frames came until now) is like 1. `unit` is chance in [0, 1).
    #[must_use]
    pub fn delay(&self, failures: u32, unit: f64) -> Duration {
        // 2^32 of even a millisecond is far above any `max`, so the exponent may stop there.
        let ceiling = self.min.saturating_mul(2u32.saturating_pow(failures.clamp(1, 31))).min(self.max);
        let floor = (ceiling / 2).max(self.min).min(ceiling);
        floor + (ceiling - floor).mul_f64(unit.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence() {
        let backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(30) };
        // failures, shortest, longest (seconds)
        let table = [
            (0, 1.0, 2.0),
            (1, 1.0, 2.0),
            (2, 2.0, 4.0),
            (3, 4.0, 8.0),
            (4, 8.0, 16.0),
            (5, 15.0, 30.0),
            (6, 15.0, 30.0),
            (1_000_000, 15.0, 30.0),
            (u32::MAX, 15.0, 30.0),
        ];
        for (failures, shortest, longest) in table {
            assert_eq!(backoff.delay(failures, 0.0).as_secs_f64(), shortest, "{failures}");
            assert_eq!(backoff.delay(failures, 1.0).as_secs_f64(), longest, "{failures}");
            let middle = (shortest + longest) / 2.0;
            assert!((backoff.delay(failures, 0.5).as_secs_f64() - middle).abs() < 1e-6, "{failures}");
        }
    }

    #[test]
    fn equal_limits_and_odd_chances_stay_within() {
        let backoff = Backoff { min: Duration::from_secs(3), max: Duration::from_secs(3) };
        for failures in 0..50 {
            for unit in [-1.0, 0.0, 0.3, 1.0, 7.0] {
                assert_eq!(backoff.delay(failures, unit), Duration::from_secs(3));
            }
        }
    }

    #[test]
    fn the_systems_chance_is_a_unit() {
        let units: Vec<f64> = (0..1_000).map(|_| SystemJitter.unit()).collect();
        assert!(units.iter().all(|u| (0.0..1.0).contains(u)));
        assert!(units.iter().any(|&u| u < 0.5) && units.iter().any(|&u| u >= 0.5));
    }
}
