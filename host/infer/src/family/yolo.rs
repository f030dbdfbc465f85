//! YOLO v8, 11 and 12 as Ultralytics exports them: detection and pose, raw and end-to-end.
//!
//! Owns their tensor layouts (written from the exported graphs and the published documentation):
//! - raw `[batch, 4 + classes + points, anchors]`: centre x, centre y, width, height, a score a class, then the points;
//! - end-to-end `[batch, boxes, 6 + points]`: x1, y1, x2, y2, score, class, then the points; nothing left to suppress.
//!
//! All in pixels of the input. A point is x, y and, in most models, a visibility.

use std::borrow::Cow;

use facestream_core::Point;

use facestream_gpu::Rule;

use super::{Cells, Channels, Family, InputSpec, TensorView, Thinning, declared, image_input};
use crate::geometry::Fit;
use crate::nms::Candidate;
use crate::onnx::{Description, Freeing, TensorInfo};

pub(super) const EXPECTED: &str = "YOLO: one input [batch,3,H,W], one output [batch,4+classes+points,anchors] or \
                                   [batch,boxes,6+points]";

/// Grids that the variants have: the usual three, with a finer one (p2), with a coarser one (p6).
const GRIDS: [&[u32]; 3] = [&[8, 16, 32], &[4, 8, 16, 32], &[8, 16, 32, 64]];

/// Points of a pose model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Points {
    count: usize,
    /// 2: x and y; 3: with visibility.
    numbers: usize,
}

impl Points {
    const NONE: Self = Self { count: 0, numbers: 3 };

    fn columns(self) -> usize {
        self.count * self.numbers
    }
}

#[derive(Debug)]
struct Yolo {
    fixed_size: Option<(u32, u32)>,
    fixed_batch: Option<usize>,
    end_to_end: bool,
    /// `None`: told by the number of columns.
    points: Option<Points>,
}

pub(super) fn recognise(description: &Description) -> Option<Box<dyn Family>> {
    let input = image_input(description)?;
    let [output] = description.outputs.as_slice() else { return None };
    let [_, rows, columns] = output.dims.as_slice() else { return None };
    if description.metadata.get("task").is_some_and(|task| task != "detect" && task != "pose") {
        return None;
    }
    let side = |axis: usize| input.dims[axis].fixed().and_then(|n| u32::try_from(n).ok());
    let fixed_size = side(3).zip(side(2));
    let points = declared_points(description);
    let known = columns.fixed().and_then(|n| usize::try_from(n).ok());
    let as_anchors = known.zip(fixed_size).is_some_and(|(n, size)| GRIDS.iter().any(|g| anchors(size, g) == n));
    let as_boxes = known.and_then(|n| n.checked_sub(6)).is_some_and(|rest| match points {
        Some(points) => rest == points.columns(),
        None => guess_points(rest).is_some(),
    });
    let end_to_end = as_boxes && !as_anchors;
    let raw = (as_anchors || known.is_none() || fixed_size.is_none()) && rows.fixed().is_none_or(|n| n >= 5);
    // Free columns are taken for anchors: end-to-end exports declare theirs.
    (end_to_end || raw).then(|| {
        let fixed_batch = input.dims[0].fixed().and_then(|n| usize::try_from(n).ok());
        Box::new(Yolo { fixed_size, fixed_batch, end_to_end, points }) as Box<dyn Family>
    })
}

/// What the exporter wrote: `kpt_shape` is `[points, numbers]`; the task `detect` has none.
fn declared_points(description: &Description) -> Option<Points> {
    if let Some(text) = description.metadata.get("kpt_shape") {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|s| !s.is_empty());
        let mut next = || numbers.next()?.parse::<usize>().ok().filter(|n| *n <= 1000);
        let (count, numbers) = (next()?, next()?);
        return (numbers == 2 || numbers == 3).then_some(Points { count, numbers });
    }
    (description.metadata.get("task").map(String::as_str) == Some("detect")).then_some(Points::NONE)
}

/// Points by the number of columns beside box, score and class, for models without metadata: the five of faces, the
/// seventeen of people, with or without visibility.
fn guess_points(columns: usize) -> Option<Points> {
    match columns {
        0 => Some(Points::NONE),
        10 => Some(Points { count: 5, numbers: 2 }),
        15 => Some(Points { count: 5, numbers: 3 }),
        34 => Some(Points { count: 17, numbers: 2 }),
        51 => Some(Points { count: 17, numbers: 3 }),
        _ => None,
    }
}

fn anchors((width, height): (u32, u32), grid: &[u32]) -> usize {
    grid.iter().map(|s| width.div_ceil(*s) as usize * height.div_ceil(*s) as usize).sum()
}

impl Yolo {
    fn decode_raw(&self, output: &TensorView<'_>, item: usize, size: (u32, u32), threshold: f32) -> Decoded {
        let [_, rows, columns] = *output.shape else {
            return Err(format!(
                "the output has shape {:?}, expected [batch, 4+classes+points, anchors]",
                output.shape
            ));
        };
        let count = columns.max(0) as usize;
        if !GRIDS.iter().any(|grid| anchors(size, grid) == count) || rows < 5 {
            return Err(format!(
                "the output has shape {:?}, expected [batch, 4+classes+points, {}] for an input of {}x{}",
                output.shape,
                anchors(size, GRIDS[0]),
                size.0,
                size.1
            ));
        }
        let rows = rows as usize;
        let data = output.item(item, &[Some(rows), Some(count)])?;
        // Without metadata: one class and the points of faces or people if that is what the columns come to.
        let points = self.points.or_else(|| guess_points(rows - 5)).unwrap_or(Points::NONE);
        let classes = (rows - 4).checked_sub(points.columns()).filter(|n| *n > 0).ok_or_else(|| {
            format!("the output has {rows} rows, too few for a box, a class and {} points", points.count)
        })?;
        let row = |n: usize| &data[n * count..(n + 1) * count];
        // Row by row, as the tensor lies in memory: best class of every anchor first. Faces have one, which needs no copy.
        let mut best = Cow::Borrowed(row(4));
        let mut class = if classes > 1 { vec![0u32; count] } else { Vec::new() };
        for n in 1..classes {
            for ((best, class), &score) in best.to_mut().iter_mut().zip(&mut class).zip(row(4 + n)) {
                if score > *best {
                    (*best, *class) = (score, n as u32);
                }
            }
        }
        let found = best.iter().enumerate().filter(|(_, score)| **score >= threshold);
        Ok(found
            .map(|(a, &score)| {
                let class_id = class.get(a).copied().unwrap_or(0);
                let (cx, cy, w, h) = (row(0)[a], row(1)[a], row(2)[a], row(3)[a]);
                let at = |n: usize| row(4 + classes + n)[a];
                Candidate {
                    corners: [cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0],
                    score,
                    class_id,
                    landmarks: landmarks(points, at),
                }
            })
            .collect())
    }

    fn decode_end_to_end(&self, output: &TensorView<'_>, item: usize, threshold: f32) -> Decoded {
        let data = output.item(item, &[None, None])?;
        let columns = output.shape[2] as usize;
        let points = match (self.points, columns.checked_sub(6)) {
            (Some(points), Some(rest)) if points.columns() == rest => Some(points),
            (None, Some(rest)) => guess_points(rest),
            _ => None,
        };
        let points = points
            .ok_or_else(|| format!("the output has shape {:?}, expected [batch, boxes, 6+points]", output.shape))?;
        let boxes = data.chunks_exact(columns).filter(|b| b[4] >= threshold && b[5] >= 0.0);
        Ok(boxes
            .map(|b| Candidate {
                corners: [b[0], b[1], b[2], b[3]],
                score: b[4],
                class_id: b[5] as u32,
                landmarks: landmarks(points, |n| b[6 + n]),
            })
            .collect())
    }
}

type Decoded = Result<Vec<Candidate>, String>;

/// Only five points are a face; others (the seventeen of a body) have no place in a detection.
fn landmarks(points: Points, at: impl Fn(usize) -> f32) -> Option<[Point; 5]> {
    let point = |n: usize| Point { x: at(n * points.numbers), y: at(n * points.numbers + 1) };
    (points.count == 5).then(|| std::array::from_fn(point))
}

impl Family for Yolo {
    fn name(&self) -> &'static str {
        "YOLO"
    }

    fn input(&self) -> InputSpec {
        InputSpec {
            channels: Channels::Rgb,
            scale: 1.0 / 255.0,
            fit: Fit::Centre,
            fill: 114,
            fixed_size: self.fixed_size,
            fixed_batch: self.fixed_batch,
        }
    }

    fn freeing(&self) -> Freeing {
        // A static export has its anchors and reshapes baked in: other sizes would fail or, worse, give other boxes.
        Freeing::default()
    }

    fn thinning(&self) -> Thinning {
        Thinning { nms_iou: (!self.end_to_end).then_some(0.7), whole_pixels: false, clip: true }
    }

    fn extents(&self, _: usize, output: &TensorInfo, size: (u32, u32)) -> Result<Vec<usize>, String> {
        // Rows are always declared; anchors follow the size.
        declared(output, &[0, anchors(size, GRIDS[0])])
    }

    fn cells(&self, outputs: &[Vec<usize>]) -> Option<Vec<Cells>> {
        let [rows, _] = *outputs.first()?.as_slice() else { return None };
        if self.end_to_end {
            return None;
        }
        let points = self.points.or_else(|| guess_points(rows.checked_sub(5)?)).unwrap_or(Points::NONE);
        let classes = rows.checked_sub(4 + points.columns()).filter(|n| *n > 0)?;
        let rule = Rule::Greatest { first: 4, count: u32::try_from(classes).ok()? };
        Some(vec![Cells { outputs: vec![0], channels_last: false, rule, absent: 0.0 }])
    }

    fn decode(&self, outputs: &[TensorView<'_>], item: usize, size: (u32, u32), threshold: f32) -> Decoded {
        let output = outputs.first().ok_or("the output is missing")?;
        if self.end_to_end {
            self.decode_end_to_end(output, item, threshold)
        } else {
            self.decode_raw(output, item, size, threshold)
        }
    }
}

#[cfg(test)]
mod tests;
