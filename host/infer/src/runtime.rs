//! The one ONNX Runtime of this process: loading its library, its environment, its providers.
//!
//! Owns global state, because ONNX Runtime has it: a process loads one library and makes one environment.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use serde::Serialize;

use crate::config::InferConfig;
use crate::error::InferError;

/// The plugin's execution provider, as ONNX Runtime names it.
pub(crate) const OPENVINO: &str = "OpenVINOExecutionProvider";

/// The built-in one.
pub(crate) const CPU: &str = "CPUExecutionProvider";

/// The environment variable that keeps ONNX Runtime from reporting to its maker, and its value.
///
/// Since 1.29 its builds for Linux write a device identifier and events (program, processor, names and sizes of models) to a
/// database below `~/.cache/Microsoft` and send them off; its API turns off only what comes after the first report
/// (microsoft/onnxruntime pull requests 27379 and 29843). A program sets this before its first thread; [`available`]
/// and the loading of models refuse to load the library without it.
pub const NO_TELEMETRY: (&str, &str) = ("ORT_DISABLE_TELEMETRY", "1");

struct Loaded {
    library: PathBuf,
    environment: Environment,
    /// Plugin libraries that were registered, with the error of those that could not be.
    plugins: Vec<(PathBuf, Result<(), String>)>,
}

static RUNTIME: Mutex<Option<Loaded>> = Mutex::new(None);

/// What `facestream doctor` tells about inference on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuntimeInfo {
    /// The library in use.
    pub library: PathBuf,
    /// ONNX Runtime's description of its build (version, commit, flags).
    pub build: String,
    /// Execution providers that can be used, by ONNX Runtime's names.
    pub providers: Vec<String>,
    /// Why a provider that was asked for cannot be used.
    pub notes: Vec<String>,
}

/// Loads ONNX Runtime as configured and says what it can do.
///
/// # Errors
/// When its library cannot be loaded, or another one is loaded already.
pub fn available(config: &InferConfig) -> Result<RuntimeInfo, InferError> {
    with(config, |runtime| {
        let mut notes = Vec::new();
        if config.providers.contains(&crate::config::Provider::OpenVino)
            && let Err(why) = runtime.openvino(config)
        {
            notes.push(why);
        }
        let mut providers: Vec<String> = Vec::new();
        for device in runtime.environment().devices() {
            if let Ok(name) = device.ep()
                && !providers.iter().any(|p| p == name)
            {
                providers.push(name.to_owned());
            }
        }
        RuntimeInfo { library: runtime.library().to_owned(), build: ort::info().to_owned(), providers, notes }
    })
}

/// The loaded runtime, borrowed under its lock. Sessions are made under it: two threads that create sessions at the
/// same time have made ONNX Runtime fail (about once in twenty with several providers).
pub(crate) struct Runtime<'a>(&'a mut Loaded);

impl Runtime<'_> {
    pub(crate) fn environment(&self) -> &Environment {
        &self.0.environment
    }

    fn library(&self) -> &Path {
        &self.0.library
    }

    /// Makes OpenVINO's plugin ready.
    ///
    /// # Errors
    /// Why it cannot be used here, in words.
    pub(crate) fn openvino(&mut self, config: &InferConfig) -> Result<(), String> {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        if !cpu.split_ascii_whitespace().any(|flag| flag == "amx_bf16") {
            return Err("openvino: this processor has no amx_bf16; without it OpenVINO is slower than cpu".to_owned());
        }
        self.register(config.openvino_library.as_deref())
    }

    fn register(&mut self, library: Option<&Path>) -> Result<(), String> {
        let library = library.ok_or("openvino: openvino_library is not set")?;
        if let Some((_, outcome)) = self.0.plugins.iter().find(|(path, _)| path == library) {
            return outcome.clone();
        }
        let outcome = if library.is_file() {
            self.0
                .environment
                .register_ep_library("openvino", library)
                .map_err(|e| format!("openvino: {} cannot be used: {}", library.display(), e.message()))
        } else {
            Err(format!(
                "openvino: {} is no file; it comes with the PyPI package onnxruntime-ep-openvino",
                library.display()
            ))
        };
        self.0.plugins.push((library.to_owned(), outcome.clone()));
        outcome
    }
}

/// Runs something with the runtime, loading it first if need be.
///
/// # Errors
/// When the library cannot be loaded, or the process already uses another one.
pub(crate) fn with<T>(config: &InferConfig, f: impl FnOnce(&mut Runtime<'_>) -> T) -> Result<T, InferError> {
    let mut guard = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    let asked = config.runtime_library.clone().or_else(|| std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from));
    let loaded = match guard.as_mut() {
        Some(loaded) => {
            // Not to say which one is meant to use whatever is there.
            if let Some(asked) = asked.filter(|asked| !same_file(asked, &loaded.library)) {
                return Err(InferError::OtherRuntime { loaded: loaded.library.clone(), asked });
            }
            loaded
        }
        None => {
            let library = asked.unwrap_or_else(|| PathBuf::from("libonnxruntime.so"));
            let environment =
                load(&library).map_err(|reason| InferError::Runtime { library: library.clone(), reason })?;
            guard.insert(Loaded { library, environment, plugins: Vec::new() })
        }
    };
    Ok(f(&mut Runtime(loaded)))
}

fn same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn load(library: &Path) -> Result<Environment, String> {
    let (name, value) = NO_TELEMETRY;
    if std::env::var_os(name).is_none_or(|v| v != value) {
        return Err(format!("ONNX Runtime would report to its maker: start the process with {name}={value}"));
    }
    let builder = ort::init_from(library).map_err(|e| e.to_string())?;
    let environment =
        builder.with_name("facestream").with_telemetry(false).build().map_err(|e| e.message().to_owned())?;
    // Its warnings speak of the model's author's habits (unused initialisers); errors come back as errors.
    environment.set_log_level(ort::logging::LogLevel::Error);
    Ok(environment)
}
