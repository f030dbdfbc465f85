//! `/api/v1`, health, readiness and metrics.

use axum::body::Body;
use axum::http::{Method, header};
use facestream_api::ServerConfig;
use facestream_core::camera::CameraState;
use std::sync::atomic::Ordering;

use crate::client::{Api, request};

const CAM: &str = r#"{"rtsp_link":"rtsp://u:canary-pw@cam:8554/x?pwd=canary-query"}"#;

#[tokio::test]
async fn a_camera_is_put_shown_and_deleted() {
    let api = Api::new();
    let made = api.put("/api/v1/cameras/door", CAM).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.header("location"), "/api/v1/cameras/door");
    let again = api.put("/api/v1/cameras/door", CAM).await;
    assert_eq!(again.status, 200);
    api.put("/api/v1/cameras/door", r#"{"rtsp_link":"rtsp://elsewhere/"}"#).await.problem(409, "camera-conflict");

    let shown = api.get("/api/v1/cameras/door").await;
    let camera = shown.json();
    assert_eq!(camera["camera_id"], "door");
    assert_eq!(camera["state"], "running");
    assert_eq!(camera["url"], "rtsp://***@cam:8554/x?***");
    assert_eq!(camera["size"], serde_json::json!({"width": 1280, "height": 720}));
    assert_eq!(camera["counters"]["detections"], 12);
    assert_eq!(camera["drops"], serde_json::json!({"superseded": 3}));
    assert_eq!(camera["slots"][0]["slot"], "tracker");
    let list = api.get("/api/v1/cameras").await;
    assert_eq!(list.json()["cameras"][0], camera);

    for path in ["/api/v1/cameras", "/api/v1/cameras/door", "/camera/status", "/metrics", "/api/v1/cameras/door/guests"]
    {
        assert!(!api.get(path).await.text().contains("canary"), "{path} shows a credential");
    }
    assert!(!made.text().contains("canary"));

    assert_eq!(api.delete("/api/v1/cameras/door").await.status, 204);
    api.delete("/api/v1/cameras/door").await.problem(404, "unknown-camera");
    api.get("/api/v1/cameras/door").await.problem(404, "unknown-camera");
}

#[tokio::test]
async fn states_say_why_and_when() {
    let api = Api::new();
    api.start("a").await;
    api.control
        .set_state("a", CameraState::WaitingToRetry { reason: "unauthorised".into(), attempt: 3, next_try_unix_ms: 5 });
    let camera = api.get("/api/v1/cameras/a").await.json();
    assert_eq!((&camera["state"], &camera["reason"]), (&"waiting-to-retry".into(), &"unauthorised".into()));
    assert_eq!((&camera["attempt"], &camera["next_try_unix_ms"]), (&3.into(), &5.into()));
    api.control.set_state("a", CameraState::Failed { reason: "gave up".into() });
    let camera = api.get("/api/v1/cameras/a").await.json();
    assert_eq!((&camera["state"], &camera["reason"]), (&"failed".into(), &"gave up".into()));
    assert!(camera.get("attempt").is_none());
}

#[tokio::test]
async fn ids_that_cannot_be_are_refused() {
    let api = Api::new();
    api.put("/api/v1/cameras/..%2Fetc", CAM).await.problem(422, "invalid-request");
    api.get("/api/v1/cameras/%20").await.problem(404, "unknown-camera");
    api.get("/api/v1/cameras/%ff").await.problem(404, "not-found");
    api.put("/api/v1/cameras/a", r#"{"camera_id":"a","rtsp_link":"rtsp://c/"}"#).await.problem(422, "invalid-request");
}

#[tokio::test]
async fn pictures_come_as_jpeg_once_there_is_one() {
    let api = Api::new();
    api.start("a").await;
    let got = api.get("/api/v1/cameras/a/snapshot.jpg").await;
    assert_eq!((got.status.as_u16(), got.header("content-type")), (200, "image/jpeg"));
    assert_eq!(got.header("cache-control"), "no-store");
    assert!(got.body.starts_with(b"\xff\xd8"));
    api.control.set_state("a", CameraState::Connecting { attempt: 1 });
    api.get("/api/v1/cameras/a/snapshot.jpg").await.problem(404, "no-picture-yet");
    api.get("/api/v1/cameras/b/snapshot.jpg").await.problem(404, "unknown-camera");
}

#[tokio::test]
async fn guests_of_a_camera_are_shown_and_swapped() {
    let api = Api::new();
    api.start("a").await;
    let slots = api.get("/api/v1/cameras/a/guests").await.json();
    let kinds: Vec<_> =
        slots["slots"].as_array().unwrap().iter().map(|s| s["slot"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["tracker", "scorer", "formatter"]);
    assert_eq!(api.get("/api/v1/cameras/a/guests/scorer").await.json()["guest"], "best-shot");

    upload(&api, "sharpest", b"\0asm-1").await;
    let report = api.put("/api/v1/cameras/a/guests/scorer", r#"{"guest":"sharpest","config":{"k":1}}"#).await;
    assert_eq!(
        report.text(),
        r#"{"slot":"scorer","change":"swapped","old_digest":"sha256:best-shot","new_digest":"sha256:sharpest","state":"private","pause_us":900,"probation_frames":50}"#
    );
    let slot = api.get("/api/v1/cameras/a/guests/scorer").await.json();
    assert_eq!((&slot["guest"], &slot["config"]), (&"sharpest".into(), &serde_json::json!({"k": 1})));
    assert_eq!(api.put("/api/v1/cameras/a/guests/scorer", "\"best-shot\"").await.status, 200);

    api.put("/api/v1/cameras/a/guests/scorer", "\"ghost\"").await.problem(404, "unknown-guest");
    api.put("/api/v1/cameras/a/guests/tracker", "\"best-shot\"").await.problem(422, "guest-refused");
    api.put("/api/v1/cameras/b/guests/tracker", "\"botsort\"").await.problem(404, "unknown-camera");
    api.put("/api/v1/cameras/a/guests/judge", "\"botsort\"").await.problem(404, "unknown-slot");
    api.put("/api/v1/cameras/a/guests/tracker", "\"\"").await.problem(422, "invalid-request");
    api.put("/api/v1/cameras/a/guests/tracker", "{\"probation_frames\":1}").await.problem(422, "invalid-request");
    api.get("/api/v1/cameras/a/guests/judge").await.problem(404, "unknown-slot");
    api.get("/api/v1/cameras/b/guests").await.problem(404, "unknown-camera");
}

async fn upload(api: &Api, name: &str, bytes: &[u8]) -> crate::client::Got {
    let request = request(Method::POST, &format!("/api/v1/guests?name={name}&version=1.0.0"))
        .header(header::CONTENT_TYPE, "application/wasm");
    api.send(request.body(Body::from(bytes.to_vec())).unwrap()).await
}

fn form(parts: &[(&str, &[u8])], end: bool) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, bytes) in parts {
        body.extend_from_slice(
            format!("--BOUND\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n").as_bytes(),
        );
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    if end {
        body.extend_from_slice(b"--BOUND--\r\n");
    }
    ("multipart/form-data; boundary=BOUND".to_owned(), body)
}

async fn send_form(api: &Api, (mime, body): (String, Vec<u8>)) -> crate::client::Got {
    let request = request(Method::POST, "/api/v1/guests").header(header::CONTENT_TYPE, mime);
    api.send(request.body(Body::from(body)).unwrap()).await
}

#[tokio::test]
async fn a_guest_is_uploaded_inspected_and_deleted() {
    let api = Api::new();
    let made = upload(&api, "mine", b"\0asm-1").await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.header("location"), "/api/v1/guests/sha256:mine");
    let guest = made.json();
    assert_eq!((&guest["name"], &guest["version"], &guest["size_bytes"]), (&"mine".into(), &"1.0.0".into(), &6.into()));
    assert_eq!(upload(&api, "mine", b"\0asm-1").await.status, 200);
    upload(&api, "mine", b"\0asm-2").await.problem(409, "guest-conflict");
    upload(&api, "other", b"plain text").await.problem(422, "guest-refused");

    assert_eq!(api.get("/api/v1/guests/mine").await.json(), guest);
    assert_eq!(api.get("/api/v1/guests/mine@1.0.0").await.json(), guest);
    assert_eq!(api.get(made.header("location")).await.json(), guest);
    let names: Vec<String> = api.get("/api/v1/guests").await.json()["guests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|g| g["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["botsort", "best-shot", "gate-and-mega", "mine"]);

    assert_eq!(api.delete("/api/v1/guests/mine").await.status, 204);
    api.delete("/api/v1/guests/mine").await.problem(404, "unknown-guest");
    api.get("/api/v1/guests/mine").await.problem(404, "unknown-guest");
    api.delete("/api/v1/guests/botsort").await.problem(409, "guest-conflict");
}

#[tokio::test]
async fn a_guest_says_which_cameras_run_it() {
    let api = Api::new();
    api.start("a").await;
    assert_eq!(api.get("/api/v1/guests/botsort").await.json()["used_by"], serde_json::json!(["a"]));
    upload(&api, "mine", b"\0asm").await;
    assert_eq!(api.get("/api/v1/guests/mine").await.json()["used_by"], serde_json::json!([]));
}

#[tokio::test]
async fn a_guest_comes_as_a_form_too() {
    let api = Api::new();
    let parts: &[(&str, &[u8])] = &[("name", b"formed"), ("version", b"2.0.0"), ("component", b"\0asm-form")];
    let made = send_form(&api, form(parts, true)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.json()["version"], "2.0.0");
    assert_eq!(api.control.guests.lock().unwrap().last().unwrap().1.as_ref(), b"\0asm-form");

    let problem = send_form(&api, form(&parts[..2], true)).await.problem(422, "invalid-request");
    assert_eq!(problem["errors"][0]["pointer"], "/component");
    let problem = send_form(&api, form(&[("colour", b"red")], true)).await.problem(422, "invalid-request");
    assert_eq!(problem["errors"][0]["pointer"], "/colour");
    send_form(&api, form(parts, false)).await.problem(400, "malformed-request");
    send_form(&api, form(&[("name", &[b'a'; 300])], true)).await.problem(422, "invalid-request");
    send_form(&api, form(&[("name", b"\xff")], true)).await.problem(422, "invalid-request");
    send_form(&api, ("multipart/form-data".to_owned(), Vec::new())).await.problem(400, "malformed-request");
}

#[tokio::test]
async fn uploads_are_checked_and_bounded() {
    let api = Api::with(&ServerConfig { max_upload_bytes: 1000, ..ServerConfig::default() });
    assert_eq!(upload(&api, "fits", &[b"\0asm".as_slice(), &[0; 996]].concat()).await.status, 201);
    upload(&api, "big", &[0; 1001]).await.problem(413, "too-large");
    send_form(&api, form(&[("component", &[0; 1001])], true)).await.problem(413, "too-large");
    send_form(&api, form(&[("component", &[0; 200_000])], true)).await.problem(413, "too-large");
    upload(&api, "empty", b"").await.problem(422, "invalid-request");
    upload(&api, "..%2Fetc", b"\0asm").await.problem(422, "invalid-request");
    let announced = request(Method::POST, "/api/v1/guests")
        .header(header::CONTENT_TYPE, "application/wasm")
        .header(header::CONTENT_LENGTH, "1001");
    api.send(announced.body(Body::empty()).unwrap()).await.problem(413, "too-large");
    // A body that never says how long it is.
    let endless = futures::stream::iter((0..1000).map(|_| Ok::<_, std::io::Error>(vec![0u8; 64])));
    let unannounced = request(Method::POST, "/api/v1/guests").header(header::CONTENT_TYPE, "application/wasm");
    api.send(unannounced.body(Body::from_stream(endless)).unwrap()).await.problem(413, "too-large");
    // One that breaks off.
    let broken = futures::stream::iter([Ok(vec![0u8; 4]), Err(std::io::Error::other("gone"))]);
    let cut = request(Method::POST, "/api/v1/guests").header(header::CONTENT_TYPE, "application/wasm");
    api.send(cut.body(Body::from_stream(broken)).unwrap()).await.problem(400, "malformed-request");
    let text = request(Method::POST, "/api/v1/guests").header(header::CONTENT_TYPE, "text/plain");
    api.send(text.body(Body::from("x")).unwrap()).await.problem(415, "unsupported-media-type");
    let query = request(Method::POST, "/api/v1/guests?nmae=x").header(header::CONTENT_TYPE, "application/wasm");
    api.send(query.body(Body::from("x")).unwrap()).await.problem(400, "malformed-request");
}

#[tokio::test]
async fn two_uploads_are_taken_at_once_and_no_more() {
    let api = std::sync::Arc::new(Api::new());
    api.control.hold_uploads.store(true, Ordering::SeqCst);
    let mut held = Vec::new();
    for name in ["one", "two"] {
        let uploading = api.clone();
        held.push(tokio::spawn(async move { upload(&uploading, name, b"\0asm").await }));
        api.control.uploads_arrived.notified().await;
    }
    let busy = upload(&api, "three", b"\0asm").await;
    busy.problem(429, "busy");
    assert_eq!(busy.header("retry-after"), "5");
    api.control.hold_uploads.store(false, Ordering::SeqCst);
    api.control.uploads_released.notify_waiters();
    for upload in held {
        assert_eq!(upload.await.unwrap().status, 201);
    }
    assert_eq!(upload(&api, "three", b"\0asm").await.status, 201);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_too_long_is_answered() {
    let api = Api::new();
    api.control.hold_uploads.store(true, Ordering::SeqCst);
    upload(&api, "slow", b"\0asm").await.problem(504, "timeout");
}

#[tokio::test]
async fn models_and_sinks_are_listed() {
    let api = Api::new();
    assert_eq!(
        api.get("/api/v1/models").await.text(),
        r#"{"models":[{"name":"yunet","family":"yunet","default":true,"loaded":true,"provider":"cpu","notes":["openvino: this processor has no amx_bf16"],"problem":null}]}"#
    );
    assert_eq!(
        api.get("/api/v1/sinks").await.text(),
        r#"{"sinks":[{"name":"jsonl","kind":"jsonl","state":"working","reason":null,"accepted":7,"delivered":5,"queued":2,"queued_bytes":2048,"lost":{"too-large":1}}]}"#
    );
    api.control.sinks.lock().unwrap()[0].degraded = true;
    assert_eq!(api.get("/api/v1/sinks").await.json()["sinks"][0]["state"], "degraded");
}

#[tokio::test]
async fn health_and_readiness() {
    let api = Api::new();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(api.get("/healthz").await.text(), format!(r#"{{"status":"ok","version":"{version}"}}"#));
    assert_eq!(api.get("/readyz").await.text(), format!(r#"{{"status":"ready","version":"{version}"}}"#));
    *api.control.not_ready.lock().unwrap() =
        vec!["no model could be loaded".into(), "the data folder is read-only".into()];
    let problem = api.get("/readyz").await.problem(503, "not-ready");
    assert_eq!(problem["errors"][1]["detail"], "the data folder is read-only");
    assert_eq!(api.get("/healthz").await.status, 200, "alive although not ready");
}

#[tokio::test]
async fn metrics_are_valid_and_complete() {
    let api = Api::new();
    api.start("a").await;
    api.start("b").await;
    api.get("/nothing/here").await;
    let got = api.get("/metrics").await;
    assert!(got.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"));
    let text = got.text();
    for line in [
        "facestream_camera_detections_total{camera=\"a\"} 12",
        "facestream_camera_drops_total{camera=\"b\",reason=\"superseded\"} 3",
        "facestream_camera_drops_total{camera=\"b\",reason=\"decode-error\"} 0",
        "facestream_camera_state{camera=\"a\",state=\"running\"} 1",
        "facestream_camera_state{camera=\"a\",state=\"failed\"} 0",
        "facestream_camera_fps{camera=\"a\"} 29.97",
        "facestream_guest_calls_total{camera=\"a\",slot=\"scorer\"} 100",
        "facestream_guest_info{camera=\"a\",slot=\"scorer\",guest=\"best-shot\",digest=\"sha256:best-shot\"} 1",
        "facestream_guest_call_mean_seconds{camera=\"a\",slot=\"tracker\",guest=\"botsort\"} 0.0000125",
        "facestream_guest_memory_bytes{camera=\"a\",slot=\"tracker\",guest=\"botsort\"} 1048576",
        "facestream_sink_accepted_total{sink=\"jsonl\"} 7",
        "facestream_sink_lost_total{sink=\"jsonl\",reason=\"too-large\"} 1",
        "facestream_cameras 2",
        "facestream_ready 1",
        "facestream_batches_total{model=\"yu\\\"net\\\\\"} 4",
        "facestream_api_requests_total{method=\"POST\",route=\"/camera/start\",status=\"200\"} 2",
        "facestream_api_requests_total{method=\"GET\",route=\"none\",status=\"404\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "`{line}` missing in\n{text}");
    }
    valid_openmetrics(text);
}

/// The rules of the OpenMetrics text format that a scraper trips over.
fn valid_openmetrics(text: &str) {
    assert!(text.ends_with("# EOF\n"), "the text ends with EOF");
    let mut families = std::collections::BTreeMap::new();
    let mut series = std::collections::BTreeSet::new();
    let mut current = String::new();
    for line in text.lines().filter(|l| *l != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} is declared twice");
            current = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(rest.split_once(' ').is_some_and(|(_, help)| !help.is_empty()), "{line}");
        } else {
            let (labelled, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let name = labelled.split('{').next().unwrap();
            let kind = &families[&current];
            let expected = if kind == "counter" { format!("{current}_total") } else { current.clone() };
            assert_eq!(name, expected, "a row outside its family: {line}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
            assert!(series.insert(labelled.to_owned()), "{labelled} is there twice");
            if kind == "counter" {
                assert!(value.parse::<f64>().unwrap() >= 0.0, "{line}");
            }
        }
    }
    assert!(families.len() > 25, "{families:?}");
}

#[tokio::test]
async fn unknown_addresses_and_methods_are_problems_too() {
    let api = Api::new();
    api.get("/nothing/here").await.problem(404, "not-found");
    let got = api.get("/camera/start").await;
    got.problem(405, "method-not-allowed");
    assert_eq!(got.header("allow"), "POST");
    api.delete("/metrics").await.problem(405, "method-not-allowed");
}

#[tokio::test]
async fn a_handler_that_panics_is_an_internal_problem_and_no_more() {
    let api = Api::new();
    api.control.panic.store(true, Ordering::SeqCst);
    let got = api.get("/api/v1/models").await;
    got.problem(500, "internal");
    assert!(!got.text().contains("canary"));
    assert_eq!(api.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn json_bodies_are_bounded_and_must_say_they_are_json() {
    let api = Api::new();
    let big = format!("{{\"camera_id\":\"{}\"}}", "a".repeat(facestream_api::MAX_JSON_BYTES));
    api.post("/camera/start", &big).await.problem(413, "too-large");
    let form = request(Method::POST, "/camera/start").header(header::CONTENT_TYPE, "text/plain");
    api.send(form.body(Body::from("{}")).unwrap()).await.problem(415, "unsupported-media-type");
    let utf8 = request(Method::POST, "/camera/stop").header(header::CONTENT_TYPE, "Application/JSON; charset=utf-8");
    api.send(utf8.body(Body::from("{\"worker_id\":1}")).unwrap()).await.problem(404, "unknown-worker");
}
