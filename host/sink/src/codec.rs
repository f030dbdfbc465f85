//! A message as bytes in the spool.
//!
//! Owns the layout of a record's body: a version byte, then camera, id, topic, content type, key, payload, then a
//! count and pairs of headers; every field a little-endian u32 length and its bytes. Believes nothing it reads.

use bytes::Bytes;
use facestream_core::{CameraId, Message, MessageId};

const VERSION: u8 = 1;
/// More headers than any formatter may send; a larger count in a record is damage.
const MAX_HEADERS: u32 = 4096;

/// Appends a message to `out`.
pub(crate) fn encode(message: &Message, out: &mut Vec<u8>) {
    let mut put = |bytes: &[u8]| {
        // A message is bounded far below 4 GiB by the limit checked before this; the record's length is checked too.
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(bytes);
    };
    put(&[VERSION]);
    put(message.camera.as_str().as_bytes());
    put(message.id.0.as_bytes());
    put(message.topic.as_bytes());
    put(message.content_type.as_bytes());
    put(&message.key);
    put(&message.payload);
    put(&(message.headers.len() as u32).to_le_bytes());
    for (name, value) in &message.headers {
        put(name.as_bytes());
        put(value.as_bytes());
    }
}

/// Reads what [`encode`] wrote; `None` for anything else.
pub(crate) fn decode(bytes: &[u8]) -> Option<Message> {
    let mut rest = bytes;
    let mut take = || {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        let (field, tail) = tail.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        rest = tail;
        Some(field)
    };
    let text = |field: &[u8]| String::from_utf8(field.to_vec()).ok();
    if take()? != [VERSION] {
        return None;
    }
    let camera = CameraId::new(&text(take()?)?).ok()?;
    let id = MessageId(text(take()?)?);
    let topic = text(take()?)?;
    let content_type = text(take()?)?;
    let key = Bytes::copy_from_slice(take()?);
    let payload = Bytes::copy_from_slice(take()?);
    let count = u32::from_le_bytes(take()?.try_into().ok()?);
    if count > MAX_HEADERS {
        return None;
    }
    let mut headers = Vec::with_capacity(count as usize);
    for _ in 0..count {
        headers.push((text(take()?)?, text(take()?)?));
    }
    rest.is_empty().then_some(Message { camera, id, topic, key, payload, headers, content_type })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::message;

    #[test]
    fn what_is_written_is_read() {
        let mut m = message(7, 100);
        m.headers = vec![("a".into(), String::new()), ("a".into(), "ü".into())];
        let mut bytes = Vec::new();
        encode(&m, &mut bytes);
        assert_eq!(decode(&bytes), Some(m));
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), None, "cut at {cut}");
        }
        bytes.push(0);
        assert_eq!(decode(&bytes), None, "something follows");
    }

    proptest::proptest! {
        #[test]
        fn hostile_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
