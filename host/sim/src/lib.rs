//! A real RTSP 1.0 server that turns one clip into any number of simulated cameras, for people without cameras, for the
//! demo, for tests and for load tests.
//!
//! Owns serving: RTSP (RFC 2326), digest and basic authentication (RFC 2617, RFC 7616), RTP packets of H.264 (RFC 6184),
//! H.265 (RFC 7798) and JPEG (RFC 2435), RTCP reports (RFC 3550), and misbehaving on request. Must not decode pictures and
//! must not know anything of the product that reads from it.
//!
//! How it stays cheap: the clip is cut into RTP payloads once and shared by every camera. What a client costs is one
//! timer, two cursors and twelve header bytes a packet; a whole picture goes out with one vectored write.
//!
//! | queue | bound | when full |
//! |---|---|---|
//! | pictures waiting for a slow client (two cursors into the clip, no data) | `backlog_ms` | drops to the next key frame, counted in [`CameraStats::units_dropped`] |
//! | unsent answers of one connection | 64 KiB | its requests are not read; silence then ends the session |
//! | unread bytes of one request | `max_request_bytes` | answered 413, the connection is closed |
//! | one-shot faults fired at a camera | 64 a connection | the oldest is forgotten, with a warning |
#![forbid(unsafe_code)]

mod annexb;
mod auth;
mod clip;
mod config;
mod connection;
mod error;
mod faults;
mod packetize;
mod player;
mod protocol;
mod rtcp;
mod sdp;
mod server;
mod stats;

pub use clip::{Clip, ClipUnit};
pub use config::{Auth, Credentials, DigestAlgorithm, SimConfig};
pub use error::SimError;
pub use faults::{Answer, CameraFaults, Control, FaultEvent, Quirks, ScriptedFault, Stall};
pub use server::Simulator;
pub use stats::CameraStats;
