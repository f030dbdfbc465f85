//! Between the host's plain types and the generated ones.
//!
//! Owns field-by-field mapping and nothing else: no checks (see `validate`), no defaults.

use std::sync::Arc;

use facestream_core::{
    Affine, Detection, FrameInfo, Landmarks, Picture, Point, Quality, Rect, Shot, ShotReason, Track, TrackPhase,
};
use wasmtime::component::Resource;

use crate::bindings::{HeldCrop, derived, pixels, shots, types};
use crate::error::Refusal;

/// Private state of a guest, opaque to the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Names the format and its version; empty for "none: the neutral form has to do".
    pub schema: String,
    /// The state.
    pub data: Vec<u8>,
}

pub(crate) fn rect_to_wit(r: Rect) -> types::Rect {
    types::Rect { x: r.x, y: r.y, width: r.width, height: r.height }
}

pub(crate) fn rect_from_wit(r: types::Rect) -> Rect {
    Rect { x: r.x, y: r.y, width: r.width, height: r.height }
}

fn point_to_wit(p: Point) -> types::Point {
    types::Point { x: p.x, y: p.y }
}

fn point_from_wit(p: types::Point) -> Point {
    Point { x: p.x, y: p.y }
}

fn landmarks_to_wit(l: Landmarks) -> types::Landmarks {
    types::Landmarks {
        left_eye: point_to_wit(l.left_eye),
        right_eye: point_to_wit(l.right_eye),
        nose: point_to_wit(l.nose),
        mouth_left: point_to_wit(l.mouth_left),
        mouth_right: point_to_wit(l.mouth_right),
    }
}

fn landmarks_from_wit(l: types::Landmarks) -> Landmarks {
    Landmarks {
        left_eye: point_from_wit(l.left_eye),
        right_eye: point_from_wit(l.right_eye),
        nose: point_from_wit(l.nose),
        mouth_left: point_from_wit(l.mouth_left),
        mouth_right: point_from_wit(l.mouth_right),
    }
}

pub(crate) fn frame_to_wit(f: &FrameInfo) -> types::FrameInfo {
    types::FrameInfo {
        session: f.session,
        sequence: f.sequence,
        timestamp: f.timestamp_ns,
        captured_at: f.captured_at_ns,
        width: f.width,
        height: f.height,
    }
}

pub(crate) fn detection_to_wit(d: &Detection) -> derived::Detection {
    derived::Detection {
        bbox: rect_to_wit(d.bbox),
        confidence: d.confidence,
        class_id: d.class_id,
        landmarks: d.landmarks.map(landmarks_to_wit),
    }
}

pub(crate) fn affine_to_wit(m: Affine) -> types::Affine {
    types::Affine { a: m.a, b: m.b, tx: m.tx, c: m.c, d: m.d, ty: m.ty }
}

pub(crate) fn track_to_wit(t: &Track) -> derived::Track {
    derived::Track {
        id: t.id,
        phase: match t.phase {
            TrackPhase::Tentative => types::TrackPhase::Tentative,
            TrackPhase::Confirmed => types::TrackPhase::Confirmed,
            TrackPhase::Lost => types::TrackPhase::Lost,
        },
        bbox: rect_to_wit(t.bbox),
        velocity: point_to_wit(t.velocity),
        confidence: t.confidence,
        class_id: t.class_id,
        detection: t.detection,
        first_seen: t.first_seen_ns,
        last_seen: t.last_seen_ns,
    }
}

pub(crate) fn track_from_wit(t: &derived::Track) -> Track {
    Track {
        id: t.id,
        phase: match t.phase {
            types::TrackPhase::Tentative => TrackPhase::Tentative,
            types::TrackPhase::Confirmed => TrackPhase::Confirmed,
            types::TrackPhase::Lost => TrackPhase::Lost,
        },
        bbox: rect_from_wit(t.bbox),
        velocity: point_from_wit(t.velocity),
        confidence: t.confidence,
        class_id: t.class_id,
        detection: t.detection,
        first_seen_ns: t.first_seen,
        last_seen_ns: t.last_seen,
    }
}

pub(crate) fn quality_to_wit(q: Quality) -> pixels::Quality {
    pixels::Quality { sharpness: q.sharpness, brightness: q.brightness }
}

fn quality_from_wit(q: pixels::Quality) -> Quality {
    Quality { sharpness: q.sharpness, brightness: q.brightness }
}

pub(crate) fn shot_to_wit(s: &Shot, picture: Resource<HeldCrop>) -> shots::Shot {
    shots::Shot {
        track_id: s.track_id,
        picture,
        bbox: rect_to_wit(s.bbox),
        confidence: s.confidence,
        landmarks: s.landmarks.map(landmarks_to_wit),
        quality: quality_to_wit(s.quality),
        score: s.score,
        captured_at: s.captured_at_ns,
        session: s.session,
        sequence: s.sequence,
        reason: match s.reason {
            ShotReason::Improved => shots::Reason::Improved,
            ShotReason::Interval => shots::Reason::Interval,
            ShotReason::Inactive => shots::Reason::Inactive,
            ShotReason::Ended => shots::Reason::Ended,
            ShotReason::Flushed => shots::Reason::Flushed,
        },
    }
}

pub(crate) fn shot_from_wit(s: &shots::Shot, picture: Arc<dyn Picture>) -> Shot {
    Shot {
        track_id: s.track_id,
        picture,
        bbox: rect_from_wit(s.bbox),
        confidence: s.confidence,
        landmarks: s.landmarks.map(landmarks_from_wit),
        quality: quality_from_wit(s.quality),
        score: s.score,
        captured_at_ns: s.captured_at,
        session: s.session,
        sequence: s.sequence,
        reason: match s.reason {
            shots::Reason::Improved => ShotReason::Improved,
            shots::Reason::Interval => ShotReason::Interval,
            shots::Reason::Inactive => ShotReason::Inactive,
            shots::Reason::Ended => ShotReason::Ended,
            shots::Reason::Flushed => ShotReason::Flushed,
        },
    }
}

pub(crate) fn snapshot_to_wit(s: &Snapshot) -> types::Snapshot {
    types::Snapshot { schema: s.schema.clone(), data: s.data.clone() }
}

pub(crate) fn snapshot_from_wit(s: types::Snapshot) -> Snapshot {
    Snapshot { schema: s.schema, data: s.data }
}

impl From<types::GuestError> for Refusal {
    fn from(error: types::GuestError) -> Self {
        // The text goes to status and logs: bounded, one line.
        let tidy = |text: String| crate::error::one_line(&text, 512);
        match error {
            types::GuestError::InvalidConfig(t) => Self::InvalidConfig(tidy(t)),
            types::GuestError::UnsupportedSnapshot(t) => Self::UnsupportedSnapshot(tidy(t)),
            types::GuestError::Failed(t) => Self::Failed(tidy(t)),
        }
    }
}
