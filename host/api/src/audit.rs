//! Who did what with guests: an entry for every request that changes the store, a slot, a rollout or which cameras (and
//! with them guests) run, refused ones too.
//!
//! Owns the entry and the middleware that makes it. Must not keep entries: `Control` does. Nothing of a body but the name
//! and digest of a guest and the name of a camera gets in: settings and addresses may hold secrets.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::Identity;
use crate::control::Control;
use crate::problem::Problem;

/// Characters of a text that came with a request.
const MAX_TEXT: usize = 256;
/// Characters of a reference into a registry: a repository's name may have 255, a digest has 71.
const MAX_SOURCE: usize = 512;

/// What somebody did, or tried to do, with guests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// When it was answered, milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// Name of the token; `anonymous` where none is asked for, `unknown` when none was given that is known.
    #[schema(example = "operations")]
    pub who: String,
    /// Address that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "10.0.0.7:51234")]
    pub peer: Option<String>,
    /// `upload`, `pull`, `delete`, `swap`, `swap-dry-run`, `rollback`, `shadow`, `shadow-end`, `shadow-promote`, `record`,
    /// `rollout`, `rollout-stop`, `rollout-end` (by the host: what came of one), `camera-start`, `camera-stop`, or method and
    /// route of another change.
    #[schema(example = "swap")]
    pub action: String,
    /// `store`, camera and slot, `rollout/` and its number, or a camera (`worker/` and its number where it was named so).
    #[schema(example = "door/scorer")]
    pub place: String,
    /// The guest as it was named; of a camera that is started all three, in the order of the slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "my-scorer@1.0.0")]
    pub guest: Option<String>,
    /// Digest of the component, where it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The artifact in a registry that the component was pulled from, by the digest of its manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(
        example = "oci://ghcr.io/team/my-scorer@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    )]
    pub source: Option<String>,
    /// `done`, the kind of the problem, or `abandoned` when the client hung up before the answer: it may have been done.
    /// Of `rollout-end` how it ended: `done`, `rolled-back` or `stopped`.
    #[schema(example = "done")]
    pub result: String,
    /// The problem in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Address that a request came from; the server puts it in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Where handlers note what a request is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Note(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    action: Option<&'static str>,
    guest: Option<String>,
    digest: Option<String>,
    place: Option<String>,
    source: Option<String>,
}

impl Note {
    /// What is done, when the route does not say.
    pub(crate) fn action(&self, action: &'static str) {
        self.lock().action = Some(action);
    }

    /// The guest as it was named.
    pub(crate) fn guest(&self, name: &str) {
        self.lock().guest = Some(bounded(name));
    }

    /// Digest of its component.
    pub(crate) fn digest(&self, digest: &str) {
        self.lock().digest = Some(bounded(digest));
    }

    /// Where it is, when the path does not say.
    pub(crate) fn place(&self, place: &str) {
        self.lock().place = Some(bounded(place));
    }

    /// Where it is pulled from; must hold no credentials.
    pub(crate) fn source(&self, reference: &str) {
        self.lock().source = Some(reference.chars().take(MAX_SOURCE).collect());
    }

    fn take(&self) -> Noted {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request under way. Dropped before its answer, it is written down as abandoned.
struct Pending {
    control: Arc<dyn Control>,
    entry: Option<AuditEntry>,
    note: Note,
}

impl Pending {
    fn finished(&mut self, result: &str, detail: Option<String>) -> Option<AuditEntry> {
        let entry = self.entry.take()?;
        let Noted { action, guest, digest, source, place } = self.note.take();
        let action = action.map_or(entry.action, str::to_owned);
        let place = place.unwrap_or(entry.place);
        let at_unix_ms = self.control.now_unix_ms();
        Some(AuditEntry {
            at_unix_ms,
            action,
            place,
            guest,
            digest,
            source,
            result: result.to_owned(),
            detail,
            ..entry
        })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(entry) = self.finished("abandoned", None) else { return };
        let control = Arc::clone(&self.control);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move { write(control.as_ref(), entry).await })),
            // The runtime itself ends, and this request with it.
            Err(_) => tracing::error!(?entry, "The audit log cannot be written."),
        }
    }
}

/// Lines a minute for requests of nobody: enough to see that somebody knocks, too few to push out what others did.
const STRANGERS_A_MINUTE: u32 = 6;

/// What the middleware knows between requests.
#[derive(Clone)]
pub(crate) struct Auditor {
    control: Arc<dyn Control>,
    strangers: Arc<Mutex<Strangers>>,
}

impl Auditor {
    pub(crate) fn new(control: Arc<dyn Control>) -> Self {
        Self { control, strangers: Arc::default() }
    }

    /// Whether a request without an identity is written down, and of how many before it only the number is.
    fn admit_stranger(&self) -> Option<u64> {
        let now = self.control.now_unix_ms();
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner).admit(now)
    }
}

/// Requests of nobody within a minute.
#[derive(Debug, Default)]
struct Strangers {
    since_ms: u64,
    written: u32,
    left_out: u64,
}

impl Strangers {
    fn admit(&mut self, now_ms: u64) -> Option<u64> {
        // A clock that went back begins a minute, too.
        if now_ms.abs_diff(self.since_ms) >= 60_000 {
            (self.since_ms, self.written) = (now_ms, 0);
        }
        if self.written == STRANGERS_A_MINUTE {
            self.left_out += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// Middleware: writes down every request that changes guests, whatever became of it; of those without an identity, which are
/// refused, a few a minute and the number of the others. Inside of `identify`.
pub(crate) async fn record(State(auditor): State<Auditor>, mut request: Request, next: Next) -> Response {
    let Some(entry) = begun(&request) else { return next.run(request).await };
    let stranger = request.extensions().get::<Identity>().is_none();
    let note = Note::default();
    request.extensions_mut().insert(note.clone());
    let mut pending = Pending { control: Arc::clone(&auditor.control), entry: Some(entry), note };
    let response = next.run(request).await;
    let problem = response.extensions().get::<Problem>();
    let result = match problem {
        Some(problem) => problem.kind().name(),
        None if response.status().is_success() => "done",
        None => "refused",
    };
    let detail = problem.map(|p| bounded(p.detail()));
    let Some(mut entry) = pending.finished(result, detail) else { return response };
    if stranger && result != "done" {
        match auditor.admit_stranger() {
            None => return response,
            Some(0) => {}
            Some(more) => {
                let told = entry.detail.unwrap_or_default();
                entry.detail = Some(format!("{told} (and {more} more requests without a token before it)"));
            }
        }
    }
    write(auditor.control.as_ref(), entry).await;
    response
}

async fn write(control: &dyn Control, entry: AuditEntry) {
    let kept = entry.clone();
    if let Err(error) = control.audit(entry).await {
        // What was done cannot be undone: the log is the only place left to keep it.
        tracing::error!(?error, entry = ?kept, "The audit log cannot be written.");
    }
}

/// The entry of a request that changes guests; `None` for others.
fn begun(request: &Request) -> Option<AuditEntry> {
    let route = request.extensions().get::<MatchedPath>()?.as_str().to_owned();
    let method = request.method();
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) || !is_about_guests(&route) {
        return None;
    }
    let action = match (method.as_str(), route.as_str()) {
        ("POST", "/api/v1/guests") => "upload".to_owned(),
        ("POST", "/api/v1/guests/pull") => "pull".to_owned(),
        ("DELETE", "/api/v1/guests/{reference}") => "delete".to_owned(),
        // The body may say that it is only a dry run: the handler notes that.
        ("PUT", "/api/v1/cameras/{id}/guests/{slot}") => "swap".to_owned(),
        ("POST", "/api/v1/cameras/{id}/guests/{slot}/rollback") => "rollback".to_owned(),
        ("PUT", "/api/v1/cameras/{id}/guests/{slot}/shadow") => "shadow".to_owned(),
        ("DELETE", "/api/v1/cameras/{id}/guests/{slot}/shadow") => "shadow-end".to_owned(),
        ("POST", "/api/v1/cameras/{id}/guests/{slot}/shadow/promote") => "shadow-promote".to_owned(),
        ("POST", "/api/v1/cameras/{id}/guests/{slot}/record") => "record".to_owned(),
        ("POST", "/api/v1/rollouts") => "rollout".to_owned(),
        ("POST", "/api/v1/rollouts/{id}/stop") => "rollout-stop".to_owned(),
        ("POST", "/camera/start") | ("PUT", "/api/v1/cameras/{id}") => "camera-start".to_owned(),
        ("POST", "/camera/stop") | ("DELETE", "/api/v1/cameras/{id}") => "camera-stop".to_owned(),
        (method, route) => format!("{method} {route}"),
    };
    let parts: Vec<&str> = request.uri().path().split('/').collect();
    let place = match parts.as_slice() {
        ["", "api", "v1", "cameras", camera, "guests", slot, ..] => bounded(&format!("{camera}/{slot}")),
        ["", "api", "v1", "cameras", camera] => bounded(camera),
        ["", "api", "v1", "rollouts", id, ..] => bounded(&format!("rollout/{id}")),
        // Which one it is the handler notes, once it is known.
        ["", "api", "v1", "rollouts"] => "rollout".to_owned(),
        ["", "camera", _] => "camera".to_owned(),
        _ => "store".to_owned(),
    };
    let extensions = request.extensions();
    let who = extensions.get::<Identity>().map_or_else(|| "unknown".to_owned(), |i| i.name.to_string());
    let peer = extensions.get::<Peer>().map(|p| p.0.to_string());
    Some(AuditEntry { who, peer, action, place, ..AuditEntry::default() })
}

/// Whether a route that changes something changes which guests there are, or which of them run.
fn is_about_guests(route: &str) -> bool {
    route.contains("/guests")
        || route.starts_with("/api/v1/rollouts")
        || matches!(route, "/api/v1/cameras/{id}" | "/camera/start" | "/camera/stop")
}

fn bounded(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_nobody_cannot_push_out_what_others_did() {
        let mut strangers = Strangers::default();
        let first: Vec<_> = (0..1000).filter_map(|n| strangers.admit(1_000_000 + n)).collect();
        assert_eq!(first, [0; 6]);
        assert_eq!(strangers.admit(1_060_000), Some(994), "the next minute tells of them");
        assert_eq!(strangers.admit(1_060_001), Some(0));
        assert_eq!(strangers.admit(900_000), Some(0), "a clock set back");
    }
}
