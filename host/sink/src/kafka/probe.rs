//! Whether Kafka can be reached, for `facestream doctor`.

use std::time::{Duration, Instant};

use rdkafka::producer::Producer as _;
use serde::Serialize;

use super::client;
use crate::config::KafkaConfig;

/// A broker that the cluster named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broker {
    /// Its number.
    pub id: i32,
    /// `host:port`, as clients must reach it.
    pub address: String,
}

/// What a look at the cluster found.
#[derive(Clone, Debug, Serialize)]
pub struct KafkaCheck {
    /// Version of librdkafka.
    pub librdkafka: String,
    /// The brokers, or why there are none, in words that hold no credential.
    pub brokers: Result<Vec<Broker>, String>,
    /// How long the answer took, in milliseconds.
    pub took_ms: u64,
}

/// Version of the librdkafka in this program.
#[must_use]
pub fn librdkafka_version() -> String {
    rdkafka::util::get_rdkafka_version().1
}

/// [`check`] in a sentence, for people.
///
/// # Errors
/// Why no broker answered, in words that hold no credential.
pub fn reach(config: &KafkaConfig, timeout: Duration) -> Result<String, String> {
    let found = check(config, timeout);
    let version = &found.librdkafka;
    match found.brokers {
        Ok(brokers) => {
            let list: Vec<_> = brokers.iter().map(|b| b.address.as_str()).collect();
            Ok(format!("librdkafka {version}, {} brokers in {} ms: {}", list.len(), found.took_ms, list.join(", ")))
        }
        Err(reason) => {
            Err(format!("librdkafka {version}: no broker of {} answers: {reason}", config.brokers.join(", ")))
        }
    }
}

/// Asks the cluster who is in it. Blocks up to the timeout.
#[must_use]
pub fn check(config: &KafkaConfig, timeout: Duration) -> KafkaCheck {
    let start = Instant::now();
    let brokers = client::plain(config).and_then(|client| {
        let answer = client.client().fetch_metadata(None, timeout);
        // Complaints are told while polling only.
        client.poll(Duration::ZERO);
        match answer {
            Ok(metadata) => Ok(metadata
                .brokers()
                .iter()
                .map(|b| Broker { id: b.id(), address: format!("{}:{}", b.host(), b.port()) })
                .collect()),
            Err(error) => {
                let last = client.context().last();
                Err(if last.is_empty() { client::describe(&error) } else { last })
            }
        }
    });
    KafkaCheck { librdkafka: librdkafka_version(), brokers, took_ms: start.elapsed().as_millis() as u64 }
}
