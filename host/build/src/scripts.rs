//! Guests in Python and JavaScript: calls of the tools that make components of them.
//!
//! Owns where those tools are looked for and what they are told. The versions here are those that are tested.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Built;
use crate::error::BuildError;
use crate::project::Project;

/// The tested version of componentize-py (PyPI).
const COMPONENTIZE_PY: &str = "0.25.1";

/// `app.py` by componentize-py. Its standard library asks for WASI, of which the host gives an empty one.
pub(crate) fn python(project: &Project) -> Result<Built, BuildError> {
    let (dir, world) = wanted(project, "app.py")?;
    let near = ["VIRTUAL_ENV"].iter().filter_map(std::env::var_os).map(PathBuf::from).chain([dir.join(".venv")]);
    let places: Vec<PathBuf> = near.map(|env| env.join("bin")).chain(paths()).collect();
    let program = find("componentize-py", &places).ok_or_else(|| BuildError::NoProgram {
        program: "componentize-py",
        looked: "the active virtual environment, .venv and PATH".to_owned(),
        install: format!("python3 -m venv .venv && .venv/bin/pip install componentize-py=={COMPONENTIZE_PY}"),
        dir: dir.to_owned(),
    })?;
    make(dir, Command::new(&program).args(["-d", "wit", "-w", world, "componentize", "app", "-p", ".", "-o"]), &program)
}

/// `guest.js` by jco. Of WASI only what console needs is kept: a guest has no network, and its clock is the frames'.
pub(crate) fn javascript(project: &Project) -> Result<Built, BuildError> {
    let (dir, world) = wanted(project, "guest.js")?;
    let places: Vec<PathBuf> = [dir.join("node_modules/.bin")].into_iter().chain(paths()).collect();
    let program = find("jco", &places).ok_or_else(|| BuildError::NoProgram {
        program: "jco",
        looked: "node_modules/.bin and PATH".to_owned(),
        install: "npm install".to_owned(),
        dir: dir.to_owned(),
    })?;
    let mut jco = Command::new(&program);
    jco.args(["componentize", "guest.js", "--wit", "wit", "--world-name", world]);
    jco.args(["--disable", "http", "--disable", "fetch-event", "--out"]);
    make(dir, &mut jco, &program)
}

fn wanted<'a>(project: &'a Project, file: &str) -> Result<(&'a Path, &'static str), BuildError> {
    let dir = project.dir.as_path();
    for (name, what) in [(file, "the guest itself"), ("wit", "the contract, as `facestream guest new` copies it")] {
        if !dir.join(name).exists() {
            return Err(BuildError::project(dir, format!("{name} is missing ({what})")));
        }
    }
    let world = project.world.ok_or_else(|| BuildError::project(dir, "its manifest does not say its world"))?;
    Ok((dir, world.as_str()))
}

fn paths() -> Vec<PathBuf> {
    std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

fn find(program: &str, places: &[PathBuf]) -> Option<PathBuf> {
    let found = places.iter().map(|place| place.join(program)).find(|path| path.is_file())?;
    // The call below is made in another folder.
    std::path::absolute(found).ok()
}

/// Runs a tool in the folder; it writes to a file of ours, so that one that fails leaves the last good one in peace.
fn make(dir: &Path, command: &mut Command, program: &Path) -> Result<Built, BuildError> {
    let out = dir.join(".facestream-build.wasm");
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let start = |source| BuildError::Start { program: name.clone(), source };
    command.arg(".facestream-build.wasm").current_dir(dir).stdin(Stdio::null());
    // What it prints is for people; standard output belongs to the command that calls this.
    let output =
        command.stdout(Stdio::piped()).spawn().and_then(std::process::Child::wait_with_output).map_err(start)?;
    eprint!("{}", String::from_utf8_lossy(&output.stdout));
    if !output.status.success() {
        return Err(BuildError::Failed { program: name, dir: dir.to_owned(), status: output.status });
    }
    let bytes = std::fs::read(&out).map_err(|e| BuildError::io("reading", &out, e))?;
    std::fs::remove_file(&out).map_err(|e| BuildError::io("removing", &out, e))?;
    Ok(Built { bytes, how: format!("{}", program.display()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::{Language, World};

    #[test]
    fn a_folder_without_its_files_is_told_which() {
        let dir = tempfile::tempdir().unwrap();
        let project = Project {
            dir: dir.path().to_owned(),
            language: Language::Python,
            name: "p".to_owned(),
            version: None,
            world: Some(World::Scorer),
        };
        assert!(python(&project).unwrap_err().to_string().contains("app.py is missing"));
        std::fs::write(dir.path().join("guest.js"), "").unwrap();
        assert!(javascript(&project).unwrap_err().to_string().contains("wit is missing"));
    }
}
