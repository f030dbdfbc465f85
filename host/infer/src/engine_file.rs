//! Plain TensorRT engines (`NAME.engine`) and the note beside them (`NAME.engine.toml`) that names their tensors.
//!
//! Owns the note's form. An engine does not tell its shapes without TensorRT's own C++ interface, and a wrong guess would
//! read nonsense, so they are written down once:
//!
//! ```toml
//! inputs = [{ name = "images", shape = [-1, 3, 640, 640] }]   # -1: the batch
//! outputs = [{ name = "output0", shape = [-1, 5, 8400] }]
//! max_batch = 32                                              # of the optimisation profile it was built with
//! full_batch_engine = "NAME.32.engine"                        # optional: built for exactly max_batch pictures
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::InferError;
use crate::onnx::{self, Description, Dim, FLOAT, TensorInfo};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
    #[serde(default = "default_batch")]
    max_batch: usize,
    /// A file beside this one.
    full_batch_engine: Option<PathBuf>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tensor {
    name: String,
    shape: Vec<i64>,
}

fn default_batch() -> usize {
    1
}

/// An engine ready for ONNX Runtime.
pub(crate) struct EngineFile {
    /// What it takes and gives.
    pub(crate) description: Description,
    /// The ONNX model around it.
    pub(crate) model: Vec<u8>,
    /// Pictures that one run takes.
    pub(crate) max_batch: usize,
    /// The ONNX model around the engine for exactly so many.
    pub(crate) full: Option<Vec<u8>>,
}

/// Whether a path names a plain engine.
#[must_use]
pub(crate) fn is_engine(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "engine" || e == "plan")
}

/// The note of an engine: its whole name and `.toml`.
fn note_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".toml");
    PathBuf::from(name)
}

/// Wraps an engine's bytes as its note says.
///
/// # Errors
/// When there is no note, or it is not as described above.
pub(crate) fn read(path: &Path, engine: &[u8]) -> Result<EngineFile, InferError> {
    let note = note_of(path);
    let failed = |reason: String| InferError::EngineNote { engine: path.to_owned(), reason };
    let text = std::fs::read_to_string(&note).map_err(|e| failed(e.to_string()))?;
    let told: Note = toml::from_str(&text).map_err(|e| failed(e.to_string()))?;
    if !(1..=256).contains(&told.max_batch) {
        return Err(failed(format!("max_batch = {} is not in 1..=256", told.max_batch)));
    }
    let tensors = |tensors: Vec<Tensor>| tensors.into_iter().map(tensor).collect::<Vec<_>>();
    let description =
        Description { inputs: tensors(told.inputs), outputs: tensors(told.outputs), metadata: told.metadata };
    let model = onnx::wrap_engine(engine, &description);
    let full = told.full_batch_engine.map(|name| {
        let full = path.with_file_name(&name);
        let engine =
            std::fs::read(&full).map_err(|e| failed(format!("full_batch_engine = {}: {e}", name.display())))?;
        Ok(onnx::wrap_engine(&engine, &of_batch(&description, told.max_batch)))
    });
    Ok(EngineFile { description, model, max_batch: told.max_batch, full: full.transpose()? })
}

/// The same for one size of batch.
fn of_batch(description: &Description, batch: usize) -> Description {
    let fixed = |tensors: &[TensorInfo]| {
        let mut tensors = tensors.to_vec();
        let batches = tensors.iter_mut().filter_map(|tensor| tensor.dims.first_mut());
        batches.for_each(|dim| *dim = Dim::Fixed(i64::try_from(batch).unwrap_or(i64::MAX)));
        tensors
    };
    Description {
        inputs: fixed(&description.inputs),
        outputs: fixed(&description.outputs),
        metadata: description.metadata.clone(),
    }
}

fn tensor(told: Tensor) -> TensorInfo {
    let dim = |(axis, n): (usize, i64)| match n {
        n if n >= 0 => Dim::Fixed(n),
        _ if axis == 0 => Dim::Free("batch".to_owned()),
        _ => Dim::Free(String::new()),
    };
    let dims = told.shape.into_iter().enumerate().map(dim).collect();
    TensorInfo { name: told.name, element: FLOAT, dims }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_needs_its_note_and_the_note_must_be_right() {
        let dir = tempfile::tempdir().unwrap();
        let engine = dir.path().join("face.engine");
        std::fs::write(&engine, b"engine").unwrap();
        let missing = read(&engine, b"engine").err().unwrap().to_string();
        assert!(missing.contains("face.engine.toml") && missing.contains("inputs = "), "{missing}");

        let note = |text: &str| std::fs::write(dir.path().join("face.engine.toml"), text).unwrap();
        note("inputs = [{ name = \"x\", shape = [-1, 3, 640, 640] }]\noutputs = []\nmax_bach = 3");
        assert!(read(&engine, b"engine").err().unwrap().to_string().contains("max_bach"));
        note("inputs = [{ name = \"x\", shape = [-1, 3, 640, 640] }]\noutputs = []\nmax_batch = 0");
        assert!(read(&engine, b"engine").err().unwrap().to_string().contains("max_batch"));
        note(
            "inputs = [{ name = \"x\", shape = [-1, 3, 640, 640] }]\noutputs = [{ name = \"y\", shape = [-1, 5, 8400] }]",
        );
        let read = read(&engine, b"engine").unwrap();
        assert_eq!(read.description.to_string(), "inputs x [batch,3,640,640]; outputs y [batch,5,8400]");
        assert_eq!((read.max_batch, read.full), (1, None));
    }

    #[test]
    fn an_engine_for_full_batches_lies_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let engine = dir.path().join("face.engine");
        let note = "max_batch = 32\nfull_batch_engine = \"face.32.engine\"\n\
                    inputs = [{ name = \"x\", shape = [-1, 3, 640, 640] }]\noutputs = [{ name = \"y\", shape = [-1, 5, 8400] }]";
        std::fs::write(dir.path().join("face.engine.toml"), note).unwrap();
        let missing = read(&engine, b"engine").err().unwrap().to_string();
        assert!(missing.contains("full_batch_engine = face.32.engine"), "{missing}");
        std::fs::write(dir.path().join("face.32.engine"), b"engine for 32").unwrap();
        let read = read(&engine, b"engine").unwrap();
        let full = read.full.unwrap();
        assert!(full.windows(13).any(|w| w == b"engine for 32"));
        let shapes = onnx::describe(&full).unwrap().to_string();
        assert_eq!(shapes, "inputs x [32,3,640,640]; outputs y [32,5,8400]");
        assert_eq!(read.description.to_string(), "inputs x [batch,3,640,640]; outputs y [batch,5,8400]");
    }
}
