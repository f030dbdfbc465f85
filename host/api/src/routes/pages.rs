//! Pages for people: the dashboard, the browsable API, the document behind it.
//!
//! Hold no data of their own, so they need no token; the dashboard's script asks the API as any client does.

use std::sync::LazyLock;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::router::App;

/// One file: no other is fetched, none from elsewhere.
const DASHBOARD: &str = include_str!("../dashboard.html");

/// Lets exactly the page's own script and style run, and talk to nobody but us.
static DASHBOARD_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |tag: &str| {
        let inside =
            DASHBOARD.split_once(&format!("<{tag}>")).and_then(|(_, rest)| rest.split_once(&format!("</{tag}>")));
        let text = inside.map_or("", |(text, _)| text);
        STANDARD.encode(Sha256::digest(text.as_bytes()))
    };
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src 'self' blob:; connect-src 'self'; \
         form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style"),
    );
    HeaderValue::try_from(policy).expect("base64 and constant ASCII make a header value")
});

/// Swagger UI sets styles from its script; its pictures are data.
const DOCS_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
     form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
);

/// `/`
pub(crate) async fn dashboard() -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, DASHBOARD_POLICY.clone()),
    ];
    (headers, DASHBOARD).into_response()
}

/// `/openapi.json`
pub(crate) async fn openapi(document: Bytes) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], document).into_response()
}

/// `/docs`
pub(crate) fn docs() -> Router<App> {
    Router::<App>::from(SwaggerUi::new("/docs").config(Config::from("/openapi.json").validator_url("none"))).layer(
        map_response(|mut response: Response| async move {
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, DOCS_POLICY);
            response
        }),
    )
}
