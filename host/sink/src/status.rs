//! What a sink says about itself: state, counters, reasons.
//!
//! Owns the closed lists of reasons and the rule that a sink is degraded while any cause is. Must not decide anything.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use facestream_core::event::Event;
use serde::Serialize;

/// Hears of every change between working and degraded. Called from sink threads: must not block.
pub type OnEvent = Arc<dyn Fn(Event) + Send + Sync>;

macro_rules! reasons {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vmeta])* $variant),+ }
        impl $name {
            /// Every member, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The name used in status and metrics.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

reasons! {
    /// Why a sink did not take a message. The caller still has it and knows.
    RefuseReason {
        /// The topic's name breaks Kafka's rule.
        InvalidTopic = "invalid-topic",
        /// A header's name is empty, too long or holds a NUL.
        InvalidHeader = "invalid-header",
        /// So many different topics were used already that this one would be one too many.
        TooManyTopics = "too-many-topics",
        /// The same for the message's camera alone.
        TooManyTopicsOfCamera = "too-many-topics-of-camera",
        /// Too large, also without its pictures.
        TooLarge = "too-large",
        /// Its picture could not be written to a file, or the budget for such files is used up.
        ImageNotStored = "image-not-stored",
        /// The spool is at its largest.
        SpoolFull = "spool-full",
        /// The spool's disk refused the write.
        SpoolWrite = "spool-write",
        /// The queue in memory is full.
        QueueFull = "queue-full",
        /// The sink is closing.
        Closed = "closed",
    }
}

impl RefuseReason {
    /// The setting that is the bound which the message met, where operators may want to raise it at once.
    #[must_use]
    pub fn setting(self) -> Option<&'static str> {
        match self {
            Self::TooManyTopics => Some("sinks.max_topics"),
            Self::TooManyTopicsOfCamera => Some("sinks.max_topics_per_camera"),
            _ => None,
        }
    }
}

reasons! {
    /// Why a message that was accepted will not arrive.
    LossReason {
        /// Its record in the spool was damaged on the disk.
        SpoolCorrupt = "spool-corrupt",
        /// The spool's file that held it is gone, or the disk refused to read it for minutes.
        SpoolMissing = "spool-missing",
        /// The machine stopped while its record or line was being written.
        TornTail = "torn-tail",
        /// The broker refuses it for good.
        BrokerRejected = "broker-rejected",
        /// Its topic does not exist or is forbidden, and stayed so for the configured time.
        TopicUnavailable = "topic-unavailable",
        /// The disk refused it for the configured time.
        WriteFailed = "write-failed",
        /// The grace period for stopping ran out.
        ShutdownGrace = "shutdown-grace",
    }
}

/// Whether a sink does its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "reason", rename_all = "kebab-case")]
pub enum SinkState {
    /// It does.
    Ok,
    /// It does not, or only in part; why, in words that hold no credential. It recovers by itself.
    Degraded(String),
}

/// Snapshot of one sink.
#[derive(Clone, Debug, Serialize)]
pub struct SinkStatus {
    /// Name: `kafka`, `jsonl`.
    pub name: String,
    /// Whether it works.
    #[serde(flatten)]
    pub state: SinkState,
    /// Messages accepted and neither delivered nor lost yet.
    pub queued_messages: u64,
    /// Bytes of them.
    pub queued_bytes: u64,
    /// Messages of them that are on their way to the broker.
    pub in_flight: u64,
    /// Bytes of spool files.
    pub spool_bytes: u64,
    /// Age of the oldest queued message in milliseconds, once it is known.
    pub oldest_age_ms: Option<u64>,
    /// Messages taken since the start.
    pub accepted: u64,
    /// Messages found in the spool at the start.
    pub recovered: u64,
    /// Messages delivered (acknowledged by all in-sync replicas; written to the file).
    pub delivered: u64,
    /// Messages handed over again after a failure; each may arrive twice.
    pub resent: u64,
    /// Messages whose pictures went to files.
    pub image_refs: u64,
    /// How often the client was built anew after an error it could not live with.
    pub rebuilds: u64,
    /// Messages refused, by reason; only those above zero.
    pub refused: BTreeMap<&'static str, u64>,
    /// Accepted messages lost, by reason; only those above zero.
    pub lost: BTreeMap<&'static str, u64>,
    /// Messages delivered by topic.
    pub topics: BTreeMap<String, u64>,
}

/// Counters behind a status. All relaxed: each number is right, a set of them is only nearly of one instant.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) accepted: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) resent: AtomicU64,
    pub(crate) image_refs: AtomicU64,
    pub(crate) rebuilds: AtomicU64,
    refused: Vec<AtomicU64>,
    lost: Vec<AtomicU64>,
    /// Bounded by the number of topics that [`crate::Sinks`] lets in.
    topics: Mutex<BTreeMap<String, u64>>,
}

impl Default for Counters {
    fn default() -> Self {
        let zeros = |n: usize| (0..n).map(|_| AtomicU64::new(0)).collect();
        Self {
            accepted: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            resent: AtomicU64::new(0),
            image_refs: AtomicU64::new(0),
            rebuilds: AtomicU64::new(0),
            refused: zeros(RefuseReason::ALL.len()),
            lost: zeros(LossReason::ALL.len()),
            topics: Mutex::default(),
        }
    }
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn refuse(&self, reason: RefuseReason) -> RefuseReason {
        Self::add(&self.refused[reason as usize], 1);
        reason
    }

    pub(crate) fn lose(&self, reason: LossReason, n: u64) {
        Self::add(&self.lost[reason as usize], n);
    }

    pub(crate) fn deliver(&self, topic: &str, n: u64) {
        Self::add(&self.delivered, n);
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        match topics.get_mut(topic) {
            Some(count) => *count += n,
            None => drop(topics.insert(topic.to_owned(), n)),
        }
    }

    /// A status with the counters filled in and everything else empty.
    pub(crate) fn status(&self, name: &str, state: SinkState) -> SinkStatus {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        SinkStatus {
            name: name.to_owned(),
            state,
            queued_messages: 0,
            queued_bytes: 0,
            in_flight: 0,
            spool_bytes: 0,
            oldest_age_ms: None,
            accepted: get(&self.accepted),
            recovered: 0,
            delivered: get(&self.delivered),
            resent: get(&self.resent),
            image_refs: get(&self.image_refs),
            rebuilds: get(&self.rebuilds),
            refused: RefuseReason::ALL
                .iter()
                .map(|&r| (r.as_str(), get(&self.refused[r as usize])))
                .filter(|&(_, n)| n > 0)
                .collect(),
            lost: LossReason::ALL
                .iter()
                .map(|&r| (r.as_str(), get(&self.lost[r as usize])))
                .filter(|&(_, n)| n > 0)
                .collect(),
            topics: self.topics.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// What can be wrong with a sink. Several can be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// No broker answers.
    Broker,
    /// Brokers answer, but deliveries do not come.
    Stalled,
    /// The client died and could not be built again yet.
    Client,
    /// A topic does not exist or is forbidden.
    Topic,
    /// The disk refuses writes.
    DiskWrite,
    /// The disk refuses reads.
    DiskRead,
    /// What may be stored is stored.
    Full,
}

/// The state of one sink, and who is told of its changes.
pub(crate) struct Health {
    sink: String,
    causes: Mutex<BTreeMap<Cause, String>>,
    on_event: OnEvent,
}

impl Health {
    pub(crate) fn new(sink: &str, on_event: OnEvent) -> Self {
        Self { sink: sink.to_owned(), causes: Mutex::default(), on_event }
    }

    /// Notes that something is wrong. Logs and tells only when it was not wrong before.
    pub(crate) fn degrade(&self, cause: Cause, reason: impl Into<String>) {
        let reason = reason.into();
        let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        if causes.insert(cause, reason.clone()).is_none() {
            let all = join(&causes);
            drop(causes);
            tracing::warn!(sink = self.sink, %reason, "Sink is degraded.");
            (self.on_event)(Event::Sink { sink: self.sink.clone(), degraded: true, reason: Some(all) });
        }
    }

    /// Notes that it is right again.
    pub(crate) fn mend(&self, cause: Cause) {
        let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        if causes.remove(&cause).is_some() {
            let degraded = !causes.is_empty();
            let reason = degraded.then(|| join(&causes));
            drop(causes);
            tracing::info!(sink = self.sink, mended = ?cause, still_degraded = degraded, "Sink recovered.");
            (self.on_event)(Event::Sink { sink: self.sink.clone(), degraded, reason });
        }
    }

    pub(crate) fn has(&self, cause: Cause) -> bool {
        self.causes.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&cause)
    }

    pub(crate) fn state(&self) -> SinkState {
        let causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        if causes.is_empty() { SinkState::Ok } else { SinkState::Degraded(join(&causes)) }
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("sink", &self.sink).field("state", &self.state()).finish_non_exhaustive()
    }
}

fn join(causes: &BTreeMap<Cause, String>) -> String {
    causes.values().map(String::as_str).collect::<Vec<_>>().join("; ")
}
