//! `cargo xtask test`: set-up, then every test of host and guests, with skipped ones counted as skipped.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::{guests, kafka, packages, setup, shell};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run the long ones too (outages of real length, thousands of swaps)
    #[arg(long)]
    long: bool,
    /// Only tests whose name contains this
    filter: Option<String>,
}

#[derive(Default, Clone, Copy)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
}

pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<()> {
    // Not to be mistaken for this run's, should it end early.
    let summary_file = root.join("target/test-summary.txt");
    if summary_file.exists() {
        std::fs::remove_file(&summary_file)?;
    }
    setup::run(root)?;
    shell::say("set-up: what the tests alone need");
    optional(root);

    let skips = root.join("target/skipped-tests.txt");
    std::fs::write(&skips, "").with_context(|| format!("could not write {}", skips.display()))?;
    let mut tally = Tally::default();
    let mut broken = Vec::new();
    let examples = guests::EXAMPLES.map(|name| (name, format!("examples/guests/{name}/Cargo.toml")));
    let workspaces = [("host", "Cargo.toml".to_owned()), ("guests", "guests/Cargo.toml".to_owned())];
    for (what, manifest) in workspaces.into_iter().chain(examples) {
        shell::say(&format!("tests of the {what}"));
        let mut cargo = shell::cargo(root);
        if manifest.starts_with("examples") {
            // The SDK is compiled there already.
            cargo.env("CARGO_TARGET_DIR", root.join("guests/target"));
        }
        cargo.args(["test", "--release", "--workspace", "--no-fail-fast", "--manifest-path", &manifest]);
        cargo.env("FACESTREAM_SKIPS", &skips).env("FACESTREAM_ASSETS", crate::assets(root));
        if args.long {
            cargo.env("FACESTREAM_LONG", "1");
        }
        if let Some(filter) = &args.filter {
            cargo.arg("--").arg(filter);
        }
        if !tee(&mut cargo, &mut tally)? {
            broken.push(what);
        }
    }

    let skipped = std::fs::read_to_string(&skips)?;
    let lines: HashSet<&str> = skipped.lines().collect();
    for line in &lines {
        println!("{line}");
    }
    let skipped = lines.len() as u64;
    if !broken.is_empty() && tally.failed == 0 {
        bail!("the tests of {} did not build or did not end", broken.join(" and "));
    }
    // libtest counts a test that skipped itself as passed; this line does not.
    let passed = tally.passed.saturating_sub(skipped);
    let summary = format!("{passed} passed, {} failed, {} skipped", tally.failed, skipped + tally.ignored);
    println!("{summary}");
    std::fs::write(&summary_file, &summary)?;
    if tally.failed > 0 || !broken.is_empty() {
        bail!("{} tests failed", tally.failed);
    }
    Ok(())
}

/// Services that some tests use when they can have them; those tests say `skipped: why` when they cannot.
fn optional(root: &Path) {
    if !packages::try_install(packages::GSTREAMER_SERVER) {
        eprintln!("   no GStreamer RTSP server here: the tests against it will be skipped");
    }
    if shell::has("java") && shell::has("mvn") {
        if let Err(error) = kafka::fetch(root) {
            eprintln!("   no Kafka broker here ({error:#}): the tests against a real one will be skipped");
        }
    } else {
        eprintln!("   no Java or Maven here: the tests against a real Kafka broker will be skipped");
    }
}

/// Runs cargo, passes its output on and adds up libtest's result lines. False when cargo failed.
fn tee(cargo: &mut Command, tally: &mut Tally) -> anyhow::Result<bool> {
    let mut child = cargo.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("could not start cargo")?;
    let stdout = child.stdout.take().context("standard output is piped")?;
    let mut out = std::io::stdout().lock();
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        writeln!(out, "{line}")?;
        if let Some(counts) = line.strip_prefix("test result: ") {
            for part in counts.split([';', '.']) {
                let mut words = part.split_whitespace();
                match (words.next().and_then(|n| n.parse::<u64>().ok()), words.next()) {
                    (Some(n), Some("passed")) => tally.passed += n,
                    (Some(n), Some("failed")) => tally.failed += n,
                    (Some(n), Some("ignored")) => tally.ignored += n,
                    _ => {}
                }
            }
        }
    }
    Ok(child.wait()?.success())
}
