//! The host's REST calls as a client makes them.

use std::time::Duration;

use serde_json::Value;

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: String,
    /// `Location`.
    pub location: String,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, of an answer with this status.
    ///
    /// # Panics
    /// When it has another status or no JSON.
    #[track_caller]
    pub fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// Asserts a problem document (RFC 9457) of this kind whose text has all these words.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn problem(&self, status: u16, kind: &str, words: &[&str]) {
        let body = self.json(status);
        assert_eq!(self.content_type, "application/problem+json", "{body}");
        assert_eq!(body["type"], format!("urn:facestream:problem:{kind}"), "{body}");
        assert_eq!(body["status"], status, "{body}");
        assert!(body["title"].is_string() && body["detail"].is_string(), "{body}");
        let text = body.to_string();
        for word in words {
            assert!(text.contains(word), "`{word}` not in {text}");
        }
    }
}

/// A client of one host.
#[derive(Clone, Debug)]
pub struct Api {
    base: String,
    agent: ureq::Agent,
}

impl Api {
    /// A client of the host at `address`.
    #[must_use]
    pub fn new(address: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(60)))
            .http_status_as_error(false)
            .build();
        Self { base: format!("http://{address}"), agent: config.into() }
    }

    /// Address and port.
    #[must_use]
    pub fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// Where it is, `http://ADDRESS:PORT`.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Any request.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn send(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Result<Answer, String> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        if !content_type.is_empty() {
            request = request.header("Content-Type", content_type);
        }
        let request = request.body(body).map_err(|e| e.to_string())?;
        let mut answer = if method == "GET" || method == "DELETE" {
            self.agent.run(request.map(|_| ()))
        } else {
            self.agent.run(request)
        }
        .map_err(|e| e.to_string())?;
        let header = |name: &str| {
            let value = answer.headers().get(name).and_then(|v| v.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let (content_type, location) = (header("content-type"), header("location"));
        let status = answer.status().as_u16();
        let body = answer.body_mut().read_to_vec().map_err(|e| e.to_string())?;
        Ok(Answer { status, content_type, location, body })
    }

    /// Whether a page says that all is well.
    ///
    /// # Errors
    /// What it says instead, or why no answer came.
    pub fn alive(&self, path: &str) -> Result<(), String> {
        let answer = self.send("GET", path, "", &[])?;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    }

    #[track_caller]
    fn must(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Answer {
        self.send(method, path, content_type, body).unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    /// GET.
    ///
    /// # Panics
    /// When no answer comes, as with all that follow.
    #[track_caller]
    #[must_use]
    pub fn get(&self, path: &str) -> Answer {
        self.must("GET", path, "", &[])
    }

    /// DELETE.
    #[track_caller]
    pub fn delete(&self, path: &str) -> Answer {
        self.must("DELETE", path, "", &[])
    }

    /// POST of JSON.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.must("POST", path, "application/json", body.to_string().as_bytes())
    }

    /// PUT of JSON.
    #[track_caller]
    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.must("PUT", path, "application/json", body.to_string().as_bytes())
    }

    /// Uploads a component as `name@version`.
    #[track_caller]
    pub fn upload(&self, name: &str, version: &str, component: &[u8]) -> Answer {
        self.must("POST", &format!("/api/v1/guests?name={name}&version={version}"), "application/wasm", component)
    }

    /// A camera's status.
    #[track_caller]
    #[must_use]
    pub fn camera(&self, id: &str) -> Value {
        self.get(&format!("/api/v1/cameras/{id}")).json(200)
    }

    /// A sink's status.
    #[track_caller]
    #[must_use]
    pub fn sink(&self, name: &str) -> Value {
        let sinks = self.get("/api/v1/sinks").json(200);
        let found = sinks["sinks"].as_array().and_then(|s| s.iter().find(|s| s["name"] == name));
        found.unwrap_or_else(|| panic!("no sink {name}: {sinks}")).clone()
    }
}
