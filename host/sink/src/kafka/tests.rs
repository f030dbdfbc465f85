//! The Kafka sink against librdkafka's mock cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use facestream_core::event::Event;
use facestream_core::{Message, SystemClock};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::IsError as _;
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, Producer as _};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::*;
use crate::fs::Disk;
use crate::status::SinkState;
use crate::tests::mem_fs::MemFs;
use crate::tests::{events, message, wait_for};

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster(brokers: i32, partitions: i32) -> Cluster {
    let cluster = MockCluster::new(brokers).unwrap();
    cluster.create_topic("t", partitions, brokers.min(3)).unwrap();
    cluster
}

fn config(cluster: &Cluster) -> KafkaConfig {
    KafkaConfig {
        brokers: cluster.bootstrap_servers().split(',').map(str::to_owned).collect(),
        linger_ms: 1,
        ..KafkaConfig::default()
    }
}

fn open(config: &KafkaConfig, data: &Path) -> KafkaSink {
    open_with(config, data, events().0)
}

fn open_with(config: &KafkaConfig, data: &Path, on_event: OnEvent) -> KafkaSink {
    let spool = SpoolConfig { fsync_interval_ms: 20, ..SpoolConfig::default() };
    KafkaSink::open(config.clone(), &spool, data, Arc::new(Disk), Arc::new(SystemClock::default()), on_event).unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(120)
}

/// Message of one of three cameras: the key decides the partition.
fn keyed(n: u64) -> Message {
    Message { key: Bytes::from(format!("cam-{}", n % 3)), ..message(n, 200) }
}

/// Everything in a topic until all `wanted` ids were seen: id, key, partition, payload, in order of each partition.
fn consume(cluster: &Cluster, topic: &str, partitions: i32, wanted: usize) -> Vec<(String, String, i32, Vec<u8>)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "test")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for p in 0..partitions {
        list.add_partition_offset(topic, p, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let (mut got, mut ids) = (Vec::new(), BTreeSet::new());
    let end = soon();
    // Beyond the last one wanted, a moment more: duplicates count too.
    let mut grace = 3;
    while Instant::now() < end && grace > 0 {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(m)) => {
                let id = header(&m, "message-id").unwrap();
                ids.insert(id.clone());
                let key = String::from_utf8(m.key().unwrap().to_vec()).unwrap();
                got.push((id, key, m.partition(), m.payload().unwrap_or_default().to_vec()));
            }
            Some(Err(_)) => {}
            None if ids.len() >= wanted => grace -= 1,
            None => {}
        }
    }
    got
}

fn header(m: &rdkafka::message::BorrowedMessage<'_>, name: &str) -> Option<String> {
    let header = m.headers()?.iter().find(|h| h.key == name)?;
    Some(String::from_utf8(header.value?.to_vec()).unwrap())
}

/// Every message is there, each key on one partition, and first arrivals of each key in order. Gives the duplicates.
fn assert_all_there(got: &[(String, String, i32, Vec<u8>)], expected: impl Iterator<Item = Message>) -> usize {
    let expected: Vec<_> = expected.collect();
    let mut by_id: BTreeMap<&str, &(String, String, i32, Vec<u8>)> = BTreeMap::new();
    let mut partition_of: BTreeMap<&str, i32> = BTreeMap::new();
    let mut order: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for m in got {
        if by_id.insert(&m.0, m).is_none() {
            order.entry(&m.1).or_default().push(&m.0);
        }
        assert_eq!(*partition_of.entry(&m.1).or_insert(m.2), m.2, "one key, one partition");
    }
    let mut expected_order: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for m in &expected {
        let found = by_id.get(m.id.0.as_str()).unwrap_or_else(|| panic!("{} is missing", m.id));
        assert_eq!((found.1.as_bytes(), &found.3[..]), (&m.key[..], &m.payload[..]));
        expected_order.entry(std::str::from_utf8(&m.key).unwrap()).or_default().push(&m.id.0);
    }
    assert_eq!(by_id.len(), expected.len(), "nothing made up");
    assert_eq!(order, expected_order, "order of each key");
    got.len() - by_id.len()
}

#[test]
fn messages_arrive_with_all_their_fields() {
    let (cluster, dir) = (cluster(1, 4), tempfile::tempdir().unwrap());
    cluster.create_topic("other-name", 1, 1).unwrap();
    let (on_event, heard) = events();
    let sink = open_with(
        &KafkaConfig { topics: [("renamed".into(), "other-name".into())].into(), ..config(&cluster) },
        dir.path(),
        on_event,
    );
    for n in 0..100 {
        sink.accept(&keyed(n)).unwrap();
    }
    let mut renamed = message(7, 10);
    renamed.topic = "renamed".into();
    sink.accept(&renamed).unwrap();
    assert_eq!(sink.close(soon()), Left { messages: 0, bytes: 0, kept: true });
    assert_eq!(assert_all_there(&consume(&cluster, "t", 4, 100), (0..100).map(keyed)), 0);
    assert_eq!(consume(&cluster, "other-name", 1, 1).len(), 1);
    let status = sink.status();
    assert_eq!((status.accepted, status.delivered, status.state), (101, 101, SinkState::Ok));
    assert_eq!((status.topics["t"], status.topics["other-name"]), (100, 1));
    assert_eq!(sink.accept(&keyed(0)), Err(RefuseReason::Closed));
    let heard: Vec<bool> =
        heard.lock().unwrap().iter().map(|e| matches!(e, Event::Sink { degraded: true, .. })).collect();
    assert_eq!(heard, [true, false], "degraded until the first answer, then fine");
}

#[test]
fn without_a_broker_it_starts_degraded_keeps_everything_and_recovers_by_itself() {
    let (cluster, dir) = (cluster(1, 4), tempfile::tempdir().unwrap());
    cluster.broker_down(-1).unwrap();
    let sink = open(&config(&cluster), dir.path());
    for n in 0..200 {
        sink.accept(&keyed(n)).unwrap();
    }
    wait_for("a reason", || matches!(sink.status().state, SinkState::Degraded(r) if r.contains("no broker answers")));
    wait_for("all handed over", || sink.status().in_flight == 200);
    let status = sink.status();
    assert_eq!((status.queued_messages, status.delivered), (200, 0));
    assert!(status.oldest_age_ms.is_some() && status.spool_bytes > 200 * 200, "{status:?}");
    // The process ends; the messages do not.
    let left = sink.close(Instant::now());
    assert_eq!((left.messages, left.kept), (200, true));
    let sink = open(&config(&cluster), dir.path());
    assert_eq!(sink.status().recovered, 200);
    for n in 200..250 {
        sink.accept(&keyed(n)).unwrap();
    }
    cluster.broker_up(-1).unwrap();
    wait_for("delivered", || sink.status().delivered == 250);
    wait_for("ok", || sink.status().state == SinkState::Ok);
    assert_eq!(assert_all_there(&consume(&cluster, "t", 4, 250), (0..250).map(keyed)), 0);
    assert_eq!(sink.close(soon()).messages, 0);
}

/// An outage while messages flow: a second in the default suite, 30 s with `FACESTREAM_LONG=1`.
#[test]
fn an_outage_loses_nothing() {
    let (cluster, dir) = (cluster(3, 4), tempfile::tempdir().unwrap());
    let sink = open(&config(&cluster), dir.path());
    let long = std::env::var_os("FACESTREAM_LONG").is_some();
    let outage = Duration::from_secs(if long { 30 } else { 1 });
    let mut n = 0;
    let mut send = |until: &dyn Fn(u64) -> bool| {
        while !until(n) {
            sink.accept(&keyed(n)).unwrap();
            n += 1;
            if n % 50 == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        n
    };
    send(&|n| n >= 500);
    wait_for("some delivered", || sink.status().delivered > 0);
    cluster.broker_down(-1).unwrap();
    let end = Instant::now() + outage;
    send(&|n| n >= 1000 && (Instant::now() >= end || n >= 20_000));
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(sink.status().queued_messages > 0);
    cluster.broker_up(-1).unwrap();
    let total = send(&|n| n >= 1500);
    wait_for("delivered", || sink.status().delivered == total);
    let status = sink.status();
    assert_eq!((status.queued_messages, status.rebuilds, status.lost.len()), (0, 0, 0), "{status:?}");
    let got = consume(&cluster, "t", 4, total as usize);
    // The mock cluster does not check sequence numbers: a batch whose answer got lost is stored twice.
    assert_all_there(&got, (0..total).map(keyed));
    assert_eq!(sink.close(soon()).messages, 0);
    let rest: Vec<_> =
        std::fs::read_dir(dir.path().join("spool/kafka")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(rest.iter().all(|name| !name.to_str().unwrap().ends_with(".seg")), "{rest:?}");
}

/// Makes the client give up for good, as librdkafka does when the brokers lost track of an idempotent producer.
#[allow(unsafe_code)]
fn make_fatal(sink: &KafkaSink) {
    let producer = sink.shared.producer.read().unwrap();
    let client = producer.as_ref().unwrap().client().native_ptr();
    // SAFETY: the pointer is of a live client (the lock is held), the text is a C string.
    let code = unsafe {
        rdkafka::bindings::rd_kafka_test_fatal_error(
            client,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
            c"made for a test".as_ptr(),
        )
    };
    assert!(!code.is_error());
    assert!(producer.as_ref().unwrap().client().fatal_error().is_some());
}

#[test]
fn a_fatal_error_replaces_the_client_and_loses_nothing() {
    let (cluster, dir) = (cluster(1, 4), tempfile::tempdir().unwrap());
    let sink = open(&config(&cluster), dir.path());
    for n in 0..100 {
        sink.accept(&keyed(n)).unwrap();
    }
    wait_for("delivered", || sink.status().delivered == 100);
    // Some are on their way when it happens, and some come while there is no client.
    cluster.broker_down(-1).unwrap();
    for n in 100..200 {
        sink.accept(&keyed(n)).unwrap();
    }
    wait_for("in flight", || sink.status().in_flight == 100);
    make_fatal(&sink);
    for n in 200..300 {
        sink.accept(&keyed(n)).unwrap();
    }
    wait_for("replaced", || sink.status().rebuilds == 1);
    cluster.broker_up(-1).unwrap();
    wait_for("delivered", || sink.status().delivered == 300);
    let status = sink.status();
    assert!(status.resent >= 100 && status.lost.is_empty(), "{status:?}");
    wait_for("ok", || sink.status().state == SinkState::Ok);
    assert_all_there(&consume(&cluster, "t", 4, 300), (0..300).map(keyed));
}

#[test]
fn errors_that_brokers_answer_with_are_retried() {
    let (cluster, dir) = (cluster(1, 1), tempfile::tempdir().unwrap());
    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ],
    );
    let sink = open(&config(&cluster), dir.path());
    for n in 0..50 {
        sink.accept(&keyed(n)).unwrap();
    }
    assert_eq!(sink.close(soon()).messages, 0);
    assert_eq!(sink.status().delivered, 50);
    assert_all_there(&consume(&cluster, "t", 1, 50), (0..50).map(keyed));
}

#[test]
fn what_the_broker_rejects_is_counted_and_written_down_and_the_rest_arrives() {
    let (cluster, dir) = (cluster(1, 1), tempfile::tempdir().unwrap());
    let sink = open(&config(&cluster), dir.path());
    sink.accept(&keyed(0)).unwrap();
    wait_for("delivered", || sink.status().delivered == 1);
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD]);
    sink.accept(&keyed(1)).unwrap();
    wait_for("rejected", || sink.status().lost.get("broker-rejected") == Some(&1));
    sink.accept(&keyed(2)).unwrap();
    wait_for("delivered", || sink.status().delivered == 2);
    assert_eq!(sink.close(soon()).messages, 0);
    let text = std::fs::read_to_string(dir.path().join("refused/kafka.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!(line["headers"]["message-id"], keyed(1).id.0.as_str());
    assert!(line["reason"].as_str().unwrap().starts_with("broker-rejected: "), "{line}");
}

#[test]
fn a_topic_that_is_forbidden_waits_in_order_and_holds_up_nobody() {
    let (cluster, dir) = (cluster(1, 2), tempfile::tempdir().unwrap());
    let sink = open(&config(&cluster), dir.path());
    let bad = |n| Message { topic: "closed".into(), ..keyed(n) };
    cluster.create_topic("closed", 1, 1).unwrap();
    cluster.topic_error("closed", RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    for n in 0..40 {
        sink.accept(&bad(n)).unwrap();
        sink.accept(&keyed(n)).unwrap();
    }
    wait_for("the open topic", || sink.status().topics.get("t") == Some(&40));
    wait_for("degraded", || matches!(sink.status().state, SinkState::Degraded(r) if r.contains("topic closed")));
    assert_eq!(sink.status().queued_messages, 40);
    for n in 40..60 {
        sink.accept(&bad(n)).unwrap();
    }
    cluster.topic_error("closed", RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    wait_for("the closed topic", || sink.status().topics.get("closed") == Some(&60));
    wait_for("ok", || sink.status().state == SinkState::Ok);
    assert_all_there(&consume(&cluster, "closed", 1, 60), (0..60).map(bad));
    assert_eq!(sink.close(soon()).messages, 0);
}

#[test]
fn what_waits_for_its_topic_is_not_lost_by_a_disk_that_is_away_for_a_moment() {
    let (cluster, fs) = (cluster(1, 1), MemFs::default());
    cluster.create_topic("closed", 1, 1).unwrap();
    cluster.topic_error("closed", RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    let clock = Arc::new(SystemClock::default());
    let spool = SpoolConfig { fsync_interval_ms: 20, ..SpoolConfig::default() };
    let sink =
        KafkaSink::open(config(&cluster), &spool, Path::new("/data"), Arc::new(fs.clone()), clock, events().0).unwrap();
    let bad = |n| Message { topic: "closed".into(), ..keyed(n) };
    (0..20).for_each(|n| sink.accept(&bad(n)).unwrap());
    wait_for("waiting", || matches!(sink.status().state, SinkState::Degraded(r) if r.contains("topic closed")));
    wait_for("back", || sink.status().in_flight == 0);
    fs.fail_opens(Some(libc::EMFILE));
    cluster.topic_error("closed", RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    wait_for("told", || matches!(sink.status().state, SinkState::Degraded(r) if r.contains("cannot read the spool")));
    // The other topic goes on: its file is open.
    sink.accept(&keyed(20)).unwrap();
    wait_for("the other topic", || sink.status().topics.get("t") == Some(&1));
    assert_eq!((sink.status().lost, sink.status().queued_messages), (BTreeMap::new(), 20));
    fs.fail_opens(None);
    wait_for("delivered", || sink.status().topics.get("closed") == Some(&20));
    wait_for("ok", || sink.status().state == SinkState::Ok);
    assert_all_there(&consume(&cluster, "closed", 1, 20), (0..20).map(bad));
    assert_eq!((sink.close(soon()).messages, sink.status().lost), (0, BTreeMap::new()));
}

#[test]
fn a_topic_that_stays_forbidden_is_given_up() {
    let (cluster, dir) = (cluster(1, 1), tempfile::tempdir().unwrap());
    cluster.create_topic("closed", 1, 1).unwrap();
    cluster.topic_error("closed", RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    let sink = open(&KafkaConfig { topic_retry_for_ms: 100, ..config(&cluster) }, dir.path());
    for n in 0..5 {
        sink.accept(&Message { topic: "closed".into(), ..keyed(n) }).unwrap();
    }
    wait_for("given up", || sink.status().lost.get("topic-unavailable") == Some(&5));
    assert_eq!(sink.close(soon()).messages, 0);
    let text = std::fs::read_to_string(dir.path().join("refused/kafka.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 5);
}

#[test]
fn large_messages_go_out_by_reference_or_are_written_down() {
    use base64::Engine as _;
    let (cluster, dir) = (cluster(1, 1), tempfile::tempdir().unwrap());
    let sink = open(&KafkaConfig { message_max_bytes: 10_000, ..config(&cluster) }, dir.path());
    let jpeg = [&[0xff, 0xd8][..], &[9; 20_000]].concat();
    let json = serde_json::json!({"camera_id": "cam-1", "image_base64": base64::engine::general_purpose::STANDARD.encode(&jpeg)});
    sink.accept(&Message { payload: json.to_string().into(), ..message(1, 0) }).unwrap();
    assert_eq!(sink.accept(&message(2, 10_000)), Err(RefuseReason::TooLarge));
    sink.accept(&message(3, 9_000)).unwrap();
    assert_eq!(sink.close(soon()).messages, 0);
    let got = consume(&cluster, "t", 1, 2);
    assert_eq!(got.len(), 2);
    let sent: serde_json::Value = serde_json::from_slice(&got[0].3).unwrap();
    let file = dir.path().join(sent["image_ref"].as_str().unwrap());
    assert_eq!(std::fs::read(file).unwrap(), jpeg);
    let status = sink.status();
    assert_eq!((status.image_refs, status.refused["too-large"], status.delivered), (1, 1, 2));
    let refused = std::fs::read_to_string(dir.path().join("refused/kafka.jsonl")).unwrap();
    assert!(refused.contains("cam-1/0/2/1/improved/0") && refused.trim().ends_with("\"reason\":\"too-large\"}"));
}

#[test]
fn a_large_message_that_the_spool_refuses_leaves_no_picture_and_takes_no_space() {
    use base64::Engine as _;
    let fs = MemFs::default();
    let picture = base64::engine::general_purpose::STANDARD.encode([9; 20_000]);
    let payload = serde_json::json!({"image_base64": picture}).to_string();
    let config = KafkaConfig {
        brokers: vec!["127.0.0.1:1".into()],
        message_max_bytes: 10_000,
        images_max_bytes: 30_000,
        ..KafkaConfig::default()
    };
    let spool = SpoolConfig { max_bytes: 1000, ..SpoolConfig::default() };
    let clock = Arc::new(SystemClock::default());
    let sink = KafkaSink::open(config, &spool, Path::new("/data"), Arc::new(fs.clone()), clock, events().0).unwrap();
    let large = |n| Message { payload: payload.clone().into(), ..message(n, 0) };
    let pictures = || fs.paths().into_iter().filter(|p| p.starts_with("/data/images")).count();
    sink.accept(&message(0, 800)).unwrap();
    for n in 1..4 {
        assert_eq!(sink.accept(&large(n)), Err(RefuseReason::SpoolFull));
        assert_eq!(pictures(), 0);
    }
    let status = sink.status();
    assert_eq!((status.accepted, status.image_refs, status.refused["spool-full"]), (1, 0, 3));
}

#[test]
fn memory_is_bounded_while_brokers_are_away() {
    let (cluster, dir) = (cluster(1, 1), tempfile::tempdir().unwrap());
    cluster.broker_down(-1).unwrap();
    let sink = open(&KafkaConfig { max_in_flight_messages: 10, ..config(&cluster) }, dir.path());
    for n in 0..100 {
        sink.accept(&keyed(n)).unwrap();
    }
    wait_for("in flight", || sink.status().in_flight == 10);
    cluster.broker_up(-1).unwrap();
    wait_for("delivered", || sink.status().delivered == 100);
    assert_eq!(assert_all_there(&consume(&cluster, "t", 1, 100), (0..100).map(keyed)), 0);
}

#[test]
fn a_full_spool_refuses_and_says_so() {
    let (cluster, dir) = (cluster(1, 1), tempfile::tempdir().unwrap());
    cluster.broker_down(-1).unwrap();
    let spool = SpoolConfig { max_bytes: 400_000, segment_bytes: 65_536, fsync: Fsync::Always, fsync_interval_ms: 20 };
    let clock = Arc::new(SystemClock::default());
    let sink = KafkaSink::open(config(&cluster), &spool, dir.path(), Arc::new(Disk), clock, events().0).unwrap();
    let taken: Vec<_> = (0..60).filter(|&n| sink.accept(&message(n, 10_000)).is_ok()).collect();
    assert!(taken.len() < 60);
    let status = sink.status();
    assert_eq!((status.accepted as usize, status.refused["spool-full"] as usize), (taken.len(), 60 - taken.len()));
    assert!(matches!(status.state, SinkState::Degraded(r) if r.contains("the spool holds")));
    cluster.broker_up(-1).unwrap();
    wait_for("ok", || sink.status().state == SinkState::Ok);
    wait_for("empty", || sink.status().queued_messages == 0);
    sink.accept(&message(1000, 10_000)).unwrap();
    assert_eq!(sink.close(soon()).messages, 0);
    assert_eq!(sink.status().delivered as usize, taken.len() + 1);
}

#[test]
fn settings_that_no_client_takes_are_an_error_without_their_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = KafkaConfig { brokers: vec!["127.0.0.1:1".into()], ..KafkaConfig::default() };
    config.properties.set("security.protocol", "sasl_plaintext");
    config.properties.set("sasl.mechanism", "NO-SUCH");
    config.properties.set("sasl.password", "canary");
    let error = KafkaSink::open(
        config,
        &SpoolConfig::default(),
        dir.path(),
        Arc::new(Disk),
        Arc::new(SystemClock::default()),
        events().0,
    )
    .unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("librdkafka does not take") && !text.contains("canary"), "{text}");
}

#[test]
fn the_doctor_sees_brokers_or_says_why_not() {
    let cluster = cluster(2, 1);
    let found = check(&config(&cluster), Duration::from_secs(30));
    assert_eq!(found.brokers.as_ref().map(Vec::len), Ok(2), "{found:?}");
    assert!(found.librdkafka.starts_with("2."), "{found:?}");
    let nobody = KafkaConfig { brokers: vec!["127.0.0.1:1".into()], ..KafkaConfig::default() };
    let found = check(&nobody, Duration::from_millis(500));
    assert!(found.brokers.is_err(), "{found:?}");
}
