//! `facestream guest keygen`: a pair of keys for signing guests. The secret one never needs to be on a host.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use facestream_guest_host::SecretKey;

/// `facestream guest keygen`.
#[derive(Debug, Args)]
pub struct KeygenArgs {
    /// Writes PATH.key (secret, readable by you alone) and PATH.pub; neither may be there
    pub path: PathBuf,
}

/// Makes the keys and says where the public one goes.
///
/// # Errors
/// When a file is there or cannot be written.
pub fn run(args: &KeygenArgs) -> anyhow::Result<ExitCode> {
    let key = SecretKey::from_seed(&rand::random());
    let with = |ending: &str| PathBuf::from(format!("{}.{ending}", args.path.display()));
    let (secret, public) = (with("key"), with("pub"));
    write_new(&secret, 0o600, &format!("{}\n", key.to_secret_text()))?;
    write_new(&public, 0o644, &format!("{}\n", key.public()))?;
    println!("secret key  {} (keep it off the hosts)", secret.display());
    println!("public key  {}", public.display());
    println!("on each host:\n\n[guests.signatures]\npolicy = \"required\"\n");
    println!("[[guests.signatures.keys]]\nname = \"NAME OF THE SIGNER\"\nkey = \"{}\"", key.public());
    Ok(ExitCode::SUCCESS)
}

/// Writes a file that is not there yet: a key that is overwritten is lost.
fn write_new(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = file.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            anyhow::anyhow!("{} is there already: choose another name, or remove it first", path.display())
        }
        _ => anyhow::Error::new(error).context(format!("cannot write {}", path.display())),
    })?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}
