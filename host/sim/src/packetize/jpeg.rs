//! JPEG pictures to RTP payloads (RFC 2435): types 0 (4:2:2) and 1 (4:2:0), quantization tables sent with each picture.
//!
//! Owns taking a baseline JFIF picture apart. Must refuse what the payload format cannot carry (progressive coding, own
//! Huffman tables, other samplings, more than 2040 pixels a side): a receiver would show garbage.

use sha2::{Digest as _, Sha256};

use super::{MAX_PAYLOAD_BYTES, Packetizer};
use crate::error::SimError;

/// SHA-256 of the four Huffman tables of ITU-T T.81 annex K.3 (class and id, counts, values; in the order 00, 01, 10, 11),
/// which RFC 2435 receivers assume. A picture with tables of its own cannot be sent.
const STANDARD_HUFFMAN: &str = "532fd667aa5541439e4fc89f189259b1b137993ca5dfcbb6970ab411aee79cdf";

/// A picture's parts that travel.
struct Picture<'a> {
    kind: u8,
    width: u16,
    height: u16,
    quantization: Vec<u8>,
    restart_interval: u16,
    scan: &'a [u8],
}

/// Adds one picture.
pub(super) fn add(out: &mut Packetizer, data: &[u8]) -> Result<(), SimError> {
    let number = out.units.len();
    let picture = parse(data).map_err(|why| {
        SimError::Unservable(format!("picture {number} cannot be sent by RFC 2435: {why} (`ffmpeg … -c:v mjpeg -huffman default -pix_fmt yuvj420p` makes such pictures)"))
    })?;
    let mut offset = 0usize;
    while offset < picture.scan.len() {
        let mut head = Vec::with_capacity(8 + 4 + 4 + picture.quantization.len());
        head.push(0);
        // 24 bits: `parse` bounds the scan.
        head.extend_from_slice(&(offset as u32).to_be_bytes()[1..]);
        let restarts = picture.restart_interval > 0;
        // Both sides are at most 2040, so in blocks they fit a byte.
        let blocks = |pixels: u16| pixels.div_ceil(8) as u8;
        head.extend([picture.kind + if restarts { 64 } else { 0 }, 255, blocks(picture.width), blocks(picture.height)]);
        if restarts {
            head.extend(picture.restart_interval.to_be_bytes());
            // First and last bits set, count 0x3fff: the whole picture has to be reassembled (RFC 2435 3.1.7).
            head.extend([0xff, 0xff]);
        }
        if offset == 0 {
            head.extend([0, 0]);
            head.extend((picture.quantization.len() as u16).to_be_bytes());
            head.extend_from_slice(&picture.quantization);
        }
        let room = MAX_PAYLOAD_BYTES - head.len();
        let end = picture.scan.len().min(offset + room);
        out.push(&head, &picture.scan[offset..end]);
        offset = end;
    }
    Ok(())
}

fn word(data: &[u8], at: usize) -> Result<usize, &'static str> {
    data.get(at..at + 2).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]]))).ok_or("it is truncated")
}

/// Reads the marker segments (ITU-T T.81 annex B).
fn parse(data: &[u8]) -> Result<Picture<'_>, &'static str> {
    if !data.starts_with(&[0xff, 0xd8]) {
        return Err("it is no JPEG");
    }
    let mut tables: [Option<[u8; 64]>; 4] = [None; 4];
    let mut huffman: std::collections::BTreeMap<u8, Vec<u8>> = std::collections::BTreeMap::new();
    let mut frame = None;
    let mut restart_interval = 0u16;
    let mut at = 2;
    loop {
        let marker = word(data, at)?;
        if marker == 0xffff {
            // Fill bytes may precede a marker.
            at += 1;
            continue;
        }
        let length = word(data, at + 2)?;
        let body = data.get(at + 4..at + 2 + length).ok_or("it is truncated")?;
        at += 2 + length;
        match marker {
            0xffdb => read_quantization(body, &mut tables)?,
            0xffc4 => read_huffman(body, &mut huffman)?,
            0xffdd => restart_interval = word(body, 0)? as u16,
            0xffc0 => frame = Some(read_frame(body)?),
            0xffc1..=0xffcf => return Err("it is not baseline coded"),
            0xffda => break,
            0xffe0..=0xfffe => {}
            _ => return Err("it has an unexpected marker"),
        }
    }
    let (kind, width, height, luma, chroma) = frame.ok_or("it has no frame header")?;
    if !huffman.is_empty() {
        let digest = huffman
            .iter()
            .fold(Sha256::new(), |hash, (id, table)| hash.chain_update([*id]).chain_update(table))
            .finalize();
        let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
        if hex != STANDARD_HUFFMAN {
            return Err("it has Huffman tables of its own");
        }
    }
    let mut quantization = Vec::with_capacity(128);
    for id in [luma, chroma] {
        let table = tables.get(usize::from(id)).copied().flatten().ok_or("a quantization table is missing")?;
        quantization.extend_from_slice(&table);
    }
    let scan = &data[at..];
    let end = scan.windows(2).rposition(|w| w == [0xff, 0xd9]).unwrap_or(scan.len());
    if end == 0 || end >= 1 << 24 {
        return Err("its scan is empty or longer than 16 MiB");
    }
    Ok(Picture { kind, width, height, quantization, restart_interval, scan: &scan[..end] })
}

fn read_quantization(mut body: &[u8], tables: &mut [Option<[u8; 64]>; 4]) -> Result<(), &'static str> {
    while let Some((&head, rest)) = body.split_first() {
        if head >> 4 != 0 {
            return Err("its quantization tables have 16 bits");
        }
        let table: [u8; 64] = rest.get(..64).and_then(|t| t.try_into().ok()).ok_or("it is truncated")?;
        *tables.get_mut(usize::from(head & 15)).ok_or("a quantization table has an impossible number")? = Some(table);
        body = &rest[64..];
    }
    Ok(())
}

fn read_huffman(mut body: &[u8], tables: &mut std::collections::BTreeMap<u8, Vec<u8>>) -> Result<(), &'static str> {
    while let Some((&id, rest)) = body.split_first() {
        let counts = rest.get(..16).ok_or("it is truncated")?;
        let length = 16 + counts.iter().map(|&c| usize::from(c)).sum::<usize>();
        tables.insert(id, rest.get(..length).ok_or("it is truncated")?.to_vec());
        body = &rest[length..];
    }
    Ok(())
}

/// Type, width, height and the quantization tables of luma and chroma.
fn read_frame(body: &[u8]) -> Result<(u8, u16, u16, u8, u8), &'static str> {
    let (height, width) = (word(body, 1)? as u16, word(body, 3)? as u16);
    let &[luma_sampling, luma, blue_sampling, blue, red_sampling, red] =
        &[6usize + 1, 8, 10, 11, 13, 14].map(|at| body.get(at).copied().unwrap_or(0));
    if body.len() != 15 || body[5] != 3 {
        return Err("it does not have three components");
    }
    if width == 0 || height == 0 || width > 2040 || height > 2040 {
        return Err("its sides must be 1 to 2040 pixels");
    }
    let kind = match (luma_sampling, blue_sampling, red_sampling) {
        (0x21, 0x11, 0x11) => 0,
        (0x22, 0x11, 0x11) => 1,
        _ => return Err("its sampling is neither 4:2:0 nor 4:2:2"),
    };
    if blue != red {
        return Err("its chroma components have different quantization tables");
    }
    Ok((kind, width, height, luma, blue))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_baseline_jpeg_is_refused_in_words() {
        let progressive = [0xff, 0xd8, 0xff, 0xc2, 0, 3, 8];
        for (data, why) in [(&b"GIF89a"[..], "no JPEG"), (&progressive, "baseline"), (&progressive[..5], "truncated")] {
            let error = add(&mut Packetizer::default(), data).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("picture 0"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            segments in proptest::collection::vec((0xc0u8..=0xff, proptest::collection::vec(any::<u8>(), 0..90)), 0..6),
            tail in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut data = vec![0xff, 0xd8];
            for (marker, body) in segments {
                data.extend([0xff, marker]);
                data.extend((body.len() as u16 + 2).to_be_bytes());
                data.extend(body);
            }
            data.extend(tail);
            drop(add(&mut Packetizer::default(), &data));
        }
    }
}
