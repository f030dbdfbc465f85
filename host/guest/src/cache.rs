//! Compiled components on disk, so that a host with known guests starts at once.
//!
//! Owns the files `<dir>/<engine>/<digest>.bin`. Machine code is run as it is, so only files written by this process's
//! user, readable by nobody else, whose own checksum is right, are ever given to wasmtime; anything else is compiled
//! anew and overwritten. Must not take bytes from anywhere else.
//!
//! All engines' files together keep to a bound: those that were not used for the longest go first, a former version's
//! among them. That never harms what runs: a file is read whole, and nothing refers to it afterwards.
//!
//! A file is: 8 bytes of magic, 32 bytes SHA-256 of the rest, the code as wasmtime serialises it. The checksum catches
//! damage (a full disk, a crash), not an attacker: who can write as this user owns the process anyway.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use facestream_core::Clock;
use sha2::{Digest as _, Sha256};

use crate::digest::Digest;

const MAGIC: &[u8; 8] = b"FSGUEST1";
const HEADER: usize = 8 + 32;

/// A folder of compiled components for one engine, within a folder that all engines share.
#[derive(Debug)]
pub(crate) struct CompiledCache {
    root: PathBuf,
    dir: PathBuf,
    max_bytes: u64,
    clock: Arc<dyn Clock>,
    bytes: AtomicU64,
    removed: AtomicU64,
}

/// The cache of compiled guests, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Bytes of all its files when last something was added.
    pub bytes: u64,
    /// Files that went since the start because there was no room for them.
    pub removed: u64,
}

impl CompiledCache {
    /// `engine` names everything that the machine code depends on; all files below `root` may have `max_bytes`. What is
    /// there already is brought within them.
    pub(crate) fn new(root: PathBuf, engine: &str, max_bytes: u64, clock: Arc<dyn Clock>) -> Self {
        let (bytes, removed) = (AtomicU64::new(0), AtomicU64::new(0));
        let cache = Self { dir: root.join(engine), root, max_bytes, clock, bytes, removed };
        cache.make_room(0, &[]);
        cache
    }

    pub(crate) fn stats(&self) -> CacheStats {
        CacheStats { bytes: self.bytes.load(Ordering::Relaxed), removed: self.removed.load(Ordering::Relaxed) }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{}.bin", digest.hex()))
    }

    /// The code of a component, if a sound file of ours has it. A file that is there but not sound is reported in the
    /// log and taken as absent: the caller compiles and overwrites it.
    pub(crate) fn read(&self, digest: &Digest) -> Option<Vec<u8>> {
        let path = self.path(digest);
        match read_checked(&path, self.now()) {
            Ok(code) => Some(code),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => {
                tracing::warn!(path = %path.display(), error = %e, "a compiled guest in the cache is not usable; compiling it anew");
                None
            }
        }
    }

    /// Keeps the code of a component, and lets others go where there is no room. Written aside and renamed, so that a crash
    /// leaves the old file or the new one.
    pub(crate) fn write(&self, digest: &Digest, code: &[u8]) -> io::Result<()> {
        let bytes = (HEADER + code.len()) as u64;
        if bytes > self.max_bytes {
            let max = self.max_bytes;
            return Err(io::Error::other(format!(
                "its {bytes} bytes are more than all may have, {max} (guests.cache_max_bytes)"
            )));
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let path = self.path(digest);
        let aside = self.dir.join(format!(".{}.{}.tmp", digest.hex(), std::process::id()));
        let result = (|| {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
            file.write_all(MAGIC)?;
            file.write_all(&Sha256::digest(code))?;
            file.write_all(code)?;
            file.set_modified(self.now())?;
            file.sync_all()?;
            self.make_room(bytes, &[&aside, &path]);
            fs::rename(&aside, &path)
        })();
        if result.is_err() {
            // Best effort: the error that matters is already in hand.
            let _removed = fs::remove_file(&aside);
        }
        result
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.clock.wall_ns())
    }

    /// Lets files go, the longest unused first, until `bytes` more fit. `but` are the files that hold these bytes already,
    /// or will be replaced by them.
    fn make_room(&self, bytes: u64, but: &[&Path]) {
        let mut files = self.files();
        files.retain(|file| !but.contains(&file.path.as_path()));
        files.sort_by_key(|file| file.used);
        let mut all: u64 = files.iter().map(|file| file.bytes).sum::<u64>().saturating_add(bytes);
        for file in files {
            if all <= self.max_bytes {
                break;
            }
            match fs::remove_file(&file.path) {
                Ok(()) => {
                    self.removed.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(path = %file.path.display(), bytes = file.bytes, max_bytes = self.max_bytes, "the cache of compiled guests is full: the longest unused goes");
                }
                // Another process was faster.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => {
                    tracing::warn!(path = %file.path.display(), error = %e, "a file of the cache of compiled guests cannot be deleted");
                    continue;
                }
            }
            all = all.saturating_sub(file.bytes);
        }
        self.bytes.store(all, Ordering::Relaxed);
    }

    /// Every file of any engine: ours and those of versions before, files of a process that died while writing, too.
    fn files(&self) -> Vec<Kept> {
        // What cannot be listed is not counted: the next write says what is wrong with the folder.
        let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten();
        let kept = |entry: fs::DirEntry| {
            let (path, meta) = (entry.path(), entry.metadata().ok()?);
            let ours = path.file_name().and_then(|name| name.to_str()).is_some_and(is_ours);
            let used = meta.modified().unwrap_or(UNIX_EPOCH);
            (meta.is_file() && ours).then_some(Kept { path, bytes: meta.len(), used })
        };
        entries(&self.root).flat_map(|engine| entries(&engine.path())).filter_map(kept).collect()
    }
}

/// A file of the cache.
struct Kept {
    path: PathBuf,
    bytes: u64,
    /// When it was last read or written: its time of modification, which reading sets.
    used: SystemTime,
}

/// Whether a file is named as we name ours, whole ones and unfinished ones: whoever chose the folder may have others in it.
fn is_ours(name: &str) -> bool {
    let hex = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    match name.strip_prefix('.').and_then(|rest| rest.strip_suffix(".tmp")?.split_once('.')) {
        Some((digest, _process)) => hex(digest),
        None => name.strip_suffix(".bin").is_some_and(hex),
    }
}

fn read_checked(path: &Path, now: SystemTime) -> io::Result<Vec<u8>> {
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    // O_NOFOLLOW: a link planted in the folder must not lead elsewhere.
    let mut file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let meta = file.metadata()?;
    // SAFETY: geteuid has no preconditions and cannot fail.
    #[allow(unsafe_code)]
    let me = unsafe { libc::geteuid() };
    if !meta.is_file() || meta.uid() != me || meta.mode() & 0o077 != 0 {
        return Err(bad("it is not a plain file that this user alone can reach"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0));
    io::Read::read_to_end(&mut file, &mut bytes)?;
    if bytes.len() < HEADER || !bytes.starts_with(MAGIC) {
        return Err(bad("it does not begin as our files do"));
    }
    if Sha256::digest(&bytes[HEADER..]).as_slice() != &bytes[8..HEADER] {
        return Err(bad("its checksum is wrong"));
    }
    bytes.drain(..HEADER);
    if let Err(e) = file.set_modified(now) {
        // It only looks older than it is, and is compiled anew sooner.
        tracing::debug!(path = %path.display(), error = %e, "the use of a compiled guest cannot be noted");
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use facestream_core::SimulatedClock;

    use super::*;

    fn clock() -> Arc<SimulatedClock> {
        Arc::new(SimulatedClock::at(1_700_000_000_000_000_000))
    }

    #[test]
    fn the_longest_unused_go_first_and_never_what_was_just_added() {
        let dir = tempfile::tempdir().unwrap();
        let clock = clock();
        let size = HEADER as u64 + 100;
        let open = |engine: &str, max| CompiledCache::new(dir.path().to_owned(), engine, max, clock.clone());
        let old_engine = open("old", 1 << 20);
        let tick = || clock.advance(Duration::from_secs(1));
        old_engine.write(&Digest::of(b"old"), &[0; 100]).unwrap();
        let cache = open("engine", 3 * size);
        let [a, b, c, d] = [b"a", b"b", b"c", b"d"].map(|name| Digest::of(name));
        for digest in [&a, &b, &c] {
            tick();
            cache.write(digest, &[1; 100]).unwrap();
        }
        assert_eq!(old_engine.read(&Digest::of(b"old")), None, "a former version's go like any other");
        assert_eq!(cache.stats(), CacheStats { bytes: 3 * size, removed: 1 });
        tick();
        assert!(cache.read(&a).is_some());
        tick();
        cache.write(&d, &[1; 100]).unwrap();
        assert_eq!(cache.read(&b), None, "b was not used for the longest: a was read");
        assert!([&a, &c, &d].iter().all(|digest| cache.read(digest).is_some()));
        // The same again replaces itself.
        tick();
        cache.write(&d, &[2; 100]).unwrap();
        assert_eq!(cache.read(&d).unwrap(), [2; 100]);
        let huge = cache.write(&b, &vec![0; 4 * size as usize]).unwrap_err().to_string();
        assert!(huge.contains("guests.cache_max_bytes"), "{huge}");
        assert_eq!(cache.stats(), CacheStats { bytes: 3 * size, removed: 2 }, "nothing goes for it");
        // A tighter bound holds from the start on, and what is not ours is left alone.
        fs::write(dir.path().join("engine/firmware.bin"), vec![0; 1000]).unwrap();
        let unfinished = cache.dir.join(format!(".{}.1.tmp", b.hex()));
        fs::write(&unfinished, [0; 10]).unwrap();
        // Left behind long ago, by the test's clock: the file system stamps with the machine's.
        fs::File::options().write(true).open(&unfinished).unwrap().set_modified(UNIX_EPOCH).unwrap();
        let tight = open("engine", size);
        assert_eq!(tight.stats().bytes, size);
        assert!(
            [&a, &c].iter().all(|digest| tight.read(digest).is_none()) && tight.read(&d).is_some(),
            "the latest stays"
        );
        assert!(dir.path().join("engine/firmware.bin").exists());
    }

    #[test]
    fn only_sound_files_of_ours_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let cache = CompiledCache::new(dir.path().to_owned(), "engine", 1 << 20, clock());
        let digest = Digest::of(b"x");
        assert_eq!(cache.read(&digest), None);
        cache.write(&digest, b"code").unwrap();
        assert_eq!(cache.read(&digest).as_deref(), Some(&b"code"[..]));
        let path = cache.path(&digest);
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));

        let sound = fs::read(&path).unwrap();
        let mut flipped = sound.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for damaged in [&flipped[..], &sound[..20], b""] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(cache.read(&digest), None);
        }
        fs::write(&path, &sound).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(cache.read(&digest), None, "others could have written it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert_eq!(cache.read(&digest), None, "a link is not followed");
    }
}
