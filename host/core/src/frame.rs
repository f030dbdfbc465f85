//! A decoded frame and where its pixels live.
//!
//! Owns the seam between decoders (CPU or GPU) and everything that looks at pixels. Must not convert or scale:
//! `facestream-pixels` does that for pictures in host memory, the GPU decoder for its own.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::geometry::Rect;

/// Where a frame stands in its camera's history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameInfo {
    /// Grows by one whenever the camera was connected anew.
    pub session: u64,
    /// Number of the decoded frame within its session, from 0; gaps are frames that were not analysed.
    pub sequence: u64,
    /// Nanoseconds on a clock that never goes back for as long as the camera runs, across sessions too.
    pub timestamp_ns: u64,
    /// Capture time, nanoseconds since the Unix epoch.
    pub captured_at_ns: u64,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// One decoded frame. Cheap to clone: the picture is shared.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Identity and time.
    pub info: FrameInfo,
    /// The pixels.
    pub picture: Arc<dyn Picture>,
}

/// Chroma layout of 8-bit planar YUV in host memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelFormat {
    /// 4:2:0, three planes.
    I420,
    /// 4:2:2, three planes.
    I422,
    /// 4:4:4, three planes.
    I444,
    /// 4:2:0, Y plane and interleaved UV plane (passed in `Planes::u`; `Planes::v` is empty).
    Nv12,
}

/// Matrix of the YUV to RGB conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColorMatrix {
    /// ITU-R BT.601, the default below 720 lines.
    Bt601,
    /// ITU-R BT.709, the default from 720 lines on.
    Bt709,
}

/// A view of a picture in host memory.
#[derive(Clone, Copy)]
pub struct Planes<'a> {
    /// Chroma layout.
    pub format: PixelFormat,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Luma rows.
    pub y: &'a [u8],
    /// Bytes from one luma row to the next.
    pub y_stride: usize,
    /// First chroma plane (or interleaved UV for NV12).
    pub u: &'a [u8],
    /// Bytes from one row of `u` to the next.
    pub u_stride: usize,
    /// Second chroma plane; empty for NV12.
    pub v: &'a [u8],
    /// Bytes from one row of `v` to the next.
    pub v_stride: usize,
    /// Whether luma covers 0..=255 (JPEG) rather than 16..=235 (video).
    pub full_range: bool,
    /// Conversion matrix.
    pub matrix: ColorMatrix,
}

impl fmt::Debug for Planes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Planes({:?} {}x{})", self.format, self.width, self.height)
    }
}

/// Why a piece of a picture could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    /// The rectangle does not touch the frame or is smaller than one pixel.
    #[error("the rectangle does not touch the {width}x{height} frame, or is smaller than one pixel")]
    OutOfFrame {
        /// Frame width.
        width: u32,
        /// Frame height.
        height: u32,
    },
    /// The device that holds the pixels refused.
    #[error("reading pixels from the device failed: {0}")]
    Device(String),
}

/// A part of a picture, brought to host memory.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// It, at the source's resolution.
    pub picture: Arc<dyn Picture>,
    /// Place of its first pixel in the whole picture.
    pub origin: (u32, u32),
}

/// Luma scaled where the picture lies, row by row, levels as they are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaledLuma {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// One byte a pixel.
    pub data: Vec<u8>,
    /// Whether it covers 0..=255 rather than 16..=235.
    pub full_range: bool,
}

/// What luma is scaled for, as `facestream-pixels` does it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LumaUse {
    /// To measure quality of this area.
    Measure(Rect),
    /// A grey copy of the whole picture, longer side at most this (0: as it is).
    Copy(u32),
}

/// Pixels of one frame, in host memory or on a device.
pub trait Picture: Send + Sync + fmt::Debug + Any {
    /// Width in pixels.
    fn width(&self) -> u32;
    /// Height in pixels.
    fn height(&self) -> u32;
    /// The planes, when they lie in host memory.
    fn planes(&self) -> Option<Planes<'_>>;
    /// A copy of a part of the picture in host memory, longer side scaled down to `max_side` (0 keeps the source's
    /// resolution). The rectangle is clipped to the frame first.
    ///
    /// # Errors
    /// `OutOfFrame` when nothing is left after clipping; `Device` when a GPU read-back fails.
    fn crop(&self, area: Rect, max_side: u32) -> Result<Arc<dyn Picture>, PictureError>;
    /// The pixels that `area` touches, as they are, for pictures that do not lie in host memory; those that do give `None`:
    /// their [`Picture::planes`] are there.
    ///
    /// # Errors
    /// As [`Picture::crop`].
    fn fetch(&self, _area: Rect) -> Result<Option<Fetched>, PictureError> {
        Ok(None)
    }
    /// Brings from the device, for pictures that do not lie in host memory, what a [`Picture::crop`] with these arguments
    /// needs, so that waiting and cutting can be told apart. An error shows again there.
    fn prepare(&self, area: Rect, _max_side: u32) {
        drop(self.fetch(area));
    }
    /// Luma scaled by the device that holds the picture, to the bytes that `facestream-pixels` comes to; `None` where the
    /// picture lies in host memory, or it is better to bring the pixels here as they are ([`Picture::fetch`]).
    ///
    /// # Errors
    /// As [`Picture::crop`].
    fn scaled_luma(&self, _what: LumaUse) -> Result<Option<ScaledLuma>, PictureError> {
        Ok(None)
    }
    /// Bytes of memory this picture keeps alive, host or device.
    fn bytes(&self) -> usize;
    /// For backends that need their own type back (a CUDA preprocessor its surface).
    fn as_any(&self) -> &dyn Any;
}
