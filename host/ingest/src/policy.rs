//! Which addresses a camera may have, decided before anything is sent.
//!
//! Owns the decision and the pinning: a name is resolved once, every address is judged, and the connection goes to a
//! judged address rather than to the name, so that a name that resolves differently a moment later ("DNS rebinding")
//! changes nothing. Must not connect.
//!
//! Cameras live on private networks, so these are allowed; the server-side request forgeries that matter here are this
//! machine's own services, link-local credentials services and whatever the operator keeps out of `allow_*`.

mod address;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use facestream_core::SourceUrl;
use futures::future::BoxFuture;
use url::{Host, Url};

pub use self::address::AddressDenied;
use crate::config::AddressConfig;

/// RFC 2326, 3.2.
const DEFAULT_PORT: u16 = 554;

/// Turns a host name into addresses.
pub trait Resolver: Send + Sync + fmt::Debug {
    /// All addresses of `host`, in order of preference.
    ///
    /// # Errors
    /// When the name is unknown or the resolver cannot be asked.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The system's resolver (`getaddrinfo`, on the runtime's blocking threads).
#[derive(Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.map(|a| a.ip()).collect()) })
    }
}

/// Why an address may not be used. Holds no user name, password, path or query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A scheme outside the list.
    #[error("`{scheme}` addresses are not allowed; allowed: {allowed}")]
    Scheme {
        /// The scheme found.
        scheme: String,
        /// The schemes allowed, joined.
        allowed: String,
    },
    /// RTSP over TLS.
    #[error("rtsps (RTSP over TLS) is not supported; use rtsp, inside a network or a tunnel that you trust")]
    Rtsps,
    /// A host that different programs would read differently, such as `0x7f.1` or `2130706433`.
    #[error("`{host}` is neither a host name nor an address in the usual form (10.0.0.5, [2001:db8::5])")]
    AmbiguousHost {
        /// The host as written.
        host: String,
    },
    /// A host outside the list.
    #[error("host `{host}` is not among ingest.addresses.allow_hosts")]
    Host {
        /// The host as written.
        host: String,
    },
    /// A port outside the list.
    #[error("port {port} is not among ingest.addresses.allow_ports")]
    Port {
        /// The port.
        port: u16,
    },
    /// An address that may not be reached.
    #[error("{host}: address {address} {}", reason.as_str())]
    Address {
        /// The host as written.
        host: String,
        /// The address it stands for.
        address: IpAddr,
        /// Why.
        reason: AddressDenied,
    },
    /// The name could not be resolved.
    #[error("host name `{host}` cannot be resolved; check its spelling and this machine's DNS")]
    UnknownHost {
        /// The host as written.
        host: String,
    },
}

impl PolicyError {
    /// Whether trying again cannot help: the address as written is refused. What a name resolves to may change.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::UnknownHost { .. } => false,
            Self::Address { host, .. } => literal(host).is_some(),
            _ => true,
        }
    }
}

/// A checked address, pinned: the connection goes to `addresses()`, whatever the name resolves to later.
#[derive(Clone, PartialEq, Eq)]
pub struct PinnedTarget {
    /// Without user info; path and query may hold credentials, so it must not print.
    url: Url,
    addresses: Vec<SocketAddr>,
}

impl PinnedTarget {
    /// All addresses that may be used, in order of preference; never empty.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The address for the given attempt (from 1): attempts take turns, so that one dead address of several does not
    /// keep a camera away.
    #[must_use]
    pub fn address(&self, attempt: u32) -> SocketAddr {
        let turn = usize::try_from(attempt.saturating_sub(1)).unwrap_or(0) % self.addresses.len();
        self.addresses[turn]
    }

    /// The request address with the host replaced by `address`. Must not print: path and query may hold credentials.
    #[must_use]
    pub fn url_at(&self, address: SocketAddr) -> Url {
        let mut url = self.url.clone();
        // Both fail only for addresses that have no host, which `SourceUrl` rules out.
        let pinned = url.set_ip_host(address.ip()).and_then(|()| url.set_port(Some(address.port())));
        debug_assert!(pinned.is_ok(), "an address with a host takes another host");
        url
    }
}

impl fmt::Debug for PinnedTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedTarget").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// The policy in force.
#[derive(Debug)]
pub struct AddressPolicy {
    config: AddressConfig,
    resolver: Arc<dyn Resolver>,
}

impl AddressPolicy {
    /// With the system's resolver.
    #[must_use]
    pub fn new(config: AddressConfig) -> Self {
        Self::with_resolver(config, Arc::new(SystemResolver))
    }

    /// With another resolver.
    #[must_use]
    pub fn with_resolver(config: AddressConfig, resolver: Arc<dyn Resolver>) -> Self {
        Self { config, resolver }
    }

    /// What can be said without asking a name server: scheme, form of the host, port, lists, and addresses written as
    /// such. For answering a request at once; it does not replace [`check`](Self::check).
    ///
    /// # Errors
    /// When the address is refused as written.
    pub fn precheck(&self, source: &SourceUrl) -> Result<(), PolicyError> {
        self.as_written(source).map(drop)
    }

    /// Decides, resolving the host name once, and pins the result.
    ///
    /// # Errors
    /// When the address is refused, or the name cannot be resolved to an address that is allowed.
    pub async fn check(&self, source: &SourceUrl) -> Result<PinnedTarget, PolicyError> {
        let (host, port, literal) = self.as_written(source)?;
        let resolved = match literal {
            Some(address) => vec![address],
            None => match self.resolver.resolve(&host).await {
                Ok(addresses) if !addresses.is_empty() => addresses,
                _ => return Err(PolicyError::UnknownHost { host }),
            },
        };
        let mut addresses = Vec::new();
        let mut denied = None;
        for address in resolved {
            match self.judge(address) {
                Ok(()) => {
                    let target = SocketAddr::new(address::canonical(address), port);
                    if !addresses.contains(&target) {
                        addresses.push(target);
                    }
                }
                Err(reason) => {
                    denied.get_or_insert(PolicyError::Address { host: host.clone(), address, reason });
                }
            }
        }
        match denied {
            Some(error) if addresses.is_empty() => Err(error),
            _ => Ok(PinnedTarget { url: source.bare().clone(), addresses }),
        }
    }

    /// Whether media may come from and hole-punching datagrams go to `address`: servers name it themselves.
    pub(crate) fn allows_address(&self, address: IpAddr) -> bool {
        self.judge(address).is_ok()
    }

    /// Host (without brackets and trailing dot), port, and the address when the host is one.
    fn as_written(&self, source: &SourceUrl) -> Result<(String, u16, Option<IpAddr>), PolicyError> {
        let url = source.bare();
        let scheme = url.scheme();
        if scheme == "rtsps" {
            return Err(PolicyError::Rtsps);
        }
        if !self.config.allow_schemes.iter().any(|s| s == scheme) {
            return Err(PolicyError::Scheme {
                scheme: scheme.to_owned(),
                allowed: self.config.allow_schemes.join(", "),
            });
        }
        let (host, literal) = match url.host() {
            Some(Host::Ipv4(v4)) => (v4.to_string(), Some(IpAddr::V4(v4))),
            Some(Host::Ipv6(v6)) => (v6.to_string(), Some(IpAddr::V6(v6))),
            Some(Host::Domain(name)) => {
                // `url` keeps hosts of schemes that browsers do not know as they are written.
                let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
                let literal = name.parse::<Ipv4Addr>().ok().map(IpAddr::V4);
                if literal.is_none() && !is_plain_name(&name) {
                    return Err(PolicyError::AmbiguousHost { host: printable(&name) });
                }
                (name, literal)
            }
            None => return Err(PolicyError::AmbiguousHost { host: String::new() }),
        };
        let port = url.port().unwrap_or(DEFAULT_PORT);
        let port_listed = self.config.allow_ports.is_empty() || self.config.allow_ports.contains(&port);
        if port == 0 || !port_listed {
            return Err(PolicyError::Port { port });
        }
        if !self.host_listed(&host, literal) {
            return Err(PolicyError::Host { host });
        }
        if let Some(address) = literal
            && let Err(reason) = self.judge(address)
        {
            return Err(PolicyError::Address { host, address, reason });
        }
        Ok((host, port, literal))
    }

    fn host_listed(&self, host: &str, literal: Option<IpAddr>) -> bool {
        let listed = |pattern: &String| {
            let pattern = pattern.to_ascii_lowercase();
            let pattern = pattern.strip_suffix('.').unwrap_or(&pattern);
            match (pattern.strip_prefix("*."), literal) {
                (Some(parent), None) => {
                    host.strip_suffix(parent).and_then(|rest| rest.strip_suffix('.')).is_some_and(|r| !r.is_empty())
                }
                (Some(_), Some(_)) => false,
                (None, None) => pattern == host,
                (None, Some(address)) => self::literal(pattern).is_some_and(|p| p == address),
            }
        };
        let covered = || {
            literal.is_some_and(|a| {
                let a = address::canonical(a);
                self.config.allow_cidrs.iter().any(|net| net.contains(&a))
            })
        };
        self.config.allow_hosts.is_empty() || self.config.allow_hosts.iter().any(listed) || covered()
    }

    fn judge(&self, address: IpAddr) -> Result<(), AddressDenied> {
        let forms = address::forms(address);
        if let Some(reason) = forms.iter().find_map(|&a| address::never(a)) {
            return Err(reason);
        }
        let canonical = address::canonical(address);
        let listed = self.config.allow_cidrs.iter().any(|net| net.contains(&canonical));
        // The explicit network speaks of the address that is connected to; a loopback address wrapped in a transition
        // form is not what its author meant.
        let loopback = forms.iter().any(IpAddr::is_loopback);
        let listed_loopback = listed && canonical.is_loopback();
        if loopback && !self.config.allow_loopback && !listed_loopback {
            return Err(AddressDenied::Loopback);
        }
        let fits = listed || self.config.allow_cidrs.is_empty() || (loopback && self.config.allow_loopback);
        if fits { Ok(()) } else { Err(AddressDenied::NotListed) }
    }
}

/// An address written as such, with or without brackets.
fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok()
}

/// Letters, digits, `-`, `_` in labels, the last of which is no number: `getaddrinfo` reads `0x7f.1`, `0177.1` and
/// `2130706433` as addresses, and so would slip past a check of names.
fn is_plain_name(name: &str) -> bool {
    let labels_fit = name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        });
    let last = name.rsplit('.').next().unwrap_or_default();
    let number = last.bytes().all(|b| b.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    labels_fit && !number
}

/// At most 64 harmless characters of a host that is no host.
fn printable(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}
