//! Records that wait for their topic, through hours that pass at once.

use super::*;
use crate::kafka::{Flight, InFlight};
use crate::status::LossReason;

const MINUTE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(600);

/// Where each record would be; lanes only hand it on.
const PLACE: Location = Location { segment: 0, offset: 0 };

fn failed(lanes: &mut Lanes, seq: u64, now: Instant) {
    lanes.failed("t".into(), seq, PLACE, now);
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
    assert!(lanes.queue("t", 2, PLACE));
    lanes.tick(start + 10 * MINUTE, true);
    assert_eq!(given_up(&mut lanes), [0; 0]);
    lanes.tick(start + 11 * MINUTE, true);
    assert_eq!(given_up(&mut lanes), [1], "the other came two minutes ago");
    assert!(lanes.queue("t", 3, PLACE), "the topic still waits");
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

#[test]
fn a_record_that_cannot_be_read_waits_in_its_place_and_holds_up_no_other_topic() {
    let (mut lanes, start, idle) = (Lanes::default(), Instant::now(), InFlight::default());
    let (eio, emfile) = (io::Error::from_raw_os_error(libc::EIO), io::Error::from_raw_os_error(libc::EMFILE));
    lanes.tick(start, true);
    (1..=2).for_each(|seq| failed(&mut lanes, seq, start));
    // Longer than anything else would be waited for.
    let mut now = start + FIRST_PAUSE;
    for _ in 0..2000 {
        lanes.tick(now, true);
        let (topic, seq, location) = lanes.next(now, &idle).unwrap();
        assert_eq!((seq, lanes.not_read(&topic, seq, location, &emfile, now)), (1, Unread::Later));
        assert!(lanes.unread() && lanes.next(now, &idle).is_none());
        assert_eq!(lanes.due(), Some(now + UNREAD_PAUSE));
        assert_eq!(given_up(&mut lanes), [0; 0], "nobody knows whether the topic is there");
        now += UNREAD_PAUSE;
    }
    let paused = now - UNREAD_PAUSE;
    lanes.failed("other".into(), 9, PLACE, paused - FIRST_PAUSE);
    assert_eq!(lanes.next(paused, &idle).map(|(_, seq, _)| seq), Some(9));
    assert_eq!(lanes.next(now, &idle).map(|(_, seq, _)| seq), Some(1));
    lanes.was_read("t");
    assert!(!lanes.unread());
    assert_eq!(given_up(&mut lanes), [0; 0]);
    // A disk that refuses for minutes: given up, and what else is in that segment at once.
    let (mut lanes, mut now, mut tries) = (Lanes::default(), start, 0);
    (1..=2).for_each(|seq| failed(&mut lanes, seq, start));
    now += FIRST_PAUSE;
    let first = now;
    loop {
        let (topic, seq, location) = lanes.next(now, &idle).unwrap();
        tries += 1;
        match lanes.not_read(&topic, seq, location, &eio, now) {
            Unread::Later => now += UNREAD_PAUSE,
            Unread::Lost(reason) => {
                assert_eq!((seq, reason), (1, LossReason::SpoolMissing));
                break;
            }
        }
    }
    assert!(tries > 100 && now - first >= 5 * MINUTE, "{tries}");
    let gone = io::Error::from(io::ErrorKind::NotFound);
    let damaged = io::Error::from(io::ErrorKind::InvalidData);
    for (error, reason) in [(&gone, LossReason::SpoolMissing), (&damaged, LossReason::SpoolCorrupt)] {
        let mut lanes = Lanes::default();
        failed(&mut lanes, 1, start);
        let (topic, seq, location) = lanes.next(now, &idle).unwrap();
        assert_eq!(lanes.not_read(&topic, seq, location, error, now), Unread::Lost(reason), "at once");
    }
}
