//! `facestream guest bench`: what a guest costs, alone or in turns with another.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use facestream_guest_host::GuestLimits;
use facestream_guest_kit::{Kit, KitOptions, Measured, Share, compare};

/// `facestream guest bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// A component file, or the name of a guest
    pub guest: String,
    /// Settings of the guest, as a JSON object
    #[arg(long, default_value = "{}", value_name = "JSON")]
    pub config: String,
    /// Faces in every frame
    #[arg(long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=2000))]
    pub boxes: u16,
    /// Frames to measure
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub frames: u32,
    /// Another guest of the same world, run in turns with the first, with the ratio of the two
    #[arg(long, value_name = "GUEST")]
    pub against: Option<String>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Data folder of a host, to find guests of its store by name
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Measures and prints.
///
/// # Errors
/// When a guest is not found, is refused, or fails on the way.
pub fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    crate::logging::start(false, "warn,guest=off");
    let config = super::config(&args.config)?;
    let kit = |guest: &str, config: serde_json::Value| -> anyhow::Result<Kit> {
        let found = super::find(guest, args.data.as_deref())?;
        // Slow is what is to be measured, not refused.
        let limits = GuestLimits { deadline_ms: 1000, wall_deadline_ms: 60_000, ..GuestLimits::default() };
        Ok(Kit::new(guest, found.bytes, KitOptions { config, limits, cache_dir: Some(found.cache_dir) })?)
    };
    let first = kit(&args.guest, config)?;
    let second = match &args.against {
        // Settings are a guest's own: the other one runs with its defaults.
        Some(guest) => Some(kit(guest, serde_json::Value::Null)?),
        None => None,
    };
    if let Some(second) = &second {
        let (a, b) = (first.info().kind, second.info().kind);
        anyhow::ensure!(
            a == b,
            "{} is a {a} and {} a {b}: only guests of one world compare",
            args.guest,
            args.against.as_deref().unwrap_or_default()
        );
    }
    let share = Share { boxes: usize::from(args.boxes), frames: u64::from(args.frames) };
    let kits: Vec<&Kit> = std::iter::once(&first).chain(&second).collect();
    let measured = compare(&kits, share)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&measured)?);
    } else {
        print(&measured);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(measured: &[Measured]) {
    let Some(first) = measured.first() else { return };
    println!("{} faces a frame, {} frames, {}", first.boxes, first.frames, first.world);
    let row = |label: &str, value: &dyn Fn(&Measured) -> f64, digits: usize, unit: &str| {
        let mut line = format!("{label:<22}");
        for m in measured {
            line += &format!(" {:>14.digits$} {unit:<4}", value(m));
        }
        if let [a, b] = measured
            && value(b) > 0.0
        {
            line += &format!("  x {:.2}", value(a) / value(b));
        }
        println!("{}", line.trim_end());
    };
    let mut head = format!("{:<22}", "");
    for m in measured {
        let name = std::path::Path::new(&m.guest).file_name().and_then(|n| n.to_str()).unwrap_or(&m.guest);
        head += &format!(" {name:>14}     ");
    }
    println!("{}", head.trim_end());
    row("a frame, p50", &|m| m.p50_us, 1, "us");
    row("a frame, p99", &|m| m.p99_us, 1, "us");
    row("a frame, slowest", &|m| m.max_us, 1, "us");
    row("fuel a frame", &|m| m.fuel_per_frame as f64, 0, "");
    row("core at 30 frames/s", &|m| m.core_share_at_30_fps * 100.0, 3, "%");
    row("peak memory", &|m| m.peak_memory_bytes as f64 / 1024.0, 0, "KiB");
    row("instantiate, p50", &|m| m.instantiate_p50_us, 1, "us");
    row("instantiate, p99", &|m| m.instantiate_p99_us, 1, "us");
    row("component", &|m| m.component_bytes as f64 / 1024.0, 0, "KiB");
    row("compile", &|m| m.compile_ms, 0, "ms");
}
