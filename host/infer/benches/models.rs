//! Frames a second of the engine, by model and sessions, from 720p planes to detections. Needs the assets of set-up.
#![allow(missing_docs)]

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use facestream_core::frame::{ColorMatrix, PixelFormat};
use facestream_core::metrics::CameraMetrics;
use facestream_core::{Frame, FrameInfo, Picture, PictureError, Planes, Rect};
use facestream_infer::{Engine, FeedKind, InferConfig, Model};

#[derive(Debug)]
struct Grey(Vec<u8>);

impl Picture for Grey {
    fn width(&self) -> u32 {
        1280
    }
    fn height(&self) -> u32 {
        720
    }
    fn planes(&self) -> Option<Planes<'_>> {
        Some(Planes {
            format: PixelFormat::I420,
            width: 1280,
            height: 720,
            y: &self.0,
            y_stride: 1280,
            u: &self.0,
            u_stride: 640,
            v: &self.0,
            v_stride: 640,
            full_range: false,
            matrix: ColorMatrix::Bt709,
        })
    }
    fn crop(&self, _: Rect, _: u32) -> Result<Arc<dyn Picture>, PictureError> {
        Err(PictureError::Device("not in a benchmark".to_owned()))
    }
    fn bytes(&self) -> usize {
        self.0.len()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn bench(c: &mut Criterion) {
    let Ok(runtime) = facestream_test_support::asset("onnxruntime/libonnxruntime.so") else {
        eprintln!("skipped: ONNX Runtime is missing: run `cargo xtask setup`");
        return;
    };
    let pixels = (0..1280 * 720u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let picture: Arc<dyn Picture> = Arc::new(Grey(pixels));
    let frame = Frame { info: FrameInfo { width: 1280, height: 720, ..FrameInfo::default() }, picture };
    let mut group = c.benchmark_group("models");
    group.throughput(Throughput::Elements(1)).sample_size(20).measurement_time(Duration::from_secs(4));
    for model in ["yunet", "centerface"] {
        let Ok(path) = facestream_test_support::asset(&format!("models/{model}.onnx")) else { continue };
        for threads in [1, 2] {
            let config = InferConfig { runtime_library: Some(runtime.clone()), threads, ..InferConfig::default() };
            let loaded = Model::load(&path, &config).expect("the model of set-up loads");
            let engine = Engine::start(loaded, &config).expect("sessions open");
            let kind = FeedKind::Lossless { depth: 2 * threads };
            let feed = engine.attach(
                kind,
                Arc::new(CameraMetrics::default()),
                Arc::new(|_, found| {
                    assert!(found.is_ok(), "{found:?}");
                }),
            );
            group.bench_function(format!("{model}-720p-{threads}-sessions"), |b| {
                b.iter_custom(|n| {
                    let start = Instant::now();
                    for _ in 0..n {
                        assert!(feed.offer(frame.clone()));
                    }
                    assert!(feed.drain(Duration::from_secs(60)));
                    start.elapsed()
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
