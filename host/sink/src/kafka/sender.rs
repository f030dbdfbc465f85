//! Reads the spool and hands its records to librdkafka.
//!
//! Must keep the order of records of one topic, whatever fails, and must never spin: when there is nothing to do it
//! waits for a message, a report or a time.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use facestream_core::Message;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;

use super::lanes::Lanes;
use super::{Failure, Flight, Shared, client};
use crate::check::all_headers;
use crate::spool::{Location, Reader, SpoolRecord, Unread};
use crate::status::{Cause, Counters, LossReason};

/// Waits at most so long without looking around.
const IDLE: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A client that lived so long was a good one: the next one is built without a pause.
const GOOD_LIFE: Duration = Duration::from_secs(60);

pub(super) struct Sender {
    shared: Arc<Shared>,
    reader: Reader,
    lanes: Lanes,
    /// The latest read in order failed.
    unread: bool,
    /// Read, and not handed over because the client is full.
    held: Option<SpoolRecord>,
    /// Highest record handed over so far: handing over a lower one is sending again.
    furthest: Option<u64>,
    pause: Duration,
    built: Instant,
}

enum Sent {
    Yes,
    /// The client is full: later.
    Full,
    /// It was dealt with in another way, or the client must be replaced first.
    No,
}

impl Sender {
    pub(super) fn new(shared: Arc<Shared>, reader: Reader) -> Self {
        Self {
            shared,
            reader,
            lanes: Lanes::default(),
            unread: false,
            held: None,
            furthest: None,
            pause: FIRST_PAUSE,
            built: Instant::now(),
        }
    }

    pub(super) fn run(mut self) {
        while !self.shared.stopping() {
            let seen = self.shared.signal.current();
            self.deal_with_failures();
            let rebuild = self.shared.in_flight().rebuild.take();
            if let Some(reason) = rebuild {
                self.replace_client(&reason);
            } else if !self.send_one() {
                let due = self.lanes.due().map_or(IDLE, |at| at.saturating_duration_since(Instant::now()));
                // A due lane may have to wait for a report, which comes as a signal.
                self.shared.signal.wait(seen, due.clamp(Duration::from_millis(50), IDLE));
            }
        }
        // What the client still has stays in the spool. Dropping it may take half a second.
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        drop(self.shared.producer.write().unwrap_or_else(PoisonError::into_inner).take());
        self.shared.in_flight().clear();
    }

    /// Hands one record over. `false`: nothing can be done now.
    fn send_one(&mut self) -> bool {
        let now = Instant::now();
        let next = {
            let in_flight = self.shared.in_flight();
            let config = &self.shared.config;
            if in_flight.by_seq.len() >= config.max_in_flight_messages || in_flight.bytes >= config.max_in_flight_bytes
            {
                return false;
            }
            self.lanes.next(now, &in_flight)
        };
        if let Some((topic, seq, location)) = next {
            return self.send_waiting(&topic, seq, location);
        }
        let record = match self.held.take() {
            Some(record) => record,
            None => match self.reader.next(now) {
                Ok(record) => {
                    self.unread = false;
                    self.mend_reads();
                    match record {
                        Some(record) => record,
                        None => return false,
                    }
                }
                Err(error) => {
                    self.unread = true;
                    self.shared.health.degrade(Cause::DiskRead, format!("cannot read the spool: {error}"));
                    self.shared.sleep(Duration::from_millis(200));
                    return true;
                }
            },
        };
        if self.lanes.queue(&record.message.topic, record.seq, record.location) {
            return true;
        }
        match self.send(record.seq, record.location, &record.message) {
            Sent::Yes | Sent::No => true,
            Sent::Full => {
                self.held = Some(record);
                false
            }
        }
    }

    /// Hands over a record that waited for its topic.
    fn send_waiting(&mut self, topic: &Arc<str>, seq: u64, location: Location) -> bool {
        let now = Instant::now();
        match self.reader.read(location) {
            Ok(message) => {
                self.lanes.was_read(topic);
                self.mend_reads();
                match self.send(seq, location, &message) {
                    Sent::Yes | Sent::No => true,
                    Sent::Full => {
                        self.lanes.put_back(topic, seq, location, now);
                        false
                    }
                }
            }
            Err(error) => {
                match self.lanes.not_read(topic, seq, location, &error, now) {
                    Unread::Later => {
                        self.shared.health.degrade(Cause::DiskRead, format!("cannot read the spool: {error}"));
                    }
                    Unread::Lost(reason) => {
                        tracing::error!(%error, topic = topic.as_ref(), "A record that waited in the spool is gone.");
                        self.lose(seq, reason);
                    }
                }
                true
            }
        }
    }

    /// Both ways to the spool must work: one of them alone would mend and degrade in turn.
    fn mend_reads(&self) {
        if !self.unread && !self.lanes.unread() {
            self.shared.health.mend(Cause::DiskRead);
        }
    }

    fn send(&mut self, seq: u64, location: Location, message: &Message) -> Sent {
        let shared = Arc::clone(&self.shared);
        let producer = shared.producer.read().unwrap_or_else(PoisonError::into_inner);
        let Some(producer) = producer.as_ref() else {
            shared.in_flight().rebuild.get_or_insert_with(|| "there is no client".to_owned());
            // Read again after going back.
            return Sent::No;
        };
        let headers = all_headers(message)
            .fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: Some(value) }));
        let topic: Arc<str> = message.topic.as_str().into();
        let bytes = message.payload.len() + message.key.len();
        // Before handing over: the report may come before `send` returns.
        shared.in_flight().insert(
            seq,
            Flight { location, topic: Arc::clone(&topic), bytes },
            shared.clock.monotonic_ns(),
        );
        // `usize` has 64 bits on every machine that FFmpeg and ONNX Runtime run on; a cut number would only be unknown.
        let record = BaseRecord::with_opaque_to(&message.topic, seq as usize)
            .payload(message.payload.as_ref())
            .key(message.key.as_ref())
            .headers(headers);
        let Err((error, _)) = producer.send(record) else {
            if self.furthest.is_some_and(|furthest| seq <= furthest) {
                Counters::add(&shared.counters.resent, 1);
            }
            self.furthest = self.furthest.max(Some(seq));
            return Sent::Yes;
        };
        let mut in_flight = shared.in_flight();
        let flight = in_flight.remove(seq);
        if error.rdkafka_error_code() == Some(Code::QueueFull) {
            return Sent::Full;
        }
        match (client::failure_of(&error), flight) {
            (Some(failure), Some(flight)) => in_flight.failures.push((seq, flight, failure)),
            _ => drop(in_flight.rebuild.get_or_insert_with(|| client::describe(&error))),
        }
        Sent::No
    }

    /// Deals with records that came back.
    fn deal_with_failures(&mut self) {
        let failures = std::mem::take(&mut self.shared.in_flight().failures);
        let now = Instant::now();
        for (seq, flight, failure) in failures {
            match failure {
                Failure::Topic(reason) => {
                    let text = format!("topic {}: {reason}", flight.topic);
                    self.shared.health.degrade(Cause::Topic, text);
                    self.lanes.failed(flight.topic, seq, flight.location, now);
                }
                Failure::Rejected(reason) => {
                    self.write_down(flight.location, &format!("{}: {reason}", LossReason::BrokerRejected));
                    self.lose(seq, LossReason::BrokerRejected);
                }
            }
        }
        let patience = Duration::from_millis(self.shared.config.topic_retry_for_ms);
        // That no broker was there says nothing about a topic.
        let counts = !self.lanes.is_empty() && !self.shared.health.has(Cause::Broker);
        self.lanes.tick(now, counts);
        for (seq, location) in self.lanes.give_up(patience) {
            self.write_down(location, LossReason::TopicUnavailable.as_str());
            self.lose(seq, LossReason::TopicUnavailable);
        }
        if self.lanes.is_empty() {
            self.shared.health.mend(Cause::Topic);
        }
    }

    fn write_down(&self, location: Location, reason: &str) {
        match self.reader.read(location) {
            Ok(message) => self.shared.refused.write(&message, reason),
            Err(error) => tracing::warn!(%error, reason, "A message is lost and could not be written down."),
        }
    }

    fn lose(&self, seq: u64, reason: LossReason) {
        if self.shared.spool.done(seq) {
            self.shared.counters.lose(reason, 1);
        }
        self.shared.signal.bump();
    }

    /// Throws the client away with all it has, and goes back to the oldest record that is not done.
    fn replace_client(&mut self, reason: &str) {
        let shared = Arc::clone(&self.shared);
        if self.built.elapsed() > GOOD_LIFE {
            self.pause = FIRST_PAUSE;
        }
        let reason = client::without(reason, &shared.config.properties.secrets());
        let waiting = self.lanes.topics().len();
        tracing::warn!(%reason, topics_waiting = waiting, pause = ?self.pause, "The Kafka client is replaced.");
        shared.health.degrade(Cause::Client, format!("the client failed and is replaced: {reason}"));
        // From here on failures that the old client reports are ignored; deliveries are not.
        shared.epoch.fetch_add(1, Ordering::SeqCst);
        let old = shared.producer.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(old);
        // Records that came back for their topic, just now, are read again like the others.
        let mut in_flight = shared.in_flight();
        in_flight.clear();
        in_flight.failures.clear();
        drop(in_flight);
        self.held = None;
        self.reader.rewind();
        self.lanes.client_replaced(Instant::now());
        loop {
            if shared.sleep(self.pause) {
                return;
            }
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            match client::build(&shared) {
                Ok(producer) => {
                    // Without a client nothing could be taken.
                    self.lanes.tick(Instant::now(), false);
                    *shared.producer.write().unwrap_or_else(PoisonError::into_inner) = Some(producer);
                    self.built = Instant::now();
                    Counters::add(&shared.counters.rebuilds, 1);
                    shared.health.mend(Cause::Client);
                    return;
                }
                Err(error) => shared.health.degrade(Cause::Client, format!("no client can be built: {error}")),
            }
        }
    }
}
