//! From a model's candidates to detections in source pixels.
//!
//! Owns non-maximum suppression, the order of results and the mapping back. Must not know how a family encodes boxes.

use std::cmp::Ordering;

use facestream_core::{Detection, Landmarks, Point, Rect};

use crate::config::InferConfig;
use crate::family::Thinning;
use crate::geometry::Geometry;

/// More candidates than this are cut (the weakest first) before boxes are compared: bounds the time a model that sees
/// objects everywhere can take (quadratic).
const MAX_CANDIDATES: usize = 4096;

/// What a family found at one place, in pixels of the model's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Candidate {
    /// `[x1, y1, x2, y2]`.
    pub(crate) corners: [f32; 4],
    /// Higher is surer.
    pub(crate) score: f32,
    /// Class index.
    pub(crate) class_id: u32,
    /// Image-left eye, image-right eye, nose, image-left and image-right mouth corner.
    pub(crate) landmarks: Option<[Point; 5]>,
}

/// How candidates become detections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Selection<'a> {
    /// Overlap (intersection over union) from which the weaker box goes; `None` when the model suppresses by itself.
    pub(crate) nms_iou: Option<f32>,
    /// Whether overlaps are measured on boxes whose position and size are cut to whole pixels of the input, as OpenCV's
    /// FaceDetectorYN does: for small faces that decides which of two close ones stays.
    pub(crate) whole_pixels: bool,
    /// Whether boxes are cut at the frame's edges.
    pub(crate) clip: bool,
    /// Class indices to keep; `None` for all.
    pub(crate) classes: Option<&'a [u32]>,
    /// At most so many.
    pub(crate) max: usize,
}

impl<'a> Selection<'a> {
    /// As a family thins out, with what the configuration says otherwise.
    pub(crate) fn of(thinning: Thinning, config: &'a InferConfig) -> Self {
        Self {
            nms_iou: thinning.nms_iou.map(|default| config.nms_iou.unwrap_or(default)),
            whole_pixels: thinning.whole_pixels,
            clip: thinning.clip,
            classes: config.class_filter.as_deref(),
            max: config.max_detections,
        }
    }
}

/// Score descending, then top to bottom, left to right, then class: a total order, so equal input gives equal output.
fn by_score_then_place(a: &Candidate, b: &Candidate) -> Ordering {
    b.score
        .total_cmp(&a.score)
        .then_with(|| a.corners[1].total_cmp(&b.corners[1]))
        .then_with(|| a.corners[0].total_cmp(&b.corners[0]))
        .then_with(|| a.corners[3].total_cmp(&b.corners[3]))
        .then_with(|| a.corners[2].total_cmp(&b.corners[2]))
        .then_with(|| a.class_id.cmp(&b.class_id))
}

/// Picks the best candidates and maps them to source pixels, best first. Boxes that are not finite, empty or wholly
/// outside the frame are left out: no model's output is trusted.
pub(crate) fn select(mut candidates: Vec<Candidate>, selection: &Selection<'_>, geometry: &Geometry) -> Vec<Detection> {
    candidates.retain(|c| {
        rect(c).is_valid()
            && c.score.is_finite()
            && selection.classes.is_none_or(|classes| classes.contains(&c.class_id))
    });
    candidates.sort_unstable_by(by_score_then_place);
    candidates.truncate(MAX_CANDIDATES);
    let (width, height) = geometry.source;
    let measured = |c: &Candidate| {
        let r = rect(c);
        if !selection.whole_pixels {
            return r;
        }
        Rect { x: r.x.trunc(), y: r.y.trunc(), width: r.width.trunc(), height: r.height.trunc() }
    };
    let mut kept: Vec<(u32, Rect)> = Vec::new();
    let mut out = Vec::new();
    for candidate in candidates {
        if out.len() == selection.max {
            break;
        }
        // Boxes of other classes never suppress each other.
        let (class, area) = (candidate.class_id, measured(&candidate));
        let beaten = |iou: f32| kept.iter().any(|(k, r)| *k == class && r.iou(&area) > iou);
        if selection.nms_iou.is_some_and(beaten) {
            continue;
        }
        kept.push((class, area));
        let bbox = geometry.rect_to_source(candidate.corners);
        let Some(inside) = bbox.clipped(width, height) else { continue };
        let landmarks = candidate.landmarks.map(|points| points.map(|p| geometry.to_source(p)));
        out.push(Detection {
            bbox: if selection.clip { inside } else { bbox },
            confidence: candidate.score.clamp(0.0, 1.0),
            class_id: candidate.class_id,
            landmarks: landmarks
                .filter(|points| points.iter().all(|p| p.x.is_finite() && p.y.is_finite()))
                .map(Landmarks::from_points),
        });
    }
    out
}

fn rect(c: &Candidate) -> Rect {
    let [x1, y1, x2, y2] = c.corners;
    Rect::from_corners(x1, y1, x2, y2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Fit;
    use proptest::prelude::*;

    fn candidate(corners: [f32; 4], score: f32, class_id: u32) -> Candidate {
        Candidate { corners, score, class_id, landmarks: None }
    }

    fn geometry() -> Geometry {
        Geometry::new((1280, 720), (640, 384), Fit::TopLeft)
    }

    fn all() -> Selection<'static> {
        Selection { nms_iou: Some(0.3), whole_pixels: false, clip: false, classes: None, max: 100 }
    }

    #[test]
    fn the_weaker_of_two_overlapping_boxes_goes() {
        let boxes = vec![
            candidate([10.0, 10.0, 20.0, 20.0], 0.8, 0),
            candidate([11.0, 10.0, 21.0, 20.0], 0.9, 0),
            candidate([100.0, 10.0, 110.0, 20.0], 0.5, 0),
        ];
        let out = select(boxes.clone(), &all(), &geometry());
        assert_eq!(out.iter().map(|d| d.confidence).collect::<Vec<_>>(), [0.9, 0.5]);
        assert_eq!(out[0].bbox, Rect::from_corners(22.0, 20.0, 42.0, 40.0));
        assert_eq!(select(boxes, &Selection { nms_iou: None, ..all() }, &geometry()).len(), 3);
    }

    #[test]
    fn whole_pixels_decide_about_small_boxes() {
        // 2x2 overlapping by 1x2: IoU 1/3; cut to whole pixels they coincide or part.
        let pair = |x: f32| vec![candidate([0.9, 0.0, 2.9, 2.0], 0.9, 0), candidate([x, 0.0, x + 2.0, 2.0], 0.8, 0)];
        let count = |x, whole_pixels| {
            select(pair(x), &Selection { nms_iou: Some(0.35), whole_pixels, ..all() }, &geometry()).len()
        };
        assert_eq!((count(1.9, false), count(1.9, true)), (2, 2));
        assert_eq!((count(1.7, false), count(1.7, true)), (1, 2));
    }

    #[test]
    fn a_beaten_box_beats_nobody() {
        // a-b and b-c overlap, a-c do not: c stays.
        let chain = [0.0f32, 6.0, 12.0].map(|x| candidate([x, 0.0, x + 10.0, 10.0], 0.9 - x / 100.0, 0));
        let out = select(chain.to_vec(), &Selection { nms_iou: Some(0.2), ..all() }, &geometry());
        assert_eq!(out.iter().map(|d| d.bbox.x).collect::<Vec<_>>(), [0.0, 24.0]);
    }

    #[test]
    fn classes_do_not_suppress_each_other_and_can_be_filtered() {
        let same = [0, 2, 5].map(|class| candidate([0.0, 0.0, 10.0, 10.0], 0.5, class));
        let classes = |s| select(same.to_vec(), &s, &geometry()).iter().map(|d| d.class_id).collect::<Vec<_>>();
        assert_eq!(classes(all()), [0, 2, 5]);
        assert_eq!(classes(Selection { classes: Some(&[5, 0]), ..all() }), [0, 5]);
        assert_eq!(classes(Selection { max: 2, ..all() }), [0, 2]);
    }

    #[test]
    fn nonsense_is_left_out() {
        let bad = vec![
            candidate([f32::NAN, 0.0, 1.0, 1.0], 0.9, 0),
            candidate([0.0, 0.0, f32::INFINITY, 1.0], 0.9, 0),
            candidate([5.0, 5.0, 5.0, 9.0], 0.9, 0),
            candidate([-20.0, 5.0, -10.0, 9.0], 0.9, 0),
            // The filling below a 16:9 picture is not the frame.
            candidate([5.0, 365.0, 9.0, 380.0], 0.9, 0),
            candidate([0.0, 0.0, 1.0, 1.0], f32::NAN, 0),
        ];
        assert_eq!(select(bad, &all(), &geometry()), []);
    }

    #[test]
    fn clipping_is_a_choice() {
        let edge = vec![candidate([-5.0, 0.0, 5.0, 10.0], 0.9, 0)];
        assert_eq!(select(edge.clone(), &all(), &geometry())[0].bbox.x, -10.0);
        assert_eq!(select(edge, &Selection { clip: true, ..all() }, &geometry())[0].bbox.x, 0.0);
    }

    proptest! {
        #[test]
        fn the_order_of_candidates_does_not_matter(
            boxes in proptest::collection::vec((0f32..600.0, 0f32..350.0, 1f32..80.0, 1f32..80.0, 0u8..5, 0u32..2), 0..40),
            seed in any::<usize>(),
        ) {
            let list: Vec<_> = boxes.iter().map(|&(x, y, w, h, s, c)| {
                candidate([x, y, x + w, y + h], f32::from(s) / 5.0, c)
            }).collect();
            let mut other = list.clone();
            if !other.is_empty() {
                let n = other.len();
                other.rotate_left(seed % n);
                other.reverse();
            }
            let out = select(list, &all(), &geometry());
            prop_assert_eq!(&out, &select(other, &all(), &geometry()));
            for (i, a) in out.iter().enumerate() {
                for b in &out[..i] {
                    prop_assert!(a.class_id != b.class_id || a.bbox.iou(&b.bbox) <= 0.3 + 1e-3);
                }
            }
        }
    }
}
