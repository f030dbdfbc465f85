//! How private state travels over a hot swap.
//!
//! A snapshot's data is an envelope: four bytes of magic, the next track id that was never given out (little endian
//! u64; 0 where ids do not apply), then the guest's own struct in postcard. The envelope is the same for every guest of
//! this SDK, so a tracker that does not know the private schema still learns which ids are spent: ended tracks are not
//! among the live ones, and an id must never be used twice.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::types::{GuestError, Snapshot};

const MAGIC: [u8; 4] = *b"FSg1";
const HEADER: usize = MAGIC.len() + 8;

/// Private state is refused above this many bytes: a tracker of 1,000 tracks needs about 200 KB.
pub const MAX_STATE_BYTES: usize = 4 << 20;

/// Writes a snapshot.
///
/// # Errors
/// `failed` when the state cannot be encoded or is larger than [`MAX_STATE_BYTES`].
pub fn encode<S: Serialize>(schema: &str, next_id: u64, state: &S) -> Result<Snapshot, GuestError> {
    let mut data = Vec::with_capacity(256);
    data.extend_from_slice(&MAGIC);
    data.extend_from_slice(&next_id.to_le_bytes());
    let data = postcard::to_extend(state, data)
        .map_err(|e| GuestError::failed(format!("state `{schema}` cannot be encoded: {e}")))?;
    if data.len() > MAX_STATE_BYTES {
        let n = data.len();
        return Err(GuestError::failed(format!("state `{schema}` has {n} bytes, more than {MAX_STATE_BYTES}")));
    }
    Ok(Snapshot { schema: schema.to_owned(), data })
}

/// The next unused id, when the snapshot was written by this SDK; 0 otherwise.
#[must_use]
pub fn next_id(snapshot: &Snapshot) -> u64 {
    match snapshot.data.get(..HEADER) {
        Some(header) if header.starts_with(&MAGIC) => {
            header[MAGIC.len()..].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
        }
        _ => 0,
    }
}

/// Reads a snapshot; `None` when its schema is another one (the neutral form has to do).
///
/// # Errors
/// `unsupported-snapshot` when the schema is ours but the data is damaged: guessing would lose state unseen.
pub fn decode<S: DeserializeOwned>(schema: &str, snapshot: &Snapshot) -> Result<Option<S>, GuestError> {
    if snapshot.schema != schema {
        return Ok(None);
    }
    let damaged = |why: String| GuestError::UnsupportedSnapshot(format!("state `{schema}` is damaged: {why}"));
    let Some(body) = snapshot.data.get(HEADER..).filter(|_| snapshot.data.starts_with(&MAGIC)) else {
        return Err(damaged("its header is missing".to_owned()));
    };
    if snapshot.data.len() > MAX_STATE_BYTES {
        return Err(damaged(format!("{} bytes, more than {MAX_STATE_BYTES}", snapshot.data.len())));
    }
    match postcard::take_from_bytes(body) {
        Ok((state, [])) => Ok(Some(state)),
        Ok((_, rest)) => Err(damaged(format!("{} bytes too many", rest.len()))),
        Err(error) => Err(damaged(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_survives_and_tells_the_next_id() {
        let s = encode("x/1", 1234567890123, &vec![(1u64, 2.5f32), (3, 4.5)]).unwrap();
        assert_eq!(next_id(&s), 1234567890123);
        assert_eq!(decode::<Vec<(u64, f32)>>("x/1", &s).unwrap().unwrap(), vec![(1, 2.5), (3, 4.5)]);
        assert!(decode::<Vec<(u64, f32)>>("x/2", &s).unwrap().is_none());
    }

    #[test]
    fn every_truncation_and_extra_bytes_are_refused() {
        let s = encode("x/1", 7, &vec![1u32, 2, 3]).unwrap();
        for n in 0..s.data.len() {
            let cut = Snapshot { schema: s.schema.clone(), data: s.data[..n].to_vec() };
            assert!(decode::<Vec<u32>>("x/1", &cut).is_err(), "{n}");
        }
        let mut long = s.clone();
        long.data.push(0);
        assert!(decode::<Vec<u32>>("x/1", &long).is_err());
        assert_eq!(next_id(&Snapshot { schema: "foreign/9".to_owned(), data: b"FSg1".to_vec() }), 0);
    }
}
