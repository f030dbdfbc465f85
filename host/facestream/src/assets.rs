//! Finds what set-up provides: ONNX Runtime, models, built-in guests.
//!
//! Owns the order in which places are tried. Must not fetch anything.

use std::path::{Path, PathBuf};

/// A folder with `onnxruntime/`, `models/` and `guests/`.
#[derive(Clone, Debug)]
pub struct Assets {
    root: PathBuf,
}

impl Assets {
    /// `FACESTREAM_ASSETS`; `assets/` beside the program; `target/assets` of the checkout that the program was built
    /// in; the usual place of an installed program.
    ///
    /// # Errors
    /// When none of them is there, with all places that were tried.
    pub fn find() -> anyhow::Result<Self> {
        if let Some(root) = std::env::var_os("FACESTREAM_ASSETS").map(PathBuf::from) {
            anyhow::ensure!(root.is_dir(), "FACESTREAM_ASSETS = {}: no such folder", root.display());
            return Ok(Self { root });
        }
        let exe = std::env::current_exe()?;
        let beside = exe.parent().map(|dir| dir.join("assets"));
        let checkout = exe.ancestors().map(|dir| dir.join("target/assets"));
        let installed = [PathBuf::from("/usr/local/share/facestream"), PathBuf::from("/usr/share/facestream")];
        let places: Vec<PathBuf> = beside.into_iter().chain(checkout).chain(installed).collect();
        match places.iter().find(|p| p.join("guests").is_dir()) {
            Some(root) => Ok(Self { root: root.clone() }),
            None => anyhow::bail!(
                "no assets (ONNX Runtime, models, guests) found; run `cargo xtask setup` in a checkout, or set \
                 FACESTREAM_ASSETS to the folder. Tried: {}",
                places.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
            ),
        }
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// ONNX Runtime's library.
    #[must_use]
    pub fn onnxruntime(&self) -> PathBuf {
        self.root.join("onnxruntime/libonnxruntime.so")
    }

    /// Where the models lie.
    #[must_use]
    pub fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    /// Where the built-in guests lie.
    #[must_use]
    pub fn guests(&self) -> PathBuf {
        self.root.join("guests")
    }
}
