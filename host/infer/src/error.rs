//! Everything that can go wrong between a model file and its detections, in words that say what to do.

use std::path::PathBuf;

/// Why a model could not be loaded or a frame not be analysed. Cheap to clone: one failure may concern many frames.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InferError {
    /// ONNX Runtime's shared library could not be loaded.
    #[error(
        "ONNX Runtime could not be loaded from {}: {reason}; run `cargo xtask setup`, or set `runtime_library` to \
         libonnxruntime.so 1.22 or newer", library.display()
    )]
    Runtime {
        /// The file that was tried.
        library: PathBuf,
        /// The loader's words.
        reason: String,
    },
    /// Another ONNX Runtime is in use already; a process can hold one.
    #[error(
        "ONNX Runtime is already loaded from {}; a process can use only one, so {} cannot be loaded beside it",
        loaded.display(), asked.display()
    )]
    OtherRuntime {
        /// In use.
        loaded: PathBuf,
        /// Asked for now.
        asked: PathBuf,
    },
    /// The model file could not be read.
    #[error("the model {} cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        reason: String,
    },
    /// The bytes are no ONNX model that can be used.
    #[error("{model} is not a usable ONNX model: {reason}")]
    NotOnnx {
        /// Name of the model.
        model: String,
        /// What is wrong.
        reason: String,
    },
    /// A TensorRT engine without a word on its tensors.
    #[error(
        "{0} cannot be used without {0}.toml, which names its tensors: {reason}. It looks like: \
         inputs = [{{ name = \"images\", shape = [-1, 3, 640, 640] }}] / \
         outputs = [{{ name = \"output0\", shape = [-1, 5, 8400] }}] / max_batch = 32", engine.display()
    )]
    EngineNote {
        /// The engine.
        engine: PathBuf,
        /// What is wrong with the file beside it.
        reason: String,
    },
    /// A model that only a GPU runs, where none can be used.
    #[error("{model} runs on a GPU only, and none can be used: {reason}")]
    NeedsGpu {
        /// Name of the model.
        model: String,
        /// Why not.
        reason: String,
    },
    /// The GPU refused.
    #[error("{model}: {error}")]
    Gpu {
        /// Name of the model.
        model: String,
        /// What it said.
        error: Box<facestream_gpu::GpuError>,
    },
    /// A valid model, but of no family that is understood.
    #[error("{model} fits no known model family. Found: {found}. Expected one of: {expected}")]
    UnknownFamily {
        /// Name of the model.
        model: String,
        /// Its inputs and outputs.
        found: String,
        /// Shapes of the known families.
        expected: String,
    },
    /// ONNX Runtime refused the model or the run.
    #[error("ONNX Runtime failed on {model}: {reason}")]
    Session {
        /// Name of the model.
        model: String,
        /// ONNX Runtime's words.
        reason: String,
    },
    /// The model ran and gave tensors of shapes that its family does not have.
    #[error("{model} gave an unexpected result: {reason}")]
    Output {
        /// Name of the model.
        model: String,
        /// What was found and expected.
        reason: String,
    },
    /// The pixels of a frame could not be used.
    #[error("the frame cannot be analysed: {0}")]
    Picture(String),
    /// The backend panicked; its worker goes on with a fresh one.
    #[error("the inference backend panicked: {0}")]
    Panicked(String),
    /// A setting makes no sense.
    #[error("inference configuration: {0}")]
    Config(String),
}
