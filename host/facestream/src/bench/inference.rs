//! Images a second of the model by batch, sessions and provider.

use std::path::PathBuf;

use anyhow::Context as _;
use facestream_infer::speed::{Speed, measure as speed};
use facestream_infer::{InferConfig, Provider};

use super::{Bench, SHORT};
use crate::assets::Assets;

pub(super) fn measure(bench: &Bench<'_>) -> anyhow::Result<Vec<Speed>> {
    let (path, config) = (model_file(bench)?, inference_config(bench)?);
    println!("inference: {}", path.display());
    let mut wanted = vec![(Provider::TensorRt, false)];
    if bench.args.with_graphs {
        wanted.push((Provider::TensorRt, true));
    }
    if bench.args.with_cuda {
        wanted.push((Provider::Cuda, false));
    }
    let mut lines = Vec::new();
    for (provider, graph) in wanted {
        // CUDA kernels are chosen anew for every batch size, seconds each: fewer of them.
        let sessions: &[usize] = if provider == Provider::TensorRt { &[1, 2, 3] } else { &[1] };
        let found = speed(&path, &config, &bench.gpu, provider, graph, (&bench.args.batches, sessions), SHORT);
        match found {
            Ok(found) => lines.extend(found),
            Err(error) => println!("  {} not measured: {error}", provider.as_str()),
        }
    }
    for line in &lines {
        let kind = if line.graph { "graph" } else { "" };
        println!(
            "  {:<8} {kind:<5} batch {:>2}, {} session(s): {:>6.0} img/s, {:.2} ms a run (p99 {:.2})",
            line.provider, line.batch, line.sessions, line.images_per_second, line.median_ms, line.p99_ms
        );
    }
    Ok(lines)
}

/// The file of the model: a name of the assets, or a file.
fn model_file(bench: &Bench<'_>) -> anyhow::Result<PathBuf> {
    let named = PathBuf::from(&bench.args.model);
    if named.is_file() {
        return Ok(named);
    }
    let file = Assets::find()?.models().join(format!("{}.onnx", bench.args.model));
    file.is_file()
        .then_some(file)
        .with_context(|| format!("`{}` is neither a file nor a known model", bench.args.model))
}

/// With the runtime's library and the folder for engines that the service would use.
fn inference_config(bench: &Bench<'_>) -> anyhow::Result<InferConfig> {
    let models = crate::parts::models(&bench.config.infer, &bench.args.model, None, true)?;
    Ok(models.config().clone())
}
