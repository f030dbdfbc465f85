//! Who did what with guests is written down: what was done, what was refused, and by whom.

use axum::body::Body;
use axum::http::{Method, header};
use facestream_api::AuditEntry;

use crate::client::{Api, request};
use crate::fake::NOW_UNIX_MS;

async fn upload(api: &Api, name: &str, bytes: &'static [u8]) {
    let path = format!("/api/v1/guests?name={name}&version=1.0.0");
    let request = request(Method::POST, &path).header(header::CONTENT_TYPE, "application/wasm");
    api.send(request.body(Body::from(bytes)).unwrap()).await;
}

#[tokio::test]
async fn every_change_of_guests_is_written_down_and_nothing_else() {
    let api = Api::new();
    api.get("/api/v1/guests").await;
    api.start("door").await;
    upload(&api, "mine", b"\0asm component").await;
    upload(&api, "bad", b"no component").await;
    let scorer = "/api/v1/cameras/door/guests/scorer";
    api.put(scorer, r#"{ "guest": "mine", "config": { "key": "canary" } }"#).await;
    api.put(scorer, r#"{ "guest": "nobody" }"#).await;
    api.delete("/api/v1/guests/mine").await;
    let entries = api.get("/api/v1/audit?limit=50").await.json();
    let entries: Vec<AuditEntry> = serde_json::from_value(entries["entries"].clone()).unwrap();
    let short: Vec<_> = entries
        .iter()
        .rev()
        .map(|e| (e.action.as_str(), e.place.as_str(), e.guest.as_deref().unwrap_or(""), e.result.as_str()))
        .collect();
    let expected = [
        ("camera-start", "door", "botsort, best-shot, gate-and-mega", "done"),
        ("upload", "store", "mine@1.0.0", "done"),
        ("upload", "store", "bad@1.0.0", "guest-refused"),
        ("swap", "door/scorer", "mine", "done"),
        ("swap", "door/scorer", "nobody", "unknown-guest"),
        ("delete", "store", "mine", "done"),
    ];
    assert_eq!(short, expected);
    // Stamped by the host's clock, whatever this machine's says.
    assert!(entries.iter().all(|e| e.who == "anonymous" && e.at_unix_ms == NOW_UNIX_MS), "{entries:?}");
    assert!(entries[4].digest.as_deref().unwrap().starts_with("sha256:"), "{entries:?}");
    assert!(!format!("{entries:?}").contains("canary"), "settings may hold secrets");
    api.get("/api/v1/audit?limit=0").await.problem(400, "malformed-request");
}

#[tokio::test]
async fn what_only_looks_at_a_guest_is_not_written_down_as_a_swap() {
    let api = Api::new();
    api.start("door").await;
    api.control.audited.lock().unwrap().clear();
    let tracker = "/api/v1/cameras/door/guests/tracker";
    let shadow = format!("{tracker}/shadow");
    api.put(tracker, r#"{ "guest": "botsort", "dry_run": true }"#).await;
    api.put(tracker, r#"{ "guest": "ghost", "dry_run": true }"#).await;
    api.put(&shadow, r#""botsort""#).await;
    api.delete(&shadow).await;
    api.put(&shadow, r#""botsort""#).await;
    api.post(&format!("{shadow}/promote"), "").await;
    api.post(&format!("{tracker}/record"), "").await;
    let kept = api.control.audited.lock().unwrap().clone();
    let short: Vec<_> =
        kept.iter().rev().map(|e| (e.action.as_str(), e.guest.as_deref().unwrap_or(""), e.result.as_str())).collect();
    let expected = [
        ("swap-dry-run", "botsort", "done"),
        ("swap-dry-run", "ghost", "unknown-guest"),
        ("shadow", "botsort", "done"),
        ("shadow-end", "", "done"),
        ("shadow", "botsort", "done"),
        ("shadow-promote", "", "done"),
        ("record", "", "done"),
    ];
    assert_eq!(short, expected);
    assert!(kept.iter().all(|e| e.place == "door/tracker"), "{kept:?}");
    assert!(kept[1].digest.as_deref().is_some_and(|d| d.starts_with("sha256:")), "{kept:?}");
}

#[tokio::test]
async fn cameras_that_are_started_and_stopped_are_written_down_without_their_addresses() {
    let api = Api::new();
    let link = r#""rtsp_link": "rtsp://viewer:canary-pw@cam/1""#;
    api.post("/camera/start", &format!(r#"{{ "camera_id": "door", {link}, "guests": {{ "scorer": "mine" }} }}"#)).await;
    api.post("/camera/start", &format!(r#"{{ "camera_id": "door", {link}, "detect_fps": 5 }}"#)).await;
    api.put("/api/v1/cameras/yard", &format!("{{ {link} }}")).await;
    api.put("/api/v1/cameras/hall", r#"{ "rtsp_link": "http://viewer:canary-pw@cam/1" }"#).await;
    api.post("/camera/start", &format!(r#"{{ "camera_id": "not a name", {link} }}"#)).await;
    api.post("/camera/stop", r#"{ "worker_id": 1 }"#).await;
    api.post("/camera/stop", r#"{ "worker_id": 7 }"#).await;
    api.post("/camera/stop", r#"{ "camera_id": "door" }"#).await;
    api.delete("/api/v1/cameras/yard").await;
    let kept = api.control.audited.lock().unwrap().clone();
    let short: Vec<_> = kept
        .iter()
        .rev()
        .map(|e| (e.action.as_str(), e.place.as_str(), e.guest.as_deref().unwrap_or(""), e.result.as_str()))
        .collect();
    let builtin = "botsort, best-shot, gate-and-mega";
    let expected = [
        ("camera-start", "door", "botsort, mine, gate-and-mega", "done"),
        ("camera-start", "door", builtin, "camera-conflict"),
        ("camera-start", "yard", builtin, "done"),
        ("camera-start", "hall", builtin, "invalid-request"),
        ("camera-start", "camera", "", "invalid-request"),
        ("camera-stop", "door", "", "done"),
        ("camera-stop", "worker/7", "", "unknown-worker"),
        ("camera-stop", "door", "", "unknown-camera"),
        ("camera-stop", "yard", "", "done"),
    ];
    assert_eq!(short, expected);
    assert!(!format!("{kept:?}").contains("canary"), "addresses hold passwords: {kept:?}");
}

#[tokio::test]
async fn a_pull_is_answered_and_written_down_as_an_upload_is_with_where_it_came_from() {
    let api = &Api::new();
    let pull = |place: &str, more: &str| {
        let digest = format!("sha256:{}", "a".repeat(64));
        let body = format!(r#"{{ "reference": "oci://{place}@{digest}"{more} }}"#);
        async move { (api.post("/api/v1/guests/pull", &body).await, digest) }
    };
    let (got, digest) = pull("good.example/team/versioned", "").await;
    assert_eq!(got.status, 201, "{}", got.text());
    let view = got.json();
    assert_eq!((&view["name"], &view["version"]), (&"pulled".into(), &"2.0.0".into()), "{view}");
    assert_eq!(view["manifest_digest"], digest, "{view}");
    assert_eq!(view["source"], format!("oci://good.example/team/versioned@{digest}"), "{view}");
    assert_eq!(got.header("location"), format!("/api/v1/guests/{}", view["digest"].as_str().unwrap()));
    assert_eq!(pull("good.example/team/versioned", "").await.0.status, 200, "the same again is no change");
    let missing = pull("good.example/team/plain", "").await.0.problem(422, "invalid-request");
    assert_eq!(missing["errors"][0]["pointer"], "/version", "{missing}");
    pull("good.example/team/plain", r#", "name": "no name", "version": "1.0.0" "#)
        .await
        .0
        .problem(422, "invalid-request");
    pull("gone.example/a", "").await.0.problem(404, "not-in-registry");
    pull("down.example/a", "").await.0.problem(502, "registry-failed");
    pull("huge.example/a", "").await.0.problem(413, "too-large");
    pull("evil.example/a", "").await.0.problem(403, "registry-not-allowed");
    pull("user:canary@good.example/a", "").await.0.problem(403, "registry-not-allowed");

    let entries = api.get("/api/v1/audit?limit=50").await.json();
    let entries: Vec<AuditEntry> = serde_json::from_value(entries["entries"].clone()).unwrap();
    let results: Vec<_> = entries.iter().rev().map(|e| (e.action.as_str(), e.result.as_str())).collect();
    let expected =
        ["done", "done", "invalid-request", "invalid-request", "not-in-registry", "registry-failed", "too-large"];
    let expected = expected.into_iter().chain(["registry-not-allowed"; 2]);
    assert_eq!(results, expected.map(|result| ("pull", result)).collect::<Vec<_>>());
    let first = entries.last().unwrap();
    assert_eq!(first.guest.as_deref(), Some("pulled@2.0.0"));
    assert_eq!(first.source.as_deref(), view["source"].as_str());
    let component = first.digest.as_deref().unwrap();
    assert!(component.starts_with("sha256:") && component != digest, "the component's own, not the manifest's");
    assert!(!format!("{entries:?}").contains("canary"), "credentials do not get in");
    assert!(entries[1].source.as_deref().unwrap().starts_with("oci://evil.example/a@"), "{entries:?}");
}
