//! `facestream guest sign`: a signature over name, version and component, for hosts that take signed guests only.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use facestream_guest_host::{Digest, GuestConfig, SecretKey, inspect, is_guest_name};

/// `facestream guest sign`.
#[derive(Debug, Args)]
pub struct SignArgs {
    /// The component
    pub file: PathBuf,
    /// File of the secret key (`facestream guest keygen`)
    #[arg(long, value_name = "FILE.key")]
    pub key: PathBuf,
    /// Name under which it will be pushed
    #[arg(long)]
    pub name: String,
    /// Version under which it will be pushed
    #[arg(long)]
    pub version: String,
    /// Where the signature goes; default: FILE.sig
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Writes the signature.
///
/// # Errors
/// When a file cannot be read or written, or this host would refuse the component.
pub fn run(args: &SignArgs) -> anyhow::Result<ExitCode> {
    for (option, text) in [("--name", &args.name), ("--version", &args.version)] {
        anyhow::ensure!(
            is_guest_name(text),
            "{option} {text}: no host takes it; 1 to 64 characters of a-z 0-9 . _ -, with a letter or digit first"
        );
    }
    let bytes = std::fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    inspect(&bytes, GuestConfig::default().max_component_bytes)
        .with_context(|| format!("no host takes {}", args.file.display()))?;
    let text = std::fs::read_to_string(&args.key).with_context(|| format!("cannot read {}", args.key.display()))?;
    // What the file holds is not repeated: it may be a secret of another kind.
    let key = SecretKey::parse(&text)
        .with_context(|| format!("{} holds no secret key; `facestream guest keygen` makes one", args.key.display()))?;
    let digest = Digest::of(&bytes);
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}.sig", args.file.display())));
    let signature = key.sign(&args.name, &args.version, &digest);
    std::fs::write(&out, format!("{signature}\n")).with_context(|| format!("cannot write {}", out.display()))?;
    println!("{}@{} is {digest}, signed by {}: {}", args.name, args.version, key.public(), out.display());
    Ok(ExitCode::SUCCESS)
}
