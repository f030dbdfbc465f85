//! Puts the routes together: which role each group needs, and what every request passes on its way.
//!
//! Owns the order of the layers. A route that is not in one of the groups here does not exist.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use facestream_core::{CameraId, CameraStatus};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::audit;
use crate::auth::{self, Access, Role};
use crate::config::ServerConfig;
use crate::control::{Control, ControlError};
use crate::extract::MAX_JSON_BYTES;
use crate::guard::{self, Hosts, Observer};
use crate::openapi;
use crate::problem::{self, Problem};
use crate::routes::{cameras, events, guests, legacy, pages, rollouts, slots, system, trials};

/// Uploads and pulls held in memory at once.
const UPLOADS_AT_ONCE: usize = 2;

/// What handlers share.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) control: Arc<dyn Control>,
    pub(crate) max_upload_bytes: usize,
    /// One permit an upload or a pull.
    pub(crate) uploads: Arc<Semaphore>,
    /// One permit a listener of events.
    pub(crate) listeners: Arc<Semaphore>,
    /// Ends the streams of events.
    pub(crate) shutdown: CancellationToken,
    pub(crate) observer: Observer,
}

impl App {
    /// The status of a camera that was named in the path.
    pub(crate) fn camera(&self, id: &CameraId) -> Result<CameraStatus, Problem> {
        self.control.status(id).ok_or_else(|| ControlError::UnknownCamera(id.clone()).into())
    }
}

/// Time limits by group.
#[derive(Clone, Copy)]
struct Limits {
    usual: Duration,
    slow: Duration,
    upload_bytes: usize,
}

/// The whole API. `listen` is the address it will be served on: on loopback the `Host` header is checked. Cancelling
/// `shutdown` ends the streams of events, which otherwise would keep their connections for ever.
pub fn router(
    control: Arc<dyn Control>,
    config: &ServerConfig,
    listen: SocketAddr,
    shutdown: CancellationToken,
) -> Router {
    let app = App {
        control,
        max_upload_bytes: config.max_upload_bytes,
        uploads: Arc::new(Semaphore::new(UPLOADS_AT_ONCE)),
        listeners: Arc::new(Semaphore::new(config.max_event_clients)),
        shutdown,
        observer: Observer::default(),
    };
    let limits = Limits {
        usual: Duration::from_millis(config.request_timeout_ms),
        slow: Duration::from_millis(config.slow_request_timeout_ms),
        upload_bytes: config.max_upload_bytes,
    };
    let observer = app.observer.clone();
    let auditor = audit::Auditor::new(Arc::clone(&app.control));
    let (api, document) = api(limits).split_for_parts();
    let document = openapi::finish(document);

    api.route("/openapi.json", get(move || pages::openapi(document.clone())))
        .route("/", get(pages::dashboard))
        .merge(pages::docs())
        .with_state(app)
        // The last layer added is the first that a request passes.
        .layer(from_fn_with_state(auditor, audit::record))
        .layer(from_fn_with_state(Access::new(config), auth::identify))
        .layer(from_fn_with_state(Hosts::new(config, listen), guard::check_origin))
        .layer(CatchPanicLayer::custom(guard::panicked))
        .layer(from_fn(problem::finish))
        .layer(from_fn_with_state(observer, guard::observe))
}

/// Routes with their document, by the role they need.
fn api(limits: Limits) -> OpenApiRouter<App> {
    let public = OpenApiRouter::new().routes(routes!(system::healthz)).routes(routes!(system::readyz));
    let viewer = OpenApiRouter::new()
        .routes(routes!(legacy::status))
        .routes(routes!(cameras::list))
        .routes(routes!(cameras::show))
        .routes(routes!(cameras::snapshot))
        .routes(routes!(slots::slots))
        .routes(routes!(slots::slot))
        .routes(routes!(slots::history))
        .routes(routes!(trials::shadow))
        .routes(routes!(trials::recordings))
        .routes(routes!(trials::explain))
        .routes(routes!(rollouts::list))
        .routes(routes!(rollouts::show))
        .routes(routes!(guests::list))
        .routes(routes!(guests::show))
        .routes(routes!(system::models))
        .routes(routes!(system::sinks))
        .routes(routes!(system::metrics))
        .routes(routes!(events::events));
    let operator = OpenApiRouter::new()
        .routes(routes!(legacy::start))
        .routes(routes!(legacy::stop))
        .routes(routes!(cameras::put))
        .routes(routes!(cameras::delete))
        .routes(routes!(trials::recording))
        .routes(routes!(trials::delete_recording))
        .routes(routes!(trials::drop_shadow))
        .routes(routes!(rollouts::stop));
    let operator_slow = OpenApiRouter::new()
        .routes(routes!(slots::swap))
        .routes(routes!(slots::roll_back))
        .routes(routes!(trials::record))
        .routes(routes!(trials::start_shadow))
        .routes(routes!(trials::promote_shadow))
        .routes(routes!(rollouts::start));
    let admin = OpenApiRouter::new().routes(routes!(guests::delete)).routes(routes!(guests::audit));
    let admin_slow = OpenApiRouter::new().routes(routes!(guests::pull));
    let admin_upload = OpenApiRouter::new().routes(routes!(guests::upload));

    // Room for the other fields of a form beside the component.
    let upload_body = limits.upload_bytes.saturating_add(64 << 10);
    OpenApiRouter::with_openapi(openapi::document())
        .merge(group(public, None, limits.usual, MAX_JSON_BYTES))
        .merge(group(viewer, Some(Role::Viewer), limits.usual, MAX_JSON_BYTES))
        .merge(group(operator, Some(Role::Operator), limits.usual, MAX_JSON_BYTES))
        .merge(group(operator_slow, Some(Role::Operator), limits.slow, MAX_JSON_BYTES))
        .merge(group(admin, Some(Role::GuestAdmin), limits.usual, MAX_JSON_BYTES))
        .merge(group(admin_slow, Some(Role::GuestAdmin), limits.slow, MAX_JSON_BYTES))
        .merge(group(admin_upload, Some(Role::GuestAdmin), limits.slow, upload_body))
}

fn group(mut routes: OpenApiRouter<App>, role: Option<Role>, time: Duration, body: usize) -> OpenApiRouter<App> {
    openapi::describe_access(routes.get_openapi_mut(), role);
    let routes =
        routes.route_layer(DefaultBodyLimit::max(body)).route_layer(from_fn_with_state(time, guard::limit_time));
    match role {
        Some(role) => routes.route_layer(from_fn_with_state(role, auth::require)),
        None => routes,
    }
}

/// The document of all routes, without serving them.
pub(crate) fn whole_document() -> utoipa::openapi::OpenApi {
    let limits = Limits { usual: Duration::ZERO, slow: Duration::ZERO, upload_bytes: 0 };
    openapi::complete(api(limits).into_openapi())
}
