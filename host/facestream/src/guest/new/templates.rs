//! The files of a new guest: templates with the name and the like filled in.

use std::path::Path;

use super::World;
use super::sdk;

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

/// Everything that the folder gets. `sdk`: an SDK to name instead of a copy.
pub(super) fn files(name: &str, world: World, sdk: Option<&Path>) -> anyhow::Result<Vec<File>> {
    let place = sdk.map_or_else(|| "sdk/facestream-guest".to_owned(), |dir| dir.display().to_string());
    let fill = |text: &str| {
        text.replace("{{name}}", name)
            .replace("{{world}}", world.as_str())
            .replace("{{sdk}}", &place)
            .replace("{{version}}", env!("CARGO_PKG_VERSION"))
    };
    let mut files: Vec<File> =
        texts(world).iter().map(|(path, text)| File { path: (*path).to_owned(), text: fill(text) }).collect();
    files.extend(sdk::contract());
    // Versions that were tested together; without it cargo would take the newest of everything.
    files.push(File { path: "Cargo.lock".to_owned(), text: sdk::lock(name) });
    if sdk.is_none() {
        files.extend(sdk::sources()?);
    }
    Ok(files)
}

fn texts(world: World) -> [(&'static str, &'static str); 5] {
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

/// What to type next, in the folder.
pub(super) fn next(name: &str) -> [String; 3] {
    [
        "cargo test".to_owned(),
        "facestream guest build --release".to_owned(),
        format!("facestream guest test {name}.wasm"),
    ]
}
