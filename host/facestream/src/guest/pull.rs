//! `facestream guest pull`: a component out of a registry into a file.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use facestream_guest_host::GuestConfig;
use facestream_registry::PullReference;

use super::registry::{RegistryArgs, timeouts, wait};

/// `facestream guest pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// The artifact: oci://HOST:PORT/REPOSITORY@sha256:…
    pub reference: String,
    /// Where the component goes; default: the last part of the repository with .wasm, which may not be there yet
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Certificates (PEM) to trust instead of the system's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// How the registry is reached.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Pulls, checks every byte against the digests, writes the component. What it is says `guest inspect`.
///
/// # Errors
/// When the registry does not deliver what the digest stands for, or the file cannot be written.
pub fn run(args: &PullArgs) -> anyhow::Result<ExitCode> {
    let reference: PullReference = args.reference.parse()?;
    let access = args.registry.access(reference.registry(), args.ca.as_ref())?;
    let limit = usize::try_from(GuestConfig::default().max_component_bytes).unwrap_or(usize::MAX);
    let pulled = wait(access.pull(&reference, limit, timeouts()))??;
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}.wasm", reference.name())));
    let mut options = OpenOptions::new();
    options.write(true);
    // Names that nobody chose must not overwrite anything.
    if args.out.is_some() {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let write = |path: &Path, bytes: &[u8]| {
        let written = options.open(path).and_then(|mut file| file.write_all(bytes));
        written.with_context(|| format!("cannot write {} (--out FILE)", path.display()))
    };
    write(&out, &pulled.component)?;
    if let Some(signature) = &pulled.signature {
        let sig = PathBuf::from(format!("{}.sig", out.display()));
        write(&sig, format!("{signature}\n").as_bytes())?;
        println!("signature  {}", sig.display());
    }
    for (what, told) in [("name", &pulled.name), ("version", &pulled.version)] {
        if let Some(told) = told {
            println!("{what:<9}  {told}");
        }
    }
    println!("component  {} ({} bytes, {})", out.display(), pulled.component.len(), pulled.digest);
    Ok(ExitCode::SUCCESS)
}
