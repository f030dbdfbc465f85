//! A real Apache Kafka on loopback for tests: brokers that are started, killed and started again.
//!
//! Owns the processes it starts and ends them by their id, also when a test panics. Needs Java and the jars that
//! `cargo xtask setup` fetches; says in words what is missing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};

/// How long anything may take on a slow machine before it counts as broken.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// Any cluster id does; all brokers of one cluster need the same.
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qk";

/// The jars of Kafka, or why there is no real Kafka here. Panics under `CI` when set-up should have fetched them.
///
/// # Errors
/// In words fit for a skipped test.
pub fn jars() -> Result<PathBuf, String> {
    let runs = |program: &str| Command::new(program).arg("-version").output().is_ok_and(|o| o.status.success());
    if !runs("java") {
        return Err("there is no Java (apt-get install default-jre-headless maven, then cargo xtask setup)".into());
    }
    let jars = facestream_test_support::asset("kafka/libs/kafka_2.13-4.1.0.jar");
    assert!(jars.is_ok() || std::env::var_os("CI").is_none() || !runs("mvn"), "set-up left out Kafka's jars: {jars:?}");
    jars.map(|jar| jar.parent().map_or_else(PathBuf::new, Path::to_owned))
}

/// Some brokers, each a controller too (KRaft). Dropping it ends them.
#[derive(Debug)]
pub struct Brokers {
    libs: PathBuf,
    dir: tempfile::TempDir,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    port: u16,
    process: Option<Child>,
}

impl Brokers {
    /// Starts so many and waits until all are there.
    ///
    /// # Errors
    /// When they do not come up; with the end of their logs.
    pub fn start(libs: &Path, count: usize) -> anyhow::Result<Self> {
        // A port may be taken between finding it free and its use: other ports are worth a try.
        let mut last = None;
        for _ in 0..3 {
            let mut brokers = Self::prepare(libs, count)?;
            match brokers.start_all() {
                Ok(()) => return Ok(brokers),
                Err(error) => last = Some(error),
            }
        }
        last.map_or_else(|| bail!("no attempt was made"), Err)
    }

    fn prepare(libs: &Path, count: usize) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        // All held at the same time, so that they differ.
        let held: Vec<TcpListener> =
            (0..2 * count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
        let ports: Vec<u16> = held.iter().map(|l| l.local_addr().map(|a| a.port())).collect::<Result<_, _>>()?;
        let (ports, controllers) = ports.split_at(count);
        let voters: Vec<String> = (0..count).map(|i| format!("{}@127.0.0.1:{}", i + 1, controllers[i])).collect();
        let replicas = count.min(3);
        for i in 0..count {
            let home = dir.path().join(i.to_string());
            fs::create_dir_all(&home)?;
            let text = format!(
                "process.roles=broker,controller\nnode.id={id}\ncontroller.quorum.voters={voters}\n\
                 listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
                 advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ninter.broker.listener.name=PLAINTEXT\n\
                 controller.listener.names=CONTROLLER\n\
                 listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\nlog.dirs={logs}\n\
                 auto.create.topics.enable=false\noffsets.topic.replication.factor={replicas}\n\
                 offsets.topic.num.partitions=1\ntransaction.state.log.replication.factor={replicas}\n\
                 transaction.state.log.min.isr=1\ngroup.initial.rebalance.delay.ms=0\n\
                 log.cleaner.dedupe.buffer.size=2097152\nnum.network.threads=2\nnum.io.threads=2\n\
                 broker.session.timeout.ms=6000\n",
                id = i + 1,
                voters = voters.join(","),
                port = ports[i],
                controller = controllers[i],
                logs = home.join("data").display(),
            );
            fs::write(home.join("server.properties"), text)?;
        }
        drop(held);
        let nodes = ports.iter().map(|&port| Node { port, process: None }).collect();
        let brokers = Self { libs: libs.to_owned(), dir, nodes };
        for i in 0..count {
            let output = brokers
                .java(i, "kafka.tools.StorageTool")
                .args(["format", "-t", CLUSTER_ID, "-c"])
                .arg(brokers.home(i).join("server.properties"))
                .output()
                .context("cannot start java")?;
            ensure!(
                output.status.success(),
                "formatting the storage of broker {} failed: {}",
                i + 1,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(brokers)
    }

    fn home(&self, i: usize) -> PathBuf {
        self.dir.path().join(i.to_string())
    }

    fn java(&self, i: usize, class: &str) -> Command {
        let mut java = Command::new("java");
        // Small, and quick to start rather than quick to run: three share two cores with the test.
        java.args(["-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .arg("-cp")
            .arg(self.libs.join("*"))
            .arg(class)
            .current_dir(self.home(i))
            .stdin(Stdio::null());
        java
    }

    /// Starts those that do not run and waits until all are there.
    ///
    /// # Errors
    /// When they do not come up; with the end of their logs.
    pub fn start_all(&mut self) -> anyhow::Result<()> {
        for i in 0..self.nodes.len() {
            if self.nodes[i].process.is_none() {
                let log = File::options().create(true).append(true).open(self.home(i).join("log"))?;
                let process = self
                    .java(i, "kafka.Kafka")
                    .arg("server.properties")
                    .stdout(log.try_clone()?)
                    .stderr(log)
                    .spawn()
                    .context("cannot start java")?;
                self.nodes[i].process = Some(process);
            }
        }
        self.wait_for_all()
    }

    fn wait_for_all(&mut self) -> anyhow::Result<()> {
        let consumer: BaseConsumer = self.client().create()?;
        let end = Instant::now() + PATIENCE;
        loop {
            let seen = consumer.fetch_metadata(None, Duration::from_secs(2)).map_or(0, |m| m.brokers().len());
            if seen == self.nodes.len() {
                return Ok(());
            }
            for i in 0..self.nodes.len() {
                if let Some(status) = self.nodes[i].process.as_mut().map(Child::try_wait).transpose()?.flatten() {
                    self.nodes[i].process = None;
                    bail!("broker {} ended ({status}): {}", i + 1, self.log_end(i));
                }
            }
            if Instant::now() > end {
                let logs: Vec<_> = (0..self.nodes.len()).map(|i| self.log_end(i)).collect();
                bail!("{seen} of {} brokers came up within {PATIENCE:?}:\n{}", self.nodes.len(), logs.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn log_end(&self, i: usize) -> String {
        let text = fs::read_to_string(self.home(i).join("log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(15).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Kills one with signal 9, as a power cut would end it.
    ///
    /// # Errors
    /// When the process cannot be ended.
    pub fn kill(&mut self, i: usize) -> anyhow::Result<()> {
        if let Some(mut process) = self.nodes[i].process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// Addresses of all brokers, running or not.
    #[must_use]
    pub fn bootstrap(&self) -> Vec<String> {
        self.nodes.iter().map(|n| format!("127.0.0.1:{}", n.port)).collect()
    }

    /// Settings of a client.
    #[must_use]
    pub fn client(&self) -> ClientConfig {
        client(&self.bootstrap().join(","))
    }

    /// Position in the list of the broker that leads a partition now.
    ///
    /// # Errors
    /// When the cluster does not say.
    pub fn leader(&self, topic: &str, partition: i32) -> anyhow::Result<usize> {
        let consumer: BaseConsumer = self.client().create()?;
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
        let found = metadata.topics().iter().flat_map(|t| t.partitions()).find(|p| p.id() == partition);
        let leader = found.context("no such partition")?.leader();
        usize::try_from(leader - 1).context("the partition has no leader")
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(process) = &mut node.process {
                // Nothing can be done about a process that does not end, and a panic here would hide the test's.
                drop(process.kill());
                drop(process.wait());
            }
        }
    }
}

/// Settings of a client of any cluster, with a group of its own.
#[must_use]
pub fn client(bootstrap: &str) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", bootstrap).set("group.id", "facestream-tests").set("enable.auto.commit", "false");
    client
}

/// Makes a topic and waits until every partition has a leader.
///
/// # Errors
/// When the cluster refuses.
pub fn create_topic(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    replicas: i32,
    min_insync: u32,
) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create()?;
    let min_insync = min_insync.to_string();
    let new =
        NewTopic::new(topic, partitions, TopicReplication::Fixed(replicas)).set("min.insync.replicas", &min_insync);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = Instant::now() + PATIENCE;
    loop {
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
        match runtime.block_on(admin.create_topics([&new], &options)) {
            Ok(results) => match results.into_iter().next() {
                Some(Ok(_)) | Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => break,
                // Brokers that have just come may not be counted yet.
                Some(Err((_, code))) if Instant::now() > end => bail!("cannot create topic {topic}: {code}"),
                _ => {}
            },
            Err(error) if Instant::now() > end => bail!("cannot create topic {topic}: {error}"),
            Err(_) => {}
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let consumer: BaseConsumer = client(bootstrap).create()?;
    loop {
        let led = consumer.fetch_metadata(Some(topic), Duration::from_secs(5)).is_ok_and(|m| {
            let found: Vec<_> = m.topics().iter().flat_map(|t| t.partitions()).collect();
            found.len() == partitions as usize && found.iter().all(|p| p.leader() >= 0)
        });
        if led {
            return Ok(());
        }
        ensure!(Instant::now() < end, "topic {topic} has partitions without a leader");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A message as it lies in Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Consumed {
    pub partition: i32,
    pub offset: i64,
    pub key: Vec<u8>,
    pub payload: Vec<u8>,
    pub headers: BTreeMap<String, String>,
}

impl Consumed {
    /// The header `message-id`.
    #[must_use]
    pub fn id(&self) -> &str {
        self.headers.get("message-id").map_or("", String::as_str)
    }
}

/// Everything that is in a topic now, partition by partition in order.
///
/// # Errors
/// When it cannot be read to its end.
pub fn consume(bootstrap: &str, topic: &str, partitions: i32) -> anyhow::Result<Vec<Consumed>> {
    let consumer: BaseConsumer = client(bootstrap).create()?;
    let mut all = Vec::new();
    for partition in 0..partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition, PATIENCE)?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(low))?;
        consumer.assign(&list)?;
        let end = Instant::now() + PATIENCE;
        let mut next = low;
        while next < high {
            ensure!(Instant::now() < end, "partition {partition} of {topic}: read up to {next} of {high} only");
            // Errors of single connections mend themselves; the deadline ends those that do not.
            let Some(Ok(m)) = consumer.poll(Duration::from_millis(500)) else { continue };
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            let headers = m.headers().map(|h| h.iter().map(|h| (h.key.to_owned(), text(h.value))).collect());
            next = m.offset() + 1;
            all.push(Consumed {
                partition: m.partition(),
                offset: m.offset(),
                key: m.key().unwrap_or_default().to_vec(),
                payload: m.payload().unwrap_or_default().to_vec(),
                headers: headers.unwrap_or_default(),
            });
        }
    }
    Ok(all)
}
