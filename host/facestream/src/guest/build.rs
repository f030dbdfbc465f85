//! `facestream guest build`: a guest's folder to a component that this host takes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use facestream_guest_build::Project;
use facestream_guest_host::{GuestConfig, inspect};

/// `facestream guest build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The guest's folder
    #[arg(default_value = ".", value_name = "DIR")]
    pub dir: PathBuf,
    /// Rust: leave out function names and line numbers, which only people read: several times smaller, same code
    #[arg(long)]
    pub release: bool,
    /// Where the component goes; default: NAME.wasm in the guest's folder
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Builds, looks at what came out with the host's own eyes, writes it and says what it is.
///
/// # Errors
/// When a tool is missing (with the command that brings it), the sources do not compile, or the host would refuse it.
pub fn run(args: &BuildArgs) -> anyhow::Result<ExitCode> {
    crate::logging::start(false, "warn");
    let began = Instant::now();
    let project = Project::read(&args.dir)?;
    let built = facestream_guest_build::build(&project, args.release)?;
    let info = inspect(&built.bytes, GuestConfig::default().max_component_bytes)
        .with_context(|| format!("{} was built, but a host would refuse it", project.name))?;
    let out = args.out.clone().unwrap_or_else(|| args.dir.join(format!("{}.wasm", project.name)));
    write(&out, &built.bytes)?;

    let line = |label: &str, value: &str| println!("{label:<10} {value}");
    line("guest", &format!("{}{}", project.name, project.version.map(|v| format!(" {v}")).unwrap_or_default()));
    line("world", &format!("{}, WIT {}", info.kind, info.wit_version));
    line("file", &out.display().to_string());
    line("size", &format!("{} bytes", info.bytes));
    line("digest", &info.digest.to_string());
    line("built by", &format!("{} in {:.1} s", built.how, began.elapsed().as_secs_f64()));
    for (n, import) in info.imports.iter().enumerate() {
        line(if n == 0 { "imports" } else { "" }, import);
    }
    Ok(ExitCode::SUCCESS)
}

/// Written beside and renamed: whoever loads it meanwhile never reads half a file.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let told = || format!("cannot write {}", path.display());
    let partial = path.with_extension("wasm.partial");
    std::fs::write(&partial, bytes).with_context(told)?;
    std::fs::rename(&partial, path).with_context(told)
}
