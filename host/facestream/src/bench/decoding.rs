//! Frames a second that the GPU's decoders give, by number of decoders working flat out.

use std::sync::Arc;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use facestream_core::media::AccessUnit;
use facestream_core::{CameraMetrics, SystemClock};
use facestream_decode::{Acceleration, ClipReader, DecodeConfig, open_decoder};
use serde::Serialize;

use super::cpu::cpu_seconds;
use super::{Bench, SHORT};

/// One number of decoders.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Line {
    decoders: usize,
    fps: f64,
    cpu_cores: f64,
    open_seconds: f64,
}

pub(super) fn measure(bench: &Bench<'_>) -> anyhow::Result<Vec<Line>> {
    let clip = ClipReader::open(&bench.clip)?;
    let params = clip.params().clone();
    let units = clip.collect::<Result<Vec<AccessUnit>, _>>()?;
    println!("decode: {} {}", params.codec.as_str(), bench.clip.display());
    let mut lines = Vec::new();
    for &decoders in &bench.args.decoders {
        let (count, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let ready = Barrier::new(decoders + 1);
        let started = Instant::now();
        let line = std::thread::scope(|scope| -> anyhow::Result<Line> {
            let threads: Vec<_> = (0..decoders)
                .map(|_| {
                    let (params, units, count, stop, ready) = (&params, &units, &count, &stop, &ready);
                    scope.spawn(move || -> anyhow::Result<()> {
                        let config = DecodeConfig { acceleration: Acceleration::Cuda, ..bench.config.decode.clone() };
                        let (metrics, clock) = (Arc::new(CameraMetrics::default()), Arc::new(SystemClock::default()));
                        let mut waiting = true;
                        let decode = || -> anyhow::Result<()> {
                            let mut decoder = open_decoder(params, &config, Some(&bench.gpu), metrics, clock)?;
                            for unit in units.iter().cycle() {
                                if stop.load(Ordering::Relaxed) {
                                    return Ok(());
                                }
                                let report = decoder.decode(unit, &mut |_| {
                                    count.fetch_add(1, Ordering::Relaxed);
                                })?;
                                if waiting && report.frames > 0 {
                                    waiting = false;
                                    ready.wait();
                                }
                            }
                            Ok(())
                        };
                        let done = decode();
                        // Whoever fails before its first frame must not hold up the others.
                        if waiting {
                            ready.wait();
                        }
                        done
                    })
                })
                .collect();
            ready.wait();
            let open_seconds = started.elapsed().as_secs_f64();
            std::thread::sleep(SHORT / 5);
            let (before, cpu, begun) = (count.load(Ordering::Relaxed), cpu_seconds(), Instant::now());
            std::thread::sleep(SHORT);
            let (frames, time) = (count.load(Ordering::Relaxed) - before, begun.elapsed().as_secs_f64());
            let cpu_cores = (cpu_seconds() - cpu) / time;
            stop.store(true, Ordering::Relaxed);
            for thread in threads {
                thread.join().map_err(|_| anyhow::anyhow!("a decoder's thread panicked"))??;
            }
            Ok(Line { decoders, fps: frames as f64 / time, cpu_cores, open_seconds })
        })?;
        println!(
            "  {:>3} decoders {:>7.0} frames/s {:>5.2} cores, opened in {:.1} s",
            line.decoders, line.fps, line.cpu_cores, line.open_seconds
        );
        lines.push(line);
    }
    Ok(lines)
}
