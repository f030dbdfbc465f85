//! The RTSP library's errors in our kinds and words.
//!
//! Owns the mapping. The library's errors cannot be inspected, and their texts repeat addresses and what servers sent,
//! so texts are only looked at for their fixed parts and never passed on: every word that leaves here is written here.

use std::io;

use crate::error::{ErrorKind, IngestError, Phase};

pub(super) fn classify(phase: Phase, error: &retina::Error, has_credentials: bool) -> IngestError {
    let text = error.to_string();
    let (phase, kind) = kind_of(phase, &text, error.status_code(), has_credentials);
    IngestError::new(phase, kind)
}

fn kind_of(phase: Phase, text: &str, status: Option<u16>, has_credentials: bool) -> (Phase, ErrorKind) {
    if text.starts_with("Unable to connect to RTSP server") {
        let phase = if phase == Phase::Describe { Phase::Connect } else { phase };
        return (phase, os_error(text).unwrap_or(ErrorKind::Unreachable));
    }
    match status {
        Some(401) if has_credentials => return (phase, ErrorKind::Unauthorised),
        Some(401) => return (phase, ErrorKind::CredentialsMissing),
        Some(403) => return (phase, ErrorKind::Unauthorised),
        Some(404) => return (phase, ErrorKind::NotFound),
        Some(461) => return (phase, ErrorKind::TransportRefused),
        Some(busy @ (453 | 503)) => return (phase, ErrorKind::Busy(busy)),
        // An answer that says success and cannot be used is an error of another kind.
        Some(status) if !(200..300).contains(&status) => return (phase, ErrorKind::Status(status)),
        _ => {}
    }
    if text.contains("No parseable streams") {
        return (phase, ErrorKind::NoVideo);
    }
    if text.starts_with("Internal error: ") && phase == Phase::Setup {
        return (phase, ErrorKind::NoSockets);
    }
    if text.contains("EOF while expecting response") {
        return (phase, ErrorKind::Protocol("the camera closed the connection instead of answering"));
    }
    if text.contains("failed to respond to keepalive") || text.contains("Unable to write keepalive") {
        return (phase, ErrorKind::Protocol("the camera stopped answering keep-alive requests"));
    }
    if text.starts_with("Error reading from RTSP peer")
        || text.starts_with("Error writing to RTSP peer")
        || text.starts_with("Error receiving UDP packet")
    {
        let kind = os_error(text).filter(|k| *k == ErrorKind::Unreachable);
        return (phase, kind.unwrap_or(ErrorKind::ConnectionLost));
    }
    if text.starts_with("RTSP framing error: Incomplete RTSP message at EOF") {
        return (phase, ErrorKind::ConnectionLost);
    }
    let known = PROTOCOL.iter().find(|(part, _)| text.contains(part)).map(|&(_, words)| words);
    (phase, ErrorKind::Protocol(known.unwrap_or("the camera sent what this host cannot make sense of")))
}

/// Fixed parts of the library's texts and what they mean to whoever runs the camera.
const PROTOCOL: &[(&str, &str)] = &[
    ("Unable to parse SDP", "the camera's description (SDP) is malformed"),
    ("unexpected content type", "the camera answers DESCRIBE with something other than a description (SDP)"),
    ("WWW-Authenticate", "the camera asks for a way of authentication that is not supported (basic and digest are)"),
    ("Transport header", "the camera's answer to SETUP lacks a usable Transport header"),
    ("Session header", "the camera's answer to SETUP lacks a usable Session header"),
    ("session id changed", "the camera changed the session while it was set up"),
    ("wrong ssrc", "packets of another session came; the camera may keep an old session open"),
    ("unassigned channel", "packets of another session came; the camera may keep an old session open"),
    ("Out-of-order packet or large loss", "packets came out of order or with a large gap"),
    ("in the middle of a fragmented NAL", "a picture was cut off in the middle"),
    ("RTSP framing error", "what came is not RTSP; check that the port is the camera's RTSP port"),
    ("depacketizer", "the stream's parameters in the camera's description (SDP) cannot be used"),
    ("corrupt RTP header", "a packet is not RTP"),
    ("FU-A", "the H.264 packets are malformed"),
    ("STAP-A", "the H.264 packets are malformed"),
    ("NAL", "the coded video's packets are malformed"),
    ("JPEG", "the JPEG packets are malformed"),
];

/// The kind of an operating system's error, by the number that its text ends in.
fn os_error(text: &str) -> Option<ErrorKind> {
    let number = text.split_once("(os error ")?.1.split_once(')')?.0.parse().ok()?;
    let error = io::Error::from_raw_os_error(number);
    Some(match error.kind() {
        io::ErrorKind::ConnectionRefused => ErrorKind::Refused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ErrorKind::Unreachable,
        io::ErrorKind::TimedOut => ErrorKind::Unreachable,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
            ErrorKind::ConnectionLost
        }
        io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable => ErrorKind::NoSockets,
        // EMFILE and ENFILE have no kind of their own.
        _ if number == 24 || number == 23 => ErrorKind::NoSockets,
        _ => return None,
    })
}

/// Codings by their RTP names (IANA registry of RTP payload format media types): the name itself comes from the server.
pub(super) fn codec_name(encoding: &str) -> &'static str {
    match encoding {
        "mp4v-es" => "MPEG-4 part 2 video",
        "mpv" | "mpa" | "mp1s" | "mp2p" => "MPEG-1 or MPEG-2 video",
        "mp2t" => "an MPEG-2 transport stream",
        "h261" => "H.261 video",
        "h263" | "h263-1998" | "h263-2000" => "H.263 video",
        "h264-svc" | "h264-rcdo" => "a variant of H.264 (SVC or RCDO)",
        "h266" => "H.266 video",
        "vp8" => "VP8 video",
        "vp9" => "VP9 video",
        "av1" => "AV1 video",
        "jpeg2000" | "jxsv" => "JPEG 2000 or JPEG XS video",
        "theora" => "Theora video",
        "vc1" | "vc2" => "VC-1 or VC-2 video",
        "raw" | "smpte291" => "uncompressed video",
        "dv" => "DV video",
        _ => "video in a coding that this host does not know",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(phase: Phase, text: &str, status: Option<u16>) -> (Phase, ErrorKind) {
        kind_of(phase, text, status, true)
    }

    #[test]
    fn statuses() {
        let table = [
            (401, true, ErrorKind::Unauthorised),
            (401, false, ErrorKind::CredentialsMissing),
            (403, true, ErrorKind::Unauthorised),
            (404, true, ErrorKind::NotFound),
            (453, true, ErrorKind::Busy(453)),
            (461, true, ErrorKind::TransportRefused),
            (500, true, ErrorKind::Status(500)),
            (503, true, ErrorKind::Busy(503)),
        ];
        for (status, credentials, expected) in table {
            let found = kind_of(Phase::Describe, "404 response to DESCRIBE", Some(status), credentials);
            assert_eq!(found, (Phase::Describe, expected));
        }
    }

    #[test]
    fn errors_of_the_operating_system() {
        let connect = |n| format!("Unable to connect to RTSP server: some words (os error {n})");
        for (number, expected) in [
            (111, ErrorKind::Refused),
            (113, ErrorKind::Unreachable),
            (101, ErrorKind::Unreachable),
            (110, ErrorKind::Unreachable),
            (24, ErrorKind::NoSockets),
            (9999, ErrorKind::Unreachable),
        ] {
            assert_eq!(kind(Phase::Describe, &connect(number), None), (Phase::Connect, expected));
        }
        let reset = "Error reading from RTSP peer: Connection reset by peer (os error 104)\n\nconn: x";
        assert_eq!(kind(Phase::Stream, reset, None), (Phase::Stream, ErrorKind::ConnectionLost));
    }

    #[test]
    fn nothing_of_the_text_gets_out() {
        let canary = "hunter2-canary";
        let texts = [
            "RTSP framing error: {}",
            "Bad URL rtsp://cam/{}; only scheme rtsp supported",
            "DESCRIBE response at rtsp://cam/?p={} has unexpected content type {}",
            "Unable to parse SDP: {}",
            "Unable to connect to RTSP server: {} (os error {})",
            "Error reading from RTSP peer: {} (os error 104)",
            "{} Transport header {}",
            "{}",
        ];
        for text in texts {
            for status in [None, Some(200), Some(401), Some(500)] {
                for phase in [Phase::Connect, Phase::Describe, Phase::Setup, Phase::Play, Phase::Stream] {
                    let (phase, kind) = kind(phase, &text.replace("{}", canary), status);
                    let error = IngestError::new(phase, kind);
                    assert!(!format!("{error} {error:?}").contains(canary), "{text}");
                }
            }
        }
        assert!(!codec_name(canary).contains(canary));
    }
}
