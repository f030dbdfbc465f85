//! The command line: what can be typed. Each command's work is in a module of its own.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Video analytics whose tracking, scoring and messages are sandboxed WebAssembly, replaced while cameras run.
#[derive(Debug, Parser)]
#[command(name = "facestream", version, about, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service: cameras, REST, dashboard
    Serve(ServeArgs),
    /// Analyse video files or RTSP streams and print what is found as JSON lines
    Run(RunArgs),
    /// Serve a video file as simulated RTSP cameras
    Sim(SimArgs),
    /// Say what works on this machine, what does not, and what to do
    Doctor(DoctorArgs),
    /// Measure this machine
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Compile a component for the host that asks: the host runs this itself
    #[command(hide = true, name = facestream_guest_host::COMPILE_COMMAND)]
    CompileGuest {
        /// Engine, kind, bounds
        arguments: Vec<String>,
    },
    /// Work with guests (WebAssembly components)
    #[command(subcommand)]
    Guest(GuestCommand),
}

/// `facestream bench`.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// What an NVIDIA GPU carries: decoding, preprocessing, inference, and whole cameras through real guests
    Gpu(crate::bench::BenchGpuArgs),
}

/// `facestream serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Configuration file; defaults hold without one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of REST and dashboard (overrides the configuration)
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Folder of everything it keeps: state, guests, caches, messages (overrides the configuration)
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Only check the configuration; says every problem at once
    #[arg(long)]
    pub check: bool,
}

/// What `facestream run` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Emit {
    /// A line per analysed frame: boxes, scores, landmarks
    Detections,
    /// A line per analysed frame: tracks with ids, and the ids that ended
    Tracks,
    /// A line per shot that the scorer gave up
    Shots,
    /// A line per message that the formatter wrote
    Messages,
}

/// `facestream run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Video files, or rtsp:// addresses
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<String>,
    /// yunet, centerface, or an ONNX file
    #[arg(long, default_value = "yunet")]
    pub model: String,
    /// Tracker: a guest's name or a component file
    #[arg(long, default_value = "botsort", value_name = "GUEST")]
    pub tracker: String,
    /// Its settings, as a JSON object
    #[arg(long, default_value = "{}", value_name = "JSON")]
    pub tracker_config: String,
    /// Scorer: a guest's name or a component file
    #[arg(long, default_value = "best-shot", value_name = "GUEST")]
    pub scorer: String,
    /// Its settings, as a JSON object
    #[arg(long, default_value = "{}", value_name = "JSON")]
    pub scorer_config: String,
    /// Formatter: a guest's name or a component file
    #[arg(long, default_value = "gate-and-mega", value_name = "GUEST")]
    pub formatter: String,
    /// Its settings, as a JSON object
    #[arg(long, default_value = "{}", value_name = "JSON")]
    pub formatter_config: String,
    /// What to print, comma-separated
    #[arg(long, value_enum, value_delimiter = ',', default_value = "messages")]
    pub emit: Vec<Emit>,
    /// Also write tracks as MOTChallenge rows
    #[arg(long, value_name = "FILE")]
    pub mot: Option<PathBuf>,
    /// Where the lines go; `-` is standard output
    #[arg(long, default_value = "-", value_name = "FILE|-")]
    pub out: String,
    /// Processor threads of inference; default: all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Analyse so many frames a second of video; default: all
    #[arg(long, value_name = "FPS")]
    pub detect_fps: Option<f32>,
    /// Estimate the camera's own motion and tell the tracker: for cameras that pan, tilt, zoom or shake
    #[arg(long)]
    pub camera_motion: bool,
    /// Report detections from this score on; default: the model's own
    #[arg(long, value_name = "SCORE")]
    pub score_threshold: Option<f32>,
    /// Streams: stop after so many seconds; without it they run until interrupted
    #[arg(long, value_name = "N")]
    pub seconds: Option<u64>,
    /// Configuration file, for its sections infer, guests and ingest
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// No progress bar
    #[arg(long, short)]
    pub quiet: bool,
}

/// `facestream sim`.
#[derive(Debug, Args)]
pub struct SimArgs {
    /// H.264 or H.265 video file
    pub clip: PathBuf,
    /// How many cameras show it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub cameras: u32,
    /// Where the RTSP server listens
    #[arg(long, default_value = "127.0.0.1:8554", value_name = "ADDR:PORT")]
    pub listen: SocketAddr,
    /// Ask for user and password (digest authentication)
    #[arg(long, value_name = "USER:PASSWORD", env = "FACESTREAM_SIM_USER", hide_env_values = true)]
    pub user: Option<String>,
}

/// `facestream doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Configuration file to check against
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `facestream guest …`: the arguments of each are beside its work.
#[derive(Debug, Subcommand)]
pub enum GuestCommand {
    /// Make the folder of a new guest, which builds and tests at once
    New(crate::guest::new::NewArgs),
    /// Build a guest's folder to a component
    Build(crate::guest::build::BuildArgs),
    /// Test a guest against the contract: named cases, no camera needed
    Test(crate::guest::test::TestArgs),
    /// Measure what a guest costs
    Bench(crate::guest::bench::BenchArgs),
    /// Say what a guest is and what it can reach
    Inspect(crate::guest::inspect::InspectArgs),
    /// Run a recording of a guest's calls again, on that guest or another one
    Replay(crate::guest::replay::ReplayArgs),
    /// Run one guest over a video, with built-in guests in the other slots
    Run(crate::guest::run::GuestRunArgs),
    /// Run the tests of a guest's crate, compiled to WebAssembly, in the sandbox
    RunTests(crate::guest::run_tests::RunTestsArgs),
    /// Make a pair of keys for signing guests
    Keygen(crate::guest::keygen::KeygenArgs),
    /// Sign a guest for hosts that take signed ones only
    Sign(crate::guest::sign::SignArgs),
    /// Put a guest into the store of a running host, or into an OCI registry
    Push(crate::guest::push::PushArgs),
    /// Get a guest out of an OCI registry into a file
    Pull(crate::guest::pull::PullArgs),
    /// Run a tracker over a MOTChallenge detection file
    Track(crate::guest::track::TrackArgs),
}
