//! Microseconds a frame of the native tracker at 15, 55 and 60 boxes; the sandbox's cost is measured against it.

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use facestream_botsort::Botsort;
use facestream_guest::testing::{camera, detection, frame};
use facestream_guest::{Detection, Tracker, TrackerRunner};

/// `n` faces on a grid, each swaying; the same for every frame number.
fn faces(n: usize, frame: u64) -> Vec<Detection> {
    (0..n)
        .map(|i| {
            let phase = ((frame as usize * 3 + i * 37) % 120) as f32;
            let sway = if phase < 60.0 { phase } else { 120.0 - phase };
            let (column, row) = ((i % 10) as f32, (i / 10) as f32);
            detection(column * 120.0 + sway, row * 110.0 + sway * 0.5, 60.0, 80.0, if i % 9 == 0 { 0.5 } else { 0.9 })
        })
        .collect()
}

fn advance(c: &mut Criterion) {
    let mut group = c.benchmark_group("botsort_advance");
    for n in [15, 55, 60] {
        let mut runner = TrackerRunner::<Botsort>::new();
        runner.configure(&camera("")).expect("defaults are valid");
        let frames: Vec<_> = (0..600).map(|k| (frame(k, k * 40), faces(n, k))).collect();
        let mut k = 0;
        group.bench_with_input(BenchmarkId::from_parameter(n), &n, |b, _| {
            b.iter_batched(
                || {
                    k += 1;
                    let (mut info, faces) = frames[k % 600].clone();
                    info.timestamp = k as u64 * 40_000_000;
                    (info, faces)
                },
                |(info, faces)| runner.advance(&info, &faces, None),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
    assert!(!Botsort::SCHEMA.is_empty());
}

criterion_group!(benches, advance);
criterion_main!(benches);
