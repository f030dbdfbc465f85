//! Messages on disk between being accepted and being acknowledged.
//!
//! Owns the files of one spool: segments named after the first sequence number in them (`00000000000000000042.seg`),
//! `checkpoint`, `lock`, and `quarantine/` with what could not be read. Passive: it has no thread. Whoever appends may
//! be on any thread; one [`Reader`] reads; whoever learns of a delivery calls [`Spool::done`]; a keeper calls
//! [`Spool::tick`] every so often, which syncs, saves the checkpoint and deletes segments that are done.
//!
//! What holds after a crash of the process: every appended record is read again unless it was done. After a power cut:
//! the same for every record that was synced; records appended since may be missing. Record numbers never come twice
//! while a record with that number may still be on the disk, so a gap counts exactly the records that were lost.

mod checkpoint;
mod failing;
mod reader;
pub(crate) mod record;
mod window;

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use checkpoint::Checkpoint;
pub(crate) use failing::{Failing, Unread};
pub(crate) use reader::{Location, Reader, SpoolRecord};
use record::{HEAD, Head};
use window::Window;

use crate::fs::{File, FileSystem};
use crate::status::{Counters, LossReason};

/// Bytes kept in `quarantine/` at most; damage beyond is counted and logged, but not kept.
const QUARANTINE_MAX_BYTES: u64 = 64 << 20;

/// Sizes of a spool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// A segment is closed when it would grow beyond this many bytes.
    pub(crate) segment_bytes: u64,
    /// All segments together.
    pub(crate) max_bytes: u64,
}

/// Why a record was not appended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    #[error("the spool holds {held} bytes; {max} are allowed")]
    Full { held: u64, max: u64 },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// Why a spool could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody else has it.
    #[error("the spool {0} is in use by another process; give each FaceStream a data folder of its own")]
    InUse(PathBuf),
    /// The disk says no.
    #[error("cannot use the spool at {path}: {source}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

#[derive(Debug)]
struct Segment {
    first_seq: u64,
    /// One past the last.
    end_seq: u64,
    /// Bytes that count; a failed write may have left more behind them.
    len: u64,
}

#[derive(Debug)]
struct Inner {
    /// In order, without overlap; the last one is written to while `active` is set.
    segments: VecDeque<Segment>,
    active: Option<Arc<dyn File>>,
    /// Written since its last sync.
    active_dirty: bool,
    /// Segments that were not synced since their last write, by their first number; the one written to only after a
    /// sync that failed.
    to_sync: BTreeMap<u64, Arc<dyn File>>,
    dir_dirty: bool,
    next_seq: u64,
    /// Everything below is on the disk for sure.
    synced_seq: u64,
    window: Window,
    /// Bytes of all segments.
    total_bytes: u64,
    /// Bytes of records neither done nor lost.
    queued_bytes: u64,
    quarantined_bytes: u64,
}

/// One spool.
#[derive(Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
    fs: Arc<dyn FileSystem>,
    limits: Limits,
    counters: Arc<Counters>,
    inner: Mutex<Inner>,
    /// Held during a sync, so that appends that wait for one share it. Taken before `inner`.
    checkpoint: Mutex<Checkpoint>,
    recovered: u64,
    /// Given up when it is closed.
    lock: Mutex<Option<Box<dyn Any + Send + Sync>>>,
}

/// What a spool holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) oldest_ms: Option<u64>,
}

impl Spool {
    /// Opens the spool in `dir`, making it if need be. Losses found on the way are counted.
    pub(crate) fn open(
        fs: Arc<dyn FileSystem>,
        dir: &Path,
        limits: Limits,
        counters: Arc<Counters>,
    ) -> Result<Arc<Self>, OpenError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        let quarantine = dir.join("quarantine");
        fs.create_dir_all(&quarantine).map_err(at(&quarantine))?;
        let lock = fs.lock(&dir.join("lock")).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => OpenError::InUse(dir.to_owned()),
            _ => OpenError::Io { path: dir.join("lock"), source },
        })?;
        let path = dir.join("checkpoint");
        let checkpoint = Checkpoint::open(&*fs, &path).map_err(at(&path))?;
        let mut files = fs.list(dir).map_err(at(dir))?;
        files.retain(|(name, _)| segment_name(name).is_some());
        files.sort();
        let mut segments: VecDeque<Segment> = files
            .iter()
            .filter_map(|(name, len)| Some(Segment { first_seq: segment_name(name)?, end_seq: 0, len: *len }))
            .collect();
        let quarantined_bytes = fs.list(&quarantine).map_err(at(&quarantine))?.iter().map(|(_, n)| n).sum();

        let mut spool = Self {
            dir: dir.to_owned(),
            fs,
            limits,
            counters,
            inner: Mutex::new(Inner {
                segments: VecDeque::new(),
                active: None,
                active_dirty: false,
                to_sync: BTreeMap::new(),
                dir_dirty: false,
                next_seq: 0,
                synced_seq: 0,
                window: Window::starting_at(0),
                total_bytes: 0,
                queued_bytes: 0,
                quarantined_bytes,
            }),
            checkpoint: Mutex::new(checkpoint),
            recovered: 0,
            lock: Mutex::new(Some(lock)),
        };
        // Only the last segment's end is not given by its successor's name. Empty ones say nothing.
        while let Some(last) = segments.back_mut() {
            let path = spool.segment_path(last.first_seq);
            if spool.recover_last(last).map_err(at(&path))? {
                break;
            }
            spool.fs.remove(&path).map_err(at(&path))?;
            segments.pop_back();
        }
        for i in 1..segments.len() {
            segments[i - 1].end_seq = segments[i].first_seq;
        }
        let saved = spool.lock_checkpoint().saved();
        let first = segments.front().map(|s| s.first_seq);
        let next_seq = segments.back().map_or(0, |s| s.end_seq).max(saved.unwrap_or(0));
        let mut base = saved.or(first).unwrap_or(next_seq);
        if let Some(first) = first.filter(|&f| f > base) {
            tracing::error!(dir = %dir.display(), from = base, to = first, "Segments of the spool are gone.");
            spool.counters.lose(LossReason::SpoolMissing, first - base);
            base = first;
        }
        let held: u64 = segments.iter().map(|s| s.len).sum();
        {
            let inner = spool.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
            inner.total_bytes = held;
            // The part of the first segment that is done is taken off when the reader passes it.
            inner.queued_bytes = segments.iter().filter(|s| s.end_seq > base).map(|s| s.len).sum();
            inner.segments = segments;
            inner.next_seq = next_seq;
            inner.synced_seq = next_seq;
            inner.window = Window::starting_at(base);
        }
        spool.recovered = next_seq - base;
        spool.tick().map_err(at(dir))?;
        Ok(Arc::new(spool))
    }

    /// Finds the end of the newest segment and cuts off what a crash left half written. `false`: nothing is in it.
    fn recover_last(&mut self, segment: &mut Segment) -> io::Result<bool> {
        let file = self.fs.open(&self.segment_path(segment.first_seq), false)?;
        let mut bytes = vec![0; usize::try_from(segment.len).map_err(io::Error::other)?];
        let n = file.read_at(&mut bytes, 0)?;
        bytes.truncate(n);
        let found = record::scan(&bytes);
        // A head with an intact sum but a number from before the segment's own can only come from elsewhere.
        let end = found.end_seq.filter(|&end| end > segment.first_seq);
        if found.good_len < bytes.len() as u64 {
            let tail = &bytes[usize::try_from(found.good_len).unwrap_or(0)..];
            tracing::warn!(
                segment = segment.first_seq,
                bytes = tail.len(),
                "The spool ended in a half-written record."
            );
            self.counters.lose(LossReason::TornTail, 1);
            self.quarantine(segment.first_seq, found.good_len, tail);
            file.set_size(found.good_len)?;
        }
        segment.len = found.good_len;
        segment.end_seq = end.unwrap_or(segment.first_seq);
        Ok(end.is_some())
    }

    /// Appends a message's bytes (with [`HEAD`] bytes left free in front, see [`Spool::buffer`]) and gives its number.
    /// It is with the operating system when this returns, and durable after the next [`Spool::tick`].
    pub(crate) fn append(&self, mut buffer: Vec<u8>, accepted_ms: u64) -> Result<u64, AppendError> {
        let body_crc = crc32fast::hash(&buffer[HEAD..]);
        let len = buffer.len() as u64;
        let mut inner = self.lock();
        if inner.total_bytes + len > self.limits.max_bytes {
            return Err(AppendError::Full { held: inner.total_bytes, max: self.limits.max_bytes });
        }
        let seq = inner.next_seq;
        let body_len = u32::try_from(buffer.len() - HEAD)
            .map_err(|_| AppendError::Full { held: inner.total_bytes, max: self.limits.max_bytes })?;
        if let Some(head) = buffer.first_chunk_mut() {
            Head { body_len, seq, accepted_ms, body_crc }.write(head);
        }
        let full = |s: &Segment| s.len > 0 && s.len + len > self.limits.segment_bytes;
        if inner.active.is_some() && inner.segments.back().is_some_and(full) {
            inner.seal();
        }
        let io_error = |first: u64| {
            let path = self.segment_path(first);
            move |source| AppendError::Io { path, source }
        };
        let file = match &inner.active {
            Some(file) => Arc::clone(file),
            None => {
                let file: Arc<dyn File> = self
                    .fs
                    .open(&self.segment_path(seq), true)
                    .and_then(|f| f.set_size(0).map(|()| f))
                    .map_err(io_error(seq))?
                    .into();
                inner.segments.push_back(Segment { first_seq: seq, end_seq: seq, len: 0 });
                inner.active = Some(Arc::clone(&file));
                inner.dir_dirty = true;
                file
            }
        };
        let Some(segment) = inner.segments.back_mut() else { unreachable!("an active segment is in the list") };
        if let Err(source) = file.write_at(&buffer, segment.len) {
            // What was half written lies behind `len`; the next record would overwrite it, yet only if it is as long.
            if file.set_size(segment.len).is_err() {
                inner.seal();
            }
            return Err(io_error(seq)(source));
        }
        segment.len += len;
        segment.end_seq = seq + 1;
        inner.next_seq = seq + 1;
        inner.active_dirty = true;
        inner.total_bytes += len;
        inner.queued_bytes += len;
        Ok(seq)
    }

    /// An empty buffer for [`Spool::append`].
    pub(crate) fn buffer(body_bytes: usize) -> Vec<u8> {
        let mut buffer = Vec::with_capacity(HEAD + body_bytes);
        buffer.resize(HEAD, 0);
        buffer
    }

    /// Marks a record as delivered or lost: it will not be read again. `false` when it was done already.
    pub(crate) fn done(&self, seq: u64) -> bool {
        let mut inner = self.lock();
        let bytes = inner.window.done(seq);
        inner.queued_bytes = inner.queued_bytes.saturating_sub(bytes.unwrap_or(0));
        bytes.is_some()
    }

    /// Returns when the record `seq` is durable; those who wait at the same time share one sync.
    pub(crate) fn sync_through(&self, seq: u64) -> io::Result<()> {
        let mut checkpoint = self.lock_checkpoint();
        if self.lock().synced_seq > seq { Ok(()) } else { self.sync(&mut checkpoint) }
    }

    /// Syncs, saves how far everything is done, deletes segments that are done.
    pub(crate) fn tick(&self) -> io::Result<()> {
        let mut checkpoint = self.lock_checkpoint();
        // Deleting does not wait for the sync: what is done need not be durable, and a disk in trouble wants room.
        let synced = self.sync(&mut checkpoint);
        {
            let mut inner = self.lock();
            // A segment that is being written to is worth a file operation only when it is of some size.
            let idle = inner.window.base() == inner.next_seq
                && inner.segments.back().is_some_and(|s| s.len >= self.limits.segment_bytes / 4);
            if idle {
                inner.seal();
            }
        }
        synced.and(self.delete_done(&mut checkpoint))
    }

    /// Like [`Spool::tick`], leaves no file behind when everything is done, and lets others open it. Nothing may be
    /// appended or read afterwards.
    pub(crate) fn close(&self) -> io::Result<()> {
        let mut checkpoint = self.lock_checkpoint();
        self.lock().seal();
        let synced = self.sync(&mut checkpoint);
        let deleted = self.delete_done(&mut checkpoint);
        let closed = synced.and(deleted).and(checkpoint.sync());
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        closed
    }

    fn sync(&self, checkpoint: &mut Checkpoint) -> io::Result<()> {
        // The checkpoint's lock is what makes this the only sync; it is named to show that it is held.
        let _ = checkpoint;
        let (mut files, dir, through) = {
            let mut inner = self.lock();
            let mut files = std::mem::take(&mut inner.to_sync);
            if std::mem::take(&mut inner.active_dirty) {
                files.extend(inner.written_to());
            }
            (files, std::mem::take(&mut inner.dir_dirty), inner.next_seq)
        };
        let mut synced = || {
            while let Some(file) = files.first_entry() {
                file.get().sync()?;
                file.remove();
            }
            if dir { self.fs.sync_dir(&self.dir) } else { Ok(()) }
        };
        let result = synced();
        let mut inner = self.lock();
        match &result {
            Ok(()) => inner.synced_seq = inner.synced_seq.max(through),
            Err(_) => {
                inner.to_sync.append(&mut files);
                inner.dir_dirty |= dir;
            }
        }
        result
    }

    /// Saves how far everything is done and deletes the segments before.
    fn delete_done(&self, checkpoint: &mut Checkpoint) -> io::Result<()> {
        let base = self.lock().window.base();
        checkpoint.save(base)?;
        if !self.lock().has_done(base) {
            return Ok(());
        }
        // The order matters: a segment gone while the checkpoint says otherwise would count as lost.
        checkpoint.sync()?;
        // Out of the list only now: after an error above it is still there for the next try.
        let done = self.lock().take_done(base);
        for segment in done {
            match self.fs.remove(&self.segment_path(segment.first_seq)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // It is below the checkpoint: the next start deletes it.
                Err(error) => {
                    tracing::warn!(segment = segment.first_seq, %error, "A finished segment stays on the disk.")
                }
            }
            self.lock().total_bytes -= segment.len;
        }
        Ok(())
    }

    /// Keeps bytes that could not be read as records, for whoever wants to look.
    fn quarantine(&self, segment: u64, offset: u64, bytes: &[u8]) {
        {
            let mut inner = self.lock();
            if inner.quarantined_bytes + bytes.len() as u64 > QUARANTINE_MAX_BYTES {
                tracing::warn!(segment, offset, bytes = bytes.len(), "Damaged bytes are not kept: quarantine is full.");
                return;
            }
            inner.quarantined_bytes += bytes.len() as u64;
        }
        let path = self.dir.join("quarantine").join(format!("{segment:020}-{offset}.bin"));
        match crate::fs::write_whole(&*self.fs, &path, bytes) {
            Ok(()) => tracing::warn!(path = %path.display(), bytes = bytes.len(), "Damaged bytes were set aside."),
            Err(error) => tracing::warn!(path = %path.display(), %error, "Damaged bytes could not be set aside."),
        }
    }

    /// What is in it.
    pub(crate) fn held(&self) -> Held {
        let inner = self.lock();
        let unread = inner.next_seq.saturating_sub(inner.window.frontier());
        Held {
            messages: inner.window.undone() + unread,
            bytes: inner.queued_bytes,
            disk_bytes: inner.total_bytes,
            oldest_ms: inner.window.oldest_ms(),
        }
    }

    /// Whether it is well below its largest size.
    pub(crate) fn has_room(&self) -> bool {
        self.lock().total_bytes < self.limits.max_bytes / 10 * 9
    }

    /// Messages found when it was opened.
    pub(crate) fn recovered(&self) -> u64 {
        self.recovered
    }

    fn segment_path(&self, first_seq: u64) -> PathBuf {
        self.dir.join(format!("{first_seq:020}.seg"))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_checkpoint(&self) -> MutexGuard<'_, Checkpoint> {
        self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Ends the segment that is written to; the next record starts another.
    fn seal(&mut self) {
        if std::mem::take(&mut self.active_dirty) {
            self.to_sync.extend(self.written_to());
        }
        // Without a record it would be in the list a second time with the next one, which takes the same name.
        if self.active.take().is_some() && self.segments.back().is_some_and(|s| s.len == 0) {
            self.segments.pop_back();
        }
    }

    /// The segment that is written to: its first number and its file.
    fn written_to(&self) -> Option<(u64, Arc<dyn File>)> {
        Some((self.segments.back()?.first_seq, Arc::clone(self.active.as_ref()?)))
    }

    /// Whether the records of the oldest segment are all done and nobody writes to it.
    fn has_done(&self, base: u64) -> bool {
        let written_to = self.segments.len() == 1 && self.active.is_some();
        !written_to && self.segments.front().is_some_and(|front| front.end_seq <= base)
    }

    /// Takes the segments out whose records are all done.
    fn take_done(&mut self, base: u64) -> Vec<Segment> {
        let mut done = Vec::new();
        while self.has_done(base) {
            done.extend(self.segments.pop_front());
        }
        // One that could not be synced needs it no more.
        done.iter().for_each(|segment| drop(self.to_sync.remove(&segment.first_seq)));
        if self.segments.is_empty() {
            self.queued_bytes = 0;
        }
        done
    }
}

fn segment_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten().filter(|&n| n < u64::MAX / 2)
}

#[cfg(test)]
mod tests;
