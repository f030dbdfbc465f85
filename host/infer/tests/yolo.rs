//! YOLO's layouts through real sessions, on tiny models with known results (`fixtures/make_yolo.py`).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall fail")]

use std::any::Any;
use std::path::Path;
use std::sync::Arc;

use facestream_core::frame::{ColorMatrix, PixelFormat};
use facestream_core::{Detection, Frame, FrameInfo, Picture, PictureError, Planes, Point, Rect};
use facestream_infer::{Detector, InferConfig, InferError, InputSize, Model};

/// A grey picture: `level` in full range is the same in RGB.
#[derive(Debug)]
struct Grey {
    size: (u32, u32),
    luma: Vec<u8>,
    chroma: Vec<u8>,
}

impl Picture for Grey {
    fn width(&self) -> u32 {
        self.size.0
    }
    fn height(&self) -> u32 {
        self.size.1
    }
    fn planes(&self) -> Option<Planes<'_>> {
        let (width, height) = self.size;
        Some(Planes {
            format: PixelFormat::I444,
            width,
            height,
            y: &self.luma,
            y_stride: width as usize,
            u: &self.chroma,
            u_stride: width as usize,
            v: &self.chroma,
            v_stride: width as usize,
            full_range: true,
            matrix: ColorMatrix::Bt601,
        })
    }
    fn crop(&self, _: Rect, _: u32) -> Result<Arc<dyn Picture>, PictureError> {
        Err(PictureError::Device("not needed here".to_owned()))
    }
    fn bytes(&self) -> usize {
        self.luma.len() * 3
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn grey(width: u32, height: u32, level: u8) -> Frame {
    let n = (width * height) as usize;
    let picture = Grey { size: (width, height), luma: vec![level; n], chroma: vec![128; n] };
    Frame { info: FrameInfo { width, height, ..FrameInfo::default() }, picture: Arc::new(picture) }
}

fn load(name: &str, config: InferConfig) -> Option<Result<Arc<Model>, InferError>> {
    let runtime = match facestream_test_support::asset("onnxruntime/libonnxruntime.so") {
        Ok(path) => path,
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "{why}");
            facestream_test_support::skip("yolo", &why);
            return None;
        }
    };
    let config = InferConfig { runtime_library: Some(runtime), ..config };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    Some(Model::load(&path, &config))
}

fn small() -> InferConfig {
    InferConfig { input_size: InputSize::Fixed { width: 64, height: 64 }, ..InferConfig::default() }
}

fn infer(model: &Model, frames: &[Frame]) -> Vec<Vec<Detection>> {
    model.open().unwrap().infer(frames).unwrap()
}

fn near(a: f32, b: f32) -> bool {
    (a - b).abs() < 2e-3
}

#[test]
fn boxes_scores_and_classes_come_back_in_source_pixels() {
    let Some(model) = load("yolo_detect.onnx", small()) else { return };
    let model = model.unwrap();
    assert_eq!(model.describe().family, "YOLO");
    // 128x64 in 64x64: half size, 16 rows of 114 above and below. Mean (51 + 114) / 2 / 255.
    let found = infer(&model, &[grey(128, 64, 51)]).remove(0);
    let mean = (51.0 + 114.0) / 2.0 / 255.0;
    // The third box, 52..60 from the top, lies wholly in the filling: it is in no source pixel and left out.
    assert_eq!(found.iter().map(|d| d.class_id).collect::<Vec<_>>(), [0, 1], "{found:?}");
    for (d, score) in found.iter().zip([0.5, 0.3]) {
        assert!(near(d.confidence, score + mean), "{d:?}");
    }
    // 24..40 in both axes, from the middle.
    assert_eq!(found[0].bbox, Rect::from_corners(48.0, 16.0, 80.0, 48.0));
    assert_eq!(found[0].landmarks, None);
}

#[test]
fn pictures_of_a_batch_keep_apart() {
    let Some(model) = load("yolo_detect.onnx", small()) else { return };
    let model = model.unwrap();
    let levels = [0u8, 60, 100, 30, 0];
    let frames = levels.map(|level| grey(64, 64, level));
    let together = infer(&model, &frames);
    for ((frame, level), found) in frames.iter().zip(levels).zip(&together) {
        assert_eq!(*found, infer(&model, std::slice::from_ref(frame))[0]);
        assert!(near(found[0].confidence, 0.5 + f32::from(level) / 255.0));
    }
}

#[test]
fn a_fixed_batch_and_size_are_kept() {
    let config = InferConfig { input_size: InputSize::Auto { long_side: 640 }, ..InferConfig::default() };
    let Some(model) = load("yolo_detect_fixed.onnx", config) else { return };
    let model = model.unwrap();
    assert_eq!((model.describe().fixed_size, model.max_batch()), (Some((64, 64)), Some(1)));
    let found = infer(&model, &[grey(64, 64, 0), grey(1920, 1080, 51), grey(64, 64, 51)]);
    assert_eq!(found.len(), 3);
    assert!(near(found[0][0].confidence, 0.5) && near(found[2][0].confidence, 0.7));
}

#[test]
fn classes_can_be_chosen() {
    let Some(model) = load("yolo_detect.onnx", InferConfig { class_filter: Some(vec![1]), ..small() }) else { return };
    let found = infer(&model.unwrap(), &[grey(64, 64, 0)]).remove(0);
    assert_eq!(found.iter().map(|d| (d.class_id, d.confidence)).collect::<Vec<_>>(), [(1, 0.3)]);
}

#[test]
fn five_points_become_landmarks() {
    let Some(model) = load("yolo_pose.onnx", small()) else { return };
    let found = infer(&model.unwrap(), &[grey(128, 128, 0)]).remove(0);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].bbox, Rect::from_corners(40.0, 56.0, 80.0, 104.0));
    let want: Vec<Point> =
        (0..5u8).map(|n| Point { x: 40.0 + 8.0 * f32::from(n), y: 60.0 + 10.0 * f32::from(n) }).collect();
    assert_eq!(found[0].landmarks.unwrap().points().to_vec(), want);
}

#[test]
fn an_end_to_end_model_is_not_thinned_again() {
    let Some(model) = load("yolo_end_to_end.onnx", small()) else { return };
    let found = infer(&model.unwrap(), &[grey(64, 64, 0)]).remove(0);
    assert_eq!(found.iter().map(|d| (d.class_id, d.confidence)).collect::<Vec<_>>(), [(1, 0.5), (1, 0.4)]);
    assert_eq!(found[1].bbox, Rect::from_corners(12.0, 20.0, 32.0, 40.0));
}

#[test]
fn a_model_of_another_task_is_refused_with_both_shapes() {
    let Some(model) = load("classifier.onnx", small()) else { return };
    let text = model.unwrap_err().to_string();
    for part in ["classifier fits no known", "logits [n,3]", "YuNet: one input", "CenterFace", "[batch,boxes,6+points]"]
    {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
}

#[test]
fn a_model_that_only_looks_right_is_refused_when_it_is_loaded() {
    let Some(model) = load("liar.onnx", small()) else { return };
    let error = model.unwrap_err();
    assert!(matches!(&error, InferError::Output { model, .. } if model == "liar"), "{error}");
    assert!(error.to_string().contains("12288"), "{error}");
}
