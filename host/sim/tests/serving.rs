//! What clients that we did not write receive: retina in the process, ffmpeg as a program.
#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod common;

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;

use common::{Client, LIMIT, Raw, h264, h265, header, nals, status};
use facestream_sim::{Auth, CameraFaults, Clip, Credentials, DigestAlgorithm, SimConfig, Simulator, Stall};
use facestream_test_support::{asset_or_skip, skip};
use proptest::prelude::*;

/// Fast, in phase, beginning with the first picture.
fn config() -> SimConfig {
    SimConfig { speed: 4.0, stagger: false, ..SimConfig::default() }
}

fn closed(auth: Auth) -> SimConfig {
    SimConfig { credentials: Some(Credentials::new("ad@min", "p:w/%&")), auth, ..config() }
}

async fn start(config: SimConfig, clip: &Arc<Clip>) -> Simulator {
    Simulator::start(config, vec![Arc::clone(clip)]).await.unwrap()
}

/// Plays two whole loops and more, and compares every picture with the clip.
async fn receives_the_clip_twice(config: SimConfig, clip: Arc<Clip>, udp: bool) {
    let speed = config.speed;
    let simulator = start(config, &clip).await;
    let url = &simulator.urls_with_credentials()[0];
    let mut client = Client::open(url, udp).await.unwrap();
    let count = clip.units().len();
    let (mut first, mut seen) = (None, 0);
    while seen < 2 * count + 3 {
        let got = client.next().await.expect("the stream goes on");
        let unit = &clip.units()[seen % count];
        assert_eq!(got.loss, 0, "picture {seen}");
        assert_eq!(got.nals, nals(&unit.data), "picture {seen}");
        assert_eq!(got.keyframe, unit.keyframe, "picture {seen}");
        let media_ns = (seen / count) as u64 * clip.duration_ns() + unit.pts_ns;
        let expected = (media_ns as f64 / speed * 9.0 / 100_000.0) as i64;
        let start = *first.get_or_insert(got.elapsed - expected);
        assert!(
            (got.elapsed - start - expected).abs() <= 1,
            "picture {seen}: {} instead of {expected}",
            got.elapsed - start
        );
        seen += 1;
    }
    assert_eq!(simulator.control().stats(0).unwrap().units_dropped, 0);
    drop(client);
    simulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h264_over_tcp_arrives_byte_for_byte_twice() {
    receives_the_clip_twice(config(), h264(40, 10, 1500), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h264_over_udp_arrives_byte_for_byte_twice() {
    receives_the_clip_twice(config(), h264(40, 10, 1500), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h265_arrives_byte_for_byte_twice_over_tcp_and_udp() {
    receives_the_clip_twice(config(), h265(40, 10, 1500), false).await;
    receives_the_clip_twice(config(), h265(40, 10, 1500), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_logging_in_works() {
    let mut all = vec![Auth::Basic];
    for algorithm in [DigestAlgorithm::Md5, DigestAlgorithm::Sha256] {
        all.extend([true, false].map(|qop| Auth::Digest { algorithm, qop, nonce_lifetime_s: 300 }));
    }
    for (i, auth) in all.into_iter().enumerate() {
        receives_the_clip_twice(closed(auth), h264(10, 5, 300), i % 2 == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn single_byte_writes_arrive_whole() {
    let faults = CameraFaults { write_bytes: 1, ..CameraFaults::default() };
    let config = SimConfig { faults: BTreeMap::from([(0, faults)]), ..config() };
    receives_the_clip_twice(config, h264(10, 5, 400), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reordered_pictures_of_a_real_file_arrive_with_their_times() {
    let path = asset_or_skip!("clips/pan720-h265.mp4");
    let clip = Arc::new(tokio::task::spawn_blocking(move || Clip::load(&path)).await.unwrap().unwrap());
    let reordered = clip.units().windows(2).any(|pair| pair[1].pts_ns < pair[0].pts_ns);
    assert!(reordered, "the asset has B-frames");
    let simulator = start(config(), &clip).await;
    let mut client = Client::open(&simulator.urls_with_credentials()[0], false).await.unwrap();
    let mut first = None;
    for unit in clip.units() {
        let got = client.next().await.unwrap();
        assert_eq!(got.nals.last(), nals(&unit.data).last());
        let expected = (unit.pts_ns as f64 / 4.0 * 9.0 / 100_000.0) as i64;
        let start = *first.get_or_insert(got.elapsed - expected);
        assert!((got.elapsed - start - expected).abs() <= 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_a_wrong_path_are_told_apart() {
    let clip = h264(10, 5, 100);
    let simulator = start(closed(Auth::default()), &clip).await;
    let right = simulator.urls_with_credentials()[0].clone();
    let text = |url: &facestream_core::SourceUrl| secrecy::ExposeSecret::expose_secret(&url.expose()).to_owned();
    let wrong = facestream_core::SourceUrl::parse(&text(&right).replace("p%3Aw", "canary")).unwrap();
    let error = Client::open(&wrong, false).await.err().unwrap();
    assert_eq!(error.status_code(), Some(401), "{error}");
    let nowhere = facestream_core::SourceUrl::parse(&text(&right).replace("/cam1", "/cam2")).unwrap();
    let error = Client::open(&nowhere, false).await.err().unwrap();
    assert_eq!(error.status_code(), Some(404), "{error}");
    assert!(Client::open(&right, false).await.is_ok());
    assert!(simulator.control().stats(0).unwrap().unauthorized >= 1);
    assert!(!right.to_string().contains("%3A") && !format!("{simulator:?}").contains("p:w"));
}

#[tokio::test(flavor = "multi_thread")]
async fn cameras_and_their_clients_are_served_at_once() {
    let clip = h264(20, 5, 500);
    let simulator = start(SimConfig { cameras: 3, stagger: true, ..config() }, &clip).await;
    let urls = simulator.urls_with_credentials();
    let mut tasks = Vec::new();
    for camera in [0, 1, 2, 0, 0] {
        let url = urls[camera].clone();
        tasks.push(tokio::spawn(async move {
            let mut client = Client::open(&url, camera == 1).await.unwrap();
            let mut pictures = Vec::new();
            for _ in 0..30 {
                pictures.push(client.next().await.unwrap().nals);
            }
            pictures
        }));
    }
    // Stagger: cameras begin with key frames 0, 5 and 10 of 0, 5, 10, 15.
    for (task, first) in tasks.into_iter().zip([0, 5, 10, 0, 0]) {
        let pictures = tokio::time::timeout(LIMIT, task).await.unwrap().unwrap();
        for (i, picture) in pictures.into_iter().enumerate() {
            assert_eq!(picture, nals(&clip.units()[(first + i) % 20].data));
        }
    }
    let control = simulator.control();
    assert!(control.wait_for(0, LIMIT, |stats| stats.playing == 0).await.is_some(), "sessions end with their clients");
    assert_eq!(control.stats(0).unwrap().sessions, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_loses_pictures_and_nobody_else_does() {
    let clip = h264(50, 5, 20_000);
    let config = SimConfig { backlog_ms: 3000, send_buffer_bytes: 16 * 1024, speed: 2.0, ..config() };
    let simulator = start(config, &clip).await;
    let control = simulator.control();
    let mut slow = Raw::connect(simulator.address()).await;
    socket2::SockRef::from(&slow.stream).set_recv_buffer_size(16 * 1024).unwrap();
    slow.play(&simulator.urls()[0]).await;
    let mut quick = Client::open(&simulator.urls_with_credentials()[0], false).await.unwrap();
    let mut seen = 0;
    while seen < 100 || control.stats(0).unwrap().units_dropped == 0 {
        let got = quick.next().await.unwrap();
        assert_eq!((got.loss, got.nals == nals(&clip.units()[seen % 50].data)), (0, true), "picture {seen}");
        seen += 1;
    }
    // It reads again: sequence numbers show the gap, and the first new picture is a key frame.
    let (mut last, mut gap) = (None::<u16>, None);
    while gap.is_none() {
        let Some(Err((channel, packet))) = slow.message().await else { continue };
        if channel != 0 {
            continue;
        }
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        if last.is_some_and(|last| last.wrapping_add(1) != sequence) {
            gap = Some(packet);
        }
        last = Some(sequence);
    }
    // A parameter set: the key frame's first packet.
    assert_eq!(gap.unwrap()[12] & 0x1f, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clip_that_is_not_repeated_ends_with_goodbye_and_end_of_file() {
    let clip = h264(10, 5, 3000);
    let simulator = start(SimConfig { repeat: false, ..config() }, &clip).await;
    let mut raw = Raw::connect(simulator.address()).await;
    raw.play(&simulator.urls()[0]).await;
    let (mut pictures, mut goodbyes) = (0, 0);
    while let Some(message) = raw.message().await {
        match message.unwrap_err() {
            (0, rtp) => pictures += usize::from(rtp[1] & 0x80 != 0),
            (_, rtcp) => goodbyes += usize::from(rtcp[1] == 201 && rtcp[9] == 203),
        }
    }
    assert_eq!((pictures, goodbyes), (10, 1));
}

#[tokio::test]
async fn reports_tell_the_time_of_the_timestamps() {
    let clip = h264(50, 5, 100);
    let clock = Arc::new(facestream_core::SimulatedClock::at(1_800_000_000_250_000_000));
    let config = SimConfig { report_interval_ms: 10, clock, ..config() };
    let simulator = start(config, &clip).await;
    let mut raw = Raw::connect(simulator.address()).await;
    let url = &simulator.urls()[0];
    raw.ask("SETUP", url, "Transport: RTP/AVP/TCP;interleaved=6-7\r\n").await;
    assert_eq!(status(&raw.ask("PLAY", url, "Session: nobody\r\n").await), 454);
    drop(raw);
    let mut raw = Raw::connect(simulator.address()).await;
    raw.play(url).await;
    // Seconds from 1900 to 1970, and the clock's.
    let ntp: u32 = 2_208_988_800 + 1_800_000_000;
    let (mut ssrc, mut reports) = (None, 0);
    while reports < 3 || ssrc.is_none() {
        match raw.message().await.unwrap().unwrap_err() {
            (0, rtp) => ssrc = Some(rtp[8..12].to_vec()),
            (_, rtcp) => {
                assert_eq!((rtcp[1], &rtcp[8..12]), (200, &ntp.to_be_bytes()[..]));
                assert_eq!(rtcp[12..16], 0x4000_0000u32.to_be_bytes(), "a quarter of a second");
                assert!(ssrc.as_ref().is_none_or(|ssrc| *ssrc == rtcp[4..8]));
                reports += 1;
            }
        }
    }
}

#[tokio::test]
async fn requests_are_answered_with_the_right_status() {
    let clip = h264(10, 5, 100);
    let simulator = start(config(), &clip).await;
    let url = simulator.urls()[0].clone();
    let mut raw = Raw::connect(simulator.address()).await;
    let tcp = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
    let table = [
        ("OPTIONS", "*", "", 200),
        ("OPTIONS", &url, "", 200),
        ("DESCRIBE", &url, "Accept: application/sdp\r\n", 200),
        ("DESCRIBE", "rtsp://127.0.0.1/cam2", "", 404),
        ("DESCRIBE", &url, "Require: funky\r\n", 551),
        ("ANNOUNCE", &url, "", 405),
        ("RECORD", &url, "", 405),
        ("DANCE", &url, "", 501),
        ("PLAY", &url, "", 454),
        ("PAUSE", &url, "Session: 1\r\n", 454),
        ("TEARDOWN", &url, "Session: 1\r\n", 454),
        ("GET_PARAMETER", &url, "Session: 1\r\n", 454),
        ("GET_PARAMETER", &url, "", 200),
        ("SETUP", &url, "", 461),
        ("SETUP", &url, "Transport: RTP/AVP;multicast;port=5000-5001\r\n", 461),
        ("SETUP", &url, "Session: 1\r\nTransport: RTP/AVP/TCP\r\n", 454),
    ];
    for (method, uri, headers, expected) in table {
        let answer = raw.ask(method, uri, headers).await;
        assert_eq!(status(&answer), expected, "{method} {headers}: {answer}");
    }
    let describe = raw.ask("DESCRIBE", &url, "").await;
    assert_eq!(header(&describe, "Content-Base"), format!("{url}/"));
    let id = raw.play(&url).await;
    let session = format!("Session: {id}\r\n");
    assert_eq!(status(&raw.ask("SETUP", &url, &format!("{session}{tcp}")).await), 455);
    assert_eq!(status(&raw.ask("GET_PARAMETER", &url, &session).await), 200);
    assert_eq!(status(&raw.ask("SET_PARAMETER", &url, &format!("{session}Content-Length: 4\r\n\r\na: 1")).await), 451);
    assert_eq!(status(&raw.ask("PAUSE", &url, &session).await), 200);
    assert_eq!(simulator.control().stats(0).unwrap().playing, 0);
    let play = raw.ask("PLAY", &url, &session).await;
    assert!(header(&play, "RTP-Info").starts_with(&format!("url={url}/trackID=0;seq=")), "{play}");
    assert_eq!(status(&raw.ask("TEARDOWN", &url, &session).await), 200);
    assert_eq!(status(&raw.ask("TEARDOWN", &url, &session).await), 454);
}

#[tokio::test]
async fn what_is_no_rtsp_is_answered_and_closed() {
    let clip = h264(10, 5, 100);
    let simulator = start(config(), &clip).await;
    let endless = [b"OPTIONS * RTSP/1.0\r\nX: ".to_vec(), vec![b'x'; 20_000]].concat();
    for (bytes, expected) in [(b"GET / HTTP/1.1\r\n\r\n".to_vec(), 400), (endless, 413), (b"\0\x01\x02".to_vec(), 400)]
    {
        let mut raw = Raw::connect(simulator.address()).await;
        raw.send(&bytes).await;
        assert_eq!(status(&raw.answer().await.unwrap()), expected);
        assert!(raw.answer().await.is_none());
    }
    let mut raw = Raw::connect(simulator.address()).await;
    raw.send(b"OPTIONS * RTSP/1.0\r\n\r\n").await;
    assert_eq!(status(&raw.answer().await.unwrap()), 400, "a request without CSeq");
    raw.send(b"OPTIONS * RTSP/2.0\r\nCSeq: 2\r\n\r\n").await;
    assert_eq!(status(&raw.answer().await.unwrap()), 505);
}

#[tokio::test]
async fn a_silent_client_is_let_go() {
    let clip = h264(10, 5, 100);
    let simulator = start(SimConfig { session_timeout_s: 2, ..config() }, &clip).await;
    let mut raw = Raw::connect(simulator.address()).await;
    raw.play(&simulator.urls()[0]).await;
    while raw.message().await.is_some() {}
    let stats = simulator.control().wait_for(0, LIMIT, |stats| stats.playing == 0).await.unwrap();
    assert_eq!(stats.sessions_timed_out, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutting_down_ends_everything_even_a_stalled_connection() {
    let clip = h264(10, 5, 100);
    let simulator = start(config(), &clip).await;
    let mut raw = Raw::connect(simulator.address()).await;
    raw.play(&simulator.urls()[0]).await;
    simulator.control().update(0, |faults| faults.stall = Stall::All).unwrap();
    let address = simulator.address();
    tokio::time::timeout(LIMIT, simulator.shutdown()).await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_plays_h264_and_h265_over_tcp_and_udp_with_a_password() {
    if !std::process::Command::new("ffmpeg").arg("-version").stdout(Stdio::null()).status().is_ok_and(|s| s.success()) {
        return skip(
            "ffmpeg_plays_h264_and_h265_over_tcp_and_udp_with_a_password",
            "the program ffmpeg is not installed",
        );
    }
    for name in ["clips/pan720.mp4", "clips/pan720-h265.mp4"] {
        let path = asset_or_skip!(name);
        let clip = Arc::new(tokio::task::spawn_blocking(move || Clip::load(&path)).await.unwrap().unwrap());
        for transport in ["tcp", "udp"] {
            let simulator = start(SimConfig { speed: 1.0, ..closed(Auth::default()) }, &clip).await;
            let url = simulator.urls_with_credentials()[0].expose();
            let mut command = tokio::process::Command::new("ffmpeg");
            command.args(["-v", "error", "-xerror", "-rtsp_transport", transport, "-i"]);
            command.arg(secrecy::ExposeSecret::expose_secret(&url));
            command.args(["-frames:v", "30", "-f", "framemd5", "-"]).kill_on_drop(true).stdin(Stdio::null());
            let output = tokio::time::timeout(LIMIT, command.output()).await.unwrap().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let frames = text.lines().filter(|line| !line.starts_with('#')).count();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && frames == 30, "{name} {transport}: {frames} frames, {said}");
        }
    }
}

/// What lies between the header of a JPEG picture's scan and its end.
fn scan(jpeg: &[u8]) -> &[u8] {
    let start = jpeg.windows(2).position(|w| w == [0xff, 0xda]).unwrap();
    let start = start + 2 + usize::from(u16::from_be_bytes([jpeg[start + 2], jpeg[start + 3]]));
    &jpeg[start..jpeg.windows(2).rposition(|w| w == [0xff, 0xd9]).unwrap()]
}

#[tokio::test(flavor = "multi_thread")]
async fn motion_jpeg_arrives_picture_by_picture_and_own_huffman_tables_are_refused() {
    let name = "motion_jpeg_arrives_picture_by_picture_and_own_huffman_tables_are_refused";
    let folder = tempfile::tempdir().unwrap();
    let make = |file: &str, huffman: &str, format: &str| {
        let path = folder.path().join(file);
        let mut command = std::process::Command::new("ffmpeg");
        command.args(["-v", "error", "-f", "lavfi", "-i", "testsrc=size=328x248:rate=25", "-frames:v", "12"]);
        command.args(["-c:v", "mjpeg", "-huffman", huffman, "-pix_fmt", format]).arg(&path);
        command.status().is_ok_and(|status| status.success()).then_some(path)
    };
    let Some(path) = make("standard.avi", "default", "yuvj420p") else {
        return skip(name, "the program ffmpeg is not installed");
    };
    let load = |path: std::path::PathBuf| tokio::task::spawn_blocking(move || Clip::load(&path));
    let clip = Arc::new(load(path).await.unwrap().unwrap());
    let simulator = start(config(), &clip).await;
    for udp in [false, true] {
        let mut client = Client::open(&simulator.urls_with_credentials()[0], udp).await.unwrap();
        for i in 0..30 {
            let got = client.next().await.unwrap();
            assert!(scan(&got.data) == scan(&clip.units()[i % 12].data), "picture {i}");
            assert!(got.keyframe);
        }
    }
    // FFmpeg's 4:2:2 orders its blocks otherwise (2x2 and 1x2) than type 0 of RFC 2435 (2x1 and 1x1).
    let error = load(make("422.avi", "default", "yuvj422p").unwrap()).await.unwrap().unwrap_err().to_string();
    assert!(error.contains("sampling"), "{error}");
    let path = make("own.avi", "optimal", "yuvj420p").unwrap();
    let error = load(path).await.unwrap().unwrap_err().to_string();
    assert!(error.contains("picture 0") && error.contains("-huffman default"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    /// Whatever is sent, the server answers or closes, and goes on serving others.
    #[test]
    fn no_bytes_take_the_server_down(
        garbage in proptest::collection::vec(any::<u8>(), 0..600),
        method in "[A-Z_]{1,12}",
        headers in "([A-Za-z]{1,10}: [ -~]{0,30}\r\n){0,5}",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let clip = h264(4, 2, 100);
            let simulator = start(closed(Auth::default()), &clip).await;
            let mut raw = Raw::connect(simulator.address()).await;
            let url = &simulator.urls()[0];
            raw.send(format!("{method} {url} RTSP/1.0\r\nCSeq: 1\r\n{headers}\r\n").as_bytes()).await;
            raw.send(&garbage).await;
            // The server may have closed already.
            drop(tokio::io::AsyncWriteExt::shutdown(&mut raw.stream).await);
            while raw.message().await.is_some() {}
            let mut other = Raw::connect(simulator.address()).await;
            assert_eq!(status(&other.ask("OPTIONS", "*", "").await), 200);
        });
    }
}
