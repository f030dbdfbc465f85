//! The three calls of the first FaceStream, with their exact shapes.

use axum::extract::State;
use axum::{Extension, Json};

use super::cameras::note_start;
use crate::audit::Note;
use crate::control::CameraRef;
use crate::extract::JsonBody;
use crate::problem::Problem;
use crate::router::App;
use crate::views::requests::{StartRequest, StopRequest};
use crate::views::responses::{LegacyCamera, LegacyStatus, StartResponse, StopResponse};

/// Start a camera
///
/// Answers at once, before the camera is reached: one that cannot be reached is tried again and again. The same request
/// again is no change, also when guests were swapped since; another one under the same `camera_id` is a conflict.
#[utoipa::path(post, path = "/camera/start", tag = "first FaceStream", request_body = StartRequest, responses(
    (status = 200, description = "The camera is wanted.", body = StartResponse),
))]
pub(crate) async fn start(
    State(app): State<App>,
    Extension(note): Extension<Note>,
    JsonBody(request): JsonBody<StartRequest>,
) -> Result<Json<StartResponse>, Problem> {
    let spec = request.into_spec(app.control.defaults())?;
    note_start(&note, &spec);
    let started = app.control.start(spec).await?;
    Ok(Json(StartResponse { status: "running", worker_id: started.worker_id }))
}

/// Stop a camera
///
/// Names it by `camera_id` or by `worker_id`. What is on its way is still delivered.
#[utoipa::path(post, path = "/camera/stop", tag = "first FaceStream", request_body = StopRequest, responses(
    (status = 200, description = "The camera is no longer wanted.", body = StopResponse),
))]
pub(crate) async fn stop(
    State(app): State<App>,
    Extension(note): Extension<Note>,
    JsonBody(request): JsonBody<StopRequest>,
) -> Result<Json<StopResponse>, Problem> {
    let which = request.camera()?;
    match &which {
        CameraRef::Camera(id) => note.place(id.as_str()),
        CameraRef::Worker(worker) => {
            // Its name, where there is one: a worker's number means nothing once it is gone.
            let mut named = None;
            app.control
                .each_brief(&mut |c| named = named.take().or_else(|| (c.worker == *worker).then(|| c.camera.clone())));
            note.place(&named.map_or_else(|| format!("worker/{worker}"), |id| id.to_string()));
        }
    }
    app.control.stop(which).await?;
    Ok(Json(StopResponse { status: "stopped" }))
}

/// List cameras briefly
///
/// Exactly the first FaceStream's four fields a camera; `GET /api/v1/cameras` says more.
#[utoipa::path(get, path = "/camera/status", tag = "first FaceStream", responses(
    (status = 200, description = "Every camera that is wanted.", body = LegacyStatus),
))]
pub(crate) async fn status(State(app): State<App>) -> Json<LegacyStatus> {
    let mut active_cameras = Vec::new();
    app.control.each_brief(&mut |brief| {
        active_cameras.push(LegacyCamera {
            camera_id: brief.camera.clone(),
            fps: whole_fps(brief.fps),
            status: brief.state.as_str(),
            worker_id: brief.worker,
        });
    });
    Json(LegacyStatus { active_cameras })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped; NaN becomes 0")]
fn whole_fps(fps: f64) -> u32 {
    fps.round().clamp(0.0, 1e6) as u32
}

#[cfg(test)]
mod tests {
    #[test]
    fn rates_are_whole_numbers() {
        for (fps, whole) in [(29.97, 30), (0.4, 0), (-1.0, 0), (f64::NAN, 0), (f64::INFINITY, 1_000_000)] {
            assert_eq!(super::whole_fps(fps), whole);
        }
    }
}
