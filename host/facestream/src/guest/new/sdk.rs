//! The SDK and the contract as they are inside the program, so that a new guest needs neither a network nor this
//! repository to find them.
//!
//! Owns making the SDK's manifest stand on its own: in the repository it inherits from the guests' workspace.

use anyhow::Context as _;
use include_dir::{Dir, include_dir};

use super::templates::File;

static SOURCES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../guests/sdk/src");
static WIT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../wit");
const MANIFEST: &str = include_str!("../../../../../guests/sdk/Cargo.toml");
const WORKSPACE: &str = include_str!("../../../../../guests/Cargo.toml");
const GUIDE: &str = include_str!("../../../../../guests/README.md");
const LOCK: &str = include_str!("../../../../../examples/guests/people-counter/Cargo.lock");
/// The package in that lock file whose place the new guest takes.
const LOCKED: &str = "people-counter";

/// `wit/` of the new folder.
pub(super) fn contract() -> Vec<File> {
    texts(&WIT, "wit")
}

/// `sdk/` of the new folder. The SDK lies two folders down, because it looks for the contract in `../../wit`.
pub(super) fn sources() -> anyhow::Result<Vec<File>> {
    let mut files = texts(&SOURCES, "sdk/facestream-guest/src");
    let text = |path: &str, text: String| File { path: path.to_owned(), text };
    files.push(text("sdk/facestream-guest/Cargo.toml", manifest()?));
    files.push(text("sdk/README.md", unlinked(GUIDE)));
    Ok(files)
}

/// A text in Markdown whose links to files of the repository, which is not there, are their words alone.
fn unlinked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("](") {
        let (before, link) = (&rest[..at], &rest[at + 2..]);
        let (Some(open), Some(close)) = (before.rfind('['), link.find(')')) else { break };
        let target = &link[..close];
        if target.starts_with("http") || target.starts_with('#') {
            out.push_str(&rest[..at + 2 + close + 1]);
        } else {
            out.push_str(&before[..open]);
            out.push_str(&before[open + 1..]);
        }
        rest = &link[close + 1..];
    }
    out + rest
}

fn texts(dir: &Dir<'_>, to: &str) -> Vec<File> {
    let mut files = Vec::new();
    let mut folders = vec![dir];
    while let Some(folder) = folders.pop() {
        folders.extend(folder.dirs());
        for file in folder.files() {
            if let Some(text) = file.contents_utf8() {
                let path = format!("{to}/{}", file.path().display());
                files.push(File { path, text: text.to_owned() });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// The SDK's manifest with what it inherits written out.
fn manifest() -> anyhow::Result<String> {
    let mut sdk: toml::Table = MANIFEST.parse().context("the SDK's manifest")?;
    let workspace: toml::Table = WORKSPACE.parse().context("the guests' manifest")?;
    let shared = &workspace["workspace"];
    // Lints are for those who work on the SDK.
    sdk.remove("lints");
    for (section, from) in [("package", &shared["package"]), ("dependencies", &shared["dependencies"])] {
        let Some(table) = sdk.get_mut(section).and_then(toml::Value::as_table_mut) else { continue };
        for (key, value) in table.iter_mut() {
            if value.get("workspace").is_some() {
                *value =
                    from.get(key).with_context(|| format!("the guests' workspace has no {section}.{key}"))?.clone();
            }
        }
    }
    let version = env!("CARGO_PKG_VERSION");
    Ok(format!("# The SDK as it came with facestream {version}. Do not change it here.\n{}", toml::to_string(&sdk)?))
}

/// A lock file with versions that were tested together.
pub(super) fn lock(name: &str) -> String {
    let mut blocks: Vec<String> = LOCK.split("[[package]]\n").map(str::to_owned).collect();
    let head = blocks.remove(0);
    let ours = format!("name = \"{LOCKED}\"\n");
    for block in &mut blocks {
        *block = block.replace(&ours, &format!("name = \"{name}\"\n")).trim_end().to_owned();
    }
    // Cargo keeps packages in the order of their names.
    blocks.sort_by(|a, b| a.lines().next().cmp(&b.lines().next()));
    let packages: Vec<String> = blocks.iter().map(|block| format!("[[package]]\n{block}\n")).collect();
    format!("{head}{}", packages.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdk_stands_on_its_own() {
        let text = manifest().unwrap();
        let sdk: toml::Table = text.parse().unwrap();
        assert!(!text.contains("workspace"), "{text}");
        assert_eq!(sdk["package"]["name"].as_str(), Some("facestream-guest"));
        assert!(sdk["dependencies"]["wit-bindgen"]["features"].as_array().is_some_and(|f| f.len() > 1), "{text}");
        assert!(sdk["features"]["fake-host"].is_array());
    }

    #[test]
    fn the_guide_has_no_link_to_what_is_not_there() {
        let linked = "See [this](../examples/x/README.md), [that](https://example.org/a) and [below](#below).";
        assert_eq!(unlinked(linked), "See this, [that](https://example.org/a) and [below](#below).");
        let guide = unlinked(GUIDE);
        assert!(guide.len() > 1000 && !guide.contains("](.."), "{guide}");
    }

    #[test]
    fn every_source_is_there() {
        let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/sdk/src");
        let on_disk = std::fs::read_dir(sources).unwrap().count();
        let inside = super::sources().unwrap().iter().filter(|f| f.path.contains("/src/")).count();
        assert_eq!(inside, on_disk, "a source was added: touch this file, so that it is taken in");
    }

    #[test]
    fn the_lock_file_is_that_of_the_new_guest() {
        let lock: toml::Table = lock("zebra").parse().unwrap();
        let names: Vec<&str> =
            lock["package"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
        assert!(names.is_sorted() && names.contains(&"zebra") && !names.contains(&LOCKED), "{names:?}");
    }
}
