//! GPUs in metrics: cameras placed, memory, and what a GPU has to say when it is lost.

use std::sync::Arc;

use facestream_api::control::{MetricFamily, MetricKind, MetricSample};
use facestream_gpu::Gpu;
use facestream_pipeline::Gpus;

/// One family a number, one row a GPU. A GPU that does not answer has no row of free memory, and a
/// line in the log.
pub(super) fn metrics(gpus: &Gpus) -> Vec<MetricFamily> {
    let counts = gpus.counts();
    if counts.is_empty() {
        return Vec::new();
    }
    let family = |name: &str, help: &str, value: &dyn Fn(&Arc<Gpu>, usize) -> Option<f64>| MetricFamily {
        name: format!("facestream_gpu_{name}"),
        help: help.to_owned(),
        kind: MetricKind::Gauge,
        samples: counts
            .iter()
            .filter_map(|(gpu, cameras)| {
                let labels = vec![("gpu".to_owned(), gpu.ordinal().to_string())];
                Some(MetricSample { labels, value: value(gpu, *cameras)? })
            })
            .collect(),
    };
    let free = |gpu: &Arc<Gpu>| match gpu.memory() {
        Ok(memory) => Some(memory.free as f64),
        Err(error) => {
            tracing::error!(%error, "a GPU does not answer");
            None
        }
    };
    vec![
        family("cameras", "Cameras placed on the GPU.", &|_, cameras| Some(cameras as f64)),
        family("memory_bytes", "Device memory of the GPU.", &|gpu, _| Some(gpu.info().memory as f64)),
        family("memory_free_bytes", "Device memory that nobody uses.", &|gpu, _| free(gpu)),
        family("picture_bytes", "Device memory of frames on their way.", &|gpu, _| Some(gpu.picture_bytes() as f64)),
    ]
}
