//! A shot's picture as base64 JPEG that fits into a message.
//!
//! Owns the ladder: the wanted quality first, then lower ones, then smaller pictures; what does not fit even so is an
//! error in words, never a message left out. Every step down is logged.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use facestream_guest::{Crop, GuestError, log_info};
use jpeg_encoder::{ColorType, Encoder};

/// How pictures are written; flattened into a formatter's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureConfig {
    /// JPEG quality to start with, 1 to 100.
    pub jpeg_quality: u8,
    /// Longer side in pixels; 0 keeps the crop's size.
    pub max_side_px: u32,
}

impl PictureConfig {
    /// What is wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut out = Vec::new();
        if !(1..=100).contains(&self.jpeg_quality) {
            out.push(format!("jpeg_quality must be between 1 and 100, not {}", self.jpeg_quality));
        }
        if (1..MIN_SIDE).contains(&self.max_side_px) {
            out.push(format!("max_side_px must be 0 or at least {MIN_SIDE}, not {}", self.max_side_px));
        }
        out
    }
}

/// Qualities below the wanted one; under 30 faces fall to blocks, a smaller picture says more.
const LOWER: [u8; 4] = [75, 60, 45, 30];
/// Quality of pictures that are made smaller to fit.
const SMALL_QUALITY: u8 = 60;
/// Below so many pixels no face is to be recognised.
const MIN_SIDE: u32 = 16;

/// The picture, in base64, of at most `budget` characters.
///
/// # Errors
/// `failed` when even a 16-pixel picture is too large, or the host cannot give the pixels.
pub fn fitted(crop: &Crop, config: PictureConfig, budget: usize) -> Result<String, GuestError> {
    let fits = |jpeg: &[u8]| jpeg.len().div_ceil(3) * 4 <= budget;
    let failed = |what: String| GuestError::failed(format!("the picture cannot be written: {what}"));
    let (width, height) = crop.size();
    let longer = width.max(height);
    let limit = if config.max_side_px == 0 { longer } else { longer.min(config.max_side_px) };

    let mut jpeg = Vec::new();
    // Each try costs milliseconds of a call that has a deadline: from quality 85 to 30 a picture shrinks to a quarter at
    // most, so that one which is farther off is made smaller at once.
    let hopeless = |jpeg: &[u8]| jpeg.len() / 3 > budget;
    for quality in std::iter::once(config.jpeg_quality).chain(LOWER.into_iter().filter(|q| *q < config.jpeg_quality)) {
        jpeg = if limit == longer {
            crop.jpeg(quality).map_err(|e| failed(format!("{e:?}")))?
        } else {
            scaled(crop, limit, quality)?
        };
        if fits(&jpeg) {
            if quality != config.jpeg_quality {
                log_info!("picture of {width}x{height} written at JPEG quality {quality} to fit {budget} bytes");
            }
            return Ok(STANDARD.encode(jpeg));
        }
        if hopeless(&jpeg) {
            break;
        }
    }
    let mut side = limit;
    while side > MIN_SIDE {
        // Bytes grow with the area: aim straight at what fits, at least a fifth smaller each time.
        let ratio = (budget as f64 * 0.75 / jpeg.len().max(1) as f64).sqrt().min(0.8);
        side = ((f64::from(side) * ratio) as u32).max(MIN_SIDE);
        jpeg = scaled(crop, side, SMALL_QUALITY.min(config.jpeg_quality))?;
        if fits(&jpeg) {
            log_info!("picture of {width}x{height} scaled to {side} pixels to fit {budget} bytes");
            return Ok(STANDARD.encode(jpeg));
        }
    }
    Err(failed(format!(
        "{width}x{height} pixels do not fit into {budget} bytes even at {MIN_SIDE} pixels; raise the camera's max_message_bytes"
    )))
}

/// The host scales, this guest compresses: the host's `jpeg` keeps a crop's size.
fn scaled(crop: &Crop, side: u32, quality: u8) -> Result<Vec<u8>, GuestError> {
    let failed = |what: String| GuestError::failed(format!("the picture cannot be scaled to {side} pixels: {what}"));
    let image = crop.rgb(side).map_err(|e| failed(format!("{e:?}")))?;
    let (Ok(width), Ok(height)) = (u16::try_from(image.width), u16::try_from(image.height)) else {
        return Err(failed(format!("{}x{} is beyond JPEG's 65535", image.width, image.height)));
    };
    let mut jpeg = Vec::new();
    Encoder::new(&mut jpeg, quality)
        .encode(&image.data, width, height, ColorType::Rgb)
        .map_err(|e| failed(e.to_string()))?;
    Ok(jpeg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use facestream_guest::Quality;
    use facestream_guest::testing::FakeHost;

    const Q: Quality = Quality { sharpness: 10.0, brightness: 50.0 };
    const CONFIG: PictureConfig = PictureConfig { jpeg_quality: 85, max_side_px: 0 };

    fn decoded(crop: &Crop, config: PictureConfig, budget: usize) -> Vec<u8> {
        let text = fitted(crop, config, budget).unwrap();
        assert!(text.len() <= budget, "{} > {budget}", text.len());
        STANDARD.decode(text).unwrap()
    }

    #[test]
    fn the_wanted_quality_when_it_fits() {
        let crop = FakeHost::default().crop(200, 200, Q);
        assert_eq!(decoded(&crop, CONFIG, 1 << 20), crop.jpeg(85).unwrap());
    }

    #[test]
    fn lower_quality_before_smaller_size() {
        let crop = FakeHost::default().crop(200, 200, Q);
        // The fake's JPEG has 200 x 200 x q / 200 bytes: 60 gives 12,003, in base64 16,004.
        assert_eq!(decoded(&crop, CONFIG, 16_004), crop.jpeg(60).unwrap());
        assert_eq!(decoded(&crop, CONFIG, 16_003), crop.jpeg(45).unwrap());
    }

    #[test]
    fn then_smaller_and_a_true_jpeg() {
        let crop = FakeHost::default().crop(400, 200, Q);
        let jpeg = decoded(&crop, CONFIG, 6_000);
        assert_eq!(jpeg[..3], [0xff, 0xd8, 0xff]);
        assert_eq!(jpeg[jpeg.len() - 2..], [0xff, 0xd9]);
    }

    #[test]
    fn max_side_scales_from_the_start() {
        let crop = FakeHost::default().crop(400, 200, Q);
        let jpeg = decoded(&crop, PictureConfig { jpeg_quality: 85, max_side_px: 100 }, 1 << 20);
        // Height and width stand in the SOF0 segment.
        let sof = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
        assert_eq!(jpeg[sof + 5..sof + 9], [0, 50, 0, 100]);
    }

    #[test]
    fn the_impossible_is_said() {
        let crop = FakeHost::default().crop(400, 200, Q);
        let error = fitted(&crop, CONFIG, 100).unwrap_err();
        assert!(error.message().contains("max_message_bytes"), "{error:?}");
    }
}
