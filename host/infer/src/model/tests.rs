//! A reworked model gives what the model as published gives.

use facestream_test_support::asset_or_skip;

use super::*;

/// Squares of 8 pixels in random levels: every cell of YuNet's grids sees something.
fn squares((width, height): (usize, usize)) -> Vec<f32> {
    let level = |c: usize, y: usize, x: usize| {
        let n = (c * height / 8 + y / 8) * (width / 8) + x / 8;
        f32::from(((n as u32).wrapping_mul(2_654_435_761) >> 24) as u8)
    };
    let plane = |c| (0..height).flat_map(move |y| (0..width).map(move |x| level(c, y, x)));
    (0..3).flat_map(plane).collect()
}

#[test]
fn less_work_gives_the_same_detections() {
    let path = asset_or_skip!("models/yunet.onnx");
    let bytes = std::fs::read(path).unwrap();
    let config = InferConfig {
        runtime_library: Some(asset_or_skip!("onnxruntime/libonnxruntime.so")),
        score_threshold: 0.002,
        nms_iou: Some(1.0),
        max_detections: 10_000,
        ..InferConfig::default()
    };
    let detections = |rework: bool, size: (u32, u32)| {
        let model = Model::with_rework("yunet", &bytes, &config, rework).unwrap();
        assert_eq!(model.inner.stem.is_some(), rework && Stem::supported());
        assert_eq!(model.inner.outputs.len(), if rework { 3 } else { 12 });
        let session = model.spare.lock().unwrap().take().unwrap();
        let mut backend = OnnxBackend::new(Arc::clone(&model.inner), session);
        // Two pictures in one run; the second one upside down.
        backend.buffer = squares((size.0 as usize, size.1 as usize));
        let turned: Vec<f32> = backend.buffer.iter().rev().copied().collect();
        backend.buffer.extend(turned);
        let geometry = Geometry::new(size, size, model.inner.spec.fit);
        backend.run(2, size, &[geometry, geometry]).unwrap()
    };
    for size in [(160, 96), (96, 160), (640, 384)] {
        let (plain, reworked) = (detections(false, size), detections(true, size));
        for (want, got) in plain.iter().zip(&reworked) {
            // Above are those that selection cuts off: which ones is no matter of the graph.
            assert!((100..4096).contains(&want.len()), "{} at {size:?}", want.len());
            let close = |a: &Detection, b: &Detection| {
                (a.confidence - b.confidence).abs() < 1e-4
                    && a.bbox.iou(&b.bbox) > 0.999
                    && a.landmarks.zip(b.landmarks).is_some_and(|(a, b)| {
                        a.points().iter().zip(b.points()).all(|(a, b)| (a.x - b.x).abs().max((a.y - b.y).abs()) < 0.02)
                    })
            };
            // Weaker ones may fall to either side of the threshold.
            let lonely = |of: &[Detection], among: &[Detection]| {
                of.iter().filter(|a| a.confidence > 0.0021 && !among.iter().any(|b| close(a, b))).count()
            };
            let (missing, extra) = (lonely(want, got), lonely(got, want));
            assert_eq!((missing, extra), (0, 0), "of {} and {} at {size:?}", want.len(), got.len());
        }
        assert_ne!(plain[0], plain[1]);
    }
}
