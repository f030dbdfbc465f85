//! The three calls of the first FaceStream, byte for byte, and everything that can be wrong with them.

use facestream_core::camera::{CameraState, Transport};

use crate::client::Api;

const START: &str =
    r#"{"rtsp_link":"rtsp://192.168.1.100:554/stream","camera_id":"550e8400-e29b-41d4-a716-446655440000"}"#;

#[tokio::test]
async fn the_three_calls_have_their_exact_shapes() {
    let api = Api::new();
    let got = api.get("/camera/status").await;
    assert_eq!(got.text(), r#"{"active_cameras":[]}"#);

    let got = api.post("/camera/start", START).await;
    assert_eq!((got.status.as_u16(), got.text()), (200, r#"{"status":"running","worker_id":1}"#));
    assert_eq!(got.header("content-type"), "application/json");

    let got = api.get("/camera/status").await;
    assert_eq!(
        got.text(),
        r#"{"active_cameras":[{"camera_id":"550e8400-e29b-41d4-a716-446655440000","fps":30,"status":"running","worker_id":1}]}"#
    );

    let got = api.post("/camera/stop", r#"{"camera_id":"550e8400-e29b-41d4-a716-446655440000"}"#).await;
    assert_eq!((got.status.as_u16(), got.text()), (200, r#"{"status":"stopped"}"#));
    assert_eq!(api.get("/camera/status").await.text(), r#"{"active_cameras":[]}"#);
}

#[tokio::test]
async fn a_camera_stops_by_its_worker_too() {
    let api = Api::new();
    api.start("a").await;
    api.start("b").await;
    assert_eq!(api.post("/camera/stop", r#"{"worker_id":2}"#).await.text(), r#"{"status":"stopped"}"#);
    let left = api.get("/camera/status").await.json();
    assert_eq!(left["active_cameras"].as_array().unwrap().len(), 1);
    assert_eq!(left["active_cameras"][0]["camera_id"], "a");
}

#[tokio::test]
async fn starting_twice_is_one_camera_and_another_under_its_id_a_conflict() {
    let api = Api::new();
    let first = api.post("/camera/start", START).await;
    let again = api.post("/camera/start", START).await;
    assert_eq!(first.text(), again.text());
    let other = START.replace("/stream", "/other");
    let problem = api.post("/camera/start", &other).await.problem(409, "camera-conflict");
    assert!(problem["detail"].as_str().unwrap().contains("rtsp_link"), "{problem}");
}

#[tokio::test]
async fn whoever_is_unknown_cannot_be_stopped() {
    let api = Api::new();
    api.post("/camera/stop", r#"{"camera_id":"ghost"}"#).await.problem(404, "unknown-camera");
    api.post("/camera/stop", r#"{"worker_id":99}"#).await.problem(404, "unknown-worker");
}

#[tokio::test]
async fn a_start_takes_everything_it_may() {
    let api = Api::new();
    let body = r#"{"rtsp_link":"rtsp://u:p@cam/1","camera_id":"c","model":"centerface","detect_fps":10,"transport":"udp",
        "keyframes_only":true,"gpu":1,"camera_motion":true,"max_attempts":5,
        "guests":{"tracker":"bytetrack@0.1.0","scorer":{"guest":"best-shot","config":{"margin":0.2}}},
        "config":{"tracker":{"high":0.6},"formatter":{"topic":"x"}}}"#;
    assert_eq!(api.post("/camera/start", body).await.status, 200);
    let cameras = api.control.cameras.lock().unwrap();
    let spec = &cameras.values().next().unwrap().spec;
    assert_eq!(spec.model.as_deref(), Some("centerface"));
    assert_eq!(spec.detect_fps, Some(10.0));
    assert_eq!(spec.transport, Transport::Udp);
    assert!(spec.keyframes_only);
    assert_eq!(spec.gpu, Some(1));
    assert!(spec.camera_motion);
    assert_eq!(spec.max_attempts, Some(5));
    assert_eq!(spec.guests.tracker.guest, "bytetrack@0.1.0");
    assert_eq!(spec.guests.tracker.config, serde_json::json!({"high": 0.6}));
    assert_eq!(spec.guests.scorer.config, serde_json::json!({"margin": 0.2}));
    assert_eq!(spec.guests.formatter.guest, "gate-and-mega", "a slot left out gets the default");
    assert_eq!(spec.guests.formatter.config, serde_json::json!({"topic": "x"}));
}

#[tokio::test]
async fn every_field_that_is_wrong_is_named_at_once() {
    let api = Api::new();
    let body = r#"{"rtsp_link":"not a url with canary-pw","camera_id":"../etc","model":"","detect_fps":0,"transport":"sctp",
        "max_attempts":0,"guests":{"tracker":{"guest":"a","config":{}},"scorer":""},"config":{"tracker":{}}}"#;
    let got = api.post("/camera/start", body).await;
    let problem = got.problem(422, "invalid-request");
    let pointers: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    assert_eq!(
        pointers,
        [
            "/camera_id",
            "/rtsp_link",
            "/transport",
            "/model",
            "/detect_fps",
            "/max_attempts",
            "/config/tracker",
            "/guests/scorer"
        ]
    );
    assert!(!got.text().contains("canary"), "{}", got.text());
    assert!(api.control.cameras.lock().unwrap().is_empty());
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_problems_that_point() {
    let api = Api::new();
    for (body, status, kind, pointer) in [
        ("", 400, "malformed-request", None),
        ("{", 400, "malformed-request", None),
        ("{}x", 400, "malformed-request", None),
        ("null", 422, "invalid-request", None),
        ("{}", 422, "invalid-request", None),
        (r#"{"camera_id":1,"rtsp_link":"rtsp://c/"}"#, 422, "invalid-request", Some("/camera_id")),
        (r#"{"camera_id":"a","rtsp_lnik":"rtsp://c/"}"#, 422, "invalid-request", Some("/rtsp_lnik")),
        (
            r#"{"camera_id":"a","rtsp_link":"rtsp://c/","detect_fps":"canary"}"#,
            422,
            "invalid-request",
            Some("/detect_fps"),
        ),
        (
            r#"{"camera_id":"a","rtsp_link":"rtsp://c/","guests":{"trakcer":"x"}}"#,
            422,
            "invalid-request",
            Some("/guests/trakcer"),
        ),
        (
            r#"{"camera_id":"a","rtsp_link":"rtsp://c/","guests":{"tracker":5}}"#,
            422,
            "invalid-request",
            Some("/guests/tracker"),
        ),
        (
            r#"{"camera_id":"a","rtsp_link":"rtsp://c/","guests":{"tracker":{"guest":"a","cfg":1}}}"#,
            422,
            "invalid-request",
            Some("/guests/tracker/cfg"),
        ),
        (
            r#"{"camera_id":"a","rtsp_link":"rtsp://c/","config":{"scorer":[]}}"#,
            422,
            "invalid-request",
            Some("/config/scorer"),
        ),
    ] {
        let got = api.post("/camera/start", body).await;
        let problem = got.problem(status, kind);
        if let Some(pointer) = pointer {
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}: {problem}");
        }
        assert!(!got.text().contains("canary"), "{}", got.text());
    }
    for (body, part) in [("{}", "or `worker_id`"), (r#"{"camera_id":"a","worker_id":1}"#, "not both")] {
        let problem = api.post("/camera/stop", body).await.problem(422, "invalid-request");
        assert!(problem["detail"].as_str().unwrap().contains(part), "{problem}");
    }
    let problem = api.post("/camera/stop", r#"{"worker_id":-1}"#).await.problem(422, "invalid-request");
    assert_eq!(problem["errors"][0]["pointer"], "/worker_id");
}

#[tokio::test]
async fn what_the_host_refuses_comes_with_its_place() {
    let api = Api::new();
    let got = api.post("/camera/start", r#"{"camera_id":"a","rtsp_link":"http://u:canary-pw@c/"}"#).await;
    let problem = got.problem(422, "invalid-request");
    assert_eq!(problem["errors"][0]["pointer"], "/rtsp_link");
    assert!(!got.text().contains("canary"));
}

#[tokio::test]
async fn what_breaks_inside_stays_inside() {
    let api = Api::new();
    api.control.break_start.store(true, std::sync::atomic::Ordering::SeqCst);
    let got = api.post("/camera/start", START).await;
    got.problem(500, "internal");
    assert!(!got.text().contains("canary"), "{}", got.text());
}

#[tokio::test]
async fn the_state_is_one_word() {
    let api = Api::new();
    api.start("a").await;
    let waiting = CameraState::WaitingToRetry { reason: "refused".into(), attempt: 3, next_try_unix_ms: 5 };
    api.control.set_state("a", waiting);
    assert_eq!(
        api.get("/camera/status").await.text(),
        r#"{"active_cameras":[{"camera_id":"a","fps":30,"status":"waiting-to-retry","worker_id":1}]}"#
    );
}
