//! What the flight recorder costs a camera: the three built-in guests over the same recording, with and without it, in
//! turns. `guests.recorder.seconds` is the host's own number, or 0.
//!
//!     cargo bench --workspace --bench recorder [-- ROUNDS]
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::sync::Arc;
use std::time::Instant;

use facestream_core::frame::ColorMatrix;
use facestream_core::{CameraId, CameraMetrics, Frame, Picture};
use facestream_guest_host::{
    CameraGuests, GuestComponent, GuestConfig, GuestEngine, GuestSet, RecorderConfig, SlotGuest,
};
use facestream_pixels::HostPicture;
use facestream_test_support::asset;
use facestream_tests::recordings::{self, Recorded};
use serde_json::json;

/// Noise, so that sharpness has something to measure.
fn picture() -> Arc<dyn Picture> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let data = (0..1280 * 720 * 3 / 2).map(|_| next()).collect();
    Arc::new(HostPicture::new(1280, 720, data, false, ColorMatrix::Bt709).unwrap())
}

/// Microseconds a frame.
fn round(config: &GuestConfig, set: &GuestSet, recording: &[Recorded], picture: &Arc<dyn Picture>) -> f64 {
    let id = CameraId::new("camera").unwrap();
    let mut guests = CameraGuests::new(&id, set.clone(), config, Arc::new(CameraMetrics::default())).unwrap();
    let began = Instant::now();
    for recorded in recording {
        let frame = Frame { info: recorded.info, picture: Arc::clone(picture) };
        drop(guests.process(&frame, &recorded.detections, recorded.motion));
    }
    began.elapsed().as_secs_f64() * 1e6 / recording.len() as f64
}

fn main() {
    let rounds = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(15_usize);
    let on = GuestConfig { max_instances: 16, ..GuestConfig::default() };
    let off = GuestConfig { recorder: RecorderConfig { seconds: 0, ..RecorderConfig::default() }, ..on.clone() };
    let picture = picture();
    println!("median of {rounds} rounds in turns, microseconds a frame\n");
    for (people, frames) in [(5, 1_000), (15, 600), (60, 200)] {
        let recording = recordings::crowd(people, frames, 7);
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (config, times) in [&off, &on].into_iter().zip(&mut times) {
                let engine = GuestEngine::new(config).unwrap();
                let guest = |name: &str| {
                    let bytes = std::fs::read(asset(&format!("guests/{name}.wasm")).unwrap()).unwrap();
                    SlotGuest::new(name, GuestComponent::load(&engine, &bytes).unwrap(), json!({}))
                };
                let set = GuestSet {
                    tracker: guest("botsort"),
                    scorer: guest("best-shot"),
                    formatter: guest("gate-and-mega"),
                };
                times.push(round(config, &set, &recording, &picture));
            }
        }
        let [off, on] = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        });
        println!("{people:>3} people   without {off:>8.1}   with {on:>8.1}   {:+.1} us, {:.3}x", on - off, on / off);
    }
}
