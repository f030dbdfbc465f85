//! Pictures: lent frames and owned crops. Pixels stay on the host's side until a guest asks for them.
//!
//! On `wasm32` these are the host's resource handles; natively they are the fakes of `testing`.

use crate::types::Rect;

pub use crate::bindings::scorer::facestream::analytics::pixels::{
    CropOptions, GrayImage, PixelError, Quality, RgbImage,
};

#[cfg(all(target_arch = "wasm32", not(feature = "fake-host")))]
use crate::bindings::scorer::facestream::analytics::pixels as backend;
#[cfg(not(all(target_arch = "wasm32", not(feature = "fake-host"))))]
use crate::testing as backend;

impl Default for CropOptions {
    fn default() -> Self {
        Self { margin: 0.0, max_side: 0 }
    }
}

/// A frame of the source at full resolution, lent for one call.
#[derive(Debug)]
pub struct Frame<'a> {
    pub(crate) inner: &'a backend::Frame,
}

impl<'a> Frame<'a> {
    /// Wraps what the host (or a test) lends.
    #[must_use]
    pub fn new(inner: &'a backend::Frame) -> Self {
        Self { inner }
    }

    /// A piece of the frame that the guest owns. Counts against its crop budget until dropped.
    ///
    /// # Errors
    /// Out of frame, over budget, or the device failed.
    pub fn crop(&self, area: Rect, options: CropOptions) -> Result<Crop, PixelError> {
        self.inner.crop(area, options).map(Crop::from_host)
    }

    /// Sharpness and brightness of a part, without making a crop of it: the cheap way to decide.
    ///
    /// # Errors
    /// Out of frame, or the device failed.
    pub fn measure(&self, area: Rect) -> Result<Quality, PixelError> {
        self.inner.measure(area)
    }

    /// Grey picture, longer side at most `max_side`.
    ///
    /// # Errors
    /// Over budget, or the device failed.
    pub fn luma(&self, max_side: u32) -> Result<GrayImage, PixelError> {
        self.inner.luma(max_side)
    }
}

/// A piece of a frame that the guest owns. Moving it copies no pixel.
#[derive(Debug)]
pub struct Crop {
    inner: backend::Crop,
}

impl Crop {
    /// Wraps the host's handle.
    #[must_use]
    pub fn from_host(inner: backend::Crop) -> Self {
        Self { inner }
    }

    /// The host's handle.
    #[must_use]
    pub fn into_host(self) -> backend::Crop {
        self.inner
    }

    /// Width and height in pixels.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        self.inner.size()
    }

    /// Sharpness and brightness of the whole crop.
    #[must_use]
    pub fn measure(&self) -> Quality {
        self.inner.measure()
    }

    /// Grey picture, longer side at most `max_side`.
    ///
    /// # Errors
    /// When the host cannot give it.
    pub fn luma(&self, max_side: u32) -> Result<GrayImage, PixelError> {
        self.inner.luma(max_side)
    }

    /// Packed RGB, three bytes a pixel, longer side at most `max_side`.
    ///
    /// # Errors
    /// When the host cannot give it.
    pub fn rgb(&self, max_side: u32) -> Result<RgbImage, PixelError> {
        self.inner.rgb(max_side)
    }

    /// A JPEG file; `quality` from 1 to 100.
    ///
    /// # Errors
    /// When the host cannot encode it.
    pub fn jpeg(&self, quality: u8) -> Result<Vec<u8>, PixelError> {
        self.inner.jpeg(quality)
    }
}
