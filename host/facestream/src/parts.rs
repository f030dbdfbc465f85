//! Puts the parts of the host together from configuration and assets.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use facestream_core::guest::{SlotKind, SlotSpec};
use facestream_gpu::{Gpu, GpuError};
use facestream_guest_host::{ChildCompiler, GuestComponent, GuestConfig, GuestEngine, GuestStore, SlotGuest};
use facestream_infer::InferConfig;
use facestream_pipeline::Models;

use crate::assets::Assets;

/// Guests: built-in ones from the assets, uploaded ones and the compiled-code cache under the data folder. Without a
/// data folder there are no uploaded ones, and the cache lies in the user's own cache folder, where it serves every run.
pub(crate) fn guest_store(config: &GuestConfig, data: Option<&Path>) -> anyhow::Result<(Arc<GuestStore>, GuestEngine)> {
    let assets = Assets::find()?;
    let dir = data.map_or_else(user_cache, Path::to_owned);
    let mut config = config.clone();
    config.cache_dir.get_or_insert_with(|| dir.join("cache"));
    let engine = GuestEngine::with_compiler(&config, Arc::new(ChildCompiler::new(&config.compile)))?;
    let store = GuestStore::open(&engine, &dir.join("guests"), Some(&assets.guests()))?;
    Ok((Arc::new(store), engine))
}

/// `$XDG_CACHE_HOME/facestream`, `~/.cache/facestream`, or a folder for temporary files where there is no home.
pub(crate) fn user_cache() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    from("XDG_CACHE_HOME")
        .or_else(|| from("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("facestream")
}

/// A guest named on the command line: one of the store, else a component file.
pub(crate) fn slot_guest(
    store: &GuestStore,
    engine: &GuestEngine,
    kind: SlotKind,
    spec: &SlotSpec,
) -> anyhow::Result<SlotGuest> {
    let text = &spec.guest;
    let component = if store.resolve(text).is_ok() {
        store.load(text)?
    } else {
        let of_kind = store.list().into_iter().filter(|g| g.info.kind == kind).map(|g| g.name);
        anyhow::ensure!(
            Path::new(text).is_file(),
            "no {kind} `{text}`: neither a guest (there are: {}) nor a component file",
            of_kind.collect::<Vec<_>>().join(", ")
        );
        let bytes = std::fs::read(text).with_context(|| format!("cannot read {text}"))?;
        GuestComponent::load(engine, &bytes).with_context(|| format!("{text} cannot be used"))?
    };
    anyhow::ensure!(component.kind() == kind, "`{text}` is a {}, not a {kind}", component.kind());
    Ok(SlotGuest::new(text, component, spec.config.clone()))
}

/// The GPUs that the configuration speaks of, opened.
pub(crate) fn gpus(config: &InferConfig) -> anyhow::Result<Vec<Arc<Gpu>>> {
    let (gpus, why_none) = facestream_infer::gpus(config.device)
        .with_context(|| format!("infer.device = \"{}\" cannot be used", config.device))?;
    match why_none {
        // Most machines have none, and nothing is wrong with them.
        None | Some(GpuError::NoDriver) => {}
        Some(error) => tracing::warn!(%error, "the processor decodes and analyses"),
    }
    for gpu in &gpus {
        let info = gpu.info();
        tracing::info!(gpu = info.ordinal, name = info.name, driver = info.driver, "GPU");
    }
    Ok(gpus)
}

/// Models of the assets, and the library that runs them; `gpus`: whether there are any.
pub(crate) fn models(
    config: &InferConfig,
    default: &str,
    data: Option<&Path>,
    gpus: bool,
) -> anyhow::Result<Arc<Models>> {
    let assets = Assets::find()?;
    let mut config = config.clone();
    if config.runtime_library.is_none() && std::env::var_os("ORT_DYLIB_PATH").is_none() {
        config.runtime_library = Some(assets.onnxruntime());
    }
    let caches = data.map_or_else(user_cache, |dir| dir.join("cache"));
    config.engine_cache.get_or_insert_with(|| caches.join("engines"));
    let own = data.map(|dir| dir.join("models"));
    let folders: Vec<_> = std::iter::once(assets.models()).chain(own).collect();
    let models = Models::new(config, &folders, default, gpus);
    if Path::new(default).is_file() {
        models.add_file(Path::new(default));
    }
    Ok(Arc::new(models))
}
