//! Recordings of guests' calls on disk (`DATA/recordings`): written by a thread of its own, bounded, closed to others.
//!
//! Owns names, bounds and what is counted. Must not decide when something is recorded or what is in it: the stage and
//! `facestream_guest_host::record` do.
//!
//! Queue: at most 8 recordings wait for the disk; one more is dropped and counted `queue-full`. A guest that
//! fails all the time is recorded once in 10 s; the others are counted `too-often`. When there are too many files
//! or bytes the oldest goes, of the slot that has most, so that one bad guest does not push out what others left.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Sender, TrySendError};
use facestream_core::Clock;
use facestream_core::guest::{RecordingFile, SlotKind};
use facestream_guest_host::RecorderConfig;
use facestream_guest_host::record::{BundleError, Manifest, Reason, Recording};

/// Recordings that may wait for the disk; each holds at most `guests.recorder.max_bytes` of calls alive.
const WAITING: usize = 8;
/// One recording of a slot that was not asked for in this time.
const OFTEN_NS: u64 = 10_000_000_000;
const SUFFIX: &str = ".zip";

/// Why a recording was not written or found.
#[derive(Debug, thiserror::Error)]
pub enum RecordingsError {
    /// The name is none of a recording here.
    #[error("no recording `{0}`")]
    Unknown(String),
    /// It alone is larger than all may be.
    #[error("the recording has {bytes} bytes, all together may have {limit} (guests.recorder.keep_bytes)")]
    TooBig {
        /// Of the file.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// It cannot be put into a file.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The disk says no.
    #[error("recordings at {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What became of recordings since the start.
#[derive(Debug, Default)]
struct Counts {
    written: [AtomicU64; 3],
    queue_full: AtomicU64,
    too_often: AtomicU64,
    failed: AtomicU64,
    made_room: AtomicU64,
}

/// The folder of recordings.
pub struct Recordings {
    folder: Arc<Folder>,
    queue: Sender<Recording>,
    /// When a slot was last recorded without being asked, for each reason.
    latest: Mutex<HashMap<(String, SlotKind, &'static str), u64>>,
    clock: Arc<dyn Clock>,
    before_swap: bool,
}

/// What the writing thread needs.
struct Folder {
    path: PathBuf,
    keep_files: usize,
    keep_bytes: u64,
    clock: Arc<dyn Clock>,
    counts: Counts,
    /// Held while files come or go, so that the bounds hold.
    disk: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while these locks are held; should it, the data are still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recordings {
    /// Makes the folder, readable by its owner only, and starts the thread that writes.
    ///
    /// # Errors
    /// When the folder cannot be made or the system refuses a thread.
    pub fn open(path: &Path, config: &RecorderConfig, clock: Arc<dyn Clock>) -> Result<Arc<Self>, RecordingsError> {
        use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
        let wrong = |source| RecordingsError::Io { path: path.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(wrong)?;
        // One that was there already may have been open to others.
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(wrong)?;
        let folder = Arc::new(Folder {
            path: path.to_owned(),
            keep_files: config.keep_files as usize,
            keep_bytes: config.keep_bytes,
            clock: Arc::clone(&clock),
            counts: Counts::default(),
            disk: Mutex::new(()),
        });
        let (queue, waiting) = crossbeam_channel::bounded::<Recording>(WAITING);
        let writing = Arc::clone(&folder);
        let write = move || {
            for recording in waiting {
                let (camera, slot) = (recording.manifest.camera.clone(), recording.manifest.slot);
                match writing.write(&recording) {
                    Ok(file) => {
                        let reason = &recording.manifest.reason;
                        tracing::info!(camera, %slot, file = file.name, reason = reason.as_str(), "the guest's last seconds are on disk; `facestream guest replay` runs them again");
                    }
                    Err(error) => tracing::warn!(camera, %slot, %error, "a recording of a guest is lost"),
                }
            }
        };
        std::thread::Builder::new().name("recordings".to_owned()).spawn(write).map_err(wrong)?;
        let before_swap = config.before_swap;
        Ok(Arc::new(Self { folder, queue, latest: Mutex::default(), clock, before_swap }))
    }

    /// Whether a guest that is replaced is to be recorded.
    #[must_use]
    pub fn before_swap(&self) -> bool {
        self.before_swap
    }

    /// Takes a recording that nobody asked for; never waits.
    pub fn submit(&self, recording: Recording) {
        let counts = &self.folder.counts;
        let now = self.clock.monotonic_ns();
        let Manifest { camera, slot, reason, .. } = &recording.manifest;
        // A guest that fails right after its swap is what is wanted most: the recording before the swap must not stand in
        // its way.
        let key = (camera.clone(), *slot, reason.as_str());
        let mut latest = lock(&self.latest);
        if latest.get(&key).is_some_and(|&at| now.saturating_sub(at) < OFTEN_NS) {
            counts.too_often.fetch_add(1, Ordering::Relaxed);
            return;
        }
        match self.queue.try_send(recording) {
            Ok(()) => {
                // Of cameras that are gone, too, until their time has passed: bounded by what comes in that time.
                latest.retain(|_, &mut at| now.saturating_sub(at) < OFTEN_NS);
                latest.insert(key, now);
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                counts.queue_full.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Writes one that somebody waits for. Blocks on the disk.
    ///
    /// # Errors
    /// See [`RecordingsError`].
    pub fn write(&self, recording: &Recording) -> Result<RecordingFile, RecordingsError> {
        self.folder.write(recording)
    }

    /// All of them, the newest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> Result<Vec<RecordingFile>, RecordingsError> {
        let mut files = self.folder.list()?;
        files.reverse();
        Ok(files)
    }

    /// A file's bytes.
    ///
    /// # Errors
    /// `Unknown`; `Io`.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, RecordingsError> {
        self.folder.known(name, |path| fs::read(path))
    }

    /// Removes one.
    ///
    /// # Errors
    /// `Unknown`; `Io`.
    pub fn remove(&self, name: &str) -> Result<(), RecordingsError> {
        let _disk = lock(&self.folder.disk);
        self.folder.known(name, |path| fs::remove_file(path))
    }

    /// Recordings written since the start, by why they were written.
    #[must_use]
    pub fn written(&self) -> BTreeMap<&'static str, u64> {
        let counts = &self.folder.counts.written;
        ["failure", "swap", "demand"].into_iter().zip(counts.iter().map(|n| n.load(Ordering::Relaxed))).collect()
    }

    /// Recordings that were let go since the start, by reason. `made-room` were on disk before.
    #[must_use]
    pub fn dropped(&self) -> BTreeMap<&'static str, u64> {
        let counts = &self.folder.counts;
        let reasons = [
            ("queue-full", &counts.queue_full),
            ("too-often", &counts.too_often),
            ("write-failed", &counts.failed),
            ("made-room", &counts.made_room),
        ];
        reasons.into_iter().map(|(reason, n)| (reason, n.load(Ordering::Relaxed))).collect()
    }
}

impl Folder {
    fn write(&self, recording: &Recording) -> Result<RecordingFile, RecordingsError> {
        let written = self.try_write(recording);
        let counts = &self.counts;
        let counter = match (&written, &recording.manifest.reason) {
            (Err(_), _) => &counts.failed,
            (Ok(_), Reason::Failure { .. }) => &counts.written[0],
            (Ok(_), Reason::Swap) => &counts.written[1],
            (Ok(_), Reason::Demand) => &counts.written[2],
        };
        counter.fetch_add(1, Ordering::Relaxed);
        written
    }

    fn try_write(&self, recording: &Recording) -> Result<RecordingFile, RecordingsError> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut unix_ms = self.clock.wall_ns() / 1_000_000;
        // Packed before the lock is taken: it takes a while.
        let bytes = recording.to_bytes(unix_ms)?;
        let size = bytes.len() as u64;
        if size > self.keep_bytes {
            return Err(RecordingsError::TooBig { bytes: size, limit: self.keep_bytes });
        }
        let _disk = lock(&self.disk);
        self.make_room(size)?;
        let part = self.path.join(".part");
        let wrong = |source| RecordingsError::Io { path: part.clone(), source };
        let mut file = fs::File::options();
        file.write(true).create(true).truncate(true).mode(0o600);
        file.open(&part).and_then(|mut file| file.write_all(&bytes)).map_err(wrong)?;
        loop {
            let name = name(&recording.manifest, unix_ms);
            let path = self.path.join(&name);
            if path.exists() {
                // Two within a millisecond.
                unix_ms += 1;
                continue;
            }
            // Whole or not there at all.
            fs::rename(&part, &path).map_err(wrong)?;
            return parse(&name, size).ok_or(RecordingsError::Unknown(name));
        }
    }

    /// Removes the oldest, of the slot that has most, until there is room.
    fn make_room(&self, bytes: u64) -> Result<(), RecordingsError> {
        let mut files = self.list()?;
        while files.len() >= self.keep_files.max(1)
            || files.iter().map(|f| f.bytes).sum::<u64>().saturating_add(bytes) > self.keep_bytes
        {
            let mut owners: HashMap<(&str, SlotKind), usize> = HashMap::new();
            for file in &files {
                *owners.entry((&file.camera, file.slot)).or_default() += 1;
            }
            let most = owners.values().copied().max().unwrap_or_default();
            let oldest = files.iter().position(|f| owners[&(f.camera.as_str(), f.slot)] == most);
            let Some(oldest) = oldest else { break };
            let gone = files.remove(oldest);
            let path = self.path.join(&gone.name);
            fs::remove_file(&path).map_err(|source| RecordingsError::Io { path, source })?;
            self.counts.made_room.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The oldest first. Whatever is no recording is left alone.
    fn list(&self) -> Result<Vec<RecordingFile>, RecordingsError> {
        let wrong = |source| RecordingsError::Io { path: self.path.clone(), source };
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(wrong)? {
            let entry = entry.map_err(wrong)?;
            let bytes = entry.metadata().map_or(0, |m| m.len());
            files.extend(entry.file_name().to_str().and_then(|name| parse(name, bytes)));
        }
        files.sort_by(|a, b| (a.written_unix_ms, &a.name).cmp(&(b.written_unix_ms, &b.name)));
        Ok(files)
    }

    /// Does something with a file that is a recording of this folder; any other name is none.
    fn known<T>(&self, name: &str, work: impl FnOnce(&Path) -> std::io::Result<T>) -> Result<T, RecordingsError> {
        let unknown = || RecordingsError::Unknown(name.chars().take(256).collect());
        parse(name, 0).ok_or_else(unknown)?;
        let path = self.path.join(name);
        work(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => unknown(),
            _ => RecordingsError::Io { path, source },
        })
    }
}

fn name(manifest: &Manifest, unix_ms: u64) -> String {
    let Manifest { camera, slot, reason, .. } = manifest;
    format!("{camera}-{slot}-{unix_ms}-{}{SUFFIX}", reason.as_str())
}

/// What a name tells; `None` when it is none of a recording. A camera's id may have `-` in it, the rest has none.
fn parse(name: &str, bytes: u64) -> Option<RecordingFile> {
    let mut parts = name.strip_suffix(SUFFIX)?.rsplitn(4, '-');
    let reason = parts.next().filter(|r| ["failure", "swap", "demand"].contains(r))?.to_owned();
    let written_unix_ms = parts.next()?.parse().ok()?;
    let slot = parts.next()?.parse().ok()?;
    // Also what keeps a name inside the folder: an id has no slash and does not begin with a dot.
    let camera = facestream_core::CameraId::new(parts.next()?).ok()?.as_str().to_owned();
    Some(RecordingFile { name: name.to_owned(), camera, slot, reason, written_unix_ms, bytes })
}

#[cfg(test)]
mod tests;
