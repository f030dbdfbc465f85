//! Access units to RTP payloads, once for a clip: H.264 (RFC 6184, packetization-mode 1), H.265 (RFC 7798), JPEG (RFC 2435).
//!
//! Owns the payload bytes. Must not know sequence numbers, timestamps or SSRCs: those belong to a client.

mod jpeg;

use bytes::Bytes;
use facestream_core::Codec;

use crate::annexb;
use crate::error::SimError;

/// Largest RTP packet, header included. 1400 bytes fit an Ethernet frame with room for tunnels, as most cameras do it.
pub(crate) const MAX_PACKET_BYTES: usize = 1400;
/// Fixed RTP header without contributing sources (RFC 3550 5.1).
pub(crate) const RTP_HEADER_BYTES: usize = 12;
const MAX_PAYLOAD_BYTES: usize = MAX_PACKET_BYTES - RTP_HEADER_BYTES;
/// A clip is held in memory; more than this is a film, not a clip.
const MAX_CLIP_BYTES: usize = 1 << 30;

/// One RTP payload: a range of [`Payloads::bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    start: u32,
    len: u16,
    /// Last packet of its access unit.
    pub(crate) marker: bool,
}

/// The packets of a clip: one arena of payload bytes, and for each access unit its range of packets.
#[derive(Clone, Debug)]
pub(crate) struct Payloads {
    bytes: Bytes,
    packets: Vec<Packet>,
    units: Vec<(u32, u32)>,
}

impl Payloads {
    /// Packets of an access unit, at least one.
    pub(crate) fn unit(&self, unit: usize) -> &[Packet] {
        let (first, end) = self.units[unit];
        &self.packets[first as usize..end as usize]
    }

    /// Payload of a packet.
    pub(crate) fn payload(&self, packet: Packet) -> &[u8] {
        &self.bytes[packet.start as usize..packet.start as usize + usize::from(packet.len)]
    }

    /// All payload bytes.
    pub(crate) fn total_bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// Cuts access units into payloads.
#[derive(Debug, Default)]
pub(crate) struct Packetizer {
    bytes: Vec<u8>,
    packets: Vec<Packet>,
    units: Vec<(u32, u32)>,
}

impl Packetizer {
    /// Adds one access unit. Key frames that carry no parameter sets of their own get `parameter_sets` before them, so that
    /// a client can begin at each of them.
    ///
    /// # Errors
    /// When the unit holds nothing that can be sent, or the clip grows beyond what is kept in memory.
    pub(crate) fn add(
        &mut self,
        codec: Codec,
        data: &[u8],
        keyframe: bool,
        parameter_sets: &[u8],
    ) -> Result<(), SimError> {
        let first = self.packets.len();
        match codec {
            Codec::H264 | Codec::H265 => self.add_nal_units(codec, data, keyframe, parameter_sets),
            Codec::Mjpeg => jpeg::add(self, data)?,
            Codec::Other => return Err(SimError::Coding(codec.as_str())),
        }
        let number = self.units.len();
        let Some(last) = self.packets[first..].last_mut() else {
            return Err(SimError::Unservable(format!("access unit {number} holds no NAL unit")));
        };
        last.marker = true;
        if self.bytes.len() > MAX_CLIP_BYTES {
            return Err(SimError::Unservable(format!(
                "it is larger than {} MiB; cut a shorter one",
                MAX_CLIP_BYTES >> 20
            )));
        }
        // Both fit: a packet has at least one byte and the arena is bounded above.
        self.units.push((first as u32, self.packets.len() as u32));
        Ok(())
    }

    pub(crate) fn finish(self) -> Payloads {
        Payloads { bytes: self.bytes.into(), packets: self.packets, units: self.units }
    }

    fn add_nal_units(&mut self, codec: Codec, data: &[u8], keyframe: bool, parameter_sets: &[u8]) {
        let has_own = annexb::nal_units(data).any(|nal| annexb::parameter_set(codec, nal).is_some());
        let mut own = annexb::nal_units(data).peekable();
        if keyframe && !has_own {
            // A delimiter has to stay the first NAL unit of its access unit (H.264 7.4.1.2.3).
            while let Some(nal) = own.next_if(|nal| annexb::is_delimiter(codec, nal)) {
                self.add_nal(codec, nal);
            }
            for nal in annexb::nal_units(parameter_sets) {
                self.add_nal(codec, nal);
            }
        }
        for nal in own {
            self.add_nal(codec, nal);
        }
    }

    fn add_nal(&mut self, codec: Codec, nal: &[u8]) {
        if nal.len() <= MAX_PAYLOAD_BYTES {
            self.push(&[], nal);
            return;
        }
        // Fragmentation units: the NAL header is taken off and told again in each fragment.
        let (prefix, kind, body) = if codec == Codec::H265 {
            // RFC 7798 4.4.3: payload header with type 49, then S|E|FuType.
            (vec![nal[0] & 0x81 | 49 << 1, nal[1]], nal[0] >> 1 & 0x3f, &nal[2..])
        } else {
            // RFC 6184 5.8: FU indicator with type 28, then S|E|R|Type.
            (vec![nal[0] & 0xe0 | 28], nal[0] & 0x1f, &nal[1..])
        };
        let chunk = MAX_PAYLOAD_BYTES - prefix.len() - 1;
        let count = body.len().div_ceil(chunk);
        for (i, part) in body.chunks(chunk).enumerate() {
            let start = if i == 0 { 0x80 } else { 0 };
            let end = if i + 1 == count { 0x40 } else { 0 };
            let mut head = prefix.clone();
            head.push(start | end | kind);
            self.push(&head, part);
        }
    }

    fn push(&mut self, head: &[u8], body: &[u8]) {
        let len = head.len() + body.len();
        debug_assert!(len <= MAX_PAYLOAD_BYTES);
        // Both fit: `add` refuses clips beyond 1 GiB, and a payload is at most 1388 bytes.
        self.packets.push(Packet { start: self.bytes.len() as u32, len: len as u16, marker: false });
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(body);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unit(nals: &[Vec<u8>]) -> Vec<u8> {
        nals.iter().flat_map(|nal| [&[0, 0, 0, 1], nal.as_slice()].concat()).collect()
    }

    fn packets(codec: Codec, data: &[u8], keyframe: bool, sets: &[u8]) -> Vec<(Vec<u8>, bool)> {
        let mut packetizer = Packetizer::default();
        packetizer.add(codec, data, keyframe, sets).unwrap();
        let payloads = packetizer.finish();
        payloads.unit(0).iter().map(|&p| (payloads.payload(p).to_vec(), p.marker)).collect()
    }

    /// Puts payloads together again, written from the RFCs and not from the code above.
    fn reassemble(codec: Codec, packets: &[(Vec<u8>, bool)]) -> Vec<Vec<u8>> {
        let mut nals: Vec<Vec<u8>> = Vec::new();
        for (payload, _) in packets {
            let fragment = match codec {
                Codec::H264 if payload[0] & 0x1f == 28 => {
                    Some((vec![payload[0] & 0xe0 | payload[1] & 0x1f], payload[1], &payload[2..]))
                }
                Codec::H265 if payload[0] >> 1 & 0x3f == 49 => {
                    Some((vec![payload[0] & 0x81 | (payload[2] & 0x3f) << 1, payload[1]], payload[2], &payload[3..]))
                }
                _ => None,
            };
            match fragment {
                None => nals.push(payload.clone()),
                Some((header, flags, body)) => {
                    if flags & 0x80 != 0 {
                        nals.push(header);
                    }
                    nals.last_mut().unwrap().extend_from_slice(body);
                }
            }
        }
        nals
    }

    #[test]
    fn parameter_sets_are_sent_again_before_key_frames_that_lack_them() {
        let sets = unit(&[vec![0x67, 1, 2], vec![0x68, 3]]);
        let bare = unit(&[vec![9, 0xf0], vec![0x65, 9]]);
        let nals = reassemble(Codec::H264, &packets(Codec::H264, &bare, true, &sets));
        assert_eq!(nals, [vec![9, 0xf0], vec![0x67, 1, 2], vec![0x68, 3], vec![0x65, 9]]);
        let full = unit(&[vec![0x67, 7], vec![0x68, 8], vec![0x65, 9]]);
        let nals = reassemble(Codec::H264, &packets(Codec::H264, &full, true, &sets));
        assert_eq!(nals, [vec![0x67, 7], vec![0x68, 8], vec![0x65, 9]]);
        let delta = unit(&[vec![0x41, 9]]);
        assert_eq!(packets(Codec::H264, &delta, false, &sets), [(vec![0x41, 9], true)]);
    }

    #[test]
    fn a_unit_without_nal_units_is_refused() {
        let error = Packetizer::default().add(Codec::H264, &[1, 2, 3], true, &[]).unwrap_err();
        assert!(error.to_string().contains("access unit 0"), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_cut_can_be_put_together(
            lengths in proptest::collection::vec(3usize..6000, 1..5),
            h265 in any::<bool>(),
        ) {
            let codec = if h265 { Codec::H265 } else { Codec::H264 };
            // Types that are neither parameter sets nor aggregates.
            let header = if h265 { vec![1 << 1, 1] } else { vec![0x41] };
            let nals: Vec<Vec<u8>> = lengths
                .iter()
                .map(|&n| header.iter().copied().chain((0..n).map(|i| (i % 250) as u8 + 1)).collect())
                .collect();
            let sent = packets(codec, &unit(&nals), false, &[]);
            prop_assert!(sent.iter().all(|(p, _)| p.len() <= MAX_PAYLOAD_BYTES));
            prop_assert_eq!(sent.iter().filter(|(_, marker)| *marker).count(), 1);
            prop_assert!(sent.last().unwrap().1);
            prop_assert_eq!(reassemble(codec, &sent), nals);
        }
    }
}
