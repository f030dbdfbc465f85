//! Settings of the guest.

use facestream_guest::Settings;
use serde::Deserialize;

/// Settings of the best-shot scorer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BestShotConfig {
    /// A track unseen for so long gives up its picture, milliseconds (2 s, as the first FaceStream).
    pub inactive_ms: u64,
    /// Give up the best picture since the last one every so often while the track lives, milliseconds; 0: never.
    pub interval_ms: u64,
    /// Give up each better picture at once instead of waiting for the track's end.
    pub improved: bool,
    /// At least so long between two pictures of one track when `improved` is on, milliseconds.
    pub improved_spacing_ms: u64,
    /// How much higher a score must be to replace the held picture: keeps noise from causing crops.
    pub min_gain: f32,
    /// Faces whose shorter side has fewer pixels are passed over.
    pub min_size_px: f32,
    /// Detections below this confidence are passed over.
    pub min_confidence: f32,
    /// Faces of which less lies inside the frame are passed over, share of the area.
    pub min_visible_share: f32,
    /// Faces that look away more are passed over: 1 looks into the camera, 0 is a profile. Needs landmarks; faces
    /// without them pass.
    pub min_frontality: f32,
    /// Blurrier faces are passed over (mean Sobel magnitude, 0 to 255).
    pub min_sharpness: f32,
    /// Darker faces are passed over (mean luma, 0 to 100).
    pub min_brightness: f32,
    /// Brighter faces are passed over (mean luma, 0 to 100).
    pub max_brightness: f32,
    /// Scale sharpness to mid brightness before scoring.
    pub brightness_normalisation: bool,
    /// Take pictures of tracks that are not confirmed yet.
    pub include_tentative: bool,
    /// Widening of the crop on each side, share of the face's size.
    pub crop_margin: f32,
    /// Longer side of the crop in pixels; 0 keeps the source's resolution.
    pub max_side_px: u32,
    /// Most pictures held at once.
    pub max_held: usize,
    /// Faces measured in one frame; more take turns. Measuring costs 70 to 300 us each, and a call has a deadline.
    pub max_measured: usize,
}

impl Default for BestShotConfig {
    fn default() -> Self {
        Self {
            inactive_ms: 2000,
            interval_ms: 0,
            improved: false,
            improved_spacing_ms: 1000,
            min_gain: 0.5,
            min_size_px: 0.0,
            min_confidence: 0.0,
            min_visible_share: 0.0,
            min_frontality: 0.0,
            min_sharpness: 0.0,
            min_brightness: 0.0,
            max_brightness: 100.0,
            brightness_normalisation: true,
            include_tentative: false,
            crop_margin: 0.2,
            max_side_px: 512,
            max_held: 256,
            max_measured: 32,
        }
    }
}

impl Settings for BestShotConfig {
    fn validate(&self) -> Vec<String> {
        let mut out = Vec::new();
        let mut range = |name: &str, value: f32, low: f32, high: f32| {
            if !(low..=high).contains(&value) {
                out.push(format!("{name} must be between {low} and {high}, not {value}"));
            }
        };
        range("min_gain", self.min_gain, 0.0, 1000.0);
        range("min_size_px", self.min_size_px, 0.0, 100_000.0);
        range("min_confidence", self.min_confidence, 0.0, 1.0);
        range("min_visible_share", self.min_visible_share, 0.0, 1.0);
        range("min_frontality", self.min_frontality, 0.0, 1.0);
        range("min_sharpness", self.min_sharpness, 0.0, 255.0);
        range("min_brightness", self.min_brightness, 0.0, 100.0);
        range("max_brightness", self.max_brightness, self.min_brightness.clamp(0.0, 100.0), 100.0);
        range("crop_margin", self.crop_margin, 0.0, 4.0);
        if self.inactive_ms == 0 {
            out.push("inactive_ms must be above 0".to_owned());
        }
        if !(1..=4096).contains(&self.max_held) {
            out.push(format!("max_held must be between 1 and 4096, not {}", self.max_held));
        }
        if !(1..=4096).contains(&self.max_measured) {
            out.push(format!("max_measured must be between 1 and 4096, not {}", self.max_measured));
        }
        out
    }
}
