//! Cameras that follow a script, a clock that follows tokio's, and a decoder that does what it is told.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "every test file takes what it needs")]

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::Receiver;
use facestream_core::metrics::CameraMetrics;
use facestream_core::{AccessUnit, CameraId, CameraSpec, CameraState, Clock, Codec, SourceUrl, StreamParams};
use facestream_ingest::{
    AddressConfig, AddressPolicy, ConnectLimiter, ConnectRequest, Connection, ConnectionItem, Connector, IngestConfig,
    IngestEnv, IngestError, IngestEvent, IngestHandle, Jitter, RtpTime, SenderReport, VideoUnit, spawn,
};
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// 2023-11-14T22:13:20Z.
pub const WALL_START_NS: u64 = 1_700_000_000_000_000_000;
/// 25 pictures a second.
pub const FRAME: Duration = Duration::from_millis(40);

/// Follows tokio's time, so that pausing that pauses this.
#[derive(Debug)]
pub struct TokioClock(Instant);

impl Default for TokioClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for TokioClock {
    fn monotonic_ns(&self) -> u64 {
        // Begins at 1 s: zero means "never" in places.
        u64::try_from(self.0.elapsed().as_nanos()).unwrap() + 1_000_000_000
    }

    fn wall_ns(&self) -> u64 {
        WALL_START_NS + self.monotonic_ns()
    }
}

/// Always the same chance.
#[derive(Debug)]
pub struct FixedJitter(pub f64);

impl Jitter for FixedJitter {
    fn unit(&self) -> f64 {
        self.0
    }
}

/// What a connection does after its pictures.
#[derive(Clone, Debug)]
pub enum Then {
    /// Nothing, for ever.
    Silence,
    /// Fails.
    Fail(IngestError),
    /// Panics.
    Panic,
}

/// What a connect leads to.
#[derive(Clone, Debug)]
pub enum Step {
    Fail(IngestError),
    Hang,
    /// 25 pictures a second, a key frame every 25th.
    Play {
        frames: usize,
        first_ticks: i64,
        report: Option<SenderReport>,
        then: Then,
    },
}

impl Step {
    pub fn play(frames: usize, then: Then) -> Self {
        Self::Play { frames, first_ticks: 0, report: None, then }
    }
}

/// Follows a list of steps, and one step for ever after that.
#[derive(Debug)]
pub struct Script {
    steps: Mutex<VecDeque<Step>>,
    otherwise: Step,
    started: Instant,
    pub connects: Mutex<Vec<(Duration, ConnectRequest)>>,
    pub closed: Arc<AtomicUsize>,
    /// TEARDOWN is never answered.
    pub deaf: AtomicBool,
}

impl Script {
    pub fn new(steps: impl IntoIterator<Item = Step>, otherwise: Step) -> Arc<Self> {
        Arc::new(Self {
            steps: Mutex::new(steps.into_iter().collect()),
            otherwise,
            started: Instant::now(),
            connects: Mutex::default(),
            closed: Arc::default(),
            deaf: AtomicBool::new(false),
        })
    }

    pub fn connect_times(&self) -> Vec<Duration> {
        self.connects.lock().unwrap().iter().map(|(at, _)| *at).collect()
    }
}

impl Connector for Script {
    fn connect(&self, request: ConnectRequest) -> BoxFuture<'_, Result<Box<dyn Connection>, IngestError>> {
        self.connects.lock().unwrap().push((self.started.elapsed(), request));
        let step = self.steps.lock().unwrap().pop_front().unwrap_or_else(|| self.otherwise.clone());
        Box::pin(async move {
            match step {
                Step::Fail(error) => Err(error),
                Step::Hang => std::future::pending().await,
                Step::Play { frames, first_ticks, report, then } => {
                    let connection: Box<dyn Connection> = Box::new(ScriptedConnection {
                        frames,
                        next: 0,
                        first_ticks,
                        report,
                        then,
                        due: Instant::now(),
                        closed: self.closed.clone(),
                        deaf: self.deaf.load(Ordering::SeqCst),
                    });
                    Ok(connection)
                }
            }
        })
    }
}

struct ScriptedConnection {
    frames: usize,
    next: usize,
    first_ticks: i64,
    report: Option<SenderReport>,
    then: Then,
    due: Instant,
    closed: Arc<AtomicUsize>,
    deaf: bool,
}

pub fn ticks(ticks: i64) -> RtpTime {
    RtpTime { ticks, rate: NonZeroU32::new(90_000).unwrap() }
}

impl Connection for ScriptedConnection {
    fn params(&self) -> StreamParams {
        StreamParams {
            codec: Codec::H264,
            size: Some((1280, 720)),
            parameter_sets: Bytes::new(),
            frame_rate: Some(25.0),
        }
    }

    fn next(&mut self) -> BoxFuture<'_, Result<ConnectionItem, IngestError>> {
        Box::pin(async move {
            if let Some(report) = self.report.take() {
                return Ok(ConnectionItem::Report(report));
            }
            if self.next == self.frames {
                match &self.then {
                    Then::Silence => return std::future::pending().await,
                    Then::Fail(error) => return Err(error.clone()),
                    Then::Panic => panic!("as scripted"),
                }
            }
            tokio::time::sleep_until(self.due).await;
            let i = self.next;
            self.next += 1;
            self.due += FRAME;
            Ok(ConnectionItem::Video(VideoUnit {
                time: ticks(self.first_ticks + i64::try_from(i).unwrap() * 3_600),
                keyframe: i.is_multiple_of(25),
                lost_packets: 0,
                data: Bytes::from_static(&[0; 100]),
            }))
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if self.deaf {
                std::future::pending::<()>().await;
            }
            self.closed.fetch_add(1, Ordering::SeqCst);
        })
    }
}

pub fn spec(url: &str) -> CameraSpec {
    CameraSpec::new(CameraId::new("cam-1").unwrap(), SourceUrl::parse(url).unwrap())
}

pub fn config() -> IngestConfig {
    IngestConfig {
        addresses: AddressConfig { allow_loopback: true, ..AddressConfig::default() },
        ..IngestConfig::default()
    }
}

pub fn env(connector: Arc<dyn Connector>, config: IngestConfig, jitter: f64) -> Arc<IngestEnv> {
    Arc::new(IngestEnv {
        clock: Arc::new(TokioClock::default()),
        policy: Arc::new(AddressPolicy::new(config.addresses.clone())),
        connector,
        limiter: Arc::new(ConnectLimiter::new(config.connects_per_second)),
        jitter: Arc::new(FixedJitter(jitter)),
        config,
    })
}

/// A camera under test.
pub struct Rig {
    pub handle: IngestHandle,
    pub metrics: Arc<CameraMetrics>,
    pub cancel: CancellationToken,
    pub clock: Arc<dyn Clock>,
}

pub fn start(env: &Arc<IngestEnv>, spec: &CameraSpec) -> Rig {
    let metrics = Arc::new(CameraMetrics::default());
    let cancel = CancellationToken::new();
    let handle = spawn(env.clone(), spec, metrics.clone(), cancel.clone());
    Rig { handle, metrics, cancel, clock: env.clock.clone() }
}

/// What a decoder saw.
#[derive(Debug, Default)]
pub struct Seen {
    pub started: Vec<(u64, StreamParams)>,
    pub units: Vec<AccessUnit>,
    pub ended: bool,
}

/// Takes events as they come and "decodes" access units for as long as `decode` is set. Ends with the camera.
pub fn decoder(rig: &Rig, decode: Arc<AtomicBool>) -> tokio::task::JoinHandle<Seen> {
    let (events, metrics, clock) = (rig.handle.events.clone(), rig.metrics.clone(), rig.clock.clone());
    tokio::spawn(async move { decode_until_end(&events, &metrics, &clock, &decode).await })
}

async fn decode_until_end(
    events: &Receiver<IngestEvent>,
    metrics: &CameraMetrics,
    clock: &Arc<dyn Clock>,
    decode: &AtomicBool,
) -> Seen {
    let mut seen = Seen::default();
    loop {
        for event in events.try_iter() {
            match event {
                IngestEvent::Started { session, params } => seen.started.push((session, params)),
                IngestEvent::AccessUnit(unit) => {
                    if decode.load(Ordering::SeqCst) {
                        metrics.decoded_at(clock.monotonic_ns());
                    }
                    seen.units.push(unit);
                }
                IngestEvent::Ended => {
                    seen.ended = true;
                    return seen;
                }
            }
        }
        sleep(Duration::from_millis(5)).await;
    }
}

pub fn decoding() -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(true))
}

/// Waits until the state fits, at most a (paused) day.
pub async fn state_when(rig: &Rig, fits: impl FnMut(&CameraState) -> bool) -> CameraState {
    let mut state = rig.handle.state.clone();
    let day = Duration::from_secs(86_400);
    tokio::time::timeout(day, state.wait_for(fits)).await.expect("the state comes").expect("the camera lives").clone()
}
