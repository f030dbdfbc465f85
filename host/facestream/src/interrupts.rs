//! The signals that end a command.
//!
//! Owns catching them and what the second one means. What is stopped, and how, is the commands' affair.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code when a second signal did not let a command stop in order.
const AT_ONCE: i32 = 130;

/// SIGINT, SIGTERM and SIGHUP, caught from the moment this is made: before, either ends the process on the spot.
pub(crate) struct Interrupts {
    term: Signal,
    int: Signal,
    /// A terminal that is closed ends its commands in order, too; `nohup` has it ignored, and so it stays.
    hup: Option<Signal>,
}

/// Whether this process was started with a signal ignored.
fn is_ignored(signal: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:")).map(str::trim);
    let mask = mask.and_then(|m| u64::from_str_radix(m, 16).ok()).unwrap_or(0);
    mask >> (signal.as_raw_value() - 1) & 1 == 1
}

impl Interrupts {
    /// Begins to catch them. Needs the async runtime.
    ///
    /// # Errors
    /// When the system refuses to tell of signals.
    pub(crate) fn catch() -> std::io::Result<Self> {
        let hup = SignalKind::hangup();
        let hup = if is_ignored(hup) { None } else { Some(signal(hup)?) };
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())?, hup })
    }

    /// Is cancelled when the process is told to stop. Told once more, it ends at once: whoever asks twice does not want to
    /// wait. `lost` says what that costs. Needs the async runtime, which must go on running.
    pub(crate) fn told_to_stop(mut self, lost: &'static str) -> CancellationToken {
        let told = CancellationToken::new();
        let tell = told.clone();
        tokio::spawn(async move {
            self.next().await;
            tell.cancel();
            self.next().await;
            tracing::warn!("told to stop once more: ending at once; {lost}");
            std::process::exit(AT_ONCE);
        });
        told
    }

    /// Waits for the next one, or returns at once when one has come since.
    pub(crate) async fn next(&mut self) {
        let hup = async {
            match &mut self.hup {
                Some(hup) => hup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = hup => tracing::info!("SIGHUP: stopping"),
            _ = self.term.recv() => tracing::info!("SIGTERM: stopping"),
            _ = self.int.recv() => tracing::info!("SIGINT: stopping"),
        }
    }
}
