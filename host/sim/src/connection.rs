//! One client's connection: reading requests, writing answers and media, waiting for whatever comes next.
//!
//! Owns the loop and its order. A connection is one task with one timer; nothing in it waits for another connection.
//! `requests` answers, `output` writes, `session` is what SETUP makes.

mod output;
mod requests;
mod session;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use self::output::{Output, Progress};
use self::session::{Channel, Session};
use crate::faults::{CameraFaults, FaultEvent, Stall};
use crate::player::Step;
use crate::protocol::{FramingError, Incoming, Response, parse};
use crate::server::Shared;
use crate::stats::add;

/// Unsent answers and reports beyond this stop reading, so that a client that asks and never reads costs no more.
const MAX_UNSENT_BYTES: usize = 64 * 1024;
/// Media of one wake-up; more goes on in the next, so that a client that catches up does not keep others waiting.
const MAX_UNITS_A_TURN: usize = 32;
/// How long a client may take to understand that the connection is closed.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Faults of the camera that the connection asked for.
struct Watched {
    camera: usize,
    lasting: watch::Receiver<Arc<CameraFaults>>,
    events: broadcast::Receiver<FaultEvent>,
}

pub(crate) struct Connection {
    shared: Arc<Shared>,
    stream: TcpStream,
    client: SocketAddr,
    local: SocketAddr,
    input: BytesMut,
    output: Output,
    session: Option<Session>,
    watched: Option<Watched>,
    faults: Arc<CameraFaults>,
    /// Server time of the latest sign of life.
    heard_ns: u64,
    last_cseq: Option<u32>,
    /// Close as soon as all answers are out.
    closing: bool,
}

/// What the loop does next.
enum Next {
    /// Wait for the first of: input (if wanted), room for output (if wanted), a time.
    Wait { read: bool, write: bool, until: Instant },
    /// End.
    End(End),
}

/// How a connection ends.
enum End {
    /// In order (FIN), after what has been written.
    Close,
    /// With a reset.
    Abort,
    /// At once: there is nobody to tell.
    Gone,
}

enum Wake {
    Faults,
    Event(FaultEvent),
    Readable,
    Other,
}

impl Connection {
    pub(crate) fn new(shared: Arc<Shared>, stream: TcpStream, client: SocketAddr) -> io::Result<Self> {
        let local = stream.local_addr()?;
        // A picture is one write: waiting to fill segments would only delay it.
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_send_buffer_size(shared.config.send_buffer_bytes)?;
        let heard_ns = shared.now_ns();
        Ok(Self {
            shared,
            stream,
            client,
            local,
            input: BytesMut::new(),
            output: Output::default(),
            session: None,
            watched: None,
            faults: Arc::default(),
            heard_ns,
            last_cseq: None,
            closing: false,
        })
    }

    pub(crate) async fn run(mut self) {
        let stop = self.shared.stop.clone();
        let stopped = stop.cancelled();
        tokio::pin!(stopped);
        let end = loop {
            let (read, write, until) = match self.turn() {
                Ok(Next::Wait { read, write, until }) => (read, write, until),
                Ok(Next::End(end)) => break end,
                Err(error) => {
                    tracing::debug!(client = %self.client, %error, "the connection broke");
                    break End::Gone;
                }
            };
            let Self { stream, watched, .. } = &mut self;
            let wake = tokio::select! {
                biased;
                () = &mut stopped => break End::Gone,
                wake = changed(watched) => wake,
                // Readiness is only a hint; errors show at the read or write that follows.
                _ = stream.readable(), if read => Wake::Readable,
                _ = stream.writable(), if write => Wake::Other,
                () = tokio::time::sleep_until(until) => Wake::Other,
            };
            match wake {
                Wake::Readable if !self.read() => break End::Gone,
                Wake::Event(event) => {
                    if let Some(end) = self.happen(event) {
                        break end;
                    }
                }
                Wake::Faults => {
                    if let Some(watched) = &mut self.watched {
                        self.faults = Arc::clone(&watched.lasting.borrow_and_update());
                    }
                }
                Wake::Readable | Wake::Other => {}
            }
        };
        // The session ends with its counters before the client sees the end.
        self.session = None;
        match end {
            End::Gone => {}
            End::Close => {
                tokio::select! {
                    () = &mut stopped => {}
                    _ = tokio::time::timeout(CLOSE_LIMIT, close(self.stream)) => {}
                }
            }
            // Failing means that the connection is gone already.
            End::Abort => drop(SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))),
        }
    }

    /// Reads what there is, once; false at the end of the connection.
    fn read(&mut self) -> bool {
        self.input.reserve(2048);
        match self.stream.try_read_buf(&mut self.input) {
            Ok(0) => false,
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// Does all that can be done now.
    fn turn(&mut self) -> io::Result<Next> {
        let now_ns = self.shared.now_ns();
        let Some(silence_ends) = self.silence_ends(now_ns) else { return Ok(Next::End(End::Close)) };
        let mut until = self.shared.tick(silence_ends);
        if self.is_dead() {
            return Ok(Next::Wait { read: false, write: false, until });
        }
        self.take_input();
        let mut write = false;
        for turn in 0.. {
            match self.output.write(&self.shared, &self.stream, self.session.as_mut(), &self.faults)? {
                Progress::Done => {}
                Progress::Blocked => {
                    write = true;
                    if let Some(session) = self.session.as_mut().filter(|session| session.playing.is_some()) {
                        until = until.min(self.shared.tick(session.player.drop_late(now_ns)));
                        session.count_dropped(&self.shared);
                    }
                    break;
                }
                Progress::Paced(pause) => {
                    until = until.min(Instant::now() + pause);
                    break;
                }
            }
            if self.closing {
                return Ok(Next::End(End::Close));
            }
            if turn == MAX_UNITS_A_TURN {
                until = Instant::now();
                break;
            }
            if let Some(end) = self.follow_script() {
                return Ok(Next::End(end));
            }
            if self.is_dead() {
                return Ok(Next::Wait { read: false, write: false, until });
            }
            match self.load(self.shared.now_ns()) {
                Load::Loaded => {}
                Load::Nothing(None) => break,
                Load::Nothing(Some(at_ns)) => {
                    until = until.min(self.shared.tick(at_ns));
                    break;
                }
            }
        }
        Ok(Next::Wait { read: self.output.unsent() < MAX_UNSENT_BYTES, write, until })
    }

    /// Whether nothing at all is read or written, as after a power cut.
    fn is_dead(&self) -> bool {
        self.faults.stall == Stall::All || self.session.as_ref().is_some_and(|session| session.half_open)
    }

    /// Takes messages off the input until one is incomplete.
    fn take_input(&mut self) {
        while !self.closing && self.output.unsent() < MAX_UNSENT_BYTES {
            let (incoming, used) = match parse(&self.input, self.shared.config.max_request_bytes) {
                Ok(Some(found)) => found,
                Ok(None) => return,
                Err(error) => {
                    let status = if error == FramingError::TooLarge { 413 } else { 400 };
                    self.output.answer(&Response::new(status).encode(None));
                    self.closing = true;
                    return;
                }
            };
            self.input.advance(used);
            self.heard_ns = self.shared.now_ns();
            match incoming {
                Incoming::Request(request) => self.answer(&request),
                Incoming::Data(..) => {
                    if let Some(session) = &self.session {
                        add(&self.shared.cameras[session.camera].counters.reports_received, 1);
                    }
                }
                Incoming::Response => {}
            }
        }
    }

    /// When the client will have been silent for too long; `None` when it has been.
    fn silence_ends(&mut self, now_ns: u64) -> Option<u64> {
        if let Some(session) = &self.session
            && let Channel::Udp { seen, .. } = &session.channel
            && let Some(at_ns) = seen.take()
        {
            self.heard_ns = self.heard_ns.max(at_ns);
            add(&self.shared.cameras[session.camera].counters.reports_received, 1);
        }
        let end = self.heard_ns + self.shared.config.session_timeout_s * 1_000_000_000;
        if now_ns < end {
            return Some(end);
        }
        if let Some(session) = &self.session {
            add(&self.shared.cameras[session.camera].counters.sessions_timed_out, 1);
        }
        tracing::debug!(client = %self.client, "silent for too long");
        None
    }

    /// Fires what the script says for the units that have gone.
    fn follow_script(&mut self) -> Option<End> {
        let session = self.session.as_mut()?;
        let passed = session.player.passed();
        if passed < session.script_from || session.playing.is_none() {
            return None;
        }
        let from = std::mem::replace(&mut session.script_from, passed + 1);
        let faults = Arc::clone(&self.faults);
        let due = faults.script.iter().filter(|step| (from..=passed).contains(&step.after_units));
        due.filter_map(|step| self.happen(step.event)).next()
    }

    /// Makes an event happen; tells how the connection ends, if it does.
    fn happen(&mut self, event: FaultEvent) -> Option<End> {
        let session = match (event, &mut self.session) {
            (FaultEvent::Close, _) => return Some(End::Close),
            (FaultEvent::Abort, _) => return Some(End::Abort),
            (_, None) => return None,
            (_, Some(session)) => session,
        };
        match event {
            FaultEvent::Close | FaultEvent::Abort => {}
            FaultEvent::HalfOpen => session.half_open = true,
            FaultEvent::TimestampJumpMs(by) => session.player.jump(by),
            FaultEvent::SwitchClip(clip) => session.show(&self.shared, clip),
            FaultEvent::ChangeSsrc => session.reseed(),
        }
        None
    }

    /// Loads the next unit or report that is due into the output.
    fn load(&mut self, now_ns: u64) -> Load {
        let Some(session) = self.session.as_mut().filter(|session| session.playing.is_some()) else {
            return Load::Nothing(None);
        };
        if self.faults.stall == Stall::Media {
            return Load::Nothing(None);
        }
        if self.faults.clip != session.lasting_clip {
            session.lasting_clip = self.faults.clip;
            session.show(&self.shared, self.faults.clip);
        }
        if !self.faults.quirks.no_reports && now_ns >= session.next_report_ns {
            session.next_report_ns = now_ns + self.shared.config.report_interval_ms * 1_000_000;
            let report = session.report(&self.shared, now_ns);
            self.output.report(&self.shared, session, &report);
        }
        let step = session.player.step(now_ns);
        session.count_dropped(&self.shared);
        match step {
            Step::Send(unit) => {
                self.output.load(unit, session, &self.faults);
                Load::Loaded
            }
            Step::Wait(at_ns) => Load::Nothing(Some(at_ns)),
            Step::Finished => {
                let goodbye = session.goodbye();
                self.output.report(&self.shared, session, &goodbye);
                session.playing = None;
                self.closing = true;
                Load::Loaded
            }
        }
    }
}

enum Load {
    /// The output has something.
    Loaded,
    /// Not before this server time, if ever.
    Nothing(Option<u64>),
}

/// Says that nothing more comes, then reads until the client has understood: closing a socket with unread input resets
/// the connection, and the client would lose what it has not read yet.
async fn close(mut stream: TcpStream) {
    let mut sink = [0; 4096];
    if stream.shutdown().await.is_ok() {
        while matches!(stream.read(&mut sink).await, Ok(n) if n > 0) {}
    }
}

/// Waits for news of the camera's faults; for ever when none is watched.
async fn changed(watched: &mut Option<Watched>) -> Wake {
    let Some(watched) = watched else { return std::future::pending().await };
    tokio::select! {
        changed = watched.lasting.changed() => match changed {
            Ok(()) => Wake::Faults,
            Err(_) => std::future::pending().await,
        },
        event = watched.events.recv() => match event {
            Ok(event) => Wake::Event(event),
            Err(broadcast::error::RecvError::Lagged(lost)) => {
                tracing::warn!(camera = watched.camera, lost, "faults were fired faster than the connection could follow");
                Wake::Other
            }
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        },
    }
}
