//! Guests that are looked at and tried on a running camera: recordings and their replay, dry run, a candidate beside a
//! guest, and what made a message. With the real program, RTSP and components.
#![allow(clippy::unwrap_used, reason = "a test: what is missing is a failure, and helpers are not seen as tests")]

use std::os::unix::fs::PermissionsExt as _;

use facestream_sim::SimConfig;
use facestream_test_support::{asset_or_skip, skip};
use facestream_tests::cameras::Cameras;
use facestream_tests::host::Host;
use facestream_tests::wait::until;
use facestream_tests::{clips, components, program};
use serde_json::{Value, json};

const FRAMES: &str = "frame-tracks";
const TRACKER: &str = "/api/v1/cameras/a/guests/tracker";

/// Runs a recording of the host again.
fn replay(host: &Host, file: &str, more: &[&str]) -> (Option<i32>, Value) {
    let data = host.data();
    let path = data.join("recordings").join(file);
    let args = ["guest", "replay", path.to_str().unwrap(), "--data", data.to_str().unwrap(), "--json"];
    let ended = program::run(&[&args, more].concat());
    let report = serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended:?}"));
    (ended.code, report)
}

/// The recording that was written for this reason.
fn recording(host: &Host, camera: &str, reason: &str) -> String {
    until("the recording", || {
        let list = host.api.get("/api/v1/recordings").json(200);
        let all = list["recordings"].as_array().unwrap();
        let found = all.iter().find(|r| r["camera"] == camera && r["reason"] == reason);
        found.map(|r| r["name"].as_str().unwrap().to_owned()).ok_or_else(|| list.to_string())
    })
}

#[test]
fn guests_are_recorded_replayed_tried_and_explained_while_a_camera_runs() {
    let _ = asset_or_skip!("guests/bytetrack.wasm");
    let home = tempfile::tempdir().unwrap();
    let clip = match clips::still(home.path()) {
        Ok(clip) => clip,
        Err(why) => {
            return skip("trials: guests_are_recorded_replayed_tried_and_explained_while_a_camera_runs", &why);
        }
    };
    let cameras = Cameras::start(&[&clip], None, SimConfig { cameras: 2, ..SimConfig::default() });
    let host = Host::start(home.path(), "");
    host.start_camera("a", &cameras.url(0), &json!({ "guests": { "formatter": FRAMES }, "detect_fps": 10 }));
    let tracks = |line: &facestream_tests::messages::Line| line.payload["tracks"].as_array().unwrap().len();
    host.message_until(FRAMES, "faces, and some frames", |l| tracks(l) > 0 && host.messages(FRAMES).len() > 15);

    // On demand, and run again bit for bit; another guest may differ, and says so.
    let written = host.api.post(&format!("{TRACKER}/record"), &json!({})).json(201);
    assert!(written["frames"].as_u64() > Some(0) && written["seconds"].as_f64() > Some(0.0), "{written}");
    let file = written["file"].as_str().unwrap();
    let mode = std::fs::metadata(host.data().join("recordings").join(file)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (code, report) = replay(&host, file, &[]);
    assert_eq!((code, &report["same_guest"], &report["different"]), (Some(0), &json!(true), &json!(0)), "{report}");
    assert_eq!((&report["calls"], &report["replayed"]), (&written["calls"], &written["calls"]), "{report}");
    let (code, report) = replay(&host, file, &["--guest", "bytetrack"]);
    assert_eq!((code == Some(0), &report["same_guest"]), (report["different"] == 0, &json!(false)), "{report}");
    assert_eq!(report["comparison"]["candidate"]["failures"], 0, "{report}");
    host.api.post("/api/v1/cameras/nobody/guests/tracker/record", &json!({})).problem(404, "unknown-camera", &[]);

    // A dry run changes nothing.
    let digest = || host.api.get(TRACKER).json(200)["digest"].clone();
    let before = digest();
    let report = host.api.put(TRACKER, &json!({ "guest": "bytetrack", "dry_run": true })).json(200);
    assert_eq!((&report["state"], &report["failure"]), (&json!("neutral"), &Value::Null), "{report}");
    assert!(report["replay"]["comparison"]["frames"].as_u64() > Some(0), "{report}");
    assert_eq!((&report["old_digest"], digest()), (&before, before.clone()));
    assert_eq!(host.api.get(&format!("{TRACKER}/history")).json(200)["changes"], json!([]));

    // A candidate holds its guest; one that traps is given up; the camera's own guest has nothing to do with it.
    let shadow = format!("{TRACKER}/shadow");
    host.api.get(&shadow).problem(404, "no-candidate", &["tracker"]);
    host.api.upload("traps", "1.0.0", &components::tracker("(unreachable)")).json(201);
    host.api.put(&shadow, &json!({ "guest": "traps" })).json(200);
    until("the candidate to be given up", || {
        let report = host.api.get(&shadow).json(200);
        let trapped = report["reason"].as_str().is_some_and(|r| r.contains("unreachable"));
        (report["state"] == "given-up" && trapped).then_some(()).ok_or_else(|| report.to_string())
    });
    host.api.delete("/api/v1/guests/traps@1.0.0").problem(
        409,
        "guest-conflict",
        &["candidate beside the tracker", "a"],
    );
    host.api.post(&format!("{shadow}/promote"), &json!({})).problem(422, "guest-refused", &["given up", "unreachable"]);
    assert_eq!(host.api.delete(&shadow).json(200)["state"], "given-up");
    let slot = host.api.get(TRACKER).json(200);
    assert_eq!((&slot["failures"], &slot["state"], &slot["digest"]), (&json!(0), &json!("running"), &before), "{slot}");

    // One that works is compared, and promoted; the guest before it is recorded.
    host.api.put(&shadow, &json!({ "guest": "bytetrack" })).json(200);
    let report = until("frames that both saw", || {
        let report = host.api.get(&shadow).json(200);
        (report["comparison"]["frames"].as_u64() >= Some(5)).then_some(report.clone()).ok_or_else(|| report.to_string())
    });
    assert_eq!((&report["state"], &report["carried"]), (&json!("running"), &json!("neutral")), "{report}");
    let promoted = host.api.post(&format!("{shadow}/promote?probation_frames=0"), &json!({})).json(200);
    assert_eq!((&promoted["old_digest"], &promoted["new_digest"]), (&before, &report["digest"]), "{promoted}");
    assert_eq!(digest(), report["digest"]);
    host.api.get(&shadow).problem(404, "no-candidate", &[]);
    let (code, report) = replay(&host, &recording(&host, "a", "swap"), &[]);
    assert_eq!((code, &report["different"], &report["recorded_digest"]), (Some(0), &json!(0), &before), "{report}");

    // What made the latest message.
    let seen = host.messages(FRAMES).len();
    host.message_until(FRAMES, "a new one with faces", |l| tracks(l) > 0 && host.messages(FRAMES).len() > seen);
    let latest = host.messages(FRAMES).pop().unwrap();
    let explained = host.api.get(&format!("/api/v1/explain?message={}", latest.id())).json(200);
    assert_eq!(
        explained["message"]["sequence"].to_string(),
        latest.headers["sequence"].as_str().unwrap(),
        "{explained}"
    );
    assert_eq!(explained["guests"].as_array().unwrap().len(), 3, "{explained}");
    assert_eq!(explained["config_digest"], latest.headers["config-digest"], "{explained}");
    assert!(!explained["detections"].as_array().unwrap().is_empty(), "{explained}");
    host.api.get("/api/v1/explain?message=a/1/999999999/-/frame/0").problem(404, "not-kept", &[]);
    host.api.get("/api/v1/explain?message=7").problem(422, "invalid-request", &["camera/session/sequence"]);

    // A guest that fails leaves its last seconds, in which it fails again.
    host.start_camera("b", &cameras.url(1), &json!({ "guests": { "tracker": "traps" }, "detect_fps": 10 }));
    let (code, report) = replay(&host, &recording(&host, "b", "failure"), &[]);
    assert_eq!((code, &report["failure"]["kind"]), (Some(0), &json!("trap")), "{report}");
    assert_eq!(report["failure"]["reproduced"], true, "{report}");
    let metrics = host.api.get("/metrics").text();
    assert!(metrics.contains("facestream_recordings_written_total{reason=\"demand\"} 1"), "{metrics}");
    host.stop();
}
