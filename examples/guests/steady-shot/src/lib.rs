//! A scorer of one's own: of each track the picture in which the face looks into the camera and stands still.

use facestream_guest::prelude::*;

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Faces that look further away are not kept: 1 is straight into the camera, 0 a profile.
    min_frontality: f32,
}
impl Settings for Config {}

pub struct SteadyShot(Config, HeldShots);

impl Scorer for SteadyShot {
    type Config = Config;
    type State = ();
    const SCHEMA: &'static str = "example.steady-shot/1";

    fn new(config: Config, _camera: &Camera) -> Result<Self, GuestError> {
        Ok(Self(config, HeldShots::new()))
    }

    fn observe(
        &mut self,
        frame: &FrameInfo,
        picture: &Frame<'_>,
        detections: &[Detection],
        tracks: &[Track],
        ended: &[u64],
    ) -> Result<Vec<Shot>, GuestError> {
        let mut room = 64; // A call has a deadline: the rest of a crowd is taken in the next frames.
        for track in tracks.iter().filter(|t| t.is_confirmed()) {
            let Some(face) = track.seen_in(detections) else { continue };
            let frontality = face.landmarks.map_or(0.0, |points| points.frontality());
            let widths_a_second = track.velocity.x.hypot(track.velocity.y) / face.bbox.width.max(1.0);
            let score = 100.0 * frontality / (1.0 + widths_a_second);
            // The pixels stay with the host: a crop is a handle, and only a better one is asked for.
            if frontality >= self.0.min_frontality
                && self.1.is_better(track.id, score)
                && room > 0
                && let Ok(quality) = picture.measure(face.bbox)
                && let Ok(crop) = picture.crop(face.bbox, CropOptions { margin: 0.2, max_side: 0 })
            {
                room -= 1;
                self.1.keep(Shot::new(frame, track, face, crop, quality).scored(score));
            }
        }
        Ok(self.1.end(ended))
    }

    fn held(&mut self) -> Option<&mut HeldShots> {
        Some(&mut self.1)
    }
}

facestream_guest::export_scorer!(SteadyShot);
#[cfg(test)]
mod tests;
