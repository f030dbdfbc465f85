//! A fake host: frames and crops without pixels of a camera, and captured log lines, so that guests are tested with
//! `cargo test` on any machine.
//!
//! Owns fakes that keep the real host's rules: crops count against a budget until dropped, rectangles are clipped,
//! `out-of-frame` and `over-budget` are answered as the host answers them. Must not reach wasm builds.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::log::Level;
use crate::pixels::{CropOptions, GrayImage, PixelError, Quality, RgbImage};
use crate::types::{Camera, Detection, FrameInfo, Rect, Track, TrackPhase};

thread_local! {
    static LOGS: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
    static LEVEL: Cell<Level> = const { Cell::new(Level::Trace) };
}

pub(crate) fn record_log(level: Level, message: &str) {
    LOGS.with_borrow_mut(|logs| {
        // As the real host, the fake one does not keep lines without bound.
        if logs.len() < 10_000 {
            logs.push((level, message.to_owned()));
        }
    });
}

pub(crate) fn log_enabled(level: Level) -> bool {
    level as u8 >= LEVEL.get() as u8
}

/// The lowest level that the fake host shows on this thread, as an operator would set it; at first all are shown.
pub fn set_log_level(level: Level) {
    LEVEL.set(level);
}

/// The log lines written on this thread since the last call.
#[must_use]
pub fn take_logs() -> Vec<(Level, String)> {
    LOGS.take()
}

/// What the fake host counts.
#[derive(Debug, Default)]
struct Counters {
    held_bytes: Cell<u64>,
    held: Cell<usize>,
    crops: Cell<usize>,
    measures: Cell<usize>,
    budget_bytes: Cell<u64>,
}

/// Where fake frames come from; counts what the guest does with them.
#[derive(Clone, Debug)]
pub struct FakeHost {
    counters: Rc<Counters>,
}

impl Default for FakeHost {
    fn default() -> Self {
        let host = Self { counters: Rc::default() };
        host.counters.budget_bytes.set(32 << 20);
        host
    }
}

impl FakeHost {
    /// A host that lets a guest hold so many crop bytes (three a pixel).
    #[must_use]
    pub fn with_budget(bytes: u64) -> Self {
        let host = Self::default();
        host.counters.budget_bytes.set(bytes);
        host
    }

    /// A frame in which every rectangle measures the same.
    #[must_use]
    pub fn frame(&self, width: u32, height: u32, quality: Quality) -> Frame {
        self.frame_with(width, height, move |_| quality)
    }

    /// A frame whose rectangles measure what the function says.
    #[must_use]
    pub fn frame_with(&self, width: u32, height: u32, measure: impl Fn(Rect) -> Quality + 'static) -> Frame {
        Frame { width, height, measure: Box::new(measure), counters: Rc::clone(&self.counters) }
    }

    /// A crop of its own, as a formatter gets it inside a shot.
    #[must_use]
    pub fn crop(&self, width: u32, height: u32, quality: Quality) -> crate::Crop {
        crate::Crop::from_host(Crop::new(width, height, quality, &self.counters))
    }

    /// Crops held now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.counters.held.get()
    }

    /// Crop bytes held now.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.counters.held_bytes.get()
    }

    /// Crops made so far.
    #[must_use]
    pub fn crops(&self) -> usize {
        self.counters.crops.get()
    }

    /// Measurements of frames so far.
    #[must_use]
    pub fn measures(&self) -> usize {
        self.counters.measures.get()
    }
}

/// The backend of [`crate::Frame`] on native targets.
pub struct Frame {
    width: u32,
    height: u32,
    measure: Box<dyn Fn(Rect) -> Quality>,
    counters: Rc<Counters>,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FakeFrame({}x{})", self.width, self.height)
    }
}

impl Frame {
    /// As the guest sees it.
    #[must_use]
    pub fn lend(&self) -> crate::Frame<'_> {
        crate::Frame::new(self)
    }

    fn inside(&self, area: Rect) -> Result<Rect, PixelError> {
        area.clipped(self.width, self.height)
            .filter(|r| r.width >= 1.0 && r.height >= 1.0)
            .ok_or(PixelError::OutOfFrame)
    }

    pub(crate) fn crop(&self, area: Rect, options: CropOptions) -> Result<Crop, PixelError> {
        let area = self.inside(area.with_margin(options.margin))?;
        let (w, h) = fit(area.width as u32, area.height as u32, options.max_side);
        let bytes = 3 * u64::from(w) * u64::from(h);
        if self.counters.held_bytes.get() + bytes > self.counters.budget_bytes.get() {
            return Err(PixelError::OverBudget);
        }
        Ok(Crop::new(w, h, (self.measure)(area), &self.counters))
    }

    pub(crate) fn measure(&self, area: Rect) -> Result<Quality, PixelError> {
        let area = self.inside(area)?;
        self.counters.measures.set(self.counters.measures.get() + 1);
        Ok((self.measure)(area))
    }

    pub(crate) fn luma(&self, max_side: u32) -> Result<GrayImage, PixelError> {
        let (width, height) = fit(self.width, self.height, max_side);
        Ok(GrayImage { width, height, data: vec![128; (width * height) as usize] })
    }
}

fn fit(width: u32, height: u32, max_side: u32) -> (u32, u32) {
    let side = width.max(height);
    if max_side == 0 || side <= max_side {
        return (width.max(1), height.max(1));
    }
    let scale = |v: u32| (u64::from(v) * u64::from(max_side)).div_ceil(u64::from(side)).max(1) as u32;
    (scale(width), scale(height))
}

/// The backend of [`crate::Crop`] on native targets.
#[derive(Debug)]
pub struct Crop {
    width: u32,
    height: u32,
    quality: Quality,
    counters: Rc<Counters>,
}

impl Crop {
    fn new(width: u32, height: u32, quality: Quality, counters: &Rc<Counters>) -> Self {
        counters.held.set(counters.held.get() + 1);
        counters.crops.set(counters.crops.get() + 1);
        counters.held_bytes.set(counters.held_bytes.get() + 3 * u64::from(width) * u64::from(height));
        Self { width, height, quality, counters: Rc::clone(counters) }
    }

    pub(crate) fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    pub(crate) fn measure(&self) -> Quality {
        self.quality
    }

    pub(crate) fn luma(&self, max_side: u32) -> Result<GrayImage, PixelError> {
        let (width, height) = fit(self.width, self.height, max_side);
        Ok(GrayImage { width, height, data: vec![128; (width * height) as usize] })
    }

    pub(crate) fn rgb(&self, max_side: u32) -> Result<RgbImage, PixelError> {
        let (width, height) = fit(self.width, self.height, max_side);
        let mut data = Vec::with_capacity(3 * (width * height) as usize);
        for y in 0..height {
            for x in 0..width {
                data.extend_from_slice(&[x as u8, y as u8, (x ^ y) as u8]);
            }
        }
        Ok(RgbImage { width, height, data })
    }

    /// Not a decodable picture: a start marker, the quality, and as many bytes as such a JPEG has about.
    pub(crate) fn jpeg(&self, quality: u8) -> Result<Vec<u8>, PixelError> {
        if !(1..=100).contains(&quality) {
            return Err(PixelError::Failed(format!("JPEG quality {quality} is not between 1 and 100")));
        }
        let filler = u64::from(self.width) * u64::from(self.height) * u64::from(quality) / 200;
        let mut data = vec![0xff, 0xd8, quality];
        data.resize(data.len() + filler as usize, quality);
        Ok(data)
    }
}

impl Drop for Crop {
    fn drop(&mut self) {
        self.counters.held.set(self.counters.held.get() - 1);
        let bytes = 3 * u64::from(self.width) * u64::from(self.height);
        self.counters.held_bytes.set(self.counters.held_bytes.get() - bytes);
    }
}

/// A camera named `camera-1` with these settings (JSON) and 900 KB messages.
#[must_use]
pub fn camera(config: &str) -> Camera {
    Camera { id: "camera-1".to_owned(), config: config.to_owned(), max_message_bytes: 900_000 }
}

/// Frame `sequence` of session 1 at so many milliseconds, 1280x720. Capture time is 2026-02-11T08:56:12Z plus that.
#[must_use]
pub fn frame(sequence: u64, at_ms: u64) -> FrameInfo {
    let timestamp = at_ms * 1_000_000;
    let captured_at = 1_770_800_172_000_000_000 + timestamp;
    FrameInfo { session: 1, sequence, timestamp, captured_at, width: 1280, height: 720 }
}

/// A detection of class 0 without landmarks.
#[must_use]
pub fn detection(x: f32, y: f32, width: f32, height: f32, confidence: f32) -> Detection {
    Detection { bbox: Rect { x, y, width, height }, confidence, class_id: 0, landmarks: None }
}

/// A confirmed track seen in this frame as detection `index`.
#[must_use]
pub fn track(id: u64, frame: &FrameInfo, detection: &Detection, index: u32) -> Track {
    Track {
        id,
        phase: TrackPhase::Confirmed,
        bbox: detection.bbox,
        velocity: crate::Point { x: 0.0, y: 0.0 },
        confidence: detection.confidence,
        class_id: detection.class_id,
        detection: Some(index),
        first_seen: frame.timestamp,
        last_seen: frame.timestamp,
    }
}
