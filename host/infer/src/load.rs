//! Loading a model where it runs best: the first provider of the configuration that works here.
//!
//! Owns the order of trying and the reasons for what was passed over. How a model runs is `model.rs`' (processor) and
//! `device.rs`' (GPU) business.

use std::path::Path;
use std::sync::Arc;

use facestream_gpu::{Gpu, GpuError};

use crate::backend::Detector;
use crate::config::{Device, InferConfig, Provider};
use crate::device::{DeviceModel, Source};
use crate::engine_file;
use crate::error::InferError;
use crate::family::{self, Family};
use crate::model::{Model, ModelInfo, name_of, read_file, sha256_of};
use crate::onnx;

/// The GPUs that `device` speaks of, opened, and why there are none where some may have been expected.
///
/// # Errors
/// When one was named and cannot be used.
pub fn gpus(device: Device) -> Result<(Vec<Arc<Gpu>>, Option<GpuError>), GpuError> {
    match device {
        Device::Cpu => Ok((Vec::new(), None)),
        Device::Cuda(ordinal) => Ok((vec![Gpu::open(ordinal)?], None)),
        Device::Auto => {
            let opened = facestream_gpu::count().and_then(|n| (0..n).map(Gpu::open).collect::<Result<Vec<_>, _>>());
            Ok(opened.map_or_else(|error| (Vec::new(), Some(error)), |gpus| (gpus, None)))
        }
    }
}

/// Loads a model with the first of `config.providers` that works: on `gpu` those of GPUs, without one those of processors.
///
/// # Errors
/// As [`Model::load`]; and when only GPU providers are allowed, or the file is a TensorRT engine, and none of them works.
pub fn load(
    path: &Path,
    config: &InferConfig,
    gpu: Option<&Arc<Gpu>>,
) -> Result<(Arc<dyn Detector>, ModelInfo), InferError> {
    let problems = config.validate();
    if !problems.is_empty() {
        return Err(InferError::Config(problems.join("; ")));
    }
    let mut notes = Vec::new();
    let on_gpus = config.providers.iter().filter(|p| matches!(p, Provider::TensorRt | Provider::Cuda));
    if let Some(gpu) = gpu {
        let mut source = None;
        for &provider in on_gpus {
            let read = match &source {
                Some(source) => source,
                None => source.insert(source_of(path)?),
            };
            if read.is_engine && provider != Provider::TensorRt {
                continue;
            }
            match DeviceModel::load(read.clone(), gpu, provider, config, notes.clone()) {
                Ok(model) => {
                    let info = model.info().clone();
                    return Ok((model, info));
                }
                Err(error) => notes.push(format!("{} on cuda:{}: {error}", provider.as_str(), gpu.ordinal())),
            }
        }
    }
    let elsewhere = config.providers.iter().any(|p| matches!(p, Provider::Cpu | Provider::OpenVino));
    if engine_file::is_engine(path) || !elsewhere {
        let reason = match (gpu, notes.is_empty()) {
            (None, _) => {
                "this machine has none that can be used, or `device` says not to (`facestream doctor`)".to_owned()
            }
            (Some(_), true) => "`providers` allows neither `tensorrt` nor `cuda`".to_owned(),
            (Some(_), false) => notes.join("; "),
        };
        return Err(InferError::NeedsGpu { model: name_of(path), reason });
    }
    let model = Model::load(path, config)?;
    let mut info = model.describe().clone();
    for note in &notes {
        tracing::warn!(model = info.name, "{note}; the processor analyses instead");
    }
    info.notes.splice(0..0, notes);
    Ok((model, info))
}

/// Reads a model for a GPU.
pub(crate) fn source_of(path: &Path) -> Result<Source, InferError> {
    let (bytes, name) = (read_file(path)?, name_of(path));
    let sha256 = sha256_of(&bytes);
    let unknown = |(found, expected)| InferError::UnknownFamily { model: name.clone(), found, expected };
    if engine_file::is_engine(path) {
        let engine = engine_file::read(path, &bytes)?;
        let family: Arc<dyn Family> = family::recognise(&engine.description).map_err(unknown)?.into();
        let max_batch = Some(engine.max_batch);
        return Ok(Source {
            name,
            sha256,
            family,
            description: engine.description,
            bytes: engine.model,
            full: engine.full,
            max_batch,
            is_engine: true,
        });
    }
    let not_onnx = |e: onnx::OnnxError| InferError::NotOnnx { model: name.clone(), reason: e.to_string() };
    let description = onnx::describe(&bytes).map_err(not_onnx)?;
    let family = family::recognise(&description).map_err(unknown)?;
    let input = description.inputs.first().map_or("", |i| i.name.as_str());
    let (bytes, family) = match family.rework(&bytes, input, false) {
        Some(reworked) => (reworked.bytes, reworked.family),
        None => (bytes, family),
    };
    let bytes = onnx::mend(&bytes, family.freeing()).map_err(not_onnx)?;
    let description = onnx::describe(&bytes).map_err(not_onnx)?;
    Ok(Source {
        name,
        sha256,
        family: family.into(),
        description,
        bytes,
        full: None,
        max_batch: None,
        is_engine: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_or_gpu_providers_alone_are_refused_without_a_gpu() {
        let dir = tempfile::tempdir().unwrap();
        let engine = dir.path().join("face.engine");
        std::fs::write(&engine, b"engine").unwrap();
        let error = load(&engine, &InferConfig::default(), None).err().unwrap();
        assert!(matches!(&error, InferError::NeedsGpu { model, .. } if model == "face"), "{error}");
        assert!(error.to_string().contains("facestream doctor"), "{error}");
        let only = InferConfig { providers: vec![Provider::TensorRt], ..InferConfig::default() };
        assert!(matches!(load(&dir.path().join("x.onnx"), &only, None), Err(InferError::NeedsGpu { .. })));
    }

    #[test]
    fn a_device_that_is_not_there_is_refused_when_named_and_passed_over_when_not() {
        assert!(gpus(Device::Cpu).unwrap().0.is_empty());
        assert!(gpus(Device::Cuda(4_000)).is_err());
        let (found, why) = gpus(Device::Auto).unwrap();
        assert_eq!(found.is_empty(), why.is_some());
    }
}
