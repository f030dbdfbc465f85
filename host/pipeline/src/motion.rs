//! The camera's own motion, as a tracker needs to hear it: since the frame that it saw last.
//!
//! Owns the counting of estimates and refusals, and the sum over frames that the tracker did not answer. Estimating is
//! `facestream-motion`'s.

use std::sync::Arc;

use facestream_core::metrics::Counter;
use facestream_core::{Affine, CameraMetrics, Clock, Detection, Frame, Rect};
use facestream_motion::{MotionEstimator, Unknown};

/// Estimates the motion of one camera.
pub(crate) struct CameraMotion {
    estimator: MotionEstimator,
    metrics: Arc<CameraMetrics>,
    clock: Arc<dyn Clock>,
    /// Motion between the frame that the tracker answered last and the latest one; `None`: not known.
    owed: Option<Affine>,
    boxes: Vec<Rect>,
}

impl CameraMotion {
    pub(crate) fn new(metrics: Arc<CameraMetrics>, clock: Arc<dyn Clock>) -> Self {
        Self { estimator: MotionEstimator::new(), metrics, clock, owed: Some(Affine::IDENTITY), boxes: Vec::new() }
    }

    /// What to tell the tracker with this frame; `None` when it is not known. To be called for every frame.
    pub(crate) fn before(&mut self, frame: &Frame, detections: &[Detection]) -> Option<Affine> {
        self.boxes.clear();
        self.boxes.extend(detections.iter().map(|d| d.bbox));
        let began = self.clock.monotonic_ns();
        let estimate = self.estimator.estimate(frame, &self.boxes);
        let took = self.clock.monotonic_ns().saturating_sub(began);
        self.metrics.add(Counter::MotionMicroseconds, took / 1000);
        self.metrics.add(counter(&estimate), 1);
        self.owed = match (self.owed, estimate) {
            (Some(owed), Ok(moved)) => Some(owed.then(&moved)),
            _ => None,
        };
        self.owed
    }

    /// Whether the tracker took the frame: one that is being restarted goes on from the tracks of an earlier frame.
    pub(crate) fn after(&mut self, answered: bool) {
        if answered {
            self.owed = Some(Affine::IDENTITY);
        }
    }
}

fn counter(estimate: &Result<Affine, Unknown>) -> Counter {
    match estimate {
        Ok(_) => Counter::MotionEstimated,
        Err(Unknown::NoPrevious) => Counter::MotionNoPrevious,
        Err(Unknown::NoPixels) => Counter::MotionNoPixels,
        Err(Unknown::FewCorners) => Counter::MotionFewCorners,
        Err(Unknown::NoConsensus) => Counter::MotionNoConsensus,
        Err(Unknown::Uncertain) => Counter::MotionUncertain,
        Err(Unknown::Implausible) => Counter::MotionImplausible,
    }
}
