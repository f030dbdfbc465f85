//! Letterbox of one picture, planar YUV to `[3, height, width]` floats. `letterbox_opencv.py` beside this file runs
//! OpenCV's three passes and this benchmark in turns and prints the ratio.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use facestream_core::Planes;
use facestream_core::frame::{ColorMatrix, PixelFormat};
use facestream_infer::{Channels, Fit, Geometry, InputSize, InputSpec, Letterbox, input_for};

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("letterbox");
    for (name, (w, h), format) in [
        ("nv12-1080p-640", (1920u32, 1080u32), PixelFormat::Nv12),
        ("i420-1080p-640", (1920, 1080), PixelFormat::I420),
        ("i420-720p-640", (1280, 720), PixelFormat::I420),
        ("i420-1366x768-640", (1366, 768), PixelFormat::I420),
    ] {
        let y: Vec<u8> = (0..w * h).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let interleaved = format == PixelFormat::Nv12;
        let planes = Planes {
            format,
            width: w,
            height: h,
            y: &y,
            y_stride: w as usize,
            u: &y[1000..],
            u_stride: if interleaved { w as usize } else { w as usize / 2 },
            v: if interleaved { &[] } else { &y[5000..] },
            v_stride: if interleaved { 0 } else { w as usize / 2 },
            full_range: false,
            matrix: ColorMatrix::Bt709,
        };
        let input = input_for((w, h), InputSize::Auto { long_side: 640 });
        let geometry = Geometry::new((w, h), input, Fit::Centre);
        let spec = InputSpec {
            channels: Channels::Rgb,
            scale: 1.0 / 255.0,
            fit: Fit::Centre,
            fill: 114,
            fixed_size: None,
            fixed_batch: None,
        };
        let mut letterbox = Letterbox::new(spec);
        let mut out = vec![0f32; 3 * input.0 as usize * input.1 as usize];
        group.bench_function(name, |b| {
            b.iter(|| {
                letterbox.write(black_box(&planes), &geometry, &mut out).expect("planes are as long as they say");
                black_box(&out);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
