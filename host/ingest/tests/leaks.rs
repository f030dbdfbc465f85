//! A password goes to the camera that asks for it and nowhere else: not into states, errors, log records or `Debug`,
//! whatever a server does, even one that repeats what it was told.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use facestream_core::{CameraState, SourceUrl};
use facestream_ingest::{IngestConfig, IngestEnv, LOG_DIRECTIVE};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

const CANARY: &str = "hunter2-canary";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// What a hostile or broken server says to DESCRIBE. `{}` is the password that it knows.
const ANSWERS: &[&str] = &[
    "RTSP/1.0 401 Unauthorized {}\r\nCSeq: 1\r\nWWW-Authenticate: Basic realm=\"{}\"\r\n\r\n",
    "RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\nWWW-Authenticate: {} realm=\"{}\"\r\n\r\n",
    "RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\n\r\n",
    "RTSP/1.0 403 Forbidden {}\r\nCSeq: 1\r\n\r\n",
    "RTSP/1.0 404 Not Found {}\r\nCSeq: 1\r\n\r\n",
    "RTSP/1.0 500 {}\r\nCSeq: 1\r\nX: {}\r\n\r\n",
    "RTSP/1.0 999 {}\r\nCSeq: 1\r\n\r\n",
    "RTSP/1.0 200 OK\r\nCSeq: {}\r\n\r\n",
    "RTSP/1.0 200 OK\r\nCSeq: 77\r\nX: {}\r\n\r\n",
    "HTTP/1.1 400 Bad Request {}\r\n\r\n{}",
    "{}{}{}{}\r\n\r\n",
    "RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Type: {}\r\nContent-Length: 2\r\n\r\n{}",
    "RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Type: application/sdp\r\nContent-Length: 14\r\n\r\n{}",
    "RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Base: {}://{}\r\nContent-Type: application/sdp\r\nContent-Length: 14\r\n\r\n{}",
    "$\0\0\x0e{}",
    "",
];

/// SDPs with the password where a name stands.
const DESCRIPTIONS: &[&str] = &[
    "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns={}\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\na=control:{}\r\n",
    "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 {}/90000\r\na=control:{}\r\n",
    "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm={} 0 {} 96\r\na=rtpmap:96 {}/90000\r\n",
    "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/1\r\na=fmtp:96 {}\r\n",
    // Accepted; then SETUP is answered with a 404 by the loop below.
    "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:{}\r\n",
];

/// Answers the n-th connection with the n-th answer and closes.
async fn hostile_server() -> (u16, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut answers: Vec<String> = ANSWERS.iter().map(|a| a.replace("{}", CANARY)).collect();
    for sdp in DESCRIPTIONS {
        let sdp = sdp.replace("{}", CANARY);
        answers.push(format!(
            "RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}\
             RTSP/1.0 404 {CANARY}\r\nCSeq: 2\r\n\r\n",
            sdp.len()
        ));
    }
    let count = answers.len();
    tokio::spawn(async move {
        for answer in answers.into_iter().cycle() {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 4_096];
            let read = socket.read(&mut request).await;
            if read.is_ok() && socket.write_all(answer.as_bytes()).await.is_ok() {
                // A second request, the one with credentials, gets the same answer under its own number.
                if socket.read(&mut request).await.is_ok_and(|n| n > 0) {
                    let again = answer.replace("CSeq: 1", "CSeq: 2");
                    drop(socket.write_all(again.as_bytes()).await);
                }
            }
        }
    });
    (port, count)
}

#[tokio::test]
async fn no_failure_repeats_a_password() {
    let log = Log::default();
    // Everything at its most talkative, with the directive that this crate asks for.
    let filter = EnvFilter::new("trace").add_directive(LOG_DIRECTIVE.parse().unwrap());
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(log.clone()).with_ansi(false).finish();
    // With feature `tracing-log` of the subscriber this also takes records of crate `log`, as the host's does.
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let (port, answers) = hostile_server().await;
    let config = IngestConfig {
        backoff_min_ms: 10,
        backoff_max_ms: 20,
        connects_per_second: 1_000,
        connect_timeout_ms: 3_000,
        ..config()
    };
    let env = IngestEnv::system(config);
    let urls = [
        format!("rtsp://admin:{CANARY}@127.0.0.1:{port}/live?user=admin&pwd={CANARY}"),
        format!("rtsp://127.0.0.1:{port}/live?user=admin&pwd={CANARY}"),
        format!("rtsp://admin:{CANARY}@{CANARY}.invalid/live"),
        format!("rtsps://admin:{CANARY}@127.0.0.1/live"),
        format!("rtsp://admin:{CANARY}@127.0.0.1:1/live"),
    ];
    for (i, url) in urls.iter().enumerate() {
        let rig = start(&env, &spec(url));
        let mut state = rig.handle.state.clone();
        let mut reasons = std::collections::BTreeSet::new();
        let rounds = if i < 2 { answers + 2 } else { 2 };
        let mut seen = 0;
        while seen < rounds {
            tokio::time::timeout(Duration::from_secs(30), state.changed()).await.expect("states go on").unwrap();
            let now = state.borrow_and_update().clone();
            let text = format!("{now:?}");
            // The host name is no secret: an operator must be able to read it.
            assert!(!text.replace(&format!("{CANARY}.invalid"), "").contains(CANARY), "{text}");
            match now {
                CameraState::WaitingToRetry { reason, .. } => {
                    reasons.insert(reason);
                    seen += 1;
                }
                CameraState::Failed { .. } => break,
                _ => {}
            }
        }
        if i < 2 {
            assert!(reasons.len() >= 6, "the server's answers were told apart: {reasons:#?}");
        }
        rig.cancel.cancel();
        rig.handle.task.await.unwrap();
    }
    let request_debug = format!("{:?}", SourceUrl::parse(&urls[0]).unwrap());
    assert!(!request_debug.contains(CANARY));
    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).replace(&format!("{CANARY}.invalid"), "");
    assert!(log.contains("camera lost"), "the log was recorded: {log}");
    assert!(!log.contains(CANARY), "{}", log.lines().find(|l| l.contains(CANARY)).unwrap_or_default());
}
