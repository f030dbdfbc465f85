//! What the sandbox costs: a call with 60 boxes, an instance, a swap.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/kit/mod.rs"]
mod kit;

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use facestream_core::guest::SlotKind;
use facestream_core::{CameraId, Detection};
use facestream_guest_host::{GuestEnv, GuestLimits, TrackerGuest};

fn env() -> GuestEnv {
    GuestEnv { camera: CameraId::new("bench").unwrap(), guest: "bench".to_owned(), limits: GuestLimits::default() }
}

/// Percentiles of single runs, which criterion's means hide.
fn percentiles(name: &str, mut samples: Vec<Duration>) {
    samples.sort_unstable();
    let at = |p: f64| samples[((samples.len() - 1) as f64 * p) as usize].as_nanos() as f64 / 1000.0;
    println!("{name}: p50 {:.1} µs, p99 {:.1} µs, worst {:.1} µs of {}", at(0.5), at(0.99), at(1.0), samples.len());
}

fn calls(c: &mut Criterion) {
    let engine = kit::engine();
    for (name, bodies) in [("empty", &[("advance", "(call $ok)")][..]), ("echo", &[][..])] {
        let component = kit::load(&engine, &kit::tracker(bodies));
        let mut guest = TrackerGuest::instantiate(&component, &env()).unwrap();
        guest.configure(&serde_json::json!({})).unwrap();
        let frame = kit::frame(0);
        let with = kit::detections(60);
        let without: Vec<_> = with.iter().map(|d| Detection { landmarks: None, ..*d }).collect();
        for (what, detections) in [("no boxes", &[][..]), ("60 boxes", &without), ("60 boxes with landmarks", &with)] {
            c.bench_function(&format!("tracker {name}, {what}"), |b| {
                b.iter(|| guest.advance(&frame.info, detections, None).unwrap());
            });
        }
    }
}

fn frames(c: &mut Criterion) {
    let mut rig = kit::rig(kit::config(), None, None, None);
    let detections = kit::detections(10);
    let mut n = 0;
    c.bench_function("three guests, 10 faces, one frame", |b| {
        b.iter(|| {
            n += 1;
            rig.guests.process(&kit::frame(n), &detections, None)
        });
    });
}

fn instances(_: &mut Criterion) {
    let engine = kit::engine();
    let component = kit::load(&engine, &kit::tracker(&[]));
    let samples = (0..2000)
        .map(|_| {
            let began = Instant::now();
            let guest = TrackerGuest::instantiate(&component, &env()).unwrap();
            let took = began.elapsed();
            drop(guest);
            took
        })
        .collect();
    percentiles("instantiate", samples);
}

fn swaps(_: &mut Criterion) {
    for kind in SlotKind::ALL {
        let mut rig = kit::rig(kit::config(), None, None, None);
        let component = kit::load(
            &rig.engine,
            &match kind {
                SlotKind::Tracker => kit::tracker(&[]),
                SlotKind::Scorer => kit::scorer(&[]),
                SlotKind::Formatter => kit::formatter(&[]),
            },
        );
        let detections = kit::detections(20);
        let samples = (0..1000)
            .map(|n| {
                rig.guests.process(&kit::frame(n), &detections, None);
                let prepared = rig.guests.factory().prepare(kind, kit::slot_guest("g", &component)).unwrap();
                Duration::from_micros(rig.guests.commit_swap(prepared).unwrap().0.pause_us)
            })
            .collect();
        percentiles(&format!("swap pause, {kind}"), samples);
    }
}

criterion_group!(benches, calls, frames, instances, swaps);
criterion_main!(benches);
