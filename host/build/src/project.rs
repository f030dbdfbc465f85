//! A guest's folder: which language it is in, its name, its world.
//!
//! Owns reading manifests. `Cargo.toml` means Rust, `package.json` JavaScript, `pyproject.toml` Python; the last two say
//! which world they are for (`"facestream": {"world": "scorer"}`, `[tool.facestream] world = "scorer"`).

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::Value;

use crate::error::BuildError;

/// The profile that a guest's manifest may have for components.
const PROFILE: &str = "component";

/// What a guest is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// With the SDK, or with `wit-bindgen` alone.
    Rust,
    /// By componentize-py.
    Python,
    /// By componentize-js.
    JavaScript,
}

/// What a guest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// Boxes in, tracks out.
    Tracker,
    /// Tracks and pictures in, shots out.
    Scorer,
    /// Shots, endings or frames in, messages out.
    Formatter,
}

impl World {
    /// Its name in `wit/`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tracker => "tracker",
            Self::Scorer => "scorer",
            Self::Formatter => "formatter",
        }
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for World {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Tracker, Self::Scorer, Self::Formatter];
        let found = all.into_iter().find(|world| world.as_str() == text);
        found.ok_or_else(|| format!("`{text}` is no world; there are tracker, scorer and formatter"))
    }
}

/// A guest's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// The folder.
    pub dir: PathBuf,
    /// What it is written in.
    pub language: Language,
    /// Its name, as its manifest has it.
    pub name: String,
    /// Its version, as its manifest has it.
    pub version: Option<String>,
    /// Its world, where that cannot be seen from the code.
    pub world: Option<World>,
    /// Rust: the profile to build with, where its manifest has one for components (as all made by `guest new`).
    pub profile: Option<String>,
}

impl Project {
    /// Reads a folder.
    ///
    /// # Errors
    /// When there is no manifest of a known kind, or it lacks what is needed.
    pub fn read(dir: &Path) -> Result<Self, BuildError> {
        let wrong = |problem: String| BuildError::project(dir, problem);
        let text = |name: &str| -> Result<Option<String>, BuildError> {
            let path = dir.join(name);
            match std::fs::read_to_string(&path) {
                Ok(text) => Ok(Some(text)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(BuildError::io("reading", &path, e)),
            }
        };
        let (language, file, table): (_, _, Value) = if let Some(text) = text("Cargo.toml")? {
            (Language::Rust, "Cargo.toml", toml_value(&text).map_err(|e| wrong(format!("Cargo.toml: {e}")))?)
        } else if let Some(text) = text("package.json")? {
            let json = serde_json::from_str(&text).map_err(|e| wrong(format!("package.json: {e}")))?;
            (Language::JavaScript, "package.json", json)
        } else if let Some(text) = text("pyproject.toml")? {
            (Language::Python, "pyproject.toml", toml_value(&text).map_err(|e| wrong(format!("pyproject.toml: {e}")))?)
        } else {
            return Err(wrong(
                "it has neither Cargo.toml (Rust) nor package.json (JavaScript) nor pyproject.toml (Python); \
                 `facestream guest new` makes one that has"
                    .to_owned(),
            ));
        };
        let (about, world, key) = match language {
            Language::Rust => (&table["package"], &Value::Null, ""),
            Language::Python => (&table["project"], &table["tool"]["facestream"]["world"], "[tool.facestream] world"),
            Language::JavaScript => (&table, &table["facestream"]["world"], "\"facestream\": {\"world\": …}"),
        };
        let name = about["name"].as_str().ok_or_else(|| wrong(format!("{file} has no name")))?.to_owned();
        let world = match (language, world.as_str()) {
            (Language::Rust, _) => None,
            (_, Some(text)) => Some(text.parse().map_err(|e| wrong(format!("{file}: {key}: {e}")))?),
            (_, None) => return Err(wrong(format!("{file} does not say {key} (tracker, scorer or formatter)"))),
        };
        let version = about["version"].as_str().map(str::to_owned);
        let profile = (language == Language::Rust && table["profile"][PROFILE].is_object()).then(|| PROFILE.to_owned());
        Ok(Self { dir: dir.to_owned(), language, name, version, world, profile })
    }
}

fn toml_value(text: &str) -> Result<Value, String> {
    toml::from_str(text).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> Result<Project, BuildError> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        Project::read(dir.path())
    }

    #[test]
    fn manifests_say_language_name_and_world() {
        let rust = read(&[("Cargo.toml", "[package]\nname = \"porch\"\nversion = \"0.2.0\"")]).unwrap();
        assert_eq!((rust.language, rust.name.as_str(), rust.world), (Language::Rust, "porch", None));
        assert_eq!((rust.version.as_deref(), rust.profile), (Some("0.2.0"), None));
        let own = "[package]\nname = \"porch\"\n[profile.component]\ninherits = \"release\"";
        assert_eq!(read(&[("Cargo.toml", own)]).unwrap().profile.as_deref(), Some("component"));
        let python = "[project]\nname = \"porch\"\n[tool.facestream]\nworld = \"scorer\"";
        let python = read(&[("pyproject.toml", python)]).unwrap();
        assert_eq!((python.language, python.world), (Language::Python, Some(World::Scorer)));
        let js = read(&[("package.json", r#"{"name":"porch","facestream":{"world":"formatter"}}"#)]).unwrap();
        assert_eq!((js.language, js.world), (Language::JavaScript, Some(World::Formatter)));
    }

    #[test]
    fn what_is_missing_is_told_with_its_place() {
        let told = |files: &[(&str, &str)]| read(files).unwrap_err().to_string();
        assert!(told(&[]).contains("guest new"));
        assert!(told(&[("Cargo.toml", "[package")]).contains("Cargo.toml: TOML parse error"));
        assert!(told(&[("package.json", r#"{"name":"porch"}"#)]).contains("package.json does not say"));
        let wrong = told(&[("pyproject.toml", "[project]\nname = \"p\"\n[tool.facestream]\nworld = \"scorers\"")]);
        assert!(wrong.contains("`scorers` is no world"), "{wrong}");
    }
}
