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

/// Whether TensorRT can build engines for this GPU. ONNX Runtime's provider does not ask: without the builder's library it
/// brings the process down (seen with ONNX Runtime 1.31.1 and TensorRT 10.6).
///
/// # Errors
/// In words, when the builder's library is missing.
pub(super) fn can_build(gpu: &GpuInfo) -> Result<(), String> {
    let mut reasons = Vec::new();
    for name in builders(&version()?, &gpu.capability) {
        // SAFETY: as `version`; the library is TensorRT's own, and TensorRT would load it a moment later.
        match unsafe { Library::new(&name) } {
            Ok(library) => {
                std::mem::forget(library);
                return Ok(());
            }
            Err(e) => reasons.push(e.to_string()),
        }
    }
    Err(format!(
        "TensorRT's builder is not there ({}); without it only engines that were built elsewhere (*.engine) run",
        reasons.join("; ")
    ))
}

/// The libraries of which one holds what the builder needs for a GPU of this compute capability (`9.0`): one for all GPUs
/// (TensorRT 10.6), or one for each kind (TensorRT 10.15).
fn builders(version: &str, capability: &str) -> [String; 2] {
    let kind = capability.replace('.', "");
    [format!("libnvinfer_builder_resource.so.{version}"), format!("libnvinfer_builder_resource_sm{kind}.so.{version}")]
}

/// Where the engines of this model on this machine go: an engine works only with the model, input size, GPU, driver and
/// TensorRT that it was built with; another builder level makes another one.
pub(super) fn cache_folder(config: &InferConfig, info: &ModelInfo, gpu: &GpuInfo, size: (u32, u32)) -> Option<PathBuf> {
    let root = config.engine_cache.as_ref()?;
    let version = version().ok()?;
    Some(root.join(folder_name(info, gpu, size, &version, config.engine_level)))
}

fn folder_name(info: &ModelInfo, gpu: &GpuInfo, (width, height): (u32, u32), tensorrt: &str, level: u8) -> String {
    let plain = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
    };
    let model = info.sha256.get(..16).unwrap_or(&info.sha256);
    format!(
        "{model}-{width}x{height}-{}-cuda{}-trt{}-level{level}",
        plain(&gpu.name),
        plain(&gpu.driver),
        plain(tensorrt)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Provider;

    #[test]
    fn the_builder_comes_in_one_library_or_in_one_for_each_kind_of_gpu() {
        assert_eq!(
            builders("10.15.1", "9.0"),
            ["libnvinfer_builder_resource.so.10.15.1", "libnvinfer_builder_resource_sm90.so.10.15.1"]
        );
    }

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
            folder_name(&info("aa"), &gpu("NVIDIA H200", "13.0"), (640, 640), "10.6.0", 3),
            folder_name(&info("ab"), &gpu("NVIDIA H200", "13.0"), (640, 640), "10.6.0", 3),
            folder_name(&info("aa"), &gpu("NVIDIA H100 80GB/x", "13.0"), (640, 640), "10.6.0", 3),
            folder_name(&info("aa"), &gpu("NVIDIA H200", "12.8"), (640, 640), "10.6.0", 3),
            folder_name(&info("aa"), &gpu("NVIDIA H200", "13.0"), (640, 384), "10.6.0", 3),
            folder_name(&info("aa"), &gpu("NVIDIA H200", "13.0"), (640, 640), "10.7.0", 3),
            folder_name(&info("aa"), &gpu("NVIDIA H200", "13.0"), (640, 640), "10.6.0", 5),
        ];
        for (n, name) in of.iter().enumerate() {
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "-.x".contains(c)), "{name}");
            assert!(!of[..n].contains(name), "{name}");
        }
    }
}
