//! When a connected camera counts as stuck.
//!
//! Owns the rule: it looks at decoded frames, not at sockets. A camera that sends packets which no decoder understands
//! is as lost as one that sends none. Must not read clocks.

use std::time::Duration;

use crate::config::IngestConfig;

/// Of one session.
#[derive(Debug)]
pub(crate) struct Watchdog {
    started_ns: u64,
    first: Duration,
    later: Duration,
}

/// What the watchdog says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Look again after this long.
    Fine(Duration),
    /// No decoded frame for this long.
    Stuck(Duration),
}

impl Watchdog {
    pub(crate) fn new(config: &IngestConfig, keyframes_only: bool, started_ns: u64) -> Self {
        let ms = Duration::from_millis;
        let (first, later) = if keyframes_only {
            let longest = config.keyframe_watchdog_ms;
            (ms(longest.max(config.first_frame_timeout_ms)), ms(longest))
        } else {
            (ms(config.first_frame_timeout_ms), ms(config.watchdog_ms))
        };
        Self { started_ns, first, later }
    }

    /// Whether a frame was decoded since the session began. One that was still in the decoder's queue counts: it shows
    /// that the decoder works, and the next one is due all the same.
    pub(crate) fn decoded(&self, last_decoded_ns: Option<u64>) -> bool {
        last_decoded_ns.is_some_and(|t| t > self.started_ns)
    }

    pub(crate) fn look(&self, last_decoded_ns: Option<u64>, now_ns: u64) -> Verdict {
        let (since, allowed) = match last_decoded_ns {
            Some(at) if at > self.started_ns => (at, self.later),
            _ => (self.started_ns, self.first),
        };
        let waited = Duration::from_nanos(now_ns.saturating_sub(since));
        if waited >= allowed { Verdict::Stuck(waited) } else { Verdict::Fine(allowed - waited) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn the_rule() {
        let dog = Watchdog::new(&IngestConfig::default(), false, 100 * S);
        let fine = |s| Verdict::Fine(Duration::from_secs(s));
        let stuck = |s| Verdict::Stuck(Duration::from_secs(s));
        // latest decoded frame, now, verdict
        let table = [
            (None, 100, fine(20)),
            (None, 119, fine(1)),
            (None, 120, stuck(20)),
            // A frame of an earlier session is no sign of life of this one.
            (Some(99), 119, fine(1)),
            (Some(99), 120, stuck(20)),
            (Some(101), 102, fine(9)),
            (Some(101), 110, fine(1)),
            (Some(101), 111, stuck(10)),
            (Some(500), 505, fine(5)),
            // The decoder's thread may read the clock after we did.
            (Some(500), 499, fine(10)),
        ];
        for (decoded, now, verdict) in table {
            assert_eq!(dog.look(decoded.map(|s| s * S), now * S), verdict, "{decoded:?} at {now}");
        }
    }

    #[test]
    fn key_frames_may_be_far_apart() {
        let dog = Watchdog::new(&IngestConfig::default(), true, 0);
        assert_eq!(dog.look(None, 59 * S), Verdict::Fine(Duration::from_secs(1)));
        assert_eq!(dog.look(Some(S), 61 * S), Verdict::Stuck(Duration::from_secs(60)));
    }
}
