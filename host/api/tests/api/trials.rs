//! Recordings, dry runs, candidates and explanations, as a client meets them.

use serde_json::json;

use crate::client::Api;

const TRACKER: &str = "/api/v1/cameras/a/guests/tracker";

#[tokio::test]
async fn a_recording_is_written_listed_downloaded_and_deleted() {
    let api = Api::new();
    api.start("a").await;
    let written = api.post(&format!("{TRACKER}/record?seconds=5"), "").await;
    assert_eq!(written.status, 201, "{}", written.text());
    let written = written.json();
    let name = "a-tracker-1700000000000-demand.zip";
    assert_eq!(written, json!({"file": name, "bytes": 3, "calls": 251, "frames": 250, "seconds": 5.0}));
    let list = api.get("/api/v1/recordings").await.json();
    assert_eq!((&list["recordings"][0]["name"], &list["recordings"][0]["slot"]), (&json!(name), &json!("tracker")));
    let path = format!("/api/v1/recordings/{name}");
    let file = api.get(&path).await;
    assert_eq!((file.header("content-type"), file.text()), ("application/zip", "zip"));
    assert_eq!(api.delete(&path).await.status, 204);
    api.get(&path).await.problem(404, "unknown-recording");
    api.post(&format!("{TRACKER}/record?seconds=0"), "").await.problem(404, "not-kept");
    api.post(&format!("{TRACKER}/record?second=5"), "").await.problem(400, "malformed-request");
    api.post("/api/v1/cameras/b/guests/tracker/record", "").await.problem(404, "unknown-camera");
}

#[tokio::test]
async fn a_dry_run_answers_a_report_and_changes_nothing() {
    let api = Api::new();
    api.start("a").await;
    let before = api.get(TRACKER).await.json();
    let report = api.put(TRACKER, r#"{"guest":"botsort","config":{"k":1},"dry_run":true}"#).await.json();
    assert_eq!((&report["new_digest"], &report["state"]), (&json!("sha256:botsort"), &json!("private")), "{report}");
    assert_eq!(api.get(TRACKER).await.json(), before);
    assert_eq!(api.get(&format!("{TRACKER}/history")).await.json()["changes"], json!([]));
    api.put(TRACKER, r#"{"guest":"ghost","dry_run":true}"#).await.problem(404, "unknown-guest");
    let problem = api.put(TRACKER, r#"{"guest":"botsort","dry_run":1}"#).await.problem(422, "invalid-request");
    assert_eq!(problem["errors"][0]["pointer"], "/dry_run");
}

#[tokio::test]
async fn a_candidate_is_let_in_looked_at_promoted_or_dropped() {
    let api = Api::new();
    api.start("a").await;
    let shadow = format!("{TRACKER}/shadow");
    let promote = format!("{shadow}/promote");
    api.get(&shadow).await.problem(404, "no-candidate");
    api.post(&promote, "").await.problem(404, "no-candidate");
    assert_eq!(api.put(&shadow, r#""botsort""#).await.json()["state"], "running");
    assert_eq!(api.get(&shadow).await.json()["guest"], "botsort");
    assert_eq!(api.delete(&shadow).await.json()["guest"], "botsort");
    api.delete(&shadow).await.problem(404, "no-candidate");
    api.put(&shadow, r#"{"guest":"botsort","config":{"k":1}}"#).await.json();
    let problem = api.post(&format!("{promote}?probation_frames=1000001"), "").await.problem(422, "invalid-request");
    assert_eq!(problem["errors"][0]["pointer"], "/probation_frames");
    let report = api.post(&format!("{promote}?probation_frames=9"), "").await.json();
    assert_eq!((&report["change"], &report["probation_frames"]), (&json!("swapped"), &json!(9)), "{report}");
    assert_eq!(api.get(TRACKER).await.json()["config"], json!({"k": 1}));
    api.get(&shadow).await.problem(404, "no-candidate");
    let problem = api.put(&shadow, r#"{"guest":""}"#).await.problem(422, "invalid-request");
    assert_eq!(problem["errors"][0]["pointer"], "/guest");
}

#[tokio::test]
async fn a_message_is_explained_by_its_id() {
    let api = Api::new();
    api.start("a").await;
    let id = "a/1/250/7/best/0";
    assert_eq!(api.get(&format!("/api/v1/explain?message={id}")).await.json()["message"], id);
    api.get("/api/v1/explain?message=b/1/250/7/best/0").await.problem(404, "unknown-camera");
    let problem = api.get("/api/v1/explain?message=250").await.problem(422, "invalid-request");
    assert_eq!(problem["errors"][0]["pointer"], "/message");
    api.get("/api/v1/explain").await.problem(400, "malformed-request");
}
