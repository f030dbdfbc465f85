//! Guests on disk: content-addressed components, names and versions beside them, the built-in ones.
//!
//! Owns `<dir>/sha256/<hex>.wasm` and `<dir>/index.json`, and that each digest is compiled once and shared. Must not know
//! cameras. A component enters only after it was inspected, compiled and linked: what is in the store runs here.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde::{Deserialize, Serialize};

use crate::component::{ComponentInfo, GuestComponent, inspect};
use crate::digest::Digest;
use crate::engine::GuestEngine;
use crate::error::StoreError;

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
    /// What the component says about itself.
    #[serde(flatten)]
    pub info: ComponentInfo,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    /// In the order in which they were added: a bare name means its latest.
    guests: Vec<StoredGuest>,
}

/// The store. Share it by `Arc`; every method may take as long as a compilation, except `list` and `resolve`.
#[derive(Debug)]
pub struct GuestStore {
    engine: GuestEngine,
    dir: PathBuf,
    builtin: Vec<(StoredGuest, PathBuf)>,
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
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir.join("sha256")).map_err(at("making", dir))?;
        let index = read_index(&dir.join("index.json"))?;
        let builtin = builtin_dir.map(|d| read_builtin(d, engine)).transpose()?.unwrap_or_default();
        let (engine, dir) = (engine.clone(), dir.to_owned());
        Ok(Self { engine, dir, builtin, index: Mutex::new(index), loaded: Mutex::default() })
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
        let path = match self.builtin.iter().find(|(g, _)| g.info.digest == digest) {
            Some((_, path)) => path.clone(),
            None => self.blob(&digest),
        };
        let bytes = fs::read(&path).map_err(at("reading", &path))?;
        if Digest::of(&bytes) != digest {
            return Err(StoreError::DigestMismatch { path });
        }
        let component = GuestComponent::load(&self.engine, &bytes)
            .map_err(|error| StoreError::Load { guest: format!("{}@{}", guest.name, guest.version), error })?;
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
        let guest = self.resolve(reference)?;
        let builtin = self.builtin.iter().find(|(g, _)| *g == guest).map(|(_, path)| path.clone());
        let path = builtin.unwrap_or_else(|| self.blob(&guest.info.digest));
        let bytes = fs::read(&path).map_err(at("reading", &path))?;
        if Digest::of(&bytes) != guest.info.digest {
            return Err(StoreError::DigestMismatch { path });
        }
        Ok(bytes)
    }

    /// Takes a component in under a name and a version. The same bytes again are fine; other bytes are not.
    ///
    /// # Errors
    /// `BadReference` for names; `VersionTaken`; `Load` when the component is refused; `Io`.
    pub fn add(&self, bytes: &[u8], name: &str, version: &str) -> Result<StoredGuest, StoreError> {
        for part in [name, version] {
            if !is_name(part) {
                return Err(StoreError::BadReference(crate::error::one_line(&format!("{name}@{version}"), 128)));
            }
        }
        let refused = |error| StoreError::Load { guest: format!("{name}@{version}"), error };
        let info = inspect(bytes, self.engine.config().max_component_bytes).map_err(refused)?;
        self.check_version(name, version, &info.digest)?;
        // Compiled (into the cache) and linked before anyone is told that it is in.
        GuestComponent::load(&self.engine, bytes).map_err(refused)?;

        let mut index = lock(&self.index);
        // Again under the lock: another upload may have been faster.
        let guest = StoredGuest { name: name.to_owned(), version: version.to_owned(), builtin: false, info };
        let taken = index.guests.iter().find(|g| g.name == name && g.version == version);
        match taken {
            Some(there) if there.info.digest == guest.info.digest => return Ok(there.clone()),
            Some(there) => return Err(version_taken(there)),
            None => {}
        }
        write_atomically(&self.blob(&guest.info.digest), bytes)?;
        index.guests.push(guest.clone());
        if let Err(e) = self.write_index(&index) {
            index.guests.pop();
            return Err(e);
        }
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
        let kept: Vec<StoredGuest> = index.guests.iter().filter(|g| **g != guest).cloned().collect();
        let shared = kept.iter().any(|g| g.info.digest == guest.info.digest);
        self.write_index(&Index { guests: kept.clone() })?;
        index.guests = kept;
        if !shared {
            let path = self.blob(&guest.info.digest);
            fs::remove_file(&path).map_err(at("deleting", &path))?;
        }
        Ok(())
    }

    fn write_index(&self, index: &Index) -> Result<(), StoreError> {
        let path = self.dir.join("index.json");
        let json = serde_json::to_vec_pretty(index).map_err(io::Error::from).map_err(at("writing", &path))?;
        write_atomically(&path, &json)
    }

    fn check_version(&self, name: &str, version: &str, digest: &Digest) -> Result<(), StoreError> {
        // Names of built-in guests are the host's: `botsort` must mean the same on every host.
        if let Some((guest, _)) = self.builtin.iter().find(|(g, _)| g.name == name) {
            return Err(version_taken(guest));
        }
        match lock(&self.index).guests.iter().find(|g| g.name == name && g.version == version) {
            Some(there) if there.info.digest != *digest => Err(version_taken(there)),
            _ => Ok(()),
        }
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

/// Names and versions become file names, metric labels and parts of URLs.
fn is_name(text: &str) -> bool {
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
        builtin.push((StoredGuest { name, version, builtin: true, info }, path));
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
