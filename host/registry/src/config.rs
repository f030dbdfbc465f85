//! Settings of the `[registries]` section: from where guests may be pulled, and how long that may take.
//!
//! Owns these settings and their checks. Must not read files or the environment: `access` does.

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

use crate::reference::is_loopback;

/// `[registries]`: OCI registries that guests may be pulled from over REST.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistriesConfig {
    /// The only ones that a request may name. With none, pulling over REST is refused: otherwise whoever has a token
    /// could make this host call any address that it reaches.
    pub allow: Vec<RegistryConfig>,
    /// How long one pull may take in all, milliseconds. With `guests.compile.timeout_ms` it must fit into
    /// `server.slow_request_timeout_ms`.
    pub pull_timeout_ms: u64,
    /// How long connecting may take, milliseconds.
    pub connect_timeout_ms: u64,
    /// How long a registry may be silent in the middle of an answer, milliseconds.
    pub idle_timeout_ms: u64,
}

/// One registry: `[[registries.allow]]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// `HOST` or `HOST:PORT`, as references name it. Where it says that its blobs and tokens are (other hosts, often)
    /// is believed.
    pub host: String,
    /// Speak HTTP without TLS. For registries on this machine or behind something that does TLS.
    #[serde(default)]
    pub plain_http: bool,
    /// Certificates (PEM) to trust for it instead of the system's: a registry with a private authority.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// User, when it wants one.
    #[serde(default)]
    pub user: Option<String>,
    /// Its password, or a token that stands for it.
    #[serde(default)]
    pub password: Option<Password>,
    /// Or the environment variable that holds it, so that the file has no secret.
    #[serde(default)]
    pub password_env: Option<String>,
}

/// A password that never prints.
#[derive(Clone)]
pub struct Password(SecretString);

impl Password {
    /// The clear text: for the header that it goes into and nothing else.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for Password {
    fn from(text: String) -> Self {
        Self(SecretString::from(text))
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(***)")
    }
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        self.expose_secret() == other.expose_secret()
    }
}

impl Default for RegistriesConfig {
    fn default() -> Self {
        Self { allow: Vec::new(), pull_timeout_ms: 120_000, connect_timeout_ms: 10_000, idle_timeout_ms: 30_000 }
    }
}

impl RegistriesConfig {
    /// Every problem, one sentence each, each beginning with the key it is about.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (i, registry) in self.allow.iter().enumerate() {
            let host = &registry.host;
            let host_is_one = |b: u8| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b);
            if host.is_empty() || !host.bytes().all(host_is_one) {
                // Not repeated: somebody may have written credentials into it.
                let n = i + 1;
                problems.push(format!("allow: host of registry {n} must be HOST or HOST:PORT, such as `ghcr.io`, without scheme, path or credentials"));
                continue;
            }
            if self.allow[..i].iter().any(|earlier| earlier.host.eq_ignore_ascii_case(host)) {
                problems.push(format!("allow: `{host}` is given twice"));
            }
            let secrets = usize::from(registry.password.is_some()) + usize::from(registry.password_env.is_some());
            if usize::from(registry.user.is_some()) != secrets {
                problems
                    .push(format!("allow: `{host}` needs user and one of password and password_env, or none of them"));
            }
            if registry.plain_http && registry.ca_file.is_some() {
                problems
                    .push(format!("allow: `{host}` has plain_http and ca_file; without TLS there is no certificate"));
            }
            if registry.plain_http && registry.user.is_some() && !is_loopback(host) {
                problems.push(format!(
                    "allow: the password for `{host}` would go over the network in clear text (plain_http)"
                ));
            }
        }
        let mut positive = |key: &str, value: u64| {
            if value == 0 {
                problems.push(format!("{key} must be above 0"));
            }
        };
        positive("pull_timeout_ms", self.pull_timeout_ms);
        positive("connect_timeout_ms", self.connect_timeout_ms);
        positive("idle_timeout_ms", self.idle_timeout_ms);
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(host: &str) -> RegistryConfig {
        RegistryConfig {
            host: host.to_owned(),
            plain_http: false,
            ca_file: None,
            user: None,
            password: None,
            password_env: None,
        }
    }

    #[test]
    fn the_defaults_are_valid_and_every_problem_is_told() {
        assert_eq!(RegistriesConfig::default().validate(), Vec::<String>::new());
        let mut in_clear = registry("registry.example.org");
        in_clear.plain_http = true;
        in_clear.user = Some("reader".to_owned());
        in_clear.password = Some(Password::from("canary".to_owned()));
        let mut half = registry("ghcr.io");
        half.user = Some("reader".to_owned());
        let config = RegistriesConfig {
            allow: vec![registry("https://canary@a"), registry("A.example"), registry("a.example"), in_clear, half],
            pull_timeout_ms: 0,
            ..RegistriesConfig::default()
        };
        let problems = config.validate();
        for words in
            ["registry 1", "`a.example` is given twice", "in clear text", "`ghcr.io` needs user", "pull_timeout_ms"]
        {
            assert!(problems.iter().any(|p| p.contains(words)), "{words} in {problems:?}");
        }
        assert_eq!(problems.len(), 5, "{problems:?}");
        assert!(!format!("{problems:?} {:?}", config.allow[3]).contains("canary"));
    }
}
