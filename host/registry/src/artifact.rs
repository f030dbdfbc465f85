//! What a guest looks like in a registry: a manifest with a small configuration and one layer, the component.
//!
//! Owns the layout of the CNCF's TAG Runtime and the annotations that carry name, version and signature. The same
//! component and annotations always make the same manifest: nothing of the moment gets in.

use std::collections::BTreeMap;

use bytes::Bytes;
use oci_client::manifest::{OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageManifest};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::error::{RegistryError, words};

/// Type of the configuration.
pub(crate) const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
/// Type of the one layer.
pub(crate) const LAYER_TYPE: &str = "application/wasm";
/// Types of a manifest that are asked for.
pub(crate) const MANIFEST_TYPES: &[&str] = &[OCI_IMAGE_MEDIA_TYPE];

const NAME: &str = "org.opencontainers.image.title";
const VERSION: &str = "org.opencontainers.image.version";
const SIGNATURE: &str = "facestream.guest.signature";

/// A component with what goes beside it into a registry.
#[derive(Clone, Debug)]
pub struct Package {
    /// The component.
    pub component: Bytes,
    /// Interfaces it imports.
    pub imports: Vec<String>,
    /// Interfaces it exports.
    pub exports: Vec<String>,
    /// Name of the guest.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Signature over name, version and component.
    pub signature: Option<String>,
}

/// A component that came out of a registry, every byte of it what the digest stands for.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The component.
    pub component: Bytes,
    /// Digest of the component itself, `sha256:<hex>`.
    pub digest: String,
    /// Name of the guest, where the artifact tells it.
    pub name: Option<String>,
    /// Its version, where the artifact tells it.
    pub version: Option<String>,
    /// Its signature, where it has one.
    pub signature: Option<String>,
}

/// Manifest and configuration as bytes.
pub(crate) struct Built {
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
}

/// `sha256:<hex>`.
pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

impl Package {
    pub(crate) fn build(&self) -> Built {
        let layer = digest(&self.component);
        let config = json!({
            "architecture": "wasm",
            "os": "wasip2",
            "layerDigests": [layer],
            "component": { "exports": self.exports, "imports": self.imports },
        });
        let config = config.to_string().into_bytes();
        let descriptor = |kind: &str, bytes: &[u8], digest: &str| json!({ "mediaType": kind, "digest": digest, "size": bytes.len() });
        let annotations: BTreeMap<&str, &String> =
            [(NAME, &self.name), (VERSION, &self.version), (SIGNATURE, &self.signature)]
                .into_iter()
                .filter_map(|(key, value)| Some((key, value.as_ref()?)))
                .collect();
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE_MEDIA_TYPE,
            "config": descriptor(CONFIG_TYPE, &config, &digest(&config)),
            "layers": [descriptor(LAYER_TYPE, &self.component, &layer)],
        });
        if !annotations.is_empty() {
            manifest["annotations"] = json!(annotations);
        }
        Built { manifest: manifest.to_string().into_bytes(), config }
    }
}

/// The one layer of a manifest, its size, and the manifest's annotations.
pub(crate) struct Found {
    pub(crate) layer: OciDescriptor,
    pub(crate) bytes: u64,
    annotations: BTreeMap<String, String>,
}

impl Found {
    /// Reads a manifest whose digest was checked.
    pub(crate) fn read(manifest: &[u8]) -> Result<Self, RegistryError> {
        let no_guest = |what: String| Err(RegistryError::NotAGuest(what));
        let value: Value = match serde_json::from_slice(manifest) {
            Ok(value) => value,
            Err(e) => return no_guest(format!("the manifest is no JSON ({})", words(&e.to_string()))),
        };
        if value.get("manifests").is_some() {
            return no_guest(
                "the digest is that of an index of several manifests; take the one of the manifest itself".to_owned(),
            );
        }
        let manifest: OciImageManifest = match serde_json::from_value(value) {
            Ok(manifest) => manifest,
            Err(e) => return no_guest(format!("the manifest is none ({})", words(&e.to_string()))),
        };
        let [layer] = manifest.layers.as_slice() else {
            return no_guest(format!("the artifact has {} layers", manifest.layers.len()));
        };
        if layer.media_type != LAYER_TYPE {
            return no_guest(format!("the artifact's layer is of the type {}", words(&layer.media_type)));
        }
        if !layer.digest.starts_with("sha256:") {
            return no_guest("the artifact's layer has no sha256 digest".to_owned());
        }
        let Ok(bytes) = u64::try_from(layer.size) else {
            return no_guest("the artifact's layer has a size below nothing".to_owned());
        };
        Ok(Self { layer: layer.clone(), bytes, annotations: manifest.annotations.unwrap_or_default() })
    }

    /// With the layer's bytes, which were checked.
    pub(crate) fn with(mut self, component: Bytes) -> Pulled {
        let mut take = |key: &str| self.annotations.remove(key);
        let (name, version, signature) = (take(NAME), take(VERSION), take(SIGNATURE));
        Pulled { component, digest: self.layer.digest, name, version, signature }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package() -> Package {
        Package {
            component: Bytes::from_static(b"\0asm component"),
            imports: vec!["facestream:analytics/log@0.1.1".to_owned()],
            exports: vec!["facestream:analytics/scoring@0.1.1".to_owned()],
            name: Some("mine".to_owned()),
            version: Some("1.0.0".to_owned()),
            signature: None,
        }
    }

    #[test]
    fn what_is_built_is_the_layout_of_wasm_artifacts_and_reads_back() {
        let built = package().build();
        assert_eq!(built.manifest, package().build().manifest, "the same again, whenever");
        let manifest: Value = serde_json::from_slice(&built.manifest).unwrap();
        assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
        assert_eq!(manifest["config"]["digest"], digest(&built.config));
        assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
        assert_eq!(manifest["layers"][0]["size"], 14);
        let config: Value = serde_json::from_slice(&built.config).unwrap();
        assert_eq!((&config["os"], &config["layerDigests"][0]), (&json!("wasip2"), &manifest["layers"][0]["digest"]));
        assert_eq!(config["component"]["exports"][0], "facestream:analytics/scoring@0.1.1");
        let found = Found::read(&built.manifest).unwrap();
        assert_eq!(found.bytes, 14);
        let pulled = found.with(package().component);
        assert_eq!((pulled.name.as_deref(), pulled.version.as_deref()), (Some("mine"), Some("1.0.0")));
        assert_eq!((pulled.digest, pulled.signature), (digest(b"\0asm component"), None));
    }

    #[test]
    fn what_is_no_guest_is_told_as_what_it_is() {
        let built: Value = serde_json::from_slice(&package().build().manifest).unwrap();
        let with = |change: &dyn Fn(&mut Value)| {
            let mut manifest = built.clone();
            change(&mut manifest);
            Found::read(manifest.to_string().as_bytes()).err().map(|e| e.to_string()).unwrap_or_default()
        };
        assert!(Found::read(b"<html>").err().unwrap().to_string().contains("no JSON"));
        assert!(with(&|m| m["layers"] = json!([])).contains("0 layers"));
        assert!(with(&|m| m["layers"][0]["mediaType"] = json!("application/tar")).contains("application/tar"));
        assert!(with(&|m| m["layers"][0]["size"] = json!(-1)).contains("size"));
        assert!(with(&|m| m["layers"][0]["digest"] = json!("sha512:00")).contains("sha256"));
        assert!(with(&|m| *m = json!({ "schemaVersion": 2, "manifests": [] })).contains("index"));
    }
}
