//! How fast messages of 10 KB are accepted, and how fast they reach a (mock) broker with the spool and without it.
//!
//! `cargo run --release -p facestream-sink --example throughput [MESSAGES]`

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use bytes::Bytes;
use facestream_core::{CameraId, Message, MessageId, SystemClock};
use facestream_sink::{Fsync, JsonlConfig, KafkaConfig, SinkConfig, Sinks, SpoolConfig};
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

/// A shot of about 10 KB. Its picture does not compress, as JPEG does not.
fn message(n: u64, picture: &[u8]) -> Message {
    let shift = usize::try_from(n % 64).unwrap_or(0);
    let image = base64::engine::general_purpose::STANDARD.encode(&picture[shift..shift + 7400]);
    Message {
        camera: CameraId::new(&format!("cam-{}", n % 100)).unwrap_or_else(|_| unreachable!("a valid name")),
        id: MessageId(format!("cam-{}/0/{n}/1/improved/0", n % 100)),
        topic: "detectionMega".into(),
        key: Bytes::from(format!("cam-{}", n % 100)),
        payload: format!("{{\"camera_id\":\"cam-{}\",\"image_base64\":\"{image}\"}}", n % 100).into(),
        headers: Vec::new(),
        content_type: "application/json".into(),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: u64 = std::env::args().nth(1).map_or(Ok(20_000), |n| n.parse())?;
    // xorshift64: any incompressible bytes do.
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    let picture: Vec<u8> = std::iter::repeat_with(|| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    })
    .take(7500)
    .collect();
    let messages: Vec<Message> = (0..count).map(|n| message(n, &picture)).collect();
    let bytes: usize = messages.iter().map(|m| m.payload.len()).sum();
    println!("{count} messages, {} bytes each", bytes as u64 / count.max(1));

    for (name, fsync) in [("every 500 ms", Fsync::Interval), ("always", Fsync::Always)] {
        let some = if fsync == Fsync::Always { &messages[..messages.len().min(2000)] } else { &messages[..] };
        // Nobody there: what is measured is accepting.
        let sinks = open("127.0.0.1:1", fsync)?;
        let mut slowest: Vec<Duration> = Vec::with_capacity(some.len());
        let start = Instant::now();
        for m in some {
            let one = Instant::now();
            sinks.1.accept(m)?;
            slowest.push(one.elapsed());
        }
        let rate = some.len() as f64 / start.elapsed().as_secs_f64();
        slowest.sort_unstable();
        let at = |p: usize| slowest[slowest.len() * p / 1000 - 1];
        println!(
            "accept into the spool, fsync {name}: {rate:.0}/s, p50 {:?}, p99 {:?}, p99.9 {:?}",
            at(500),
            at(990),
            at(999)
        );
        sinks.1.close(Instant::now());
    }

    let cluster = MockCluster::new(3)?;
    cluster.create_topic("detectionMega", 6, 3)?;
    let sinks = open(&cluster.bootstrap_servers(), Fsync::Interval)?;
    let start = Instant::now();
    for m in &messages {
        sinks.1.accept(m)?;
    }
    let accepted = start.elapsed();
    let left = sinks.1.close(Instant::now() + Duration::from_secs(300));
    let with = count as f64 / start.elapsed().as_secs_f64();
    println!(
        "spool and mock cluster: {with:.0}/s to the last acknowledgement (accepted after {accepted:?}; left {})",
        left[0].1.messages
    );
    drop(sinks);

    let cluster = MockCluster::new(3)?;
    cluster.create_topic("detectionMega", 6, 3)?;
    // The settings of the sink, so that the spool is the only difference.
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("enable.idempotence", "true")
        .set("compression.type", "zstd")
        .set("linger.ms", "20")
        .set("batch.size", "262144")
        .set("message.timeout.ms", "0")
        .set("queue.buffering.max.kbytes", "65536")
        .create()?;
    let start = Instant::now();
    for m in &messages {
        let mut record = BaseRecord::to(&m.topic).key(m.key.as_ref()).payload(m.payload.as_ref());
        while let Err((_, back)) = producer.send(record) {
            record = back;
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    producer.flush(Duration::from_secs(300))?;
    let without = count as f64 / start.elapsed().as_secs_f64();
    println!("librdkafka alone and mock cluster: {without:.0}/s; with the spool {:.2} of it", with / without);
    Ok(())
}

fn open(brokers: &str, fsync: Fsync) -> Result<(tempfile::TempDir, Sinks), Box<dyn std::error::Error>> {
    let data = tempfile::tempdir()?;
    let config = SinkConfig {
        kafka: Some(KafkaConfig { brokers: brokers.split(',').map(str::to_owned).collect(), ..KafkaConfig::default() }),
        jsonl: JsonlConfig { enabled: false, ..JsonlConfig::default() },
        spool: SpoolConfig { fsync, ..SpoolConfig::default() },
        ..SinkConfig::default()
    };
    let sinks = Sinks::open(&config, data.path(), Arc::new(SystemClock::default()), Arc::new(|_| {}))?;
    Ok((data, sinks))
}
