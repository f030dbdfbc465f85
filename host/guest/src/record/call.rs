//! What is kept of a call: the guest's input, what the host answered to its own calls meanwhile, what it answered.
//!
//! Owns the words of a call log. Pictures are in it only where the recorder was told to keep them; else a picture is its
//! size, and bytes made from one are their length and digest. Must not read or write files: `bundle` does.

use std::sync::Arc;

use facestream_core::{
    Affine, Detection, FrameInfo, Landmarks, Picture, Quality, Rect, Shot, ShotReason, Track, TrackUpdate,
};
use serde::{Deserialize, Serialize};

use super::asked::HostCall;
use super::kept::Kept;
use crate::convert::Snapshot;
use crate::digest::Digest;
use crate::error::GuestFailure;
use crate::formatter::{FormatEvent, Interest, WrittenMessage};

/// One call of a guest, its input as the guest got it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Call {
    /// Settings: a JSON object.
    Configure {
        /// As text.
        config: String,
    },
    /// A tracker's frame.
    Advance {
        /// Which frame.
        frame: FrameInfo,
        /// What the model found.
        detections: Vec<Detection>,
        /// How the camera moved.
        motion: Option<Affine>,
    },
    /// A scorer's frame.
    Observe {
        /// Which frame.
        frame: FrameInfo,
        /// What the model found.
        detections: Vec<Detection>,
        /// Live tracks, with the camera's ids.
        tracks: Vec<Track>,
        /// Tracks that have ended.
        ended: Vec<u64>,
    },
    /// Time passed without a frame.
    Tick {
        /// Frame clock, nanoseconds.
        timestamp_ns: u64,
    },
    /// Give up what is held.
    Flush,
    /// A formatter's event: a picture was given up.
    Shot(ShotRecord),
    /// A formatter's event: a track has ended.
    Ending(Track),
    /// A formatter's event: one analysed frame.
    Frame {
        /// Which frame.
        frame: FrameInfo,
        /// Live tracks.
        tracks: Vec<Track>,
    },
    /// Asked for its state.
    Save,
    /// Given a state.
    Restore {
        /// Private state.
        state: StateRecord,
        /// A tracker's live tracks in neutral form.
        tracks: Vec<Track>,
        /// A scorer's held shots in neutral form.
        shots: Vec<ShotRecord>,
    },
}

impl Call {
    /// The function's name in the contract.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Configure { .. } => "configure",
            Self::Advance { .. } => "advance",
            Self::Observe { .. } => "observe",
            Self::Tick { .. } => "tick",
            Self::Flush => "flush",
            Self::Shot(_) | Self::Ending(_) | Self::Frame { .. } => "format",
            Self::Save => "save",
            Self::Restore { .. } => "restore",
        }
    }

    /// The analysed frame that it was called with, when it was called with one.
    #[must_use]
    pub fn frame(&self) -> Option<&FrameInfo> {
        match self {
            Self::Advance { frame, .. } | Self::Observe { frame, .. } | Self::Frame { frame, .. } => Some(frame),
            _ => None,
        }
    }

    pub(crate) fn event(event: &FormatEvent<'_>, pictures: bool) -> Self {
        match event {
            FormatEvent::Shot(shot) => Self::Shot(ShotRecord::of(shot, pictures)),
            FormatEvent::Ending(track) => Self::Ending(**track),
            FormatEvent::Frame(frame, tracks) => Self::Frame { frame: **frame, tracks: tracks.to_vec() },
        }
    }

    /// Bytes it keeps alive, nearly.
    pub(crate) fn bytes(&self) -> usize {
        let of = |tracks: &[Track]| size_of_val(tracks);
        match self {
            Self::Configure { config } => config.len(),
            Self::Advance { detections, .. } => size_of_val(detections.as_slice()),
            Self::Observe { detections, tracks, ended, .. } => {
                size_of_val(detections.as_slice()) + of(tracks) + size_of_val(ended.as_slice())
            }
            Self::Tick { .. } | Self::Flush | Self::Ending(_) | Self::Save => 0,
            Self::Shot(shot) => shot.picture.kept.bytes(),
            Self::Frame { tracks, .. } => of(tracks),
            Self::Restore { state, tracks, shots } => state.data.kept_len() + of(tracks) + shots_bytes(shots),
        }
    }
}

fn shots_bytes(shots: &[ShotRecord]) -> usize {
    size_of_val(shots) + shots.iter().map(|s| s.picture.kept.bytes()).sum::<usize>()
}

/// What a guest answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// Nothing but that it went well (`configure` of trackers and scorers, `restore`).
    Done,
    /// What a formatter wants to be called for.
    Wants {
        /// Shots.
        shots: bool,
        /// Endings of tracks.
        endings: bool,
        /// Frames.
        frames: bool,
    },
    /// A tracker's, with the guest's own ids.
    Tracks {
        /// Live ones.
        tracks: Vec<Track>,
        /// Ended ones.
        ended: Vec<u64>,
    },
    /// A scorer's.
    Shots(Vec<ShotRecord>),
    /// A formatter's.
    Messages(Vec<MessageRecord>),
    /// Its state.
    State {
        /// Private.
        state: StateRecord,
        /// Tracks of its latest answer: what a tracker of another kind goes on from.
        tracks: Vec<Track>,
        /// Held shots in neutral form.
        shots: Vec<ShotRecord>,
    },
    /// It failed; after all kinds but `refused` the instance is gone.
    Failed {
        /// `trap`, `deadline`, `memory`, `budget`, `invalid`, `refused` or `instantiate`.
        kind: String,
        /// In words, with the guest's backtrace for a trap.
        text: String,
    },
}

impl Answer {
    pub(crate) fn of<T>(answer: &Result<T, GuestFailure>, well: impl FnOnce(&T) -> Self) -> Self {
        match answer {
            Ok(value) => well(value),
            Err(failure) => Self::Failed { kind: failure.kind().to_owned(), text: failure.to_string() },
        }
    }

    pub(crate) fn wants(interest: Interest) -> Self {
        Self::Wants { shots: interest.shots, endings: interest.endings, frames: interest.frames }
    }

    pub(crate) fn tracks(update: &TrackUpdate) -> Self {
        Self::Tracks { tracks: update.tracks.clone(), ended: update.ended.clone() }
    }

    pub(crate) fn shots(shots: &[Shot], pictures: bool) -> Self {
        Self::Shots(shots.iter().map(|s| ShotRecord::of(s, pictures)).collect())
    }

    pub(crate) fn messages(messages: &[WrittenMessage], payloads: bool) -> Self {
        Self::Messages(messages.iter().map(|m| MessageRecord::of(m, payloads)).collect())
    }

    /// The kind of failure, when it is one.
    #[must_use]
    pub fn failure(&self) -> Option<(&str, &str)> {
        match self {
            Self::Failed { kind, text } => Some((kind, text)),
            _ => None,
        }
    }

    /// Bytes it keeps alive, nearly.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Done | Self::Wants { .. } => 0,
            Self::Tracks { tracks, ended } => size_of_val(tracks.as_slice()) + size_of_val(ended.as_slice()),
            Self::Shots(shots) => shots_bytes(shots),
            Self::Messages(messages) => messages.iter().map(|m| size_of::<MessageRecord>() + m.kept_len()).sum(),
            Self::State { state, tracks, shots } => {
                state.data.kept_len() + size_of_val(tracks.as_slice()) + shots_bytes(shots)
            }
            Self::Failed { text, .. } => text.len(),
        }
    }
}

/// A call with its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedCall {
    /// What the guest's monotonic clock showed: the frame clock, nanoseconds.
    pub time_ns: u64,
    /// What its wall clock showed, nanoseconds since the Unix epoch.
    pub wall_ns: u64,
    /// State of its random numbers before the call.
    pub random: u64,
    /// Nanoseconds on the wall in the call.
    pub nanoseconds: u64,
    /// The input.
    pub call: Call,
    /// What it asked the host meanwhile, in order.
    pub host: Vec<HostCall>,
    /// The answer.
    pub answer: Answer,
}

impl RecordedCall {
    /// Bytes it keeps alive, nearly: what the ring's bound counts.
    pub(crate) fn bytes(&self) -> usize {
        let host = |h: &HostCall| size_of::<HostCall>() + h.answer.kept_len();
        size_of::<Self>() + self.call.bytes() + self.answer.bytes() + self.host.iter().map(host).sum::<usize>()
    }
}

/// Bytes, or what is known of bytes that were left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Blob {
    /// The bytes.
    Kept(Vec<u8>),
    /// They may show a picture, and pictures were not to be kept.
    LeftOut {
        /// How many.
        len: u64,
        /// Of them.
        digest: Digest,
    },
}

impl Blob {
    pub(crate) fn of(bytes: &[u8], keep: bool) -> Self {
        if keep {
            Self::Kept(bytes.to_vec())
        } else {
            Self::LeftOut { len: bytes.len() as u64, digest: Digest::of(bytes) }
        }
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Kept(bytes) => bytes.len() as u64,
            Self::LeftOut { len, .. } => *len,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Of the bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        match self {
            Self::Kept(bytes) => Digest::of(bytes),
            Self::LeftOut { digest, .. } => *digest,
        }
    }

    /// Whether both stand for the same bytes.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Kept(a), Self::Kept(b)) => a == b,
            _ => self.len() == other.len() && self.digest() == other.digest(),
        }
    }

    /// Whether the bytes themselves are there.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        matches!(self, Self::Kept(_))
    }

    pub(crate) fn kept_len(&self) -> usize {
        match self {
            Self::Kept(bytes) => bytes.len(),
            Self::LeftOut { .. } => 0,
        }
    }
}

/// Private state of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateRecord {
    /// Names the format and its version.
    pub schema: String,
    /// Left out when the guest was handed picture bytes, so that they might be in it.
    pub data: Blob,
}

impl StateRecord {
    pub(crate) fn of(state: &Snapshot, keep: bool) -> Self {
        Self { schema: state.schema.clone(), data: Blob::of(&state.data, keep) }
    }

    /// The state; `None` when it was left out.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        match &self.data {
            Blob::Kept(data) => Some(Snapshot { schema: self.schema.clone(), data: data.clone() }),
            Blob::LeftOut { .. } => None,
        }
    }
}

/// A picture by its size, with its pixels where they were to be kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PictureRecord {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// What it counts on a guest's budget of crops.
    pub bytes: u64,
    /// The pixels.
    pub kept: Kept,
}

impl PictureRecord {
    pub(crate) fn of(picture: &Arc<dyn Picture>, keep: bool) -> Self {
        Self {
            width: picture.width(),
            height: picture.height(),
            bytes: picture.bytes() as u64,
            kept: Kept::of(picture, keep),
        }
    }
}

/// A shot, its picture by its size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields of `facestream_core::Shot`")]
pub struct ShotRecord {
    pub track_id: u64,
    pub picture: PictureRecord,
    pub bbox: Rect,
    pub confidence: f32,
    pub landmarks: Option<Landmarks>,
    pub quality: Quality,
    pub score: f32,
    pub captured_at_ns: u64,
    pub session: u64,
    pub sequence: u64,
    pub reason: ShotReason,
}

impl ShotRecord {
    pub(crate) fn of(shot: &Shot, keep: bool) -> Self {
        Self {
            track_id: shot.track_id,
            picture: PictureRecord::of(&shot.picture, keep),
            bbox: shot.bbox,
            confidence: shot.confidence,
            landmarks: shot.landmarks,
            quality: shot.quality,
            score: shot.score,
            captured_at_ns: shot.captured_at_ns,
            session: shot.session,
            sequence: shot.sequence,
            reason: shot.reason,
        }
    }

    /// The shot again, with `picture` in its hand.
    #[must_use]
    pub fn shot(&self, picture: Arc<dyn Picture>) -> Shot {
        Shot {
            track_id: self.track_id,
            picture,
            bbox: self.bbox,
            confidence: self.confidence,
            landmarks: self.landmarks,
            quality: self.quality,
            score: self.score,
            captured_at_ns: self.captured_at_ns,
            session: self.session,
            sequence: self.sequence,
            reason: self.reason,
        }
    }
}

/// A message as a formatter wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields of `WrittenMessage`")]
pub struct MessageRecord {
    pub topic: String,
    pub key: Vec<u8>,
    /// Left out when the guest was handed picture bytes.
    pub payload: Blob,
    pub headers: Vec<(String, String)>,
    pub content_type: String,
}

impl MessageRecord {
    pub(crate) fn of(message: &WrittenMessage, keep: bool) -> Self {
        Self {
            topic: message.topic.clone(),
            key: message.key.clone(),
            payload: Blob::of(&message.payload, keep),
            headers: message.headers.clone(),
            content_type: message.content_type.clone(),
        }
    }

    fn kept_len(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(a, b)| a.len() + b.len()).sum();
        self.topic.len() + self.key.len() + self.payload.kept_len() + headers
    }
}
