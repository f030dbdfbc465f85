//! ONNX Runtime sessions whose inputs and outputs are our own device memory.
//!
//! With `candidates.rs`' buffers the only place that hands raw memory to ONNX Runtime. A session runs on a stream of ours,
//! behind the letterbox and before the sieve, so nothing waits in between.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_void};

use facestream_gpu::{Buffer, Stream};
use ort::AsPointer;
use ort::ep::{self, ExecutionProvider as _};
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{IoBinding, NoSelectedOutputs, RunOptions, Session};
use ort::value::{Shape, TensorRefMut};

use super::Inner;
use crate::config::Provider;
use crate::error::InferError;
use crate::runtime::{self, Runtime};

/// One of ONNX Runtime's sessions with its binding.
struct Bound {
    // Declared in the order in which they must go: a binding uses its session.
    binding: IoBinding,
    session: Session,
}

/// How a batch is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Kernel by kernel.
    Launched,
    /// Always of one size: by an engine for that size, and all of it at once as a CUDA graph where that is wanted.
    Full,
}

/// The sessions of one thread, which take turns on one stream.
pub(super) struct DeviceSession {
    // Declared in the order in which they must go: sessions use the stream.
    launched: Bound,
    /// An engine for one size takes no other, and a session keeps one graph and runs nothing else: so it is one of its own.
    full: Option<Bound>,
    options: RunOptions<NoSelectedOutputs>,
    stream: Stream,
    ordinal: i32,
}

impl std::fmt::Debug for DeviceSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceSession(cuda:{})", self.ordinal)
    }
}

/// Whether this ONNX Runtime has a provider, and if not, what to do.
pub(super) fn provider_is_built_in(provider: Provider) -> Result<(), String> {
    let (there, name) = match provider {
        Provider::TensorRt => (ep::TensorRT::is_available(), "TensorRT"),
        _ => (ep::CUDA::is_available(), "CUDA"),
    };
    if there.is_ok_and(|there| there) {
        return Ok(());
    }
    Err(format!(
        "this ONNX Runtime has no {name} provider; point `infer.runtime_library` to the libonnxruntime.so of the package \
         onnxruntime-gpu, with its libonnxruntime_providers_*.so beside it"
    ))
}

impl DeviceSession {
    pub(super) fn open(model: &Inner) -> Result<Self, InferError> {
        let stream = model.gpu.stream().map_err(|e| model.on_gpu(e))?;
        runtime::with(&model.config, |rt| Self::open_with(rt, model, stream))?
    }

    /// Under the runtime's lock: two threads that make their first TensorRT sessions at the same time fail at times.
    fn open_with(rt: &Runtime<'_>, model: &Inner, stream: Stream) -> Result<Self, InferError> {
        let failed = |reason: String| InferError::Session { model: model.info.name.clone(), reason };
        provider_is_built_in(model.info.provider).map_err(failed)?;
        let ordinal = i32::try_from(model.gpu.ordinal()).map_err(|e| failed(e.to_string()))?;
        let launched = Self::bound(rt, model, &stream, ordinal, Mode::Launched)?;
        let apart = (model.config.cuda_graphs || model.full.is_some()) && model.info.provider == Provider::TensorRt;
        let full = apart.then(|| Self::bound(rt, model, &stream, ordinal, Mode::Full)).transpose()?;
        // What comes next is on the same stream, and waited for there.
        let mut options = RunOptions::new().map_err(|e| failed(e.message().to_owned()))?;
        options.disable_device_sync().map_err(|e| failed(e.message().to_owned()))?;
        Ok(Self { launched, full, options, stream, ordinal })
    }

    fn bound(rt: &Runtime<'_>, model: &Inner, stream: &Stream, ordinal: i32, mode: Mode) -> Result<Bound, InferError> {
        let failed = |reason: String| InferError::Session { model: model.info.name.clone(), reason };
        let provider = match model.info.provider {
            Provider::TensorRt => {
                super::tensorrt::version().map_err(failed)?;
                if !model.is_engine {
                    super::tensorrt::can_build(model.gpu.info()).map_err(failed)?;
                }
                let shapes = |batch: usize| {
                    let input = model.description.inputs.first().map_or("", |i| i.name.as_str());
                    format!("{input}:{batch}x3x{}x{}", model.size.1, model.size.0)
                };
                let most = model.max_batch;
                let (least, usual) = if mode == Mode::Full { (most, most) } else { (1, most.div_ceil(2)) };
                let mut options = ep::TensorRT::default()
                    .with_device_id(ordinal)
                    .with_fp16(true)
                    .with_ep_context_embed_mode(1)
                    .with_builder_optimization_level(model.config.engine_level)
                    .with_cuda_graph(mode == Mode::Full && model.config.cuda_graphs)
                    .with_profile_min_shapes(shapes(least))
                    .with_profile_opt_shapes(shapes(usual))
                    .with_profile_max_shapes(shapes(most));
                if let Some(folder) = &model.cache {
                    // Both engines are of one graph, which is what their files are named after.
                    let folder = &folder.join(if mode == Mode::Full { "full" } else { "any" });
                    std::fs::create_dir_all(folder)
                        .map_err(|e| failed(format!("its engine cannot be kept in {}: {e}", folder.display())))?;
                    options = options
                        .with_engine_cache(true)
                        .with_engine_cache_path(folder.display())
                        .with_timing_cache(true)
                        .with_timing_cache_path(folder.display());
                }
                // SAFETY: `DeviceSession` drops its sessions before the stream.
                unsafe { options.with_compute_stream(stream.raw().cast()) }.build()
            }
            _ => {
                let options = ep::CUDA::default().with_device_id(ordinal);
                // SAFETY: as above.
                unsafe { options.with_compute_stream(stream.raw().cast()) }.build()
            }
        };
        let bytes = model.full.as_ref().filter(|_| mode == Mode::Full).unwrap_or(&model.bytes);
        let open = || -> Result<Bound, ort::Error> {
            let session = Session::builder(rt.environment())?
                .with_optimization_level(GraphOptimizationLevel::Level3)?
                .with_log_level(ort::logging::LogLevel::Error)?
                .with_execution_providers([provider.error_on_failure()])?
                .commit_from_memory(bytes)?;
            let binding = session.create_binding()?;
            Ok(Bound { binding, session })
        };
        open().map_err(|e| failed(explain(e.message())))
    }

    /// How a batch of at most `most` pictures is run best.
    pub(super) fn mode(&self, batch: usize, most: usize) -> Mode {
        mode(self.full.is_some(), batch, most)
    }

    /// The stream that it runs on.
    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Uses device memory as an input or output. Binding a name again replaces what it had.
    ///
    /// # Errors
    /// When the buffer is too small for the shape, or ONNX Runtime refuses.
    pub(super) fn bind(
        &mut self,
        mode: Mode,
        input: bool,
        name: &str,
        buffer: &Buffer,
        shape: &[i64],
    ) -> Result<(), String> {
        let numbers: usize = shape.iter().map(|&n| usize::try_from(n).unwrap_or(0)).product();
        if numbers * size_of::<f32>() > buffer.bytes() {
            return Err(format!("{name} of shape {shape:?} does not fit in {} bytes", buffer.bytes()));
        }
        let memory = MemoryInfo::new(AllocationDevice::CUDA, self.ordinal, AllocatorType::Device, MemoryType::Default)
            .map_err(|e| e.message().to_owned())?;
        let name = CString::new(name).map_err(|e| e.to_string())?;
        // ort's own `bind_input` copies a borrowed tensor and `bind_output` refuses one, hence the C interface.
        // SAFETY: the tensor describes `buffer`, which is large enough (checked) and outlives the runs (the backend holds
        // both). ONNX Runtime shares the tensor's header, so it may go after the call. A status that is not null is an
        // error that we own and release.
        unsafe {
            let tensor: TensorRefMut<'_, f32> =
                TensorRefMut::from_raw(memory, buffer.address() as *mut c_void, Shape::new(shape.iter().copied()))
                    .map_err(|e| e.message().to_owned())?;
            let api = ort::api();
            let bind = if input { api.BindInput } else { api.BindOutput };
            let status =
                bind(pick(&mut self.launched, &mut self.full, mode).binding.ptr_mut(), name.as_ptr(), tensor.ptr());
            if status.0.is_null() {
                return Ok(());
            }
            let text = CStr::from_ptr((api.GetErrorMessage)(status.0)).to_string_lossy().into_owned();
            (api.ReleaseStatus)(status.0);
            Err(text)
        }
    }

    /// Puts a run of what is bound behind the stream's other work, without waiting for it.
    pub(super) fn run(&mut self, mode: Mode) -> Result<(), ort::Error> {
        let Bound { binding, session } = pick(&mut self.launched, &mut self.full, mode);
        session.run_binding_with_options(binding, &self.options).map(drop)
    }
}

/// A session for full batches always computes all `most` pictures, so a batch that would leave more than a quarter of it empty is launched (148
/// cameras with batches of 3 to 8 were slowed down badly by graphs; 155 with batches of 27 needed them).
fn mode(has_full: bool, batch: usize, most: usize) -> Mode {
    if has_full && batch * 4 >= most * 3 { Mode::Full } else { Mode::Launched }
}

/// The session of a mode; the only one where there is none for full batches.
fn pick<'a>(launched: &'a mut Bound, full: &'a mut Option<Bound>, mode: Mode) -> &'a mut Bound {
    match (mode, full) {
        (Mode::Full, Some(full)) => full,
        _ => launched,
    }
}

/// ONNX Runtime's words, and what they mean where that is known.
fn explain(text: &str) -> String {
    let hint = if text.contains("deserialize")
        || text.contains("could not be deserialized")
        || text.contains("engine plan")
    {
        "; an engine works only on the GPU model and the TensorRT version that it was built with: build it again, or use the \
         ONNX file"
    } else if text.contains("out of memory") {
        "; the GPU's memory is used up: run fewer models or cameras on it"
    } else {
        ""
    };
    format!("{text}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearly_full_batches_go_as_full_ones() {
        let modes = [1, 23, 24, 32].map(|batch| mode(true, batch, 32));
        assert_eq!(modes, [Mode::Launched, Mode::Launched, Mode::Full, Mode::Full]);
        assert_eq!((mode(true, 1, 1), mode(false, 32, 32)), (Mode::Full, Mode::Launched));
    }
}
