//! The server on a real socket on loopback: bind errors, keep-alive, the graceful stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use facestream_api::{ServeError, Server, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::fake::FakeControl;

/// Far beyond what anything here takes; only a hang reaches it.
const BOUND: Duration = Duration::from_secs(60);

struct Running {
    address: SocketAddr,
    control: Arc<FakeControl>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn config() -> ServerConfig {
    ServerConfig { listen: "127.0.0.1:0".parse().unwrap(), ..ServerConfig::default() }
}

async fn serve(config: ServerConfig) -> Running {
    let server = Server::bind(&config).await.unwrap();
    let (address, control, stop) = (server.local_addr(), Arc::new(FakeControl::default()), CancellationToken::new());
    let task = tokio::spawn(server.run(control.clone(), stop.clone()));
    Running { address, control, stop, task }
}

impl Running {
    async fn connect(&self) -> BufReader<TcpStream> {
        BufReader::new(TcpStream::connect(self.address).await.unwrap())
    }

    async fn stopped(self) {
        timeout(BOUND, self.task).await.expect("the server stops").unwrap();
    }
}

async fn write(stream: &mut BufReader<TcpStream>, text: &str) {
    stream.get_mut().write_all(text.as_bytes()).await.unwrap();
}

/// Reads until the text is there, or the connection ends.
async fn read_until(stream: &mut BufReader<TcpStream>, wanted: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains(wanted) {
        let n = timeout(BOUND, stream.read(&mut buffer)).await.expect("an answer in time").unwrap_or(0);
        if n == 0 {
            break;
        }
        text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
    }
    text
}

#[tokio::test]
async fn a_port_in_use_says_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = Server::bind(&ServerConfig { listen: address, ..ServerConfig::default() }).await.unwrap_err();
    assert!(matches!(error, ServeError::InUse(a) if a == address), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&format!("port {}", address.port())) && text.contains("--listen"), "{text}");
}

#[tokio::test]
async fn an_address_of_another_machine_says_so() {
    // TEST-NET-1 (RFC 5737): nobody's.
    let config = ServerConfig { listen: "192.0.2.1:8080".parse().unwrap(), ..ServerConfig::default() };
    let error = Server::bind(&config).await.unwrap_err();
    assert!(matches!(error, ServeError::NotOurs(_)), "{error:?}");
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let running = serve(config()).await;
    let mut stream = running.connect().await;
    for _ in 0..3 {
        write(&mut stream, "GET /camera/status HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        let answer = read_until(&mut stream, "[]}").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    running.stop.cancel();
    running.stopped().await;
}

#[tokio::test]
async fn a_stop_ends_idle_connections_and_streams() {
    let running = serve(config()).await;
    let mut idle = running.connect().await;
    write(&mut idle, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    read_until(&mut idle, "ok").await;
    let mut stream = running.connect().await;
    write(&mut stream, "GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    read_until(&mut stream, "listening").await;
    let address = running.address;
    running.stop.cancel();
    running.stopped().await;
    assert_eq!(read_until(&mut idle, "never").await, "");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

const UPLOAD: &str = "POST /api/v1/guests?name=x HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/wasm\r\ncontent-length: 4\r\n\r\n\0asm";

#[tokio::test]
async fn a_stop_lets_requests_finish() {
    let running = serve(ServerConfig { grace_ms: 60_000, ..config() }).await;
    running.control.hold_uploads.store(true, Ordering::SeqCst);
    let mut stream = running.connect().await;
    write(&mut stream, UPLOAD).await;
    timeout(BOUND, running.control.uploads_arrived.notified()).await.unwrap();
    running.stop.cancel();
    running.control.hold_uploads.store(false, Ordering::SeqCst);
    running.control.uploads_released.notify_waiters();
    let answer = read_until(&mut stream, "never").await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    running.stopped().await;
}

#[tokio::test]
async fn a_stop_waits_no_longer_than_its_grace() {
    let running = serve(ServerConfig { grace_ms: 10, ..config() }).await;
    running.control.hold_uploads.store(true, Ordering::SeqCst);
    let mut stream = running.connect().await;
    write(&mut stream, UPLOAD).await;
    timeout(BOUND, running.control.uploads_arrived.notified()).await.unwrap();
    running.stop.cancel();
    running.stopped().await;
    assert_eq!(read_until(&mut stream, "never").await, "", "cut without an answer");
}

#[tokio::test]
async fn a_client_that_never_finishes_its_headers_is_cut() {
    let running = serve(ServerConfig { header_timeout_ms: 20, ..config() }).await;
    let mut stream = running.connect().await;
    write(&mut stream, "GET /healthz HTTP/1.1\r\nhost: localho").await;
    assert_eq!(read_until(&mut stream, "never").await, "", "closed");
    running.stop.cancel();
    running.stopped().await;
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_their_turn() {
    let running = serve(ServerConfig { max_connections: 1, ..config() }).await;
    let mut first = running.connect().await;
    write(&mut first, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    read_until(&mut first, "ok").await;
    let mut second = running.connect().await;
    write(&mut second, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    drop(first);
    assert!(read_until(&mut second, "ok").await.starts_with("HTTP/1.1 200"));
    running.stop.cancel();
    running.stopped().await;
}

/// One that asks and never reads would keep its place for ever; the next one gets it.
#[tokio::test]
async fn a_client_that_takes_no_answer_is_cut() {
    let running = serve(ServerConfig { max_connections: 1, header_timeout_ms: 300, ..config() }).await;
    let mut deaf = running.connect().await;
    // More than sockets hold between the two: answers of 1.5 MB each.
    let ask = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n";
    write(&mut deaf, &ask.repeat(16)).await;
    let mut next = running.connect().await;
    write(&mut next, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(read_until(&mut next, "200 OK").await.contains("200 OK"));
    running.stop.cancel();
    running.stopped().await;
    drop(deaf);
}
