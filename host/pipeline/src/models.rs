//! The models that cameras can name, each loaded once and shared by all its cameras.
//!
//! Owns names, files and the moment of loading. Must not know how a model runs; that is `facestream-infer`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use facestream_infer::{Engine, InferConfig, InferError, Model, ModelInfo};

/// A model that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Nothing of that name.
    #[error("no model `{name}`; there are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// It does not load.
    #[error("model `{name}` ({path}) cannot be used: {reason}")]
    Load {
        /// Its name.
        name: String,
        /// Its file.
        path: String,
        /// Why.
        reason: InferError,
    },
}

/// One model and whether it runs.
#[derive(Clone, Debug)]
pub struct ModelStatus {
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Used by cameras that name none.
    pub default: bool,
    /// What is known of it once it is loaded.
    pub loaded: Option<ModelInfo>,
    /// Why the latest try to load it failed.
    pub problem: Option<String>,
}

struct Entry {
    path: PathBuf,
    engine: Option<(ModelInfo, Arc<Engine>)>,
    problem: Option<String>,
}

/// All models by name.
pub struct Models {
    config: InferConfig,
    default: String,
    entries: Mutex<BTreeMap<String, Entry>>,
}

impl Models {
    /// Knows every `*.onnx` of the folders by its file name without the ending; a later folder wins.
    #[must_use]
    pub fn new(config: InferConfig, folders: &[PathBuf], default: &str) -> Self {
        let found = folders.iter().filter_map(|f| std::fs::read_dir(f).ok()).flatten().flatten().map(|e| e.path());
        let onnx = found.filter(|p| p.extension().is_some_and(|e| e == "onnx"));
        let by_stem = onnx.filter_map(|p| Some((p.file_stem()?.to_str()?.to_owned(), p)));
        let entries = by_stem.map(|(name, path)| (name, Entry { path, engine: None, problem: None })).collect();
        Self { config, default: default.to_owned(), entries: Mutex::new(entries) }
    }

    /// Adds a file under its own path as its name, for `facestream run --model FILE`.
    pub fn add_file(&self, path: &Path) -> String {
        let name = path.display().to_string();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.entry(name.clone()).or_insert_with(|| Entry { path: path.to_owned(), engine: None, problem: None });
        name
    }

    /// The name that stands for `None`.
    #[must_use]
    pub fn resolve<'a>(&'a self, name: Option<&'a str>) -> &'a str {
        name.unwrap_or(&self.default)
    }

    /// The engine of a model; loads it at the first call, which takes up to seconds, so not on the async runtime.
    ///
    /// # Errors
    /// When there is none of that name, or it does not load.
    pub fn engine(&self, name: Option<&str>) -> Result<Arc<Engine>, ModelError> {
        let name = self.resolve(name);
        // Held while loading: two cameras that start at once must not load one model twice.
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let known = || entries.keys().cloned().collect::<Vec<_>>().join(", ");
        let Some(entry) = entries.get(name) else {
            return Err(ModelError::Unknown { name: name.to_owned(), known: known() });
        };
        if let Some((_, engine)) = &entry.engine {
            return Ok(Arc::clone(engine));
        }
        let path = entry.path.clone();
        let loaded = Model::load(&path, &self.config).and_then(|model| {
            let info = model.describe().clone();
            Ok((info, Engine::start(model, &self.config)?))
        });
        let entry = entries.get_mut(name).expect("looked up above under the same lock");
        match loaded {
            Ok((info, engine)) => {
                tracing::info!(model = %info, "loaded");
                entry.problem = None;
                entry.engine = Some((info, Arc::clone(&engine)));
                Ok(engine)
            }
            Err(reason) => {
                entry.problem = Some(reason.to_string());
                Err(ModelError::Load { name: name.to_owned(), path: path.display().to_string(), reason })
            }
        }
    }

    /// Settings of inference.
    #[must_use]
    pub fn config(&self) -> &InferConfig {
        &self.config
    }

    /// What a loaded model is, in words.
    #[must_use]
    pub fn describe(&self, name: &str) -> Option<String> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(name).and_then(|e| e.engine.as_ref()).map(|(info, _)| info.to_string())
    }

    /// Every model, by name.
    #[must_use]
    pub fn statuses(&self) -> Vec<ModelStatus> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let status = |(name, entry): (&String, &Entry)| ModelStatus {
            name: name.clone(),
            path: entry.path.clone(),
            default: *name == self.default,
            loaded: entry.engine.as_ref().map(|(info, _)| info.clone()),
            problem: entry.problem.clone(),
        };
        entries.iter().map(status).collect()
    }
}
