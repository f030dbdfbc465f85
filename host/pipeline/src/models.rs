//! The models that cameras can name, each loaded once and shared by all its cameras.
//!
//! Owns names, files and the moment of loading. Must not know how a model runs; that is `facestream-infer`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use facestream_gpu::Gpu;
use facestream_infer::{Engine, InferConfig, InferError, ModelInfo};

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
    /// One for each GPU that it was asked for on; a single one, without a GPU, on a machine that has none.
    engines: Vec<Running>,
    problem: Option<String>,
}

/// A model that runs.
struct Running {
    /// GPU that it was asked for on.
    gpu: Option<usize>,
    info: ModelInfo,
    engine: Arc<Engine>,
}

impl Entry {
    fn new(path: PathBuf) -> Self {
        Self { path, engines: Vec::new(), problem: None }
    }

    fn on(&self, gpu: Option<usize>) -> Option<&Running> {
        self.engines.iter().find(|e| e.gpu == gpu)
    }
}

/// What is known of a model that is asked for.
enum Found {
    Running(Arc<Engine>),
    /// Its file.
    Known(PathBuf),
}

/// All models by name.
pub struct Models {
    config: InferConfig,
    default: String,
    /// Looked into again for a name that is not known: files may come later.
    folders: Vec<PathBuf>,
    gpus: bool,
    entries: Mutex<BTreeMap<String, Entry>>,
    /// Held while one loads: two cameras that start at once must not load one model twice, nor measure how fast one is on a
    /// GPU that is busy with another.
    loading: Mutex<()>,
}

impl Models {
    /// Knows every `*.onnx` of the folders by its file name without the ending, and, with `gpus`, every `*.engine`, which
    /// goes before the ONNX file of the same name; a later folder wins.
    #[must_use]
    pub fn new(config: InferConfig, folders: &[PathBuf], default: &str, gpus: bool) -> Self {
        let (folders, default) = (folders.to_vec(), default.to_owned());
        let (entries, loading) = (Mutex::default(), Mutex::default());
        let models = Self { config, default, folders, gpus, entries, loading };
        *models.entries() = models.found().map(|(name, path)| (name, Entry::new(path))).collect();
        models
    }

    /// What lies in the folders; of one name the last counts.
    fn found(&self) -> impl Iterator<Item = (String, PathBuf)> {
        let endings: &[&str] = if self.gpus { &["onnx", "engine"] } else { &["onnx"] };
        let places = self.folders.iter().flat_map(|folder| endings.iter().map(move |ending| (folder, *ending)));
        places.flat_map(|(folder, ending)| {
            let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
            let of_ending = files.filter(move |p| p.extension().is_some_and(|e| e == ending));
            of_ending.filter_map(|p| Some((p.file_stem()?.to_str()?.to_owned(), p)))
        })
    }

    /// Adds a file under its own path as its name, for `facestream run --model FILE`.
    pub fn add_file(&self, path: &Path) -> String {
        let name = path.display().to_string();
        let mut entries = self.entries();
        entries.entry(name.clone()).or_insert_with(|| Entry::new(path.to_owned()));
        name
    }

    /// The name that stands for `None`.
    #[must_use]
    pub fn resolve<'a>(&'a self, name: Option<&'a str>) -> &'a str {
        name.unwrap_or(&self.default)
    }

    /// The engine of a model on a GPU, or on the processor; loads it at the first call, which takes up to seconds (and
    /// minutes where TensorRT builds an engine for the first time), so not on the async runtime.
    ///
    /// # Errors
    /// When there is none of that name, or it does not load.
    pub fn engine(&self, name: Option<&str>, gpu: Option<&Arc<Gpu>>) -> Result<Arc<Engine>, ModelError> {
        let ordinal = gpu.map(|gpu| gpu.ordinal());
        let name = self.resolve(name);
        if let Found::Running(engine) = self.find(name, ordinal)? {
            return Ok(engine);
        }
        // The list is free meanwhile: health and metrics read it.
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let path = match self.find(name, ordinal)? {
            Found::Running(engine) => return Ok(engine),
            Found::Known(path) => path,
        };
        let loaded = facestream_infer::load(&path, &self.config, gpu)
            .and_then(|(detector, info)| Ok((info, Engine::start(detector, &self.config)?)));
        let mut entries = self.entries();
        let entry = entries.entry(name.to_owned()).or_insert_with(|| Entry::new(path.clone()));
        match loaded {
            Ok((info, engine)) => {
                tracing::info!(model = %info, "loaded");
                entry.problem = None;
                entry.engines.push(Running { gpu: ordinal, info, engine: Arc::clone(&engine) });
                Ok(engine)
            }
            Err(reason) => {
                entry.problem = Some(reason.to_string());
                Err(ModelError::Load { name: name.to_owned(), path: path.display().to_string(), reason })
            }
        }
    }

    fn find(&self, name: &str, gpu: Option<usize>) -> Result<Found, ModelError> {
        let unknown = !self.entries().contains_key(name);
        // Read while the list is free: a folder may lie on a disk that answers late.
        let came = unknown.then(|| self.found().filter(|(found, _)| found == name).last()).flatten();
        let mut entries = self.entries();
        if let Some((name, path)) = came {
            entries.entry(name).or_insert_with(|| Entry::new(path));
        }
        let Some(entry) = entries.get(name) else {
            let known = entries.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(ModelError::Unknown { name: name.to_owned(), known });
        };
        Ok(match entry.on(gpu) {
            Some(running) => Found::Running(Arc::clone(&running.engine)),
            None => Found::Known(entry.path.clone()),
        })
    }

    /// Never held while something loads or is read from a disk.
    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Settings of inference.
    #[must_use]
    pub fn config(&self) -> &InferConfig {
        &self.config
    }

    /// What a loaded model is, in words; on several GPUs, the first that it was loaded on.
    #[must_use]
    pub fn describe(&self, name: &str) -> Option<String> {
        let entries = self.entries();
        entries.get(name).and_then(|e| e.engines.first()).map(|running| running.info.to_string())
    }

    /// Images a second that a model takes on a GPU, all its sessions together, as measured when it was loaded.
    #[must_use]
    pub fn images_per_second(&self, name: Option<&str>, gpu: usize) -> Option<f64> {
        let entries = self.entries();
        let running = entries.get(self.resolve(name))?.on(Some(gpu))?;
        // A second session of large batches adds a sixth (YOLOv12n on an H200: 5,732 to 6,666 images a second).
        let sessions = if self.config.gpu_sessions > 1 { 7.0 / 6.0 } else { 1.0 };
        running.info.images_per_second.map(|n| f64::from(n) * sessions)
    }

    /// Every model, by name.
    #[must_use]
    pub fn statuses(&self) -> Vec<ModelStatus> {
        let entries = self.entries();
        let status = |(name, entry): (&String, &Entry)| ModelStatus {
            name: name.clone(),
            path: entry.path.clone(),
            default: *name == self.default,
            loaded: entry.engines.first().map(|running| running.info.clone()),
            problem: entry.problem.clone(),
        };
        entries.iter().map(status).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_free_while_a_model_loads() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("own.onnx"), "").unwrap();
        let models = Models::new(InferConfig::default(), &[dir.path().to_owned()], "own", false);
        std::thread::scope(|scope| {
            let held = models.loading.lock().unwrap();
            let waiting = scope.spawn(|| models.engine(None, None).err());
            assert!(models.statuses()[0].problem.is_none(), "health and metrics read it");
            drop(held);
            assert!(matches!(waiting.join().unwrap(), Some(ModelError::Load { .. })));
        });
        assert!(models.statuses()[0].problem.is_some());
    }

    #[test]
    fn a_file_that_comes_later_is_found() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let folders = dirs.each_ref().map(|d| d.path().to_owned());
        let models = Models::new(InferConfig::default(), &folders, "own", true);
        assert!(matches!(models.find("own", None), Err(ModelError::Unknown { .. })));
        for (folder, name) in [(0, "own.engine"), (0, "own.onnx"), (1, "own.onnx")] {
            std::fs::write(folders[folder].join(name), "").unwrap();
        }
        let Ok(Found::Known(path)) = models.find("own", None) else { panic!("it is there") };
        assert_eq!(path, folders[1].join("own.onnx"), "a later folder wins");
    }
}
