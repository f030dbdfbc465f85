//! What every request passes before and after its handler: an id, the `Host` and `Origin` checks, a time limit,
//! headers that harden browsers, the count of requests.
//!
//! Must not know what a route does.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderName, HeaderValue, Method, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

use crate::config::ServerConfig;
use crate::metrics::RequestMetrics;
use crate::problem::{Kind, Problem, RequestId};

/// Hosts by which the API may be addressed.
#[derive(Clone, Debug)]
pub(crate) struct Hosts {
    /// `None`: any.
    names: Option<Arc<[String]>>,
}

impl Hosts {
    pub(crate) fn new(config: &ServerConfig, listen: SocketAddr) -> Self {
        if !listen.ip().is_loopback() && config.allow_hosts.is_empty() {
            return Self { names: None };
        }
        let mut names: Vec<String> = config.allow_hosts.iter().map(|h| h.to_ascii_lowercase()).collect();
        names.push("localhost".to_owned());
        names.push(listen.ip().to_string());
        Self { names: Some(names.into()) }
    }

    fn allows(&self, host: &str) -> bool {
        let Some(names) = &self.names else { return true };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        // An address that is loopback by itself cannot have been rebound by a name server.
        bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            || names.iter().any(|name| name.eq_ignore_ascii_case(host) || name.eq_ignore_ascii_case(bare))
    }
}

/// The authority that a request is addressed to: from an absolute target, else from `Host`.
fn authority(request: &Request) -> Result<Option<Authority>, ()> {
    if let Some(authority) = request.uri().authority() {
        return Ok(Some(authority.clone()));
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let Some(host) = hosts.next() else { return Ok(None) };
    if hosts.next().is_some() {
        return Err(());
    }
    Authority::try_from(host.as_bytes()).map(Some).map_err(|_| ())
}

/// Middleware: refuses requests that a browser was tricked into. A page of another origin can reach a service on
/// loopback by letting its own name point there (seen in the `Host` header), or by posting a form (seen in `Origin`).
pub(crate) async fn check_origin(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    let authority = match authority(&request) {
        Ok(Some(authority)) if !hosts.allows(authority.host()) => {
            return Problem::new(
                Kind::WrongHost,
                format!("`{}` is not a name of this host; add it to server.allow_hosts if it is one", authority.host()),
            )
            .into_response();
        }
        Ok(None) if request.version() == Version::HTTP_11 => {
            return Problem::new(Kind::Malformed, "a request of HTTP/1.1 needs one Host header (RFC 9112, 3.2)")
                .into_response();
        }
        Ok(authority) => authority,
        Err(()) => return Problem::new(Kind::WrongHost, "the Host header cannot be read").into_response(),
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        let text = |name: HeaderName| request.headers().get(name).map(|v| v.to_str().unwrap_or("null"));
        let foreign = text(header::ORIGIN).is_some_and(|origin| {
            let origin = origin.split_once("://").map(|(_, rest)| rest);
            authority.as_ref().is_none_or(|own| origin.is_none_or(|o| !o.eq_ignore_ascii_case(own.as_str())))
        });
        let cross_site = text(HeaderName::from_static("sec-fetch-site")).is_some_and(|site| site == "cross-site");
        if foreign || cross_site {
            return Problem::new(
                Kind::CrossOrigin,
                "requests that change something must come from the API's own pages or from no page at all",
            )
            .into_response();
        }
    }
    next.run(request).await
}

/// Middleware: answers with a problem when the handler takes longer. The handler's future is dropped then.
pub(crate) async fn limit_time(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            Kind::Timeout,
            format!(
                "no answer within {} ms; what was begun may still finish, so look before you ask again",
                limit.as_millis()
            ),
        )
        .into_response(),
    }
}

/// Makes ids for requests: a random part of this process and a number.
#[derive(Debug)]
pub(crate) struct RequestIds {
    process: u32,
    next: AtomicU64,
}

impl Default for RequestIds {
    fn default() -> Self {
        Self { process: rand::random(), next: AtomicU64::new(1) }
    }
}

/// What [`observe`] needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observer {
    ids: Arc<RequestIds>,
    pub(crate) metrics: RequestMetrics,
}

/// Middleware: gives the request an id and a span, counts it by route and status, and hardens the answer.
pub(crate) async fn observe(State(observer): State<Observer>, mut request: Request, next: Next) -> Response {
    let id = format!("{:08x}-{}", observer.ids.process, observer.ids.next.fetch_add(1, Ordering::Relaxed));
    // The path alone: query strings are not ours to log.
    let span = tracing::info_span!("request", id, method = %request.method(), path = request.uri().path());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    request.extensions_mut().insert(RequestId(id.clone()));

    let mut response = next.run(request).instrument(span).await;

    observer.metrics.count(&method, route.as_ref().map_or("none", MatchedPath::as_str), response.status());
    if let Ok(value) = HeaderValue::try_from(id) {
        response.headers_mut().insert("x-request-id", value);
    }
    harden(&mut response);
    response
}

/// Headers that keep browsers from guessing types, framing, caching and running anything.
fn harden(response: &mut Response) {
    const ALWAYS: [(HeaderName, &str); 4] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    const UNLESS_SET: [(HeaderName, &str); 2] = [
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in UNLESS_SET {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// What a handler that panicked is answered with.
pub(crate) fn panicked(payload: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let message = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(panic = message, "A request handler panicked.");
    Problem::new(Kind::Internal, "the host's log has the reason under this request's id").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(listen: &str, allow: &[&str]) -> Hosts {
        let config =
            ServerConfig { allow_hosts: allow.iter().map(|&h| h.to_owned()).collect(), ..ServerConfig::default() };
        Hosts::new(&config, listen.parse().unwrap())
    }

    #[test]
    fn on_loopback_only_own_names_are_taken() {
        let hosts = hosts("127.0.0.1:8080", &["Cams.example"]);
        for good in ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "[::1]", "cams.example"] {
            assert!(hosts.allows(good), "{good}");
        }
        for bad in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "cams.example."]
        {
            assert!(!hosts.allows(bad), "{bad}");
        }
    }

    #[test]
    fn elsewhere_any_name_is_taken_unless_names_are_configured() {
        assert!(hosts("0.0.0.0:8080", &[]).allows("anything.example"));
        let named = hosts("10.0.0.5:8080", &["cams.example"]);
        assert!(named.allows("cams.example") && named.allows("10.0.0.5"));
        assert!(!named.allows("evil.example"));
    }
}
