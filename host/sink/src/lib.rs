//! Where messages leave the host: Kafka over a spool on the disk, and files of JSON lines.
//!
//! Owns delivery: a message that [`Sinks::accept`] took is delivered at least once or counted as lost with its reason,
//! restarts included. Must not know what is in a message, except where a picture must leave one that is too large.
//!
//! What lies in the data folder: `spool/kafka/` (waiting for brokers), `messages/<topic>.jsonl`, `images/<camera>/`
//! (pictures of messages too large for Kafka), `refused/kafka.jsonl` (messages no broker takes).
#![deny(unsafe_code)]

mod check;
mod codec;
pub mod config;
pub mod fs;
mod jsonl;
mod kafka;
mod memory;
mod oversize;
mod refused;
mod signal;
mod sinks;
mod spool;
mod status;
mod topics;

pub use check::topic_is_valid;
pub use config::{Compression, Fsync, JsonlConfig, KafkaConfig, Properties, SinkConfig, SpoolConfig};
pub use jsonl::JsonlSink;
pub use kafka::{Broker, KafkaCheck, KafkaError, KafkaSink, check as check_kafka, librdkafka_version, reach};
pub use memory::MemorySink;
pub use sinks::{Left, Refused, Sink, SinkError, Sinks};
pub use spool::OpenError;
pub use status::{LossReason, OnEvent, RefuseReason, SinkState, SinkStatus};

#[cfg(test)]
mod tests;
