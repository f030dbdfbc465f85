//! Several sinks at once.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use facestream_core::{CameraId, Message, SystemClock};

use super::mem_fs::MemFs;
use super::{events, message};
use crate::{MemorySink, RefuseReason, Sink, SinkConfig, SinkError, Sinks};

#[test]
fn one_sink_is_enough_and_each_counts_its_own_refusals() {
    let (small, large) = (Arc::new(MemorySink::new(1)), Arc::new(MemorySink::new(100)));
    let sinks = Sinks::of(vec![small.clone(), large.clone()], 2, 2);
    for n in 0..3 {
        sinks.accept(&message(n, 10)).unwrap();
    }
    assert_eq!((small.take().len(), large.take().len()), (1, 3));
    assert_eq!(small.status().refused["queue-full"], 2);
    let full = Sinks::of(vec![Arc::new(MemorySink::new(0)), Arc::new(MemorySink::new(0))], 2, 2);
    let refused = full.accept(&message(0, 1)).unwrap_err();
    assert_eq!(refused.0, [("memory", RefuseReason::QueueFull); 2]);
    assert_eq!(refused.to_string(), "no sink took the message: memory: queue-full, memory: queue-full");
}

#[test]
fn topics_are_checked_and_bounded_before_any_sink_sees_them() {
    let sink = Arc::new(MemorySink::new(100));
    let sinks = Sinks::of(vec![sink.clone()], 2, 9);
    for (topic, expected) in [
        ("a", Ok(())),
        ("b", Ok(())),
        ("c", Err(RefuseReason::TooManyTopics)),
        ("../etc", Err(RefuseReason::InvalidTopic)),
        ("a", Ok(())),
    ] {
        let mut m = message(0, 1);
        m.topic = topic.into();
        assert_eq!(sinks.accept(&m).map_err(|r| r.0[0].1), expected, "{topic}");
    }
    assert_eq!(sink.take().len(), 3);
    let status = &sinks.status()[0];
    assert_eq!((status.refused["too-many-topics"], status.refused["invalid-topic"]), (1, 1));
    let json = serde_json::to_value(status).unwrap();
    assert_eq!((json["state"].as_str(), json["accepted"].as_u64()), (Some("ok"), Some(3)));
}

#[test]
fn a_camera_that_makes_up_topics_uses_up_its_own_and_not_those_of_others() {
    let sink = Arc::new(MemorySink::new(1000));
    let sinks = Sinks::of(vec![sink.clone()], 10, 3);
    let send = |camera: &str, topic: String| {
        sinks.accept(&Message { camera: CameraId::new(camera).unwrap(), topic, ..message(0, 1) })
    };
    let taken = (0..100).filter(|n| send("hostile", format!("made-up-{n}")).is_ok()).count();
    assert_eq!(taken, 3);
    let refused = send("hostile", "one-more".into()).unwrap_err().to_string();
    assert!(refused.contains("too-many-topics-of-camera (the bound is sinks.max_topics_per_camera)"), "{refused}");
    for topic in ["a", "b", "made-up-0"] {
        send("other", topic.into()).unwrap();
    }
    send("hostile", "made-up-0".into()).unwrap();
    // The bound of all is there still.
    let taken = (0..10).filter(|n| send(&format!("cam-{n}"), format!("t-{n}")).is_ok()).count();
    assert_eq!(taken, 10 - 5);
    let refused = send("late", "late".into()).unwrap_err().to_string();
    assert!(refused.contains("too-many-topics (the bound is sinks.max_topics)"), "{refused}");
    assert_eq!(sinks.status()[0].refused["too-many-topics-of-camera"], 98);
}

#[test]
fn a_topic_that_no_sink_took_a_message_for_does_not_count() {
    let sink = Arc::new(MemorySink::new(0));
    let sinks = Sinks::of(vec![sink], 1, 1);
    for n in 0..3 {
        let refused = sinks.accept(&Message { topic: format!("t-{n}"), ..message(n, 1) }).unwrap_err();
        assert_eq!(refused.0[0].1, RefuseReason::QueueFull);
    }
}

#[test]
fn the_default_configuration_writes_files() {
    let fs = MemFs::default();
    let sinks = Sinks::open_with(
        &SinkConfig::default(),
        Path::new("/data"),
        Arc::new(fs.clone()),
        Arc::new(SystemClock::default()),
        events().0,
    )
    .unwrap();
    sinks.accept(&message(1, 10)).unwrap();
    let left = sinks.close(Instant::now() + Duration::from_secs(60));
    assert_eq!((left.len(), left[0].0, left[0].1.messages), (1, "jsonl", 0));
    assert!(fs.read(Path::new("/data/messages/t.jsonl")).is_some());
}

#[test]
fn settings_that_cannot_work_are_refused_at_the_start() {
    let mut config = SinkConfig::default();
    config.jsonl.enabled = false;
    let error = Sinks::open(&config, Path::new("/nowhere"), Arc::new(SystemClock::default()), events().0).unwrap_err();
    assert!(matches!(&error, SinkError::Config(p) if p.len() == 1), "{error}");
}
