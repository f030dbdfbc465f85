//! The kit's own proof: guests that are broken in one way each fail the case that is there for it, and no other case that
//! the sound guest passes.
// Helpers outside of `#[test]` functions unwrap too: a failure there is the test's.
#![allow(clippy::unwrap_used)]

#[path = "../../guest/tests/kit/mod.rs"]
mod guests;

use std::collections::BTreeSet;

use facestream_guest_kit::{Kit, KitOptions, Status, cases};
use guests::Body;

/// Cases that a guest fails.
fn failed(bytes: Vec<u8>) -> BTreeSet<String> {
    let kit = Kit::new("mutant", bytes, KitOptions::default()).unwrap();
    let results = cases(kit.info().kind).iter().map(|case| kit.run(case)).collect::<Vec<_>>();
    for result in &results {
        let fails = result.status == Status::Fail;
        assert!(
            !fails || (!result.seen.is_empty() && result.reproduce.is_some()),
            "a failure says what and how: {result:?}"
        );
    }
    results.into_iter().filter(|r| r.status == Status::Fail).map(|r| r.name).collect()
}

/// What a mutant fails beyond what the sound guest of this test (which is a simple one) fails.
#[track_caller]
fn fails_only(sound: &BTreeSet<String>, mutant: Vec<u8>, expected: &[&str]) {
    let failed = failed(mutant);
    let more: Vec<&str> = failed.difference(sound).map(String::as_str).collect();
    assert_eq!(more, expected);
}

/// A tracker that gives each face a new id whenever their number changes, and ends the old ones: poor, but by the rules.
/// Its state are 16 bytes at 600: the ids spent, and the faces of the frame before.
const HELPERS: &str = "
  (func $end_all
    (local $i i64)
    (block $done (loop $next
      (br_if $done (i64.ge_u (local.get $i) (i64.load (i32.const 608))))
      (i64.store (i32.add (i32.const 49152) (i32.mul (i32.wrap_i64 (local.get $i)) (i32.const 8)))
        (i64.add (i64.add (i64.load (i32.const 600)) (local.get $i)) (i64.const 1)))
      (local.set $i (i64.add (local.get $i) (i64.const 1)))
      (br $next)))
    (i32.store (i32.const 1036) (i32.const 49152))
    (i32.store (i32.const 1040) (i32.wrap_i64 (i64.load (i32.const 608)))))
  (func $shift (param $n i32)
    (local $at i32)
    (local.set $at (i32.const 8192))
    (block $done (loop $next
      (br_if $done (i32.eqz (local.get $n)))
      (i64.store (local.get $at) (i64.add (i64.load (local.get $at)) (i64.load (i32.const 600))))
      (local.set $at (i32.add (local.get $at) (i32.const 72)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br $next))))
";
const ECHO: &str = "(drop (call $echo (local.get $n) (local.get $detections) (local.get $timestamp)))";
const CHANGED: &str = "(i64.ne (i64.load (i32.const 608)) (i64.extend_i32_u (local.get $n)))";
const SPEND: &str = "(i64.store (i32.const 600) (i64.add (i64.load (i32.const 600)) (i64.load (i32.const 608))))";
const COUNT: &str = "(i64.store (i32.const 608) (i64.extend_i32_u (local.get $n)))";
const SAVE: &str =
    "(drop (call $snapshot)) (i32.store (i32.const 1036) (i32.const 600)) (i32.store (i32.const 1040) (i32.const 16))
  (i32.const 1024)";
/// Its own state must have 16 bytes that make sense; a stranger's (a name of another length) is passed over.
const RESTORE: &str = "
  (if (i32.ne (local.get $schema_len) (i32.const 6)) (then (return (call $ok))))
  (if (i32.ne (local.get $data_len) (i32.const 16)) (then (return (call $no))))
  (if (i64.gt_u (i64.load (local.get $data)) (i64.const 1000000)) (then (return (call $no))))
  (if (i64.gt_u (i64.load offset=8 (local.get $data)) (i64.const 1000)) (then (return (call $no))))
  (memory.copy (i32.const 600) (local.get $data) (i32.const 16))
  (call $ok)";

fn advance(end: &str, spend: &str, more: &str) -> String {
    format!("{ECHO} {more} (if {CHANGED} (then {end} {spend} {COUNT})) (call $shift (local.get $n)) (i32.const 1024)")
}

/// The sound tracker with some bodies in place of its own.
fn tracker(bodies: &[Body<'_>]) -> Vec<u8> {
    guests::tracker(&tracker_bodies(&advance("(call $end_all)", SPEND, ""), bodies))
}

fn tracker_bodies<'a>(advance: &'a str, bodies: &[Body<'a>]) -> Vec<Body<'a>> {
    let mut all = bodies.to_vec();
    all.extend([("extra", HELPERS), ("advance", advance), ("save", SAVE), ("restore", RESTORE)]);
    all
}

#[test]
fn trackers_that_break_one_rule_fail_its_case() {
    let sound = failed(tracker(&[]));
    for rule in ["starts", "one-end-per-track", "no-id-reuse", "ends-are-told", "ends-of-live-tracks", "determinism"] {
        assert!(!sound.contains(rule), "the sound tracker keeps {rule}");
    }
    for state in ["save-restore-every-frame", "saving-changes-nothing", "killed-mid-call", "damaged-state"] {
        assert!(!sound.contains(state), "the sound tracker passes {state}");
    }
    let of = |advance: &str| tracker(&[("advance", advance)]);

    // Ids of two ranges in turns: never live and ended at once, which the host itself refuses.
    let wraps = "(i64.store (i32.const 600) (i64.xor (i64.load (i32.const 600)) (i64.const 512)))";
    fails_only(&sound, of(&advance("(call $end_all)", wraps, "")), &["no-id-reuse"]);
    fails_only(&sound, of(&advance("", SPEND, "")), &["ends-are-told", "leave-and-return"]);
    let crowd = "(if (i32.ge_u (local.get $n) (i32.const 400)) (then (unreachable)))";
    fails_only(&sound, of(&advance("(call $end_all)", SPEND, crowd)), &["five-hundred-faces"]);
    // A page of memory every so many frames: every 16 is at the limit within minutes, every 64 within half an hour, long
    // after the host has made the instance anew.
    let leak = |frames: u32| {
        let grow = format!(
            "(if (i64.eqz (i64.and (i64.load (i32.const 512)) (i64.const {})))
              (then (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (unreachable)))))",
            frames - 1
        );
        of(&advance("(call $end_all)", SPEND, &grow))
    };
    fails_only(&sound, leak(16), &["bounded-memory"]);
    let kit = Kit::new("mutant", leak(64), KitOptions::default()).unwrap();
    let case = cases(kit.info().kind).into_iter().find(|case| case.name == "bounded-memory").unwrap();
    let result = kit.run(&case);
    assert_eq!(result.status, Status::Advice, "{result:?}");
    assert!(result.seen.contains("min later"), "{result:?}");
    // The ids that ended last are ended again in every frame of an even number.
    let again = "(i32.store (i32.const 1036) (i32.const 49152))
      (i32.store (i32.const 1040) (i32.load (i32.const 620)))";
    let remember = "(call $end_all) (i32.store (i32.const 620) (i32.load (i32.const 1040)))";
    // What it remembers of them is not in its state, which shows too.
    let more = ["killed-mid-call", "one-end-per-track", "save-restore-every-frame"];
    fails_only(&sound, of(&advance(remember, SPEND, again)), &more);
    let never_lived = "(i64.store (i32.const 49152) (i64.const 4000000)) (i32.store (i32.const 1036) (i32.const 49152))
      (if (i64.eq (i64.load (i32.const 512)) (i64.const 20)) (then (i32.store (i32.const 1040) (i32.const 1))))";
    // It counts frames outside of its state, and ends one in a scene without a face.
    let more = ["ends-of-live-tracks", "killed-mid-call", "no-faces", "save-restore-every-frame"];
    fails_only(&sound, of(&advance("(call $end_all)", SPEND, never_lived)), &more);
}

/// What happens on live cameras, and guests that fall over it: the scene that has it says so.
#[test]
fn guests_that_fall_over_what_cameras_do_fail_its_scene() {
    let sound = failed(tracker(&[]));
    // Parameters: session 0, sequence 1, timestamp 2, wall clock 3, width 4. Those of the frame before are kept from 632 on.
    let before = "(i64.store (i32.const 632) (local.get 2)) (i64.store (i32.const 640) (local.get 3))
      (i64.store (i32.const 648) (local.get 1)) (i32.store (i32.const 656) (local.get 4))";
    let first_face = |what: &str| format!("(i32.and (i32.ne (local.get $n) (i32.const 0)) {what})");
    let other_class = first_face("(i32.ne (i32.load offset=20 (local.get $detections)) (i32.const 0))");
    let outside = first_face("(f32.lt (f32.load (local.get $detections)) (f32.const 0))");
    let no_points = first_face("(i32.eqz (i32.load8_u offset=24 (local.get $detections)))");
    for (over, scenes) in [
        ("(i64.gt_u (local.get 0) (i64.const 1))", &["session-change"][..]),
        ("(i64.lt_u (local.get 3) (i64.load (i32.const 640)))", &["clock-step"]),
        ("(i64.eq (local.get 2) (i64.load (i32.const 632)))", &["equal-timestamps"]),
        ("(i64.gt_u (i64.sub (local.get 2) (i64.load (i32.const 632))) (i64.const 60000000000))", &["long-gap"]),
        // Numbers begin again in a new session, and are left out after a call that was killed.
        (
            "(i64.gt_u (i64.sub (local.get 1) (i64.load (i32.const 648))) (i64.const 1))",
            &["frame-loss", "killed-mid-call", "session-change"],
        ),
        ("(i32.ne (local.get 4) (i32.load (i32.const 656)))", &["frame-size"]),
        (&other_class, &["classes"]),
        (&outside, &["edges"]),
        (&no_points, &["frame-size", "no-landmarks"]),
        // Wherever all faces go away.
        ("(i32.eqz (local.get $n))", &["ends-after-absence", "leave-and-return", "miss-half-a-second", "no-faces"]),
    ] {
        let falls = format!(
            "(if (i32.and (i64.ne (i64.load (i32.const 632)) (i64.const 0)) {over}) (then (unreachable))) {before}"
        );
        fails_only(&sound, tracker(&[("advance", &advance("(call $end_all)", SPEND, &falls))]), scenes);
    }
    let sound = failed(guests::scorer(&[]));
    let traps = guests::scorer(&[("tick", "(unreachable)")]);
    fails_only(&sound, traps, &["long-gap", "session-change", "time-alone"]);
}

#[test]
fn trackers_with_broken_state_fail_its_cases() {
    let sound = failed(tracker(&[]));
    let forgets = "(drop (call $snapshot)) (memory.fill (i32.const 640) (i32.const 0) (i32.const 16))
      (i32.store (i32.const 1036) (i32.const 640)) (i32.store (i32.const 1040) (i32.const 16)) (i32.const 1024)";
    fails_only(&sound, tracker(&[("save", forgets)]), &["killed-mid-call", "save-restore-every-frame"]);
    let disturbs = "(i64.store (i32.const 600) (i64.add (i64.load (i32.const 600)) (i64.const 1)))";
    let save = format!("{disturbs} {SAVE}");
    let more = ["killed-mid-call", "save-restore-every-frame", "saving-changes-nothing"];
    fails_only(&sound, tracker(&[("save", &save)]), &more);
    let traps = "(if (i32.ne (local.get $data_len) (i32.const 16)) (then (unreachable)))
      (memory.copy (i32.const 600) (local.get $data) (i32.const 16)) (call $ok)";
    fails_only(&sound, tracker(&[("restore", traps)]), &["damaged-state"]);
    let settings = "(i64.store (i32.const 600) (i64.add (i64.load (i32.const 600)) (i64.const 100))) (call $ok)";
    fails_only(&sound, tracker(&[("configure", settings)]), &["settings-again"]);
}

#[test]
fn a_tracker_that_asks_for_random_numbers_is_not_deterministic() {
    use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit")).unwrap();
    let version = resolve.packages[package].name.version.clone().unwrap();
    let random = format!(
        "package test:mutant;
         world w {{ include facestream:analytics/tracker@{version}; import wasi:random/random@0.2.3; }}
         package wasi:random@0.2.3 {{ interface random {{ get-random-u64: func() -> u64; }} }}"
    );
    let test = resolve.push_str("mutant.wit", &random).unwrap();
    let world = resolve.select_world(&[test], Some("w")).unwrap();
    let confidence = "(if (local.get $n) (then (f32.store (i32.const 8228)
      (f32.div (f32.convert_i64_u (i64.and (call $random) (i64.const 1023))) (f32.const 2048)))))";
    let body = advance("(call $end_all)", SPEND, confidence);
    let wat = guests::tracker_wat(&tracker_bodies(&body, &[])).replace("@0.1.0", &format!("@{version}"));
    let import = "(import \"wasi:random/random@0.2.3\" \"get-random-u64\" (func $random (result i64)))";
    let mut module = wat::parse_str(wat.replacen("(module", &format!("(module {import}"), 1)).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    let component = ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap();
    let more = ["determinism", "killed-mid-call", "save-restore-every-frame"];
    fails_only(&failed(tracker(&[])), component, &more);
}

#[test]
fn broken_scorers_fail_the_case_that_is_there_for_it() {
    let sound = failed(guests::scorer(&[]));
    for rule in ["starts", "crops-are-returned", "shots-of-known-tracks", "flush-gives-up-all", "no-shot-twice"] {
        assert!(!sound.contains(rule), "the sound scorer keeps {rule}: {sound:?}");
    }
    fails_only(&sound, guests::scorer(&[("flush", "(call $ok)")]), &["crops-are-returned", "flush-gives-up-all"]);
    let stranger = "(call $see (local.get $session) (local.get $sequence) (local.get $frame) (local.get $tracks) (local.get $tracks_len))
      (call $drop_frame (local.get $frame))
      (drop (call $give (local.get $ended) (local.get $ended_len)))
      (if (i32.load (i32.const 1032)) (then (i64.store (i32.const 32768) (i64.const 777))))
      (i32.const 1024)";
    fails_only(&sound, guests::scorer(&[("observe", stranger)]), &["shots-of-known-tracks"]);
}

#[test]
fn broken_formatters_fail_the_case_that_is_there_for_it() {
    let sound = failed(guests::formatter(&[]));
    assert!(sound.is_empty(), "the sound formatter passes all: {sound:?}");
    // Eight bytes of a number, under the name of JSON.
    let json = "(data (i32.const 160) \"application/json\")";
    let format = "(drop (call $write (local.get $event)))
      (i32.store (i32.const 2080) (i32.const 160)) (i32.store (i32.const 2084) (i32.const 16)) (i32.const 1024)";
    fails_only(&sound, guests::formatter(&[("extra", json), ("format", format)]), &["payload-is-what-it-says"]);
    fails_only(&sound, guests::formatter(&[("format", "(call $ok)")]), &["crops-are-returned", "writes-messages"]);
}

#[test]
fn every_case_has_a_name_of_its_own_and_a_reason() {
    for bytes in [guests::tracker(&[]), guests::scorer(&[]), guests::formatter(&[])] {
        let kit = Kit::new("guest", bytes, KitOptions::default()).unwrap();
        let cases = cases(kit.info().kind);
        let names: BTreeSet<&str> = cases.iter().map(|c| c.name).collect();
        assert_eq!(names.len(), cases.len());
        assert!(cases.len() > 25, "{}", cases.len());
        for case in &cases {
            assert!(
                case.reason.len() > 30 && case.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'),
                "{case:?}"
            );
        }
    }
}
