//! A similarity through pairs of points of which many are wrong.
//!
//! Owns the robust fit: samples of two pairs, truncated squares as the score (MSAC: Torr and Zisserman, CVIU 2000), least
//! squares on the inliers. Must not know pictures.

/// Most samples drawn. With half of the pairs wrong 24 samples find a good one with 99.9 %, with two thirds wrong 59.
const MAX_SAMPLES: u32 = 200;
/// Chance that no sample was free of wrong pairs, at which sampling ends.
const MISS: f64 = 1e-3;
/// Refinements by least squares; inliers hardly change after the second.
const REFINEMENTS: usize = 3;

/// A point and where it went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pair {
    pub(crate) from: [f64; 2],
    pub(crate) to: [f64; 2],
}

impl Pair {
    /// How far it went, squared.
    pub(crate) fn moved2(&self) -> f64 {
        (self.to[0] - self.from[0]).powi(2) + (self.to[1] - self.from[1]).powi(2)
    }
}

/// (x, y) -> (a x - b y + tx, b x + a y + ty).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Similarity {
    pub(crate) a: f64,
    pub(crate) b: f64,
    pub(crate) tx: f64,
    pub(crate) ty: f64,
}

impl Similarity {
    pub(crate) const IDENTITY: Self = Self { a: 1.0, b: 0.0, tx: 0.0, ty: 0.0 };

    pub(crate) fn apply(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        [self.a * x - self.b * y + self.tx, self.b * x + self.a * y + self.ty]
    }

    /// How far it moves a point.
    pub(crate) fn moves(&self, at: [f64; 2]) -> f64 {
        let to = self.apply(at);
        f64::hypot(to[0] - at[0], to[1] - at[1])
    }

    pub(crate) fn scale(&self) -> f64 {
        f64::hypot(self.a, self.b)
    }

    /// Radians.
    pub(crate) fn rotation(&self) -> f64 {
        self.b.atan2(self.a)
    }

    fn error2(&self, pair: &Pair) -> f64 {
        let to = self.apply(pair.from);
        (to[0] - pair.to[0]).powi(2) + (to[1] - pair.to[1]).powi(2)
    }

    /// The one that moves the two pairs' points exactly; `None` when they nearly coincide.
    fn through(p: &Pair, q: &Pair, apart2: f64) -> Option<Self> {
        let d = [q.from[0] - p.from[0], q.from[1] - p.from[1]];
        let e = [q.to[0] - p.to[0], q.to[1] - p.to[1]];
        let length2 = d[0] * d[0] + d[1] * d[1];
        if length2 < apart2 {
            return None;
        }
        let a = (d[0] * e[0] + d[1] * e[1]) / length2;
        let b = (d[0] * e[1] - d[1] * e[0]) / length2;
        let [x, y] = p.from;
        Some(Self { a, b, tx: p.to[0] - a * x + b * y, ty: p.to[1] - b * x - a * y })
    }

    /// Least squares (Umeyama 1991, in the plane); `None` when the points coincide.
    fn least_squares(pairs: &[Pair]) -> Option<Self> {
        let n = pairs.len() as f64;
        let mean = |of: fn(&Pair) -> f64| pairs.iter().map(of).sum::<f64>() / n;
        let (fx, fy, gx, gy) = (mean(|p| p.from[0]), mean(|p| p.from[1]), mean(|p| p.to[0]), mean(|p| p.to[1]));
        let (mut dot, mut cross, mut spread) = (0.0, 0.0, 0.0);
        for p in pairs {
            let (x, y, u, v) = (p.from[0] - fx, p.from[1] - fy, p.to[0] - gx, p.to[1] - gy);
            dot += x * u + y * v;
            cross += x * v - y * u;
            spread += x * x + y * y;
        }
        if spread <= 0.0 {
            return None;
        }
        let (a, b) = (dot / spread, cross / spread);
        Some(Self { a, b, tx: gx - a * fx + b * fy, ty: gy - b * fx - a * fy })
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fit {
    pub(crate) model: Similarity,
    /// The pairs that it explains within the tolerance.
    pub(crate) inliers: Vec<Pair>,
}

impl Fit {
    /// Standard error of where the model moves the point `at`, from the inliers' residuals (not taken below `floor`) and
    /// how widely they lie: close together they say little about rotation and scale.
    pub(crate) fn standard_error(&self, at: [f64; 2], floor: f64) -> f64 {
        let n = self.inliers.len() as f64;
        let mean = |i: usize| self.inliers.iter().map(|p| p.from[i]).sum::<f64>() / n;
        let centre = [mean(0), mean(1)];
        let away2 = |p: [f64; 2]| (p[0] - centre[0]).powi(2) + (p[1] - centre[1]).powi(2);
        let spread = self.inliers.iter().map(|p| away2(p.from)).sum::<f64>();
        // Two residuals a pair, four parameters.
        let degrees = (2.0 * n - 4.0).max(1.0);
        let variance = self.inliers.iter().map(|p| self.model.error2(p)).sum::<f64>() / degrees;
        let variance = variance.max(floor * floor);
        (2.0 * variance * (1.0 / n + away2(at) / spread.max(f64::MIN_POSITIVE))).sqrt()
    }
}

/// A small generator of sample numbers: the same in every version, which crates for random numbers do not promise.
/// splitmix64 (Steele, Lea and Flood 2014).
struct Draws(u64);

impl Draws {
    /// From 0 to below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // The bias of a remainder is of no matter for a few hundred pairs.
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}

/// The similarity that most pairs follow within `tolerance`; no motion at all is the first one tried, so it wins a tie.
/// `apart`: points of a sample that are nearer to each other say nothing about rotation. `None` without two pairs.
pub(crate) fn fit(pairs: &[Pair], tolerance: f64, apart: f64) -> Option<Fit> {
    if pairs.len() < 2 {
        return None;
    }
    let limit = tolerance * tolerance;
    let score = |model: &Similarity| -> (f64, usize) {
        let mut cost = 0.0;
        let mut inliers = 0;
        for p in pairs {
            let error = model.error2(p);
            inliers += usize::from(error <= limit);
            cost += error.min(limit);
        }
        (cost, inliers)
    };
    let mut best = Similarity::IDENTITY;
    let (mut cost, mut inliers) = score(&best);
    let mut draws = Draws(0);
    let mut drawn = 0;
    while drawn < samples_needed(inliers, pairs.len()) {
        drawn += 1;
        let (i, j) = (draws.below(pairs.len()), draws.below(pairs.len()));
        let Some(model) = Similarity::through(&pairs[i], &pairs[j], apart * apart) else { continue };
        let (its_cost, its_inliers) = score(&model);
        if its_cost < cost {
            (best, cost, inliers) = (model, its_cost, its_inliers);
        }
    }
    let within =
        |model: &Similarity| -> Vec<Pair> { pairs.iter().filter(|p| model.error2(p) <= limit).copied().collect() };
    let mut found = Fit { inliers: within(&best), model: best };
    for _ in 0..REFINEMENTS {
        let Some(model) = Similarity::least_squares(&found.inliers) else { break };
        found = Fit { inliers: within(&model), model };
    }
    Some(found)
}

/// Samples after which one without a wrong pair was drawn with certainty enough, given the share of right ones so far.
fn samples_needed(inliers: usize, pairs: usize) -> u32 {
    let share = inliers as f64 / pairs as f64;
    let both = share * share;
    if both >= 1.0 {
        return 0;
    }
    let needed = MISS.ln() / (1.0 - both).ln();
    if needed.is_finite() { (needed.ceil() as u32).min(MAX_SAMPLES) } else { MAX_SAMPLES }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURNED: Similarity = Similarity { a: 1.02, b: 0.05, tx: -31.0, ty: 12.5 };

    fn pairs(right: usize, wrong: usize) -> Vec<Pair> {
        let mut draws = Draws(7);
        let mut at = || [draws.below(1280) as f64, draws.below(720) as f64];
        let mut pairs: Vec<Pair> = (0..right)
            .map(|_| {
                let from = at();
                Pair { from, to: TURNED.apply(from) }
            })
            .collect();
        pairs.extend((0..wrong).map(|_| Pair { from: at(), to: at() }));
        pairs
    }

    #[test]
    fn two_thirds_of_wrong_pairs_do_not_matter() {
        let fit = fit(&pairs(40, 80), 2.0, 20.0).unwrap();
        assert_eq!(fit.inliers.len(), 40);
        let error = fit.model.moves([0.0, 0.0]) - TURNED.moves([0.0, 0.0]);
        assert!(error.abs() < 1e-9, "{fit:?}");
        assert!((fit.model.rotation() - TURNED.rotation()).abs() < 1e-12);
        assert!((fit.model.scale() - TURNED.scale()).abs() < 1e-12);
    }

    #[test]
    fn the_same_pairs_give_the_same_bits() {
        let pairs = pairs(30, 40);
        assert_eq!(fit(&pairs, 2.0, 20.0), fit(&pairs, 2.0, 20.0));
    }

    #[test]
    fn too_few_pairs_and_pairs_in_one_place_give_nothing_new() {
        assert_eq!(fit(&[], 2.0, 20.0), None);
        let one = Pair { from: [5.0, 5.0], to: [50.0, 5.0] };
        let fit = fit(&[one; 8], 2.0, 20.0).unwrap();
        assert_eq!((fit.model, fit.inliers.len()), (Similarity::IDENTITY, 0));
    }

    #[test]
    fn the_standard_error_grows_away_from_the_points() {
        let mut noisy = pairs(60, 0);
        for (i, p) in noisy.iter_mut().enumerate() {
            p.from = [p.from[0] / 8.0, p.from[1] / 8.0];
            p.to = TURNED.apply(p.from);
            p.to[0] += if i % 2 == 0 { 0.2 } else { -0.2 };
        }
        let fit = fit(&noisy, 2.0, 5.0).unwrap();
        let (near, far) = (fit.standard_error([80.0, 45.0], 0.0), fit.standard_error([1280.0, 720.0], 0.0));
        assert!(near < 0.1 && far > 5.0 * near, "{near} {far}");
        let truly = fit.model.apply([1280.0, 720.0]);
        let error =
            f64::hypot(truly[0] - TURNED.apply([1280.0, 720.0])[0], truly[1] - TURNED.apply([1280.0, 720.0])[1]);
        assert!(error < 3.0 * far, "{error} is not within three times {far}");
    }
}
