//! The stem's layers on the vector units of x86-64: AVX2, and AVX-512 where there is one.
//!
//! Owns the loops, written once, and the few operations that differ: sixteen channels are two registers of AVX2 and one
//! of AVX-512, which has twice as many of them. Both do the same operations in the same order, so that what comes out
//! is the same to the last bit. Must not be called on a processor without them: [`super::Stem`] asks.
//!
//! The loops over a row are not inlined into each other: together they need more registers than AVX2 has (8.6 instead of
//! 5.4 ms a picture of 640x384). Loops instead of `map` over registers: the library's function is not compiled for these
//! features, so registers would go to it through memory (a first build of it took 1.15 times the CPU of the whole
//! program: RESULTS.md).

/// A module of the loops: its features, the places computed at once for one block of outputs and for two, and its
/// operations on [`super::Cell`]s.
macro_rules! loops {
    ($module:ident, $features:literal, $single:literal, $double:literal, { $($operations:tt)* }) => {
        pub(super) mod $module {
            use super::super::{BLOCK, Cell, Planes, Rows, Scratch, Stem, Unit};

            const SINGLE: usize = $single;
            const DOUBLE: usize = $double;

            $($operations)*

            #[target_feature(enable = $features)]
            pub(in super::super) fn run(
                stem: &Stem,
                input: &[f32],
                (width, height): (usize, usize),
                mut out: Planes<'_>,
                scratch: &mut Scratch,
            ) {
                let Scratch { above, first, units } = scratch;
                let row_of = |channel: usize, row: usize| &input[(channel * height + row) * width..][..width];
                for y in 0..height / 2 {
                    let sources: [&[f32]; 9] = std::array::from_fn(|n| match (n / 3, 2 * y + n % 3) {
                        (_, 0) => &above[..],
                        (channel, row) => row_of(channel, row - 1),
                    });
                    first_row(stem, &sources, first);
                    accept(&stem.units, units, Some(first), &mut out);
                }
                accept(&stem.units, units, None, &mut out);
            }

            /// A row of what goes into the first of these units, `None` behind the last one: what comes out of it goes on to the
            /// next unit, and out of the last one to `out`.
            #[target_feature(enable = $features)]
            fn accept(units: &[Unit], kept: &mut [Rows], row: Option<&[Cell]>, out: &mut Planes<'_>) {
                let (Some((unit, units)), Some((rows, kept))) = (units.split_first(), kept.split_first_mut()) else {
                    if let Some(row) = row {
                        out.write(row);
                    }
                    return;
                };
                let Rows { ring, empty, pair, pooled, seen } = rows;
                if let Some(row) = row {
                    point_row(unit, row, &mut ring[*seen % 3]);
                }
                // The row before has all three that it needs now.
                if let Some(at) = seen.checked_sub(1) {
                    let upper = if at == 0 { &*empty } else { &ring[(at + 2) % 3] };
                    let lower = if row.is_none() { &*empty } else { &ring[*seen % 3] };
                    spatial_row(unit, [upper, &ring[at % 3], lower], &mut pair[at % 2]);
                    if !unit.pooled {
                        accept(units, kept, Some(&pair[at % 2]), out);
                    } else if at % 2 == 1 {
                        pool(pair, pooled);
                        accept(units, kept, Some(pooled), out);
                    }
                }
                *seen += 1;
                if row.is_none() {
                    accept(units, kept, None, out);
                }
            }

            /// One row of the first convolution and ReLU. The nine sources are the rows of each channel.
            #[inline(never)]
            #[target_feature(enable = $features)]
            fn first_row(stem: &Stem, sources: &[&[f32]; 9], out: &mut [Cell]) {
                let columns = out.len();
                // What lies left of the picture is zero.
                let mut edge = load(&stem.first_bias);
                for (source, taps) in sources.iter().zip(stem.first.as_chunks::<3>().0) {
                    edge = product(all(source[0]), load(&taps[1]), edge);
                    edge = product(all(source[1]), load(&taps[2]), edge);
                }
                store(&mut out[0], relu(edge));
                if columns - 1 < SINGLE {
                    for x in 1..columns {
                        first_block::<1>(stem, sources, x, out);
                    }
                } else {
                    for x in (1..columns).step_by(SINGLE) {
                        first_block::<SINGLE>(stem, sources, x.min(columns - SINGLE), out);
                    }
                }
            }

            /// `N` columns from `x`, which is not the first.
            #[inline]
            #[target_feature(enable = $features)]
            fn first_block<const N: usize>(stem: &Stem, sources: &[&[f32]; 9], x: usize, out: &mut [Cell]) {
                let mut sums = [load(&stem.first_bias); N];
                for (source, taps) in sources.iter().zip(stem.first.as_chunks::<3>().0) {
                    let source = &source[2 * x - 1..2 * x + 2 * N];
                    for (k, tap) in taps.iter().enumerate() {
                        let tap = load(tap);
                        for (n, sum) in sums.iter_mut().enumerate() {
                            *sum = product(all(source[2 * n + k]), tap, *sum);
                        }
                    }
                }
                for (cell, sum) in out[x..x + N].iter_mut().zip(sums) {
                    store(cell, relu(sum));
                }
            }

            /// One row of the 1x1 convolution, to a row with an empty cell at both ends of each block.
            #[target_feature(enable = $features)]
            fn point_row(unit: &Unit, row: &[Cell], out: &mut [Cell]) {
                if Unit::together(unit.outputs) == 1 {
                    point_groups::<1, SINGLE>(unit, row, out);
                } else {
                    point_groups::<2, DOUBLE>(unit, row, out);
                }
            }

            /// `Q` blocks of outputs at a time, `P` places at a time.
            #[inline(never)]
            #[target_feature(enable = $features)]
            fn point_groups<const Q: usize, const P: usize>(unit: &Unit, row: &[Cell], out: &mut [Cell]) {
                let columns = row.len() / unit.inputs;
                let taps = unit.point.as_chunks::<Q>().0.as_chunks::<BLOCK>().0.chunks_exact(unit.inputs);
                let groups = taps.zip(unit.point_bias.as_chunks::<Q>().0).zip(out.chunks_exact_mut(Q * (columns + 2)));
                for ((taps, bias), out) in groups {
                    if columns < P {
                        for x in 0..columns {
                            point_block::<Q, 1>(taps, bias, row, columns, x, out);
                        }
                    } else {
                        // The last places again where they do not fill a block: that costs less than one by one.
                        for x in (0..columns).step_by(P) {
                            point_block::<Q, P>(taps, bias, row, columns, x.min(columns - P), out);
                        }
                    }
                }
            }

            /// `P` places from `x`. `taps` are the numbers of a block of inputs each.
            #[inline]
            #[target_feature(enable = $features)]
            fn point_block<const Q: usize, const P: usize>(
                taps: &[[[Cell; Q]; BLOCK]],
                bias: &[Cell; Q],
                row: &[Cell],
                columns: usize,
                x: usize,
                out: &mut [Cell],
            ) {
                let mut sums = [[load(&bias[0]); Q]; P];
                for sum in &mut sums {
                    for (sum, bias) in sum.iter_mut().zip(bias) {
                        *sum = load(bias);
                    }
                }
                for (taps, cells) in taps.iter().zip(row.chunks_exact(columns)) {
                    let cells = &cells[x..x + P];
                    for (k, taps) in taps.iter().enumerate() {
                        for (sum, cell) in sums.iter_mut().zip(cells) {
                            let value = all(cell.0[k]);
                            for (sum, tap) in sum.iter_mut().zip(taps) {
                                *sum = product(value, load(tap), *sum);
                            }
                        }
                    }
                }
                for (q, out) in out.chunks_exact_mut(columns + 2).enumerate() {
                    for (cell, sum) in out[1 + x..1 + x + P].iter_mut().zip(&sums) {
                        store(cell, sum[q]);
                    }
                }
            }

            /// One row of the depthwise convolution and ReLU, from three rows with an empty cell at both ends of each block.
            #[inline(never)]
            #[target_feature(enable = $features)]
            fn spatial_row(unit: &Unit, rows: [&Vec<Cell>; 3], out: &mut [Cell]) {
                let columns = out.len() / unit.outputs;
                let [a, b, c] = rows.map(|row| row.chunks_exact(columns + 2));
                let numbers = unit.spatial.iter().zip(&unit.spatial_bias);
                for (((taps, bias), out), ((a, b), c)) in numbers.zip(out.chunks_exact_mut(columns)).zip(a.zip(b).zip(c)) {
                    if columns < SINGLE {
                        for x in 0..columns {
                            spatial_block::<1>(taps, bias, [a, b, c], x, out);
                        }
                    } else {
                        for x in (0..columns).step_by(SINGLE) {
                            spatial_block::<SINGLE>(taps, bias, [a, b, c], x.min(columns - SINGLE), out);
                        }
                    }
                }
            }

            /// `N` columns from `x`.
            #[inline]
            #[target_feature(enable = $features)]
            fn spatial_block<const N: usize>(taps: &[Cell; 9], bias: &Cell, rows: [&[Cell]; 3], x: usize, out: &mut [Cell]) {
                let mut sums = [load(bias); N];
                for (row, taps) in rows.iter().zip(taps.as_chunks::<3>().0) {
                    let row = &row[x..x + N + 2];
                    for (k, tap) in taps.iter().enumerate() {
                        let tap = load(tap);
                        for (n, sum) in sums.iter_mut().enumerate() {
                            *sum = product(load(&row[n + k]), tap, *sum);
                        }
                    }
                }
                for (cell, sum) in out[x..x + N].iter_mut().zip(sums) {
                    store(cell, relu(sum));
                }
            }

            /// The larger of each two by two. Rows of an even number of columns: pairs do not cross blocks.
            #[target_feature(enable = $features)]
            fn pool([upper, lower]: &[Vec<Cell>; 2], out: &mut [Cell]) {
                let pairs = upper.as_chunks::<2>().0.iter().zip(lower.as_chunks::<2>().0);
                for (cell, (a, b)) in out.iter_mut().zip(pairs) {
                    let upper = larger(load(&a[0]), load(&a[1]));
                    let lower = larger(load(&b[0]), load(&b[1]));
                    store(cell, larger(upper, lower));
                }
            }
        }
    };
}

// Two registers of eight channels each a block and place: 12 of 16.
loops!(avx2, "avx2,fma", 6, 3, {
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
            [_mm256_loadu_ps(cell.0.as_ptr()), _mm256_loadu_ps(cell.0.as_ptr().add(8))]
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn store(cell: &mut Cell, [low, high]: Register) {
        // SAFETY: as for `load`.
        #[allow(unsafe_code)]
        unsafe {
            _mm256_storeu_ps(cell.0.as_mut_ptr(), low);
            _mm256_storeu_ps(cell.0.as_mut_ptr().add(8), high);
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

// One register a block and place: 16 of 32.
loops!(avx512, "avx512f", 16, 8, {
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
            _mm512_loadu_ps(cell.0.as_ptr())
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn store(cell: &mut Cell, value: Register) {
        // SAFETY: as for `load`.
        #[allow(unsafe_code)]
        unsafe {
            _mm512_storeu_ps(cell.0.as_mut_ptr(), value);
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
