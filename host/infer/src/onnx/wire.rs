//! Protocol Buffers' wire format: just enough to walk a message and to write one, field by field.
//!
//! Owns the encoding (protobuf.dev, "Encoding"). Knows no message type. Every field is handed out with its raw bytes,
//! so a rewriter copies what it does not understand unchanged, unknown fields included.

use std::fmt;

/// Bytes that are no protocol buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the file is truncated or no protocol buffer")
    }
}

/// A field's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 2: bytes, string, message or packed numbers.
    Bytes(&'a [u8]),
    /// Wire types 1 and 5, which this crate never looks into.
    Fixed,
}

/// One field of a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Field<'a> {
    pub(crate) number: u64,
    pub(crate) value: Value<'a>,
    /// Tag and value as they stand in the message.
    pub(crate) raw: &'a [u8],
}

impl<'a> Field<'a> {
    /// The payload of a length-delimited field.
    pub(crate) fn bytes(&self) -> Result<&'a [u8], Malformed> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Varint(_) | Value::Fixed => Err(Malformed),
        }
    }

    /// A string; bytes that are no UTF-8 become replacement characters.
    pub(crate) fn text(&self) -> Result<String, Malformed> {
        self.bytes().map(|b| String::from_utf8_lossy(b).into_owned())
    }

    /// A number.
    pub(crate) fn varint(&self) -> Result<u64, Malformed> {
        match self.value {
            Value::Varint(n) => Ok(n),
            Value::Bytes(_) | Value::Fixed => Err(Malformed),
        }
    }

    /// Repeated whole numbers: one of them, or a packed list.
    pub(crate) fn numbers(&self) -> Result<Vec<u64>, Malformed> {
        let packed = match self.value {
            Value::Varint(n) => return Ok(vec![n]),
            Value::Bytes(packed) => packed,
            Value::Fixed => return Err(Malformed),
        };
        let (mut out, mut at) = (Vec::new(), 0);
        while at < packed.len() {
            out.push(varint(packed, &mut at)?);
        }
        Ok(out)
    }
}

/// Walks the fields of one message. After the first malformed field it ends.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn take(&mut self) -> Result<Field<'a>, Malformed> {
        let start = self.rest;
        let mut at = 0;
        let tag = varint(start, &mut at)?;
        let number = tag >> 3;
        if number == 0 {
            return Err(Malformed);
        }
        let value = match tag & 7 {
            0 => Value::Varint(varint(start, &mut at)?),
            1 => fixed(start, &mut at, 8)?,
            2 => {
                let len = usize::try_from(varint(start, &mut at)?).map_err(|_| Malformed)?;
                let end = at.checked_add(len).ok_or(Malformed)?;
                let bytes = start.get(at..end).ok_or(Malformed)?;
                at = end;
                Value::Bytes(bytes)
            }
            5 => fixed(start, &mut at, 4)?,
            // Groups (3, 4) do not occur in proto3, 6 and 7 do not exist.
            _ => return Err(Malformed),
        };
        self.rest = &start[at..];
        Ok(Field { number, value, raw: &start[..at] })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.take();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

fn fixed<'a>(bytes: &[u8], at: &mut usize, len: usize) -> Result<Value<'a>, Malformed> {
    bytes.get(*at..*at + len).ok_or(Malformed)?;
    *at += len;
    Ok(Value::Fixed)
}

fn varint(bytes: &[u8], at: &mut usize) -> Result<u64, Malformed> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).ok_or(Malformed)?;
        *at += 1;
        // The tenth byte has room for one bit.
        if shift == 63 && byte > 1 {
            return Err(Malformed);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

/// Appends a number.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length-delimited field.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_come_back_with_their_bytes() {
        let mut message = vec![0x08, 0xac, 0x02];
        put_bytes(&mut message, 100, b"abc");
        message.extend([0x1d, 1, 2, 3, 4]);
        let fields: Vec<_> = Fields::new(&message).collect::<Result<_, _>>().unwrap();
        assert_eq!((fields[0].varint(), fields[0].numbers()), (Ok(300), Ok(vec![300])));
        assert_eq!((fields[1].number, fields[1].text()), (100, Ok("abc".to_owned())));
        assert_eq!((fields[2].number, fields[2].value), (3, Value::Fixed));
        assert_eq!((fields[1].numbers(), fields[2].numbers()), (Ok(vec![97, 98, 99]), Err(Malformed)));
        assert_eq!(fields.iter().map(|f| f.raw).collect::<Vec<_>>().concat(), message);
    }

    #[test]
    fn broken_messages_end_with_an_error() {
        for bad in [
            &[0x08][..],
            &[0x0a, 5, 1],
            &[0x0b],
            &[0x00, 0],
            &[0x09, 1],
            &[0xff; 11],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ] {
            assert_eq!(Fields::new(bad).last(), Some(Err(Malformed)), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let raw: usize = Fields::new(&bytes).flatten().map(|f| f.raw.len()).sum();
            prop_assert!(raw <= bytes.len());
        }

        #[test]
        fn numbers_come_back(n in any::<u64>()) {
            let mut out = Vec::new();
            put_varint(&mut out, n);
            let mut at = 0;
            prop_assert_eq!(varint(&out, &mut at), Ok(n));
            prop_assert_eq!(at, out.len());
        }
    }
}
