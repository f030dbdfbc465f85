//! Whose guests are taken.
//!
//! Owns the settings and their checks. `signing` does the cryptography, `store` keeps the policy.

use serde::{Deserialize, Serialize};

use crate::signing::PublicKey;

/// Whether uploaded guests must be signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignaturePolicy {
    /// They need not; one that is signed all the same is checked, and later versions of it must be signed too.
    #[default]
    Off,
    /// By one of the keys, for every version, and versions only go up.
    Required,
}

/// Whose guests are taken, section `[guests.signatures]`. Built-in guests come with the host and need no signature.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignatureConfig {
    /// `off` or `required`.
    pub policy: SignaturePolicy,
    /// Keys of those who may sign.
    pub keys: Vec<SignerConfig>,
}

/// One who may sign: `[[guests.signatures.keys]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignerConfig {
    /// Who, for people.
    pub name: String,
    /// The public key, `ed25519:<64 hex digits>`, as `facestream guest keygen` writes it.
    pub key: String,
}

impl SignatureConfig {
    /// The name of whoever has this key.
    pub(crate) fn signer(&self, key: &PublicKey) -> Option<&str> {
        self.keys.iter().find(|s| PublicKey::parse(&s.key).as_ref() == Some(key)).map(|s| s.name.as_str())
    }

    /// Every problem, in words that name the key.
    pub(crate) fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for signer in &self.keys {
            if PublicKey::parse(&signer.key).is_none() {
                problems.push(format!(
                    "guests.signatures.keys: the key of `{}` is none; expected ed25519:<64 hex digits>, from `facestream guest keygen`",
                    signer.name
                ));
            }
        }
        if self.policy == SignaturePolicy::Required && self.keys.is_empty() {
            problems.push("guests.signatures.policy is `required` but guests.signatures.keys is empty; no guest could be uploaded".to_owned());
        }
        problems
    }
}
