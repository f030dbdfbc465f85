//! Signatures of guests: ed25519 (RFC 8032) over name, version and digest, by keys that never need to be on a host.
//!
//! Owns keys, signatures and their text. Must not know who is trusted: the configuration does.
//!
//! Name and version are signed too: with the digest alone, whoever can upload could give an old, signed component with a
//! known hole a new version.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::digest::{Digest, hex, unhex};

const PREFIX: &str = "ed25519:";
const SECRET_PREFIX: &str = "ed25519-secret:";

/// A public key; its text is `ed25519:<64 hex digits>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// From its text; `None` when it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = unhex::<32>(text.trim().strip_prefix(PREFIX)?)?;
        VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak()).map(Self)
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{PREFIX}{}", hex(self.0.as_bytes()))
    }
}

/// A secret key. Its text is shown by [`Self::to_secret_text`] alone.
pub struct SecretKey(SigningKey);

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(***)")
    }
}

impl SecretKey {
    /// From 32 bytes of a cryptographic random number generator.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// From its text; `None` when it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self::from_seed(&unhex::<32>(text.trim().strip_prefix(SECRET_PREFIX)?)?))
    }

    /// What a key file holds.
    #[must_use]
    pub fn to_secret_text(&self) -> String {
        format!("{SECRET_PREFIX}{}", hex(self.0.as_bytes()))
    }

    /// The key that others check with.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs that a name and a version stand for a component.
    #[must_use]
    pub fn sign(&self, name: &str, version: &str, digest: &Digest) -> GuestSignature {
        GuestSignature { key: self.public(), signature: self.0.sign(&statement(name, version, digest)) }
    }
}

/// A signature with the key that it is said to be of; its text is `ed25519:<64 hex digits>:<128 hex digits>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestSignature {
    key: PublicKey,
    signature: Signature,
}

impl GuestSignature {
    /// From its text; `None` when it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (key, signature) = text.trim().rsplit_once(':')?;
        let signature = Signature::from_bytes(&unhex::<64>(signature)?);
        Some(Self { key: PublicKey::parse(key)?, signature })
    }

    /// The key that it claims.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Whether it is that key's over exactly this.
    #[must_use]
    pub fn holds(&self, name: &str, version: &str, digest: &Digest) -> bool {
        self.key.0.verify_strict(&statement(name, version, digest), &self.signature).is_ok()
    }
}

impl std::fmt::Display for GuestSignature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.key, hex(&self.signature.to_bytes()))
    }
}

/// What is signed. Names and versions hold no line break (`store` says what they may hold).
fn statement(name: &str, version: &str, digest: &Digest) -> Vec<u8> {
    format!("facestream guest 1\n{name}\n{version}\n{digest}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back_and_nothing_else_holds() {
        let key = SecretKey::from_seed(&[7; 32]);
        assert_eq!(SecretKey::parse(&key.to_secret_text()).unwrap().public(), key.public());
        assert_eq!(format!("{key:?}"), "SecretKey(***)");
        assert_eq!(PublicKey::parse(&key.public().to_string()), Some(key.public()));
        let digest = Digest::of(b"abc");
        let signature = key.sign("mine", "1.0.0", &digest);
        let signature = GuestSignature::parse(&format!("{signature}\n")).unwrap();
        assert!(signature.holds("mine", "1.0.0", &digest));
        assert!(!signature.holds("other", "1.0.0", &digest));
        assert!(!signature.holds("mine", "1.0.1", &digest));
        assert!(!signature.holds("mine", "1.0.0", &Digest::of(b"abd")));
        for bad in ["", "ed25519:", "ed25519:00:00", &key.public().to_string()] {
            assert_eq!(GuestSignature::parse(bad), None, "{bad}");
        }
        // The neutral point: everything would be signed by it.
        assert_eq!(PublicKey::parse(&format!("ed25519:01{}", "00".repeat(31))), None);
    }

    #[test]
    fn the_published_vector_of_rfc_8032() {
        let seed = unhex::<32>("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
        let public = "ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(SecretKey::from_seed(&seed).public().to_string(), public);
    }
}
