//! Rectangles, points and affine maps in pixels of the source frame, origin at the top left.

use serde::{Deserialize, Serialize};

/// A point in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Pixels from the left edge.
    pub x: f32,
    /// Pixels from the top edge.
    pub y: f32,
}

/// An axis-aligned rectangle: top-left corner and size, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rect {
    /// Left edge.
    pub x: f32,
    /// Top edge.
    pub y: f32,
    /// Width, not negative in a valid rectangle.
    pub width: f32,
    /// Height, not negative in a valid rectangle.
    pub height: f32,
}

impl Rect {
    /// From two corners (x1, y1) top left and (x2, y2) bottom right.
    #[must_use]
    pub fn from_corners(x1: f32, y1: f32, x2: f32, y2: f32) -> Self {
        Self { x: x1, y: y1, width: x2 - x1, height: y2 - y1 }
    }

    /// `[x1, y1, x2, y2]`.
    #[must_use]
    pub fn corners(&self) -> [f32; 4] {
        [self.x, self.y, self.x + self.width, self.y + self.height]
    }

    /// Area in square pixels; zero when degenerate.
    #[must_use]
    pub fn area(&self) -> f32 {
        self.width.max(0.0) * self.height.max(0.0)
    }

    /// Intersection over union, in [0, 1]; 0 when both are degenerate.
    #[must_use]
    pub fn iou(&self, other: &Self) -> f32 {
        let [ax1, ay1, ax2, ay2] = self.corners();
        let [bx1, by1, bx2, by2] = other.corners();
        let w = (ax2.min(bx2) - ax1.max(bx1)).max(0.0);
        let h = (ay2.min(by2) - ay1.max(by1)).max(0.0);
        let inter = w * h;
        let union = self.area() + other.area() - inter;
        if union > 0.0 { inter / union } else { 0.0 }
    }

    /// Whether every number is finite and the size is positive.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        [self.x, self.y, self.width, self.height].iter().all(|v| v.is_finite()) && self.width > 0.0 && self.height > 0.0
    }

    /// The part of this rectangle inside a frame of the given size; `None` when nothing of it is.
    #[must_use]
    pub fn clipped(&self, width: u32, height: u32) -> Option<Self> {
        let [x1, y1, x2, y2] = self.corners();
        let (w, h) = (width as f32, height as f32);
        let out = Self::from_corners(x1.clamp(0.0, w), y1.clamp(0.0, h), x2.clamp(0.0, w), y2.clamp(0.0, h));
        out.is_valid().then_some(out)
    }

    /// Widened on each side by `share` of its own size.
    #[must_use]
    pub fn with_margin(&self, share: f32) -> Self {
        let (dx, dy) = (self.width * share, self.height * share);
        Self { x: self.x - dx, y: self.y - dy, width: self.width + 2.0 * dx, height: self.height + 2.0 * dy }
    }
}

/// Motion of the camera since the previous frame: (x, y) -> (a*x + b*y + tx, c*x + d*y + ty).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Affine {
    pub a: f32,
    pub b: f32,
    pub tx: f32,
    pub c: f32,
    pub d: f32,
    pub ty: f32,
}

impl Affine {
    /// No motion.
    pub const IDENTITY: Self = Self { a: 1.0, b: 0.0, tx: 0.0, c: 0.0, d: 1.0, ty: 0.0 };

    /// Where it moves a point.
    #[must_use]
    pub fn apply(&self, p: Point) -> Point {
        Point { x: self.a * p.x + self.b * p.y + self.tx, y: self.c * p.x + self.d * p.y + self.ty }
    }

    /// This motion, and `next` after it, as one.
    #[must_use]
    pub fn then(&self, next: &Self) -> Self {
        let Point { x: tx, y: ty } = next.apply(Point { x: self.tx, y: self.ty });
        Self {
            a: next.a * self.a + next.b * self.c,
            b: next.a * self.b + next.b * self.d,
            tx,
            c: next.c * self.a + next.d * self.c,
            d: next.c * self.b + next.d * self.d,
            ty,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iou_of_half_overlap() {
        let a = Rect::from_corners(0.0, 0.0, 2.0, 2.0);
        let b = Rect::from_corners(1.0, 0.0, 3.0, 2.0);
        assert!((a.iou(&b) - 1.0 / 3.0).abs() < 1e-6);
        assert_eq!(a.iou(&Rect::default()), 0.0);
    }

    #[test]
    fn motions_one_after_the_other() {
        let turn = Affine { a: 0.0, b: -1.0, tx: 5.0, c: 1.0, d: 0.0, ty: 0.0 };
        let grow = Affine { a: 2.0, b: 0.0, tx: 0.0, c: 0.0, d: 2.0, ty: -1.0 };
        let p = Point { x: 3.0, y: 4.0 };
        assert_eq!(turn.then(&grow).apply(p), grow.apply(turn.apply(p)));
        assert_eq!(Affine::IDENTITY.then(&turn), turn);
        assert_eq!(turn.then(&Affine::IDENTITY), turn);
    }

    #[test]
    fn clipping_keeps_only_what_is_inside() {
        let r = Rect::from_corners(-5.0, -5.0, 5.0, 5.0);
        assert_eq!(r.clipped(10, 10), Some(Rect::from_corners(0.0, 0.0, 5.0, 5.0)));
        assert_eq!(Rect::from_corners(20.0, 0.0, 30.0, 5.0).clipped(10, 10), None);
    }
}
