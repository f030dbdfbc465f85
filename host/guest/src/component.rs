//! Components: what they are, what they may import, how they become machine code.
//!
//! Owns refusal (with the reason) before anything is compiled, and the compile step with its cache; `link` has what a
//! component is given for its imports. Must not make instances: `instance` does.

mod link;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use facestream_core::guest::SlotKind;
use wasmparser::{ComponentExternalKind, Encoding, Parser, Payload, Validator, WasmFeatures};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::bindings::{formatter, scorer, tracker};
use crate::digest::Digest;
use crate::engine::GuestEngine;
use crate::error::{LoadError, one_line};
use crate::host::{HostState, wasi};

/// Version of the WIT package that this host is built from (`wit/`).
pub const WIT_VERSION: &str = "0.1.1";
/// Versions of the WIT package that this host serves; `wit/README.md` has the rule.
pub const WIT_VERSIONS: &str = "0.1.x";
const PACKAGE: &str = "facestream:analytics/";

/// A component, compiled and linked: instances are made from it. Share it by `Arc`, one a digest.
pub struct GuestComponent {
    engine: GuestEngine,
    info: ComponentInfo,
    pub(crate) pre: Pre,
}

/// What a component says about itself.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ComponentInfo {
    /// Digest of its bytes.
    pub digest: Digest,
    /// The slot it fills.
    pub kind: SlotKind,
    /// Its bytes.
    pub bytes: u64,
    /// Version of the WIT package it was built against.
    pub wit_version: String,
    /// What it imports, by name with version. A component without `…/pixels` provably never sees a picture.
    pub imports: Vec<String>,
}

impl ComponentInfo {
    /// The interface that it exports, by name with version.
    #[must_use]
    pub fn exported(&self) -> String {
        let interface = match self.kind {
            SlotKind::Tracker => "tracking",
            SlotKind::Scorer => "scoring",
            SlotKind::Formatter => "formatting",
        };
        format!("{PACKAGE}{interface}@{}", self.wit_version)
    }
}

pub(crate) enum Pre {
    Tracker(tracker::TrackerPre<HostState>),
    Scorer(scorer::ScorerPre<HostState>),
    Formatter(formatter::FormatterPre<HostState>),
}

impl std::fmt::Debug for GuestComponent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestComponent").field("info", &self.info).finish_non_exhaustive()
    }
}

impl GuestComponent {
    /// Checks, compiles (or takes from the cache) and links a component. Takes from milliseconds to many seconds for a
    /// large one, on all cores: never call it on a thread that serves frames or requests.
    ///
    /// # Errors
    /// See [`LoadError`]: each says what was found and what to do.
    pub fn load(engine: &GuestEngine, bytes: &[u8]) -> Result<Arc<Self>, LoadError> {
        let info = inspect(bytes, engine.config().max_component_bytes)?;
        let began = Instant::now();
        let (component, cached) = compile(engine, bytes, &info.digest)?;
        tracing::debug!(digest = %info.digest, kind = %info.kind, cached, ms = began.elapsed().as_millis(), "component ready");
        let mismatch = |e: wasmtime::Error| {
            let mut problem = format!("{e:#}");
            if patch(&info.wit_version) > patch(WIT_VERSION) {
                // Within 0.1 functions are only added: what is missing is what a later version brought.
                let built = &info.wit_version;
                problem =
                    format!("built against {built}, it needs what this host ({WIT_VERSION}) does not have: {problem}");
            }
            LoadError::Mismatch { kind: info.kind, problem: one_line(&problem, 1024) }
        };
        let linker = link::linker(engine.wasmtime(), &component, &info).map_err(mismatch)?;
        let pre = linker.instantiate_pre(&component).map_err(mismatch)?;
        let pre = match info.kind {
            SlotKind::Tracker => Pre::Tracker(tracker::TrackerPre::new(pre).map_err(mismatch)?),
            SlotKind::Scorer => Pre::Scorer(scorer::ScorerPre::new(pre).map_err(mismatch)?),
            SlotKind::Formatter => Pre::Formatter(formatter::FormatterPre::new(pre).map_err(mismatch)?),
        };
        Ok(Arc::new(Self { engine: engine.clone(), info, pre }))
    }

    /// What it says about itself.
    #[must_use]
    pub fn info(&self) -> &ComponentInfo {
        &self.info
    }

    /// The slot it fills.
    #[must_use]
    pub fn kind(&self) -> SlotKind {
        self.info.kind
    }

    /// Digest of its bytes.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.info.digest
    }

    /// The engine it belongs to.
    #[must_use]
    pub fn engine(&self) -> &GuestEngine {
        &self.engine
    }
}

/// Reads what a component is without compiling it, and refuses what could never run here.
///
/// # Errors
/// See [`LoadError`].
pub fn inspect(bytes: &[u8], max_bytes: u64) -> Result<ComponentInfo, LoadError> {
    let len = bytes.len() as u64;
    if len > max_bytes {
        return Err(LoadError::TooBig { bytes: len, limit: max_bytes });
    }
    if Engine::detect_precompiled(bytes).is_some() || bytes.starts_with(b"\x7fELF") {
        return Err(LoadError::Precompiled);
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(LoadError::NotWasm);
    }
    if Parser::is_core_wasm(bytes) {
        return Err(LoadError::PlainModule);
    }
    let names = validate(bytes)?;

    // Exports first: an import of another version of the package is then told as what it is.
    let found: Vec<(SlotKind, &str)> = names
        .exports
        .iter()
        .filter_map(|name| {
            let (interface, version) = name.strip_prefix(PACKAGE)?.split_once('@')?;
            Some((slot_of(interface)?, version))
        })
        .collect();
    let unsupported = names.exports.iter().chain(&names.imports).find_map(|name| {
        let (_, version) = name.strip_prefix(PACKAGE)?.split_once('@')?;
        (!speaks(version)).then(|| (name.clone(), version.to_owned()))
    });
    if let Some((name, version)) = unsupported {
        return Err(LoadError::WitVersion { name, found: version, supported: WIT_VERSIONS });
    }
    let (kind, version) = match found[..] {
        [one] => one,
        [] => {
            let found = if names.exports.is_empty() { "none".to_owned() } else { names.exports.join(", ") };
            return Err(LoadError::NoExport { found: one_line(&found, 512) });
        }
        _ => {
            return Err(LoadError::SeveralExports(
                found.iter().map(|f| f.0.as_str()).collect::<Vec<_>>().join(" and "),
            ));
        }
    };
    for import in &names.imports {
        allow_import(import, kind)?;
    }
    let wit_version = version.to_owned();
    Ok(ComponentInfo { digest: Digest::of(bytes), kind, bytes: len, wit_version, imports: names.imports })
}

fn slot_of(interface: &str) -> Option<SlotKind> {
    match interface {
        "tracking" => Some(SlotKind::Tracker),
        "scoring" => Some(SlotKind::Scorer),
        "formatting" => Some(SlotKind::Formatter),
        _ => None,
    }
}

/// Whether a version of the package is one that this host serves: 0.1 in any patch, earlier and later ones.
fn speaks(version: &str) -> bool {
    patch(version).is_some()
}

/// The patch of a version 0.1.
fn patch(version: &str) -> Option<u64> {
    version.strip_prefix("0.1.").filter(|patch| patch.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}

fn allow_import(import: &str, kind: SlotKind) -> Result<(), LoadError> {
    let refuse = |why: &str| Err(LoadError::ImportRefused { import: one_line(import, 256), why: why.to_owned() });
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    if let Some(interface) = name.strip_prefix(PACKAGE) {
        return match interface {
            "types" | "log" => Ok(()),
            "pixels" | "shots" if kind != SlotKind::Tracker => Ok(()),
            "pixels" => refuse("a tracker sees no pictures"),
            _ => refuse("of facestream:analytics a guest may import types, log, shots and pixels"),
        };
    }
    if wasi::ALLOWED.contains(&name) {
        return if version.starts_with("0.2.") && !version.contains('-') {
            Ok(())
        } else {
            refuse("the empty WASI offered here is that of 0.2")
        };
    }
    if name.starts_with("wasi:sockets/") || name.starts_with("wasi:http/") {
        return refuse("guests have no network; what leaves the system leaves as messages of a formatter");
    }
    refuse(
        "guests may import facestream:analytics (types, log, shots, pixels) and an empty WASI 0.2 (cli, io, clocks, filesystem without files, random)",
    )
}

struct Names {
    imports: Vec<String>,
    exports: Vec<String>,
}

/// Validates the whole component with exactly the features that the engine has on, and collects the names at its top.
fn validate(bytes: &[u8]) -> Result<Names, LoadError> {
    let malformed = |e: wasmparser::BinaryReaderError| LoadError::Malformed(one_line(&e.to_string(), 512));
    // The engine's set is the authority when it compiles; this one is not larger.
    let mut features = WasmFeatures::WASM2 | WasmFeatures::COMPONENT_MODEL | WasmFeatures::EXTENDED_CONST;
    features.remove(WasmFeatures::GC_TYPES);
    let mut validator = Validator::new_with_features(features);
    validator.validate_all(bytes).map_err(malformed)?;

    let mut names = Names { imports: Vec::new(), exports: Vec::new() };
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(malformed)? {
            Payload::Version { encoding: Encoding::Component | Encoding::Module, .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    names.imports.push(import.map_err(malformed)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    let export = export.map_err(malformed)?;
                    if export.kind == ComponentExternalKind::Instance {
                        names.exports.push(export.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(names)
}

/// Names of a component's imports, after it was validated.
pub(crate) fn top_level_names(bytes: &[u8]) -> Result<Vec<String>, LoadError> {
    Ok(validate(bytes)?.imports)
}

/// Names of the instances that a component exports; none when it is not sound.
pub(crate) fn instance_exports(bytes: &[u8]) -> Vec<String> {
    validate(bytes).map(|names| names.exports).unwrap_or_default()
}

/// Machine code of a component, and whether the cache had it. What the cache has waits for no other compilation.
fn compile(engine: &GuestEngine, bytes: &[u8], digest: &Digest) -> Result<(Component, bool), LoadError> {
    if let Some(component) = cached(engine, digest) {
        return Ok((component, true));
    }
    let _turn = engine.turns().take(engine.config().compile.max_waiting)?;
    // Whoever had the turn before may have compiled the same.
    if let Some(component) = cached(engine, digest) {
        return Ok((component, true));
    }
    let fail = |e: wasmtime::Error| LoadError::Compile(one_line(&format!("{e:#}"), 1024));
    let keep = |code: &[u8]| {
        let Some(cache) = engine.cache() else { return };
        if let Err(e) = cache.write(digest, code) {
            // The guest runs all the same; the next start compiles again.
            tracing::warn!(%digest, error = %e, "the compiled guest could not be kept in the cache");
        }
    };
    if let Some(code) = engine.compile_elsewhere(bytes) {
        let code = code?;
        // SAFETY: the compiler made this code from these bytes for this engine just now; that is what `Compiler` asks of
        // whoever implements it. Bytes from outside never come this way.
        #[allow(unsafe_code)]
        let component = unsafe { Component::deserialize(engine.wasmtime(), &code) }.map_err(fail)?;
        keep(&code);
        return Ok((component, false));
    }
    // The compiler panics on components that are sound by themselves (two of them inside of one, each with a memory, need
    // the feature multi-memory, which is off). A panic here leaves nothing half done: the result is all that there is.
    let component = catch_unwind(AssertUnwindSafe(|| Component::from_binary(engine.wasmtime(), bytes)))
        .map_err(|panic| LoadError::Compile(one_line(&panicked(&*panic), 1024)))?
        .map_err(fail)?;
    if engine.cache().is_some() {
        keep(&component.serialize().map_err(fail)?);
    }
    Ok((component, false))
}

/// What a compiler said when it gave up.
fn panicked(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
    format!("the compiler gave up on it: {}", words.unwrap_or("it panicked without a word"))
}

/// What the cache has of a component.
fn cached(engine: &GuestEngine, digest: &Digest) -> Option<Component> {
    let code = engine.cache()?.read(digest)?;
    // SAFETY: `CompiledCache::read` gives back only bytes that this host serialised for this engine and digest: the file
    // belongs to this user alone and its checksum is right. Bytes from outside never come this way.
    #[allow(unsafe_code)]
    let component = unsafe { Component::deserialize(engine.wasmtime(), &code) };
    component
        .inspect_err(|e| {
            tracing::warn!(%digest, error = %one_line(&format!("{e:#}"), 512), "a compiled guest in the cache does not fit this engine; compiling it anew");
        })
        .ok()
}
