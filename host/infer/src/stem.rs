//! The first layers of YuNet, where half of its time goes: convolution 3x3 of stride 2 from 3 to 16 channels, ReLU,
//! convolution 1x1, depthwise convolution 3x3, ReLU, pooling 2x2.
//!
//! Owns this one computation, row by row: three rows of the middle layers are kept, which stay in the processor's cache.
//! Layer by layer, as a runtime does it, 4 MB go to memory and back three times, and three channels do not fill ONNX
//! Runtime's blocked kernels (what it saves: `tests/bench/RESULTS.md`). Must not know ONNX files or
//! sessions. Needs AVX2 and FMA; where they are missing the graph stays whole.

#[cfg(target_arch = "x86_64")]
mod lanes;

use crate::onnx::nodes::Conv;

/// Channels of what comes out.
pub(crate) const CHANNELS: usize = 16;

/// All channels of one place.
type Cell = [f32; CHANNELS];

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
    pub(crate) fn run(&self, input: &[f32], size: (u32, u32), out: &mut [f32], scratch: &mut Scratch) {
        self.run_on(true, input, size, out, scratch);
    }

    /// On AVX-512 only if `wide`, and if the processor has it.
    fn run_on(&self, wide: bool, input: &[f32], (width, height): (u32, u32), out: &mut [f32], scratch: &mut Scratch) {
        let size = (width as usize, height as usize);
        assert!(
            size.0.is_multiple_of(4) && size.1.is_multiple_of(4) && input.len() == 3 * size.0 * size.1,
            "a whole input of this size"
        );
        assert_eq!(out.len(), Self::output_len((width, height)), "room for what comes out");
        assert!(Self::supported(), "checked when the model was loaded");
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
        #[cfg(target_arch = "x86_64")]
        if !std::arch::is_x86_feature_detected!("avx512f") {
            facestream_test_support::skip("stem on AVX-512", "no AVX-512 in this processor: AVX2 is tested alone");
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
            let mut narrow = vec![f32::NAN; out.len()];
            stem.run_on(false, &input, (width as u32, height as u32), &mut narrow, &mut scratch);
            assert_eq!(out, narrow, "{width}x{height}: AVX-512, where there is one, and AVX2");
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
