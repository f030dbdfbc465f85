//! Recording, replay, dry run, shadow and explanation, with real components.
// Helpers outside of `#[test]` functions unwrap too: a failure there is the test's.
#![allow(clippy::unwrap_used)]

mod kit;

use std::sync::Arc;

use facestream_core::guest::SlotKind;
use facestream_core::{Affine, CameraId, CameraMetrics, Detection};
use facestream_guest_host::record::{Bundle, BundleError, Reason, Recording, Replay, ReplayReport, Start, replay};
use facestream_guest_host::{
    CameraGuests, ExplainError, GuestComponent, GuestConfig, GuestSet, GuestStore, MessageRef, Outcome, RecorderConfig,
    SlotGuest,
};
use facestream_test_support::asset_or_skip;
use kit::{detections, frame, rig};
use serde_json::json;

/// A camera with the built-in guests.
struct Built {
    store: GuestStore,
    guests: CameraGuests,
    _dir: tempfile::TempDir,
}

impl Built {
    fn new(folder: &std::path::Path, recorder: RecorderConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = GuestConfig { recorder, ..kit::config() };
        let engine = facestream_guest_host::GuestEngine::new(&config).unwrap();
        let store = GuestStore::open(&engine, dir.path(), Some(folder)).unwrap();
        let guest = |kind: SlotKind| {
            let name = kind.default_guest();
            SlotGuest::new(name, store.load(name).unwrap_or_else(|e| panic!("{e}")), json!({}))
        };
        let set = GuestSet {
            tracker: guest(SlotKind::Tracker),
            scorer: guest(SlotKind::Scorer),
            formatter: guest(SlotKind::Formatter),
        };
        let camera = CameraId::new("cam-1").unwrap();
        let guests = CameraGuests::new(&camera, set, &config, Arc::new(CameraMetrics::default())).unwrap();
        Self { store, guests, _dir: dir }
    }

    fn component(&self, name: &str) -> Arc<GuestComponent> {
        self.store.load(name).unwrap_or_else(|e| panic!("{e}"))
    }
}

macro_rules! built_or_skip {
    ($recorder:expr) => {{
        let botsort = asset_or_skip!("guests/botsort.wasm");
        Built::new(botsort.parent().unwrap(), $recorder)
    }};
}

/// Faces that walk, meet weak frames and leave in turns.
fn walking(n: u64) -> Vec<Detection> {
    (0..6)
        .filter(|i| !(n / 30 + i).is_multiple_of(4))
        .map(|i| {
            let mut d = detections(1)[0];
            d.bbox.x = 20.0 + i as f32 * 95.0 + (n % 30) as f32 * 1.5;
            d.bbox.y = 40.0 + i as f32 * 30.0;
            (d.bbox.width, d.bbox.height) = (48.0, 56.0);
            d.confidence = 0.6 + ((n * 7 + i * 3) % 30) as f32 / 100.0;
            d
        })
        .collect()
}

/// A camera that sways a little.
fn swaying(n: u64) -> Affine {
    let tx = if n.is_multiple_of(2) { 2.0 } else { -2.0 };
    Affine { a: 1.0, b: 0.0, tx, c: 0.0, d: 1.0, ty: 0.0 }
}

fn recorded(guests: &mut CameraGuests, slot: SlotKind) -> Recording {
    guests.recording(slot, None, Reason::Demand).unwrap_or_else(|| panic!("nothing is kept of the {slot}"))
}

fn written(recording: &Recording) -> Bundle {
    let bytes = recording.to_bytes(1_700_000_000_000).unwrap();
    Bundle::from_bytes(&bytes).unwrap_or_else(|e| panic!("{e}"))
}

fn again(bundle: &Bundle, component: &Arc<GuestComponent>) -> ReplayReport {
    replay(bundle, component, &Replay::default()).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn a_run_of_the_built_in_guests_replays_bit_for_bit() {
    for pictures in [false, true] {
        let mut built = built_or_skip!(RecorderConfig { pictures, max_bytes: 64 << 20, ..RecorderConfig::default() });
        // 16 s of which 10 are kept: replays begin at a saved state.
        for n in 0..400 {
            let out = built.guests.process(&frame(n), &walking(n), None);
            assert!(out.events.is_empty(), "{:?}", out.events);
        }
        for slot in SlotKind::ALL {
            let recording = recorded(&mut built.guests, slot);
            let bundle = written(&recording);
            let report = again(&bundle, &built.component(slot.default_guest()));
            assert!(report.same_guest && report.as_recorded(), "{slot}: {report:#?}");
            assert_eq!(report.start, Start::Snapshot, "{slot}");
            assert_eq!((report.different, report.missing_answers), (0, 0), "{slot}: {report:#?}");
            assert!(report.equal + report.in_part > 20, "{slot}: {report:#?}");
            let whole = report.in_part == 0 && report.stand_ins == 0;
            // Only the formatter wants JPEGs; without pictures zeros stand in for them.
            assert_eq!(whole, pictures || slot != SlotKind::Formatter, "{slot}: {report:#?}");
            // A tracker is not granted pixels.
            assert_eq!(bundle.manifest.pictures, pictures && slot != SlotKind::Tracker);
            // The built-in formatter asks for no frames.
            if slot != SlotKind::Formatter {
                let (first, last) = (bundle.manifest.first.unwrap(), bundle.manifest.last.unwrap());
                assert_eq!(last.sequence, 399);
                let seconds = (last.timestamp_ns - first.timestamp_ns) / 1_000_000_000;
                assert!((9..=16).contains(&seconds), "{slot}: {seconds} s");
            }
        }
    }
}

#[test]
fn a_recording_that_begins_at_a_swap_replays_bit_for_bit_with_its_settings() {
    let swaps = [
        (SlotKind::Tracker, "bytetrack", json!({})),
        (SlotKind::Tracker, "botsort", json!({ "track_buffer_ms": 300 })),
        (SlotKind::Scorer, "best-shot", json!({ "improved": false })),
        (SlotKind::Formatter, "mega", json!({ "topic": "other" })),
    ];
    // Before the swap less than is kept, more, and more than twice as much.
    for before in [50, 400, 1_000] {
        for (slot, name, config) in &swaps {
            let mut built = built_or_skip!(RecorderConfig { max_bytes: 64 << 20, ..RecorderConfig::default() });
            for n in 0..before + 60 {
                if n == before {
                    let guest = SlotGuest::new(*name, built.component(name), config.clone());
                    let prepared = built.guests.factory().prepare(*slot, guest).unwrap_or_else(|e| panic!("{e}"));
                    built.guests.commit_swap(prepared.on_probation_for(20)).unwrap_or_else(|e| panic!("{e}"));
                }
                built.guests.process(&frame(n), &walking(n), None);
            }
            let bundle = written(&recorded(&mut built.guests, *slot));
            assert_eq!((bundle.manifest.start, &bundle.manifest.config), (Start::Fresh, config), "{name}");
            let report = again(&bundle, &built.component(name));
            assert!(report.same_guest && report.as_recorded(), "{slot}: {report:#?}");
            assert_eq!((report.different, report.missing_answers), (0, 0), "{slot}: {report:#?}");
        }
    }
}

#[test]
fn without_the_flag_no_byte_of_a_picture_is_in_a_recording() {
    let mut built = built_or_skip!(RecorderConfig::default());
    let mut payloads = Vec::new();
    for n in 0..100 {
        let out = built.guests.process(&frame(n), &walking(n), None);
        payloads.extend(out.messages.into_iter().map(|m| m.payload));
    }
    assert!(payloads.len() > 2);
    for call in written(&recorded(&mut built.guests, SlotKind::Formatter)).calls() {
        let call = call.unwrap();
        let facestream_guest_host::record::Answer::Messages(messages) = &call.answer else { continue };
        for m in messages {
            assert!(!m.payload.is_kept(), "a payload that shows a face is left out: {call:?}");
        }
    }
    for call in &recorded(&mut built.guests, SlotKind::Scorer).calls {
        assert!(!format!("{call:?}").contains("HostPicture"), "{call:?}");
    }
}

#[test]
fn another_guest_is_compared_and_its_differences_are_told() {
    let mut built = built_or_skip!(RecorderConfig::default());
    for n in 0..200 {
        // BoT-SORT uses the motion, ByteTrack does not.
        built.guests.process(&frame(n), &walking(n), Some(swaying(n)));
    }
    let bundle = written(&recorded(&mut built.guests, SlotKind::Tracker));
    let report = again(&bundle, &built.component("bytetrack"));
    assert!(!report.same_guest && !report.as_recorded(), "{report:#?}");
    assert!(report.different > 0);
    let first = report.first_difference.as_ref().unwrap();
    assert_eq!((first.function, first.session), ("advance", Some(1)));
    assert_ne!(first.recorded, first.replayed);
    let tracks = report.comparison.tracks.unwrap();
    assert!(tracks.ids_kept >= 4 && tracks.matched > 100, "{tracks:?}");
    assert!(report.comparison.active.p50_us > 0.0 && report.comparison.candidate.p50_us > 0.0);
    let refused = replay(&bundle, &built.component("best-shot"), &Replay::default()).unwrap_err();
    assert!(refused.to_string().contains("tracker"), "{refused}");
}

#[test]
fn a_trap_is_written_down_and_happens_again_in_the_replay() {
    let trapping = "(if (i64.eq (i64.load (i32.const 512)) (i64.const 30)) (then (unreachable)))
        (call $echo (local.get $n) (local.get $detections) (local.get $timestamp))";
    let bytes = kit::tracker(&[("advance", trapping)]);
    let mut rig = rig(kit::config(), Some(bytes.clone()), None, None);
    assert_eq!(rig.guests.take_failed().count(), 0);
    for n in 0..31 {
        rig.guests.process(&frame(n), &detections(3), None);
    }
    let failed: Vec<Recording> = rig.guests.take_failed().collect();
    assert_eq!(failed.len(), 1);
    let bundle = written(&failed[0]);
    assert!(matches!(&bundle.manifest.reason, Reason::Failure { text } if text.contains("unreachable")));
    assert_eq!(bundle.manifest.start, Start::Fresh);
    let report = again(&bundle, &kit::load(&rig.engine, &bytes));
    let failure = report.failure.as_ref().unwrap();
    assert!(failure.reproduced && failure.kind == "trap" && failure.text.contains("wasm backtrace"), "{failure:?}");
    assert!(report.as_recorded(), "{report:#?}");
    // A guest that does not trap there differs.
    let report = again(&bundle, &kit::load(&rig.engine, &kit::tracker(&[])));
    assert!(!report.as_recorded() && report.failure.is_none(), "{report:#?}");
}

#[test]
fn damaged_and_hostile_files_are_refused() {
    let mut rig = rig(kit::config(), None, None, None);
    for n in 0..40 {
        rig.guests.process(&frame(n), &detections(3), None);
    }
    let good = recorded(&mut rig.guests, SlotKind::Scorer).to_bytes(0).unwrap();
    assert!(Bundle::from_bytes(&good).is_ok());
    for len in (0..good.len()).step_by(7) {
        assert!(Bundle::from_bytes(&good[..len]).is_err(), "cut to {len} bytes");
    }
    // Any single byte changed: refused, or a file that says the same (names and times in zip headers).
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x55;
        if let Ok(bundle) = Bundle::from_bytes(&bad) {
            assert_eq!(bundle.calls().count() as u64, bundle.manifest.calls, "byte {at}");
        }
    }
    assert!(matches!(Bundle::from_bytes(b"no zip"), Err(BundleError::NotOne(_))));

    let zip = |parts: &[(&str, &[u8])]| {
        use std::io::Write as _;
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in parts {
            zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    };
    let manifest = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut manifest = serde_json::to_value(Bundle::read_manifest(&good).unwrap()).unwrap();
        change(&mut manifest);
        serde_json::to_vec(&manifest).unwrap()
    };
    let refused = |parts: &[(&str, &[u8])], words: &str| {
        let error = Bundle::from_bytes(&zip(parts)).unwrap_err().to_string();
        assert!(error.contains(words), "`{words}` in `{error}`");
    };
    let same = manifest(&|_| {});
    refused(&[("manifest.json", &same)], "calls.bin");
    refused(&[("calls.bin", b"")], "manifest.json");
    refused(&[("manifest.json", &manifest(&|m| m["format"] = json!(2))), ("calls.bin", b"")], "format 2");
    refused(&[("manifest.json", &manifest(&|m| m["slot"] = json!("brain"))), ("calls.bin", b"")], "cannot be read");
    refused(&[("manifest.json", &same), ("calls.bin", b"")], "damaged");
    refused(&[("manifest.json", &same), ("calls.bin", &u32::MAX.to_le_bytes())], "more than");
    refused(&[("manifest.json", &same), ("calls.bin", &[9, 0, 0, 0, 1])], "ends within a call");
    // A gigabyte that is nothing, packed to a megabyte.
    refused(&[("manifest.json", &same), ("calls.bin", &vec![0; 300 << 20])], "calls.bin has more than");
    // A list that says it has 2^60 elements.
    let mut list = vec![0_u8; 4];
    list.extend([1, 1, 1, 1, 1]);
    list.extend([0xff; 9]);
    let len = (list.len() - 4) as u32;
    list[..4].copy_from_slice(&len.to_le_bytes());
    refused(&[("manifest.json", &same), ("calls.bin", &list)], "damaged");
}

/// What leaves a camera: messages with all their bytes, tracks, shots.
fn bytes_of(out: &Outcome) -> String {
    let shots: Vec<_> = out.shots.iter().map(|s| (s.track_id, s.session, s.sequence, s.score, s.reason)).collect();
    let tracks = out.tracks.as_ref().map(|t| format!("{t:?}"));
    format!("{:?} {tracks:?} {shots:?} {:?}", out.messages, out.ended)
}

#[test]
fn a_candidate_beside_the_guests_changes_no_byte_and_is_compared() {
    let mut plain = built_or_skip!(RecorderConfig::default());
    let alone: Vec<String> = (0..150).map(|n| bytes_of(&plain.guests.process(&frame(n), &walking(n), None))).collect();
    let cases = [(SlotKind::Tracker, "bytetrack"), (SlotKind::Scorer, "best-shot"), (SlotKind::Formatter, "mega")];
    for (slot, candidate) in cases {
        let mut built = built_or_skip!(RecorderConfig { seconds: 0, ..RecorderConfig::default() });
        let guest = SlotGuest::new(candidate, built.component(candidate), json!({}));
        let mut shadow = built.guests.factory().shadow(slot, guest).unwrap();
        for (n, expected) in (0..150).zip(&alone) {
            if n == 20 {
                let mut out = Outcome::default();
                shadow.begin(&mut built.guests, &mut out);
                assert!(out.messages.is_empty() && out.events.is_empty());
            }
            let frame = frame(n);
            let out = built.guests.process(&frame, &walking(n), None);
            assert_eq!(bytes_of(&out), *expected, "{slot}, frame {n}");
            if n >= 20 {
                shadow.follow(&mut built.guests, Some(&frame));
            }
        }
        let report = shadow.report();
        assert_eq!((report.state, report.gaps), ("running", 0), "{report:#?}");
        let compared = &report.comparison;
        assert_eq!((compared.active.failures, compared.candidate.failures), (0, 0), "{report:#?}");
        match slot {
            SlotKind::Tracker => {
                assert_eq!((compared.frames, report.carried), (130, "neutral"), "{report:#?}");
                assert!(compared.tracks.unwrap().matched > 100, "{report:#?}");
            }
            SlotKind::Scorer => {
                assert_eq!((report.carried, compared.different), ("private", 0), "the same guest: {report:#?}");
                let shots = compared.shots.unwrap();
                assert!(shots.same > 0 && shots.only_active + shots.only_candidate + shots.other_picture == 0);
            }
            SlotKind::Formatter => {
                assert!(compared.messages.unwrap().only_active > 0, "one message an event instead of two: {report:#?}");
            }
        }
        shadow.end(&mut built.guests);
    }
}

#[test]
fn a_candidate_that_traps_or_loops_is_given_up_and_the_active_guest_goes_on() {
    let trap = "(if (i64.eq (i64.load (i32.const 512)) (i64.const 5)) (then (unreachable)))
        (call $echo (local.get $n) (local.get $detections) (local.get $timestamp))";
    let endless = "(loop $l (br $l)) (unreachable)";
    for (body, words) in [(trap, "unreachable"), (endless, "deadline")] {
        let mut rig = rig(kit::config(), None, None, None);
        let bad = kit::load(&rig.engine, &kit::tracker(&[("advance", body)]));
        let mut shadow = rig.guests.factory().shadow(SlotKind::Tracker, kit::slot_guest("bad", &bad)).unwrap();
        shadow.begin(&mut rig.guests, &mut Outcome::default());
        for n in 0..20 {
            let frame = frame(n);
            let out = rig.guests.process(&frame, &detections(3), None);
            assert_eq!(out.tracks.map(|t| t.len()), Some(3));
            assert!(out.events.is_empty(), "{:?}", out.events);
            shadow.follow(&mut rig.guests, Some(&frame));
        }
        let report = shadow.report();
        assert_eq!(report.state, "given-up");
        assert!(report.reason.as_ref().unwrap().contains(words), "{report:#?}");
        assert_eq!(report.comparison.candidate.failures, 1);
        assert_eq!(rig.guests.status()[0].failures, 0, "the camera's own guest has nothing to do with it");
        assert_eq!(rig.engine.live_instances(), 3, "its instance is gone");
    }
}

#[test]
fn a_dry_run_tells_what_a_swap_would_do_and_changes_nothing() {
    let mut built = built_or_skip!(RecorderConfig::default());
    let mut twin = built_or_skip!(RecorderConfig::default());
    for n in 0..100 {
        built.guests.process(&frame(n), &walking(n), Some(swaying(n)));
        twin.guests.process(&frame(n), &walking(n), Some(swaying(n)));
    }
    let mut out = Outcome::default();
    let cases = [
        (SlotKind::Tracker, "bytetrack", "neutral"),
        (SlotKind::Tracker, "botsort", "private"),
        (SlotKind::Scorer, "best-shot", "private"),
        (SlotKind::Formatter, "mega", "none"),
    ];
    for (slot, name, state) in cases {
        let input = built.guests.dry_run_input(slot, &mut out);
        let guest = SlotGuest::new(name, built.component(name), json!({}));
        let report = built.guests.factory().dry_run(slot, guest, &input).unwrap();
        assert_eq!((report.state, report.failure.as_deref()), (state, None), "{name}: {report:#?}");
        let replayed = report.replay.unwrap();
        assert!(replayed.failure.is_none() && replayed.comparison.calls >= 2, "{name}: {replayed:#?}");
        assert_eq!(replayed.different == 0, name == slot.default_guest(), "{name}: {replayed:#?}");
    }
    assert!(out.messages.is_empty() && out.events.is_empty());
    let wrong = SlotGuest::new("best-shot", built.component("best-shot"), json!({ "max_hold": 3 }));
    let input = built.guests.dry_run_input(SlotKind::Scorer, &mut out);
    let error = built.guests.factory().dry_run(SlotKind::Scorer, wrong, &input).unwrap_err();
    assert!(error.to_string().contains("max_hold"), "{error}");
    for n in 100..160 {
        let (a, b) = (frame(n), frame(n));
        let (a, b) = (built.guests.process(&a, &walking(n), None), twin.guests.process(&b, &walking(n), None));
        assert_eq!(bytes_of(&a), bytes_of(&b), "frame {n}");
    }
}

#[test]
fn a_message_is_explained_with_the_pictures_that_lost() {
    let mut built = built_or_skip!(RecorderConfig::default());
    // The best picture of the only face is that of frame 12.
    let best = 12;
    for n in 0..30_u64 {
        let mut face = walking(1)[0];
        face.confidence = 0.9 - n.abs_diff(best) as f32 / 50.0;
        built.guests.process(&frame(n), &[face], None);
    }
    let out = built.guests.flush();
    let message = out.messages.iter().find(|m| m.id.0.contains("/flushed/")).unwrap();
    let header = |name: &str| message.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).unwrap();
    let scorer = built.component("best-shot");
    let explained =
        built.guests.explain_input().explain(&message.id.0.parse::<MessageRef>().unwrap(), Ok(&scorer)).unwrap();
    assert_eq!(explained.frame.unwrap().sequence, best);
    assert_eq!(explained.detections.len(), 1);
    // BoT-SORT tells of a track from its third frame on.
    let seen: Vec<u64> = explained.track.iter().map(|p| p.sequence).collect();
    assert_eq!(seen, (2..30).collect::<Vec<u64>>(), "its whole history");
    let chosen = explained.chosen.unwrap();
    assert_eq!((chosen.sequence, chosen.cropped), (best, true));
    assert!(chosen.score.is_some() && chosen.quality.is_some());
    let lost: Vec<u64> = explained.lost.iter().map(|c| c.sequence).collect();
    assert!(lost.len() > 20 && !lost.contains(&best), "{lost:?}");
    assert!(explained.lost.iter().all(|c| c.confidence < chosen.confidence), "{:?}", explained.lost);
    assert!(explained.lost.iter().filter(|c| c.sequence > best).all(|c| !c.cropped), "later ones were worse");
    // Each picture that was kept for a while has the score that was beaten.
    let beaten: Vec<f32> = explained.lost.iter().filter(|c| c.cropped).map(|c| c.score.unwrap()).collect();
    assert!(beaten.len() > 2 && beaten.is_sorted() && beaten.iter().all(|s| *s < chosen.score.unwrap()), "{beaten:?}");
    assert_eq!(explained.written.payload_bytes, message.payload.len() as u64);
    assert_eq!(explained.config_digest, header("config-digest"));
    let digests: Vec<String> = explained.guests.iter().map(|g| g.digest["sha256:".len()..][..12].to_owned()).collect();
    assert_eq!(digests.join(","), header("guest-digests"));
    assert!(explained.missing.is_empty(), "{:?}", explained.missing);

    let unknown: MessageRef = "cam-1/1/7/99/ended/0".parse().unwrap();
    let error = built.guests.explain_input().explain(&unknown, Err("")).unwrap_err();
    assert!(matches!(&error, ExplainError::NotKept(text) if text.contains("too old")), "{error}");
    for bad in ["", "cam-1", "cam-1/1/2/3/ended", "cam-1/1/x/3/ended/0", "cam-1/1/2/3/ended/0/1", "/1/2/3/ended/0"] {
        assert!(matches!(bad.parse::<MessageRef>(), Err(ExplainError::NoId(_))), "{bad}");
    }

    let mut off = built_or_skip!(RecorderConfig { seconds: 0, ..RecorderConfig::default() });
    let out = off.guests.process(&frame(0), &walking(1), None);
    assert!(out.events.is_empty());
    let error = off.guests.explain_input().explain(&unknown, Err("")).unwrap_err();
    assert!(error.to_string().contains("recorder.seconds"), "{error}");
}
