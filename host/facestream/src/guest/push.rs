//! `facestream guest push`: a component into the store of a running host.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::Value;

/// Compiling a large component takes minutes; the host gives up after `server.slow_request_timeout_ms`.
const PATIENCE: Duration = Duration::from_secs(600);
/// Longest answer that is read.
const MAX_ANSWER_BYTES: u64 = 1 << 20;

/// `facestream guest push`.
#[derive(Debug, Args)]
pub struct PushArgs {
    /// The component
    pub file: PathBuf,
    /// Name of the guest
    #[arg(long)]
    pub name: String,
    /// Its version; a name and a version stand for the same bytes for ever
    #[arg(long)]
    pub version: String,
    /// The host
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub url: String,
    /// Token of the role guest-admin; in the environment other users of this machine do not see it
    #[arg(long, env = "FACESTREAM_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Signature (`facestream guest sign`)
    #[arg(long, value_name = "FILE.sig")]
    pub sig: Option<PathBuf>,
    /// Print the host's answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Uploads and says what the host made of it.
///
/// # Errors
/// When the host is not reached or refuses: its own words.
pub fn run(args: &PushArgs) -> anyhow::Result<ExitCode> {
    let base = args.url.trim_end_matches('/');
    ensure!(
        base.starts_with("http://"),
        "--url must begin with http://; a host behind TLS is reached with `curl --data-binary @FILE -H 'content-type: application/wasm' '{base}/api/v1/guests?name=…&version=…'`"
    );
    let bytes = std::fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let signature = match &args.sig {
        Some(path) => Some(std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?),
        None => None,
    };
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .timeout_connect(Some(Duration::from_secs(10)))
        // A refusal has words that are wanted; and a token goes to the host that was named, nowhere else.
        .http_status_as_error(false)
        .max_redirects(0)
        .build();
    let mut request = ureq::Agent::new_with_config(config)
        .post(format!("{base}/api/v1/guests"))
        .query("name", &args.name)
        .query("version", &args.version)
        .content_type("application/wasm");
    if let Some(signature) = &signature {
        request = request.query("signature", signature.trim());
    }
    if let Some(token) = &args.token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let mut answer =
        request.send(&bytes[..]).with_context(|| format!("no answer from {base}; is the host running?"))?;
    let status = answer.status();
    let text = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_string()?;
    let body: Value =
        serde_json::from_str(&text).with_context(|| format!("{base} answered {status}, not as a host"))?;
    if !status.is_success() {
        let said = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let errors = body["errors"].as_array().into_iter().flatten();
        let each: Vec<String> = errors.filter_map(|e| e["detail"].as_str().map(str::to_owned)).collect();
        bail!("{}: {} {}", said("title"), said("detail"), each.join("; "));
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&body)?);
    } else {
        let told = if status == 201 { "stored" } else { "was stored already" };
        println!("{}@{} {told} as {}", args.name, args.version, body["digest"].as_str().unwrap_or_default());
    }
    Ok(ExitCode::SUCCESS)
}
