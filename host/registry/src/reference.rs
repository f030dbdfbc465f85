//! How an artifact in a registry is named: `oci://HOST[:PORT]/REPOSITORY@sha256:<hex>` to pull, `…[:TAG]` to push.
//!
//! Must not guess: there is no default registry, and what is wrong is never repeated (it may hold a password).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use oci_client::Reference;

use crate::error::RegistryError;

/// An artifact by its digest: the same bytes for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullReference {
    registry: String,
    repository: String,
    digest: String,
}

/// Where an artifact goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushReference {
    registry: String,
    repository: String,
    tag: String,
}

impl PullReference {
    /// `HOST[:PORT]`, as it was written.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Digest of the manifest, `sha256:<hex>`.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The last part of the repository: a name for people.
    #[must_use]
    pub fn name(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or_default()
    }

    pub(crate) fn to_oci(&self) -> Reference {
        Reference::with_digest(self.registry.clone(), self.repository.clone(), self.digest.clone())
    }
}

impl PushReference {
    /// `HOST[:PORT]`, as it was written.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// What was pushed there, once its digest is known.
    pub(crate) fn at(&self, digest: String) -> PullReference {
        PullReference { registry: self.registry.clone(), repository: self.repository.clone(), digest }
    }

    pub(crate) fn to_oci(&self) -> Reference {
        Reference::with_tag(self.registry.clone(), self.repository.clone(), self.tag.clone())
    }
}

impl fmt::Display for PullReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci://{}/{}@{}", self.registry, self.repository, self.digest)
    }
}

impl fmt::Display for PushReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci://{}/{}:{}", self.registry, self.repository, self.tag)
    }
}

impl FromStr for PullReference {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let rest = after_scheme(text)?;
        let (place, digest) = match rest.rsplit_once('@') {
            Some((place, digest)) if digest.starts_with("sha256:") => (place, digest),
            Some((place, digest)) if digest.contains(':') && !place.contains('@') && !digest.contains('/') => {
                return Err(RegistryError::BadReference("the digest is none of sha256"));
            }
            Some(_) => return Err(RegistryError::BadReference(NO_CREDENTIALS)),
            None => {
                // Read all the same, so that what is wrong besides is told first.
                place_of(rest)?;
                return Err(RegistryError::NoDigest);
            }
        };
        let hex = digest.trim_start_matches("sha256:");
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(RegistryError::BadReference("the digest is not 64 hex digits (a to f in lower case)"));
        }
        // A tag beside the digest says nothing more.
        let (registry, repository, _tag) = place_of(place)?;
        Ok(Self { registry, repository, digest: digest.to_owned() })
    }
}

impl FromStr for PushReference {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let rest = after_scheme(text)?;
        if rest.contains('@') {
            return Err(RegistryError::BadReference(
                "where to push has neither a digest (that is what comes out) nor credentials",
            ));
        }
        let (registry, repository, tag) = place_of(rest)?;
        Ok(Self { registry, repository, tag: tag.unwrap_or_else(|| "latest".to_owned()) })
    }
}

const NO_CREDENTIALS: &str = "a reference has no credentials in it";

fn after_scheme(text: &str) -> Result<&str, RegistryError> {
    let rest = text.strip_prefix("oci://").ok_or(RegistryError::BadReference("it does not begin with oci://"))?;
    if text.len() > 512 { Err(RegistryError::BadReference("it is longer than 512 bytes")) } else { Ok(rest) }
}

/// Registry, repository, tag.
fn place_of(text: &str) -> Result<(String, String, Option<String>), RegistryError> {
    if text.contains('@') {
        return Err(RegistryError::BadReference(NO_CREDENTIALS));
    }
    let (registry, path) =
        text.split_once('/').ok_or(RegistryError::BadReference("there is no repository after the host"))?;
    let host = |b: u8| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b);
    if registry.is_empty() || !registry.bytes().all(host) {
        return Err(RegistryError::BadReference("the host is none"));
    }
    let (repository, tag) = match path.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (path, None),
    };
    // The distribution specification's own rule.
    let part = |part: &str| {
        let ends = |c: Option<u8>| c.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        ends(part.bytes().next()) && ends(part.bytes().last()) && part.bytes().all(inner)
    };
    if !repository.split('/').all(part) {
        return Err(RegistryError::BadReference("the repository is not of a-z 0-9 . _ - in parts divided by /"));
    }
    let tag_is_one = |tag: &str| {
        (1..=128).contains(&tag.len())
            && !tag.starts_with(['.', '-'])
            && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    if !tag.is_none_or(tag_is_one) {
        return Err(RegistryError::BadReference("the tag is not of A-Z a-z 0-9 . _ -"));
    }
    Ok((registry.to_ascii_lowercase(), repository.to_owned(), tag.map(str::to_owned)))
}

/// Whether `HOST[:PORT]` is this machine itself by what is written there; nothing is looked up.
#[must_use]
pub fn is_loopback(host_and_port: &str) -> bool {
    let host = match host_and_port.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host_and_port.split_once(':').map_or(host_and_port, |(host, _)| host),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn pull(text: &str) -> Result<PullReference, RegistryError> {
        text.parse()
    }

    #[test]
    fn a_digest_is_needed_and_a_tag_beside_it_says_nothing() {
        let reference = pull(&format!("oci://GHCR.io/team/my-scorer:1.0@sha256:{HEX}")).unwrap();
        assert_eq!((reference.registry(), reference.repository()), ("ghcr.io", "team/my-scorer"));
        assert_eq!(reference.name(), "my-scorer");
        assert_eq!(reference.to_string(), format!("oci://ghcr.io/team/my-scorer@sha256:{HEX}"));
        let ported = pull(&format!("oci://127.0.0.1:5000/a@sha256:{HEX}")).unwrap();
        assert_eq!(ported.registry(), "127.0.0.1:5000");
        for text in ["oci://ghcr.io/team/my-scorer", "oci://ghcr.io/team/my-scorer:1.0"] {
            assert_eq!(pull(text).unwrap_err(), RegistryError::NoDigest);
        }
    }

    #[test]
    fn what_is_wrong_is_told_and_not_repeated() {
        for (text, words) in [
            ("ghcr.io/a@sha256:0", "begin with oci://"),
            ("oci://ghcr.io", "no repository"),
            ("oci://ghcr.io/a@sha256:12", "64 hex"),
            ("oci://ghcr.io/a@sha512:12", "sha256"),
            ("oci://user:canary@ghcr.io/a", "no credentials"),
            (&format!("oci://user:canary@ghcr.io/a@sha256:{HEX}"), "no credentials"),
            (&format!("oci://ghcr.io/Upper@sha256:{HEX}"), "the repository"),
            (&format!("oci://ghcr.io/a/../b@sha256:{HEX}"), "the repository"),
            (&format!("oci://gh cr/a@sha256:{HEX}"), "the host"),
            (&format!("oci:///a@sha256:{HEX}"), "the host"),
            (&format!("oci://ghcr.io/a?x=1@sha256:{HEX}"), "the repository"),
        ] {
            let error = pull(text).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("canary"), "{text}: {error}");
        }
    }

    #[test]
    fn where_to_push_has_a_tag_or_the_usual_one() {
        let push = |text: &str| text.parse::<PushReference>();
        assert_eq!(push("oci://localhost:5000/a/b").unwrap().to_string(), "oci://localhost:5000/a/b:latest");
        assert_eq!(push("oci://localhost:5000/a/b:1.0").unwrap().to_string(), "oci://localhost:5000/a/b:1.0");
        assert!(push(&format!("oci://localhost/a@sha256:{HEX}")).is_err());
    }

    #[test]
    fn loopback_is_told_by_what_is_written() {
        for host in ["localhost", "LOCALHOST:5000", "127.0.0.1:1", "127.9.9.9", "[::1]:5000", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example.org", "10.0.0.1", "127.0.0.1.nip.io", "[::2]:1", "ghcr.io"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
