//! Frames a second over the last few seconds, from counters sampled once a second.

use std::collections::VecDeque;

/// Seconds of history: long enough to smooth a key-frame burst, short enough to show a stall.
const SAMPLES: usize = 5;

/// A window over a growing counter.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    samples: VecDeque<(u64, u64)>,
}

impl Rate {
    /// Adds a reading of the counter at a monotonic time in nanoseconds.
    pub(crate) fn sample(&mut self, now_ns: u64, count: u64) {
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((now_ns, count));
    }

    /// Growth a second over the window, rounded to a tenth; 0 until two samples are there.
    pub(crate) fn per_second(&self) -> f64 {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else { return 0.0 };
        let seconds = last.0.saturating_sub(first.0) as f64 / 1e9;
        if seconds <= 0.0 {
            return 0.0;
        }
        (last.1.saturating_sub(first.1) as f64 / seconds * 10.0).round() / 10.0
    }
}

#[cfg(test)]
mod tests {
    use super::Rate;

    #[test]
    fn a_steady_camera_shows_its_rate_and_a_stalled_one_falls_to_zero() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(), 0.0);
        for s in 0..8 {
            rate.sample(s * 1_000_000_000, s * 25);
        }
        assert_eq!(rate.per_second(), 25.0);
        for s in 8..14 {
            rate.sample(s * 1_000_000_000, 175);
        }
        assert_eq!(rate.per_second(), 0.0);
    }
}
