//! A detector on an NVIDIA GPU: pictures stay in device memory, only candidates come back.
//!
//! Owns the way from surfaces to detections there (`backend`), its sessions (`session`) and the choice between TensorRT
//! and ONNX Runtime's CUDA kernels. Boxes are decoded by the same families as on the processor.

mod backend;
mod candidates;
mod letterbox;
mod session;
mod tensorrt;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use facestream_core::Frame;
use facestream_gpu::Gpu;

use crate::backend::{Backend, Detector};
use crate::config::{CUDA_BATCH, GPU_BATCH, InferConfig, InputSize, Provider};
use crate::error::InferError;
use crate::family::{Family, InputSpec};
use crate::geometry::input_for;
use crate::model::ModelInfo;
use crate::onnx::Description;

pub(crate) use backend::DeviceBackend;
pub use letterbox::DeviceLetterbox;
pub use tensorrt::version as tensorrt_version;

/// A model loaded on one GPU.
#[derive(Debug)]
pub(crate) struct DeviceModel {
    info: ModelInfo,
    inner: Arc<Inner>,
    /// The backend that tried the model out; the first worker gets it.
    spare: Mutex<Option<DeviceBackend>>,
}

/// What its sessions share.
#[derive(Debug)]
struct Inner {
    gpu: Arc<Gpu>,
    info: ModelInfo,
    family: Arc<dyn Family>,
    spec: InputSpec,
    config: InferConfig,
    description: Description,
    /// As ONNX Runtime takes it.
    bytes: Vec<u8>,
    /// The same for exactly `max_batch` pictures, when it came with an engine of its own for them.
    full: Option<Vec<u8>>,
    /// Input width and height, the same for every picture: TensorRT's engines are made for one.
    size: (u32, u32),
    /// It came built; nothing is left to build.
    is_engine: bool,
    max_batch: usize,
    /// Where TensorRT keeps what it builds.
    cache: Option<PathBuf>,
}

/// A model as a loader read it.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) sha256: String,
    pub(crate) family: Arc<dyn Family>,
    pub(crate) description: Description,
    pub(crate) bytes: Vec<u8>,
    /// The same for exactly `max_batch` pictures, when there is an engine for them.
    pub(crate) full: Option<Vec<u8>>,
    /// Pictures a run, when the file says so.
    pub(crate) max_batch: Option<usize>,
    /// A plain TensorRT engine, which nothing else runs.
    pub(crate) is_engine: bool,
}

impl DeviceModel {
    /// Opens a model on a GPU with one provider and runs every batch size once, so that no camera waits for that later.
    ///
    /// # Errors
    /// When the provider cannot be used, or the model does not run on it.
    pub(crate) fn load(
        source: Source,
        gpu: &Arc<Gpu>,
        provider: Provider,
        config: &InferConfig,
        mut notes: Vec<String>,
    ) -> Result<Arc<Self>, InferError> {
        let Source { name, sha256, family, description, bytes, full, max_batch, is_engine } = source;
        let spec = family.input();
        // An engine takes the size that it was built for, whatever the family could do.
        let built_for = is_engine.then(|| declared_size(&description)).flatten();
        let size = built_for.or(spec.fixed_size).unwrap_or_else(|| match config.input_size {
            size @ InputSize::Auto { .. } => input_for((16, 9), size),
            size @ InputSize::Fixed { .. } => input_for((1, 1), size),
        });
        let wanted = match (config.max_batch, provider) {
            (0, Provider::Cuda) => CUDA_BATCH,
            (0, _) => GPU_BATCH,
            (wanted, _) => wanted,
        };
        let most = max_batch.or(spec.fixed_batch).unwrap_or(usize::MAX);
        let largest = wanted.min(most).clamp(1, facestream_gpu::MAX_IMAGES);
        let full = match full {
            Some(full) if max_batch == Some(largest) => Some(full),
            Some(_) => {
                notes.push(format!(
                    "its engine for full batches of {most} is not used: batches have {largest} pictures here (infer.max_batch)"
                ));
                None
            }
            None => None,
        };
        let info = ModelInfo {
            name,
            family: family.name(),
            sha256,
            fixed_size: Some(size),
            provider,
            gpu: Some(gpu.ordinal()),
            images_per_second: None,
            notes,
        };
        let cache = (provider == Provider::TensorRt && !is_engine)
            .then(|| tensorrt::cache_folder(config, &info, gpu.info(), size))
            .flatten();
        let inner = Arc::new(Inner {
            gpu: Arc::clone(gpu),
            info: info.clone(),
            family,
            spec,
            config: config.clone(),
            description,
            bytes,
            full,
            size,
            is_engine,
            max_batch: largest,
            cache,
        });
        let mut backend = DeviceBackend::open(&inner)?;
        let speed = backend.warm_up()?;
        let info = ModelInfo { images_per_second: Some(speed as u32), ..info };
        Ok(Arc::new(Self { info, inner, spare: Mutex::new(Some(backend)) }))
    }

    /// Pictures that one run takes.
    pub(crate) fn largest_batch(&self) -> usize {
        self.inner.max_batch
    }

    /// One more session, warm.
    pub(crate) fn session(&self) -> Result<DeviceBackend, InferError> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(backend) = spare {
            return Ok(backend);
        }
        let mut backend = DeviceBackend::open(&self.inner)?;
        backend.warm_up()?;
        Ok(backend)
    }

    pub(crate) fn info(&self) -> &ModelInfo {
        &self.info
    }
}

impl Detector for DeviceModel {
    fn name(&self) -> &str {
        &self.inner.info.name
    }

    fn open(&self) -> Result<Box<dyn Backend>, InferError> {
        Ok(Box::new(self.session()?))
    }

    fn group(&self, _frame: &Frame) -> u64 {
        0
    }

    fn max_batch(&self) -> Option<usize> {
        Some(self.inner.max_batch)
    }

    fn best_batch(&self) -> usize {
        self.inner.max_batch
    }

    fn sessions(&self) -> Option<usize> {
        Some(self.inner.config.gpu_sessions)
    }
}

/// Width and height of the first input, where both are declared.
fn declared_size(description: &Description) -> Option<(u32, u32)> {
    let side = |axis: usize| {
        let dim = description.inputs.first()?.dims.get(axis)?;
        dim.fixed().and_then(|n| u32::try_from(n).ok())
    };
    side(3).zip(side(2))
}

impl Inner {
    fn failed(&self, e: &ort::Error) -> InferError {
        // ONNX Runtime has words of its own for a GPU that is gone, which name neither cause nor remedy.
        if let Err(lost) = self.gpu.check()
            && lost.is_lost()
        {
            return self.on_gpu(lost);
        }
        InferError::Session { model: self.info.name.clone(), reason: e.message().to_owned() }
    }

    fn wrong(&self, reason: String) -> InferError {
        InferError::Output { model: self.info.name.clone(), reason }
    }

    fn on_gpu(&self, error: facestream_gpu::GpuError) -> InferError {
        InferError::Gpu { model: self.info.name.clone(), error: Box::new(error) }
    }
}
