//! The loops of the letterbox, row by row, written so that the compiler vectorises them.
//!
//! Owns the only `unsafe` of this crate's own: the call of the copy compiled for AVX2 after asking the processor for it.
//! Integer and float results are the same in both copies: no fused multiply-add, no reordering of sums.

use facestream_core::Planes;
use facestream_core::frame::PixelFormat;

/// Columns of one row: luma taps, chroma taps (already halved and, for interleaved chroma, doubled), shared weights.
#[derive(Debug)]
pub(super) struct RowTaps {
    luma: Taps,
    chroma: Taps,
    weights: Vec<f32>,
}

/// Two source columns for each output column.
#[derive(Debug)]
struct Taps {
    at: Vec<[u32; 2]>,
    shape: Shape,
}

/// Regular taps, which the compiler turns into vector loads. Gathering them one by one costs more than all the rest of
/// the conversion (720p to 640x360: two thirds of its time). Every shape gives the bits that gathering gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// The mean of columns 2i and 2i+1: luma at half the size.
    Pairs,
    /// Column `first + i * step` alone: chroma at half the size, luma at the same size or an odd fraction of it.
    Steps { first: usize, step: usize },
    /// One column, no matter how they lie.
    Single,
    /// Anything else.
    Blend,
}

impl Taps {
    fn new(at: Vec<[u32; 2]>, weights: &[f32]) -> Self {
        let all = |test: &dyn Fn(usize, [u32; 2], f32) -> bool| {
            at.iter().zip(weights).enumerate().all(|(i, (&tap, &w))| test(i, tap, w))
        };
        let first = at.first().map_or(0, |t| t[0] as usize);
        let step = at.get(1).map_or(1, |t| (t[0] as usize).saturating_sub(first));
        let shape = if all(&|i, tap, w| w == 0.5 && tap.map(|t| t as usize) == [2 * i, 2 * i + 1]) {
            Shape::Pairs
        } else if all(&|i, tap, w| (w == 0.0 || tap[0] == tap[1]) && tap[0] as usize == first + i * step) {
            Shape::Steps { first, step }
        } else if all(&|_, tap, w| w == 0.0 || tap[0] == tap[1]) {
            Shape::Single
        } else {
            Shape::Blend
        };
        Self { at, shape }
    }
}

impl RowTaps {
    pub(super) fn new(taps: impl Iterator<Item = (u32, u32, f32)>, shift: u32, step: u32) -> Self {
        let taps: Vec<_> = taps.collect();
        let weights: Vec<f32> = taps.iter().map(|t| t.2).collect();
        let luma = taps.iter().map(|&(a, b, _)| [a, b]).collect();
        let chroma = taps.iter().map(|&(a, b, _)| [(a >> shift) * step, (b >> shift) * step]).collect();
        Self { luma: Taps::new(luma, &weights), chroma: Taps::new(chroma, &weights), weights }
    }
}

/// The picture, and how many luma rows (binary logarithm) share a chroma row.
pub(super) struct Source<'a> {
    pub(super) planes: &'a Planes<'a>,
    pub(super) chroma_shift: u32,
}

/// Where rows go in the output planes.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Of an output row.
    pub(super) width: usize,
    /// Column and row of the picture's first pixel.
    pub(super) offset: (u32, u32),
}

/// YUV to RGB in whole levels of 0..=255, as the pictures that models were trained on, then scaled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Colours {
    gain: f32,
    y_offset: f32,
    rv: f32,
    gu: f32,
    gv: f32,
    bu: f32,
    scale: f32,
}

impl Colours {
    /// ITU-R BT.601-7 and BT.709-6: Kr and Kb, 8-bit quantisation of section 2.5 / 4 for the limited range.
    pub(super) fn new(full_range: bool, bt709: bool, scale: f32) -> Self {
        let (kr, kb) = if bt709 { (0.2126, 0.0722) } else { (0.299, 0.114) };
        let kg = 1.0 - kr - kb;
        let (y, c, y_offset) = if full_range { (1.0, 1.0, 0.0) } else { (255.0 / 219.0, 255.0 / 224.0, 16.0) };
        let mut out = Self {
            gain: y as f32,
            y_offset,
            rv: (2.0 * (1.0 - kr) * c) as f32,
            gu: (-2.0 * (1.0 - kb) * kb / kg * c) as f32,
            gv: (-2.0 * (1.0 - kr) * kr / kg * c) as f32,
            bu: (2.0 * (1.0 - kb) * c) as f32,
            scale,
        };
        if !full_range && !bt709 {
            // The same, rounded to three digits as in OpenCV's cvtColor: at most 0.1 levels away, and equal to it to the
            // level, which detectors' scores in the fourth digit depend on.
            (out.gain, out.rv, out.gu, out.gv, out.bu) = (1.164, 1.596, -0.391, -0.813, 2.018);
        }
        out
    }
}

impl Colours {
    /// The same numbers for the kernel.
    pub(super) fn for_device(self) -> facestream_gpu::Colours {
        let Self { gain, y_offset, rv, gu, gv, bu, .. } = self;
        facestream_gpu::Colours { y_offset, gain, rv, gu, gv, bu }
    }
}

/// Row buffers, kept from picture to picture.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    luma: Vec<u16>,
    u: Vec<u16>,
    v: Vec<u16>,
    wide: [Vec<f32>; 3],
}

/// Converts every row. `out` are the red, green and blue planes.
pub(super) fn convert(
    source: &Source<'_>,
    columns: &RowTaps,
    rows: &[(u32, u32, u16)],
    colours: &Colours,
    place: Place,
    out: [&mut [f32]; 3],
    scratch: &mut Scratch,
) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, the only thing that this copy asks beyond its arguments.
        #[allow(unsafe_code)]
        unsafe {
            convert_avx2(source, columns, rows, colours, place, out, scratch);
        }
        return;
    }
    convert_any(source, columns, rows, colours, place, out, scratch);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn convert_avx2(
    source: &Source<'_>,
    columns: &RowTaps,
    rows: &[(u32, u32, u16)],
    colours: &Colours,
    place: Place,
    out: [&mut [f32]; 3],
    scratch: &mut Scratch,
) {
    convert_any(source, columns, rows, colours, place, out, scratch);
}

/// A source row as it lies in memory, or two blended (values times 256).
enum Row<'a> {
    Plain(&'a [u8]),
    Blended(&'a [u16]),
}

#[inline(always)]
fn convert_any(
    source: &Source<'_>,
    columns: &RowTaps,
    rows: &[(u32, u32, u16)],
    colours: &Colours,
    place: Place,
    out: [&mut [f32]; 3],
    scratch: &mut Scratch,
) {
    let planes = source.planes;
    let n = columns.weights.len();
    let width = planes.width as usize;
    let interleaved = planes.format == PixelFormat::Nv12;
    let chroma_width = match planes.format {
        PixelFormat::I444 => width,
        PixelFormat::Nv12 => width.div_ceil(2) * 2,
        PixelFormat::I420 | PixelFormat::I422 => width.div_ceil(2),
    };
    let Scratch { luma, u, v, wide } = scratch;
    let [wide_y, wide_u, wide_v] = wide;
    for w in [&mut *wide_y, &mut *wide_u, &mut *wide_v] {
        w.resize(n, 0.0);
    }
    let [red, green, blue] = out;
    for (index, &(first, second, weight)) in rows.iter().enumerate() {
        let (cf, cs) = (first >> source.chroma_shift, second >> source.chroma_shift);
        let y_row = blended(planes.y, planes.y_stride, width, (first, second, weight), luma);
        gather(&y_row, &columns.luma, 0, &columns.weights, wide_y);
        let u_row = blended(planes.u, planes.u_stride, chroma_width, (cf, cs, weight), u);
        gather(&u_row, &columns.chroma, 0, &columns.weights, wide_u);
        if interleaved {
            gather(&u_row, &columns.chroma, 1, &columns.weights, wide_v);
        } else {
            let v_row = blended(planes.v, planes.v_stride, chroma_width, (cf, cs, weight), v);
            gather(&v_row, &columns.chroma, 0, &columns.weights, wide_v);
        }
        let start = (place.offset.1 as usize + index) * place.width + place.offset.0 as usize;
        let range = start..start + n;
        colour(
            colours,
            [wide_y, wide_u, wide_v],
            [&mut red[range.clone()], &mut green[range.clone()], &mut blue[range]],
        );
    }
}

/// One or two source rows as one. Where the weight is zero, or both taps fall on one row, nothing is copied.
#[inline(always)]
fn blended<'a>(
    plane: &'a [u8],
    stride: usize,
    width: usize,
    (first, second, weight): (u32, u32, u16),
    buffer: &'a mut Vec<u16>,
) -> Row<'a> {
    let row = |n: u32| &plane[n as usize * stride..][..width];
    if weight == 0 || first == second {
        return Row::Plain(row(first));
    }
    buffer.resize(width, 0);
    let (wa, wb) = (256 - weight, weight);
    for ((o, &a), &b) in buffer.iter_mut().zip(row(first)).zip(row(second)) {
        // At most 255 * 256: fits 16 bits.
        *o = u16::from(a) * wa + u16::from(b) * wb;
    }
    Row::Blended(buffer)
}

#[inline(always)]
fn gather(row: &Row<'_>, taps: &Taps, shift: usize, weights: &[f32], out: &mut [f32]) {
    match row {
        Row::Plain(row) => gather_from(&row[shift..], f32::from, taps, weights, out),
        Row::Blended(row) => gather_from(&row[shift..], |v| f32::from(v) * (1.0 / 256.0), taps, weights, out),
    }
}

#[inline(always)]
fn gather_from<T: Copy>(row: &[T], value: impl Fn(T) -> f32, taps: &Taps, weights: &[f32], out: &mut [f32]) {
    match taps.shape {
        Shape::Pairs => {
            for (o, pair) in out.iter_mut().zip(row.chunks_exact(2)) {
                let (a, b) = (value(pair[0]), value(pair[1]));
                *o = a + (b - a) * 0.5;
            }
        }
        Shape::Steps { first, step: 1 } => {
            for (o, &v) in out.iter_mut().zip(&row[first..]) {
                *o = value(v);
            }
        }
        Shape::Steps { first, step: 2 } => {
            // The last pair may be cut: interleaved chroma's second channel begins one further in.
            let row = &row[first..];
            for (o, pair) in out.iter_mut().zip(row.chunks(2)) {
                *o = value(pair[0]);
            }
        }
        Shape::Steps { .. } | Shape::Single => {
            for (o, tap) in out.iter_mut().zip(&taps.at) {
                *o = value(row[tap[0] as usize]);
            }
        }
        Shape::Blend => {
            for ((o, tap), &w) in out.iter_mut().zip(&taps.at).zip(weights) {
                let (a, b) = (value(row[tap[0] as usize]), value(row[tap[1] as usize]));
                *o = a + (b - a) * w;
            }
        }
    }
}

#[inline(always)]
fn colour(c: &Colours, [y, u, v]: [&[f32]; 3], [r, g, b]: [&mut [f32]; 3]) {
    let n = y.len();
    // Equal lengths, told to the compiler once.
    let (u, v, r, g, b) = (&u[..n], &v[..n], &mut r[..n], &mut g[..n], &mut b[..n]);
    for i in 0..n {
        // The half is for rounding: truncation of what is not negative, which every processor does in one instruction.
        let luma = (y[i] - c.y_offset).max(0.0) * c.gain + 0.5;
        let (du, dv) = (u[i] - 128.0, v[i] - 128.0);
        let level = |value: f32| value.clamp(0.0, 255.0).trunc() * c.scale;
        r[i] = level(luma + c.rv * dv);
        g[i] = level(luma + c.gu * du + c.gv * dv);
        b[i] = level(luma + c.bu * du);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The quick shapes are recognised, and give the bits of the general way.
    #[test]
    fn regular_taps_are_recognised_and_change_nothing() {
        let shape = |source, inner, shift, step| {
            let taps = RowTaps::new(super::super::taps(source, inner), shift, step);
            (taps.luma.shape, taps.chroma.shape)
        };
        let steps = |first, step| Shape::Steps { first, step };
        assert_eq!(shape(1280, 640, 1, 1), (Shape::Pairs, steps(0, 1)));
        assert_eq!(shape(1280, 640, 1, 2), (Shape::Pairs, steps(0, 2)));
        assert_eq!(shape(640, 640, 0, 1), (steps(0, 1), steps(0, 1)));
        assert_eq!(shape(1920, 640, 1, 1), (steps(1, 3), Shape::Single));
        assert_eq!(shape(1366, 640, 1, 1), (Shape::Blend, Shape::Blend));

        let row: Vec<u8> = (0..64u32).map(|i| (i * 7919 % 256) as u8).collect();
        for (source, inner, step) in [(64, 32, 1), (32, 16, 2), (64, 64, 1), (63, 21, 1), (64, 37, 1)] {
            let mut quick = RowTaps::new(super::super::taps(source, inner), 1, step);
            let run = |taps: &RowTaps| {
                let mut out = vec![0.0; 2 * inner as usize];
                let (luma, chroma) = out.split_at_mut(inner as usize);
                gather(&Row::Plain(&row), &taps.luma, 0, &taps.weights, luma);
                gather(&Row::Plain(&row), &taps.chroma, step as usize - 1, &taps.weights, chroma);
                out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            let fast = run(&quick);
            (quick.luma.shape, quick.chroma.shape) = (Shape::Blend, Shape::Blend);
            assert_eq!(fast, run(&quick), "{source} to {inner}");
        }
    }

    /// Both compiled copies give the same bits, so detections do not depend on the processor's generation.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_avx2_copy_equals_the_plain_one() {
        if !std::arch::is_x86_feature_detected!("avx2") {
            facestream_test_support::skip("the_avx2_copy_equals_the_plain_one", "no AVX2 in this processor");
            return;
        }
        let (w, h) = (37usize, 21usize);
        let y: Vec<u8> = (0..w * h).map(|i| (i * 7919 % 256) as u8).collect();
        let uv: Vec<u8> = (0..w.div_ceil(2) * 2 * h.div_ceil(2)).map(|i| (i * 104_729 % 256) as u8).collect();
        let planes = Planes {
            format: PixelFormat::Nv12,
            width: w as u32,
            height: h as u32,
            y: &y,
            y_stride: w,
            u: &uv,
            u_stride: w.div_ceil(2) * 2,
            v: &[],
            v_stride: 0,
            full_range: false,
            matrix: facestream_core::frame::ColorMatrix::Bt601,
        };
        let source = Source { planes: &planes, chroma_shift: 1 };
        let columns = RowTaps::new(super::super::taps(w as u32, 53), 1, 2);
        let rows: Vec<_> = super::super::taps(h as u32, 30).map(|(a, b, w)| (a, b, (w * 256.0) as u16)).collect();
        let colours = Colours::new(false, true, 1.0 / 255.0);
        let place = Place { width: 53, offset: (0, 0) };
        let run = |wide: bool| {
            let mut out = vec![0f32; 3 * 53 * 30];
            let (r, rest) = out.split_at_mut(53 * 30);
            let (g, b) = rest.split_at_mut(53 * 30);
            let mut scratch = Scratch::default();
            if wide {
                // SAFETY: AVX2 was asked for above.
                #[allow(unsafe_code)]
                unsafe {
                    convert_avx2(&source, &columns, &rows, &colours, place, [r, g, b], &mut scratch);
                }
            } else {
                convert_any(&source, &columns, &rows, &colours, place, [r, g, b], &mut scratch);
            }
            out.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(run(true), run(false));
    }
}
