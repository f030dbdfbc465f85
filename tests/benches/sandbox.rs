//! What the sandbox costs a tracker: component and native build take turns over the same recording, beside the component
//! on an engine without deadlines and limits, and a component that does nothing, whose time is that of the crossing alone.
//! Then how long the making of an instance takes.
//!
//!     taskset -c 1 cargo bench --workspace --bench sandbox [-- ROUNDS]
//!
//! Alternating rounds on one core, so that a busy machine hurts all alike; the median round counts, the best one is shown
//! too.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use facestream_guest_host::{GuestComponent, GuestEngine};
use facestream_test_support::asset;
use facestream_tests::{components, recordings};

/// The native build, waiting for a line for each round.
struct Native {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Native {
    fn start(program: &std::path::Path, tracker: &str, recording: &std::path::Path) -> Self {
        let mut command = Command::new(program);
        command.args(["time", tracker]).arg(recording).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stdin = child.stdin.take();
        Self { child, stdin, stdout }
    }

    /// Nanoseconds of a whole recording.
    fn round(&mut self) -> f64 {
        writeln!(self.stdin.as_mut().unwrap()).unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        drop(self.stdin.take());
        self.child.wait().unwrap();
    }
}

/// As `facestream-native time` does: a fresh instance, the calls alone.
fn sandboxed(component: &GuestComponent, recording: &[recordings::Recorded]) -> f64 {
    let mut guest = recordings::tracker(component);
    let mut nanoseconds = 0.0;
    for f in recording {
        let began = Instant::now();
        let update = guest.advance(&f.info, &f.detections, f.motion);
        nanoseconds += began.elapsed().as_nanos() as f64;
        drop(update.unwrap());
    }
    nanoseconds
}

/// Median and best of the rounds, microseconds a frame.
fn summary(mut rounds: Vec<f64>, frames: usize) -> (f64, f64) {
    rounds.sort_unstable_by(f64::total_cmp);
    let us = |ns: f64| ns / 1000.0 / frames as f64;
    (us(rounds[rounds.len() / 2]), us(rounds[0]))
}

/// Making a fresh instance of each tracker, and throwing it away.
fn instances(engine: &GuestEngine) {
    println!("microseconds to make an instance, of 3000");
    for tracker in ["botsort", "bytetrack"] {
        let bytes = std::fs::read(asset(&format!("guests/{tracker}.wasm")).unwrap()).unwrap();
        let component = recordings::compiled(engine, &bytes);
        let mut samples: Vec<f64> = (0..3000)
            .map(|_| {
                let began = Instant::now();
                let guest = recordings::instance(&component);
                let took = began.elapsed().as_nanos() as f64 / 1000.0;
                drop(guest);
                took
            })
            .collect();
        samples.sort_unstable_by(f64::total_cmp);
        let at = |p: f64| samples[((samples.len() - 1) as f64 * p) as usize];
        println!("{tracker}: p50 {:.1}, p99 {:.1}, worst {:.1}", at(0.5), at(0.99), at(1.0));
    }
}

fn main() {
    let rounds = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(200_usize);
    let program = recordings::native_program().unwrap_or_else(|e| panic!("{e}"));
    let dir = tempfile::tempdir().unwrap();
    let engine = recordings::engine();
    let unbounded = GuestEngine::unbounded_for_measurement(engine.config()).unwrap();
    let empty = recordings::compiled(&engine, &components::tracker("(call $ok)"));
    instances(&engine);
    println!("microseconds a frame, median (best) of {rounds} rounds of 600 frames");
    for tracker in ["botsort", "bytetrack"] {
        let bytes = std::fs::read(asset(&format!("guests/{tracker}.wasm")).unwrap()).unwrap();
        let component = recordings::compiled(&engine, &bytes);
        let free = recordings::compiled(&unbounded, &bytes);
        for (boxes, landmarks) in [(15, true), (60, false), (60, true)] {
            let recording = recordings::grid(boxes, 600, landmarks);
            let path = dir.path().join("recording.txt");
            std::fs::write(&path, recordings::text(&recording)).unwrap();
            let mut native = Native::start(&program, tracker, &path);
            let mut samples = [const { Vec::new() }; 4];
            for _ in 0..rounds {
                samples[0].push(native.round());
                samples[1].push(sandboxed(&component, &recording));
                samples[2].push(sandboxed(&free, &recording));
                samples[3].push(sandboxed(&empty, &recording));
            }
            let [native, wasm, free, crossing] = samples.map(|rounds| summary(rounds, recording.len()));
            println!(
                "{tracker} {boxes} boxes{}: native {:.2} ({:.2}), component {:.2} ({:.2}) = {:.2} times ({:.2}), \
                 without deadlines and limits {:.2} ({:.2}): they cost {:.0} %, empty component {:.2} ({:.2})",
                if landmarks { " with landmarks" } else { "" },
                native.0,
                native.1,
                wasm.0,
                wasm.1,
                wasm.0 / native.0,
                wasm.1 / native.1,
                free.0,
                free.1,
                (wasm.0 / free.0 - 1.0) * 100.0,
                crossing.0,
                crossing.1,
            );
        }
    }
}
