//! Versions of the contract: what was built against an earlier one runs here unchanged, what needs a later one is told so.
// Helpers outside of `#[test]` functions unwrap too: a failure there is the test's.
#![allow(clippy::unwrap_used)]

mod kit;

use facestream_core::guest::SlotKind;
use facestream_core::{CameraId, Message, Track};
use facestream_guest_host::{
    GuestComponent, GuestEnv, GuestFailure, GuestLimits, LoadError, Snapshot, TrackerGuest, WIT_VERSION, inspect,
};
use kit::{WIT, WIT_0_1_0, config, detections, frame, rig};

const LIMIT: u64 = 1 << 20;

/// A tracker, a scorer and a formatter built against one version.
fn guests(wit: &str) -> [Vec<u8>; 3] {
    let worlds =
        [("tracker", kit::tracker_wat(&[])), ("scorer", kit::scorer_wat(&[])), ("formatter", kit::formatter_wat(&[]))];
    worlds.map(|(world, wat)| kit::component_against(wit, world, &wat))
}

/// Faces that come and go, so that every function of the three is called: messages and tracks of all frames.
fn watched([tracker, scorer, formatter]: [Vec<u8>; 3]) -> (Vec<Message>, Vec<Vec<Track>>) {
    let mut rig = rig(config(), Some(tracker), Some(scorer), Some(formatter));
    let (mut messages, mut tracks) = (Vec::new(), Vec::new());
    for n in 0..60 {
        let out = rig.guests.process(&frame(n), &detections((n % 7) as usize), None);
        messages.extend(out.messages);
        tracks.push(out.tracks.expect("the tracker answered"));
        if n % 10 == 5 {
            messages.extend(rig.guests.tick(frame(n).info.timestamp_ns).messages);
        }
    }
    messages.extend(rig.guests.flush().messages);
    // Who made a message differs, and says so; all else must not.
    messages.iter_mut().for_each(|m| m.headers.retain(|(name, _)| name != "guest-digests"));
    assert!(rig.metrics.all_drops().is_empty(), "{:?}", rig.metrics.all_drops());
    (messages, tracks)
}

#[test]
fn guests_built_against_0_1_0_answer_as_those_of_today() {
    let old = guests(WIT_0_1_0);
    for bytes in &old {
        assert_eq!(inspect(bytes, LIMIT).unwrap().wit_version, "0.1.0");
    }
    let today = guests(WIT);
    for bytes in &today {
        assert_eq!(inspect(bytes, LIMIT).unwrap().wit_version, WIT_VERSION);
    }
    let (messages, tracks) = watched(old.clone());
    assert!(messages.len() > 100 && tracks.iter().map(Vec::len).sum::<usize>() > 100);
    assert_eq!(watched(today.clone()), (messages.clone(), tracks.clone()));
    // Each camera may mix them.
    let [(old_tracker, _, old_formatter), (_, scorer, _)] = [old, today].map(|[t, s, f]| (t, s, f));
    assert_eq!(watched([old_tracker, scorer, old_formatter]), (messages, tracks));
}

#[test]
fn state_goes_from_a_guest_of_0_1_0_to_one_of_today_and_back() {
    let engine = kit::engine();
    let [old, today] = [WIT_0_1_0, WIT].map(|wit| kit::load(&engine, &guests(wit)[0]));
    let env = GuestEnv { camera: CameraId::new("c").unwrap(), guest: "g".to_owned(), limits: GuestLimits::default() };
    let start = |component| {
        let mut guest = TrackerGuest::instantiate(component, &env).unwrap();
        guest.configure(&serde_json::json!({})).unwrap();
        guest
    };
    let mut guest = start(&old);
    for (n, next) in [&today, &old, &today].into_iter().enumerate() {
        let update = guest.advance(&frame(n as u64).info, &detections(3), None).unwrap();
        let saved: Snapshot = guest.save().unwrap();
        assert_eq!(saved.data, (n as u64 + 1).to_le_bytes(), "frames seen by all of them");
        guest = start(next);
        guest.restore(&saved, &update.tracks).unwrap();
    }
}

/// Asks for each level and answers with an error unless the answers are those of a host that shows nothing.
#[test]
fn a_guest_of_0_1_1_can_ask_whether_a_line_would_be_seen() {
    let asking = kit::tracker_wat(&[(
        "configure",
        "(if (result i32) (call $enabled (i32.const 4)) (then (call $no)) (else (call $ok)))",
    )])
    .replacen(
        "(module",
        r#"(module (import "facestream:analytics/log@0.1.0" "enabled" (func $enabled (param i32) (result i32)))"#,
        1,
    );
    let component = kit::load(&kit::engine(), &kit::component("tracker", &asking));
    let env = GuestEnv { camera: CameraId::new("c").unwrap(), guest: "g".to_owned(), limits: GuestLimits::default() };
    let configured = || {
        let mut guest = TrackerGuest::instantiate(&component, &env).unwrap();
        guest.configure(&serde_json::json!({}))
    };
    configured().expect("nobody listens to the log of this test");
    let listening = tracing_subscriber::fmt().with_writer(std::io::sink).with_max_level(tracing::Level::ERROR).finish();
    let refused = tracing::subscriber::with_default(listening, configured);
    assert!(matches!(refused, Err(GuestFailure::Refused(_))), "errors are shown now: {refused:?}");
}

#[test]
fn what_needs_a_later_version_is_refused_with_both_versions() {
    // Another minor: by its name, before anything is compiled.
    for version in ["0.2.0", "0.3.0", "1.0.0", "0.10.1"] {
        let wit = format!(
            "package test:guest; world w {{ export facestream:analytics/tracking@{version}; }}
             package facestream:analytics@{version} {{ interface tracking {{ f: func(); }} }}"
        );
        let export = format!("facestream:analytics/tracking@{version}");
        let wat = format!(r#"(module (func (export "{export}#f")))"#);
        let error = inspect(&kit::component_of(&wit, "w", &wat), LIMIT).unwrap_err();
        assert!(matches!(&error, LoadError::WitVersion { found, .. } if found == version), "{error}");
        let words = error.to_string();
        assert!(words.contains(&export) && words.contains("0.1.x"), "{words}");
    }
    // A later 0.1 that uses what it added: when it is linked, with what is missing.
    let dir = tempfile::tempdir().unwrap();
    for file in ["types.wit", "pixels.wit", "stages.wit"] {
        let text = std::fs::read_to_string(std::path::Path::new(WIT).join(file)).unwrap();
        let text = text.replace(&format!("analytics@{WIT_VERSION}"), "analytics@0.1.99");
        std::fs::write(dir.path().join(file), text.replace("  enabled: func", "  flush: func();\n  enabled: func"))
            .unwrap();
    }
    let dir = dir.path().to_str().unwrap();
    let [plain, ..] = guests(dir);
    let info = kit::load(&kit::engine(), &plain).info().clone();
    assert_eq!((info.kind, info.wit_version.as_str()), (SlotKind::Tracker, "0.1.99"), "it uses nothing new");
    let wat = kit::tracker_wat(&[("configure", "(call $flush) (call $ok)")]).replacen(
        "(module",
        r#"(module (import "facestream:analytics/log@0.1.0" "flush" (func $flush))"#,
        1,
    );
    let error = GuestComponent::load(&kit::engine(), &kit::component_against(dir, "tracker", &wat)).unwrap_err();
    let words = error.to_string();
    assert!(words.contains("0.1.99") && words.contains(WIT_VERSION) && words.contains("flush"), "{words}");
}

/// The rule of `wit/README.md`: within a minor version functions are only added.
#[test]
fn the_contract_only_grows() {
    for world in ["tracker", "scorer", "formatter"] {
        let mut resolve = wit_parser::Resolve::default();
        let (old, _) = resolve.push_path(WIT_0_1_0).unwrap();
        let (new, _) = resolve.push_path(WIT).unwrap();
        let (old, new) =
            (resolve.select_world(&[old], Some(world)).unwrap(), resolve.select_world(&[new], Some(world)).unwrap());
        wit_component::semver_check(resolve, old, new).unwrap_or_else(|e| panic!("{world}: {e:#}"));
    }
}
