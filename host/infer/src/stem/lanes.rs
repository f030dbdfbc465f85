//! The stem's layers on the vector units of x86-64: AVX2, and AVX-512 where there is one.
//!
//! Owns the loops, written once, and the few operations that differ: sixteen channels are two registers of AVX2 and one
//! of AVX-512, which has twice as many of them. Both do the same operations in the same order, so that what comes out
//! is the same to the last bit. Must not be called on a processor without them: [`super::Stem`] asks.
//!
//! Loops instead of `map` over registers: the library's function is not compiled for these features, so registers would
//! go to it through memory (a first build of it took 1.15 times the CPU of the whole program: RESULTS.md).

/// A module of the loops: its features, the places computed at once, and its operations on [`super::Cell`]s.
macro_rules! loops {
    ($module:ident, $features:literal, $block:literal, { $($operations:tt)* }) => {
        pub(super) mod $module {
            use super::super::{CHANNELS, Cell, Scratch, Stem};

            const BLOCK: usize = $block;

            $($operations)*

            /// `sum + value * weights`, sixteen channels.
            #[inline]
            #[target_feature(enable = $features)]
            fn add(sum: &mut Register, value: f32, weights: Register) {
                *sum = product(all(value), weights, *sum);
            }

            #[target_feature(enable = $features)]
            pub(in super::super) fn run(
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
            #[target_feature(enable = $features)]
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
            #[target_feature(enable = $features)]
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
            #[target_feature(enable = $features)]
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
            #[target_feature(enable = $features)]
            fn point<const N: usize>(stem: &Stem, places: &[Register; N], out: &mut [Cell]) {
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
            #[target_feature(enable = $features)]
            fn spatial_row(stem: &Stem, rows: [&Vec<Cell>; 3], out: &mut [Cell]) {
                let bias = load(&stem.spatial_bias);
                let [a, b, c] = rows.map(|row| row.windows(3));
                for (cell, ((a, b), c)) in out.iter_mut().zip(a.zip(b).zip(c)) {
                    let mut sum = bias;
                    for (row, taps) in [a, b, c].into_iter().zip(stem.spatial.as_chunks::<3>().0) {
                        for (value, tap) in row.iter().zip(taps) {
                            sum = product(load(value), load(tap), sum);
                        }
                    }
                    store(cell, sum);
                }
            }

            /// The larger of each two by two, not below zero (which is ReLU before pooling).
            #[target_feature(enable = $features)]
            fn pool([upper, lower]: &[Vec<Cell>; 2], out: &mut [Cell]) {
                let pairs = upper.as_chunks::<2>().0.iter().zip(lower.as_chunks::<2>().0);
                for (cell, (a, b)) in out.iter_mut().zip(pairs) {
                    let upper = larger(load(&a[0]), load(&a[1]));
                    let lower = larger(load(&b[0]), load(&b[1]));
                    store(cell, relu(larger(upper, lower)));
                }
            }
        }
    };
}

// Two registers of eight channels each a place: 12 of 16.
loops!(avx2, "avx2,fma", 6, {
    use std::arch::x86_64::{
        __m256, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    };

    type Register = [__m256; 2];

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn load(cell: &Cell) -> Register {
        // SAFETY: a cell is sixteen numbers, eight from its start and eight from its middle; no alignment is asked for.
        #[allow(unsafe_code)]
        unsafe {
            [_mm256_loadu_ps(cell.as_ptr()), _mm256_loadu_ps(cell.as_ptr().add(8))]
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn store(cell: &mut Cell, [low, high]: Register) {
        // SAFETY: as for `load`.
        #[allow(unsafe_code)]
        unsafe {
            _mm256_storeu_ps(cell.as_mut_ptr(), low);
            _mm256_storeu_ps(cell.as_mut_ptr().add(8), high);
        }
    }

    /// `value * weights + sum`, channel by channel.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn product(value: Register, weights: Register, sum: Register) -> Register {
        [_mm256_fmadd_ps(value[0], weights[0], sum[0]), _mm256_fmadd_ps(value[1], weights[1], sum[1])]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn all(value: f32) -> Register {
        [_mm256_set1_ps(value); 2]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn relu([a, b]: Register) -> Register {
        let zero = _mm256_setzero_ps();
        [_mm256_max_ps(a, zero), _mm256_max_ps(b, zero)]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn larger(a: Register, b: Register) -> Register {
        [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])]
    }
});

// One register a place: 16 of 32.
loops!(avx512, "avx512f", 16, {
    use std::arch::x86_64::{
        __m512, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_max_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    type Register = __m512;

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(cell: &Cell) -> Register {
        // SAFETY: a cell is sixteen numbers; no alignment is asked for.
        #[allow(unsafe_code)]
        unsafe {
            _mm512_loadu_ps(cell.as_ptr())
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn store(cell: &mut Cell, value: Register) {
        // SAFETY: as for `load`.
        #[allow(unsafe_code)]
        unsafe {
            _mm512_storeu_ps(cell.as_mut_ptr(), value);
        }
    }

    /// `value * weights + sum`, channel by channel.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn product(value: Register, weights: Register, sum: Register) -> Register {
        _mm512_fmadd_ps(value, weights, sum)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn all(value: f32) -> Register {
        _mm512_set1_ps(value)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn relu(value: Register) -> Register {
        _mm512_max_ps(value, _mm512_setzero_ps())
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn larger(a: Register, b: Register) -> Register {
        _mm512_max_ps(a, b)
    }
});
