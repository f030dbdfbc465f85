//! Changing what runs in a slot, going back, and what is told of it.

use facestream_api::{Role, ServerConfig, TokenConfig, TokenHash};
use serde_json::json;

use crate::client::{Api, request};

const TRACKER: &str = "/api/v1/cameras/a/guests/tracker";

#[tokio::test]
async fn a_swap_asks_for_limits_policy_and_probation() {
    let api = Api::new();
    api.start("a").await;
    let body = json!({
        "guest": "botsort", "config": {"k": 1}, "limits": {"deadline_ms": 5, "max_crop_bytes_per_s": 1000},
        "on_failure": "fallback", "probation_frames": 7,
    });
    let report = api.put(TRACKER, &body.to_string()).await.json();
    assert_eq!((&report["change"], &report["probation_frames"]), (&json!("swapped"), &json!(7)), "{report}");
    let slot = api.get(TRACKER).await.json();
    assert_eq!(slot["limits"], json!({"deadline_ms": 5, "max_crop_bytes_per_s": 1000}));
    assert_eq!((&slot["on_failure"], &slot["config"]), (&json!("fallback"), &json!({"k": 1})));
    assert_eq!(slot["wanted"], json!({"guest": "botsort", "digest": "sha256:botsort"}));
    assert_eq!((&slot["state"], &slot["breaker"]), (&json!("running"), &json!("closed")));
}

#[tokio::test]
async fn settings_alone_change_settings_alone() {
    let api = Api::new();
    api.start("a").await;
    let body = r#"{"guest":"botsort","config":{"k":1},"limits":{"deadline_ms":5},"on_failure":"fallback"}"#;
    assert_eq!(api.put(TRACKER, body).await.status, 200);
    assert_eq!(api.put(TRACKER, r#"{"config":{"k":2}}"#).await.status, 200);
    let slot = api.get(TRACKER).await.json();
    assert_eq!((&slot["guest"], &slot["config"]), (&json!("botsort"), &json!({"k": 2})));
    assert_eq!(
        (&slot["limits"], &slot["on_failure"]),
        (&json!({"deadline_ms": 5}), &json!("fallback")),
        "as they were"
    );
    for body in [
        r#"{"config":{},"on_failure":"drop"}"#,
        r#"{"config":{},"limits":{}}"#,
        r#"{"probation_frames":3}"#,
        "{}",
        r#"{"guest":"","config":{}}"#,
    ] {
        let problem = api.put(TRACKER, body).await.problem(422, "invalid-request");
        assert_eq!(problem["errors"][0]["pointer"], "/guest", "{body}: {problem}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_told_at_its_place() {
    let api = Api::new();
    api.start("a").await;
    for (body, pointer) in [
        (r#"{"guest":"botsort","limits":{"dedline_ms":5}}"#, "/limits/dedline_ms"),
        (r#"{"guest":"botsort","limits":{"deadline_ms":-1}}"#, "/limits/deadline_ms"),
        (r#"{"guest":"botsort","limits":{"deadline_ms":501}}"#, "/limits/deadline_ms"),
        (r#"{"guest":"botsort","on_failure":"panic"}"#, "/on_failure"),
        (r#"{"guest":"botsort","probation_frames":1000001}"#, "/probation_frames"),
        (r#"{"guest":"botsort","probation":5}"#, "/probation"),
    ] {
        let problem = api.put(TRACKER, body).await.problem(422, "invalid-request");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}: {problem}");
    }
    let camera = r#"{"rtsp_link":"rtsp://c/","guests":{"tracker":{"guest":"botsort","limits":{"x":1}}}}"#;
    let problem = api.put("/api/v1/cameras/b", camera).await.problem(422, "invalid-request");
    assert_eq!(problem["errors"][0]["pointer"], "/guests/tracker/limits/x", "{problem}");
}

#[tokio::test]
async fn a_camera_starts_with_limits_and_policy_of_its_slots() {
    let api = Api::new();
    let camera = r#"{"rtsp_link":"rtsp://c/","guests":{"tracker":{"guest":"botsort","limits":{"deadline_ms":9},"on_failure":"drop"}}}"#;
    assert_eq!(api.put("/api/v1/cameras/a", camera).await.status, 201);
    let slot = api.get(TRACKER).await.json();
    assert_eq!((&slot["limits"], &slot["on_failure"]), (&json!({"deadline_ms": 9}), &json!("drop")));
}

#[tokio::test]
async fn a_rollback_goes_to_the_guest_before_and_history_tells_of_both() {
    let tokens =
        [("operations", Role::Operator, "operator-token-01234"), ("night", Role::Viewer, "viewer-token-0123456")]
            .map(|(name, role, token)| TokenConfig { name: name.into(), role, token: TokenHash::of(token) });
    let api = Api::with(&ServerConfig { tokens: tokens.to_vec(), ..ServerConfig::default() });
    let ask = async |method: &str, path: &str, token: &str, body: &str| {
        let request = request(method.parse().unwrap(), path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json");
        api.send(request.body(body.to_owned().into()).unwrap()).await
    };
    let operator = "operator-token-01234";
    let rollback = format!("{TRACKER}/rollback");
    let camera = r#"{"rtsp_link":"rtsp://cam/a"}"#;
    assert_eq!(ask("PUT", "/api/v1/cameras/a", operator, camera).await.status, 201);
    ask("POST", &rollback, operator, "").await.problem(409, "no-guest-before");
    let swap = ask("PUT", TRACKER, operator, r#"{"guest":"botsort","config":{"k":1}}"#).await;
    assert_eq!(swap.status, 200, "{}", swap.text());
    let back = ask("POST", &rollback, operator, "").await.json();
    assert_eq!((&back["new_digest"], &back["probation_frames"]), (&json!("sha256:botsort"), &json!(0)), "{back}");

    let viewer = "viewer-token-0123456";
    let history = ask("GET", &format!("{TRACKER}/history"), viewer, "").await.json();
    assert_eq!(history["changes"].as_array().unwrap().len(), 2);
    let newest = &history["changes"][0];
    assert_eq!((&newest["who"], &newest["change"]), (&json!("operations"), &json!("swap")), "{newest}");
    assert_eq!((&newest["outcome"], &newest["from"]["guest"]), (&json!("probation"), &json!("botsort")));
    ask("POST", &rollback, viewer, "").await.problem(403, "forbidden");
    ask("GET", "/api/v1/cameras/nobody/guests/tracker/history", viewer, "").await.problem(404, "unknown-camera");
    ask("GET", "/api/v1/cameras/a/guests/judge/history", viewer, "").await.problem(404, "unknown-slot");
    ask("POST", "/api/v1/cameras/nobody/guests/tracker/rollback", operator, "").await.problem(404, "unknown-camera");
}
