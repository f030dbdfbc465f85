//! What kind of place an IP address is, looked at through every form that wraps an IPv4 address.
//!
//! Owns the lists of ranges. Must not resolve names and knows no configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressDenied {
    /// 0.0.0.0/8 or `::`: reaches this very machine on most systems.
    Unspecified,
    /// More than one receiver, or reserved: no camera answers there.
    MulticastOrReserved,
    /// Link-local, where clouds serve machine credentials (169.254.169.254).
    LinkLocal,
    /// A cloud's metadata service outside the link-local range.
    Metadata,
    /// This machine, while `allow_loopback` is off.
    Loopback,
    /// Outside `allow_cidrs`.
    NotListed,
}

impl AddressDenied {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "is the unspecified address, never a camera's",
            Self::MulticastOrReserved => "is a multicast or reserved address, never a camera's",
            Self::LinkLocal => "is link-local (where clouds serve machine credentials), never allowed",
            Self::Metadata => "is a cloud's metadata service, never allowed",
            Self::Loopback => "is this machine itself; set ingest.addresses.allow_loopback = true to allow that",
            Self::NotListed => "lies in none of ingest.addresses.allow_cidrs",
        }
    }
}

/// Metadata services that hide in ranges where cameras may live.
const METADATA: [IpAddr; 4] = [
    // Alibaba Cloud, in the shared range 100.64.0.0/10.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Oracle Cloud, in 192.0.0.0/24.
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    // Azure's wire server, an address of the public range.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // AWS over IPv6, in the unique local range.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
];

/// The address itself first, then every IPv4 address that it wraps: mapped (::ffff:0:0/96), compatible (::/96),
/// translated (SIIT ::ffff:0:0:0/96), NAT64 (64:ff9b::/96 and the local-use 64:ff9b:1::/48), 6to4 (2002::/16),
/// Teredo's client (2001::/32, inverted) and ISATAP (interface identifier 0:5efe or 200:5efe).
/// RFC 4291, 2765, 6052, 8215, 3056, 4380, 5214.
pub(super) fn forms(address: IpAddr) -> Vec<IpAddr> {
    let mut all = vec![address];
    if let IpAddr::V6(v6) = address {
        let s = v6.segments();
        let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
        let last = v4(s[6], s[7]);
        let mapped = s[..5] == [0; 5] && s[5] == 0xffff;
        // `::` and `::1` are judged as themselves.
        let compatible = s[..6] == [0; 6] && u32::from(last) > 1;
        let translated = s[..4] == [0; 4] && s[4] == 0xffff && s[5] == 0;
        let nat64 = s[..6] == [0x64, 0xff9b, 0, 0, 0, 0] || s[..3] == [0x64, 0xff9b, 1];
        let isatap = (s[4] == 0 || s[4] == 0x0200) && s[5] == 0x5efe;
        if mapped || compatible || translated || nat64 || isatap {
            all.push(IpAddr::V4(last));
        }
        if s[0] == 0x2002 {
            all.push(IpAddr::V4(v4(s[1], s[2])));
        }
        if s[0] == 0x2001 && s[1] == 0 {
            all.push(IpAddr::V4(v4(!s[6], !s[7])));
        }
    }
    all
}

/// `::ffff:10.0.0.5` as `10.0.0.5`, anything else as it is: what the connection is made to and networks are compared with.
pub(super) fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// What no setting can allow.
pub(super) fn never(address: IpAddr) -> Option<AddressDenied> {
    if METADATA.contains(&address) {
        return Some(AddressDenied::Metadata);
    }
    match address {
        IpAddr::V4(v4) => {
            let first = v4.octets()[0];
            if first == 0 {
                Some(AddressDenied::Unspecified)
            } else if v4.is_link_local() {
                Some(AddressDenied::LinkLocal)
            } else if first >= 224 {
                // Multicast 224/4, reserved 240/4, broadcast.
                Some(AddressDenied::MulticastOrReserved)
            } else {
                None
            }
        }
        IpAddr::V6(v6) => {
            if v6.is_unspecified() {
                Some(AddressDenied::Unspecified)
            } else if v6.is_multicast() {
                Some(AddressDenied::MulticastOrReserved)
            } else if (v6.segments()[0] & 0xff80) == 0xfe80 {
                // fe80::/10 and the deprecated site-local fec0::/10.
                Some(AddressDenied::LinkLocal)
            } else {
                None
            }
        }
    }
}
