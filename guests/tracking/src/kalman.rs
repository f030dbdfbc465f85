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
use wide::f64x2;

/// Noise weights of the papers (DeepSORT, kept by ByteTrack and BoT-SORT): deviation as a share of the box.
const STD_POSITION: f64 = 1.0 / 20.0;
const STD_VELOCITY: f64 = 1.0 / 160.0;

/// Smallest width or height of a predicted box, pixels: a size filter may overshoot.
const MIN_SIDE: f64 = 1.0;

/// `dt` steps at once: what they add to an axis' numbers.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    dt: f64,
    sum: f64,
    squares: f64,
}

impl Step {
    /// `dt` frames of the reference rate. With per-step noise variances qp and qv, n steps add n·qp + qv·Σk² to the
    /// position (k = 0..n-1), qv·Σk to the covariance and n·qv to the velocity; the closed sums hold for fractions too,
    /// except that below one step they are not negative.
    #[must_use]
    pub fn of(dt: f64) -> Self {
        let sum = (dt * (dt - 1.0) * 0.5).max(0.0);
        let squares = (dt * (dt - 1.0) * (2.0 * dt - 1.0) * (1.0 / 6.0)).max(0.0);
        Self { dt, sum, squares }
    }
}

/// One coordinate and its velocity, with their covariance: as state travels, and where the camera moves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Axis {
    p: f64,
    v: f64,
    pp: f64,
    pv: f64,
    vv: f64,
}

impl Axis {
    fn scale(&mut self, by: f64) {
        self.p *= by;
        self.v *= by;
        self.pp *= by * by;
        self.pv *= by * by;
        self.vv *= by * by;
    }
}

/// Two axes at once, a vector for each number: half the instructions, in wasm as in native code.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "[Axis; 2]", into = "[Axis; 2]")]
struct Axes {
    p: f64x2,
    v: f64x2,
    pp: f64x2,
    pv: f64x2,
    vv: f64x2,
}

impl From<[Axis; 2]> for Axes {
    fn from([a, b]: [Axis; 2]) -> Self {
        let both = |a: f64, b: f64| f64x2::from([a, b]);
        Self { p: both(a.p, b.p), v: both(a.v, b.v), pp: both(a.pp, b.pp), pv: both(a.pv, b.pv), vv: both(a.vv, b.vv) }
    }
}

impl From<Axes> for [Axis; 2] {
    fn from(axes: Axes) -> Self {
        let [p, v, pp, pv, vv] = [axes.p, axes.v, axes.pp, axes.pv, axes.vv].map(f64x2::to_array);
        [0, 1].map(|i| Axis { p: p[i], v: v[i], pp: pp[i], pv: pv[i], vv: vv[i] })
    }
}

impl Axes {
    fn new(p: f64x2, std_p: f64x2, std_v: f64x2) -> Self {
        Self { p, v: f64x2::ZERO, pp: std_p * std_p, pv: f64x2::ZERO, vv: std_v * std_v }
    }

    #[inline(always)]
    fn predict(&mut self, step: &Step, std_p: f64x2, std_v: f64x2) {
        let (qp, qv) = (std_p * std_p, std_v * std_v);
        let [dt, sum, squares, two] = [step.dt, step.sum, step.squares, 2.0].map(f64x2::splat);
        self.p += dt * self.v;
        self.pp += dt * (two * self.pv + dt * self.vv) + dt * qp + squares * qv;
        self.pv += dt * self.vv + sum * qv;
        self.vv += dt * qv;
    }

    #[inline(always)]
    fn update(&mut self, z: f64x2, std: f64x2) {
        let s = self.pp + std * std;
        let (kp, kv) = (self.pp / s, self.pv / s);
        let y = z - self.p;
        self.p += kp * y;
        self.v += kv * y;
        self.vv -= kv * self.pv;
        self.pv -= kp * self.pv;
        self.pp -= kp * self.pp;
    }

    /// All numbers finite, variances not negative.
    #[inline(always)]
    fn is_sound(&self) -> bool {
        // Zero times what is not finite is NaN.
        let zero = f64x2::ZERO;
        let sum = self.p * zero + self.v * zero + self.pp * zero + self.pv * zero + self.vv * zero;
        let finite = sum.simd_eq(zero);
        let sound = finite & self.pp.simd_ge(zero) & self.vv.simd_ge(zero);
        sound.to_bitmask() == 0b11
    }
}

/// The first of two axes.
#[inline(always)]
fn first(of: f64x2) -> f64 {
    of.as_array()[0]
}

/// The second of two axes.
#[inline(always)]
fn second(of: f64x2) -> f64 {
    of.as_array()[1]
}

/// A motion model of a box.
pub trait Motion: Clone + std::fmt::Debug {
    /// From a first measurement.
    fn start(bbox: &Rect) -> Self;
    /// Into the future. A lost box keeps its size.
    fn predict(&mut self, step: &Step, lost: bool);
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

/// Centre and sides of a box.
#[inline(always)]
fn measured(bbox: &Rect) -> (f64x2, f64x2) {
    let sides = f64x2::from([f64::from(bbox.width), f64::from(bbox.height)]);
    (f64x2::from([f64::from(bbox.x), f64::from(bbox.y)]) + sides * 0.5, sides)
}

/// The box with this centre and these sides.
#[inline(always)]
fn corner(centre: f64x2, sides: f64x2) -> Rect {
    let corner = centre - sides * 0.5;
    Rect { x: first(corner) as f32, y: second(corner) as f32, width: first(sides) as f32, height: second(sides) as f32 }
}

/// Moves the centre with the camera. The blocks stay independent by dropping the covariance that a rotation would put
/// between x and y: for the small rotations between two frames it is of second order.
fn warp_centre(centre: Axes, m: &Affine) -> Axes {
    let [a, b, tx, c, d, ty] = [m.a, m.b, m.tx, m.c, m.d, m.ty].map(f64::from);
    let [x, y] = centre.into();
    let axis = |p: f64, q: f64, shift: f64| {
        let mix = |i: f64, j: f64| p * p * i + q * q * j;
        Axis {
            p: p * x.p + q * y.p + shift,
            v: p * x.v + q * y.v,
            pp: mix(x.pp, y.pp),
            pv: mix(x.pv, y.pv),
            vv: mix(x.vv, y.vv),
        }
    };
    [axis(a, b, tx), axis(c, d, ty)].into()
}

/// BoT-SORT (Aharon, Orfaig, Bobrovsky 2022, arXiv 2206.14651), section 3.1: the state holds width and height
/// themselves, and all noise is relative to them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Xywh {
    centre: Axes,
    sides: Axes,
}

impl Xywh {
    #[inline(always)]
    fn positive_sides(&self) -> f64x2 {
        self.sides.p.fast_max(f64x2::splat(MIN_SIDE))
    }
}

impl Motion for Xywh {
    fn start(bbox: &Rect) -> Self {
        let (centre, sides) = measured(bbox);
        let axes = |p: f64x2| Axes::new(p, sides * (2.0 * STD_POSITION), sides * (10.0 * STD_VELOCITY));
        Self { centre: axes(centre), sides: axes(sides) }
    }

    #[inline(always)]
    fn predict(&mut self, step: &Step, lost: bool) {
        if lost {
            self.sides.v = f64x2::ZERO;
        }
        let sides = self.positive_sides();
        let (position, velocity) = (sides * STD_POSITION, sides * STD_VELOCITY);
        self.centre.predict(step, position, velocity);
        self.sides.predict(step, position, velocity);
    }

    #[inline(always)]
    fn update(&mut self, bbox: &Rect, noise: f64) {
        let std = self.positive_sides() * (noise * STD_POSITION);
        let (centre, sides) = measured(bbox);
        self.centre.update(centre, std);
        self.sides.update(sides, std);
    }

    /// The reference multiplies (w, h) by the rotation matrix as if they were a point; here they take its scale only,
    /// since the box of a face does not grow when the camera turns.
    fn warp(&mut self, by: &Affine) {
        self.centre = warp_centre(self.centre, by);
        let [a, b, c, d] = [by.a, by.b, by.c, by.d].map(f64::from);
        let [mut w, mut h] = self.sides.into();
        w.scale((a * a + c * c).sqrt());
        h.scale((b * b + d * d).sqrt());
        self.sides = [w, h].into();
    }

    #[inline(always)]
    fn rect(&self) -> Rect {
        corner(self.centre.p, self.positive_sides())
    }

    fn velocity(&self) -> Point {
        Point { x: first(self.centre.v) as f32, y: second(self.centre.v) as f32 }
    }

    fn set_velocity(&mut self, velocity: Point) {
        self.centre.v = f64x2::from([f64::from(velocity.x), f64::from(velocity.y)]);
    }

    #[inline(always)]
    fn is_sound(&self) -> bool {
        self.centre.is_sound() & self.sides.is_sound()
    }
}

/// SORT's and ByteTrack's state: aspect ratio (width / height) and height; noise is relative to the height, the
/// aspect's is constant.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Xyah {
    centre: Axes,
    shape: Axes,
}

const ASPECT_STD: f64 = 1e-2;
const ASPECT_VELOCITY_STD: f64 = 1e-5;
const ASPECT_MEASURED_STD: f64 = 1e-1;
const MIN_ASPECT: f64 = 1e-2;

impl Xyah {
    #[inline(always)]
    fn height(&self) -> f64 {
        let height = second(self.shape.p);
        if height > MIN_SIDE { height } else { MIN_SIDE }
    }
}

impl Motion for Xyah {
    fn start(bbox: &Rect) -> Self {
        let (centre, sides) = measured(bbox);
        let (w, h) = (first(sides), second(sides));
        let (position, velocity) = (2.0 * STD_POSITION * h, 10.0 * STD_VELOCITY * h);
        let shape = f64x2::from([w / h, h]);
        let (shape_std, shape_velocity) = ([ASPECT_STD, position], [ASPECT_VELOCITY_STD, velocity]);
        Self {
            centre: Axes::new(centre, f64x2::splat(position), f64x2::splat(velocity)),
            shape: Axes::new(shape, shape_std.into(), shape_velocity.into()),
        }
    }

    #[inline(always)]
    fn predict(&mut self, step: &Step, lost: bool) {
        if lost {
            self.shape.v = f64x2::from([first(self.shape.v), 0.0]);
        }
        let h = self.height();
        let (position, velocity) = (STD_POSITION * h, STD_VELOCITY * h);
        self.centre.predict(step, f64x2::splat(position), f64x2::splat(velocity));
        self.shape.predict(step, [ASPECT_STD, position].into(), [ASPECT_VELOCITY_STD, velocity].into());
    }

    #[inline(always)]
    fn update(&mut self, bbox: &Rect, noise: f64) {
        let std = noise * STD_POSITION * self.height();
        let (centre, sides) = measured(bbox);
        self.centre.update(centre, f64x2::splat(std));
        let shape = f64x2::from([first(sides) / second(sides), second(sides)]);
        self.shape.update(shape, [noise * ASPECT_MEASURED_STD, std].into());
    }

    fn warp(&mut self, by: &Affine) {
        self.centre = warp_centre(self.centre, by);
        let [a, b, c, d] = [by.a, by.b, by.c, by.d].map(f64::from);
        let (sx, sy) = ((a * a + c * c).sqrt(), (b * b + d * d).sqrt());
        let [mut aspect, mut height] = self.shape.into();
        height.scale(sy);
        if sy > 0.0 {
            aspect.scale(sx / sy);
        }
        self.shape = [aspect, height].into();
    }

    #[inline(always)]
    fn rect(&self) -> Rect {
        let (h, aspect) = (self.height(), first(self.shape.p));
        let aspect = if aspect > MIN_ASPECT { aspect } else { MIN_ASPECT };
        corner(self.centre.p, [aspect * h, h].into())
    }

    fn velocity(&self) -> Point {
        Point { x: first(self.centre.v) as f32, y: second(self.centre.v) as f32 }
    }

    fn set_velocity(&mut self, velocity: Point) {
        self.centre.v = f64x2::from([f64::from(velocity.x), f64::from(velocity.y)]);
    }

    #[inline(always)]
    fn is_sound(&self) -> bool {
        self.centre.is_sound() & self.shape.is_sound()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOX: Rect = Rect { x: 100.0, y: 50.0, width: 40.0, height: 60.0 };

    #[test]
    fn many_steps_at_once_equal_single_steps() {
        // Sizes stand still, so the noise of both ways is the same.
        let [p, std_p, std_v] = [[3.0, -1.0], [2.0, 1.0], [0.5, 0.1]].map(f64x2::from);
        let mut one = Axes::new(p, std_p, std_v);
        one.v = f64x2::from([1.25, -2.0]);
        let mut many = one;
        let noise = f64x2::splat(0.3);
        one.predict(&Step::of(7.0), noise, noise * 0.1);
        for _ in 0..7 {
            many.predict(&Step::of(1.0), noise, noise * 0.1);
        }
        for (a, b) in [(one.p, many.p), (one.pp, many.pp), (one.pv, many.pv), (one.vv, many.vv)] {
            assert!((first(a - b)).abs() < 1e-9 && second(a - b).abs() < 1e-9, "{one:?} {many:?}");
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
        let coordinates = |bbox: &Rect| -> [f64; 4] {
            let (centre, sides) = measured(bbox);
            [first(centre), second(centre), first(sides), second(sides)]
        };
        let z0 = coordinates(&BOX);
        let mut mean: [f64; 8] = std::array::from_fn(|i| if i < 4 { z0[i] } else { 0.0 });
        let side = |mean: &[f64; 8], i: usize| mean[2 + i % 2];
        let mut p: M = [[0.0; 8]; 8];
        for i in 0..8 {
            let std = if i < 4 { 2.0 * STD_POSITION } else { 10.0 * STD_VELOCITY } * side(&mean, i);
            p[i][i] = std * std;
        }
        for step in 1..20 {
            let s = step as f32;
            let shifted = Rect { x: 100.0 + 3.0 * s + (s * 1.7) % 2.0, y: 50.0 - s, width: 40.0 + s, height: 60.0 };
            // Predict.
            let noise: [f64; 8] =
                std::array::from_fn(|i| if i < 4 { STD_POSITION } else { STD_VELOCITY } * side(&mean, i));
            mean = std::array::from_fn(|i| (0..8).map(|k| f[i][k] * mean[k]).sum());
            p = mul(&mul(&f, &p), &transposed(&f));
            for i in 0..8 {
                p[i][i] += noise[i] * noise[i];
            }
            // Update, one measured coordinate after the other (equivalent, as the measurement noise is diagonal).
            let z = coordinates(&shifted);
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
            filter.predict(&Step::of(1.0), false);
            filter.update(&shifted, 1.0);
            let [[x, y], [w, h]]: [[Axis; 2]; 2] = [filter.centre.into(), filter.sides.into()];
            let got = [x, y, w, h];
            for i in 0..4 {
                assert!((got[i].p - mean[i]).abs() < 1e-9 && (got[i].v - mean[i + 4]).abs() < 1e-9, "step {step}");
                assert!((got[i].pp - p[i][i]).abs() < 1e-9 && (got[i].vv - p[i + 4][i + 4]).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn one_number_that_is_none_is_unsound() {
        let sound = Axes::new([1.0, -1.0].into(), f64x2::ONE, f64x2::ONE);
        assert!(sound.is_sound());
        for lane in 0..2 {
            for (n, bad) in
                [(0, f64::NAN), (1, f64::INFINITY), (2, -1.0), (2, f64::NEG_INFINITY), (3, f64::NAN), (4, -1e-9)]
            {
                let mut axes: [Axis; 2] = sound.into();
                let Axis { p, v, pp, pv, vv } = &mut axes[lane];
                *[p, v, pp, pv, vv][n] = bad;
                assert!(!Axes::from(axes).is_sound(), "number {n} of axis {lane}: {bad}");
            }
        }
    }

    #[test]
    fn velocity_is_learnt_and_predicted() {
        fn check<M: Motion>() {
            let mut m = M::start(&BOX);
            for i in 1..40 {
                m.predict(&Step::of(1.0), false);
                m.update(&Rect { x: 100.0 + 4.0 * i as f32, ..BOX }, 1.0);
            }
            assert!((m.velocity().x - 4.0).abs() < 0.05 && m.velocity().y.abs() < 1e-6);
            m.predict(&Step::of(10.0), true);
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
                m.predict(&Step::of(1.0), false);
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
            m.predict(&Step::of(1.0), false);
            let smaller = Rect { x: 100.0, y: 50.0, width: 40.0 - 2.0 * i as f32, height: 60.0 - 3.0 * i as f32 };
            m.update(&smaller, 1.0);
        }
        m.predict(&Step::of(60.0), false);
        assert!(m.rect().is_valid(), "{:?}", m.rect());
    }
}
