//! A picture that owns its pixels.
//!
//! Owns memory layout (I420, rows without padding). Scaling and colour are other files' business.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use facestream_core::frame::{ColorMatrix, Picture, PictureError, PixelFormat, Planes};
use facestream_core::geometry::Rect;

use crate::crop::crop_planes;

/// An I420 picture in host memory: one allocation, rows without padding, chroma planes rounded up for odd sizes.
#[derive(Clone, PartialEq, Eq)]
pub struct HostPicture {
    width: u32,
    height: u32,
    full_range: bool,
    matrix: ColorMatrix,
    /// Y, U, V one after the other.
    data: Vec<u8>,
}

impl fmt::Debug for HostPicture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostPicture({}x{})", self.width, self.height)
    }
}

/// Sizes of the I420 planes: (luma bytes, chroma width, chroma height).
pub(crate) fn layout(width: u32, height: u32) -> (usize, u32, u32) {
    (width as usize * height as usize, width.div_ceil(2), height.div_ceil(2))
}

impl HostPicture {
    /// From the planes Y, U, V one after the other, rows without padding; chroma planes are
    /// `ceil(width / 2) x ceil(height / 2)`.
    ///
    /// # Errors
    /// `Device` when the size is zero or `data` has another length than the size asks for.
    pub fn new(
        width: u32,
        height: u32,
        data: Vec<u8>,
        full_range: bool,
        matrix: ColorMatrix,
    ) -> Result<Self, PictureError> {
        let (luma, cw, ch) = layout(width, height);
        let wanted = luma + 2 * (cw as usize * ch as usize);
        if width == 0 || height == 0 || data.len() != wanted {
            return Err(PictureError::Device(format!(
                "an I420 picture of {width}x{height} has {wanted} bytes, not {}",
                data.len()
            )));
        }
        Ok(Self { width, height, full_range, matrix, data })
    }

    /// From packed RGB, three bytes a pixel, row by row (full range BT.601, as JPEG files are).
    ///
    /// # Errors
    /// `Device` when the size is zero or `rgb` has not three bytes a pixel.
    pub fn from_rgb(width: u32, height: u32, rgb: &[u8]) -> Result<Self, PictureError> {
        let (luma, cw, ch) = layout(width, height);
        if rgb.len() != luma * 3 || luma == 0 {
            let got = rgb.len();
            return Err(PictureError::Device(format!("an RGB picture of {width}x{height} cannot have {got} bytes")));
        }
        let (w, h) = (width as usize, height as usize);
        let mut data = Vec::with_capacity(luma + 2 * cw as usize * ch as usize);
        data.extend(rgb.as_chunks::<3>().0.iter().map(|&[r, g, b]| jpeg_encoder::rgb_to_ycbcr(r, g, b).0));
        let (mut us, mut vs) = (Vec::new(), Vec::new());
        for cy in 0..ch as usize {
            for cx in 0..cw as usize {
                // The mean of the one to four pixels that share this chroma sample.
                let (mut sum, mut n) = ([0_u32; 3], 0);
                for y in (cy * 2)..(cy * 2 + 2).min(h) {
                    for x in (cx * 2)..(cx * 2 + 2).min(w) {
                        for (s, &v) in sum.iter_mut().zip(&rgb[(y * w + x) * 3..]) {
                            *s += u32::from(v);
                        }
                        n += 1;
                    }
                }
                let [r, g, b] = sum.map(|s| ((s + n / 2) / n) as u8);
                let (_, u, v) = jpeg_encoder::rgb_to_ycbcr(r, g, b);
                us.push(u);
                vs.push(v);
            }
        }
        data.extend(us);
        data.extend(vs);
        Self::new(width, height, data, true, ColorMatrix::Bt601)
    }

    /// A copy of a picture as I420, at its own size.
    ///
    /// # Errors
    /// `Device` when the planes are shorter than they say.
    pub fn from_planes(planes: Planes<'_>) -> Result<Self, PictureError> {
        let whole = Rect::from_corners(0.0, 0.0, planes.width as f32, planes.height as f32);
        crop_planes(planes, whole, 0)
    }

    /// Draws the outline of `area`, `line` pixels wide inwards, in grey of this luma. What lies outside is left out.
    pub fn draw_box(&mut self, area: Rect, line: u32, luma: u8) {
        let Some(clipped) = area.clipped(self.width, self.height) else { return };
        let [x1, y1, x2, y2] = clipped.corners().map(|v| v.round() as usize);
        let (w, line) = (self.width as usize, line as usize);
        let (luma_bytes, cw, ch) = layout(self.width, self.height);
        let chroma = cw as usize * ch as usize;
        for y in y1..y2 {
            let whole_row = y < y1 + line || y + line >= y2;
            for x in x1..x2 {
                if whole_row || x < x1 + line || x + line >= x2 {
                    self.data[y * w + x] = luma;
                    let at = luma_bytes + y / 2 * cw as usize + x / 2;
                    self.data[at] = 128;
                    self.data[at + chroma] = 128;
                }
            }
        }
    }

    /// The planes; unlike [`Picture::planes`] there always are some.
    #[must_use]
    pub fn view(&self) -> Planes<'_> {
        let (luma, cw, ch) = layout(self.width, self.height);
        let (y, chroma) = self.data.split_at(luma);
        let (u, v) = chroma.split_at(cw as usize * ch as usize);
        Planes {
            format: PixelFormat::I420,
            width: self.width,
            height: self.height,
            y,
            y_stride: self.width as usize,
            u,
            u_stride: cw as usize,
            v,
            v_stride: cw as usize,
            full_range: self.full_range,
            matrix: self.matrix,
        }
    }
}

impl Picture for HostPicture {
    fn width(&self) -> u32 {
        self.width
    }

    fn height(&self) -> u32 {
        self.height
    }

    fn planes(&self) -> Option<Planes<'_>> {
        Some(self.view())
    }

    fn crop(&self, area: Rect, max_side: u32) -> Result<Arc<dyn Picture>, PictureError> {
        Ok(Arc::new(crop_planes(self.view(), area, max_side)?))
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.data.capacity()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
