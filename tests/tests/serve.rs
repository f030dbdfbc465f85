//! `facestream serve` against simulated cameras: from RTSP with a password to messages in files, restarts, losses of
//! the connection, and guests that are replaced while cameras run.
#![allow(clippy::unwrap_used, reason = "a test: what is missing is a failure, and helpers are not seen as tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use facestream_sim::{CameraFaults, FaultEvent, SimConfig};
use facestream_test_support::{asset, asset_or_skip, skip};
use facestream_tests::cameras::Cameras;
use facestream_tests::host::Host;
use facestream_tests::messages::{self, Line, assert_gate, assert_jpeg, assert_mega};
use facestream_tests::wait::until;
use facestream_tests::{clips, components};
use serde_json::{Value, json};

const GATE: &str = "gate-metric-detections";
const MEGA: &str = "detectionMega";
const FRAMES: &str = "frame-tracks";
/// Quick reconnection, so that a test of it is quick.
const QUICK_RETRY: &str = "[ingest]\nbackoff_min_ms = 200\nbackoff_max_ms = 400\n";

/// The clip of [`clips::still`], or an early return that records the test as skipped.
macro_rules! still_or_skip {
    ($dir:expr, $test:literal) => {
        match clips::still($dir.path()) {
            Ok(clip) => clip,
            Err(why) => return skip(concat!("serve: ", $test), &why),
        }
    };
}

fn several(cameras: usize) -> SimConfig {
    SimConfig { cameras, ..SimConfig::default() }
}

/// Brief statuses by camera, in the exact shape of the first FaceStream.
#[track_caller]
fn brief(host: &Host) -> BTreeMap<String, Value> {
    let answer = host.api.get("/camera/status");
    assert_eq!(answer.content_type, "application/json");
    let body = answer.json(200);
    let keys = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&body), ["active_cameras"]);
    let one = |camera: &Value| {
        assert_eq!(keys(camera), ["camera_id", "fps", "status", "worker_id"]);
        assert!(camera["fps"].is_u64() && camera["worker_id"].is_u64() && camera["status"].is_string(), "{camera}");
        (camera["camera_id"].as_str().unwrap().to_owned(), camera.clone())
    };
    body["active_cameras"].as_array().unwrap().iter().map(one).collect()
}

fn workers(host: &Host) -> Vec<(String, u64)> {
    brief(host).into_iter().map(|(id, c)| (id, c["worker_id"].as_u64().unwrap())).collect()
}

/// Ids of the tracks in a message of `frame-tracks`.
fn ids(line: &Line) -> BTreeSet<u64> {
    line.payload["tracks"].as_array().unwrap().iter().map(|t| t["id"].as_u64().unwrap()).collect()
}

fn number(line: &Line, field: &str) -> u64 {
    line.payload[field].as_u64().unwrap_or_else(|| panic!("{field}: {}", line.payload))
}

#[test]
fn cameras_deliver_both_topics_field_by_field_and_survive_a_restart() {
    let clip = asset_or_skip!("clips/pan720.mp4");
    let cameras = Cameras::start(&[&clip], Some("viewer:canary-7f3a"), several(3));
    let home = tempfile::tempdir().unwrap();
    let more = json!({ "detect_fps": 8, "config": { "formatter": { "provenance": true } } });
    let mut over_udp = more.clone();
    over_udp["transport"] = json!("udp");
    let names = ["door", "550e8400-e29b-41d4-a716-446655440000", "yard.udp"];

    let host = Host::start(home.path(), QUICK_RETRY);
    assert_eq!(host.api.get("/camera/status").text(), r#"{"active_cameras":[]}"#);
    let body = |n: usize, more: &Value| {
        let mut body = json!({ "rtsp_link": cameras.url(n), "camera_id": names[n] });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    // The exact bytes: clients of the first FaceStream may compare text.
    let started = host.api.post("/camera/start", &body(0, &more));
    assert_eq!((started.status, started.text().as_str()), (200, r#"{"status":"running","worker_id":1}"#));
    let started = host.api.post("/camera/start", &body(1, &more));
    assert_eq!((started.status, started.text().as_str()), (200, r#"{"status":"running","worker_id":2}"#));
    let started = host.api.post("/camera/start", &body(2, &over_udp));
    assert_eq!((started.status, started.text().as_str()), (200, r#"{"status":"running","worker_id":3}"#));

    for name in names {
        let camera = host.camera_runs(name);
        assert_eq!((&camera["codec"], &camera["model"]), (&json!("h264"), &json!("yunet")), "{camera}");
        assert_eq!(camera["size"], json!({ "width": 1280, "height": 720 }));
        assert!(camera["url"].as_str().unwrap().starts_with("rtsp://***@127.0.0.1"), "{camera}");
        let slots: Vec<_> = camera["slots"].as_array().unwrap().iter().map(|s| (&s["slot"], &s["guest"])).collect();
        let expected = [("tracker", "botsort"), ("scorer", "best-shot"), ("formatter", "gate-and-mega")];
        assert_eq!(json!(slots), json!(expected));
    }
    until("a rate of about 25 frames a second in the brief status", || {
        let brief = brief(&host);
        let fine = |c: &Value| c["status"] == "running" && (20..=30).contains(&c["fps"].as_u64().unwrap());
        if brief.len() == 3 && brief.values().all(fine) { Ok(()) } else { Err(format!("{brief:?}")) }
    });
    // Every camera's faces leave the picture within the clip.
    for name in names {
        let of = |reason: &str, l: &Line| l.key == name && l.payload["provenance"]["reason"] == reason;
        assert_gate(&host.message_until(GATE, name, |l| of("inactive", l) || of("ended", l)), name);
        assert_mega(&host.message_until(MEGA, name, |l| of("inactive", l) || of("ended", l)), name);
    }
    assert!(cameras.control().stats(0).unwrap().unauthorized >= 1, "the password was asked for");
    for camera in host.api.get("/api/v1/cameras").json(200)["cameras"].as_array().unwrap() {
        // Frames analysed late give way to newer ones, and a busy machine loses datagrams; over TCP nothing else may be
        // lost.
        let udp = camera["camera_id"] == names[2];
        let fine: &[&str] = if udp { &["superseded", "packet-lost", "decode-error"] } else { &["superseded"] };
        let lost: Vec<_> =
            camera["drops"].as_object().unwrap().keys().filter(|k| !fine.contains(&k.as_str())).collect();
        assert!(lost.is_empty(), "{camera}");
    }

    // Ended while cameras run: what guests hold is given up and written.
    let before = messages::count(&host.data());
    let accepted = host.api.sink("jsonl")["accepted"].as_u64().unwrap();
    let data = host.data();
    host.stop();
    let lines = [messages::read(&data, GATE), messages::read(&data, MEGA)].concat();
    assert!(lines.len() as u64 >= accepted.max(before), "{} lines, {accepted} accepted", lines.len());
    for name in names {
        let flushed = lines.iter().filter(|l| l.key == name && l.payload["provenance"]["reason"] == "flushed").count();
        assert!(flushed >= 2, "{name}: the faces in view come with the end of the host");
    }
    for line in &lines {
        if line.topic == GATE { assert_gate(line, &line.key) } else { assert_mega(line, &line.key) }
    }
    let unique: BTreeSet<_> = lines.iter().map(Line::id).collect();
    assert_eq!(unique.len(), lines.len(), "no message twice, each with an id of its own");

    // Again on the same data: the same cameras under the same numbers, and nobody asked for them.
    let host = Host::start(home.path(), QUICK_RETRY);
    let expected = [(names[1].to_owned(), 2), (names[0].to_owned(), 1), (names[2].to_owned(), 3)];
    assert_eq!(workers(&host), expected);
    for name in names {
        host.camera_runs(name);
    }
    let again = host.api.post("/camera/start", &body(2, &over_udp));
    assert_eq!(again.json(200)["worker_id"], 3, "as it was wanted before");
    let added = host.start_camera("new", &cameras.url(0), &json!({}));
    assert_eq!(added["worker_id"], 4, "a number is not used again");

    // Stopped one by one by id and by number; then every message accepted is in a file.
    let stop = |body: Value| {
        let answer = host.api.post("/camera/stop", &body);
        assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"status":"stopped"}"#));
    };
    stop(json!({ "camera_id": names[0] }));
    stop(json!({ "worker_id": 2 }));
    stop(json!({ "camera_id": "new" }));
    stop(json!({ "camera_id": names[2] }));
    assert!(brief(&host).is_empty());
    let sink = host.api.sink("jsonl");
    assert_eq!((&sink["state"], &sink["lost"]), (&json!("working"), &json!({})), "{sink}");
    host.stop();
    let new = messages::count(&data) - lines.len() as u64;
    assert_eq!(json!(new), sink["accepted"], "every message accepted is in a file");
    assert!(new >= 6, "{new} messages of the second run");

    let host = Host::start(home.path(), QUICK_RETRY);
    assert!(brief(&host).is_empty(), "stopped cameras stay stopped");
    host.stop();
}

#[test]
fn a_lost_camera_is_seen_and_comes_back_and_another_coding_runs_beside() {
    let h265 = asset_or_skip!("clips/pan720-h265.mp4");
    let home = tempfile::tempdir().unwrap();
    let still = still_or_skip!(home, "a_lost_camera_is_seen_and_comes_back_and_another_coding_runs_beside");
    let faults = BTreeMap::from([(1, CameraFaults { clip: 1, ..CameraFaults::default() })]);
    let cameras = Cameras::start(&[&still, &h265], Some("viewer:pw"), SimConfig { faults, ..several(2) });
    let host = Host::start(home.path(), QUICK_RETRY);
    let more = json!({ "guests": { "formatter": FRAMES }, "detect_fps": 10 });
    host.start_camera("lost", &cameras.url(0), &more);
    host.start_camera("other", &cameras.url(1), &more);
    host.camera_runs("lost");
    let other = host.camera_runs("other");
    assert_eq!(other["codec"], "h265", "{other}");
    let first = host.message_until(FRAMES, "faces", |l| l.key == "lost" && !ids(l).is_empty());

    // The camera's power is cut: connections break, new ones are refused.
    cameras.set_listening(false);
    cameras.control().fire(0, FaultEvent::Abort).unwrap();
    let waiting = host.camera_until("lost", "waiting, with reason and time of the next try", |c| {
        c["state"] == "waiting-to-retry"
            && c["reason"].as_str().is_some_and(|r| r.contains("refused"))
            && c["next_try_unix_ms"].is_u64()
            && c["attempt"].as_u64() > Some(1)
    });
    assert_eq!(brief(&host)["lost"]["status"], waiting["state"], "also the first FaceStream's call says so");
    assert_eq!(brief(&host)["other"]["status"], "running", "the other camera goes on");
    // Time goes on for the guests of a camera that is away: pictures are not held until it comes back.
    host.camera_until("lost", "the best shot of every track", |c| {
        let counters = &c["counters"];
        counters["tracks"].as_u64() > Some(0) && counters["shots"].as_u64() >= counters["tracks"].as_u64()
    });

    cameras.set_listening(true);
    let back = host.camera_until("lost", "running again", |c| {
        c["state"] == "running" && c["counters"]["sessions"].as_u64() > Some(1)
    });
    assert!(back["reason"].is_null(), "{back}");
    let later = host.message_until(FRAMES, "faces of the next session", |l| {
        l.key == "lost" && number(l, "session") > number(&first, "session") && !ids(l).is_empty()
    });
    assert!(number(&later, "timestamp_ns") > number(&first, "timestamp_ns"), "media time goes on");
    assert_eq!(host.api.camera("other")["counters"]["sessions"], 1, "the other camera kept its connection");

    // A connection closed in order is no different.
    let sessions = host.api.camera("lost")["counters"]["sessions"].as_u64();
    cameras.control().fire(0, FaultEvent::Close).unwrap();
    host.camera_until("lost", "yet another session", |c| {
        c["state"] == "running" && c["counters"]["sessions"].as_u64() > sessions
    });
    host.stop();
}

#[test]
fn guests_are_replaced_while_the_camera_runs() {
    let home = tempfile::tempdir().unwrap();
    let still = still_or_skip!(home, "guests_are_replaced_while_the_camera_runs");
    let cameras = Cameras::start(&[&still], None, several(2));
    let host = Host::start(home.path(), "");
    let more = json!({ "guests": { "formatter": FRAMES }, "detect_fps": 10 });
    host.start_camera("a", &cameras.url(0), &more);
    host.start_camera("b", &cameras.url(1), &more);
    let full = |camera: &'static str| move |l: &Line| l.key == camera && ids(l).len() >= 10;
    let before = host.message_until(FRAMES, "all faces of a", full("a"));
    host.message_until(FRAMES, "all faces of b", full("b"));
    let slots_of_b = |host: &Host| -> Vec<Value> {
        let b = host.api.camera("b");
        let slots = b["slots"].as_array().unwrap();
        slots.iter().map(|s| json!([s["guest"], s["digest"], s["failures"], s["restarts"]])).collect()
    };
    let b_before = slots_of_b(&host);
    let slot = |kind: &str| host.api.get(&format!("/api/v1/cameras/a/guests/{kind}")).json(200);
    let swap = |kind: &str, choice: Value| host.api.put(&format!("/api/v1/cameras/a/guests/{kind}"), &choice);
    let keys = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();

    // Another tracker takes over the tracks in the contract's own form.
    let old = slot("tracker");
    assert_eq!(old["guest"], "botsort");
    let report = swap("tracker", json!({ "guest": "bytetrack" })).json(200);
    assert_eq!(keys(&report), ["slot", "change", "old_digest", "new_digest", "state", "pause_us", "probation_frames"]);
    assert_eq!((&report["slot"], &report["state"]), (&json!("tracker"), &json!("neutral")), "{report}");
    assert_eq!(report["old_digest"], old["digest"]);
    assert!(report["pause_us"].is_u64());
    let new = slot("tracker");
    assert_eq!((&new["guest"], &new["digest"]), (&json!("bytetrack"), &report["new_digest"]));
    assert_ne!(report["old_digest"], report["new_digest"]);
    let seen = host.messages(FRAMES).iter().filter(|l| l.key == "a").map(|l| number(l, "sequence")).max().unwrap();
    host.message_until(FRAMES, "a second of frames after the swap", |l| {
        l.key == "a" && number(l, "sequence") > seen + 25
    });
    // Settings alone: the same instance goes on with them.
    let report = swap("tracker", json!({ "config": { "track_buffer_ms": 1500 } })).json(200);
    assert_eq!((&report["change"], &report["state"]), (&json!("reconfigured"), &json!("private")), "{report}");
    assert_eq!(report["old_digest"], report["new_digest"], "{report}");
    let now = slot("tracker");
    assert_eq!((&now["config"], &now["swaps"]["reconfigured"]), (&json!({ "track_buffer_ms": 1500 }), &json!(1)));
    let seen = host.messages(FRAMES).iter().filter(|l| l.key == "a").map(|l| number(l, "sequence")).max().unwrap();
    host.message_until(FRAMES, "frames after the second swap", |l| l.key == "a" && number(l, "sequence") > seen + 25);
    // The picture stands still, so the ids must: on every frame since they were all there.
    let since = |l: &&Line| l.key == "a" && number(l, "sequence") >= number(&before, "sequence");
    let frames = host.messages(FRAMES);
    let frames: Vec<_> = frames.iter().filter(since).collect();
    assert!(frames.len() >= 20);
    for line in &frames {
        assert!(ids(line).is_superset(&ids(&before)), "{:?} became {:?} at {}", ids(&before), ids(line), line.id());
    }
    assert!(frames.is_sorted_by_key(|l| number(l, "sequence")), "in order, none twice");

    // What cannot take over leaves everything as it is.
    swap("tracker", json!({ "guest": "no-such" })).problem(404, "unknown-guest", &["no-such"]);
    swap("tracker", json!({ "guest": "bytetrak" })).problem(404, "unknown-guest", &["did you mean `bytetrack`?"]);
    swap("tracker", json!({ "guest": "best-shot" })).problem(422, "guest-refused", &["scorer", "tracker"]);
    let misspelt = json!({ "guest": "botsort", "config": { "track_bufer_ms": 1 } });
    swap("tracker", misspelt).problem(422, "guest-refused", &["track_buffer_ms"]);
    swap("painter", json!({ "guest": "botsort" })).problem(404, "unknown-slot", &["painter"]);
    let nobody = host.api.put("/api/v1/cameras/nobody/guests/tracker", &json!({ "guest": "botsort" }));
    nobody.problem(404, "unknown-camera", &["nobody"]);
    let calls = slot("tracker")["calls"].as_u64();
    until("the tracker to go on", || {
        let now = slot("tracker");
        if now["calls"].as_u64() > calls && now["guest"] == "bytetrack" { Ok(()) } else { Err(now.to_string()) }
    });

    // A scorer that gives a picture every half second, and a formatter that sends it.
    let report = swap("scorer", json!({ "guest": "best-shot", "config": { "interval_ms": 500 } })).json(200);
    assert_eq!((&report["slot"], &report["state"]), (&json!("scorer"), &json!("private")), "{report}");
    let report = swap("formatter", json!({ "guest": "gate-metric" })).json(200);
    assert_eq!(report["slot"], "formatter", "{report}");
    assert_gate(&host.message_until(GATE, "of the new formatter", |l| l.key == "a"), "a");
    let last = host.messages(FRAMES).iter().filter(|l| l.key == "a").map(|l| number(l, "sequence")).max().unwrap();
    let b_now = host.messages(FRAMES).iter().filter(|l| l.key == "b").map(|l| number(l, "sequence")).max().unwrap();
    let mut b_frames = host.message_until(FRAMES, "b to go on", |l| l.key == "b" && number(l, "sequence") > b_now + 25);
    let frames = host.messages(FRAMES);
    assert!(frames.iter().filter(|l| l.key == "a").all(|l| number(l, "sequence") <= last), "the old one is gone");

    // The other camera noticed nothing.
    assert_eq!(slots_of_b(&host), b_before);
    let of_b: Vec<_> = frames.iter().filter(|l| full("b")(l)).collect();
    b_frames = of_b.last().map_or(b_frames, |l| (*l).clone());
    assert_eq!(ids(of_b[0]), ids(&b_frames), "its ids stand still, too");
    let a = host.api.camera("a");
    assert_eq!((&a["counters"]["sessions"], &host.api.camera("b")["counters"]["sessions"]), (&json!(1), &json!(1)));
    assert!(a["slots"].as_array().unwrap().iter().all(|s| s["failures"] == 0), "{a}");

    // What was swapped is wanted from now on, also after a restart.
    host.stop();
    let host = Host::start(home.path(), "");
    let a = host.api.camera("a");
    let slots: Vec<_> = a["slots"].as_array().unwrap().iter().map(|s| json!([s["guest"], s["config"]])).collect();
    let expected = json!([
        ["bytetrack", { "track_buffer_ms": 1500 }], ["best-shot", { "interval_ms": 500 }], ["gate-metric", {}]
    ]);
    assert_eq!(json!(slots), expected);
    // Whoever repeats the start that made the camera gets it as it is now; another start is another camera.
    assert_eq!(host.start_camera("a", &cameras.url(0), &more)["worker_id"], a["worker_id"]);
    let now = host.api.camera("a");
    assert_eq!((&now["slots"][0]["guest"], &now["worker_id"]), (&json!("bytetrack"), &a["worker_id"]));
    let other =
        json!({ "camera_id": "a", "rtsp_link": cameras.url(0), "detect_fps": 10, "guests": { "tracker": "botsort" } });
    host.api.post("/camera/start", &other).problem(409, "camera-conflict", &["guests"]);
    host.stop();
}

#[test]
fn a_guest_is_uploaded_used_and_kept() {
    let file: PathBuf = asset_or_skip!("guests/bytetrack.wasm");
    let home = tempfile::tempdir().unwrap();
    let still = still_or_skip!(home, "a_guest_is_uploaded_used_and_kept");
    let cameras = Cameras::start(&[&still], None, several(1));
    let host = Host::start(home.path(), "");
    // Ours in all but digest.
    let component = components::relabelled(&std::fs::read(&file).unwrap(), "mine");
    let stored = host.api.upload("my-tracker", "1.2.0", &component);
    let location = stored.location.clone();
    let stored = stored.json(201);
    assert_eq!(stored["slots"], json!(["tracker"]), "{stored}");
    assert_eq!((&stored["name"], &stored["version"]), (&json!("my-tracker"), &json!("1.2.0")));
    assert_eq!((&stored["builtin"], &stored["size_bytes"]), (&json!(false), &json!(component.len())));
    assert_eq!(host.api.get(&location).json(200)["digest"], stored["digest"]);
    assert_eq!(host.api.upload("my-tracker", "1.2.0", &component).status, 200, "the same again is no change");
    let other = components::relabelled(&component, "again");
    host.api.upload("my-tracker", "1.2.0", &other).problem(409, "guest-conflict", &["1.2.0"]);
    assert_eq!(host.api.upload("my-tracker", "1.3.0", &other).status, 201);
    host.api.upload("botsort", "0.1.0", &component).problem(409, "guest-conflict", &["botsort"]);

    let guests = json!({ "tracker": "my-tracker@1.2.0", "formatter": FRAMES });
    host.start_camera("a", &cameras.url(0), &json!({ "guests": guests, "detect_fps": 10 }));
    host.message_until(FRAMES, "faces tracked by the new guest", |l| ids(l).len() >= 10);
    assert_eq!(host.api.camera("a")["slots"][0]["digest"], stored["digest"]);
    assert_eq!(host.api.get("/api/v1/guests/my-tracker@1.2.0").json(200)["used_by"], json!(["a"]));
    host.api.delete("/api/v1/guests/my-tracker@1.2.0").problem(409, "guest-conflict", &["tracker of camera a"]);
    host.api.delete("/api/v1/guests/botsort").problem(409, "guest-conflict", &["comes with the host"]);

    host.stop();
    let host = Host::start(home.path(), "");
    let camera = host.camera_runs("a");
    assert_eq!(camera["slots"][0]["digest"], stored["digest"], "the uploaded guest survived with its camera");
    // The newest version is meant when none is named.
    let slot = "/api/v1/cameras/a/guests/tracker";
    let newest = json!({ "guest": "my-tracker", "probation_frames": 1_000_000 });
    let report = host.api.put(slot, &newest).json(200);
    assert_eq!((&report["old_digest"], &report["state"]), (&stored["digest"], &json!("private")), "{report}");
    assert_ne!(report["new_digest"], stored["digest"], "{report}");
    // Kept until the new one has proven itself, so not to be deleted; asked to, it comes back with the state.
    host.api.delete("/api/v1/guests/my-tracker@1.2.0").problem(409, "guest-conflict", &["tracker of camera a"]);
    let back = host.api.post(&format!("{slot}/rollback"), &json!({})).json(200);
    assert_eq!((&back["new_digest"], &back["state"]), (&stored["digest"], &json!("private")), "{back}");
    let history = host.api.get(&format!("{slot}/history")).json(200);
    let told = |n: usize| (history["changes"][n]["change"].clone(), history["changes"][n]["outcome"].clone());
    assert_eq!(told(0), (json!("rollback"), json!("done")), "{history}");
    assert_eq!(told(1), (json!("swap"), json!("superseded")), "{history}");
    host.api.put(slot, &json!({ "guest": "my-tracker", "probation_frames": 0 })).json(200);
    assert_eq!(host.api.delete("/api/v1/guests/my-tracker@1.2.0").status, 204);
    host.api.get("/api/v1/guests/my-tracker@1.2.0").problem(404, "unknown-guest", &["my-tracker@1.2.0"]);
    host.stop();
}

#[test]
fn a_start_can_be_interrupted_and_asked_for_its_cameras() {
    const CAMERAS: usize = 4;
    let home = tempfile::tempdir().unwrap();
    let still = still_or_skip!(home, "a_start_can_be_interrupted_and_asked_for_its_cameras");
    let cameras = Cameras::start(&[&still], None, several(CAMERAS));
    let host = Host::start(home.path(), "");
    let more = json!({ "detect_fps": 2 });
    let body = |n: usize| json!({ "camera_id": format!("cam-{n}"), "rtsp_link": cameras.url(n), "detect_fps": 2 });
    for n in 0..CAMERAS {
        host.start_camera(&format!("cam-{n}"), &cameras.url(n), &more);
    }
    let before = workers(&host);
    host.stop();

    // As soon as it answers at all its cameras are on their way: a signal then ends it in order, too.
    Host::start_alive(home.path(), "").stop();

    // Whoever asks for a camera that is on its way back gets the same one, not a second one.
    let host = Host::start_alive(home.path(), "");
    for n in (0..CAMERAS).rev() {
        until("the start to be taken", || {
            let answer = host.api.post("/camera/start", &body(n));
            match answer.status {
                200 => {
                    assert_eq!(answer.json(200)["worker_id"], n as u64 + 1);
                    Ok(())
                }
                503 => Err(answer.text()),
                _ => panic!("{}", answer.text()),
            }
        });
    }
    assert_eq!(workers(&host), before);
    for n in 0..CAMERAS {
        host.camera_runs(&format!("cam-{n}"));
        assert_eq!(cameras.control().stats(n).unwrap().playing, 1, "one session each");
    }
    host.stop();
}

#[test]
fn told_twice_to_stop_it_ends_at_once() {
    use std::io::Write as _;
    let home = tempfile::tempdir().unwrap();
    let hour = 3_600_000;
    let host = Host::start(home.path(), &format!("[server]\ngrace_ms = {hour}\nrequest_timeout_ms = {hour}\n"));
    // A request whose body does not come keeps the host from ending, for an hour.
    let mut client = std::net::TcpStream::connect(host.api.address()).unwrap();
    let head = format!(
        "POST /camera/start HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{{",
        host.api.address()
    );
    client.write_all(head.as_bytes()).unwrap();
    let says = |what: &'static str| until(what, || if host.log().contains(what) { Ok(()) } else { Err(host.log()) });
    host.terminate();
    says("SIGTERM: stopping");
    host.terminate();
    says("ending at once");
    host.ends_with(130);
    drop(client);
}

#[test]
fn a_camera_that_cannot_be_started_again_is_shown_and_tried_again_until_it_is_stopped() {
    let model = asset_or_skip!("models/yunet.onnx");
    let home = tempfile::tempdir().unwrap();
    let models = home.path().join("data/models");
    std::fs::create_dir_all(&models).unwrap();
    let own = models.join("own.onnx");
    std::fs::copy(model, &own).unwrap();
    let host = Host::start(home.path(), "");
    host.start_camera("a", "rtsp://127.0.0.1:9/x", &json!({ "model": "own" }));
    host.start_camera("b", "rtsp://127.0.0.1:9/x", &json!({}));
    host.stop();

    // Its model is gone for one run and back for the next.
    std::fs::rename(&own, models.join("own.away")).unwrap();
    let host = Host::start(home.path(), "");
    let both = [("a".to_owned(), 1), ("b".to_owned(), 2)];
    assert_eq!(workers(&host), both, "it is shown");
    assert!(host.log().contains("no model `own`"), "the log says why");
    let shown = host.api.camera("a");
    let reason = shown["reason"].as_str().unwrap();
    assert!(shown["state"] == "waiting-to-retry" && reason.contains("no model `own`"), "{shown}");
    let asked = json!({ "camera_id": "a", "rtsp_link": "rtsp://127.0.0.1:9/x", "model": "own" });
    host.api.post("/camera/start", &asked).problem(422, "invalid-request", &["own"]);
    let other = json!({ "camera_id": "a", "rtsp_link": "rtsp://127.0.0.1:9/y", "model": "own" });
    host.api.post("/camera/start", &other).problem(409, "camera-conflict", &["rtsp_link"]);
    let slot = "/api/v1/cameras/a/guests/tracker";
    host.api.put(slot, &json!({ "guest": "bytetrack" })).problem(503, "unavailable", &["camera a", "no model `own`"]);
    assert_eq!(host.api.get(&format!("{slot}/history")).json(200)["changes"], json!([]));

    // Its model is back while the host runs: its turn comes by itself.
    std::fs::rename(models.join("own.away"), &own).unwrap();
    until("the camera to be tried again", || {
        let shown = host.api.camera("a");
        if shown["slots"].as_array().is_some_and(|slots| slots.len() == 3) { Ok(()) } else { Err(shown.to_string()) }
    });
    assert_eq!(workers(&host), both, "as the worker that it was");
    host.stop();
    let host = Host::start(home.path(), "");
    assert_eq!(workers(&host), both);
    host.stop();

    // Gone for good: it can be stopped although it does not run.
    std::fs::remove_file(&own).unwrap();
    let host = Host::start(home.path(), "");
    host.api.post("/camera/stop", &json!({ "worker_id": 1 })).json(200);
    host.api.delete("/api/v1/cameras/a").problem(404, "unknown-camera", &["a"]);
    host.api.post("/camera/stop", &json!({ "worker_id": 1 })).problem(404, "unknown-worker", &["1"]);
    host.stop();
}

/// Samples of an OpenMetrics text by series; asserts its form.
fn openmetrics(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with("# EOF\n"), "an OpenMetrics text ends so");
    let mut samples = BTreeMap::new();
    let mut declared = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            if let Some((name, kind)) = rest.strip_prefix("TYPE ").and_then(|r| r.split_once(' ')) {
                assert!(["counter", "gauge", "info"].contains(&kind), "{line}");
                assert!(declared.insert(name.to_owned()), "declared once: {line}");
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let name = series.split('{').next().unwrap();
        let known = declared.contains(name) || name.strip_suffix("_total").is_some_and(|n| declared.contains(n));
        assert!(known, "declared before use: {line}");
        let value: f64 = value.parse().unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(samples.insert(series.to_owned(), value), None, "a series once: {line}");
    }
    samples
}

#[test]
fn the_host_shows_what_it_does() {
    let home = tempfile::tempdir().unwrap();
    let still = still_or_skip!(home, "the_host_shows_what_it_does");
    let cameras = Cameras::start(&[&still], None, several(1));
    let host = Host::start(home.path(), "");
    let more = json!({ "detect_fps": 10, "config": { "scorer": { "interval_ms": 500 } } });
    host.start_camera("cam-1", &cameras.url(0), &more);
    host.camera_runs("cam-1");
    host.message_until(MEGA, "any", |_| true);

    let picture = until("a snapshot", || {
        let answer = host.api.get("/api/v1/cameras/cam-1/snapshot.jpg");
        if answer.status == 200 { Ok(answer) } else { Err(answer.text()) }
    });
    assert_eq!(picture.content_type, "image/jpeg");
    assert_eq!(assert_jpeg(&picture.body), (640, 360), "the source's size");

    let answer = host.api.get("/metrics");
    assert_eq!(answer.content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let samples = openmetrics(&answer.text());
    let above = |series: &str| {
        let value = samples.get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", samples.keys()));
        assert!(*value > 0.0, "{series} is {value}");
    };
    for counter in [
        "sessions",
        "access_units",
        "bytes",
        "decoded",
        "skipped",
        "analysed",
        "detections",
        "tracks",
        "shots",
        "messages",
    ] {
        above(&format!("facestream_camera_{counter}_total{{camera=\"cam-1\"}}"));
    }
    above("facestream_camera_fps{camera=\"cam-1\"}");
    above("facestream_camera_state{camera=\"cam-1\",state=\"running\"}");
    for (slot, guest) in [("tracker", "botsort"), ("scorer", "best-shot"), ("formatter", "gate-and-mega")] {
        let labels = format!("{{camera=\"cam-1\",slot=\"{slot}\"}}");
        above(&format!("facestream_guest_calls_total{labels}"));
        for name in ["call_mean_seconds", "memory_bytes", "up"] {
            above(&format!("facestream_guest_{name}{{camera=\"cam-1\",slot=\"{slot}\",guest=\"{guest}\"}}"));
        }
        assert_eq!(samples[&format!("facestream_guest_failures_total{labels}")], 0.0);
    }
    above("facestream_sink_accepted_total{sink=\"jsonl\"}");
    assert_eq!(samples["facestream_camera_drops_total{camera=\"cam-1\",reason=\"packet-lost\"}"], 0.0);
    assert!(samples.keys().all(|s| !s.contains("rtsp://")), "no address is a label");

    let document = host.api.get("/openapi.json").json(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    for path in ["/camera/start", "/camera/stop", "/camera/status", "/api/v1/cameras/{id}/guests/{slot}", "/metrics"] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    assert_eq!(host.api.get("/healthz").json(200)["status"], "ok");
    for page in ["/", "/docs/"] {
        let answer = host.api.get(page);
        assert!(answer.status == 200 && answer.content_type.starts_with("text/html"), "{page}: {answer:?}");
    }
    let builtin = host.api.get("/api/v1/guests").json(200);
    let names: BTreeSet<_> =
        builtin["guests"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap()).collect();
    for name in ["botsort", "bytetrack", "best-shot", "gate-metric", "mega", "gate-and-mega", FRAMES] {
        assert!(names.contains(name) && asset(&format!("guests/{name}.wasm")).is_ok(), "{name}");
    }
    let models = host.api.get("/api/v1/models").json(200);
    let yunet = models["models"].as_array().unwrap().iter().find(|m| m["name"] == "yunet").unwrap();
    assert_eq!((&yunet["loaded"], &yunet["default"]), (&json!(true), &json!(true)), "{yunet}");
    host.stop();
}
