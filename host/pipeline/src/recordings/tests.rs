//! Names, bounds and counts of recordings, in real folders.

use std::os::unix::fs::PermissionsExt as _;

use facestream_core::SimulatedClock;
use facestream_guest_host::GuestLimits;
use facestream_guest_host::record::{BUNDLE_FORMAT, Start};
use serde_json::json;

use super::*;

fn recording(camera: &str, reason: Reason) -> Recording {
    let manifest = Manifest {
        format: BUNDLE_FORMAT,
        host_version: "0".into(),
        wit_version: "0.1.1".into(),
        camera: camera.into(),
        slot: SlotKind::Tracker,
        guest: "g".into(),
        digest: "sha256:0".into(),
        config: json!({}),
        limits: GuestLimits::default(),
        start: Start::Fresh,
        first: None,
        last: None,
        calls: 0,
        pictures: false,
        reason,
        written_unix_ms: 0,
        result: String::new(),
    };
    Recording { manifest, calls: Vec::new() }
}

fn failure() -> Reason {
    Reason::Failure { text: "trap".into() }
}

struct Rig {
    dir: tempfile::TempDir,
    clock: Arc<SimulatedClock>,
    recordings: Arc<Recordings>,
}

fn rig(keep_files: u32) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(SimulatedClock::at(1_700_000_000_000_000_000));
    let config = RecorderConfig { keep_files, ..RecorderConfig::default() };
    let recordings = Recordings::open(&dir.path().join("r"), &config, Arc::clone(&clock) as _).unwrap();
    Rig { dir, clock, recordings }
}

#[test]
fn a_recording_is_closed_to_others_listed_read_and_removed() {
    let Rig { dir, recordings, .. } = rig(9);
    let file = recordings.write(&recording("front-door.2", Reason::Demand)).unwrap();
    assert_eq!((file.camera.as_str(), file.slot, file.reason.as_str()), ("front-door.2", SlotKind::Tracker, "demand"));
    assert_eq!(file.written_unix_ms, 1_700_000_000_000);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = dir.path().join("r");
    assert_eq!((mode(&folder), mode(&folder.join(&file.name))), (0o700, 0o600));
    assert_eq!(recordings.list().unwrap(), std::slice::from_ref(&file));
    assert_eq!(recordings.read(&file.name).unwrap().len() as u64, file.bytes);
    // A second one within the same millisecond is another file.
    assert_ne!(recordings.write(&recording("front-door.2", Reason::Demand)).unwrap().name, file.name);
    recordings.remove(&file.name).unwrap();
    assert!(matches!(recordings.read(&file.name), Err(RecordingsError::Unknown(_))));
    assert_eq!(recordings.written(), BTreeMap::from([("demand", 2), ("failure", 0), ("swap", 0)]));
}

#[test]
fn a_name_never_leaves_the_folder() {
    let Rig { dir, recordings, .. } = rig(9);
    fs::write(dir.path().join("x-tracker-1-demand.zip"), b"outside").unwrap();
    for name in ["../x-tracker-1-demand.zip", "/etc/passwd", "", ".part", "a-tracker-1-demand", "a-brain-1-demand.zip"]
    {
        assert!(matches!(recordings.read(name), Err(RecordingsError::Unknown(_))), "{name}");
        assert!(matches!(recordings.remove(name), Err(RecordingsError::Unknown(_))), "{name}");
    }
}

#[test]
fn the_oldest_of_whoever_has_most_makes_room() {
    let Rig { dir: _dir, clock, recordings } = rig(4);
    let write = |camera: &str| {
        clock.advance(std::time::Duration::from_millis(5));
        recordings.write(&recording(camera, failure())).unwrap()
    };
    let quiet = write("quiet");
    let noisy: Vec<_> = (0..20).map(|_| write("noisy")).collect();
    let names: Vec<String> = recordings.list().unwrap().into_iter().map(|f| f.name).collect();
    assert_eq!(names.len(), 4);
    assert!(names.contains(&quiet.name), "a bad guest does not push out what others left: {names:?}");
    assert!(names.contains(&noisy[19].name) && !names.contains(&noisy[0].name), "{names:?}");
    assert_eq!(recordings.dropped()["made-room"], 17);
}

#[test]
fn a_guest_that_fails_all_the_time_is_recorded_now_and_then() {
    let Rig { dir: _dir, clock, recordings } = rig(100);
    for second in 0..25 {
        recordings.submit(recording("a", failure()));
        if second == 0 {
            recordings.submit(recording("b", failure()));
            recordings.submit(recording("c", Reason::Swap));
            recordings.submit(recording("c", failure()));
        }
        clock.advance(std::time::Duration::from_secs(1));
    }
    assert_eq!(recordings.dropped()["too-often"], 22, "at 0, 10 and 20 s");
    let done = || recordings.written().values().sum::<u64>() + recordings.dropped()["write-failed"];
    while done() < 6 {
        std::thread::yield_now();
    }
    let written = recordings.written();
    assert_eq!((written["failure"], written["swap"]), (5, 1), "a failure right after a swap is written, too");
}
