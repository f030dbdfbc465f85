//! All sinks as one.
//!
//! Owns the checks that hold for every sink and the rule for several: a message counts as accepted when one of them
//! took it; each that did not counts it as refused.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use facestream_core::{Clock, Message};
use serde::Serialize;

use crate::check::check;
use crate::config::SinkConfig;
use crate::fs::{Disk, FileSystem};
use crate::jsonl::JsonlSink;
use crate::kafka::{KafkaError, KafkaSink};
use crate::status::{Counters, OnEvent, RefuseReason, SinkState, SinkStatus};
use crate::topics::Topics;

/// Takes messages and sees to their delivery. Called from the threads that guests run on: `accept` must not wait for
/// a network, and for a disk only for a bounded time.
pub trait Sink: Send + Sync {
    /// Name in status and metrics.
    fn name(&self) -> &'static str;
    /// Takes a message over: from now on it is delivered at least once, or counted as lost with its reason.
    ///
    /// # Errors
    /// When it does not take it; counted already.
    fn accept(&self, message: &Message) -> Result<(), RefuseReason>;
    /// How it is doing.
    fn status(&self) -> SinkStatus;
    /// Takes nothing more, delivers what it has until the deadline, and says what is left. Blocks.
    fn close(&self, deadline: Instant) -> Left;
}

/// What a sink had not delivered when it closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Left {
    /// Messages.
    pub messages: u64,
    /// Bytes.
    pub bytes: u64,
    /// Whether they are kept on the disk for the next start; lost otherwise, and counted so.
    pub kept: bool,
}

/// No sink took a message. Each has counted it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no sink took the message: {}", .0.iter().map(told).collect::<Vec<_>>().join(", "))]
pub struct Refused(pub Vec<(&'static str, RefuseReason)>);

fn told((sink, reason): &(&'static str, RefuseReason)) -> String {
    let bound = reason.setting().map(|key| format!(" (the bound is {key})")).unwrap_or_default();
    format!("{sink}: {reason}{bound}")
}

/// Why sinks could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Settings that cannot work.
    #[error("{}", .0.join("; "))]
    Config(Vec<String>),
    /// Kafka or its spool.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// No thread for the JSONL sink.
    #[error("cannot start the JSONL sink: {0}")]
    Jsonl(std::io::Error),
}

/// Every sink of the host.
pub struct Sinks {
    sinks: Vec<Arc<dyn Sink>>,
    topics: Topics,
    counters: Counters,
}

impl std::fmt::Debug for Sinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.sinks.iter().map(|s| s.name())).finish()
    }
}

impl Sinks {
    /// Starts the sinks of a configuration in the data folder. A broker or a disk that does not answer is no error:
    /// the sink is degraded until it does. (The spool's own folder must be usable, though.)
    ///
    /// # Errors
    /// When settings contradict each other, or the spool cannot be opened or belongs to another process.
    pub fn open(config: &SinkConfig, data: &Path, clock: Arc<dyn Clock>, on_event: OnEvent) -> Result<Self, SinkError> {
        Self::open_with(config, data, Arc::new(Disk), clock, on_event)
    }

    /// The same with other file operations.
    ///
    /// # Errors
    /// As [`Sinks::open`].
    pub fn open_with(
        config: &SinkConfig,
        data: &Path,
        fs: Arc<dyn FileSystem>,
        clock: Arc<dyn Clock>,
        on_event: OnEvent,
    ) -> Result<Self, SinkError> {
        let problems = config.validate();
        if !problems.is_empty() {
            return Err(SinkError::Config(problems));
        }
        let mut sinks: Vec<Arc<dyn Sink>> = Vec::new();
        if let Some(kafka) = &config.kafka {
            sinks.push(Arc::new(KafkaSink::open(
                kafka.clone(),
                &config.spool,
                data,
                Arc::clone(&fs),
                Arc::clone(&clock),
                Arc::clone(&on_event),
            )?));
        }
        if config.jsonl.enabled {
            let sink = JsonlSink::open(config.jsonl.clone(), data, fs, clock, on_event).map_err(SinkError::Jsonl)?;
            sinks.push(Arc::new(sink));
        }
        Ok(Self::of(sinks, config.max_topics, config.max_topics_per_camera))
    }

    /// Puts sinks together that were made elsewhere; the bounds are those of [`SinkConfig`].
    #[must_use]
    pub fn of(sinks: Vec<Arc<dyn Sink>>, max_topics: usize, max_topics_per_camera: usize) -> Self {
        Self { sinks, topics: Topics::new(max_topics, max_topics_per_camera), counters: Counters::default() }
    }

    /// Hands a message to every sink.
    ///
    /// # Errors
    /// When none took it.
    pub fn accept(&self, message: &Message) -> Result<(), Refused> {
        let all = |reason| {
            self.counters.refuse(reason);
            Refused(self.sinks.iter().map(|s| (s.name(), reason)).collect())
        };
        check(message).map_err(all)?;
        let is_new = self.topics.enter(&message.camera, &message.topic).map_err(all)?;
        let refused: Vec<_> =
            self.sinks.iter().filter_map(|s| s.accept(message).err().map(|reason| (s.name(), reason))).collect();
        let taken = refused.len() < self.sinks.len();
        if is_new {
            self.topics.settle(&message.camera, &message.topic, taken);
        }
        if taken { Ok(()) } else { Err(Refused(refused)) }
    }

    /// How each sink is doing; refusals that concern all of them (names, number of topics) are added to each.
    #[must_use]
    pub fn status(&self) -> Vec<SinkStatus> {
        let common = self.counters.status("", SinkState::Ok).refused;
        let with_common = |mut status: SinkStatus| {
            for (reason, n) in &common {
                *status.refused.entry(reason).or_default() += n;
            }
            status
        };
        self.sinks.iter().map(|s| with_common(s.status())).collect()
    }

    /// Closes all sinks at the same time and says what each had left. Blocks until the deadline at most, and a moment.
    pub fn close(&self, deadline: Instant) -> Vec<(&'static str, Left)> {
        std::thread::scope(|scope| {
            let closing: Vec<_> = self.sinks.iter().map(|s| (s.name(), scope.spawn(|| s.close(deadline)))).collect();
            closing.into_iter().map(|(name, thread)| (name, thread.join().unwrap_or_default())).collect()
        })
    }
}
