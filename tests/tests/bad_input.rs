//! Bad input of every kind, against the whole program: each ends in words that say what to do, and nothing else suffers.
//!
//! | input | here | more in |
//! | --- | --- | --- |
//! | unknown or dead RTSP host | `cameras_that_cannot_be_reached…` | `host/ingest/tests/rtsp_sim.rs`, `runner.rs` |
//! | wrong password, and where it may not appear | `a_wrong_password_is_said…` | `host/ingest/tests/leaks.rs` |
//! | address of another scheme | `requests_that_cannot_be_met…`, `files_and_models…` | `host/ingest/tests/policy.rs` |
//! | duplicate camera id, unknown worker, malformed JSON, ids like paths | `requests_that_cannot_be_met…` | `host/api/tests/api` |
//! | video without video stream, truncated, empty, missing | `files_and_models…` | `host/decode/tests/bad_input.rs` |
//! | zero-byte model, model of another task | `files_and_models…` | `host/infer/tests/yolo.rs`, `models.rs` |
//! | plain module, sockets, missing export, another WIT version | `components_that_are_none…` | `host/guest/tests/load.rs` |
//! | guest that traps, loops, returns NaN | `a_bad_guest_hurts_its_own_camera_only` | `host/guest/tests/contain.rs`, `slots.rs` |
//! | guest that returns unknown track ids | | `host/guest/tests/slots.rs` (`a_shot_of_a_track_that_never_was…`) |
//! | Kafka unreachable | `kafka_that_is_away…` | `host/sink/src/kafka/tests.rs`, `kafka_real.rs` (30 s) |
//! | disk full for JSONL | `a_full_disk…` | `host/sink/src/jsonl/tests.rs` |
//! | port in use | `a_port_in_use…` | `host/api/tests/api/socket.rs` |
//! | configuration errors | `every_problem_of_a_configuration…` | `host/facestream/src/config/tests.rs` |
#![allow(clippy::unwrap_used, reason = "a test: what is missing is a failure, and helpers are not seen as tests")]

use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use facestream_sim::SimConfig;
use facestream_test_support::{asset, asset_or_skip, free_port, skip};
use facestream_tests::cameras::Cameras;
use facestream_tests::host::Host;
use facestream_tests::messages::assert_gate;
use facestream_tests::wait::until;
use facestream_tests::{clips, components, messages, program};
use serde_json::{Value, json};

const GATE: &str = "gate-metric-detections";
const QUICK_RETRY: &str = "[ingest]\nbackoff_min_ms = 200\nbackoff_max_ms = 400\n";

macro_rules! still_or_skip {
    ($dir:expr, $test:literal) => {
        match clips::still($dir.path()) {
            Ok(clip) => clip,
            Err(why) => return skip(concat!("bad_input: ", $test), &why),
        }
    };
}

fn several(cameras: usize) -> SimConfig {
    SimConfig { cameras, ..SimConfig::default() }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A file of the inference crate's tests.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/infer/tests/fixtures").join(name)
}

/// Every file below a folder whose bytes hold this text.
fn files_with(folder: &Path, needle: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            files_with(&path, needle, found);
        } else if std::fs::read(&path).unwrap_or_default().windows(needle.len()).any(|w| w == needle.as_bytes()) {
            found.push(path);
        }
    }
}

#[test]
fn requests_that_cannot_be_met_are_problems_and_change_nothing() {
    let home = tempfile::tempdir().unwrap();
    let host = Host::start(home.path(), "");
    let dead = format!("rtsp://viewer:canary-a@127.0.0.1:{}/x", free_port());
    let start = |body: Value| host.api.post("/camera/start", &body);

    let first = start(json!({ "camera_id": "door", "rtsp_link": dead, "detect_fps": 5 })).json(200);
    let again = start(json!({ "rtsp_link": dead, "detect_fps": 5, "camera_id": "door" })).json(200);
    assert_eq!((&first, &first["worker_id"]), (&again, &json!(1)), "the same wish again is no change");
    let other = start(json!({ "camera_id": "door", "rtsp_link": dead, "detect_fps": 6 }));
    other.problem(409, "camera-conflict", &["door", "detect_fps"]);
    let login =
        start(json!({ "camera_id": "door", "rtsp_link": dead.replace("canary-a", "canary-b"), "detect_fps": 5 }));
    login.problem(409, "camera-conflict", &["rtsp_link"]);
    assert!(!login.text().contains("canary"), "{}", login.text());

    let stop = |body: Value| host.api.post("/camera/stop", &body);
    stop(json!({ "worker_id": 77 })).problem(404, "unknown-worker", &["77"]);
    stop(json!({ "camera_id": "nobody" })).problem(404, "unknown-camera", &["nobody"]);
    stop(json!({})).problem(422, "invalid-request", &["camera_id", "worker_id"]);
    host.api.get("/api/v1/cameras/nobody").problem(404, "unknown-camera", &["nobody"]);

    let raw = |body: &str| host.api.send("POST", "/camera/start", "application/json", body.as_bytes()).unwrap();
    raw("{\"camera_id\": \"x\", ").problem(400, "malformed-request", &[]);
    raw("").problem(400, "malformed-request", &[]);
    raw("[1, 2]").problem(422, "invalid-request", &[]);
    raw(r#"{"camera_id": 5, "rtsp_link": "rtsp://127.0.0.1/x"}"#).problem(422, "invalid-request", &["camera_id"]);
    raw(r#"{"camera_id": "x"}"#).problem(422, "invalid-request", &["rtsp_link"]);
    raw(r#"{"camera_id": "x", "rtsp_link": "rtsp://127.0.0.1/x", "detectfps": 5}"#).problem(
        422,
        "invalid-request",
        &["detectfps"],
    );
    let plain = host.api.send("POST", "/camera/start", "text/plain", b"{}").unwrap();
    plain.problem(415, "unsupported-media-type", &["application/json"]);

    for url in ["http://127.0.0.1/x", "file:///etc/passwd", "rtsps://127.0.0.1/x", "nonsense", "rtsp://", ""] {
        start(json!({ "camera_id": "x", "rtsp_link": url })).problem(422, "invalid-request", &["/rtsp_link"]);
    }
    let broken = start(json!({ "camera_id": "x", "rtsp_link": "rtsp://viewer:canary-c@[::1/x" }));
    broken.problem(422, "invalid-request", &["/rtsp_link"]);
    assert!(!broken.text().contains("canary"), "{}", broken.text());
    // The cloud's metadata service, whatever the policy for cameras is.
    start(json!({ "camera_id": "x", "rtsp_link": "rtsp://169.254.169.254/x" })).problem(
        422,
        "invalid-request",
        &["/rtsp_link"],
    );

    let long = "x".repeat(129);
    for id in ["", "..", "../../etc/passwd", "a/b", "a\\b", ".hidden", "-x", "a b", "a\u{0}b", "a\nb", "größe", &long]
    {
        start(json!({ "camera_id": id, "rtsp_link": dead })).problem(422, "invalid-request", &["/camera_id"]);
    }
    let put = host.api.put("/api/v1/cameras/..%2F..%2Fevil", &json!({ "rtsp_link": dead }));
    put.problem(422, "invalid-request", &["camera_id"]);
    host.api.upload("..%2Fevil", "1", b"\0asm").problem(422, "invalid-request", &["/name"]);
    host.api.upload("evil", "..%2F1", b"\0asm").problem(422, "invalid-request", &["/version"]);
    start(json!({ "camera_id": "x", "rtsp_link": dead, "detect_fps": -1, "transport": "pigeon" })).problem(
        422,
        "invalid-request",
        &["/detect_fps", "/transport"],
    );
    start(json!({ "camera_id": "x", "rtsp_link": dead, "model": "no-such" })).problem(
        422,
        "invalid-request",
        &["/model", "yunet"],
    );
    start(json!({ "camera_id": "x", "rtsp_link": dead, "guests": { "tracker": "no-such" } })).problem(
        422,
        "invalid-request",
        &["/guests/tracker", "no-such"],
    );
    start(json!({ "camera_id": "x", "rtsp_link": dead, "config": { "tracker": { "track_bufer_ms": 5 } } })).problem(
        422,
        "invalid-request",
        &["/guests/tracker", "track_buffer_ms"],
    );
    host.api.get("/nowhere").problem(404, "not-found", &["/docs"]);
    host.api.delete("/camera/status").problem(405, "method-not-allowed", &["Allow"]);

    let cameras = host.api.get("/api/v1/cameras").json(200);
    let ids: Vec<_> = cameras["cameras"].as_array().unwrap().iter().map(|c| &c["camera_id"]).collect();
    assert_eq!(ids, ["door"], "none of these is a camera");
    let names = |dir: &Path| -> Vec<_> {
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert!(names(home.path()).iter().all(|n| ["data", "host.log", "facestream.toml"].contains(&n.as_str())));
    assert!(names(&host.data()).iter().all(|n| !n.contains("evil")), "{:?}", names(&host.data()));
    assert!(!host.log().contains("canary"), "{}", host.log());
    host.stop();
}

#[test]
fn cameras_that_cannot_be_reached_say_why_and_are_tried_again() {
    let home = tempfile::tempdir().unwrap();
    let still = still_or_skip!(home, "cameras_that_cannot_be_reached_say_why_and_are_tried_again");
    let cameras = Cameras::start(&[&still], None, several(1));
    let host = Host::start(home.path(), QUICK_RETRY);
    host.start_camera("dead", &format!("rtsp://127.0.0.1:{}/x", free_port()), &json!({}));
    host.start_camera("unknown", "rtsp://no-such-host.invalid/x", &json!({}));
    host.start_camera("path", &cameras.url(0).replace("cam1", "cam9"), &json!({}));
    host.start_camera("given-up", &format!("rtsp://127.0.0.1:{}/x", free_port()), &json!({ "max_attempts": 2 }));
    host.start_camera("fine", &cameras.url(0), &json!({ "detect_fps": 5 }));
    let waits = |id: &str, words: &str| {
        host.camera_until(id, words, |c| {
            c["state"] == "waiting-to-retry" && c["reason"].as_str().is_some_and(|r| r.contains(words))
        })
    };
    waits("dead", "refused");
    waits("path", "not found");
    waits("unknown", "no-such-host.invalid");
    let attempt = host.api.camera("dead")["attempt"].as_u64();
    host.camera_until("dead", "another try", |c| c["attempt"].as_u64() > attempt);
    let failed = host.camera_until("given-up", "failed for good", |c| c["state"] == "failed");
    assert!(failed["reason"].as_str().unwrap().contains("refused"), "{failed}");
    host.camera_runs("fine");
    // Stopping does not wait for any of them.
    assert_eq!(host.api.post("/camera/stop", &json!({ "camera_id": "dead" })).status, 200);
    host.stop();
}

#[test]
fn a_wrong_password_is_said_and_never_shown() {
    let home = tempfile::tempdir().unwrap();
    let still = still_or_skip!(home, "a_wrong_password_is_said_and_never_shown");
    let cameras = Cameras::start(&[&still], Some("viewer:canary-right"), several(2));
    // Everything that can be logged is.
    let host = Host::start(home.path(), &format!("{QUICK_RETRY}[log]\nlevel = \"trace\"\n"));
    let more = json!({ "detect_fps": 5, "config": { "scorer": { "interval_ms": 500 } } });
    host.start_camera("right", &cameras.url(0), &more);
    host.start_camera("wrong", &cameras.url_as("viewer:canary-wrong", 1), &more);
    host.start_camera("none", &cameras.url(1).replace("viewer:canary-right@", ""), &more);
    let refused = |id: &str| {
        host.camera_until(id, "unauthorised", |c| {
            c["state"] == "waiting-to-retry" && c["reason"].as_str().is_some_and(|r| r.contains("unauthorised"))
        })
    };
    let wrong = refused("wrong");
    assert!(wrong["reason"].as_str().unwrap().contains("refuses the user name or the password"), "{wrong}");
    assert!(refused("none")["reason"].as_str().unwrap().contains("wants a user name"));
    host.camera_runs("right");
    assert_gate(&host.message_until(GATE, "of the right one", |l| l.key == "right"), "right");
    for page in ["/api/v1/cameras", "/camera/status", "/metrics", "/api/v1/sinks", "/readyz", "/api/v1/guests"] {
        let shown = host.api.get(page).text();
        assert!(!shown.contains("canary"), "{page}: {shown}");
    }
    let data = host.data();
    host.stop();
    let log = std::fs::read_to_string(home.path().join("host.log")).unwrap();
    assert!(log.contains("unauthorised") && log.contains("TRACE"), "the log is there, in full");
    let shown: Vec<_> = log.lines().filter(|l| l.contains("canary")).collect();
    assert!(shown.is_empty(), "{shown:#?}");
    // Kept in one place: the list of wanted cameras, which only its owner can read.
    let mut found = Vec::new();
    files_with(home.path(), "canary", &mut found);
    let elsewhere: Vec<_> = found.iter().filter(|f| !text(f).starts_with(text(&data.join("cameras.db")))).collect();
    assert!(elsewhere.is_empty() && !found.is_empty(), "{found:?}");
    for path in found.iter().chain([&data]) {
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions());
        assert_eq!(mode & 0o077, 0, "{} is for its owner only: {mode:o}", path.display());
    }
}

#[test]
fn files_and_models_that_cannot_be_used_are_told_apart() {
    let clip = asset_or_skip!("clips/pan720.mp4");
    let yunet = asset_or_skip!("models/yunet.onnx");
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(at(name), bytes).unwrap();
        at(name)
    };
    let run = |input: &Path, more: &[&str]| program::run(&[&["run", text(input), "--quiet"], more].concat());

    run(&at("missing.mp4"), &[]).failed_with(&["missing.mp4", "no such file"]);
    run(&write("empty.mp4", b""), &[]).failed_with(&["empty.mp4", "0 bytes"]);
    run(&write("words.mp4", b"this is no video, but words"), &[]).failed_with(&["words.mp4", "is not a video file"]);
    run(dir.path(), &[]).failed_with(&["is not a regular file"]);
    let whole = std::fs::read(&clip).unwrap();
    run(&write("cut.mp4", &whole[..whole.len() / 2]), &[]).failed_with(&["cut.mp4", "truncated"]);
    program::run(&["run", "http://127.0.0.1/x"]).failed_with(&["`http` addresses are not allowed"]);
    program::run(&["run", "rtsps://127.0.0.1/x"]).failed_with(&["rtsps", "not supported"]);

    match clips::tool("ffmpeg", &["-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac", text(&at("sound.mp4"))]) {
        Ok(_) => run(&at("sound.mp4"), &[]).failed_with(&["no video stream found in", "sound.mp4"]),
        Err(why) => skip("bad_input: a video without video stream", &why),
    }
    // With its index in front a truncated file gives what it has; that it is not all is an error all the same.
    match clips::tool(
        "ffmpeg",
        &["-i", text(&clip), "-c", "copy", "-t", "2", "-movflags", "+faststart", text(&at("front.mp4"))],
    ) {
        Ok(_) => {
            let whole = std::fs::read(at("front.mp4")).unwrap();
            let ended = run(&write("part.mp4", &whole[..whole.len() / 2]), &["--emit", "detections"]);
            ended.failed_with(&["part.mp4", "truncated", "pictures were read before it"]);
            assert!((10..50).contains(&ended.stdout.lines().count()), "{} lines", ended.stdout.lines().count());
        }
        Err(why) => skip("bad_input: a truncated file with its index in front", &why),
    }

    let model = |file: &Path| run(&clip, &["--model", text(file)]);
    model(&write("empty.onnx", b"")).failed_with(&["empty.onnx", "0 bytes"]);
    let whole = std::fs::read(&yunet).unwrap();
    model(&write("cut.onnx", &whole[..whole.len() / 2])).failed_with(&["cut.onnx", "truncated"]);
    model(&clip).failed_with(&["pan720", "not a usable ONNX model"]);
    let classifier = model(&fixture("classifier.onnx"));
    classifier.failed_with(&["classifier", "fits no known model family", "logits [n,3]", "YuNet: one input"]);
    assert_eq!(classifier.stderr.matches("logits").count(), 1, "said once: {}", classifier.stderr);
    run(&clip, &["--model", "no-such"]).failed_with(&["no model `no-such`", "yunet"]);
    model(&fixture("liar.onnx")).failed_with(&["liar"]);
    run(&clip, &["--tracker", text(&clip)]).failed_with(&["pan720.mp4", "not a WebAssembly component"]);

    // The same by REST.
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(home.path().join("data/models")).unwrap();
    std::fs::copy(fixture("classifier.onnx"), home.path().join("data/models/classifier.onnx")).unwrap();
    std::fs::write(home.path().join("data/models/nothing.onnx"), b"").unwrap();
    let host = Host::start(home.path(), "");
    let start = |model: &str| {
        let body = json!({ "camera_id": "x", "rtsp_link": "rtsp://127.0.0.1:9/x", "model": model });
        host.api.post("/camera/start", &body)
    };
    start("classifier").problem(422, "invalid-request", &["/model", "fits no known model family", "logits"]);
    start("nothing").problem(422, "invalid-request", &["/model", "0 bytes"]);
    let models = host.api.get("/api/v1/models").json(200);
    let listed = models["models"].as_array().unwrap().iter().find(|m| m["name"] == "classifier").unwrap();
    assert!(listed["loaded"] == false && listed["problem"].is_string(), "{listed}");
    assert_eq!(host.api.get("/readyz").status, 200, "the default model is another one");
    host.stop();
}

#[test]
fn components_that_are_none_of_ours_are_refused_with_a_reason() {
    let home = tempfile::tempdir().unwrap();
    let host = Host::start(home.path(), "");
    let refused = |component: &[u8], words: &[&str]| {
        host.api.upload("bad", "1.0.0", component).problem(422, "guest-refused", words);
    };
    host.api.upload("bad", "1.0.0", b"").problem(422, "invalid-request", &["/component"]);
    refused(b"MZ and so on", &["not a WebAssembly component"]);
    refused(&wat("(module)"), &["wasm32-wasip2"]);
    refused(&components::tracker("(call $ok)")[..500], &[]);
    let tracking = "facestream:analytics/tracking@0.1.0";
    let sockets = components::dummy(
        "package test:guest; world w { import wasi:sockets/tcp@0.2.3; export facestream:analytics/tracking@0.1.0; }
         package wasi:sockets@0.2.3 { interface tcp { f: func(); } }
         package facestream:analytics@0.1.0 { interface tracking { f: func(); } }",
        &["wasi:sockets/tcp@0.2.3"],
        &[tracking],
    );
    refused(&sockets, &["wasi:sockets/tcp@0.2.3"]);
    let stranger = components::dummy(
        "package test:guest; world w { export test:x/y; } package test:x { interface y { f: func(); } }",
        &[],
        &["test:x/y"],
    );
    refused(&stranger, &["test:x/y", "tracking"]);
    let newer = components::dummy(
        "package test:guest; world w { export facestream:analytics/tracking@0.9.0; }
         package facestream:analytics@0.9.0 { interface tracking { f: func(); } }",
        &[],
        &["facestream:analytics/tracking@0.9.0"],
    );
    refused(&newer, &["0.9.0", "0.1"]);
    let mismatch = components::dummy(
        "package test:guest; world w { export facestream:analytics/tracking@0.1.0; }
         package facestream:analytics@0.1.0 { interface tracking { f: func(); } }",
        &[],
        &[tracking],
    );
    refused(&mismatch, &["tracker"]);
    host.api.get("/api/v1/guests/bad").problem(404, "unknown-guest", &["bad"]);

    // The same on the command line.
    if let Ok(clip) = asset("clips/pan720.mp4") {
        let file = home.path().join("sockets.wasm");
        std::fs::write(&file, &sockets).unwrap();
        let ended = program::run(&["run", text(&clip), "--tracker", text(&file)]);
        ended.failed_with(&["sockets.wasm", "wasi:sockets/tcp@0.2.3"]);
    }
    host.stop();
}

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

#[test]
fn a_bad_guest_hurts_its_own_camera_only() {
    let home = tempfile::tempdir().unwrap();
    let still = still_or_skip!(home, "a_bad_guest_hurts_its_own_camera_only");
    let cameras = Cameras::start(&[&still], None, several(4));
    let host = Host::start(home.path(), "");
    let bad = [
        ("traps", "(unreachable)", "unreachable"),
        ("loops", "(loop $l (br $l)) (unreachable)", "deadline"),
        (
            "not-a-number",
            "(drop (call $one (local.get $timestamp))) (f32.store (i32.const 8204) (f32.const nan)) (i32.const 1024)",
            "NaN",
        ),
    ];
    let options = json!({ "detect_fps": 10, "config": { "scorer": { "interval_ms": 500 } } });
    host.start_camera("good", &cameras.url(3), &options);
    for (n, (name, advance, _)) in bad.iter().enumerate() {
        host.api.upload(name, "1.0.0", &components::tracker(advance)).json(201);
        let mut more = options.clone();
        more["guests"] = json!({ "tracker": name });
        host.start_camera(name, &cameras.url(n), &more);
    }
    for (name, _, words) in bad {
        let camera = host.camera_until(name, "tried again and again", |c| {
            let tracker = &c["slots"][0];
            tracker["failures"].as_u64() >= Some(3) && tracker["restarts"].as_u64() >= Some(2)
        });
        assert_eq!(camera["state"], "running", "frames still come: {camera}");
        let error = camera["slots"][0]["last_error"].as_str().unwrap_or_default();
        assert!(error.contains(words), "{name}: {error}");
        assert!(camera["drops"]["tracker-failed"].as_u64() >= Some(3), "every frame that it cost is counted: {camera}");
        assert_eq!(camera["slots"][1]["failures"], 0, "the scorer saw none of it: {camera}");
    }
    let good = host.camera_runs("good");
    assert_gate(&host.message_until(GATE, "of the good camera", |l| l.key == "good"), "good");
    let seen = good["counters"]["messages"].as_u64();
    let good = host.camera_until("good", "more messages", |c| c["counters"]["messages"].as_u64() > seen);
    assert!(good["slots"].as_array().unwrap().iter().all(|s| s["failures"] == 0 && s["restarts"] == 0), "{good}");
    assert_eq!(good["drops"].as_object().unwrap().keys().filter(|k| *k != "superseded").count(), 0, "{good}");
    assert!(host.messages(GATE).iter().all(|l| l.key == "good"), "no message without a track");

    // It can be mended while the camera runs.
    let report = host.api.put("/api/v1/cameras/traps/guests/tracker", &json!({ "guest": "botsort" })).json(200);
    assert_eq!(report["slot"], "tracker", "{report}");
    assert_gate(&host.message_until(GATE, "of the mended camera", |l| l.key == "traps"), "traps");
    host.stop();
}

#[test]
fn kafka_that_is_away_is_shown_and_holds_nothing_up() {
    let home = tempfile::tempdir().unwrap();
    let still = still_or_skip!(home, "kafka_that_is_away_is_shown_and_holds_nothing_up");
    let cameras = Cameras::start(&[&still], None, several(1));
    let toml = format!("[server]\ngrace_ms = 1000\n[sinks.kafka]\nbrokers = [\"127.0.0.1:{}\"]\n", free_port());
    let host = Host::start(home.path(), &toml);
    host.start_camera(
        "a",
        &cameras.url(0),
        &json!({ "detect_fps": 5, "config": { "scorer": { "interval_ms": 500 } } }),
    );
    assert_gate(&host.message_until(GATE, "in a file", |_| true), "a");
    let away = until("Kafka to be degraded, with messages waiting", || {
        let sink = host.api.sink("kafka");
        let waits = sink["state"] == "degraded" && sink["queued"].as_u64() > Some(20);
        if waits { Ok(sink) } else { Err(sink.to_string()) }
    });
    assert!(away["reason"].is_string() && away["delivered"] == 0 && away["lost"] == json!({}), "{away}");
    assert!(host.api.get("/metrics").text().contains("facestream_sink_degraded{sink=\"kafka\"} 1"));
    let camera = host.camera_runs("a");
    assert!(camera["drops"]["sink-refused"].is_null(), "{camera}");
    assert_eq!(host.api.sink("jsonl")["state"], "working");
    assert_eq!(host.api.get("/readyz").status, 200, "cameras are still taken");
    assert_eq!(host.api.post("/camera/stop", &json!({ "camera_id": "a" })).status, 200);
    let accepted = host.api.sink("kafka")["accepted"].as_u64();
    host.stop();
    // What was not delivered is still there for the next run.
    let host = Host::start(home.path(), &toml);
    assert!(host.log().contains("not delivered"), "the end of the first run says so");
    let sink = host.api.sink("kafka");
    assert_eq!(sink["queued"].as_u64(), accepted, "{sink}");
    host.stop();
}

/// A tmpfs of its own size; unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Result<Self, String> {
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", "size=128k", "tmpfs", text(at)]).output();
        match output {
            Ok(output) if output.status.success() => Ok(Self(at.to_owned())),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn grow(&self) {
        let grown = Command::new("mount").args(["-o", "remount,size=256m", text(&self.0)]).status();
        assert!(grown.unwrap().success(), "a tmpfs can grow");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let done = Command::new("umount").args(["-l", text(&self.0)]).status();
        assert!(done.is_ok_and(|s| s.success()) || std::thread::panicking(), "the tmpfs can be unmounted");
    }
}

#[test]
fn a_full_disk_is_shown_and_what_was_accepted_is_written_when_there_is_room() {
    const TEST: &str = "bad_input: a_full_disk_is_shown_and_what_was_accepted_is_written_when_there_is_room";
    let home = tempfile::tempdir().unwrap();
    let still = match clips::still(home.path()) {
        Ok(clip) => clip,
        Err(why) => return skip(TEST, &why),
    };
    let folder = home.path().join("data/messages");
    // As the host makes it: one that holds things and is open to others would be refused.
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).unwrap();
    let disk = match Disk::mount(&folder) {
        Ok(disk) => disk,
        Err(why) => return skip(TEST, &format!("cannot mount a tmpfs: {why}")),
    };
    let cameras = Cameras::start(&[&still], None, several(1));
    let host = Host::start(home.path(), "");
    host.start_camera(
        "a",
        &cameras.url(0),
        &json!({ "detect_fps": 5, "config": { "scorer": { "interval_ms": 500 } } }),
    );
    let sink = until("the sink to be degraded", || {
        let sink = host.api.sink("jsonl");
        if sink["state"] == "degraded" { Ok(sink) } else { Err(sink.to_string()) }
    });
    assert!(sink["reason"].as_str().unwrap().to_lowercase().contains("space"), "{sink}");
    let analysed = host.api.camera("a")["counters"]["analysed"].as_u64();
    host.camera_until("a", "frames while the disk is full", |c| {
        c["state"] == "running" && c["counters"]["analysed"].as_u64() > analysed.map(|n| n + 5)
    });
    disk.grow();
    until("the sink to work again", || {
        let sink = host.api.sink("jsonl");
        if sink["state"] == "working" && sink["queued"].as_u64() < Some(100) { Ok(()) } else { Err(sink.to_string()) }
    });
    assert_eq!(host.api.post("/camera/stop", &json!({ "camera_id": "a" })).status, 200);
    let sink = host.api.sink("jsonl");
    assert_eq!(sink["lost"], json!({}), "{sink}");
    let data = host.data();
    host.stop();
    assert_eq!(json!(messages::count(&data)), sink["accepted"], "every message accepted is there, none twice");
    for line in messages::read(&data, GATE) {
        assert_gate(&line, "a");
    }
}

#[test]
fn a_data_folder_in_use_is_said() {
    let home = tempfile::tempdir().unwrap();
    let host = Host::start(home.path(), "");
    let ended = program::run(&["serve", "--listen", "127.0.0.1:0", "--data", text(&host.data())]);
    ended.failed_with(&["used by another facestream", "--data"]);
    host.stop();
    // The lock goes with the process: the next one takes the same folder.
    Host::start(home.path(), "").stop();
}

#[test]
fn options_that_a_run_cannot_honour_are_refused() {
    program::run(&["run", "a.mp4", "--seconds", "3"]).failed_with(&["--seconds", "streams"]);
    program::run(&["run", "a.mp4", "b.mp4", "--mot", "x.txt"]).failed_with(&["--mot", "one input"]);
}

#[test]
fn a_port_in_use_is_said() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let port = address.rsplit(':').next().unwrap();
    let ended = program::run(&["serve", "--listen", &address, "--data", text(&data)]);
    ended.failed_with(&[port, "in use", "--listen"]);
    assert!(!data.exists(), "nothing was begun");
    if let Ok(clip) = asset("clips/pan720.mp4") {
        program::run(&["sim", text(&clip), "--listen", &address]).failed_with(&[port]);
    }
}

#[test]
fn every_problem_of_a_configuration_is_told_with_its_line() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("facestream.toml");
    let data = home.path().join("data");
    let check = |toml: &str, more: &[&str]| {
        std::fs::write(&file, toml).unwrap();
        program::run(&[&["serve", "--check", "--config", text(&file), "--data", text(&data)], more].concat())
    };
    assert!(check("", &[]).succeeded().contains("valid"));
    let bad = "[server]\nlisten = \"0.0.0.0:8080\"\n\n[ingest]\nwatchdgo_ms = 5\nbackoff_min_ms = \"1s\"\n\n\
               [infre]\nthreads = 1\n\n[log]\nformat = \"xml\"\n\n[sinks.kafka]\nlinger_ms = 5\n";
    let ended = check(bad, &[]);
    ended.failed_with(&["the configuration has 6 problems"]);
    for (line, words) in [
        (2, "reached from other machines"),
        (5, "did you mean `watchdog_ms`?"),
        (6, "ingest.backoff_min_ms: is string"),
        (8, "did you mean `infer`?"),
        (12, "expected `text` or `json`"),
        (15, "brokers"),
    ] {
        let place = format!("facestream.toml:{line}: ");
        let told = ended.stderr.lines().any(|l| l.contains(&place) && l.contains(words));
        assert!(told, "line {line}, `{words}`: {}", ended.stderr);
    }
    // The command line wins over the file, and is checked like it.
    let ended = check(bad, &["--listen", "127.0.0.1:0"]);
    ended.failed_with(&["the configuration has 5 problems"]);
    program::run(&["serve", "--check", "--config", "no-such.toml"]).failed_with(&["the configuration has 1 problem"]);
    // Without `--check` it is the same, and nothing is begun.
    let ended = program::run(&["serve", "--config", text(&file), "--data", text(&data)]);
    ended.failed_with(&["the configuration has 6 problems"]);
    assert!(!data.exists(), "nothing was begun");
    assert_eq!(program::run(&["serve", "--listen", "here"]).code, Some(2));
}
