//! How a record stands in a segment file.
//!
//! A record is a head of 32 bytes and a body: magic, body length, sequence number, wall time in ms when it was accepted,
//! CRC-32 of the body, CRC-32 of the head before it; little-endian. The head has a sum of its own so that a damaged
//! body can be stepped over exactly, and the sequence number in it tells how many records a damaged stretch held.

/// Bytes of a head.
pub(crate) const HEAD: usize = 32;
const MAGIC: [u8; 4] = *b"FSR\x01";

/// A checked head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) body_len: u32,
    pub(crate) seq: u64,
    pub(crate) accepted_ms: u64,
    pub(crate) body_crc: u32,
}

impl Head {
    /// Bytes of the whole record.
    pub(crate) fn record_len(&self) -> u64 {
        HEAD as u64 + u64::from(self.body_len)
    }

    pub(crate) fn write(&self, into: &mut [u8; HEAD]) {
        into[0..4].copy_from_slice(&MAGIC);
        into[4..8].copy_from_slice(&self.body_len.to_le_bytes());
        into[8..16].copy_from_slice(&self.seq.to_le_bytes());
        into[16..24].copy_from_slice(&self.accepted_ms.to_le_bytes());
        into[24..28].copy_from_slice(&self.body_crc.to_le_bytes());
        let sum = crc32fast::hash(&into[..28]);
        into[28..32].copy_from_slice(&sum.to_le_bytes());
    }

    /// The head at the start of `bytes`, when there is a whole and undamaged one.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEAD] = bytes.first_chunk()?;
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        (bytes[..4] == MAGIC && crc32fast::hash(&bytes[..28]) == u32_at(28)).then(|| Self {
            body_len: u32_at(4),
            seq: u64_at(8),
            accepted_ms: u64_at(16),
            body_crc: u32_at(24),
        })
    }
}

/// The head at the start of `bytes` if the whole record is there and undamaged.
pub(crate) fn whole(bytes: &[u8]) -> Option<Head> {
    let head = Head::read(bytes)?;
    let body = bytes.get(HEAD..HEAD + head.body_len as usize)?;
    (crc32fast::hash(body) == head.body_crc).then_some(head)
}

/// Where in `bytes` the next whole record starts, at `from` or after.
pub(crate) fn resync(bytes: &[u8], from: usize) -> Option<usize> {
    // Only positions with the magic are summed, so a stretch of noise costs one pass.
    (from..bytes.len().saturating_sub(HEAD - 1))
        .find(|&at| bytes[at..].starts_with(&MAGIC) && whole(&bytes[at..]).is_some())
}

/// What a whole segment holds, found once when the spool is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// One past the highest sequence number of an intact head.
    pub(crate) end_seq: Option<u64>,
    /// Bytes up to the end of the last record whose extent is known.
    pub(crate) good_len: u64,
}

/// Goes through a segment. Damage in the middle is left for the reader, which steps over it and counts it.
pub(crate) fn scan(bytes: &[u8]) -> Scan {
    let mut found = Scan::default();
    let mut at = 0;
    while at < bytes.len() {
        let head = Head::read(&bytes[at..]).filter(|h| bytes.len() - at >= HEAD + h.body_len as usize);
        match head {
            Some(head) => {
                at += HEAD + head.body_len as usize;
                found.end_seq = found.end_seq.max(head.seq.checked_add(1));
                found.good_len = at as u64;
            }
            None => match resync(bytes, at + 1) {
                Some(next) => at = next,
                None => break,
            },
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u64, body: &[u8]) -> Vec<u8> {
        let head = Head { body_len: body.len() as u32, seq, accepted_ms: 5, body_crc: crc32fast::hash(body) };
        let mut bytes = [0; HEAD];
        head.write(&mut bytes);
        [&bytes[..], body].concat()
    }

    #[test]
    fn heads_are_read_back_and_damage_to_any_bit_is_noticed() {
        let bytes = record(u64::MAX - 1, b"hello");
        assert_eq!(whole(&bytes).map(|h| (h.seq, h.accepted_ms, h.body_len)), Some((u64::MAX - 1, 5, 5)));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(whole(&damaged), None, "bit {bit}");
        }
    }

    #[test]
    fn a_scan_finds_what_follows_damage_and_leaves_a_torn_tail_out() {
        let (a, b, c) = (record(1, b"aaaa"), record(2, b"bbbb"), record(3, b"cccc"));
        let mut bytes = [a.clone(), b.clone(), c.clone()].concat();
        assert_eq!(scan(&bytes), Scan { end_seq: Some(4), good_len: bytes.len() as u64 });
        bytes[a.len() + 2] ^= 255;
        assert_eq!(scan(&bytes), Scan { end_seq: Some(4), good_len: bytes.len() as u64 });
        let whole_len = bytes.len();
        bytes.extend_from_slice(&record(4, b"dddd")[..HEAD + 2]);
        assert_eq!(scan(&bytes), Scan { end_seq: Some(4), good_len: whole_len as u64 });
    }

    proptest::proptest! {
        #[test]
        fn hostile_bytes_do_not_panic(bytes: Vec<u8>, seq: u64, cut in 0usize..80) {
            let mut mixed = bytes.clone();
            mixed.extend_from_slice(&record(seq, &bytes));
            mixed.truncate(mixed.len().saturating_sub(cut));
            let found = scan(&mixed);
            proptest::prop_assert!(found.good_len <= mixed.len() as u64);
            let _ = resync(&mixed, 0);
        }
    }
}
