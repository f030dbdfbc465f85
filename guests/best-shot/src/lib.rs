//! The best picture of each track as a scorer guest.
//!
//! Owns which picture is best and when it is given up; `held.rs` owns what is held. Pixels stay on the host's side:
//! candidates are measured there, only a better one is cropped, and crops are held as handles.

mod config;
mod held;
#[cfg(test)]
mod tests;

pub use config::BestShotConfig;
use facestream_guest::prelude::*;
pub use held::TrackRecord;
use held::Tracks;

/// The scorer of one camera.
#[derive(Debug)]
pub struct BestShot {
    config: BestShotConfig,
    tracks: Tracks,
    /// When being full was last logged: at most once a second, it would repeat for every face of every frame.
    warned_at: Option<u64>,
}

/// Confidence x 10 + Sobel sharpness, as the first FaceStream scored.
///
/// Brightness normalisation: gradients grow in proportion to exposure, so the same face measures sharper in the light
/// than in the shade. Sharpness is scaled to what it would be at a mean luma of 50 (of 100), by at most a factor of 2
/// either way: beyond that a dark picture's gradients are mostly noise.
#[must_use]
pub fn score(confidence: f32, quality: Quality, normalise: bool) -> f32 {
    let gain = if normalise { (50.0 / quality.brightness.max(1.0)).clamp(0.5, 2.0) } else { 1.0 };
    confidence * 10.0 + quality.sharpness * gain
}

impl BestShot {
    /// Whether the settings let this detection be a candidate at all.
    fn is_candidate(&self, frame: &FrameInfo, track: &Track, d: &Detection) -> bool {
        let c = &self.config;
        (c.include_tentative || track.phase == TrackPhase::Confirmed)
            && d.bbox.is_valid()
            && d.confidence >= c.min_confidence
            && d.bbox.width.min(d.bbox.height) >= c.min_size_px
            && d.bbox.visible_share(frame.width, frame.height) >= c.min_visible_share
            && d.landmarks.is_none_or(|l| l.frontality() >= c.min_frontality)
    }

    /// Measures a candidate and crops it when it is better than what is held.
    fn consider(&mut self, frame: &FrameInfo, picture: &Frame<'_>, track: &Track, d: &Detection, out: &mut Vec<Shot>) {
        let c = &self.config;
        let quality = match picture.measure(d.bbox) {
            Ok(quality) => quality,
            // Less than a pixel of it is inside: nothing to keep.
            Err(PixelError::OutOfFrame) => return,
            Err(error) => {
                return log_warn!("measuring track {} in frame {} failed: {error:?}", track.id, frame.sequence);
            }
        };
        if !(c.min_brightness..=c.max_brightness).contains(&quality.brightness) || quality.sharpness < c.min_sharpness {
            return;
        }
        let score = score(d.confidence, quality, c.brightness_normalisation);
        if !score.is_finite() || !self.tracks.is_better(track.id, score, c.min_gain) {
            return;
        }
        let full = !self.tracks.holds(track.id) && self.tracks.held() >= c.max_held;
        let options = CropOptions { margin: c.crop_margin, max_side: c.max_side_px };
        if full && !self.make_room(frame, track, "max_held is reached", out) {
            return;
        }
        match picture.crop(d.bbox, options) {
            Ok(crop) => self.tracks.keep(Shot::new(frame, track, d, crop, quality).scored(score)),
            Err(PixelError::OutOfFrame) => {}
            // What is given up counts against the budget until this call returns: this track tries again next frame.
            Err(PixelError::OverBudget) => {
                self.make_room(frame, track, "the crop budget is spent", out);
            }
            Err(error) => log_warn!("cropping track {} in frame {} failed: {error:?}", track.id, frame.sequence),
        }
    }

    /// Gives up early the picture of the track that was unseen for longest, so that nothing held is lost; `false` when
    /// every track with a picture is in sight.
    fn make_room(&mut self, frame: &FrameInfo, track: &Track, why: &str, out: &mut Vec<Shot>) -> bool {
        let early = self.tracks.give_up_unseen(frame.timestamp);
        if self.warned_at.is_none_or(|at| frame.timestamp.saturating_sub(at) >= 1_000_000_000) {
            self.warned_at = Some(frame.timestamp);
            let id = track.id;
            match &early {
                Some(shot) => log_warn!("{why}: track {}'s picture is given up early for track {id}", shot.track_id),
                None => log_warn!("{why} and every track with a picture is in sight: track {id} waits"),
            }
        }
        let made = early.is_some();
        out.extend(early.map(|shot| shot.because(Reason::Inactive)));
        made
    }

    /// What time alone makes due.
    fn due(&mut self, now: u64, out: &mut Vec<Shot>) {
        let c = &self.config;
        out.extend(self.tracks.give_up_inactive(now, c.inactive_ms.saturating_mul(1_000_000)));
        if c.interval_ms > 0 {
            out.extend(self.tracks.give_up_at_interval(now, c.interval_ms.saturating_mul(1_000_000)));
        }
    }
}

impl Scorer for BestShot {
    type Config = BestShotConfig;
    type State = Vec<TrackRecord>;
    const SCHEMA: &'static str = "facestream.best-shot/1";

    fn new(config: BestShotConfig, _camera: &Camera) -> Result<Self, GuestError> {
        Ok(Self { config, tracks: Tracks::default(), warned_at: None })
    }

    fn reconfigure(&mut self, config: BestShotConfig, _camera: &Camera) -> Result<(), GuestError> {
        self.config = config;
        Ok(())
    }

    fn observe(
        &mut self,
        frame: &FrameInfo,
        picture: &Frame<'_>,
        detections: &[Detection],
        tracks: &[Track],
        ended: &[u64],
    ) -> Result<Vec<Shot>, GuestError> {
        let mut out = Vec::new();
        let seen = |track: &Track| track.detection.and_then(|i| detections.get(i as usize));
        // Sightings first: a track seen now is not inactive, however long it was away.
        for track in tracks {
            if seen(track).is_some() {
                self.tracks.seen(track.id, frame.timestamp);
            }
        }
        for id in ended {
            out.extend(self.tracks.end(*id));
        }
        self.due(frame.timestamp, &mut out);
        let candidates: Vec<(&Track, &Detection)> = tracks
            .iter()
            .filter_map(|track| Some((track, seen(track)?)))
            .filter(|(track, d)| self.is_candidate(frame, track, d))
            .collect();
        // By the frame's number, so that no turn has to be remembered and a swap changes nothing.
        let (count, most) = (candidates.len(), self.config.max_measured);
        let first = if count > most { (frame.sequence as usize).wrapping_mul(most) % count } else { 0 };
        for &(track, d) in candidates.iter().cycle().skip(first).take(count.min(most)) {
            self.consider(frame, picture, track, d, &mut out);
            if self.config.improved {
                let spacing = self.config.improved_spacing_ms.saturating_mul(1_000_000);
                out.extend(self.tracks.give_up_improved(track.id, frame.timestamp, spacing));
            }
        }
        Ok(out)
    }

    fn tick(&mut self, timestamp: u64) -> Result<Vec<Shot>, GuestError> {
        let mut out = Vec::new();
        self.due(timestamp, &mut out);
        Ok(out)
    }

    fn flush(&mut self) -> Result<Vec<Shot>, GuestError> {
        Ok(self.tracks.take_all().1)
    }

    fn save(&mut self) -> Result<(Self::State, Vec<Shot>), GuestError> {
        Ok(self.tracks.take_all())
    }

    fn restore(&mut self, state: Option<Self::State>, shots: Vec<Shot>) -> Result<(), GuestError> {
        self.tracks = Tracks::restored(state.unwrap_or_default(), shots);
        Ok(())
    }
}

facestream_guest::export_scorer!(BestShot);
