//! The store's policy on signatures: who may put what under a name.
//!
//! Owns the sidecar `sha256/<hex>.sig`, a line `NAME@VERSION SIGNATURE` for each name that stands for the component. Must
//! not decide about anything but signatures and the order of versions.

use std::fs;
use std::io;
use std::path::Path;

use super::{Index, StoredGuest, at, write_atomically};
use crate::config::{SignatureConfig, SignaturePolicy};
use crate::digest::Digest;
use crate::error::{SignatureProblem, StoreError};
use crate::signing::GuestSignature;

/// Checks a signature that comes with a component, or that none does, before the component is taken in.
pub(super) fn admit(
    config: &SignatureConfig,
    index: &Index,
    (name, version): (&str, &str),
    digest: &Digest,
    signature: Option<&str>,
) -> Result<Option<GuestSignature>, SignatureProblem> {
    let signature = signature.map(|text| verified(config, (name, version), digest, text)).transpose()?;
    if signature.is_none() {
        if config.policy == SignaturePolicy::Required {
            return Err(SignatureProblem::Unsigned);
        }
        if index.was_signed(name) {
            return Err(SignatureProblem::UnsignedAfterSigned);
        }
    }
    if config.policy == SignaturePolicy::Required {
        let this = semver::Version::parse(version).map_err(|e| SignatureProblem::NoOrder(e.to_string()))?;
        let highest = index.versions(name).filter_map(|v| semver::Version::parse(v).ok()).max();
        if let Some(highest) = highest.filter(|highest| this < *highest) {
            return Err(SignatureProblem::Downgrade { highest: highest.to_string() });
        }
    }
    Ok(signature)
}

/// Checks a stored guest's signature again before it is used: files may have been changed, keys withdrawn.
pub(super) fn recheck(config: &SignatureConfig, guest: &StoredGuest, sidecar: &Path) -> Result<(), StoreError> {
    if guest.builtin || (guest.signed_by.is_none() && config.policy == SignaturePolicy::Off) {
        return Ok(());
    }
    let label = guest.label();
    let lines = read(sidecar)?;
    let found = lines.iter().find(|(of, _)| *of == label);
    let checked = match found {
        Some((_, text)) => verified(config, (&guest.name, &guest.version), &guest.info.digest, text).map(drop),
        None => Err(SignatureProblem::Unsigned),
    };
    checked.map_err(|problem| StoreError::Signature { guest: label, problem })
}

fn verified(
    config: &SignatureConfig,
    (name, version): (&str, &str),
    digest: &Digest,
    text: &str,
) -> Result<GuestSignature, SignatureProblem> {
    let signature = GuestSignature::parse(text).ok_or(SignatureProblem::Malformed)?;
    if config.signer(signature.key()).is_none() {
        return Err(SignatureProblem::UnknownSigner { key: signature.key().to_string() });
    }
    if !signature.holds(name, version, digest) {
        return Err(SignatureProblem::Tampered);
    }
    Ok(signature)
}

/// Writes down, or forgets (`None`), the signature of a name.
pub(super) fn note(sidecar: &Path, label: &str, signature: Option<&GuestSignature>) -> Result<(), StoreError> {
    let mut lines = read(sidecar)?;
    let before = lines.len();
    lines.retain(|(of, _)| of != label);
    if let Some(signature) = signature {
        lines.push((label.to_owned(), signature.to_string()));
    } else if lines.len() == before {
        return Ok(());
    }
    if lines.is_empty() {
        return fs::remove_file(sidecar).map_err(at("deleting", sidecar));
    }
    let text: String = lines.iter().map(|(of, signature)| format!("{of} {signature}\n")).collect();
    write_atomically(sidecar, text.as_bytes())
}

fn read(sidecar: &Path) -> Result<Vec<(String, String)>, StoreError> {
    match fs::read_to_string(sidecar) {
        Ok(text) => {
            let pair = |line: &str| line.split_once(' ').map(|(of, signature)| (of.to_owned(), signature.to_owned()));
            Ok(text.lines().filter_map(pair).collect())
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(at("reading", sidecar)(e)),
    }
}
