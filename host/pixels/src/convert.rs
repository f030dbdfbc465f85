//! Grey and RGB copies, for guests and debugging.
//!
//! Owns packed formats. JPEG does not come through here: it is made from planar YUV.

use facestream_core::frame::{PictureError, Planes};
use facestream_core::geometry::Rect;

use crate::color::{ToRgb, full_luma};
use crate::crop::{chroma_planes, window};
use crate::scale::{self, Quality, Source};

/// A packed picture, row by row without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// One byte a pixel (grey) or three (RGB).
    pub data: Vec<u8>,
}

fn whole(planes: &Planes<'_>) -> Rect {
    Rect::from_corners(0.0, 0.0, planes.width as f32, planes.height as f32)
}

/// Grey copy, one byte a pixel in 0..=255 whatever the source's range; longer side at most `max_side` (0: as it is).
///
/// # Errors
/// `OutOfFrame` for an empty picture; `Device` when the planes are shorter than they say.
pub fn luma(planes: Planes<'_>, max_side: u32) -> Result<Image, PictureError> {
    let part = window(&planes, whole(&planes), false)?;
    let (width, height) = scale::fit(part.width, part.height, max_side);
    let mut data = vec![0; width as usize * height as usize];
    scale::plane(Source::whole(planes.y, planes.y_stride, part), &mut data, (width, height), Quality::Sharp)?;
    full_range(&mut data, planes.full_range);
    Ok(Image { width, height, data })
}

/// Luma expanded to 0..=255, unless it is `already`.
pub fn full_range(luma: &mut [u8], already: bool) {
    if !already {
        let table = full_luma(false);
        for y in luma {
            *y = table[usize::from(*y)];
        }
    }
}

/// Luma as it is stored, whatever its range, scaled down so that the longer side is at most `max_side`, without ringing:
/// for measuring on, not for looking at. Half the work of [`luma`].
///
/// # Errors
/// As [`luma`].
pub fn working_luma(planes: Planes<'_>, max_side: u32) -> Result<Image, PictureError> {
    let part = window(&planes, whole(&planes), false)?;
    let (width, height) = scale::fit(part.width, part.height, max_side);
    let mut data = vec![0; width as usize * height as usize];
    scale::plane(Source::whole(planes.y, planes.y_stride, part), &mut data, (width, height), Quality::Plain)?;
    Ok(Image { width, height, data })
}

/// RGB copy, three bytes a pixel; longer side at most `max_side` (0: as it is). Chroma is interpolated.
///
/// # Errors
/// As [`luma`].
pub fn rgb(planes: Planes<'_>, max_side: u32) -> Result<Image, PictureError> {
    let part = window(&planes, whole(&planes), true)?;
    let (width, height) = scale::fit(part.width, part.height, max_side);
    let pixels = width as usize * height as usize;
    let mut yuv = vec![0; 3 * pixels];
    let (y, chroma) = yuv.split_at_mut(pixels);
    scale::plane(Source::whole(planes.y, planes.y_stride, part), y, (width, height), Quality::Sharp)?;
    chroma_planes(&planes, part, chroma, (width, height), Quality::Plain)?;
    let (u, v) = chroma.split_at(pixels);
    let table = ToRgb::new(planes.full_range, planes.matrix);
    let data = y.iter().zip(u).zip(v).flat_map(|((&y, &u), &v)| table.convert(y, u, v)).collect();
    Ok(Image { width, height, data })
}
