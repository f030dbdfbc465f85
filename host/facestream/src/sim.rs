//! `facestream sim`: a video file as simulated RTSP cameras.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use facestream_sim::{Clip, Credentials, SimConfig, Simulator};
use secrecy::ExposeSecret as _;

use crate::cli::SimArgs;

/// Prints one address a camera, then serves until interrupted.
///
/// # Errors
/// When the clip cannot be read or the address is taken.
pub fn run(args: &SimArgs) -> anyhow::Result<ExitCode> {
    crate::logging::start(false, "warn");
    let clip = Clip::load(&args.clip).with_context(|| format!("cannot serve {}", args.clip.display()))?;
    let credentials = match args.user.as_deref().map(|text| text.split_once(':')) {
        None => None,
        Some(Some((user, password))) => Some(Credentials::new(user, password)),
        Some(None) => anyhow::bail!("--user takes USER:PASSWORD"),
    };
    let config = SimConfig { listen: args.listen, cameras: args.cameras as usize, credentials, ..SimConfig::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupts = crate::interrupts::Interrupts::catch()?;
        let simulator = Simulator::start(config, vec![Arc::new(clip)]).await?;
        for url in simulator.urls_with_credentials() {
            // The password was typed on this command line, and a client needs it: the one place that shows it.
            println!("{}", url.expose().expose_secret());
        }
        interrupts.next().await;
        simulator.shutdown().await;
        Ok(ExitCode::SUCCESS)
    })
}
