//! What `guest push --oci` and `guest pull` have in common: who asks, and over what.
//!
//! Whoever types a command decides which registry is called: `[registries]` binds requests over REST only.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use facestream_registry::{Access, Credentials, Password, Timeouts, is_loopback, read_ca};

/// How a registry is reached.
#[derive(Debug, Args)]
pub struct RegistryArgs {
    /// Speak HTTP without TLS to the registry
    #[arg(long)]
    pub plain_http: bool,
    /// User at the registry
    #[arg(long, value_name = "USER", env = "FACESTREAM_REGISTRY_USER")]
    pub registry_user: Option<String>,
    /// Its password or token; in the environment other users of this machine do not see it
    #[arg(long, value_name = "PASSWORD", env = "FACESTREAM_REGISTRY_PASSWORD", hide_env_values = true)]
    pub registry_password: Option<Password>,
}

impl RegistryArgs {
    /// Access to a registry; `ca`: a file of certificates to trust instead of the system's.
    ///
    /// # Errors
    /// When the arguments do not go together, or the file cannot be read.
    pub(super) fn access(&self, registry: &str, ca: Option<&PathBuf>) -> anyhow::Result<Access> {
        let credentials = match (&self.registry_user, &self.registry_password) {
            (Some(user), Some(password)) => Some(Credentials { user: user.clone(), password: password.clone() }),
            (None, None) => None,
            _ => anyhow::bail!("--registry-user and --registry-password go together"),
        };
        ensure!(
            !(self.plain_http && credentials.is_some() && !is_loopback(registry)),
            "the password for {registry} would go over the network in clear text; leave --plain-http out, or give no password"
        );
        let ca = ca.map(|path| read_ca(path)).transpose().map_err(anyhow::Error::msg)?;
        Ok(Access { plain_http: self.plain_http, ca, credentials })
    }
}

/// Patient: somebody watches.
pub(super) fn timeouts() -> Timeouts {
    Timeouts { pull: Duration::from_secs(600), connect: Duration::from_secs(10), idle: Duration::from_secs(60) }
}

/// Runs what waits for a registry to its end.
pub(super) fn wait<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work))
}
