//! Models, sinks, health, readiness and metrics.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use crate::auth::Identity;
use crate::control::{ControlError, FieldProblem};
use crate::metrics::{self, OPENMETRICS};
use crate::problem::{Kind, Problem};
use crate::router::App;
use crate::views::responses::{Health, ModelList, ModelView, SinkList, SinkView};

/// Asks the host on a thread where that may block: GPUs answer for some of it, and a driver in trouble answers late.
async fn asked<T: Send + 'static>(ask: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    Ok(tokio::task::spawn_blocking(ask).await.map_err(ControlError::internal)?)
}

/// List models
#[utoipa::path(get, path = "/api/v1/models", tag = "system", operation_id = "list_models", responses(
    (status = 200, description = "The models that cameras can name.", body = ModelList),
))]
pub(crate) async fn models(State(app): State<App>) -> Json<ModelList> {
    Json(ModelList { models: app.control.models().into_iter().map(ModelView::from).collect() })
}

/// List sinks
#[utoipa::path(get, path = "/api/v1/sinks", tag = "system", operation_id = "list_sinks", responses(
    (status = 200, description = "Where messages go, and how that is doing.", body = SinkList),
))]
pub(crate) async fn sinks(State(app): State<App>) -> Json<SinkList> {
    Json(SinkList { sinks: app.control.sinks().into_iter().map(SinkView::from).collect() })
}

/// Alive?
#[utoipa::path(get, path = "/healthz", tag = "system", responses(
    (status = 200, description = "The process answers.", body = Health),
))]
pub(crate) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// Ready for cameras?
///
/// 503 with the reasons in `errors` when it is not. The reasons are told only to those who may read.
#[utoipa::path(get, path = "/readyz", tag = "system", responses(
    (status = 200, description = "The host takes cameras.", body = Health),
))]
pub(crate) async fn readyz(
    State(app): State<App>,
    identity: Option<Extension<Identity>>,
) -> Result<Json<Health>, Problem> {
    let reasons = asked(move || app.control.not_ready()).await?;
    if reasons.is_empty() {
        return Ok(Json(Health { status: "ready", version: env!("CARGO_PKG_VERSION") }));
    }
    Err(match identity {
        Some(_) => Problem::new(Kind::NotReady, reasons.join("; "))
            .with_errors(reasons.into_iter().map(|reason| FieldProblem::new("", reason)).collect()),
        None => Problem::new(Kind::NotReady, "ask with a token for the reasons"),
    })
}

/// Metrics
///
/// OpenMetrics text, as Prometheus scrapes it.
#[utoipa::path(get, path = "/metrics", tag = "system", responses(
    (status = 200, description = "Numbers of cameras, guests, sinks and the host.", body = String, content_type = "application/openmetrics-text"),
))]
pub(crate) async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    let text = asked(move || metrics::render(app.control.as_ref(), &app.observer.metrics)).await?;
    let text = text.map_err(ControlError::internal)?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(OPENMETRICS))], text).into_response())
}
