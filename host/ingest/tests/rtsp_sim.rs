//! Over real sockets, against the project's own simulated cameras: every transport, coding and way of authentication,
//! and what happens when a camera misbehaves.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::*;
use facestream_core::camera::Transport;
use facestream_core::metrics::Counter;
use facestream_core::{AccessUnit, CameraSpec, CameraState, Codec, DropReason};
use facestream_ingest::{IngestConfig, IngestEnv, IngestEvent};
use facestream_sim::{
    Answer, Auth, CameraFaults, Clip, Credentials, DigestAlgorithm, FaultEvent, Quirks, SimConfig, Simulator, Stall,
};
use facestream_test_support::asset_or_skip;

/// A bound that only a broken build reaches.
const LONG: Duration = Duration::from_secs(30);

fn quick() -> IngestConfig {
    IngestConfig {
        connect_timeout_ms: 5_000,
        first_frame_timeout_ms: 5_000,
        watchdog_ms: 2_000,
        backoff_min_ms: 50,
        backoff_max_ms: 200,
        connects_per_second: 1_000,
        queue_access_units: 1_000,
        ..config()
    }
}

fn load(path: &Path) -> Arc<Clip> {
    Arc::new(Clip::load(path).expect("the clip is sound"))
}

async fn simulator(config: SimConfig, clip: Arc<Clip>) -> Simulator {
    Simulator::start(SimConfig { stagger: false, report_interval_ms: 500, ..config }, vec![clip]).await.unwrap()
}

fn camera(simulator: &Simulator, transport: Transport) -> CameraSpec {
    CameraSpec { url: simulator.urls_with_credentials().remove(0), transport, ..spec("rtsp://unused/") }
}

/// The next access units, each of which counts as decoded.
async fn take(rig: &Rig, count: usize) -> Vec<AccessUnit> {
    let deadline = Instant::now() + LONG;
    let mut units = Vec::new();
    while units.len() < count {
        match rig.handle.events.try_recv() {
            Ok(IngestEvent::AccessUnit(unit)) => {
                rig.metrics.decoded_at(rig.clock.monotonic_ns());
                units.push(unit);
            }
            Ok(_) => {}
            Err(_) => {
                let state = rig.handle.state.borrow().clone();
                assert!(Instant::now() < deadline, "{} of {count} access units came; {state:?}", units.len());
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }
    units
}

async fn reason(rig: &Rig) -> String {
    let wait = state_within(rig, |s| matches!(s, CameraState::WaitingToRetry { .. }));
    let CameraState::WaitingToRetry { reason, .. } = wait.await else { unreachable!() };
    reason
}

async fn state_within(rig: &Rig, fits: impl FnMut(&CameraState) -> bool) -> CameraState {
    let mut state = rig.handle.state.clone();
    tokio::time::timeout(LONG, state.wait_for(fits)).await.expect("the state comes").expect("the camera lives").clone()
}

async fn stop(rig: Rig) {
    rig.cancel.cancel();
    tokio::time::timeout(LONG, rig.handle.task).await.expect("stops").unwrap();
}

/// NAL units that carry pictures or messages: how often parameter sets come along is the server's and the client's
/// business.
fn pictures(codec: Codec, annex_b: &[u8]) -> Vec<Vec<u8>> {
    let mut nals = Vec::new();
    let mut rest = annex_b;
    let mut start = None;
    let mut at = 0;
    while at + 3 <= rest.len() {
        if rest[at..].starts_with(&[0, 0, 1]) {
            if let Some(start) = start {
                nals.push(&rest[start..at]);
            }
            start = Some(at + 3);
            at += 3;
        } else {
            at += 1;
        }
    }
    rest = start.map_or(&[], |start| &rest[start..]);
    nals.push(rest);
    let wanted = |nal: &[u8]| match (codec, nal.first()) {
        (_, None) => false,
        (Codec::H264, Some(b)) => !matches!(b & 0x1f, 7..=9),
        (_, Some(b)) => !matches!((b >> 1) & 0x3f, 32..=35),
    };
    let trimmed = |nal: &[u8]| nal[..nal.iter().rposition(|&b| b != 0).map_or(0, |p| p + 1)].to_vec();
    nals.into_iter().filter(|n| wanted(n)).map(trimmed).collect()
}

#[tokio::test]
async fn every_access_unit_arrives_whole_over_tcp_and_udp() {
    let h264 = load(&asset_or_skip!("clips/pan720.mp4"));
    let h265 = load(&asset_or_skip!("clips/pan720-h265.mp4"));
    for (clip, codec) in [(h264, Codec::H264), (h265, Codec::H265)] {
        for transport in [Transport::Tcp, Transport::Udp] {
            let what = format!("{codec:?} {transport:?}");
            let simulator = simulator(SimConfig::default(), clip.clone()).await;
            let rig = start(&IngestEnv::system(quick()), &camera(&simulator, transport));
            let before = rig.clock.wall_ns();
            let units = take(&rig, 60).await;
            assert_eq!(*rig.handle.state.borrow(), CameraState::Running, "{what}");
            for (i, (unit, sent)) in units.iter().zip(clip.units()).enumerate() {
                assert_eq!(unit.sequence, u64::try_from(i).unwrap(), "{what}");
                assert_eq!(unit.keyframe, sent.keyframe, "{what} {i}");
                assert!(pictures(codec, &unit.data) == pictures(codec, &sent.data), "{what} {i}: other bytes");
                let spacing = unit.timestamp_ns - units[0].timestamp_ns;
                assert!(spacing.abs_diff(sent.pts_ns - clip.units()[0].pts_ns) < 20_000, "{what} {i}: {spacing} ns");
                assert!(unit.captured_at_ns.abs_diff(before) < 30_000_000_000, "{what} {i}");
            }
            if transport == Transport::Tcp {
                assert_eq!(rig.metrics.drops(DropReason::PacketLost), 0, "{what}");
            }
            assert!(units[0].data.starts_with(&[0, 0, 0, 1]), "{what}: Annex B");
            assert_ne!(pictures(codec, &units[0].data).concat().len(), units[0].data.len(), "{what}: parameter sets");
            stop(rig).await;
            simulator.shutdown().await;
        }
    }
}

#[tokio::test]
async fn the_stream_is_described_before_its_first_picture() {
    for (name, codec) in [("clips/pan720.mp4", Codec::H264), ("clips/pan720-h265.mp4", Codec::H265)] {
        let simulator = simulator(SimConfig::default(), load(&asset_or_skip!(name))).await;
        let rig = start(&IngestEnv::system(quick()), &camera(&simulator, Transport::Tcp));
        let deadline = Instant::now() + LONG;
        let event = loop {
            match rig.handle.events.try_recv() {
                Ok(event) => break event,
                Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(2)).await,
                Err(e) => panic!("{name}: {e}"),
            }
        };
        let IngestEvent::Started { params, .. } = event else { panic!("{name}: the start comes first, not {event:?}") };
        assert_eq!((params.codec, params.size), (codec, Some((1280, 720))), "{name}");
        assert!(params.parameter_sets.starts_with(&[0, 0, 0, 1]), "{name}: {:?}", params.parameter_sets);
        assert!(params.frame_rate.is_none_or(|f| (f - 25.0).abs() < 0.01), "{name}: {:?}", params.frame_rate);
        stop(rig).await;
    }
}

#[tokio::test]
async fn motion_jpeg_is_taken() {
    let source = asset_or_skip!("clips/pan720.mp4");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clip.mkv");
    let made = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(source)
        .args([
            "-t",
            "1",
            "-vf",
            "scale=640:360",
            "-c:v",
            "mjpeg",
            "-huffman",
            "default",
            "-pix_fmt",
            "yuvj420p",
            "-an",
        ])
        .arg(&file)
        .status();
    if !made.is_ok_and(|status| status.success()) {
        facestream_test_support::skip("rtsp_sim::motion_jpeg_is_taken", "the ffmpeg command is not installed");
        return;
    }
    let simulator = simulator(SimConfig::default(), load(&file)).await;
    for transport in [Transport::Tcp, Transport::Udp] {
        let rig = start(&IngestEnv::system(quick()), &camera(&simulator, transport));
        let units = take(&rig, 30).await;
        assert!(
            units.iter().all(|u| u.keyframe && u.data.starts_with(&[0xff, 0xd8]) && u.data.ends_with(&[0xff, 0xd9]))
        );
        stop(rig).await;
    }
}

#[tokio::test]
async fn every_way_of_authentication_works_and_a_wrong_password_is_said() {
    let clip = load(&asset_or_skip!("clips/pan720.mp4"));
    let digest = |algorithm, qop| Auth::Digest { algorithm, qop, nonce_lifetime_s: 300 };
    for auth in [
        Auth::Basic,
        digest(DigestAlgorithm::Md5, true),
        digest(DigestAlgorithm::Md5, false),
        digest(DigestAlgorithm::Sha256, true),
    ] {
        for transport in [Transport::Tcp, Transport::Udp] {
            let credentials = Some(Credentials::new("admin@home", "p@ss:w/rd ö%41"));
            let config = SimConfig { credentials, auth, ..SimConfig::default() };
            let simulator = simulator(config, clip.clone()).await;
            let env = IngestEnv::system(quick());
            let rig = start(&env, &camera(&simulator, transport));
            take(&rig, 5).await;
            stop(rig).await;
            let bare = simulator.urls()[0].clone();
            for (login, words) in [
                ("admin%40home:wrong@", "refuses the user name or the password"),
                ("somebody@", "refuses the user name or the password"),
                ("", "its address holds none"),
            ] {
                let mut camera = camera(&simulator, transport);
                let url = bare.replacen("://", &format!("://{login}"), 1);
                camera.url = facestream_core::SourceUrl::parse(&url).unwrap();
                let rig = start(&env, &camera);
                let reason = reason(&rig).await;
                assert!(reason.contains("unauthorised") && reason.contains(words), "{auth:?}: {reason}");
                assert!(!reason.contains("wrong"), "{reason}");
                stop(rig).await;
            }
        }
    }
}

#[tokio::test]
async fn failures_are_told_apart() {
    let clip = load(&asset_or_skip!("clips/pan720.mp4"));
    let cases: Vec<(&str, CameraFaults, Transport, &str)> = vec![
        ("404", answer(Answer::Status(404)), Transport::Tcp, "not found"),
        ("403", answer(Answer::Status(403)), Transport::Tcp, "unauthorised"),
        ("453", answer(Answer::Status(453)), Transport::Tcp, "no more viewers"),
        ("500", answer(Answer::Status(500)), Transport::Tcp, "status 500"),
        ("503", answer(Answer::Status(503)), Transport::Tcp, "no more viewers"),
        ("silent", answer(Answer::Never), Transport::Tcp, "no answer within 1 s"),
        ("udp only", quirks(Quirks { udp_only: true, ..Quirks::default() }), Transport::Tcp, "try the other"),
        ("tcp only", quirks(Quirks { tcp_only: true, ..Quirks::default() }), Transport::Udp, "try the other"),
        ("stalled", stall(Stall::Media), Transport::Tcp, "no picture came at all"),
        ("stalled over UDP", stall(Stall::Media), Transport::Udp, "try transport tcp"),
        ("half-open", stall(Stall::All), Transport::Tcp, ""),
    ];
    for (name, faults, transport, words) in cases {
        let config = SimConfig { faults: BTreeMap::from([(0, faults)]), ..SimConfig::default() };
        let simulator = simulator(config, clip.clone()).await;
        let config =
            IngestConfig { connect_timeout_ms: 1_000, first_frame_timeout_ms: 1_000, watchdog_ms: 500, ..quick() };
        let rig = start(&IngestEnv::system(config), &camera(&simulator, transport));
        let reason = reason(&rig).await;
        assert!(reason.contains(words), "{name}: {reason}");
        stop(rig).await;
    }
    // Nothing listens.
    let port = facestream_test_support::free_port();
    let rig = start(&IngestEnv::system(quick()), &spec(&format!("rtsp://127.0.0.1:{port}/live")));
    assert!(reason(&rig).await.contains("connection refused"));
    stop(rig).await;
    // Something else listens.
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = other.local_addr().unwrap().port();
    let web = tokio::spawn(async move {
        loop {
            let (mut socket, _) = other.accept().await.unwrap();
            let answer = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n<html></html>";
            drop(tokio::io::AsyncWriteExt::write_all(&mut socket, answer).await);
        }
    });
    let rig = start(&IngestEnv::system(quick()), &spec(&format!("rtsp://127.0.0.1:{port}/live")));
    let reason = reason(&rig).await;
    assert!(reason.contains("RTSP") || reason.contains("connection broke"), "{reason}");
    stop(rig).await;
    web.abort();
}

fn answer(answer: Answer) -> CameraFaults {
    CameraFaults { answer, ..CameraFaults::default() }
}

fn stall(stall: Stall) -> CameraFaults {
    CameraFaults { stall, ..CameraFaults::default() }
}

fn quirks(quirks: Quirks) -> CameraFaults {
    CameraFaults { quirks, ..CameraFaults::default() }
}

#[tokio::test]
async fn quirks_of_cheap_cameras_are_borne() {
    let clip = load(&asset_or_skip!("clips/pan720.mp4"));
    let quirk = Quirks::default;
    let table: Vec<(&str, CameraFaults)> = vec![
        ("no RTP-Info", quirks(Quirks { no_rtp_info: true, ..quirk() })),
        ("zero RTP-Info", quirks(Quirks { zero_rtp_info: true, ..quirk() })),
        ("no Content-Base", quirks(Quirks { content_base: Some(String::new()), ..quirk() })),
        ("in-band parameter sets", quirks(Quirks { no_parameter_sets_in_sdp: true, ..quirk() })),
        ("ssrc first", quirks(Quirks { ssrc_first: true, ..quirk() })),
        ("no session timeout", quirks(Quirks { no_session_timeout: true, ..quirk() })),
        ("SET_PARAMETER refused", quirks(Quirks { reject_set_parameter: true, ..quirk() })),
        ("no GET_PARAMETER", quirks(Quirks { no_get_parameter: true, ..quirk() })),
        ("no reports", quirks(Quirks { no_reports: true, ..quirk() })),
        ("torn writes", CameraFaults { write_bytes: 97, ..CameraFaults::default() }),
    ];
    let each = table.iter().flat_map(|(name, faults)| {
        [Transport::Tcp, Transport::Udp].map(|transport| (*name, faults.clone(), transport, clip.clone()))
    });
    futures::future::join_all(each.map(|(name, faults, transport, clip)| async move {
        // A session that times out after 2 s is kept alive every second; one that does not say so lasts 60 s (RFC 2326).
        let session_timeout_s = if faults.quirks.no_session_timeout { 60 } else { 2 };
        let faults = BTreeMap::from([(0, faults)]);
        let simulator = simulator(SimConfig { faults, session_timeout_s, ..SimConfig::default() }, clip).await;
        let rig = start(&IngestEnv::system(quick()), &camera(&simulator, transport));
        let units = take(&rig, 80).await;
        // UDP may lose a packet on a busy machine; sessions may not.
        let unbroken = units.iter().all(|u| u.session == units[0].session);
        assert!(unbroken, "{name} {transport:?}: the session broke");
        stop(rig).await;
        simulator.shutdown().await;
    }))
    .await;
}

#[tokio::test]
async fn a_lost_camera_comes_back_as_a_new_session() {
    let clip = load(&asset_or_skip!("clips/pan720.mp4"));
    for event in [FaultEvent::Close, FaultEvent::Abort, FaultEvent::HalfOpen, FaultEvent::ChangeSsrc] {
        for transport in [Transport::Tcp, Transport::Udp] {
            let simulator = simulator(SimConfig::default(), clip.clone()).await;
            let rig = start(&IngestEnv::system(quick()), &camera(&simulator, transport));
            let before = take(&rig, 20).await;
            simulator.control().fire(0, event).unwrap();
            let mut after = take(&rig, 1).await;
            while after[0].session == before[0].session {
                after = take(&rig, 1).await;
            }
            after.extend(take(&rig, 20).await);
            assert_eq!(after[0].session, before[0].session + 1, "{event:?} {transport:?}");
            assert_eq!(after[0].sequence, 0);
            assert!(after[0].timestamp_ns > before.iter().map(|u| u.timestamp_ns).max().unwrap());
            assert_eq!(rig.metrics.get(Counter::Stalls), u64::from(event == FaultEvent::HalfOpen), "{event:?}");
            stop(rig).await;
        }
    }
}

#[tokio::test]
async fn a_server_that_goes_away_and_comes_back_is_found_again() {
    let clip = load(&asset_or_skip!("clips/pan720.mp4"));
    let simulator = simulator(SimConfig::default(), clip).await;
    let control = simulator.control();
    control.set_listening(false).await.unwrap();
    let rig = start(&IngestEnv::system(quick()), &camera(&simulator, Transport::Tcp));
    assert!(reason(&rig).await.contains("connection refused"));
    control.set_listening(true).await.unwrap();
    let first = take(&rig, 5).await;
    control.set_listening(false).await.unwrap();
    control.fire(0, FaultEvent::Abort).unwrap();
    assert!(!reason(&rig).await.is_empty());
    control.set_listening(true).await.unwrap();
    let second = loop {
        let unit = take(&rig, 1).await.remove(0);
        if unit.session != first[0].session {
            break unit;
        }
    };
    assert_eq!(second.session, first[0].session + 1);
    stop(rig).await;
}

#[tokio::test]
async fn stopping_ends_the_session_on_the_camera() {
    let clip = load(&asset_or_skip!("clips/pan720.mp4"));
    for transport in [Transport::Tcp, Transport::Udp] {
        let simulator = simulator(SimConfig::default(), clip.clone()).await;
        let control = simulator.control();
        let rig = start(&IngestEnv::system(quick()), &camera(&simulator, transport));
        take(&rig, 5).await;
        assert_eq!(control.stats(0).unwrap().playing, 1);
        let requests = control.stats(0).unwrap().requests;
        stop(rig).await;
        let stats = control.wait_for(0, LONG, |s| s.playing == 0).await.expect("the session ends");
        assert_eq!(stats.requests, requests + 1, "{transport:?}: TEARDOWN");
        assert_eq!(stats.sessions_timed_out, 0);
    }
}

#[tokio::test]
async fn lost_packets_are_counted_and_survived() {
    let clip = load(&asset_or_skip!("clips/pan720.mp4"));
    for transport in [Transport::Tcp, Transport::Udp] {
        let faults = CameraFaults { lose_one_in: 40, ..CameraFaults::default() };
        let config = SimConfig { faults: BTreeMap::from([(0, faults)]), ..SimConfig::default() };
        let simulator = simulator(config, clip.clone()).await;
        let rig = start(&IngestEnv::system(quick()), &camera(&simulator, transport));
        let units = take(&rig, 60).await;
        assert!(units.iter().all(|u| u.session == units[0].session), "{transport:?}");
        let lost: u64 = units.iter().map(|u| u64::from(u.lost_packets)).sum();
        assert!(lost > 0, "{transport:?}");
        assert!(rig.metrics.drops(DropReason::PacketLost) >= lost, "{transport:?}");
        stop(rig).await;
    }
}

#[tokio::test]
async fn a_jump_of_the_cameras_clock_is_absorbed() {
    let clip = load(&asset_or_skip!("clips/pan720.mp4"));
    for jump in [3_600_000, -3_600_000, 10_000, -500] {
        let simulator = simulator(SimConfig::default(), clip.clone()).await;
        let rig = start(&IngestEnv::system(quick()), &camera(&simulator, Transport::Tcp));
        // Long enough for it to show how far the stream reorders.
        let mut units = take(&rig, 70).await;
        simulator.control().fire(0, FaultEvent::TimestampJumpMs(jump)).unwrap();
        units.extend(take(&rig, 60).await);
        assert!(units.iter().all(|u| u.session == units[0].session));
        let mut highest = units[0].timestamp_ns;
        for unit in &units[1..] {
            // The clip has B-frames, which are shown before what is decoded before them.
            let fits = unit.timestamp_ns + 200_000_000 > highest && unit.timestamp_ns < highest + 1_500_000_000;
            assert!(fits, "jump {jump} ms: {} after {highest}", unit.timestamp_ns);
            highest = highest.max(unit.timestamp_ns);
        }
        stop(rig).await;
    }
}

/// Where a server's description points elsewhere, its session is not ended there.
#[tokio::test]
async fn a_server_cannot_make_the_host_knock_elsewhere() {
    let clip = load(&asset_or_skip!("clips/pan720.mp4"));
    let trap = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("rtsp://{}/cam1/", trap.local_addr().unwrap());
    let knocked = Arc::new(AtomicBool::new(false));
    let seen = knocked.clone();
    let listening = tokio::spawn(async move {
        trap.accept().await.unwrap();
        seen.store(true, Ordering::SeqCst);
    });
    let faults = quirks(Quirks { content_base: Some(base), ..Quirks::default() });
    let config = SimConfig { faults: BTreeMap::from([(0, faults)]), ..SimConfig::default() };
    let simulator = simulator(config, clip).await;
    let rig = start(&IngestEnv::system(quick()), &camera(&simulator, Transport::Udp));
    // With its connection gone, the library would end a UDP session over a new one, to the base that the server gave.
    for _ in 0..3 {
        take(&rig, 5).await;
        simulator.control().fire(0, FaultEvent::Abort).unwrap();
        reason(&rig).await;
    }
    stop(rig).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!knocked.load(Ordering::SeqCst), "a connection came to where the server pointed");
    listening.abort();
}

#[tokio::test]
async fn many_cameras_stream_side_by_side() {
    let clip = load(&asset_or_skip!("clips/pan720.mp4"));
    let simulator = simulator(SimConfig { cameras: 20, ..SimConfig::default() }, clip).await;
    let env = IngestEnv::system(quick());
    let rigs: Vec<Rig> = simulator
        .urls()
        .iter()
        .enumerate()
        .map(|(i, url)| {
            let id = facestream_core::CameraId::new(&format!("cam-{i}")).unwrap();
            start(&env, &CameraSpec { id, ..spec(url) })
        })
        .collect();
    for rig in &rigs {
        let units = take(rig, 50).await;
        assert!(units.windows(2).all(|w| w[1].sequence == w[0].sequence + 1));
    }
    for rig in rigs {
        stop(rig).await;
    }
}
