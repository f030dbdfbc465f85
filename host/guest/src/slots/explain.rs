//! The chain that made a message, from the calls that are still kept: frame, detections, track, pictures that lost.
//!
//! Owns the search. Says what is no longer kept instead of guessing; without recorders (`guests.recorder.seconds` = 0)
//! nothing can be explained. Also the two headers that name a message's makers.

use std::collections::HashMap;
use std::sync::Arc;

use facestream_core::guest::SlotKind;
use facestream_core::{Detection, FrameInfo, Quality, Rect, TrackPhase};
use serde::Serialize;
use serde_json::Value;

use super::CameraGuests;
use crate::component::GuestComponent;
use crate::digest::Digest;
use crate::record::{
    Answer, Bundle, Call, CropOrigin, HostAnswer, HostRequest, MessageRecord, Reason, RecordedCall, Recording,
    ReplayError, ShotKey, ShotRecord, held_scores,
};

/// A message's identity, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MessageRef {
    /// Whose.
    pub camera: String,
    /// Session of its frame.
    pub session: u64,
    /// Sequence of its frame.
    pub sequence: u64,
    /// Its track, when it is about one.
    pub track: Option<u64>,
    /// Why it was written: a shot's reason, `ending`, `frame` or `flush`.
    pub reason: String,
    /// Which of the messages of one event.
    pub n: u64,
}

/// Why there is no explanation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// The id is none.
    #[error("`{0}` is no message id; one is camera/session/sequence/track/reason/n")]
    NoId(String),
    /// What made it is no longer known.
    #[error("{0}")]
    NotKept(String),
}

impl std::str::FromStr for MessageRef {
    type Err = ExplainError;

    fn from_str(text: &str) -> Result<Self, ExplainError> {
        let parse = || {
            let mut parts = text.split('/');
            let camera = parts.next().filter(|c| !c.is_empty())?.to_owned();
            let (session, sequence) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let track = match parts.next()? {
                "-" => None,
                track => Some(track.parse().ok()?),
            };
            let reason = parts.next().filter(|r| !r.is_empty())?.to_owned();
            let n = parts.next()?.parse().ok()?;
            parts.next().is_none().then_some(Self { camera, session, sequence, track, reason, n })
        };
        parse().ok_or_else(|| ExplainError::NoId(crate::error::one_line(text, 256)))
    }
}

/// A track in one frame.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields of a frame and a track")]
pub struct TrackPoint {
    pub session: u64,
    pub sequence: u64,
    pub timestamp_ns: u64,
    pub phase: TrackPhase,
    pub bbox: Rect,
    pub confidence: f32,
    pub detection: Option<u32>,
}

/// A picture of a track that the scorer looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Considered {
    /// Session of its frame.
    pub session: u64,
    /// Sequence of its frame.
    pub sequence: u64,
    /// Capture time, nanoseconds since the Unix epoch.
    pub captured_at_ns: u64,
    /// The detection.
    pub bbox: Rect,
    /// Of the detection.
    pub confidence: f32,
    /// What the host measured for the scorer.
    pub quality: Option<Quality>,
    /// The scorer's verdict, where it told one: of pictures that it held after a frame, or gave up.
    pub score: Option<f32>,
    /// It was cropped: the best at that moment.
    pub cropped: bool,
}

/// A guest that had a part in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GuestView {
    /// Which slot.
    pub slot: SlotKind,
    /// The reference it was asked for by.
    pub guest: String,
    /// `sha256:<hex>` of the component.
    pub digest: String,
    /// Settings in force.
    pub config: Value,
}

/// The message itself, as it was written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Written {
    /// Where to.
    pub topic: String,
    /// Bytes of the body.
    pub payload_bytes: u64,
    /// Of the body.
    pub payload_digest: String,
    /// MIME type of the body.
    pub content_type: String,
    /// Frame clock when it was written, nanoseconds.
    pub written_at_ns: u64,
}

/// The chain that made a message.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// Its identity.
    pub message: MessageRef,
    /// What was written.
    pub written: Written,
    /// The frame that it is about.
    pub frame: Option<FrameInfo>,
    /// What the model found in that frame.
    pub detections: Vec<Detection>,
    /// Its track, frame by frame, as far as calls are kept.
    pub track: Vec<TrackPoint>,
    /// The picture that was chosen, as the scorer saw it.
    pub chosen: Option<Considered>,
    /// Pictures of the track that the scorer looked at between the shot before and this one, and did not choose.
    pub lost: Vec<Considered>,
    /// Frames in which the track was seen and the scorer asked for nothing.
    pub not_considered: u64,
    /// The guests that run, in order; those that made the message, since their calls are the ones that are kept.
    pub guests: Vec<GuestView>,
    /// Of all their settings.
    pub config_digest: String,
    /// What can no longer be told, in words.
    pub missing: Vec<String>,
}

/// What a message's headers say of its makers; made anew when a guest or its settings change.
#[derive(Clone, Debug, Default)]
pub(super) struct Provenance {
    of: Vec<(Digest, Value)>,
    guests: String,
    config: String,
}

/// Digest of all settings, in the order of the slots.
fn config_digest(configs: &[&Value]) -> String {
    let text: String = configs.iter().map(|config| format!("{config}\n")).collect();
    Digest::of(text.as_bytes()).hex()[..16].to_owned()
}

impl CameraGuests {
    /// Headers that name the guests (first 12 digits of each digest) and their settings.
    pub(super) fn provenance(&mut self) -> [(String, String); 2] {
        let fillings = [&self.tracker.filling, &self.scorer.filling, &self.formatter.filling];
        let current = fillings.iter().map(|f| (*f.component.digest(), &f.config));
        if !current.clone().eq(self.provenance.of.iter().map(|(digest, config)| (*digest, config))) {
            let digests: Vec<String> = fillings.iter().map(|f| f.component.digest().hex()[..12].to_owned()).collect();
            self.provenance = Provenance {
                of: current.map(|(digest, config)| (digest, config.clone())).collect(),
                guests: digests.join(","),
                config: config_digest(&fillings.map(|f| &f.config)),
            };
        }
        [
            ("guest-digests".to_owned(), self.provenance.guests.clone()),
            ("config-digest".to_owned(), self.provenance.config.clone()),
        ]
    }

    /// What is kept of the guests that run, for an explanation. Cheap: the calls are shared, not copied.
    pub fn explain_input(&mut self) -> ExplainInput {
        let [tracker, scorer, formatter] = SlotKind::ALL.map(|slot| self.recording(slot, None, Reason::Demand));
        ExplainInput { tracker, scorer, formatter }
    }
}

/// What is kept of a camera's guests at a moment.
#[derive(Clone, Debug)]
pub struct ExplainInput {
    tracker: Option<Recording>,
    scorer: Option<Recording>,
    formatter: Option<Recording>,
}

impl ExplainInput {
    /// Digest of the scorer's component, when calls of one are kept.
    #[must_use]
    pub fn scorer(&self) -> Option<&str> {
        self.scorer.as_ref().map(|recording| recording.manifest.digest.as_str())
    }

    /// Tells the chain that made a message. With the scorer's component its kept seconds are run once more, for the scores
    /// of pictures that a better one replaced: as long as their calls take, so call it off the camera's worker. Without it
    /// `component` says why.
    ///
    /// # Errors
    /// `NotKept` when the formatter's call is not among them any more, or never was.
    pub fn explain(
        &self,
        message: &MessageRef,
        component: Result<&Arc<GuestComponent>, &str>,
    ) -> Result<Explanation, ExplainError> {
        let Self { tracker, scorer, formatter } = self;
        let formatter = formatter.as_ref().ok_or_else(|| {
            ExplainError::NotKept(
                "no calls of the formatter are kept: it does not run, or guests.recorder.seconds is 0".to_owned(),
            )
        })?;
        let (at, event, written) = find(formatter, message)?;
        let scorer_calls = scorer.as_ref().map_or(&[][..], |r| &r.calls);
        let tracker_calls = tracker.as_ref().map_or(&[][..], |r| &r.calls);
        let mut missing = Vec::new();

        let is_frame = |call: &&Arc<RecordedCall>| {
            call.call.frame().is_some_and(|f| (f.session, f.sequence) == (message.session, message.sequence))
        };
        let seen = scorer_calls.iter().find(is_frame).or_else(|| tracker_calls.iter().find(is_frame));
        let (frame, detections) = match seen.map(|call| &call.call) {
            Some(Call::Observe { frame, detections, .. } | Call::Advance { frame, detections, .. }) => {
                (Some(*frame), detections.clone())
            }
            _ => {
                let (session, sequence) = (message.session, message.sequence);
                missing.push(format!("frame {session}/{sequence} is no longer among the calls that are kept"));
                (None, Vec::new())
            }
        };
        let mut contest = Contest::default();
        if let Some(track) = message.track {
            let shot = match event {
                Call::Shot(shot) => Some(shot),
                _ => None,
            };
            let (held, why_not) = match (scorer, component, shot) {
                (Some(scorer), Ok(component), Some(_)) => {
                    let bundle = Bundle::from_recording(scorer).map_err(ReplayError::from);
                    match bundle.and_then(|bundle| held_scores(&bundle, component)) {
                        Ok((held, why_not)) => (held, why_not.map(str::to_owned)),
                        Err(error) => (HashMap::new(), Some(error.to_string())),
                    }
                }
                (Some(_), Err(why_not), Some(_)) => (HashMap::new(), Some(why_not.to_owned())),
                _ => (HashMap::new(), None),
            };
            missing.extend(why_not.map(|why| format!("scores of pictures that a better one replaced: {why}")));
            contest = Contest::of(scorer_calls, track, shot, at, &held);
            if contest.track.is_empty() {
                missing.push(format!("no call with track {track} is kept"));
            } else if shot.is_some() && contest.chosen.is_none() {
                missing.push("the call in which the scorer looked at the chosen picture is no longer kept".to_owned());
            }
        }
        let recordings = [tracker.as_ref(), scorer.as_ref(), Some(formatter)];
        let guests: Vec<GuestView> = recordings.into_iter().flatten().map(view).collect();
        if guests.len() < 3 {
            missing.push("a slot is empty at present, so that not all guests can be named".to_owned());
        }
        let configs: Vec<&Value> = guests.iter().map(|g| &g.config).collect();
        Ok(Explanation {
            message: message.clone(),
            written,
            frame,
            detections,
            track: contest.track,
            chosen: contest.chosen,
            lost: contest.lost,
            not_considered: contest.not_considered,
            config_digest: config_digest(&configs),
            guests,
            missing,
        })
    }
}

/// The guest of a recording with the settings that were in force at its end.
fn view(recording: &Recording) -> GuestView {
    let manifest = &recording.manifest;
    let config = recording.calls.iter().rev().find_map(|call| match (&call.call, &call.answer) {
        (Call::Configure { .. }, Answer::Failed { .. }) => None,
        (Call::Configure { config }, _) => serde_json::from_str(config).ok(),
        _ => None,
    });
    GuestView {
        slot: manifest.slot,
        guest: manifest.guest.clone(),
        digest: manifest.digest.clone(),
        config: config.unwrap_or_else(|| manifest.config.clone()),
    }
}

/// The formatter's call that wrote the message: its frame clock, its event, the message.
fn find<'a>(formatter: &'a Recording, wanted: &MessageRef) -> Result<(u64, &'a Call, Written), ExplainError> {
    let is_event = |call: &Call| match call {
        Call::Shot(s) => {
            (Some(s.track_id), s.session, s.sequence) == (wanted.track, wanted.session, wanted.sequence)
                && s.reason.as_str() == wanted.reason
        }
        Call::Ending(t) => wanted.reason == "ending" && Some(t.id) == wanted.track,
        Call::Frame { frame, .. } => {
            wanted.reason == "frame" && (frame.session, frame.sequence) == (wanted.session, wanted.sequence)
        }
        Call::Flush => wanted.reason == "flush",
        _ => false,
    };
    let found = formatter.calls.iter().rev().find_map(|call| {
        if !is_event(&call.call) {
            return None;
        }
        let Answer::Messages(messages) = &call.answer else { return None };
        // Flushed messages are numbered on over several flushes: the latest ones have the highest numbers.
        let n = if wanted.reason == "flush" { wanted.n % messages.len().max(1) as u64 } else { wanted.n };
        Some((call, messages.get(usize::try_from(n).ok()?)?))
    });
    let Some((call, message)) = found else {
        let since = formatter.manifest.first.map_or_else(
            || "the calls that are kept hold no frame".to_owned(),
            |f| format!("calls are kept from frame {}/{} on", f.session, f.sequence),
        );
        let text = format!(
            "no kept call of the formatter `{}` wrote this message: it is too old, was never written, or an earlier guest wrote it ({since}; guests.recorder.seconds says how long)",
            formatter.manifest.guest
        );
        return Err(ExplainError::NotKept(text));
    };
    let MessageRecord { topic, payload, content_type, .. } = message;
    let written = Written {
        topic: topic.clone(),
        payload_bytes: payload.len(),
        payload_digest: payload.digest().to_string(),
        content_type: content_type.clone(),
        written_at_ns: call.time_ns,
    };
    Ok((call.time_ns, &call.call, written))
}

/// A track's pictures and which of them was chosen.
#[derive(Default)]
struct Contest {
    track: Vec<TrackPoint>,
    chosen: Option<Considered>,
    lost: Vec<Considered>,
    not_considered: u64,
}

impl Contest {
    /// `until_ns`: when the message was written; what came later had no part in it.
    fn of(
        calls: &[Arc<RecordedCall>],
        track: u64,
        shot: Option<&ShotRecord>,
        until_ns: u64,
        held: &HashMap<ShotKey, f32>,
    ) -> Self {
        let mut contest = Self::default();
        let mut scores: HashMap<(u64, u64), f32> = HashMap::new();
        let mut looked_at = Vec::new();
        for call in calls.iter().take_while(|call| call.time_ns <= until_ns) {
            if let Call::Observe { frame, detections, tracks, .. } = &call.call
                && let Some(t) = tracks.iter().find(|t| t.id == track)
            {
                contest.track.push(TrackPoint {
                    session: frame.session,
                    sequence: frame.sequence,
                    timestamp_ns: frame.timestamp_ns,
                    phase: t.phase,
                    bbox: t.bbox,
                    confidence: t.confidence,
                    detection: t.detection,
                });
                if let Some(d) = t.detection.and_then(|i| detections.get(i as usize)) {
                    match consider(call, frame, d) {
                        Some(considered) => looked_at.push(considered),
                        None => contest.not_considered += 1,
                    }
                }
            }
            let told = match &call.answer {
                Answer::Shots(shots) | Answer::State { shots, .. } => shots.as_slice(),
                _ => &[],
            };
            for s in told.iter().filter(|s| s.track_id == track) {
                scores.insert((s.session, s.sequence), s.score);
            }
            let gave_up = matches!(call.answer, Answer::Shots(_)) && told.iter().any(|s| s.track_id == track);
            let this = shot.is_some_and(|shot| {
                told.iter().any(|s| {
                    s.track_id == track
                        && (s.session, s.sequence, s.reason) == (shot.session, shot.sequence, shot.reason)
                })
            });
            if gave_up && this {
                break;
            }
            if gave_up {
                // An earlier shot of the track: what lost against that one is another story.
                looked_at.clear();
                contest.not_considered = 0;
            }
        }
        for mut considered in looked_at {
            let (session, sequence) = (considered.session, considered.sequence);
            considered.score =
                scores.get(&(session, sequence)).or_else(|| held.get(&(track, session, sequence))).copied();
            let is_it = shot.is_some_and(|s| (s.session, s.sequence) == (considered.session, considered.sequence));
            if is_it { contest.chosen = Some(considered) } else { contest.lost.push(considered) }
        }
        contest
    }
}

/// What the scorer asked about a detection; `None` when it asked nothing.
fn consider(call: &RecordedCall, frame: &FrameInfo, detection: &Detection) -> Option<Considered> {
    let of_it = |area: &Rect| *area == detection.bbox;
    let (mut quality, mut cropped, mut asked) = (None, false, false);
    for host in &call.host {
        match (&host.request, &host.answer) {
            (HostRequest::Measure { area }, HostAnswer::Quality(q)) if of_it(area) => {
                quality = Some(*q);
                asked = true;
            }
            (HostRequest::CropMeasure { of: CropOrigin::Frame { area, .. } }, HostAnswer::Quality(q))
                if of_it(area) =>
            {
                quality = Some(*q);
                asked = true;
            }
            (HostRequest::Crop { area, .. }, answer) if of_it(area) => {
                cropped = matches!(answer, HostAnswer::Crop(_));
                asked = true;
            }
            _ => {}
        }
    }
    asked.then_some(Considered {
        session: frame.session,
        sequence: frame.sequence,
        captured_at_ns: frame.captured_at_ns,
        bbox: detection.bbox,
        confidence: detection.confidence,
        quality,
        score: None,
        cropped,
    })
}
