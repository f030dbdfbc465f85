//! `facestream guest new`: a folder with a small guest that builds and tests at once.
//!
//! Owns names, refusing to overwrite, and what is said at the end. Files come from `new/templates.rs`: everything is in
//! the program itself, so that it works without a network and without this repository.

mod sdk;
mod templates;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};

/// `facestream guest new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// Its name: lower-case letters, digits and hyphens; also the folder's
    pub name: String,
    /// What it does: boxes to tracks, tracks to pictures, or anything to messages
    #[arg(long, value_enum)]
    pub world: World,
    /// What it is written in
    #[arg(long, value_enum, default_value = "rust")]
    pub lang: Lang,
    /// Make the folder here instead of in the current one
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub path: PathBuf,
    /// Rust: use the SDK in this folder (a checkout's guests/sdk) instead of a copy
    #[arg(long, value_name = "DIR")]
    pub sdk: Option<PathBuf>,
}

/// The worlds of `wit/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum World {
    /// Boxes in, tracks out
    Tracker,
    /// Tracks and pictures in, shots out
    Scorer,
    /// Shots, endings or frames in, messages out
    Formatter,
}

/// Languages with a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Lang {
    /// With the SDK
    Rust,
    /// By componentize-py; no trackers
    Python,
    /// JavaScript, by componentize-js; no trackers
    Js,
}

impl World {
    fn as_str(self) -> &'static str {
        match self {
            Self::Tracker => "tracker",
            Self::Scorer => "scorer",
            Self::Formatter => "formatter",
        }
    }
}

/// Makes the folder and says what to type next.
///
/// # Errors
/// When the name is not one, the folder is there already, or a file cannot be written.
pub fn run(args: &NewArgs) -> anyhow::Result<ExitCode> {
    check_name(&args.name)?;
    ensure!(args.sdk.is_none() || args.lang == Lang::Rust, "--sdk is for guests in Rust; other languages have no SDK");
    let sdk = args.sdk.as_deref().map(checked_sdk).transpose()?;
    let dir = args.path.join(&args.name);
    let files = templates::files(&args.name, args.world, args.lang, sdk.as_deref())?;
    // `create_dir` fails where something is, so that nothing is ever written over.
    std::fs::create_dir_all(&args.path).with_context(|| format!("cannot make {}", args.path.display()))?;
    if let Err(e) = std::fs::create_dir(&dir) {
        match e.kind() {
            std::io::ErrorKind::AlreadyExists => bail!("{} is there already; nothing was written", dir.display()),
            _ => return Err(e).with_context(|| format!("cannot make {}", dir.display())),
        }
    }
    for file in &files {
        write(&dir, &file.path, &file.text)?;
    }
    let world = args.world.as_str();
    println!("{}: a {world}, {} files. Next:\n", dir.display(), files.len());
    println!("    cd {}", dir.display());
    for line in templates::next(&args.name, args.lang) {
        println!("    {line}");
    }
    println!("\nREADME.md there has the rest: how to try it on a video, and how to put it on a running camera.");
    Ok(ExitCode::SUCCESS)
}

/// A name that is a crate and a guest of the store at once.
fn check_name(name: &str) -> anyhow::Result<()> {
    // Cargo refuses these as names of packages, or Rust as names of crates.
    const TAKEN: &[&str] = &[
        "as",
        "async",
        "await",
        "break",
        "const",
        "continue",
        "core",
        "crate",
        "dyn",
        "else",
        "enum",
        "extern",
        "false",
        "fn",
        "for",
        "if",
        "impl",
        "in",
        "let",
        "loop",
        "match",
        "mod",
        "move",
        "mut",
        "pub",
        "ref",
        "return",
        "self",
        "static",
        "std",
        "struct",
        "super",
        "test",
        "trait",
        "true",
        "type",
        "unsafe",
        "use",
        "where",
        "while",
        "facestream-guest",
        "serde",
        "app",
        "sdk",
        "wit",
    ];
    let letter = |c: char| c.is_ascii_lowercase();
    let sound = name.starts_with(letter)
        && name.len() <= 64
        && name.chars().all(|c| letter(c) || c.is_ascii_digit() || c == '-')
        // Words of WIT begin with a letter each, and the world's package carries the name.
        && name.split('-').all(|word| word.starts_with(letter));
    if !sound {
        let near: String = name.to_ascii_lowercase().replace(['_', ' ', '.'], "-");
        bail!(
            "`{name}` is no name for a guest: at most 64 lower-case letters, digits and hyphens, each word beginning with a \
             letter{}",
            if check_shape(&near, name) { format!("; for instance `{near}`") } else { String::new() }
        );
    }
    ensure!(!TAKEN.contains(&name), "`{name}` is taken by the language or the tools; choose another name");
    Ok(())
}

/// Whether the near name would do.
fn check_shape(near: &str, name: &str) -> bool {
    near != name && check_name(near).is_ok()
}

/// The folder of an SDK, absolute.
fn checked_sdk(dir: &Path) -> anyhow::Result<PathBuf> {
    let dir = std::fs::canonicalize(dir).with_context(|| format!("--sdk {}", dir.display()))?;
    let manifest = std::fs::read_to_string(dir.join("Cargo.toml")).unwrap_or_default();
    ensure!(
        manifest.contains("name = \"facestream-guest\""),
        "--sdk {}: its Cargo.toml is not that of facestream-guest",
        dir.display()
    );
    Ok(dir)
}

fn write(dir: &Path, path: &str, text: &str) -> anyhow::Result<()> {
    let path = dir.join(path);
    let told = || format!("cannot write {}", path.display());
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(told)?;
    }
    std::fs::write(&path, text).with_context(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(dir: &Path, name: &str, world: World, lang: Lang) -> anyhow::Result<ExitCode> {
        run(&NewArgs { name: name.to_owned(), world, lang, path: dir.to_owned(), sdk: None })
    }

    #[test]
    fn names_are_checked_with_a_near_one() {
        for sound in ["porch", "steady-shot", "a", "yolo11-face"] {
            check_name(sound).unwrap();
        }
        for wrong in
            ["", "Porch", "my_guest", "-a", "a-", "a--b", "9lives", "top-10", "../up", "self", "serde", &"a".repeat(65)]
        {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
        assert!(check_name("My_Guest").unwrap_err().to_string().contains("for instance `my-guest`"));
        assert!(!check_name("../up").unwrap_err().to_string().contains("for instance"));
    }

    #[test]
    fn nothing_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("porch")).unwrap();
        let error = new(dir.path(), "porch", World::Scorer, Lang::Rust).unwrap_err();
        assert!(error.to_string().contains("is there already"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path().join("porch")).unwrap().count(), 0);
    }

    #[test]
    fn every_template_is_filled_in() {
        let dir = tempfile::tempdir().unwrap();
        for (lang, own) in [(Lang::Rust, "src/lib.rs"), (Lang::Python, "app.py"), (Lang::Js, "guest.js")] {
            for world in [World::Tracker, World::Scorer, World::Formatter] {
                if lang != Lang::Rust && world == World::Tracker {
                    let error = new(dir.path(), "slow", world, lang).unwrap_err();
                    assert!(error.to_string().contains("--lang rust") && !dir.path().join("slow").exists(), "{error}");
                    continue;
                }
                let name = format!("{}-guest-{}", own.as_bytes()[0] as char, world.as_str());
                new(dir.path(), &name, world, lang).unwrap();
                let folder = dir.path().join(&name);
                let project = facestream_guest_build::Project::read(&folder).unwrap();
                assert_eq!(project.name, name);
                let said = project.world.map(|w| w.to_string());
                assert_eq!(said.as_deref(), (lang != Lang::Rust).then(|| world.as_str()), "{name}");
                for file in [own, "README.md", ".gitignore", "wit/stages.wit", "wit/types.wit", "wit/pixels.wit"] {
                    assert!(folder.join(file).is_file(), "{name}: {file}");
                }
                for file in templates::files(&name, world, lang, None).unwrap() {
                    let ours = !file.path.starts_with("sdk/");
                    assert!(!ours || !file.text.contains("{{"), "{name}: {} has a gap left", file.path);
                }
            }
        }
    }

    #[test]
    fn an_sdk_is_for_rust_alone() {
        let dir = tempfile::tempdir().unwrap();
        for lang in [Lang::Python, Lang::Js] {
            let (name, path, sdk) = ("porch".to_owned(), dir.path().to_owned(), Some(dir.path().to_owned()));
            let error = run(&NewArgs { name, world: World::Scorer, lang, path, sdk }).unwrap_err();
            assert!(error.to_string().contains("--sdk is for guests in Rust"), "{error}");
        }
        assert!(!dir.path().join("porch").exists());
    }

    #[test]
    fn an_sdk_elsewhere_is_named_instead_of_copied() {
        let dir = tempfile::tempdir().unwrap();
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/sdk");
        let args = |sdk: &Path| NewArgs {
            name: "porch".to_owned(),
            world: World::Scorer,
            lang: Lang::Rust,
            path: dir.path().to_owned(),
            sdk: Some(sdk.to_owned()),
        };
        assert!(run(&args(dir.path())).is_err(), "no SDK there");
        run(&args(&sdk)).unwrap();
        let manifest = std::fs::read_to_string(dir.path().join("porch/Cargo.toml")).unwrap();
        assert!(manifest.contains(sdk.canonicalize().unwrap().to_str().unwrap()), "{manifest}");
        assert!(!dir.path().join("porch/sdk").exists());
    }
}
