//! What must hold in every scene, whatever a guest decides: watched beside all plays, told in a case of its own each.
//!
//! Owns the rules over time; what one answer must be by itself the host checks when it takes it.

use std::collections::{BTreeMap, BTreeSet};

use facestream_core::{FrameInfo, TrackUpdate};

use crate::guest::Answer;
use crate::scene::Scene;
use crate::script::{Call, Step};

/// A rule that was broken: the name of its case, and what was seen.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) rule: &'static str,
    pub(crate) seen: String,
    pub(crate) frame: usize,
}

/// Watches the answers of one play.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) broken: Vec<Broken>,
    live: BTreeSet<u64>,
    ended: BTreeSet<u64>,
    /// Scorers: tracks that were ever told, and frames by session and sequence.
    known: BTreeSet<u64>,
    frames: BTreeMap<(u64, u64), u64>,
    given: BTreeSet<(u64, u64, u64)>,
    key: Option<Vec<u8>>,
}

impl Watch {
    /// Looks at one answer.
    pub(crate) fn see(&mut self, scene: &Scene, step: &Step, answer: &Answer) {
        if let Call::Observe { frame, tracks, ended } = &step.call {
            self.known.extend(tracks.iter().map(|t| t.id).chain(ended.iter().copied()));
            if let Some(FrameInfo { session, sequence, captured_at_ns, .. }) = scene.frames.get(*frame).map(|f| f.info)
            {
                self.frames.insert((session, sequence), captured_at_ns);
            }
        }
        match answer {
            Answer::Tracks(update) => self.tracks(step.frame, update),
            Answer::Shots(shots) => {
                for s in shots {
                    let id = s.track_id;
                    if !self.known.contains(&id) {
                        self.break_at(
                            "shots-of-known-tracks",
                            step.frame,
                            format!("a shot of track {id}, which the guest was never told of"),
                        );
                    }
                    match self.frames.get(&(s.session, s.sequence)) {
                        None => {
                            let seen = format!(
                                "the shot of track {id} says it is of frame {} of session {}, which the guest never saw",
                                s.sequence, s.session
                            );
                            self.break_at("shots-of-seen-frames", step.frame, seen);
                        }
                        Some(captured) if *captured != s.captured_at_ns => {
                            let seen = format!(
                                "the shot of track {id} was captured at {} ns, its frame at {captured} ns",
                                s.captured_at_ns
                            );
                            self.break_at("shots-of-seen-frames", step.frame, seen);
                        }
                        Some(_) => {}
                    }
                    if !self.given.insert((id, s.session, s.sequence)) {
                        let seen =
                            format!("the picture of track {id} from frame {} was given up a second time", s.sequence);
                        self.break_at("no-shot-twice", step.frame, seen);
                    }
                }
            }
            Answer::Messages(messages) => {
                for m in messages {
                    let json = m.content_type.split(';').next().unwrap_or_default().trim();
                    let is_json = json.eq_ignore_ascii_case("application/json") || json.ends_with("+json");
                    if is_json && let Err(e) = serde_json::from_slice::<serde::de::IgnoredAny>(&m.payload) {
                        let start = String::from_utf8_lossy(&m.payload[..m.payload.len().min(60)]).into_owned();
                        let seen = format!(
                            "a message to `{}` says {} but its payload is none ({e}): {start:?}",
                            m.topic, m.content_type
                        );
                        self.break_at("payload-is-what-it-says", step.frame, seen);
                    }
                    if json.starts_with("text/") && std::str::from_utf8(&m.payload).is_err() {
                        let seen =
                            format!("a message to `{}` says {} but its payload is not UTF-8", m.topic, m.content_type);
                        self.break_at("payload-is-what-it-says", step.frame, seen);
                    }
                    let key = self.key.get_or_insert_with(|| m.key.clone());
                    if *key != m.key {
                        let (was, is) =
                            (String::from_utf8_lossy(key).into_owned(), String::from_utf8_lossy(&m.key).into_owned());
                        self.break_at(
                            "one-key",
                            step.frame,
                            format!("a message with key {is:?} after one with {was:?}"),
                        );
                    }
                }
            }
            Answer::NotAsked => {}
        }
    }

    fn tracks(&mut self, frame: usize, update: &TrackUpdate) {
        let now: BTreeSet<u64> = update.tracks.iter().map(|t| t.id).collect();
        for id in &update.ended {
            if self.live.contains(id) {
                continue;
            }
            if self.ended.contains(id) {
                self.break_at("one-end-per-track", frame, format!("track {id} ended a second time"));
            } else {
                self.break_at("ends-of-live-tracks", frame, format!("track {id} ended without having been live"));
            }
        }
        for id in now.iter().filter(|id| self.ended.contains(id)).copied().collect::<Vec<_>>() {
            self.break_at("no-id-reuse", frame, format!("track id {id} is used again after its end"));
            // From here on it counts as a new track: each fault is told once.
            self.ended.remove(&id);
        }
        let told: BTreeSet<u64> = update.ended.iter().copied().collect();
        for id in self.live.iter().filter(|id| !now.contains(id) && !told.contains(id)).copied().collect::<Vec<_>>() {
            self.break_at("ends-are-told", frame, format!("track {id} is gone, but its end was not told"));
        }
        self.ended.extend(told);
        self.live = now;
    }

    fn break_at(&mut self, rule: &'static str, frame: usize, seen: String) {
        // The first of a kind says enough; a guest that breaks one in every frame must not fill the memory.
        if !self.broken.iter().any(|b| b.rule == rule) {
            self.broken.push(Broken { rule, seen, frame });
        }
    }
}
