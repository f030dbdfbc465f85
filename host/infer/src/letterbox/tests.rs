//! The one pass against the obvious three, in f64, on every format; and against broken input.

use super::*;
use crate::config::InputSize;
use crate::geometry::{Fit, input_for};
use proptest::prelude::*;

/// A picture of smooth waves with some noise, in planes with padding at the end of rows.
struct Picture {
    format: PixelFormat,
    size: (usize, usize),
    planes: [(Vec<u8>, usize); 3],
}

impl Picture {
    fn new(format: PixelFormat, (w, h): (usize, usize), noise: u32) -> Self {
        let (sx, sy) = chroma_shift(format);
        let (cw, ch) = (w.div_ceil(1 << sx), h.div_ceil(1 << sy));
        let mut state = 12345u32;
        // Amplitudes that keep every colour inside 0..=255: OpenCV clamps each tap, one pass clamps their mean, so where
        // one tap is out of gamut the two differ by design.
        let mut plane = |w: usize, h: usize, step: usize, phase: f64, pad: usize| {
            let chroma = phase > 0.0;
            let stride = w * step + pad;
            let mut data = vec![0xEE; stride * h];
            for row in 0..h {
                for i in 0..w * step {
                    let x = (i / step) as f64 / w as f64;
                    let wave = (x * 9.0 + row as f64 / h as f64 * 7.0 + phase + (i % step) as f64).sin();
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let n = if noise == 0 { 0.0 } else { f64::from((state >> 16) % noise) };
                    let value = if chroma { 128.0 + wave * 12.0 + n / 8.0 } else { 128.0 + wave * 40.0 + n };
                    data[row * stride + i] = value.clamp(88.0, 160.0) as u8;
                }
            }
            (data, stride)
        };
        let y = plane(w, h, 1, 0.0, 5);
        let (u, v) = if format == PixelFormat::Nv12 {
            (plane(cw, ch, 2, 1.0, 3), (Vec::new(), 0))
        } else {
            (plane(cw, ch, 1, 1.0, 3), plane(cw, ch, 1, 2.0, 1))
        };
        Self { format, size: (w, h), planes: [y, u, v] }
    }

    fn planes(&self, full_range: bool, matrix: ColorMatrix) -> Planes<'_> {
        Planes {
            format: self.format,
            width: self.size.0 as u32,
            height: self.size.1 as u32,
            y: &self.planes[0].0,
            y_stride: self.planes[0].1,
            u: &self.planes[1].0,
            u_stride: self.planes[1].1,
            v: &self.planes[2].0,
            v_stride: self.planes[2].1,
            full_range,
            matrix,
        }
    }

    /// RGB of one pixel, by the standards' formulas.
    fn rgb(&self, x: usize, y: usize, full: bool, matrix: ColorMatrix) -> [f64; 3] {
        let (sx, sy) = chroma_shift(self.format);
        let (cx, cy) = (x >> sx, y >> sy);
        let at = |p: usize, i: usize| f64::from(self.planes[p].0[i]);
        let luma = at(0, y * self.planes[0].1 + x);
        let (u, v) = if self.format == PixelFormat::Nv12 {
            let i = cy * self.planes[1].1 + 2 * cx;
            (at(1, i), at(1, i + 1))
        } else {
            (at(1, cy * self.planes[1].1 + cx), at(2, cy * self.planes[2].1 + cx))
        };
        let (luma, u, v) = if full {
            (luma / 255.0, (u - 128.0) / 255.0, (v - 128.0) / 255.0)
        } else {
            ((luma - 16.0) / 219.0, (u - 128.0) / 224.0, (v - 128.0) / 224.0)
        };
        let (kr, kb) = match matrix {
            ColorMatrix::Bt601 => (0.299, 0.114),
            ColorMatrix::Bt709 => (0.2126, 0.0722),
        };
        let (r, b) = (luma + 2.0 * (1.0 - kr) * v, luma + 2.0 * (1.0 - kb) * u);
        let g = (luma - kr * r - kb * b) / (1.0 - kr - kb);
        [r, g, b].map(|c| (c * 255.0).clamp(0.0, 255.0))
    }

    /// The three passes: convert, resize with aligned centres, lay in.
    fn reference(&self, g: &Geometry, full: bool, matrix: ColorMatrix, fill: f64) -> Vec<[f64; 3]> {
        let mut out = vec![[fill; 3]; (g.input.0 * g.input.1) as usize];
        let axis = |d: u32, source: u32, inner: u32| {
            let at =
                ((f64::from(d) + 0.5) * f64::from(source) / f64::from(inner) - 0.5).clamp(0.0, f64::from(source - 1));
            let first = at.floor();
            (first as usize, (first as usize + 1).min(source as usize - 1), at - first)
        };
        for dy in 0..g.inner.1 {
            let (y0, y1, wy) = axis(dy, g.source.1, g.inner.1);
            for dx in 0..g.inner.0 {
                let (x0, x1, wx) = axis(dx, g.source.0, g.inner.0);
                let p = |x, y| self.rgb(x, y, full, matrix);
                let (a, b, c, d) = (p(x0, y0), p(x1, y0), p(x0, y1), p(x1, y1));
                let mix =
                    |n: usize| (a[n] * (1.0 - wx) + b[n] * wx) * (1.0 - wy) + (c[n] * (1.0 - wx) + d[n] * wx) * wy;
                let at = (dy + g.offset.1) * g.input.0 + dx + g.offset.0;
                out[at as usize] = [mix(0), mix(1), mix(2)];
            }
        }
        out
    }
}

fn spec(channels: Channels, scale: f32, fill: u8) -> InputSpec {
    InputSpec { channels, scale, fit: Fit::Centre, fill, fixed_size: None, fixed_batch: None }
}

/// Largest difference in levels of 0..=255.
fn difference(picture: &Picture, g: &Geometry, full: bool, matrix: ColorMatrix, spec: InputSpec) -> f64 {
    let area = (g.input.0 * g.input.1) as usize;
    // Dirty on purpose: tensors are used again and again.
    let mut out = vec![f32::NAN; 3 * area];
    Letterbox::new(spec).write(&picture.planes(full, matrix), g, &mut out).unwrap();
    let want = picture.reference(g, full, matrix, f64::from(spec.fill));
    let order = if spec.channels == Channels::Rgb { [0, 1, 2] } else { [2, 1, 0] };
    let mut worst: f64 = 0.0;
    for (i, want) in want.iter().enumerate() {
        for (plane, channel) in order.into_iter().enumerate() {
            let got = f64::from(out[plane * area + i]) / f64::from(spec.scale);
            assert!(got.is_finite(), "pixel {i} was not written");
            worst = worst.max((got - want[channel]).abs());
        }
    }
    worst
}

#[test]
fn one_pass_equals_three() {
    let sources = [(1920, 1080), (1280, 720), (333, 251), (62, 47), (1366, 768)];
    for format in [PixelFormat::I420, PixelFormat::I422, PixelFormat::I444, PixelFormat::Nv12] {
        for (n, size) in sources.into_iter().enumerate() {
            let picture = Picture::new(format, size, 20);
            let source = (size.0 as u32, size.1 as u32);
            let fit = [Fit::Centre, Fit::TopLeft, Fit::Stretch][n % 3];
            let g = Geometry::new(source, input_for(source, InputSize::Auto { long_side: 320 }), fit);
            let (full, matrix) = (n % 2 == 0, if n < 3 { ColorMatrix::Bt601 } else { ColorMatrix::Bt709 });
            let spec = if n % 2 == 0 { spec(Channels::Rgb, 1.0 / 255.0, 114) } else { spec(Channels::Bgr, 1.0, 0) };
            let worst = difference(&picture, &g, full, matrix, spec);
            assert!(worst < 0.8, "{format:?} {size:?} {fit:?}: {worst} levels");
        }
    }
}

#[test]
fn noise_stays_within_a_level() {
    let picture = Picture::new(PixelFormat::Nv12, (501, 377), 140);
    let g = Geometry::new((501, 377), (320, 256), Fit::Centre);
    let worst = difference(&picture, &g, false, ColorMatrix::Bt601, spec(Channels::Rgb, 1.0, 114));
    assert!(worst < 1.5, "{worst}");
}

#[test]
fn the_smallest_pictures_work() {
    for size in [(1, 1), (2, 1), (1, 3), (3, 2)] {
        for format in [PixelFormat::I420, PixelFormat::Nv12, PixelFormat::I444] {
            let picture = Picture::new(format, size, 0);
            let g = Geometry::new((size.0 as u32, size.1 as u32), (64, 32), Fit::Centre);
            assert!(difference(&picture, &g, true, ColorMatrix::Bt601, spec(Channels::Rgb, 1.0, 7)) < 0.6, "{size:?}");
        }
    }
}

#[test]
fn colours_of_the_standards() {
    // EBU bars at 100 %, BT.709 limited: red is (63, 102, 240), and (255, 0, 0) in RGB.
    let planes = Planes {
        format: PixelFormat::I444,
        width: 1,
        height: 1,
        y: &[63],
        y_stride: 1,
        u: &[102],
        u_stride: 1,
        v: &[240],
        v_stride: 1,
        full_range: false,
        matrix: ColorMatrix::Bt709,
    };
    let g = Geometry::new((1, 1), (32, 32), Fit::Centre);
    let mut out = vec![0.0; 3 * 32 * 32];
    Letterbox::new(spec(Channels::Rgb, 1.0, 0)).write(&planes, &g, &mut out).unwrap();
    let rgb = [out[5 * 32 + 5], out[1024 + 5 * 32 + 5], out[2048 + 5 * 32 + 5]];
    assert!(rgb.iter().zip([255.0, 0.0, 0.0]).all(|(a, b): (&f32, f32)| (a - b).abs() < 1.5), "{rgb:?}");
}

#[test]
fn broken_planes_are_errors() {
    let picture = Picture::new(PixelFormat::I420, (64, 48), 0);
    let good = picture.planes(false, ColorMatrix::Bt601);
    let g = Geometry::new((64, 48), (64, 64), Fit::Centre);
    let mut letterbox = Letterbox::new(spec(Channels::Rgb, 1.0, 0));
    let mut out = vec![0.0; 3 * 64 * 64];
    letterbox.write(&good, &g, &mut out).unwrap();
    for (what, planes) in [
        ("short y", Planes { y: &good.y[..100], ..good }),
        ("short v", Planes { v: &[], ..good }),
        ("stride", Planes { u_stride: 8, ..good }),
        ("huge stride", Planes { y_stride: usize::MAX / 2, ..good }),
        ("other size", Planes { width: 32, ..good }),
    ] {
        assert!(matches!(letterbox.write(&planes, &g, &mut out), Err(InferError::Picture(_))), "{what}");
    }
    assert!(letterbox.write(&good, &g, &mut out[1..]).is_err());
}

#[test]
fn tables_are_bounded() {
    let mut letterbox = Letterbox::new(spec(Channels::Rgb, 1.0, 0));
    for n in 1..100usize {
        let picture = Picture::new(PixelFormat::I420, (n, 8), 0);
        let g = Geometry::new((n as u32, 8), (32, 32), Fit::TopLeft);
        letterbox.write(&picture.planes(true, ColorMatrix::Bt601), &g, &mut vec![0.0; 3 * 1024]).unwrap();
    }
    assert_eq!(letterbox.plans.len(), MAX_PLANS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_size_is_written_wholly(w in 1usize..90, h in 1usize..90, fw in 1u32..5, fh in 1u32..5, fit in 0usize..3, f in 0usize..4) {
        let format = [PixelFormat::I420, PixelFormat::I422, PixelFormat::I444, PixelFormat::Nv12][f];
        let picture = Picture::new(format, (w, h), 10);
        let fit = [Fit::Centre, Fit::TopLeft, Fit::Stretch][fit];
        let g = Geometry::new((w as u32, h as u32), (fw * 32, fh * 32), fit);
        prop_assert!(difference(&picture, &g, false, ColorMatrix::Bt709, spec(Channels::Bgr, 1.0, 114)) < 1.5);
    }
}
