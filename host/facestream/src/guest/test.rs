//! `facestream guest test`: the conformance kit over one guest.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use facestream_guest_host::GuestLimits;
use facestream_guest_kit::{Case, Kit, KitOptions, Report, Status, cases};

/// `facestream guest test`.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 no case failed, 1 a case failed, 2 the guest could not be tested at all.")]
pub struct TestArgs {
    /// A component file, or the name of a guest
    pub guest: String,
    /// Settings of the guest, as a JSON object
    #[arg(long, default_value = "{}", value_name = "JSON")]
    pub config: String,
    /// Limits that differ from the host's defaults, as a JSON object, e.g. '{"deadline_ms": 10}'
    #[arg(long, default_value = "{}", value_name = "JSON")]
    pub limits: String,
    /// Only the cases whose name contains this
    #[arg(long, value_name = "NAME")]
    pub filter: Option<String>,
    /// Only list the cases of the guest's world, with their reasons
    #[arg(long)]
    pub list: bool,
    /// Compare the output with the files in this folder
    #[arg(long, value_name = "DIR")]
    pub golden: Option<PathBuf>,
    /// Write these files anew instead
    #[arg(long, requires = "golden")]
    pub update_golden: bool,
    /// Write the report as JSON; `-` is standard output, in place of the table
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<String>,
    /// Write the report as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Data folder of a host, to find guests of its store by name
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Runs the cases and prints what came of them. The code says which: errors of the command line are 2, as a failed case
/// is what 1 stands for.
///
/// # Errors
/// Never: an error is printed here, because its exit code is another than that of other commands.
pub fn run(args: &TestArgs) -> anyhow::Result<ExitCode> {
    crate::logging::start(false, "warn,guest=off");
    match tested(args) {
        Ok(passed) => Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        Err(error) => {
            eprintln!("error: {}", crate::told(&error));
            Ok(ExitCode::from(2))
        }
    }
}

fn tested(args: &TestArgs) -> anyhow::Result<bool> {
    let found = super::find(&args.guest, args.data.as_deref())?;
    let limits: GuestLimits =
        serde_json::from_str(&args.limits).with_context(|| format!("--limits are wrong: {}", args.limits))?;
    let options = KitOptions { config: super::config(&args.config)?, limits, cache_dir: Some(found.cache_dir) };
    let kit = Kit::new(&args.guest, found.bytes, options)?;
    let all = cases(kit.info().kind);
    if args.list {
        for case in &all {
            println!("{:<28} {}", case.name, case.reason);
        }
        return Ok(true);
    }
    let wanted = |name: &str| args.filter.as_deref().is_none_or(|part| name.contains(part));
    let chosen: Vec<&Case> = all.iter().filter(|c| wanted(c.name)).collect();
    let golden = args.golden.as_deref().filter(|_| wanted(Case::GOLDEN) || args.filter.is_none());
    anyhow::ensure!(
        !chosen.is_empty() || golden.is_some(),
        "no case of a {} has `{}` in its name; --list lists them",
        kit.info().kind,
        args.filter.as_deref().unwrap_or_default()
    );

    let table = args.json.as_deref() != Some("-");
    let colours = table && std::io::stdout().is_terminal();
    let mut results = Vec::new();
    if table {
        print!("{}", Report::new(&kit, Vec::new()).head());
    }
    let mut dead: Option<&str> = None;
    for case in chosen {
        let was_dead = dead.is_some();
        let result = match dead {
            Some(why) => kit.not_run(case, why),
            None => kit.run(case),
        };
        if case.name == "starts" && result.status == Status::Fail {
            dead = Some("it does not get through an ordinary scene");
        }
        if table && !was_dead {
            print!("{}", result.lines(colours));
            // A reader of a long run sees how far it is.
            std::io::stdout().flush()?;
        }
        results.push(result);
    }
    if let (Some(dir), None) = (golden, &dead) {
        let result = kit.golden(dir, args.update_golden)?;
        if table {
            print!("{}", result.lines(colours));
        }
        results.push(result);
    }
    let report = Report::new(&kit, results);
    if table {
        if let Some(why) = dead {
            println!("the other cases were not run: {why}");
        }
        print!("\n{}", report.verdict(colours));
        if args.filter.is_some() {
            println!("of the cases that --filter selects: of the others this says nothing");
        }
    }
    match args.json.as_deref() {
        Some("-") => print!("{}", report.to_json()?),
        Some(path) => write(Path::new(path), report.to_json()?.as_bytes())?,
        None => {}
    }
    if let Some(path) = &args.junit {
        write(path, &report.to_junit()?)?;
    }
    Ok(report.passed)
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
