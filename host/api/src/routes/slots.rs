//! The slots of a camera: what runs in them, how it is changed, what was changed.

use axum::extract::State;
use axum::{Extension, Json};
use facestream_core::guest::SlotKind;

use super::camera_id;
use crate::audit::Note;
use crate::auth::Identity;
use crate::control::ControlError;
use crate::extract::{JsonBody, PathParams};
use crate::problem::{Kind, Problem};
use crate::router::App;
use crate::views::slot_requests::SwapRequest;
use crate::views::slots::{ChangeView, HistoryView, SlotList, SlotView, SwapView};
use crate::views::trials::{DryRunView, SwapAnswer};

/// List the guests of a camera
#[utoipa::path(get, path = "/api/v1/cameras/{id}/guests", tag = "slots", operation_id = "list_slots",
    params(("id" = String, Path, description = "Name of the camera")), responses(
    (status = 200, description = "Its slots in the order in which a frame passes them.", body = SlotList),
))]
pub(crate) async fn slots(
    State(app): State<App>,
    PathParams(id): PathParams<String>,
) -> Result<Json<SlotList>, Problem> {
    let status = app.camera(&camera_id(&id)?)?;
    Ok(Json(SlotList { slots: status.slots.into_iter().map(SlotView::from).collect() }))
}

pub(super) fn slot_kind(text: &str) -> Result<SlotKind, Problem> {
    text.parse().map_err(|detail| Problem::new(Kind::UnknownSlot, detail))
}

/// Show the guest in a slot
#[utoipa::path(get, path = "/api/v1/cameras/{id}/guests/{slot}", tag = "slots", operation_id = "show_slot",
    params(("id" = String, Path, description = "Name of the camera"),
           ("slot" = String, Path, description = "`tracker`, `scorer` or `formatter`")), responses(
    (status = 200, description = "The slot.", body = SlotView),
))]
pub(crate) async fn slot(
    State(app): State<App>,
    PathParams((id, slot)): PathParams<(String, String)>,
) -> Result<Json<SlotView>, Problem> {
    let (id, kind) = (camera_id(&id)?, slot_kind(&slot)?);
    let status = app.camera(&id)?;
    let slot = status.slots.into_iter().find(|s| s.slot == kind);
    slot.map(|s| Json(s.into())).ok_or_else(|| {
        Problem::new(Kind::Unavailable, format!("the {kind} of camera `{id}` has not been set up yet; try again"))
    })
}

/// Change the guest in a slot
///
/// Another guest takes over between two frames, with its state. It is loaded, compiled, configured and tried on made-up
/// frames first. The guest before is kept for `probation_frames` and comes back with the state when the new one fails
/// meanwhile; `history` tells. When only settings differ from what runs, as with a body of `config` alone, they are tried in
/// the same way, and the guest that runs takes them as it is, without probation; one that cannot is replaced by an instance of
/// its own. A body that names a guest means all of it: limits and policy that are left out are the host's own again. When
/// anything fails, the old guest goes on, but for one thing: where only writing the change down fails (a full disk), it is
/// made, and a 503 says so. With `dry_run` nothing changes: a throw-away instance gets the present state and the last
/// seconds, and the answer is a report of the differences.
#[utoipa::path(put, path = "/api/v1/cameras/{id}/guests/{slot}", tag = "slots", operation_id = "swap_guest",
    params(("id" = String, Path, description = "Name of the camera"),
           ("slot" = String, Path, description = "`tracker`, `scorer` or `formatter`")),
    request_body = SwapRequest, responses(
    (status = 200, description = "The new guest runs; with `dry_run`, what would have come of it.", body = SwapAnswer),
))]
pub(crate) async fn swap(
    State(app): State<App>,
    PathParams((id, slot)): PathParams<(String, String)>,
    identity: Option<Extension<Identity>>,
    Extension(note): Extension<Note>,
    JsonBody(request): JsonBody<SwapRequest>,
) -> Result<Json<SwapAnswer>, Problem> {
    let (id, kind) = (camera_id(&id)?, slot_kind(&slot)?);
    let dry_run = request.is_dry_run();
    if dry_run {
        // Before anything can be refused: nothing was to be changed.
        note.action("swap-dry-run");
    }
    let runs = if request.is_for_the_same_guest() { Some(app.control.slot_wish(&id, kind).await?) } else { None };
    let change = request.checked(who(identity), runs)?;
    note.guest(&change.wanted.guest);
    if dry_run {
        let report = app.control.dry_run(&id, kind, change).await?;
        return Ok(Json(SwapAnswer::DryRun(DryRunView(report))));
    }
    let report = app.control.swap(&id, kind, change).await?;
    note.digest(&report.new_digest);
    Ok(Json(SwapAnswer::Swapped(report.into())))
}

/// Go back to the guest before
///
/// With its settings and limits, state carried over, without probation. Asked again, it goes forward again.
#[utoipa::path(post, path = "/api/v1/cameras/{id}/guests/{slot}/rollback", tag = "slots", operation_id = "roll_back_guest",
    params(("id" = String, Path, description = "Name of the camera"),
           ("slot" = String, Path, description = "`tracker`, `scorer` or `formatter`")), responses(
    (status = 200, description = "The guest before runs.", body = SwapView),
))]
pub(crate) async fn roll_back(
    State(app): State<App>,
    PathParams((id, slot)): PathParams<(String, String)>,
    identity: Option<Extension<Identity>>,
    Extension(note): Extension<Note>,
) -> Result<Json<SwapView>, Problem> {
    let (id, kind) = (camera_id(&id)?, slot_kind(&slot)?);
    let report = app.control.roll_back(&id, kind, &who(identity)).await?;
    note.digest(&report.new_digest);
    Ok(Json(report.into()))
}

/// Show what was changed in a slot
///
/// The latest changes, the newest first: when, who, from what to what, and what became of it. Kept until the camera is
/// stopped, over restarts of the host too.
#[utoipa::path(get, path = "/api/v1/cameras/{id}/guests/{slot}/history", tag = "slots", operation_id = "slot_history",
    params(("id" = String, Path, description = "Name of the camera"),
           ("slot" = String, Path, description = "`tracker`, `scorer` or `formatter`")), responses(
    (status = 200, description = "At most 50 changes.", body = HistoryView),
))]
pub(crate) async fn history(
    State(app): State<App>,
    PathParams((id, slot)): PathParams<(String, String)>,
) -> Result<Json<HistoryView>, Problem> {
    let (id, kind) = (camera_id(&id)?, slot_kind(&slot)?);
    let changes = app.control.slot_history(&id, kind).ok_or(ControlError::UnknownCamera(id))?;
    Ok(Json(HistoryView { changes: changes.into_iter().map(ChangeView::from).collect() }))
}

/// Name of the token that asks.
pub(super) fn who(identity: Option<Extension<Identity>>) -> String {
    identity.map_or_else(|| "anonymous".to_owned(), |Extension(identity)| identity.name.to_string())
}
