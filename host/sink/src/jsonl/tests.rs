//! The JSONL sink on a disk that fills up, heals, or stays broken.

use std::time::Duration;

use facestream_core::SimulatedClock;
use serde_json::Value;

use super::*;
use crate::status::SinkState;
use crate::tests::mem_fs::MemFs;
use crate::tests::{events, message, wait_for};

struct Rig {
    fs: MemFs,
    clock: Arc<SimulatedClock>,
    sink: JsonlSink,
}

fn rig(config: JsonlConfig) -> Rig {
    let fs = MemFs::default();
    let clock = Arc::new(SimulatedClock::at(1_000_000_000_000_000));
    let sink = JsonlSink::open(config, Path::new("/data"), Arc::new(fs.clone()), clock.clone(), events().0).unwrap();
    Rig { fs, clock, sink }
}

fn quick() -> JsonlConfig {
    JsonlConfig { flush_interval_ms: 1, accept_wait_ms: 10, ..JsonlConfig::default() }
}

fn lines(fs: &MemFs, path: &str) -> Vec<Value> {
    let bytes = fs.read(Path::new(path)).unwrap_or_default();
    bytes.split(|&b| b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[test]
fn every_topic_has_its_file_and_closing_writes_everything() {
    let r = rig(JsonlConfig { flush_interval_ms: 60_000, ..quick() });
    for n in 0..100 {
        let mut m = message(n, 50);
        m.topic = format!("topic-{}", n % 2);
        r.sink.accept(&m).unwrap();
    }
    assert_eq!(r.sink.close(soon()), Left::default());
    for t in 0..2 {
        let ids: Vec<_> = lines(&r.fs, &format!("/data/messages/topic-{t}.jsonl"))
            .iter()
            .map(|l| l["headers"]["message-id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(ids, (0..50).map(|n| message(n * 2 + t, 1).id.0).collect::<Vec<_>>());
    }
    let status = r.sink.status();
    assert_eq!((status.accepted, status.delivered, status.queued_messages, status.queued_bytes), (100, 100, 0, 0));
    assert_eq!(status.topics["topic-0"], 50);
    assert_eq!(r.sink.accept(&message(1, 1)), Err(RefuseReason::Closed));
}

#[test]
fn a_full_disk_degrades_and_nothing_is_lost_when_it_has_room_again() {
    let r = rig(JsonlConfig { queue_messages: 20, ..quick() });
    r.fs.set_space(Some(500));
    let taken = (0..200).filter(|&n| r.sink.accept(&message(n, 50)).is_ok()).collect::<Vec<_>>();
    wait_for("degraded", || matches!(r.sink.status().state, SinkState::Degraded(_)));
    let SinkState::Degraded(reason) = r.sink.status().state else { panic!() };
    assert!(reason.contains("messages/t.jsonl") && reason.contains("no space"), "{reason}");
    assert!(taken.len() < 200 && r.sink.status().refused["queue-full"] as usize == 200 - taken.len());
    r.fs.set_space(None);
    wait_for("written", || r.sink.status().queued_messages == 0);
    wait_for("ok", || r.sink.status().state == SinkState::Ok);
    let written: Vec<_> = lines(&r.fs, "/data/messages/t.jsonl");
    let ids: Vec<_> = written.iter().map(|l| l["headers"]["message-id"].as_str().unwrap()).collect();
    assert_eq!(ids, taken.iter().map(|&n| message(n, 1).id.0).collect::<Vec<_>>());
    assert_eq!(r.sink.status().delivered, taken.len() as u64);
    assert!(r.sink.status().lost.is_empty());
}

#[test]
fn what_the_disk_refuses_for_too_long_is_lost_and_counted() {
    let r = rig(JsonlConfig { retry_for_ms: 5000, ..quick() });
    r.fs.set_space(Some(0));
    for n in 0..10 {
        r.sink.accept(&message(n, 50)).unwrap();
    }
    wait_for("degraded", || r.sink.status().state != SinkState::Ok);
    assert_eq!(r.sink.status().queued_messages, 10);
    r.clock.advance(Duration::from_secs(6));
    wait_for("given up", || r.sink.status().lost.get("write-failed") == Some(&10));
    assert_eq!(r.sink.status().queued_messages, 0);
}

#[test]
fn what_was_given_up_does_not_keep_the_sink_degraded() {
    let r = rig(JsonlConfig { retry_for_ms: 5000, ..quick() });
    r.fs.set_space(Some(0));
    r.sink.accept(&message(1, 50)).unwrap();
    wait_for("degraded", || r.sink.status().state != SinkState::Ok);
    r.clock.advance(Duration::from_secs(6));
    wait_for("given up", || r.sink.status().lost.get("write-failed") == Some(&1));
    // No line of the topic comes again that could show that the disk works.
    wait_for("ok", || r.sink.status().state == SinkState::Ok);
}

#[test]
fn a_failed_sync_of_a_topic_that_is_not_used_again_is_made_up_for() {
    let r = rig(JsonlConfig { fsync_interval_ms: 5, ..quick() });
    r.fs.fail_syncs(true);
    r.sink.accept(&message(1, 50)).unwrap();
    wait_for("degraded", || matches!(r.sink.status().state, SinkState::Degraded(r) if r.contains("cannot sync")));
    assert_eq!(r.sink.status().queued_messages, 0);
    r.fs.fail_syncs(false);
    wait_for("ok", || r.sink.status().state == SinkState::Ok);
}

#[test]
fn closing_on_a_dead_disk_ends_and_counts_what_is_left() {
    let r = rig(quick());
    r.fs.set_space(Some(0));
    for n in 0..10 {
        r.sink.accept(&message(n, 50)).unwrap();
    }
    wait_for("degraded", || r.sink.status().state != SinkState::Ok);
    let left = r.sink.close(Instant::now() + Duration::from_millis(50));
    assert_eq!((left.messages, left.kept), (10, false));
    assert_eq!(r.sink.status().lost["shutdown-grace"], 10);
}

#[test]
fn one_topic_with_a_broken_file_does_not_hold_up_another() {
    let r = rig(quick());
    // Opening fails: where the file should be there is no room even to cut a half-written line off.
    r.fs.write(Path::new("/data/messages/bad.jsonl"), b"ok\nhalf");
    r.fs.fail_reads(true);
    let mut bad = message(1, 10);
    bad.topic = "bad".into();
    r.sink.accept(&bad).unwrap();
    r.sink.accept(&message(2, 10)).unwrap();
    wait_for("the other topic", || r.sink.status().topics.get("t") == Some(&1));
    assert_eq!(r.sink.status().queued_messages, 1);
    r.fs.fail_reads(false);
    wait_for("healed", || r.sink.status().delivered == 2);
    assert_eq!(r.sink.status().lost["torn-tail"], 1);
}

/// A real full disk: a tmpfs of 64 KiB, where the test may mount one.
#[test]
fn a_real_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mount = |args: &[&str]| std::process::Command::new(args[0]).args(&args[1..]).output();
    let path = dir.path().to_str().unwrap().to_owned();
    let mounted = mount(&["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", &path]);
    if !mounted.as_ref().is_ok_and(|o| o.status.success()) {
        let why = mounted.map_or_else(|e| e.to_string(), |o| String::from_utf8_lossy(&o.stderr).trim().to_owned());
        facestream_test_support::skip("facestream-sink: a real full disk", &format!("cannot mount a tmpfs: {why}"));
        return;
    }
    struct Unmount(String);
    impl Drop for Unmount {
        fn drop(&mut self) {
            let done = std::process::Command::new("umount").args(["-l", &self.0]).status();
            assert!(done.is_ok_and(|s| s.success()) || std::thread::panicking(), "the tmpfs can be unmounted");
        }
    }
    let _unmount = Unmount(path.clone());
    let filler = dir.path().join("filler");
    std::fs::write(&filler, vec![0; 40 << 10]).unwrap();
    let clock = Arc::new(SimulatedClock::at(0));
    let sink = JsonlSink::open(quick(), dir.path(), Arc::new(crate::fs::Disk), clock, events().0).unwrap();
    for n in 0..40 {
        sink.accept(&message(n, 1000)).unwrap();
    }
    wait_for("degraded", || sink.status().state != SinkState::Ok);
    std::fs::remove_file(&filler).unwrap();
    // 40 lines of base64 are more than 40 KiB; all fit now.
    wait_for("written", || sink.status().delivered == 40);
    assert!(sink.status().lost.is_empty());
    let text = std::fs::read_to_string(dir.path().join("messages/t.jsonl")).unwrap();
    assert_eq!(text.lines().filter(|l| serde_json::from_str::<Value>(l).is_ok()).count(), 40);
    assert_eq!(sink.close(soon()), Left::default());
}
