//! The last seconds of one instance: its calls since a point from which they can be replayed.
//!
//! Owns what is kept and what is let go. A ring begins at the instance's first call or at a `save`; it is cut at a
//! `save`, so that what is left can always be replayed, as long as the guest gives its state. It lives and ends with its
//! instance, on the camera's worker thread, and holds no lock.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::call::{Answer, Call, RecordedCall};
use crate::config::RecorderConfig;

/// State of a guest that was handed picture bytes is kept up to so many bytes all the same: no picture fits.
pub(crate) const HARMLESS_STATE_BYTES: usize = 64;

/// Where a recording begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// At the first call of a fresh instance.
    Fresh,
    /// At a `save`, whose answer a fresh instance is given.
    Snapshot,
    /// In between: the state before it is not known, so a replay may differ from the first call on.
    Midway,
}

/// The ring of one instance.
#[derive(Debug)]
pub(crate) struct Ring {
    window_ns: u64,
    max_bytes: u64,
    calls: VecDeque<Kept>,
    bytes: u64,
    /// The guest's clocks have begun.
    working: bool,
    /// How many calls were let go: the number of the first one that is kept.
    first: u64,
    /// Numbers of the calls that a replay can begin at.
    checkpoints: VecDeque<u64>,
    start: Start,
    /// Settings that a replay begins with: those in force before the first call that is kept, or given by it.
    config: String,
    /// Everything goes here too while somebody looks on, pictures included.
    pub(crate) feed: Option<Vec<Arc<RecordedCall>>>,
}

/// A call in the ring.
#[derive(Debug)]
struct Kept {
    call: Arc<RecordedCall>,
    bytes: usize,
    /// When, for what is kept how long. A guest is made, configured and tried with its clocks at nothing: what was called then is
    /// as young as its first call in a slot, or its beginning would be let go at once.
    at_ns: u64,
}

/// A copy of a ring; the calls are shared.
#[derive(Clone, Debug)]
pub(crate) struct RingCopy {
    pub(crate) start: Start,
    pub(crate) config: String,
    pub(crate) calls: Vec<Arc<RecordedCall>>,
}

impl Ring {
    pub(crate) fn new(config: &RecorderConfig) -> Self {
        Self {
            window_ns: u64::from(config.seconds).saturating_mul(1_000_000_000),
            max_bytes: if config.seconds == 0 { 0 } else { config.max_bytes },
            calls: VecDeque::new(),
            bytes: 0,
            working: false,
            first: 0,
            checkpoints: VecDeque::new(),
            start: Start::Fresh,
            config: "{}".to_owned(),
            feed: None,
        }
    }

    /// Whether calls are worth noting at all.
    pub(crate) fn wants(&self) -> bool {
        self.max_bytes > 0 || self.feed.is_some()
    }

    /// Bytes kept alive.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Tracks of the latest answer.
    pub(crate) fn latest_tracks(&self) -> Vec<facestream_core::Track> {
        let latest = self.calls.iter().rev().find_map(|kept| match &kept.call.answer {
            Answer::Tracks { tracks, .. } => Some(tracks.clone()),
            _ => None,
        });
        latest.unwrap_or_default()
    }

    /// Whether it is time for a point that a replay can begin at: two of them cover a window.
    pub(crate) fn checkpoint_due(&self, now_ns: u64) -> bool {
        let latest = self.checkpoints.back().and_then(|&n| self.at(n));
        let since = latest.or(self.calls.front()).map_or(now_ns, |kept| kept.at_ns);
        self.max_bytes > 0 && now_ns.saturating_sub(since) >= self.window_ns / 2
    }

    pub(crate) fn push(&mut self, call: RecordedCall) {
        let call = Arc::new(call);
        if let Some(feed) = &mut self.feed {
            feed.push(Arc::clone(&call));
        }
        if self.max_bytes == 0 {
            return;
        }
        // Of a fresh instance the first call is what gives it its settings: a replay begins with them.
        if let Call::Configure { config } = &call.call
            && self.first == 0
            && self.calls.is_empty()
        {
            self.config.clone_from(config);
        }
        let resumable = matches!(&call.answer, Answer::State { state, .. } if state.data.is_kept());
        if resumable {
            self.checkpoints.push_back(self.first + self.calls.len() as u64);
        }
        let (at_ns, bytes) = (call.time_ns, call.bytes());
        if !self.working && at_ns > 0 {
            self.working = true;
            self.calls.iter_mut().for_each(|kept| kept.at_ns = at_ns);
        }
        self.bytes += bytes as u64;
        self.calls.push_back(Kept { call, bytes, at_ns });
        self.trim(at_ns);
    }

    fn at(&self, number: u64) -> Option<&Kept> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.calls.get(at)
    }

    fn trim(&mut self, now_ns: u64) {
        let since = if self.working { now_ns.checked_sub(self.window_ns) } else { None };
        // The latest point that still covers the window.
        let old = |ring: &Self, n: &u64| ring.at(*n).is_some_and(|kept| Some(kept.at_ns) <= since);
        if let Some(&n) = self.checkpoints.iter().take_while(|&n| old(self, n)).last() {
            self.cut_to(n, Start::Snapshot);
        }
        let since = since.unwrap_or(0);
        while self.bytes > self.max_bytes {
            match self.checkpoints.iter().copied().find(|&n| n > self.first) {
                Some(n) => self.cut_to(n, Start::Snapshot),
                None => {
                    // Not one by one: each cut would be the price of one call.
                    let drop = (self.calls.len() as u64).div_ceil(4).max(1);
                    self.cut_to(self.first + drop, Start::Midway);
                }
            }
        }
        let stale = self.calls.front().is_some_and(|kept| kept.at_ns < since.saturating_sub(self.window_ns));
        if stale && !self.checkpoints.iter().any(|&n| n > self.first) {
            // A guest that gives no state: without this its ring would only ever be bounded by bytes.
            let keep = self.calls.iter().position(|kept| kept.at_ns >= since).unwrap_or(self.calls.len());
            self.cut_to(self.first + keep as u64, Start::Midway);
        }
    }

    fn cut_to(&mut self, number: u64, start: Start) {
        while self.first < number
            && let Some(Kept { call, bytes, .. }) = self.calls.pop_front()
        {
            self.first += 1;
            self.start = start;
            self.bytes -= bytes as u64;
            if let Call::Configure { config } = &call.call {
                self.config.clone_from(config);
            }
        }
        while self.checkpoints.front().is_some_and(|&n| n < self.first) {
            self.checkpoints.pop_front();
        }
    }

    /// What is kept, from the latest point on that covers `seconds` before now.
    pub(crate) fn copy(&self, seconds: Option<u32>) -> RingCopy {
        let calls: Vec<_> = self.calls.iter().map(|kept| Arc::clone(&kept.call)).collect();
        let whole = RingCopy { start: self.start, config: self.config.clone(), calls };
        let (Some(seconds), Some(last)) = (seconds, self.calls.back()) else { return whole };
        let since = last.at_ns.saturating_sub(u64::from(seconds).saturating_mul(1_000_000_000));
        let covers = |&&n: &&u64| self.at(n).is_some_and(|kept| kept.at_ns <= since);
        let Some(&n) = self.checkpoints.iter().take_while(covers).last() else { return whole };
        let skip = usize::try_from(n - self.first).unwrap_or(0);
        let mut config = whole.config;
        for call in whole.calls.iter().take(skip) {
            if let Call::Configure { config: later } = &call.call {
                config.clone_from(later);
            }
        }
        RingCopy {
            start: if skip == 0 { self.start } else { Start::Snapshot },
            config,
            calls: whole.calls[skip..].to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::call::{Blob, StateRecord};

    const SECOND: u64 = 1_000_000_000;

    fn call(time_ns: u64, call: Call, answer: Answer) -> RecordedCall {
        RecordedCall { time_ns, wall_ns: 0, random: 0, nanoseconds: 0, call, host: Vec::new(), answer }
    }

    fn tick(n: u64) -> RecordedCall {
        call(n * SECOND, Call::Tick { timestamp_ns: n * SECOND }, Answer::Done)
    }

    fn save(n: u64) -> RecordedCall {
        let state = StateRecord { schema: "x/1".to_owned(), data: Blob::Kept(vec![1]) };
        call(n * SECOND, Call::Save, Answer::State { state, tracks: Vec::new(), shots: Vec::new() })
    }

    fn ring(seconds: u32, max_bytes: u64) -> Ring {
        Ring::new(&RecorderConfig { seconds, max_bytes, ..RecorderConfig::default() })
    }

    fn times(copy: &RingCopy) -> Vec<u64> {
        copy.calls.iter().map(|c| c.time_ns / SECOND).collect()
    }

    #[test]
    fn it_begins_at_a_saved_state_that_covers_the_window() {
        let mut ring = ring(3, 1 << 20);
        for n in 0..10 {
            ring.push(tick(n));
            if n % 2 == 0 {
                ring.push(save(n));
            }
        }
        let copy = ring.copy(None);
        assert_eq!((copy.start, times(&copy)), (Start::Snapshot, vec![6, 7, 8, 8, 9]));
        let copy = ring.copy(Some(1));
        assert_eq!((copy.start, times(&copy)), (Start::Snapshot, vec![8, 9]));
    }

    #[test]
    fn a_guest_that_is_only_saved_is_kept_no_longer_than_others() {
        let mut ring = ring(3, 1 << 20);
        ring.push(call(0, Call::Configure { config: "{}".to_owned() }, Answer::Done));
        for n in 100..1_000 {
            ring.push(save(n));
        }
        assert!(ring.copy(None).calls.len() < 8, "{}", ring.copy(None).calls.len());
    }

    #[test]
    fn a_guest_that_is_put_to_work_late_has_its_beginning_kept_as_long_as_its_work() {
        let mut ring = ring(3, 1 << 20);
        ring.push(call(0, Call::Configure { config: "{}".to_owned() }, Answer::Done));
        ring.push(save(0));
        // At the swap, a hundred seconds after the camera began.
        let state = StateRecord { schema: "x/1".to_owned(), data: Blob::Kept(vec![1]) };
        let restore = Call::Restore { state, tracks: Vec::new(), shots: Vec::new() };
        ring.push(call(100 * SECOND, restore, Answer::Done));
        for n in 100..103 {
            ring.push(tick(n));
        }
        let copy = ring.copy(None);
        assert_eq!((copy.start, times(&copy)), (Start::Fresh, vec![0, 0, 100, 100, 101, 102]));
        for n in 103..106 {
            ring.push(tick(n));
            ring.push(save(n));
        }
        let copy = ring.copy(None);
        assert_eq!((copy.start, copy.calls[0].call.name()), (Start::Snapshot, "save"), "not in between");
    }

    #[test]
    fn a_guest_that_gives_no_state_has_its_last_seconds_kept_from_midway() {
        let mut ring = ring(3, 1 << 20);
        for n in 0..20 {
            ring.push(tick(n));
        }
        let copy = ring.copy(None);
        assert_eq!(copy.start, Start::Midway);
        assert!((3..=7).contains(&copy.calls.len()), "{:?}", times(&copy));
    }

    #[test]
    fn bytes_are_bounded_with_and_without_saved_states() {
        for every in [0, 5] {
            let mut ring = ring(3_600, 4_000);
            for n in 0..1_000 {
                ring.push(tick(n));
                if every > 0 && n % every == 0 {
                    ring.push(save(n));
                }
                assert!(ring.bytes() <= 4_000, "{}", ring.bytes());
            }
            let copy = ring.copy(None);
            assert!(copy.calls.len() > 2, "{}", copy.calls.len());
            assert_eq!(copy.start, if every > 0 { Start::Snapshot } else { Start::Midway });
        }
    }

    #[test]
    fn settings_that_were_let_go_are_remembered() {
        let mut ring = ring(1, 1 << 20);
        ring.push(call(0, Call::Configure { config: r#"{"a":1}"#.to_owned() }, Answer::Done));
        assert_eq!((ring.copy(None).start, ring.copy(None).config.as_str()), (Start::Fresh, r#"{"a":1}"#));
        ring.push(call(0, Call::Configure { config: r#"{"a":2}"#.to_owned() }, Answer::Done));
        assert_eq!(ring.copy(None).config, r#"{"a":1}"#, "what it began with");
        for n in 1..5 {
            ring.push(tick(n));
            ring.push(save(n));
        }
        assert_eq!(ring.copy(None).config, r#"{"a":2}"#);
    }

    #[test]
    fn switched_off_it_keeps_nothing() {
        let mut ring = ring(0, 1 << 20);
        assert!(!ring.wants());
        ring.push(tick(1));
        assert!(ring.copy(None).calls.is_empty());
    }
}
