//! Formatter guest: one JSON message an analysed frame with boxes and ids, for teams that count, measure or draw.
//!
//! Owns the message's shape, which frames and tracks go into it, and splitting a crowd over several messages when one
//! would be too large.

use facestream_guest::prelude::*;
use facestream_messages::{rfc3339_millis, topic_problem};
use serde::{Deserialize, Serialize};

/// Settings.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FrameTracksConfig {
    /// Topic.
    pub topic: String,
    /// Write every nth analysed frame.
    pub every_nth: u64,
    /// Write tracks that are not confirmed yet.
    pub include_tentative: bool,
    /// Write tracks that are not seen now, with their predicted boxes.
    pub include_lost: bool,
    /// Write frames without a track, too.
    pub include_empty: bool,
}

impl Default for FrameTracksConfig {
    fn default() -> Self {
        Self {
            topic: "frame-tracks".to_owned(),
            every_nth: 1,
            include_tentative: false,
            include_lost: false,
            include_empty: true,
        }
    }
}

impl Settings for FrameTracksConfig {
    fn validate(&self) -> Vec<String> {
        let mut out = Vec::new();
        if self.every_nth == 0 {
            out.push("every_nth must be above 0".to_owned());
        }
        out.extend(topic_problem("topic", &self.topic));
        out
    }
}

#[derive(Serialize)]
struct Body<'a> {
    camera_id: &'a str,
    session: u64,
    sequence: u64,
    captured_at: &'a str,
    timestamp_ns: u64,
    width: u32,
    height: u32,
    /// Which part of the frame's tracks this is, when they do not fit into one message.
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<Part>,
    tracks: Vec<TrackBody>,
}

#[derive(Clone, Copy, Serialize)]
struct Part {
    index: usize,
    count: usize,
}

#[derive(Serialize)]
struct TrackBody {
    id: u64,
    phase: &'static str,
    #[serde(rename = "box")]
    bbox: [f32; 4],
    velocity: [f32; 2],
    confidence: f32,
    class_id: u32,
    first_seen_ns: u64,
    last_seen_ns: u64,
}

impl From<&Track> for TrackBody {
    fn from(t: &Track) -> Self {
        Self {
            id: t.id,
            phase: match t.phase {
                TrackPhase::Tentative => "tentative",
                TrackPhase::Confirmed => "confirmed",
                TrackPhase::Lost => "lost",
            },
            bbox: t.bbox.corners(),
            velocity: [t.velocity.x, t.velocity.y],
            confidence: t.confidence,
            class_id: t.class_id,
            first_seen_ns: t.first_seen,
            last_seen_ns: t.last_seen,
        }
    }
}

/// The formatter of one camera.
#[derive(Debug)]
pub struct FrameTracks {
    config: FrameTracksConfig,
    camera: Camera,
    /// Analysed frames so far.
    frames: u64,
}

impl FrameTracks {
    fn wanted(&self, track: &Track) -> bool {
        match track.phase {
            TrackPhase::Confirmed => true,
            TrackPhase::Tentative => self.config.include_tentative,
            TrackPhase::Lost => self.config.include_lost,
        }
    }

    /// The frame in so many messages; `None` when one of them would still be too large.
    fn split(&self, frame: &FrameInfo, tracks: &[&Track], parts: usize) -> Result<Option<Vec<Message>>, GuestError> {
        let captured_at = rfc3339_millis(frame.captured_at)?;
        let mut out = Vec::with_capacity(parts);
        for index in 0..parts {
            let (from, to) = (tracks.len() * index / parts, tracks.len() * (index + 1) / parts);
            let body = Body {
                camera_id: &self.camera.id,
                session: frame.session,
                sequence: frame.sequence,
                captured_at: &captured_at,
                timestamp_ns: frame.timestamp,
                width: frame.width,
                height: frame.height,
                part: (parts > 1).then_some(Part { index, count: parts }),
                tracks: tracks[from..to].iter().map(|t| TrackBody::from(*t)).collect(),
            };
            let payload = serde_json::to_vec(&body)
                .map_err(|e| GuestError::failed(format!("the message cannot be written: {e}")))?;
            if payload.len() > self.camera.max_message_bytes as usize {
                return Ok(None);
            }
            out.push(Message::json(&self.config.topic, &self.camera.id, payload));
        }
        Ok(Some(out))
    }
}

impl Formatter for FrameTracks {
    type Config = FrameTracksConfig;
    type State = u64;
    const SCHEMA: &'static str = "facestream.frame-tracks/1";

    fn new(config: FrameTracksConfig, camera: &Camera) -> Result<Self, GuestError> {
        Ok(Self { config, camera: camera.clone(), frames: 0 })
    }

    fn interest(&self) -> Interest {
        Interest::FRAMES
    }

    fn format(&mut self, event: Event) -> Result<Vec<Message>, GuestError> {
        let Event::Frame(frame, tracks) = event else { return Ok(Vec::new()) };
        let due = self.frames.is_multiple_of(self.config.every_nth);
        self.frames = self.frames.wrapping_add(1);
        let tracks: Vec<&Track> = tracks.iter().filter(|t| self.wanted(t)).collect();
        if !due || (tracks.is_empty() && !self.config.include_empty) {
            return Ok(Vec::new());
        }
        let mut parts = 1;
        loop {
            if let Some(messages) = self.split(&frame, &tracks, parts)? {
                return Ok(messages);
            }
            if parts >= tracks.len() {
                let max = self.camera.max_message_bytes;
                return Err(GuestError::failed(format!("one track alone is larger than max_message_bytes ({max})")));
            }
            parts = (parts * 2).min(tracks.len());
        }
    }

    fn save(&self) -> u64 {
        self.frames
    }

    fn restore(&mut self, frames: u64) -> Result<(), GuestError> {
        self.frames = frames;
        Ok(())
    }
}

facestream_guest::export_formatter!(FrameTracks);

#[cfg(test)]
mod tests;
