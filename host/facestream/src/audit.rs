//! The audit log: who did what with guests and cameras, as JSON lines under the data folder.
//!
//! Owns `DATA/audit/audit.jsonl` and its rotated predecessors, readable by their owner only and bounded in size. Must not
//! decide what is written: the API does.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use facestream_api::AuditEntry;

/// A file that would grow beyond this becomes `audit.jsonl.1`.
const ROTATE_BYTES: u64 = 4 << 20;
/// Rotated files that are kept; with lines of some 300 bytes, 80,000 entries in all.
const KEEP: u32 = 5;

/// Appends entries and reads the latest. Blocks on the disk.
#[derive(Debug)]
pub(crate) struct AuditLog {
    path: PathBuf,
    rotate_bytes: u64,
    one_at_a_time: Mutex<()>,
}

impl AuditLog {
    /// Makes `dir`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        Ok(Self { path: dir.join("audit.jsonl"), rotate_bytes: ROTATE_BYTES, one_at_a_time: Mutex::new(()) })
    }

    /// Appends, durably.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn append(&self, entry: &AuditEntry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        // Nothing behind the lock can be left half changed but the file, and reading leaves out half a line.
        let _one_at_a_time = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let size = fs::metadata(&self.path).map_or(0, |m| m.len());
        if size > 0 && size + line.len() as u64 > self.rotate_bytes {
            for n in (1..KEEP).rev() {
                if self.rotated(n).exists() {
                    fs::rename(self.rotated(n), self.rotated(n + 1))?;
                }
            }
            fs::rename(&self.path, self.rotated(1))?;
        }
        let mut file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        file.write_all(&line)?;
        file.sync_data()
    }

    /// The latest entries, the newest first.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(crate) fn latest(&self, limit: usize) -> io::Result<Vec<AuditEntry>> {
        let _one_at_a_time = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = Vec::new();
        for path in std::iter::once(self.path.clone()).chain((1..=KEEP).map(|n| self.rotated(n))) {
            let text = match fs::read(&path) {
                Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Err(e) if e.kind() == io::ErrorKind::NotFound => break,
                Err(e) => return Err(e),
            };
            entries.extend(text.lines().rev().filter_map(|l| serde_json::from_str(l).ok()).take(limit - entries.len()));
            if entries.len() >= limit {
                break;
            }
        }
        Ok(entries)
    }

    fn rotated(&self, n: u32) -> PathBuf {
        PathBuf::from(format!("{}.{n}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn entries_come_back_newest_first_over_rotations_that_end_somewhere() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = AuditLog::open(&dir.path().join("audit")).unwrap();
        log.rotate_bytes = 500;
        for n in 0..200 {
            log.append(&AuditEntry { at_unix_ms: n, who: "ops".into(), ..AuditEntry::default() }).unwrap();
        }
        let times: Vec<u64> = log.latest(10).unwrap().iter().map(|e| e.at_unix_ms).collect();
        assert_eq!(times, (190..200).rev().collect::<Vec<_>>());
        let all = log.latest(1000).unwrap();
        assert!(all.len() > 10 && all.len() < 60, "{}", all.len());
        let files: Vec<_> = fs::read_dir(dir.path().join("audit")).unwrap().map(|f| f.unwrap().path()).collect();
        assert_eq!(files.len(), 6, "{files:?}");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert!(files.iter().all(|f| mode(f) == 0o600 && fs::metadata(f).unwrap().len() <= 500));
        assert_eq!(mode(&dir.path().join("audit")), 0o700);
        // A crash in the middle of a line costs that line.
        fs::OpenOptions::new().append(true).open(&log.path).unwrap().write_all(b"{\"at_unix").unwrap();
        assert_eq!(log.latest(1).unwrap()[0].at_unix_ms, 199);
    }
}
