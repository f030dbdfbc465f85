//! Rollouts: a guest for a slot of many cameras, one batch after another.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use super::slots::who;
use crate::audit::Note;
use crate::auth::Identity;
use crate::control::ControlError;
use crate::extract::{JsonBody, PathParams};
use crate::problem::{Kind, Problem};
use crate::router::App;
use crate::views::rollouts::{RolloutBody, RolloutList, RolloutView, StopBody};

/// Bring a guest to many cameras
///
/// One batch of cameras after another gets the guest as by a change of its slot, each time after the probation of the batch
/// before. A camera fails when the guest is refused there or fails, on probation or after it while the rollout goes on; when
/// more fail than `max_failures`, it stops, and cameras that were changed go back by themselves. Cameras that are stopped or
/// whose frames stay away are not waited for. It ends with the host: cameras keep what they have then.
#[utoipa::path(post, path = "/api/v1/rollouts", tag = "rollouts", operation_id = "start_rollout",
    request_body = RolloutBody, responses(
    (status = 202, description = "It has begun.", body = RolloutView, headers(("location" = String, description = "Its address"))),
))]
pub(crate) async fn start(
    State(app): State<App>,
    identity: Option<Extension<Identity>>,
    Extension(note): Extension<Note>,
    JsonBody(body): JsonBody<RolloutBody>,
) -> Result<Response, Problem> {
    note.guest(body.guest());
    let begun = app.control.start_rollout(body.checked(who(identity))?).await?;
    note.place(&format!("rollout/{}", begun.id));
    note.digest(&begun.digest);
    let location = format!("/api/v1/rollouts/{}", begun.id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(RolloutView::from(begun))).into_response())
}

/// List rollouts
///
/// Those under way and the latest that have ended, until the host is started again. What each changed is in the history of
/// its cameras' slots, too.
#[utoipa::path(get, path = "/api/v1/rollouts", tag = "rollouts", operation_id = "list_rollouts", responses(
    (status = 200, description = "At most 32.", body = RolloutList),
))]
pub(crate) async fn list(State(app): State<App>) -> Json<RolloutList> {
    Json(RolloutList { rollouts: app.control.rollouts().into_iter().map(RolloutView::from).collect() })
}

/// Show a rollout
#[utoipa::path(get, path = "/api/v1/rollouts/{id}", tag = "rollouts", operation_id = "show_rollout",
    params(("id" = u64, Path, description = "Number of the rollout")), responses(
    (status = 200, description = "How far it is, camera by camera.", body = RolloutView),
))]
pub(crate) async fn show(
    State(app): State<App>,
    PathParams(id): PathParams<String>,
) -> Result<Json<RolloutView>, Problem> {
    let id = rollout_id(&id)?;
    Ok(Json(app.control.rollout(id).ok_or(ControlError::UnknownRollout(id))?.into()))
}

/// Stop a rollout
///
/// After the step that is being made. With `roll_back` cameras that were changed go back, which takes a moment; else they keep
/// what they have, and a probation that runs goes on.
#[utoipa::path(post, path = "/api/v1/rollouts/{id}/stop", tag = "rollouts", operation_id = "stop_rollout",
    params(("id" = u64, Path, description = "Number of the rollout")),
    request_body = StopBody, responses(
    (status = 200, description = "It stops.", body = RolloutView),
))]
pub(crate) async fn stop(
    State(app): State<App>,
    PathParams(id): PathParams<String>,
    identity: Option<Extension<Identity>>,
    Extension(note): Extension<Note>,
    JsonBody(body): JsonBody<StopBody>,
) -> Result<Json<RolloutView>, Problem> {
    let stopped = app.control.stop_rollout(rollout_id(&id)?, body.roll_back, &who(identity)).await?;
    note.guest(&stopped.guest);
    note.digest(&stopped.digest);
    Ok(Json(stopped.into()))
}

/// A number from a path. What is none is a rollout that does not exist.
fn rollout_id(text: &str) -> Result<u64, Problem> {
    text.parse().map_err(|_| Problem::new(Kind::UnknownRollout, "there can be no such rollout: its id is a number"))
}
