//! Formatter guest: both messages of the first FaceStream for each best shot. The default formatter.
//!
//! Owns the settings and the export; the bodies are `facestream-messages`'. The picture is compressed once for both.

use facestream_guest::prelude::*;
use facestream_messages::{Gate, Mega, PictureConfig, fitted, rfc3339_seconds, room, topic_problem};
use serde::Deserialize;

/// Settings.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateAndMegaConfig {
    /// Topic of the primary detections.
    pub gate_topic: String,
    /// Topic of the detailed analytics.
    pub mega_topic: String,
    /// JPEG quality to start with; lower ones follow where a message would be too large.
    pub jpeg_quality: u8,
    /// Longer side of the picture in pixels; 0 keeps the crop's size.
    pub max_side_px: u32,
    /// Add an object `provenance` (track, frame, reason, box, landmarks) to the first FaceStream's fields.
    pub provenance: bool,
}

impl Default for GateAndMegaConfig {
    fn default() -> Self {
        Self {
            gate_topic: "gate-metric-detections".to_owned(),
            mega_topic: "detectionMega".to_owned(),
            jpeg_quality: 85,
            max_side_px: 0,
            provenance: false,
        }
    }
}

impl GateAndMegaConfig {
    fn picture(&self) -> PictureConfig {
        PictureConfig { jpeg_quality: self.jpeg_quality, max_side_px: self.max_side_px }
    }
}

impl Settings for GateAndMegaConfig {
    fn validate(&self) -> Vec<String> {
        let mut out = self.picture().problems();
        out.extend(topic_problem("gate_topic", &self.gate_topic));
        out.extend(topic_problem("mega_topic", &self.mega_topic));
        out
    }
}

/// The formatter of one camera.
#[derive(Debug)]
pub struct GateAndMega {
    config: GateAndMegaConfig,
    camera: Camera,
}

impl Formatter for GateAndMega {
    type Config = GateAndMegaConfig;
    type State = ();
    const SCHEMA: &'static str = "facestream.gate-and-mega/1";

    fn new(config: GateAndMegaConfig, camera: &Camera) -> Result<Self, GuestError> {
        Ok(Self { config, camera: camera.clone() })
    }

    fn interest(&self) -> Interest {
        Interest::SHOTS
    }

    fn format(&mut self, event: Event) -> Result<Vec<Message>, GuestError> {
        let Event::Shot(shot) = event else { return Ok(Vec::new()) };
        let (camera, c) = (&self.camera, &self.config);
        let time = rfc3339_seconds(shot.captured_at)?;
        let gate = |image: &str| Gate::new(&camera.id, time.clone(), image, &shot, c.provenance).to_json();
        let mega = |image: &str| Mega::new(&camera.id, image, &shot, c.provenance).to_json();
        // One picture that fits into the larger of the two fits into both.
        let budget = room(camera, &gate("")?)?.min(room(camera, &mega("")?)?);
        let image = fitted(&shot.picture, c.picture(), budget)?;
        Ok(vec![
            Message::json(&c.gate_topic, &camera.id, gate(&image)?),
            Message::json(&c.mega_topic, &camera.id, mega(&image)?),
        ])
    }
}

facestream_guest::export_formatter!(GateAndMega);

#[cfg(test)]
mod tests;
