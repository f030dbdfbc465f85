//! OCI registries on loopback: Debian's, when it is installed, and a stand-in that can be told to lie.
//!
//! The stand-in speaks what the distribution specification says about blobs, uploads and manifests and keeps them in
//! memory. It is no registry: its use is to answer as a broken or hostile one does.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use facestream_test_support::free_port;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::wait::until;

/// How the stand-in lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Lie {
    /// Not at all.
    #[default]
    None,
    /// Manifests come with a space more.
    Manifests,
    /// Blobs come with their last byte changed.
    Blobs,
    /// Blobs come without end.
    Endless,
    /// Blobs end early.
    Short,
    /// Everything fails with this status.
    Status(u16),
}

/// The stand-in.
#[derive(Debug)]
pub struct StandIn {
    /// Where it listens.
    pub address: SocketAddr,
    inner: Arc<Inner>,
    _runtime: Runtime,
}

#[derive(Debug, Default)]
struct Inner {
    kept: Mutex<Kept>,
    /// Bytes of endless blobs that were taken.
    streamed: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    lie: Lie,
    user: Option<(String, String)>,
    blobs: HashMap<String, Bytes>,
    manifests: HashMap<String, Bytes>,
    uploads: HashMap<String, Vec<u8>>,
    asked: Vec<String>,
}

impl Inner {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sha256(bytes: &[u8]) -> String {
    facestream_guest_host::Digest::of(bytes).to_string()
}

impl StandIn {
    /// Starts one that wants no credentials.
    ///
    /// # Panics
    /// When loopback has no port.
    #[must_use]
    pub fn start() -> Self {
        let runtime = Runtime::new().unwrap_or_else(|e| panic!("a runtime: {e}"));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = listener.unwrap_or_else(|e| panic!("a port on loopback: {e}"));
        let address = listener.local_addr().unwrap_or_else(|e| panic!("a bound port: {e}"));
        let inner = Arc::new(Inner::default());
        let app = Router::new().fallback(answer).with_state(Arc::clone(&inner));
        let app = app.layer(axum::extract::DefaultBodyLimit::disable());
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { address, inner, _runtime: runtime }
    }

    /// What is answered from now on.
    pub fn lie(&self, lie: Lie) {
        self.inner.kept().lie = lie;
    }

    /// Only this user is served from now on.
    pub fn only(&self, user: &str, password: &str) {
        self.inner.kept().user = Some((user.to_owned(), password.to_owned()));
    }

    /// Keeps an artifact of one layer and gives its reference.
    #[must_use]
    pub fn keep(&self, repository: &str, layer: &[u8], layer_type: &str, size: usize) -> String {
        let mut kept = self.inner.kept();
        let mut blob = |bytes: &[u8], kind: &str, size: usize| {
            kept.blobs.insert(sha256(bytes), Bytes::copy_from_slice(bytes));
            serde_json::json!({ "mediaType": kind, "digest": sha256(bytes), "size": size })
        };
        let (config, layer) = (blob(b"{}", "application/vnd.oci.empty.v1+json", 2), blob(layer, layer_type, size));
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": [layer],
        });
        let manifest = manifest.to_string().into_bytes();
        let digest = sha256(&manifest);
        kept.manifests.insert(format!("{repository}@{digest}"), Bytes::from(manifest));
        format!("oci://{}/{repository}@{digest}", self.address)
    }

    /// What was asked for so far, `METHOD path`; forgotten by this.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.inner.kept().asked)
    }

    /// Bytes of endless blobs that were taken so far.
    #[must_use]
    pub fn streamed(&self) -> u64 {
        self.inner.streamed.load(Ordering::SeqCst)
    }
}

async fn answer(
    State(inner): State<Arc<Inner>>,
    method: Method,
    uri: Uri,
    headers: axum::http::HeaderMap,
    body: Bytes,
) -> Response {
    let mut kept = inner.kept();
    let path = uri.path().to_owned();
    kept.asked.push(format!("{method} {path}"));
    if let Some((user, password)) = &kept.user {
        let wanted = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let given = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        if given != Some(&format!("Basic {wanted}")) {
            let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"stand-in\"")];
            return (StatusCode::UNAUTHORIZED, ask, error("UNAUTHORIZED", "who are you?")).into_response();
        }
    }
    if let Lie::Status(status) = kept.lie {
        return StatusCode::from_u16(status).unwrap_or_default().into_response();
    }
    let Some(path) = path.strip_prefix("/v2/") else { return StatusCode::NOT_FOUND.into_response() };
    let created = |path: &str, kind: StatusCode| (kind, [(header::LOCATION, format!("/v2/{path}"))]).into_response();
    let digest_of_upload = || {
        let query = uri.query().unwrap_or_default();
        query.split('&').find_map(|p| p.strip_prefix("digest=")).unwrap_or_default().replace("%3A", ":")
    };
    if path.is_empty() {
        return StatusCode::OK.into_response();
    }
    if let Some((repository, id)) = path.split_once("/blobs/uploads/") {
        return match (method, id) {
            (Method::POST, "") => {
                let id = format!("u{}", kept.uploads.len());
                kept.uploads.insert(id.clone(), Vec::new());
                created(&format!("{repository}/blobs/uploads/{id}"), StatusCode::ACCEPTED)
            }
            (Method::PATCH, id) => {
                kept.uploads.entry(id.to_owned()).or_default().extend_from_slice(&body);
                created(path, StatusCode::ACCEPTED)
            }
            (Method::PUT, id) => {
                let mut bytes = kept.uploads.insert(id.to_owned(), Vec::new()).unwrap_or_default();
                bytes.extend_from_slice(&body);
                let digest = digest_of_upload();
                if sha256(&bytes) != digest {
                    return (StatusCode::BAD_REQUEST, error("DIGEST_INVALID", "other bytes")).into_response();
                }
                kept.blobs.insert(digest.clone(), bytes.into());
                created(&format!("{repository}/blobs/{digest}"), StatusCode::CREATED)
            }
            _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        };
    }
    if let Some((repository, reference)) = path.split_once("/manifests/") {
        return match method {
            Method::PUT => {
                let digest = sha256(&body);
                kept.manifests.insert(format!("{repository}:{reference}"), body.clone());
                kept.manifests.insert(format!("{repository}@{digest}"), body);
                created(&format!("{repository}/manifests/{digest}"), StatusCode::CREATED)
            }
            _ => match kept.manifests.get(&format!("{repository}@{reference}")) {
                Some(manifest) if kept.lie == Lie::Manifests => [&manifest[..], b" "].concat().into_response(),
                Some(manifest) => manifest.clone().into_response(),
                None => (StatusCode::NOT_FOUND, error("MANIFEST_UNKNOWN", "no such manifest")).into_response(),
            },
        };
    }
    let blob = path.split_once("/blobs/").and_then(|(_, digest)| kept.blobs.get(digest).cloned());
    let Some(blob) = blob else {
        return (StatusCode::NOT_FOUND, error("BLOB_UNKNOWN", "no such blob")).into_response();
    };
    match kept.lie {
        Lie::Blobs => {
            let mut bytes = blob.to_vec();
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
            bytes.into_response()
        }
        Lie::Short => blob.slice(..blob.len() / 2).into_response(),
        Lie::Endless => {
            let inner = Arc::clone(&inner);
            let chunk = Bytes::from(vec![0; 64 << 10]);
            let chunks = futures::stream::repeat_with(move || {
                inner.streamed.fetch_add(chunk.len() as u64, Ordering::SeqCst);
                Ok::<_, std::io::Error>(chunk.clone())
            });
            Body::from_stream(chunks).into_response()
        }
        _ => blob.into_response(),
    }
}

fn error(code: &str, message: &str) -> String {
    serde_json::json!({ "errors": [{ "code": code, "message": message }] }).to_string()
}

/// Debian's `docker-registry` (distribution's `registry`) with its data in a folder. Dropping it ends it.
#[derive(Debug)]
pub struct Distribution {
    /// Where it listens.
    pub address: String,
    child: Child,
}

impl Distribution {
    /// Starts it.
    ///
    /// # Errors
    /// When it is not installed, in words fit for skipping.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn start(dir: &Path) -> Result<Self, String> {
        let address = format!("127.0.0.1:{}", free_port());
        let config = dir.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
            dir.join("registry").display()
        );
        std::fs::write(&config, text).map_err(|e| e.to_string())?;
        let start = |name: &str| {
            let mut command = Command::new(name);
            command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
        };
        let child = start("docker-registry").or_else(|_| start("registry"));
        let child = child.map_err(|_| "no registry is installed (`apt-get install docker-registry`)".to_owned())?;
        let registry = Self { address, child };
        until("the registry to answer", || {
            let answer = ureq::get(format!("http://{}/v2/", registry.address)).call();
            answer.map(|_| ()).map_err(|e| e.to_string())
        });
        Ok(registry)
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
