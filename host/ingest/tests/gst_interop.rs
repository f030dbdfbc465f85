//! Against an RTSP server that this project did not write: GStreamer's.
//!
//! Needs Debian's gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-{base,good,bad} and python3-gi;
//! skipped with a reason where they are missing.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::*;
use facestream_core::camera::Transport;
use facestream_core::metrics::Counter;
use facestream_core::{AccessUnit, CameraSpec, CameraState, Codec, SourceUrl, StreamParams};
use facestream_ingest::{IngestConfig, IngestEnv, IngestEvent};
use facestream_test_support::{asset_or_skip, skip};

const LONG: Duration = Duration::from_secs(60);

struct Server {
    process: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Starts the server; why not, where that cannot be.
fn server(h264: &Path, h265: &Path) -> Result<Server, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gst_server.py");
    // The distribution's Python, not another one in front of it on the path: only that has the bindings.
    let python = if Path::new("/usr/bin/python3").exists() { "/usr/bin/python3" } else { "python3" };
    let mut process = Command::new(python)
        .arg(script)
        .args([h264, h265])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("python3 cannot be started: {e}"))?;
    let mut line = String::new();
    let stdout = process.stdout.take().expect("standard output is a pipe");
    BufReader::new(stdout).read_line(&mut line).map_err(|e| e.to_string())?;
    let port = line.trim().strip_prefix("ready ").and_then(|p| p.parse().ok());
    match port {
        Some(port) => Ok(Server { process, port }),
        None => {
            let status = process.wait().map_err(|e| e.to_string())?;
            assert_eq!(status.code(), Some(77), "the server failed for another reason than a missing package: {line}");
            Err(format!(
                "GStreamer's RTSP server is not installed ({}); apt-get install gir1.2-gst-rtsp-server-1.0 \
                 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad python3-gi",
                line.trim()
            ))
        }
    }
}

fn camera(server: &Server, login: &str, path: &str, transport: Transport) -> CameraSpec {
    let url = SourceUrl::parse(&format!("rtsp://{login}127.0.0.1:{}{path}", server.port)).unwrap();
    CameraSpec { url, transport, ..spec("rtsp://unused/") }
}

fn quick() -> IngestConfig {
    IngestConfig { backoff_min_ms: 50, backoff_max_ms: 200, queue_access_units: 1_000, ..config() }
}

async fn take(rig: &Rig, count: usize) -> (StreamParams, Vec<AccessUnit>) {
    let deadline = Instant::now() + LONG;
    let (mut params, mut units) = (None, Vec::new());
    while units.len() < count {
        match rig.handle.events.try_recv() {
            Ok(IngestEvent::AccessUnit(unit)) => {
                rig.metrics.decoded_at(rig.clock.monotonic_ns());
                units.push(unit);
            }
            Ok(IngestEvent::Started { params: p, .. }) => params = Some(p),
            _ => {
                let state = rig.handle.state.borrow().clone();
                assert!(Instant::now() < deadline, "{} of {count} access units came; {state:?}", units.len());
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }
    (params.expect("a start comes before the first picture"), units)
}

async fn reason(rig: &Rig) -> String {
    let mut state = rig.handle.state.clone();
    let waiting = state.wait_for(|s| matches!(s, CameraState::WaitingToRetry { .. }));
    let state = tokio::time::timeout(LONG, waiting).await.expect("the state comes").expect("the camera lives").clone();
    let CameraState::WaitingToRetry { reason, .. } = state else { unreachable!() };
    reason
}

async fn stop(rig: Rig) {
    rig.cancel.cancel();
    tokio::time::timeout(LONG, rig.handle.task).await.expect("stops").unwrap();
}

#[tokio::test]
async fn gstreamers_server_is_understood() {
    let (h264, h265) = (asset_or_skip!("clips/pan720.mp4"), asset_or_skip!("clips/pan720-h265.mp4"));
    let server = match server(&h264, &h265) {
        Ok(server) => server,
        Err(why) => return skip("gst_interop::gstreamers_server_is_understood", &why),
    };
    let env = IngestEnv::system(quick());
    for transport in [Transport::Tcp, Transport::Udp] {
        for (login, path, codec, size) in [
            ("", "/h264", Codec::H264, Some((1280, 720))),
            ("", "/h265", Codec::H265, Some((1280, 720))),
            ("", "/mjpeg", Codec::Mjpeg, None),
            ("", "/av", Codec::Mjpeg, None),
            ("admin:pass%20word@", "/secret", Codec::Mjpeg, None),
        ] {
            let what = format!("{path} {transport:?}");
            let rig = start(&env, &camera(&server, login, path, transport));
            let (params, units) = take(&rig, 50).await;
            assert_eq!(params.codec, codec, "{what}");
            assert!(params.size == size || size.is_none(), "{what}: {:?}", params.size);
            // Over UDP this server sends the first picture in one go, more than a socket holds by default.
            assert!(units[0].keyframe || transport == Transport::Udp, "{what}");
            let start: &[u8] = if codec == Codec::Mjpeg { &[0xff, 0xd8] } else { &[0, 0, 0, 1] };
            assert!(units.iter().all(|u| u.data.starts_with(start)), "{what}");
            assert!(units.windows(2).all(|w| w[1].sequence == w[0].sequence + 1), "{what}");
            let mut shown: Vec<u64> = units.iter().map(|u| u.timestamp_ns).collect();
            shown.sort_unstable();
            let span = Duration::from_nanos(shown[49] - shown[0]);
            assert!((1.5..2.5).contains(&span.as_secs_f64()), "{what}: 50 pictures of 25 a second took {span:?}");
            // The server runs on this machine's clock.
            assert!(units.iter().all(|u| u.captured_at_ns.abs_diff(rig.clock.wall_ns()) < 30_000_000_000), "{what}");
            stop(rig).await;
        }
    }
    for (login, path, words) in
        [("", "/nothing", "not found"), ("", "/secret", "unauthorised"), ("admin:wrong@", "/secret", "unauthorised")]
    {
        let rig = start(&env, &camera(&server, login, path, Transport::Tcp));
        let reason = reason(&rig).await;
        assert!(reason.contains(words), "{login}{path}: {reason}");
        stop(rig).await;
    }
    // The clip of four seconds ends: the server says BYE, and the camera is connected anew.
    let rig = start(&env, &camera(&server, "", "/h265", Transport::Tcp));
    let (_, units) = take(&rig, 130).await;
    assert_eq!(units[129].session, units[0].session + 1);
    assert_eq!(rig.metrics.get(Counter::Stalls), 0, "the end was said, not guessed");
    stop(rig).await;
}
