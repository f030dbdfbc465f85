//! Model families: what a detector wants to see and how its tensors become boxes.
//!
//! Owns recognition from the graph alone. Must not run models and must not touch source pixels. A new family is one file
//! beside the three that are here, and one line in [`FAMILIES`].

mod centerface;
mod yolo;
mod yunet;

use std::fmt;

use facestream_gpu::Rule;

use crate::geometry::Fit;
use crate::nms::Candidate;
use crate::onnx::{Description, Dim, FLOAT, Freeing, TensorInfo};
use crate::stem::Stem;

/// Order of an input's three channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channels {
    /// Red first.
    Rgb,
    /// Blue first, as OpenCV stores pictures.
    Bgr,
}

/// What a family wants to see: `[batch, 3, height, width]`, 32-bit floats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InputSpec {
    /// Channel order.
    pub channels: Channels,
    /// What 0..=255 is multiplied by.
    pub scale: f32,
    /// Where the picture lies.
    pub fit: Fit,
    /// Value around the picture, in 0..=255 before scaling.
    pub fill: u8,
    /// Width and height that the model insists on.
    pub fixed_size: Option<(u32, u32)>,
    /// Frames a run that the model insists on.
    pub fixed_batch: Option<usize>,
}

/// An output of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TensorView<'a> {
    /// Shape, batch first.
    pub(crate) shape: &'a [i64],
    /// Row-major.
    pub(crate) data: &'a [f32],
}

impl<'a> TensorView<'a> {
    /// The part of picture `item`, when the shape is `[more than item, dims…]`; a dim of `None` is not checked.
    fn item(&self, item: usize, dims: &[Option<usize>]) -> Result<&'a [f32], String> {
        let fits = self.shape.len() == dims.len() + 1
            && self.shape.iter().all(|&n| n >= 0)
            && self.shape[0] > item as i64
            && self.shape[1..].iter().zip(dims).all(|(&n, d)| d.is_none_or(|d| n == d as i64));
        let expected = || {
            let dims: Vec<String> = dims.iter().map(|d| d.map_or("?".to_owned(), |d| d.to_string())).collect();
            format!("an output has shape {:?}, expected [batch, {}]", self.shape, dims.join(", "))
        };
        if !fits {
            return Err(expected());
        }
        let len = self.shape[1..].iter().map(|&n| n as usize).product::<usize>();
        self.data.get(item * len..(item + 1) * len).ok_or_else(expected)
    }
}

/// How a family's candidates are thinned out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Thinning {
    /// Overlap from which the weaker box goes, as in the reference implementation; `None`: the model does it itself.
    pub(crate) nms_iou: Option<f32>,
    /// Whether the reference implementation measures overlaps on whole pixels.
    pub(crate) whole_pixels: bool,
    /// Whether the reference implementation cuts boxes at the frame's edges.
    pub(crate) clip: bool,
}

/// Outputs that speak of the same cells, for a device that sends only the cells that count.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cells {
    /// Which outputs, in the order that `rule` speaks of.
    pub(crate) outputs: Vec<usize>,
    /// Whether channels come last (`[batch, cells, channels]`) rather than first (`[batch, channels, cells…]`).
    pub(crate) channels_last: bool,
    /// How a cell's score is made.
    pub(crate) rule: Rule,
    /// What the outputs of a cell are taken for that was not sent: anything that scores below every threshold.
    pub(crate) absent: f32,
}

/// The same model with less work.
pub(crate) struct Reworked {
    /// Its file.
    pub(crate) bytes: Vec<u8>,
    /// Reads its outputs.
    pub(crate) family: Box<dyn Family>,
    /// What computes its first layers, when they are not in the file any more.
    pub(crate) stem: Option<Stem>,
}

/// One model of a family.
pub(crate) trait Family: Send + Sync + fmt::Debug {
    /// The family's name, for people.
    fn name(&self) -> &'static str;
    /// What it wants to see.
    fn input(&self) -> InputSpec;
    /// Which declared extents may be freed: only where the graph is known not to depend on them.
    fn freeing(&self) -> Freeing;
    /// How candidates are thinned out.
    fn thinning(&self) -> Thinning;
    /// The model changed to less work with the same results, where the family knows how and the graph is the one known.
    /// `stem` allows to leave the first layers to [`Stem`].
    fn rework(&self, _bytes: &[u8], _input: &str, _stem: bool) -> Option<Reworked> {
        None
    }
    /// Extents of output `index` without the batch, for an input of `size`: what the graph declares, and where it declares
    /// none, what the family's layout makes of the size.
    ///
    /// # Errors
    /// In words, when neither says.
    fn extents(&self, index: usize, output: &TensorInfo, size: (u32, u32)) -> Result<Vec<usize>, String>;
    /// Which cells of its outputs can count at all, so that a device sends only those; `None`: everything is sent. Each
    /// output's extents are given without the batch.
    fn cells(&self, _outputs: &[Vec<usize>]) -> Option<Vec<Cells>> {
        None
    }
    /// Reads picture `item` of a batch. `size` is the input's width and height.
    ///
    /// # Errors
    /// In words, when a tensor has not the shape that it has in this family.
    fn decode(
        &self,
        outputs: &[TensorView<'_>],
        item: usize,
        size: (u32, u32),
        threshold: f32,
    ) -> Result<Vec<Candidate>, String>;
}

/// Tells whether a graph is of this family.
type Recognise = fn(&Description) -> Option<Box<dyn Family>>;

/// Every family with the shapes that it expects, the most particular first.
const FAMILIES: &[(Recognise, &str)] = &[
    (yunet::recognise, yunet::EXPECTED),
    (centerface::recognise, centerface::EXPECTED),
    (yolo::recognise, yolo::EXPECTED),
];

/// Finds the family of a graph.
///
/// # Errors
/// The shapes found and those expected, in words.
pub(crate) fn recognise(description: &Description) -> Result<Box<dyn Family>, (String, String)> {
    FAMILIES.iter().find_map(|(recognise, _)| recognise(description)).ok_or_else(|| {
        let expected: Vec<&str> = FAMILIES.iter().map(|(_, expected)| *expected).collect();
        let task = description.metadata.get("task").map(|t| format!(" (made for the task {t:?})")).unwrap_or_default();
        (format!("{description}{task}"), expected.join("; "))
    })
}

/// The only input, when it is `[batch, 3, height, width]` of floats.
fn image_input(description: &Description) -> Option<&TensorInfo> {
    let [input] = description.inputs.as_slice() else { return None };
    let shaped = input.dims.len() == 4 && may_be(&input.dims[1], 3);
    (input.element == FLOAT && shaped).then_some(input)
}

/// The declared extents without the batch, those that are free as `fill` says (by their place).
fn declared(output: &TensorInfo, fill: &[usize]) -> Result<Vec<usize>, String> {
    let rest = output.dims.get(1..).unwrap_or_default();
    if rest.len() != fill.len() {
        return Err(format!("the output {output} has {} extents, expected {}", output.dims.len(), fill.len() + 1));
    }
    let of = |(dim, &fill): (&Dim, &usize)| dim.fixed().map_or(Ok(fill), usize::try_from);
    let extents = rest.iter().zip(fill).map(of).collect::<Result<Vec<_>, _>>();
    extents
        .ok()
        .filter(|e| e.iter().all(|n| *n > 0))
        .ok_or_else(|| format!("the output {output} has no usable extents"))
}

/// Whether an extent is `n` or free.
fn may_be(dim: &Dim, n: i64) -> bool {
    dim.fixed().is_none_or(|found| found == n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{describe, toy_model};

    fn info(name: &str, dims: &[i64]) -> TensorInfo {
        TensorInfo { name: name.to_owned(), element: FLOAT, dims: dims.iter().map(|&n| Dim::Fixed(n)).collect() }
    }

    fn of(inputs: &[TensorInfo], outputs: &[TensorInfo]) -> Result<&'static str, (String, String)> {
        recognise(&describe(&toy_model(inputs, outputs, &[])).unwrap()).map(|f| f.name())
    }

    #[test]
    fn families_are_told_apart_by_their_graphs() {
        let image = [info("images", &[1, 3, 640, 640])];
        assert_eq!(of(&image, &[info("output0", &[1, 5, 8400])]), Ok("YOLO"));
        assert_eq!(of(&image, &[info("output0", &[1, 84, 8400])]), Ok("YOLO"));
        assert_eq!(of(&image, &[info("output0", &[1, 300, 6])]), Ok("YOLO"));
        let maps = [1, 2, 2, 10].map(|c| info("m", &[10, c, 8, 8]));
        assert_eq!(of(&[info("input.1", &[10, 3, 32, 32])], &maps), Ok("CenterFace"));
    }

    #[test]
    fn models_of_another_task_are_refused_with_both_shapes() {
        let image = [info("x", &[1, 3, 224, 224])];
        for outputs in [
            vec![info("logits", &[1, 1000])],
            vec![info("output0", &[1, 116, 8400]), info("output1", &[1, 32, 160, 160])],
            vec![info("map", &[1, 21, 224, 224])],
        ] {
            let (found, expected) = of(&image, &outputs).unwrap_err();
            assert!(found.contains(&outputs[0].to_string()), "{found}");
            for family in ["YuNet", "CenterFace", "YOLO"] {
                assert!(expected.contains(family), "{expected}");
            }
        }
        assert!(of(&[info("text", &[1, 128])], &[info("output0", &[1, 5, 8400])]).is_err());
        assert!(of(&[image[0].clone(), image[0].clone()], &[info("output0", &[1, 5, 8400])]).is_err());
    }

    #[test]
    fn items_of_a_batch_are_checked() {
        let data = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let view = TensorView { shape: &[2, 3, 1], data: &data };
        assert_eq!(view.item(1, &[Some(3), Some(1)]), Ok(&data[3..]));
        assert!(view.item(2, &[Some(3), Some(1)]).unwrap_err().contains("[2, 3, 1]"));
        assert!(view.item(0, &[Some(4), None]).unwrap_err().contains("[batch, 4, ?]"));
        assert!(TensorView { shape: &[9, 3, 1], data: &data }.item(8, &[None, None]).is_err());
        assert!(TensorView { shape: &[1, -1, 1], data: &data }.item(0, &[None, None]).is_err());
    }
}
