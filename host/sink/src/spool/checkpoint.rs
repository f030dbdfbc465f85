//! How far everything is done, on the disk: it keeps a restart from sending again what was delivered.
//!
//! Two slots of 20 bytes (sequence number, its complement, CRC-32) are written in turn, so that a write torn by a
//! power cut leaves the other one. Losing both costs duplicates, never a message. Both are there from the start: on a
//! full disk, where segments must be deleted and progress noted before, a file that need not grow can be written (on
//! file systems that write in place, as ext4 and xfs do).

use std::io;
use std::path::Path;

use crate::fs::{File, FileSystem};

const SLOT: usize = 20;

#[derive(Debug)]
pub(super) struct Checkpoint {
    file: Box<dyn File>,
    next_slot: u64,
    saved: Option<u64>,
}

impl Checkpoint {
    pub(super) fn open(fs: &dyn FileSystem, path: &Path) -> io::Result<Self> {
        let file = fs.open(path, true)?;
        let mut bytes = [0; 2 * SLOT];
        let n = file.read_at(&mut bytes, 0)?;
        let slots = [0, 1].map(|i| bytes[..n].get(i * SLOT..(i + 1) * SLOT).and_then(read));
        let saved = slots.into_iter().flatten().max();
        let next_slot = u64::from(saved.is_some() && slots[0] == saved);
        // Zeros are no slot. Without room for them everything works but deleting on a full disk.
        if n < bytes.len()
            && let Err(error) = file.write_at(&[0; 2 * SLOT][n..], n as u64)
        {
            tracing::warn!(path = %path.display(), %error, "No room for the spool's checkpoint is set aside.");
        }
        Ok(Self { file, next_slot, saved })
    }

    pub(super) fn saved(&self) -> Option<u64> {
        self.saved
    }

    /// Writes; durable only after [`Checkpoint::sync`].
    pub(super) fn save(&mut self, seq: u64) -> io::Result<()> {
        if self.saved == Some(seq) {
            return Ok(());
        }
        let mut bytes = [0; SLOT];
        bytes[..8].copy_from_slice(&seq.to_le_bytes());
        bytes[8..16].copy_from_slice(&(!seq).to_le_bytes());
        let sum = crc32fast::hash(&bytes[..16]);
        bytes[16..].copy_from_slice(&sum.to_le_bytes());
        self.file.write_at(&bytes, self.next_slot * SLOT as u64)?;
        self.saved = Some(seq);
        self.next_slot = 1 - self.next_slot;
        Ok(())
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.file.sync().inspect_err(|_| {
            // The system may forget what it could not write and call the next sync a success: the same slot once
            // more, so that the other one stays.
            if self.saved.take().is_some() {
                self.next_slot = 1 - self.next_slot;
            }
        })
    }
}

fn read(slot: &[u8]) -> Option<u64> {
    let seq = u64::from_le_bytes(*slot.first_chunk()?);
    let inverse = u64::from_le_bytes(*slot.get(8..)?.first_chunk()?);
    let sum = u32::from_le_bytes(*slot.get(16..)?.first_chunk()?);
    (inverse == !seq && crc32fast::hash(&slot[..16]) == sum).then_some(seq)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::mem_fs::MemFs;

    #[test]
    fn the_newest_whole_slot_counts() {
        let fs = MemFs::default();
        let path = Path::new("/c");
        let mut c = Checkpoint::open(&fs, path).unwrap();
        assert_eq!(c.saved(), None);
        for seq in [3, 7, 9] {
            c.save(seq).unwrap();
            assert_eq!(Checkpoint::open(&fs, path).unwrap().saved(), Some(seq));
        }
        // 9 stands in slot 0, 7 in slot 1: tear the newer.
        fs.flip(path, 2);
        let mut c = Checkpoint::open(&fs, path).unwrap();
        assert_eq!(c.saved(), Some(7));
        c.save(10).unwrap();
        assert_eq!(Checkpoint::open(&fs, path).unwrap().saved(), Some(10));
        fs.flip(path, 2);
        assert_eq!(Checkpoint::open(&fs, path).unwrap().saved(), Some(7), "the torn slot was the one replaced");
    }

    #[test]
    fn a_full_disk_takes_it_from_the_first_one_on() {
        let fs = MemFs::default();
        let path = Path::new("/c");
        let mut c = Checkpoint::open(&fs, path).unwrap();
        fs.set_space(Some(0));
        for seq in [3, 7, 9] {
            c.save(seq).unwrap();
            assert_eq!(Checkpoint::open(&fs, path).unwrap().saved(), Some(seq));
        }
    }

    #[test]
    fn what_was_not_synced_is_written_once_more_into_the_same_slot() {
        let fs = MemFs::default();
        let path = Path::new("/c");
        let mut c = Checkpoint::open(&fs, path).unwrap();
        c.save(3).unwrap();
        c.sync().unwrap();
        c.save(7).unwrap();
        fs.fail_syncs(true);
        assert!(c.sync().is_err() && c.sync().is_err());
        fs.fail_syncs(false);
        // 3 stands in slot 0, 7 in slot 1: what the system may have forgotten of it.
        fs.flip(path, SLOT);
        c.save(7).unwrap();
        assert_eq!(Checkpoint::open(&fs, path).unwrap().saved(), Some(7));
        fs.flip(path, SLOT);
        assert_eq!(Checkpoint::open(&fs, path).unwrap().saved(), Some(3), "the other slot was left alone");
    }
}
