//! The layers of YuNet up to its first fork, where most of its time goes: convolution 3x3 of stride 2 from 3 to 16 channels
//! and ReLU, then units of convolution 1x1, depthwise convolution 3x3 and ReLU, some followed by pooling 2x2.
//!
//! Owns this one computation, row by row: each unit keeps three rows, which stay in the processor's cache.
//! Layer by layer, as a runtime does it, megabytes go to memory and back for each, and three channels do not fill ONNX
//! Runtime's blocked kernels (what it saves: `tests/bench/RESULTS.md`). Must not know ONNX files or
//! sessions. Needs AVX2 and FMA; where they are missing the graph stays whole.

#[cfg(target_arch = "x86_64")]
mod lanes;

use crate::onnx::nodes::Conv;

/// Channels computed together: a block. Rows of more channels lie block after block.
const BLOCK: usize = 16;
/// Channels of a picture.
const COLOURS: usize = 3;

/// A block of channels of one place. A cache line: on two of them, as the allocator would have it, each load takes twice
/// as long (RESULTS.md).
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
struct Cell([f32; BLOCK]);

impl Cell {
    const ZERO: Self = Self([0.0; BLOCK]);
}

/// The layers' numbers, in the order in which they are read.
#[derive(Clone, Debug)]
pub(crate) struct Stem {
    /// Input channel, row and column of the kernel (27), then outputs.
    first: Vec<Cell>,
    first_bias: Cell,
    units: Vec<Unit>,
}

/// Convolution 1x1, depthwise convolution 3x3, ReLU, and pooling 2x2 if `pooled` (the "DP unit" of YuNet: Wu, Peng and
/// Yu, "YuNet: A Tiny Millisecond-level Face Detector", 2023).
#[derive(Clone, Debug)]
struct Unit {
    /// Blocks of channels that go in.
    inputs: usize,
    /// Blocks of channels that come out: one, or an even number.
    outputs: usize,
    /// One block or two of outputs ([`Unit::together`]), input channel, block of these.
    point: Vec<Cell>,
    point_bias: Vec<Cell>,
    /// Block, then row and column of the kernel.
    spatial: Vec<[Cell; 9]>,
    spatial_bias: Vec<Cell>,
    pooled: bool,
}

/// Rows kept from picture to picture.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The row above the picture.
    above: Vec<f32>,
    /// A row of what the first convolution gives.
    first: Vec<Cell>,
    units: Vec<Rows>,
}

/// Rows of one unit. Each block of those in `ring` and `empty` has an empty cell at both ends.
#[derive(Debug, Default)]
struct Rows {
    /// Three rows between the unit's convolutions.
    ring: [Vec<Cell>; 3],
    /// A row outside of the picture.
    empty: Vec<Cell>,
    /// Two rows behind the second convolution.
    pair: [Vec<Cell>; 2],
    /// What comes of the two by pooling.
    pooled: Vec<Cell>,
    /// Rows that came in.
    seen: usize,
}

/// `[channels][rows][columns]`, written a row of all channels at a time.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "the loops are for x86-64"))]
struct Planes<'a> {
    out: &'a mut [f32],
    size: (usize, usize),
    row: usize,
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

    /// From the first convolution, when it has the size that this is made for.
    pub(crate) fn new(first: &Conv) -> Option<Self> {
        fits(first, [BLOCK, COLOURS, 3, 3], 2, 1).then(|| Self {
            first: (0..27).map(|tap| turned(first, 0, tap)).collect(),
            first_bias: blocks(&first.bias)[0],
            units: Vec::new(),
        })
    }

    /// Adds a unit behind the others, when its convolutions have sizes that this is made for.
    pub(crate) fn push(&mut self, point: &Conv, spatial: &Conv) -> Option<()> {
        let (inputs, &outputs) = (self.channels(), point.weight.dims.first()?);
        let all = (outputs == BLOCK || outputs > 0 && outputs.is_multiple_of(2 * BLOCK))
            && fits(point, [outputs, inputs, 1, 1], 1, 1)
            && fits(spatial, [outputs, 1, 3, 3], 1, outputs);
        if !all {
            return None;
        }
        let (inputs, outputs) = (inputs / BLOCK, outputs / BLOCK);
        let together = Unit::together(outputs);
        let turned_point = |group: usize| {
            let taps = 0..inputs * BLOCK;
            taps.flat_map(move |tap| (0..together).map(move |block| turned(point, group * together + block, tap)))
        };
        self.units.push(Unit {
            inputs,
            outputs,
            point: (0..outputs / together).flat_map(turned_point).collect(),
            point_bias: blocks(&point.bias),
            spatial: (0..outputs).map(|block| std::array::from_fn(|tap| turned(spatial, block, tap))).collect(),
            spatial_bias: blocks(&spatial.bias),
            pooled: false,
        });
        Some(())
    }

    /// Adds pooling 2x2 behind the last unit, which has none yet.
    pub(crate) fn pool(&mut self) -> Option<()> {
        let unit = self.units.last_mut().filter(|u| !u.pooled)?;
        unit.pooled = true;
        Some(())
    }

    /// Channels of what comes out.
    pub(crate) fn channels(&self) -> usize {
        self.units.last().map_or(1, |unit| unit.outputs) * BLOCK
    }

    /// By how much each side shrinks.
    pub(crate) fn stride(&self) -> u32 {
        2 << self.units.iter().filter(|u| u.pooled).count()
    }

    /// Numbers that come out for an input of this size.
    pub(crate) fn output_len(&self, (width, height): (u32, u32)) -> usize {
        self.channels() * ((width / self.stride()) as usize * (height / self.stride()) as usize)
    }

    /// `input` is `[3, height, width]`, `out` `[channels, height / stride, width / stride]`; both sides are multiples of
    /// the stride. Must only be called where [`Stem::supported`].
    pub(crate) fn run(&self, input: &[f32], size: (u32, u32), out: &mut [f32], scratch: &mut Scratch) {
        self.run_on(true, input, size, out, scratch);
    }

    /// On AVX-512 only if `wide`, and if the processor has it.
    fn run_on(&self, wide: bool, input: &[f32], (width, height): (u32, u32), out: &mut [f32], scratch: &mut Scratch) {
        let stride = self.stride();
        let size = (width as usize, height as usize);
        assert!(
            width.is_multiple_of(stride) && height.is_multiple_of(stride) && input.len() == COLOURS * size.0 * size.1,
            "a whole input of this size"
        );
        assert_eq!(out.len(), self.output_len((width, height)), "room for what comes out");
        assert!(Self::supported(), "checked when the model was loaded");
        scratch.prepare(self, size);
        let out = Planes { out, size: ((width / stride) as usize, (height / stride) as usize), row: 0 };
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has what each asks for, the only thing that it asks beyond its arguments.
        #[allow(unsafe_code)]
        unsafe {
            if wide && std::arch::is_x86_feature_detected!("avx512f") {
                lanes::avx512::run(self, input, size, out, scratch);
            } else {
                lanes::avx2::run(self, input, size, out, scratch);
            }
        }
    }
}

/// Whether a convolution has this weight (`[outputs, inputs / group, height, width]`), stride and number of groups.
fn fits(conv: &Conv, dims: [usize; 4], stride: i64, group: usize) -> bool {
    conv.weight.dims == dims && conv.stride == stride && conv.group == group
}

/// One tap of a block of outputs: `[outputs, taps]` in the file, taps first here.
fn turned(conv: &Conv, block: usize, tap: usize) -> Cell {
    let taps = conv.weight.data.len() / conv.bias.len();
    Cell(std::array::from_fn(|output| conv.weight.data[(block * BLOCK + output) * taps + tap]))
}

/// Numbers of a convolution whose outputs are whole blocks.
fn blocks(bias: &[f32]) -> Vec<Cell> {
    bias.as_chunks().0.iter().copied().map(Cell).collect()
}

impl Unit {
    /// Blocks of outputs computed together: each number that is read is then used for both.
    fn together(outputs: usize) -> usize {
        if outputs == 1 { 1 } else { 2 }
    }
}

impl Scratch {
    /// Rows for a picture of this size, nothing of an earlier one left where a new one reads before it writes.
    fn prepare(&mut self, stem: &Stem, (width, _): (usize, usize)) {
        self.above.clear();
        self.above.resize(width, 0.0);
        let mut columns = width / 2;
        self.first.resize(columns, Cell::ZERO);
        self.units.resize_with(stem.units.len(), Rows::default);
        for (unit, rows) in stem.units.iter().zip(&mut self.units) {
            for row in rows.ring.iter_mut().chain([&mut rows.empty]) {
                row.clear();
                row.resize(unit.outputs * (columns + 2), Cell::ZERO);
            }
            for row in &mut rows.pair {
                row.resize(unit.outputs * columns, Cell::ZERO);
            }
            if unit.pooled {
                columns /= 2;
            }
            rows.pooled.resize(unit.outputs * columns, Cell::ZERO);
            rows.seen = 0;
        }
    }
}

#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "the loops are for x86-64"))]
impl Planes<'_> {
    /// Cells apart into planes, a plane at a time: sixteen stores far from each other a cell take longer.
    fn write(&mut self, row: &[Cell]) {
        let (columns, rows) = self.size;
        let planes = self.out.chunks_exact_mut(BLOCK * columns * rows);
        for (planes, cells) in planes.zip(row.chunks_exact(columns)) {
            for (channel, plane) in planes.chunks_exact_mut(columns * rows).enumerate() {
                for (value, cell) in plane[self.row * columns..][..columns].iter_mut().zip(cells) {
                    *value = cell.0[channel];
                }
            }
        }
        self.row += 1;
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

    /// The largest of each two by two.
    fn halved(plane: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let pairs = plane.chunks_exact(2).map(|rows| rows[0].chunks_exact(2).zip(rows[1].chunks_exact(2)));
        pairs.map(|row| row.map(|(a, b)| a[0].max(a[1]).max(b[0].max(b[1]))).collect()).collect()
    }

    #[test]
    fn rows_kept_in_a_ring_give_what_layer_after_layer_gives() {
        if !Stem::supported() {
            facestream_test_support::skip("stem", "no AVX2 and FMA in this processor");
            return;
        }
        #[cfg(target_arch = "x86_64")]
        if !std::arch::is_x86_feature_detected!("avx512f") {
            facestream_test_support::skip("stem on AVX-512", "no AVX-512 in this processor: AVX2 is tested alone");
        }
        let first = conv([16, 3, 3, 3], 2, 1, 1);
        // Inputs, outputs, whether pooled: one block and more, the same number and another, pooled and not.
        let units = [(16, 16, true), (16, 16, false), (16, 32, false), (32, 64, true), (64, 64, false)];
        let units = units.map(|(inputs, outputs, pooled)| {
            let point = conv([outputs, inputs, 1, 1], 1, 1, (inputs + outputs) as u32);
            (point, conv([outputs, 1, 3, 3], 1, outputs, 3), pooled)
        });
        let mut stem = Stem::new(&first).unwrap();
        for (point, spatial, pooled) in &units {
            stem.push(point, spatial).unwrap();
            if *pooled {
                stem.pool().unwrap();
            }
        }
        assert_eq!((stem.channels(), stem.stride()), (64, 8));
        let mut scratch = Scratch::default();
        // The same scratch for all: nothing of an earlier picture may be left. Widths that blocks do not divide, too.
        for (width, height) in [(32usize, 32usize), (64, 8), (8, 8), (40, 24), (200, 64), (32, 32)] {
            let input: Vec<f32> =
                (0..3 * width * height).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 24) as f32).collect();
            let size = (width as u32, height as u32);
            let mut out = vec![f32::NAN; stem.output_len(size)];
            stem.run(&input, size, &mut out, &mut scratch);
            let mut narrow = vec![f32::NAN; out.len()];
            stem.run_on(false, &input, size, &mut narrow, &mut scratch);
            assert_eq!(out, narrow, "{width}x{height}: AVX-512, where there is one, and AVX2");
            let planes: Vec<Vec<Vec<f64>>> = input
                .chunks_exact(width * height)
                .map(|p| p.chunks_exact(width).map(|r| r.iter().map(|v| f64::from(*v)).collect()).collect())
                .collect();
            let mut want = plain(&first, &planes, true);
            for (point, spatial, pooled) in &units {
                want = plain(spatial, &plain(point, &want, false), true);
                if *pooled {
                    want.iter_mut().for_each(|plane| *plane = halved(plane));
                }
            }
            let want: Vec<f64> = want.into_iter().flatten().flatten().collect();
            let largest = want.iter().copied().fold(1.0, f64::max);
            assert_eq!(out.len(), want.len());
            for (n, (&got, &want)) in out.iter().zip(&want).enumerate() {
                assert!(
                    (f64::from(got) - want).abs() <= 1e-5 * largest,
                    "{width}x{height} {n}: {got}, wanted {want} (the largest is {largest})"
                );
            }
        }
    }

    #[test]
    fn other_layers_are_not_taken_for_it() {
        let (first, point, spatial) =
            (conv([16, 3, 3, 3], 2, 1, 1), conv([16, 16, 1, 1], 1, 1, 2), conv([16, 1, 3, 3], 1, 16, 3));
        let mut stem = Stem::new(&first).unwrap();
        assert!(stem.pool().is_none(), "no unit before it");
        stem.push(&point, &spatial).unwrap();
        stem.pool().unwrap();
        assert!(stem.pool().is_none(), "pooled already");
        assert!(Stem::new(&conv([16, 3, 3, 3], 1, 1, 1)).is_none(), "stride 1");
        assert!(Stem::new(&conv([32, 3, 3, 3], 2, 1, 1)).is_none(), "32 channels");
        assert!(stem.push(&point, &conv([16, 16, 3, 3], 1, 1, 3)).is_none(), "not depthwise");
        assert!(stem.push(&conv([16, 32, 1, 1], 1, 1, 2), &spatial).is_none(), "other channels than there are");
        let odd = (conv([48, 16, 1, 1], 1, 1, 2), conv([48, 1, 3, 3], 1, 48, 3));
        assert!(stem.push(&odd.0, &odd.1).is_none(), "three blocks");
        assert_eq!((stem.channels(), stem.stride()), (16, 4), "what did not fit left nothing");
    }
}
