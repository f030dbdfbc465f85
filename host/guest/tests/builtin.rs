//! The built-in guests, when set-up has built them: they load, follow, choose and write in this host.
// Helpers outside of `#[test]` functions unwrap too: a failure there is the test's.
#![allow(clippy::unwrap_used)]

mod kit;

use std::path::Path;
use std::sync::Arc;

use facestream_core::guest::SlotKind;
use facestream_core::{CameraId, CameraMetrics};
use facestream_guest_host::{CameraGuests, GuestEngine, GuestSet, GuestStore, SlotGuest};
use facestream_test_support::asset_or_skip;

/// The built-in guests, as the service's store gives them.
struct BuiltIn {
    engine: GuestEngine,
    store: GuestStore,
    _dir: tempfile::TempDir,
}

impl BuiltIn {
    /// `botsort`: the component of that name, in whose folder the others are.
    fn beside(botsort: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = kit::engine();
        let store = GuestStore::open(&engine, dir.path(), botsort.parent()).unwrap();
        Self { engine, store, _dir: dir }
    }

    fn guest(&self, name: &str) -> SlotGuest {
        SlotGuest::new(name, self.store.load(name).unwrap_or_else(|e| panic!("{e}")), serde_json::json!({}))
    }

    /// A camera with the default guests, and its counters.
    fn camera(&self) -> (CameraGuests, Arc<CameraMetrics>) {
        let of = |kind: SlotKind| self.guest(kind.default_guest());
        let (tracker, scorer, formatter) = (of(SlotKind::Tracker), of(SlotKind::Scorer), of(SlotKind::Formatter));
        let (camera, metrics) = (CameraId::new("cam-1").unwrap(), Arc::new(CameraMetrics::default()));
        let set = GuestSet { tracker, scorer, formatter };
        (CameraGuests::new(&camera, set, &kit::config(), Arc::clone(&metrics)).unwrap(), metrics)
    }
}

#[test]
fn the_default_guests_carry_faces_from_detections_to_messages_and_swap_among_each_other() {
    let built = BuiltIn::beside(&asset_or_skip!("guests/botsort.wasm"));
    for kind in SlotKind::ALL {
        assert_eq!(built.store.resolve(kind.default_guest()).unwrap().info.kind, kind);
    }
    let (mut guests, metrics) = built.camera();
    let detections = kit::detections(8);
    let mut began = 0;
    let mut last = Vec::new();
    for n in 0..50 {
        if n == 20 {
            let (report, _) = guests.swap(SlotKind::Tracker, built.guest("bytetrack")).unwrap();
            assert_eq!(report.state, "neutral");
        }
        if n == 30 {
            let (report, _) = guests.swap(SlotKind::Scorer, built.guest("best-shot")).unwrap();
            assert_eq!(report.state, "private");
        }
        if n == 40 {
            let (report, _) = guests.swap(SlotKind::Tracker, built.guest("botsort")).unwrap();
            assert_eq!(report.state, "neutral");
        }
        let out = guests.process(&kit::frame(n), &detections, None);
        began += out.began;
        assert!(out.events.is_empty(), "{:?}", out.events);
        last = out.tracks.expect("the tracker answers").iter().map(|t| t.id).collect();
        last.sort_unstable();
    }
    assert_eq!((last.len(), began), (8, 8), "eight still faces are eight tracks, over three trackers: {last:?}");
    let out = guests.flush();
    assert_eq!(out.shots.len(), 8);
    assert!(out.messages.len() >= 8, "{}", out.messages.len());
    assert!(metrics.all_drops().is_empty(), "{:?}", metrics.all_drops());
}

#[test]
fn another_scorer_takes_over_the_shots_that_are_held_and_their_pictures() {
    let steady = asset_or_skip!("examples/steady-shot.wasm");
    let built = BuiltIn::beside(&asset_or_skip!("guests/botsort.wasm"));
    let (mut guests, metrics) = built.camera();
    for n in 0..20 {
        assert!(guests.process(&kit::frame(n), &kit::detections(6), None).shots.is_empty(), "they are held");
    }
    let steady = kit::load(&built.engine, &std::fs::read(steady).unwrap());
    let new = SlotGuest::new("steady-shot", steady, serde_json::json!({}));
    let (report, out) = guests.swap(SlotKind::Scorer, new).unwrap();
    assert_eq!((report.state, out.shots.len()), ("neutral", 0), "nothing is given up early");
    assert!(guests.status()[1].memory_bytes > 0);
    // The faces have gone: what comes now was seen by the scorer before.
    let out = guests.flush();
    let mut tracks: Vec<u64> = out.shots.iter().map(|shot| shot.track_id).collect();
    tracks.sort_unstable();
    assert_eq!(tracks, [1, 2, 3, 4, 5, 6]);
    for shot in &out.shots {
        assert!(shot.sequence < 20 && shot.picture.width() > 0 && shot.picture.planes().is_some(), "{shot:?}");
    }
    assert!(out.messages.len() >= 6 && metrics.all_drops().is_empty(), "{}", out.messages.len());
}
