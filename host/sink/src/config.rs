//! Settings of the sinks, their defaults and the check that reports every problem at once.

mod properties;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use properties::Properties;

use crate::check::topic_is_valid;

/// Where messages go. With no settings at all: JSONL files in the data folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SinkConfig {
    /// Kafka; nothing is sent there unless this section exists.
    pub kafka: Option<KafkaConfig>,
    /// JSON lines in files.
    pub jsonl: JsonlConfig,
    /// The disk space between accepting a message and a broker's acknowledgement.
    pub spool: SpoolConfig,
    /// Different topics that may be used in all. Guests choose topics: without a bound one of them could open files and
    /// metadata requests without end.
    pub max_topics: usize,
    /// Different topics of them that one camera may use: what its formatter makes up beyond is refused, and the other
    /// cameras' topics have room.
    pub max_topics_per_camera: usize,
}

impl Default for SinkConfig {
    fn default() -> Self {
        Self {
            kafka: None,
            jsonl: JsonlConfig::default(),
            spool: SpoolConfig::default(),
            max_topics: 64,
            max_topics_per_camera: 8,
        }
    }
}

/// How records are packed on their way to brokers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Compression {
    None,
    Gzip,
    Lz4,
    Snappy,
    #[default]
    Zstd,
}

impl Compression {
    /// librdkafka's name of it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Lz4 => "lz4",
            Self::Snappy => "snappy",
            Self::Zstd => "zstd",
        }
    }
}

/// Kafka.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaConfig {
    /// Addresses (`host:port`) to find the cluster by; not all brokers need to be named.
    pub brokers: Vec<String>,
    /// Other names for topics: what a formatter calls them, and what they are called in this cluster.
    pub topics: BTreeMap<String, String>,
    /// How batches are compressed.
    pub compression: Compression,
    /// How long a message may wait for others to share a request with.
    pub linger_ms: u32,
    /// Largest message (key, headers and payload together). Not above the brokers' `message.max.bytes` (1,048,588
    /// unless changed). Pictures of larger messages are written to files and referred to.
    pub message_max_bytes: usize,
    /// Messages handed to the client and not acknowledged yet, at most; the others wait in the spool.
    pub max_in_flight_messages: usize,
    /// Bytes of them, at most.
    pub max_in_flight_bytes: usize,
    /// Pictures written to files because their message was too large, at most so many bytes; messages are refused then.
    pub images_max_bytes: u64,
    /// Messages for a topic that does not exist or is forbidden are tried again for so long, each by itself, then counted
    /// as lost. Time without a broker does not count.
    pub topic_retry_for_ms: u64,
    /// Any other property of librdkafka: TLS (`security.protocol`, `ssl.*`), SASL (`sasl.*`), timeouts. Values that may
    /// be secret are never printed.
    pub properties: Properties,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            topics: BTreeMap::new(),
            compression: Compression::default(),
            // 5 ms is librdkafka's default; a best shot is no hurry, and batches compress better.
            linger_ms: 20,
            message_max_bytes: 1_000_000,
            max_in_flight_messages: 10_000,
            max_in_flight_bytes: 32 << 20,
            images_max_bytes: 4 << 30,
            topic_retry_for_ms: 600_000,
            properties: Properties::default(),
        }
    }
}

/// JSON lines in `messages/<topic>.jsonl` of the data folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JsonlConfig {
    /// Whether files are written.
    pub enabled: bool,
    /// A file that would grow beyond this becomes `<topic>.jsonl.1` and a new one begins.
    pub rotate_bytes: u64,
    /// Rotated files kept of each topic; the oldest is deleted.
    pub keep_files: u32,
    /// Lines are gathered for so long before they are written.
    pub flush_interval_ms: u64,
    /// Written lines are made durable so often.
    pub fsync_interval_ms: u64,
    /// Lines waiting in memory, at most.
    pub queue_messages: usize,
    /// Bytes of them, at most.
    pub queue_bytes: usize,
    /// How long accepting waits for room in a full queue while the disk works; with a failing disk it does not wait.
    pub accept_wait_ms: u64,
    /// A line that the disk refuses is tried again for so long, then counted as lost.
    pub retry_for_ms: u64,
}

impl Default for JsonlConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            rotate_bytes: 256 << 20,
            keep_files: 8,
            flush_interval_ms: 100,
            fsync_interval_ms: 1000,
            queue_messages: 10_000,
            queue_bytes: 64 << 20,
            accept_wait_ms: 1000,
            retry_for_ms: 300_000,
        }
    }
}

/// When appended records are made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    /// Every `fsync_interval_ms`: a power cut may take that much with it; a crash of the process takes nothing.
    #[default]
    Interval,
    /// Before a message counts as accepted; those that come at the same time share one sync.
    Always,
}

/// The spool in `spool/` of the data folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolConfig {
    /// All of it. When it is full new messages are refused and counted; what was accepted stays.
    pub max_bytes: u64,
    /// Size of one file; disk space comes back file by file.
    pub segment_bytes: u64,
    /// When records are made durable.
    pub fsync: Fsync,
    /// How often, with `fsync = "interval"`; also how often progress is noted, which bounds duplicates after a crash.
    pub fsync_interval_ms: u64,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        // 4 GiB hold 20 minutes of 300 messages a second of 10 KB.
        Self { max_bytes: 4 << 30, segment_bytes: 16 << 20, fsync: Fsync::Interval, fsync_interval_ms: 500 }
    }
}

impl SinkConfig {
    /// Every problem, each with the name of its key. Empty: fine.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.kafka.is_none() && !self.jsonl.enabled {
            problems.push("no sink is enabled: add [sinks.kafka] or set sinks.jsonl.enabled = true".into());
        }
        range(&mut problems, "sinks.max_topics", self.max_topics as u64, 1, 10_000);
        range(&mut problems, "sinks.max_topics_per_camera", self.max_topics_per_camera as u64, 1, 10_000);
        if let Some(kafka) = &self.kafka {
            kafka.validate(&mut problems);
            let least = (kafka.message_max_bytes as u64).saturating_mul(4).max(4 * self.spool.segment_bytes);
            if self.spool.max_bytes < least {
                problems.push(format!(
                    "sinks.spool.max_bytes = {} is too small: at least four files (sinks.spool.segment_bytes) and four of the \
                     largest messages must fit, {least}",
                    self.spool.max_bytes
                ));
            }
        }
        range(&mut problems, "sinks.spool.segment_bytes", self.spool.segment_bytes, 64 << 10, 1 << 30);
        range(&mut problems, "sinks.spool.fsync_interval_ms", self.spool.fsync_interval_ms, 1, 60_000);
        let j = &self.jsonl;
        range(&mut problems, "sinks.jsonl.rotate_bytes", j.rotate_bytes, 4 << 10, 1 << 40);
        range(&mut problems, "sinks.jsonl.keep_files", u64::from(j.keep_files), 0, 10_000);
        range(&mut problems, "sinks.jsonl.flush_interval_ms", j.flush_interval_ms, 0, 60_000);
        range(&mut problems, "sinks.jsonl.fsync_interval_ms", j.fsync_interval_ms, 1, 600_000);
        range(&mut problems, "sinks.jsonl.queue_messages", j.queue_messages as u64, 1, 10_000_000);
        range(&mut problems, "sinks.jsonl.queue_bytes", j.queue_bytes as u64, 1 << 20, 16 << 30);
        range(&mut problems, "sinks.jsonl.accept_wait_ms", j.accept_wait_ms, 0, 60_000);
        problems
    }
}

impl KafkaConfig {
    fn validate(&self, problems: &mut Vec<String>) {
        if self.brokers.is_empty() {
            problems.push("sinks.kafka.brokers is empty: name at least one broker as \"host:port\"".into());
        }
        for broker in &self.brokers {
            // The broker's name is not repeated when it looks like it holds a password.
            if broker.contains('@') || broker.contains('/') || broker.contains(',') || broker.trim().is_empty() {
                problems.push(
                    "sinks.kafka.brokers: each entry is one \"host:port\", with no user, scheme or comma in it; \
                     credentials belong into sinks.kafka.properties"
                        .into(),
                );
            }
        }
        for (from, to) in &self.topics {
            for topic in [from, to] {
                if !topic_is_valid(topic) {
                    problems.push(format!(
                        "sinks.kafka.topics: {topic:?} is no topic name: 1 to 249 of A-Z a-z 0-9 . _ -, not . or .."
                    ));
                }
            }
        }
        range(problems, "sinks.kafka.linger_ms", u64::from(self.linger_ms), 0, 900_000);
        range(problems, "sinks.kafka.message_max_bytes", self.message_max_bytes as u64, 1000, 1_000_000_000);
        range(problems, "sinks.kafka.max_in_flight_messages", self.max_in_flight_messages as u64, 1, 1_000_000);
        range(problems, "sinks.kafka.max_in_flight_bytes", self.max_in_flight_bytes as u64, 1 << 16, 2 << 30);
        problems.extend(crate::kafka::client_config_problems(self));
    }
}

fn range(problems: &mut Vec<String>, key: &str, value: u64, least: u64, most: u64) {
    if !(least..=most).contains(&value) {
        problems.push(format!("{key} = {value} is out of range: {least} to {most}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_fine_and_every_problem_is_told() {
        assert_eq!(SinkConfig::default().validate(), Vec::<String>::new());
        let mut config = SinkConfig::default();
        config.jsonl.rotate_bytes = 1;
        config.spool.max_bytes = 1;
        config.max_topics_per_camera = 0;
        config.kafka = Some(KafkaConfig {
            message_max_bytes: 1,
            topics: [("a b".into(), "c".into())].into(),
            ..Default::default()
        });
        let problems = config.validate();
        for key in
            ["max_topics_per_camera", "rotate_bytes", "spool.max_bytes", "brokers", "message_max_bytes", "\"a b\""]
        {
            assert!(problems.iter().any(|p| p.contains(key)), "{key}: {problems:?}");
        }
        assert!(
            !SinkConfig { jsonl: JsonlConfig { enabled: false, ..Default::default() }, ..Default::default() }
                .validate()
                .is_empty()
        );
    }

    #[test]
    fn a_broker_with_a_password_in_it_is_refused_without_being_repeated() {
        let config = SinkConfig {
            kafka: Some(KafkaConfig { brokers: vec!["u:canary@host:9092".into()], ..Default::default() }),
            ..Default::default()
        };
        let problems = config.validate().join("\n");
        assert!(problems.contains("credentials belong") && !problems.contains("canary"), "{problems}");
    }

    #[test]
    fn unknown_keys_are_errors() {
        let read = |text: &str| serde_json::from_str::<SinkConfig>(text);
        assert!(read(r#"{"kafka":{"brokers":["a:1"]},"max_topics":3}"#).is_ok());
        assert!(read(r#"{"kafka":{"broker":["a:1"]}}"#).is_err());
        assert!(read(r#"{"jsnl":{}}"#).is_err());
    }
}
