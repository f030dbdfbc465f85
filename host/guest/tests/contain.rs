//! Hostile guests, one by one: what each tries, how it ends, and that the host only counts it.
// Helpers outside of `#[test]` functions unwrap too: a failure there is the test's.
#![allow(clippy::unwrap_used)]

mod kit;

use std::sync::atomic::Ordering;

use facestream_core::guest::SlotKind;
use facestream_core::{CameraId, FrameInfo};
use facestream_guest_host::{
    FormatEvent, FormatterGuest, GuestEnv, GuestFailure, GuestLimits, Refusal, ScorerGuest, TrackerGuest,
};
use kit::{Body, frame};

fn env(limits: GuestLimits) -> GuestEnv {
    GuestEnv { camera: CameraId::new("cam-1").unwrap(), guest: "hostile".to_owned(), limits }
}

/// The failure of `advance` on a frame with `n` detections, in a tracker with these bodies.
fn advance_failure(bodies: &[Body<'_>], limits: GuestLimits, n: usize) -> GuestFailure {
    let engine = kit::engine();
    let component = kit::load(&engine, &kit::tracker(bodies));
    let mut guest = TrackerGuest::instantiate(&component, &env(limits)).unwrap();
    guest.configure(&serde_json::json!({})).unwrap();
    let failure = guest.advance(&frame(0).info, &kit::detections(n), None).unwrap_err();
    if !matches!(failure, GuestFailure::Refused(_) | GuestFailure::Invalid(_)) {
        let again = guest.advance(&frame(1).info, &[], None).unwrap_err();
        assert!(again.to_string().contains("failed before"), "an instance that trapped is never called again: {again}");
    }
    failure
}

fn on_advance(body: &str) -> GuestFailure {
    advance_failure(&[("advance", body)], GuestLimits::default(), 3)
}

fn invalid(body: &str, says: &str) {
    match on_advance(body) {
        GuestFailure::Invalid(text) => assert!(text.contains(says), "`{says}` in `{text}`"),
        other => panic!("{other}"),
    }
}

/// Echo, then change a field of the first track (at 8192).
fn echo_then(change: &str) -> String {
    format!(
        "(drop (call $echo (local.get $n) (local.get $detections) (local.get $timestamp))) {change} (i32.const 1024)"
    )
}

#[test]
fn an_endless_loop_is_cut() {
    let limits = GuestLimits { deadline_ms: 5, ..GuestLimits::default() };
    let failure = advance_failure(&[("advance", "(loop $l (br $l)) (unreachable)")], limits, 0);
    assert_eq!(failure, GuestFailure::Deadline { deadline_ms: 5, wall_deadline_ms: 400 });
}

#[test]
fn an_endless_loop_in_configure_or_start_is_cut() {
    let engine = kit::engine();
    let limits = GuestLimits { start_deadline_ms: 5, ..GuestLimits::default() };
    let component = kit::load(&engine, &kit::tracker(&[("configure", "(loop $l (br $l)) (unreachable)")]));
    let mut guest = TrackerGuest::instantiate(&component, &env(limits.clone())).unwrap();
    assert!(matches!(guest.configure(&serde_json::json!({})).unwrap_err(), GuestFailure::Deadline { .. }));
    let start = "(func $spin (loop $l (br $l))) (start $spin)";
    let component = kit::load(&engine, &kit::tracker(&[("extra", start)]));
    assert!(matches!(TrackerGuest::instantiate(&component, &env(limits)).unwrap_err(), GuestFailure::Deadline { .. }));
    assert_eq!(engine.live_instances(), 1, "the one that loops in configure is still here, the other never was");
}

#[test]
fn an_endless_loop_in_the_allocator_is_cut() {
    // The host calls the guest's allocator while it passes the detections in.
    let wat = kit::tracker_wat(&[])
        .replace("(local $at i32)\n    (local.set $at", "(local $at i32)\n    (loop $l (br $l))\n    (local.set $at");
    let engine = kit::engine();
    let component = kit::load(&engine, &kit::component("tracker", &wat));
    let limits = GuestLimits { deadline_ms: 5, start_deadline_ms: 5, ..GuestLimits::default() };
    let mut guest = TrackerGuest::instantiate(&component, &env(limits)).unwrap();
    let failure = guest.advance(&frame(0).info, &kit::detections(1), None).unwrap_err();
    assert!(matches!(failure, GuestFailure::Deadline { .. }), "{failure}");
}

#[test]
fn deep_recursion_traps() {
    let extra = "(func $deep (param i32) (result i32) (i32.add (call $deep (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))";
    let failure = advance_failure(
        &[("extra", extra), ("advance", "(drop (call $deep (i32.const 0))) (call $ok)")],
        GuestLimits { deadline_ms: 1000, wall_deadline_ms: 5000, ..GuestLimits::default() },
        0,
    );
    assert!(matches!(&failure, GuestFailure::Trap(text) if text.contains("stack")), "{failure}");
}

#[test]
fn a_trap_comes_with_its_backtrace() {
    let extra = "(func $inner_name (unreachable))";
    let failure =
        advance_failure(&[("extra", extra), ("advance", "(call $inner_name) (call $ok)")], GuestLimits::default(), 0);
    let GuestFailure::Trap(text) = failure else { panic!("{failure}") };
    assert!(text.contains("unreachable") && text.contains("inner_name"), "{text}");
}

#[test]
fn a_memory_bomb_gets_no_more_than_its_limit() {
    let grow = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)";
    let limits = GuestLimits { max_memory_bytes: 4 << 20, ..GuestLimits::default() };
    let failure = advance_failure(&[("advance", grow)], limits, 0);
    assert!(matches!(failure, GuestFailure::Memory { limit_bytes, .. } if limit_bytes == 4 << 20), "{failure}");
}

#[test]
fn a_table_bomb_counts_against_the_same_limit() {
    let grow =
        "(loop $l (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))) (unreachable)";
    let limits = GuestLimits { max_memory_bytes: (4 * 65_536) + 50_000, ..GuestLimits::default() };
    let failure = advance_failure(&[("extra", "(table $t 0 funcref)"), ("advance", grow)], limits, 0);
    assert!(matches!(failure, GuestFailure::Memory { .. }), "{failure}");
}

#[test]
fn memory_and_table_together_above_the_limit_do_not_start() {
    let engine = kit::engine();
    let component = kit::load(&engine, &kit::tracker(&[("extra", "(table 10000 funcref)")]));
    let limits = GuestLimits { max_memory_bytes: 4 * 65_536 + 79_999, ..GuestLimits::default() };
    let failure = TrackerGuest::instantiate(&component, &env(limits.clone())).unwrap_err();
    assert!(matches!(failure, GuestFailure::Memory { .. }), "{failure}");
    let enough = GuestLimits { max_memory_bytes: 4 * 65_536 + 2 * 80_000, ..limits };
    TrackerGuest::instantiate(&component, &env(enough)).unwrap();
}

#[test]
fn impossible_tracks_are_refused_and_named() {
    invalid(&echo_then("(f32.store (i32.const 8204) (f32.const nan))"), "NaN");
    invalid(&echo_then("(f32.store (i32.const 8212) (f32.const inf))"), "inf");
    invalid(&echo_then("(f32.store (i32.const 8216) (f32.const -5))"), "negative size");
    invalid(&echo_then("(f32.store (i32.const 8228) (f32.const 7))"), "confidence");
    invalid(&echo_then("(i32.store (i32.const 8240) (i32.const 99))"), "detection 99 of 3");
    invalid(&echo_then("(i64.store (i32.const 8192) (i64.const 2))"), "twice");
    invalid(&echo_then("(i64.store (i32.const 8192) (i64.const -1))"), "2^53");
    let ended_twice = "(i64.store (i32.const 600) (i64.const 9)) (i64.store (i32.const 608) (i64.const 9))
        (i32.store (i32.const 1036) (i32.const 600)) (i32.store (i32.const 1040) (i32.const 2))";
    invalid(&echo_then(ended_twice), "twice");
}

#[test]
fn answers_that_point_outside_the_memory_or_are_no_values_trap() {
    for change in [
        "(i32.store (i32.const 1028) (i32.const 0x7ffffff8))",
        "(i32.store (i32.const 1032) (i32.const 0x7fffffff))",
        "(i32.store8 (i32.const 1024) (i32.const 7))",
        "(i32.store8 (i32.const 8200) (i32.const 99))",
        "(i32.store (i32.const 1028) (i32.const 8193))",
    ] {
        let failure = on_advance(&echo_then(change));
        assert!(matches!(failure, GuestFailure::Trap(_)), "{change}: {failure}");
    }
}

#[test]
fn a_gigantic_list_is_refused() {
    // 50,000 tracks: inside its memory, above the count.
    let body = echo_then("(drop (memory.grow (i32.const 60))) (i32.store (i32.const 1032) (i32.const 50000))");
    let failure = on_advance(&body);
    assert!(matches!(&failure, GuestFailure::Invalid(text) if text.contains("50000 tracks")), "{failure}");
}

#[test]
fn a_list_of_strings_that_all_lie_on_one_place_does_not_become_a_terabyte_here() {
    // One message with 60,000 headers, each name and value the same megabyte.
    let body = r#"
      (drop (memory.grow (i32.const 64)))
      (local.set $at (i32.const 2000000))
      (loop $l
        (i32.store (local.get $at) (i32.const 500000)) (i32.store offset=4 (local.get $at) (i32.const 1000000))
        (i32.store offset=8 (local.get $at) (i32.const 500000)) (i32.store offset=12 (local.get $at) (i32.const 1000000))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (br_if $l (i32.lt_u (local.get $at) (i32.const 2960000))))
      (drop (call $message (i32.const 32) (i32.const 5) (i32.const 16) (i32.const 4)))
      (i32.store (i32.const 2072) (i32.const 2000000)) (i32.store (i32.const 2076) (i32.const 60000))
      (i32.const 1024)"#;
    let engine = kit::engine();
    let wat = kit::formatter_wat(&[("format", &format!("(local $at i32) {body}"))]);
    let component = kit::load(&engine, &kit::component("formatter", &wat));
    let limits = GuestLimits { deadline_ms: 1000, wall_deadline_ms: 5000, ..GuestLimits::default() };
    let mut guest = FormatterGuest::instantiate(&component, &env(limits)).unwrap();
    guest.configure(&serde_json::json!({})).unwrap();
    let failure = guest.format(FormatEvent::Frame(&frame(0).info, &[])).unwrap_err();
    assert!(matches!(&failure, GuestFailure::Trap(text) if text.contains("fuel")), "{failure}");
}

#[test]
fn oversize_and_misnamed_messages_are_refused() {
    let engine = kit::engine();
    for (body, says) in [
        ("(call $message (i32.const 32) (i32.const 5) (i32.const 16) (i32.const 101))", "101 bytes of payload"),
        ("(call $message (i32.const 80) (i32.const 24) (i32.const 16) (i32.const 1))", "no topic name"),
        ("(call $message (i32.const 32) (i32.const 0) (i32.const 16) (i32.const 1))", "no topic name"),
    ] {
        let component = kit::load(&engine, &kit::formatter(&[("format", body)]));
        let limits = GuestLimits { max_message_bytes: 100, ..GuestLimits::default() };
        let mut guest = FormatterGuest::instantiate(&component, &env(limits)).unwrap();
        guest.configure(&serde_json::json!({})).unwrap();
        let failure = guest.format(FormatEvent::Frame(&frame(0).info, &[])).unwrap_err();
        assert!(matches!(&failure, GuestFailure::Invalid(text) if text.contains(says)), "{failure}");
    }
}

#[test]
fn a_log_flood_costs_the_guest_its_lines_and_nobody_else_anything() {
    let body = "(local $i i32) (loop $l (call $log (i32.const 4) (i32.const 32) (i32.const 5))
        (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $l (i32.lt_u (local.get $i) (i32.const 2000)))) (call $ok)";
    let engine = kit::engine();
    let component = kit::load(&engine, &kit::tracker(&[("advance", body)]));
    let limits = GuestLimits { deadline_ms: 1000, wall_deadline_ms: 5000, ..GuestLimits::default() };
    let mut guest = TrackerGuest::instantiate(&component, &env(limits)).unwrap();
    guest.configure(&serde_json::json!({})).unwrap();
    guest.advance(&frame(0).info, &[], None).unwrap();
    let (written, left_out) = guest.log_lines();
    assert_eq!(written + left_out, 2000);
    // The window of a second may turn once or twice on a slow machine.
    assert!(written <= 60, "{written}");
}

fn scorer(bodies: &[Body<'_>], limits: GuestLimits) -> ScorerGuest {
    let component = kit::load(&kit::engine(), &kit::scorer(bodies));
    let mut guest = ScorerGuest::instantiate(&component, &env(limits)).unwrap();
    guest.configure(&serde_json::json!({})).unwrap();
    guest
}

#[test]
fn crops_are_refused_over_budget_and_freed_with_the_guest() {
    // Crops of 64 x 64: 6,144 bytes each; ten fit, the next answers over-budget (1).
    let body = "(local $i i32)
      (loop $l
        (call $crop (local.get $frame) (f32.const 0) (f32.const 0) (f32.const 64) (f32.const 64) (f32.const 0) (i32.const 0) (i32.const 256))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $l (i32.eqz (i32.load8_u (i32.const 256)))))
      (if (i32.ne (i32.load8_u (i32.const 260)) (i32.const 1)) (then (unreachable)))
      (if (i32.ne (local.get $i) (i32.const 11)) (then (unreachable)))
      (call $drop_frame (local.get $frame)) (call $ok)";
    let limits = GuestLimits { max_crop_bytes: 10 * 6144 + 100, ..GuestLimits::default() };
    let mut guest = scorer(&[("observe", body)], limits);
    let picture = frame(0);
    guest.observe(&picture, &[], &[], &[]).unwrap();
    let weak = std::sync::Arc::downgrade(&picture.picture);
    drop(picture);
    assert!(weak.upgrade().is_none(), "the frame itself is not kept");
    assert!(guest.crop_bytes() == 61_440 && kit::PICTURES.load(Ordering::SeqCst) >= 10);
    drop(guest);
}

#[test]
fn a_frame_that_is_kept_after_the_call_is_a_trap() {
    let mut guest = scorer(&[("observe", "(call $ok)")], GuestLimits::default());
    let failure = guest.observe(&frame(0), &[], &[], &[]).unwrap_err();
    assert!(matches!(&failure, GuestFailure::Trap(text) if text.contains("borrow")), "{failure}");
}

#[test]
fn a_frame_handle_from_an_earlier_call_is_worth_nothing() {
    let body = "(call $drop_frame (local.get $frame))
      (call $crop (local.get $frame) (f32.const 0) (f32.const 0) (f32.const 64) (f32.const 64) (f32.const 0) (i32.const 0) (i32.const 256))
      (call $ok)";
    let mut guest = scorer(&[("observe", body)], GuestLimits::default());
    let failure = guest.observe(&frame(0), &[], &[], &[]).unwrap_err();
    assert!(matches!(failure, GuestFailure::Trap(_)), "{failure}");
}

#[test]
fn crops_dropped_twice_or_returned_twice_are_traps() {
    let take = "(call $crop (local.get $frame) (f32.const 0) (f32.const 0) (f32.const 64) (f32.const 64) (f32.const 0) (i32.const 0) (i32.const 256))";
    let twice = format!(
        "{take} (call $drop_crop (i32.load (i32.const 260))) (call $drop_crop (i32.load (i32.const 260))) (call $ok)"
    );
    let mut guest = scorer(&[("observe", &twice)], GuestLimits::default());
    assert!(matches!(guest.observe(&frame(0), &[], &[], &[]).unwrap_err(), GuestFailure::Trap(_)));
}

#[test]
fn areas_that_are_nonsense_are_answers_not_failures() {
    for (area, margin) in [
        ("(f32.const nan) (f32.const 0) (f32.const 9) (f32.const 9)", "0"),
        ("(f32.const -99) (f32.const 0) (f32.const 9) (f32.const 9)", "0"),
        ("(f32.const 0) (f32.const 0) (f32.const 9) (f32.const 9)", "inf"),
    ] {
        let body = format!(
            "(call $crop (local.get $frame) {area} (f32.const {margin}) (i32.const 0) (i32.const 256))
             (if (i32.ne (i32.load8_u (i32.const 256)) (i32.const 1)) (then (unreachable)))
             (if (i32.ne (i32.load8_u (i32.const 260)) (i32.const 0)) (then (unreachable)))
             (call $drop_frame (local.get $frame)) (call $ok)"
        );
        scorer(&[("observe", &body)], GuestLimits::default()).observe(&frame(0), &[], &[], &[]).unwrap();
    }
}

#[test]
fn a_guest_that_says_no_stays() {
    let engine = kit::engine();
    let component = kit::load(&engine, &kit::tracker(&[("advance", "(call $no)")]));
    let mut guest = TrackerGuest::instantiate(&component, &env(GuestLimits::default())).unwrap();
    for _ in 0..3 {
        let failure = guest.advance(&FrameInfo::default(), &[], None).unwrap_err();
        assert_eq!(failure, GuestFailure::Refused(Refusal::Failed("no".to_owned())));
    }
}

#[test]
fn the_pool_is_finite_and_says_so() {
    let config = facestream_guest_host::GuestConfig { max_instances: 3, ..kit::config() };
    let engine = facestream_guest_host::GuestEngine::new(&config).unwrap();
    let component = kit::load(&engine, &kit::tracker(&[]));
    let make = || TrackerGuest::instantiate(&component, &env(GuestLimits::default()));
    let held: Vec<_> = (0..3).map(|_| make().unwrap()).collect();
    assert!(matches!(make().unwrap_err(), GuestFailure::Instantiate(_)));
    assert_eq!(engine.live_instances(), 3);
    drop(held);
    assert_eq!(engine.live_instances(), 0);
    make().unwrap();
}

#[test]
fn a_component_for_another_slot_is_not_started() {
    let component = kit::load(&kit::engine(), &kit::tracker(&[]));
    let failure = ScorerGuest::instantiate(&component, &env(GuestLimits::default())).unwrap_err();
    assert!(failure.to_string().contains("is a tracker, not a scorer"), "{failure}");
    assert_eq!(component.kind(), SlotKind::Tracker);
}
