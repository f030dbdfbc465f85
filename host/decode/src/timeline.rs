//! One clock for a camera's frames that never goes back: within a session, across sessions, whatever the stream says.
//!
//! Owns the repair of timestamps. Knows no decoder.

/// A step back by more than this is a clock that was set anew, not pictures out of order.
const DISORDER_NS: u64 = 2_000_000_000;

/// Turns the stream's timestamps into strictly increasing ones.
///
/// Timestamps that already increase pass unchanged. One that does not is moved to a nanosecond after its predecessor
/// (a repeated or slightly early timestamp), or, when the stream's clock was set back or a new session starts lower,
/// everything from there on is shifted by a constant so that distances are kept.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    last: Option<Last>,
    offset: u64,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    session: u64,
    stamped: u64,
    received: u64,
}

impl Timeline {
    /// The timestamp to give to the next frame: `timestamp_ns` of the stream, `received_ns` on the host's monotonic
    /// clock (it measures the gap where the stream's clock cannot).
    pub fn stamp(&mut self, session: u64, timestamp_ns: u64, received_ns: u64) -> u64 {
        let mut stamped = timestamp_ns.saturating_add(self.offset);
        if let Some(last) = self.last
            && stamped <= last.stamped
        {
            let next = last.stamped.saturating_add(1);
            if session != last.session || last.stamped - stamped > DISORDER_NS {
                let gap = received_ns.saturating_sub(last.received).max(1);
                let target = last.stamped.saturating_add(gap);
                self.offset = target.saturating_sub(timestamp_ns);
                stamped = target;
            } else {
                stamped = next;
            }
        }
        self.last = Some(Last { session, stamped, received: received_ns });
        stamped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn increasing_timestamps_pass_unchanged() {
        let mut t = Timeline::default();
        assert_eq!([t.stamp(0, 0, 0), t.stamp(0, 40, 50), t.stamp(1, 1000, 900)], [0, 40, 1000]);
    }

    #[test]
    fn repeated_and_slightly_early_ones_move_by_a_nanosecond() {
        let mut t = Timeline::default();
        assert_eq!(
            [t.stamp(0, 100, 0), t.stamp(0, 100, 1), t.stamp(0, 90, 2), t.stamp(0, 140, 3)],
            [100, 101, 102, 140]
        );
    }

    #[test]
    fn a_session_that_starts_lower_continues_after_the_gap_that_the_host_saw() {
        let mut t = Timeline::default();
        assert_eq!(t.stamp(0, 5_000_000_000, 1_000), 5_000_000_000);
        assert_eq!(t.stamp(1, 0, 3_000_001_000), 8_000_000_000);
        assert_eq!(t.stamp(1, 40_000_000, 3_040_001_000), 8_040_000_000, "distances within the session are kept");
    }

    #[test]
    fn a_clock_set_back_within_a_session_is_shifted_not_squeezed() {
        let mut t = Timeline::default();
        t.stamp(0, 60_000_000_000, 0);
        assert_eq!(t.stamp(0, 0, 40_000_000), 60_040_000_000);
        assert_eq!(t.stamp(0, 40_000_000, 80_000_000), 60_080_000_000);
    }

    #[test]
    fn strictly_increasing_over_any_input() {
        let mut t = Timeline::default();
        let mut x = 0x9e37_79b9_7f4a_7c15_u64;
        let mut previous = None;
        for i in 0..10_000_u64 {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            let now = t.stamp(i / 1000, x % 100_000_000_000, x % 7_000_000);
            assert!(previous.is_none_or(|p| now > p));
            previous = Some(now);
        }
    }
}
