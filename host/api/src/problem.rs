//! Problem documents (RFC 9457): the one form in which every request that fails is answered.
//!
//! Owns the closed list of problem kinds, their statuses and the body's shape. Must not say anything to a client that
//! belongs in the log: an inside reason is attached as `source`, logged once, and never serialised.

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::control::{ControlError, FieldProblem};

/// MIME type of a problem document.
pub const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! kinds {
    ($($(#[$meta:meta])* $variant:ident = $name:literal, $status:ident, $title:literal;)+) => {
        /// The kinds of problems, each with its name, status and title.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[$meta])* $variant),+ }
        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// Last part of the problem's `type`.
            #[must_use]
            pub fn name(self) -> &'static str { match self { $(Self::$variant => $name),+ } }
            /// HTTP status.
            #[must_use]
            pub fn status(self) -> StatusCode { match self { $(Self::$variant => StatusCode::$status),+ } }
            /// One line that is the same for all of the kind.
            #[must_use]
            pub fn title(self) -> &'static str { match self { $(Self::$variant => $title),+ } }
        }
    };
}

kinds! {
    /// The body is no JSON, or the query string makes no sense.
    Malformed = "malformed-request", BAD_REQUEST, "The request cannot be read";
    /// Readable, but fields are missing, unknown, of the wrong type or out of range.
    Invalid = "invalid-request", UNPROCESSABLE_ENTITY, "The request has fields that are wrong";
    /// No or a wrong token.
    Unauthorized = "unauthorized", UNAUTHORIZED, "A bearer token is needed";
    /// The token's role does not reach so far.
    Forbidden = "forbidden", FORBIDDEN, "The token's role does not allow this";
    /// A web page of another origin made the request.
    CrossOrigin = "cross-origin", FORBIDDEN, "Requests from pages of another origin are refused";
    /// The `Host` header names a host that this is not.
    WrongHost = "wrong-host", MISDIRECTED_REQUEST, "The Host header names another host";
    /// No such route.
    NoRoute = "not-found", NOT_FOUND, "There is nothing at this address";
    /// Route exists, method does not.
    Method = "method-not-allowed", METHOD_NOT_ALLOWED, "The address does not take this method";
    /// No such camera.
    UnknownCamera = "unknown-camera", NOT_FOUND, "No such camera";
    /// No such worker.
    UnknownWorker = "unknown-worker", NOT_FOUND, "No such worker";
    /// No such guest.
    UnknownGuest = "unknown-guest", NOT_FOUND, "No such guest";
    /// No such slot.
    UnknownSlot = "unknown-slot", NOT_FOUND, "No such slot";
    /// No picture was analysed yet.
    NoPicture = "no-picture-yet", NOT_FOUND, "The camera has no picture yet";
    /// The id is taken.
    CameraConflict = "camera-conflict", CONFLICT, "The camera exists with other settings";
    /// The guest store stands against it.
    GuestConflict = "guest-conflict", CONFLICT, "The guest store stands against it";
    /// The component was refused.
    GuestRefused = "guest-refused", UNPROCESSABLE_ENTITY, "The guest cannot be used";
    /// A rollback without a guest before.
    NothingBefore = "no-guest-before", CONFLICT, "The slot has had no guest before this one";
    /// No candidate beside the guest of a slot.
    NoCandidate = "no-candidate", NOT_FOUND, "No candidate runs beside the guest";
    /// No such recording.
    UnknownRecording = "unknown-recording", NOT_FOUND, "No such recording";
    /// No such rollout.
    UnknownRollout = "unknown-rollout", NOT_FOUND, "No such rollout";
    /// A rollout stands against it.
    RolloutConflict = "rollout-conflict", CONFLICT, "A rollout stands against it";
    /// Calls of guests that are no longer kept.
    NotKept = "not-kept", NOT_FOUND, "What is asked for is not kept, or no longer";
    /// A registry that is not allowed.
    RegistryNotAllowed = "registry-not-allowed", FORBIDDEN, "The host pulls from no such registry";
    /// The registry has no such artifact.
    NotInRegistry = "not-in-registry", NOT_FOUND, "The registry has no such artifact";
    /// The registry was not reached, said no, or sent something else.
    RegistryFailed = "registry-failed", BAD_GATEWAY, "The registry did not deliver";
    /// Body, or what was to be pulled, over the limit.
    TooLarge = "too-large", PAYLOAD_TOO_LARGE, "The body is too large";
    /// Content type is not the one expected.
    MediaType = "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE, "The content type is not the one expected";
    /// The body, or the answer, took too long.
    Timeout = "timeout", GATEWAY_TIMEOUT, "The request took too long";
    /// As many as can be served of this kind are being served.
    Busy = "busy", TOO_MANY_REQUESTS, "Too many of these requests at once";
    /// No room for another camera.
    NoCapacity = "no-capacity", SERVICE_UNAVAILABLE, "The host has no room for this";
    /// Not now.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "Not possible at present";
    /// Readiness check failed.
    NotReady = "not-ready", SERVICE_UNAVAILABLE, "The host is not ready";
    /// Something broke.
    Internal = "internal", INTERNAL_SERVER_ERROR, "Something broke inside the host";
}

/// A request that failed.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    errors: Vec<FieldProblem>,
}

/// Problem document of RFC 9457.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody<'a> {
    /// `urn:facestream:problem:<kind>`: what programs should look at.
    #[serde(rename = "type")]
    #[schema(example = "urn:facestream:problem:unknown-camera")]
    kind: String,
    /// The same for all problems of the type.
    #[schema(example = "No such camera")]
    title: &'a str,
    /// HTTP status.
    #[schema(example = 404)]
    status: u16,
    /// What went wrong this time, and what to do.
    #[schema(example = "no camera `front-door`")]
    detail: &'a str,
    /// `urn:facestream:request:<id>`: the same id stands in the host's log and in the `x-request-id` header.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "urn:facestream:request:6f1c2a-000012")]
    instance: Option<String>,
    /// Every single thing that is wrong, when there are several or when a place in the body can be named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ProblemError<'a>>,
}

/// One thing that is wrong with a request.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProblemError<'a> {
    /// JSON pointer (RFC 6901) to the place in the request's body.
    #[serde(skip_serializing_if = "str::is_empty")]
    #[schema(example = "/detect_fps")]
    pointer: &'a str,
    /// What is wrong there.
    detail: &'a str,
}

impl Problem {
    /// A problem with its own words.
    #[must_use]
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new() }
    }

    /// Adds the single things that are wrong.
    #[must_use]
    pub(crate) fn with_errors(mut self, errors: Vec<FieldProblem>) -> Self {
        self.errors = errors;
        self
    }

    /// A request whose fields are wrong; the detail counts or repeats them.
    #[must_use]
    pub(crate) fn invalid(errors: Vec<FieldProblem>) -> Self {
        let detail = match errors.as_slice() {
            [one] if one.pointer.is_empty() => one.detail.clone(),
            [one] => format!("{}: {}", one.pointer, one.detail),
            many => format!("{} fields are wrong; `errors` names each", many.len()),
        };
        Self::new(Kind::Invalid, detail).with_errors(errors)
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What went wrong this time.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    fn render(&self, instance: Option<String>) -> Response {
        let errors = self.errors.iter().map(|e| ProblemError { pointer: &e.pointer, detail: &e.detail }).collect();
        let body = ProblemBody {
            kind: format!("urn:facestream:problem:{}", self.kind.name()),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: &self.detail,
            instance,
            errors,
        };
        let mut response = (self.kind.status(), Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        match self.kind {
            Kind::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"facestream\""));
            }
            Kind::Busy | Kind::Unavailable | Kind::NoCapacity | Kind::NotReady => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        response
    }
}

impl IntoResponse for Problem {
    /// Rendered at once, and carried along so that [`finish`] can add the request's id.
    fn into_response(self) -> Response {
        let mut response = self.render(None);
        response.extensions_mut().insert(self);
        response
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        let detail = error.to_string();
        let kind = match error {
            ControlError::UnknownCamera(_) => Kind::UnknownCamera,
            ControlError::UnknownWorker(_) => Kind::UnknownWorker,
            ControlError::UnknownGuest { .. } => Kind::UnknownGuest,
            ControlError::CameraConflict { .. } => Kind::CameraConflict,
            ControlError::GuestConflict(_) => Kind::GuestConflict,
            ControlError::GuestRefused(_) => Kind::GuestRefused,
            ControlError::NothingBefore(_) => Kind::NothingBefore,
            ControlError::NoCandidate(_) => Kind::NoCandidate,
            ControlError::UnknownRecording(_) => Kind::UnknownRecording,
            ControlError::UnknownRollout(_) => Kind::UnknownRollout,
            ControlError::RolloutConflict(_) => Kind::RolloutConflict,
            ControlError::NotKept(_) => Kind::NotKept,
            ControlError::RegistryNotAllowed(_) => Kind::RegistryNotAllowed,
            ControlError::NotInRegistry(_) => Kind::NotInRegistry,
            ControlError::RegistryFailed(_) => Kind::RegistryFailed,
            ControlError::TooLarge(_) => Kind::TooLarge,
            ControlError::Invalid(errors) => return Self::invalid(errors),
            ControlError::NoCapacity(_) => Kind::NoCapacity,
            ControlError::Unavailable(_) => Kind::Unavailable,
            ControlError::Internal(source) => {
                // Inside the request's span, so the line carries the id that the client is told.
                tracing::error!(error = %Chain(source.as_ref()), "A request failed inside the host.");
                return Self::new(Kind::Internal, "the host's log has the reason under this request's id");
            }
        };
        Self::new(kind, detail)
    }
}

/// An error and what caused it, on one line.
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Id of one request, for logs and answers.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

/// Middleware: gives each problem the id of its request, and turns failures that the router made itself (an unknown
/// address, a method that is not taken) into problems too.
pub(crate) async fn finish(request: Request, next: Next) -> Response {
    let id = request.extensions().get::<RequestId>().cloned();
    let place = format!("{} {}", request.method(), request.uri().path());
    let mut response = next.run(request).await;
    let problem = match response.extensions_mut().remove::<Problem>() {
        Some(problem) => problem,
        None => match response.status() {
            StatusCode::METHOD_NOT_ALLOWED => {
                // The router adds that header behind all layers, so its value cannot be told here.
                Problem::new(Kind::Method, format!("{place} is not possible; the header `Allow` says what is"))
            }
            StatusCode::NOT_FOUND => {
                Problem::new(Kind::NoRoute, format!("nothing at {place}; /docs lists what there is"))
            }
            _ => return response,
        },
    };
    problem.render(id.map(|id| format!("urn:facestream:request:{}", id.0)))
}
