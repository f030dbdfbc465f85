//! The sandbox changes nothing: a tracker's component and its native build give the same bytes, answers and states.
#![allow(clippy::unwrap_used, reason = "a test: what is missing is a failure, and helpers are not seen as tests")]

use std::process::Command;

use facestream_test_support::asset_or_skip;
use facestream_tests::recordings::{self, Recorded};

fn natively(tracker: &str, recording: &[Recorded]) -> String {
    let program = recordings::native_program().unwrap_or_else(|e| panic!("{e}"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recording.txt");
    std::fs::write(&path, recordings::text(recording)).unwrap();
    let output = Command::new(program).args(["track", tracker]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn sandboxed(component: &[u8], recording: &[Recorded]) -> String {
    let engine = recordings::engine();
    let component = recordings::compiled(&engine, component);
    let mut guest = recordings::tracker(&component);
    let mut out = String::new();
    for f in recording {
        out += &recordings::answer(&guest.advance(&f.info, &f.detections, f.motion).unwrap());
        if f.save {
            let saved = guest.save().unwrap();
            out += &recordings::state(&saved);
            // A hot swap on the way: what was saved goes on in a fresh instance, natively in the old one.
            guest = recordings::tracker(&component);
            guest.restore(&saved, &[]).unwrap();
        }
    }
    out
}

fn same_bytes(tracker: &str) {
    let component = std::fs::read(asset_or_skip!(&format!("guests/{tracker}.wasm"))).unwrap();
    for recording in [recordings::crowd(60, 400, 1), recordings::crowd(12, 400, 2), recordings::grid(60, 200, true)] {
        let (native, wasm) = (natively(tracker, &recording), sandboxed(&component, &recording));
        for (n, (a, b)) in native.lines().zip(wasm.lines()).enumerate() {
            assert_eq!(a, b, "line {n}: left native, right component; same sources? `cargo xtask guests` builds them");
        }
        assert_eq!(native.len(), wasm.len());
        // The recording is worth comparing: tracks of every kind, ends, states.
        let count = |word: &str| wasm.lines().filter(|l| l.contains(word)).count();
        assert!(count(" confirmed ") > 2000, "{} confirmed", count(" confirmed "));
        if recording.iter().any(|f| f.save) {
            assert!(count(" lost ") > 200 && count(" tentative ") > 20, "{} lost", count(" lost "));
            assert!(wasm.lines().filter(|l| l.starts_with("ended [") && *l != "ended []").count() > 10);
            assert_eq!(count("state facestream."), 20);
        }
    }
}

#[test]
fn botsort_gives_the_same_bytes_in_the_sandbox_and_natively() {
    same_bytes("botsort");
}

#[test]
fn bytetrack_gives_the_same_bytes_in_the_sandbox_and_natively() {
    same_bytes("bytetrack");
}

/// Refusals cross by a path of their own.
#[test]
fn a_frame_before_the_settings_is_refused_in_the_trackers_words() {
    let engine = recordings::engine();
    let recording = recordings::grid(3, 2, true);
    for tracker in ["botsort", "bytetrack"] {
        let bytes = std::fs::read(asset_or_skip!(&format!("guests/{tracker}.wasm"))).unwrap();
        let component = recordings::compiled(&engine, &bytes);
        let mut guest = recordings::instance(&component);
        for _ in 0..3 {
            let error = guest.advance(&recording[0].info, &recording[0].detections, None).unwrap_err();
            assert!(error.to_string().contains("configure was not called"), "{error}");
        }
        guest.configure(&serde_json::json!({})).unwrap();
        let update = guest.advance(&recording[1].info, &recording[1].detections, None).unwrap();
        assert_eq!(update.tracks.len(), 2, "two of the three boxes are sure ones");
    }
}
