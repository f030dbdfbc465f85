//! Guests in OCI registries: pulled by digest, pushed as WebAssembly artifacts.
//!
//! Owns references, which registries may be asked and with what credentials, the artifact's layout (that of the CNCF's
//! TAG Runtime: configuration `application/vnd.wasm.config.v0+json`, one layer `application/wasm`), the check of every
//! byte against its digest, and the bounds of a pull. The protocol itself is `oci-client`'s. Must not know what a guest
//! is, where it is stored, or the host's own REST.
#![forbid(unsafe_code)]

mod access;
mod artifact;
mod config;
mod error;
mod pull;
mod push;
mod reference;

pub use access::{Access, Credentials, Registries, Timeouts, read_ca};
pub use artifact::{Package, Pulled};
pub use config::{Password, RegistriesConfig, RegistryConfig};
pub use error::RegistryError;
pub use reference::{PullReference, PushReference, is_loopback};
