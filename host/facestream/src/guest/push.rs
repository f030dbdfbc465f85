//! `facestream guest push`: a component into the store of a running host, or into an OCI registry.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use clap::Args;
use facestream_guest_host::{GuestConfig, facts, inspect};
use facestream_registry::{Package, Password, PushReference, is_loopback, read_ca};
use serde_json::Value;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::registry::{RegistryArgs, timeouts, wait};

/// Compiling a large component takes minutes; the host gives up after `server.slow_request_timeout_ms`.
const PATIENCE: Duration = Duration::from_secs(600);
/// Longest answer that is read.
const MAX_ANSWER_BYTES: u64 = 1 << 20;

/// `facestream guest push`.
#[derive(Debug, Args)]
pub struct PushArgs {
    /// The component
    pub file: PathBuf,
    /// Name of the guest; default: the one that the component says it has
    #[arg(long)]
    pub name: Option<String>,
    /// Its version; default: the one that the component says it has. A name and a version stand for the same bytes for ever
    #[arg(long)]
    pub version: Option<String>,
    /// The host, http:// or https://
    #[arg(
        long,
        env = "FACESTREAM_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    pub url: String,
    /// Token of the role guest-admin; in the environment other users of this machine do not see it
    #[arg(long, env = "FACESTREAM_TOKEN", hide_env_values = true)]
    pub token: Option<Password>,
    /// Send the token over http:// to another machine, where everybody on the way can read it
    #[arg(long)]
    pub token_in_clear: bool,
    /// Certificates (PEM) to trust instead of the system's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Signature (`facestream guest sign`)
    #[arg(long, value_name = "FILE.sig")]
    pub sig: Option<PathBuf>,
    /// Push to an OCI registry instead of a host: oci://HOST:PORT/REPOSITORY:TAG; prints the digest to pull it by
    #[arg(long, value_name = "REFERENCE")]
    pub oci: Option<String>,
    /// How the registry is reached.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Uploads and says what the host, or the registry, made of it.
///
/// # Errors
/// When it is not reached or refuses: its own words.
pub fn run(args: &PushArgs) -> anyhow::Result<ExitCode> {
    let bytes = std::fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let signature = match &args.sig {
        Some(path) => Some(std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?),
        None => None,
    };
    let signature = signature.as_deref().map(str::trim);
    match &args.oci {
        Some(reference) => to_registry(args, reference, bytes, signature),
        None => to_host(args, &bytes, signature),
    }
}

fn to_registry(args: &PushArgs, reference: &str, bytes: Vec<u8>, signature: Option<&str>) -> anyhow::Result<ExitCode> {
    let reference: PushReference = reference.parse()?;
    let info = inspect(&bytes, GuestConfig::default().max_component_bytes)
        .with_context(|| format!("no host takes {}", args.file.display()))?;
    let access = args.registry.access(reference.registry(), args.ca.as_ref())?;
    let says = facts(&bytes);
    let package = Package {
        component: Bytes::from(bytes),
        exports: vec![info.exported()],
        imports: info.imports,
        name: args.name.clone().or(says.name),
        version: args.version.clone().or(says.version),
        signature: signature.map(str::to_owned),
    };
    let pushed = wait(access.push(&reference, &package, timeouts()))??;
    if args.json {
        let answer = serde_json::json!({
            "reference": pushed.to_string(), "manifest_digest": pushed.digest(), "digest": info.digest.to_string(),
        });
        println!("{}", serde_json::to_string_pretty(&answer)?);
    } else {
        println!("{reference} is\n{pushed}");
    }
    Ok(ExitCode::SUCCESS)
}

fn to_host(args: &PushArgs, bytes: &[u8], signature: Option<&str>) -> anyhow::Result<ExitCode> {
    let base = args.url.trim_end_matches('/');
    let place = base.strip_prefix("http://").or_else(|| base.strip_prefix("https://"));
    let place = place.context("--url must begin with http:// or https://")?;
    let clear = base.starts_with("http://");
    ensure!(
        !clear || args.token.is_none() || args.token_in_clear || is_loopback(place.split('/').next().unwrap_or(place)),
        "the token would go to {base} in clear text, where everybody on the way can read it: use https:// (--ca FILE for a \
         private authority), or say --token-in-clear"
    );
    ensure!(!clear || args.ca.is_none(), "--ca has no meaning with http://");
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .timeout_connect(Some(Duration::from_secs(10)))
        // A refusal has words that are wanted; and a token goes to the host that was named, nowhere else.
        .http_status_as_error(false)
        .max_redirects(0)
        .tls_config(tls(args.ca.as_deref())?)
        .build();
    let says = facts(bytes);
    let said = |option: &Option<String>, said: Option<String>, what: &str| {
        let found = option.clone().or(said);
        found.with_context(|| format!("{} does not say its {what}: give it with --{what}", args.file.display()))
    };
    let (name, version) = (said(&args.name, says.name, "name")?, said(&args.version, says.version, "version")?);
    if args.name.is_none() || args.version.is_none() {
        // A component of somebody else's may say anything: whoever pushes it sees what it will be known as.
        eprintln!("pushing it as {name}@{version}, which the component says it is (--name, --version)");
    }
    let mut request = ureq::Agent::new_with_config(config)
        .post(format!("{base}/api/v1/guests"))
        .query("name", &name)
        .query("version", &version)
        .content_type("application/wasm");
    if let Some(signature) = signature {
        request = request.query("signature", signature);
    }
    if let Some(token) = &args.token {
        request = request.header("authorization", format!("Bearer {}", token.expose_secret()));
    }
    let mut answer = request.send(bytes).with_context(|| format!("no answer from {base}; is the host running?"))?;
    let status = answer.status();
    let text = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_string()?;
    let body: Value =
        serde_json::from_str(&text).with_context(|| format!("{base} answered {status}, not as a host"))?;
    if !status.is_success() {
        let said = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let errors = body["errors"].as_array().into_iter().flatten();
        let each: Vec<String> = errors.filter_map(|e| e["detail"].as_str().map(str::to_owned)).collect();
        let told = format!("{}: {} {}", said("title"), said("detail"), each.join("; "));
        let hint = if status == 401 && args.token.is_none() {
            "; none was sent: put one of the role guest-admin into FACESTREAM_TOKEN, or give it with --token"
        } else {
            ""
        };
        bail!("{}{hint}", told.trim_end());
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&body)?);
    } else {
        let told = if status == 201 { "stored" } else { "was stored already" };
        println!("{name}@{version} {told} as {}", body["digest"].as_str().unwrap_or_default());
    }
    Ok(ExitCode::SUCCESS)
}

/// TLS with the roots of the system, or with those of a file only.
fn tls(ca: Option<&Path>) -> anyhow::Result<TlsConfig> {
    let roots = match ca {
        None => RootCerts::PlatformVerifier,
        Some(path) => {
            let pem = read_ca(path).map_err(anyhow::Error::msg)?;
            let certificates = parse_pem(&pem).filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
                Ok(_) => None,
                Err(e) => Some(Err(e)),
            });
            let certificates: Vec<Certificate<'static>> =
                certificates.collect::<Result<_, _>>().with_context(|| format!("cannot read {}", path.display()))?;
            RootCerts::new_with_certs(&certificates)
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build())
}
