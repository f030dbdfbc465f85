//! Who may do what; and what browsers are kept from doing.

use axum::body::Body;
use axum::http::{HeaderName, Method, Request, header};
use facestream_api::{Role, ServerConfig, TokenConfig, TokenHash};

use crate::client::{Api, Got, request};

const TOKENS: [(&str, Role); 3] = [
    ("viewer-token-0123456", Role::Viewer),
    ("operator-token-01234", Role::Operator),
    ("admin-token-01234567", Role::GuestAdmin),
];

/// Every route with the role it needs; `None`: no token. Kept by hand on purpose: a route that changes its role by
/// accident fails here.
pub const ROUTES: [(&str, &str, Option<Role>); 40] = [
    ("GET", "/", None),
    ("GET", "/openapi.json", None),
    ("GET", "/docs/", None),
    ("GET", "/healthz", None),
    ("GET", "/readyz", None),
    ("GET", "/camera/status", Some(Role::Viewer)),
    ("POST", "/camera/start", Some(Role::Operator)),
    ("POST", "/camera/stop", Some(Role::Operator)),
    ("GET", "/api/v1/cameras", Some(Role::Viewer)),
    ("GET", "/api/v1/cameras/{id}", Some(Role::Viewer)),
    ("PUT", "/api/v1/cameras/{id}", Some(Role::Operator)),
    ("DELETE", "/api/v1/cameras/{id}", Some(Role::Operator)),
    ("GET", "/api/v1/cameras/{id}/snapshot.jpg", Some(Role::Viewer)),
    ("GET", "/api/v1/cameras/{id}/guests", Some(Role::Viewer)),
    ("GET", "/api/v1/cameras/{id}/guests/{slot}", Some(Role::Viewer)),
    ("PUT", "/api/v1/cameras/{id}/guests/{slot}", Some(Role::Operator)),
    ("POST", "/api/v1/cameras/{id}/guests/{slot}/rollback", Some(Role::Operator)),
    ("GET", "/api/v1/cameras/{id}/guests/{slot}/history", Some(Role::Viewer)),
    ("POST", "/api/v1/cameras/{id}/guests/{slot}/record", Some(Role::Operator)),
    ("GET", "/api/v1/cameras/{id}/guests/{slot}/shadow", Some(Role::Viewer)),
    ("PUT", "/api/v1/cameras/{id}/guests/{slot}/shadow", Some(Role::Operator)),
    ("DELETE", "/api/v1/cameras/{id}/guests/{slot}/shadow", Some(Role::Operator)),
    ("POST", "/api/v1/cameras/{id}/guests/{slot}/shadow/promote", Some(Role::Operator)),
    ("GET", "/api/v1/recordings", Some(Role::Viewer)),
    ("GET", "/api/v1/recordings/{name}", Some(Role::Operator)),
    ("DELETE", "/api/v1/recordings/{name}", Some(Role::Operator)),
    ("GET", "/api/v1/explain", Some(Role::Viewer)),
    ("GET", "/api/v1/rollouts", Some(Role::Viewer)),
    ("POST", "/api/v1/rollouts", Some(Role::Operator)),
    ("GET", "/api/v1/rollouts/{id}", Some(Role::Viewer)),
    ("POST", "/api/v1/rollouts/{id}/stop", Some(Role::Operator)),
    ("GET", "/api/v1/guests", Some(Role::Viewer)),
    ("POST", "/api/v1/guests", Some(Role::GuestAdmin)),
    ("POST", "/api/v1/guests/pull", Some(Role::GuestAdmin)),
    ("GET", "/api/v1/guests/{reference}", Some(Role::Viewer)),
    ("DELETE", "/api/v1/guests/{reference}", Some(Role::GuestAdmin)),
    ("GET", "/api/v1/audit", Some(Role::GuestAdmin)),
    ("GET", "/api/v1/models", Some(Role::Viewer)),
    ("GET", "/api/v1/sinks", Some(Role::Viewer)),
    ("GET", "/metrics", Some(Role::Viewer)),
];

fn guarded() -> Api {
    let tokens = TOKENS
        .map(|(token, role)| TokenConfig { name: role.as_str().into(), role, token: TokenHash::of(token) })
        .to_vec();
    Api::with(&ServerConfig { tokens, ..ServerConfig::default() })
}

async fn ask(api: &Api, method: &str, path: &str, authorization: Option<&str>) -> Got {
    let path = path
        .replace("{id}", "a")
        .replace("{slot}", "tracker")
        .replace("{reference}", "ghost")
        .replace("{name}", "ghost");
    let mut request = request(method.parse().unwrap(), &path);
    if let Some(value) = authorization {
        request = request.header(header::AUTHORIZATION, value);
    }
    api.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn each_route_asks_for_its_role() {
    let api = guarded();
    // A stream never ends by itself; here its head is enough.
    api.shutdown.cancel();
    let stream = ("GET", "/api/v1/events", Some(Role::Viewer));
    for (method, path, needed) in ROUTES.into_iter().chain([stream]) {
        let got = ask(&api, method, path, None).await;
        match needed {
            Some(_) => {
                got.problem(401, "unauthorized");
                assert!(got.header("www-authenticate").starts_with("Bearer"), "{method} {path}");
            }
            None => assert!(got.status != 401 && got.status != 403, "{method} {path}: {}", got.status),
        }
        for (token, role) in TOKENS {
            let got = ask(&api, method, path, Some(&format!("Bearer {token}"))).await;
            if needed.is_some_and(|needed| role < needed) {
                got.problem(403, "forbidden");
            } else {
                assert!(got.status != 401 && got.status != 403, "{method} {path} as {role:?}: {}", got.status);
            }
        }
    }
}

#[tokio::test]
async fn wrong_tokens_are_no_tokens() {
    let api = guarded();
    for wrong in [
        "Bearer wrong-token-0123456",
        "Bearer",
        "Bearer ",
        "Basic viewer-token-0123456",
        "viewer-token-0123456",
        "Bearer viewer-token-012345",
    ] {
        ask(&api, "GET", "/camera/status", Some(wrong)).await.problem(401, "unauthorized");
    }
    assert_eq!(ask(&api, "GET", "/camera/status", Some("bearer viewer-token-0123456")).await.status, 200);
}

#[tokio::test]
async fn the_reasons_of_readiness_are_for_those_who_may_read() {
    let api = guarded();
    *api.control.not_ready.lock().unwrap() = vec!["the disk at /srv is full".into()];
    let got = ask(&api, "GET", "/readyz", None).await;
    got.problem(503, "not-ready");
    assert!(!got.text().contains("/srv"), "{}", got.text());
    assert!(ask(&api, "GET", "/readyz", Some("Bearer viewer-token-0123456")).await.text().contains("/srv"));
}

async fn with_host(api: &Api, host: Option<&str>) -> Got {
    let mut request = Request::builder().uri("/healthz");
    if let Some(host) = host {
        request = request.header(header::HOST, host);
    }
    api.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn on_loopback_a_foreign_host_name_is_refused() {
    let api = Api::with(&ServerConfig { allow_hosts: vec!["cams.example".into()], ..ServerConfig::default() });
    for good in ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "cams.example", "CAMS.example:80"] {
        assert_eq!(with_host(&api, Some(good)).await.status, 200, "{good}");
    }
    for bad in ["evil.example", "evil.example:8080", "localhost.evil.example", "a b", ""] {
        with_host(&api, Some(bad)).await.problem(421, "wrong-host");
    }
    with_host(&api, None).await.problem(400, "malformed-request");
    let twice =
        Request::builder().uri("/healthz").header(header::HOST, "localhost").header(header::HOST, "evil.example");
    api.send(twice.body(Body::empty()).unwrap()).await.problem(421, "wrong-host");
    // Everything is behind the check, the pages as well.
    let page = Request::builder().uri("/").header(header::HOST, "evil.example");
    api.send(page.body(Body::empty()).unwrap()).await.problem(421, "wrong-host");

    let elsewhere = Api::on(&ServerConfig::default(), "10.0.0.5:8080".parse().unwrap());
    assert_eq!(with_host(&elsewhere, Some("any.example")).await.status, 200);
}

#[tokio::test]
async fn pages_of_another_origin_change_nothing() {
    let api = Api::new();
    let stop = |name: &'static str, value: &'static str| {
        let request = request(Method::POST, "/camera/stop").header(header::CONTENT_TYPE, "application/json");
        api.send(request.header(HeaderName::from_static(name), value).body(Body::from("{\"worker_id\":1}")).unwrap())
    };
    for (name, value) in [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("origin", "http://localhost:9999"),
        ("sec-fetch-site", "cross-site"),
    ] {
        stop(name, value).await.problem(403, "cross-origin");
    }
    for (name, value) in [("origin", "http://localhost:8080"), ("sec-fetch-site", "same-origin")] {
        stop(name, value).await.problem(404, "unknown-worker");
    }
    let got = api
        .send(
            request(Method::OPTIONS, "/camera/stop")
                .header(header::ORIGIN, "http://evil.example")
                .body(Body::empty())
                .unwrap(),
        )
        .await;
    assert!(!got.headers.keys().any(|name| name.as_str().starts_with("access-control-")), "{:?}", got.headers);
}

#[tokio::test]
async fn every_answer_is_hardened() {
    let api = Api::new();
    for path in ["/", "/docs/", "/openapi.json", "/camera/status", "/nothing", "/metrics"] {
        let got = api.get(path).await;
        assert_eq!(got.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(got.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(got.header("referrer-policy"), "no-referrer", "{path}");
        assert!(got.header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
        assert!(!got.header("x-request-id").is_empty(), "{path}");
    }
    assert_eq!(
        api.get("/camera/status").await.header("content-security-policy"),
        "default-src 'none'; frame-ancestors 'none'"
    );
}

#[tokio::test]
async fn the_dashboard_runs_its_own_script_and_nothing_else() {
    let api = Api::new();
    let got = api.get("/").await;
    assert_eq!(got.header("content-type"), "text/html; charset=utf-8");
    let policy = got.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("connect-src 'self'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    let page = got.text();
    for (tag, directive) in [("script", "script-src"), ("style", "style-src")] {
        let inside = page.split_once(&format!("<{tag}>")).unwrap().1.split_once(&format!("</{tag}>")).unwrap().0;
        use sha2::Digest;
        let hash = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, sha2::Sha256::digest(inside));
        assert!(policy.contains(&format!("{directive} 'sha256-{hash}'")), "{directive}");
        assert_eq!(page.matches(&format!("<{tag}")).count(), 1, "one {tag}");
    }
    assert!(!page.contains(" style=") && !page.contains(" onclick="), "nothing inline that the policy would refuse");
    assert!(!page.contains("https://") && !page.contains("http://"), "nothing from elsewhere");
    assert!(!page.contains("innerHTML"), "texts from cameras and guests never become markup");
}
