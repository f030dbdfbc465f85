//! A scorer: of each face the sharpest large picture, sent when the face has gone. Change `worth` to make it yours.

use facestream_guest::prelude::*;

/// Settings, from the camera's configuration. A key that is not here is an error that names the near one.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Faces that are less wide, in pixels, are not kept.
    min_width: f32,
}

impl Default for Config {
    fn default() -> Self {
        Self { min_width: 24.0 }
    }
}

impl Settings for Config {
    fn validate(&self) -> Vec<String> {
        let wrong = !(0.0..=10_000.0).contains(&self.min_width);
        wrong.then(|| "min_width must be from 0 to 10000".to_owned()).into_iter().collect()
    }
}

pub struct Mine {
    config: Config,
    best: HeldShots,
}

/// What a picture is worth; higher is better.
fn worth(face: &Detection, quality: Quality) -> f32 {
    face.confidence * quality.sharpness * face.bbox.area().max(0.0).sqrt()
}

impl Scorer for Mine {
    type Config = Config;
    type State = ();
    const SCHEMA: &'static str = "{{name}}/1";

    fn new(config: Config, _camera: &Camera) -> Result<Self, GuestError> {
        Ok(Self { config, best: HeldShots::new() })
    }

    fn observe(
        &mut self,
        frame: &FrameInfo,
        picture: &Frame<'_>,
        detections: &[Detection],
        tracks: &[Track],
        ended: &[u64],
    ) -> Result<Vec<Shot>, GuestError> {
        for track in tracks.iter().filter(|t| t.is_confirmed()) {
            let Some(face) = track.seen_in(detections) else { continue };
            if face.bbox.width < self.config.min_width {
                continue;
            }
            // Measuring is cheap, a crop costs memory until it is dropped: measure first.
            let Ok(quality) = picture.measure(face.bbox) else { continue };
            let score = worth(face, quality);
            if self.best.is_better(track.id, score)
                && let Ok(crop) = picture.crop(face.bbox, CropOptions { margin: 0.2, max_side: 0 })
            {
                self.best.keep(Shot::new(frame, track, face, crop, quality).scored(score));
            }
        }
        Ok(self.best.end(ended))
    }

    /// What is flushed when the camera stops, and travels over a swap.
    fn held(&mut self) -> Option<&mut HeldShots> {
        Some(&mut self.best)
    }
}

facestream_guest::export_scorer!(Mine);

#[cfg(test)]
mod tests;
