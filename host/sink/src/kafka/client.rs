//! librdkafka's client: its settings, and what it tells us.
//!
//! Owns the list of properties that are ours and why, and keeps secrets out of every text that comes from librdkafka.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError as RdError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;
use secrecy::{ExposeSecret, SecretString};

use super::{Failure, Shared};
use crate::config::{KafkaConfig, Properties};
use crate::status::Cause;

/// The client and its polling thread.
pub(super) type Producer = ThreadedProducer<Context>;

/// A line of log of the same kind comes so often at most: brokers that are away make librdkafka complain all the time.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// A property that is ours, under all its names.
struct Own {
    names: &'static [&'static str],
    value: String,
    why: &'static str,
}

/// What FaceStream promises rests on these; setting one of them otherwise is an error.
fn own_properties(config: &KafkaConfig) -> Vec<Own> {
    let own = |names, value: &str, why| Own { names, value: value.to_owned(), why };
    let in_flight_kib = config.max_in_flight_bytes.div_ceil(1024);
    vec![
        own(&["bootstrap.servers", "metadata.broker.list"], &config.brokers.join(","), "from sinks.kafka.brokers"),
        own(&["compression.type", "compression.codec"], config.compression.as_str(), "from sinks.kafka.compression"),
        own(&["linger.ms", "queue.buffering.max.ms"], &config.linger_ms.to_string(), "from sinks.kafka.linger_ms"),
        own(&["message.max.bytes"], &config.message_max_bytes.to_string(), "from sinks.kafka.message_max_bytes"),
        own(&["enable.idempotence"], "true", "retries must neither repeat nor reorder messages"),
        own(&["acks", "request.required.acks"], "all", "an acknowledged message must survive the loss of a broker"),
        own(
            &["message.timeout.ms", "delivery.timeout.ms"],
            "0",
            "the spool keeps messages for as long as brokers are away",
        ),
        own(
            &["enable.gapless.guarantee"],
            "false",
            "a message that a broker rejects is counted and must not stop the others",
        ),
        own(&["message.send.max.retries", "retries"], "2147483647", "only the spool gives up"),
        // Somewhat above our own bounds, so that ours are what is met.
        own(
            &["queue.buffering.max.messages"],
            &(config.max_in_flight_messages + 1000).to_string(),
            "from sinks.kafka.max_in_flight_messages",
        ),
        own(
            &["queue.buffering.max.kbytes"],
            &(in_flight_kib * 2 + 2048).to_string(),
            "from sinks.kafka.max_in_flight_bytes",
        ),
        own(&["delivery.report.only.error"], "false", "reports of delivery free the spool"),
        own(&["transactional.id"], "", "there are no transactions here"),
        own(&["test.mock.num.brokers"], "", "brokers are named in sinks.kafka.brokers"),
    ]
}

/// Ours unless the user says otherwise.
fn defaults() -> [(&'static str, &'static str); 6] {
    [
        ("client.id", "facestream"),
        // Java's partitioner: one key is on the same partition whichever client sends it.
        ("partitioner", "murmur2_random"),
        // A broker that comes back is noticed within seconds.
        ("reconnect.backoff.max.ms", "5000"),
        // 10 s for a topic that is being created; a topic that does not exist must not fill what is in flight for long.
        ("topic.metadata.propagation.max.ms", "10000"),
        // A broker that takes smaller requests than we think refuses a whole batch; small batches keep that rare, and
        // larger messages travel alone.
        ("batch.size", "262144"),
        ("statistics.interval.ms", "30000"),
    ]
}

/// librdkafka's settings, or all that is wrong with the user's.
fn client_config(config: &KafkaConfig) -> Result<ClientConfig, Vec<String>> {
    let mut problems = Vec::new();
    let mut client = ClientConfig::new();
    client.set_log_level(RDKafkaLogLevel::Info);
    for (key, value) in defaults() {
        client.set(key, value);
    }
    let own = own_properties(config);
    for (key, value) in config.properties.exposed() {
        if let Some(ours) = own.iter().find(|o| o.names.contains(&key)) {
            if ours.value != value && !(ours.value == "all" && value == "-1") {
                problems.push(format!(
                    "sinks.kafka.properties: {key} = {:?} conflicts with {:?}, which is set because: {}",
                    Properties::shown(key, value),
                    ours.value,
                    ours.why
                ));
            }
            continue;
        }
        // Unknown names and impossible values, in librdkafka's words where those hold no value.
        let mut alone = ClientConfig::new();
        alone.set(key, value);
        match alone.create_native_config() {
            Ok(_) => drop(client.set(key, value)),
            Err(error) => problems.push(format!(
                "sinks.kafka.properties: {key} = {:?}: {}",
                Properties::shown(key, value),
                without(&describe(&error), &config.properties.secrets())
            )),
        }
    }
    for ours in &own {
        if !ours.value.is_empty() {
            client.set(ours.names[0], &ours.value);
        }
    }
    if problems.is_empty() { Ok(client) } else { Err(problems) }
}

/// Everything wrong with the properties.
pub(crate) fn client_config_problems(config: &KafkaConfig) -> Vec<String> {
    client_config(config).err().unwrap_or_default()
}

/// An error in words. librdkafka's own `Debug` repeats the value of a property.
pub(super) fn describe(error: &RdError) -> String {
    match error {
        RdError::ClientConfig(_, description, key, _) if description.is_empty() => format!("{key} is not accepted"),
        RdError::ClientConfig(_, description, _, _) => description.clone(),
        other => other.to_string(),
    }
}

/// A text with secrets replaced.
pub(super) fn without(text: &str, secrets: &[SecretString]) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.expose_secret(), "***"))
}

/// A client for a look at the cluster: no idempotence, no queue.
pub(super) fn plain(config: &KafkaConfig) -> Result<rdkafka::producer::BaseProducer<Quiet>, String> {
    let client = client_config(config).map_err(|problems| problems.join("; "))?;
    let quiet = Quiet { secrets: config.properties.secrets(), last: Arc::default() };
    rdkafka::producer::BaseProducer::from_config_and_context(&client, quiet)
        .map_err(|error| without(&describe(&error), &config.properties.secrets()))
}

/// Builds the client for a new epoch.
pub(super) fn build(shared: &Arc<Shared>) -> Result<Producer, String> {
    let secrets = shared.config.properties.secrets();
    let client = client_config(&shared.config).map_err(|problems| problems.join("; "))?;
    let context = Context {
        epoch: shared.epoch.load(Ordering::SeqCst),
        // The client is owned by what it reports to.
        shared: Arc::downgrade(shared),
        secrets: secrets.clone(),
        logged: Mutex::default(),
    };
    ThreadedProducer::from_config_and_context(&client, context).map_err(|error| without(&describe(&error), &secrets))
}

/// What a report of failure asks for.
enum Verdict {
    Ignore,
    Reject,
    Topic,
    Rebuild,
}

/// Errors that are not here are retried by librdkafka itself for ever (`message.timeout.ms = 0`); what comes out of it
/// all the same means that this client cannot go on in order.
fn verdict(code: Code) -> Verdict {
    match code {
        Code::PurgeQueue | Code::PurgeInflight => Verdict::Ignore,
        Code::MessageSizeTooLarge
        | Code::MessageBatchTooLarge
        | Code::InvalidMessageSize
        | Code::InvalidRecord
        | Code::InvalidTimestamp
        | Code::InvalidTopic
        | Code::PolicyViolation
        | Code::UnsupportedForMessageFormat
        | Code::BadMessage => Verdict::Reject,
        Code::UnknownTopic
        | Code::UnknownTopicOrPartition
        | Code::UnknownPartition
        | Code::TopicAuthorizationFailed => Verdict::Topic,
        _ => Verdict::Rebuild,
    }
}

/// The same for an error at handing over.
pub(super) fn failure_of(error: &RdError) -> Option<Failure> {
    let code = error.rdkafka_error_code()?;
    match verdict(code) {
        Verdict::Reject => Some(Failure::Rejected(code.to_string())),
        Verdict::Topic => Some(Failure::Topic(code.to_string())),
        Verdict::Ignore | Verdict::Rebuild => None,
    }
}

/// Hears from one client.
pub(super) struct Context {
    epoch: u64,
    shared: Weak<Shared>,
    secrets: Vec<SecretString>,
    /// Kinds of log lines: when the last one was written, and how many were not since. Kinds are librdkafka's, few.
    logged: Mutex<std::collections::HashMap<String, (Instant, u64)>>,
}

impl Context {
    fn say(&self, level: RDKafkaLogLevel, kind: &str, text: &str) {
        let left_out = {
            let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            match logged.get_mut(kind) {
                Some((at, left_out)) if now.duration_since(*at) < LOG_EVERY => {
                    *left_out += 1;
                    return;
                }
                Some(entry) => std::mem::replace(entry, (now, 0)).1,
                None => {
                    logged.insert(kind.to_owned(), (now, 0));
                    0
                }
            }
        };
        let text = without(text, &self.secrets);
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::warn!(kind, left_out, "librdkafka: {text}");
            }
            RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(kind, left_out, "librdkafka: {text}");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(kind, left_out, "librdkafka: {text}"),
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, kind: &str, text: &str) {
        self.say(level, kind, text);
    }

    fn stats(&self, s: Statistics) {
        let up = s.brokers.values().filter(|b| b.state == "UP").count();
        tracing::debug!(
            queued = s.msg_cnt,
            queued_bytes = s.msg_size,
            brokers_up = up,
            sent = s.txmsgs,
            "Kafka client."
        );
    }

    fn error(&self, error: RdError, reason: &str) {
        let code = error.rdkafka_error_code();
        self.say(RDKafkaLogLevel::Error, &code.map_or_else(|| "error".into(), |c| format!("{c:?}")), reason);
        let Some(shared) = self.shared.upgrade() else { return };
        let reason = without(reason, &self.secrets);
        let mut last = shared.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        match code {
            Some(Code::AllBrokersDown) => {
                let why = if last.is_empty() { reason } else { last.clone() };
                drop(last);
                shared.health.degrade(Cause::Broker, format!("no broker answers: {why}"));
            }
            Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL) => {
                last.clone_from(&reason);
                drop(last);
                shared.health.degrade(Cause::Broker, format!("brokers do not let us in: {reason}"));
            }
            Some(Code::Fatal) => {
                drop(last);
                if self.epoch == shared.epoch.load(Ordering::SeqCst) {
                    shared.in_flight().rebuild = Some(reason);
                    shared.signal.bump();
                }
            }
            _ => *last = reason,
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let Some(shared) = self.shared.upgrade() else { return };
        let seq = opaque as u64;
        match result {
            // True whichever client says so.
            Ok(message) => {
                let mut in_flight = shared.in_flight();
                in_flight.remove(seq);
                in_flight.progress_ns = shared.clock.monotonic_ns();
                drop(in_flight);
                if shared.spool.done(seq) {
                    shared.counters.deliver(message.topic(), 1);
                }
                shared.health.mend(Cause::Broker);
                shared.health.mend(Cause::Stalled);
            }
            Err((error, _)) => {
                let mut in_flight = shared.in_flight();
                if self.epoch != shared.epoch.load(Ordering::SeqCst) {
                    return;
                }
                let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                let failure = match verdict(code) {
                    Verdict::Ignore => return,
                    Verdict::Reject => Failure::Rejected(code.to_string()),
                    Verdict::Topic => Failure::Topic(code.to_string()),
                    Verdict::Rebuild => {
                        in_flight.rebuild.get_or_insert_with(|| code.to_string());
                        drop(in_flight);
                        shared.signal.bump();
                        return;
                    }
                };
                if let Some(flight) = in_flight.remove(seq) {
                    in_flight.failures.push((seq, flight, failure));
                }
            }
        }
        shared.signal.bump();
    }
}

/// Says nothing and remembers the last complaint.
pub(super) struct Quiet {
    secrets: Vec<SecretString>,
    last: Arc<Mutex<String>>,
}

impl Quiet {
    pub(super) fn last(&self) -> String {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: RdError, reason: &str) {
        // That all are down says nothing new after why each is.
        if error.rdkafka_error_code() != Some(Code::AllBrokersDown) {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = without(reason, &self.secrets);
        }
    }
}

impl ProducerContext for Quiet {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(properties: &[(&str, &str)]) -> KafkaConfig {
        KafkaConfig {
            brokers: vec!["localhost:1".into()],
            properties: properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_conflict_shows_both_values_and_why() {
        let problems = client_config_problems(&config(&[("acks", "1"), ("linger.ms", "5"), ("retries", "2147483647")]));
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains(r#"acks = "1" conflicts with "all""#), "{}", problems[0]);
        assert!(problems[1].contains(r#"linger.ms = "5" conflicts with "20""#), "{}", problems[1]);
        assert_eq!(client_config_problems(&config(&[("request.required.acks", "-1")])), Vec::<String>::new());
    }

    #[test]
    fn unknown_properties_and_impossible_values_are_found_without_printing_secrets() {
        let problems = client_config_problems(&config(&[
            ("no.such.property", "x"),
            ("socket.timeout.ms", "soon"),
            ("sasl.password.of.the.future", "canary"),
            ("ssl.key.pem", "canary"),
        ]));
        let all = problems.join("\n");
        assert!(all.contains("no.such.property") && all.contains("socket.timeout.ms"), "{all}");
        assert!(!all.contains("canary"), "{all}");
    }

    #[test]
    fn what_the_client_gets_is_what_was_asked_for() {
        let client = client_config(&config(&[
            ("security.protocol", "sasl_ssl"),
            ("sasl.password", "p"),
            ("partitioner", "consistent"),
        ]))
        .unwrap();
        for (key, value) in [
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("message.timeout.ms", "0"),
            ("compression.type", "zstd"),
            ("security.protocol", "sasl_ssl"),
            ("sasl.password", "p"),
            ("partitioner", "consistent"),
        ] {
            assert_eq!(client.get(key), Some(value), "{key}");
        }
        assert_eq!(client.get("transactional.id"), None);
    }

    #[test]
    fn secrets_are_taken_out_of_texts() {
        assert_eq!(without("login as hugo with hunter2", &[SecretString::from("hunter2")]), "login as hugo with ***");
    }
}
