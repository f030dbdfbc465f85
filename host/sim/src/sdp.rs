//! The session description of a camera (RFC 4566; media parameters of RFC 6184 8.1, RFC 7798 7.1, RFC 2435).

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use facestream_core::Codec;

use crate::annexb::{ParameterSet, nal_units, parameter_set};
use crate::clip::Clip;

/// The only track of a camera.
pub(crate) const TRACK: &str = "trackID=0";

/// RTP payload type of a coding: dynamic, or the static one of JPEG (RFC 3551).
pub(crate) fn payload_type(codec: Codec) -> u8 {
    if codec == Codec::Mjpeg { 26 } else { 96 }
}

/// Describes a clip. `parameter_sets` false leaves them out, as cameras that send them in-band only do.
pub(crate) fn describe(clip: &Clip, local: IpAddr, session: u64, rate: f64, parameter_sets: bool) -> String {
    let family = if local.is_ipv4() { "IP4" } else { "IP6" };
    let any = if local.is_ipv4() { "0.0.0.0" } else { "::" };
    let params = clip.params();
    let kind = payload_type(params.codec);
    let mut out = format!(
        "v=0\r\no=- {session} 1 IN {family} {local}\r\ns=FaceStream simulated camera\r\nt=0 0\r\na=tool:facestream-sim {}\r\n\
         a=type:broadcast\r\na=control:*\r\na=range:npt=0-\r\n\
         m=video 0 RTP/AVP {kind}\r\nc=IN {family} {any}\r\nb=AS:{}\r\n",
        env!("CARGO_PKG_VERSION"),
        clip.kilobits_per_second().max(1),
    );
    match params.codec {
        Codec::H264 => {
            out.push_str("a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1");
            let sets = of_kinds(clip, &[ParameterSet::Sequence, ParameterSet::Picture]);
            if let (true, Some(level)) = (parameter_sets, sets.first().and_then(|sps| sps.get(1..4))) {
                line(&mut out, format_args!(";profile-level-id={:02X}{:02X}{:02X}", level[0], level[1], level[2]));
                let coded: Vec<String> = sets.iter().map(|set| STANDARD.encode(set)).collect();
                line(&mut out, format_args!(";sprop-parameter-sets={}", coded.join(",")));
            }
            out.push_str("\r\n");
        }
        Codec::H265 => {
            out.push_str("a=rtpmap:96 H265/90000\r\n");
            let kinds = [("vps", ParameterSet::Video), ("sps", ParameterSet::Sequence), ("pps", ParameterSet::Picture)];
            let coded: Vec<String> = kinds
                .iter()
                .map(|(name, kind)| (name, of_kinds(clip, &[*kind])))
                .filter(|(_, sets)| parameter_sets && !sets.is_empty())
                .map(|(name, sets)| {
                    let coded: Vec<String> = sets.iter().map(|set| STANDARD.encode(set)).collect();
                    format!("sprop-{name}={}", coded.join(","))
                })
                .collect();
            if !coded.is_empty() {
                line(&mut out, format_args!("a=fmtp:96 {}\r\n", coded.join(";")));
            }
        }
        // `Other` cannot become a clip.
        Codec::Mjpeg | Codec::Other => out.push_str("a=rtpmap:26 JPEG/90000\r\n"),
    }
    if let Some((width, height)) = params.size {
        line(&mut out, format_args!("a=framesize:{kind} {width}-{height}\r\n"));
    }
    line(&mut out, format_args!("a=framerate:{rate:.3}\r\na=control:{TRACK}\r\n"));
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.push_str(&text.to_string());
}

fn of_kinds<'a>(clip: &'a Clip, kinds: &[ParameterSet]) -> Vec<&'a [u8]> {
    let params = clip.params();
    let wanted = |nal: &&[u8]| parameter_set(params.codec, nal).is_some_and(|kind| kinds.contains(&kind));
    nal_units(&params.parameter_sets).filter(wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::tests::synthetic;

    #[test]
    fn an_h264_camera_tells_its_parameter_sets() {
        let clip = synthetic(50, 25, 100);
        let text = describe(&clip, IpAddr::from([127, 0, 0, 1]), 5, 25.0, true);
        assert!(
            text.contains(
                "a=fmtp:96 packetization-mode=1;profile-level-id=42C01E;sprop-parameter-sets=Z0LAHgk=,aM4B\r\n"
            )
        );
        assert!(text.contains("a=framesize:96 320-240\r\na=framerate:25.000\r\na=control:trackID=0\r\n"));
        assert!(text.lines().all(|l| l.as_bytes()[1] == b'='));
        let bare = describe(&clip, IpAddr::from([127, 0, 0, 1]), 5, 25.0, false);
        assert!(bare.contains("a=fmtp:96 packetization-mode=1\r\n"));
    }
}
