//! From frames to motions: what is kept between two frames, and what a result has to show to be believed.

use std::sync::Arc;

use facestream_core::frame::{Frame, FrameInfo, Picture};
use facestream_core::geometry::{Affine, Rect};
use facestream_pixels::Image;
use image::GrayImage;
use optical_flow_lk::{DetectorContext, Grid, TrackOptions, TrackParams, TrackStatus, TrackerContext};

use crate::fit::{Fit, Pair, Similarity, fit};

/// Longer side of the working size. At 480 a corner is found to a tenth of a pixel, a quarter of one in 720p: far less
/// than a detector's boxes tremble. The reference of BoT-SORT halves the frame, which costs several times as much.
const WORKING_SIDE: u32 = 480;
/// Below this shorter side of the working size no window fits.
const MIN_SIDE: u32 = 48;
/// Cells over the frame and corners in each: texture in one place must not outvote the rest of the frame.
const GRID: Grid = Grid { cols: 12, rows: 8, max_per_cell: 2 };
/// Least share of the strongest corner's score.
const QUALITY: f32 = 0.003;
/// Least score, in (grey levels a pixel) squared: what lies below is the noise of a sensor or a codec.
const MIN_SCORE: f32 = 4.0;
/// Corners keep this distance, in working pixels.
const DISTANCE: u32 = 8;
/// Levels of the pyramid: with windows of 13 pixels the top one catches motions of about 48 working pixels a frame, a tenth
/// of the width.
const LEVELS: usize = 4;
const LUCAS_KANADE: TrackParams = TrackParams { window_size: 13, max_iterations: 20, min_eigen_threshold: 0.05 };
/// Followed forwards and backwards a point must be back within so many working pixels.
const BACK_WITHIN: f32 = 0.5;
/// The way back starts at the point itself, so the fine levels suffice.
const BACKWARDS: TrackOptions = TrackOptions::new().with_fb_levels(2);
/// What surrounds a detection's box belongs to who is in it, as a share of its size on each side, but not more than so
/// many working pixels: a false box as large as half of the frame would otherwise cover all of it.
const MASK_MARGIN: f32 = 0.5;
const MAX_MASK_MARGIN: f32 = 24.0;
/// A point agrees with a motion within so many working pixels.
const TOLERANCE: f64 = 1.0;
/// Fewer points say nothing.
const MIN_POINTS: usize = 16;
/// Fewer that agree, in number or as a share of those followed, are none.
const MIN_INLIERS: usize = 12;
const MIN_INLIER_SHARE: f64 = 0.4;
/// They must lie in so many cells of a 4 x 4 grid: what agrees in one place may be one thing that moves.
const MIN_CELLS: u32 = 5;
/// Largest standard error at the frame's corners, in working pixels.
const MAX_ERROR: f64 = 0.5;
/// Residuals are never taken for smaller, in working pixels: the precision of Lucas-Kanade on real pictures.
const ERROR_FLOOR: f64 = 0.05;
/// A point moved at most this far, in working pixels, stands still.
const STILL: f64 = 0.25;
/// Cameras mostly stand still: where so large a share of the points does, apart from those that agree on a motion,
/// something large moves in front of a camera that does not.
const STILL_SHARE: f64 = 1.0 / 3.0;
/// More is no camera between two frames: scale, rotation in radians, shift as a share of the frame.
const MAX_SCALE: f64 = 1.3;
const MAX_ROTATION: f64 = 0.35;
const MAX_SHIFT: f64 = 0.4;
/// Frames further apart than this have too little in common, nanoseconds.
const MAX_GAP_NS: u64 = 2_000_000_000;

/// Why the camera's motion is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// The first frame, or the first of a new session, of another size, or after more than 2 s.
    #[error("there is no earlier frame to compare with")]
    NoPrevious,
    /// The pixels could not be had from the device.
    #[error("the picture's pixels could not be read")]
    NoPixels,
    /// Dark, flat or blurred, covered by detections, or tiny; or corners that were not found again.
    #[error("too few corners were found in both frames")]
    FewCorners,
    /// A scene cut, or things that move in all directions.
    #[error("the corners do not agree on one motion")]
    NoConsensus,
    /// The corners that agree lie in one part of the frame.
    #[error("the corners that agree lie too close together")]
    Uncertain,
    /// Scale, rotation or shift beyond what a camera does between two frames.
    #[error("the motion that was found is beyond what a camera does")]
    Implausible,
}

/// The working picture of the latest frame, without its pixels: they are the tracker's.
#[derive(Clone, Copy, Debug)]
struct Previous {
    info: FrameInfo,
    working: (u32, u32),
}

/// Estimates the motion between consecutive frames of one picture source. Holds about 2 MiB at 16:9.
#[derive(Default)]
pub struct MotionEstimator {
    flow: TrackerContext,
    detector: DetectorContext,
    previous: Option<Previous>,
    /// Corners of the previous frame outside of its boxes, in working pixels.
    corners: Vec<(f32, f32)>,
}

impl std::fmt::Debug for MotionEstimator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MotionEstimator").field("previous", &self.previous).finish_non_exhaustive()
    }
}

/// Between working pixels and those of the source.
#[derive(Clone, Copy)]
struct Working {
    size: (u32, u32),
    /// Source pixels a working pixel.
    by: (f64, f64),
}

impl Working {
    fn new(size: (u32, u32), width: u32, height: u32) -> Self {
        let by = (f64::from(width) / f64::from(size.0), f64::from(height) / f64::from(size.1));
        Self { size, by }
    }

    /// A working position (whole numbers are centres of pixels) in the source.
    fn source(&self, (x, y): (f32, f32)) -> [f64; 2] {
        [(f64::from(x) + 0.5) * self.by.0, (f64::from(y) + 0.5) * self.by.1]
    }

    /// A length in the source.
    fn length(&self, working: f64) -> f64 {
        working * f64::max(self.by.0, self.by.1)
    }
}

impl MotionEstimator {
    /// Without an earlier frame.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How the camera moved since the frame of the previous call: a point of the scene at (x, y) then is at
    /// `motion.apply((x, y))` now, both in source pixels. A camera that stands still gives exactly [`Affine::IDENTITY`].
    ///
    /// `boxes`: what was detected on this frame, in source pixels; it may move by itself and is left out.
    ///
    /// # Errors
    /// Why it is not known. The next call compares with this frame all the same, unless its pixels could not be read.
    pub fn estimate(&mut self, frame: &Frame, boxes: &[Rect]) -> Result<Affine, Unknown> {
        let previous = self.previous.take();
        let small = working_picture(&*frame.picture)?;
        let size = small.dimensions();
        let working = Working::new(size, frame.picture.width(), frame.picture.height());
        self.flow.advance(&small, LEVELS);
        self.previous = Some(Previous { info: frame.info, working: size });
        let mask = Mask::new(boxes, &working);
        let continued = previous.is_some_and(|p| {
            let gap = frame.info.timestamp_ns.saturating_sub(p.info.timestamp_ns);
            p.working == size
                && (p.info.session, p.info.width, p.info.height)
                    == (frame.info.session, frame.info.width, frame.info.height)
                && gap <= MAX_GAP_NS
        });
        let motion = if continued { self.motion(&working, &mask) } else { Err(Unknown::NoPrevious) };
        self.corners.clear();
        if size.0.min(size.1) >= MIN_SIDE {
            let found = self.detector.detect_grid(&small, GRID, QUALITY, DISTANCE, &[]);
            let good = found.iter().filter(|c| c.score >= MIN_SCORE).map(optical_flow_lk::Corner::position);
            self.corners.extend(good.filter(|at| !mask.covers(*at)));
        }
        motion
    }

    fn motion(&mut self, working: &Working, mask: &Mask) -> Result<Affine, Unknown> {
        if self.corners.len() < MIN_POINTS {
            return Err(Unknown::FewCorners);
        }
        let followed = self.flow.track_fb_with(&self.corners, None, LUCAS_KANADE, BACK_WITHIN, BACKWARDS);
        let pairs: Vec<Pair> = self
            .corners
            .iter()
            .zip(followed)
            // Also where somebody has walked in front of the corner meanwhile.
            .filter(|(_, to)| to.status == TrackStatus::Tracked && !mask.covers(to.pos))
            .map(|(from, to)| Pair { from: working.source(*from), to: working.source(to.pos) })
            .collect();
        if pairs.len() < MIN_POINTS {
            return Err(Unknown::FewCorners);
        }
        let apart = working.length(f64::from(4 * DISTANCE));
        let found = fit(&pairs, working.length(TOLERANCE), apart).ok_or(Unknown::FewCorners)?;
        judge(&found, &pairs, working)
    }
}

/// Whether what was found can be believed.
fn judge(found: &Fit, pairs: &[Pair], working: &Working) -> Result<Affine, Unknown> {
    let (width, height) = (f64::from(working.size.0) * working.by.0, f64::from(working.size.1) * working.by.1);
    let share = |n: usize| n as f64 / pairs.len() as f64;
    let still2 = working.length(STILL).powi(2);
    let stand_still = pairs.iter().filter(|p| p.moved2() <= still2).count();
    let still_and_agree = found.inliers.iter().filter(|p| p.moved2() <= still2).count();
    if stand_still >= MIN_INLIERS && share(stand_still - still_and_agree) >= STILL_SHARE {
        return Ok(Affine::IDENTITY);
    }
    if found.inliers.len() < MIN_INLIERS || share(found.inliers.len()) < MIN_INLIER_SHARE {
        return Err(Unknown::NoConsensus);
    }
    let cell = |at: [f64; 2]| {
        let of = |v: f64, side: f64| (v / side * 4.0).clamp(0.0, 3.0) as u32;
        1_u32 << (4 * of(at[1], height) + of(at[0], width))
    };
    let cells = found.inliers.iter().fold(0, |cells, p| cells | cell(p.from)).count_ones();
    let corners = [[0.0, 0.0], [width, 0.0], [0.0, height], [width, height]];
    let floor = working.length(ERROR_FLOOR);
    let error = corners.map(|c| found.standard_error(c, floor)).into_iter().fold(0.0, f64::max);
    if cells < MIN_CELLS || error > working.length(MAX_ERROR) {
        return Err(Unknown::Uncertain);
    }
    let model = &found.model;
    let shift = model.moves([width / 2.0, height / 2.0]);
    let scale = model.scale();
    let plausible = (1.0 / MAX_SCALE..=MAX_SCALE).contains(&scale)
        && model.rotation().abs() <= MAX_ROTATION
        && shift <= MAX_SHIFT * f64::max(width, height);
    if !plausible {
        return Err(Unknown::Implausible);
    }
    // Nothing that differs from standing still by more than chance.
    let moves = corners.map(|c| model.moves(c)).into_iter().fold(0.0, f64::max);
    if moves <= 3.0 * error {
        return Ok(Affine::IDENTITY);
    }
    let Similarity { a, b, tx, ty } = *model;
    Ok(Affine { a: a as f32, b: -b as f32, tx: tx as f32, c: b as f32, d: a as f32, ty: ty as f32 })
}

/// Where the boxes are, widened, in working pixels.
struct Mask(Vec<[f32; 4]>);

impl Mask {
    fn new(boxes: &[Rect], working: &Working) -> Self {
        let (bx, by) = (working.by.0 as f32, working.by.1 as f32);
        let widened = boxes.iter().filter(|b| b.is_valid()).map(|b| {
            let [x1, y1, x2, y2] = b.corners();
            let (dx, dy) = (MASK_MARGIN * b.width / bx, MASK_MARGIN * b.height / by);
            let (dx, dy) = (dx.min(MAX_MASK_MARGIN), dy.min(MAX_MASK_MARGIN));
            // Whole numbers are centres of working pixels.
            [x1 / bx - dx - 0.5, y1 / by - dy - 0.5, x2 / bx + dx - 0.5, y2 / by + dy - 0.5]
        });
        Self(widened.collect())
    }

    fn covers(&self, (x, y): (f32, f32)) -> bool {
        self.0.iter().any(|[x1, y1, x2, y2]| (*x1..=*x2).contains(&x) && (*y1..=*y2).contains(&y))
    }
}

/// The picture's luma at working size; a picture on a device gives a scaled copy.
fn working_picture(picture: &dyn Picture) -> Result<GrayImage, Unknown> {
    let scaled = |picture: &dyn Picture| -> Option<Image> {
        facestream_pixels::working_luma(picture.planes()?, WORKING_SIDE).ok()
    };
    let small = match picture.planes() {
        Some(_) => scaled(picture),
        None => {
            let whole = Rect::from_corners(0.0, 0.0, picture.width() as f32, picture.height() as f32);
            let copy: Option<Arc<dyn Picture>> = picture.crop(whole, WORKING_SIDE).ok();
            copy.and_then(|copy| scaled(&*copy))
        }
    };
    let Image { width, height, data } = small.ok_or(Unknown::NoPixels)?;
    GrayImage::from_raw(width, height, data).ok_or(Unknown::NoPixels)
}
