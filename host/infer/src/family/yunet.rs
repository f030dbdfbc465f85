//! YuNet, OpenCV Zoo's face detector of March 2023 (Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", 2023).
//!
//! Owns its tensor layout; the decoding equals OpenCV's FaceDetectorYN. The published graph is computed with less work
//! where it can be ([`rework`]).

mod rework;

use facestream_core::Point;

use facestream_gpu::Rule;

use super::{Cells, Channels, Family, InputSpec, Reworked, TensorView, Thinning, image_input, may_be};
use crate::geometry::Fit;
use crate::nms::Candidate;
use crate::onnx::{Description, Freeing, TensorInfo};

pub(super) const EXPECTED: &str = "YuNet: one input [batch,3,H,W], outputs cls_8, cls_16, cls_32, obj_8… [batch,cells,1], \
                                   bbox_8… [batch,cells,4], kps_8… [batch,cells,10]";

const STRIDES: [u32; 3] = [8, 16, 32];
/// Outputs of one stride: name without the stride, channels.
const KINDS: [(&str, i64); 4] = [("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)];

#[derive(Debug)]
enum YuNet {
    /// As published: for each stride the places of cls, obj, bbox and kps among the outputs, cell after cell.
    Apart([[usize; 4]; 3]),
    /// An output a stride, in their order: `[batch, 16, rows, columns]`, channels in the order of [`KINDS`], scores
    /// before their sigmoid.
    Joined,
}

pub(super) fn recognise(description: &Description) -> Option<Box<dyn Family>> {
    image_input(description)?;
    let mut places = [[0; 4]; 3];
    for (row, stride) in places.iter_mut().zip(STRIDES) {
        for (place, (kind, channels)) in row.iter_mut().zip(KINDS) {
            let name = format!("{kind}_{stride}");
            *place = description.outputs.iter().position(|o| o.name == name)?;
            let dims = &description.outputs[*place].dims;
            if dims.len() != 3 || !may_be(&dims[2], channels) {
                return None;
            }
        }
    }
    Some(Box::new(YuNet::Apart(places)))
}

impl Family for YuNet {
    fn name(&self) -> &'static str {
        "YuNet"
    }

    fn input(&self) -> InputSpec {
        // OpenCV pads to a multiple of 32 with BORDER_CONSTANT 0 at the right and the bottom.
        InputSpec {
            channels: Channels::Bgr,
            scale: 1.0,
            fit: Fit::TopLeft,
            fill: 0,
            fixed_size: None,
            fixed_batch: None,
        }
    }

    fn freeing(&self) -> Freeing {
        // Its reshapes keep the batch and leave the cells open (-1), so any size runs whatever is declared.
        Freeing { batch: true, spatial: true }
    }

    fn thinning(&self) -> Thinning {
        Thinning { nms_iou: Some(0.3), whole_pixels: true, clip: false }
    }

    fn rework(&self, bytes: &[u8], input: &str, stem: bool) -> Option<Reworked> {
        let rework::Reworked { bytes, stem } = rework::rework(bytes, input, stem)?;
        Some(Reworked { bytes, family: Box::new(Self::Joined), stem })
    }

    fn extents(&self, _: usize, output: &TensorInfo, (width, height): (u32, u32)) -> Result<Vec<usize>, String> {
        // Names end in their stride: `bbox_16`, and `faces_16` of the reworked graph.
        let stride = output.name.rsplit('_').next().and_then(|n| n.parse::<u32>().ok()).filter(|n| STRIDES.contains(n));
        let stride = stride.ok_or_else(|| format!("the output {output} does not name its stride"))?;
        let (rows, columns) = ((height / stride) as usize, (width / stride) as usize);
        match self {
            Self::Joined => Ok(vec![rework::JOINED, rows, columns]),
            Self::Apart(_) => {
                let kind = KINDS.iter().find(|(kind, _)| output.name.starts_with(kind));
                let channels = kind.map(|(_, n)| *n as usize);
                Ok(vec![rows * columns, channels.ok_or_else(|| format!("the output {output} is not known"))?])
            }
        }
    }

    fn cells(&self, _outputs: &[Vec<usize>]) -> Option<Vec<Cells>> {
        let (rule, absent) = (Rule::ProductOfLogits, f32::NEG_INFINITY);
        Some(match self {
            Self::Apart(places) => places
                .iter()
                .map(|p| Cells { outputs: p.to_vec(), channels_last: true, rule: Rule::Product, absent: 0.0 })
                .collect(),
            Self::Joined => (0..STRIDES.len())
                .map(|output| Cells { outputs: vec![output], channels_last: false, rule, absent })
                .collect(),
        })
    }

    fn decode(
        &self,
        outputs: &[TensorView<'_>],
        item: usize,
        size: (u32, u32),
        threshold: f32,
    ) -> Result<Vec<Candidate>, String> {
        match self {
            Self::Apart(places) => decode_apart(places, outputs, item, size, threshold),
            Self::Joined => decode_joined(outputs, item, size, threshold),
        }
    }
}

fn decode_apart(
    places: &[[usize; 4]; 3],
    outputs: &[TensorView<'_>],
    item: usize,
    (width, height): (u32, u32),
    threshold: f32,
) -> Result<Vec<Candidate>, String> {
    let mut found = Vec::new();
    for (stride, places) in STRIDES.into_iter().zip(places) {
        let (columns, rows) = ((width / stride) as usize, (height / stride) as usize);
        let cells = columns * rows;
        let of = |kind: usize| {
            let output = outputs.get(places[kind]).ok_or("an output is missing")?;
            cells_of(output, item, cells, KINDS[kind].1 as usize)
        };
        let (cls, obj, bbox, kps) = (of(0)?, of(1)?, of(2)?, of(3)?);
        for (cell, (&c, &o)) in cls.iter().zip(obj).enumerate() {
            // The geometric mean of the two, each in [0, 1].
            let score = (c.clamp(0.0, 1.0) * o.clamp(0.0, 1.0)).sqrt();
            // NaN is left out too.
            if score >= threshold {
                let (b, k) = (&bbox[4 * cell..][..4], &kps[10 * cell..][..10]);
                found.push(face((cell % columns, cell / columns), stride, score, |n| b[n], |n| k[n]));
            }
        }
    }
    Ok(found)
}

fn decode_joined(
    outputs: &[TensorView<'_>],
    item: usize,
    (width, height): (u32, u32),
    threshold: f32,
) -> Result<Vec<Candidate>, String> {
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    // A score is at most the square root of either of its two factors, so both must reach the threshold's square; told
    // before the sigmoid, with room for rounding. Most cells end here.
    let square = f64::from(threshold).powi(2);
    let least = ((square / (1.0 - square)).ln() - 1e-3) as f32;
    let mut found = Vec::new();
    for (output, stride) in STRIDES.into_iter().enumerate() {
        let (columns, rows) = ((width / stride) as usize, (height / stride) as usize);
        let cells = columns * rows;
        let output = outputs.get(output).ok_or("an output is missing")?;
        let data = output.item(item, &[Some(rework::JOINED), Some(rows), Some(columns)])?;
        let channel = |n: usize| &data[n * cells..][..cells];
        for (cell, (&c, &o)) in channel(0).iter().zip(channel(1)).enumerate() {
            // NaN is left out too.
            if c >= least && o >= least {
                let score = (sigmoid(c) * sigmoid(o)).sqrt();
                if score >= threshold {
                    let (b, k) = (|n| channel(2 + n)[cell], |n| channel(6 + n)[cell]);
                    found.push(face((cell % columns, cell / columns), stride, score, b, k));
                }
            }
        }
    }
    Ok(found)
}

/// A cell's face: four numbers of its box, ten of its points.
fn face(
    (x, y): (usize, usize),
    stride: u32,
    score: f32,
    b: impl Fn(usize) -> f32,
    k: impl Fn(usize) -> f32,
) -> Candidate {
    let (x, y, s) = (x as f32, y as f32, stride as f32);
    let (cx, cy) = ((x + b(0)) * s, (y + b(1)) * s);
    let (w, h) = (b(2).exp() * s, b(3).exp() * s);
    let (x1, y1) = (cx - w / 2.0, cy - h / 2.0);
    let point = |n: usize| Point { x: (x + k(2 * n)) * s, y: (y + k(2 * n + 1)) * s };
    Candidate { corners: [x1, y1, x1 + w, y1 + h], score, class_id: 0, landmarks: Some(std::array::from_fn(point)) }
}

/// The cells of one picture. The published file reshapes to `[1, -1, channels]`, so the pictures of a batch come one
/// after another along the second axis; an export that keeps the batch apart lies in memory the same way.
fn cells_of<'a>(output: &TensorView<'a>, item: usize, cells: usize, channels: usize) -> Result<&'a [f32], String> {
    let wrong = || format!("an output has shape {:?}, expected [batch, {cells}, {channels}]", output.shape);
    let &[batch, rows, last] = output.shape else { return Err(wrong()) };
    let rows = usize::try_from(rows).map_err(|_| wrong())?;
    let fits = rows == cells || (batch == 1 && cells > 0 && rows % cells == 0);
    if !fits || usize::try_from(last) != Ok(channels) {
        return Err(wrong());
    }
    let len = cells * channels;
    output.data.get(item * len..(item + 1) * len).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 32x32 input: 16, 4 and 1 cells. Everything zero except one cell of stride 16.
    #[test]
    fn one_cell_becomes_one_face() {
        let yunet = YuNet::Apart([[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]);
        let cells = [16, 4, 1];
        let mut data: Vec<Vec<f32>> =
            KINDS.iter().flat_map(|k| cells.map(|n| vec![0.0; 2 * n * k.1 as usize])).collect();
        let shapes: Vec<[i64; 3]> = KINDS.iter().flat_map(|k| cells.map(|n| [2, n as i64, k.1])).collect();
        // Second picture of the batch, cell 3: column 1, row 1. A score over 1 counts as 1.
        data[1][4 + 3] = 1.5;
        data[4][4 + 3] = 0.64;
        data[7][(4 + 3) * 4..].copy_from_slice(&[0.5, 0.25, 2f32.ln(), 0.0]);
        data[10][(4 + 3) * 10] = -0.5;
        let views: Vec<_> = data.iter().zip(&shapes).map(|(data, shape)| TensorView { shape, data }).collect();
        assert_eq!(yunet.decode(&views, 0, (32, 32), 0.3), Ok(vec![]));
        let found = yunet.decode(&views, 1, (32, 32), 0.3).unwrap();
        assert_eq!(found.len(), 1);
        let face = found[0];
        assert!((face.score - 0.8).abs() < 1e-6);
        for (got, want) in face.corners.iter().zip([8.0, 12.0, 40.0, 28.0]) {
            assert!((got - want).abs() < 1e-4, "{face:?}");
        }
        assert_eq!(face.landmarks.unwrap()[0], Point { x: 8.0, y: 16.0 });
        assert!(yunet.decode(&views, 1, (64, 32), 0.3).unwrap_err().contains("expected"));
        assert!(yunet.decode(&views, 2, (32, 32), 0.3).is_err());
        // The published file's way of batching.
        let joined: Vec<[i64; 3]> = shapes.iter().map(|s| [1, s[0] * s[1], s[2]]).collect();
        let views: Vec<_> = data.iter().zip(&joined).map(|(data, shape)| TensorView { shape, data }).collect();
        assert_eq!(yunet.decode(&views, 1, (32, 32), 0.3), Ok(found));
    }

    #[test]
    fn joined_heads_give_the_same_face() {
        // Sixteen channels of 16, 4 and 1 cells, two pictures; scores far below any threshold but for one cell.
        let cells = [16, 4, 1];
        let mut data = cells.map(|n| {
            let picture = |_| (0..16 * n).map(move |i| if i < 2 * n { -20.0 } else { 0.0 });
            (0..2).flat_map(picture).collect::<Vec<f32>>()
        });
        let at = |channel: usize| (16 + channel) * 4 + 3;
        let logit = |p: f32| (p / (1.0 - p)).ln();
        for (channel, value) in [(0, logit(0.9)), (1, logit(0.4)), (2, 0.5), (3, 0.25), (4, 2f32.ln()), (6, -0.5)] {
            data[1][at(channel)] = value;
        }
        data[0][5] = f32::NAN;
        let shapes = [[2, 16, 4, 4], [2, 16, 2, 2], [2, 16, 1, 1]];
        let views: Vec<_> = data.iter().zip(&shapes).map(|(data, shape)| TensorView { shape, data }).collect();
        assert_eq!(YuNet::Joined.decode(&views, 0, (32, 32), 0.3), Ok(vec![]));
        let found = YuNet::Joined.decode(&views, 1, (32, 32), 0.3).unwrap();
        assert_eq!(found.len(), 1);
        assert!((found[0].score - 0.6).abs() < 1e-6);
        for (got, want) in found[0].corners.iter().zip([8.0, 12.0, 40.0, 28.0]) {
            assert!((got - want).abs() < 1e-4, "{found:?}");
        }
        assert_eq!(found[0].landmarks.unwrap()[0], Point { x: 8.0, y: 16.0 });
        assert_eq!(YuNet::Joined.decode(&views, 1, (32, 32), 0.599).unwrap().len(), 1, "just above the threshold");
        assert_eq!(YuNet::Joined.decode(&views, 1, (32, 32), 0.601), Ok(vec![]), "just below it");
        assert!(YuNet::Joined.decode(&views, 1, (64, 32), 0.3).unwrap_err().contains("expected"));
    }
}
