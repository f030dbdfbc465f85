//! The life of a camera, on paused time and with scripted cameras.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::*;
use facestream_core::metrics::Counter;
use facestream_core::{CameraState, DropReason};
use facestream_ingest::{ErrorKind, IngestConfig, IngestError, IngestEvent, Phase, SenderReport};
use tokio::time::{Instant, sleep};

const URL: &str = "rtsp://10.0.0.5/live";

fn refused() -> IngestError {
    IngestError::new(Phase::Connect, ErrorKind::Refused)
}

fn ended() -> IngestError {
    IngestError::new(Phase::Stream, ErrorKind::EndedByCamera)
}

fn waiting(state: &CameraState) -> bool {
    matches!(state, CameraState::WaitingToRetry { .. })
}

/// Time between connects, rounded to 10 ms (tokio's timer rounds up to a millisecond).
fn gaps(times: &[Duration]) -> Vec<f64> {
    times.windows(2).map(|w| ((w[1] - w[0]).as_secs_f64() * 100.0).floor() / 100.0).collect()
}

#[tokio::test(start_paused = true)]
async fn retries_back_off_with_jitter() {
    for (jitter, expected) in [
        (0.0, [1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]),
        (0.5, [1.5, 3.0, 6.0, 12.0, 22.5, 22.5, 22.5]),
        (1.0, [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]),
    ] {
        let script = Script::new([], Step::Fail(refused()));
        let rig = start(&env(script.clone(), config(), jitter), &spec(URL));
        while script.connect_times().len() < 8 {
            sleep(Duration::from_secs(1)).await;
        }
        rig.cancel.cancel();
        rig.handle.task.await.unwrap();
        assert_eq!(gaps(&script.connect_times())[..7], expected, "jitter {jitter}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_camera_that_is_offline_at_first_is_found_when_it_comes() {
    let script = Script::new(vec![Step::Fail(refused()); 3], Step::play(usize::MAX, Then::Silence));
    let rig = start(&env(script.clone(), config(), 0.0), &spec(URL));
    let seen = decoder(&rig, decoding());
    let lost = state_when(&rig, |s| matches!(s, CameraState::WaitingToRetry { attempt: 2, .. })).await;
    let CameraState::WaitingToRetry { reason, next_try_unix_ms, .. } = lost else { unreachable!() };
    assert!(reason.contains("connection refused"), "{reason}");
    assert_eq!(next_try_unix_ms, rig.clock.wall_ns() / 1_000_000 + 2_000);
    state_when(&rig, |s| *s == CameraState::Connecting { attempt: 4 }).await;
    state_when(&rig, |s| *s == CameraState::Running).await;
    rig.cancel.cancel();
    let seen = seen.await.unwrap();
    assert_eq!(seen.started.len(), 1);
    assert_eq!(seen.units[0].sequence, 0);
    assert_eq!(rig.metrics.get(Counter::Sessions), 1);
}

#[tokio::test(start_paused = true)]
async fn it_never_gives_up() {
    let script = Script::new([], Step::Fail(refused()));
    let rig = start(&env(script.clone(), config(), 0.9), &spec(URL));
    sleep(Duration::from_secs(7 * 86_400)).await;
    assert!(script.connect_times().len() > 20_000);
    assert!(waiting(&rig.handle.state.borrow()));
    assert!(!rig.handle.task.is_finished());
    rig.cancel.cancel();
    rig.handle.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_panics_is_a_lost_session() {
    let script = Script::new([Step::play(50, Then::Panic)], Step::play(usize::MAX, Then::Silence));
    let rig = start(&env(script.clone(), config(), 0.0), &spec(URL));
    let seen = decoder(&rig, decoding());
    let CameraState::WaitingToRetry { reason, .. } = state_when(&rig, waiting).await else { unreachable!() };
    assert!(reason.contains("a bug"), "{reason}");
    state_when(&rig, |s| *s == CameraState::Running).await;
    rig.cancel.cancel();
    assert_eq!(seen.await.unwrap().started.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn max_attempts_fails_for_good_and_frames_start_the_count_anew() {
    let steps =
        [Step::Fail(refused()), Step::Fail(refused()), Step::play(50, Then::Fail(ended())), Step::Fail(refused())];
    let script = Script::new(steps, Step::Fail(refused()));
    let mut camera = spec(URL);
    camera.max_attempts = Some(3);
    let rig = start(&env(script.clone(), config(), 0.0), &camera);
    let seen = decoder(&rig, decoding());
    let state = state_when(&rig, |s| matches!(s, CameraState::Failed { .. })).await;
    let CameraState::Failed { reason } = state else { unreachable!() };
    assert!(reason.contains("3 attempts") && reason.contains("connection refused"), "{reason}");
    assert!(seen.await.unwrap().ended);
    // Two failures, one that streamed, three failures.
    assert_eq!(script.connect_times().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_camera_that_connects_but_is_never_decoded_counts_as_failing() {
    let script = Script::new([], Step::play(usize::MAX, Then::Silence));
    let mut camera = spec(URL);
    camera.max_attempts = Some(2);
    let rig = start(&env(script.clone(), config(), 0.0), &camera);
    let decode = decoding();
    decode.store(false, Ordering::SeqCst);
    let seen = decoder(&rig, decode);
    let state =
        state_when(&rig, |s| !matches!(s, CameraState::Connecting { .. } | CameraState::WaitingToRetry { .. })).await;
    assert!(matches!(&state, CameraState::Failed { reason } if reason.contains("could not be decoded")), "{state:?}");
    assert_eq!(seen.await.unwrap().started.len(), 2);
    assert_eq!(rig.metrics.get(Counter::Stalls), 2);
}

#[tokio::test(start_paused = true)]
async fn the_watchdog_looks_at_decoded_frames_and_makes_a_new_session() {
    let script = Script::new([], Step::play(usize::MAX, Then::Silence));
    let rig = start(&env(script.clone(), config(), 0.0), &spec(URL));
    let decode = decoding();
    let seen = decoder(&rig, decode.clone());
    state_when(&rig, |s| *s == CameraState::Running).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(script.connect_times().len(), 1, "a healthy camera is left alone");
    // Access units go on coming, but nothing is decoded any more.
    decode.store(false, Ordering::SeqCst);
    let stopped = Instant::now();
    let state = state_when(&rig, waiting).await;
    let waited = stopped.elapsed();
    assert!(
        matches!(&state, CameraState::WaitingToRetry { reason, .. } if reason.contains("no decoded frame for 10 s")),
        "{state:?}"
    );
    assert!((Duration::from_millis(9_900)..Duration::from_millis(10_200)).contains(&waited), "{waited:?}");
    assert_eq!(script.closed.load(Ordering::SeqCst), 1, "the old session is ended");
    decode.store(true, Ordering::SeqCst);
    state_when(&rig, |s| *s == CameraState::Running).await;
    assert_eq!(rig.metrics.get(Counter::Stalls), 1);
    assert_eq!(rig.metrics.get(Counter::Sessions), 2);
    rig.cancel.cancel();
    let seen = seen.await.unwrap();
    let sessions: Vec<u64> = seen.started.iter().map(|(s, _)| *s).collect();
    assert_eq!(sessions[1], sessions[0] + 1);
}

#[tokio::test(start_paused = true)]
async fn silence_after_play_is_noticed_and_udp_gets_a_hint() {
    let script = Script::new([], Step::play(0, Then::Silence));
    let mut camera = spec(URL);
    camera.transport = facestream_core::camera::Transport::Udp;
    let rig = start(&env(script, config(), 0.0), &camera);
    let begun = Instant::now();
    let state = state_when(&rig, waiting).await;
    assert!(
        matches!(&state, CameraState::WaitingToRetry { reason, .. } if reason.contains("try transport tcp")),
        "{state:?}"
    );
    assert!((20.0..20.5).contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());
    rig.cancel.cancel();
}

#[tokio::test(start_paused = true)]
async fn key_frames_far_apart_are_no_stall_when_only_they_are_decoded() {
    let script = Script::new([], Step::play(usize::MAX, Then::Silence));
    let mut camera = spec(URL);
    camera.keyframes_only = true;
    let rig = start(&env(script.clone(), config(), 0.0), &camera);
    let decode = decoding();
    let seen = decoder(&rig, decode.clone());
    state_when(&rig, |s| *s == CameraState::Running).await;
    decode.store(false, Ordering::SeqCst);
    sleep(Duration::from_secs(50)).await;
    assert_eq!(*rig.handle.state.borrow(), CameraState::Running);
    state_when(&rig, waiting).await;
    rig.cancel.cancel();
    seen.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_hangs_is_given_up() {
    let script = Script::new([], Step::Hang);
    let rig = start(&env(script, config(), 0.0), &spec(URL));
    let begun = Instant::now();
    let state = state_when(&rig, waiting).await;
    assert!(
        matches!(&state, CameraState::WaitingToRetry { reason, .. } if reason.contains("no answer within 10 s")),
        "{state:?}"
    );
    assert!((10.0..10.1).contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());
    rig.cancel.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_is_retried_and_said() {
    let wrong = IngestError::new(Phase::Describe, ErrorKind::Unauthorised);
    let script = Script::new(vec![Step::Fail(wrong); 4], Step::play(usize::MAX, Then::Silence));
    let rig = start(&env(script, config(), 0.0), &spec("rtsp://admin:canary@10.0.0.5/live"));
    let seen = decoder(&rig, decoding());
    let state = state_when(&rig, waiting).await;
    assert!(
        matches!(&state, CameraState::WaitingToRetry { reason, .. } if reason.contains("unauthorised")),
        "{state:?}"
    );
    // Someone sets the password on the camera.
    state_when(&rig, |s| *s == CameraState::Running).await;
    rig.cancel.cancel();
    seen.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_not_allowed_fails_at_once_and_without_a_connect() {
    for url in ["rtsps://10.0.0.5/live", "http://10.0.0.5/live", "rtsp://169.254.169.254/latest", "rtsp://0x7f.1/"] {
        let script = Script::new([], Step::play(usize::MAX, Then::Silence));
        let rig = start(&env(script.clone(), config(), 0.0), &spec(url));
        state_when(&rig, |s| matches!(s, CameraState::Failed { .. })).await;
        assert!(script.connect_times().is_empty(), "{url}");
        rig.handle.task.await.unwrap();
        assert!(matches!(rig.handle.events.try_recv(), Ok(IngestEvent::Ended)));
    }
}

#[tokio::test(start_paused = true)]
async fn cancelling_stops_promptly_whatever_is_being_done() {
    let playing = || Step::play(usize::MAX, Then::Silence);
    // (what it does, when to cancel, sessions to be ended)
    let cases = [
        ("connecting", Step::Hang, 3.0, 0),
        ("waiting to retry", Step::Fail(refused()), 0.5, 0),
        ("streaming", playing(), 5.0, 1),
        ("silent", Step::play(3, Then::Silence), 5.0, 1),
    ];
    for (doing, step, after, closed) in cases {
        let script = Script::new([], step);
        let rig = start(&env(script.clone(), config(), 0.0), &spec(URL));
        let seen = decoder(&rig, decoding());
        sleep(Duration::from_secs_f64(after)).await;
        let begun = Instant::now();
        rig.cancel.cancel();
        let mut state = rig.handle.state.clone();
        rig.handle.task.await.unwrap();
        assert!(begun.elapsed() < Duration::from_millis(10), "{doing}: {:?}", begun.elapsed());
        assert_eq!(*state.borrow_and_update(), CameraState::Stopped, "{doing}");
        assert_eq!(script.closed.load(Ordering::SeqCst), closed, "{doing}");
        assert!(seen.await.unwrap().ended, "{doing}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_camera_that_ignores_teardown_holds_up_stopping_for_a_second_at_most() {
    let script = Script::new([], Step::play(usize::MAX, Then::Silence));
    script.deaf.store(true, Ordering::SeqCst);
    let rig = start(&env(script, config(), 0.0), &spec(URL));
    let seen = decoder(&rig, decoding());
    state_when(&rig, |s| *s == CameraState::Running).await;
    let begun = Instant::now();
    rig.cancel.cancel();
    let mut state = rig.handle.state.clone();
    state.wait_for(|s| *s == CameraState::Stopping).await.unwrap();
    state.wait_for(|s| *s == CameraState::Stopped).await.unwrap();
    assert!((1.0..1.1).contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());
    seen.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn cancelling_a_camera_that_waits_for_its_turn_is_prompt_too() {
    let script = Script::new([], Step::Hang);
    let env = env(script.clone(), IngestConfig { connects_per_second: 1, ..config() }, 0.0);
    let rigs: Vec<_> = (0..10).map(|_| start(&env, &spec(URL))).collect();
    sleep(Duration::from_millis(500)).await;
    let begun = Instant::now();
    for rig in rigs {
        rig.cancel.cancel();
        rig.handle.task.await.unwrap();
    }
    assert!(begun.elapsed() < Duration::from_millis(10), "{:?}", begun.elapsed());
    assert_eq!(script.connect_times().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_decoder_loses_whole_groups_of_pictures_but_never_a_start() {
    let config = IngestConfig { queue_access_units: 10, first_frame_timeout_ms: 10_000, ..config() };
    let script = Script::new([], Step::play(40, Then::Fail(ended())));
    let rig = start(&env(script.clone(), config, 0.0), &spec(URL));
    // Nobody takes anything for a minute: many losses and reconnects.
    sleep(Duration::from_secs(60)).await;
    let events: Vec<IngestEvent> = rig.handle.events.try_iter().collect();
    let starts: Vec<u64> = events
        .iter()
        .filter_map(|e| if let IngestEvent::Started { session, .. } = e { Some(*session) } else { None })
        .collect();
    let units = events.iter().filter(|e| matches!(e, IngestEvent::AccessUnit(_))).count();
    assert_eq!(starts.len(), script.connect_times().len(), "every session was announced");
    assert!(starts.windows(2).all(|w| w[1] == w[0] + 1), "{starts:?}");
    let taken = u64::try_from(units).unwrap();
    assert_eq!(rig.metrics.get(Counter::AccessUnits), taken + rig.metrics.drops(DropReason::DecodeQueueFull));
    // With room again the camera goes on, beginning with a key frame.
    let first = loop {
        match rig.handle.events.try_recv() {
            Ok(IngestEvent::AccessUnit(unit)) => break unit,
            _ => sleep(Duration::from_millis(5)).await,
        }
    };
    assert!(first.keyframe);
    rig.cancel.cancel();
    rig.handle.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_goes_away_ends_the_camera() {
    let script = Script::new([], Step::play(usize::MAX, Then::Silence));
    let rig = start(&env(script, config(), 0.0), &spec(URL));
    sleep(Duration::from_millis(100)).await;
    let common::Rig { handle, .. } = rig;
    let facestream_ingest::IngestHandle { events, state, task } = handle;
    drop(events);
    task.await.unwrap();
    assert!(matches!(&*state.borrow(), CameraState::Failed { reason } if reason.contains("decoder")));
}

#[tokio::test(start_paused = true)]
async fn time_goes_on_over_sessions_and_jumps() {
    let play = |first_ticks| Step::Play { frames: 60, first_ticks, report: None, then: Then::Fail(ended()) };
    let script = Script::new([play(5_000_000_000), play(0), play(-90_000_000), play(i64::MAX / 2)], Step::Hang);
    let rig = start(&env(script, config(), 0.3), &spec(URL));
    let seen = decoder(&rig, decoding());
    sleep(Duration::from_secs(40)).await;
    rig.cancel.cancel();
    let seen = seen.await.unwrap();
    assert_eq!(seen.units.len(), 240);
    for pair in seen.units.windows(2) {
        assert!(pair[0].timestamp_ns < pair[1].timestamp_ns);
        if pair[0].session == pair[1].session {
            assert_eq!(pair[1].sequence, pair[0].sequence + 1);
            assert_eq!(pair[1].timestamp_ns - pair[0].timestamp_ns, 40_000_000);
        } else {
            assert_eq!((pair[1].session, pair[1].sequence), (pair[0].session + 1, 0));
            // The gap is the time that passed.
            let received = pair[1].received_ns - pair[0].received_ns;
            assert!((pair[1].timestamp_ns - pair[0].timestamp_ns).abs_diff(received) < 50_000_000);
        }
    }
    // Without a sender report capture time is the host's.
    assert!(seen.units.iter().all(|u| u.captured_at_ns == WALL_START_NS + u.received_ns));
}

#[tokio::test(start_paused = true)]
async fn capture_time_comes_from_the_cameras_report() {
    let behind = 250_000_000;
    let report = SenderReport { time: ticks(0), unix_ns: WALL_START_NS + 1_000_000_000 - behind };
    let step = Step::Play { frames: usize::MAX, first_ticks: 0, report: Some(report), then: Then::Silence };
    let rig = start(&env(Script::new([], step), config(), 0.0), &spec(URL));
    let seen = decoder(&rig, decoding());
    sleep(Duration::from_secs(3)).await;
    rig.cancel.cancel();
    let seen = seen.await.unwrap();
    for unit in &seen.units {
        let told = WALL_START_NS + 1_000_000_000 - behind + unit.sequence * 40_000_000;
        assert_eq!(unit.captured_at_ns, told);
    }
    assert!(seen.units.len() > 50);
}

#[tokio::test(start_paused = true)]
async fn session_numbers_are_never_used_twice_for_a_camera() {
    let script = Script::new([], Step::play(10, Then::Fail(ended())));
    let env = env(script, config(), 0.0);
    let mut sessions = Vec::new();
    for _ in 0..5 {
        let rig = start(&env, &spec(URL));
        let seen = decoder(&rig, decoding());
        sleep(Duration::from_secs(20)).await;
        rig.cancel.cancel();
        sessions.extend(seen.await.unwrap().started.into_iter().map(|(s, _)| s));
    }
    assert!(sessions.len() > 20);
    assert!(sessions.windows(2).all(|w| w[0] < w[1]), "{sessions:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_cameras_lost_together_come_back_at_twenty_a_second() {
    let script = Script::new(vec![Step::play(50, Then::Fail(ended())); 100], Step::play(usize::MAX, Then::Silence));
    let env = env(script.clone(), config(), 0.0);
    let rigs: Vec<_> = (0..100).map(|_| start(&env, &spec(URL))).collect();
    let seen: Vec<_> = rigs.iter().map(|rig| decoder(rig, decoding())).collect();
    for rig in &rigs {
        state_when(rig, |_| rig.metrics.get(Counter::Sessions) == 2).await;
    }
    let mut times = script.connect_times();
    times.sort();
    assert_eq!(times.len(), 200);
    for (i, first) in times.iter().enumerate() {
        let within = times[i..].iter().filter(|&&t| t - *first < Duration::from_secs(1)).count();
        assert!(within <= 20, "{within} connects within a second from {first:?}");
    }
    for rig in &rigs {
        rig.cancel.cancel();
    }
    for seen in seen {
        assert!(seen.await.unwrap().ended);
    }
}

#[tokio::test(start_paused = true)]
async fn an_oversized_picture_ends_its_session() {
    let script = Script::new([], Step::play(usize::MAX, Then::Silence));
    let env = env(script, IngestConfig { max_access_unit_bytes: 99, ..config() }, 0.0);
    let rig = start(&env, &spec(URL));
    let state = state_when(&rig, waiting).await;
    assert!(
        matches!(&state, CameraState::WaitingToRetry { reason, .. } if reason.contains("max_access_unit_bytes = 99")),
        "{state:?}"
    );
    rig.cancel.cancel();
    let task = Arc::new(rig.handle.task);
    while !task.is_finished() {
        sleep(Duration::from_millis(1)).await;
    }
}
