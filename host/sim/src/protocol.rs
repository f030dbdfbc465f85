//! RTSP messages on the wire (RFC 2326): requests in, responses out.
//!
//! Owns framing, limits and the `Transport` header. Framing is `rtsp-types`'; its typed `Transport` header is not used
//! because it panics on malformed values (0.1.3: `mode="`, `src_addr="`), which anybody could send.

use rtsp_types::{Message, ParseError, Version};

/// One thing that a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Request(Request),
    /// Interleaved data: channel and content. Clients send receiver reports.
    Data(u8, Vec<u8>),
    /// A response; nothing here asks for one.
    Response,
}

/// A request, owned, header names as sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Absolute, as sent but for what a URL parser normalises; `*` for the server itself.
    pub(crate) uri: String,
    pub(crate) version_1: bool,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The first header of that name, whatever its case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The path of the camera, without host, query, trailing slash and track; `None` for `*`.
    pub(crate) fn path(&self) -> Option<&str> {
        if self.uri == "*" {
            return None;
        }
        let rest = path_of(&self.uri);
        let rest = rest.split(['?', '#']).next().unwrap_or(rest).trim_end_matches('/');
        Some(rest.strip_suffix(crate::sdp::TRACK).map_or(rest, |camera| camera.trim_end_matches('/')))
    }

    /// The session that it names, without parameters.
    pub(crate) fn session(&self) -> Option<&str> {
        self.header("Session").map(|value| value.split(';').next().unwrap_or(value).trim())
    }
}

/// What follows scheme and host; all of it where there are none.
pub(crate) fn path_of(uri: &str) -> &str {
    match uri.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |slash| &rest[slash..]),
        None => uri,
    }
}

/// Why bytes cannot become a message. The connection cannot go on: nobody knows where the next message begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FramingError {
    /// Answer 400.
    Malformed,
    /// Answer 413.
    TooLarge,
}

/// Takes one message off the front of a buffer: `None` when more bytes are needed, else it and its length in bytes.
///
/// # Errors
/// When the bytes are no RTSP, or are a request larger than `max_bytes`.
pub(crate) fn parse(buffer: &[u8], max_bytes: usize) -> Result<Option<(Incoming, usize)>, FramingError> {
    match Message::<Vec<u8>>::parse(buffer) {
        Ok((message, used)) => {
            if used > max_bytes && !matches!(message, Message::Data(_)) {
                return Err(FramingError::TooLarge);
            }
            let incoming = match message {
                Message::Data(data) => Incoming::Data(data.channel_id(), data.into_body()),
                Message::Response(_) => Incoming::Response,
                Message::Request(request) => Incoming::Request(Request {
                    method: <&str>::from(request.method()).to_owned(),
                    uri: request.request_uri().map_or_else(|| "*".to_owned(), ToString::to_string),
                    version_1: request.version() == Version::V1_0,
                    headers: request
                        .headers()
                        .map(|(name, value)| (name.as_str().to_owned(), value.as_str().to_owned()))
                        .collect(),
                    body: request.into_body(),
                }),
            };
            Ok(Some((incoming, used)))
        }
        // Interleaved data has its own bound: 16 bits of length.
        Err(ParseError::Incomplete(_)) if buffer.len() <= max_bytes || buffer.first() == Some(&b'$') => Ok(None),
        Err(ParseError::Incomplete(_)) => Err(FramingError::TooLarge),
        Err(ParseError::Error) => Err(FramingError::Malformed),
    }
}

/// A response on its way.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Response {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    /// Adds a header. Values must not come from a request unchecked: a line break in one would forge headers.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn with_body(mut self, kind: &'static str, body: String) -> Self {
        self.headers.push(("Content-Type", kind.to_owned()));
        self.body = body;
        self
    }

    /// The bytes; `cseq` is left out where the request had none that could be told.
    pub(crate) fn encode(&self, cseq: Option<u32>) -> Vec<u8> {
        let mut out = format!("RTSP/1.0 {} {}\r\n", self.status, reason(self.status));
        if let Some(cseq) = cseq {
            out.push_str(&format!("CSeq: {cseq}\r\n"));
        }
        for (name, value) in &self.headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() {
            out.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        out.push_str("\r\n");
        out.push_str(&self.body);
        out.into_bytes()
    }
}

/// Reason phrases of RFC 2326 7.1.1.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Request Entity Too Large",
        451 => "Parameter Not Understood",
        453 => "Not Enough Bandwidth",
        454 => "Session Not Found",
        455 => "Method Not Valid in This State",
        457 => "Invalid Range",
        459 => "Aggregate Operation Not Allowed",
        461 => "Unsupported Transport",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "RTSP Version Not Supported",
        551 => "Option Not Supported",
        _ => "Error",
    }
}

/// One way to send RTP that a client offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransportOffer {
    /// Interleaved, with the channels wished for RTP and RTCP.
    Tcp(Option<(u8, u8)>),
    /// To these ports of the client, RTP and RTCP.
    Udp(u16, u16),
}

/// The ways to send RTP that a `Transport` header offers and that exist here, in the client's order. Others (multicast,
/// recording, secure profiles, malformed ones) are left out: none left means 461.
pub(crate) fn transport_offers(header: &str) -> Vec<TransportOffer> {
    header.split(',').take(16).filter_map(offer).collect()
}

fn offer(text: &str) -> Option<TransportOffer> {
    let mut parts = text.split(';').map(str::trim);
    let profile = parts.next()?.to_ascii_uppercase();
    let (mut channels, mut ports) = (None, None);
    for part in parts {
        let (name, value) = part.split_once('=').map_or((part, ""), |(n, v)| (n.trim(), v.trim().trim_matches('"')));
        match name.to_ascii_lowercase().as_str() {
            "multicast" => return None,
            "mode" if !value.is_empty() && !value.eq_ignore_ascii_case("play") => return None,
            "interleaved" => channels = Some(pair::<u8>(value)?),
            "client_port" => ports = Some(pair::<u16>(value)?),
            _ => {}
        }
    }
    match (profile.as_str(), ports) {
        ("RTP/AVP/TCP", _) => Some(TransportOffer::Tcp(channels)),
        ("RTP/AVP" | "RTP/AVP/UDP", Some((rtp, rtcp))) if rtp != 0 && rtcp != 0 => Some(TransportOffer::Udp(rtp, rtcp)),
        _ => None,
    }
}

/// `4-5`, or `4` which means the same.
fn pair<T: std::str::FromStr + TryFrom<u32> + Into<u32> + Copy>(text: &str) -> Option<(T, T)> {
    let (first, second) = text.split_once('-').map_or((text, None), |(a, b)| (a, Some(b)));
    let first: T = first.trim().parse().ok()?;
    let second = match second {
        Some(second) => second.trim().parse().ok()?,
        None => T::try_from(first.into() + 1).ok()?,
    };
    (first.into() != second.into()).then_some((first, second))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(text: &str) -> Request {
        match parse(text.as_bytes(), 4096) {
            Ok(Some((Incoming::Request(request), used))) => {
                assert_eq!(used, text.len());
                request
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_are_taken_apart() {
        let text =
            "SETUP rtsp://u@host:8554/cam1/trackID=0?x=1 RTSP/1.0\r\ncseq: 3\r\nSession:  AB;timeout=60 \r\n\r\n";
        let setup = request(text);
        assert_eq!((setup.method.as_str(), setup.path(), setup.session()), ("SETUP", Some("/cam1"), Some("AB")));
        assert_eq!(setup.header("CSeq"), Some("3"));
        assert_eq!(request("OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n").path(), None);
        assert_eq!(request("PLAY rtsp://h/cam1/ RTSP/1.0\r\n\r\n").path(), Some("/cam1"));
        assert_eq!(request("PLAY rtsp://h RTSP/1.0\r\n\r\n").path(), Some(""));
        let body = request("SET_PARAMETER rtsp://h/cam1 RTSP/1.0\r\nContent-Length: 4\r\n\r\na: 1");
        assert_eq!(body.body, b"a: 1");
    }

    #[test]
    fn what_is_incomplete_waits_and_what_is_too_large_or_no_rtsp_is_refused() {
        assert_eq!(parse(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n", 4096), Ok(None));
        assert_eq!(parse(b"", 4096), Ok(None));
        let endless = format!("OPTIONS * RTSP/1.0\r\nX: {}", "x".repeat(5000));
        assert_eq!(parse(endless.as_bytes(), 4096), Err(FramingError::TooLarge));
        let large = b"OPTIONS * RTSP/1.0\r\nContent-Length: 18446744073709551615\r\n\r\n".repeat(2);
        assert_eq!(parse(&large, 64), Err(FramingError::TooLarge));
        assert_eq!(parse(b"GET / HTTP/1.1\r\n\r\n", 4096), Err(FramingError::Malformed));
        // RFC 2326 6.1 wants absolute URIs.
        assert_eq!(parse(b"PLAY /cam1 RTSP/1.0\r\n\r\n", 4096), Err(FramingError::Malformed));
        assert_eq!(parse(b"\x16\x03\x01\x02\x00\x01", 4096), Err(FramingError::Malformed));
        assert_eq!(parse(b"$\x01\x00\x02ab", 4096), Ok(Some((Incoming::Data(1, b"ab".to_vec()), 6))));
    }

    #[test]
    fn transports_are_understood() {
        use TransportOffer::{Tcp, Udp};
        let table: &[(&str, &[TransportOffer])] = &[
            ("RTP/AVP/TCP;unicast;interleaved=0-1", &[Tcp(Some((0, 1)))]),
            ("RTP/AVP/TCP;interleaved=4", &[Tcp(Some((4, 5)))]),
            ("rtp/avp/tcp", &[Tcp(None)]),
            ("RTP/AVP;unicast;client_port=5000-5001;mode=\"PLAY\"", &[Udp(5000, 5001)]),
            ("RTP/AVP/UDP;unicast;client_port=65535", &[]),
            ("RTP/AVP;multicast;client_port=5000-5001", &[]),
            ("RTP/SAVP;unicast;client_port=5000-5001", &[]),
            ("RTP/AVP;unicast", &[]),
            ("RTP/AVP;client_port=0-1", &[]),
            ("RTP/AVP/TCP;interleaved=300-301", &[]),
            ("RTP/AVP/TCP;mode=record", &[]),
            ("RTP/AVP;multicast,RTP/AVP;client_port=6-7,RTP/AVP/TCP", &[Udp(6, 7), Tcp(None)]),
            ("RTP/AVP/TCP;mode=\"", &[Tcp(None)]),
            ("", &[]),
        ];
        for (header, expected) in table {
            assert_eq!(&transport_offers(header), expected, "{header}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(Some((_, used))) = parse(&data, 256) {
                prop_assert!(used <= data.len());
            }
        }

        #[test]
        fn any_header_is_parsed_without_panic(header in "[A-Z/a-z;=,\"0-9 -]{0,80}", value in "\\PC{0,60}") {
            transport_offers(&header);
            transport_offers(&value);
            let text = format!("SETUP {header} RTSP/1.0\r\nTransport: {value}\r\nSession: {header}\r\n\r\n");
            if let Ok(Some((Incoming::Request(request), _))) = parse(text.as_bytes(), 4096) {
                request.path();
                request.session();
            }
        }
    }
}
