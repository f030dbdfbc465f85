//! The files of a new guest: templates with the name and the like filled in.

use std::path::Path;

use facestream_guest_build::COMPONENTIZE_PY;

use super::sdk;
use super::{Lang, World};

/// One file, its path relative to the folder.
pub(super) struct File {
    pub(super) path: String,
    pub(super) text: String,
}

/// What a template of the folder `templates/` says.
macro_rules! template {
    ($file:literal) => {
        include_str!(concat!("../../../templates/", $file))
    };
}

/// Everything that the folder gets. `sdk`: of a guest in Rust, an SDK to name instead of a copy.
pub(super) fn files(name: &str, world: World, lang: Lang, sdk: Option<&Path>) -> anyhow::Result<Vec<File>> {
    let place = sdk.map_or_else(|| "sdk/facestream-guest".to_owned(), |dir| dir.display().to_string());
    let fill = |text: &str| {
        text.replace("{{name}}", name)
            .replace("{{world}}", world.as_str())
            .replace("{{sdk}}", &place)
            .replace("{{componentize_py}}", COMPONENTIZE_PY)
            .replace("{{version}}", env!("CARGO_PKG_VERSION"))
    };
    let texts: &[Text] = match (lang, world) {
        (Lang::Rust, _) => &rust(world),
        (_, World::Tracker) => anyhow::bail!(
            "there is no template for a tracker in Python or JavaScript: with some hundred faces in a frame it takes longer \
             than a call may (measured: 400 ms for 500). Use `--lang rust`"
        ),
        (Lang::Python, World::Scorer) => {
            &python(template!("python/scorer/app.py"), template!("python/scorer/test_app.py"))
        }
        (Lang::Python, World::Formatter) => {
            &python(template!("python/formatter/app.py"), template!("python/formatter/test_app.py"))
        }
        (Lang::Js, World::Scorer) => &js(template!("js/scorer/guest.js"), template!("js/scorer/guest.test.js")),
        (Lang::Js, World::Formatter) => {
            &js(template!("js/formatter/guest.js"), template!("js/formatter/guest.test.js"))
        }
    };
    let mut files: Vec<File> =
        texts.iter().map(|(path, text)| File { path: (*path).to_owned(), text: fill(text) }).collect();
    files.extend(sdk::contract());
    if lang == Lang::Rust {
        // Versions that were tested together; without it cargo would take the newest of everything.
        files.push(File { path: "Cargo.lock".to_owned(), text: sdk::lock(name) });
        if sdk.is_none() {
            files.extend(sdk::sources()?);
        }
    }
    Ok(files)
}

/// A path and what is there.
type Text = (&'static str, &'static str);

fn rust(world: World) -> [Text; 5] {
    let (lib, tests) = match world {
        World::Tracker => (template!("rust/tracker/lib.rs"), template!("rust/tracker/tests.rs")),
        World::Scorer => (template!("rust/scorer/lib.rs"), template!("rust/scorer/tests.rs")),
        World::Formatter => (template!("rust/formatter/lib.rs"), template!("rust/formatter/tests.rs")),
    };
    [
        ("Cargo.toml", template!("rust/Cargo.toml.tmpl")),
        ("README.md", template!("rust/README.md.tmpl")),
        (".gitignore", template!("rust/gitignore")),
        ("src/lib.rs", lib),
        ("src/tests.rs", tests),
    ]
}

fn python(app: &'static str, tests: &'static str) -> [Text; 5] {
    [
        ("pyproject.toml", template!("python/pyproject.toml.tmpl")),
        ("README.md", template!("python/README.md.tmpl")),
        (".gitignore", template!("python/gitignore")),
        ("app.py", app),
        ("test_app.py", tests),
    ]
}

fn js(guest: &'static str, tests: &'static str) -> [Text; 6] {
    [
        ("package.json", template!("js/package.json.tmpl")),
        // As for Rust: versions that were tested together.
        ("package-lock.json", template!("js/package-lock.json.tmpl")),
        ("README.md", template!("js/README.md.tmpl")),
        (".gitignore", template!("js/gitignore")),
        ("guest.js", guest),
        ("guest.test.js", tests),
    ]
}

/// What to type next, in the folder.
pub(super) fn next(name: &str, lang: Lang) -> [String; 3] {
    let test = format!("facestream guest test {name}.wasm");
    let build = "facestream guest build".to_owned();
    match lang {
        Lang::Rust => ["cargo test".to_owned(), format!("{build} --release"), test],
        // The tests need what the build fetches.
        Lang::Python => [build, "PYTHONPATH=bindings python3 -m unittest".to_owned(), test],
        Lang::Js => ["npm test".to_owned(), build, test],
    }
}
