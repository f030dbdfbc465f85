//! Constant-velocity Kalman filters of a box: BoT-SORT's over (x, y, w, h), SORT's and ByteTrack's over (x, y, a, h).
//!
//! In both, transition, noise and measurement couple a coordinate with its own velocity only, so the 8x8 covariance of
//! the papers is block-diagonal for ever: four independent filters of two states each, which cost 4 x 10
//! multiplications instead of an 8x8 matrix product and a Cholesky factorisation. The numbers are the same.
//!
//! Time: the papers step once a frame. Here a step covers `dt` frames of the reference rate, so that dropped frames and
//! a detector that runs at 5 frames a second do not distort motion. `dt = 1` is the papers' step to the digit; an
//! integer `dt` is what `dt` such steps would have given.

use facestream_guest::{Affine, Point, Rect};
use serde::{Deserialize, Serialize};

/// Noise weights of the papers (DeepSORT, kept by ByteTrack and BoT-SORT): deviation as a share of the box.
const STD_POSITION: f64 = 1.0 / 20.0;
const STD_VELOCITY: f64 = 1.0 / 160.0;

/// Smallest width or height of a predicted box, pixels: a size filter may overshoot.
const MIN_SIDE: f64 = 1.0;

/// One coordinate and its velocity, with their covariance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Axis {
    p: f64,
    v: f64,
    pp: f64,
    pv: f64,
    vv: f64,
}

impl Axis {
    fn new(p: f64, std_p: f64, std_v: f64) -> Self {
        Self { p, v: 0.0, pp: std_p * std_p, pv: 0.0, vv: std_v * std_v }
    }

    /// `dt` steps at once. With per-step noise variances qp and qv, n steps add n·qp + qv·Σk² to the position
    /// (k = 0..n-1), qv·Σk to the covariance and n·qv to the velocity; the closed sums hold for fractions too, except
    /// that below one step they are not negative.
    #[inline]
    fn predict(&mut self, dt: f64, std_p: f64, std_v: f64) {
        let (qp, qv) = (std_p * std_p, std_v * std_v);
        let sum = (dt * (dt - 1.0) * 0.5).max(0.0);
        let squares = (dt * (dt - 1.0) * (2.0 * dt - 1.0) * (1.0 / 6.0)).max(0.0);
        self.p += dt * self.v;
        self.pp += dt * (2.0 * self.pv + dt * self.vv) + dt * qp + squares * qv;
        self.pv += dt * self.vv + sum * qv;
        self.vv += dt * qv;
    }

    #[inline]
    fn update(&mut self, z: f64, std: f64) {
        let s = self.pp + std * std;
        let (kp, kv) = (self.pp / s, self.pv / s);
        let y = z - self.p;
        self.p += kp * y;
        self.v += kv * y;
        self.vv -= kv * self.pv;
        self.pv -= kp * self.pv;
        self.pp -= kp * self.pp;
    }

    fn scale(&mut self, by: f64) {
        self.p *= by;
        self.v *= by;
        self.pp *= by * by;
        self.pv *= by * by;
        self.vv *= by * by;
    }

    fn is_sound(&self) -> bool {
        [self.p, self.v, self.pp, self.pv, self.vv].iter().all(|v| v.is_finite()) && self.pp >= 0.0 && self.vv >= 0.0
    }
}

/// A motion model of a box.
pub trait Motion: Clone + std::fmt::Debug {
    /// From a first measurement.
    fn start(bbox: &Rect) -> Self;
    /// `dt` steps of the reference rate into the future. A lost box keeps its size.
    fn predict(&mut self, dt: f64, lost: bool);
    /// Takes a measurement whose deviation is `noise` times the papers'.
    fn update(&mut self, bbox: &Rect, noise: f64);
    /// The camera moved.
    fn warp(&mut self, by: &Affine);
    /// Where the box is.
    fn rect(&self) -> Rect;
    /// Pixels a step.
    fn velocity(&self) -> Point;
    /// Sets the velocity of the centre, pixels a step.
    fn set_velocity(&mut self, velocity: Point);
    /// Every number finite, variances not negative.
    fn is_sound(&self) -> bool;
}

fn centre(bbox: &Rect) -> [f64; 4] {
    let (w, h) = (f64::from(bbox.width), f64::from(bbox.height));
    [f64::from(bbox.x) + w * 0.5, f64::from(bbox.y) + h * 0.5, w, h]
}

fn corner(x: f64, y: f64, w: f64, h: f64) -> Rect {
    Rect { x: (x - w * 0.5) as f32, y: (y - h * 0.5) as f32, width: w as f32, height: h as f32 }
}

/// Moves the centre with the camera. The blocks stay independent by dropping the covariance that a rotation would put
/// between x and y: for the small rotations between two frames it is of second order.
fn warp_centre(x: &mut Axis, y: &mut Axis, m: &Affine) {
    let [a, b, tx, c, d, ty] = [m.a, m.b, m.tx, m.c, m.d, m.ty].map(f64::from);
    let (ox, oy) = (*x, *y);
    let mix = |p: f64, q: f64, i: f64, j: f64| p * p * i + q * q * j;
    *x = Axis {
        p: a * ox.p + b * oy.p + tx,
        v: a * ox.v + b * oy.v,
        pp: mix(a, b, ox.pp, oy.pp),
        pv: mix(a, b, ox.pv, oy.pv),
        vv: mix(a, b, ox.vv, oy.vv),
    };
    *y = Axis {
        p: c * ox.p + d * oy.p + ty,
        v: c * ox.v + d * oy.v,
        pp: mix(c, d, ox.pp, oy.pp),
        pv: mix(c, d, ox.pv, oy.pv),
        vv: mix(c, d, ox.vv, oy.vv),
    };
}

/// BoT-SORT (Aharon, Orfaig, Bobrovsky 2022, arXiv 2206.14651), section 3.1: the state holds width and height
/// themselves, and all noise is relative to them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Xywh {
    x: Axis,
    y: Axis,
    w: Axis,
    h: Axis,
}

impl Xywh {
    fn sides(&self) -> (f64, f64) {
        (self.w.p.max(MIN_SIDE), self.h.p.max(MIN_SIDE))
    }
}

impl Motion for Xywh {
    fn start(bbox: &Rect) -> Self {
        let [x, y, w, h] = centre(bbox);
        let axis = |p: f64, side: f64| Axis::new(p, 2.0 * STD_POSITION * side, 10.0 * STD_VELOCITY * side);
        Self { x: axis(x, w), y: axis(y, h), w: axis(w, w), h: axis(h, h) }
    }

    fn predict(&mut self, dt: f64, lost: bool) {
        if lost {
            (self.w.v, self.h.v) = (0.0, 0.0);
        }
        let (w, h) = self.sides();
        for (axis, side) in [(&mut self.x, w), (&mut self.y, h), (&mut self.w, w), (&mut self.h, h)] {
            axis.predict(dt, STD_POSITION * side, STD_VELOCITY * side);
        }
    }

    fn update(&mut self, bbox: &Rect, noise: f64) {
        let (w, h) = self.sides();
        let z = centre(bbox);
        for (axis, z, side) in
            [(&mut self.x, z[0], w), (&mut self.y, z[1], h), (&mut self.w, z[2], w), (&mut self.h, z[3], h)]
        {
            axis.update(z, noise * STD_POSITION * side);
        }
    }

    /// The reference multiplies (w, h) by the rotation matrix as if they were a point; here they take its scale only,
    /// since the box of a face does not grow when the camera turns.
    fn warp(&mut self, by: &Affine) {
        warp_centre(&mut self.x, &mut self.y, by);
        let [a, b, c, d] = [by.a, by.b, by.c, by.d].map(f64::from);
        self.w.scale((a * a + c * c).sqrt());
        self.h.scale((b * b + d * d).sqrt());
    }

    fn rect(&self) -> Rect {
        let (w, h) = self.sides();
        corner(self.x.p, self.y.p, w, h)
    }

    fn velocity(&self) -> Point {
        Point { x: self.x.v as f32, y: self.y.v as f32 }
    }

    fn set_velocity(&mut self, velocity: Point) {
        (self.x.v, self.y.v) = (f64::from(velocity.x), f64::from(velocity.y));
    }

    fn is_sound(&self) -> bool {
        [self.x, self.y, self.w, self.h].iter().all(Axis::is_sound)
    }
}

/// SORT's and ByteTrack's state: aspect ratio (width / height) and height; noise is relative to the height, the
/// aspect's is constant.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Xyah {
    x: Axis,
    y: Axis,
    a: Axis,
    h: Axis,
}

const ASPECT_STD: f64 = 1e-2;
const ASPECT_VELOCITY_STD: f64 = 1e-5;
const ASPECT_MEASURED_STD: f64 = 1e-1;
const MIN_ASPECT: f64 = 1e-2;

impl Motion for Xyah {
    fn start(bbox: &Rect) -> Self {
        let [x, y, w, h] = centre(bbox);
        let axis = |p: f64| Axis::new(p, 2.0 * STD_POSITION * h, 10.0 * STD_VELOCITY * h);
        Self { x: axis(x), y: axis(y), a: Axis::new(w / h, ASPECT_STD, ASPECT_VELOCITY_STD), h: axis(h) }
    }

    fn predict(&mut self, dt: f64, lost: bool) {
        if lost {
            self.h.v = 0.0;
        }
        let h = self.h.p.max(MIN_SIDE);
        for axis in [&mut self.x, &mut self.y, &mut self.h] {
            axis.predict(dt, STD_POSITION * h, STD_VELOCITY * h);
        }
        self.a.predict(dt, ASPECT_STD, ASPECT_VELOCITY_STD);
    }

    fn update(&mut self, bbox: &Rect, noise: f64) {
        let h = self.h.p.max(MIN_SIDE);
        let z = centre(bbox);
        for (axis, z) in [(&mut self.x, z[0]), (&mut self.y, z[1]), (&mut self.h, z[3])] {
            axis.update(z, noise * STD_POSITION * h);
        }
        self.a.update(z[2] / z[3], noise * ASPECT_MEASURED_STD);
    }

    fn warp(&mut self, by: &Affine) {
        warp_centre(&mut self.x, &mut self.y, by);
        let [a, b, c, d] = [by.a, by.b, by.c, by.d].map(f64::from);
        let (sx, sy) = ((a * a + c * c).sqrt(), (b * b + d * d).sqrt());
        self.h.scale(sy);
        if sy > 0.0 {
            self.a.scale(sx / sy);
        }
    }

    fn rect(&self) -> Rect {
        let h = self.h.p.max(MIN_SIDE);
        corner(self.x.p, self.y.p, self.a.p.max(MIN_ASPECT) * h, h)
    }

    fn velocity(&self) -> Point {
        Point { x: self.x.v as f32, y: self.y.v as f32 }
    }

    fn set_velocity(&mut self, velocity: Point) {
        (self.x.v, self.y.v) = (f64::from(velocity.x), f64::from(velocity.y));
    }

    fn is_sound(&self) -> bool {
        [self.x, self.y, self.a, self.h].iter().all(Axis::is_sound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOX: Rect = Rect { x: 100.0, y: 50.0, width: 40.0, height: 60.0 };

    #[test]
    fn many_steps_at_once_equal_single_steps() {
        // Sizes stand still, so the noise of both ways is the same.
        let mut one = Axis::new(3.0, 2.0, 0.5);
        one.v = 1.25;
        let mut many = one;
        one.predict(7.0, 0.3, 0.02);
        for _ in 0..7 {
            many.predict(1.0, 0.3, 0.02);
        }
        for (a, b) in [(one.p, many.p), (one.pp, many.pp), (one.pv, many.pv), (one.vv, many.vv)] {
            assert!((a - b).abs() < 1e-9, "{one:?} {many:?}");
        }
    }

    /// The papers' full 8x8 filter, written out with matrices, against the four small ones.
    #[test]
    #[allow(clippy::needless_range_loop, reason = "matrices read as in the papers")]
    fn blocks_equal_the_full_matrix_filter() {
        type M = [[f64; 8]; 8];
        let mul = |a: &M, b: &M| -> M {
            std::array::from_fn(|i| std::array::from_fn(|j| (0..8).map(|k| a[i][k] * b[k][j]).sum()))
        };
        let transposed = |a: &M| -> M { std::array::from_fn(|i| std::array::from_fn(|j| a[j][i])) };
        let mut f = [[0.0; 8]; 8];
        for i in 0..8 {
            f[i][i] = 1.0;
            if i < 4 {
                f[i][i + 4] = 1.0;
            }
        }
        let mut filter = Xywh::start(&BOX);
        let z0 = centre(&BOX);
        let mut mean: [f64; 8] = std::array::from_fn(|i| if i < 4 { z0[i] } else { 0.0 });
        let side = |mean: &[f64; 8], i: usize| mean[2 + i % 2];
        let mut p: M = [[0.0; 8]; 8];
        for i in 0..8 {
            let std = if i < 4 { 2.0 * STD_POSITION } else { 10.0 * STD_VELOCITY } * side(&mean, i);
            p[i][i] = std * std;
        }
        for step in 1..20 {
            let s = step as f32;
            let measured = Rect { x: 100.0 + 3.0 * s + (s * 1.7) % 2.0, y: 50.0 - s, width: 40.0 + s, height: 60.0 };
            // Predict.
            let noise: [f64; 8] =
                std::array::from_fn(|i| if i < 4 { STD_POSITION } else { STD_VELOCITY } * side(&mean, i));
            mean = std::array::from_fn(|i| (0..8).map(|k| f[i][k] * mean[k]).sum());
            p = mul(&mul(&f, &p), &transposed(&f));
            for i in 0..8 {
                p[i][i] += noise[i] * noise[i];
            }
            // Update, one measured coordinate after the other (equivalent, as the measurement noise is diagonal).
            let z = centre(&measured);
            let noise: [f64; 4] = std::array::from_fn(|i| STD_POSITION * side(&mean, i));
            for m in 0..4 {
                let s = p[m][m] + noise[m] * noise[m];
                let gain: [f64; 8] = std::array::from_fn(|i| p[i][m] / s);
                let y = z[m] - mean[m];
                let row = p[m];
                for i in 0..8 {
                    mean[i] += gain[i] * y;
                    for j in 0..8 {
                        p[i][j] -= gain[i] * row[j];
                    }
                }
            }
            filter.predict(1.0, false);
            filter.update(&measured, 1.0);
            let got = [filter.x, filter.y, filter.w, filter.h];
            for i in 0..4 {
                assert!((got[i].p - mean[i]).abs() < 1e-9 && (got[i].v - mean[i + 4]).abs() < 1e-9, "step {step}");
                assert!((got[i].pp - p[i][i]).abs() < 1e-9 && (got[i].vv - p[i + 4][i + 4]).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn velocity_is_learnt_and_predicted() {
        fn check<M: Motion>() {
            let mut m = M::start(&BOX);
            for i in 1..40 {
                m.predict(1.0, false);
                m.update(&Rect { x: 100.0 + 4.0 * i as f32, ..BOX }, 1.0);
            }
            assert!((m.velocity().x - 4.0).abs() < 0.05 && m.velocity().y.abs() < 1e-6);
            m.predict(10.0, true);
            assert!((m.rect().x - (100.0 + 4.0 * 49.0)).abs() < 1.0, "{:?}", m.rect());
            assert!(m.is_sound());
        }
        check::<Xywh>();
        check::<Xyah>();
    }

    #[test]
    fn a_noisy_measurement_moves_less() {
        fn check<M: Motion>() {
            let moved = |noise: f64| {
                let mut m = M::start(&BOX);
                m.predict(1.0, false);
                m.update(&Rect { x: 110.0, ..BOX }, noise);
                m.rect().x - BOX.x
            };
            let (sure, unsure) = (moved(1.0), moved(3.0));
            assert!(0.0 < unsure && unsure < 0.5 * sure && sure < 10.0, "{sure} {unsure}");
        }
        check::<Xywh>();
        check::<Xyah>();
    }

    #[test]
    fn a_warp_moves_boxes_as_it_moves_points() {
        fn check<M: Motion>() {
            let mut m = M::start(&BOX);
            m.warp(&Affine { a: 2.0, b: 0.0, tx: 10.0, c: 0.0, d: 2.0, ty: -20.0 });
            let r = m.rect();
            assert_eq!([r.x, r.y, r.width, r.height], [210.0, 80.0, 80.0, 120.0]);
        }
        check::<Xywh>();
        check::<Xyah>();
    }

    #[test]
    fn a_shrinking_box_stays_a_box() {
        let mut m = Xywh::start(&BOX);
        for i in 1..20 {
            m.predict(1.0, false);
            let smaller = Rect { x: 100.0, y: 50.0, width: 40.0 - 2.0 * i as f32, height: 60.0 - 3.0 * i as f32 };
            m.update(&smaller, 1.0);
        }
        m.predict(60.0, false);
        assert!(m.rect().is_valid(), "{:?}", m.rect());
    }
}
