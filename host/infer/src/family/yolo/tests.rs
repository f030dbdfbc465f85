//! Layouts, one by one, on hand-written tensors.

use super::*;
use crate::onnx::{Dim, FLOAT, TensorInfo};

fn described(input: &[i64], output: &[i64], metadata: &[(&str, &str)]) -> Description {
    let dim = |n: &i64| if *n > 0 { Dim::Fixed(*n) } else { Dim::Free("n".to_owned()) };
    let info = |dims: &[i64]| TensorInfo { name: "t".to_owned(), element: FLOAT, dims: dims.iter().map(dim).collect() };
    Description {
        inputs: vec![info(input)],
        outputs: vec![info(output)],
        metadata: metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
    }
}

/// A raw output for a 32x32 input (21 anchors) with the given columns at anchor 7, zero elsewhere.
fn raw(columns: &[f32]) -> Vec<f32> {
    columns.iter().flat_map(|v| (0..21).map(move |a| if a == 7 { *v } else { 0.0 })).collect()
}

fn decode(d: &Description, shape: &[i64], data: &[f32]) -> Decoded {
    recognise(d).unwrap().decode(&[TensorView { shape, data }], 0, (32, 32), 0.3)
}

#[test]
fn the_best_class_wins() {
    let d = described(&[1, 3, 32, 32], &[1, 7, 21], &[]);
    let found = decode(&d, &[1, 7, 21], &raw(&[10.0, 12.0, 4.0, 8.0, 0.2, 0.9, 0.5])).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].corners, found[0].class_id, found[0].score), ([8.0, 8.0, 12.0, 16.0], 1, 0.9));
    assert_eq!(found[0].landmarks, None);
}

#[test]
fn five_points_become_landmarks_and_others_do_not() {
    let mut columns = vec![10.0, 12.0, 4.0, 8.0, 0.9];
    columns.extend((0..5).flat_map(|n| [n as f32, 10.0 + n as f32, 0.5]));
    let d = described(&[1, 3, 32, 32], &[1, 20, 21], &[]);
    let face = decode(&d, &[1, 20, 21], &raw(&columns)).unwrap()[0];
    assert_eq!(face.landmarks.unwrap()[4], Point { x: 4.0, y: 14.0 });

    // The same columns are sixteen classes when the exporter says so.
    let d = described(&[1, 3, 32, 32], &[1, 20, 21], &[("task", "detect")]);
    let classes = decode(&d, &[1, 20, 21], &raw(&columns)).unwrap()[0];
    assert_eq!((classes.landmarks, classes.class_id, classes.score), (None, 14, 14.0));

    // Two numbers a point, two classes, as declared.
    let mut columns = vec![10.0, 12.0, 4.0, 8.0, 0.1, 0.9];
    columns.extend((0..5).flat_map(|n| [n as f32, 20.0]));
    let d = described(&[1, 3, 32, 32], &[1, 16, 21], &[("kpt_shape", "[5, 2]"), ("task", "pose")]);
    let face = decode(&d, &[1, 16, 21], &raw(&columns)).unwrap()[0];
    assert_eq!((face.class_id, face.landmarks.unwrap()[3]), (1, Point { x: 3.0, y: 20.0 }));

    let mut columns = vec![10.0, 12.0, 4.0, 8.0, 0.9];
    columns.extend([1.0; 51]);
    let d = described(&[1, 3, 32, 32], &[1, 56, 21], &[]);
    assert_eq!(decode(&d, &[1, 56, 21], &raw(&columns)).unwrap()[0].landmarks, None);
}

#[test]
fn end_to_end_rows_are_taken_as_they_are() {
    let d = described(&[1, 3, 640, 640], &[1, 300, 6], &[]);
    let rows = [[1.0, 2.0, 3.0, 4.0, 0.8, 2.0], [5.0, 6.0, 7.0, 8.0, 0.1, 0.0], [0.0, 0.0, 1.0, 1.0, f32::NAN, 0.0]];
    let family = recognise(&d).unwrap();
    assert_eq!(family.thinning().nms_iou, None);
    let found = decode(&d, &[1, 3, 6], &rows.concat()).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].corners, found[0].class_id), ([1.0, 2.0, 3.0, 4.0], 2));

    let d = described(&[-1, 3, -1, -1], &[-1, 300, 21], &[("kpt_shape", "[5, 3]"), ("task", "pose")]);
    let mut row = rows[0].to_vec();
    row.extend((0..15).map(|n| n as f32));
    assert_eq!(decode(&d, &[1, 1, 21], &row).unwrap()[0].landmarks.unwrap()[1], Point { x: 3.0, y: 4.0 });
}

#[test]
fn declared_sizes_are_kept_and_free_ones_are_free() {
    let spec = |d| recognise(&d).unwrap().input();
    let fixed = spec(described(&[1, 3, 384, 640], &[1, 5, 5040], &[]));
    assert_eq!((fixed.fixed_size, fixed.fixed_batch), (Some((640, 384)), Some(1)));
    let free = spec(described(&[-1, 3, -1, -1], &[-1, 5, -1], &[]));
    assert_eq!((free.fixed_size, free.fixed_batch), (None, None));
    // p2 and p6 variants.
    assert!(recognise(&described(&[1, 3, 640, 640], &[1, 5, 34000], &[])).is_some());
    assert!(recognise(&described(&[1, 3, 640, 640], &[1, 5, 8500], &[])).is_some());
}

#[test]
fn other_tasks_and_shapes_are_refused() {
    for (output, metadata) in [
        (&[1, 5, 1234][..], &[][..]),
        (&[1, 4, 8400], &[]),
        (&[1, 25200, 85], &[]),
        (&[1, 5, 8400], &[("task", "segment")]),
        (&[1, 1000], &[]),
    ] {
        assert!(recognise(&described(&[1, 3, 640, 640], output, metadata)).is_none(), "{output:?} {metadata:?}");
    }
    let d = described(&[-1, 3, -1, -1], &[-1, -1, -1], &[]);
    assert!(decode(&d, &[1, 5, 23], &[0.0; 115]).unwrap_err().contains("21"));
    assert!(decode(&d, &[1, 21, 5], &[0.0; 105]).is_err());
    let d = described(&[1, 3, 32, 32], &[1, 10, 21], &[("kpt_shape", "[5, 3]")]);
    assert!(decode(&d, &[1, 10, 21], &[0.0; 210]).unwrap_err().contains("too few"));
}
