//! Simulated cameras in the test's own process, so that a test can make them misbehave.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use facestream_sim::{Clip, Control, Credentials, SimConfig, Simulator};
use tokio::runtime::Runtime;

/// An RTSP server with some cameras; it ends when dropped.
#[derive(Debug)]
pub struct Cameras {
    control: Control,
    address: SocketAddr,
    login: String,
    // Dropped last: its threads carry the server.
    runtime: Runtime,
}

impl Cameras {
    /// Starts a server. With `login` (`user:password`) it asks for digest authentication.
    ///
    /// # Panics
    /// When a clip cannot be read or the settings contradict themselves.
    #[track_caller]
    #[must_use]
    pub fn start(clips: &[&Path], login: Option<&str>, config: SimConfig) -> Self {
        let load = |path: &&Path| Arc::new(Clip::load(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
        let clips: Vec<_> = clips.iter().map(load).collect();
        let credentials =
            login.and_then(|l| l.split_once(':')).map(|(user, password)| Credentials::new(user, password));
        let config = SimConfig { credentials, ..config };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap_or_else(|e| panic!("a runtime: {e}"));
        let simulator = runtime.block_on(Simulator::start(config, clips)).unwrap_or_else(|e| panic!("{e}"));
        let (control, address) = (simulator.control(), simulator.address());
        // It runs on its runtime's threads until they end.
        runtime.spawn(async move {
            let _simulator = simulator;
            std::future::pending::<()>().await;
        });
        Self { control, address, login: login.unwrap_or_default().to_owned(), runtime }
    }

    /// Address of camera `n` (from 0), credentials included.
    #[must_use]
    pub fn url(&self, n: usize) -> String {
        let at = if self.login.is_empty() { String::new() } else { format!("{}@", self.login) };
        format!("rtsp://{at}{}/cam{}", self.address, n + 1)
    }

    /// The same with other credentials.
    #[must_use]
    pub fn url_as(&self, login: &str, n: usize) -> String {
        format!("rtsp://{login}@{}/cam{}", self.address, n + 1)
    }

    /// Changes what cameras do wrong.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Refuses new connections, or takes them again on the same port.
    ///
    /// # Panics
    /// When the port was taken meanwhile.
    #[track_caller]
    pub fn set_listening(&self, listening: bool) {
        self.runtime.block_on(self.control.set_listening(listening)).unwrap_or_else(|e| panic!("{e}"));
    }
}
