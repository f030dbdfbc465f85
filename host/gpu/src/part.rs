//! Parts of pictures that were brought to host memory, and what is known of them.
//!
//! Owns their layout only; when they are read, and how much is kept, is the picture's business.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use facestream_core::frame::{Picture, PictureError, PixelFormat, Planes};
use facestream_core::geometry::Rect;
use facestream_pixels::{HostPicture, Window, crop_planes};

use crate::buffer::Lent;
use crate::picture::Colour;

/// What is expected to be looked at, and what was read back.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// Read back at the first look, all together.
    pub(crate) expected: Vec<Window>,
    pub(crate) read: Vec<Arc<Part>>,
    /// Crops that the device scaled: of which part, with which longest side.
    pub(crate) scaled: Vec<(Window, u32, Arc<HostPicture>)>,
    /// Bytes of `read` and `scaled`.
    pub(crate) kept: usize,
}

impl Parts {
    /// Whether the window is here, or comes with what is expected.
    pub(crate) fn cover(&self, window: &Window) -> bool {
        self.read.iter().any(|p| p.window.contains(window)) || self.expected.iter().any(|e| e.contains(window))
    }
}

/// A part of a picture in host memory: NV12, packed.
pub(crate) struct Part {
    pub(crate) window: Window,
    pub(crate) colour: Colour,
    pub(crate) memory: Arc<Lent>,
    pub(crate) at: usize,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Part({:?})", self.window)
    }
}

impl Part {
    pub(crate) fn view(&self) -> Planes<'_> {
        let (w, h, cw, ch) = extents(self.window.width, self.window.height);
        let bytes = &self.memory.bytes()[self.at..];
        Planes {
            format: PixelFormat::Nv12,
            width: self.window.width,
            height: self.window.height,
            y: &bytes[..w * h],
            y_stride: w,
            u: &bytes[w * h..][..cw * ch],
            u_stride: cw,
            v: &[],
            v_stride: 0,
            full_range: self.colour.full_range,
            matrix: self.colour.matrix,
        }
    }
}

impl Picture for Part {
    fn width(&self) -> u32 {
        self.window.width
    }

    fn height(&self) -> u32 {
        self.window.height
    }

    fn planes(&self) -> Option<Planes<'_>> {
        Some(self.view())
    }

    fn crop(&self, area: Rect, max_side: u32) -> Result<Arc<dyn Picture>, PictureError> {
        Ok(Arc::new(crop_planes(self.view(), area, max_side)?))
    }

    fn bytes(&self) -> usize {
        self.window.width as usize * self.window.height as usize * 3 / 2
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Bytes of a luma row, luma rows, bytes of a chroma row, chroma rows.
pub(crate) fn extents(width: u32, height: u32) -> (usize, usize, usize, usize) {
    let (w, h) = (width as usize, height as usize);
    (w, h, w.div_ceil(2) * 2, h.div_ceil(2))
}
