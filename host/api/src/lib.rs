//! The REST side of the host: routes, OpenAPI, who may do what, metrics, the dashboard.
//!
//! Owns HTTP. Knows the host only through [`Control`], which the assembly implements; must not know the pipeline, the
//! guest engine, FFmpeg, ONNX Runtime or Kafka.
//!
//! Bounds: JSON bodies 1 MiB ([`MAX_JSON_BYTES`]); uploads `max_upload_bytes`, two at once, more are answered 429;
//! connections `max_connections`, more wait in the system's backlog; event listeners `max_event_clients`, more are
//! answered 429, and a slow one loses the oldest events and is told how many.
#![forbid(unsafe_code)]

mod audit;
mod auth;
pub mod config;
pub mod control;
mod extract;
mod guard;
mod metrics;
mod openapi;
mod problem;
pub mod rollouts;
mod router;
mod routes;
pub mod server;
pub mod trials;
mod views;

pub use audit::AuditEntry;
pub use auth::{InvalidToken, Role, TokenHash};
pub use config::{ServerConfig, TokenConfig};
pub use control::{Control, ControlError};
pub use extract::MAX_JSON_BYTES;
pub use openapi::openapi_json;
pub use problem::{Kind as ProblemKind, PROBLEM_JSON};
pub use rollouts::Rollouts;
pub use router::router;
pub use server::{ServeError, Server};
pub use trials::Trials;
