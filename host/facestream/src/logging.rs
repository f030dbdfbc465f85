//! Log lines: where they go and how they look. Also the signals that end a command.

use std::io::IsTerminal as _;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Sends log lines to standard error, so that standard output stays the command's own. `RUST_LOG` wins over `level`.
pub(crate) fn start(json: bool, level: &str) {
    let mut filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    // Last, so that it wins: the RTSP library's own lines can hold addresses.
    if let Ok(directive) = facestream_ingest::LOG_DIRECTIVE.parse() {
        filter = filter.add_directive(directive);
    }
    let colours = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    let set = if json { builder.json().try_init() } else { builder.try_init() };
    if set.is_err() {
        // A test process starts it more than once; the first one stays.
        tracing::debug!("logging was started already");
    }
}

/// SIGINT and SIGTERM, caught from the moment this is made: before, either ends the process on the spot.
pub(crate) struct Interrupts {
    term: Signal,
    int: Signal,
}

impl Interrupts {
    /// Begins to catch them. Needs the async runtime.
    ///
    /// # Errors
    /// When the system refuses to tell of signals.
    pub(crate) fn catch() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one, or returns at once when one has come since.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => tracing::info!("SIGTERM: stopping"),
            _ = self.int.recv() => tracing::info!("SIGINT: stopping"),
        }
    }
}
