//! Finds parameter sets in Annex B streams (ITU-T H.264 and H.265, Annex B).
//!
//! Reads NAL unit headers only.

use facestream_core::media::Codec;

/// Whether the parameter sets a decoder needs to begin stand before the first slice of this access unit.
pub(crate) fn has_parameter_sets(codec: Codec, unit: &[u8]) -> bool {
    let (mut vps, mut sps, mut pps) = (false, false, false);
    for header in nal_headers(unit) {
        match codec {
            // Table 7-1 of H.264: 1 to 5 are slices, 7 SPS, 8 PPS.
            Codec::H264 => match header & 0x1f {
                1..=5 => break,
                7 => sps = true,
                8 => pps = true,
                _ => {}
            },
            // Table 7-1 of H.265: 0 to 31 are slices, 32 VPS, 33 SPS, 34 PPS.
            Codec::H265 => match (header >> 1) & 0x3f {
                0..=31 => break,
                32 => vps = true,
                33 => sps = true,
                34 => pps = true,
                _ => {}
            },
            Codec::Mjpeg | Codec::Other => return true,
        }
    }
    sps && pps && (vps || codec == Codec::H264)
}

/// First header byte of each NAL unit.
fn nal_headers(data: &[u8]) -> impl Iterator<Item = u8> + '_ {
    data.windows(4).filter(|w| w[0] == 0 && w[1] == 0 && w[2] == 1).map(|w| w[3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_parameter_sets_only_before_the_first_slice() {
        let idr_with = [0, 0, 0, 1, 0x67, 9, 0, 0, 0, 1, 0x68, 9, 0, 0, 1, 0x65, 1];
        assert!(has_parameter_sets(Codec::H264, &idr_with));
        let idr_without = [0, 0, 0, 1, 0x65, 9, 0, 0, 1, 0x67, 9, 0, 0, 1, 0x68, 9];
        assert!(!has_parameter_sets(Codec::H264, &idr_without));
        let hevc = [0, 0, 1, 0x40, 1, 0, 0, 1, 0x42, 1, 0, 0, 1, 0x44, 1, 0, 0, 1, 0x26, 1];
        assert!(has_parameter_sets(Codec::H265, &hevc));
        assert!(!has_parameter_sets(Codec::H265, &hevc[5..]), "the VPS is missing");
        assert!(!has_parameter_sets(Codec::H264, &[]));
    }
}
