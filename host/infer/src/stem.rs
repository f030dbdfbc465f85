//! The first layers of YuNet, where half of its time goes: convolution 3x3 of stride 2 from 3 to 16 channels, ReLU,
//! convolution 1x1, depthwise convolution 3x3, ReLU, pooling 2x2.
//!
//! Owns this one computation, row by row: three rows of the middle layers are kept, which stay in the processor's cache.
//! Layer by layer, as a runtime does it, 4 MB go to memory and back three times, and three channels do not fill ONNX
//! Runtime's blocked kernels (what it saves: `tests/bench/RESULTS.md`). Must not know ONNX files or
//! sessions. Needs AVX2 and FMA; where they are missing the graph stays whole.

use crate::onnx::nodes::Conv;

/// Channels of what comes out.
pub(crate) const CHANNELS: usize = 16;

/// All channels of one place.
type Cell = [f32; CHANNELS];

/// Places computed at once: two registers of eight channels each, 12 of the processor's 16.
const BLOCK: usize = 6;

/// The layers' numbers, in the order in which they are read.
#[derive(Clone, Debug)]
pub(crate) struct Stem {
    /// Input channel, row and column of the kernel (27), then outputs.
    first: Vec<Cell>,
    first_bias: Cell,
    /// Inputs, then outputs.
    point: [Cell; CHANNELS],
    point_bias: Cell,
    /// Row and column of the kernel (9), then channels.
    spatial: [Cell; 9],
    spatial_bias: Cell,
}

/// Rows kept from picture to picture.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Three rows of the middle layer, each with an empty cell at both ends, and an empty row.
    ring: [Vec<Cell>; 3],
    empty: Vec<Cell>,
    /// Two rows before pooling, and what comes of them.
    pair: [Vec<Cell>; 2],
    pooled: Vec<Cell>,
    /// The row above the picture.
    above: Vec<f32>,
}

impl Stem {
    /// Whether this processor can run it.
    pub(crate) fn supported() -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            false
        }
    }

    /// From the three convolutions, when they have the sizes that this is made for.
    pub(crate) fn new(first: &Conv, point: &Conv, spatial: &Conv) -> Option<Self> {
        let fits = |conv: &Conv, dims: [usize; 4], stride, group| {
            conv.weight.dims == dims && conv.stride == stride && conv.group == group
        };
        let all = fits(first, [CHANNELS, 3, 3, 3], 2, 1)
            && fits(point, [CHANNELS, CHANNELS, 1, 1], 1, 1)
            && fits(spatial, [CHANNELS, 1, 3, 3], 1, CHANNELS);
        if !all {
            return None;
        }
        // `[outputs, taps]` in the file, taps first here.
        let turned = |conv: &Conv, tap: usize| -> Cell {
            let taps = conv.weight.data.len() / CHANNELS;
            std::array::from_fn(|output| conv.weight.data[output * taps + tap])
        };
        let bias = |conv: &Conv| Cell::try_from(conv.bias.as_slice()).ok();
        Some(Self {
            first: (0..27).map(|tap| turned(first, tap)).collect(),
            first_bias: bias(first)?,
            point: std::array::from_fn(|tap| turned(point, tap)),
            point_bias: bias(point)?,
            spatial: std::array::from_fn(|tap| turned(spatial, tap)),
            spatial_bias: bias(spatial)?,
        })
    }

    /// Numbers that come out for an input of this size.
    pub(crate) fn output_len((width, height): (u32, u32)) -> usize {
        CHANNELS * (width as usize / 4) * (height as usize / 4)
    }

    /// `input` is `[3, height, width]`, `out` `[16, height / 4, width / 4]`; both sides are multiples of 4. Must only be
    /// called where [`Stem::supported`].
    pub(crate) fn run(&self, input: &[f32], (width, height): (u32, u32), out: &mut [f32], scratch: &mut Scratch) {
        let size = (width as usize, height as usize);
        assert!(
            size.0.is_multiple_of(4) && size.1.is_multiple_of(4) && input.len() == 3 * size.0 * size.1,
            "a whole input of this size"
        );
        assert_eq!(out.len(), Self::output_len((width, height)), "room for what comes out");
        assert!(Self::supported(), "checked when the model was loaded");
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has AVX2 and FMA, the only thing that this function asks beyond its arguments.
        #[allow(unsafe_code)]
        unsafe {
            avx2::run(self, input, size, out, scratch);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    // Loops instead of `map` over registers: the library's function is not compiled for these features, so registers
    // would go to it through memory (a first build of it took 1.15 times the CPU of the whole program: RESULTS.md).
    use std::arch::x86_64::{
        __m256, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    };

    use super::{BLOCK, CHANNELS, Cell, Scratch, Stem};

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn load(cell: &Cell) -> [__m256; 2] {
        // SAFETY: a cell is sixteen numbers, eight from its start and eight from its middle; no alignment is asked for.
        #[allow(unsafe_code)]
        unsafe {
            [_mm256_loadu_ps(cell.as_ptr()), _mm256_loadu_ps(cell.as_ptr().add(8))]
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn store(cell: &mut Cell, [low, high]: [__m256; 2]) {
        // SAFETY: as for `load`.
        #[allow(unsafe_code)]
        unsafe {
            _mm256_storeu_ps(cell.as_mut_ptr(), low);
            _mm256_storeu_ps(cell.as_mut_ptr().add(8), high);
        }
    }

    /// `sum + value * weights`, sixteen channels.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn add(sum: &mut [__m256; 2], value: f32, weights: [__m256; 2]) {
        let value = _mm256_set1_ps(value);
        *sum = [_mm256_fmadd_ps(value, weights[0], sum[0]), _mm256_fmadd_ps(value, weights[1], sum[1])];
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn relu([a, b]: [__m256; 2]) -> [__m256; 2] {
        let zero = _mm256_setzero_ps();
        [_mm256_max_ps(a, zero), _mm256_max_ps(b, zero)]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn larger(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])]
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn run(
        stem: &Stem,
        input: &[f32],
        (width, height): (usize, usize),
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (columns, rows) = (width / 2, height / 2);
        let Scratch { ring, empty, pair, pooled, above } = scratch;
        for row in ring.iter_mut().chain([&mut *empty]) {
            row.clear();
            row.resize(columns + 2, [0.0; CHANNELS]);
        }
        for row in pair.iter_mut() {
            row.resize(columns, [0.0; CHANNELS]);
        }
        pooled.resize(columns / 2, [0.0; CHANNELS]);
        above.clear();
        above.resize(width, 0.0);
        let row_of = |channel: usize, row: usize| &input[(channel * height + row) * width..][..width];
        for y in 0..=rows {
            if y < rows {
                let sources: [&[f32]; 9] = std::array::from_fn(|n| match (n / 3, 2 * y + n % 3) {
                    (_, 0) => &above[..],
                    (channel, row) => row_of(channel, row - 1),
                });
                middle_row(stem, &sources, &mut ring[y % 3][1..=columns]);
            }
            // The row before has all three that it needs now.
            let Some(at) = y.checked_sub(1) else { continue };
            let upper = if at == 0 { &*empty } else { &ring[(at - 1) % 3] };
            let lower = if at + 1 == rows { &*empty } else { &ring[(at + 1) % 3] };
            spatial_row(stem, [upper, &ring[at % 3], lower], &mut pair[at % 2]);
            if at % 2 == 1 {
                pool(pair, pooled);
                // Cells apart into planes, a plane at a time: sixteen stores far from each other a cell take longer.
                for (channel, plane) in out.chunks_exact_mut(columns / 2 * (rows / 2)).enumerate() {
                    let row = &mut plane[at / 2 * pooled.len()..][..pooled.len()];
                    for (value, cell) in row.iter_mut().zip(&*pooled) {
                        *value = cell[channel];
                    }
                }
            }
        }
    }

    /// One row of the first convolution and the 1x1 one. The nine sources are the rows of each channel.
    #[target_feature(enable = "avx2,fma")]
    fn middle_row(stem: &Stem, sources: &[&[f32]; 9], out: &mut [Cell]) {
        let columns = out.len();
        edge(stem, sources, &mut out[0]);
        let mut x = 1;
        while x + BLOCK <= columns {
            block::<BLOCK>(stem, sources, x, &mut out[x..x + BLOCK]);
            x += BLOCK;
        }
        while x < columns {
            block::<1>(stem, sources, x, &mut out[x..=x]);
            x += 1;
        }
    }

    /// The first column: what lies left of the picture is zero.
    #[target_feature(enable = "avx2,fma")]
    fn edge(stem: &Stem, sources: &[&[f32]; 9], out: &mut Cell) {
        let mut sum = load(&stem.first_bias);
        for (source, taps) in sources.iter().zip(stem.first.chunks_exact(3)) {
            add(&mut sum, source[0], load(&taps[1]));
            add(&mut sum, source[1], load(&taps[2]));
        }
        point(stem, &[sum], std::slice::from_mut(out));
    }

    /// `N` columns from `x`, which is not the first.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn block<const N: usize>(stem: &Stem, sources: &[&[f32]; 9], x: usize, out: &mut [Cell]) {
        let mut sums = [load(&stem.first_bias); N];
        for (source, taps) in sources.iter().zip(stem.first.chunks_exact(3)) {
            let source = &source[2 * x - 1..2 * x + 2 * N];
            for (k, tap) in taps.iter().enumerate() {
                let tap = load(tap);
                for (n, sum) in sums.iter_mut().enumerate() {
                    add(sum, source[2 * n + k], tap);
                }
            }
        }
        point(stem, &sums, out);
    }

    /// ReLU and the 1x1 convolution of `N` places.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn point<const N: usize>(stem: &Stem, places: &[[__m256; 2]; N], out: &mut [Cell]) {
        let mut values = [[0.0; CHANNELS]; N];
        for (cell, place) in values.iter_mut().zip(places) {
            store(cell, relu(*place));
        }
        let mut sums = [load(&stem.point_bias); N];
        for (k, tap) in stem.point.iter().enumerate() {
            let tap = load(tap);
            for (sum, value) in sums.iter_mut().zip(&values) {
                add(sum, value[k], tap);
            }
        }
        for (cell, sum) in out.iter_mut().zip(sums) {
            store(cell, sum);
        }
    }

    /// One row of the depthwise convolution, from three rows with an empty cell at both ends.
    #[target_feature(enable = "avx2,fma")]
    fn spatial_row(stem: &Stem, rows: [&Vec<Cell>; 3], out: &mut [Cell]) {
        let bias = load(&stem.spatial_bias);
        let [a, b, c] = rows.map(|row| row.windows(3));
        for (cell, ((a, b), c)) in out.iter_mut().zip(a.zip(b).zip(c)) {
            let mut sum = bias;
            for (row, taps) in [a, b, c].into_iter().zip(stem.spatial.as_chunks::<3>().0) {
                for (value, tap) in row.iter().zip(taps) {
                    let (value, tap) = (load(value), load(tap));
                    sum = [_mm256_fmadd_ps(value[0], tap[0], sum[0]), _mm256_fmadd_ps(value[1], tap[1], sum[1])];
                }
            }
            store(cell, sum);
        }
    }

    /// The larger of each two by two, not below zero (which is ReLU before pooling).
    #[target_feature(enable = "avx2,fma")]
    fn pool([upper, lower]: &[Vec<Cell>; 2], out: &mut [Cell]) {
        let pairs = upper.as_chunks::<2>().0.iter().zip(lower.as_chunks::<2>().0);
        for (cell, (a, b)) in out.iter_mut().zip(pairs) {
            let upper = larger(load(&a[0]), load(&a[1]));
            let lower = larger(load(&b[0]), load(&b[1]));
            store(cell, relu(larger(upper, lower)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::nodes::Weight;

    fn conv(dims: [usize; 4], stride: i64, group: usize, seed: u32) -> Conv {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let data = (0..dims.iter().product()).map(|_| next()).collect();
        let bias = (0..dims[0]).map(|_| next()).collect();
        Conv { input: String::new(), weight: Weight { dims: dims.to_vec(), data }, bias, stride, group }
    }

    /// `[channels][row][column]`, layer by layer in double precision, as the definition of a convolution says.
    fn plain(conv: &Conv, input: &[Vec<Vec<f64>>], relu: bool) -> Vec<Vec<Vec<f64>>> {
        let [outputs, per_group, side, _] = conv.weight.dims[..] else { panic!("four extents") };
        let (stride, half) = (conv.stride as isize, (side / 2) as isize);
        let (rows, columns) = (input[0].len() as isize, input[0][0].len() as isize);
        let at = |c: usize, y: isize, x: isize| {
            if (0..rows).contains(&y) && (0..columns).contains(&x) { input[c][y as usize][x as usize] } else { 0.0 }
        };
        let value = |o: usize, y: isize, x: isize| {
            let first = o / (outputs / conv.group) * per_group;
            let mut sum = f64::from(conv.bias[o]);
            for (n, &w) in conv.weight.data[o * per_group * side * side..][..per_group * side * side].iter().enumerate()
            {
                let (c, ky, kx) = (n / (side * side), (n / side % side) as isize, (n % side) as isize);
                sum += f64::from(w) * at(first + c, y * stride + ky - half, x * stride + kx - half);
            }
            if relu { sum.max(0.0) } else { sum }
        };
        let row = |o, y| (0..columns / stride).map(|x| value(o, y, x)).collect();
        (0..outputs).map(|o| (0..rows / stride).map(|y| row(o, y)).collect()).collect()
    }

    #[test]
    fn rows_kept_in_a_ring_give_what_layer_after_layer_gives() {
        if !Stem::supported() {
            facestream_test_support::skip("stem", "no AVX2 and FMA in this processor");
            return;
        }
        let first = conv([16, 3, 3, 3], 2, 1, 1);
        let point = conv([16, 16, 1, 1], 1, 1, 2);
        let spatial = conv([16, 1, 3, 3], 1, 16, 3);
        let stem = Stem::new(&first, &point, &spatial).unwrap();
        let mut scratch = Scratch::default();
        // The same scratch for all: nothing of an earlier picture may be left. Widths that blocks do not divide, too.
        for (width, height) in [(32usize, 32usize), (64, 8), (4, 4), (20, 12), (96, 64), (32, 32)] {
            let input: Vec<f32> =
                (0..3 * width * height).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 24) as f32).collect();
            let mut out = vec![f32::NAN; 16 * width / 4 * (height / 4)];
            stem.run(&input, (width as u32, height as u32), &mut out, &mut scratch);
            let planes: Vec<Vec<Vec<f64>>> = input
                .chunks_exact(width * height)
                .map(|p| p.chunks_exact(width).map(|r| r.iter().map(|v| f64::from(*v)).collect()).collect())
                .collect();
            let last = plain(&spatial, &plain(&point, &plain(&first, &planes, true), false), true);
            for (n, &got) in out.iter().enumerate() {
                let (x, y, c) = (n % (width / 4), n / (width / 4) % (height / 4), n / (width / 4 * (height / 4)));
                let four = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(dy, dx)| last[c][2 * y + dy][2 * x + dx]);
                let want = four.into_iter().fold(0.0, f64::max);
                let tolerance = 1e-5 * want.abs().max(100.0);
                assert!(
                    (f64::from(got) - want).abs() <= tolerance,
                    "{width}x{height} {c} {y} {x}: {got}, wanted {want}"
                );
            }
        }
    }

    #[test]
    fn other_layers_are_not_taken_for_it() {
        let (first, point, spatial) =
            (conv([16, 3, 3, 3], 2, 1, 1), conv([16, 16, 1, 1], 1, 1, 2), conv([16, 1, 3, 3], 1, 16, 3));
        assert!(Stem::new(&first, &point, &spatial).is_some());
        assert!(Stem::new(&conv([16, 3, 3, 3], 1, 1, 1), &point, &spatial).is_none(), "stride 1");
        assert!(Stem::new(&conv([32, 3, 3, 3], 2, 1, 1), &point, &spatial).is_none(), "32 channels");
        assert!(Stem::new(&first, &point, &conv([16, 16, 3, 3], 1, 1, 3)).is_none(), "not depthwise");
    }
}
