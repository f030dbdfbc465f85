//! Pieces of pictures.
//!
//! Owns rounding a rectangle to samples and making the piece an I420 picture, whatever the source's chroma layout.

use facestream_core::frame::{PictureError, PixelFormat, Planes};
use facestream_core::geometry::Rect;

use crate::picture::{HostPicture, layout};
use crate::scale::{self, Quality, Source, Window};

/// The samples that `area` touches, clipped to the picture. With `even`, the corner moves left and up to an even
/// sample, so that no chroma sample is cut.
pub(crate) fn window(planes: &Planes<'_>, area: Rect, even: bool) -> Result<Window, PictureError> {
    window_of((planes.width, planes.height), area, even)
}

/// The samples that [`crop_planes`] takes of a picture of this size: its corner is on even pixels. For pictures whose
/// planes are elsewhere, so that only these samples need be fetched.
///
/// # Errors
/// `OutOfFrame` as [`crop_planes`].
pub fn crop_window(width: u32, height: u32, area: Rect) -> Result<Window, PictureError> {
    window_of((width, height), area, true)
}

/// The samples that [`crate::measure`] looks at in a picture of this size.
///
/// # Errors
/// `OutOfFrame` as [`crop_planes`].
pub fn measured_window(width: u32, height: u32, area: Rect) -> Result<Window, PictureError> {
    window_of((width, height), area, false)
}

fn window_of((width, height): (u32, u32), area: Rect, even: bool) -> Result<Window, PictureError> {
    let out = PictureError::OutOfFrame { width, height };
    let finite = [area.x, area.y, area.width, area.height].iter().all(|v| v.is_finite());
    if !finite || area.width < 1.0 || area.height < 1.0 {
        return Err(out);
    }
    let clipped = area.clipped(width, height).ok_or_else(|| out.clone())?;
    let [x1, y1, x2, y2] = clipped.corners();
    let step = if even { 2 } else { 1 };
    let (x, y) = (x1.floor() as u32 / step * step, y1.floor() as u32 / step * step);
    let (right, bottom) = ((x2.ceil() as u32).min(width), (y2.ceil() as u32).min(height));
    if right <= x || bottom <= y {
        return Err(out);
    }
    Ok(Window { x, y, width: right - x, height: bottom - y })
}

/// A copy of a part of a picture, longer side scaled down to `max_side` (0 keeps the source's resolution; nothing is
/// ever scaled up).
///
/// The rectangle is clipped to the picture and rounded outwards, its corner to even pixels. Range and matrix stay the
/// source's: no colour conversion takes place. 4:2:2 and 4:4:4 chroma is filtered down to 4:2:0.
///
/// # Errors
/// `OutOfFrame` when the rectangle does not touch the picture, is smaller than a pixel or not finite; `Device` when the
/// planes are shorter than they say.
pub fn crop_planes(planes: Planes<'_>, area: Rect, max_side: u32) -> Result<HostPicture, PictureError> {
    let source = window(&planes, area, true)?;
    let size = scale::fit(source.width, source.height, max_side);
    resample(&planes, source, size)
}

fn resample(planes: &Planes<'_>, source: Window, (width, height): (u32, u32)) -> Result<HostPicture, PictureError> {
    let (luma, cw, ch) = layout(width, height);
    let chroma = cw as usize * ch as usize;
    let mut data = vec![0; luma + 2 * chroma];
    let (y, uv) = data.split_at_mut(luma);
    scale::plane(Source::whole(planes.y, planes.y_stride, source), y, (width, height), Quality::Sharp)?;
    chroma_planes(planes, source, uv, (cw, ch), Quality::Sharp)?;
    HostPicture::new(width, height, data, planes.full_range, planes.matrix)
}

/// The chroma samples of a luma window whose corner is on whole ones, and how many of them it covers: half a one less where
/// its size is odd.
pub(crate) fn chroma_window(luma: Window, (sx, sy): (u32, u32)) -> (Window, (f64, f64)) {
    let (x, y) = (luma.x / sx, luma.y / sy);
    let window =
        Window { x, y, width: (luma.x + luma.width).div_ceil(sx) - x, height: (luma.y + luma.height).div_ceil(sy) - y };
    (window, (f64::from(luma.width) / f64::from(sx), f64::from(luma.height) / f64::from(sy)))
}

/// Scales both chroma planes of a luma window (its corner on even samples) to `size`; `out` takes U, then V.
pub(crate) fn chroma_planes(
    planes: &Planes<'_>,
    source: Window,
    out: &mut [u8],
    size: (u32, u32),
    quality: Quality,
) -> Result<(), PictureError> {
    let (sx, sy) = match planes.format {
        PixelFormat::I420 | PixelFormat::Nv12 => (2, 2),
        PixelFormat::I422 => (2, 1),
        PixelFormat::I444 => (1, 1),
    };
    let (window, span) = chroma_window(source, (sx, sy));
    let of = |data, stride| Source { data, stride, window, span };
    let (u, v) = out.split_at_mut(out.len() / 2);
    if planes.format == PixelFormat::Nv12 {
        let mut both = vec![0; 2 * size.0 as usize * size.1 as usize];
        scale::pairs(of(planes.u, planes.u_stride), &mut both, size, quality)?;
        for ((&[cb, cr], u), v) in both.as_chunks::<2>().0.iter().zip(u).zip(v) {
            (*u, *v) = (cb, cr);
        }
        return Ok(());
    }
    scale::plane(of(planes.u, planes.u_stride), u, size, quality)?;
    scale::plane(of(planes.v, planes.v_stride), v, size, quality)
}
