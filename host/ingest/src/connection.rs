//! The seam between the runner and the network: what a connection to a camera is.
//!
//! Owns the traits, so that tests script cameras. Must not know RTSP.

use std::fmt;
use std::num::NonZeroU32;

use bytes::Bytes;
use facestream_core::camera::Transport;
use facestream_core::{CameraId, SourceUrl, StreamParams};
use futures::future::BoxFuture;

use crate::error::IngestError;
use crate::policy::PinnedTarget;

/// What a connector is asked for.
#[derive(Clone, Debug)]
pub struct ConnectRequest {
    /// Whose connection.
    pub camera: CameraId,
    /// The address as wanted, for its credentials.
    pub source: SourceUrl,
    /// The checked address to connect to.
    pub target: PinnedTarget,
    /// How RTP is to travel.
    pub transport: Transport,
    /// Connects since frames last came, from 1.
    pub attempt: u32,
}

/// Makes connections.
pub trait Connector: Send + Sync + fmt::Debug {
    /// Connects, asks for the description, sets the stream up and starts it. The caller bounds the time; a future that
    /// is dropped leaves nothing behind.
    ///
    /// # Errors
    /// With phase and kind, in words that hold no credential.
    fn connect(&self, request: ConnectRequest) -> BoxFuture<'_, Result<Box<dyn Connection>, IngestError>>;
}

/// A playing stream.
pub trait Connection: Send {
    /// What is known of the stream.
    fn params(&self) -> StreamParams;

    /// The next picture or clock report. Cancel-safe. After an error the connection is of no more use.
    ///
    /// # Errors
    /// When the stream ended or broke.
    fn next(&mut self) -> BoxFuture<'_, Result<ConnectionItem, IngestError>>;

    /// Ends the session on the camera too (TEARDOWN). The caller bounds the time.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// What comes out of a connection.
#[derive(Clone, Debug)]
pub enum ConnectionItem {
    /// A picture.
    Video(VideoUnit),
    /// The camera's clock.
    Report(SenderReport),
}

/// A time of the camera's media clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpTime {
    /// Ticks, wraps already taken out; the origin means nothing.
    pub ticks: i64,
    /// Ticks a second.
    pub rate: NonZeroU32,
}

/// One coded picture.
#[derive(Clone, Debug)]
pub struct VideoUnit {
    /// When it is to be shown.
    pub time: RtpTime,
    /// Decoding can start here.
    pub keyframe: bool,
    /// Packets lost just before it.
    pub lost_packets: u16,
    /// Annex B NAL units, or a JFIF picture.
    pub data: Bytes,
}

/// What wall time the camera gives to a time of its media clock (RFC 3550, 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderReport {
    /// Media time.
    pub time: RtpTime,
    /// Wall time, nanoseconds since the Unix epoch; the camera's word for it.
    pub unix_ns: u64,
}
