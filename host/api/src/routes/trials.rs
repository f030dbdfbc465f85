//! Guests that are looked at and tried while nothing changes: recordings, candidates beside a guest, explanations.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use super::camera_id;
use super::slots::{slot_kind, who};
use crate::audit::Note;
use crate::auth::Identity;
use crate::extract::{JsonBody, PathParams, QueryParams};
use crate::problem::Problem;
use crate::router::App;
use crate::views::slot_requests::{GuestChoice, checked_probation};
use crate::views::slots::SwapView;
use crate::views::trials::{
    ExplainQuery, ExplanationView, PromoteQuery, RecordQuery, RecordingList, RecordingView, RecordingWrittenView,
    ShadowView,
};

/// Record a guest's last seconds
///
/// Writes what is kept of the calls of the guest in a slot (`guests.recorder`) to DATA/recordings: settings, calls, answers,
/// digests; pictures only with `guests.recorder.pictures`. `facestream guest replay FILE` runs it again.
#[utoipa::path(post, path = "/api/v1/cameras/{id}/guests/{slot}/record", tag = "trials", operation_id = "record_guest",
    params(("id" = String, Path, description = "Name of the camera"),
           ("slot" = String, Path, description = "`tracker`, `scorer` or `formatter`"), RecordQuery), responses(
    (status = 201, description = "It is on disk.", body = RecordingWrittenView),
))]
pub(crate) async fn record(
    State(app): State<App>,
    PathParams((id, slot)): PathParams<(String, String)>,
    QueryParams(query): QueryParams<RecordQuery>,
) -> Result<(StatusCode, Json<RecordingWrittenView>), Problem> {
    let (id, kind) = (camera_id(&id)?, slot_kind(&slot)?);
    let written = app.control.record(&id, kind, query.seconds).await?;
    Ok((StatusCode::CREATED, Json(written.into())))
}

/// List recordings
///
/// Those that were asked for, and those that were written because a guest failed or was replaced.
#[utoipa::path(get, path = "/api/v1/recordings", tag = "trials", operation_id = "list_recordings", responses(
    (status = 200, description = "What is on disk.", body = RecordingList),
))]
pub(crate) async fn recordings(State(app): State<App>) -> Result<Json<RecordingList>, Problem> {
    let recordings = app.control.recordings().await?;
    Ok(Json(RecordingList { recordings: recordings.into_iter().map(RecordingView::from).collect() }))
}

/// Download a recording
#[utoipa::path(get, path = "/api/v1/recordings/{name}", tag = "trials", operation_id = "download_recording",
    params(("name" = String, Path, description = "Name of the file")), responses(
    (status = 200, description = "The file.", body = Vec<u8>, content_type = "application/zip"),
))]
pub(crate) async fn recording(
    State(app): State<App>,
    PathParams(name): PathParams<String>,
) -> Result<Response, Problem> {
    let bytes = app.control.recording(&name).await?;
    Ok(([(header::CONTENT_TYPE, "application/zip"), (header::CACHE_CONTROL, "no-store")], bytes).into_response())
}

/// Delete a recording
#[utoipa::path(delete, path = "/api/v1/recordings/{name}", tag = "trials", operation_id = "delete_recording",
    params(("name" = String, Path, description = "Name of the file")), responses(
    (status = 204, description = "It is gone."),
))]
pub(crate) async fn delete_recording(
    State(app): State<App>,
    PathParams(name): PathParams<String>,
) -> Result<StatusCode, Problem> {
    app.control.remove_recording(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Run a candidate beside a guest
///
/// The candidate takes over the present state and is told what the guest in the slot is told, after its messages were handed
/// over. Its answers go to a comparison only. One that fails or takes too much time is given up. It ends with the camera and
/// with the host.
#[utoipa::path(put, path = "/api/v1/cameras/{id}/guests/{slot}/shadow", tag = "trials", operation_id = "start_shadow",
    params(("id" = String, Path, description = "Name of the camera"),
           ("slot" = String, Path, description = "`tracker`, `scorer` or `formatter`")),
    request_body = GuestChoice, responses(
    (status = 200, description = "It runs.", body = ShadowView),
))]
pub(crate) async fn start_shadow(
    State(app): State<App>,
    PathParams((id, slot)): PathParams<(String, String)>,
    Extension(note): Extension<Note>,
    JsonBody(choice): JsonBody<GuestChoice>,
) -> Result<Json<ShadowView>, Problem> {
    let (id, kind) = (camera_id(&id)?, slot_kind(&slot)?);
    let wanted = choice.checked()?;
    note.guest(&wanted.guest);
    Ok(Json(ShadowView(app.control.start_candidate(&id, kind, wanted).await?)))
}

/// Show how a candidate is doing
#[utoipa::path(get, path = "/api/v1/cameras/{id}/guests/{slot}/shadow", tag = "trials", operation_id = "show_shadow",
    params(("id" = String, Path, description = "Name of the camera"),
           ("slot" = String, Path, description = "`tracker`, `scorer` or `formatter`")), responses(
    (status = 200, description = "Its report.", body = ShadowView),
))]
pub(crate) async fn shadow(
    State(app): State<App>,
    PathParams((id, slot)): PathParams<(String, String)>,
) -> Result<Json<ShadowView>, Problem> {
    let (id, kind) = (camera_id(&id)?, slot_kind(&slot)?);
    Ok(Json(ShadowView(app.control.candidate(&id, kind).await?)))
}

/// End a candidate
#[utoipa::path(delete, path = "/api/v1/cameras/{id}/guests/{slot}/shadow", tag = "trials", operation_id = "drop_shadow",
    params(("id" = String, Path, description = "Name of the camera"),
           ("slot" = String, Path, description = "`tracker`, `scorer` or `formatter`")), responses(
    (status = 200, description = "Its last report.", body = ShadowView),
))]
pub(crate) async fn drop_shadow(
    State(app): State<App>,
    PathParams((id, slot)): PathParams<(String, String)>,
) -> Result<Json<ShadowView>, Problem> {
    let (id, kind) = (camera_id(&id)?, slot_kind(&slot)?);
    Ok(Json(ShadowView(app.control.drop_candidate(&id, kind).await?)))
}

/// Put a candidate into the slot
///
/// As a change of the slot does: a fresh instance takes over the state of the guest that runs, on probation. The candidate
/// ends when that went well. One that was given up is refused; a change of the slot would still try it.
#[utoipa::path(post, path = "/api/v1/cameras/{id}/guests/{slot}/shadow/promote", tag = "trials",
    operation_id = "promote_shadow",
    params(("id" = String, Path, description = "Name of the camera"),
           ("slot" = String, Path, description = "`tracker`, `scorer` or `formatter`"), PromoteQuery), responses(
    (status = 200, description = "The candidate's guest runs.", body = SwapView),
))]
pub(crate) async fn promote_shadow(
    State(app): State<App>,
    PathParams((id, slot)): PathParams<(String, String)>,
    QueryParams(query): QueryParams<PromoteQuery>,
    identity: Option<Extension<Identity>>,
    Extension(note): Extension<Note>,
) -> Result<Json<SwapView>, Problem> {
    let (id, kind) = (camera_id(&id)?, slot_kind(&slot)?);
    checked_probation(query.probation_frames)?;
    let report = app.control.promote_candidate(&id, kind, query.probation_frames, &who(identity)).await?;
    note.digest(&report.new_digest);
    Ok(Json(report.into()))
}

/// Explain a message
///
/// Tells the chain that made it, as far as the calls of the guests are still kept (`guests.recorder.seconds`).
#[utoipa::path(get, path = "/api/v1/explain", tag = "trials", operation_id = "explain_message",
    params(ExplainQuery), responses(
    (status = 200, description = "The chain.", body = ExplanationView),
))]
pub(crate) async fn explain(
    State(app): State<App>,
    QueryParams(query): QueryParams<ExplainQuery>,
) -> Result<Json<ExplanationView>, Problem> {
    Ok(Json(ExplanationView(app.control.explain(&query.message).await?)))
}
