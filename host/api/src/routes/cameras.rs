//! Cameras: starting, showing and stopping them. Their guests are in `slots`.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use facestream_core::guest::SlotKind;
use facestream_core::{CameraId, CameraSpec};

use super::camera_id;
use crate::audit::Note;
use crate::control::{CameraRef, FieldProblem};
use crate::extract::{JsonBody, PathParams};
use crate::problem::{Kind, Problem};
use crate::router::App;
use crate::views::requests::{Binary, CameraRequest};
use crate::views::responses::{CameraList, CameraView};

/// List cameras
#[utoipa::path(get, path = "/api/v1/cameras", tag = "cameras", operation_id = "list_cameras", responses(
    (status = 200, description = "Every camera that is wanted, by id.", body = CameraList),
))]
pub(crate) async fn list(State(app): State<App>) -> Json<CameraList> {
    Json(CameraList { cameras: app.control.statuses().into_iter().map(CameraView::from).collect() })
}

/// Show a camera
#[utoipa::path(get, path = "/api/v1/cameras/{id}", tag = "cameras", operation_id = "show_camera",
    params(("id" = String, Path, description = "Name of the camera")), responses(
    (status = 200, description = "The camera.", body = CameraView),
))]
pub(crate) async fn show(
    State(app): State<App>,
    PathParams(id): PathParams<String>,
) -> Result<Json<CameraView>, Problem> {
    Ok(Json(app.camera(&camera_id(&id)?)?.into()))
}

/// Want a camera
///
/// The same request again is no change, also when guests were swapped since. Another one under the same id is a conflict:
/// delete the camera first, or swap its guests.
#[utoipa::path(put, path = "/api/v1/cameras/{id}", tag = "cameras", operation_id = "put_camera",
    params(("id" = String, Path, description = "Name of the camera: 1 to 128 of `A-Z a-z 0-9 . _ : -`, a letter or digit first")),
    request_body = CameraRequest, responses(
    (status = 200, description = "The camera was wanted like this already.", body = CameraView),
    (status = 201, description = "The camera is wanted now.", body = CameraView, headers(("location" = String, description = "Its address"))),
))]
pub(crate) async fn put(
    State(app): State<App>,
    PathParams(id): PathParams<String>,
    Extension(note): Extension<Note>,
    JsonBody(request): JsonBody<CameraRequest>,
) -> Result<Response, Problem> {
    let id = CameraId::new(&id).map_err(|e| Problem::invalid(vec![FieldProblem::new("", e.to_string())]))?;
    let spec = request.into_spec(id.clone(), app.control.defaults())?;
    note_start(&note, &spec);
    let started = app.control.start(spec).await?;
    let view = Json(CameraView::from(app.camera(&id)?));
    Ok(if started.created {
        (StatusCode::CREATED, [(header::LOCATION, format!("/api/v1/cameras/{id}"))], view).into_response()
    } else {
        view.into_response()
    })
}

/// Notes for the audit log which camera is to start, with which guests. Nothing of its address.
pub(super) fn note_start(note: &Note, spec: &CameraSpec) {
    note.place(spec.id.as_str());
    note.guest(&SlotKind::ALL.map(|slot| spec.guests.slot(slot).guest.as_str()).join(", "));
}

/// Stop a camera
///
/// Where it cannot be forgotten (a full disk) it is stopped all the same, and a 503 says that it comes back with the next start
/// of the host.
#[utoipa::path(delete, path = "/api/v1/cameras/{id}", tag = "cameras", operation_id = "delete_camera",
    params(("id" = String, Path, description = "Name of the camera")), responses(
    (status = 204, description = "The camera is no longer wanted."),
))]
pub(crate) async fn delete(State(app): State<App>, PathParams(id): PathParams<String>) -> Result<StatusCode, Problem> {
    app.control.stop(CameraRef::Camera(camera_id(&id)?)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Show the latest picture
///
/// The latest analysed frame with its boxes.
#[utoipa::path(get, path = "/api/v1/cameras/{id}/snapshot.jpg", tag = "cameras", operation_id = "camera_snapshot",
    params(("id" = String, Path, description = "Name of the camera")), responses(
    (status = 200, description = "A JPEG picture.", body = Binary, content_type = "image/jpeg"),
))]
pub(crate) async fn snapshot(State(app): State<App>, PathParams(id): PathParams<String>) -> Result<Response, Problem> {
    let id = camera_id(&id)?;
    match app.control.snapshot(&id).await? {
        Some(jpeg) => Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg"))], jpeg).into_response()),
        None => {
            Err(Problem::new(Kind::NoPicture, format!("camera `{id}` has not had a frame analysed yet; try again")))
        }
    }
}
