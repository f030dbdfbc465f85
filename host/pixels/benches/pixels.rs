//! What a best-shot scorer asks for: a measure of a face, a crop of it, its JPEG.
//!
//! `cargo bench -p facestream-pixels`
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use facestream_core::frame::ColorMatrix;
use facestream_core::geometry::Rect;
use facestream_pixels::{HostPicture, crop_planes, jpeg, measure, rgb};

fn frame(width: u32, height: u32) -> HostPicture {
    let mut state = 1_u32;
    let bytes = (width * height * 3 / 2) as usize;
    // Texture: a slow wave with some noise, so that neither the scaler nor the entropy coder has it too easy.
    let data = (0..bytes)
        .map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (((i as f32 * 0.01).sin() * 60.0 + 120.0) as u32 + (state >> 28)) as u8
        })
        .collect();
    HostPicture::new(width, height, data, false, ColorMatrix::Bt709).expect("the size fits")
}

fn benches(c: &mut Criterion) {
    let frame = frame(1280, 720);
    let planes = frame.view();
    let face = Rect { x: 401.0, y: 203.0, width: 96.0, height: 120.0 };
    let wide = face.with_margin(0.3);
    c.bench_function("measure face 96x120", |b| b.iter(|| measure(black_box(planes), face)));
    c.bench_function("crop 154x192", |b| b.iter(|| crop_planes(black_box(planes), wide, 0)));
    c.bench_function("crop 154x192 scaled to 112", |b| b.iter(|| crop_planes(black_box(planes), wide, 112)));
    c.bench_function("crop 154x192 + jpeg q90", |b| {
        b.iter(|| jpeg(crop_planes(black_box(planes), wide, 0).expect("inside").view(), 90));
    });
    c.bench_function("jpeg 1280x720 q80", |b| b.iter(|| jpeg(black_box(planes), 80)));
    c.bench_function("snapshot: 720p to 960, jpeg q80", |b| {
        let whole = Rect { x: 0.0, y: 0.0, width: 1280.0, height: 720.0 };
        b.iter(|| jpeg(crop_planes(black_box(planes), whole, 960).expect("inside").view(), 80));
    });
    // The pictures of `tests/bench/nvjpeg.py`, in full range as there.
    for (width, height) in [(112, 112), (160, 200), (320, 400)] {
        let plane = |w: u32, h: u32| {
            (0..h).flat_map(move |y| (0..w).map(move |x| (128 + (x * 5 + y * 3) % 48 + (x * y) % 7) as u8))
        };
        let chroma = || plane(width / 2, height / 2);
        let data = plane(width, height).chain(chroma()).chain(chroma()).collect();
        let picture = HostPicture::new(width, height, data, true, ColorMatrix::Bt601).expect("the size fits");
        c.bench_function(&format!("jpeg {width}x{height} q90, as nvJPEG"), |b| {
            b.iter(|| jpeg(black_box(picture.view()), 90))
        });
    }
    let crop = crop_planes(planes, wide, 0).expect("inside");
    c.bench_function("rgb 154x192", |b| b.iter(|| rgb(black_box(crop.view()), 0)));
}

criterion_group!(all, benches);
criterion_main!(all);
