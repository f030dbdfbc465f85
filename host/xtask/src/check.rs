//! Static checks: format, lints, documentation, links in Markdown, licences and sources of dependencies.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;
use clap::ValueEnum;
use pulldown_cmark::{Event, Parser, Tag};

use crate::shell;

/// Pinned, so that a new release does not change the verdict on an old commit.
const CARGO_DENY: &str = "0.20.2";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Check {
    Fmt,
    Clippy,
    Docs,
    Links,
    Deny,
}

/// Runs the named checks, or all; every one is run even when one before it failed.
pub(crate) fn run(root: &Path, which: &[Check]) -> anyhow::Result<()> {
    let all = Check::value_variants();
    let mut failed = Vec::new();
    for check in if which.is_empty() { all } else { which } {
        let name = check.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned());
        shell::say(&format!("check: {name}"));
        if let Err(error) = check.run(root) {
            eprintln!("   {error:#}");
            failed.push(name);
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

impl Check {
    fn run(self, root: &Path) -> anyhow::Result<()> {
        match self {
            Self::Fmt => {
                for manifest in workspaces(root) {
                    let mut cargo = shell::cargo(root);
                    shell::run(cargo.args(["fmt", "--all", "--check", "--manifest-path"]).arg(manifest))?;
                }
                Ok(())
            }
            Self::Clippy => {
                for manifest in workspaces(root) {
                    let mut cargo = shell::cargo(root);
                    cargo.args(["clippy", "--release", "--workspace", "--all-targets", "--manifest-path"]);
                    shell::run(cargo.arg(manifest).args(["--", "-D", "warnings"]))?;
                }
                Ok(())
            }
            Self::Docs => {
                let mut cargo = shell::cargo(root);
                cargo.args(["doc", "--release", "--no-deps", "--workspace"]).env("RUSTDOCFLAGS", "-D warnings");
                shell::run(&mut cargo)
            }
            Self::Links => links(root),
            Self::Deny => deny(root),
        }
    }
}

/// Every workspace of the repository, the host's first.
pub(crate) fn workspaces(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.join("Cargo.toml"), root.join("guests/Cargo.toml")];
    let examples = std::fs::read_dir(root.join("examples/guests")).into_iter().flatten().flatten();
    found.extend(examples.map(|e| e.path().join("Cargo.toml")));
    found[2..].sort();
    found.retain(|m| m.is_file());
    found
}

/// Licences, bans and sources. Advisories only where their database is there: closed machines cannot fetch it.
fn deny(root: &Path) -> anyhow::Result<()> {
    let program = install_deny(root)?;
    for manifest in workspaces(root) {
        // The lock file names crates of platforms and features that no build here has fetched, and cargo-deny reads the
        // manifests of all: on a cold registry `--offline` failed on `crunchy`, which only `half` for SPIR-V needs.
        let mut fetch = shell::cargo(root);
        shell::run(fetch.args(["fetch", "--locked", "--manifest-path"]).arg(&manifest))?;
        let mut deny = Command::new(&program);
        deny.current_dir(root).arg("--manifest-path").arg(&manifest).arg("--config").arg(root.join("deny.toml"));
        shell::run(deny.args(["--offline", "check", "licenses", "bans", "sources"]))?;
    }
    Ok(())
}

/// The program `cargo-deny`: the one on the machine, or one compiled into `target/tools`.
pub(crate) fn install_deny(root: &Path) -> anyhow::Result<PathBuf> {
    if shell::has("cargo-deny") {
        return Ok("cargo-deny".into());
    }
    let tools = root.join("target/tools");
    let program = tools.join("bin/cargo-deny");
    if !program.is_file() {
        let mut cargo = shell::cargo(root);
        cargo.args(["install", "--quiet", "--locked", "--root"]).arg(&tools);
        cargo.args(["--version", CARGO_DENY, "--no-default-features", "cargo-deny"]);
        // Its release profile optimises a whole git client; a check that runs once does not need that.
        cargo.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0").env("CARGO_PROFILE_RELEASE_LTO", "off");
        shell::run(&mut cargo)?;
    }
    Ok(program)
}

/// Every relative link of every tracked Markdown file leads to a file, and its anchor to a heading.
fn links(root: &Path) -> anyhow::Result<()> {
    let listed = shell::output(Command::new("git").current_dir(root).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "*.md",
    ]))?;
    let mut dead = Vec::new();
    for file in listed.lines() {
        let path = root.join(file);
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for event in Parser::new(&text) {
            let Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) = event else { continue };
            if dest_url.contains("://") || dest_url.starts_with("mailto:") {
                continue;
            }
            let (target, anchor) = dest_url.split_once('#').unwrap_or((&dest_url, ""));
            let folder = path.parent().unwrap_or(root);
            let to = if target.is_empty() { path.clone() } else { folder.join(target) };
            let ok = to.exists() && (anchor.is_empty() || has_heading(&to, anchor));
            if !ok {
                dead.push(format!("{file}: {dest_url}"));
            }
        }
    }
    if dead.is_empty() { Ok(()) } else { bail!("dead links:\n{}", dead.join("\n")) }
}

/// Whether a Markdown file has a heading that becomes this anchor (lower case, spaces to hyphens, punctuation gone).
fn has_heading(path: &Path, anchor: &str) -> bool {
    let Ok(text) = std::fs::read_to_string(path) else { return false };
    let slug = |title: &str| -> String {
        let title = title.to_lowercase();
        let kept = title.chars().filter_map(|c| match c {
            ' ' | '-' => Some('-'),
            c if c.is_alphanumeric() || c == '_' => Some(c),
            _ => None,
        });
        kept.collect()
    };
    text.lines().filter(|l| l.starts_with('#')).any(|l| slug(l.trim_start_matches('#').trim()) == anchor)
}
