//! Guests on disk: content-addressed components, names and versions beside them, the built-in ones.
//!
//! Owns `<dir>/sha256/<hex>.wasm`, their signatures (`<hex>.sig`) and `<dir>/index.json`, and that each digest is compiled
//! once and shared. Must not know cameras. A component enters only after it was inspected, compiled and linked: what is in the store runs here.

mod trust;

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use facestream_core::{Clock, SystemClock};
use serde::{Deserialize, Serialize};

use crate::component::{ComponentInfo, GuestComponent, inspect};
use crate::digest::Digest;
use crate::engine::GuestEngine;
use crate::error::StoreError;
use crate::facts::facts;

/// One entry of the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredGuest {
    /// Name.
    pub name: String,
    /// Version; a name and a version stand for the same bytes for ever.
    pub version: String,
    /// Comes with the host.
    #[serde(default)]
    pub builtin: bool,
    /// When it was stored, milliseconds since the Unix epoch; `None` for built-in ones, and for those of a store from
    /// before this was written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_unix_ms: Option<u64>,
    /// The public key that signed it, `ed25519:<hex>`; its signature was checked and is again at each load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// Languages and tools that say they made it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub producers: Vec<String>,
    /// What the component says about itself.
    #[serde(flatten)]
    pub info: ComponentInfo,
}

impl StoredGuest {
    /// `NAME@VERSION`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    /// In the order in which they were added: a bare name means its latest.
    guests: Vec<StoredGuest>,
    /// What deleted names stood for: a name and a version mean the same bytes for ever, or a camera that names them would
    /// run something else after its next start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    deleted: Vec<Deleted>,
}

/// A guest that was deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Deleted {
    name: String,
    version: String,
    digest: Digest,
    #[serde(default)]
    signed: bool,
}

impl Index {
    /// Every version that a name ever had.
    fn versions<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let there = self.guests.iter().filter(move |g| g.name == name).map(|g| g.version.as_str());
        there.chain(self.deleted.iter().filter(move |d| d.name == name).map(|d| d.version.as_str()))
    }

    /// Whether any version of a name was signed.
    fn was_signed(&self, name: &str) -> bool {
        self.guests.iter().any(|g| g.name == name && g.signed_by.is_some())
            || self.deleted.iter().any(|d| d.name == name && d.signed)
    }
}

/// Guests and deleted names, at most: the index is read and written whole.
const MAX_ENTRIES: usize = 10_000;

/// The store. Share it by `Arc`; every method may take as long as a compilation, except `list` and `resolve`.
#[derive(Debug)]
pub struct GuestStore {
    engine: GuestEngine,
    dir: PathBuf,
    builtin: Vec<(StoredGuest, PathBuf)>,
    clock: Arc<dyn Clock>,
    index: Mutex<Index>,
    loaded: Mutex<HashMap<Digest, Arc<Mutex<Loaded>>>>,
}

/// A component that was loaded: built-in ones stay, others as long as a camera has them.
#[derive(Debug, Default)]
enum Loaded {
    #[default]
    No,
    Kept(Arc<GuestComponent>),
    Shared(Weak<GuestComponent>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic of another thread leaves maps and indexes whole: each is changed by single calls.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl GuestStore {
    /// Opens (or makes) the store in `dir`; built-in guests are the `*.wasm` of `builtin_dir`, named as the files.
    ///
    /// # Errors
    /// When the index is damaged, a built-in guest is no guest, or a folder cannot be read.
    pub fn open(engine: &GuestEngine, dir: &Path, builtin_dir: Option<&Path>) -> Result<Self, StoreError> {
        Self::open_with_clock(engine, dir, builtin_dir, Arc::new(SystemClock::default()))
    }

    /// The same; `clock` tells when guests are added.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with_clock(
        engine: &GuestEngine,
        dir: &Path,
        builtin_dir: Option<&Path>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir.join("sha256")).map_err(at("making", dir))?;
        let index = read_index(&dir.join("index.json"))?;
        let builtin = builtin_dir.map(|d| read_builtin(d, engine)).transpose()?.unwrap_or_default();
        let (engine, dir) = (engine.clone(), dir.to_owned());
        Ok(Self { engine, dir, builtin, clock, index: Mutex::new(index), loaded: Mutex::default() })
    }

    /// The engine that it loads for.
    #[must_use]
    pub fn engine(&self) -> &GuestEngine {
        &self.engine
    }

    /// Everything in the store, built-in guests first.
    #[must_use]
    pub fn list(&self) -> Vec<StoredGuest> {
        self.builtin.iter().map(|(guest, _)| guest.clone()).chain(lock(&self.index).guests.iter().cloned()).collect()
    }

    /// What a reference (`NAME`, `NAME@VERSION`, `sha256:<hex>`) stands for. A bare name is its latest version.
    ///
    /// # Errors
    /// `BadReference`, `NotFound`.
    pub fn resolve(&self, reference: &str) -> Result<StoredGuest, StoreError> {
        let all = self.list();
        let found = if reference.starts_with("sha256:") {
            let digest = Digest::parse(reference).ok_or_else(|| StoreError::BadReference(reference.to_owned()))?;
            all.iter().rfind(|g| g.info.digest == digest)
        } else {
            let (name, version) = match reference.split_once('@') {
                Some((name, version)) => (name, Some(version)),
                None => (reference, None),
            };
            if !is_name(name) || version.is_some_and(|v| !is_name(v)) {
                return Err(StoreError::BadReference(crate::error::one_line(reference, 128)));
            }
            all.iter().rfind(|g| g.name == name && version.is_none_or(|v| g.version == v))
        };
        found.cloned().ok_or_else(|| {
            let mut known: Vec<&str> = all.iter().map(|g| g.name.as_str()).collect();
            known.sort_unstable();
            known.dedup();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            StoreError::NotFound { reference: reference.to_owned(), known }
        })
    }

    /// The component that a reference stands for, compiled at most once a digest however many cameras ask.
    ///
    /// # Errors
    /// As [`Self::resolve`]; `DigestMismatch` and `Load` when the file is not what it was.
    pub fn load(&self, reference: &str) -> Result<Arc<GuestComponent>, StoreError> {
        let guest = self.resolve(reference)?;
        let digest = guest.info.digest;
        trust::recheck(&self.engine.config().signatures, &guest, &self.sidecar(&digest))?;
        let entry = {
            let mut loaded = lock(&self.loaded);
            // Entries of components that nobody has any more go, so that the map does not grow with every upload.
            loaded.retain(|_, e| {
                e.try_lock().map_or(true, |e| !matches!(&*e, Loaded::Shared(w) if w.strong_count() == 0))
            });
            Arc::clone(loaded.entry(digest).or_default())
        };
        // Held while compiling: others who want the same digest wait for it instead of compiling it again.
        let mut entry = lock(&entry);
        match &*entry {
            Loaded::Kept(component) => return Ok(Arc::clone(component)),
            Loaded::Shared(weak) => {
                if let Some(component) = weak.upgrade() {
                    return Ok(component);
                }
            }
            Loaded::No => {}
        }
        let bytes = self.read(&digest)?;
        let component = GuestComponent::load(&self.engine, &bytes)
            .map_err(|error| StoreError::Load { guest: guest.label(), error })?;
        *entry = if guest.builtin {
            Loaded::Kept(Arc::clone(&component))
        } else {
            Loaded::Shared(Arc::downgrade(&component))
        };
        Ok(component)
    }

    /// The bytes of a guest, checked against the digest they are filed under.
    ///
    /// # Errors
    /// As [`Self::resolve`]; `DigestMismatch`; `Io`.
    pub fn bytes(&self, reference: &str) -> Result<Vec<u8>, StoreError> {
        self.read(&self.resolve(reference)?.info.digest)
    }

    fn read(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let builtin = self.builtin.iter().find(|(g, _)| g.info.digest == *digest).map(|(_, path)| path.clone());
        let path = builtin.unwrap_or_else(|| self.blob(digest));
        let bytes = fs::read(&path).map_err(at("reading", &path))?;
        if Digest::of(&bytes) != *digest {
            return Err(StoreError::DigestMismatch { path });
        }
        Ok(bytes)
    }

    /// Takes a component in under a name and a version. The same bytes again are fine; other bytes are not.
    ///
    /// # Errors
    /// `BadReference` for names; `VersionTaken`; `VersionGone`; `Full`; `Load` when the component is refused; `Io`.
    pub fn add(&self, bytes: &[u8], name: &str, version: &str) -> Result<StoredGuest, StoreError> {
        self.add_signed(bytes, name, version, None)
    }

    /// The same with a signature (`ed25519:<key>:<signature>`) over name, version and component.
    ///
    /// # Errors
    /// As [`Self::add`]; `Signature`.
    pub fn add_signed(
        &self,
        bytes: &[u8],
        name: &str,
        version: &str,
        signature: Option<&str>,
    ) -> Result<StoredGuest, StoreError> {
        for part in [name, version] {
            if !is_name(part) {
                return Err(StoreError::BadReference(crate::error::one_line(&format!("{name}@{version}"), 128)));
            }
        }
        let refused = |error| StoreError::Load { guest: format!("{name}@{version}"), error };
        let info = inspect(bytes, self.engine.config().max_component_bytes).map_err(refused)?;
        let admit = |index: &Index| {
            trust::admit(&self.engine.config().signatures, index, (name, version), &info.digest, signature)
                .map_err(|problem| StoreError::Signature { guest: format!("{name}@{version}"), problem })
        };
        {
            let index = lock(&self.index);
            // The same again is no downgrade.
            if self.check_version(&index, name, version, &info)?.is_none() {
                admit(&index)?;
            }
        }
        // Compiled (into the cache) and linked before anyone is told that it is in.
        GuestComponent::load(&self.engine, bytes).map_err(refused)?;

        let mut index = lock(&self.index);
        // Again under the lock: another upload may have been faster.
        if let Some(there) = self.check_version(&index, name, version, &info)? {
            return Ok(there);
        }
        let signature = admit(&index)?;
        let (name, version) = (name.to_owned(), version.to_owned());
        let signed_by = signature.as_ref().map(|s| s.key().to_string());
        let producers = facts(bytes).producers;
        let added_unix_ms = Some(self.clock.wall_ns() / 1_000_000);
        let guest = StoredGuest { name, version, builtin: false, added_unix_ms, signed_by, producers, info };
        let mut next = index.clone();
        // The same bytes again: it is no longer deleted.
        next.deleted.retain(|d| d.name != guest.name || d.version != guest.version);
        next.guests.push(guest.clone());
        write_atomically(&self.blob(&guest.info.digest), bytes)?;
        trust::note(&self.sidecar(&guest.info.digest), &guest.label(), signature.as_ref())?;
        self.write_index(&next)?;
        *index = next;
        Ok(guest)
    }

    /// Forgets an uploaded guest; its bytes go when no other name stands for them. Cameras that run it keep it.
    ///
    /// # Errors
    /// As [`Self::resolve`]; `BuiltIn`; `Io`.
    pub fn remove(&self, reference: &str) -> Result<(), StoreError> {
        let guest = self.resolve(reference)?;
        if guest.builtin {
            return Err(StoreError::BuiltIn(guest.name));
        }
        let mut index = lock(&self.index);
        let mut next = index.clone();
        next.guests.retain(|g| *g != guest);
        let shared = next.guests.iter().any(|g| g.info.digest == guest.info.digest);
        let label = guest.label();
        let digest = guest.info.digest;
        let StoredGuest { name, version, signed_by, .. } = guest;
        next.deleted.push(Deleted { name, version, digest, signed: signed_by.is_some() });
        self.write_index(&next)?;
        *index = next;
        trust::note(&self.sidecar(&digest), &label, None)?;
        if !shared {
            let path = self.blob(&digest);
            fs::remove_file(&path).map_err(at("deleting", &path))?;
        }
        Ok(())
    }

    fn write_index(&self, index: &Index) -> Result<(), StoreError> {
        let path = self.dir.join("index.json");
        let json = serde_json::to_vec_pretty(index).map_err(io::Error::from).map_err(at("writing", &path))?;
        write_atomically(&path, &json)
    }

    /// Whether a name and a version may stand for this component: the guest that is there when they do already.
    fn check_version(
        &self,
        index: &Index,
        name: &str,
        version: &str,
        info: &ComponentInfo,
    ) -> Result<Option<StoredGuest>, StoreError> {
        // Names of built-in guests are the host's: `botsort` must mean the same on every host.
        if let Some((guest, _)) = self.builtin.iter().find(|(g, _)| g.name == name) {
            return Err(version_taken(guest));
        }
        match index.guests.iter().find(|g| g.name == name && g.version == version) {
            Some(there) if there.info.digest == info.digest => return Ok(Some(there.clone())),
            Some(there) => return Err(version_taken(there)),
            None => {}
        }
        let deleted = index.deleted.iter().find(|d| d.name == name && d.version == version);
        match deleted {
            Some(Deleted { name, version, digest, .. }) if *digest != info.digest => {
                let (name, version, digest) = (name.clone(), version.clone(), digest.to_string());
                Err(StoreError::VersionGone { name, version, digest })
            }
            _ => self.check_room(index, info).map(|()| None),
        }
    }

    fn check_room(&self, index: &Index, info: &ComponentInfo) -> Result<(), StoreError> {
        if index.guests.len() + index.deleted.len() >= MAX_ENTRIES {
            return Err(StoreError::Full { what: format!("{MAX_ENTRIES} names, deleted ones included") });
        }
        let sizes: HashMap<Digest, u64> = index.guests.iter().map(|g| (g.info.digest, g.info.bytes)).collect();
        let more = if sizes.contains_key(&info.digest) { 0 } else { info.bytes };
        let most = self.engine.config().max_stored_bytes;
        if sizes.values().sum::<u64>().saturating_add(more) > most {
            return Err(StoreError::Full { what: format!("{most} bytes, guests.max_stored_bytes") });
        }
        Ok(())
    }

    fn sidecar(&self, digest: &Digest) -> PathBuf {
        self.dir.join("sha256").join(format!("{}.sig", digest.hex()))
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.join("sha256").join(format!("{}.wasm", digest.hex()))
    }
}

fn version_taken(there: &StoredGuest) -> StoreError {
    StoreError::VersionTaken {
        name: there.name.clone(),
        version: there.version.clone(),
        digest: there.info.digest.to_string(),
    }
}

/// Whether a guest may be called so, or have this version: both become file names, metric labels and parts of URLs.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
}

fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |error| StoreError::Io { doing, path, error }
}

fn read_index(path: &Path) -> Result<Index, StoreError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|e| StoreError::Index { path: path.to_owned(), problem: e.to_string() }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Index::default()),
        Err(e) => Err(at("reading", path)(e)),
    }
}

fn read_builtin(dir: &Path, engine: &GuestEngine) -> Result<Vec<(StoredGuest, PathBuf)>, StoreError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(at("reading", dir))? {
        let path = entry.map_err(at("reading", dir))?.path();
        if path.extension().is_some_and(|e| e == "wasm") {
            files.push(path);
        }
    }
    files.sort();
    let mut builtin = Vec::new();
    for path in files {
        let name = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_owned();
        if !is_name(&name) {
            return Err(StoreError::BadReference(name));
        }
        let bytes = fs::read(&path).map_err(at("reading", &path))?;
        let info = inspect(&bytes, engine.config().max_component_bytes)
            .map_err(|error| StoreError::Load { guest: name.clone(), error })?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let producers = facts(&bytes).producers;
        let guest = StoredGuest { name, version, builtin: true, added_unix_ms: None, signed_by: None, producers, info };
        builtin.push((guest, path));
    }
    Ok(builtin)
}

fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let aside = path.with_extension(format!("{}.tmp", std::process::id()));
    let result = (|| {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    })();
    if result.is_err() {
        // Best effort: the error that matters is already in hand.
        let _removed = fs::remove_file(&aside);
    }
    result.map_err(at("writing", path))
}
