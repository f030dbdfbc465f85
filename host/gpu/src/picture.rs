//! Pictures in device memory.
//!
//! Owns NV12 frames that outlive the decoder's surface, and reading parts of them back: as the decoder's own bytes, which
//! `facestream-pixels` scales and measures as it does any other picture's, or scaled down where they lie. Either way a crop
//! from a GPU equals the same crop from host memory bit for bit.
//!
//! A scorer looks at every face of a frame, one after the other, and a wait for the GPU costs more than the bytes: the
//! first look at a frame brings all faces that were found in it ([`DevicePicture::expect`]), the others find theirs there.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use facestream_core::frame::{ColorMatrix, Fetched, LumaUse, Picture, PictureError, Planes, ScaledLuma};
use facestream_core::geometry::Rect;
use facestream_pixels::{HostPicture, Scaling, Window, crop_planes, crop_window, measured_window};

use crate::buffer::{Block, Stream};
use crate::device::Gpu;
use crate::error::GpuError;
use crate::part::{Part, Parts, extents};
use crate::scaled::{self, Samples};

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
    parts: Mutex<Parts>,
}

/// Scaling on the device pays where much less comes back than lies there.
const LESS: u32 = 4;

/// How much around a found face comes with it, as a share of its sides: trackers' boxes are not quite detectors', and
/// scorers cut with a margin (`best-shot`: 0.2).
const AROUND: f32 = 0.25;

/// Bytes of a frame that are read back unasked; what was expected beyond them is fetched when it is looked at.
const MAX_EXPECTED_BYTES: usize = 1 << 20;

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
        Ok(Self { gpu: Arc::clone(gpu), address, bytes, pitch, width, height, colour, parts: Mutex::default() })
    }

    /// What will be looked at: the faces found in it, best first. Nothing is read before the first look.
    pub fn expect(&self, areas: impl IntoIterator<Item = Rect>) {
        let window = |area: Rect| crop_window(self.width, self.height, area.with_margin(AROUND)).ok();
        let mut bytes = 0;
        let fits = |window: &Window| {
            let (w, h, cw, ch) = extents(window.width, window.height);
            bytes += w * h + cw * ch;
            bytes <= MAX_EXPECTED_BYTES
        };
        self.parts().expected = areas.into_iter().filter_map(window).take_while(fits).collect();
    }

    /// A crop scaled by the device, where that is the better way.
    fn scaled_crop(&self, window: Window, max_side: u32) -> Result<Option<Arc<HostPicture>>, PictureError> {
        {
            let parts = self.parts();
            if let Some((_, _, crop)) = parts.scaled.iter().find(|(w, side, _)| (*w, *side) == (window, max_side)) {
                return Ok(Some(Arc::clone(crop)));
            }
            if parts.cover(&window) {
                return Ok(None);
            }
        }
        let longest = window.width.max(window.height);
        if max_side == 0 || u64::from(max_side) * u64::from(max_side) * u64::from(LESS) > u64::from(longest).pow(2) {
            return Ok(None);
        }
        let [luma, chroma] = Scaling::of_crop(window, max_side);
        let (width, height) = luma.size;
        let planes = self.samples(window).into_iter().zip([luma, chroma]).collect::<Vec<_>>();
        let Some(data) = self.scaled(&planes)? else { return Ok(None) };
        let crop = HostPicture::new(width, height, data, self.colour.full_range, self.colour.matrix)?;
        let crop = Arc::new(crop);
        let mut parts = self.parts();
        if parts.kept + crop.bytes() <= self.bytes + MAX_EXPECTED_BYTES {
            parts.kept += crop.bytes();
            parts.scaled.push((window, max_side, Arc::clone(&crop)));
        }
        Ok(Some(crop))
    }

    /// Planes scaled by the device, one after the other; `None` where that is not its work.
    fn scaled(&self, planes: &[(Samples, Scaling)]) -> Result<Option<Vec<u8>>, PictureError> {
        if !scaled::worthwhile(planes) {
            return Ok(None);
        }
        let total = planes.iter().map(|(p, s)| p.step * s.size.0 as usize * s.size.1 as usize).sum();
        // SAFETY: windows lie inside of the picture, and scalings made for them name samples inside of them (tested against
        // the processor's in `facestream-pixels`); the picture lives as long as `self`.
        let read = unsafe { self.gpu.read_scaled(planes) }.map_err(|e| PictureError::Device(e.to_string()))?;
        Ok(Some(read.bytes()[..total].to_vec()))
    }

    /// Luma and chroma from the corner of a window, which is on even pixels where chroma is meant.
    fn samples(&self, window: Window) -> [Samples; 2] {
        let [luma, chroma] = self.blocks(window.x, window.y, window.width, window.height);
        let of = |block: Block, step| Samples { address: block.address, pitch: block.pitch, step };
        [of(luma, 1), of(chroma, 2)]
    }

    fn parts(&self) -> std::sync::MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The window in host memory, as part of what was read back before or is read back now.
    fn part(&self, window: Window) -> Result<Arc<Part>, PictureError> {
        let mut parts = self.parts();
        if let Some(part) = parts.read.iter().find(|part| part.window.contains(&window)) {
            return Ok(Arc::clone(part));
        }
        let mut windows = std::mem::take(&mut parts.expected);
        if !windows.iter().any(|w| w.contains(&window)) {
            windows.push(window);
        }
        let blocks: Vec<Block> = windows.iter().flat_map(|w| self.blocks(w.x, w.y, w.width, w.height)).collect();
        let memory = self.gpu.read_blocks(&blocks).map_err(|e| PictureError::Device(e.to_string()))?;
        let memory = Arc::new(memory);
        let mut at = 0;
        let read: Vec<_> = windows
            .into_iter()
            .map(|window| {
                let part = Part { window, colour: self.colour, memory: Arc::clone(&memory), at };
                let (w, h, cw, ch) = extents(window.width, window.height);
                at += w * h + cw * ch;
                Arc::new(part)
            })
            .collect();
        let found = read.iter().find(|part| part.window.contains(&window)).cloned();
        // A guest may look at as many places as its budget allows; what is kept for the next look is bounded all the same.
        if parts.kept + at <= self.bytes + MAX_EXPECTED_BYTES {
            parts.kept += at;
            parts.read.extend(read);
        }
        found.ok_or_else(|| PictureError::Device("a part that was read back is missing".to_owned()))
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
        if let Some(crop) = self.scaled_crop(window, max_side)? {
            return Ok(crop);
        }
        let part = self.part(window)?;
        let moved = window.seen_from((part.window.x, part.window.y));
        Ok(Arc::new(crop_planes(part.view(), moved, max_side)?))
    }

    fn fetch(&self, area: Rect) -> Result<Option<Fetched>, PictureError> {
        let part = self.part(crop_window(self.width, self.height, area)?)?;
        let origin = (part.window.x, part.window.y);
        Ok(Some(Fetched { picture: part, origin }))
    }

    fn prepare(&self, area: Rect, max_side: u32) {
        let window = crop_window(self.width, self.height, area);
        if !matches!(window.and_then(|w| self.scaled_crop(w, max_side)), Ok(Some(_))) {
            drop(self.fetch(area));
        }
    }

    fn scaled_luma(&self, what: LumaUse) -> Result<Option<ScaledLuma>, PictureError> {
        let window = match what {
            LumaUse::Measure(area) => measured_window(self.width, self.height, area)?,
            LumaUse::Copy(_) => Window { x: 0, y: 0, width: self.width, height: self.height },
        };
        // Most looks end here: at a face that is read back with the others.
        let (width, height) = Scaling::size_of_luma(window, what);
        let pixels = |width, height| u64::from(width) * u64::from(height);
        let large = pixels(window.width, window.height) >= pixels(width, height) * u64::from(LESS);
        if !large || self.parts().cover(&window) {
            return Ok(None);
        }
        let [luma, _] = self.samples(window);
        let data = self.scaled(&[(luma, Scaling::of_luma(window, what))])?;
        Ok(data.map(|data| ScaledLuma { width, height, data, full_range: self.colour.full_range }))
    }

    fn bytes(&self) -> usize {
        self.bytes + self.parts().kept
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
