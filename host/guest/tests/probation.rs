//! A new guest on probation: self-test before, confirmation, and the way back with state when it fails.
// Helpers outside of `#[test]` functions unwrap too: a failure there is the test's.
#![allow(clippy::unwrap_used)]

mod kit;

use facestream_core::event::Event;
use facestream_core::guest::SlotKind;
use facestream_core::{DropReason, Message};
use facestream_guest_host::{GuestConfig, Outcome, SwapError};
use kit::{Body, Rig, config, detections, frame, rig};

fn run(rig: &mut Rig, n: u64, faces: usize) -> Outcome {
    rig.guests.process(&frame(n), &detections(faces), None)
}

fn live(out: &Outcome) -> Vec<u64> {
    out.tracks.as_ref().expect("the tracker answered").iter().map(|t| t.id).collect()
}

fn ids(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|m| m.id.0.as_str()).collect()
}

/// Puts a guest in on probation.
fn put_in(rig: &mut Rig, kind: SlotKind, bytes: &[u8], frames: u32) -> Outcome {
    let component = kit::load(&rig.engine, bytes);
    let prepared = rig.guests.factory().prepare(kind, kit::slot_guest("new", &component)).unwrap();
    let (report, out) = rig.guests.commit_swap(prepared.on_probation_for(frames)).unwrap();
    assert_eq!(report.probation_frames, frames);
    out
}

fn rolled_back(out: &Outcome) -> usize {
    out.events.iter().filter(|e| matches!(e, Event::GuestRolledBack { .. })).count()
}

/// The body of `advance`, with something done to a frame first.
fn advance(first: &str) -> String {
    format!("{first} (call $echo (local.get $n) (local.get $detections) (local.get $timestamp))")
}

fn observe(first: &str) -> String {
    format!(
        "{first}
         (call $see (local.get $session) (local.get $sequence) (local.get $frame) (local.get $tracks) (local.get $tracks_len))
         (call $drop_frame (local.get $frame))
         (call $give (local.get $ended) (local.get $ended_len))"
    )
}

fn at(sequence: u64, what: &str) -> String {
    format!("(if (i64.eq (local.get $sequence) (i64.const {sequence})) (then {what}))")
}

#[test]
fn a_guest_that_fails_on_its_first_frame_is_refused_before_it_is_near_the_camera() {
    let mut rig = rig(config(), None, None, None);
    run(&mut rig, 0, 2);
    for (kind, bytes) in [
        (SlotKind::Tracker, kit::tracker(&[("advance", "(unreachable)")])),
        (SlotKind::Tracker, kit::tracker(&[("advance", "(loop $l (br $l)) (unreachable)")])),
        (
            SlotKind::Tracker,
            kit::tracker(&[("advance", &advance("(if (i32.eqz (local.get $n)) (then (unreachable)))"))]),
        ),
        (SlotKind::Scorer, kit::scorer(&[("observe", "(unreachable)")])),
        (SlotKind::Scorer, kit::scorer(&[("flush", "(unreachable)")])),
        (SlotKind::Formatter, kit::formatter(&[("format", "(unreachable)")])),
        (SlotKind::Formatter, kit::formatter(&[("flush", "(unreachable)")])),
    ] {
        let bad = kit::load(&rig.engine, &bytes);
        let error = rig.guests.factory().prepare(kind, kit::slot_guest("bad", &bad)).unwrap_err();
        assert!(matches!(error, SwapError::SelfTest { .. }), "{error}");
        assert!(error.to_string().contains("self-test"), "{error}");
    }
    // A refusal is an answer.
    for (kind, bytes) in [
        (SlotKind::Tracker, kit::tracker(&[("advance", "(call $no)")])),
        (SlotKind::Formatter, kit::formatter(&[("format", "(call $no)")])),
    ] {
        let no = kit::load(&rig.engine, &bytes);
        rig.guests.factory().prepare(kind, kit::slot_guest("no", &no)).unwrap();
    }
    assert_eq!(rig.engine.live_instances(), 3, "nothing of the trials is left");
    assert_eq!(live(&run(&mut rig, 1, 2)), [1, 2]);
}

#[test]
fn a_good_guest_is_confirmed_after_its_frames_and_the_old_one_goes() {
    let mut rig = rig(config(), None, None, None);
    run(&mut rig, 0, 2);
    put_in(&mut rig, SlotKind::Tracker, &kit::tracker(&[("extra", "(func $another)")]), 3);
    let status = &rig.guests.status()[0];
    assert_eq!((status.state, status.instances), ("probation", 2));
    let probation = status.probation.as_ref().unwrap();
    assert_eq!((probation.frames_left, probation.instead_of.guest.as_str()), (3, "tracker"));
    let calls = status.calls;
    assert_eq!((status.guest_calls, status.mean_call_us), (0, 0.0), "calls of the guest before are not the new one's");
    for n in 1..3 {
        assert!(run(&mut rig, n, 2).events.is_empty());
        assert_eq!(rig.engine.live_instances(), 4);
    }
    let out = run(&mut rig, 3, 2);
    assert!(matches!(&out.events[..], [Event::GuestConfirmed { .. }]), "{:?}", out.events);
    assert_eq!(rig.engine.live_instances(), 3);
    let status = &rig.guests.status()[0];
    assert_eq!((status.state, status.swaps.confirmed, status.probation.is_none()), ("running", 1, true));
    assert!(status.guest_calls >= 3 && status.calls == calls + status.guest_calls, "{status:#?}");
}

#[test]
fn a_tracker_that_traps_on_its_first_frame_costs_nothing() {
    let mut rig = rig(config(), None, None, None);
    for n in 0..3 {
        run(&mut rig, n, 2);
    }
    let digest = rig.guests.status()[0].digest.clone();
    // The frames of the self-test are fewer.
    let bad = kit::tracker(&[("advance", &advance(&at(3, "(unreachable)")))]);
    put_in(&mut rig, SlotKind::Tracker, &bad, 50);
    let out = run(&mut rig, 3, 2);
    assert_eq!((live(&out), out.began, out.ended.len(), rolled_back(&out)), (vec![1, 2], 0, 0, 1));
    let Some(Event::GuestRolledBack { guest, back_to, reason, .. }) = out.events.last() else { panic!() };
    assert_eq!((guest.as_str(), back_to.as_str()), ("new", "tracker"));
    assert!(reason.contains("unreachable"), "{reason}");
    assert!(rig.metrics.all_drops().is_empty(), "the old one was given the frame");
    let status = &rig.guests.status()[0];
    assert_eq!((status.state, &status.digest, status.swaps.rolled_back), ("running", &digest, 1));
    assert_eq!((status.failures, status.guest_failures), (1, 0), "the failure was the other guest's");
    assert_eq!(rig.engine.live_instances(), 3);
}

#[test]
fn tracks_that_began_and_ended_on_probation_stay_so_after_the_way_back() {
    // Trap, deadline, an impossible answer, too much memory: all the same.
    let bomb = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)";
    for failing in [
        "(unreachable)",
        "(loop $l (br $l))",
        bomb,
        "(return (i32.const 1024) (i32.store8 (i32.const 1024) (i32.const 9)))",
    ] {
        let mut rig = rig(config(), None, None, None);
        run(&mut rig, 0, 2);
        let bad = kit::tracker(&[("advance", &advance(&at(6, failing)))]);
        put_in(&mut rig, SlotKind::Tracker, &bad, 50);
        let mut ended = Vec::new();
        let mut began = 0;
        // A third track begins and ends, the second one ends; then the new guest fails.
        for (n, faces) in [(1, 3), (2, 3), (3, 2), (4, 1), (5, 1), (6, 1), (7, 2), (8, 2)] {
            let out = run(&mut rig, n, faces);
            ended.extend(out.ended.iter().map(|t| t.id));
            began += out.began;
            assert_eq!(rolled_back(&out), usize::from(n == 6), "frame {n}: {:?}", out.events);
            // Track 4 is the face that comes back: the old guest calls it 2, which is spent.
            let expected: &[u64] = match n {
                1 | 2 => &[1, 2, 3],
                3 => &[1, 2],
                4..=6 => &[1],
                _ => &[1, 4],
            };
            assert_eq!(live(&out), expected, "frame {n}");
            assert_eq!(ids(&out.messages).iter().filter(|id| id.ends_with("frame/0")).count(), 1, "frame {n}");
        }
        assert_eq!((ended, began), (vec![3, 2], 2), "each once, none again");
        assert!(rig.metrics.all_drops().is_empty(), "{:?}", rig.metrics.all_drops());
    }
}

#[test]
fn shots_that_a_failed_scorer_held_are_given_up_once_by_the_one_before() {
    let mut rig = rig(config(), None, None, None);
    let mut given = Vec::new();
    let mut take = |out: Outcome| given.extend(out.shots.iter().map(|s| (s.track_id, s.sequence)));
    take(run(&mut rig, 0, 2));
    let bad = kit::scorer(&[("observe", &observe(&at(5, "(unreachable)")))]);
    take(put_in(&mut rig, SlotKind::Scorer, &bad, 50));
    take(run(&mut rig, 1, 3)); // Track 3 begins: the new scorer takes its picture.
    take(run(&mut rig, 2, 4)); // And track 4's.
    take(run(&mut rig, 3, 3)); // Track 4 ends and its shot is given up.
    take(run(&mut rig, 4, 2)); // Track 3 ends, too.
    let out = run(&mut rig, 5, 1); // Track 2 ends with the frame on which the new scorer traps.
    assert_eq!((rolled_back(&out), out.ended.len()), (1, 1), "{:?}", out.events);
    take(out);
    take(rig.guests.flush());
    assert_eq!(given, [(4, 2), (3, 1), (2, 0), (1, 0)], "each once, of the frames on which they were first seen");
    assert!(rig.metrics.all_drops().is_empty(), "{:?}", rig.metrics.all_drops());
}

#[test]
fn a_scorer_that_traps_while_it_saves_or_ticks_is_taken_back_too() {
    for (function, body) in [
        ("save", "(if (i32.load8_u (i32.const 700)) (then (unreachable))) (call $give_all (i32.const 0)) (drop (call $snapshot))
         (i32.store (i32.const 1044) (i32.const 32768)) (i32.store (i32.const 1048) (global.get $count))
         (global.set $count (i32.const 0)) (i32.const 1024)"),
        ("tick", "(if (i64.gt_u (local.get $timestamp) (i64.const 3000000000)) (then (unreachable))) (call $ok)"),
    ] {
        let mut rig = rig(config(), None, None, None);
        run(&mut rig, 0, 2);
        let seen = observe(&at(3, "(i32.store8 (i32.const 700) (i32.const 1))"));
        let bad = kit::scorer(&[("observe", &seen), (function, body)]);
        put_in(&mut rig, SlotKind::Scorer, &bad, 50);
        let mut back = 0;
        for n in 1..5 {
            back += rolled_back(&run(&mut rig, n, 2));
        }
        back += rolled_back(&rig.guests.tick(5_000_000_000));
        assert_eq!(back, 1, "{function}");
        let shots = rig.guests.flush().shots;
        assert_eq!(shots.iter().map(|s| (s.track_id, s.sequence)).collect::<Vec<_>>(), [(1, 0), (2, 0)], "{function}");
    }
}

#[test]
fn a_formatter_that_traps_loses_no_event_and_repeats_no_message() {
    let mut rig = rig(config(), None, None, None);
    let mut messages = Vec::new();
    messages.extend(run(&mut rig, 0, 2).messages);
    // Traps at its sixth event; the self-test shows it three.
    let body =
        "(if (i64.eq (i64.load (i32.const 512)) (i64.const 5)) (then (unreachable))) (call $write (local.get $event))";
    put_in(&mut rig, SlotKind::Formatter, &kit::formatter(&[("format", body)]), 50);
    let mut back = 0;
    for n in 1..10 {
        let out = run(&mut rig, n, 2);
        back += rolled_back(&out);
        messages.extend(out.messages);
    }
    assert_eq!(back, 1);
    let expected: Vec<String> = (0..10).map(|n| format!("cam-1/1/{n}/-/frame/0")).collect();
    assert_eq!(ids(&messages), expected);
    assert_eq!(rig.metrics.drops(DropReason::FormatterFailed), 0);
}

/// Counts events (8 bytes at 512 are its state) and gives the count out when it is flushed.
const GATHERS: [Body<'static>; 2] = [
    (
        "format",
        "(i64.store (i32.const 512) (i64.add (i64.load (i32.const 512)) (i64.const 1)))
       (if (i32.eqz (i32.load8_u (local.get $event))) (then (call $drop_crop (i32.load offset=16 (local.get $event)))))
       (call $ok)",
    ),
    ("flush", "(call $message (i32.const 64) (i32.const 6) (i32.const 512) (i32.const 8))"),
];

#[test]
fn what_a_failed_formatter_had_gathered_goes_on_in_the_one_before() {
    let mut rig = rig(config(), None, None, Some(kit::formatter(&GATHERS)));
    for n in 0..3 {
        run(&mut rig, n, 1);
    }
    let traps = format!("(if (i64.eq (i64.load (i32.const 512)) (i64.const 7)) (then (unreachable))) {}", GATHERS[0].1);
    put_in(&mut rig, SlotKind::Formatter, &kit::formatter(&[("format", &traps), GATHERS[1]]), 50);
    let back: usize = (3..10).map(|n| rolled_back(&run(&mut rig, n, 1))).sum();
    assert_eq!(back, 1);
    let gathered = rig.guests.flush().messages;
    let last = gathered.last().unwrap();
    // Ten frames; then, as the camera stops, the shot and the ending of the one track.
    assert_eq!(last.payload.as_ref(), 12_u64.to_le_bytes(), "every event once");
}

#[test]
fn of_several_unproven_guests_the_one_before_them_all_comes_back() {
    let mut rig = rig(config(), None, None, None);
    run(&mut rig, 0, 2);
    let digest = rig.guests.status()[0].digest.clone();
    put_in(&mut rig, SlotKind::Tracker, &kit::tracker(&[("extra", "(func $another)")]), 50);
    run(&mut rig, 1, 3);
    put_in(&mut rig, SlotKind::Tracker, &kit::tracker(&[("advance", &advance(&at(4, "(unreachable)")))]), 50);
    assert_eq!(rig.engine.live_instances(), 4, "the one in between is gone");
    run(&mut rig, 2, 3);
    run(&mut rig, 3, 3);
    let out = run(&mut rig, 4, 3);
    assert_eq!((live(&out), rolled_back(&out)), (vec![1, 2, 3], 1));
    assert_eq!(rig.guests.status()[0].digest, digest);
}

#[test]
fn settings_that_a_guest_on_probation_fails_on_bring_back_the_one_before() {
    let mut rig = rig(config(), None, None, None);
    run(&mut rig, 0, 2);
    let digest = rig.guests.status()[0].digest.clone();
    let traps = "(if (i32.gt_u (local.get $config_len) (i32.const 2)) (then (unreachable))) (call $ok)";
    put_in(&mut rig, SlotKind::Tracker, &kit::tracker(&[("configure", traps)]), 50);
    run(&mut rig, 1, 2);
    rig.guests.reconfigure(SlotKind::Tracker, serde_json::json!({"a": 1})).unwrap_err();
    let out = run(&mut rig, 2, 2);
    assert_eq!((live(&out), rolled_back(&out)), (vec![1, 2], 1));
    assert!(matches!(out.events[0], Event::GuestFailed { .. }), "{:?}", out.events);
    let status = &rig.guests.status()[0];
    assert_eq!((status.state, &status.digest, status.probation.is_none()), ("running", &digest, true));
    assert_eq!(rig.engine.live_instances(), 3);
    // Also where no frame comes: time alone passes.
    put_in(&mut rig, SlotKind::Tracker, &kit::tracker(&[("configure", traps)]), 50);
    rig.guests.reconfigure(SlotKind::Tracker, serde_json::json!({"a": 1})).unwrap_err();
    assert_eq!(rolled_back(&rig.guests.tick(frame(2).info.timestamp_ns + 1_000_000)), 1);
}

#[test]
fn a_failure_after_the_probation_is_answered_by_a_restart() {
    let mut rig = rig(config(), None, None, None);
    run(&mut rig, 0, 2);
    put_in(&mut rig, SlotKind::Tracker, &kit::tracker(&[("advance", &advance(&at(5, "(unreachable)")))]), 3);
    let back: usize = (1..7).map(|n| rolled_back(&run(&mut rig, n, 2))).sum();
    assert_eq!(back, 0);
    let status = &rig.guests.status()[0];
    assert_eq!((status.guest.as_str(), status.failures, status.restarts), ("new", 1, 1));
    assert_eq!(rig.metrics.drops(DropReason::TrackerFailed), 1);
}

#[test]
fn a_thousand_swaps_on_probation_every_third_of_which_fails_lose_and_repeat_nothing() {
    let mut rig = rig(GuestConfig { max_instances: 20, ..config() }, None, None, None);
    let good = kit::load(&rig.engine, &kit::tracker(&[("extra", "(func $another)")]));
    // Its state is the number of frames: it traps on the first frame that it takes over.
    let bad = kit::tracker(&[(
        "advance",
        &advance("(if (i64.gt_u (i64.load (i32.const 512)) (i64.const 2)) (then (unreachable)))"),
    )]);
    let bad = kit::load(&rig.engine, &bad);
    let good_scorer = kit::load(&rig.engine, &kit::scorer(&[("extra", "(func $another)")]));
    let bad_scorer = kit::load(
        &rig.engine,
        &kit::scorer(&[(
            "observe",
            &observe("(if (i64.gt_u (local.get $sequence) (i64.const 2)) (then (unreachable)))"),
        )]),
    );
    for n in 0..5 {
        run(&mut rig, n, 3);
    }
    let (mut frames, mut shots, mut back) = (5, 0, 0);
    for n in 5..1005_u64 {
        for (kind, good, bad) in [(SlotKind::Tracker, &good, &bad), (SlotKind::Scorer, &good_scorer, &bad_scorer)] {
            let component = if n % 3 == 0 { bad } else { good };
            let prepared = rig.guests.factory().prepare(kind, kit::slot_guest("g", component)).unwrap();
            let (_, out) = rig.guests.commit_swap(prepared.on_probation_for(2)).unwrap();
            shots += out.shots.len();
        }
        let out = run(&mut rig, n, 3);
        assert_eq!((live(&out), out.began), (vec![1, 2, 3], 0), "frame {n}");
        frames += out.messages.iter().filter(|m| m.topic == "frames").count();
        shots += out.shots.len();
        back += rolled_back(&out);
        assert!(rig.engine.live_instances() <= 5);
    }
    let held = rig.guests.flush().shots;
    assert_eq!((frames, shots, held.len()), (1005, 0, 3));
    assert!(back >= 600, "{back}");
    assert!(rig.metrics.all_drops().is_empty(), "{:?}", rig.metrics.all_drops());
}
