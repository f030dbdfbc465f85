//! Settings of decoding.
//!
//! Owns names, defaults and checks; reads no file.

use serde::{Deserialize, Serialize};

/// Where decoding happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Acceleration {
    /// The GPU that analyses the camera, where there is one and it decodes the stream; else the processor, with the
    /// reason in the camera's status.
    #[default]
    Auto,
    /// FFmpeg on the processor.
    Cpu,
    /// The GPU (NVDEC) or nothing: a stream that it does not decode is an error.
    Cuda,
}

/// What becomes of a damaged live picture: one that the decoder says it could only conceal (H.264: lost slices, missing
/// references, invalid bits), or that came right after lost packets and is no key frame. Damage inside an H.265 slice
/// that no packet loss announces cannot be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DamagedFrames {
    /// Left out and counted (`decode-error`): smeared faces make false tracks and bad shots. See `max_damaged_run`.
    #[default]
    Drop,
    /// Passed on like any other.
    Keep,
}

/// Settings of decoding, `[decode]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecodeConfig {
    /// FFmpeg threads a camera, 1 to 64. One is best as soon as there are as many cameras as cores: more only adds delay.
    pub threads: u32,
    /// Where decoding happens: `auto`, `cpu` or `cuda`.
    pub acceleration: Acceleration,
    /// Streams wider than this are refused, in pixels.
    pub max_width: u32,
    /// Streams higher than this are refused, in pixels.
    pub max_height: u32,
    /// Decode key frames only; the others are counted as skipped. A camera's own setting takes its place.
    pub keyframes_only: bool,
    /// `drop` or `keep` live pictures that arrived damaged. Files keep them always: no frame of a file is left out.
    pub damaged_frames: DamagedFrames,
    /// After so many damaged pictures in a row they are kept: a camera whose every picture is flagged is better than none.
    pub max_damaged_run: u32,
    /// After so many decoding errors in a row the decoder is built anew.
    pub rebuild_after_errors: u32,
}

impl Default for DecodeConfig {
    fn default() -> Self {
        Self {
            threads: 1,
            acceleration: Acceleration::Auto,
            // The largest H.264/H.265 pictures that levels 6.x allow on common cameras are 8192 wide.
            max_width: 8192,
            max_height: 8192,
            keyframes_only: false,
            damaged_frames: DamagedFrames::Drop,
            max_damaged_run: 25,
            rebuild_after_errors: 50,
        }
    }
}

impl DecodeConfig {
    /// Every problem, in words; empty when all is well.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(1..=64).contains(&self.threads) {
            problems.push(format!("decode.threads is {}; it must be 1 to 64", self.threads));
        }
        for (name, value) in [("max_width", self.max_width), ("max_height", self.max_height)] {
            if !(16..=16_384).contains(&value) {
                problems.push(format!("decode.{name} is {value}; it must be 16 to 16384"));
            }
        }
        if self.rebuild_after_errors == 0 {
            problems.push("decode.rebuild_after_errors is 0; it must be at least 1".to_owned());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_all_problems_are_told() {
        assert!(DecodeConfig::default().validate().is_empty());
        let bad = DecodeConfig { threads: 0, max_width: 1, rebuild_after_errors: 0, ..DecodeConfig::default() };
        assert_eq!(bad.validate().len(), 3);
    }
}
