//! Puts the parts of the host together from configuration and assets.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use facestream_core::guest::SlotKind;
use facestream_guest_host::{GuestConfig, GuestEngine, GuestStore};
use facestream_infer::InferConfig;
use facestream_pipeline::Models;

use crate::assets::Assets;

/// Guests: built-in ones from the assets, uploaded ones and the compiled-code cache under the data folder.
pub(crate) fn guest_store(config: &GuestConfig, data: Option<&Path>) -> anyhow::Result<Arc<GuestStore>> {
    let assets = Assets::find()?;
    let mut config = config.clone();
    if config.cache_dir.is_none() {
        // Without a data folder the cache lies with the assets, where it serves every run.
        config.cache_dir = Some(data.map_or_else(|| assets.root().join("cache"), |dir| dir.join("cache")));
    }
    let engine = GuestEngine::new(config)?;
    Ok(Arc::new(GuestStore::open(engine, &assets.guests(), data)?))
}

/// A guest named on the command line: as it stands when the store has it, else a component file that is put in the
/// store in memory under its path.
pub(crate) fn guest_reference(store: &GuestStore, text: &str, slot: SlotKind) -> anyhow::Result<String> {
    if store.resolve(text).is_ok() {
        return Ok(text.to_owned());
    }
    let path = Path::new(text);
    anyhow::ensure!(
        path.is_file(),
        "no {slot} `{text}`: neither a guest (there are: {}) nor a component file",
        store.list().iter().filter(|g| g.slot == slot).map(|g| g.name.as_str()).collect::<Vec<_>>().join(", ")
    );
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {text}"))?;
    store.add_unnamed(&bytes).with_context(|| format!("{text} cannot be used"))
}

/// Models of the assets, and the library that runs them.
pub(crate) fn models(
    config: &InferConfig,
    default: &str,
    data: Option<&Path>,
) -> anyhow::Result<Arc<Models>> {
    let assets = Assets::find()?;
    let mut config = config.clone();
    if config.runtime_library.is_none() && std::env::var_os("ORT_DYLIB_PATH").is_none() {
        config.runtime_library = Some(assets.onnxruntime());
    }
    let own = data.map(|dir| dir.join("models"));
    let folders: Vec<_> = std::iter::once(assets.models()).chain(own).collect();
    Ok(Arc::new(Models::new(config, &folders, default)))
}
