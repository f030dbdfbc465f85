//! Pictures of scenes: a textured background and textured faces whose sharpness is set by number.
//!
//! Owns drawing and a small cache of frames. No file is read: the same scene gives the same pixels everywhere.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use facestream_core::frame::{ColorMatrix, Picture};
use facestream_core::{FrameInfo, PictureError, Rect};
use facestream_pixels::HostPicture;

use crate::scene::{Face, Random, Scene};

/// Pixels of an empty frame, by its size.
type Backgrounds = HashMap<(u32, u32), Arc<Vec<u8>>>;
/// Frames by scene and number.
type Kept = HashMap<(&'static str, usize), Arc<dyn Picture>>;

/// Draws frames; keeps those that a scene repeats.
#[derive(Debug, Default)]
pub(crate) struct Studio {
    backgrounds: RefCell<Backgrounds>,
    kept: RefCell<Kept>,
}

impl Studio {
    /// The picture of one frame of a scene.
    pub(crate) fn picture(&self, scene: &Scene, frame: usize) -> Result<Arc<dyn Picture>, PictureError> {
        let shown = frame % scene.pictures;
        // A size change must show in the picture too, so such frames are drawn as they are.
        let (now, drawn) = (&scene.frames[frame], &scene.frames[shown]);
        let repeats = scene.pictures < scene.frames.len();
        if repeats && let Some(picture) = self.kept.borrow().get(&(scene.name, shown)) {
            return Ok(Arc::clone(picture));
        }
        let faces = if repeats { &drawn.faces } else { &now.faces };
        let picture: Arc<dyn Picture> = Arc::new(self.draw(&now.info, faces)?);
        if repeats {
            self.kept.borrow_mut().insert((scene.name, shown), Arc::clone(&picture));
        }
        Ok(picture)
    }

    fn draw(&self, info: &FrameInfo, faces: &[Face]) -> Result<HostPicture, PictureError> {
        let (width, height) = (info.width, info.height);
        let background = {
            let mut all = self.backgrounds.borrow_mut();
            Arc::clone(all.entry((width, height)).or_insert_with(|| Arc::new(background(width, height))))
        };
        let mut data = Vec::clone(&background);
        for face in faces {
            texture(&mut data, width, height, &face.detection.bbox, face.sharpness, face.walker as u64);
        }
        HostPicture::new(width, height, data, true, ColorMatrix::Bt601)
    }
}

/// A large picture that compresses badly: noise in luma and chroma.
pub(crate) fn noise(width: u32, height: u32) -> Result<HostPicture, PictureError> {
    let mut random = Random::new(3);
    let bytes = width as usize * height as usize + 2 * (width.div_ceil(2) as usize * height.div_ceil(2) as usize);
    let data = (0..bytes).map(|_| random.next() as u8).collect();
    HostPicture::new(width, height, data, true, ColorMatrix::Bt601)
}

/// A soft gradient: little sharpness of its own, so that a scorer that takes the background is told by its score.
fn background(width: u32, height: u32) -> Vec<u8> {
    let luma = width as usize * height as usize;
    let chroma = width.div_ceil(2) as usize * height.div_ceil(2) as usize;
    let mut data = vec![128; luma + 2 * chroma];
    for (i, y) in data[..luma].iter_mut().enumerate() {
        let (column, row) = (i % width as usize, i / width as usize);
        *y = 60 + (column * 60 / width as usize + row * 40 / height as usize) as u8;
    }
    data
}

/// Blocks of 4 x 4 pixels whose contrast is the sharpness, around a mean of 128.
fn texture(data: &mut [u8], width: u32, height: u32, area: &Rect, sharpness: f32, seed: u64) {
    let Some(clipped) = area.clipped(width, height) else { return };
    let [x1, y1, x2, y2] = clipped.corners().map(|v| v.round() as usize);
    let contrast = (sharpness.clamp(0.0, 1.0) * 100.0) as i32;
    for y in y1..y2.min(height as usize) {
        for x in x1..x2.min(width as usize) {
            let block = Random::new(seed ^ (((x / 4) as u64) << 20) ^ ((y / 4) as u64) << 40).next();
            let step = if block & 1 == 0 { contrast } else { -contrast };
            data[y * width as usize + x] = (128 + step).clamp(0, 255) as u8;
        }
    }
}
