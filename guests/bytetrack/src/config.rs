//! Settings of the guest, named as in the paper's code where it has them.

use facestream_guest::Settings;
use facestream_tracking::{Params, Report};
use serde::Deserialize;

/// Settings of ByteTrack. The defaults suit YuNet's confidences.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BytetrackConfig {
    /// Detections at or above this confidence enter the first stage.
    pub track_high_thresh: f32,
    /// Detections between this confidence and the high one may keep a track going, never start one.
    pub track_low_thresh: f32,
    /// Confidence that starts a track.
    pub new_track_thresh: f32,
    /// How long a track survives unseen, milliseconds.
    pub track_buffer_ms: u64,
    /// Highest cost of the first stage.
    pub match_thresh: f32,
    /// Highest cost of the second stage, with weak detections.
    pub second_match_thresh: f32,
    /// Highest cost of matching tentative tracks.
    pub unconfirmed_match_thresh: f32,
    /// Multiply IoU by the detection's confidence (the paper's `fuse_score`).
    pub fuse_score: bool,
    /// Matches that confirm a track; those of the first frame are confirmed at once.
    pub confirm_hits: u32,
    /// A followed and a lost track that overlap more than this are merged.
    pub duplicate_iou: f32,
    /// Widening, as a share of a box's size, when lost tracks are looked for nearby; 0 switches it off (as the paper).
    pub recovery_margin: f32,
    /// Highest cost of that.
    pub recovery_match_thresh: f32,
    /// How long a lost track may also come back by a weak detection, milliseconds; 0: by confident ones only (as the
    /// paper).
    pub weak_return_ms: u64,
    /// How much noisier an unsure detection's box is: its deviation is the paper's times 1 + this x (1 - confidence);
    /// 0 takes every box alike (as the paper).
    pub doubt_noise: f32,
    /// Only match detections of the same class.
    pub class_aware: bool,
    /// Lost tracks may come back after a reconnection, within the buffer; otherwise all end.
    pub keep_across_sessions: bool,
    /// Frames a second that the paper's motion noise stands for.
    pub reference_fps: f64,
    /// Most tracks alive at once.
    pub max_tracks: usize,
    /// Report the `measured` box of a matched track or the `filtered` one.
    pub report: Report,
}

impl Default for BytetrackConfig {
    fn default() -> Self {
        Self {
            track_high_thresh: 0.7,
            track_low_thresh: 0.3,
            new_track_thresh: 0.7,
            track_buffer_ms: 2000,
            match_thresh: 0.8,
            second_match_thresh: 0.5,
            unconfirmed_match_thresh: 0.7,
            fuse_score: true,
            confirm_hits: 2,
            duplicate_iou: 0.85,
            recovery_margin: 0.3,
            recovery_match_thresh: 0.65,
            weak_return_ms: 500,
            doubt_noise: 2.0,
            class_aware: false,
            keep_across_sessions: true,
            reference_fps: 30.0,
            max_tracks: 1024,
            report: Report::Filtered,
        }
    }
}

impl From<&BytetrackConfig> for Params {
    fn from(c: &BytetrackConfig) -> Self {
        Self {
            high: c.track_high_thresh,
            low: c.track_low_thresh,
            new_track: c.new_track_thresh,
            buffer_ns: c.track_buffer_ms.saturating_mul(1_000_000),
            match_cost: c.match_thresh,
            second_cost: c.second_match_thresh,
            unconfirmed_cost: c.unconfirmed_match_thresh,
            fuse_score: c.fuse_score,
            confirm_hits: c.confirm_hits,
            duplicate_iou: c.duplicate_iou,
            recovery_margin: c.recovery_margin,
            recovery_cost: c.recovery_match_thresh,
            weak_return_ns: c.weak_return_ms.saturating_mul(1_000_000),
            doubt_noise: c.doubt_noise,
            camera_motion: false,
            class_aware: c.class_aware,
            keep_across_sessions: c.keep_across_sessions,
            reference_fps: c.reference_fps,
            max_tracks: c.max_tracks,
            report: c.report,
        }
    }
}

impl Settings for BytetrackConfig {
    fn validate(&self) -> Vec<String> {
        Params::from(self).problems()
    }
}
