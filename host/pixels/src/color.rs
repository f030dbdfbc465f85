//! Colour arithmetic: ranges and matrices of YUV (ITU-R BT.601-7, BT.709-6; JFIF 1.02 is full-range BT.601).
//!
//! Owns coefficients. Touches no planes.

use facestream_core::frame::ColorMatrix;

/// Bits after the point of fixed-point coefficients.
const SHIFT: u32 = 16;
const HALF: i32 = 1 << (SHIFT - 1);

/// Weights of red and blue in luma.
fn weights(matrix: ColorMatrix) -> (f64, f64) {
    match matrix {
        ColorMatrix::Bt601 => (0.299, 0.114),
        ColorMatrix::Bt709 => (0.2126, 0.0722),
    }
}

fn fixed(value: f64) -> i32 {
    (value * f64::from(1 << SHIFT)).round() as i32
}

/// Luma as 0..=255, whatever its range.
pub(crate) fn full_luma(full_range: bool) -> [u8; 256] {
    std::array::from_fn(|y| {
        if full_range { y as u8 } else { ((y as f64 - 16.0) * 255.0 / 219.0).round().clamp(0.0, 255.0) as u8 }
    })
}

/// Chroma as full range, centred on 0, in 1/65536.
fn chroma_gain(full_range: bool) -> f64 {
    if full_range { 1.0 } else { 255.0 / 224.0 }
}

/// YUV to RGB.
pub(crate) struct ToRgb {
    luma: [i32; 256],
    rv: i32,
    gu: i32,
    gv: i32,
    bu: i32,
}

impl ToRgb {
    pub(crate) fn new(full_range: bool, matrix: ColorMatrix) -> Self {
        let (kr, kb) = weights(matrix);
        let kg = 1.0 - kr - kb;
        let gain = chroma_gain(full_range);
        let luma = std::array::from_fn(|y| {
            let y = y as f64;
            fixed(if full_range { y } else { (y - 16.0) * 255.0 / 219.0 }) + HALF
        });
        Self {
            luma,
            rv: fixed(2.0 * (1.0 - kr) * gain),
            gu: fixed(-2.0 * (1.0 - kb) * kb / kg * gain),
            gv: fixed(-2.0 * (1.0 - kr) * kr / kg * gain),
            bu: fixed(2.0 * (1.0 - kb) * gain),
        }
    }

    #[inline]
    pub(crate) fn convert(&self, y: u8, u: u8, v: u8) -> [u8; 3] {
        let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
        let y = self.luma[usize::from(y)];
        let clamp = |value: i32| (value >> SHIFT).clamp(0, 255) as u8;
        [clamp(y + self.rv * v), clamp(y + self.gu * u + self.gv * v), clamp(y + self.bu * u)]
    }
}

/// YUV of any range and matrix to JFIF's (full-range BT.601). Grey stays grey, so luma takes a share of chroma, but
/// chroma none of luma.
pub(crate) struct ToJfif {
    luma: [u8; 256],
    /// Rows Y, Cb, Cr; columns Cb, Cr of the source; `None` when only the range differs.
    mix: Option<[[i32; 2]; 3]>,
    chroma: [u8; 256],
}

impl ToJfif {
    pub(crate) fn new(full_range: bool, matrix: ColorMatrix) -> Self {
        let gain = chroma_gain(full_range);
        let chroma = std::array::from_fn(|c| ((c as f64 - 128.0) * gain + 128.0).round().clamp(0.0, 255.0) as u8);
        let mix = (matrix != ColorMatrix::Bt601).then(|| {
            let ((kr, kb), (jr, jb)) = (weights(matrix), weights(ColorMatrix::Bt601));
            let (kg, jg) = (1.0 - kr - kb, 1.0 - jr - jb);
            // RGB minus luma, for a unit of Cb and of Cr of the source.
            let per_cb = [0.0, -2.0 * (1.0 - kb) * kb / kg, 2.0 * (1.0 - kb)];
            let per_cr = [2.0 * (1.0 - kr), -2.0 * (1.0 - kr) * kr / kg, 0.0];
            let of = |[r, g, b]: [f64; 3]| {
                let y = jr * r + jg * g + jb * b;
                [y, (b - y) / (2.0 * (1.0 - jb)), (r - y) / (2.0 * (1.0 - jr))]
            };
            let (cb, cr) = (of(per_cb), of(per_cr));
            std::array::from_fn(|row| [fixed(cb[row] * gain), fixed(cr[row] * gain)])
        });
        Self { luma: full_luma(full_range), mix, chroma }
    }

    /// Whether luma and chroma can be converted apart.
    pub(crate) fn is_separate(&self) -> bool {
        self.mix.is_none()
    }

    #[inline]
    pub(crate) fn luma(&self, y: u8) -> u8 {
        self.luma[usize::from(y)]
    }

    /// What to add to luma, and the new Cb and Cr.
    #[inline]
    pub(crate) fn chroma(&self, u: u8, v: u8) -> (i32, u8, u8) {
        let Some(mix) = &self.mix else {
            return (0, self.chroma[usize::from(u)], self.chroma[usize::from(v)]);
        };
        let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
        let [y, cb, cr] = mix.map(|[a, b]| (a * u + b * v + HALF) >> SHIFT);
        (y, (cb + 128).clamp(0, 255) as u8, (cr + 128).clamp(0, 255) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primaries_of_both_matrices_and_ranges() {
        // Limited-range codes of full-intensity bars, from BT.601 and BT.709 (8-bit tables).
        let cases = [
            (ColorMatrix::Bt601, false, [235, 128, 128], [255, 255, 255]),
            (ColorMatrix::Bt601, false, [16, 128, 128], [0, 0, 0]),
            (ColorMatrix::Bt601, false, [81, 90, 240], [255, 0, 0]),
            (ColorMatrix::Bt601, false, [145, 54, 34], [0, 255, 0]),
            (ColorMatrix::Bt601, false, [41, 240, 110], [0, 0, 255]),
            (ColorMatrix::Bt709, false, [63, 102, 240], [255, 0, 0]),
            (ColorMatrix::Bt709, false, [173, 42, 26], [0, 255, 0]),
            (ColorMatrix::Bt709, false, [32, 240, 118], [0, 0, 255]),
            (ColorMatrix::Bt601, true, [76, 85, 255], [255, 0, 0]),
            (ColorMatrix::Bt709, true, [54, 99, 255], [255, 0, 0]),
        ];
        for (matrix, full, [y, u, v], rgb) in cases {
            let got = ToRgb::new(full, matrix).convert(y, u, v);
            for (g, w) in got.iter().zip(rgb) {
                assert!(g.abs_diff(w) <= 2, "{matrix:?} full={full}: {got:?}, wanted {rgb:?}");
            }
        }
    }

    #[test]
    fn to_jfif_keeps_the_colour() {
        for matrix in [ColorMatrix::Bt601, ColorMatrix::Bt709] {
            for full in [false, true] {
                let (rgb, jfif, back) =
                    (ToRgb::new(full, matrix), ToJfif::new(full, matrix), ToRgb::new(true, ColorMatrix::Bt601));
                for (y, u, v) in [(128, 128, 128), (120, 100, 150), (90, 140, 110), (200, 120, 125), (60, 131, 120)] {
                    let wanted = rgb.convert(y, u, v);
                    let (add, cb, cr) = jfif.chroma(u, v);
                    let luma = (i32::from(jfif.luma(y)) + add).clamp(0, 255) as u8;
                    let got = back.convert(luma, cb, cr);
                    for (g, w) in got.iter().zip(wanted) {
                        assert!(g.abs_diff(w) <= 2, "{matrix:?} full={full} {y},{u},{v}: {got:?}, wanted {wanted:?}");
                    }
                }
            }
        }
    }
}
