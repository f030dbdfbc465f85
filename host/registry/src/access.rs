//! Which registries may be asked, and how: transport, trust, credentials, timeouts.
//!
//! Owns the list that a request's reference is held against before anything is sent. Must not print a password.

use std::path::Path;
use std::time::Duration;

use oci_client::Client;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;

use crate::config::{Password, RegistriesConfig};
use crate::error::{RegistryError, words};
use crate::reference::PullReference;

/// Who asks.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// User.
    pub user: String,
    /// Password, or a token that stands for it.
    pub password: Password,
}

/// How one registry is reached.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// HTTP without TLS.
    pub plain_http: bool,
    /// Certificates (PEM) to trust instead of the system's.
    pub ca: Option<Vec<u8>>,
    /// Who asks; nobody in particular when left out.
    pub credentials: Option<Credentials>,
}

/// How long what may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// A whole pull.
    pub pull: Duration,
    /// Connecting.
    pub connect: Duration,
    /// Silence within an answer.
    pub idle: Duration,
}

impl Timeouts {
    /// Those of the configuration.
    #[must_use]
    pub fn of(config: &RegistriesConfig) -> Self {
        let ms = Duration::from_millis;
        Self {
            pull: ms(config.pull_timeout_ms),
            connect: ms(config.connect_timeout_ms),
            idle: ms(config.idle_timeout_ms),
        }
    }
}

/// The registries that this host pulls from.
#[derive(Debug)]
pub struct Registries {
    allowed: Vec<(String, Access)>,
    timeouts: Timeouts,
}

impl Registries {
    /// Takes the list and reads what it refers to: certificates, and passwords in the environment.
    ///
    /// # Errors
    /// When a file cannot be read or a variable is not set: a sentence that names it.
    pub fn open(config: &RegistriesConfig, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut allowed = Vec::new();
        for registry in &config.allow {
            let ca = registry.ca_file.as_deref().map(read_ca).transpose()?;
            let from_env = |name: &String| {
                env(name).map(Password::from).ok_or_else(|| {
                    format!(
                        "registries.allow: the environment has no {name}, which password_env of `{}` names",
                        registry.host
                    )
                })
            };
            let password = match (&registry.password, &registry.password_env) {
                (Some(password), _) => Some(password.clone()),
                (None, name) => name.as_ref().map(from_env).transpose()?,
            };
            let credentials =
                registry.user.clone().zip(password).map(|(user, password)| Credentials { user, password });
            allowed.push((
                registry.host.to_ascii_lowercase(),
                Access { plain_http: registry.plain_http, ca, credentials },
            ));
        }
        Ok(Self { allowed, timeouts: Timeouts::of(config) })
    }

    /// How the registry of a reference is reached, if it is one that may be.
    ///
    /// # Errors
    /// `NotAllowed`.
    pub fn access(&self, reference: &PullReference) -> Result<&Access, RegistryError> {
        let registry = reference.registry();
        self.allowed.iter().find(|(host, _)| host == registry).map(|(_, access)| access).ok_or_else(|| {
            let names: Vec<&str> = self.allowed.iter().map(|(host, _)| host.as_str()).collect();
            let allowed = if names.is_empty() { "none at all".to_owned() } else { names.join(", ") };
            RegistryError::NotAllowed { registry: registry.to_owned(), allowed }
        })
    }

    /// How long what may take.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }
}

/// Reads a file of certificates.
///
/// # Errors
/// A sentence: it cannot be read, or holds none.
pub fn read_ca(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    if bytes.windows(11).any(|w| w == b"-----BEGIN ") {
        Ok(bytes)
    } else {
        Err(format!("{} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)", path.display()))
    }
}

impl Access {
    /// A client for one registry, and who it asks as.
    pub(crate) fn client(&self, registry: &str, timeouts: Timeouts) -> Result<(Client, RegistryAuth), RegistryError> {
        // Once a process; a second time is no mistake.
        drop(rustls::crypto::ring::default_provider().install_default());
        let ca = self.ca.iter().map(|pem| Certificate { encoding: CertificateEncoding::Pem, data: pem.clone() });
        let config = ClientConfig {
            protocol: if self.plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
            tls_certs_only: ca.collect(),
            // An index of several manifests is no guest: which of them would be meant?
            platform_resolver: None,
            connect_timeout: Some(timeouts.connect),
            read_timeout: Some(timeouts.idle),
            user_agent: concat!("facestream/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config)
            .map_err(|e| RegistryError::Client { registry: registry.to_owned(), problem: words(&e.to_string()) })?;
        let auth = self.credentials.as_ref().map_or(RegistryAuth::Anonymous, |who| {
            RegistryAuth::Basic(who.user.clone(), who.password.expose_secret().to_owned())
        });
        Ok((client, auth))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RegistryConfig;

    #[test]
    fn only_listed_registries_are_asked_and_passwords_do_not_print() {
        let listed = RegistryConfig {
            host: "Registry.example:5000".to_owned(),
            plain_http: false,
            ca_file: None,
            user: Some("reader".to_owned()),
            password: None,
            password_env: Some("REGISTRY_PASSWORD".to_owned()),
        };
        let config = RegistriesConfig { allow: vec![listed], ..RegistriesConfig::default() };
        let missing = Registries::open(&config, &|_| None).unwrap_err();
        assert!(missing.contains("REGISTRY_PASSWORD"), "{missing}");
        let registries = Registries::open(&config, &|_| Some("canary".to_owned())).unwrap();
        assert!(!format!("{registries:?}").contains("canary"));
        let of = |host: &str| format!("oci://{host}/a@sha256:{}", "0".repeat(64)).parse().unwrap();
        assert!(registries.access(&of("registry.example:5000")).unwrap().credentials.is_some());
        for other in ["registry.example", "registry.example:5001", "evil.example", "127.0.0.1:5000"] {
            let error = registries.access(&of(other)).unwrap_err().to_string();
            assert!(error.contains("[[registries.allow]]") && error.contains("registry.example:5000"), "{error}");
        }
        let nothing = Registries::open(&RegistriesConfig::default(), &|_| None).unwrap();
        assert!(nothing.access(&of("ghcr.io")).unwrap_err().to_string().contains("none at all"));
    }
}
