//! A camera's three guests together: messages and their identity, failures and restarts, swaps with state.
// Helpers outside of `#[test]` functions unwrap too: a failure there is the test's.
#![allow(clippy::unwrap_used)]

mod kit;

use facestream_core::event::Event;
use facestream_core::guest::SlotKind;
use facestream_core::metrics::Counter;
use facestream_core::{DropReason, Message, ShotReason};
use facestream_guest_host::{GuestConfig, Outcome, RestartConfig, SwapError};
use kit::{Rig, config, detections, frame, rig};

fn run(rig: &mut Rig, n: u64, faces: usize) -> Outcome {
    rig.guests.process(&frame(n), &detections(faces), None)
}

fn ids(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|m| m.id.0.as_str()).collect()
}

fn live(out: &Outcome) -> Vec<u64> {
    out.tracks.as_ref().expect("the tracker answered").iter().map(|t| t.id).collect()
}

/// Fails when the call counter (8 bytes at 512) reaches a number; else as usual.
fn advance_trapping_at(call: u64) -> String {
    format!(
        "(if (i64.eq (i64.load (i32.const 512)) (i64.const {call})) (then (unreachable)))
         (call $echo (local.get $n) (local.get $detections) (local.get $timestamp))"
    )
}

#[test]
fn a_track_lives_gives_its_shot_ends_once_and_every_message_has_its_id() {
    let mut rig = rig(config(), None, None, None);
    let out = run(&mut rig, 0, 2);
    assert_eq!((live(&out), out.began), (vec![1, 2], 2));
    assert_eq!(ids(&out.messages), ["cam-1/1/0/-/frame/0"]);
    let m = &out.messages[0];
    assert_eq!(m.topic, "frames");
    assert_eq!(m.payload.as_ref(), kit::FRAME_NS.to_le_bytes());
    let headers: Vec<_> = m.headers.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(
        headers[..5],
        [
            ("message-id", "cam-1/1/0/-/frame/0"),
            ("camera-id", "cam-1"),
            ("session", "1"),
            ("sequence", "0"),
            ("content-type", "application/octet-stream"),
        ]
    );
    assert_eq!((headers[5].0, headers[5].1.len()), ("guest-digests", 3 * 12 + 2), "who made it");
    assert_eq!((headers[6].0, headers[6].1.len()), ("config-digest", 16));
    assert_eq!(headers.len(), 7);
    // Track 2 is gone: the tracker does not say so, the host ends it, the scorer gives its shot up.
    let out = run(&mut rig, 1, 1);
    assert_eq!(out.ended.iter().map(|t| t.id).collect::<Vec<_>>(), [2]);
    assert_eq!(out.shots.len(), 1);
    assert_eq!((out.shots[0].track_id, out.shots[0].reason, out.shots[0].sequence), (2, ShotReason::Ended, 0));
    assert_eq!(ids(&out.messages), ["cam-1/1/0/2/ended/0", "cam-1/1/1/2/ending/0", "cam-1/1/1/-/frame/0"]);
    assert_eq!(out.messages[0].payload.as_ref(), 2_u64.to_le_bytes());
    // The camera stops.
    let out = rig.guests.flush();
    assert_eq!(ids(&out.messages), ["cam-1/1/0/1/flushed/0", "cam-1/1/1/1/ending/0"]);
    let count = |c| rig.metrics.get(c);
    assert_eq!((count(Counter::Tracks), count(Counter::TracksEnded), count(Counter::Shots)), (2, 2, 2));
    assert!(rig.metrics.all_drops().is_empty());
    assert!(rig.guests.flush().messages.is_empty(), "nothing is left");
}

#[test]
fn a_formatter_is_called_only_for_what_it_asked_for() {
    let silent = kit::formatter(&[(
        "configure",
        "(drop (call $ok)) (i32.store8 (i32.const 1028) (i32.const 2)) (i32.const 1024)",
    )]);
    let mut rig = rig(config(), None, None, Some(silent));
    run(&mut rig, 0, 1);
    let out = run(&mut rig, 1, 0);
    assert_eq!(ids(&out.messages), ["cam-1/1/1/1/ending/0"]);
    assert_eq!(out.shots.len(), 1, "the shot is there for others, the formatter did not want it");
    assert_eq!(rig.guests.status()[2].calls, 2, "configure and one ending");
}

#[test]
fn the_same_input_gives_the_same_output() {
    let run_all = || {
        let mut rig = rig(config(), None, None, None);
        let mut all = Vec::new();
        for n in 0..60 {
            all.extend(run(&mut rig, n, (n % 7) as usize).messages);
        }
        all.extend(rig.guests.flush().messages);
        all
    };
    let first = run_all();
    assert!(first.len() > 100);
    assert_eq!(first, run_all());
}

#[test]
fn a_tracker_that_traps_costs_one_frame_and_ids_go_on() {
    let mut rig = rig(config(), Some(kit::tracker(&[("advance", &advance_trapping_at(3))])), None, None);
    for n in 0..3 {
        assert_eq!(live(&run(&mut rig, n, 2)), [1, 2]);
    }
    let out = run(&mut rig, 3, 2);
    assert!(out.tracks.is_none() && out.ended.is_empty());
    assert!(matches!(&out.events[..], [Event::GuestFailed { slot: SlotKind::Tracker, .. }]), "{:?}", out.events);
    assert_eq!(rig.metrics.drops(DropReason::TrackerFailed), 1);
    let status = &rig.guests.status()[0];
    assert_eq!((status.state, status.failures, status.restarts), ("restarting", 1, 0));
    assert!(status.last_error.as_ref().unwrap().contains("unreachable"), "{status:?}");

    let out = run(&mut rig, 4, 2);
    assert!(matches!(&out.events[..], [Event::GuestRestarted { .. }]), "{:?}", out.events);
    assert_eq!((live(&out), out.began), (vec![1, 2], 0), "the same tracks");
    let status = &rig.guests.status()[0];
    assert_eq!((status.state, status.failures, status.restarts), ("running", 1, 1));
}

#[test]
fn a_guest_in_a_crash_loop_is_tried_less_and_less_and_its_tracks_end() {
    let config = GuestConfig {
        restart: RestartConfig { backoff_ms: 200, max_backoff_ms: 400, stable_after_ms: 60_000 },
        orphan_tracks_after_ms: 1_000,
        ..config()
    };
    // Fresh instances trap at their first frame; the state of the one that ran (count 5) is not given to them.
    let body = "(if (i64.eqz (i64.load (i32.const 512))) (then (if (i64.gt_u (local.get $sequence) (i64.const 4)) (then (unreachable)))))
        (if (i64.gt_u (local.get $sequence) (i64.const 4)) (then (unreachable)))
        (call $echo (local.get $n) (local.get $detections) (local.get $timestamp))";
    let mut rig = rig(config, Some(kit::tracker(&[("advance", body)])), None, None);
    let mut failed_at = Vec::new();
    let mut ended = Vec::new();
    let mut shots = 0;
    for n in 0..60 {
        let out = run(&mut rig, n, 1);
        if out.events.iter().any(|e| matches!(e, Event::GuestFailed { .. })) {
            failed_at.push(n);
        }
        ended.extend(out.ended.iter().map(|t| (n, t.id)));
        shots += out.shots.len();
    }
    // 40 ms a frame: at once, then 200 ms (5 frames), then every 400 ms (10 frames).
    assert_eq!(failed_at, [5, 6, 11, 21, 31, 41, 51]);
    assert_eq!(rig.metrics.drops(DropReason::TrackerFailed), 55);
    // Down since frame 5, or since its latest restart failed: the track ends after a second without a tracker.
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert_eq!((ended[0].1, shots), (1, 1), "and its shot is given up");
}

#[test]
fn a_scorer_that_traps_gets_its_saved_shots_back_and_none_is_given_twice() {
    // It traps when frame 12 comes, and never again, because fresh instances see only later frames.
    let body = "(if (i64.eq (local.get $sequence) (i64.const 12)) (then (unreachable)))
        (call $see (local.get $session) (local.get $sequence) (local.get $frame) (local.get $tracks) (local.get $tracks_len))
        (call $drop_frame (local.get $frame))
        (call $give (local.get $ended) (local.get $ended_len))";
    let config = GuestConfig { save_every_frames: 10, ..config() };
    let mut rig = rig(config, None, Some(kit::scorer(&[("observe", body)])), None);
    let mut given = Vec::new();
    let mut take = |out: Outcome| given.extend(out.shots.iter().map(|s| (s.track_id, s.sequence)));
    for n in 0..10 {
        take(run(&mut rig, n, 3)); // Saved after frame 9, with shots of tracks 1, 2, 3 from frame 0.
    }
    take(run(&mut rig, 10, 2)); // Track 3 ends; its shot is given up.
    take(run(&mut rig, 11, 2));
    let out = run(&mut rig, 12, 1); // Track 2 ends; the scorer traps and does not hear of it.
    assert!(matches!(&out.events[..], [Event::GuestFailed { slot: SlotKind::Scorer, .. }]), "{:?}", out.events);
    assert_eq!(out.ended.len(), 1);
    take(out);
    assert_eq!(rig.metrics.drops(DropReason::ScorerFailed), 1);
    let out = run(&mut rig, 13, 1); // Restarted from the save: told of track 2's end, gives its shot of frame 0 up.
    assert!(matches!(&out.events[..], [Event::GuestRestarted { .. }]), "{:?}", out.events);
    take(out);
    take(rig.guests.flush());
    given.sort_unstable();
    assert_eq!(given, [(1, 0), (2, 0), (3, 0)], "each once, all from the first frame");
}

#[test]
fn a_shot_of_a_track_that_never_was_ends_the_scorer() {
    let lie = "(call $see (local.get $session) (local.get $sequence) (local.get $frame) (local.get $tracks) (local.get $tracks_len))
        (call $drop_frame (local.get $frame))
        (i64.store (call $held (i32.const 1)) (i64.const 777))
        (call $give_all (i32.const 3)) (call $given)";
    let mut rig = rig(config(), None, Some(kit::scorer(&[("observe", lie)])), None);
    let out = run(&mut rig, 0, 1);
    assert!(out.shots.is_empty());
    let Event::GuestFailed { reason, .. } = &out.events[0] else { panic!("{:?}", out.events) };
    assert!(reason.contains("track 777"), "{reason}");
    assert_eq!(rig.metrics.drops(DropReason::ScorerFailed), 1);
}

#[test]
fn a_formatter_that_traps_loses_its_event_and_nothing_else() {
    let body =
        "(if (i64.eq (i64.load (i32.const 512)) (i64.const 2)) (then (unreachable))) (call $write (local.get $event))";
    let config = GuestConfig { save_every_frames: 0, ..config() };
    let mut rig = rig(config, None, None, Some(kit::formatter(&[("format", body)])));
    let messages: Vec<usize> = (0..6).map(|n| run(&mut rig, n, 1).messages.len()).collect();
    assert_eq!(
        messages,
        [1, 1, 0, 1, 1, 0],
        "every third event of an instance traps; the next instance starts at zero"
    );
    assert_eq!(rig.metrics.drops(DropReason::FormatterFailed), 2);
    assert_eq!(rig.metrics.all_drops().len(), 1);
}

#[test]
fn a_guest_that_keeps_refusing_is_restarted() {
    let mut rig = rig(config(), Some(kit::tracker(&[("advance", "(call $no)")])), None, None);
    let mut failed = 0;
    for n in 0..10 {
        failed += run(&mut rig, n, 1).events.iter().filter(|e| matches!(e, Event::GuestFailed { .. })).count();
    }
    assert_eq!(failed, 2, "after five refusals each");
    assert_eq!(rig.metrics.drops(DropReason::TrackerFailed), 10);
}

/// Time passes between the frames of a slow camera, and of that it takes notice.
#[test]
fn a_guest_that_refuses_every_frame_is_restarted_whatever_else_it_answers() {
    let mut rig = rig(
        config(),
        None,
        Some(kit::scorer(&[("observe", "(call $drop_frame (local.get $frame)) (call $no)")])),
        None,
    );
    let mut failed = 0;
    for n in 0..10 {
        let mut events = run(&mut rig, n, 1).events;
        events.extend(rig.guests.tick(frame(n).info.timestamp_ns + 1_000_000).events);
        failed += events.iter().filter(|e| matches!(e, Event::GuestFailed { .. })).count();
    }
    assert_eq!(failed, 2, "after five refused frames each");
    assert_eq!(rig.metrics.drops(DropReason::ScorerFailed), 10);
}

#[test]
fn swapping_the_same_kind_carries_private_state() {
    let mut rig = rig(config(), None, None, None);
    run(&mut rig, 0, 3);
    let other = kit::load(&rig.engine, &kit::tracker(&[("extra", "(func $another)")]));
    let (report, out) = rig.guests.swap(SlotKind::Tracker, kit::slot_guest("other", &other)).unwrap();
    assert_eq!((report.state, report.new_digest.as_str()), ("private", other.digest().to_string().as_str()));
    assert_ne!(report.old_digest, report.new_digest);
    assert!(matches!(&out.events[..], [Event::GuestSwapped { .. }]));
    let out = run(&mut rig, 1, 3);
    assert_eq!((live(&out), out.began), (vec![1, 2, 3], 0));
    assert_eq!(rig.guests.status()[0].guest, "other");

    let other = kit::load(&rig.engine, &kit::scorer(&[("extra", "(func $another)")]));
    let (report, out) = rig.guests.swap(SlotKind::Scorer, kit::slot_guest("other", &other)).unwrap();
    assert_eq!((report.state, out.shots.len()), ("private", 0), "held shots move, they are not given up");
    let other = kit::load(&rig.engine, &kit::formatter(&[("extra", "(func $another)")]));
    assert_eq!(rig.guests.swap(SlotKind::Formatter, kit::slot_guest("other", &other)).unwrap().0.state, "private");
    let shots = rig.guests.flush().shots;
    assert_eq!(shots.iter().map(|s| (s.track_id, s.sequence)).collect::<Vec<_>>(), [(1, 0), (2, 0), (3, 0)]);
    assert_eq!(rig.engine.live_instances(), 3, "the old ones are gone");
}

/// Another schema, and private state of others refused.
const STRANGER: kit::Body<'_> = (
    "restore",
    "(if (i32.gt_u (local.get $schema_len) (i32.const 0))
       (then
         (drop (call $no)) (i32.store8 (i32.const 1028) (i32.const 1)) (return (i32.const 1024))))
     (call $ok)",
);
const OTHER_SCHEMA: kit::Body<'_> =
    ("save", "(drop (call $snapshot)) (i32.store (i32.const 1032) (i32.const 4)) (i32.const 1024)");

#[test]
fn swapping_to_another_kind_carries_neutral_state_and_ids_go_on() {
    let mut rig = rig(config(), None, None, None);
    run(&mut rig, 0, 2);
    let other = kit::load(&rig.engine, &kit::tracker(&[STRANGER, OTHER_SCHEMA]));
    let (report, _) = rig.guests.swap(SlotKind::Tracker, kit::slot_guest("other", &other)).unwrap();
    assert_eq!(report.state, "neutral");
    let out = run(&mut rig, 1, 2);
    assert_eq!((live(&out), out.began, out.ended.len()), (vec![1, 2], 0, 0));
}

#[test]
fn a_scorer_that_cannot_take_held_shots_gets_none_and_they_are_sent() {
    let mut rig = rig(config(), None, None, None);
    run(&mut rig, 0, 2);
    let unread = "(drop (call $no)) (i32.store8 (i32.const 1028) (i32.const 1)) (i32.const 1024)";
    let refuses = kit::load(&rig.engine, &kit::scorer(&[("restore", unread)]));
    let (report, out) = rig.guests.swap(SlotKind::Scorer, kit::slot_guest("other", &refuses)).unwrap();
    assert_eq!(report.state, "none");
    assert_eq!(ids(&out.messages), ["cam-1/1/0/1/flushed/0", "cam-1/1/0/2/flushed/0"]);
}

#[test]
fn a_formatter_of_another_kind_starts_afresh_and_what_was_gathered_is_sent() {
    let gathers =
        kit::formatter(&[("flush", "(call $message (i32.const 64) (i32.const 6) (i32.const 512) (i32.const 8))")]);
    let mut rig = rig(config(), None, None, Some(gathers));
    run(&mut rig, 0, 1);
    let other = kit::load(&rig.engine, &kit::formatter(&[OTHER_SCHEMA]));
    let (report, out) = rig.guests.swap(SlotKind::Formatter, kit::slot_guest("other", &other)).unwrap();
    assert_eq!(report.state, "none");
    assert_eq!(ids(&out.messages), ["cam-1/1/0/-/flush/0"]);
}

#[test]
fn a_new_guest_that_traps_in_restore_is_rolled_back_with_the_state() {
    let mut rig = rig(config(), None, None, None);
    run(&mut rig, 0, 2);
    let digest = rig.guests.status()[1].digest.clone();
    for (kind, bytes) in [
        (SlotKind::Tracker, kit::tracker(&[("restore", "(unreachable)")])),
        (SlotKind::Scorer, kit::scorer(&[("restore", "(unreachable)")])),
        (SlotKind::Formatter, kit::formatter(&[("restore", "(unreachable)")])),
        (SlotKind::Tracker, kit::tracker(&[("restore", "(call $no)")])),
        (SlotKind::Scorer, kit::scorer(&[("restore", "(call $no)")])),
        (SlotKind::Formatter, kit::formatter(&[("restore", "(call $no)")])),
    ] {
        let bad = kit::load(&rig.engine, &bytes);
        let error = rig.guests.swap(kind, kit::slot_guest("bad", &bad)).unwrap_err();
        assert!(matches!(error, SwapError::Restore { .. }), "{error}");
    }
    let out = run(&mut rig, 1, 2);
    assert_eq!((live(&out), out.began), (vec![1, 2], 0));
    assert_eq!(rig.guests.status()[1].digest, digest);
    assert_eq!(rig.guests.flush().shots.len(), 2, "the scorer still holds what it held");
    assert!(rig.metrics.all_drops().is_empty());
}

#[test]
fn a_new_guest_that_does_not_start_never_comes_near_the_camera() {
    let mut rig = rig(config(), None, None, None);
    run(&mut rig, 0, 2);
    for bodies in [[("configure", "(call $no)")], [("configure", "(unreachable)")], [("save", "(unreachable)")]] {
        let bad = kit::load(&rig.engine, &kit::tracker(&bodies));
        let error = rig.guests.factory().prepare(SlotKind::Tracker, kit::slot_guest("bad", &bad)).unwrap_err();
        assert!(matches!(error, SwapError::Start { .. }), "{error}");
    }
    let tracker = kit::load(&rig.engine, &kit::tracker(&[]));
    let error = rig.guests.factory().prepare(SlotKind::Scorer, kit::slot_guest("t", &tracker)).unwrap_err();
    assert!(matches!(error, SwapError::WrongSlot { .. }), "{error}");
    assert_eq!(live(&run(&mut rig, 1, 2)), [1, 2]);
}

#[test]
fn new_settings_keep_the_instance_and_refused_ones_change_nothing() {
    // Refuses settings of more than two characters once it has run.
    let body = "(if (i32.and (i64.ne (i64.load (i32.const 512)) (i64.const 0)) (i32.gt_u (local.get $config_len) (i32.const 12)))
        (then (return (call $no)))) (call $ok)";
    let mut rig = rig(config(), Some(kit::tracker(&[("configure", body)])), None, None);
    run(&mut rig, 0, 2);
    let (report, _) = rig.guests.reconfigure(SlotKind::Tracker, serde_json::json!({"a": 1})).unwrap();
    assert_eq!(report.old_digest, report.new_digest);
    let error = rig.guests.reconfigure(SlotKind::Tracker, serde_json::json!({"a-long-name": 1})).unwrap_err();
    assert!(error.to_string().contains("no"), "{error}");
    assert_eq!(rig.guests.status()[0].config, serde_json::json!({"a": 1}));
    assert_eq!(live(&run(&mut rig, 1, 2)), [1, 2]);
}

#[test]
fn a_thousand_swaps_of_each_slot_lose_and_repeat_nothing() {
    let mut rig = rig(config(), None, None, None);
    let pair = |kind| {
        let make = |bodies: &[kit::Body<'_>]| match kind {
            SlotKind::Tracker => kit::tracker(bodies),
            SlotKind::Scorer => kit::scorer(bodies),
            SlotKind::Formatter => kit::formatter(bodies),
        };
        [&[][..], &[("extra", "(func $another)")][..]].map(|b| kit::load(&rig.engine, &make(b)))
    };
    let components = SlotKind::ALL.map(pair);
    let mut frames = Vec::new();
    let mut shots = Vec::new();
    let mut take = |out: Outcome| {
        frames.extend(out.messages.iter().filter(|m| m.topic == "frames").map(|m| m.id.0.clone()));
        shots.extend(out.shots.iter().map(|s| (s.track_id, s.sequence)));
    };
    for n in 0..1000_u64 {
        for (kind, pair) in SlotKind::ALL.into_iter().zip(&components) {
            let component = &pair[(n % 2) as usize];
            let (report, out) = rig.guests.swap(kind, kit::slot_guest("g", component)).unwrap();
            assert_eq!(report.state, "private");
            assert_eq!(out.messages.len(), 0);
            take(out);
        }
        let out = run(&mut rig, n, 3);
        assert_eq!(live(&out), [1, 2, 3]);
        take(out);
        assert_eq!(rig.engine.live_instances(), 3);
    }
    take(rig.guests.flush());
    let expected: Vec<String> = (0..1000).map(|n| format!("cam-1/1/{n}/-/frame/0")).collect();
    assert_eq!(frames, expected, "every frame once, in order");
    assert_eq!(shots, [(1, 0), (2, 0), (3, 0)], "held over a thousand swaps");
    assert!(rig.metrics.all_drops().is_empty());
}
