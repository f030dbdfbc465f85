//! Formatter guest: one `gate-metric-detections` message for each best shot.
//!
//! Owns the settings and the export; the body is `facestream-messages`'.

use facestream_guest::prelude::*;
use facestream_messages::{Gate, PictureConfig, fitted, rfc3339_seconds, topic_problem};
use serde::Deserialize;

/// Settings.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateMetricConfig {
    /// Topic.
    pub topic: String,
    /// JPEG quality to start with; lower ones follow where a message would be too large.
    pub jpeg_quality: u8,
    /// Longer side of the picture in pixels; 0 keeps the crop's size.
    pub max_side_px: u32,
    /// Add an object `provenance` (track, frame, reason, box, landmarks) to the first FaceStream's fields.
    pub provenance: bool,
}

impl Default for GateMetricConfig {
    fn default() -> Self {
        Self { topic: "gate-metric-detections".to_owned(), jpeg_quality: 85, max_side_px: 0, provenance: false }
    }
}

impl GateMetricConfig {
    fn picture(&self) -> PictureConfig {
        PictureConfig { jpeg_quality: self.jpeg_quality, max_side_px: self.max_side_px }
    }
}

impl Settings for GateMetricConfig {
    fn validate(&self) -> Vec<String> {
        let mut out = self.picture().problems();
        out.extend(topic_problem("topic", &self.topic));
        out
    }
}

/// The formatter of one camera.
#[derive(Debug)]
pub struct GateMetric {
    config: GateMetricConfig,
    camera: Camera,
}

impl Formatter for GateMetric {
    type Config = GateMetricConfig;
    type State = ();
    const SCHEMA: &'static str = "facestream.gate-metric/1";

    fn new(config: GateMetricConfig, camera: &Camera) -> Result<Self, GuestError> {
        Ok(Self { config, camera: camera.clone() })
    }

    fn interest(&self) -> Interest {
        Interest::SHOTS
    }

    fn format(&mut self, event: Event) -> Result<Vec<Message>, GuestError> {
        let Event::Shot(shot) = event else { return Ok(Vec::new()) };
        let camera = &self.camera;
        let time = rfc3339_seconds(shot.captured_at)?;
        let body = |image: &str| Gate::new(&camera.id, time.clone(), image, &shot, self.config.provenance).to_json();
        let image = fitted(&shot.picture, self.config.picture(), facestream_messages::room(camera, &body("")?)?)?;
        Ok(vec![Message::json(&self.config.topic, &camera.id, body(&image)?)])
    }
}

facestream_guest::export_formatter!(GateMetric);

#[cfg(test)]
mod tests;
