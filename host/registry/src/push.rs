//! Pushing: configuration and component, then the manifest that names them.

use bytes::Bytes;
use oci_client::manifest::OCI_IMAGE_MEDIA_TYPE;

use crate::access::{Access, Timeouts};
use crate::artifact::{Package, digest};
use crate::error::RegistryError;
use crate::reference::{PullReference, PushReference};

impl Access {
    /// Pushes a component under a tag; gives the reference by which the very same bytes come back.
    ///
    /// # Errors
    /// `Denied`, `NotFound`, `Unreachable`, `Failed`, `Client`.
    pub async fn push(
        &self,
        reference: &PushReference,
        package: &Package,
        timeouts: Timeouts,
    ) -> Result<PullReference, RegistryError> {
        let registry = reference.registry();
        let (client, auth) = self.client(registry, timeouts)?;
        let image = reference.to_oci();
        let refused = |e| RegistryError::from_client(registry, "such place to push to", &e);
        client.store_auth_if_needed(image.resolve_registry(), &auth).await;
        let built = package.build();
        let config_digest = digest(&built.config);
        client.push_blob(&image, Bytes::from(built.config), &config_digest).await.map_err(refused)?;
        client.push_blob(&image, package.component.clone(), &digest(&package.component)).await.map_err(refused)?;
        let pushed = reference.at(digest(&built.manifest));
        let kind = http::HeaderValue::from_static(OCI_IMAGE_MEDIA_TYPE);
        client.push_manifest_raw(&image, built.manifest, kind).await.map_err(refused)?;
        Ok(pushed)
    }
}
