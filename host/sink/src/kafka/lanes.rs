//! Topics that do not exist or are forbidden, and the records that wait for them.
//!
//! A guest chooses topics, so a wrong one must not hold up the others: its records are set apart (where they are, not
//! what they are: they stay in the spool), tried again with growing pauses, one first, and in order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::spool::Location;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

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
    since: Instant,
    waiting: BTreeMap<u64, Location>,
}

/// All topics with trouble. Bounded by the number of topics let in; records in them by the spool.
#[derive(Debug, Default)]
pub(super) struct Lanes(HashMap<Arc<str>, Lane>);

impl Lanes {
    /// Puts a record that was read behind those that wait for its topic; `false` when none do and it may be sent.
    pub(super) fn queue(&mut self, topic: &str, seq: u64, location: Location) -> bool {
        match self.0.get_mut(topic) {
            Some(lane) => {
                lane.waiting.insert(seq, location);
                true
            }
            None => false,
        }
    }

    /// A record came back because of its topic.
    pub(super) fn failed(&mut self, topic: Arc<str>, seq: u64, location: Location, now: Instant) {
        let lane = self.0.entry(topic).or_insert_with(|| Lane {
            state: State::Draining,
            pause: FIRST_PAUSE,
            since: now,
            waiting: BTreeMap::new(),
        });
        lane.waiting.insert(seq, location);
        if !matches!(lane.state, State::Waiting(_)) {
            lane.state = State::Waiting(now + lane.pause);
            lane.pause = (lane.pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The next record that may be sent now, and its topic. It no longer waits: whoever takes it sends it or puts it back.
    /// `in_flight` says whether a record is with the client, and how many of a topic are.
    pub(super) fn next(&mut self, now: Instant, in_flight: &super::InFlight) -> Option<(Arc<str>, u64, Location)> {
        let mut empty = None;
        let mut found = None;
        for (topic, lane) in &mut self.0 {
            if let State::Probing(seq) = lane.state
                && !in_flight.by_seq.contains_key(&seq)
                && !in_flight.failures.iter().any(|(failed, ..)| *failed == seq)
            {
                lane.state = State::Draining;
                lane.since = now;
                lane.pause = FIRST_PAUSE;
            }
            let send = match lane.state {
                // Those under way may come back with older records than the first one here.
                State::Waiting(at) => at <= now && !in_flight.by_topic.contains_key(topic),
                State::Probing(_) => false,
                State::Draining => true,
            };
            if send {
                match lane.waiting.pop_first() {
                    Some((seq, location)) => {
                        if matches!(lane.state, State::Waiting(_)) {
                            lane.state = State::Probing(seq);
                        }
                        found = Some((Arc::clone(topic), seq, location));
                        break;
                    }
                    None => empty = Some(Arc::clone(topic)),
                }
            }
        }
        if let Some(topic) = empty {
            self.0.remove(&topic);
        }
        found
    }

    /// Puts a record back that could not be sent after all.
    pub(super) fn put_back(&mut self, topic: &Arc<str>, seq: u64, location: Location, now: Instant) {
        if let Some(lane) = self.0.get_mut(topic) {
            lane.waiting.insert(seq, location);
            if matches!(lane.state, State::Probing(probe) if probe == seq) {
                lane.state = State::Waiting(now);
            }
        }
    }

    /// The client was replaced: records that were under way will be read again and queue here.
    pub(super) fn client_replaced(&mut self, now: Instant) {
        for lane in self.0.values_mut() {
            lane.state = State::Waiting(now + lane.pause);
        }
    }

    /// Records that have waited for too long, by topic.
    pub(super) fn give_up(&mut self, now: Instant, after: Duration) -> Vec<(u64, Location)> {
        let old: Vec<_> =
            self.0.iter().filter(|(_, l)| now.duration_since(l.since) > after).map(|(t, _)| Arc::clone(t)).collect();
        old.iter().filter_map(|topic| self.0.remove(topic)).flat_map(|lane| lane.waiting).collect()
    }

    /// When something may be done next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.values().filter_map(|l| if let State::Waiting(at) = l.state { Some(at) } else { None }).min()
    }

    pub(super) fn topics(&self) -> Vec<&str> {
        self.0.keys().map(AsRef::as_ref).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
