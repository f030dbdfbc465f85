//! Instances whose memory has grown are made anew between two frames, state kept.
// Helpers outside of `#[test]` functions unwrap too: a failure there is the test's.
#![allow(clippy::unwrap_used)]

mod kit;

use facestream_core::event::Event;
use facestream_guest_host::{GuestConfig, GuestLimits, Outcome};
use kit::{Rig, detections, frame, rig};

const PAGE: u64 = 65_536;

fn run(rig: &mut Rig, n: u64, faces: usize) -> Outcome {
    rig.guests.process(&frame(n), &detections(faces), None)
}

/// Twenty pages, made anew above fifteen; the kit's guests begin with four.
fn config() -> GuestConfig {
    let limits = GuestLimits { max_memory_bytes: 20 * PAGE, ..GuestLimits::default() };
    GuestConfig { limits, recycle_above_percent: 75, ..kit::config() }
}

const LEAK: &str = "(drop (memory.grow (i32.const 1)))";

#[test]
fn a_tracker_that_leaks_lives_on_and_no_frame_or_id_is_lost() {
    let body = format!("{LEAK} (call $echo (local.get $n) (local.get $detections) (local.get $timestamp))");
    let mut rig = rig(config(), Some(kit::tracker(&[("advance", &body)])), None, None);
    let mut recycled = Vec::new();
    for n in 0..100 {
        let out = run(&mut rig, n, 3);
        let live: Vec<u64> = out.tracks.as_ref().unwrap().iter().map(|t| t.id).collect();
        assert_eq!((live, out.began), (vec![1, 2, 3], if n == 0 { 3 } else { 0 }));
        for event in &out.events {
            let Event::GuestRecycled { memory_bytes, .. } = event else { panic!("{event:?}") };
            assert!(*memory_bytes > 14 * PAGE && *memory_bytes <= 16 * PAGE);
            recycled.push(n);
        }
        assert!(rig.guests.status()[0].memory_bytes <= 16 * PAGE);
        assert_eq!(rig.engine.live_instances(), 3);
    }
    assert_eq!(recycled.len(), 9, "every eleven frames: {recycled:?}");
    let status = &rig.guests.status()[0];
    assert_eq!((status.recycles, status.failures, status.restarts), (9, 0, 0));
    assert!(rig.metrics.all_drops().is_empty());
}

#[test]
fn without_recycling_the_same_guest_runs_into_its_limit() {
    let body = "(if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (unreachable)))
         (call $echo (local.get $n) (local.get $detections) (local.get $timestamp))";
    let mut rig =
        rig(GuestConfig { recycle_above_percent: 0, ..config() }, Some(kit::tracker(&[("advance", body)])), None, None);
    for n in 0..20 {
        run(&mut rig, n, 3);
    }
    let status = &rig.guests.status()[0];
    assert_eq!((status.recycles, status.failures_by_kind["memory"]), (0, 1));
}

#[test]
fn a_scorer_that_leaks_keeps_its_shots_and_a_formatter_what_it_gathered() {
    let observe = format!(
        "{LEAK} (call $see (local.get $session) (local.get $sequence) (local.get $frame) (local.get $tracks) (local.get $tracks_len))
        (call $drop_frame (local.get $frame))
        (call $give (local.get $ended) (local.get $ended_len))"
    );
    let format = format!(
        "{LEAK} (i64.store (i32.const 512) (i64.add (i64.load (i32.const 512)) (i64.const 1)))
        (if (i32.eqz (i32.load8_u (local.get $event))) (then (call $drop_crop (i32.load offset=16 (local.get $event)))))
        (call $ok)"
    );
    let flush = "(call $message (i32.const 64) (i32.const 6) (i32.const 512) (i32.const 8))";
    let mut rig = rig(
        config(),
        None,
        Some(kit::scorer(&[("observe", &observe)])),
        Some(kit::formatter(&[("format", &format), ("flush", flush)])),
    );
    for n in 0..50 {
        run(&mut rig, n, 3);
    }
    let status = rig.guests.status();
    assert!(status[1].recycles >= 3 && status[2].recycles >= 3, "{status:?}");
    let out = rig.guests.flush();
    let shots: Vec<_> = out.shots.iter().map(|s| (s.track_id, s.sequence)).collect();
    assert_eq!(shots, [(1, 0), (2, 0), (3, 0)], "held over every new instance");
    assert_eq!(out.messages.last().unwrap().payload.as_ref(), 56_u64.to_le_bytes(), "50 frames, 3 shots, 3 endings");
    assert!(rig.metrics.all_drops().is_empty());
}

#[test]
fn a_guest_whose_state_does_not_go_over_keeps_its_instance() {
    for body in [("save", "(call $no)"), ("restore", "(call $no)")] {
        let advance = format!("{LEAK} (call $echo (local.get $n) (local.get $detections) (local.get $timestamp))");
        let mut rig = rig(config(), Some(kit::tracker(&[("advance", &advance), body])), None, None);
        for n in 0..30 {
            let out = run(&mut rig, n, 3);
            assert!(out.events.is_empty() && out.tracks.is_some(), "frame {n}");
        }
        let status = &rig.guests.status()[0];
        assert_eq!((status.recycles, status.failures), (0, 0));
        assert!(status.memory_bytes > 18 * PAGE, "it has all that it may have");
    }
}

#[test]
fn a_guest_that_needs_much_from_the_start_is_not_made_anew_at_every_frame() {
    // Eighteen of twenty pages at once: above the share from its first frame on.
    let extra = "(func $big (drop (memory.grow (i32.const 14)))) (start $big)";
    let mut rig = rig(config(), Some(kit::tracker(&[("extra", extra)])), None, None);
    for n in 0..30 {
        assert!(run(&mut rig, n, 3).events.is_empty());
    }
    assert_eq!(rig.guests.status()[0].recycles, 0);
}
