//! `facestream guest replay`: a recording run again on the recorded guest, or on another one.
//!
//! Owns what is printed and the exit code. Must not compare answers itself: `facestream_guest_host::record` does.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use facestream_guest_host::record::{Bundle, Replay, ReplayReport, Start, replay};
use facestream_guest_host::{GuestComponent, GuestConfig, GuestEngine};

/// `facestream guest replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// A recording: a file of DATA/recordings
    #[arg(value_name = "BUNDLE")]
    pub bundle: PathBuf,
    /// Another guest to run it on: a component file, or the name of a guest; default: the recorded one
    #[arg(long, value_name = "GUEST")]
    pub guest: Option<String>,
    /// Settings other than the recorded ones, as a JSON object
    #[arg(long, value_name = "JSON")]
    pub config: Option<String>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Data folder of a host, to find guests of its store
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Replays it. 0 when every answer is as it was recorded (a recorded failure included), else 1.
///
/// # Errors
/// When the file is no recording, or the guest is not found or does not start.
pub fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    crate::logging::start(false, "warn");
    let bundle = Bundle::open(&args.bundle).with_context(|| format!("reading {}", args.bundle.display()))?;
    let manifest = &bundle.manifest;
    let found = match &args.guest {
        Some(guest) => super::find(guest, args.data.as_deref())?,
        None => super::find(&manifest.digest, args.data.as_deref()).with_context(|| {
            format!(
                "the recorded guest `{}` ({}) is not here: name the host's data folder (--data DIR), or a guest (--guest FILE)",
                manifest.guest, manifest.digest
            )
        })?,
    };
    let engine = GuestEngine::new(&GuestConfig {
        max_instances: 4,
        cache_dir: Some(found.cache_dir.clone()),
        ..GuestConfig::default()
    })?;
    let component = GuestComponent::load(&engine, &found.bytes)?;
    let config = args.config.as_deref().map(super::config).transpose()?;
    let report = replay(&bundle, &component, &Replay { config, limits: None, name: args.guest.clone() })?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(if report.as_recorded() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(report: &ReplayReport) {
    let line = |label: &str, value: &str| println!("{label:<12} {value}");
    line("recording", &format!("{} of camera {}", report.slot, report.camera));
    line("recorded", &format!("{} {}", report.recorded_guest, report.recorded_digest));
    line("replayed", &report.replayed_digest);
    let begins = match report.start {
        Start::Fresh => "with a new instance",
        Start::Snapshot => "at a saved state",
        Start::Midway => "in the middle: the state before it is not known",
    };
    line("begins", begins);
    let state = match report.state {
        "private" => "private: the guest's own, taken over",
        "neutral" => "neutral: tracks or held shots, taken over in the contract's form",
        _ => "none: the guest began with nothing",
    };
    line("state", state);
    line("calls", &format!("{} of {}", report.replayed, report.calls));
    line(
        "answers",
        &format!("{} the same to the bit, {} in part, {} different", report.equal, report.in_part, report.different),
    );
    if report.missing_answers > 0 {
        let text = format!("{} questions to the host that the recording has no answer to", report.missing_answers);
        line("missing", &text);
    }
    if report.stand_ins > 0 {
        line("stand-ins", &format!("{} pictures that are not in the recording: zeros stood in", report.stand_ins));
    }
    if let Some(difference) = &report.first_difference {
        let frame = match (difference.session, difference.sequence) {
            (Some(session), Some(sequence)) => format!(", frame {session}/{sequence}"),
            _ => String::new(),
        };
        line("first", &format!("call {} ({}{frame})", difference.call, difference.function));
        line("  recorded", &difference.recorded);
        line("  replayed", &difference.replayed);
    }
    if let Some(failure) = &report.failure {
        let as_recorded = if failure.reproduced { "as recorded" } else { "not in the recording" };
        line("failure", &format!("{} in call {}, {as_recorded}: {}", failure.kind, failure.call, failure.text));
    }
    let sides = &report.comparison;
    let cost = |side: &facestream_guest_host::record::Timing| {
        format!("p50 {:.1} µs, p99 {:.1} µs, {} calls", side.p50_us, side.p99_us, side.calls)
    };
    line("cost then", &cost(&sides.active));
    line("cost now", &cost(&sides.candidate));
    let verdict = match (report.as_recorded(), report.same_guest) {
        (true, _) => "as recorded",
        (false, true) => "NOT as recorded, although guest and settings are the same",
        (false, false) => "differs from the recording",
    };
    line("verdict", verdict);
}
