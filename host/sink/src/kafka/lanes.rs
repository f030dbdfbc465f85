//! Topics that do not exist or are forbidden, and the records that wait for them.
//!
//! A guest chooses topics, so a wrong one must not hold up the others: its records are set apart (where they are, not
//! what they are: they stay in the spool), tried again with growing pauses, one first, and in order. Each is given up
//! when it has waited for too long itself, whatever waits before or behind it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::spool::{Failing, Location, Unread};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After a record that the disk did not give; the other topics go on.
const UNREAD_PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug)]
enum State {
    /// Nothing is sent before then.
    Waiting(Instant),
    /// One record was sent to see whether it works.
    Probing(u64),
    /// It works: what waits is sent, in order.
    Draining,
}

#[derive(Debug)]
struct Lane {
    state: State,
    pause: Duration,
    waiting: BTreeMap<u64, Waiting>,
    /// The record that was sent last to see, and since when it had waited: it has not waited less when it comes back.
    tried: Option<(u64, Duration)>,
    /// The disk does not give the first record: nothing is read before then.
    unread: Option<Instant>,
    failing: Failing,
}

#[derive(Debug)]
struct Waiting {
    location: Location,
    /// What [`Lanes::waited`] was when it came.
    since: Duration,
}

impl Lane {
    fn add(&mut self, seq: u64, location: Location, waited: Duration) {
        let since = self.tried.filter(|(tried, _)| *tried == seq).map_or(waited, |(_, since)| since);
        // Those that are read again, after going back, are here already.
        self.waiting.entry(seq).or_insert(Waiting { location, since });
    }

    fn wait_until(&mut self, at: Instant, waited: Duration) {
        if matches!(self.state, State::Draining) {
            // Until now they waited for their turn; for their topic they begin to.
            self.begin_anew(waited);
        }
        self.state = State::Waiting(at);
    }

    fn begin_anew(&mut self, waited: Duration) {
        self.tried = self.tried.map(|(seq, _)| (seq, waited));
        self.waiting.values_mut().for_each(|waiting| waiting.since = waited);
    }
}

/// All topics with trouble. Bounded by the number of topics let in; records in them by the spool.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    topics: HashMap<Arc<str>, Lane>,
    /// Time that has passed in which brokers could have taken a record: only that tells anything about its topic.
    waited: Duration,
    ticked: Option<Instant>,
}

impl Lanes {
    /// Time has passed. `counts`: brokers could have taken records in it.
    pub(super) fn tick(&mut self, now: Instant, counts: bool) {
        if let Some(before) = self.ticked.replace(now).filter(|_| counts) {
            self.waited += now.saturating_duration_since(before);
        }
    }

    /// Puts a record that was read behind those that wait for its topic; `false` when none do and it may be sent.
    pub(super) fn queue(&mut self, topic: &str, seq: u64, location: Location) -> bool {
        match self.topics.get_mut(topic) {
            Some(lane) => {
                lane.add(seq, location, self.waited);
                true
            }
            None => false,
        }
    }

    /// A record came back because of its topic.
    pub(super) fn failed(&mut self, topic: Arc<str>, seq: u64, location: Location, now: Instant) {
        let lane = self.topics.entry(topic).or_insert_with(|| Lane {
            state: State::Draining,
            pause: FIRST_PAUSE,
            waiting: BTreeMap::new(),
            tried: None,
            unread: None,
            failing: Failing::default(),
        });
        if !matches!(lane.state, State::Waiting(_)) {
            lane.wait_until(now + lane.pause, self.waited);
            lane.pause = (lane.pause * 2).min(LONGEST_PAUSE);
        }
        lane.add(seq, location, self.waited);
    }

    /// The next record that may be sent now, and its topic. It no longer waits: whoever takes it sends it or puts it back.
    /// `in_flight` says whether a record is with the client, and how many of a topic are.
    pub(super) fn next(&mut self, now: Instant, in_flight: &super::InFlight) -> Option<(Arc<str>, u64, Location)> {
        let mut empty = None;
        let mut found = None;
        for (topic, lane) in &mut self.topics {
            if let State::Probing(seq) = lane.state
                && !in_flight.by_seq.contains_key(&seq)
                && !in_flight.failures.iter().any(|(failed, ..)| *failed == seq)
            {
                lane.state = State::Draining;
                lane.pause = FIRST_PAUSE;
            }
            let send = match lane.state {
                // Those under way may come back with older records than the first one here.
                State::Waiting(at) => at <= now && !in_flight.by_topic.contains_key(topic),
                State::Probing(_) => false,
                State::Draining => true,
            };
            if send && lane.unread.is_none_or(|at| at <= now) {
                match lane.waiting.pop_first() {
                    Some((seq, waiting)) => {
                        if matches!(lane.state, State::Waiting(_)) {
                            lane.state = State::Probing(seq);
                            lane.tried = Some((seq, waiting.since));
                        }
                        found = Some((Arc::clone(topic), seq, waiting.location));
                        break;
                    }
                    None => empty = Some(Arc::clone(topic)),
                }
            }
        }
        if let Some(topic) = empty {
            self.topics.remove(&topic);
        }
        found
    }

    /// Puts a record back that could not be sent after all.
    pub(super) fn put_back(&mut self, topic: &Arc<str>, seq: u64, location: Location, now: Instant) {
        if let Some(lane) = self.topics.get_mut(topic) {
            lane.add(seq, location, self.waited);
            if matches!(lane.state, State::Probing(probe) if probe == seq) {
                lane.state = State::Waiting(now);
            }
        }
    }

    /// A record was read to be sent.
    pub(super) fn was_read(&mut self, topic: &str) {
        if let Some(lane) = self.topics.get_mut(topic) {
            lane.failing = Failing::default();
            if lane.unread.take().is_some() {
                // Nobody could find out meanwhile whether the topic is there.
                lane.begin_anew(self.waited);
            }
        }
    }

    /// A record could not be read to be sent. `Later`: it is back, and its lane pauses.
    pub(super) fn not_read(
        &mut self,
        topic: &Arc<str>,
        seq: u64,
        location: Location,
        error: &io::Error,
        now: Instant,
    ) -> Unread {
        let Some(lane) = self.topics.get_mut(topic) else {
            unreachable!("a record that is taken leaves its lane there")
        };
        let unread = lane.failing.failed(location.segment, error, now);
        if unread == Unread::Later {
            lane.unread = Some(now + UNREAD_PAUSE);
            self.put_back(topic, seq, location, now);
        }
        unread
    }

    /// Whether there is a lane whose record the disk does not give.
    pub(super) fn unread(&self) -> bool {
        self.topics.values().any(|lane| lane.unread.is_some())
    }

    /// The client was replaced: records that were under way will be read again and queue here.
    pub(super) fn client_replaced(&mut self, now: Instant) {
        for lane in self.topics.values_mut() {
            lane.wait_until(now + lane.pause, self.waited);
        }
    }

    /// Records that have waited for too long, each for itself. Those of a topic that works wait for their turn only,
    /// and those that cannot be read cannot be tried.
    pub(super) fn give_up(&mut self, after: Duration) -> Vec<(u64, Location)> {
        let mut given_up = Vec::new();
        self.topics.retain(|_, lane| {
            if matches!(lane.state, State::Draining) || lane.unread.is_some() {
                return true;
            }
            let before = given_up.len();
            // In order, the oldest first: one that is young enough ends it.
            while let Some(first) = lane.waiting.first_entry()
                && self.waited.saturating_sub(first.get().since) > after
            {
                let (seq, waiting) = first.remove_entry();
                given_up.push((seq, waiting.location));
            }
            // Not while its probe is under way.
            let over = given_up.len() > before && lane.waiting.is_empty() && matches!(lane.state, State::Waiting(_));
            !over
        });
        given_up
    }

    /// When something may be done next.
    pub(super) fn due(&self) -> Option<Instant> {
        let due = |lane: &Lane| match lane.state {
            State::Waiting(at) => Some(lane.unread.map_or(at, |unread| unread.max(at))),
            State::Probing(_) => None,
            State::Draining => lane.unread,
        };
        self.topics.values().filter_map(due).min()
    }

    pub(super) fn topics(&self) -> Vec<&str> {
        self.topics.keys().map(AsRef::as_ref).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }
}

#[cfg(test)]
mod tests;
