//! The promise of delivery, kept against a real Apache Kafka: what was accepted is read back, whatever happens to brokers.
#![allow(clippy::unwrap_used, reason = "a test: what is missing is a failure, and helpers are not seen as tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use facestream_core::{CameraId, Message, MessageId, SystemClock};
use facestream_sink::{JsonlConfig, KafkaConfig, SinkConfig, SinkState, SinkStatus, Sinks};
use facestream_test_support::skip;
use facestream_tests::kafka::{self, Brokers, Consumed, PATIENCE};

const PARTITIONS: i32 = 6;
const CAMERAS: u64 = 8;
/// How long all brokers are away.
const OUTAGE: Duration = Duration::from_secs(30);

/// The `n`th message: about 10 KB of JSON, as a best shot has.
fn message(topic: &str, n: u64) -> Message {
    let camera = format!("cam-{}", n % CAMERAS);
    let picture: String = (0..10_000).map(|i| char::from(b'A' + ((n * 31 + i * 7) % 26) as u8)).collect();
    Message {
        camera: CameraId::new(&camera).unwrap(),
        id: MessageId(format!("{camera}/0/{n}/1/improved/0")),
        topic: topic.into(),
        key: Bytes::from(camera.clone()),
        payload: serde_json::json!({"camera_id": camera, "n": n, "image_base64": picture}).to_string().into(),
        headers: vec![("source".into(), "test".into())],
        content_type: "application/json".into(),
    }
}

fn open(brokers: Vec<String>, data: &Path) -> Sinks {
    let config = SinkConfig {
        kafka: Some(KafkaConfig { brokers, ..KafkaConfig::default() }),
        jsonl: JsonlConfig { enabled: false, ..JsonlConfig::default() },
        ..SinkConfig::default()
    };
    let tell = Arc::new(|event| println!("event: {event:?}"));
    Sinks::open(&config, data, Arc::new(SystemClock::default()), tell).unwrap()
}

fn status(sinks: &Sinks) -> SinkStatus {
    sinks.status().remove(0)
}

fn wait_for(what: &str, sinks: &Sinks, holds: impl Fn(&SinkStatus) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds(&status(sinks)) {
        assert!(Instant::now() < end, "waited in vain for: {what}; {:?}", status(sinks));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Checks every message that was accepted field by field, one key on one partition, first arrivals of each camera in
/// order. Gives how many came more than once.
fn assert_delivered(got: &[Consumed], topic: &str, accepted: u64) -> usize {
    let mut first: BTreeMap<&str, &Consumed> = BTreeMap::new();
    let mut partitions: BTreeMap<&[u8], BTreeSet<i32>> = BTreeMap::new();
    let mut order: BTreeMap<&[u8], Vec<&str>> = BTreeMap::new();
    for m in got {
        partitions.entry(&m.key).or_default().insert(m.partition);
        if let std::collections::btree_map::Entry::Vacant(entry) = first.entry(m.id()) {
            entry.insert(m);
            order.entry(&m.key).or_default().push(m.id());
        }
    }
    assert!(partitions.values().all(|p| p.len() == 1), "one key is on one partition: {partitions:?}");
    assert_eq!(partitions.len() as u64, CAMERAS.min(accepted));
    for n in 0..accepted {
        let expected = message(topic, n);
        let found = first
            .get(expected.id.0.as_str())
            .unwrap_or_else(|| panic!("{} was accepted and is not there", expected.id));
        assert_eq!((&found.key[..], &found.payload[..]), (&expected.key[..], &expected.payload[..]), "{}", expected.id);
        let headers: Vec<_> = found.headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            headers,
            [("content-type", "application/json"), ("message-id", expected.id.0.as_str()), ("source", "test")]
        );
    }
    assert_eq!(first.len() as u64, accepted, "nothing that was not accepted");
    for (key, ids) in order {
        let camera: u64 = std::str::from_utf8(key).unwrap().trim_start_matches("cam-").parse().unwrap();
        let expected: Vec<_> =
            (0..accepted).filter(|n| n % CAMERAS == camera).map(|n| message(topic, n).id.0).collect();
        assert_eq!(ids, expected, "in order");
    }
    got.len() - first.len()
}

#[test]
fn messages_arrive_field_by_field() {
    const TEST: &str = "kafka_real: messages_arrive_field_by_field";
    const TOPIC: &str = "detectionMega";
    let data = tempfile::tempdir().unwrap();
    let run = |bootstrap: &str, topic: &str| {
        let sinks = open(bootstrap.split(',').map(str::to_owned).collect(), data.path());
        for n in 0..500 {
            sinks.accept(&message(topic, n)).unwrap();
        }
        let left = sinks.close(Instant::now() + PATIENCE);
        assert_eq!((left[0].1.messages, status(&sinks).delivered), (0, 500), "{:?}", status(&sinks));
        let got = kafka::consume(bootstrap, topic, PARTITIONS).unwrap();
        assert_eq!(assert_delivered(&got, topic, 500), 0, "nothing went wrong, so nothing comes twice");
    };
    match (kafka::jars(), std::env::var("KAFKA_BOOTSTRAP")) {
        (Ok(libs), _) => {
            let brokers = Brokers::start(&libs, 1).unwrap();
            let bootstrap = brokers.bootstrap().join(",");
            kafka::create_topic(&bootstrap, TOPIC, PARTITIONS, 1, 1).unwrap();
            run(&bootstrap, TOPIC);
        }
        (Err(_), Ok(bootstrap)) => {
            // A cluster that others use: a topic of our own.
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
            let topic = format!("facestream-test-{}-{now}", std::process::id());
            kafka::create_topic(&bootstrap, &topic, PARTITIONS, 1, 1).unwrap();
            run(&bootstrap, &topic);
        }
        (Err(why), Err(_)) => {
            skip(TEST, &format!("no real Kafka, librdkafka's mock cluster instead: {why}"));
            let mock = rdkafka::mocking::MockCluster::new(3).unwrap();
            mock.create_topic(TOPIC, PARTITIONS, 3).unwrap();
            run(&mock.bootstrap_servers(), TOPIC);
        }
    }
}

#[test]
fn a_killed_broker_and_an_outage_of_all_lose_nothing() {
    const TOPIC: &str = "gate-metric-detections";
    let libs = match kafka::jars() {
        Ok(libs) => libs,
        Err(why) => return skip("kafka_real: a_killed_broker_and_an_outage_of_all_lose_nothing", &why),
    };
    let mut brokers = Brokers::start(&libs, 3).unwrap();
    let bootstrap = brokers.bootstrap();
    kafka::create_topic(&bootstrap.join(","), TOPIC, PARTITIONS, 3, 2).unwrap();
    let data = tempfile::tempdir().unwrap();
    let sinks = open(bootstrap.clone(), data.path());
    let mut n = 0;
    // About 300 messages a second: what eight busy cameras give.
    let mut send = |time: Duration| {
        let start = Instant::now();
        let from = n;
        while start.elapsed() < time {
            sinks.accept(&message(TOPIC, n)).unwrap();
            n += 1;
            let due = Duration::from_micros(3333 * (n - from));
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
        n
    };

    send(Duration::from_secs(2));
    wait_for("the first deliveries", &sinks, |s| s.delivered > 0);
    // A leader, so that its clients must find another one.
    let victim = brokers.leader(TOPIC, 0).unwrap();
    brokers.kill(victim).unwrap();
    println!("broker {} was killed", victim + 1);
    let sent = send(Duration::from_secs(10));
    wait_for("everything, with two of three brokers", &sinks, |s| s.delivered == sent);
    brokers.start_all().unwrap();

    send(Duration::from_secs(2));
    for i in 0..3 {
        brokers.kill(i).unwrap();
    }
    println!("all brokers were killed: {:?}", status(&sinks));
    let gone = Instant::now();
    send(Duration::from_secs(10));
    wait_for("degraded", &sinks, |s| matches!(s.state, SinkState::Degraded(_)));
    // Away for the whole time: this is what is tested, not a way to wait for something.
    std::thread::sleep(OUTAGE.saturating_sub(gone.elapsed()));
    let before = status(&sinks);
    assert!(before.queued_messages > 2000, "{before:?}");
    brokers.start_all().unwrap();
    let back = Instant::now();
    let sent = send(Duration::from_secs(2));
    wait_for("everything, after the outage", &sinks, |s| s.delivered == sent);
    println!("drained {} messages in {:?}", before.queued_messages, back.elapsed());
    wait_for("ok", &sinks, |s| s.state == SinkState::Ok);
    let last = status(&sinks);
    assert!(last.lost.is_empty() && last.refused.is_empty() && last.queued_messages == 0, "{last:?}");
    assert_eq!(sinks.close(Instant::now() + PATIENCE)[0].1.messages, 0);

    let got = kafka::consume(&bootstrap.join(","), TOPIC, PARTITIONS).unwrap();
    let twice = assert_delivered(&got, TOPIC, sent);
    println!(
        "accepted {sent}, read back {}, of them again {twice}; resent {}, rebuilds {}",
        got.len(),
        last.resent,
        last.rebuilds
    );
}
