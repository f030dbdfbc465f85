//! What TensorRT needs around it: its library, its version, and the folder for the engines that it builds.

#![allow(unsafe_code)]

use std::path::PathBuf;

use facestream_gpu::GpuInfo;
use libloading::{Library, Symbol};

use crate::config::InferConfig;
use crate::model::ModelInfo;

/// The library that ONNX Runtime's TensorRT provider is linked to.
const LIBRARY: &str = "libnvinfer.so.10";

/// TensorRT's version, e.g. `10.6.0`.
///
/// # Errors
/// In words, when it is not there.
pub fn version() -> Result<String, String> {
    // SAFETY: loading it runs its initialisers, as ONNX Runtime's provider would a moment later.
    let library = unsafe { Library::new(LIBRARY) }.map_err(|e| {
        format!("TensorRT is not there ({e}); install TensorRT 10 and put its folder into LD_LIBRARY_PATH")
    })?;
    // SAFETY: `int32_t getInferLibVersion()` of NvInferRuntimeBase.h takes nothing and has no side effects.
    let number = unsafe {
        let version: Symbol<'_, unsafe extern "C" fn() -> i32> =
            library.get(b"getInferLibVersion\0").map_err(|e| format!("{LIBRARY} is no TensorRT: {e}"))?;
        version()
    };
    // It stays loaded: unloading CUDA libraries while others use CUDA is asking for trouble.
    std::mem::forget(library);
    // NV_TENSORRT_VERSION is major * 10,000 + minor * 100 + patch since version 10.
    Ok(format!("{}.{}.{}", number / 10_000, number % 10_000 / 100, number % 100))
}

/// Whether TensorRT can build engines here. ONNX Runtime's provider does not ask: without the builder's library it brings the
/// process down (seen with ONNX Runtime 1.31.1 and TensorRT 10.6).
///
/// # Errors
/// In words, when the builder's library is missing.
pub(super) fn can_build() -> Result<(), String> {
    let name = format!("libnvinfer_builder_resource.so.{}", version()?);
    // SAFETY: as `version`; the library is TensorRT's own, and TensorRT would load it a moment later.
    let library = unsafe { Library::new(&name) }.map_err(|e| {
        format!(
            "TensorRT's builder is not there ({e}); without it only engines that were built elsewhere (*.engine) run"
        )
    })?;
    std::mem::forget(library);
    Ok(())
}

/// Where the engines of this model on this machine go: an engine works only with the model, input size, GPU, driver and
/// TensorRT that it was built with.
pub(super) fn cache_folder(config: &InferConfig, info: &ModelInfo, gpu: &GpuInfo, size: (u32, u32)) -> Option<PathBuf> {
    let root = config.engine_cache.as_ref()?;
    let version = version().ok()?;
    Some(root.join(folder_name(info, gpu, size, &version)))
}

fn folder_name(info: &ModelInfo, gpu: &GpuInfo, (width, height): (u32, u32), tensorrt: &str) -> String {
    let plain = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
    };
    let model = info.sha256.get(..16).unwrap_or(&info.sha256);
    format!("{model}-{width}x{height}-{}-cuda{}-trt{}", plain(&gpu.name), plain(&gpu.driver), plain(tensorrt))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Provider;

    #[test]
    fn engines_of_another_model_gpu_driver_version_or_size_go_elsewhere() {
        let info = |sha: &str| ModelInfo {
            name: "face".to_owned(),
            family: "YOLO",
            sha256: sha.to_owned(),
            fixed_size: None,
            provider: Provider::TensorRt,
            gpu: Some(0),
            images_per_second: None,
            notes: Vec::new(),
        };
        let gpu = |name: &str, driver: &str| GpuInfo {
            ordinal: 0,
            name: name.to_owned(),
            capability: "9.0".to_owned(),
            memory: 0,
            driver: driver.to_owned(),
        };
        let of = [
            folder_name(&info("aa"), &gpu("NVIDIA H200", "13.0"), (640, 640), "10.6.0"),
            folder_name(&info("ab"), &gpu("NVIDIA H200", "13.0"), (640, 640), "10.6.0"),
            folder_name(&info("aa"), &gpu("NVIDIA H100 80GB/x", "13.0"), (640, 640), "10.6.0"),
            folder_name(&info("aa"), &gpu("NVIDIA H200", "12.8"), (640, 640), "10.6.0"),
            folder_name(&info("aa"), &gpu("NVIDIA H200", "13.0"), (640, 384), "10.6.0"),
            folder_name(&info("aa"), &gpu("NVIDIA H200", "13.0"), (640, 640), "10.7.0"),
        ];
        for (n, name) in of.iter().enumerate() {
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "-.x".contains(c)), "{name}");
            assert!(!of[..n].contains(name), "{name}");
        }
    }
}
