//! A detector model: read, recognised, mended, opened in ONNX Runtime and tried once.
//!
//! Owns sessions and the way from frames to detections. Must not know cameras or batching.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use facestream_core::{Detection, Frame};
use ort::ep;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::TensorRef;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::backend::{Backend, Detector, in_host_memory};
use crate::config::{InferConfig, InputSize, Provider};
use crate::error::InferError;
use crate::family::{self, Family, InputSpec, Reworked, TensorView};
use crate::geometry::{Geometry, input_for};
use crate::letterbox::Letterbox;
use crate::nms::{Selection, select};
use crate::onnx::{self, MAX_MODEL_BYTES};
use crate::runtime::{self, CPU, OPENVINO, Runtime};
use crate::stem::{self, Stem};

/// What is known of a loaded model, for people and for messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelInfo {
    /// File name without its extension.
    pub name: String,
    /// Family that the graph was recognised as.
    pub family: &'static str,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// Size that the model insists on, width and height.
    pub fixed_size: Option<(u32, u32)>,
    /// Provider in use.
    pub provider: Provider,
    /// Number of the GPU that it runs on.
    pub gpu: Option<usize>,
    /// Pictures a second that one session of it took when it was warmed up; GPUs only.
    pub images_per_second: Option<u32>,
    /// Why a preferred provider is not in use.
    pub notes: Vec<String>,
}

impl fmt::Display for ModelInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, on {}", self.name, self.family, self.provider.as_str())?;
        if let Some(gpu) = self.gpu {
            write!(f, " cuda:{gpu}")?;
        }
        if let Some((w, h)) = self.fixed_size {
            write!(f, ", fixed input {w}x{h}")?;
        }
        f.write_str(")")?;
        self.notes.iter().try_for_each(|note| write!(f, "; {note}"))
    }
}

/// A loaded model. Opens as many sessions as asked for.
#[derive(Debug)]
pub struct Model {
    inner: Arc<Inner>,
    /// Mended, kept for sessions opened later.
    bytes: Vec<u8>,
    /// The session that tried the model out; the first worker gets it.
    spare: Mutex<Option<Session>>,
}

/// What sessions share.
#[derive(Debug)]
struct Inner {
    info: ModelInfo,
    family: Box<dyn Family>,
    spec: InputSpec,
    /// Computes the first layers, when they were taken out of the graph.
    stem: Option<Stem>,
    config: InferConfig,
    input: String,
    outputs: Vec<String>,
}

impl Model {
    /// Reads a model file, recognises its family from the graph alone, mends it, opens it and runs it once.
    ///
    /// # Errors
    /// When the configuration is wrong, the file cannot be read, is empty, over 1 GiB, no ONNX model, of no known
    /// family (the message names the shapes found and those expected), or does not run.
    pub fn load(path: &Path, config: &InferConfig) -> Result<Arc<Self>, InferError> {
        let problems = config.validate();
        if !problems.is_empty() {
            return Err(InferError::Config(problems.join("; ")));
        }
        Self::from_bytes(&name_of(path), &read_file(path)?, config)
    }

    /// As [`Model::load`], from memory.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn from_bytes(name: &str, bytes: &[u8], config: &InferConfig) -> Result<Arc<Self>, InferError> {
        Self::with_rework(name, bytes, config, true)
    }

    /// As [`Model::from_bytes`]; without `rework` the graph is only mended, to compare.
    fn with_rework(name: &str, bytes: &[u8], config: &InferConfig, rework: bool) -> Result<Arc<Self>, InferError> {
        let not_onnx = |e: onnx::OnnxError| InferError::NotOnnx { model: name.to_owned(), reason: e.to_string() };
        let description = onnx::describe(bytes).map_err(not_onnx)?;
        let family = family::recognise(&description).map_err(|(found, expected)| InferError::UnknownFamily {
            model: name.to_owned(),
            found,
            expected,
        })?;
        let sha256 = sha256_of(bytes);
        // OpenVINO computes in bf16, which the first layers' own code would not gain from.
        let stem = Stem::supported() && !config.providers.contains(&Provider::OpenVino);
        let input = description.inputs.first().map_or("", |i| i.name.as_str());
        let reworked = if rework { family.rework(bytes, input, stem) } else { None };
        let (bytes, family, stem) = match reworked {
            Some(Reworked { bytes, family, stem }) => (Cow::Owned(bytes), family, stem),
            None => (Cow::Borrowed(bytes), family, None),
        };
        let description = onnx::describe(&bytes).map_err(not_onnx)?;
        let mended = onnx::mend(&bytes, family.freeing()).map_err(not_onnx)?;
        let (session, provider, notes) = runtime::with(config, |rt| first_session(rt, name, &mended, config))??;
        for note in &notes {
            tracing::warn!(model = name, "{note}; another provider is used");
        }
        let spec = family.input();
        let info = ModelInfo {
            name: name.to_owned(),
            family: family.name(),
            sha256,
            fixed_size: spec.fixed_size,
            provider,
            gpu: None,
            images_per_second: None,
            notes,
        };
        let inner = Arc::new(Inner {
            info,
            family,
            spec,
            stem,
            config: config.clone(),
            input: description.inputs.first().map(|i| i.name.clone()).unwrap_or_default(),
            outputs: description.outputs.iter().map(|o| o.name.clone()).collect(),
        });
        let mut trial = OnnxBackend::new(Arc::clone(&inner), session);
        trial.try_out()?;
        Ok(Arc::new(Self { inner, bytes: mended, spare: Mutex::new(Some(trial.session)) }))
    }

    /// What is known of it.
    #[must_use]
    pub fn describe(&self) -> &ModelInfo {
        &self.inner.info
    }
}

impl Detector for Model {
    fn name(&self) -> &str {
        &self.inner.info.name
    }

    fn open(&self) -> Result<Box<dyn Backend>, InferError> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        let session = match spare {
            Some(session) => session,
            None => {
                let Inner { info, config, .. } = &*self.inner;
                runtime::with(config, |rt| session(rt, &info.name, &self.bytes, config, info.provider))??
            }
        };
        Ok(Box::new(OnnxBackend::new(Arc::clone(&self.inner), session)))
    }

    fn group(&self, frame: &Frame) -> u64 {
        let (w, h) = self.inner.input_for(frame);
        u64::from(w) << 32 | u64::from(h)
    }

    fn max_batch(&self) -> Option<usize> {
        self.inner.spec.fixed_batch
    }
}

impl Inner {
    fn input_for(&self, frame: &Frame) -> (u32, u32) {
        let source = (frame.picture.width(), frame.picture.height());
        self.spec.fixed_size.unwrap_or_else(|| input_for(source, self.config.input_size))
    }

    fn failed(&self, e: &ort::Error) -> InferError {
        InferError::Session { model: self.info.name.clone(), reason: e.message().to_owned() }
    }
}

/// A file's name without its ending.
pub(crate) fn name_of(path: &Path) -> String {
    path.file_stem().map_or_else(|| "model".to_owned(), |s| s.to_string_lossy().into_owned())
}

/// Reads a model file.
///
/// # Errors
/// When it cannot be read, or is larger than any model.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, InferError> {
    let unreadable = |e: std::io::Error| InferError::Unreadable { path: path.to_owned(), reason: e.to_string() };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_MODEL_BYTES {
        let reason = onnx::OnnxError::TooLarge(size).to_string();
        return Err(InferError::NotOnnx { model: path.display().to_string(), reason });
    }
    std::fs::read(path).map_err(unreadable)
}

/// The digest of a file, in hexadecimal.
pub(crate) fn sha256_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// The first provider in order of preference that works, and why those before it do not.
fn first_session(
    rt: &mut Runtime<'_>,
    name: &str,
    bytes: &[u8],
    config: &InferConfig,
) -> Result<(Session, Provider, Vec<String>), InferError> {
    let mut notes = Vec::new();
    for &provider in &config.providers {
        match provider {
            Provider::OpenVino => {
                if let Err(why) = rt.openvino(config) {
                    notes.push(why);
                    continue;
                }
                match session(rt, name, bytes, config, provider) {
                    Ok(session) => return Ok((session, provider, notes)),
                    Err(why) => notes.push(format!("openvino: {why}")),
                }
            }
            Provider::Cpu => return Ok((session(rt, name, bytes, config, provider)?, provider, notes)),
            // `load.rs` has tried them where there is a GPU.
            Provider::TensorRt | Provider::Cuda => {}
        }
    }
    // `["openvino"]` alone still means: analyse, and say that it could not be had.
    Ok((session(rt, name, bytes, config, Provider::Cpu)?, Provider::Cpu, notes))
}

fn session(
    rt: &Runtime<'_>,
    name: &str,
    bytes: &[u8],
    config: &InferConfig,
    provider: Provider,
) -> Result<Session, InferError> {
    let failed = |e: ort::Error| InferError::Session { model: name.to_owned(), reason: e.message().to_owned() };
    let threads = config.intra_threads();
    let options = || -> Result<SessionBuilder, ort::Error> {
        let mut builder = Session::builder(rt.environment())?
            .with_optimization_level(GraphOptimizationLevel::Level3)?
            .with_intra_threads(threads)?
            .with_inter_threads(1)?
            .with_log_level(ort::logging::LogLevel::Error)?;
        if threads > 1 {
            // Spinning threads burn 22 ms of processor time a paced frame instead of 5.
            builder = builder.with_intra_op_spinning(false)?;
        }
        match provider {
            // Named, so that ONNX Runtime does not choose by itself once a plugin is registered.
            Provider::Cpu | Provider::TensorRt | Provider::Cuda => {
                let devices: Vec<_> = rt.environment().devices().collect();
                let named = |name: &'static str| move |d: &&ort::device::Device<'_>| d.ep().is_ok_and(|ep| ep == name);
                if devices.iter().any(|d| named(OPENVINO)(&d)) {
                    // Once a plugin is registered, naming the provider is not enough: ONNX Runtime 1.31 then gave such
                    // sessions to OpenVINO, with all cores (`tests/openvino.rs` found it). Its device is named instead.
                    return Ok(builder.with_devices(devices.into_iter().filter(|d| named(CPU)(&d)), None)?);
                }
                Ok(builder.with_execution_providers([ep::CPU::default().with_arena_allocator(true).build()])?)
            }
            Provider::OpenVino => {
                // bf16 is what makes it worth while; without ENABLE_CPU_PINNING=NO two sessions share a core.
                let load_config = format!(
                    r#"{{"CPU":{{"INFERENCE_NUM_THREADS":"{threads}","INFERENCE_PRECISION_HINT":"bf16","ENABLE_CPU_PINNING":"NO"}}}}"#
                );
                let options = [(format!("{OPENVINO}.load_config"), load_config)];
                let environment = rt.environment();
                let devices = environment.devices().filter(|d| {
                    d.ep().is_ok_and(|name| name == OPENVINO)
                        && d.hardware_device().ty() == ort::memory::DeviceType::CPU
                });
                Ok(builder.with_devices(devices, Some(&options))?)
            }
        }
    };
    options().and_then(|mut b| b.commit_from_memory(bytes)).map_err(failed)
}

/// One session with its buffers.
struct OnnxBackend {
    model: Arc<Inner>,
    session: Session,
    letterbox: Letterbox,
    /// Input tensor, used again from run to run.
    buffer: Vec<f32>,
    /// What the first layers made of it, where they are ours.
    reduced: Vec<f32>,
    scratch: stem::Scratch,
}

impl OnnxBackend {
    fn new(model: Arc<Inner>, session: Session) -> Self {
        let letterbox = Letterbox::new(model.spec);
        Self { model, session, letterbox, buffer: Vec::new(), reduced: Vec::new(), scratch: stem::Scratch::default() }
    }

    /// One run on nothing, at the size that a 16:9 source gets: a model whose shapes only look right is refused when it
    /// is loaded, not when the first camera starts.
    fn try_out(&mut self) -> Result<(), InferError> {
        let size = self.model.spec.fixed_size.unwrap_or_else(|| match self.model.config.input_size {
            size @ InputSize::Auto { .. } => input_for((16, 9), size),
            size @ InputSize::Fixed { .. } => input_for((1, 1), size),
        });
        let batch = self.model.spec.fixed_batch.unwrap_or(1);
        self.buffer.clear();
        self.buffer.resize(batch * slot(size), 0.0);
        let source = Geometry::new(size, size, self.model.spec.fit);
        self.run(batch, size, &[source]).map(|_| ())
    }

    /// Runs what is in the buffer and reads the first `geometries.len()` pictures of it.
    fn run(
        &mut self,
        batch: usize,
        size: (u32, u32),
        geometries: &[Geometry],
    ) -> Result<Vec<Vec<Detection>>, InferError> {
        let Self { model, session, buffer, reduced, scratch, .. } = self;
        let (width, height) = (i64::from(size.0), i64::from(size.1));
        let (shape, data) = match &model.stem {
            Some(stem) => {
                let len = stem.output_len(size);
                reduced.resize(batch * len, 0.0);
                for (picture, out) in buffer.chunks_exact(slot(size)).zip(reduced.chunks_exact_mut(len)) {
                    stem.run(picture, size, out, scratch);
                }
                let stride = i64::from(stem.stride());
                ([batch as i64, stem.channels() as i64, height / stride, width / stride], reduced.as_slice())
            }
            None => ([batch as i64, 3, height, width], buffer.as_slice()),
        };
        let input = TensorRef::from_array_view((shape, data)).map_err(|e| model.failed(&e))?;
        let results = session.run(ort::inputs![model.input.as_str() => input]).map_err(|e| model.failed(&e))?;
        let mut views = Vec::with_capacity(model.outputs.len());
        for name in &model.outputs {
            let wrong = |reason: String| InferError::Output { model: model.info.name.clone(), reason };
            let value = results.get(name).ok_or_else(|| wrong(format!("the output {name} is missing")))?;
            let (shape, data) = value
                .try_extract_tensor::<f32>()
                .map_err(|e| wrong(format!("the output {name} holds no 32-bit floats: {}", e.message())))?;
            views.push(TensorView { shape, data });
        }
        let selection = Selection::of(model.family.thinning(), &model.config);
        geometries
            .iter()
            .enumerate()
            .map(|(item, geometry)| {
                let found = model.family.decode(&views, item, size, model.config.score_threshold);
                let found = found.map_err(|reason| InferError::Output { model: model.info.name.clone(), reason })?;
                Ok(select(found, &selection, geometry))
            })
            .collect()
    }

    /// Frames of one input size, as many as one run takes.
    fn infer_run(&mut self, frames: &[Frame], size: (u32, u32)) -> Result<Vec<Vec<Detection>>, InferError> {
        let batch = self.model.spec.fixed_batch.unwrap_or(frames.len());
        // Slots of a fixed batch that no frame fills keep what they had; their results are not read.
        self.buffer.resize(batch * slot(size), 0.0);
        let mut geometries = Vec::with_capacity(frames.len());
        for (frame, out) in frames.iter().zip(self.buffer.chunks_exact_mut(slot(size))) {
            let picture = in_host_memory(&frame.picture)?;
            let planes = picture.planes().ok_or_else(|| InferError::Picture("its pixels cannot be read".to_owned()))?;
            if planes.width == 0 || planes.height == 0 {
                return Err(InferError::Picture(format!("its size is {}x{}", planes.width, planes.height)));
            }
            let geometry = Geometry::new((planes.width, planes.height), size, self.model.spec.fit);
            self.letterbox.write(&planes, &geometry, out)?;
            geometries.push(geometry);
        }
        self.run(batch, size, &geometries)
    }
}

/// Numbers of one picture in the input tensor.
fn slot((width, height): (u32, u32)) -> usize {
    3 * width as usize * height as usize
}

impl Backend for OnnxBackend {
    fn infer(&mut self, frames: &[Frame]) -> Result<Vec<Vec<Detection>>, InferError> {
        let mut out = Vec::with_capacity(frames.len());
        let most = self.model.spec.fixed_batch.unwrap_or(usize::MAX).max(1);
        let mut rest = frames;
        while let Some(first) = rest.first() {
            let size = self.model.input_for(first);
            let same = rest.iter().take(most).take_while(|f| self.model.input_for(f) == size).count();
            let (now, later) = rest.split_at(same);
            out.extend(self.infer_run(now, size)?);
            rest = later;
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests;
