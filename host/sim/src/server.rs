//! The simulator: listening, what all connections share, and the end of it all.
//!
//! Owns sockets and tasks: one that accepts, one that reads receiver reports from UDP, one a connection. Must not know RTSP.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use facestream_core::SourceUrl;
use secrecy::ExposeSecret as _;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Guard;
use crate::clip::Clip;
use crate::config::SimConfig;
use crate::connection::Connection;
use crate::error::SimError;
use crate::faults::{Control, FaultState, states};
use crate::rtcp::is_rtcp;
use crate::stats::{Counters, add};

type ListenCommand = (bool, oneshot::Sender<Result<(), String>>);

/// A camera.
#[derive(Debug)]
pub(crate) struct Camera {
    pub(crate) path: String,
    pub(crate) faults: FaultState,
    pub(crate) counters: Counters,
    /// Place of its sends within the frame interval, in `0.0..1.0`.
    pub(crate) phase: f64,
    pub(crate) number: usize,
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: SimConfig,
    pub(crate) clips: Vec<Arc<Clip>>,
    pub(crate) cameras: Vec<Camera>,
    paths: HashMap<String, usize>,
    pub(crate) guard: Guard,
    pub(crate) udp: Udp,
    pub(crate) stop: CancellationToken,
    epoch: Instant,
    connections: AtomicUsize,
    sessions: AtomicU64,
    /// Bound 1: whoever wants to change listening waits for the one before.
    listening: mpsc::Sender<ListenCommand>,
}

impl Shared {
    /// Nanoseconds since the server started.
    pub(crate) fn now_ns(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The first tick of the grid that is not before a time.
    pub(crate) fn tick(&self, at_ns: u64) -> Instant {
        let grid = self.config.tick_ms * 1_000_000;
        self.epoch + Duration::from_nanos(at_ns.div_ceil(grid).saturating_mul(grid))
    }

    pub(crate) fn camera_at(&self, path: &str) -> Option<usize> {
        self.paths.get(path).copied()
    }

    /// A number for each session, from 0.
    pub(crate) fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) async fn set_listening(&self, listening: bool) -> Result<(), String> {
        let gone = "the simulator is shutting down".to_owned();
        let (answer, result) = oneshot::channel();
        self.listening.send((listening, answer)).await.map_err(|_| gone.clone())?;
        result.await.map_err(|_| gone)?
    }
}

/// The pair of sockets that all UDP sessions send from.
#[derive(Debug)]
pub(crate) struct Udp {
    pub(crate) rtp: UdpSocket,
    pub(crate) rtcp: UdpSocket,
    pub(crate) ports: (u16, u16),
    /// Where clients' reports come from, and when they last did (server time): bounded by the number of connections.
    seen: Mutex<HashMap<SocketAddr, Arc<AtomicU64>>>,
}

impl Udp {
    /// RTP wants an even port and RTCP the next one (RFC 3550 11).
    async fn bind(address: IpAddr) -> Result<Self, SimError> {
        let fail = |source| SimError::Bind { address: SocketAddr::new(address, 0), source };
        let mut last = std::io::Error::other("no pair of neighbouring UDP ports is free");
        for _ in 0..64 {
            let rtp = UdpSocket::bind((address, 0)).await.map_err(fail)?;
            let port = rtp.local_addr().map_err(fail)?.port();
            if port % 2 != 0 {
                continue;
            }
            match UdpSocket::bind((address, port + 1)).await {
                Ok(rtcp) => return Ok(Self { rtp, rtcp, ports: (port, port + 1), seen: Mutex::default() }),
                Err(error) => last = error,
            }
        }
        Err(fail(last))
    }

    /// Notes when reports come from an address, until the result is dropped.
    pub(crate) fn watch(shared: &Arc<Shared>, client: SocketAddr) -> Seen {
        let at_ns = Arc::new(AtomicU64::new(0));
        let mut seen = shared.udp.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(client, Arc::clone(&at_ns));
        drop(seen);
        Seen { shared: Arc::clone(shared), client, at_ns }
    }

    async fn read_reports(shared: Arc<Shared>) {
        let mut report = [0u8; 2048];
        let mut punch = [0u8; 64];
        loop {
            tokio::select! {
                () = shared.stop.cancelled() => return,
                // Clients open their firewalls by sending something to the RTP port.
                _ = shared.udp.rtp.recv_from(&mut punch) => {}
                received = shared.udp.rtcp.recv_from(&mut report) => {
                    if let Ok((length, client)) = received && is_rtcp(&report[..length]) {
                        let seen = shared.udp.seen.lock().unwrap_or_else(PoisonError::into_inner);
                        if let Some(at_ns) = seen.get(&client) {
                            at_ns.store(shared.now_ns().max(1), Ordering::Relaxed);
                        }
                    }
                }
            }
        }
    }
}

/// See [`Udp::watch`].
#[derive(Debug)]
pub(crate) struct Seen {
    shared: Arc<Shared>,
    client: SocketAddr,
    at_ns: Arc<AtomicU64>,
}

impl Seen {
    /// When a report came since the last call, in server time.
    pub(crate) fn take(&self) -> Option<u64> {
        Some(self.at_ns.swap(0, Ordering::Relaxed)).filter(|&at| at != 0)
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        let mut seen = self.shared.udp.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.get(&self.client).is_some_and(|at| Arc::ptr_eq(at, &self.at_ns)) {
            seen.remove(&self.client);
        }
    }
}

/// Counts a session as playing for as long as it lives.
#[derive(Debug)]
pub(crate) struct Playing {
    shared: Arc<Shared>,
    camera: usize,
}

impl Playing {
    pub(crate) fn new(shared: &Arc<Shared>, camera: usize) -> Self {
        add(&shared.cameras[camera].counters.playing, 1);
        Self { shared: Arc::clone(shared), camera }
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        self.shared.cameras[self.camera].counters.playing.fetch_sub(1, Ordering::Relaxed);
    }
}

/// N simulated cameras behind one RTSP port. Dropping it stops them; [`Simulator::shutdown`] also waits for the end.
#[derive(Debug)]
pub struct Simulator {
    shared: Arc<Shared>,
    address: SocketAddr,
    tasks: TaskTracker,
}

impl Simulator {
    /// Binds the sockets and serves. All cameras show `clips[0]`; further clips are there for
    /// [`crate::CameraFaults::clip`] and [`crate::FaultEvent::SwitchClip`]. Needs a Tokio runtime.
    ///
    /// # Errors
    /// When settings contradict themselves or the address cannot be had.
    pub async fn start(config: SimConfig, clips: Vec<Arc<Clip>>) -> Result<Self, SimError> {
        let problems = config.validate(clips.len());
        if !problems.is_empty() {
            return Err(SimError::Settings(problems));
        }
        let fail = |source| SimError::Bind { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let cameras: Vec<Camera> = states(&config.faults, config.cameras)
            .enumerate()
            .map(|(number, faults)| Camera {
                path: config.path.replace("{n}", &(number + 1).to_string()),
                faults,
                counters: Counters::default(),
                phase: number as f64 / config.cameras as f64,
                number,
            })
            .collect();
        let (listening, commands) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            paths: cameras.iter().map(|camera| (camera.path.clone(), camera.number)).collect(),
            guard: Guard::new(config.credentials.clone(), config.auth, Arc::clone(&config.clock))?,
            udp: Udp::bind(address.ip()).await?,
            clips,
            cameras,
            config,
            stop: CancellationToken::new(),
            epoch: Instant::now(),
            connections: AtomicUsize::new(0),
            sessions: AtomicU64::new(0),
            listening,
        });
        let tasks = TaskTracker::new();
        tasks.spawn(accept(Arc::clone(&shared), listener, address, commands, tasks.clone()));
        tasks.spawn(Udp::read_reports(Arc::clone(&shared)));
        tasks.close();
        Ok(Self { shared, address, tasks })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// One address a camera, without credentials.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        // A server on all addresses is reached on this machine by loopback.
        let ip = match self.address.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
            IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        };
        let host = SocketAddr::new(ip, self.address.port());
        self.shared.cameras.iter().map(|camera| format!("rtsp://{host}{}", camera.path)).collect()
    }

    /// One address a camera, with user name and password where there are any; they do not print.
    #[must_use]
    pub fn urls_with_credentials(&self) -> Vec<SourceUrl> {
        let login = self.shared.config.credentials.as_ref().map_or_else(String::new, |credentials| {
            format!("{}:{}@", escape(&credentials.user), escape(credentials.password.expose_secret()))
        });
        let with = |url: String| url.replacen("://", &format!("://{login}"), 1);
        // Always a URL: host and port are numbers, the path was validated, the login is escaped.
        self.urls().into_iter().filter_map(|url| SourceUrl::parse(&with(url)).ok()).collect()
    }

    /// The handle for faults and counters.
    #[must_use]
    pub fn control(&self) -> Control {
        Control { shared: Arc::clone(&self.shared) }
    }

    /// Closes everything and waits until the last task has ended.
    pub async fn shutdown(self) {
        self.shared.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

/// Percent-encodes all but unreserved characters (RFC 3986 2.3).
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

async fn accept(
    shared: Arc<Shared>,
    listener: TcpListener,
    address: SocketAddr,
    mut commands: mpsc::Receiver<ListenCommand>,
    tasks: TaskTracker,
) {
    let mut listener = Some(listener);
    loop {
        let next = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.stop.cancelled() => return,
            Some((wanted, answer)) = commands.recv() => {
                let result = match (wanted, listener.is_some()) {
                    (true, false) => TcpListener::bind(address).await.map(|new| listener = Some(new)),
                    (false, _) => { listener = None; Ok(()) }
                    (true, true) => Ok(()),
                };
                // Whoever asked may have stopped waiting.
                drop(answer.send(result.map_err(|error| format!("cannot listen on {address} again: {error}"))));
            }
            accepted = next => match accepted {
                Ok((stream, client)) => serve(&shared, stream, client, &tasks),
                Err(error) => {
                    // Out of file descriptors, mostly: trying again at once would spin.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

fn serve(shared: &Arc<Shared>, stream: TcpStream, client: SocketAddr, tasks: &TaskTracker) {
    if shared.connections.fetch_add(1, Ordering::Relaxed) >= shared.config.max_connections {
        shared.connections.fetch_sub(1, Ordering::Relaxed);
        tracing::warn!(%client, limit = shared.config.max_connections, "too many connections, closing this one");
        return;
    }
    let shared = Arc::clone(shared);
    tasks.spawn(async move {
        match Connection::new(Arc::clone(&shared), stream, client) {
            Ok(connection) => connection.run().await,
            Err(error) => tracing::debug!(%client, %error, "the connection was gone at once"),
        }
        shared.connections.fetch_sub(1, Ordering::Relaxed);
    });
}
