//! Guests in Python and JavaScript: the tools that make components of them, fetched into the guest's folder, and called.
//!
//! Owns which tools, in which versions, and what they are told. Nothing is installed outside of the guest's folder, and a
//! tool that is there already stays as it is: whoever wants another version installs it there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Built;
use crate::error::BuildError;
use crate::project::Project;

/// The tested version of componentize-py (PyPI); 0.25 needs Python 3.10.
pub const COMPONENTIZE_PY: &str = "0.25.1";
/// Where a tool writes, so that one that fails leaves the last good component in peace.
const OUT: &str = ".facestream-build.wasm";

/// `app.py` by componentize-py.
pub(crate) fn python(project: &Project) -> Result<Built, BuildError> {
    let (dir, world) = wanted(project, "app.py")?;
    let tool = dir.join(".venv/bin/componentize-py");
    if !tool.is_file() {
        let python = program("python3", dir, "Python 3.10 or later")?;
        eprintln!("   fetching componentize-py {COMPONENTIZE_PY} into .venv");
        run(dir, Command::new(&python).args(["-m", "venv", ".venv"]), "python3 -m venv")?;
        let package = format!("componentize-py=={COMPONENTIZE_PY}");
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", &package];
        run(dir, Command::new(dir.join(".venv/bin/python")).args(pip), "pip install")?;
    }
    let tool = absolute(&tool)?;
    let of_world = ["-q", "-d", "wit", "-w", world];
    // Types for the guest's tests and for editors.
    if !dir.join("bindings").exists() {
        run(dir, Command::new(&tool).args(of_world).args(["bindings", "bindings"]), "componentize-py bindings")?;
    }
    // Python's library asks for all of WASI, sockets too, which no guest gets. Stubbed, the component asks for none.
    let componentize = ["componentize", "--stub-wasi", "app", "-p", ".", "-o", OUT];
    make(dir, Command::new(&tool).args(of_world).args(componentize), "componentize-py")
}

/// `guest.js` by componentize-js, in the versions of the folder's package-lock.json.
pub(crate) fn javascript(project: &Project) -> Result<Built, BuildError> {
    let (dir, world) = wanted(project, "guest.js")?;
    let tool = dir.join("node_modules/.bin/componentize-js");
    let node = program("node", dir, "Node.js 20 or later")?;
    if !tool.is_file() {
        let npm = program("npm", dir, "npm, which comes with Node.js")?;
        eprintln!("   fetching componentize-js into node_modules");
        // Without a lock file (somebody took it out) the versions of package.json are taken.
        let how = if dir.join("package-lock.json").is_file() { "ci" } else { "install" };
        run(dir, Command::new(npm).args([how, "--no-audit", "--no-fund", "--loglevel=error"]), "npm")?;
    }
    let mut componentize = Command::new(node);
    componentize.arg(absolute(&tool)?).args(["guest.js", "--wit", "wit", "--world-name", world]);
    // Of WASI only what `console.log` needs: no network, and a clock and random numbers would only differ from run to run.
    componentize.args(["--disable", "clocks", "random", "http", "fetch-event", "--out", OUT]);
    make(dir, &mut componentize, "componentize-js")
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

/// A program in PATH.
fn program(name: &'static str, dir: &Path, needs: &'static str) -> Result<PathBuf, BuildError> {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&places).map(|place| place.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| BuildError::NoProgram { program: name, needs, dir: dir.to_owned() })
}

/// Tools are called in another folder than this one.
fn absolute(path: &Path) -> Result<PathBuf, BuildError> {
    std::path::absolute(path).map_err(|e| BuildError::io("finding", path, e))
}

/// Runs a tool in the folder. What it prints is for people: standard output belongs to the command that calls this.
fn run(dir: &Path, command: &mut Command, name: &str) -> Result<(), BuildError> {
    let start = |source| BuildError::Start { program: name.to_owned(), source };
    command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::piped());
    let output = command.spawn().and_then(std::process::Child::wait_with_output).map_err(start)?;
    eprint!("{}", String::from_utf8_lossy(&output.stdout));
    if output.status.success() {
        return Ok(());
    }
    Err(BuildError::Failed { program: name.to_owned(), dir: dir.to_owned(), status: output.status })
}

fn make(dir: &Path, command: &mut Command, name: &str) -> Result<Built, BuildError> {
    let out = dir.join(OUT);
    run(dir, command, name)?;
    let bytes = std::fs::read(&out).map_err(|e| BuildError::io("reading", &out, e))?;
    std::fs::remove_file(&out).map_err(|e| BuildError::io("removing", &out, e))?;
    Ok(Built { bytes, how: name.to_owned() })
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
            profile: None,
        };
        assert!(python(&project).unwrap_err().to_string().contains("app.py is missing"));
        std::fs::write(dir.path().join("guest.js"), "").unwrap();
        assert!(javascript(&project).unwrap_err().to_string().contains("wit is missing"));
    }

    #[test]
    fn a_program_that_is_not_there_is_named_with_what_it_is_needed_for() {
        let error = program("no-such-python", Path::new("porch"), "Python 3.10 or later").unwrap_err().to_string();
        assert!(
            error.contains("no-such-python") && error.contains("Python 3.10") && error.contains("porch"),
            "{error}"
        );
    }

    #[test]
    fn a_tool_that_fails_or_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let failed = run(dir.path(), &mut Command::new("false"), "componentize-py").unwrap_err().to_string();
        assert!(failed.contains("messages of componentize-py"), "{failed}");
        let missing = run(dir.path(), &mut Command::new("no-such-tool"), "componentize-js").unwrap_err().to_string();
        assert!(missing.contains("could not start componentize-js"), "{missing}");
    }
}
