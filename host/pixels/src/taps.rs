//! How a plane is scaled, as numbers: for devices that scale by themselves and must come to the same bytes.
//!
//! Owns the arithmetic of `fast_image_resize` (after Pillow-SIMD's): weights of a filter in 16 bits, columns summed first
//! and rounded to bytes, rows of these then. Must not scale anything: the crate does on the processor, a kernel on a GPU.

use facestream_core::frame::LumaUse;

use crate::crop::chroma_window;
use crate::measure::SIDE;
use crate::scale::{Quality, Window, fit};

/// Where the samples of one axis come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taps {
    /// Bits behind the point of a weight. A sum of weighted samples begins with half of it, so that it is rounded.
    pub precision: u32,
    /// Numbers a row of `table`: the first sample, how many count, then their weights, filled up with zeros.
    pub row: usize,
    /// A row for each sample that comes out.
    pub table: Vec<i32>,
}

/// How a plane is scaled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scaling {
    /// Width and height of what comes out.
    pub size: (u32, u32),
    /// Where its columns come from, counted from the part's first column.
    pub columns: Taps,
    /// Where its rows come from.
    pub rows: Taps,
}

impl Scaling {
    fn new(window: Window, span: (f64, f64), size: (u32, u32), quality: Quality) -> Self {
        let columns = Taps::new(window.width, span.0, size.0, quality);
        Self { size, columns, rows: Taps::new(window.height, span.1, size.1, quality) }
    }

    fn whole(window: Window, size: (u32, u32), quality: Quality) -> Self {
        Self::new(window, (f64::from(window.width), f64::from(window.height)), size, quality)
    }

    /// Of luma and of each chroma plane, as [`crate::crop_planes`] makes a crop of this part ([`crate::crop_window`]) of an NV12
    /// picture.
    #[must_use]
    pub fn of_crop(part: Window, max_side: u32) -> [Self; 2] {
        let size = fit(part.width, part.height, max_side);
        let (window, span) = chroma_window(part, (2, 2));
        let chroma = (size.0.div_ceil(2), size.1.div_ceil(2));
        [Self::whole(part, size, Quality::Sharp), Self::new(window, span, chroma, Quality::Sharp)]
    }

    /// Of luma, as [`crate::measure`] looks at this part ([`crate::measured_window`]), or as [`crate::luma`] makes a copy of
    /// a whole picture.
    #[must_use]
    pub fn of_luma(part: Window, what: LumaUse) -> Self {
        let quality = match what {
            LumaUse::Measure(_) => Quality::Plain,
            LumaUse::Copy(_) => Quality::Sharp,
        };
        Self::whole(part, Self::size_of_luma(part, what), quality)
    }

    /// Width and height of [`Scaling::of_luma`], which costs nothing to know.
    #[must_use]
    pub fn size_of_luma(part: Window, what: LumaUse) -> (u32, u32) {
        match what {
            LumaUse::Measure(_) => (SIDE as u32, SIDE as u32),
            LumaUse::Copy(max_side) => fit(part.width, part.height, max_side),
        }
    }
}

impl Taps {
    /// For `out` samples from `span` of `len` source samples, from the first one's left edge. `span` is less than `len` by
    /// half a sample where the last chroma sample reaches out of the picture.
    pub(crate) fn new(len: u32, span: f64, out: u32, quality: Quality) -> Self {
        if f64::from(out) == span {
            // Nothing to scale along this axis: each sample is what it was.
            return Self { precision: 0, row: 3, table: (0..out as i32).flat_map(|at| [at, 1, 1]).collect() };
        }
        let (filter, support): (fn(f64) -> f64, f64) = match quality {
            Quality::Sharp => (catmull_rom, 2.0),
            Quality::Plain => (triangle, 1.0),
        };
        let scale = span / f64::from(out);
        let widened = scale.max(1.0);
        let (radius, narrow) = (support * widened, 1.0 / widened);
        let rows: Vec<(u32, Vec<f64>)> = (0..out).map(|at| weights(at, len, scale, (radius, narrow), filter)).collect();
        let greatest = rows.iter().flat_map(|(_, w)| w).copied().fold(0.0, f64::max);
        // The most bits with which the greatest weight stays below 2^15, of at most 21 (32 - 8 of the sample - 2 for sums
        // that overshoot - the last one tried).
        let precision = (0..21).find(|bits| (greatest * f64::from(1 << (bits + 1))).round() >= 32768.0).unwrap_or(21);
        let most = rows.iter().map(|(_, w)| w.len()).max().unwrap_or(0);
        let mut table = Vec::with_capacity(rows.len() * (most + 2));
        for (first, weights) in &rows {
            let filled = weights.iter().map(|w| (w * f64::from(1 << precision)).round() as i32);
            table.extend([*first as i32, weights.len() as i32]);
            table.extend(filled.chain(std::iter::repeat(0)).take(most));
        }
        Self { precision, row: most + 2, table }
    }
}

/// First source sample of one that comes out, and the weights from there on, whose sum is 1.
fn weights(at: u32, len: u32, scale: f64, (radius, narrow): (f64, f64), filter: fn(f64) -> f64) -> (u32, Vec<f64>) {
    let centre = (f64::from(at) + 0.5) * scale;
    let first = (centre - radius).floor().max(0.0) as u32;
    let end = (centre + radius).ceil().min(f64::from(len)) as u32;
    let of = |x: u32| filter((f64::from(x) - (centre - 0.5)) * narrow);
    let start = (first..end).find(|x| of(*x) != 0.0).unwrap_or(end);
    let mut weights: Vec<f64> = (start..end).map(of).collect();
    let sum: f64 = weights.iter().sum();
    if sum != 0.0 {
        weights.iter_mut().for_each(|w| *w /= sum);
    }
    while weights.last() == Some(&0.0) {
        weights.pop();
    }
    (start, weights)
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// Keys' cubic with a = -1/2.
fn catmull_rom(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::{self, Source, Window};

    /// What the numbers stand for, and what the kernel computes.
    fn scaled(source: &Source<'_>, channels: usize, columns: &Taps, rows: &Taps) -> Vec<u8> {
        let rounded = |taps: &Taps| (1 << taps.precision) >> 1;
        let level = |sum: i32, taps: &Taps| (sum >> taps.precision).clamp(0, 255);
        let mut out = Vec::new();
        for row in rows.table.chunks_exact(rows.row) {
            for column in columns.table.chunks_exact(columns.row) {
                for channel in 0..channels {
                    let mut sum = rounded(columns);
                    for (x, across) in (column[0]..).zip(&column[2..][..column[1] as usize]) {
                        let mut down = rounded(rows);
                        for (y, weight) in (row[0]..).zip(&row[2..][..row[1] as usize]) {
                            let x = (source.window.x as usize + x as usize) * channels + channel;
                            down += i32::from(source.data[(source.window.y as usize + y as usize) * source.stride + x])
                                * weight;
                        }
                        sum += level(down, rows) * across;
                    }
                    out.push(level(sum, columns) as u8);
                }
            }
        }
        out
    }

    #[test]
    fn the_numbers_give_what_the_scaler_gives() {
        let mut seed = 3u32;
        // Noise between black and white: sums that overshoot, too.
        let data: Vec<u8> = (0..2 * 320 * 240)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if seed & 0x100 == 0 { if seed >> 31 == 0 { 0 } else { 255 } } else { (seed >> 24) as u8 }
            })
            .collect();
        let windows = [(320, 240), (319, 17), (64, 64), (5, 200), (1, 1), (113, 112), (2, 3)];
        let sizes = [(112, 112), (64, 48), (1, 1), (7, 100), (160, 120), (320, 60), (33, 17)];
        for (width, height) in windows {
            for out in sizes {
                for quality in [Quality::Sharp, Quality::Plain] {
                    for half in [0.0, 0.5] {
                        let window = Window { x: 0, y: 0, width, height };
                        let span = (f64::from(width) - half, f64::from(height) - half);
                        let source = Source { data: &data, stride: 640, window, span };
                        let columns = Taps::new(width, span.0, out.0, quality);
                        let rows = Taps::new(height, span.1, out.1, quality);
                        let told = format!("{width}x{height} less {half} to {out:?}");
                        let mut both = vec![0; 2 * out.0 as usize * out.1 as usize];
                        scale::pairs(source, &mut both, out, quality).unwrap();
                        assert!(both == scaled(&source, 2, &columns, &rows), "pairs, {told}");
                        if half == 0.0 {
                            let mut one = vec![0; out.0 as usize * out.1 as usize];
                            scale::plane(source, &mut one, out, quality).unwrap();
                            assert!(one == scaled(&source, 1, &columns, &rows), "a plane, {told}");
                        }
                    }
                }
            }
        }
    }
}
