//! `facestream sim`: a video file as simulated RTSP cameras.

use std::process::ExitCode;

use anyhow::Context as _;
use facestream_sim::{Clip, SimConfig, Simulator};

use crate::cli::SimArgs;

/// Prints one address a camera, then serves until interrupted.
///
/// # Errors
/// When the clip cannot be read or the address is taken.
pub fn run(args: &SimArgs) -> anyhow::Result<ExitCode> {
    crate::logging::start(false, "warn");
    let clip = Clip::open(&args.clip).with_context(|| format!("cannot serve {}", args.clip.display()))?;
    let credentials = args.user.as_deref().map(|text| {
        text.split_once(':').context("--user takes USER:PASSWORD").map(|(user, password)| (user.to_owned(), password.to_owned()))
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut config = SimConfig::new(args.listen, args.cameras as usize);
        if let Some(credentials) = credentials.transpose()? {
            config = config.with_credentials(credentials.0, credentials.1);
        }
        let simulator = Simulator::start(config, clip).await?;
        for url in simulator.urls_with_credentials() {
            println!("{url}");
        }
        crate::logging::until_interrupted().await?;
        simulator.shutdown().await;
        Ok(ExitCode::SUCCESS)
    })
}
