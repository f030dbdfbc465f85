//! Each fault as a client sees it.
#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod common;

use std::collections::BTreeMap;

use common::{Client, LIMIT, Raw, h264, header, nals, status};
use facestream_sim::{Answer, CameraFaults, Control, FaultEvent, Quirks, ScriptedFault, SimConfig, Simulator, Stall};

async fn start(faults: CameraFaults) -> Simulator {
    let config =
        SimConfig { speed: 4.0, stagger: false, faults: BTreeMap::from([(0, faults)]), ..SimConfig::default() };
    // The second clip differs in its number of packets a picture.
    Simulator::start(config, vec![h264(20, 5, 300), h264(20, 5, 3000)]).await.unwrap()
}

async fn client(simulator: &Simulator) -> Client {
    Client::open(&simulator.urls_with_credentials()[0], false).await.unwrap()
}

fn after(after_units: u64, event: FaultEvent) -> CameraFaults {
    CameraFaults { script: vec![ScriptedFault { after_units, event }], ..CameraFaults::default() }
}

/// Pictures until the connection ends.
async fn count(client: &mut Client) -> usize {
    let mut n = 0;
    while client.next().await.is_some() {
        n += 1;
    }
    n
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_closed_after_so_many_pictures_each_time() {
    let simulator = start(after(7, FaultEvent::Close)).await;
    for _ in 0..2 {
        assert_eq!(count(&mut client(&simulator).await).await, 7);
    }
    assert_eq!(simulator.control().stats(0).unwrap().sessions, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_resets_the_connection() {
    let simulator = start(CameraFaults::default()).await;
    let mut raw = Raw::connect(simulator.address()).await;
    raw.play(&simulator.urls()[0]).await;
    raw.message().await.unwrap().unwrap_err();
    assert_eq!(simulator.control().fire(0, FaultEvent::Abort).unwrap(), 1);
    let mut chunk = [0; 65536];
    let error = loop {
        match tokio::io::AsyncReadExt::read(&mut raw.stream, &mut chunk).await {
            Ok(0) => panic!("an orderly end"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stall_holds_media_and_its_end_lets_them_go_on() {
    let simulator = start(CameraFaults::default()).await;
    let control = simulator.control();
    let mut raw = Raw::connect(simulator.address()).await;
    let url = &simulator.urls()[0];
    let id = raw.play(url).await;
    control.update(0, |faults| faults.stall = Stall::Media).unwrap();
    // Requests are answered, and once this one is, nothing is on its way any more.
    let session = format!("Session: {id}\r\n");
    assert_eq!(status(&raw.ask("GET_PARAMETER", url, &session).await), 200);
    let sent = control.stats(0).unwrap().units_sent;
    assert_eq!(status(&raw.ask("GET_PARAMETER", url, &session).await), 200);
    assert_eq!(control.stats(0).unwrap().units_sent, sent);
    control.update(0, |faults| faults.stall = Stall::None).unwrap();
    assert!(control.wait_for(0, LIMIT, |stats| stats.units_sent > sent + 5).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_session_says_nothing_while_others_go_on() {
    let simulator = start(after(3, FaultEvent::HalfOpen)).await;
    let mut dead = Raw::connect(simulator.address()).await;
    let url = &simulator.urls()[0];
    let id = dead.play(url).await;
    let mut pictures = 0;
    while pictures < 3 {
        if let Err((0, rtp)) = dead.message().await.unwrap() {
            pictures += usize::from(rtp[1] & 0x80 != 0);
        }
    }
    dead.send(format!("GET_PARAMETER {url} RTSP/1.0\r\nCSeq: 9\r\nSession: {id}\r\n\r\n").as_bytes()).await;
    let mut other = Raw::connect(simulator.address()).await;
    for _ in 0..20 {
        assert_eq!(status(&other.ask("OPTIONS", url, "").await), 200);
    }
    let mut byte = [0];
    assert!(dead.stream.try_read(&mut byte).is_err(), "nothing more comes");
    assert_eq!(simulator.control().stats(0).unwrap().units_sent, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn timestamps_jump_clips_and_ssrc_change_where_the_script_says() {
    let step = |after_units, event| ScriptedFault { after_units, event };
    let script = vec![
        step(4, FaultEvent::TimestampJumpMs(-3_600_000)),
        step(8, FaultEvent::SwitchClip(1)),
        step(12, FaultEvent::ChangeSsrc),
    ];
    let simulator = start(CameraFaults { script, ..CameraFaults::default() }).await;
    let mut raw = Raw::connect(simulator.address()).await;
    raw.play(&simulator.urls()[0]).await;
    let (mut stamps, mut packets, mut sources) = (Vec::new(), vec![0], Vec::new());
    while stamps.len() < 16 {
        let Err((0, rtp)) = raw.message().await.unwrap() else { continue };
        *packets.last_mut().unwrap() += 1;
        if rtp[1] & 0x80 != 0 {
            stamps.push(u32::from_be_bytes([rtp[4], rtp[5], rtp[6], rtp[7]]));
            sources.push(rtp[8..12].to_vec());
            packets.push(0);
        }
    }
    let steps: Vec<i64> = stamps.windows(2).map(|w| i64::from(w[1].wrapping_sub(w[0]).cast_signed())).collect();
    // 25 frames a second at four times the speed: 10 ms.
    let expected: Vec<i64> = (1..16).map(|i| if i == 4 { 900 - 3600 * 90_000 } else { 900 }).collect();
    assert_eq!(steps, expected);
    // Pictures of 300 bytes are one packet, of 3000 bytes three, key frames (12,000) nine and two parameter sets.
    assert_eq!(packets[4..13], [1, 3, 1, 1, 11, 3, 3, 3, 3]);
    assert!(sources[..12].iter().all(|s| *s == sources[0]) && sources[12..].iter().all(|s| *s == sources[12]));
    assert_ne!(sources[0], sources[12]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lasting_change_of_clip_takes_effect_at_once() {
    let simulator = start(CameraFaults::default()).await;
    let mut client = client(&simulator).await;
    let small = client.next().await.unwrap().nals.last().unwrap().len();
    simulator.control().update(0, |faults| faults.clip = 1).unwrap();
    while client.next().await.unwrap().nals.last().unwrap().len() <= small * 2 {}
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_are_lost_as_the_seed_says() {
    let lossy = || CameraFaults { lose_one_in: 4, ..CameraFaults::default() };
    let mut runs = Vec::new();
    for _ in 0..2 {
        let simulator = start(lossy()).await;
        let mut raw = Raw::connect(simulator.address()).await;
        raw.play(&simulator.urls()[0]).await;
        let mut gaps = Vec::new();
        let mut last = None::<u16>;
        while gaps.len() < 60 {
            if let Err((0, rtp)) = raw.message().await.unwrap() {
                let sequence = u16::from_be_bytes([rtp[2], rtp[3]]);
                if let Some(last) = last {
                    gaps.push(sequence.wrapping_sub(last) - 1);
                }
                last = Some(sequence);
            }
        }
        assert!(simulator.control().stats(0).unwrap().packets_lost > 0);
        runs.push(gaps);
    }
    assert_eq!(runs[0], runs[1]);
    let lost: u16 = runs[0].iter().sum();
    assert!((5..50).contains(&lost), "{lost} of about 80");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_camera_can_refuse_be_silent_or_answer_with_an_error() {
    let simulator = start(CameraFaults { answer: Answer::Status(503), ..CameraFaults::default() }).await;
    let control: Control = simulator.control();
    let url = &simulator.urls()[0];
    let mut raw = Raw::connect(simulator.address()).await;
    assert_eq!(status(&raw.ask("DESCRIBE", url, "").await), 503);
    control.update(0, |faults| faults.answer = Answer::Never).unwrap();
    raw.send(format!("DESCRIBE {url} RTSP/1.0\r\nCSeq: 7\r\n\r\n").as_bytes()).await;
    assert!(control.wait_for(0, LIMIT, |stats| stats.requests == 2).await.is_some());
    control.update(0, |faults| faults.answer = Answer::Normal).unwrap();
    raw.send(format!("DESCRIBE {url} RTSP/1.0\r\nCSeq: 8\r\n\r\n").as_bytes()).await;
    assert_eq!(header(&raw.answer().await.unwrap(), "CSeq"), "8", "request 7 stays without answer");
    control.set_listening(false).await.unwrap();
    let refused = tokio::net::TcpStream::connect(simulator.address()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(status(&raw.ask("OPTIONS", url, "").await), 200, "what is connected stays so");
    control.set_listening(true).await.unwrap();
    Raw::connect(simulator.address()).await;
    assert!(control.update(0, |faults| faults.clip = 2).is_err());
    assert!(control.fire(1, FaultEvent::Close).is_err());
}

#[tokio::test]
async fn quirks_show_in_the_answers() {
    let quirks = Quirks {
        no_rtp_info: true,
        content_base: Some("rtsp://192.0.2.1/elsewhere/".to_owned()),
        no_parameter_sets_in_sdp: true,
        ssrc_first: true,
        no_session_timeout: true,
        reject_set_parameter: true,
        stale_cseq: true,
        no_get_parameter: true,
        ..Quirks::default()
    };
    let simulator = start(CameraFaults { quirks, ..CameraFaults::default() }).await;
    let url = &simulator.urls()[0];
    let mut raw = Raw::connect(simulator.address()).await;
    let describe = raw.ask("DESCRIBE", url, "").await;
    assert_eq!(header(&describe, "Content-Base"), "rtsp://192.0.2.1/elsewhere/");
    assert!(!describe.contains("sprop"), "{describe}");
    let setup = raw.ask("SETUP", url, "Transport: RTP/AVP/TCP;interleaved=0-1\r\n").await;
    let transport = header(&setup, "Transport");
    assert!(transport.find("ssrc").unwrap() < transport.find("interleaved").unwrap(), "{transport}");
    let id = header(&setup, "Session");
    assert!(!id.contains("timeout"), "{id}");
    let session = format!("Session: {id}\r\n");
    let play = raw.ask("PLAY", url, &session).await;
    assert_eq!((status(&play), header(&play, "RTP-Info")), (200, ""));
    assert_eq!(status(&raw.ask("GET_PARAMETER", url, &session).await), 405);
    let rejected = raw.ask("SET_PARAMETER", url, &session).await;
    assert_eq!((status(&rejected), header(&rejected, "CSeq")), (400, "4"), "the number of the request before");
    simulator.control().update(0, |faults| faults.quirks = Quirks { udp_only: true, ..Quirks::default() }).unwrap();
    let mut raw = Raw::connect(simulator.address()).await;
    let both = "Transport: RTP/AVP/TCP;interleaved=0-1,RTP/AVP;unicast;client_port=5000-5001\r\n";
    assert_eq!(status(&raw.ask("SETUP", url, "Transport: RTP/AVP/TCP;interleaved=0-1\r\n").await), 461);
    assert!(header(&raw.ask("SETUP", url, both).await, "Transport").contains("server_port="));
}

#[tokio::test(flavor = "multi_thread")]
async fn parameter_sets_that_come_in_band_only_are_enough() {
    let quirks = Quirks { no_parameter_sets_in_sdp: true, ..Quirks::default() };
    let simulator = start(CameraFaults { quirks, ..CameraFaults::default() }).await;
    let clip = h264(20, 5, 300);
    let mut client = client(&simulator).await;
    let got = client.next().await.unwrap();
    assert_eq!(got.nals, nals(&clip.units()[0].data));
}
