//! The clock of the cameras: access unit k of a camera is due at its start + k / fps, come what may.
//!
//! Owns pacing, and what a decoder's reordering does to when a frame can be had. Must not know what happens to the units.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use facestream_core::media::{AccessUnit, StreamParams};
use facestream_core::{CameraMetrics, Clock, SystemClock};
use facestream_decode::{Acceleration, DecodeConfig, open_decoder};
use facestream_ingest::IngestEvent;

/// One camera's side of the pacer.
pub(super) struct Source {
    pub(super) send: crossbeam_channel::Sender<IngestEvent>,
    pub(super) phase: Duration,
    pub(super) next: u64,
    /// Until the next key frame everything is left out: a unit found the queue full.
    pub(super) skipping: bool,
    /// Whether the camera runs; before, nothing is sent.
    pub(super) joined: Arc<AtomicBool>,
}

/// What the pacer tells.
#[derive(Default)]
pub(super) struct Paced {
    pub(super) due: AtomicU64,
    pub(super) overflow: AtomicU64,
    /// Units that were sent more than 5 ms late: the pacer itself is behind.
    pub(super) late: AtomicU64,
}

/// Sends access units when they are due, until `stop`.
pub(super) fn pace(
    sources: &mut [Source],
    units: &[AccessUnit],
    fps: f64,
    clock: &dyn Clock,
    (measuring, stop, told): (&AtomicBool, &AtomicBool, &Paced),
) {
    let period = Duration::from_secs_f64(1.0 / fps);
    let (start, start_ns) = (Instant::now(), clock.monotonic_ns());
    // All have one rate, so the order in which they are due is the same in every period.
    let mut order: Vec<usize> = (0..sources.len()).collect();
    let within = |s: &Source| s.phase.as_secs_f64() % period.as_secs_f64();
    order.sort_by(|&a, &b| within(&sources[a]).total_cmp(&within(&sources[b])));
    for round in 0.. {
        for &n in &order {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let source = &mut sources[n];
            let offset = Duration::from_secs_f64(within(source) + f64::from(round) * period.as_secs_f64());
            if offset < source.phase {
                continue;
            }
            let wait = (start + offset).saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                std::thread::sleep(wait);
            }
            // Not before the waiting: with nobody there the clock would run ahead.
            if !source.joined.load(Ordering::Relaxed) {
                continue;
            }
            let due_ns = start_ns + offset.as_nanos() as u64;
            let counted = measuring.load(Ordering::Relaxed);
            if counted {
                told.due.fetch_add(1, Ordering::Relaxed);
                if clock.monotonic_ns().saturating_sub(due_ns) > 5_000_000 {
                    told.late.fetch_add(1, Ordering::Relaxed);
                }
            }
            let k = source.next;
            source.next += 1;
            let unit = &units[(k % units.len() as u64) as usize];
            source.skipping &= !unit.keyframe;
            let lap = k / units.len() as u64 * (units.len() as f64 * 1e9 / fps) as u64;
            let unit = AccessUnit {
                session: 1,
                sequence: k,
                timestamp_ns: unit.timestamp_ns + lap,
                received_ns: due_ns,
                captured_at_ns: due_ns,
                ..unit.clone()
            };
            if source.skipping || source.send.try_send(IngestEvent::AccessUnit(unit)).is_err() {
                source.skipping = true;
                if counted {
                    told.overflow.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// For each frame of the clip, in display order: how much later than its own access unit the one is due with which the
/// decoder gives it out. Found by decoding the clip once; in a loop the last frames come with the next lap's first units.
pub(super) fn reordering(params: &StreamParams, units: &[AccessUnit], fps: f64) -> anyhow::Result<Vec<u64>> {
    let config = DecodeConfig { acceleration: Acceleration::Cpu, ..DecodeConfig::default() };
    let (metrics, clock) = (Arc::new(CameraMetrics::default()), Arc::new(SystemClock::default()));
    let mut decoder = open_decoder(params, &config, None, metrics, clock)?;
    let mut later = Vec::with_capacity(units.len());
    for k in 0..units.len() + 64 {
        let lap = (k / units.len()) as u64;
        let unit = &units[k % units.len()];
        // Its place in decoding order travels as its capture time.
        let unit = AccessUnit {
            sequence: k as u64,
            timestamp_ns: unit.timestamp_ns + lap * (units.len() as f64 * 1e9 / fps) as u64,
            captured_at_ns: k as u64,
            ..unit.clone()
        };
        decoder.decode(&unit, &mut |frame| later.push(k as u64 - frame.info.captured_at_ns))?;
    }
    later.truncate(units.len());
    Ok(later.into_iter().map(|units| (units as f64 * 1e9 / fps) as u64).collect())
}
