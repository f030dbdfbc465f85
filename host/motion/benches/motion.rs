//! One frame's cost: scaling, corners, flow and fit, on one core.
//!
//! `cargo bench --workspace --bench motion`
#![allow(missing_docs)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use facestream_core::frame::{ColorMatrix, Frame, FrameInfo};
use facestream_core::geometry::Rect;
use facestream_motion::MotionEstimator;
use facestream_pixels::HostPicture;

/// A textured world seen through a window that moves: blocks of many sizes, with noise.
fn frame(width: u32, height: u32, n: u32) -> Frame {
    let (dx, dy) = (9 * (n % 8), 5 * (n % 8));
    let hash = |x: u32, y: u32, size: u32| {
        let mut h = (x / size).wrapping_mul(0x9e37_79b1) ^ (y / size).wrapping_mul(0x85eb_ca6b) ^ size;
        h ^= h >> 15;
        h = h.wrapping_mul(0x2c1b_3c6d);
        (h ^ (h >> 12)) & 63
    };
    let mut data: Vec<u8> = (0..width * height)
        .map(|i| {
            let (x, y) = (i % width + dx, i / width + dy);
            (16 + hash(x, y, 61) + hash(x, y, 23) + hash(x, y, 7) / 2 + hash(i, n, 1) / 16) as u8
        })
        .collect();
    data.resize((width * height * 3 / 2) as usize, 128);
    let picture = HostPicture::new(width, height, data, false, ColorMatrix::Bt709).expect("the size fits");
    let timestamp_ns = u64::from(n) * 40_000_000;
    let info = FrameInfo { session: 1, sequence: n.into(), timestamp_ns, captured_at_ns: timestamp_ns, width, height };
    Frame { info, picture: Arc::new(picture) }
}

fn benches(c: &mut Criterion) {
    for (name, width, height) in [("720p", 1280, 720), ("1080p", 1920, 1080)] {
        let frames: Vec<Frame> = (0..16).map(|n| frame(width, height, n)).collect();
        let faces: Vec<Rect> =
            (0..15_u8).map(|i| Rect { x: 80.0 * f32::from(i), y: 300.0, width: 48.0, height: 60.0 }).collect();
        let mut estimator = MotionEstimator::new();
        let mut n = 0;
        c.bench_function(&format!("estimate motion {name}"), |b| {
            b.iter(|| {
                n = (n + 1) % frames.len();
                // Back at the first frame the picture jumps by 7 steps, once in 8 calls; it costs the same.
                estimator.estimate(black_box(&frames[n]), &faces)
            });
        });
    }
}

criterion_group!(all, benches);
criterion_main!(all);
