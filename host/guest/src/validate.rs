//! Checks of what guests return, before any of it is believed.
//!
//! Owns the checks that need no history: numbers, ranges, counts, names, sizes. What needs the camera's history (known
//! and spent track ids) is in `ledger`. Each answer is a sentence for status and log.

use facestream_core::{FrameInfo, Rect, Shot, Track, TrackUpdate};

use crate::config::GuestLimits;
use crate::convert::Snapshot;
use crate::error::one_line;
use crate::formatter::WrittenMessage;

/// Track ids stay below 2^53, so that JSON readers that know only doubles see them exactly (RFC 8259, section 6).
pub(crate) const MAX_TRACK_ID: u64 = (1 << 53) - 1;

/// A box may lie so many times the frame's longer side outside of it: lost tracks are predicted to leave, nothing
/// meaningful is farther.
const PLAUSIBLE: f32 = 16.0;

const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 8192;
const MAX_KEY_BYTES: usize = 4096;

type Check = Result<(), String>;

fn finite(what: &str, values: &[f32]) -> Check {
    match values.iter().find(|v| !v.is_finite()) {
        Some(v) => Err(format!("{what} has a number that is {v}")),
        None => Ok(()),
    }
}

fn share(what: &str, value: f32) -> Check {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(format!("{what} is {value}, not in [0, 1]")) }
}

fn plausible(what: impl Fn() -> String, r: &Rect, longer_side: f32) -> Check {
    let values = [r.x, r.y, r.width, r.height];
    if values.iter().any(|v| !v.is_finite()) {
        return finite(&what(), &values);
    }
    if r.width < 0.0 || r.height < 0.0 {
        return Err(format!("{} has a negative size, {} x {}", what(), r.width, r.height));
    }
    let far = longer_side * PLAUSIBLE;
    if values.iter().any(|v| v.abs() > far) {
        return Err(format!("{} is far outside of any frame: {r:?}", what()));
    }
    Ok(())
}

fn at_most(what: &str, count: usize, limit: u32) -> Check {
    if count as u64 > u64::from(limit) { Err(format!("{count} {what}, more than {limit}")) } else { Ok(()) }
}

fn duplicate(mut ids: Vec<u64>) -> Option<u64> {
    ids.sort_unstable();
    ids.windows(2).find(|w| w[0] == w[1]).map(|w| w[0])
}

/// A tracker's answer by itself.
pub(crate) fn update(update: &TrackUpdate, frame: &FrameInfo, detections: usize, limits: &GuestLimits) -> Check {
    at_most("tracks", update.tracks.len(), limits.max_tracks)?;
    at_most("ended tracks", update.ended.len(), limits.max_tracks)?;
    let side = frame.width.max(frame.height).max(1) as f32;
    for t in &update.tracks {
        let id = t.id;
        let track = || format!("track {id}");
        plausible(track, &t.bbox, side)?;
        if !(t.velocity.x.is_finite() && t.velocity.y.is_finite() && (0.0..=1.0).contains(&t.confidence)) {
            finite(&format!("the velocity of track {id}"), &[t.velocity.x, t.velocity.y])?;
            share(&format!("the confidence of track {id}"), t.confidence)?;
        }
        if t.id > MAX_TRACK_ID {
            return Err(format!("track id {id} is above {MAX_TRACK_ID} (2^53 - 1)"));
        }
        if let Some(index) = t.detection.filter(|&i| i as usize >= detections) {
            return Err(format!("track {id} points to detection {index} of {detections}"));
        }
        if t.first_seen_ns > t.last_seen_ns || t.last_seen_ns > frame.timestamp_ns {
            return Err(format!(
                "track {id} was first seen at {}, last at {}, in a frame of {}",
                t.first_seen_ns, t.last_seen_ns, frame.timestamp_ns
            ));
        }
    }
    // Trackers that number in order, as all of ours, are seen to repeat nothing without sorting.
    if !update.tracks.is_sorted_by(|a, b| a.id < b.id) || !update.ended.is_empty() {
        let ids = update.tracks.iter().map(|t| t.id).chain(update.ended.iter().copied()).collect();
        if let Some(id) = duplicate(ids) {
            return Err(format!("track {id} is there twice, or live and ended at once"));
        }
    }
    if let Some(index) = shared_detection(&update.tracks, detections) {
        return Err(format!("two tracks point to detection {index}"));
    }
    Ok(())
}

/// A detection to which two tracks point; all indices are below `detections`.
fn shared_detection(tracks: &[Track], detections: usize) -> Option<u32> {
    let mut few = [0_u64; 8];
    let mut many = Vec::new();
    let taken = match few.get_mut(..detections.div_ceil(64)) {
        Some(few) => few,
        None => {
            many.resize(detections.div_ceil(64), 0);
            &mut many[..]
        }
    };
    tracks.iter().filter_map(|t| t.detection).find(|&i| {
        let (word, bit) = (&mut taken[i as usize / 64], 1 << (i % 64));
        std::mem::replace(word, *word | bit) & bit != 0
    })
}

/// Shots by themselves.
pub(crate) fn shots(shots: &[Shot], limits: &GuestLimits) -> Check {
    at_most("shots", shots.len(), limits.max_shots)?;
    for s in shots {
        let shot = format!("the shot of track {}", s.track_id);
        // The frame it was taken from may have had another size than the current one: 65,536 is the largest side of
        // any of the codecs here.
        plausible(|| shot.clone(), &s.bbox, 65_536.0)?;
        finite(&shot, &[s.score, s.quality.sharpness, s.quality.brightness])?;
        share(&format!("the confidence of {shot}"), s.confidence)?;
        if let Some(landmarks) = s.landmarks {
            let points = landmarks.points();
            finite(&shot, &points.map(|p| p.x))?;
            finite(&shot, &points.map(|p| p.y))?;
        }
    }
    Ok(())
}

/// Saved state.
pub(crate) fn snapshot(snapshot: &Snapshot, limits: &GuestLimits) -> Check {
    at_most("bytes of state", snapshot.data.len(), limits.max_state_bytes)?;
    if snapshot.schema.is_empty() || snapshot.schema.len() > 256 || snapshot.schema.chars().any(char::is_control) {
        return Err("the name of its state's schema is empty, above 256 bytes or has control characters".to_owned());
    }
    Ok(())
}

/// Messages.
pub(crate) fn messages(messages: &[WrittenMessage], limits: &GuestLimits) -> Check {
    at_most("messages for one event", messages.len(), limits.max_messages)?;
    for m in messages {
        topic(&m.topic)?;
        let about = |what: String| format!("a message to `{}` {what}", m.topic);
        at_most("bytes of payload", m.payload.len(), limits.max_message_bytes)
            .map_err(|e| about(format!("has {e} (limits.max_message_bytes)")))?;
        if m.key.len() > MAX_KEY_BYTES {
            return Err(about(format!("has a key of {} bytes, more than {MAX_KEY_BYTES}", m.key.len())));
        }
        let bytes: usize = m.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if m.headers.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
            return Err(about(format!(
                "has {} headers of {bytes} bytes, more than {MAX_HEADERS} or {MAX_HEADER_BYTES}",
                m.headers.len()
            )));
        }
        if m.headers.iter().any(|(name, value)| name.is_empty() || has_control(name) || has_control(value)) {
            return Err(about("has a header without a name or with control characters".to_owned()));
        }
        if m.content_type.is_empty() || m.content_type.len() > 128 || has_control(&m.content_type) {
            return Err(about("has no sound content type".to_owned()));
        }
    }
    Ok(())
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// Kafka's rule (org.apache.kafka.common.internals.Topic): 1 to 249 of `A-Z a-z 0-9 . _ -`, not `.` or `..`.
fn topic(name: &str) -> Check {
    let ok = (1..=249).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if ok { Ok(()) } else { Err(format!("`{}` is no topic name: 1 to 249 of A-Z a-z 0-9 . _ -", one_line(name, 64))) }
}

#[cfg(test)]
mod tests {
    use facestream_core::{Point, TrackPhase};

    use super::*;

    /// What the refusal says, and what is done to a sound value.
    type Case<T> = (&'static str, fn(&mut T));

    const FRAME: FrameInfo =
        FrameInfo { session: 0, sequence: 5, timestamp_ns: 1000, captured_at_ns: 0, width: 640, height: 360 };

    fn track(id: u64) -> Track {
        Track {
            id,
            phase: TrackPhase::Confirmed,
            bbox: Rect { x: 1.0, y: 2.0, width: 3.0, height: 4.0 },
            velocity: Point::default(),
            confidence: 0.5,
            class_id: 0,
            detection: None,
            first_seen_ns: 10,
            last_seen_ns: 20,
        }
    }

    fn check(change: impl FnOnce(&mut TrackUpdate)) -> Result<(), String> {
        let mut u = TrackUpdate { tracks: vec![track(1), track(2)], ended: vec![3] };
        change(&mut u);
        update(&u, &FRAME, 2, &GuestLimits { max_tracks: 4, ..GuestLimits::default() })
    }

    #[test]
    fn sound_updates_pass_and_each_kind_of_nonsense_is_named() {
        assert_eq!(check(|_| ()), Ok(()));
        let cases: &[Case<TrackUpdate>] = &[
            ("NaN", |u| u.tracks[0].bbox.x = f32::NAN),
            ("inf", |u| u.tracks[0].bbox.width = f32::INFINITY),
            ("negative size", |u| u.tracks[0].bbox.height = -1.0),
            ("far outside", |u| u.tracks[0].bbox.x = 1e9),
            ("velocity", |u| u.tracks[0].velocity.y = f32::NEG_INFINITY),
            ("confidence", |u| u.tracks[0].confidence = 1.01),
            ("confidence", |u| u.tracks[0].confidence = f32::NAN),
            ("2^53", |u| u.tracks[0].id = MAX_TRACK_ID + 1),
            ("detection 2 of 2", |u| u.tracks[0].detection = Some(2)),
            ("two tracks point to detection 1", |u| u.tracks.iter_mut().for_each(|t| t.detection = Some(1))),
            ("first seen", |u| u.tracks[0].first_seen_ns = 21),
            ("first seen", |u| u.tracks[0].last_seen_ns = 1001),
            ("there twice", |u| u.tracks[1].id = 1),
            ("there twice", |u| u.ended = vec![1]),
            ("there twice", |u| u.ended = vec![9, 9]),
            ("5 tracks, more than 4", |u| u.tracks = (0..5).map(track).collect()),
            ("5 ended tracks", |u| u.ended = (10..15).collect()),
        ];
        for (text, change) in cases {
            let error = check(change).unwrap_err();
            assert!(error.contains(text), "`{text}` in `{error}`");
        }
    }

    #[test]
    fn a_detection_has_one_track_also_among_many() {
        for detections in [1, 64, 65, 512, 513, 5000_u32] {
            let mut tracks: Vec<Track> =
                (0..detections).map(|i| Track { detection: Some(i), ..track(u64::from(i)) }).collect();
            assert_eq!(shared_detection(&tracks, detections as usize), None);
            let last = detections - 1;
            tracks.push(Track { detection: Some(last), ..track(9999) });
            assert_eq!(shared_detection(&tracks, detections as usize), Some(last));
        }
    }

    fn message() -> WrittenMessage {
        WrittenMessage {
            topic: "faces".to_owned(),
            key: b"c1".to_vec(),
            payload: b"{}".to_vec(),
            headers: vec![("a".to_owned(), "b".to_owned())],
            content_type: "application/json".to_owned(),
        }
    }

    #[test]
    fn messages_that_kafka_or_a_reader_would_choke_on_are_named() {
        let limits = GuestLimits { max_messages: 2, max_message_bytes: 10, ..GuestLimits::default() };
        assert_eq!(messages(&[message(), message()], &limits), Ok(()));
        let cases: &[Case<WrittenMessage>] = &[
            ("no topic name", |m| m.topic.clear()),
            ("no topic name", |m| m.topic = "..".to_owned()),
            ("no topic name", |m| m.topic = "a b".to_owned()),
            ("no topic name", |m| m.topic = "a".repeat(250)),
            ("11 bytes of payload", |m| m.payload = vec![0; 11]),
            ("key of 5000", |m| m.key = vec![0; 5000]),
            ("65 headers", |m| m.headers = vec![("a".to_owned(), String::new()); 65]),
            ("control characters", |m| m.headers[0].1 = "a\r\nb".to_owned()),
            ("without a name", |m| m.headers[0].0.clear()),
            ("content type", |m| m.content_type = "a\n".to_owned()),
        ];
        for (text, change) in cases {
            let mut bad = message();
            change(&mut bad);
            let error = messages(&[bad], &limits).unwrap_err();
            assert!(error.contains(text), "`{text}` in `{error}`");
        }
        assert!(messages(&vec![message(); 3], &limits).unwrap_err().contains("3 messages"));
    }

    #[test]
    fn state_needs_a_schema_and_is_bounded() {
        let limits = GuestLimits { max_state_bytes: 4, ..GuestLimits::default() };
        let state = |schema: &str, n: usize| Snapshot { schema: schema.to_owned(), data: vec![0; n] };
        assert_eq!(snapshot(&state("x/1", 4), &limits), Ok(()));
        assert!(snapshot(&state("x/1", 5), &limits).is_err());
        assert!(snapshot(&state("", 1), &limits).is_err());
        assert!(snapshot(&state("a\n", 1), &limits).is_err());
    }
}
