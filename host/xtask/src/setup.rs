//! Set-up: everything between a fresh clone and the first run. Doing it again when all is there takes a moment.

use std::path::Path;
use std::process::Command;

use crate::{clips, fetch, guests, packages, shell};

/// All of it, in the order in which one step needs the other.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    shell::say("set-up: system packages");
    packages::ensure()?;
    shell::say("set-up: ONNX Runtime, models, picture");
    fetch::all(root)?;
    clips::make(root)?;
    build_guests(root)?;
    shell::say("set-up: building the host (the first time takes several minutes)");
    let mut build: Command = shell::cargo(root);
    // The whole workspace decides the features of dependencies, so that the tests find them built as they need them.
    shell::run(build.args(["build", "--release", "--workspace", "--bin", "facestream"]))
}

/// The guests alone, to `target/assets/guests` and `target/assets/examples`.
pub(crate) fn build_guests(root: &Path) -> anyhow::Result<()> {
    shell::say("set-up: guests (WebAssembly components)");
    packages::ensure_wasm()?;
    let built_in = guests::build(root, guests::Set::BuiltIn, &crate::assets(root).join("guests"), false)?;
    let examples = guests::build(root, guests::Set::Examples, &crate::assets(root).join("examples"), false)?;
    for guest in built_in.iter().chain(&examples).filter(|g| g.rebuilt) {
        eprintln!("   {} {} bytes sha256:{}", guest.name, guest.bytes, &guest.sha256[..16]);
    }
    Ok(())
}
