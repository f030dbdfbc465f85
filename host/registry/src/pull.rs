//! Pulling: the manifest by its digest, then the one layer that it names, within bounds of size and time.
//!
//! Every byte is checked against its digest, here as well as in the client: what leaves this module is what was asked
//! for. Nothing is written anywhere.

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;

use crate::access::{Access, Registries, Timeouts};
use crate::artifact::{Found, MANIFEST_TYPES, Pulled, digest};
use crate::error::RegistryError;
use crate::reference::PullReference;

impl Registries {
    /// Pulls from a registry that is allowed.
    ///
    /// # Errors
    /// `NotAllowed`, before anything is sent; as [`Access::pull`].
    pub async fn pull(&self, reference: &PullReference, limit: usize) -> Result<Pulled, RegistryError> {
        self.access(reference)?.pull(reference, limit, self.timeouts()).await
    }
}

impl Access {
    /// Pulls a component of at most `limit` bytes.
    ///
    /// # Errors
    /// `NotFound`, `Denied`, `Unreachable`, `Failed`, `TooLarge`, `WrongBytes`, `NotAGuest`, `Time`, `Client`.
    pub async fn pull(
        &self,
        reference: &PullReference,
        limit: usize,
        timeouts: Timeouts,
    ) -> Result<Pulled, RegistryError> {
        let registry = reference.registry().to_owned();
        let pulled = tokio::time::timeout(timeouts.pull, self.fetch(reference, limit, timeouts)).await;
        let limit_ms = u64::try_from(timeouts.pull.as_millis()).unwrap_or(u64::MAX);
        let pulled = pulled.map_err(|_| RegistryError::Time { registry, limit_ms })??;
        tracing::info!(%reference, digest = pulled.digest, bytes = pulled.component.len(), "a guest was pulled");
        Ok(pulled)
    }

    async fn fetch(
        &self,
        reference: &PullReference,
        limit: usize,
        timeouts: Timeouts,
    ) -> Result<Pulled, RegistryError> {
        let registry = reference.registry();
        let wrong = |problem: String| RegistryError::WrongBytes { registry: registry.to_owned(), problem };
        let (client, auth) = self.client(registry, timeouts)?;
        let image = reference.to_oci();
        let what = format!("manifest {} in {}", reference.digest(), reference.repository());
        let (manifest, _) = client
            .pull_manifest_raw(&image, &auth, MANIFEST_TYPES)
            .await
            .map_err(|e| RegistryError::from_client(registry, &what, &e))?;
        let is = digest(&manifest);
        if is != reference.digest() {
            return Err(wrong(format!("{what} is {is}")));
        }
        let found = Found::read(&manifest)?;
        if found.bytes > limit as u64 {
            return Err(RegistryError::TooLarge { bytes: found.bytes, limit });
        }
        let layer = found.layer.digest.as_str();
        let what = format!("component {layer} in {}", reference.repository());
        let mut stream = client
            .pull_blob_stream(&image, layer)
            .await
            .map_err(|e| RegistryError::from_client(registry, &what, &e))?;
        // Grown as bytes come, not by what was announced.
        let mut bytes = BytesMut::new();
        while let Some(chunk) = stream.next().await {
            let chunk: Bytes = chunk.map_err(|e| RegistryError::from_stream(registry, &e))?;
            if bytes.len() as u64 + chunk.len() as u64 > found.bytes {
                return Err(wrong(format!(
                    "{what} does not end after the {} bytes that its manifest says",
                    found.bytes
                )));
            }
            bytes.extend_from_slice(&chunk);
        }
        let is = digest(&bytes);
        if is != layer {
            return Err(wrong(format!("{what} is {is}")));
        }
        Ok(found.with(bytes.freeze()))
    }
}
