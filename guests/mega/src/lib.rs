//! Formatter guest: one `detectionMega` message for each best shot.
//!
//! Owns the settings and the export; the body is `facestream-messages`'.

use facestream_guest::prelude::*;
use facestream_messages::{Mega as Body, PictureConfig, fitted, topic_problem};
use serde::Deserialize;

/// Settings.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MegaConfig {
    /// Topic.
    pub topic: String,
    /// JPEG quality to start with; lower ones follow where a message would be too large.
    pub jpeg_quality: u8,
    /// Longer side of the picture in pixels; 0 keeps the crop's size.
    pub max_side_px: u32,
    /// Add an object `provenance` (track, frame, reason, box, landmarks) to the first FaceStream's fields.
    pub provenance: bool,
}

impl Default for MegaConfig {
    fn default() -> Self {
        Self { topic: "detectionMega".to_owned(), jpeg_quality: 85, max_side_px: 0, provenance: false }
    }
}

impl MegaConfig {
    fn picture(&self) -> PictureConfig {
        PictureConfig { jpeg_quality: self.jpeg_quality, max_side_px: self.max_side_px }
    }
}

impl Settings for MegaConfig {
    fn validate(&self) -> Vec<String> {
        let mut out = self.picture().problems();
        out.extend(topic_problem("topic", &self.topic));
        out
    }
}

/// The formatter of one camera.
#[derive(Debug)]
pub struct Mega {
    config: MegaConfig,
    camera: Camera,
}

impl Formatter for Mega {
    type Config = MegaConfig;
    type State = ();
    const SCHEMA: &'static str = "facestream.mega/1";

    fn new(config: MegaConfig, camera: &Camera) -> Result<Self, GuestError> {
        Ok(Self { config, camera: camera.clone() })
    }

    fn interest(&self) -> Interest {
        Interest::SHOTS
    }

    fn format(&mut self, event: Event) -> Result<Vec<Message>, GuestError> {
        let Event::Shot(shot) = event else { return Ok(Vec::new()) };
        let camera = &self.camera;
        let body = |image: &str| Body::new(&camera.id, image, &shot, self.config.provenance).to_json();
        let image = fitted(&shot.picture, self.config.picture(), facestream_messages::room(camera, &body("")?)?)?;
        Ok(vec![Message::json(&self.config.topic, &camera.id, body(&image)?)])
    }
}

facestream_guest::export_formatter!(Mega);

#[cfg(test)]
mod tests;
