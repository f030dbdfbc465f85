//! JPEG straight from planar YUV.
//!
//! Owns range and matrix on the way: JFIF (1.02) means full-range BT.601, so limited range is expanded and BT.709
//! converted. No detour over RGB.

use facestream_core::frame::{PictureError, PixelFormat, Planes};
use jpeg_encoder::{ChromaSubsamplingMethod, Encoder, ImageBuffer, JpegColorType, SamplingFactor};

use crate::color::ToJfif;

/// Why a picture could not be made a JPEG.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JpegError {
    /// Quality is a number from 1 to 100.
    #[error("JPEG quality {0} is not from 1 to 100")]
    Quality(u8),
    /// JPEG counts to 65535.
    #[error("a picture of {width}x{height} cannot be a JPEG: its sides must be 1 to 65535")]
    Size {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The planes are shorter than they say.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The encoder failed.
    #[error("JPEG encoding failed: {0}")]
    Encoder(String),
}

/// Encodes a picture as baseline JPEG with 4:2:0 chroma, `quality` from 1 to 100 (libjpeg's scale).
///
/// # Errors
/// See [`JpegError`].
pub fn jpeg(planes: Planes<'_>, quality: u8) -> Result<Vec<u8>, JpegError> {
    if !(1..=100).contains(&quality) {
        return Err(JpegError::Quality(quality));
    }
    let (width, height) = (planes.width, planes.height);
    let side = |v: u32| u16::try_from(v).ok().filter(|&v| v > 0).ok_or(JpegError::Size { width, height });
    let (w, h) = (side(width)?, side(height)?);
    let rows = Rows::new(planes, w, h)?;
    // A quarter of a byte a pixel is what faces take at quality 90.
    let mut out = Vec::with_capacity(usize::from(w) * usize::from(h) / 4 + 1024);
    let mut encoder = Encoder::new(&mut out, quality);
    encoder.set_sampling_factor(SamplingFactor::R_4_2_0);
    encoder.set_chroma_subsampling_method(match planes.format {
        // Each chroma sample is handed over four times: taking the first of each four gives it back as it was.
        PixelFormat::I420 | PixelFormat::Nv12 => ChromaSubsamplingMethod::Nearest,
        PixelFormat::I422 | PixelFormat::I444 => ChromaSubsamplingMethod::Average,
    });
    encoder.encode_image(rows).map_err(|e| JpegError::Encoder(e.to_string()))?;
    Ok(out)
}

/// Rows of JFIF colour at full size, as the encoder asks for them.
struct Rows<'a> {
    planes: Planes<'a>,
    width: u16,
    height: u16,
    table: ToJfif,
}

impl<'a> Rows<'a> {
    fn new(planes: Planes<'a>, width: u16, height: u16) -> Result<Self, PictureError> {
        let (w, h) = (usize::from(width), usize::from(height));
        let (cw, ch) = match planes.format {
            PixelFormat::I420 => (w.div_ceil(2), h.div_ceil(2)),
            PixelFormat::Nv12 => (2 * w.div_ceil(2), h.div_ceil(2)),
            PixelFormat::I422 => (w.div_ceil(2), h),
            PixelFormat::I444 => (w, h),
        };
        let fits = |plane: &[u8], stride: usize, w: usize, h: usize| stride >= w && plane.len() >= stride * (h - 1) + w;
        let whole = fits(planes.y, planes.y_stride, w, h)
            && fits(planes.u, planes.u_stride, cw, ch)
            && (planes.format == PixelFormat::Nv12 || fits(planes.v, planes.v_stride, cw, ch));
        if !whole {
            return Err(PictureError::Device("a plane is shorter than its size and stride say".to_owned()));
        }
        Ok(Self { planes, width, height, table: ToJfif::new(planes.full_range, planes.matrix) })
    }
}

impl ImageBuffer for Rows<'_> {
    fn get_jpeg_color_type(&self) -> JpegColorType {
        JpegColorType::Ycbcr
    }

    fn width(&self) -> u16 {
        self.width
    }

    fn height(&self) -> u16 {
        self.height
    }

    fn fill_buffers(&self, row: u16, buffers: &mut [Vec<u8>; 4]) {
        let Planes { format, y, y_stride, u, u_stride, v, v_stride, .. } = self.planes;
        let (row, width) = (usize::from(row), usize::from(self.width));
        let chroma_row = if matches!(format, PixelFormat::I420 | PixelFormat::Nv12) { row / 2 } else { row };
        let y = &y[row * y_stride..][..width];
        let u = &u[chroma_row * u_stride..];
        if format == PixelFormat::Nv12 {
            return self.fill(y, 2, u.as_chunks::<2>().0.iter().map(|&[u, v]| (u, v)), buffers);
        }
        let pairs = u.iter().copied().zip(v[chroma_row * v_stride..].iter().copied());
        self.fill(y, if format == PixelFormat::I444 { 1 } else { 2 }, pairs, buffers);
    }
}

impl Rows<'_> {
    /// One row: `chroma` holds a sample for each `step` pixels.
    fn fill(
        &self,
        y: &[u8],
        step: usize,
        chroma: impl Iterator<Item = (u8, u8)>,
        [luma, cb, cr, _]: &mut [Vec<u8>; 4],
    ) {
        let separate = self.table.is_separate();
        if separate {
            luma.extend(y.iter().map(|&y| self.table.luma(y)));
        }
        for (pixels, (u, v)) in y.chunks(step).zip(chroma) {
            let (add, b, r) = self.table.chroma(u, v);
            cb.extend(std::iter::repeat_n(b, pixels.len()));
            cr.extend(std::iter::repeat_n(r, pixels.len()));
            if !separate {
                luma.extend(pixels.iter().map(|&y| (i32::from(self.table.luma(y)) + add).clamp(0, 255) as u8));
            }
        }
    }
}
