//! Sharpness and brightness of a picture or a part of it.
//!
//! Owns the definition of [`facestream_core::Quality`]. Looks at luma only; makes no colour crop.

use facestream_core::frame::{PictureError, Planes};
use facestream_core::geometry::Rect;
use facestream_core::track::Quality;

use crate::color::full_luma;
use crate::crop::window;
use crate::scale::{self, Source};

/// Working size in pixels, both ways. A gradient is a difference per pixel: of two equally sharp pictures of one face,
/// the one with twice the pixels has half the gradient. Scaled to one size they compare, and a face too small to fill
/// it is stretched and so measured as the blur it is. 112 is the input of common face recognisers (ArcFace), so the
/// measure sees the detail that they will; a fixed square also costs the same for every face.
const SIDE: usize = 112;

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
    if !planes.full_range {
        let table = full_luma(false);
        for y in &mut luma {
            *y = table[usize::from(*y)];
        }
    }
    let sum: u32 = luma.iter().map(|&y| u32::from(y)).sum();
    let brightness = sum as f32 / (SIDE * SIDE) as f32 / 255.0 * 100.0;
    Ok(Quality { sharpness: mean_gradient(&luma).min(255.0), brightness })
}

fn mean_gradient(luma: &[u8; SIDE * SIDE]) -> f32 {
    const INNER: usize = SIDE - 2;
    let mut total = 0.0_f64;
    // Row by row into an array first: a running sum of floats keeps the compiler from working on several at once.
    let mut row = [0.0_f32; INNER];
    for y in 1..=INNER {
        let rows = [y - 1, y, y + 1].map(|row| &luma[row * SIDE..(row + 1) * SIDE]);
        let [above, here, below] = rows.map(|r| (&r[..INNER], &r[1..=INNER], &r[2..]));
        for x in 0..INNER {
            let p = |r: &[u8]| i32::from(r[x]);
            let gx = p(above.2) - p(above.0) + 2 * (p(here.2) - p(here.0)) + p(below.2) - p(below.0);
            let gy = p(below.0) + 2 * p(below.1) + p(below.2) - p(above.0) - 2 * p(above.1) - p(above.2);
            row[x] = ((gx * gx + gy * gy) as f32).sqrt();
        }
        total += f64::from(row.iter().sum::<f32>());
    }
    (total / ((SIDE - 2) * (SIDE - 2)) as f64) as f32
}
