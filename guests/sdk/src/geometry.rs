//! Rectangles and affine maps: what nearly every tracker and scorer computes.
//!
//! Only IEEE basic operations and square roots are used, so that wasm and native builds agree to the last bit.

use crate::types::{Affine, Landmarks, Point, Rect};

impl Rect {
    /// From the corners (x1, y1) top left and (x2, y2) bottom right.
    #[must_use]
    pub fn from_corners(x1: f32, y1: f32, x2: f32, y2: f32) -> Self {
        Self { x: x1, y: y1, width: x2 - x1, height: y2 - y1 }
    }

    /// `[x1, y1, x2, y2]`.
    #[must_use]
    #[inline]
    pub fn corners(&self) -> [f32; 4] {
        [self.x, self.y, self.x + self.width, self.y + self.height]
    }

    /// The middle.
    #[must_use]
    pub fn center(&self) -> Point {
        Point { x: self.x + self.width * 0.5, y: self.y + self.height * 0.5 }
    }

    /// Square pixels; zero when degenerate.
    #[must_use]
    #[inline]
    pub fn area(&self) -> f32 {
        // `f32::max` is a call in wasm (its rule for NaN has no instruction); so is `min`.
        let side = |s: f32| if s > 0.0 { s } else { 0.0 };
        side(self.width) * side(self.height)
    }

    /// Every number finite and the size positive.
    #[must_use]
    #[inline]
    pub fn is_valid(&self) -> bool {
        // All of it rather than one after the other: no branches.
        self.x.is_finite()
            & self.y.is_finite()
            & (self.width > 0.0)
            & (self.height > 0.0)
            & (self.width < f32::INFINITY)
            & (self.height < f32::INFINITY)
    }

    /// Intersection over union, in [0, 1].
    #[must_use]
    #[inline]
    pub fn iou(&self, other: &Self) -> f32 {
        // Comparisons rather than min and max, whose rules for NaN cost a wasm engine several instructions each.
        let (lower, upper) = (|a: f32, b: f32| if a < b { a } else { b }, |a: f32, b: f32| if a > b { a } else { b });
        let w = lower(self.x + self.width, other.x + other.width) - upper(self.x, other.x);
        let h = lower(self.y + self.height, other.y + other.height) - upper(self.y, other.y);
        let inter = upper(w, 0.0) * upper(h, 0.0);
        let union = self.area() + other.area() - inter;
        if union > 0.0 { inter / union } else { 0.0 }
    }

    /// Widened on each side by `share` of its own size.
    #[must_use]
    #[inline]
    pub fn with_margin(&self, share: f32) -> Self {
        let (dx, dy) = (self.width * share, self.height * share);
        Self { x: self.x - dx, y: self.y - dy, width: self.width + 2.0 * dx, height: self.height + 2.0 * dy }
    }

    /// The part inside a frame; `None` when nothing of it is.
    #[must_use]
    pub fn clipped(&self, width: u32, height: u32) -> Option<Self> {
        let [x1, y1, x2, y2] = self.corners();
        let (w, h) = (width as f32, height as f32);
        let out = Self::from_corners(x1.clamp(0.0, w), y1.clamp(0.0, h), x2.clamp(0.0, w), y2.clamp(0.0, h));
        out.is_valid().then_some(out)
    }

    /// Which share of its area lies inside a frame, in [0, 1].
    #[must_use]
    pub fn visible_share(&self, width: u32, height: u32) -> f32 {
        match self.clipped(width, height) {
            Some(inside) if self.area() > 0.0 => inside.area() / self.area(),
            _ => 0.0,
        }
    }
}

impl Affine {
    /// No motion.
    pub const IDENTITY: Self = Self { a: 1.0, b: 0.0, tx: 0.0, c: 0.0, d: 1.0, ty: 0.0 };

    /// Where the map takes a point.
    #[must_use]
    pub fn apply(&self, p: Point) -> Point {
        Point { x: self.a * p.x + self.b * p.y + self.tx, y: self.c * p.x + self.d * p.y + self.ty }
    }

    /// Every number finite.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        [self.a, self.b, self.tx, self.c, self.d, self.ty].iter().all(|v| v.is_finite())
    }
}

impl Landmarks {
    /// How much the face looks into the camera, in [0, 1]: 1 when the nose is midway between the eyes, 0 when it is
    /// at or beyond one of them (a profile). Measured along the line between the eyes, so that a tilted head counts
    /// as frontal.
    #[must_use]
    pub fn frontality(&self) -> f32 {
        let (ex, ey) = (self.right_eye.x - self.left_eye.x, self.right_eye.y - self.left_eye.y);
        let length2 = ex * ex + ey * ey;
        if length2 <= 0.0 {
            return 0.0;
        }
        let along = ((self.nose.x - self.left_eye.x) * ex + (self.nose.y - self.left_eye.y) * ey) / length2;
        (1.0 - (along - 0.5).abs() * 2.0).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iou_of_half_overlap_is_a_third() {
        let a = Rect::from_corners(0.0, 0.0, 2.0, 2.0);
        assert!((a.iou(&Rect::from_corners(1.0, 0.0, 3.0, 2.0)) - 1.0 / 3.0).abs() < 1e-6);
        assert_eq!(a.iou(&Rect::from_corners(2.0, 0.0, 3.0, 2.0)), 0.0);
        assert_eq!(Rect::from_corners(0.0, 0.0, 0.0, 0.0).iou(&a), 0.0);
    }

    #[test]
    fn visible_share_halves_at_the_edge() {
        let r = Rect { x: -5.0, y: 0.0, width: 10.0, height: 10.0 };
        assert!((r.visible_share(100, 100) - 0.5).abs() < 1e-6);
        assert_eq!(Rect { x: 200.0, ..r }.visible_share(100, 100), 0.0);
    }

    #[test]
    fn frontality_falls_to_zero_in_profile() {
        let at = |x: f32, y: f32| Point { x, y };
        let face = |nose: f32| Landmarks {
            left_eye: at(10.0, 10.0),
            right_eye: at(30.0, 10.0),
            nose: at(nose, 20.0),
            mouth_left: at(12.0, 30.0),
            mouth_right: at(28.0, 30.0),
        };
        assert!((face(20.0).frontality() - 1.0).abs() < 1e-6);
        assert!((face(15.0).frontality() - 0.5).abs() < 1e-6);
        assert_eq!(face(40.0).frontality(), 0.0);
    }
}
