//! Asks the router without a socket.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use facestream_api::{PROBLEM_JSON, ServerConfig, router};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::fake::FakeControl;

pub struct Api {
    pub control: Arc<FakeControl>,
    pub router: Router,
    pub shutdown: CancellationToken,
}

/// An answer, whole.
pub struct Got {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Got {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// Checks the shape of a problem, and its kind.
    #[track_caller]
    pub fn problem(&self, status: u16, kind: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        assert_eq!(self.header("content-type"), PROBLEM_JSON);
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:facestream:problem:{kind}"), "{problem}");
        assert_eq!(problem["status"], status);
        assert!(!problem["title"].as_str().unwrap().is_empty() && !problem["detail"].as_str().unwrap().is_empty());
        let instance = format!("urn:facestream:request:{}", self.header("x-request-id"));
        assert_eq!(problem["instance"], instance);
        problem
    }
}

impl Api {
    pub fn new() -> Self {
        Self::with(&ServerConfig::default())
    }

    pub fn with(config: &ServerConfig) -> Self {
        Self::on(config, config.listen)
    }

    pub fn on(config: &ServerConfig, listen: SocketAddr) -> Self {
        let control = Arc::new(FakeControl::default());
        let shutdown = CancellationToken::new();
        let router = router(control.clone(), config, listen, shutdown.clone());
        Self { control, router, shutdown }
    }

    pub async fn send(&self, request: Request<Body>) -> Got {
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Got { status: parts.status, headers: parts.headers, body }
    }

    pub async fn get(&self, path: &str) -> Got {
        self.send(request(Method::GET, path).body(Body::empty()).unwrap()).await
    }

    pub async fn delete(&self, path: &str) -> Got {
        self.send(request(Method::DELETE, path).body(Body::empty()).unwrap()).await
    }

    pub async fn json(&self, method: Method, path: &str, body: &str) -> Got {
        let request = request(method, path).header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    pub async fn post(&self, path: &str, body: &str) -> Got {
        self.json(Method::POST, path, body).await
    }

    pub async fn put(&self, path: &str, body: &str) -> Got {
        self.json(Method::PUT, path, body).await
    }

    /// Starts a camera that must start.
    pub async fn start(&self, id: &str) {
        let body = format!("{{\"camera_id\":\"{id}\",\"rtsp_link\":\"rtsp://u:canary-pw@cam/{id}\"}}");
        let got = self.post("/camera/start", &body).await;
        assert_eq!(got.status, 200, "{}", got.text());
    }
}

pub fn request(method: Method, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header(header::HOST, "localhost:8080")
}
