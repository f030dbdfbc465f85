//! Pictures in device memory.
//!
//! Owns NV12 frames that outlive the decoder's surface, and reading parts of them back. Pixels read back are the
//! decoder's own bytes, and `facestream-pixels` scales them as it scales any other picture: a crop from a GPU equals the
//! same crop from host memory bit for bit.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use facestream_core::frame::{ColorMatrix, Picture, PictureError, PixelFormat, Planes};
use facestream_core::geometry::Rect;
use facestream_pixels::{crop_planes, crop_window};

use crate::buffer::{Block, Stream};
use crate::device::Gpu;
use crate::error::GpuError;

/// Rows begin at multiples of this, as textures and wide loads like it.
const PITCH: usize = 256;

/// How the numbers of a picture become colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    /// Luma covers 0..=255 rather than 16..=235.
    pub full_range: bool,
    /// Conversion matrix.
    pub matrix: ColorMatrix,
}

/// An NV12 surface in device memory, as a decoder gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SurfaceLayout {
    /// Device address of the first luma row.
    pub luma: u64,
    /// Bytes from one luma row to the next.
    pub luma_pitch: usize,
    /// Device address of the first row of interleaved chroma.
    pub chroma: u64,
    /// Bytes from one chroma row to the next.
    pub chroma_pitch: usize,
    /// Picture width in pixels.
    pub width: u32,
    /// Picture height in pixels.
    pub height: u32,
}

/// An 8-bit NV12 picture in device memory of its own.
pub struct DevicePicture {
    gpu: Arc<Gpu>,
    address: u64,
    bytes: usize,
    pitch: usize,
    width: u32,
    height: u32,
    colour: Colour,
}

impl fmt::Debug for DevicePicture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DevicePicture({}x{} on cuda:{})", self.width, self.height, self.gpu.ordinal())
    }
}

impl DevicePicture {
    /// Copies a decoder's surface, which can go back to the decoder when this returns: surfaces are few, and a decoder
    /// that has none left fails. The copy takes 3 µs at 1080p (device memory to device memory).
    ///
    /// # Errors
    /// When memory or the GPU is gone.
    pub fn copy_of(surface: &SurfaceLayout, colour: Colour, stream: &Stream) -> Result<Self, GpuError> {
        let picture = Self::empty(stream.gpu(), surface.width, surface.height, colour)?;
        let [luma, chroma] = picture.blocks(0, 0, surface.width, surface.height);
        let from = |address, pitch, like: Block| Block { address, pitch, ..like };
        let gpu = stream.gpu();
        gpu.copy_block(from(surface.luma, surface.luma_pitch, luma), luma, stream)?;
        gpu.copy_block(from(surface.chroma, surface.chroma_pitch, chroma), chroma, stream)?;
        stream.synchronize()?;
        Ok(picture)
    }

    /// Brings NV12 bytes to the device: luma rows, then chroma rows, without gaps.
    ///
    /// # Errors
    /// When memory or the GPU is gone, or there are too few bytes.
    pub fn upload(nv12: &[u8], width: u32, height: u32, colour: Colour, stream: &Stream) -> Result<Self, GpuError> {
        let (w, h, cw, ch) = extents(width, height);
        let gpu = stream.gpu();
        if nv12.len() < w * h + cw * ch {
            let reason = format!("{} bytes are too few for NV12 of {width}x{height}", nv12.len());
            return Err(GpuError::Call { gpu: gpu.ordinal(), what: "copying to it", reason });
        }
        let staging = crate::buffer::Buffer::new(gpu, nv12.len())?;
        stream.upload(nv12, &staging, 0)?;
        let surface = SurfaceLayout {
            luma: staging.address(),
            luma_pitch: w,
            chroma: staging.address() + (w * h) as u64,
            chroma_pitch: cw,
            width,
            height,
        };
        // Waits for the stream, so `staging` may go.
        Self::copy_of(&surface, colour, stream)
    }

    fn empty(gpu: &Arc<Gpu>, width: u32, height: u32, colour: Colour) -> Result<Self, GpuError> {
        let (_, h, cw, ch) = extents(width, height);
        let pitch = cw.next_multiple_of(PITCH);
        let bytes = pitch * (h + ch);
        let address = gpu.take_picture(bytes)?;
        Ok(Self { gpu: Arc::clone(gpu), address, bytes, pitch, width, height, colour })
    }

    /// The GPU it lies on.
    #[must_use]
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// Where its planes lie.
    #[must_use]
    pub fn layout(&self) -> SurfaceLayout {
        SurfaceLayout {
            luma: self.address,
            luma_pitch: self.pitch,
            chroma: self.address + (self.pitch * self.height as usize) as u64,
            chroma_pitch: self.pitch,
            width: self.width,
            height: self.height,
        }
    }

    /// How its numbers become colours.
    #[must_use]
    pub fn colour(&self) -> Colour {
        self.colour
    }

    /// Luma and chroma of a window whose corner is on even pixels.
    fn blocks(&self, x: u32, y: u32, width: u32, height: u32) -> [Block; 2] {
        let (w, h, cw, ch) = extents(width, height);
        let (x, y) = (x as usize, y as usize);
        let at = |rows: usize| self.address + (self.pitch * rows + x) as u64;
        [
            Block { address: at(y), pitch: self.pitch, width: w, rows: h },
            Block { address: at(self.height as usize + y / 2), pitch: self.pitch, width: cw, rows: ch },
        ]
    }
}

/// Bytes of a luma row, luma rows, bytes of a chroma row, chroma rows.
fn extents(width: u32, height: u32) -> (usize, usize, usize, usize) {
    let (w, h) = (width as usize, height as usize);
    (w, h, w.div_ceil(2) * 2, h.div_ceil(2))
}

impl Picture for DevicePicture {
    fn width(&self) -> u32 {
        self.width
    }

    fn height(&self) -> u32 {
        self.height
    }

    fn planes(&self) -> Option<Planes<'_>> {
        None
    }

    fn crop(&self, area: Rect, max_side: u32) -> Result<Arc<dyn Picture>, PictureError> {
        let window = crop_window(self.width, self.height, area)?;
        let blocks = self.blocks(window.x, window.y, window.width, window.height);
        let bytes = self.gpu.read_blocks(&blocks).map_err(|e| PictureError::Device(e.to_string()))?;
        let (y, uv) = bytes.split_at(blocks[0].width * blocks[0].rows);
        let planes = Planes {
            format: PixelFormat::Nv12,
            width: window.width,
            height: window.height,
            y,
            y_stride: blocks[0].width,
            u: uv,
            u_stride: blocks[1].width,
            v: &[],
            v_stride: 0,
            full_range: self.colour.full_range,
            matrix: self.colour.matrix,
        };
        let whole = Rect { x: 0.0, y: 0.0, width: window.width as f32, height: window.height as f32 };
        Ok(Arc::new(crop_planes(planes, whole, max_side)?))
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for DevicePicture {
    fn drop(&mut self) {
        self.gpu.give_picture(self.address, self.bytes);
    }
}
