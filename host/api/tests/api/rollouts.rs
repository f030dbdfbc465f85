//! Rollouts, as a client meets them.

use serde_json::{Value, json};

use crate::client::Api;

const ROLLOUTS: &str = "/api/v1/rollouts";

async fn with_cameras() -> Api {
    let api = Api::new();
    for id in ["a", "b", "c"] {
        api.start(id).await;
    }
    api
}

fn cameras(rollout: &Value) -> Vec<(&str, &str)> {
    let all = rollout["cameras"].as_array().unwrap().iter();
    all.map(|c| (c["camera"].as_str().unwrap(), c["state"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn a_rollout_is_begun_listed_shown_and_stopped() {
    let api = with_cameras().await;
    assert_eq!(api.get(ROLLOUTS).await.json(), json!({"rollouts": []}));
    let begun = api
        .post(
            ROLLOUTS,
            r#"{"slot":"tracker","guest":"botsort","config":{"k":1},"on_failure":"fallback","probation_frames":9,
               "cameras":["b","a"],"only_from":"botsort","batch":2,"max_failures":1}"#,
        )
        .await;
    assert_eq!(begun.status, 202, "{}", begun.text());
    let rollout = begun.json();
    assert_eq!(
        (&rollout["batch"], &rollout["max_failures"], &rollout["state"]),
        (&json!(2), &json!(1), &json!("running"))
    );
    assert_eq!(cameras(&rollout), [("b", "probation"), ("a", "pending")]);
    assert_eq!((&rollout["who"], &rollout["digest"]), (&json!("anonymous"), &json!("sha256:botsort")));
    let at = begun.header("location").to_owned();
    assert_eq!(at, format!("{ROLLOUTS}/{}", rollout["id"]));
    assert_eq!(api.get(&at).await.json(), rollout);
    let history = api.get("/api/v1/cameras/b/guests/tracker/history").await.json();
    assert_eq!(history["changes"][0]["rollout"], rollout["id"], "{history}");

    api.post(ROLLOUTS, r#"{"slot":"tracker","guest":"botsort"}"#).await.problem(409, "rollout-conflict");
    let other = api.post(ROLLOUTS, r#"{"slot":"scorer","guest":"best-shot","share":34}"#).await.json();
    assert_eq!(cameras(&other), [("a", "probation"), ("b", "pending")], "rounded up");
    let list = api.get(ROLLOUTS).await.json();
    assert_eq!((&list["rollouts"][0]["id"], &list["rollouts"][1]["id"]), (&other["id"], &rollout["id"]));

    let stop = format!("{at}/stop");
    let problem = api.post(&stop, "{}").await.problem(422, "invalid-request");
    assert!(problem.to_string().contains("roll_back"), "{problem}");
    let stopped = api.post(&stop, r#"{"roll_back":true}"#).await.json();
    assert_eq!((&stopped["state"], &stopped["reason"]), (&json!("rolled-back"), &json!("anonymous has stopped it")));
    api.post(&stop, r#"{"roll_back":true}"#).await.problem(409, "rollout-conflict");
    for unknown in ["7", "seven", "-1", "99999999999999999999"] {
        api.get(&format!("{ROLLOUTS}/{unknown}")).await.problem(404, "unknown-rollout");
        api.post(&format!("{ROLLOUTS}/{unknown}/stop"), r#"{"roll_back":false}"#).await.problem(404, "unknown-rollout");
    }
}

#[tokio::test]
async fn everything_that_is_wrong_with_a_rollout_is_told_at_once() {
    let api = with_cameras().await;
    let body = r#"{"slot":"painter","guest":"","only_from":"","probation_frames":1000001,"share":0,"batch":0}"#;
    let problem = api.post(ROLLOUTS, body).await.problem(422, "invalid-request");
    let pointers: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers, ["/slot", "/guest", "/only_from", "/batch", "/share", "/probation_frames"], "{problem}");

    let wrong = |fields: &str| format!(r#"{{"slot":"tracker","guest":"botsort",{fields}}}"#);
    for (fields, pointer) in [
        (r#""share":101"#, "/share"),
        (r#""share":50,"cameras":["a"]"#, "/share"),
        (r#""cameras":[]"#, "/cameras"),
        (r#""cameras":["a","a"]"#, "/cameras/1"),
        (r#""cameras":["a","no name"]"#, "/cameras/1"),
        (r#""cameras":["a","ghost"]"#, "/cameras/1"),
        (r#""batch":65"#, "/batch"),
        (r#""max_failures":-1"#, "/max_failures"),
        (r#""config":[]"#, "/config"),
        (r#""camera":["a"]"#, "/camera"),
        (r#""limits":{"deadline_ms":501}"#, "/limits/deadline_ms"),
    ] {
        let problem = api.post(ROLLOUTS, &wrong(fields)).await.problem(422, "invalid-request");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{fields}: {problem}");
    }
    api.post(ROLLOUTS, &wrong(r#""only_from":"bytetrack""#)).await.problem(422, "invalid-request");
    api.post(ROLLOUTS, r#"{"slot":"tracker","guest":"ghost"}"#).await.problem(404, "unknown-guest");
    api.post(ROLLOUTS, r#"{"slot":"scorer","guest":"botsort"}"#).await.problem(422, "guest-refused");
    api.post(ROLLOUTS, r#"{"guest":"botsort"}"#).await.problem(422, "invalid-request");
    api.post(ROLLOUTS, r#""botsort""#).await.problem(422, "invalid-request");
    assert_eq!(api.get(ROLLOUTS).await.json(), json!({"rollouts": []}), "nothing has begun");
}

#[tokio::test]
async fn rollouts_are_written_down() {
    let api = with_cameras().await;
    api.control.audited.lock().unwrap().clear();
    let begun = api.post(ROLLOUTS, r#"{"slot":"tracker","guest":"botsort","config":{"key":"canary"}}"#).await.json();
    api.post(ROLLOUTS, r#"{"slot":"tracker","guest":"botsort"}"#).await;
    api.post(&format!("{ROLLOUTS}/{}/stop", begun["id"]), r#"{"roll_back":false}"#).await;
    api.get(ROLLOUTS).await;
    let kept = api.control.audited.lock().unwrap().clone();
    let short: Vec<_> = kept
        .iter()
        .rev()
        .map(|e| (e.action.as_str(), e.place.as_str(), e.guest.as_deref().unwrap(), e.result.as_str()))
        .collect();
    let place = format!("rollout/{}", begun["id"]);
    let expected = [
        ("rollout", place.as_str(), "botsort", "done"),
        ("rollout", "rollout", "botsort", "rollout-conflict"),
        ("rollout-stop", place.as_str(), "botsort", "done"),
    ];
    assert_eq!(short, expected);
    assert!(!format!("{kept:?}").contains("canary"), "settings may hold secrets");
}
