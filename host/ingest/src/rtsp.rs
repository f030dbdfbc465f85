//! Cameras over RTSP, through crate `retina`.
//!
//! Owns the choice of stream, the library's leniency settings, ending sessions, and putting the library's findings into
//! our words. Must not retry or watch; the runner does.
//!
//! Known limits of the library: RTSP over TLS, SRTP and AV1 are not supported; over UDP there is no reordering; and it
//! bounds neither an access unit nor an answer while these come in, so that a hostile camera on an allowed address can
//! use memory at the speed of its network for as long as the watchdog lets it.

mod classify;
mod peer;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use facestream_core::camera::Transport;
use facestream_core::{CameraId, Codec, StreamParams};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use retina::client::{
    Credentials, Demuxed, Described, InitialSequenceNumberPolicy, InitialTimestampPolicy, PlayOptions, Session,
    SessionGroup, SessionIdPolicy, SessionOptions, SetupOptions, TcpTransportOptions, TeardownPolicy, Tool,
    UdpTransportOptions,
};
use retina::codec::{CodecItem, FrameFormat, ParametersRef};
use secrecy::ExposeSecret as _;

use crate::connection::{ConnectRequest, Connection, ConnectionItem, Connector, RtpTime, SenderReport, VideoUnit};
use crate::error::{ErrorKind, IngestError, Phase};
use crate::policy::AddressPolicy;
use classify::classify;

/// How long a connect waits for the answer to an earlier session's TEARDOWN. Cameras serve few viewers at once, so it is
/// worth waiting; but a camera that was restarted has forgotten the session, so not for long.
const EARLIER_TEARDOWN: Duration = Duration::from_secs(3);

/// What is remembered of a camera between its sessions.
#[derive(Clone, Default)]
struct Earlier {
    /// Sessions that the camera may not have ended yet.
    group: Arc<SessionGroup>,
    /// Whether its server is an old live555, whose sessions outlive their TCP connection and send their packets into the
    /// next one (see [`SessionGroup`]). The library suspects that of any server whose packets surprise it, such as a
    /// camera whose encoder was restarted; keeping away from those for a minute would only prolong the loss.
    live555: Arc<AtomicBool>,
}

/// Connects to cameras over RTSP.
pub struct RtspConnector {
    policy: Arc<AddressPolicy>,
    /// By camera; entries nobody needs are removed at each connect.
    earlier: Mutex<HashMap<CameraId, Earlier>>,
}

impl RtspConnector {
    /// `policy` judges addresses that a server names for its media.
    #[must_use]
    pub fn new(policy: Arc<AddressPolicy>) -> Self {
        Self { policy, earlier: Mutex::default() }
    }

    fn earlier(&self, camera: &CameraId) -> Earlier {
        // Nothing in here panics half-way through a change, so a poisoned map is a whole one.
        let mut all = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, e| Arc::strong_count(&e.group) > 1 || e.group.stale_sessions().num_sessions > 0);
        let fresh =
            || Earlier { group: Arc::new(SessionGroup::default().named(camera.to_string())), live555: Arc::default() };
        all.entry(camera.clone()).or_insert_with(fresh).clone()
    }

    async fn open(&self, request: ConnectRequest) -> Result<Box<dyn Connection>, IngestError> {
        let earlier = self.earlier(&request.camera);
        earlier.wait_for_end(request.transport).await?;
        let group = earlier.group;
        let camera = Camera::new(&request);
        let mut session = camera.describe(&group).await?;
        earlier.live555.store(session.tool().is_some_and(Tool::has_live555_tcp_bug), Ordering::Relaxed);
        let video = choose_video(&session)?;
        let transport = match request.transport {
            Transport::Tcp => retina::client::Transport::Tcp(TcpTransportOptions::default()),
            Transport::Udp => retina::client::Transport::Udp(UdpTransportOptions::default()),
        };
        let setup = SetupOptions::default().transport(transport).frame_format(FrameFormat::SIMPLE);
        session.setup(video.index, setup).await.map_err(|e| camera.error(Phase::Setup, &e))?;
        if request.transport == Transport::Udp {
            peer::check_media_source(&session.streams()[video.index], &camera.address, &self.policy)?;
        }
        // Cameras get these two wrong (Reolink, Tapo, Hikvision); with one stream nothing is lost by learning them from
        // the packets.
        let play = PlayOptions::default()
            .initial_timestamp(InitialTimestampPolicy::Permissive)
            .initial_seq(InitialSequenceNumberPolicy::Ignore);
        let session = session.play(play).await.map_err(|e| camera.error(Phase::Play, &e))?;
        let demuxed = session.demuxed().map_err(|e| camera.error(Phase::Play, &e))?;
        let has_credentials = camera.credentials.is_some();
        Ok(Box::new(RtspConnection { demuxed, video, group, has_credentials }))
    }
}

impl fmt::Debug for RtspConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RtspConnector").finish_non_exhaustive()
    }
}

impl Connector for RtspConnector {
    fn connect(&self, request: ConnectRequest) -> BoxFuture<'_, Result<Box<dyn Connection>, IngestError>> {
        Box::pin(self.open(request))
    }
}

impl Earlier {
    /// Waits until the camera has ended sessions that were ours, as far as that is worth it.
    async fn wait_for_end(&self, transport: Transport) -> Result<(), IngestError> {
        // Whether TEARDOWN failed or was not answered in time, a camera that came back may well take a new session.
        if !matches!(tokio::time::timeout(EARLIER_TEARDOWN, self.group.await_teardown()).await, Ok(Ok(()))) {
            tracing::debug!("an earlier session was not ended on the camera");
        }
        let status = self.group.stale_sessions();
        if transport == Transport::Udp || status.num_sessions == 0 || !self.live555.load(Ordering::Relaxed) {
            return Ok(());
        }
        let now = tokio::time::Instant::now();
        let retry_after = status.max_expires.map(|at| at.saturating_duration_since(now)).unwrap_or_default();
        Err(IngestError::new(Phase::Connect, ErrorKind::StaleSession { retry_after }))
    }
}

/// One connect's address and credentials. Has no `Debug`: it holds both in the clear.
struct Camera {
    url: url::Url,
    address: std::net::SocketAddr,
    transport: Transport,
    credentials: Option<Credentials>,
}

impl Camera {
    fn new(request: &ConnectRequest) -> Self {
        let address = request.target.address(request.attempt);
        let source = &request.source;
        let credentials = (source.user().is_some() || source.password().is_some()).then(|| Credentials {
            username: source.user().unwrap_or_default().to_owned(),
            password: source.password().map(|p| p.expose_secret().to_owned()).unwrap_or_default(),
        });
        Self { url: request.target.url_at(address), address, transport: request.transport, credentials }
    }

    fn error(&self, phase: Phase, error: &retina::Error) -> IngestError {
        classify(phase, error, self.credentials.is_some())
    }

    /// DESCRIBE, with the most thorough way of ending sessions that is safe with this server.
    ///
    /// Where the library makes new connections to end a session (over UDP, and with old live555 servers), it makes them
    /// to the address that the server itself gave as base of its description. A hostile server could have it knock
    /// anywhere, so unless that address is seen to be the checked one, the description is asked for again with that
    /// turned off. Nothing is set up at that point, so nothing is left behind by the first one.
    async fn describe(&self, group: &Arc<SessionGroup>) -> Result<Session<Described>, IngestError> {
        let session = self.describe_with(group, TeardownPolicy::Auto).await?;
        let reconnects = match self.transport {
            Transport::Udp => true,
            Transport::Tcp => session.tool().is_some_and(Tool::has_live555_tcp_bug),
        };
        if !reconnects || peer::base_is_at(&session, &self.address) {
            return Ok(session);
        }
        drop(session);
        self.describe_with(group, TeardownPolicy::Never).await
    }

    async fn describe_with(
        &self,
        group: &Arc<SessionGroup>,
        teardown: TeardownPolicy,
    ) -> Result<Session<Described>, IngestError> {
        let options = SessionOptions::default()
            .creds(self.credentials.clone())
            .user_agent(concat!("facestream/", env!("CARGO_PKG_VERSION")).to_owned())
            .session_group(group.clone())
            .session_id(SessionIdPolicy::UseFirst)
            .teardown(teardown);
        Session::describe(self.url.clone(), options).await.map_err(|e| self.error(Phase::Describe, &e))
    }
}

/// The stream that is taken.
#[derive(Clone, Copy)]
struct Video {
    index: usize,
    codec: Codec,
}

/// The first video stream in a coding that we take.
fn choose_video(session: &Session<Described>) -> Result<Video, IngestError> {
    let mut unsupported = None;
    for (index, stream) in session.streams().iter().enumerate() {
        let codec = match (stream.media(), stream.encoding_name()) {
            ("video", "h264") => Codec::H264,
            ("video", "h265") => Codec::H265,
            ("video" | "image", "jpeg") => Codec::Mjpeg,
            ("video", other) => {
                unsupported.get_or_insert(classify::codec_name(other));
                continue;
            }
            _ => continue,
        };
        return Ok(Video { index, codec });
    }
    let kind = unsupported.map_or(ErrorKind::NoVideo, ErrorKind::UnsupportedCodec);
    Err(IngestError::new(Phase::Describe, kind))
}

/// A playing session.
struct RtspConnection {
    demuxed: Demuxed,
    video: Video,
    group: Arc<SessionGroup>,
    has_credentials: bool,
}

impl RtspConnection {
    async fn receive(&mut self) -> Result<ConnectionItem, IngestError> {
        loop {
            let item = match self.demuxed.next().await {
                None => return Err(IngestError::new(Phase::Stream, ErrorKind::EndedByCamera)),
                Some(Err(error)) => return Err(classify(Phase::Stream, &error, self.has_credentials)),
                Some(Ok(item)) => item,
            };
            match item {
                CodecItem::VideoFrame(frame) => {
                    let time = frame.timestamp();
                    return Ok(ConnectionItem::Video(VideoUnit {
                        time: RtpTime { ticks: time.timestamp(), rate: time.clock_rate() },
                        keyframe: frame.is_random_access_point(),
                        lost_packets: frame.loss(),
                        data: Bytes::from(frame.into_data()),
                    }));
                }
                CodecItem::Rtcp(compound) => {
                    // First, for a BYE comes in one compound packet with the last report.
                    if says_bye(&compound) {
                        return Err(IngestError::new(Phase::Stream, ErrorKind::EndedByCamera));
                    }
                    if let Some(report) = sender_report(&compound) {
                        return Ok(ConnectionItem::Report(report));
                    }
                }
                // Only one stream is set up, a video.
                _ => {}
            }
        }
    }
}

impl Connection for RtspConnection {
    fn params(&self) -> StreamParams {
        let stream = &self.demuxed.streams()[self.video.index];
        let video = match stream.parameters() {
            Some(ParametersRef::Video(video)) => Some(video),
            _ => None,
        };
        // A pair of (ticks a frame, ticks a second).
        let coded = video.and_then(|v| v.frame_rate()).map(|(num, den)| f64::from(den) / f64::from(num));
        let declared = stream.framerate().map(f64::from);
        StreamParams {
            codec: self.video.codec,
            size: video.map(|v| v.pixel_dimensions()).filter(|&(w, h)| w > 0 && h > 0),
            parameter_sets: match self.video.codec {
                Codec::Mjpeg => Bytes::new(),
                _ => video.map(|v| Bytes::copy_from_slice(v.extra_data())).unwrap_or_default(),
            },
            frame_rate: coded.or(declared).filter(|f| f.is_finite() && (0.01..=1_000.0).contains(f)),
        }
    }

    fn next(&mut self) -> BoxFuture<'_, Result<ConnectionItem, IngestError>> {
        Box::pin(self.receive())
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        let Self { demuxed, group, .. } = *self;
        Box::pin(async move {
            // Dropping the session starts TEARDOWN in the background.
            drop(demuxed);
            if group.await_teardown().await.is_err() {
                tracing::debug!("TEARDOWN failed; the camera ends the session when it expires");
            }
        })
    }
}

/// What a compound packet says of the camera's clock, if it begins with a sender report, as RFC 3550, 6.1 wants.
fn sender_report(compound: &retina::rtcp::ReceivedCompoundPacket) -> Option<SenderReport> {
    let time = compound.rtp_timestamp()?;
    let report = compound.pkts().next()?.as_sender_report().ok()??;
    let ntp = report.ntp_timestamp().0;
    // Without a clock a camera sends zero (RFC 3550, 6.4.1). Wrapping: era 1 begins in 2036.
    let since_epoch = ntp.wrapping_sub(retina::UNIX_EPOCH.0);
    let unix_ns = (u128::from(since_epoch) * 1_000_000_000) >> 32;
    (ntp != 0).then_some(SenderReport {
        time: RtpTime { ticks: time.timestamp(), rate: time.clock_rate() },
        unix_ns: u64::try_from(unix_ns).ok()?,
    })
}

/// RTCP BYE, payload type 203 (RFC 3550, 12.1).
fn says_bye(compound: &retina::rtcp::ReceivedCompoundPacket) -> bool {
    compound.pkts().any(|p| p.payload_type() == 203)
}
