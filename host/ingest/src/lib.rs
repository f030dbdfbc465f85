//! RTSP cameras to access units: connecting, reconnecting, time, and which addresses may be reached at all.
//!
//! Owns the network side of a camera, from a checked address to a bounded queue of [`IngestEvent`]s. Must not decode,
//! and must not block: everything here runs on the async runtime; whoever decodes takes the events on a thread of its
//! own.
//!
//! The path of one camera: [`AddressPolicy`] (may this address be reached?) → [`ConnectLimiter`] (is it our turn?) →
//! [`Connector`] (RTSP through [`RtspConnector`]) → [`spawn`]'s task (time stamps, watchdog, retries) → queue.
#![forbid(unsafe_code)]

mod backoff;
mod config;
mod connection;
mod error;
mod limiter;
mod outlet;
mod policy;
mod rtsp;
mod runner;
mod timing;
mod watchdog;

pub use backoff::{Backoff, Jitter, SystemJitter};
pub use config::{AddressConfig, IngestConfig};
pub use connection::{ConnectRequest, Connection, ConnectionItem, Connector, RtpTime, SenderReport, VideoUnit};
pub use error::{ErrorKind, IngestError, Phase};
pub use limiter::ConnectLimiter;
pub use outlet::{IngestEvent, STARTED_RESERVE};
pub use policy::{AddressDenied, AddressPolicy, PinnedTarget, PolicyError, Resolver, SystemResolver};
pub use rtsp::RtspConnector;
pub use runner::{IngestEnv, IngestHandle, spawn};

/// Directive for the process's log filter (`tracing_subscriber::EnvFilter` syntax).
///
/// The RTSP library writes request addresses, descriptions and headers into its own log records (crate `log`), some of
/// them at warning level; a camera's address may carry a password in its path or query. This crate reports everything
/// worth knowing in its own words, so the library's records are to be switched off wherever records of crate `log` are
/// forwarded. Add it after the user's own directives: the last one for a target wins.
pub const LOG_DIRECTIVE: &str = "retina=off";
