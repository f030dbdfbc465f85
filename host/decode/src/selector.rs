//! Which decoded frames are analysed.
//!
//! Owns `detect_fps`. Key-frame selection is the decoder's (`DecodeConfig::keyframes_only`): it saves the decoding too.

use std::sync::Arc;

use facestream_core::frame::FrameInfo;
use facestream_core::metrics::{CameraMetrics, Counter};

/// How early a frame may be for its slot: what cameras' timestamps are off by, and less than a frame of 100 a second.
const JITTER_NS: u64 = 8_000_000;

/// Picks frames so that their average rate is `detect_fps`, with no drift however long the camera runs.
///
/// Time since the first frame is cut into slots of 1/`detect_fps`; the first frame of each slot is taken. Frames may come
/// 8 ms early, so that unsteady timestamps around a slot's border do not lose a frame of a source whose rate is
/// just the wanted one. A pause is not made up for by a burst.
#[derive(Debug)]
pub struct FrameSelector {
    /// Thousandths of a frame a second; `None` takes all.
    rate_milli: Option<u64>,
    start_ns: Option<u64>,
    last_slot: Option<u128>,
    metrics: Arc<CameraMetrics>,
}

impl FrameSelector {
    /// `detect_fps`: `None`, or not a positive number: every frame is taken. Rates below 0.001 count as 0.001.
    #[must_use]
    pub fn new(detect_fps: Option<f32>, metrics: Arc<CameraMetrics>) -> Self {
        let rate_milli = detect_fps
            .filter(|fps| fps.is_finite() && *fps > 0.0)
            .map(|fps| ((f64::from(fps) * 1000.0).round() as u64).max(1));
        Self { rate_milli, start_ns: None, last_slot: None, metrics }
    }

    /// Whether this frame is to be analysed; counts it as skipped (`Counter::Skipped`) when not.
    pub fn take(&mut self, info: &FrameInfo) -> bool {
        let Some(rate) = self.rate_milli else { return true };
        let start = *self.start_ns.get_or_insert(info.timestamp_ns);
        let since = info.timestamp_ns.saturating_sub(start).saturating_add(JITTER_NS);
        // A slot lasts 10^12 / rate nanoseconds; products fit 128 bits for any 64-bit time.
        let slot = u128::from(since) * u128::from(rate) / 1_000_000_000_000;
        let taken = self.last_slot.is_none_or(|last| slot > last);
        if taken {
            self.last_slot = Some(slot);
        } else {
            self.metrics.add(Counter::Skipped, 1);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `frames` frames are taken.
    fn run(detect: Option<f32>, source_fps: f64, frames: u64, jitter_ns: i64) -> u64 {
        let metrics = Arc::new(CameraMetrics::default());
        let mut selector = FrameSelector::new(detect, Arc::clone(&metrics));
        let taken = (0..frames).filter(|&i| {
            let exact = (i as f64 * 1e9 / source_fps) as i64 + 1_000_000_000;
            let wobble = if i % 2 == 0 { jitter_ns } else { -jitter_ns };
            selector.take(&FrameInfo { timestamp_ns: (exact + wobble) as u64, ..FrameInfo::default() })
        });
        let taken = taken.count() as u64;
        assert_eq!(taken + metrics.get(Counter::Skipped), frames, "each frame is taken or counted");
        taken
    }

    #[test]
    fn the_average_rate_is_met_without_drift() {
        for (source, detect) in [(25.0, 10.0), (30.0, 10.0), (29.97, 12.5), (25.0, 24.0), (60.0, 7.0), (25.0, 0.5)] {
            let seconds = 3600.0;
            let frames = (source * seconds) as u64;
            let taken = run(Some(detect as f32), source, frames, 0);
            let wanted = (detect * seconds) as u64;
            assert!(taken.abs_diff(wanted) <= 1, "{source} -> {detect}: {taken} of {wanted}");
        }
    }

    #[test]
    fn a_rate_at_or_above_the_sources_takes_all() {
        assert_eq!(run(None, 25.0, 1000, 0), 1000);
        assert_eq!(run(Some(25.0), 25.0, 1000, 4_000_000), 1000, "jitter of 4 ms loses nothing");
        assert_eq!(run(Some(100.0), 25.0, 1000, 0), 1000);
        assert_eq!(run(Some(f32::NAN), 25.0, 10, 0), 10);
        assert_eq!(run(Some(0.0), 25.0, 10, 0), 10);
    }

    #[test]
    fn a_pause_is_not_followed_by_a_burst() {
        let mut selector = FrameSelector::new(Some(1.0), Arc::default());
        let mut at = |ms: u64| selector.take(&FrameInfo { timestamp_ns: ms * 1_000_000, ..FrameInfo::default() });
        assert!(at(0));
        assert!(at(60_000));
        assert!(!at(60_040));
        assert!(!at(60_080));
    }
}
