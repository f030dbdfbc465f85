//! Who did what with guests is written down: what was done, what was refused, and by whom.

use axum::body::Body;
use axum::http::{Method, header};
use facestream_api::AuditEntry;

use crate::client::{Api, request};

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
    assert!(entries.iter().all(|e| e.who == "anonymous" && e.at_unix_ms > 1_700_000_000_000), "{entries:?}");
    assert!(entries[2].digest.as_deref().unwrap().starts_with("sha256:"), "{entries:?}");
    assert!(!format!("{entries:?}").contains("canary"), "settings may hold secrets");
    api.get("/api/v1/audit?limit=0").await.problem(400, "malformed-request");
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
