//! RTCP packets (RFC 3550 6.4 to 6.6).
//!
//! Owns their bytes: sender reports with a canonical name, and goodbyes. Receiver reports are only counted.

/// Seconds from 1900 (NTP) to 1970 (Unix).
const NTP_UNIX_OFFSET_S: u64 = 2_208_988_800;

/// What a sender report says.
pub(crate) struct SenderReport<'a> {
    pub(crate) ssrc: u32,
    /// Nanoseconds since the Unix epoch.
    pub(crate) wall_ns: u64,
    /// The RTP timestamp of that moment.
    pub(crate) timestamp: u32,
    pub(crate) packets: u32,
    pub(crate) payload_bytes: u32,
    /// At most 255 bytes.
    pub(crate) canonical_name: &'a str,
}

/// A compound packet: sender report and source description (a compound packet must have both, RFC 3550 6.1).
pub(crate) fn sender_report(report: &SenderReport<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend([0x80, 200, 0, 6]);
    out.extend(report.ssrc.to_be_bytes());
    // 32 bits of seconds wrap in 2036 as NTP says, 32 bits of fraction.
    let seconds = (report.wall_ns / 1_000_000_000 + NTP_UNIX_OFFSET_S) as u32;
    let fraction = ((report.wall_ns % 1_000_000_000) << 32) / 1_000_000_000;
    out.extend(seconds.to_be_bytes());
    out.extend((fraction as u32).to_be_bytes());
    out.extend(report.timestamp.to_be_bytes());
    out.extend(report.packets.to_be_bytes());
    out.extend(report.payload_bytes.to_be_bytes());
    source_description(&mut out, report.ssrc, report.canonical_name);
    out
}

fn source_description(out: &mut Vec<u8>, ssrc: u32, name: &str) {
    let name = &name.as_bytes()[..name.len().min(255)];
    // SSRC, item type and length, text, at least one zero byte, filled to words.
    let words = (4 + 2 + name.len() + 1).div_ceil(4);
    out.extend([0x81, 202]);
    out.extend((words as u16).to_be_bytes());
    out.extend(ssrc.to_be_bytes());
    out.extend([1, name.len() as u8]);
    out.extend_from_slice(name);
    out.resize(out.len() + words * 4 - 4 - 2 - name.len(), 0);
}

/// The end of a source: an empty receiver report, as a compound packet has to begin with a report, then BYE.
pub(crate) fn goodbye(ssrc: u32) -> Vec<u8> {
    let mut out = vec![0x80, 201, 0, 1];
    out.extend(ssrc.to_be_bytes());
    out.extend([0x81, 203, 0, 1]);
    out.extend(ssrc.to_be_bytes());
    out
}

/// Whether bytes look like RTCP that a receiver sends.
pub(crate) fn is_rtcp(data: &[u8]) -> bool {
    matches!(data, [version, 200..=207, _, _, ..] if version >> 6 == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_report_is_laid_out_as_rfc_3550_says() {
        let report = SenderReport {
            ssrc: 0x0102_0304,
            wall_ns: 1_500_000_000,
            timestamp: 90_000,
            packets: 7,
            payload_bytes: 700,
            canonical_name: "cam1",
        };
        let bytes = sender_report(&report);
        assert_eq!(bytes[..8], [0x80, 200, 0, 6, 1, 2, 3, 4]);
        assert_eq!(bytes[8..12], (2_208_988_801u32).to_be_bytes());
        assert_eq!(bytes[12..16], 0x8000_0000u32.to_be_bytes());
        assert_eq!(bytes[16..28], [0, 1, 0x5f, 0x90, 0, 0, 0, 7, 0, 0, 2, 188]);
        // 4 (ssrc) + 2 + 4 (text) + 1 rounded up to 3 words.
        assert_eq!(bytes[28..], [0x81, 202, 0, 3, 1, 2, 3, 4, 1, 4, b'c', b'a', b'm', b'1', 0, 0]);
        assert!(is_rtcp(&bytes) && is_rtcp(&goodbye(1)) && !is_rtcp(&[0x80, 96, 0, 0]) && !is_rtcp(&[]));
    }

    #[test]
    fn every_length_of_name_fills_whole_words() {
        for n in 0..300 {
            let name = "n".repeat(n);
            let report =
                SenderReport { ssrc: 1, wall_ns: 0, timestamp: 0, packets: 0, payload_bytes: 0, canonical_name: &name };
            let bytes = sender_report(&report);
            let words = usize::from(u16::from_be_bytes([bytes[30], bytes[31]]));
            assert_eq!(bytes.len(), 28 + 4 + words * 4);
            assert_eq!(bytes.last(), Some(&0));
        }
    }
}
