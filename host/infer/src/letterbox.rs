//! Planar YUV to a model's input tensor in one pass: scaling, colour conversion, scaling of values and planar floats.
//!
//! Owns the pixel loops. Must not know model families or ONNX Runtime. Equals, within a level of rounding, what OpenCV
//! does in three passes (`cvtColor` to RGB with every chroma sample standing for its whole block, `resize` with
//! `INTER_LINEAR`, `blobFromImage`): models were trained on pictures made that way. It touches only the source rows and
//! columns that the output needs, and never builds the RGB picture.

mod rows;

use facestream_core::Planes;
use facestream_core::frame::{ColorMatrix, PixelFormat};

use crate::error::InferError;
use crate::family::{Channels, InputSpec};
use crate::geometry::Geometry;
use rows::{Colours, RowTaps, Scratch, Source};

/// Plans kept. A plan costs some 30 KB; more sources of different sizes than this on one session share by eviction.
const MAX_PLANS: usize = 32;

/// Writes pictures into input tensors. Keeps tables of the geometries it has seen; one for each session.
#[derive(Debug)]
pub struct Letterbox {
    spec: InputSpec,
    plans: Vec<(Key, Plan)>,
    scratch: Scratch,
}

type Key = (Geometry, PixelFormat);

/// Where each output column and row comes from.
#[derive(Debug)]
struct Plan {
    columns: RowTaps,
    /// First and second luma row, weight of the second in 1/256.
    rows: Vec<(u32, u32, u16)>,
}

/// Bilinear taps of one axis as OpenCV's `INTER_LINEAR` takes them: centres aligned, edges repeated.
fn taps(source: u32, inner: u32) -> impl Iterator<Item = (u32, u32, f32)> {
    let scale = f64::from(source) / f64::from(inner);
    let last = source.saturating_sub(1);
    (0..inner).map(move |d| {
        let at = (f64::from(d) + 0.5) * scale - 0.5;
        let first = at.floor();
        if first < 0.0 {
            return (0, 0, 0.0);
        }
        let first_px = (first as u32).min(last);
        let second = (first_px + 1).min(last);
        let weight = if first_px == second { 0.0 } else { (at - first) as f32 };
        (first_px, second, weight)
    })
}

/// Rows with the weight of the second in 1/256.
fn row_taps(geometry: &Geometry) -> Vec<(u32, u32, u16)> {
    taps(geometry.source.1, geometry.inner.1)
        .map(|(a, b, w)| {
            let w = (w * 256.0).round() as u16;
            // A weight that rounds to the whole is the second row alone.
            if w == 256 { (b, b, 0) } else { (a, b, w) }
        })
        .collect()
}

/// Columns of a geometry, then its rows, for a device that does the same.
pub(crate) fn taps_of(geometry: &Geometry) -> Vec<facestream_gpu::Tap> {
    let tap = |(first, second, weight)| facestream_gpu::Tap { first, second, weight };
    let rows = row_taps(geometry).into_iter().map(|(first, second, weight)| (first, second, f32::from(weight)));
    taps(geometry.source.0, geometry.inner.0).chain(rows).map(tap).collect()
}

/// The colour conversion, for a device that does the same.
pub(crate) fn colours(full_range: bool, bt709: bool) -> facestream_gpu::Colours {
    // The scale is the target's there.
    Colours::new(full_range, bt709, 1.0).for_device()
}

impl Plan {
    fn new(geometry: &Geometry, format: PixelFormat) -> Self {
        let (sx, _) = chroma_shift(format);
        let step = if format == PixelFormat::Nv12 { 2 } else { 1 };
        let columns = RowTaps::new(taps(geometry.source.0, geometry.inner.0), sx, step);
        Self { columns, rows: row_taps(geometry) }
    }
}

/// Binary logarithm of how many luma columns and rows share a chroma sample.
fn chroma_shift(format: PixelFormat) -> (u32, u32) {
    match format {
        PixelFormat::I420 | PixelFormat::Nv12 => (1, 1),
        PixelFormat::I422 => (1, 0),
        PixelFormat::I444 => (0, 0),
    }
}

impl Letterbox {
    /// For a family's input.
    #[must_use]
    pub fn new(spec: InputSpec) -> Self {
        Self { spec, plans: Vec::new(), scratch: Scratch::default() }
    }

    /// Writes one picture into one slot of an input tensor: `out` is `[3, height, width]`, row-major.
    ///
    /// # Errors
    /// When the planes are shorter than their size and strides say, the picture is not the one that `geometry` was made
    /// for, or `out` has another length.
    pub fn write(&mut self, planes: &Planes<'_>, geometry: &Geometry, out: &mut [f32]) -> Result<(), InferError> {
        check(planes, geometry)?;
        let (width, height) = (geometry.input.0 as usize, geometry.input.1 as usize);
        let area = width * height;
        if out.len() != 3 * area {
            let error = format!("the tensor slot has {} numbers, expected 3x{height}x{width}", out.len());
            return Err(InferError::Picture(error));
        }
        self.fill_around(geometry, out);
        let at = self.plan(geometry, planes.format);
        let plan = &self.plans[at].1;
        let colours = Colours::new(planes.full_range, planes.matrix == ColorMatrix::Bt709, self.spec.scale);
        let (first, rest) = out.split_at_mut(area);
        let (second, third) = rest.split_at_mut(area);
        let (r, b) = match self.spec.channels {
            Channels::Rgb => (first, third),
            Channels::Bgr => (third, first),
        };
        let (_, sy) = chroma_shift(planes.format);
        let source = Source { planes, chroma_shift: sy };
        let place = rows::Place { width, offset: geometry.offset };
        rows::convert(&source, &plan.columns, &plan.rows, &colours, place, [r, second, b], &mut self.scratch);
        Ok(())
    }

    /// Index of the plan, made if need be. The most recently made stay.
    fn plan(&mut self, geometry: &Geometry, format: PixelFormat) -> usize {
        let key = (*geometry, format);
        if let Some(at) = self.plans.iter().position(|(k, _)| *k == key) {
            return at;
        }
        if self.plans.len() == MAX_PLANS {
            self.plans.remove(0);
        }
        self.plans.push((key, Plan::new(geometry, format)));
        self.plans.len() - 1
    }

    /// Everything outside the inner picture.
    fn fill_around(&self, geometry: &Geometry, out: &mut [f32]) {
        let value = f32::from(self.spec.fill) * self.spec.scale;
        let width = geometry.input.0 as usize;
        let (left, top) = (geometry.offset.0 as usize, geometry.offset.1 as usize);
        let (right, bottom) = (left + geometry.inner.0 as usize, top + geometry.inner.1 as usize);
        for plane in out.chunks_exact_mut(width * geometry.input.1 as usize) {
            plane[..top * width].fill(value);
            plane[bottom * width..].fill(value);
            if left > 0 || right < width {
                for row in plane[top * width..bottom * width].chunks_exact_mut(width) {
                    row[..left].fill(value);
                    row[right..].fill(value);
                }
            }
        }
    }
}

/// Decoders are trusted to mean well, not to be right: a short plane is an error, not a panic in a worker.
fn check(planes: &Planes<'_>, geometry: &Geometry) -> Result<(), InferError> {
    let (w, h) = (planes.width, planes.height);
    if (w, h) != geometry.source || w == 0 || h == 0 {
        let (gw, gh) = geometry.source;
        return Err(InferError::Picture(format!("its planes are {w}x{h}, the frame says {gw}x{gh}")));
    }
    let (sx, sy) = chroma_shift(planes.format);
    let (cw, ch) = ((w as usize).div_ceil(1 << sx), (h as usize).div_ceil(1 << sy));
    let enough = |data: &[u8], stride: usize, width: usize, rows: usize| {
        stride >= width
            && (rows - 1).checked_mul(stride).and_then(|n| n.checked_add(width)).is_some_and(|n| n <= data.len())
    };
    let interleaved = planes.format == PixelFormat::Nv12;
    let ok = enough(planes.y, planes.y_stride, w as usize, h as usize)
        && enough(planes.u, planes.u_stride, if interleaved { 2 * cw } else { cw }, ch)
        && (interleaved || enough(planes.v, planes.v_stride, cw, ch));
    if ok {
        return Ok(());
    }
    let lengths = (planes.y.len(), planes.u.len(), planes.v.len());
    let strides = (planes.y_stride, planes.u_stride, planes.v_stride);
    Err(InferError::Picture(format!(
        "{:?} {w}x{h} has planes of {lengths:?} bytes with strides {strides:?}, which is too little",
        planes.format
    )))
}

#[cfg(test)]
mod tests;
