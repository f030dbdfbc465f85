//! How long `GET /camera/status` takes with 100 cameras, over one keep-alive connection on loopback.
//!
//! Run with `cargo run --release -p facestream-api --example status_latency`. The host behind it is a test double that
//! keeps its cameras in a map under a lock: what is measured is HTTP, routing, checks and JSON.

#[path = "../tests/api/fake.rs"]
#[allow(dead_code, missing_docs, clippy::unwrap_used, clippy::wildcard_imports, unreachable_pub)]
mod fake;

use std::sync::Arc;
use std::time::{Duration, Instant};

use facestream_api::{Control, Server, ServerConfig};
use facestream_core::{CameraId, CameraSpec, SourceUrl};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const CAMERAS: usize = 100;
const WARM_UP: usize = 2_000;
const REQUESTS: usize = 20_000;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let control = Arc::new(fake::FakeControl::default());
    for n in 0..CAMERAS {
        let id = CameraId::new(&format!("550e8400-e29b-41d4-a716-{n:012}"))?;
        let url = SourceUrl::parse("rtsp://user:password@192.0.2.1/stream")?;
        control.start(CameraSpec::new(id, url)).await?;
    }
    let server = Server::bind(&ServerConfig { listen: "127.0.0.1:0".parse()?, ..ServerConfig::default() }).await?;
    let address = server.local_addr();
    let stop = CancellationToken::new();
    let running = tokio::spawn(server.run(control, stop.clone()));

    for (path, budget) in [("/camera/status", Some(300)), ("/api/v1/cameras", None), ("/metrics", None)] {
        let requests = if budget.is_some() { REQUESTS } else { REQUESTS / 20 };
        let (mut times, bytes) = ask(address, path, requests).await?;
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_micros();
        let note = budget.map_or(String::new(), |b| format!(" (budget for p50: {b} µs)"));
        println!(
            "GET {path}, {CAMERAS} cameras, {bytes} bytes: p50 {} µs, p99 {} µs, p99.9 {} µs{note}",
            at(0.5),
            at(0.99),
            at(0.999)
        );
    }
    stop.cancel();
    running.await?;
    Ok(())
}

/// Times of `n` requests after a warm-up, and the size of an answer.
async fn ask(address: std::net::SocketAddr, path: &str, n: usize) -> Result<(Vec<Duration>, usize), Failure> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let mut buffer = vec![0; 1 << 20];
    let mut times = Vec::with_capacity(n);
    let mut size = 0;
    for i in 0..WARM_UP.min(n) + n {
        let begin = Instant::now();
        stream.write_all(request.as_bytes()).await?;
        size = answer(&mut stream, &mut buffer).await?;
        if i >= WARM_UP.min(n) {
            times.push(begin.elapsed());
        }
    }
    Ok((times, size))
}

/// Reads one whole answer; its size.
async fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<usize, Failure> {
    let mut have = 0;
    let mut whole = None;
    while whole.is_none_or(|whole| have < whole) {
        let read = stream.read(&mut buffer[have..]).await?;
        if read == 0 {
            return Err("the connection ended, or the answer is larger than 1 MiB".into());
        }
        have += read;
        if whole.is_none()
            && let Some(end) = buffer[..have].windows(4).position(|w| w == b"\r\n\r\n")
        {
            let head = std::str::from_utf8(&buffer[..end])?.to_ascii_lowercase();
            if !head.starts_with("http/1.1 200") {
                return Err(format!("not answered with 200: {head}").into());
            }
            let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).ok_or("no content-length")?;
            whole = Some(end + 4 + length.trim().parse::<usize>()?);
        }
    }
    Ok(have)
}
