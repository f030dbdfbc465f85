//! OpenVINO's plugin provider against ONNX Runtime's own, on a real picture: the same faces, in bfloat16's accuracy.
//!
//! Runs where the processor has `amx_bf16` and `FACESTREAM_OPENVINO_LIBRARY` names the plugin of the PyPI package
//! `onnxruntime-ep-openvino`; elsewhere it says why it was skipped. A process has one environment, hence one test.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall fail")]

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use facestream_core::frame::{ColorMatrix, PixelFormat};
use facestream_core::{Frame, FrameInfo, Picture, PictureError, Planes, Rect};
use facestream_infer::{Backend, Detector as _, InferConfig, Model, Provider};
use facestream_test_support::{asset_or_skip, skip};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

const WIDTH: usize = 1280;
const HEIGHT: usize = 720;

/// The group photo (a grey one) cut to 720p: every `step`-th pixel of its middle.
#[derive(Debug)]
struct Photo {
    luma: Vec<u8>,
    chroma: Vec<u8>,
}

impl Photo {
    fn cut(jpeg: &[u8]) -> Self {
        let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::Luma);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(jpeg), options);
        let pixels = decoder.decode().unwrap();
        let (width, height) = decoder.dimensions().unwrap();
        let step = (width / WIDTH).min(height / HEIGHT).max(1);
        let (left, top) = ((width - WIDTH * step) / 2, (height - HEIGHT * step) / 2);
        let row = |y: usize| (0..WIDTH).map(move |x| (top + y * step) * width + left + x * step);
        let luma = (0..HEIGHT).flat_map(row).map(|at| pixels[at]).collect();
        Self { luma, chroma: vec![128; WIDTH * HEIGHT / 4] }
    }
}

impl Picture for Photo {
    fn width(&self) -> u32 {
        WIDTH as u32
    }
    fn height(&self) -> u32 {
        HEIGHT as u32
    }
    fn planes(&self) -> Option<Planes<'_>> {
        Some(Planes {
            format: PixelFormat::I420,
            width: WIDTH as u32,
            height: HEIGHT as u32,
            y: &self.luma,
            y_stride: WIDTH,
            u: &self.chroma,
            u_stride: WIDTH / 2,
            v: &self.chroma,
            v_stride: WIDTH / 2,
            full_range: true,
            matrix: ColorMatrix::Bt601,
        })
    }
    fn crop(&self, _: Rect, _: u32) -> Result<Arc<dyn Picture>, PictureError> {
        Err(PictureError::Device("not needed here".to_owned()))
    }
    fn bytes(&self) -> usize {
        self.luma.len() * 3 / 2
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Median milliseconds of a frame, and what was found in it.
fn timed(detector: &mut dyn Backend, frame: &Frame) -> (f64, Vec<facestream_core::Detection>) {
    let mut found = Vec::new();
    let mut times: Vec<Duration> = (0..30)
        .map(|_| {
            let begun = Instant::now();
            found = detector.infer(std::slice::from_ref(frame)).unwrap().remove(0);
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    (times[times.len() / 2].as_secs_f64() * 1e3, found)
}

#[test]
fn openvino_finds_the_faces_that_the_cpu_finds() {
    let test = "openvino_finds_the_faces_that_the_cpu_finds";
    let runtime = asset_or_skip!("onnxruntime/libonnxruntime.so");
    let photo = asset_or_skip!("clips/solvay.jpg");
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !cpu.split_ascii_whitespace().any(|flag| flag == "amx_bf16") {
        return skip(test, "this processor has no amx_bf16");
    }
    let Some(library) = std::env::var_os("FACESTREAM_OPENVINO_LIBRARY").map(PathBuf::from) else {
        return skip(test, "FACESTREAM_OPENVINO_LIBRARY does not name the plugin of onnxruntime-ep-openvino");
    };
    let picture = Arc::new(Photo::cut(&std::fs::read(photo).unwrap()));
    let info = FrameInfo { width: WIDTH as u32, height: HEIGHT as u32, ..FrameInfo::default() };
    let frame = Frame { info, picture };
    for name in ["yunet", "centerface"] {
        let model = asset_or_skip!(&format!("models/{name}.onnx"));
        let with = |providers: &[Provider]| {
            let config = InferConfig {
                runtime_library: Some(runtime.clone()),
                openvino_library: Some(library.clone()),
                providers: providers.to_vec(),
                threads: 1,
                ..InferConfig::default()
            };
            let loaded = Model::load(&model, &config).unwrap();
            assert_eq!(loaded.describe().provider, providers[0], "{}", loaded.describe());
            timed(loaded.open().unwrap().as_mut(), &frame)
        };
        let (cpu_ms, reference) = with(&[Provider::Cpu]);
        let (ms, found) = with(&[Provider::OpenVino, Provider::Cpu]);
        // Once the plugin is registered, too, `cpu` means ONNX Runtime's own kernels.
        assert_eq!(with(&[Provider::Cpu]).1, reference, "{name}: another provider took the place of cpu");
        let sure: Vec<_> = reference.iter().filter(|d| d.confidence >= 0.5).collect();
        assert!(sure.len() >= 15, "{name}: {} faces are no test", sure.len());
        let mut worst = (1.0_f32, 0.0_f32);
        for face in &sure {
            let best = found.iter().max_by(|a, b| a.bbox.iou(&face.bbox).total_cmp(&b.bbox.iou(&face.bbox))).unwrap();
            worst.0 = worst.0.min(best.bbox.iou(&face.bbox));
            worst.1 = worst.1.max((best.confidence - face.confidence).abs());
        }
        println!(
            "{name}: {} faces, smallest IoU {:.3}, largest difference of score {:.3}; {ms:.1} ms a frame, cpu {cpu_ms:.1}",
            sure.len(),
            worst.0,
            worst.1
        );
        // bfloat16 has 8 bits of mantissa: a box of 40 pixels may move by part of one.
        assert!(worst.0 >= 0.85 && worst.1 <= 0.05, "{name}: {worst:?}");
    }
}
