//! Limits of a slot in pairs: a guest that keeps each one and one that does not, and what follows.
// Helpers outside of `#[test]` functions unwrap too: a failure there is the test's.
#![allow(clippy::unwrap_used)]

mod kit;

use facestream_core::CameraId;
use facestream_core::event::Event;
use facestream_guest_host::{
    FormatEvent, FormatterGuest, GuestConfig, GuestEngine, GuestEnv, GuestFailure, GuestLimits, ScorerGuest,
    TrackerGuest,
};
use kit::{Body, config, detections, frame, rig};

fn env(limits: GuestLimits) -> GuestEnv {
    GuestEnv { camera: CameraId::new("cam-1").unwrap(), guest: "guest".to_owned(), limits }
}

/// One for all: its ticker thread, which cuts calls, lives as long as it does.
fn engine() -> &'static GuestEngine {
    static ENGINE: std::sync::LazyLock<GuestEngine> = std::sync::LazyLock::new(kit::engine);
    &ENGINE
}

/// Ample time: what is tested is something else.
fn patient() -> GuestLimits {
    GuestLimits { deadline_ms: 2_000, wall_deadline_ms: 20_000, ..GuestLimits::default() }
}

fn tracker(bodies: &[Body<'_>], limits: GuestLimits) -> TrackerGuest {
    let component = kit::load(engine(), &kit::tracker(bodies));
    let mut guest = TrackerGuest::instantiate(&component, &env(limits)).unwrap();
    guest.configure(&serde_json::json!({})).unwrap();
    guest
}

fn scorer(bodies: &[Body<'_>], limits: GuestLimits) -> ScorerGuest {
    let component = kit::load(engine(), &kit::scorer(bodies));
    let mut guest = ScorerGuest::instantiate(&component, &env(limits)).unwrap();
    guest.configure(&serde_json::json!({})).unwrap();
    guest
}

/// One log line of 10 bytes a frame, and a host call with it.
const LOGS: &str = "(call $log (i32.const 2) (i32.const 80) (i32.const 10)) (call $echo (local.get $n) (local.get $detections) (local.get $timestamp))";
/// A crop of 64 x 64 (6,144 bytes) a frame, dropped again.
const CROPS: &str = "(call $crop (local.get $frame) (f32.const 0) (f32.const 0) (f32.const 64) (f32.const 64) (f32.const 0) (i32.const 0) (i32.const 256))
    (call $drop_crop (i32.load (i32.const 260))) (call $drop_frame (local.get $frame)) (call $ok)";

fn key(failure: &GuestFailure) -> &'static str {
    let GuestFailure::Budget { key, .. } = failure else { panic!("{failure}") };
    key
}

#[test]
fn log_text_of_a_second() {
    // 25 frames are a second.
    let mut obeys = tracker(&[("advance", LOGS)], GuestLimits { max_log_bytes_per_s: 250, ..patient() });
    for n in 0..100 {
        obeys.advance(&frame(n).info, &detections(1), None).unwrap();
    }
    let mut violates = tracker(&[("advance", LOGS)], GuestLimits { max_log_bytes_per_s: 249, ..patient() });
    for n in 0..24 {
        violates.advance(&frame(n).info, &detections(1), None).unwrap();
    }
    let failure = violates.advance(&frame(24).info, &detections(1), None).unwrap_err();
    assert_eq!(key(&failure), "max_log_bytes_per_s");
    assert!(failure.to_string().contains("249 bytes of log text"), "{failure}");
}

#[test]
fn host_calls_of_a_second() {
    let mut obeys = tracker(&[("advance", LOGS)], GuestLimits { max_host_calls_per_s: 25, ..patient() });
    for n in 0..100 {
        obeys.advance(&frame(n).info, &detections(1), None).unwrap();
    }
    let mut violates = tracker(&[("advance", LOGS)], GuestLimits { max_host_calls_per_s: 24, ..patient() });
    let failed = (0..100).find_map(|n| Some((n, violates.advance(&frame(n).info, &[], None).err()?)));
    let (n, failure) = failed.unwrap();
    assert_eq!((n, key(&failure)), (24, "max_host_calls_per_s"));
}

#[test]
fn pictures_of_a_second() {
    let second = 25 * 6144;
    let mut obeys = scorer(&[("observe", CROPS)], GuestLimits { max_crop_bytes_per_s: second, ..patient() });
    for n in 0..100 {
        obeys.observe(&frame(n), &[], &[], &[]).unwrap();
    }
    let mut violates = scorer(&[("observe", CROPS)], GuestLimits { max_crop_bytes_per_s: second - 1, ..patient() });
    let failed = (0..100).find_map(|n| Some((n, violates.observe(&frame(n), &[], &[], &[]).err()?)));
    let (n, failure) = failed.unwrap();
    assert_eq!((n, key(&failure)), (24, "max_crop_bytes_per_s"));
}

#[test]
fn processor_time_of_a_second() {
    // Some work a frame: a few milliseconds, of which a hundred frames within one second are far above 30.
    let work = "(local $i i32) (loop $l (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $l (i32.lt_u (local.get $i) (i32.const 3000000)))) (call $ok)";
    let limits = GuestLimits { max_cpu_ms_per_s: 30, ..patient() };
    let mut violates = tracker(&[("advance", work)], limits.clone());
    // All within one second of the frames' clock, however long it takes here.
    let failed = (0..1000).find_map(|_| violates.advance(&frame(0).info, &[], None).err());
    assert_eq!(key(&failed.unwrap()), "max_cpu_ms_per_s");
    // One that does next to nothing.
    let mut obeys = tracker(&[], limits);
    for n in 0..100 {
        obeys.advance(&frame(n).info, &detections(3), None).unwrap();
    }
}

#[test]
fn processor_time_of_a_call() {
    let spin = "(loop $l (br $l)) (unreachable)";
    let mut violates = tracker(&[("advance", spin)], GuestLimits { deadline_ms: 5, ..GuestLimits::default() });
    assert!(matches!(
        violates.advance(&frame(0).info, &[], None).unwrap_err(),
        GuestFailure::Deadline { deadline_ms: 5, .. }
    ));
    let mut obeys = tracker(&[], patient());
    obeys.advance(&frame(0).info, &detections(3), None).unwrap();
}

/// What is measured is processor time of the call's own thread, which other processes do not use up; of the fastest of
/// fifteen, because ticks come late on a busy machine, and a thread that stood still is let finish.
#[test]
fn a_loop_is_cut_within_two_ticks_after_its_deadline() {
    let spin = "(loop $l (br $l)) (unreachable)";
    let limits = GuestLimits { deadline_ms: 10, ..GuestLimits::default() };
    let mut used: Vec<u64> = (0..15)
        .map(|_| {
            let mut guest = tracker(&[("advance", spin)], limits.clone());
            let before = guest.usage().calls.cpu_nanoseconds;
            assert!(matches!(guest.advance(&frame(0).info, &[], None).unwrap_err(), GuestFailure::Deadline { .. }));
            (guest.usage().calls.cpu_nanoseconds - before) / 1_000
        })
        .collect();
    used.sort_unstable();
    println!("microseconds of processor time until a loop with a deadline of 10 ms was cut: {used:?}");
    // Twelve ticks, each of a millisecond and the little that a sleeping thread wakes late.
    assert!((10_000..=13_000).contains(&used[0]), "{used:?}");
}

#[test]
fn processor_time_at_the_start() {
    let limits = |start_deadline_ms: u32| GuestLimits { start_deadline_ms, ..patient() };
    // Some milliseconds of work.
    let work = "(local $i i32) (loop $l (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $l (i32.lt_u (local.get $i) (i32.const 3000000)))) (call $ok)";
    drop(tracker(&[("configure", work)], limits(2_000)));
    let component = kit::load(engine(), &kit::tracker(&[("configure", "(loop $l (br $l)) (unreachable)")]));
    let mut violates = TrackerGuest::instantiate(&component, &env(limits(20))).unwrap();
    let failure = violates.configure(&serde_json::json!({})).unwrap_err();
    assert!(matches!(failure, GuestFailure::Deadline { deadline_ms: 20, .. }), "{failure}");
}

#[test]
fn time_on_the_wall() {
    // Its processor time would last for long: the clock on the wall ends it.
    let limits = GuestLimits { deadline_ms: 60_000, wall_deadline_ms: 15, ..GuestLimits::default() };
    let mut violates = tracker(&[("advance", "(loop $l (br $l)) (unreachable)")], limits.clone());
    let failure = violates.advance(&frame(0).info, &[], None).unwrap_err();
    assert!(matches!(failure, GuestFailure::Deadline { wall_deadline_ms: 15, .. }), "{failure}");
    let mut obeys = tracker(&[], GuestLimits { wall_deadline_ms: 20_000, ..limits });
    obeys.advance(&frame(0).info, &detections(3), None).unwrap();
}

#[test]
fn memory() {
    // The kit's guests begin with four pages; their tables take a few bytes more.
    let grow = "(if (i32.eq (memory.grow (i32.const 4)) (i32.const -1)) (then (unreachable))) (call $ok)";
    let mut obeys = tracker(&[("advance", grow)], GuestLimits { max_memory_bytes: (8 << 16) + 1024, ..patient() });
    obeys.advance(&frame(0).info, &[], None).unwrap();
    let mut violates = tracker(&[("advance", grow)], GuestLimits { max_memory_bytes: (8 << 16) - 1, ..patient() });
    assert!(matches!(violates.advance(&frame(0).info, &[], None).unwrap_err(), GuestFailure::Memory { .. }));
}

#[test]
fn crops_held_at_once() {
    let hold = "(call $crop (local.get $frame) (f32.const 0) (f32.const 0) (f32.const 64) (f32.const 64) (f32.const 0) (i32.const 0) (i32.const 256))
      (if (i32.load8_u (i32.const 256)) (then (return (call $no))))
      (call $drop_frame (local.get $frame)) (call $ok)";
    let hold_and_drop = format!("(drop (call $ok)) {hold}");
    let mut obeys = scorer(&[("observe", &hold_and_drop)], GuestLimits { max_crop_bytes: 3 * 6144, ..patient() });
    for n in 0..3 {
        obeys.observe(&frame(n), &[], &[], &[]).unwrap();
    }
    // The fourth is answered `over-budget`, and this guest keeps the frame's handle then, which is a trap.
    assert!(obeys.observe(&frame(3), &[], &[], &[]).is_err());
}

#[test]
fn tracks_messages_payload_and_state() {
    let mut guest = tracker(&[], GuestLimits { max_tracks: 3, ..patient() });
    guest.advance(&frame(0).info, &detections(3), None).unwrap();
    assert!(matches!(guest.advance(&frame(1).info, &detections(4), None).unwrap_err(), GuestFailure::Invalid(_)));
    // Eight bytes of state.
    let mut guest = tracker(&[], GuestLimits { max_state_bytes: 8, ..patient() });
    guest.save().unwrap();
    let mut guest = tracker(&[], GuestLimits { max_state_bytes: 7, ..patient() });
    assert!(matches!(guest.save().unwrap_err(), GuestFailure::Invalid(_)));
    // One message of eight bytes an event.
    let formatter = |limits: GuestLimits| {
        let component = kit::load(engine(), &kit::formatter(&[]));
        let mut guest = FormatterGuest::instantiate(&component, &env(limits)).unwrap();
        guest.configure(&serde_json::json!({})).unwrap();
        guest.format(FormatEvent::Frame(&frame(0).info, &[]))
    };
    formatter(GuestLimits { max_message_bytes: 8, max_messages: 1, ..patient() }).unwrap();
    formatter(GuestLimits { max_message_bytes: 7, ..patient() }).unwrap_err();
    formatter(GuestLimits { max_messages: 0, ..patient() }).unwrap_err();
}

#[test]
fn shots_of_a_call() {
    let shots = |max_shots: u32| {
        let mut guest = scorer(&[], GuestLimits { max_shots, ..patient() });
        let detections = detections(3);
        let tracks: Vec<_> = detections
            .iter()
            .zip(1..)
            .map(|(d, id)| facestream_core::Track {
                id,
                phase: facestream_core::TrackPhase::Confirmed,
                bbox: d.bbox,
                velocity: facestream_core::Point::default(),
                confidence: 0.5,
                class_id: 0,
                detection: None,
                first_seen_ns: 0,
                last_seen_ns: 0,
            })
            .collect();
        guest.observe(&frame(0), &detections, &tracks, &[]).unwrap();
        guest.flush()
    };
    assert_eq!(shots(3).unwrap().len(), 3);
    assert!(matches!(shots(2).unwrap_err(), GuestFailure::Invalid(_)));
}

#[test]
fn log_lines_and_their_length_are_cut_without_harm() {
    let logs = |limits: GuestLimits| {
        let mut guest = tracker(&[("advance", LOGS)], limits);
        for n in 0..3 {
            guest.advance(&frame(n).info, &[], None).unwrap();
        }
        guest.log_lines()
    };
    assert_eq!(logs(GuestLimits { max_log_lines_per_s: 3, ..patient() }), (3, 0));
    assert_eq!(logs(GuestLimits { max_log_lines_per_s: 0, ..patient() }), (0, 3));
    // Lines of ten bytes: whole, and cut to five, of which only those count.
    let bytes = |limits: GuestLimits| {
        let mut guest = tracker(&[("advance", LOGS)], limits);
        guest.advance(&frame(0).info, &[], None).unwrap();
        guest.log_lines()
    };
    assert_eq!(bytes(GuestLimits { max_log_line_bytes: 10, max_log_bytes_per_s: 10, ..patient() }), (1, 0));
    assert_eq!(bytes(GuestLimits { max_log_line_bytes: 5, max_log_bytes_per_s: 10, ..patient() }), (1, 0));
}

#[test]
fn a_budget_that_is_used_up_is_a_failure_of_the_slot_with_the_frame_counted() {
    let config = GuestConfig { limits: GuestLimits { max_host_calls_per_s: 10, ..GuestLimits::default() }, ..config() };
    let mut rig = rig(config, Some(kit::tracker(&[("advance", LOGS)])), None, None);
    let mut failed = Vec::new();
    for n in 0..22 {
        let out = rig.guests.process(&frame(n), &detections(2), None);
        if out
            .events
            .iter()
            .any(|e| matches!(e, Event::GuestFailed { reason, .. } if reason.contains("max_host_calls_per_s")))
        {
            failed.push(n);
        }
    }
    // Frame 10 is the eleventh. The instance that follows has a second of its own, but waits for its turn.
    assert_eq!(failed[0], 10);
    let status = &rig.guests.status()[0];
    assert_eq!(status.failures_by_kind["budget"], failed.len() as u64);
    assert_eq!((status.busiest_second.host_calls, status.busiest_second.log_bytes > 0), (11, true));
    assert_eq!(rig.metrics.drops(facestream_core::DropReason::TrackerFailed) as usize, failed.len());
}
