//! One followed object: what is known of it, how a detection changes that, and what the host is told.
//!
//! Owns a track's numbers. Must not know other tracks, nor how it got its detection.

use facestream_guest::{Detection, Point, Rect, Track, TrackPhase};
use serde::{Deserialize, Serialize};

use crate::kalman::Motion;
use crate::params::{Params, Report};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    Tentative,
    Followed,
    Lost,
    /// Ends with this frame; never seen outside `Engine::advance`.
    Ended,
}

/// One live track with its filter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Live<M> {
    pub(crate) id: u64,
    pub(crate) phase: Phase,
    pub(crate) motion: M,
    pub(crate) bbox: Rect,
    pub(crate) confidence: f32,
    pub(crate) class_id: u32,
    pub(crate) detection: Option<u32>,
    pub(crate) first_seen: u64,
    pub(crate) last_seen: u64,
    pub(crate) hits: u32,
}

impl<M: Motion> Live<M> {
    /// As the host sees it. `fps` is the rate of which the motion's velocity counts steps.
    #[inline(always)]
    pub(crate) fn report(&self, fps: f32) -> Track {
        let phase = match self.phase {
            Phase::Tentative => TrackPhase::Tentative,
            Phase::Followed => TrackPhase::Confirmed,
            Phase::Lost | Phase::Ended => TrackPhase::Lost,
        };
        let (v, b) = (self.motion.velocity(), self.bbox);
        Track {
            id: self.id,
            phase,
            // Number by number: copied as a whole it goes over the stack, and waits there for its parts to be written.
            bbox: Rect { x: b.x, y: b.y, width: b.width, height: b.height },
            velocity: Point { x: v.x * fps, y: v.y * fps },
            confidence: self.confidence,
            class_id: self.class_id,
            detection: self.detection,
            first_seen: self.first_seen,
            last_seen: self.last_seen,
        }
    }

    #[inline(always)]
    pub(crate) fn matched(&mut self, index: u32, d: &Detection, now: u64, params: &Params) {
        let doubt = (1.0 - f64::from(d.confidence)).clamp(0.0, 1.0);
        self.motion.update(&d.bbox, 1.0 + f64::from(params.doubt_noise) * doubt);
        self.bbox = match params.report {
            Report::Measured => d.bbox,
            Report::Filtered => self.motion.rect(),
        };
        self.confidence = d.confidence;
        self.class_id = d.class_id;
        self.detection = Some(index);
        self.last_seen = now;
        self.hits = self.hits.saturating_add(1);
        if self.phase != Phase::Tentative || self.hits >= params.confirm_hits {
            self.phase = Phase::Followed;
        }
    }
}
