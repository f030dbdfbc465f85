//! Whether a server sends us elsewhere.
//!
//! Owns the checks of addresses that come from the server: the base of its description and the source of its media.

use std::net::{IpAddr, SocketAddr};

use retina::client::{Described, Session, Stream};
use url::Url;

use crate::error::{ErrorKind, IngestError, Phase};
use crate::policy::AddressPolicy;

/// Whether the base address of the description is seen to be `address`.
///
/// The library does not show the base, but streams with a relative `a=control` carry it in their control address. Where
/// any control is absolute the base stays unseen, and the answer is no.
pub(super) fn base_is_at(session: &Session<Described>, address: &SocketAddr) -> bool {
    let sdp = String::from_utf8_lossy(session.sdp());
    let relative =
        sdp.lines().filter_map(|line| line.trim().strip_prefix("a=control:")).all(|c| Url::parse(c).is_err());
    let mut controls = session.streams().iter().filter_map(Stream::control).peekable();
    relative && controls.peek().is_some() && controls.all(|url| is_at(url, address))
}

fn is_at(url: &Url, address: &SocketAddr) -> bool {
    // `rtsp` hosts stay as written: an IPv4 address is a "domain" to crate `url`.
    let host = url.host_str().map(|h| h.trim_start_matches('[').trim_end_matches(']'));
    host.and_then(|h| h.parse::<IpAddr>().ok()) == Some(address.ip()) && url.port().unwrap_or(554) == address.port()
}

/// Refuses media from an address that the policy denies: a server may name any (`source=` of its SETUP answer), and the
/// library sends it two short datagrams (to open firewalls) and takes packets from it.
pub(super) fn check_media_source(
    stream: &Stream,
    connected: &SocketAddr,
    policy: &AddressPolicy,
) -> Result<(), IngestError> {
    let source = stream.ctx().and_then(|ctx| media_source(&ctx.to_string()));
    let fine = source.is_some_and(|ip| ip == connected.ip() || policy.allows_address(ip));
    let kind = ErrorKind::Protocol("the camera wants to send from an address that ingest.addresses does not allow");
    if fine { Ok(()) } else { Err(IngestError::new(Phase::Setup, kind)) }
}

/// From the library's `local:port-port(me) -> peer:port-port`; an IPv6 address stands there without brackets.
fn media_source(context: &str) -> Option<IpAddr> {
    let peer = context.split_once(" -> ")?.1;
    peer.rsplit_once(':')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_read_from_the_context() {
        assert_eq!(media_source("10.0.0.1:5000-5001(me) -> 10.0.0.2:6000-6001"), Some("10.0.0.2".parse().unwrap()));
        assert_eq!(media_source("fd00::1:5000-5001(me) -> fd00::2:6000-6001"), Some("fd00::2".parse().unwrap()));
        assert_eq!(media_source("TCP, interleaved channel ids 0-1"), None);
    }

    #[test]
    fn addresses_compare_with_their_ports() {
        let at = |url: &str, address: &str| is_at(&Url::parse(url).unwrap(), &address.parse().unwrap());
        assert!(at("rtsp://10.0.0.2/trackID=1", "10.0.0.2:554"));
        assert!(at("rtsp://10.0.0.2:8554/trackID=1", "10.0.0.2:8554"));
        assert!(at("rtsp://[fd00::2]:8554/trackID=1", "[fd00::2]:8554"));
        assert!(!at("rtsp://10.0.0.2:80/trackID=1", "10.0.0.2:554"));
        assert!(!at("rtsp://10.0.0.3/trackID=1", "10.0.0.2:554"));
        assert!(!at("rtsp://camera/trackID=1", "10.0.0.2:554"));
        assert!(!at("rtsp://10.0.0.2@evil/trackID=1", "10.0.0.2:554"));
    }
}
