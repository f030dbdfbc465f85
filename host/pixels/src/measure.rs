//! Sharpness and brightness of a picture or a part of it.
//!
//! Owns the definition of [`facestream_core::Quality`]. Looks at luma only; makes no colour crop.

use facestream_core::frame::{PictureError, Planes};
use facestream_core::geometry::Rect;
use facestream_core::track::Quality;

use crate::crop::window;
use crate::scale::{self, Source};

/// Working size in pixels, both ways. A gradient is a difference per pixel: of two equally sharp pictures of one face,
/// the one with twice the pixels has half the gradient. Scaled to one size they compare, and a face too small to fill
/// it is stretched and so measured as the blur it is. 112 is the input of common face recognisers (ArcFace), so the
/// measure sees the detail that they will; a fixed square also costs the same for every face.
pub(crate) const SIDE: usize = 112;

/// Sharpness and brightness of the part of a picture under `area`.
///
/// Luma is expanded to 0..=255 (so that limited and full range compare) and scaled to 112x112. Sharpness is the mean
/// magnitude of the gradient by the 3x3 Sobel operator, unnormalised, over the 110x110 inner pixels, capped at 255.
/// Brightness is the mean luma in percent.
///
/// # Errors
/// `OutOfFrame` when the rectangle does not touch the picture, is smaller than a pixel or not finite; `Device` when the
/// planes are shorter than they say.
pub fn measure(planes: Planes<'_>, area: Rect) -> Result<Quality, PictureError> {
    let part = window(&planes, area, false)?;
    let mut luma = [0; SIDE * SIDE];
    let size = (SIDE as u32, SIDE as u32);
    scale::plane(Source::whole(planes.y, planes.y_stride, part), &mut luma, size, scale::Quality::Plain)?;
    Ok(of_scaled(luma, planes.full_range))
}

/// The same of luma that was scaled elsewhere ([`crate::Scaling::of_luma`]); `None` when it is not of that size.
#[must_use]
pub fn quality(scaled: &[u8], full_range: bool) -> Option<Quality> {
    Some(of_scaled(scaled.try_into().ok()?, full_range))
}

fn of_scaled(mut luma: [u8; SIDE * SIDE], full_range: bool) -> Quality {
    crate::convert::full_range(&mut luma, full_range);
    let sum: u32 = luma.iter().map(|&y| u32::from(y)).sum();
    let brightness = sum as f32 / (SIDE * SIDE) as f32 / 255.0 * 100.0;
    Quality { sharpness: mean_gradient(&luma).min(255.0), brightness }
}

/// The operator is separable: sums and differences of columns first, then of their neighbours, in 16 bits (a level is at
/// most 255, so a component at most 1020). Columns are added up apart from each other. Both let the compiler work on
/// eight pixels at once with what every x86-64 has.
fn mean_gradient(luma: &[u8; SIDE * SIDE]) -> f32 {
    const INNER: usize = SIDE - 2;
    let mut columns = [0.0_f32; INNER];
    let (mut smooth, mut slope) = ([0_i16; SIDE], [0_i16; SIDE]);
    for y in 1..=INNER {
        let rows = luma.as_chunks::<SIDE>().0;
        let (above, here, below) = (&rows[y - 1], &rows[y], &rows[y + 1]);
        for x in 0..SIDE {
            let (a, h, b) = (i16::from(above[x]), i16::from(here[x]), i16::from(below[x]));
            smooth[x] = a + 2 * h + b;
            slope[x] = b - a;
        }
        for (x, column) in columns.iter_mut().enumerate() {
            let gx = i32::from(smooth[x + 2] - smooth[x]);
            let gy = i32::from(slope[x] + 2 * slope[x + 1] + slope[x + 2]);
            *column += ((gx * gx + gy * gy) as f32).sqrt();
        }
    }
    let total: f64 = columns.iter().map(|&c| f64::from(c)).sum();
    (total / (INNER * INNER) as f64) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_that_of_the_operators_definition() {
        let mut luma = [0; SIDE * SIDE];
        for (i, y) in luma.iter_mut().enumerate() {
            *y = ((i as u32).wrapping_mul(2_654_435_761) >> 24) as u8;
        }
        let at = |x: usize, y: usize| f64::from(luma[y * SIDE + x]);
        let mut total = 0.0;
        for y in 1..SIDE - 1 {
            for x in 1..SIDE - 1 {
                let side = |x: usize| at(x, y - 1) + 2.0 * at(x, y) + at(x, y + 1);
                let row = |y: usize| at(x - 1, y) + 2.0 * at(x, y) + at(x + 1, y);
                total += (side(x + 1) - side(x - 1)).hypot(row(y + 1) - row(y - 1));
            }
        }
        let want = total / ((SIDE - 2) * (SIDE - 2)) as f64;
        assert!((f64::from(mean_gradient(&luma)) - want).abs() < 1e-4 * want, "{want}");
    }
}
