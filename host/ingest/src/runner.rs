//! One camera for ever: connect, stream, and after a loss connect again.
//!
//! Owns the order of things, the camera's state and its session numbers. Must not know RTSP nor decode.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use facestream_core::camera::Transport;
use facestream_core::metrics::{CameraMetrics, Counter};
use facestream_core::{AccessUnit, CameraSpec, CameraState, Clock, DropReason, SystemClock};
use futures::FutureExt as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info, warn};

use crate::backoff::{Backoff, Jitter, SystemJitter};
use crate::config::IngestConfig;
use crate::connection::{ConnectRequest, Connection, ConnectionItem, Connector, VideoUnit};
use crate::error::{ErrorKind, IngestError, Phase};
use crate::limiter::ConnectLimiter;
use crate::outlet::{Disconnected, IngestEvent, Outlet};
use crate::policy::AddressPolicy;
use crate::rtsp::RtspConnector;
use crate::timing::{CaptureClock, MediaClock};
use crate::watchdog::{Verdict, Watchdog};

/// What all cameras of a host share.
#[derive(Debug)]
pub struct IngestEnv {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Which addresses may be reached.
    pub policy: Arc<AddressPolicy>,
    /// Settings.
    pub config: IngestConfig,
    /// Makes connections.
    pub connector: Arc<dyn Connector>,
    /// Spreads connects over time.
    pub limiter: Arc<ConnectLimiter>,
    /// Chance.
    pub jitter: Arc<dyn Jitter>,
}

impl IngestEnv {
    /// The real thing: the machine's clocks, resolver and network.
    #[must_use]
    pub fn system(config: IngestConfig) -> Arc<Self> {
        Self::with_clock(config, Arc::new(SystemClock::default()))
    }

    /// The same with a clock that other stages share: the watchdog compares it with the times of decoded frames, so
    /// whoever calls [`CameraMetrics::decoded_at`] must read the same one.
    #[must_use]
    pub fn with_clock(config: IngestConfig, clock: Arc<dyn Clock>) -> Arc<Self> {
        let policy = Arc::new(AddressPolicy::new(config.addresses.clone()));
        let connector = Arc::new(RtspConnector::new(policy.clone()));
        let limiter = Arc::new(ConnectLimiter::new(config.connects_per_second));
        Arc::new(Self { clock, policy, config, connector, limiter, jitter: Arc::new(SystemJitter) })
    }
}

/// A running camera.
#[derive(Debug)]
pub struct IngestHandle {
    /// For the decode thread; see [`IngestEvent`]. Dropping it ends the camera.
    pub events: Receiver<IngestEvent>,
    /// What the camera is doing.
    pub state: watch::Receiver<CameraState>,
    /// Ends after cancellation, after `max_attempts`, or when an error cannot be mended by trying again.
    pub task: JoinHandle<()>,
}

/// Starts a camera on the current tokio runtime and returns at once; an unreachable camera is a normal state.
///
/// Cancelling `cancel` stops it promptly, whatever it is doing, and ends the session on the camera (TEARDOWN). Session
/// numbers begin at the wall clock's milliseconds and grow by one at each connect: connects are at least a second apart,
/// so that numbers of a camera that was stopped and started again, or of a host that was, are higher than all before.
///
/// # Panics
/// Outside a tokio runtime.
pub fn spawn(
    env: Arc<IngestEnv>,
    spec: &CameraSpec,
    metrics: Arc<CameraMetrics>,
    cancel: CancellationToken,
) -> IngestHandle {
    let (state_tx, state) = watch::channel(CameraState::Connecting { attempt: 1 });
    let (outlet, events) = Outlet::new(env.config.queue_access_units, metrics.clone());
    // At error level, so that every line names its camera whatever the filter.
    let span = tracing::error_span!("ingest", camera = %spec.id);
    let next_session = env.clock.wall_ns() / 1_000_000;
    let capture = CaptureClock::new(env.config.camera_clock_tolerance_ms.saturating_mul(1_000_000));
    let runner = Runner {
        env,
        spec: spec.clone(),
        metrics,
        cancel,
        state: state_tx,
        outlet,
        next_session,
        failures: 0,
        media: MediaClock::default(),
        capture,
    };
    let task = tokio::spawn(runner.run().instrument(span));
    IngestHandle { events, state, task }
}

/// Why a step ended.
enum End {
    Cancelled,
    Failed(IngestError),
}

impl From<IngestError> for End {
    fn from(error: IngestError) -> Self {
        Self::Failed(error)
    }
}

impl From<Disconnected> for End {
    fn from(Disconnected: Disconnected) -> Self {
        Self::Failed(IngestError::new(Phase::Stream, ErrorKind::ConsumerGone))
    }
}

struct Runner {
    env: Arc<IngestEnv>,
    spec: CameraSpec,
    metrics: Arc<CameraMetrics>,
    cancel: CancellationToken,
    state: watch::Sender<CameraState>,
    outlet: Outlet,
    next_session: u64,
    /// Connects in a row without a decoded frame.
    failures: u32,
    media: MediaClock,
    capture: CaptureClock,
}

impl Runner {
    async fn run(mut self) {
        let end = loop {
            // Cameras send what they like: what brings the reader down must not end the camera silently.
            let error = match AssertUnwindSafe(self.attempt()).catch_unwind().await {
                Ok(End::Cancelled) => break CameraState::Stopped,
                Ok(End::Failed(error)) => error,
                Err(_) => IngestError::new(Phase::Stream, ErrorKind::Panicked),
            };
            let spent = self.spec.max_attempts.is_some_and(|most| self.failures >= most.max(1));
            if spent || error.is_permanent() {
                let reason = match self.spec.max_attempts {
                    Some(_) if spent => format!("gave up after {} attempts; the last: {error}", self.failures),
                    _ => error.to_string(),
                };
                warn!(reason, "camera failed for good");
                break CameraState::Failed { reason };
            }
            if self.wait_to_retry(&error).await.is_err() {
                break CameraState::Stopped;
            }
        };
        info!(state = end.as_str(), "camera ended");
        self.outlet.finish();
        self.state.send_replace(end);
    }

    /// One connect and all that comes of it.
    async fn attempt(&mut self) -> End {
        let attempt = self.failures.saturating_add(1);
        self.state.send_replace(CameraState::Connecting { attempt });
        let cancel = self.cancel.clone();
        let connection = tokio::select! {
            biased;
            () = cancel.cancelled() => return End::Cancelled,
            connection = self.connect(attempt) => connection,
        };
        // Counted before the stream says otherwise, so that a camera that connects but never delivers adds up too.
        self.failures = attempt;
        let mut connection = match connection {
            Ok(connection) => connection,
            Err(error) => return error.into(),
        };
        let end = match self.stream(connection.as_mut(), &cancel).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        if matches!(end, End::Cancelled) {
            self.state.send_replace(CameraState::Stopping);
        }
        let patience = Duration::from_millis(self.env.config.teardown_timeout_ms);
        if timeout(patience, connection.close()).await.is_err() {
            info!("the camera did not answer TEARDOWN in time");
        }
        end
    }

    async fn connect(&mut self, attempt: u32) -> Result<Box<dyn Connection>, IngestError> {
        // A start must find room; a decoder that is behind by this much has no use for a new session anyway.
        while !self.outlet.has_room_for_start() {
            sleep(Duration::from_millis(50)).await;
        }
        self.env.limiter.acquire().await;
        let patience = Duration::from_millis(self.env.config.connect_timeout_ms);
        let source = self.spec.url.clone();
        let resolving = timeout(patience, self.env.policy.check(&source)).await;
        let target = resolving
            .map_err(|_| IngestError::new(Phase::Resolve, ErrorKind::Timeout(patience)))?
            .map_err(|error| IngestError::new(Phase::Resolve, error.into()))?;
        let request =
            ConnectRequest { camera: self.spec.id.clone(), source, target, transport: self.spec.transport, attempt };
        timeout(patience, self.env.connector.connect(request))
            .await
            .map_err(|_| IngestError::new(Phase::Connect, ErrorKind::Timeout(patience)))?
    }

    /// Passes on what comes until the session ends, which it always does.
    async fn stream(
        &mut self,
        connection: &mut dyn Connection,
        cancel: &CancellationToken,
    ) -> Result<std::convert::Infallible, End> {
        let session = self.next_session;
        self.next_session += 1;
        self.metrics.add(Counter::Sessions, 1);
        let params = connection.params();
        info!(session, codec = params.codec.as_str(), "connected");
        self.outlet.start(session, params)?;
        self.media.begin_session();
        self.capture.begin_session();
        let started = self.env.clock.monotonic_ns();
        let watchdog = Watchdog::new(&self.env.config, self.spec.keyframes_only, started);
        let mut sequence = 0;
        let mut running = false;
        let look = sleep(Duration::ZERO);
        tokio::pin!(look);
        loop {
            let item = tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(End::Cancelled),
                () = &mut look => None,
                item = connection.next() => Some(item?),
            };
            if !running && watchdog.decoded(self.metrics.last_decoded_ns()) {
                running = true;
                self.failures = 0;
                self.state.send_replace(CameraState::Running);
            }
            match item {
                Some(ConnectionItem::Report(report)) => self.capture.report(report),
                Some(ConnectionItem::Video(unit)) => {
                    self.pass_on(unit, session, sequence)?;
                    sequence += 1;
                }
                None => match watchdog.look(self.metrics.last_decoded_ns(), self.env.clock.monotonic_ns()) {
                    // Until the camera runs, look more often, so that its state follows a first frame that comes alone.
                    Verdict::Fine(wait) if running => look.as_mut().reset(tokio::time::Instant::now() + wait),
                    Verdict::Fine(wait) => {
                        let soon = wait.min(Duration::from_millis(200));
                        look.as_mut().reset(tokio::time::Instant::now() + soon);
                    }
                    Verdict::Stuck(after) => {
                        self.metrics.add(Counter::Stalls, 1);
                        let hint = self.stall_hint(sequence);
                        return Err(IngestError::new(Phase::Stream, ErrorKind::Stalled { after, hint }).into());
                    }
                },
            }
        }
    }

    fn stall_hint(&self, access_units: u64) -> &'static str {
        match (access_units, self.spec.transport) {
            (0, Transport::Udp) => "; no picture came over UDP at all: a firewall may drop it, try transport tcp",
            (0, Transport::Tcp) => "; no picture came at all",
            _ => "; pictures came, but stopped or could not be decoded",
        }
    }

    fn pass_on(&mut self, unit: VideoUnit, session: u64, sequence: u64) -> Result<(), End> {
        let limit = self.env.config.max_access_unit_bytes;
        let bytes = unit.data.len();
        if bytes > limit {
            return Err(IngestError::new(Phase::Stream, ErrorKind::Oversized { bytes, limit }).into());
        }
        let received_ns = self.env.clock.monotonic_ns();
        let wall_ns = self.env.clock.wall_ns();
        self.metrics.add(Counter::AccessUnits, 1);
        self.metrics.add(Counter::Bytes, u64::try_from(bytes).unwrap_or(u64::MAX));
        if unit.lost_packets > 0 {
            self.metrics.dropped(DropReason::PacketLost, u64::from(unit.lost_packets));
        }
        self.outlet.offer(AccessUnit {
            session,
            sequence,
            timestamp_ns: self.media.stamp(unit.time, unit.keyframe, received_ns),
            received_ns,
            captured_at_ns: self.capture.captured_at(unit.time, wall_ns),
            keyframe: unit.keyframe,
            lost_packets: unit.lost_packets,
            data: unit.data,
        })?;
        Ok(())
    }

    /// Waits out the back-off; an error when cancelled meanwhile.
    async fn wait_to_retry(&mut self, error: &IngestError) -> Result<(), ()> {
        let ms = Duration::from_millis;
        let backoff = Backoff { min: ms(self.env.config.backoff_min_ms), max: ms(self.env.config.backoff_max_ms) };
        let wait = backoff.delay(self.failures, self.env.jitter.unit());
        let wait = wait.max(error.retry_after().unwrap_or_default());
        let reason = error.to_string();
        warn!(reason, attempt = self.failures, wait_ms = wait.as_millis(), "camera lost; will retry");
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let next_try_unix_ms = (self.env.clock.wall_ns() / 1_000_000).saturating_add(wait_ms);
        self.state.send_replace(CameraState::WaitingToRetry { reason, attempt: self.failures, next_try_unix_ms });
        let cancel = self.cancel.clone();
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(()),
            () = sleep(wait) => Ok(()),
        }
    }
}
