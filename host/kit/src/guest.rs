//! A guest of any world behind one set of calls, and its answers as text that two runs can be compared by.
//!
//! Owns no rule: what an answer must be is in `rules` and the cases.

use std::fmt::Write as _;

use facestream_core::guest::SlotKind;
use facestream_core::{Picture, Rect, Shot, Track, TrackPhase, TrackUpdate};
use facestream_guest_host::{
    Digest, FormatEvent, FormatterGuest, GuestComponent, GuestEnv, GuestFailure, Interest, ScorerGuest, Snapshot,
    TrackerGuest, Usage, WrittenMessage,
};
use serde_json::{Value, json};

use crate::picture::Studio;
use crate::scene::Scene;
use crate::script::{Call, Event, Step};

/// Strings longer than this are shown by length and digest: pictures in messages would hide the rest.
const LONG: usize = 200;

/// One instance.
#[derive(Debug)]
pub(crate) enum Instance {
    Tracker(TrackerGuest, Vec<Track>),
    Scorer(ScorerGuest),
    Formatter(FormatterGuest),
}

/// What it answered to one call.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Tracks(TrackUpdate),
    Shots(Vec<Shot>),
    Messages(Vec<WrittenMessage>),
    /// A formatter that has no interest in this event was not called.
    NotAsked,
}

/// State on its way from one instance to the next.
#[derive(Clone, Debug)]
pub(crate) struct Saved {
    pub(crate) snapshot: Snapshot,
    /// Live tracks in neutral form (trackers).
    pub(crate) tracks: Vec<Track>,
    /// Held shots in neutral form (scorers).
    pub(crate) shots: Vec<Shot>,
}

impl Instance {
    pub(crate) fn start(component: &GuestComponent, env: &GuestEnv, seed: u64) -> Result<Self, GuestFailure> {
        let mut made = match component.kind() {
            SlotKind::Tracker => Self::Tracker(TrackerGuest::instantiate(component, env)?, Vec::new()),
            SlotKind::Scorer => Self::Scorer(ScorerGuest::instantiate(component, env)?),
            SlotKind::Formatter => Self::Formatter(FormatterGuest::instantiate(component, env)?),
        };
        match &mut made {
            Self::Tracker(guest, _) => guest.reseed(seed),
            Self::Scorer(guest) => guest.reseed(seed),
            Self::Formatter(guest) => guest.reseed(seed),
        }
        Ok(made)
    }

    pub(crate) fn configure(&mut self, config: &Value) -> Result<(), GuestFailure> {
        match self {
            Self::Tracker(guest, _) => guest.configure(config),
            Self::Scorer(guest) => guest.configure(config),
            Self::Formatter(guest) => guest.configure(config).map(drop),
        }
    }

    pub(crate) fn interest(&self) -> Option<Interest> {
        if let Self::Formatter(guest) = self { Some(guest.interest()) } else { None }
    }

    pub(crate) fn usage(&self) -> Usage {
        match self {
            Self::Tracker(guest, _) => guest.usage(),
            Self::Scorer(guest) => guest.usage(),
            Self::Formatter(guest) => guest.usage(),
        }
    }

    pub(crate) fn leave_fuel(&mut self, fuel: u64) -> bool {
        match self {
            Self::Tracker(guest, _) => guest.leave_fuel(fuel),
            Self::Scorer(guest) => guest.leave_fuel(fuel),
            Self::Formatter(guest) => guest.leave_fuel(fuel),
        }
    }

    /// One call of a script.
    pub(crate) fn call(&mut self, scene: &Scene, studio: &Studio, step: &Step) -> Result<Answer, GuestFailure> {
        match (self, &step.call) {
            (Self::Tracker(guest, live), Call::Advance(n)) => {
                let frame = &scene.frames[*n];
                let update = guest.advance(&frame.info, &frame.detections(), frame.motion)?;
                *live = update.tracks.iter().map(|t| Track { detection: None, ..*t }).collect();
                Ok(Answer::Tracks(update))
            }
            (Self::Scorer(guest), Call::Observe { frame, tracks, ended }) => {
                let now = &scene.frames[*frame];
                // Frames have sizes above zero, so that drawing them cannot fail.
                let picture = studio.picture(scene, *frame).map_err(|e| GuestFailure::Instantiate(e.to_string()))?;
                let lent = facestream_core::Frame { info: now.info, picture };
                guest.observe(&lent, &now.detections(), tracks, ended).map(Answer::Shots)
            }
            (Self::Scorer(guest), Call::Tick(timestamp)) => guest.tick(*timestamp).map(Answer::Shots),
            (Self::Scorer(guest), Call::Flush) => guest.flush().map(Answer::Shots),
            (Self::Formatter(guest), Call::Event(event)) => {
                let interest = guest.interest();
                let (wanted, event) = match event {
                    Event::Shot(shot) => (interest.shots, FormatEvent::Shot(shot)),
                    Event::Ending(track) => (interest.endings, FormatEvent::Ending(track)),
                    Event::Frame(info, tracks) => (interest.frames, FormatEvent::Frame(info, tracks)),
                };
                if wanted { guest.format(event).map(Answer::Messages) } else { Ok(Answer::NotAsked) }
            }
            (Self::Formatter(guest), Call::Flush) => guest.flush().map(Answer::Messages),
            // Scripts are made for the world of the guest.
            (_, _) => Ok(Answer::NotAsked),
        }
    }

    pub(crate) fn save(&mut self) -> Result<Saved, GuestFailure> {
        match self {
            Self::Tracker(guest, live) => {
                Ok(Saved { snapshot: guest.save()?, tracks: live.clone(), shots: Vec::new() })
            }
            Self::Scorer(guest) => {
                let (snapshot, shots) = guest.save()?;
                Ok(Saved { snapshot, tracks: Vec::new(), shots })
            }
            Self::Formatter(guest) => Ok(Saved { snapshot: guest.save()?, tracks: Vec::new(), shots: Vec::new() }),
        }
    }

    pub(crate) fn restore(&mut self, saved: &Saved) -> Result<(), GuestFailure> {
        match self {
            Self::Tracker(guest, live) => {
                live.clone_from(&saved.tracks);
                guest.restore(&saved.snapshot, &saved.tracks)
            }
            Self::Scorer(guest) => guest.restore(&saved.snapshot, &saved.shots),
            Self::Formatter(guest) => guest.restore(&saved.snapshot),
        }
    }
}

impl Answer {
    /// As one line of JSON; equal lines mean equal answers.
    pub(crate) fn line(&self, frame: usize) -> Option<String> {
        let value = match self {
            Self::Tracks(update) => {
                let tracks: Vec<Value> = update.tracks.iter().map(track).collect();
                json!({ "frame": frame, "tracks": tracks, "ended": update.ended })
            }
            Self::Shots(shots) => {
                json!({ "frame": frame, "shots": shots.iter().map(shot).collect::<Vec<_>>() })
            }
            Self::Messages(messages) => {
                json!({ "frame": frame, "messages": messages.iter().map(message).collect::<Vec<_>>() })
            }
            Self::NotAsked => return None,
        };
        Some(value.to_string())
    }
}

fn rect(r: &Rect) -> [f32; 4] {
    [r.x, r.y, r.width, r.height]
}

fn track(t: &Track) -> Value {
    let phase = match t.phase {
        TrackPhase::Tentative => "tentative",
        TrackPhase::Confirmed => "confirmed",
        TrackPhase::Lost => "lost",
    };
    json!({
        "id": t.id, "phase": phase, "box": rect(&t.bbox), "velocity": [t.velocity.x, t.velocity.y],
        "confidence": t.confidence, "class": t.class_id, "detection": t.detection,
        "first_seen": t.first_seen_ns, "last_seen": t.last_seen_ns,
    })
}

pub(crate) fn shot(s: &Shot) -> Value {
    json!({
        "track": s.track_id, "reason": s.reason.as_str(), "session": s.session, "sequence": s.sequence,
        "box": rect(&s.bbox), "confidence": s.confidence, "score": s.score,
        "sharpness": s.quality.sharpness, "brightness": s.quality.brightness,
        "landmarks": s.landmarks.is_some(), "picture": pixels(&*s.picture),
    })
}

fn pixels(picture: &dyn Picture) -> String {
    let digest = picture.planes().map(|planes| Digest::of(planes.y).hex());
    format!("{}x{} {}", picture.width(), picture.height(), digest.as_deref().map_or("-", |d| &d[..16]))
}

fn message(m: &WrittenMessage) -> Value {
    let payload = match serde_json::from_slice::<Value>(&m.payload) {
        Ok(mut value) => {
            shorten(&mut value);
            value
        }
        Err(_) => json!(bytes(&m.payload)),
    };
    json!({
        "topic": m.topic, "key": bytes(&m.key), "headers": m.headers, "content_type": m.content_type,
        "payload": payload,
    })
}

fn bytes(data: &[u8]) -> String {
    match std::str::from_utf8(data) {
        Ok(text) if text.len() <= LONG => text.to_owned(),
        _ if data.len() <= LONG => data.iter().fold("0x".to_owned(), |mut text, b| {
            // Writing to a String cannot fail.
            let _infallible = write!(text, "{b:02x}");
            text
        }),
        _ => digest(data),
    }
}

fn digest(data: &[u8]) -> String {
    format!("({} bytes, sha256 {}…)", data.len(), &Digest::of(data).hex()[..16])
}

fn shorten(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > LONG => *text = digest(text.as_bytes()),
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Object(fields) => fields.values_mut().for_each(shorten),
        _ => {}
    }
}
