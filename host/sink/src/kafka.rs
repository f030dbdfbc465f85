//! Messages to Kafka, over a spool on the disk.
//!
//! Accepting appends to the spool and nothing else: no broker is ever waited for. The sender thread reads the spool and
//! hands records to librdkafka without waiting for each delivery; delivery reports mark records as done. What bounds
//! memory is `max_in_flight_messages` and `max_in_flight_bytes`; everything else waits on the disk, up to
//! `spool.max_bytes`, beyond which new messages are refused and counted.
//!
//! Threads: sender, librdkafka's own and the one that polls it, keeper (sync, checkpoint, deletion), monitor (is
//! anybody there?).

mod client;
mod lanes;
mod monitor;
mod probe;
mod sender;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use facestream_core::{Clock, Message};

pub(crate) use client::client_config_problems;
pub use probe::{Broker, KafkaCheck, check, librdkafka_version, reach};

use crate::codec;
use crate::config::{Fsync, KafkaConfig, SpoolConfig};
use crate::fs::FileSystem;
use crate::oversize::Oversize;
use crate::refused::RefusedLog;
use crate::signal::Signal;
use crate::sinks::{Left, Sink};
use crate::spool::{AppendError, Limits, Location, OpenError, Reader, Spool};
use crate::status::{Cause, Counters, Health, OnEvent, RefuseReason, SinkStatus};

/// Why the Kafka sink could not be started. An unreachable broker is not among the reasons.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// The spool's folder cannot be used.
    #[error(transparent)]
    Spool(#[from] OpenError),
    /// librdkafka does not take the settings (its words, without values that may be secret).
    #[error("librdkafka does not take the settings of [sinks.kafka]: {0}")]
    Client(String),
    /// The folder of pictures cannot be read.
    #[error("cannot read {path}: {source}")]
    Images {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// No thread.
    #[error("cannot start a thread of the Kafka sink: {0}")]
    Thread(std::io::Error),
}

/// A record that librdkafka has.
#[derive(Debug)]
struct Flight {
    location: Location,
    topic: Arc<str>,
    bytes: usize,
}

/// What became of a record that was not delivered.
#[derive(Debug)]
enum Failure {
    /// The broker will never take it.
    Rejected(String),
    /// Its topic is missing or forbidden.
    Topic(String),
}

#[derive(Debug, Default)]
struct InFlight {
    by_seq: BTreeMap<u64, Flight>,
    by_topic: HashMap<Arc<str>, usize>,
    bytes: usize,
    /// For the sender to deal with; bounded by what was in flight.
    failures: Vec<(u64, Flight, Failure)>,
    /// The client cannot go on.
    rebuild: Option<String>,
    /// Monotonic time (ns) of the latest delivery, or of the first record in flight after none was.
    progress_ns: u64,
}

impl InFlight {
    fn insert(&mut self, seq: u64, flight: Flight, now_ns: u64) {
        if self.by_seq.is_empty() {
            self.progress_ns = now_ns;
        }
        self.bytes += flight.bytes;
        *self.by_topic.entry(Arc::clone(&flight.topic)).or_default() += 1;
        self.by_seq.insert(seq, flight);
    }

    fn remove(&mut self, seq: u64) -> Option<Flight> {
        let flight = self.by_seq.remove(&seq)?;
        self.bytes -= flight.bytes;
        if let Some(n) = self.by_topic.get_mut(&flight.topic) {
            *n -= 1;
            if *n == 0 {
                self.by_topic.remove(&flight.topic);
            }
        }
        Some(flight)
    }

    fn clear(&mut self) {
        self.by_seq.clear();
        self.by_topic.clear();
        self.bytes = 0;
        self.rebuild = None;
    }
}

/// What the sink's threads share.
struct Shared {
    config: KafkaConfig,
    clock: Arc<dyn Clock>,
    spool: Arc<Spool>,
    refused: RefusedLog,
    counters: Arc<Counters>,
    health: Health,
    in_flight: Mutex<InFlight>,
    /// Moves when there may be something to do for the sender, or something was done.
    signal: Signal,
    /// Counts clients: reports of failure from one that was replaced mean nothing.
    epoch: AtomicU64,
    closing: AtomicBool,
    stop: AtomicBool,
    /// Moves when `stop` is set, for threads that sleep.
    stopped: Signal,
    producer: RwLock<Option<client::Producer>>,
    /// The latest append to the spool failed.
    append_failed: AtomicBool,
    /// What librdkafka complained of last.
    last_error: Mutex<String>,
}

impl Shared {
    fn in_flight(&self) -> MutexGuard<'_, InFlight> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Sleeps until the sink stops or the time is over. `true`: it stops.
    fn sleep(&self, time: Duration) -> bool {
        let seen = self.stopped.current();
        if !self.stopping() {
            self.stopped.wait(seen, time);
        }
        self.stopping()
    }
}

/// The sink.
pub struct KafkaSink {
    shared: Arc<Shared>,
    oversize: Oversize,
    fsync: Fsync,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSink").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl KafkaSink {
    /// Opens the spool in `data/spool/kafka` and starts sending what is in it. Brokers need not be there.
    ///
    /// # Errors
    /// When the spool's folder or the settings cannot be used.
    pub fn open(
        config: KafkaConfig,
        spool: &SpoolConfig,
        data: &Path,
        fs: Arc<dyn FileSystem>,
        clock: Arc<dyn Clock>,
        on_event: OnEvent,
    ) -> Result<Self, KafkaError> {
        let counters = Arc::new(Counters::default());
        let limits = Limits { segment_bytes: spool.segment_bytes, max_bytes: spool.max_bytes };
        let folder = data.join("spool").join("kafka");
        let fsync_interval = Duration::from_millis(spool.fsync_interval_ms);
        let fsync = spool.fsync;
        let spool = Spool::open(Arc::clone(&fs), &folder, limits, Arc::clone(&counters))?;
        let oversize =
            Oversize::new(Arc::clone(&fs), Arc::clone(&clock), data, config.message_max_bytes, config.images_max_bytes)
                .map_err(|source| KafkaError::Images { path: data.join("images"), source })?;
        let shared = Arc::new(Shared {
            clock,
            spool,
            refused: RefusedLog::new(fs, data, "kafka"),
            counters,
            health: Health::new("kafka", on_event),
            in_flight: Mutex::default(),
            signal: Signal::default(),
            epoch: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            stopped: Signal::default(),
            producer: RwLock::new(None),
            append_failed: AtomicBool::new(false),
            last_error: Mutex::default(),
            config,
        });
        // The first one here: settings that no client can be made of are an error of the start, not of some thread.
        let producer = client::build(&shared).map_err(KafkaError::Client)?;
        *shared.producer.write().unwrap_or_else(PoisonError::into_inner) = Some(producer);
        shared.health.degrade(Cause::Broker, "no broker has answered yet");
        let sink = Self { shared, oversize, fsync, threads: Mutex::default() };
        let reader = Reader::new(Arc::clone(&sink.shared.spool));
        sink.thread("kafka-sender", |shared| sender::Sender::new(shared, reader).run())?;
        sink.thread("kafka-keeper", move |shared| monitor::keep(&shared, fsync_interval))?;
        sink.thread("kafka-monitor", |shared| monitor::watch(&shared))?;
        Ok(sink)
    }

    fn thread(&self, name: &str, run: impl FnOnce(Arc<Shared>) + Send + 'static) -> Result<(), KafkaError> {
        let shared = Arc::clone(&self.shared);
        let thread =
            std::thread::Builder::new().name(name.to_owned()).spawn(move || run(shared)).map_err(KafkaError::Thread)?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    fn try_accept(&self, message: &Message) -> Result<(), RefuseReason> {
        let s = &*self.shared;
        if s.closing.load(Ordering::SeqCst) {
            return Err(RefuseReason::Closed);
        }
        let renamed =
            s.config.topics.get(&message.topic).map(|topic| Message { topic: topic.clone(), ..message.clone() });
        let message = renamed.as_ref().unwrap_or(message);
        let fitted = self.oversize.fit(message)?;
        let message = fitted.as_ref().map_or(message, |fitted| &fitted.message);
        let mut buffer = Spool::buffer(message.payload.len() + 1024);
        codec::encode(message, &mut buffer);
        // Counted first: a status must never show more delivered than accepted.
        Counters::add(&s.counters.accepted, 1);
        let appended = s.spool.append(buffer, s.clock.wall_ns() / 1_000_000);
        let seq = appended.map_err(|error| {
            s.counters.accepted.fetch_sub(1, Ordering::Relaxed);
            fitted.iter().for_each(|fitted| self.oversize.take_back(fitted));
            match error {
                AppendError::Full { .. } => {
                    s.health.degrade(Cause::Full, error.to_string());
                    RefuseReason::SpoolFull
                }
                AppendError::Io { .. } => {
                    s.append_failed.store(true, Ordering::SeqCst);
                    s.health.degrade(Cause::DiskWrite, format!("cannot write to the spool: {error}"));
                    RefuseReason::SpoolWrite
                }
            }
        })?;
        if fitted.is_some() {
            Counters::add(&s.counters.image_refs, 1);
        }
        if self.fsync == Fsync::Always
            && let Err(error) = s.spool.sync_through(seq)
        {
            // It is in the file and may well arrive; that it is durable cannot be promised, so it is kept and told.
            s.health.degrade(Cause::DiskWrite, format!("cannot sync the spool: {error}"));
        }
        s.append_failed.store(false, Ordering::SeqCst);
        s.signal.bump();
        Ok(())
    }
}

impl Sink for KafkaSink {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn accept(&self, message: &Message) -> Result<(), RefuseReason> {
        self.try_accept(message).map_err(|reason| {
            if matches!(reason, RefuseReason::TooLarge | RefuseReason::ImageNotStored) {
                self.shared.refused.write(message, reason.as_str());
            }
            self.shared.counters.refuse(reason)
        })
    }

    fn status(&self) -> SinkStatus {
        let s = &*self.shared;
        let mut status = s.counters.status(self.name(), s.health.state());
        let held = s.spool.held();
        status.queued_messages = held.messages;
        status.queued_bytes = held.bytes;
        status.spool_bytes = held.disk_bytes;
        status.oldest_age_ms = held.oldest_ms.map(|ms| (s.clock.wall_ns() / 1_000_000).saturating_sub(ms));
        status.recovered = s.spool.recovered();
        status.in_flight = s.in_flight().by_seq.len() as u64;
        status
    }

    fn close(&self, deadline: Instant) -> Left {
        let s = &*self.shared;
        s.closing.store(true, Ordering::SeqCst);
        s.signal.bump();
        loop {
            let seen = s.signal.current();
            let left = deadline.saturating_duration_since(Instant::now());
            if s.spool.held().messages == 0 || left.is_zero() {
                break;
            }
            s.signal.wait(seen, left);
        }
        s.stop.store(true, Ordering::SeqCst);
        s.signal.bump();
        s.stopped.bump();
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if thread.join().is_err() {
                tracing::error!("A thread of the Kafka sink panicked.");
            }
        }
        // Here when the sender never started. It must not be dropped by a thread of its own.
        drop(s.producer.write().unwrap_or_else(PoisonError::into_inner).take());
        if let Err(error) = s.spool.close() {
            tracing::warn!(%error, "The spool could not be closed cleanly; messages may be sent again after the next start.");
        }
        let held = s.spool.held();
        Left { messages: held.messages, bytes: held.bytes, kept: true }
    }
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        self.close(Instant::now());
    }
}

#[cfg(test)]
mod tests;
