//! What the stage `streams` tells.
//!
//! Owns the numbers' names and how they are printed. Must not measure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::percentile;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub(in super::super) struct Summary {
    pub(super) cameras: usize,
    pub(super) seconds: f64,
    pub(super) guests: BTreeMap<String, String>,
    /// From the first camera's start until every one had given a frame.
    pub(super) start_seconds: f64,
    pub(super) frames_due: u64,
    pub(super) frames_decoded: u64,
    pub(super) frames_analysed: u64,
    pub(super) frames_through_guests: u64,
    pub(super) detections: u64,
    pub(super) messages: u64,
    pub(super) message_bytes: u64,
    /// By reason.
    pub(super) drops: BTreeMap<String, u64>,
    /// Milliseconds from when the access unit that completed a frame was due until the guests were through with the frame.
    pub(super) latency_ms: Percentiles,
    /// The same from the frame's own access unit: with B-frames the decoder gives frames out later, in display order.
    pub(super) latency_with_reordering_ms: Percentiles,
    /// The same until a message was accepted.
    pub(super) message_latency_ms: Percentiles,
    pub(super) cpu_cores: f64,
    /// The same by what the threads do.
    pub(super) cores_by_stage: BTreeMap<String, f64>,
    pub(super) gpu_memory_mib: u64,
    pub(super) picture_memory_mib: u64,
    pub(super) mean_batch: f64,
    /// Share of the time that each session was at work.
    pub(super) inference_busy: f64,
    /// Mean microseconds of a guest's call.
    pub(super) guest_call_us: BTreeMap<String, f64>,
    /// Processor cores that guests took.
    pub(super) guest_cores: f64,
    pub(super) held: bool,
    /// What cameras that joined later did to the others, and cost.
    pub(super) joined: Option<Joined>,
}

/// Cameras that were started one after the other while the others ran.
#[derive(Clone, Debug, Serialize)]
pub(in super::super) struct Joined {
    pub(super) cameras: u32,
    /// Time of a frame.
    pub(super) frame_ms: f64,
    /// From the start of one until it gave its first frame.
    pub(super) start_ms: Percentiles,
    /// Of the cameras that ran before, meanwhile: as `latency_ms`.
    pub(super) others_latency_ms: Percentiles,
    /// Of all the time that was measured before.
    pub(super) others_worst_before_ms: f64,
    /// By reason.
    pub(super) drops_of_others: BTreeMap<String, u64>,
    pub(super) cores_each: f64,
    pub(super) gpu_memory_mib_each: f64,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Percentiles {
    p50: f64,
    p95: f64,
    p99: f64,
    pub(super) max: f64,
}

impl Percentiles {
    pub(super) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share| percentile(&values, share);
        Self { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: values.last().copied().unwrap_or(0.0) }
    }
}

pub(super) fn show(s: &Summary) {
    println!(
        "  {} cameras, {:.0} s: {} due, {} decoded, {} analysed, {} through guests; {} detections, {} messages ({:.1} MB); {}",
        s.cameras,
        s.seconds,
        s.frames_due,
        s.frames_decoded,
        s.frames_analysed,
        s.frames_through_guests,
        s.detections,
        s.messages,
        s.message_bytes as f64 / 1e6,
        if s.held { "HELD, nothing dropped".to_owned() } else { format!("NOT HELD: {:?}", s.drops) }
    );
    let line = |what: &str, p: &Percentiles| {
        println!("  {what}: p50 {:.1}, p95 {:.1}, p99 {:.1}, max {:.1} ms", p.p50, p.p95, p.p99, p.max);
    };
    line("access unit due -> guests through", &s.latency_ms);
    line("  the same from the frame's own access unit (B-frames)", &s.latency_with_reordering_ms);
    line("access unit due -> message", &s.message_latency_ms);
    println!(
        "  {:.2} cores (guests {:.2}), {} MiB of GPU memory (pictures {}), mean batch {:.1}, sessions {:.0} % busy, started in {:.1} s",
        s.cpu_cores,
        s.guest_cores,
        s.gpu_memory_mib,
        s.picture_memory_mib,
        s.mean_batch,
        s.inference_busy * 100.0,
        s.start_seconds
    );
    let all: f64 = s.cores_by_stage.values().sum();
    let mut stages: Vec<_> = s.cores_by_stage.iter().collect();
    stages.sort_by(|a, b| b.1.total_cmp(a.1));
    let share =
        |(stage, cores): (&String, &f64)| format!("{stage} {cores:.2} ({:.0} %)", 100.0 * cores / all.max(1e-9));
    println!("  cores by stage: {}", stages.into_iter().map(share).collect::<Vec<_>>().join(", "));
    println!("  mean call of {:?}: {:.0?} us", s.guests, s.guest_call_us);
}

pub(super) fn show_joined(j: &Joined) {
    let later = j.others_latency_ms.max - j.others_worst_before_ms;
    println!(
        "  {} cameras joined: first frame after {:.0} ms (worst {:.0}); the others' worst frame {:.1} ms, {:.1} before \
         ({:+.1} frames of {:.0} ms), drops {:?}; each took {:.3} cores and {:.1} MiB of GPU memory",
        j.cameras,
        j.start_ms.p50,
        j.start_ms.max,
        j.others_latency_ms.max,
        j.others_worst_before_ms,
        later / j.frame_ms,
        j.frame_ms,
        j.drops_of_others,
        j.cores_each,
        j.gpu_memory_mib_each
    );
}
