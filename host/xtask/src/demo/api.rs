//! The REST calls of the demo, as `curl` would make them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::process::Process;

/// A client of one host.
pub(super) struct Api {
    base: String,
    agent: ureq::Agent,
}

impl Api {
    pub(super) fn new(address: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(30)))
            .http_status_as_error(false)
            .build();
        Self { base: format!("http://{address}"), agent: config.into() }
    }

    /// Waits for `/readyz`, as long as the host lives.
    pub(super) fn wait_ready(&self, host: &mut Process, limit: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            host.check()?;
            let answer = self.agent.get(format!("{}/readyz", self.base)).call();
            if answer.is_ok_and(|a| a.status().is_success()) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("the host was not ready within {} s; see target/demo/host.log", limit.as_secs());
    }

    pub(super) fn start(&self, id: &str, url: &str) -> anyhow::Result<()> {
        self.send("POST", "/camera/start", &json!({ "camera_id": id, "rtsp_link": url })).map(drop)
    }

    pub(super) fn stop(&self, id: &str) -> anyhow::Result<()> {
        self.send("POST", "/camera/stop", &json!({ "camera_id": id })).map(drop)
    }

    /// Status of every camera.
    pub(super) fn cameras(&self) -> anyhow::Result<Vec<Value>> {
        list(self.get("/api/v1/cameras")?, "cameras")
    }

    /// Uploads a component, as a team would its own.
    pub(super) fn upload(&self, name: &str, version: &str, component: &[u8]) -> anyhow::Result<()> {
        let path = format!("/api/v1/guests?name={name}&version={version}");
        let request = self.agent.post(format!("{}{path}", self.base)).content_type("application/wasm");
        let mut answer = request.send(component).with_context(|| format!("POST {path}"))?;
        let status = answer.status();
        if !status.is_success() {
            bail!("POST {path}: {status}: {}", answer.body_mut().read_to_string()?);
        }
        Ok(())
    }

    /// Another scorer for a running camera, with what the old one holds.
    pub(super) fn swap_scorer(&self, camera: &str, guest: &str) -> anyhow::Result<Value> {
        self.send("PUT", &format!("/api/v1/cameras/{camera}/guests/scorer"), &json!({ "guest": guest }))
    }

    /// Waits until no sink has messages waiting, then gives what each accepted.
    pub(super) fn settle(&self, limit: Duration) -> anyhow::Result<Vec<Value>> {
        let end = Instant::now() + limit;
        loop {
            let cameras = self.cameras()?;
            let sinks = list(self.get("/api/v1/sinks")?, "sinks")?;
            let quiet = cameras.is_empty() && sinks.iter().all(|s| s["queued"].as_u64() == Some(0));
            if quiet || Instant::now() >= end {
                return Ok(sinks);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn get(&self, path: &str) -> anyhow::Result<Value> {
        let mut answer =
            self.agent.get(format!("{}{path}", self.base)).call().with_context(|| format!("GET {path}"))?;
        let status = answer.status();
        let body: Value = answer.body_mut().read_json().with_context(|| format!("GET {path}: no JSON"))?;
        if !status.is_success() {
            bail!("GET {path}: {status}: {body}");
        }
        Ok(body)
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.base);
        let request = if method == "PUT" { self.agent.put(url) } else { self.agent.post(url) };
        let mut answer = request.send_json(body).with_context(|| format!("{method} {path}"))?;
        let status = answer.status();
        let text = answer.body_mut().read_to_string()?;
        if !status.is_success() {
            bail!("{method} {path}: {status}: {text}");
        }
        serde_json::from_str(&text).with_context(|| format!("{method} {path}: no JSON: {text}"))
    }
}

/// The list in an answer that wraps it in an object.
fn list(answer: Value, key: &str) -> anyhow::Result<Vec<Value>> {
    match answer {
        Value::Array(items) => Ok(items),
        Value::Object(mut object) => match object.remove(key) {
            Some(Value::Array(items)) => Ok(items),
            _ => bail!("the answer holds no list `{key}`"),
        },
        other => bail!("the answer is no list: {other}"),
    }
}
