//! The guest store: list, inspect, upload, pull, delete.

use axum::body::Body;
use axum::extract::multipart::MultipartError;
use axum::extract::{FromRequest, Multipart, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::SemaphorePermit;

use crate::audit::Note;
use crate::control::{FieldProblem, GuestUpload};
use crate::extract::{JsonBody, PathParams, QueryParams, mime_is};
use crate::problem::{Kind, Problem};
use crate::router::App;
use crate::views::requests::{AuditQuery, Binary, PullRequest, UploadForm, UploadQuery};
use crate::views::responses::{AuditList, GuestList, GuestView, PulledView};

/// List guests
#[utoipa::path(get, path = "/api/v1/guests", tag = "guests", operation_id = "list_guests", responses(
    (status = 200, description = "Every guest in the store.", body = GuestList),
))]
pub(crate) async fn list(State(app): State<App>) -> Result<Json<GuestList>, Problem> {
    let guests = app.control.guests().await?;
    let cameras = app.control.statuses();
    Ok(Json(GuestList { guests: guests.into_iter().map(|g| GuestView::new(g, &cameras)).collect() }))
}

/// Show a guest
#[utoipa::path(get, path = "/api/v1/guests/{reference}", tag = "guests", operation_id = "show_guest",
    params(("reference" = String, Path, description = "`name`, `name@version` or `sha256:<hex>`")), responses(
    (status = 200, description = "The guest.", body = GuestView),
))]
pub(crate) async fn show(
    State(app): State<App>,
    PathParams(reference): PathParams<String>,
) -> Result<Json<GuestView>, Problem> {
    let guest = app.control.guest(&reference).await?;
    Ok(Json(GuestView::new(guest, &app.control.statuses())))
}

/// Delete a guest
///
/// Not while a camera wants it, it runs as a candidate beside a guest or a rollout needs it, and not one that ships with
/// the host.
#[utoipa::path(delete, path = "/api/v1/guests/{reference}", tag = "guests", operation_id = "delete_guest",
    params(("reference" = String, Path, description = "`name`, `name@version` or `sha256:<hex>`")), responses(
    (status = 204, description = "The guest is gone."),
))]
pub(crate) async fn delete(
    State(app): State<App>,
    Extension(note): Extension<Note>,
    PathParams(reference): PathParams<String>,
) -> Result<StatusCode, Problem> {
    note.guest(&reference);
    if let Ok(guest) = app.control.guest(&reference).await {
        note.digest(&guest.digest);
    }
    app.control.remove_guest(&reference).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Upload a guest
///
/// Either the component itself as `application/wasm`, named by the query, or a form with the parts `name`, `version`,
/// `signature` and `component`. It is checked and compiled before the answer. The same bytes again are no change.
#[utoipa::path(post, path = "/api/v1/guests", tag = "guests", operation_id = "upload_guest", params(UploadQuery),
    request_body(content((Binary = "application/wasm"), (UploadForm = "multipart/form-data"))), responses(
    (status = 200, description = "The store held exactly this already.", body = GuestView),
    (status = 201, description = "The guest is stored.", body = GuestView, headers(("location" = String, description = "Its address"))),
))]
pub(crate) async fn upload(
    State(app): State<App>,
    Extension(note): Extension<Note>,
    QueryParams(query): QueryParams<UploadQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let _permit = permit(&app)?;
    let limit = app.max_upload_bytes;
    let upload = if mime_is(request.headers(), "application/wasm") {
        let component = read_bounded(request, limit).await?;
        GuestUpload { name: query.name, version: query.version, signature: query.signature, component }
    } else if mime_is(request.headers(), "multipart/form-data") {
        let form = Multipart::from_request(request, &app)
            .await
            .map_err(|rejection| Problem::new(Kind::Malformed, rejection.body_text()))?;
        read_form(form, query, limit).await?
    } else {
        return Err(Problem::new(
            Kind::MediaType,
            "send the component as `application/wasm`, or a `multipart/form-data` form with the part `component`",
        ));
    };
    let (created, guest) = add(&app, &note, upload).await?;
    Ok(answer(created, &guest.digest.clone(), Json(guest)))
}

/// Pull a guest from a registry
///
/// The artifact is named by the digest of its manifest, and its registry must be one of `[[registries.allow]]` in the
/// host's configuration. Everything is checked against the digests; from there on it goes the way of an upload, with the
/// same bounds and the same policy on signatures.
#[utoipa::path(post, path = "/api/v1/guests/pull", tag = "guests", operation_id = "pull_guest", request_body = PullRequest, responses(
    (status = 200, description = "The store held exactly this already.", body = PulledView),
    (status = 201, description = "The guest is stored.", body = PulledView, headers(("location" = String, description = "Its address"))),
))]
pub(crate) async fn pull(
    State(app): State<App>,
    Extension(note): Extension<Note>,
    JsonBody(request): JsonBody<PullRequest>,
) -> Result<Response, Problem> {
    note_name(&note, request.name.as_deref(), request.version.as_deref());
    let _permit = permit(&app)?;
    let reference = request.reference.as_str();
    if shows_no_credentials(reference) {
        note.source(reference);
    }
    let pulled = app.control.pull_guest(reference, app.max_upload_bytes).await?;
    note.source(&pulled.reference);
    let Some(version) = request.version.or(pulled.version) else {
        let problem = "is missing, and the artifact names none (annotation org.opencontainers.image.version)";
        return Err(Problem::invalid(vec![FieldProblem::new("/version", problem)]));
    };
    let upload = GuestUpload {
        name: Some(request.name.unwrap_or(pulled.name)),
        version: Some(version),
        signature: request.signature.or(pulled.signature),
        component: pulled.component,
    };
    let (created, guest) = add(&app, &note, upload).await?;
    let digest = guest.digest.clone();
    let view = PulledView { guest, source: pulled.reference, manifest_digest: pulled.manifest_digest };
    Ok(answer(created, &digest, Json(view)))
}

/// Components are held in memory until they are compiled, so only a few at once.
fn permit(app: &App) -> Result<SemaphorePermit<'_>, Problem> {
    let busy = |_| Problem::new(Kind::Busy, "other uploads are being taken; try again in a moment");
    app.uploads.try_acquire().map_err(busy)
}

/// Whether a reference that nobody has read yet may be written down.
fn shows_no_credentials(reference: &str) -> bool {
    reference.starts_with("oci://") && reference.rsplit_once("@sha256:").is_some_and(|(place, _)| !place.contains('@'))
}

fn note_name(note: &Note, name: Option<&str>, version: Option<&str>) {
    note.guest(&match (name, version) {
        (Some(name), Some(version)) => format!("{name}@{version}"),
        (name, _) => name.unwrap_or_default().to_owned(),
    });
}

/// Checks, stores and notes a component, wherever it came from; says whether it is new.
async fn add(app: &App, note: &Note, upload: GuestUpload) -> Result<(bool, GuestView), Problem> {
    note_name(note, upload.name.as_deref(), upload.version.as_deref());
    note.digest(&format!("sha256:{:x}", Sha256::digest(&upload.component)));
    check(&upload)?;
    let added = app.control.add_guest(upload).await?;
    Ok((added.created, GuestView::new(added.guest, &app.control.statuses())))
}

fn answer<T: Serialize>(created: bool, digest: &str, view: Json<T>) -> Response {
    if created {
        (StatusCode::CREATED, [(header::LOCATION, format!("/api/v1/guests/{digest}"))], view).into_response()
    } else {
        view.into_response()
    }
}

/// Show who did what with guests
///
/// Uploads, deletions, swaps and rollbacks, refused ones too, the newest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "guests", operation_id = "list_audit", params(AuditQuery), responses(
    (status = 200, description = "The latest entries.", body = AuditList),
))]
pub(crate) async fn audit(
    State(app): State<App>,
    QueryParams(query): QueryParams<AuditQuery>,
) -> Result<Json<AuditList>, Problem> {
    let limit = query.limit.unwrap_or(100);
    if !(1..=1000).contains(&limit) {
        return Err(Problem::new(Kind::Malformed, "limit must be from 1 to 1000"));
    }
    Ok(Json(AuditList { entries: app.control.audited(limit).await? }))
}

fn check(upload: &GuestUpload) -> Result<(), Problem> {
    let mut problems = Vec::new();
    let fits = |text: &str, usual: fn(u8) -> bool, more: &[u8]| {
        (1..=64).contains(&text.len())
            && text.bytes().next().is_some_and(usual)
            && text.bytes().all(|b| usual(b) || more.contains(&b))
    };
    if upload.name.as_deref().is_some_and(|name| !fits(name, |b| b.is_ascii_lowercase() || b.is_ascii_digit(), b"._-"))
    {
        problems.push(FieldProblem::new("/name", "must be 1 to 64 of a-z 0-9 . _ -, a letter or digit first"));
    }
    if upload.version.as_deref().is_some_and(|version| !fits(version, |b| b.is_ascii_alphanumeric(), b"._+-")) {
        problems.push(FieldProblem::new("/version", "must be 1 to 64 of A-Z a-z 0-9 . _ + -, a letter or digit first"));
    }
    if upload.component.is_empty() {
        problems.push(FieldProblem::new("/component", "is empty; a WebAssembly component is expected"));
    }
    if problems.is_empty() { Ok(()) } else { Err(Problem::invalid(problems)) }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(Kind::TooLarge, format!("a component may have at most {limit} bytes (server.max_upload_bytes)"))
}

fn cut_short() -> Problem {
    Problem::new(Kind::Malformed, "the body ended early or could not be read")
}

async fn read_bounded(request: Request, limit: usize) -> Result<Bytes, Problem> {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|n| n > limit) {
        return Err(too_large(limit));
    }
    let body: Body = request.into_body();
    let mut chunks = body.into_data_stream();
    // Grown as bytes come, not by what was announced: an announcement costs the sender nothing.
    let mut bytes = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| cut_short())?;
        if bytes.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

async fn read_form(mut form: Multipart, query: UploadQuery, limit: usize) -> Result<GuestUpload, Problem> {
    let refuse = |error: MultipartError| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(limit),
        _ => Problem::new(Kind::Malformed, "the form cannot be read; is its boundary right and its end there?"),
    };
    let (mut name, mut version, mut signature, mut component) = (query.name, query.version, query.signature, None);
    while let Some(mut part) = form.next_field().await.map_err(refuse)? {
        let part_name = part.name().unwrap_or_default().to_owned();
        let part_limit = if part_name == "component" { limit } else { 256 };
        let mut bytes = BytesMut::new();
        while let Some(chunk) = part.chunk().await.map_err(refuse)? {
            if bytes.len() + chunk.len() > part_limit {
                let small =
                    || Problem::invalid(vec![FieldProblem::new(format!("/{part_name}"), "is longer than 256 bytes")]);
                return Err(if part_name == "component" { too_large(limit) } else { small() });
            }
            bytes.extend_from_slice(&chunk);
        }
        let text = || {
            String::from_utf8(bytes.to_vec())
                .map_err(|_| Problem::invalid(vec![FieldProblem::new(format!("/{part_name}"), "is no UTF-8 text")]))
        };
        match part_name.as_str() {
            "name" => name = Some(text()?),
            "version" => version = Some(text()?),
            "signature" => signature = Some(text()?),
            "component" => component = Some(bytes.freeze()),
            _ => {
                return Err(Problem::invalid(vec![FieldProblem::new(
                    format!("/{part_name}"),
                    "is no part of this form; it has `name`, `version`, `signature` and `component`",
                )]));
            }
        }
    }
    let component = component.ok_or_else(|| {
        Problem::invalid(vec![FieldProblem::new("/component", "is missing: the part that holds the component")])
    })?;
    Ok(GuestUpload { name, version, signature, component })
}
