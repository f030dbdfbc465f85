//! Topics that do not exist or are forbidden, and the records that wait for them.
//!
//! A guest chooses topics, so a wrong one must not hold up the others: its records are set apart (where they are, not
//! what they are: they stay in the spool), tried again with growing pauses, one first, and in order. Each is given up
//! when it has waited for too long itself, whatever waits before or behind it.

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
    waiting: BTreeMap<u64, Waiting>,
    /// The record that was sent last to see, and since when it had waited: it has not waited less when it comes back.
    tried: Option<(u64, Duration)>,
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
            self.tried = None;
            self.waiting.values_mut().for_each(|waiting| waiting.since = waited);
        }
        self.state = State::Waiting(at);
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
            if send {
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

    /// The client was replaced: records that were under way will be read again and queue here.
    pub(super) fn client_replaced(&mut self, now: Instant) {
        for lane in self.topics.values_mut() {
            lane.wait_until(now + lane.pause, self.waited);
        }
    }

    /// Records that have waited for too long, each for itself. Those of a topic that works wait for their turn only.
    pub(super) fn give_up(&mut self, after: Duration) -> Vec<(u64, Location)> {
        let mut given_up = Vec::new();
        self.topics.retain(|_, lane| {
            if matches!(lane.state, State::Draining) {
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
        self.topics.values().filter_map(|l| if let State::Waiting(at) = l.state { Some(at) } else { None }).min()
    }

    pub(super) fn topics(&self) -> Vec<&str> {
        self.topics.keys().map(AsRef::as_ref).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::{Flight, InFlight};

    const MINUTE: Duration = Duration::from_secs(60);
    const PATIENCE: Duration = Duration::from_secs(600);

    /// Where a record would be; lanes only hand it on.
    fn at(_: u64) -> Location {
        Location::default()
    }

    fn failed(lanes: &mut Lanes, seq: u64, now: Instant) {
        lanes.failed("t".into(), seq, at(seq), now);
    }

    fn given_up(lanes: &mut Lanes) -> Vec<u64> {
        lanes.give_up(PATIENCE).into_iter().map(|(seq, _)| seq).collect()
    }

    #[test]
    fn each_record_is_given_up_for_its_own_age() {
        let (mut lanes, start) = (Lanes::default(), Instant::now());
        lanes.tick(start, true);
        failed(&mut lanes, 1, start);
        lanes.tick(start + 9 * MINUTE, true);
        assert!(lanes.queue("t", 2, at(2)));
        lanes.tick(start + 10 * MINUTE, true);
        assert_eq!(given_up(&mut lanes), [0; 0]);
        lanes.tick(start + 11 * MINUTE, true);
        assert_eq!(given_up(&mut lanes), [1], "the other came two minutes ago");
        assert!(lanes.queue("t", 3, at(3)), "the topic still waits");
        lanes.tick(start + 20 * MINUTE, true);
        assert_eq!(given_up(&mut lanes), [2]);
        lanes.tick(start + 30 * MINUTE, true);
        assert_eq!(given_up(&mut lanes), [3]);
        assert!(lanes.is_empty());
    }

    #[test]
    fn time_without_a_broker_does_not_count() {
        let (mut lanes, start) = (Lanes::default(), Instant::now());
        lanes.tick(start, true);
        failed(&mut lanes, 1, start);
        lanes.tick(start + 5 * MINUTE, true);
        lanes.tick(start + 600 * MINUTE, false);
        lanes.tick(start + 605 * MINUTE, true);
        assert_eq!(given_up(&mut lanes), [0; 0]);
        lanes.tick(start + 606 * MINUTE, true);
        assert_eq!(given_up(&mut lanes), [1]);
    }

    #[test]
    fn trying_a_record_or_reading_it_again_does_not_make_it_younger() {
        let (mut lanes, start, idle) = (Lanes::default(), Instant::now(), InFlight::default());
        lanes.tick(start, true);
        failed(&mut lanes, 1, start);
        failed(&mut lanes, 2, start);
        for minute in 1..=10 {
            let now = start + minute * MINUTE;
            lanes.tick(now, true);
            let (topic, seq, location) = lanes.next(now, &idle).unwrap();
            assert_eq!((&*topic, seq), ("t", 1));
            match minute % 3 {
                0 => lanes.put_back(&topic, seq, location, now),
                1 => failed(&mut lanes, seq, now),
                _ => {
                    lanes.client_replaced(now);
                    assert!(lanes.queue("t", 1, location) && lanes.queue("t", 2, location));
                }
            }
        }
        lanes.tick(start + 11 * MINUTE, true);
        assert_eq!(given_up(&mut lanes), [1, 2]);
    }

    #[test]
    fn a_topic_that_works_is_given_the_time_it_takes() {
        let (mut lanes, start, mut in_flight) = (Lanes::default(), Instant::now(), InFlight::default());
        lanes.tick(start, true);
        (1..=3).for_each(|seq| failed(&mut lanes, seq, start));
        let now = start + 9 * MINUTE;
        lanes.tick(now, true);
        let (topic, seq, location) = lanes.next(now, &in_flight).unwrap();
        in_flight.insert(seq, Flight { location, topic, bytes: 1 }, 0);
        assert!(lanes.next(now, &in_flight).is_none(), "one is tried first");
        in_flight.remove(seq);
        assert_eq!(lanes.next(now, &in_flight).unwrap().1, 2);
        lanes.tick(start + 99 * MINUTE, true);
        assert_eq!(given_up(&mut lanes), [0; 0], "the broker is slow, the topic is there");
        // It goes again: they wait from when the topic was there last.
        failed(&mut lanes, 2, start + 99 * MINUTE);
        lanes.tick(start + 108 * MINUTE, true);
        assert_eq!(given_up(&mut lanes), [0; 0]);
        lanes.tick(start + 110 * MINUTE, true);
        assert_eq!(given_up(&mut lanes), [2, 3]);
    }
}
