//! How far everything is done, on the disk: it keeps a restart from sending again what was delivered.
//!
//! Two slots of 20 bytes (sequence number, its complement, CRC-32) are written in turn, so that a write torn by a
//! power cut leaves the other one. Losing both costs duplicates, never a message.

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

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync()
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
}
