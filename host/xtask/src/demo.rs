//! `cargo xtask demo`: the whole system as a user would run it, with processes of its own and plain HTTP.
//!
//! Owns the choreography: simulated cameras, host, REST calls, the live table, the swap, the summary. Uses nothing
//! of the host but its command line and its REST interface, so that what it shows is what a user gets.

mod api;
mod process;
mod report;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::{assets, setup, shell};
use api::Api;
use process::Process;
use report::Summary;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Simulated cameras
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=500))]
    cameras: u32,
    /// How long the cameras run
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(5..=86_400))]
    seconds: u64,
    /// Skip set-up (everything was built before)
    #[arg(long)]
    no_setup: bool,
}

pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<()> {
    if !args.no_setup {
        setup::run(root)?;
    }
    let out = root.join("target/demo");
    if out.exists() {
        std::fs::remove_dir_all(&out).with_context(|| format!("could not empty {}", out.display()))?;
    }
    // Closed to others, as the host wants the folder that it keeps addresses and pictures in.
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&out)?;

    shell::say(&format!("{} simulated cameras: a real RTSP server with digest authentication", args.cameras));
    let clip = assets(root).join("clips/demo.mp4");
    let (mut cameras, urls) = process::simulator(root, &out, &clip, args.cameras)?;

    shell::say("the host: facestream serve");
    let (mut host, address) = process::host(root, &out)?;
    let api = Api::new(&address);
    api.wait_ready(&mut host, Duration::from_secs(60))?;
    eprintln!("   dashboard and API: http://{address}/   log: target/demo/host.log");

    shell::say("starting the cameras: POST /camera/start");
    let ids: Vec<String> = (1..=args.cameras).map(|n| format!("cam-{n}")).collect();
    for (id, url) in ids.iter().zip(&urls) {
        api.start(id, url)?;
    }

    let swap = watch(&api, &mut host, &mut cameras, args, &ids, &assets(root).join("examples/steady-shot.wasm"))?;

    shell::say("stopping: POST /camera/stop, then the host");
    // Before the stop: a stopped camera is no longer listed.
    let last = api.cameras()?;
    for id in &ids {
        api.stop(id)?;
    }
    let accepted = api.settle(Duration::from_secs(20))?;
    host.stop(Duration::from_secs(30))?;
    cameras.stop(Duration::from_secs(10))?;

    let summary = Summary::collect(&out, &last, &accepted, swap)?;
    report::finish(&out, &summary)?;
    let mute = summary.mute_cameras(&ids);
    if !mute.is_empty() {
        bail!("no frames or no messages from {}: see target/demo/host.log", mute.join(", "));
    }
    if summary.lost > 0 {
        bail!("{} messages were accepted but not delivered", summary.lost);
    }
    Ok(())
}

/// Shows the table until time is up; half way it replaces the scorer of the second camera.
fn watch(
    api: &Api,
    host: &mut Process,
    cameras: &mut Process,
    args: &Args,
    ids: &[String],
    component: &Path,
) -> anyhow::Result<Option<serde_json::Value>> {
    let start = Instant::now();
    let end = start + Duration::from_secs(args.seconds);
    let half = start + Duration::from_secs(args.seconds) / 2;
    let mut table = report::Table::default();
    let mut swap = None;
    while Instant::now() < end {
        host.check()?;
        cameras.check()?;
        if swap.is_none() && Instant::now() >= half {
            let id = ids.get(1).or(ids.first()).context("there is at least one camera")?;
            // The example of the guests' guide, uploaded to the running host first.
            api.upload("steady-shot", "0.1.0", &std::fs::read(component).context("the example scorer is missing")?)?;
            let answer = api.swap_scorer(id, "steady-shot@0.1.0")?;
            table.note(&format!(
                "the scorer of {id} is now steady-shot: state carried over: {}, guests stood still for {} us",
                answer["state"].as_str().unwrap_or("?"),
                answer["pause_us"]
            ));
            swap = Some(answer);
        }
        table.show(&api.cameras()?, start.elapsed());
        std::thread::sleep(Duration::from_secs(1).min(end.saturating_duration_since(Instant::now())));
    }
    table.end(&api.cameras()?, start.elapsed());
    Ok(swap)
}
