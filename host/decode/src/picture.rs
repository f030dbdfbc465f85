//! Decoded pictures: a reference-counted FFmpeg frame seen as planes, without a copy.
//!
//! Owns which of FFmpeg's pixel formats pass as they are and how the others become I420.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use facestream_core::frame::{ColorMatrix, Picture, PictureError, PixelFormat, Planes};
use facestream_core::geometry::Rect;
use facestream_gpu::{Colour, DevicePicture, GpuError};
use facestream_pixels::crop_planes;
use ffmpeg_next::color::{Range, Space};
use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame;

use crate::ffi::{self, Converter, HwDevice};

/// A frame as the decoder gave it out. The decoder's buffer lives as long as the last clone of it.
pub struct DecodedPicture {
    video: frame::Video,
    format: PixelFormat,
    full_range: bool,
    matrix: ColorMatrix,
}

impl fmt::Debug for DecodedPicture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecodedPicture({:?} {}x{})", self.format, self.video.width(), self.video.height())
    }
}

impl DecodedPicture {
    fn plane(&self, index: usize) -> Option<(&[u8], usize)> {
        let (w, h) = (self.video.width() as usize, self.video.height() as usize);
        let (cw, ch) = (w.div_ceil(2), h.div_ceil(2));
        let (rows, bytes) = match (index, self.format) {
            (0, _) | (1 | 2, PixelFormat::I444) => (h, w),
            (1 | 2, PixelFormat::I420) => (ch, cw),
            (1 | 2, PixelFormat::I422) => (h, cw),
            (1, PixelFormat::Nv12) => (ch, 2 * cw),
            _ => return None,
        };
        ffi::plane(&self.video, index, rows, bytes)
    }

    fn view(&self) -> Option<Planes<'_>> {
        let (y, y_stride) = self.plane(0)?;
        let (u, u_stride) = self.plane(1)?;
        let (v, v_stride) = match self.format {
            PixelFormat::Nv12 => (&[][..], 0),
            _ => self.plane(2)?,
        };
        Some(Planes {
            format: self.format,
            width: self.video.width(),
            height: self.video.height(),
            y,
            y_stride,
            u,
            u_stride,
            v,
            v_stride,
            full_range: self.full_range,
            matrix: self.matrix,
        })
    }
}

impl Picture for DecodedPicture {
    fn width(&self) -> u32 {
        self.video.width()
    }

    fn height(&self) -> u32 {
        self.video.height()
    }

    fn planes(&self) -> Option<Planes<'_>> {
        self.view()
    }

    fn crop(&self, area: Rect, max_side: u32) -> Result<Arc<dyn Picture>, PictureError> {
        let planes = self.view().ok_or_else(|| PictureError::Device("the decoder gave no planes".to_owned()))?;
        Ok(Arc::new(crop_planes(planes, area, max_side)?))
    }

    fn bytes(&self) -> usize {
        ffi::buffer_bytes(&self.video)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Makes pictures of frames; keeps the converter of the latest format that does not pass as it is.
#[derive(Default)]
pub(crate) struct PictureMaker {
    converter: Option<Converter>,
}

impl PictureMaker {
    /// Copies a frame of the device to memory of its own, so that its surface goes back to the decoder.
    pub(crate) fn copy(&self, video: &frame::Video, device: &HwDevice) -> Result<DevicePicture, GpuError> {
        let gpu = device.stream().gpu();
        let none =
            || GpuError::Call { gpu: gpu.ordinal(), what: "decoding", reason: "a frame has no planes".to_owned() };
        let surface = ffi::surface(video).ok_or_else(none)?;
        let colour = Colour { full_range: video.color_range() == Range::JPEG, matrix: matrix(video) };
        DevicePicture::copy_of(&surface, colour, device.stream())
    }

    /// Wraps the frame, or converts it to 8-bit I420 when its format is none of the four that pass.
    pub(crate) fn make(&mut self, video: frame::Video) -> Result<DecodedPicture, ffmpeg_next::Error> {
        let passing = match video.format() {
            Pixel::YUV420P => Some((PixelFormat::I420, false)),
            Pixel::YUVJ420P => Some((PixelFormat::I420, true)),
            Pixel::YUV422P => Some((PixelFormat::I422, false)),
            Pixel::YUVJ422P => Some((PixelFormat::I422, true)),
            Pixel::YUV444P => Some((PixelFormat::I444, false)),
            Pixel::YUVJ444P => Some((PixelFormat::I444, true)),
            Pixel::NV12 => Some((PixelFormat::Nv12, false)),
            _ => None,
        };
        let Some((format, full)) = passing else { return self.convert(&video) };
        let full_range = full || video.color_range() == Range::JPEG;
        let matrix = matrix(&video);
        let picture = DecodedPicture { video, format, full_range, matrix };
        // A frame stored bottom up (negative stride) gives no planes; the converter turns it.
        if picture.view().is_some() { Ok(picture) } else { self.convert(&picture.video) }
    }

    /// 10-bit, grey, RGB, palette and the rarer chroma layouts.
    fn convert(&mut self, video: &frame::Video) -> Result<DecodedPicture, ffmpeg_next::Error> {
        let format = video.format();
        let name = format.descriptor().map_or("", |d| d.name());
        // swscale takes grey and yuvj formats for full range whatever the frame is tagged. A full-range target keeps
        // their values as they are, and the frame's own tag then says what they mean.
        let keeps_full = name.starts_with("gray") || name.starts_with("ya") || name.starts_with("yuvj");
        let target = if keeps_full { Pixel::YUVJ420P } else { Pixel::YUV420P };
        let converter = match &mut self.converter {
            Some(c) if c.takes(video) => c,
            slot => slot.insert(Converter::new(format, video.width(), video.height(), target)?),
        };
        let converted = converter.run(video)?;
        // RGB becomes limited-range BT.601, swscale's default.
        let rgb = ffi::is_rgb(format);
        Ok(DecodedPicture {
            format: PixelFormat::I420,
            full_range: !rgb && (name.starts_with("yuvj") || video.color_range() == Range::JPEG),
            matrix: if rgb { ColorMatrix::Bt601 } else { matrix(video) },
            video: converted,
        })
    }
}

/// The tagged matrix; untagged pictures by their height, as players do. BT.2020 is read as BT.709, the nearer of the two.
fn matrix(video: &frame::Video) -> ColorMatrix {
    match video.color_space() {
        Space::BT470BG | Space::SMPTE170M | Space::FCC => ColorMatrix::Bt601,
        Space::Unspecified | Space::Reserved | Space::RGB if video.height() < 720 => ColorMatrix::Bt601,
        // JFIF is BT.601 at any size; FFmpeg tags it BT470BG, so it does not come here.
        _ => ColorMatrix::Bt709,
    }
}
