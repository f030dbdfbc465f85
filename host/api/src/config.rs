//! Settings of the `[server]` section: where the API listens, who may use it, and its bounds.
//!
//! Owns these settings and their checks. Must not open a socket or read a file.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use crate::auth::{Role, TokenHash};

/// `[server]`: where the API listens and who may use it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Address and port to listen on. Anything but loopback needs `tokens` or `unauthenticated_ok`.
    pub listen: SocketAddr,
    /// Folder that holds all the host keeps: wanted cameras, guests, caches, messages. Made when it is missing.
    pub data_dir: PathBuf,
    /// How long a stop may take, milliseconds: requests end, frames under way are analysed, messages are delivered.
    pub grace_ms: u64,
    /// Who may use the API. With none, everybody who reaches the loopback address may do everything.
    pub tokens: Vec<TokenConfig>,
    /// Names under which the API is reached besides `localhost` and loopback addresses, without port. Requests whose
    /// `Host` header names another host are refused (DNS rebinding), on other than loopback addresses only when this
    /// list is not empty.
    pub allow_hosts: Vec<String>,
    /// Serve without tokens on an address that other machines reach. Only behind something else that authenticates.
    pub unauthenticated_ok: bool,
    /// Largest component that may be uploaded, bytes. At most two uploads are taken at once, each held in memory.
    pub max_upload_bytes: usize,
    /// How long a request may take, milliseconds.
    pub request_timeout_ms: u64,
    /// How long an upload or a swap may take, milliseconds: a component is compiled on the way.
    pub slow_request_timeout_ms: u64,
    /// How long a client may take to send a request's headers, milliseconds; also how long an idle connection is kept.
    pub header_timeout_ms: u64,
    /// Connections at once; more wait in the system's backlog.
    pub max_connections: usize,
    /// Listeners of `/api/v1/events` at once.
    pub max_event_clients: usize,
}

/// One token: `[[server.tokens]]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// Whose it is, for the log.
    pub name: String,
    /// What it allows: `viewer` reads, `operator` also starts, stops and swaps, `guest-admin` also uploads and deletes guests.
    pub role: Role,
    /// The token (16 characters or more), or `sha256:<hex>` of it so that the file holds no secret.
    pub token: TokenHash,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            data_dir: PathBuf::from("facestream-data"),
            grace_ms: 10_000,
            tokens: Vec::new(),
            allow_hosts: Vec::new(),
            unauthenticated_ok: false,
            max_upload_bytes: 64 << 20,
            request_timeout_ms: 30_000,
            slow_request_timeout_ms: 300_000,
            header_timeout_ms: 30_000,
            max_connections: 512,
            max_event_clients: 64,
        }
    }
}

impl ServerConfig {
    /// Every problem, one sentence each, each beginning with the key it is about.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.listen.ip().is_loopback() && self.tokens.is_empty() && !self.unauthenticated_ok {
            problems.push(format!(
                "listen = \"{}\" is reached from other machines, but nobody is authenticated: add [[server.tokens]], or set \
                 unauthenticated_ok = true when something in front of it does that",
                self.listen
            ));
        }
        if self.data_dir.as_os_str().is_empty() {
            problems.push("data_dir must name a folder".to_owned());
        }
        for host in &self.allow_hosts {
            let bracketed = host.starts_with('[') && host.ends_with(']');
            if host.is_empty() || host.contains('/') || host.contains('@') || (host.contains(':') && !bracketed) {
                problems.push(format!("allow_hosts: `{host}` must be a bare name such as `cameras.example.org`, without scheme, port or path"));
            }
        }
        for (i, token) in self.tokens.iter().enumerate() {
            if token.name.is_empty() || token.name.len() > 64 || token.name.chars().any(char::is_control) {
                problems.push(format!("tokens: name of token {} must have 1 to 64 characters", i + 1));
            }
            if self.tokens[..i].iter().any(|earlier| earlier.name == token.name) {
                problems.push(format!("tokens: name `{}` is given twice", token.name));
            }
            if self.tokens[..i].iter().any(|earlier| earlier.token == token.token) {
                problems.push(format!("tokens: `{}` has the same token as another", token.name));
            }
        }
        let mut positive = |key: &str, value: u64| {
            if value == 0 {
                problems.push(format!("{key} must be above 0"));
            }
        };
        positive("request_timeout_ms", self.request_timeout_ms);
        positive("slow_request_timeout_ms", self.slow_request_timeout_ms);
        positive("header_timeout_ms", self.header_timeout_ms);
        positive("max_connections", self.max_connections as u64);
        positive("max_upload_bytes", self.max_upload_bytes as u64);
        if self.max_upload_bytes > 1 << 30 {
            problems.push("max_upload_bytes must be at most 1073741824: uploads are held in memory".to_owned());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_loopback() {
        let config = ServerConfig::default();
        assert_eq!(config.validate(), Vec::<String>::new());
        assert!(config.listen.ip().is_loopback());
    }

    #[test]
    fn other_addresses_need_tokens_or_an_opt_out() {
        let mut config = ServerConfig { listen: "0.0.0.0:8080".parse().unwrap(), ..ServerConfig::default() };
        assert!(config.validate()[0].contains("tokens"), "{:?}", config.validate());
        config.unauthenticated_ok = true;
        assert_eq!(config.validate(), Vec::<String>::new());
        config.unauthenticated_ok = false;
        config.tokens =
            vec![TokenConfig { name: "ops".into(), role: Role::Operator, token: TokenHash::of("0123456789abcdef") }];
        assert_eq!(config.validate(), Vec::<String>::new());
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let token = |name: &str| TokenConfig {
            name: name.into(),
            role: Role::Viewer,
            token: TokenHash::of("0123456789abcdef"),
        };
        let config = ServerConfig {
            data_dir: PathBuf::new(),
            allow_hosts: vec!["http://a".into(), "b:80".into(), "[::1]".into(), "ok.example".into()],
            tokens: vec![token("a"), token("a"), token("")],
            max_upload_bytes: 2 << 30,
            request_timeout_ms: 0,
            max_connections: 0,
            ..ServerConfig::default()
        };
        let problems = config.validate();
        for part in [
            "data_dir",
            "`http://a`",
            "`b:80`",
            "`a` is given twice",
            "same token",
            "name of token 3",
            "max_upload_bytes",
            "request_timeout_ms",
            "max_connections",
        ] {
            assert!(problems.iter().any(|p| p.contains(part)), "{part} missing in {problems:?}");
        }
        assert!(!problems.iter().any(|p| p.contains("[::1]") || p.contains("ok.example")), "{problems:?}");
    }
}
