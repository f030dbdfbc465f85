//! What happens to a slot whose guest fails again and again: restart, fallback to the built-in guest, drop; and the way
//! back.
// Helpers outside of `#[test]` functions unwrap too: a failure there is the test's.
#![allow(clippy::unwrap_used)]

mod kit;

use std::sync::Arc;

use facestream_core::event::Event;
use facestream_core::guest::{OnFailure, SlotKind};
use facestream_core::{CameraId, CameraMetrics, DropReason};
use facestream_guest_host::{
    BreakerConfig, CameraGuests, GuestConfig, GuestEngine, GuestSet, Outcome, RestartConfig, SlotGuest,
};
use kit::{Rig, detections, frame};

fn run(rig: &mut Rig, n: u64, faces: usize) -> Outcome {
    rig.guests.process(&frame(n), &detections(faces), None)
}

fn live(out: &Outcome) -> Vec<u64> {
    out.tracks.as_ref().map_or_else(Vec::new, |tracks| tracks.iter().map(|t| t.id).collect())
}

/// Three failures open the breaker; a try again after 400 ms, which are ten frames.
fn config() -> GuestConfig {
    GuestConfig {
        restart: RestartConfig { backoff_ms: 0, max_backoff_ms: 0, stable_after_ms: 60_000 },
        breaker: BreakerConfig { failures: 3, window_ms: 60_000, probe_after_ms: 400, max_probe_after_ms: 1_600 },
        probation_frames: 5,
        save_every_frames: 1,
        ..kit::config()
    }
}

/// A camera whose guest in one slot is this one, under this policy; the well-behaved ones stand in.
fn camera(kind: SlotKind, bytes: &[u8], on_failure: OnFailure) -> Rig {
    let config = config();
    let engine = GuestEngine::new(&config).unwrap();
    let good = |kind: SlotKind| {
        let bytes = match kind {
            SlotKind::Tracker => kit::tracker(&[]),
            SlotKind::Scorer => kit::scorer(&[]),
            SlotKind::Formatter => kit::formatter(&[]),
        };
        kit::slot_guest("good", &kit::load(&engine, &bytes))
    };
    let guest = |of: SlotKind| {
        if of != kind {
            return good(of);
        }
        let stand_in = Some(Box::new(SlotGuest { reference: "built-in".to_owned(), ..good(of) }));
        SlotGuest { on_failure, stand_in, ..kit::slot_guest("mine", &kit::load(&engine, bytes)) }
    };
    let set = GuestSet {
        tracker: guest(SlotKind::Tracker),
        scorer: guest(SlotKind::Scorer),
        formatter: guest(SlotKind::Formatter),
    };
    let metrics = Arc::new(CameraMetrics::default());
    let guests = CameraGuests::new(&CameraId::new("cam-1").unwrap(), set, &config, Arc::clone(&metrics)).unwrap();
    Rig { engine, metrics, guests }
}

/// A tracker that traps from one frame on until before another.
fn tracker_failing(from: u64, until: u64) -> Vec<u8> {
    let body = format!(
        "(if (i64.ge_u (local.get $sequence) (i64.const {from}))
           (then (if (i64.lt_u (local.get $sequence) (i64.const {until})) (then (unreachable)))))
         (call $echo (local.get $n) (local.get $detections) (local.get $timestamp))"
    );
    kit::tracker(&[("advance", &body)])
}

fn degraded(out: &Outcome) -> Vec<&str> {
    let headers = out.messages.iter().flat_map(|m| &m.headers);
    headers.filter(|(name, _)| name == "degraded-by").map(|(_, value)| value.as_str()).collect()
}

#[test]
fn the_built_in_tracker_takes_over_the_tracks_and_gives_them_back_when_the_wanted_one_works_again() {
    let mut rig = camera(SlotKind::Tracker, &tracker_failing(5, 30), OnFailure::Fallback);
    let mut states = Vec::new();
    let mut seen = Vec::new();
    for n in 0..60 {
        let out = run(&mut rig, n, 2);
        let status = rig.guests.status().remove(0);
        if states.last() != Some(&(status.state, status.breaker)) {
            states.push((status.state, status.breaker));
        }
        for event in &out.events {
            match event {
                Event::GuestDegraded { guest, stand_in, .. } => {
                    assert_eq!((guest.as_str(), stand_in.as_deref()), ("mine", Some("built-in")));
                    seen.push(("degraded", n));
                }
                Event::GuestRecovered { guest, .. } => {
                    assert_eq!(guest, "mine");
                    seen.push(("recovered", n));
                }
                Event::GuestRolledBack { .. } => panic!("nobody swapped anything"),
                _ => {}
            }
        }
        match status.state {
            "fallback" if out.tracks.is_some() => {
                assert_eq!(degraded(&out), ["tracker/mine"], "frame {n}");
                assert_eq!((status.guest.as_str(), status.wanted.guest.as_str()), ("built-in", "mine"));
                assert_ne!(status.digest, status.wanted.digest);
            }
            "running" | "probation" => assert!(degraded(&out).is_empty(), "frame {n}"),
            _ => {}
        }
        assert_eq!(out.ended.len(), 0, "frame {n}");
        if out.tracks.is_some() {
            assert_eq!(live(&out), [1, 2], "frame {n}");
        }
    }
    // It fails at frames 5, 6, 7; is tried again ten frames later (17), which fails; then 20 frames later (37), which
    // goes well, and is confirmed with its fifth frame.
    assert_eq!(seen, [("degraded", 7), ("recovered", 41)]);
    let expected = [
        ("running", "closed"),
        ("restarting", "closed"),
        ("restarting", "open"),
        ("fallback", "open"),
        ("probation", "half-open"),
        ("running", "closed"),
    ];
    assert_eq!(states, expected);
    assert_eq!(rig.metrics.drops(DropReason::TrackerFailed), 3, "none while another stood in, none by the tries");
    assert_eq!(rig.metrics.all_drops().len(), 1);
    assert_eq!(rig.engine.live_instances(), 3);
    let status = &rig.guests.status()[0];
    assert_eq!((status.failures, status.swaps.swapped, status.swaps.rolled_back), (4, 0, 0));
}

#[test]
fn the_built_in_scorer_takes_over_the_held_shots() {
    let body = "(if (i64.ge_u (local.get $sequence) (i64.const 5)) (then (unreachable)))
        (call $see (local.get $session) (local.get $sequence) (local.get $frame) (local.get $tracks) (local.get $tracks_len))
        (call $drop_frame (local.get $frame))
        (call $give (local.get $ended) (local.get $ended_len))";
    let mut rig = camera(SlotKind::Scorer, &kit::scorer(&[("observe", body)]), OnFailure::Fallback);
    let mut given = Vec::new();
    for n in 0..30 {
        let out = run(&mut rig, n, if n < 12 { 3 } else { 2 });
        given.extend(out.shots.iter().map(|s| (s.track_id, s.sequence)));
        assert_eq!(degraded(&out).is_empty(), n <= 6, "frame {n}: also what is not of the scorer is marked");
    }
    assert_eq!(rig.guests.status()[1].state, "fallback");
    given.extend(rig.guests.flush().shots.iter().map(|s| (s.track_id, s.sequence)));
    assert_eq!(given, [(3, 0), (1, 0), (2, 0)], "pictures of the first frame, each once");
    assert_eq!(rig.metrics.drops(DropReason::ScorerFailed), 3);
}

#[test]
fn the_built_in_formatter_writes_instead() {
    let body = "(unreachable)";
    let mut rig = camera(SlotKind::Formatter, &kit::formatter(&[("format", body)]), OnFailure::Fallback);
    let written: Vec<usize> = (0..8).map(|n| run(&mut rig, n, 1).messages.len()).collect();
    assert_eq!(written, [0, 0, 0, 1, 1, 1, 1, 1]);
    let out = run(&mut rig, 8, 1);
    assert_eq!(degraded(&out), ["formatter/mine"]);
    assert_eq!(rig.metrics.drops(DropReason::FormatterFailed), 3);
}

#[test]
fn a_guest_cannot_forge_the_mark() {
    // A message with the header `degraded-by: degraded-by`.
    let body = r#"
      (drop (call $write (local.get $event)))
      (i32.store (i32.const 2072) (i32.const 3000)) (i32.store (i32.const 2076) (i32.const 1))
      (i32.store (i32.const 3000) (i32.const 3100)) (i32.store (i32.const 3004) (i32.const 11))
      (i32.store (i32.const 3008) (i32.const 3100)) (i32.store (i32.const 3012) (i32.const 11))
      (i32.const 1024)"#;
    let data = r#"(data (i32.const 3100) "degraded-by")"#;
    let bytes = kit::formatter(&[("format", body), ("extra", data)]);
    let mut rig = camera(SlotKind::Formatter, &bytes, OnFailure::Restart);
    let out = run(&mut rig, 0, 1);
    assert_eq!(out.messages.len(), 1);
    assert!(degraded(&out).is_empty(), "{:?}", out.messages[0].headers);
}

#[test]
fn a_dropped_slot_stays_empty_until_it_is_changed() {
    let mut rig = camera(SlotKind::Tracker, &tracker_failing(5, 30), OnFailure::Drop);
    let mut events = Vec::new();
    for n in 0..200 {
        events.extend(run(&mut rig, n, 2).events);
    }
    assert!(events.iter().any(|e| matches!(e, Event::GuestDegraded { stand_in: None, .. })));
    let status = &rig.guests.status()[0];
    assert_eq!((status.state, status.breaker, status.failures, status.instances), ("dropped", "open", 3, 0));
    assert!(status.degraded());
    assert_eq!(rig.metrics.drops(DropReason::TrackerFailed), 195, "every frame since is counted");
    let good = kit::load(&rig.engine, &kit::tracker(&[]));
    rig.guests.swap(SlotKind::Tracker, kit::slot_guest("good", &good)).unwrap();
    let out = run(&mut rig, 200, 2);
    assert_eq!(live(&out).len(), 2);
    assert_eq!((rig.guests.status()[0].state, degraded(&out).len()), ("running", 0));
}

#[test]
fn without_a_policy_the_guest_is_restarted_for_ever_and_the_breaker_only_tells() {
    let mut rig = camera(SlotKind::Tracker, &tracker_failing(5, 30), OnFailure::Restart);
    for n in 0..40 {
        run(&mut rig, n, 2);
    }
    let status = &rig.guests.status()[0];
    assert_eq!((status.state, status.breaker, status.failures), ("running", "open", 25));
    assert_eq!(rig.metrics.drops(DropReason::TrackerFailed), 25);
    // A minute without a failure.
    let mut later = frame(40);
    later.info.timestamp_ns += 61_000_000_000;
    rig.guests.process(&later, &detections(2), None);
    assert_eq!(rig.guests.status()[0].breaker, "closed");
}

#[test]
fn a_swap_while_another_stands_in_goes_back_to_that_one_when_it_fails() {
    let mut rig = camera(SlotKind::Tracker, &tracker_failing(5, 1_000), OnFailure::Fallback);
    for n in 0..12 {
        run(&mut rig, n, 2);
    }
    assert_eq!(rig.guests.status()[0].state, "fallback");
    let other = kit::load(&rig.engine, &tracker_failing(14, 1_000));
    let prepared = rig.guests.factory().prepare(SlotKind::Tracker, kit::slot_guest("other", &other)).unwrap();
    rig.guests.commit_swap(prepared.on_probation_for(50)).unwrap();
    assert_eq!(rig.guests.wanted(SlotKind::Tracker).guest, "other");
    for n in 12..20 {
        let out = run(&mut rig, n, 2);
        assert_eq!(live(&out), [1, 2], "frame {n}");
    }
    let status = &rig.guests.status()[0];
    assert_eq!((status.state, status.guest.as_str(), status.wanted.guest.as_str()), ("fallback", "built-in", "mine"));
    assert_eq!(rig.metrics.drops(DropReason::TrackerFailed), 3);
}
