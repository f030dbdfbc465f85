//! Guests in Python and JavaScript as their authors make them: `guest new`, `guest build` (which fetches the language's
//! tool into the guest's folder), `guest test` in the hosts' sandbox, their own tests without one, and a camera's slot.
#![allow(clippy::unwrap_used, reason = "a test: what is missing is a failure, and helpers are not seen as tests")]

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use facestream_core::frame::ColorMatrix;
use facestream_core::guest::SlotKind;
use facestream_core::{CameraId, CameraMetrics, Frame, Picture};
use facestream_guest_host::{CameraGuests, GuestComponent, GuestConfig, GuestEngine, GuestSet, GuestStore, SlotGuest};
use facestream_pixels::HostPicture;
use facestream_test_support::{asset, skip};
use facestream_tests::program;
use facestream_tests::recordings::{self, Recorded};
use serde_json::json;

/// More time for a call than a busy machine needs: what is tested is what the guests answer.
const LIMITS: &str = r#"{"deadline_ms": 5000, "wall_deadline_ms": 60000, "max_cpu_ms_per_s": 200000}"#;

/// A file of the guest, a line in it, and what is put behind that line so that every call keeps memory for ever.
type Leak = (&'static str, &'static str, &'static str);

/// Both outputs as text.
fn said(out: &Output) -> String {
    [&out.stdout, &out.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
}

/// Makes a scorer in a language, builds it and gives it to the conformance kit; `own_tests` are its author's. `absent`:
/// what `guest build` says where the language or its registry cannot be had, which is no failure of ours.
#[track_caller]
fn new_build_test(lang: &str, absent: &[&str], own_tests: &[&str], leak: Option<Leak>) {
    let dir = tempfile::tempdir().unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let name = format!("{lang}-scorer");
    let new = ["guest", "new", &name, "--world", "scorer", "--lang", lang, "--path", &path(dir.path())];
    program::run(&new).succeeded();
    let folder = dir.path().join(&name);
    let built = program::command(&["guest", "build", &path(&folder)]).output().unwrap();
    let words = said(&built);
    if !built.status.success() && absent.iter().any(|a| words.contains(a)) {
        let why = words.lines().rev().find(|l| l.starts_with("error: ")).unwrap_or("no tool").to_owned();
        skip(&format!("guest_languages: {lang}"), &why);
        return;
    }
    assert!(built.status.success(), "{words}");
    assert!(words.contains("scorer, WIT 0.1"), "{words}");

    let own =
        Command::new(own_tests[0]).args(&own_tests[1..]).current_dir(&folder).env("PYTHONPATH", "bindings").output();
    let own = own.unwrap();
    assert!(own.status.success(), "{}", said(&own));

    // The kit counts fuel, which makes these three times as slow, and a crowd of 500 is near the default deadline as it is.
    let component = path(&folder.join(format!("{name}.wasm")));
    let tested = program::command(&["guest", "test", &component, "--limits", LIMITS]).output().unwrap();
    let words = said(&tested);
    assert!(tested.status.success() && words.contains(", 0 failed"), "{words}");

    on_a_camera(&folder.join(format!("{name}.wasm")), 0);
    let Some((file, line, leaks)) = leak else { return };
    let source = std::fs::read_to_string(folder.join(file)).unwrap();
    let with = source.replacen(line, &format!("{line}{leaks}"), 1);
    assert_ne!(with, source, "{file} has no `{line}`");
    std::fs::write(folder.join(file), with).unwrap();
    let built = program::command(&["guest", "build", &path(&folder)]).output().unwrap();
    assert!(built.status.success(), "{}", said(&built));
    on_a_camera(&folder.join(format!("{name}.wasm")), 2);
}

/// In a camera's slot, under the limits that it has by default, beside the built-in guests: nothing fails, shots come, and an
/// instance whose memory has grown is made anew so many times at least.
#[track_caller]
fn on_a_camera(component: &Path, recycles: u64) {
    let botsort = asset("guests/botsort.wasm").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = GuestConfig { max_instances: 16, ..GuestConfig::default() };
    let engine = GuestEngine::new(&config).unwrap();
    let store = GuestStore::open(&engine, dir.path(), botsort.parent()).unwrap();
    let guest = |name: &str| SlotGuest::new(name, store.load(name).unwrap(), json!({}));
    let scorer = GuestComponent::load(&engine, &std::fs::read(component).unwrap()).unwrap();
    let set = GuestSet {
        tracker: guest("botsort"),
        scorer: SlotGuest::new("theirs", scorer, json!({})),
        formatter: guest("gate-and-mega"),
    };
    let metrics = Arc::new(CameraMetrics::default());
    let mut guests = CameraGuests::new(&CameraId::new("door").unwrap(), set, &config, Arc::clone(&metrics)).unwrap();
    let pixels = vec![120; 1920 * 1080 * 3 / 2];
    let picture: Arc<dyn Picture> = Arc::new(HostPicture::new(1920, 1080, pixels, true, ColorMatrix::Bt601).unwrap());
    let mut shots = 0;
    for Recorded { info, detections, motion, .. } in recordings::crowd(6, 500, 3) {
        let frame = Frame { info, picture: Arc::clone(&picture) };
        shots += guests.process(&frame, &detections, motion).shots.len();
    }
    shots += guests.flush().shots.len();
    let status = guests.status().into_iter().find(|slot| slot.slot == SlotKind::Scorer).unwrap();
    assert_eq!((status.failures, metrics.all_drops().len()), (0, 0), "{status:?} {:?}", metrics.all_drops());
    assert!(shots > 6 && status.guest_calls >= 500 && status.recycles >= recycles, "{shots} shots, {status:?}");
    assert!(status.memory_bytes < status.limits.max_memory_bytes.unwrap(), "{status:?}");
}

#[test]
fn a_scorer_in_python() {
    let absent = ["there is no python3", "messages of python3 -m venv", "messages of pip install"];
    new_build_test("python", &absent, &["python3", "-m", "unittest"], None);
}

#[test]
fn a_scorer_in_javascript() {
    let absent = ["there is no node", "there is no npm", "messages of npm"];
    let leak = (
        "guest.js",
        "  observe(frame, picture, detections, tracks, ended) {\n",
        "    (globalThis.kept ??= []).push(new Uint8Array(256 * 1024).fill(1));\n",
    );
    new_build_test("js", &absent, &["node", "--test"], Some(leak));
}
