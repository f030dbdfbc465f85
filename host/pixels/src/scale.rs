//! Scaling of single planes.
//!
//! Owns the adapter between strided planes and `fast_image_resize`, with one scaler (its scratch memory) a thread.

use std::cell::RefCell;

use facestream_core::frame::PictureError;
use facestream_core::geometry::Rect;
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{InnerPixel, U8, U8x2};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

thread_local! {
    static SCALER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

/// A rectangle of whole samples within a plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Window {
    /// Whether all samples of another one are its own, too.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.x >= self.x
            && other.y >= self.y
            && other.x + other.width <= self.x + self.width
            && other.y + other.height <= self.y + self.height
    }

    /// The same samples in a picture that begins at `origin` of this one. Whole pixels, so that nothing that is rounded
    /// depends on where the picture begins.
    #[must_use]
    pub fn seen_from(&self, origin: (u32, u32)) -> Rect {
        Rect {
            x: self.x.saturating_sub(origin.0) as f32,
            y: self.y.saturating_sub(origin.1) as f32,
            width: self.width as f32,
            height: self.height as f32,
        }
    }
}

/// How the samples of a scaled plane are weighed.
#[derive(Clone, Copy)]
pub(crate) enum Quality {
    /// Catmull-Rom, widened when scaling down (no aliasing): keeps edges, rings far less than Lanczos. For pictures.
    Sharp,
    /// Bilinear, widened when scaling down: never overshoots. For measuring.
    Plain,
}

/// A source plane and the part of it to scale.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) data: &'a [u8],
    pub(crate) stride: usize,
    pub(crate) window: Window,
    /// Width and height of what is scaled, in samples from the window's corner: less than the window's by half a sample
    /// where the last chroma sample of an odd size covers a column outside of the picture.
    pub(crate) span: (f64, f64),
}

impl<'a> Source<'a> {
    /// All of the window.
    pub(crate) fn whole(data: &'a [u8], stride: usize, window: Window) -> Self {
        Self { data, stride, window, span: (f64::from(window.width), f64::from(window.height)) }
    }
}

/// Scales a part of a one-channel plane into `out` (`out_size` bytes, row by row); copies when the size is the same.
pub(crate) fn plane(
    source: Source<'_>,
    out: &mut [u8],
    out_size: (u32, u32),
    quality: Quality,
) -> Result<(), PictureError> {
    let Source { data, stride, window, .. } = source;
    if (window.width, window.height) == out_size {
        let width = window.width as usize;
        for (row, target) in (window.y as usize..).zip(out.chunks_exact_mut(width)) {
            let start = row * stride + window.x as usize;
            target.copy_from_slice(data.get(start..start + width).ok_or_else(too_short)?);
        }
        return Ok(());
    }
    resize::<U8>(source, out, out_size, quality)
}

/// Scales a part of an interleaved two-channel plane (NV12 chroma); `out` is interleaved too.
pub(crate) fn pairs(
    source: Source<'_>,
    out: &mut [u8],
    out_size: (u32, u32),
    quality: Quality,
) -> Result<(), PictureError> {
    resize::<U8x2>(source, out, out_size, quality)
}

fn resize<P: PixelTrait + InnerPixel>(
    source: Source<'_>,
    out: &mut [u8],
    out_size: (u32, u32),
    quality: Quality,
) -> Result<(), PictureError> {
    let Source { data, stride, window, span } = source;
    let channels = P::size();
    // Rows without padding: the window is gathered first. It costs a copy of the window, a few percent of scaling it.
    let row = window.width as usize * channels;
    let mut packed = Vec::with_capacity(row * window.height as usize);
    for y in window.y as usize..(window.y + window.height) as usize {
        let start = y * stride + window.x as usize * channels;
        packed.extend_from_slice(data.get(start..start + row).ok_or_else(too_short)?);
    }
    let failed = |e: &dyn std::fmt::Display| PictureError::Device(format!("scaling failed: {e}"));
    let source = TypedImageRef::<P>::from_buffer(window.width, window.height, &packed).map_err(|e| failed(&e))?;
    let mut target = TypedImage::<P>::from_buffer(out_size.0, out_size.1, out).map_err(|e| failed(&e))?;
    let filter = match quality {
        Quality::Sharp => FilterType::CatmullRom,
        Quality::Plain => FilterType::Bilinear,
    };
    let options =
        ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false).crop(0.0, 0.0, span.0, span.1);
    SCALER.with_borrow_mut(|scaler| scaler.resize_typed(&source, &mut target, &options)).map_err(|e| failed(&e))
}

fn too_short() -> PictureError {
    PictureError::Device("a plane is shorter than its size and stride say".to_owned())
}

/// The size that fits `max_side` (0: no limit) with the same aspect; never larger than the source, never zero.
pub(crate) fn fit(width: u32, height: u32, max_side: u32) -> (u32, u32) {
    let longer = width.max(height);
    if max_side == 0 || longer <= max_side {
        return (width, height);
    }
    let scaled = |side: u32| {
        let exact = (u64::from(side) * u64::from(max_side) + u64::from(longer) / 2) / u64::from(longer);
        u32::try_from(exact).unwrap_or(max_side).max(1)
    };
    (scaled(width), scaled(height))
}
