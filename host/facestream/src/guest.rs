//! `facestream guest …`: work with guests. Each command is in a module of its own, with its arguments.

pub mod bench;
pub mod build;
pub mod inspect;
pub mod keygen;
pub mod new;
pub mod pull;
pub mod push;
pub mod registry;
pub mod replay;
pub mod run;
pub mod run_tests;
pub mod sign;
pub mod test;
pub mod track;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use facestream_guest_host::{GuestConfig, GuestEngine, GuestStore};

use crate::assets::Assets;
use crate::cli::GuestCommand;
use crate::parts;

/// Runs one of them.
///
/// # Errors
/// The command's own.
pub fn run(command: &GuestCommand) -> anyhow::Result<ExitCode> {
    match command {
        GuestCommand::New(args) => new::run(args),
        GuestCommand::Build(args) => build::run(args),
        GuestCommand::Test(args) => test::run(args),
        GuestCommand::Bench(args) => bench::run(args),
        GuestCommand::Inspect(args) => inspect::run(args),
        GuestCommand::Replay(args) => replay::run(args),
        GuestCommand::Run(args) => run::run(args),
        GuestCommand::RunTests(args) => run_tests::run(args),
        GuestCommand::Keygen(args) => keygen::run(args),
        GuestCommand::Sign(args) => sign::run(args),
        GuestCommand::Push(args) => push::run(args),
        GuestCommand::Pull(args) => pull::run(args),
        GuestCommand::Track(args) => track::run(args),
    }
}

/// The bytes of a guest named on the command line: a component file, a built-in guest's name, or one of the data
/// folder's store (`name`, `name@version`, `sha256:…`). With whatever the host would compile it into, if it keeps any.
pub(crate) struct GuestBytes {
    pub(crate) bytes: Vec<u8>,
    /// Folder of compiled components.
    pub(crate) cache_dir: PathBuf,
}

/// Finds a guest. A name that is a file is that file; built-in guests need the assets, files do not.
pub(crate) fn find(reference: &str, data: Option<&Path>) -> anyhow::Result<GuestBytes> {
    let dir = data.map_or_else(parts::user_cache, Path::to_owned);
    let cache_dir = std::env::var_os("FACESTREAM_GUESTS_CACHE_DIR").map_or_else(|| dir.join("cache"), PathBuf::from);
    let path = Path::new(reference);
    if path.is_file() {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {reference}"))?;
        return Ok(GuestBytes { bytes, cache_dir });
    }
    anyhow::ensure!(
        !reference.contains('/') && path.extension().is_none_or(|e| e != "wasm"),
        "no file {reference}; of a project of yours `facestream guest build` makes it"
    );
    let engine = GuestEngine::new(&GuestConfig { max_instances: 4, ..GuestConfig::default() })?;
    let store = GuestStore::open(&engine, &dir.join("guests"), Some(&Assets::find()?.guests()))?;
    let bytes = store.bytes(reference).with_context(|| {
        let where_ = data.map_or_else(|| "(its store: --data DIR)".to_owned(), |d| format!("in {}", d.display()));
        format!("`{reference}` is neither a component file nor a guest {where_}")
    })?;
    Ok(GuestBytes { bytes, cache_dir })
}

/// `--config` of a guest: a JSON object.
pub(crate) fn config(text: &str) -> anyhow::Result<serde_json::Value> {
    let config: serde_json::Value =
        serde_json::from_str(text).with_context(|| format!("--config is no JSON: {text}"))?;
    anyhow::ensure!(config.is_object(), "--config takes a JSON object, e.g. '{{\"key\": 1}}'");
    Ok(config)
}
