//! NAL units of Annex B byte streams (ITU-T H.264 and H.265, annex B).
//!
//! Owns finding and naming NAL units. Must not interpret slices.

use facestream_core::Codec;

/// The NAL units of a byte stream, without start codes and without the zero bytes that may trail them. A NAL unit never
/// ends with a zero byte (H.264 7.4.1), so nothing of it is lost. Bytes before the first start code are ignored.
pub(crate) fn nal_units(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_start_code(data);
    std::iter::from_fn(move || {
        loop {
            let current = rest?;
            let end = current.windows(3).position(|w| w == [0, 0, 1]).unwrap_or(current.len());
            rest = after_start_code(&current[end..]);
            let nal = &current[..end];
            let length = nal.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
            if length > 0 {
                return Some(&nal[..length]);
            }
        }
    })
}

/// What follows the first start code; `None` without one.
fn after_start_code(data: &[u8]) -> Option<&[u8]> {
    data.windows(3).position(|w| w == [0, 0, 1]).map(|at| &data[at + 3..])
}

/// What kind of parameter set a NAL unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParameterSet {
    Video,
    Sequence,
    Picture,
}

/// Which parameter set a NAL unit is, `None` for all else.
pub(crate) fn parameter_set(codec: Codec, nal: &[u8]) -> Option<ParameterSet> {
    let first = *nal.first()?;
    match (codec, first & 0x1f, first >> 1 & 0x3f) {
        (Codec::H264, 7, _) | (Codec::H265, _, 33) => Some(ParameterSet::Sequence),
        (Codec::H264, 8, _) | (Codec::H265, _, 34) => Some(ParameterSet::Picture),
        (Codec::H265, _, 32) => Some(ParameterSet::Video),
        _ => None,
    }
}

/// Whether a NAL unit only marks the beginning of an access unit (access unit delimiter).
pub(crate) fn is_delimiter(codec: Codec, nal: &[u8]) -> bool {
    nal.first().is_some_and(|first| match codec {
        Codec::H264 => first & 0x1f == 9,
        Codec::H265 => first >> 1 & 0x3f == 35,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_start_codes_and_padding_are_understood() {
        let stream = [9, 0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2, 0, 0, 0, 0, 1, 0x65, 3, 0, 0, 0];
        let found: Vec<&[u8]> = nal_units(&stream).collect();
        assert_eq!(found, [&[0x67, 1][..], &[0x68, 2], &[0x65, 3]]);
        assert_eq!(nal_units(&[1, 2, 3]).count(), 0);
        assert_eq!(nal_units(&[0, 0, 1]).count(), 0);
    }

    #[test]
    fn parameter_sets_are_named() {
        assert_eq!(parameter_set(Codec::H264, &[0x67]), Some(ParameterSet::Sequence));
        assert_eq!(parameter_set(Codec::H264, &[0x68]), Some(ParameterSet::Picture));
        assert_eq!(parameter_set(Codec::H264, &[0x65]), None);
        assert_eq!(parameter_set(Codec::H265, &[0x40, 1]), Some(ParameterSet::Video));
        assert_eq!(parameter_set(Codec::H265, &[0x42, 1]), Some(ParameterSet::Sequence));
        assert_eq!(parameter_set(Codec::H265, &[0x44, 1]), Some(ParameterSet::Picture));
        assert_eq!(parameter_set(Codec::H265, &[]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_split_without_panic(data in proptest::collection::vec(0u8..3, 0..200)) {
            for nal in nal_units(&data) {
                prop_assert!(!nal.is_empty());
                prop_assert!(!nal.windows(3).any(|w| w == [0, 0, 1]));
            }
        }
    }
}
