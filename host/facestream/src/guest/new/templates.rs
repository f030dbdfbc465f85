//! The files of a new guest: templates with the name and the like filled in.

use std::path::Path;

use super::sdk;
use super::{Lang, World};

/// The versions that the templates and their tests are made for.
const COMPONENTIZE_PY: &str = "0.25.1";

/// One file, its path relative to the folder.
pub(super) struct File {
    pub(super) path: String,
    pub(super) text: String,
    /// May be run.
    pub(super) program: bool,
}

/// What a template of the folder `templates/` says.
macro_rules! template {
    ($file:literal) => {
        include_str!(concat!("../../../templates/", $file))
    };
}

/// Everything that the folder gets. `sdk`: an SDK to name instead of a copy.
pub(super) fn files(name: &str, world: World, lang: Lang, sdk: Option<&Path>) -> anyhow::Result<Vec<File>> {
    let place = sdk.map_or_else(|| "sdk/facestream-guest".to_owned(), |dir| dir.display().to_string());
    let fill = |text: &str| {
        text.replace("{{name}}", name)
            .replace("{{world}}", world.as_str())
            .replace("{{sdk}}", &place)
            .replace("{{version}}", env!("CARGO_PKG_VERSION"))
            .replace("{{componentize_py}}", COMPONENTIZE_PY)
    };
    let mut files: Vec<File> = texts(world, lang)
        .iter()
        .map(|(path, text)| File { path: (*path).to_owned(), text: fill(text), program: path.ends_with(".sh") })
        .collect();
    files.extend(sdk::contract());
    if lang == Lang::Rust {
        // Versions that were tested together; without it cargo would take the newest of everything.
        files.push(File { path: "Cargo.lock".to_owned(), text: sdk::lock(name), program: false });
        if sdk.is_none() {
            files.extend(sdk::sources()?);
        }
    }
    Ok(files)
}

fn texts(world: World, lang: Lang) -> Vec<(&'static str, &'static str)> {
    let mut files = match lang {
        Lang::Rust => vec![
            ("Cargo.toml", template!("rust/Cargo.toml.tmpl")),
            ("README.md", template!("rust/README.md.tmpl")),
            (".gitignore", template!("rust/gitignore")),
        ],
        Lang::Python => vec![
            ("pyproject.toml", template!("python/pyproject.toml.tmpl")),
            ("README.md", template!("python/README.md.tmpl")),
            (".gitignore", template!("python/gitignore")),
            ("build.sh", template!("python/build.sh.tmpl")),
        ],
        Lang::Js => vec![
            ("package.json", template!("js/package.json.tmpl")),
            ("README.md", template!("js/README.md.tmpl")),
            (".gitignore", template!("js/gitignore")),
        ],
    };
    files.extend(match (lang, world) {
        (Lang::Rust, World::Tracker) => {
            [("src/lib.rs", template!("rust/tracker/lib.rs")), ("src/tests.rs", template!("rust/tracker/tests.rs"))]
        }
        (Lang::Rust, World::Scorer) => {
            [("src/lib.rs", template!("rust/scorer/lib.rs")), ("src/tests.rs", template!("rust/scorer/tests.rs"))]
        }
        (Lang::Rust, World::Formatter) => {
            [("src/lib.rs", template!("rust/formatter/lib.rs")), ("src/tests.rs", template!("rust/formatter/tests.rs"))]
        }
        (Lang::Python, World::Tracker) => {
            [("app.py", template!("python/tracker/app.py")), ("test_app.py", template!("python/tracker/test_app.py"))]
        }
        (Lang::Python, World::Scorer) => {
            [("app.py", template!("python/scorer/app.py")), ("test_app.py", template!("python/scorer/test_app.py"))]
        }
        (Lang::Python, World::Formatter) => [
            ("app.py", template!("python/formatter/app.py")),
            ("test_app.py", template!("python/formatter/test_app.py")),
        ],
        (Lang::Js, World::Tracker) => {
            [("guest.js", template!("js/tracker/guest.js")), ("guest.test.js", template!("js/tracker/guest.test.js"))]
        }
        (Lang::Js, World::Scorer) => {
            [("guest.js", template!("js/scorer/guest.js")), ("guest.test.js", template!("js/scorer/guest.test.js"))]
        }
        (Lang::Js, World::Formatter) => [
            ("guest.js", template!("js/formatter/guest.js")),
            ("guest.test.js", template!("js/formatter/guest.test.js")),
        ],
    });
    files
}

/// What to type next, in the folder.
pub(super) fn next(name: &str, world: World, lang: Lang) -> Vec<String> {
    let mut lines = match lang {
        Lang::Rust => vec!["cargo test".to_owned(), "facestream guest build --release".to_owned()],
        Lang::Python => vec![
            format!("python3 -m venv .venv && .venv/bin/pip install componentize-py=={COMPONENTIZE_PY}"),
            format!(".venv/bin/componentize-py -d wit -w {} bindings bindings", world.as_str()),
            "PYTHONPATH=bindings python3 -m unittest".to_owned(),
            "facestream guest build".to_owned(),
        ],
        Lang::Js => vec!["npm test".to_owned(), "npm install".to_owned(), "facestream guest build".to_owned()],
    };
    let limits = match lang {
        Lang::Python => " --limits '{\"max_memory_bytes\": 134217728, \"start_deadline_ms\": 10000}'",
        Lang::Rust | Lang::Js => "",
    };
    lines.push(format!("facestream guest test {name}.wasm{limits}"));
    lines
}
