//! `facestream guest inspect`: what a component is and what it can reach, without running it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use facestream_guest_host::{GuestConfig, WIT_VERSIONS, facts, inspect};
use facestream_guest_kit::describe;

/// `facestream guest inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A component file, or the name of a guest
    pub guest: String,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Data folder of a host, to find guests of its store by name
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Prints the description.
///
/// # Errors
/// When the guest is not found, or this host would refuse it: the words say why.
pub fn run(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    crate::logging::start(false, "warn");
    let found = super::find(&args.guest, args.data.as_deref())?;
    let info = inspect(&found.bytes, GuestConfig::default().max_component_bytes)
        .with_context(|| format!("this host does not take {}", args.guest))?;
    let described = describe(info, facts(&found.bytes), WIT_VERSIONS);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&described)?);
        return Ok(ExitCode::SUCCESS);
    }
    let line = |label: &str, value: &str| println!("{label:<12} {value}");
    let info = &described.info;
    line("guest", &args.guest);
    let says = [&described.facts.name, &described.facts.version].into_iter().flatten().cloned().collect::<Vec<_>>();
    if !says.is_empty() {
        line("says it is", &says.join(" "));
    }
    line("digest", &info.digest.to_string());
    line("world", &info.kind.to_string());
    line("WIT", &format!("{}; this host accepts {WIT_VERSIONS}: accepted", info.wit_version));
    line("size", &format!("{} bytes", info.bytes));
    for memory in &described.facts.memories {
        let most = memory
            .maximum_bytes
            .map_or_else(|| "no maximum of its own".to_owned(), |b| format!("at most {} KiB", b / 1024));
        line("memory", &format!("{} KiB to begin with, {most}", memory.initial_bytes / 1024));
    }
    for (n, producer) in described.facts.producers.iter().enumerate() {
        line(if n == 0 { "made by" } else { "" }, producer);
    }
    for (n, import) in info.imports.iter().enumerate() {
        line(if n == 0 { "imports" } else { "" }, import);
    }
    for (n, sentence) in described.reach.iter().enumerate() {
        line(if n == 0 { "reach" } else { "" }, sentence);
    }
    Ok(ExitCode::SUCCESS)
}
