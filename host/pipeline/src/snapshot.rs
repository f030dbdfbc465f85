//! The latest analysed picture of a camera with its boxes drawn in, for REST and dashboard.

use std::sync::{Mutex, PoisonError};

use facestream_core::{Frame, Picture, Rect, Track, TrackPhase};
use facestream_pixels::HostPicture;

/// Longer side of a snapshot: enough to recognise a scene, small enough for a grid of a hundred.
const MAX_SIDE: u32 = 960;
/// JPEG quality of a snapshot.
const QUALITY: u8 = 80;
/// Width of a box's line in pixels of the snapshot.
const LINE: u32 = 2;

/// The latest frame and what was seen on it. Keeps one frame of the decoder's alive.
#[derive(Default)]
pub struct Latest {
    inner: Mutex<Option<(Frame, Vec<Track>)>>,
}

impl Latest {
    /// Replaces what is kept.
    pub fn set(&self, frame: Frame, tracks: Vec<Track>) {
        *self.inner.lock().unwrap_or_else(PoisonError::into_inner) = Some((frame, tracks));
    }

    /// The picture as JPEG; `None` before the first frame. Takes some milliseconds: not on the async runtime.
    ///
    /// # Errors
    /// When the pixels cannot be had or encoded, in words.
    pub fn jpeg(&self) -> Result<Option<Vec<u8>>, String> {
        let latest = self.inner.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some((frame, tracks)) = latest else { return Ok(None) };
        let (width, height) = (frame.picture.width(), frame.picture.height());
        let whole = Rect { x: 0.0, y: 0.0, width: width as f32, height: height as f32 };
        let copy = frame.picture.crop(whole, MAX_SIDE).map_err(|e| e.to_string())?;
        let planes = copy.planes().ok_or("a crop lies in host memory")?;
        let mut picture = HostPicture::from_planes(planes).map_err(|e| e.to_string())?;
        let scale = picture.width() as f32 / width as f32;
        for track in tracks.iter().filter(|t| t.phase != TrackPhase::Lost) {
            let b = track.bbox;
            let area = Rect { x: b.x * scale, y: b.y * scale, width: b.width * scale, height: b.height * scale };
            let luma = if track.phase == TrackPhase::Confirmed { 235 } else { 128 };
            picture.draw_box(area, LINE, luma);
        }
        facestream_pixels::jpeg(picture.view(), QUALITY).map(Some).map_err(|e| e.to_string())
    }
}
