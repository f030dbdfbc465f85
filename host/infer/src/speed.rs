//! How fast a model runs on a GPU, for `facestream bench gpu`.
//!
//! Owns timing of runs alone (nothing is laid in, candidates are read). Must not be used by the service.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use facestream_gpu::Gpu;
use serde::Serialize;

use crate::config::{InferConfig, Provider};
use crate::device::DeviceModel;
use crate::error::InferError;
use crate::load::source_of;

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Speed {
    /// Provider.
    pub provider: &'static str,
    /// Whether runs were captured as a CUDA graph.
    pub graph: bool,
    /// Pictures a run.
    pub batch: usize,
    /// Sessions side by side.
    pub sessions: usize,
    /// Pictures a second of all sessions.
    pub images_per_second: f64,
    /// Median milliseconds of a run, as one session sees it.
    pub median_ms: f64,
    /// 99th percentile of the same.
    pub p99_ms: f64,
}

/// Measures every batch size with every number of sessions.
///
/// # Errors
/// When the model cannot be used with this provider.
pub fn measure(
    path: &Path,
    config: &InferConfig,
    gpu: &Arc<Gpu>,
    provider: Provider,
    graph: bool,
    (batches, sessions): (&[usize], &[usize]),
    time: Duration,
) -> Result<Vec<Speed>, InferError> {
    let source = source_of(path)?;
    let mut lines = Vec::new();
    if graph {
        // A session keeps one graph, that of its first binding, so each batch size gets a session of its own.
        for &batch in batches {
            let config = InferConfig { max_batch: batch, cuda_graphs: true, ..config.clone() };
            let model = DeviceModel::load(source.clone(), gpu, provider, &config, Vec::new())?;
            if batch <= model.largest_batch() {
                for &sessions in sessions {
                    lines.push(line(&model, provider, graph, batch, sessions, time)?);
                }
            }
        }
        return Ok(lines);
    }
    let model = DeviceModel::load(source, gpu, provider, config, Vec::new())?;
    for &sessions in sessions {
        for &batch in batches.iter().filter(|b| **b <= model.largest_batch()) {
            lines.push(line(&model, provider, graph, batch, sessions, time)?);
        }
    }
    Ok(lines)
}

fn line(
    model: &DeviceModel,
    provider: Provider,
    graph: bool,
    batch: usize,
    sessions: usize,
    time: Duration,
) -> Result<Speed, InferError> {
    let mut backends = (0..sessions).map(|_| model.session()).collect::<Result<Vec<_>, _>>()?;
    let (done, stop, ready) = (AtomicU64::new(0), AtomicBool::new(false), Barrier::new(sessions + 1));
    let mut times: Vec<f64> = Vec::new();
    let mut rate = 0.0;
    std::thread::scope(|scope| -> Result<(), InferError> {
        let workers: Vec<_> = backends
            .iter_mut()
            .map(|backend| {
                let (done, stop, ready) = (&done, &stop, &ready);
                scope.spawn(move || -> Result<Vec<f64>, InferError> {
                    let warm = (0..5).try_for_each(|_| backend.run_alone(batch));
                    ready.wait();
                    warm?;
                    let mut times = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let started = Instant::now();
                        backend.run_alone(batch)?;
                        times.push(started.elapsed().as_secs_f64() * 1e3);
                        done.fetch_add(batch as u64, Ordering::Relaxed);
                    }
                    Ok(times)
                })
            })
            .collect();
        ready.wait();
        let (before, started) = (done.load(Ordering::Relaxed), Instant::now());
        std::thread::sleep(time);
        rate = (done.load(Ordering::Relaxed) - before) as f64 / started.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        for worker in workers {
            times.extend(worker.join().map_err(|_| InferError::Panicked("a session of the benchmark".to_owned()))??);
        }
        Ok(())
    })?;
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times.get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1)));
    Ok(Speed {
        provider: provider.as_str(),
        graph,
        batch,
        sessions,
        images_per_second: rate,
        median_ms: at(0.5).copied().unwrap_or(0.0),
        p99_ms: at(0.99).copied().unwrap_or(0.0),
    })
}
