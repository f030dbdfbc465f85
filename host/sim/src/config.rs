//! Settings of the simulator.
//!
//! Owns defaults and their check. They come from the command line and from tests, not from a file: that is why nothing
//! here is deserialised.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use facestream_core::{Clock, SystemClock};
use secrecy::SecretString;

use crate::faults::CameraFaults;

/// Settings of a [`crate::Simulator`]. `SimConfig::default()` serves one camera on a free loopback port, without
/// authentication, for ever.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Number of cameras, 1 to 10,000.
    pub cameras: usize,
    /// Path of a camera; `{n}` becomes its number, from 1.
    pub path: String,
    /// User name and password; `None` lets everybody in.
    pub credentials: Option<Credentials>,
    /// How the password is asked for.
    pub auth: Auth,
    /// Begin again after the last picture, with continuous timestamps. Otherwise a session ends with RTCP BYE and the
    /// connection is closed.
    pub repeat: bool,
    /// Cameras begin with different key frames and send at different moments. Off: all begin with the first picture of the
    /// clip at PLAY, so that a test knows what comes.
    pub stagger: bool,
    /// Multiplies the frame rate, for load tests; 0.01 to 1000. RTP timestamps stay true to the clock on the wall.
    pub speed: f64,
    /// Sends fall on a grid of this many milliseconds, so that one wake-up serves many cameras; 1 to 100.
    pub tick_ms: u64,
    /// What a client may lag behind before pictures up to the next key frame are dropped, milliseconds.
    pub backlog_ms: u64,
    /// Send buffer of a client's connection in the kernel, bytes: pictures there are beyond the reach of `backlog_ms`.
    pub send_buffer_bytes: usize,
    /// A session ends after so many seconds without request or receiver report, as RFC 2326 says.
    pub session_timeout_s: u64,
    /// How often a sender report goes out, milliseconds.
    pub report_interval_ms: u64,
    /// Largest request, head and body together.
    pub max_request_bytes: usize,
    /// Connections at a time; more are closed at once.
    pub max_connections: usize,
    /// Seed of sequence numbers, timestamps, SSRCs and of packet loss; equal seeds behave equally. Secrets do not depend
    /// on it.
    pub seed: u64,
    /// What cameras (by number from 0) do wrong from the start; see [`crate::Control`] for later.
    pub faults: BTreeMap<usize, CameraFaults>,
    /// Wall clock of sender reports.
    pub clock: Arc<dyn Clock>,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            cameras: 1,
            path: "/cam{n}".to_owned(),
            credentials: None,
            auth: Auth::default(),
            repeat: true,
            stagger: true,
            speed: 1.0,
            tick_ms: 5,
            backlog_ms: 2000,
            send_buffer_bytes: 512 * 1024,
            session_timeout_s: 60,
            report_interval_ms: 5000,
            max_request_bytes: 16 * 1024,
            max_connections: 4096,
            seed: 1,
            faults: BTreeMap::new(),
            clock: Arc::new(SystemClock::default()),
        }
    }
}

impl SimConfig {
    /// Every contradiction, in words; empty when there is none. `clips` is how many clips are served.
    #[must_use]
    pub fn validate(&self, clips: usize) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |ok: bool, problem: &str| {
            if !ok {
                problems.push(problem.to_owned());
            }
        };
        check(clips > 0, "at least one clip is needed");
        check((1..=10_000).contains(&self.cameras), "cameras must be 1 to 10000");
        let sane = self.path.starts_with('/') && !self.path.ends_with('/');
        check(
            sane && self.path.bytes().all(|b| b.is_ascii_graphic() && !b"?#%\"<>\\".contains(&b)),
            "path must begin with `/`, not end with it, and be printable ASCII without ? # % \" < > \\",
        );
        check(
            self.cameras == 1 || self.path.contains("{n}"),
            "path must contain {n} when there is more than one camera",
        );
        check((0.01..=1000.0).contains(&self.speed), "speed must be 0.01 to 1000");
        check((1..=100).contains(&self.tick_ms), "tick_ms must be 1 to 100");
        check((1..=600_000).contains(&self.backlog_ms), "backlog_ms must be 1 to 600000");
        check((4096..=1 << 28).contains(&self.send_buffer_bytes), "send_buffer_bytes must be 4 KiB to 256 MiB");
        check((2..=86_400).contains(&self.session_timeout_s), "session_timeout_s must be 2 to 86400");
        check((10..=3_600_000).contains(&self.report_interval_ms), "report_interval_ms must be 10 to 3600000");
        check((1024..=1 << 20).contains(&self.max_request_bytes), "max_request_bytes must be 1 KiB to 1 MiB");
        check(self.max_connections > 0, "max_connections must be above 0");
        if let Some(credentials) = &self.credentials {
            let fine = |c: char| c != '"' && c != '\\' && !c.is_control();
            check(
                !credentials.user.is_empty() && credentials.user.chars().all(|c| fine(c) && c != ':'),
                "the user name must not be empty nor have : \" \\ or control characters",
            );
        }
        for (&camera, faults) in &self.faults {
            check(
                camera < self.cameras,
                &format!("faults name camera {camera}, but there are {} (from 0)", self.cameras),
            );
            for problem in faults.problems(clips) {
                check(false, &format!("faults of camera {camera}: {problem}"));
            }
        }
        problems
    }
}

/// What clients must know to be let in. `Debug` shows neither.
#[derive(Clone)]
pub struct Credentials {
    /// User name.
    pub user: String,
    /// Password.
    pub password: SecretString,
}

impl Credentials {
    /// From clear text.
    #[must_use]
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: SecretString::from(password.into()) }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

/// How a password is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// In clear text (RFC 7617), as the cheapest cameras do.
    Basic,
    /// As a hash over a nonce.
    Digest {
        /// The hash.
        algorithm: DigestAlgorithm,
        /// Offer `qop="auth"` (RFC 2617); without, clients answer in the old way of RFC 2069.
        qop: bool,
        /// Seconds that a nonce is good for; after that clients are told `stale=true`.
        nonce_lifetime_s: u64,
    },
}

impl Default for Auth {
    fn default() -> Self {
        Self::Digest { algorithm: DigestAlgorithm::Md5, qop: true, nonce_lifetime_s: 300 }
    }
}

/// Hash of digest authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestAlgorithm {
    /// RFC 2617; what nearly all cameras have.
    Md5,
    /// RFC 7616.
    Sha256,
}

impl DigestAlgorithm {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::{FaultEvent, ScriptedFault};

    #[test]
    fn the_default_is_valid_and_every_problem_is_told() {
        assert_eq!(SimConfig::default().validate(1), Vec::<String>::new());
        let faults = CameraFaults {
            clip: 3,
            lose_one_in: 1,
            script: vec![ScriptedFault { after_units: 2, event: FaultEvent::SwitchClip(9) }],
            ..CameraFaults::default()
        };
        let bad = SimConfig {
            cameras: 2,
            path: "cam?".to_owned(),
            speed: f64::NAN,
            tick_ms: 0,
            session_timeout_s: 0,
            credentials: Some(Credentials::new("a:b", "canary-password")),
            faults: BTreeMap::from([(7, faults)]),
            ..SimConfig::default()
        };
        let problems = bad.validate(1);
        assert_eq!(problems.len(), 10, "{problems:#?}");
        assert!(!format!("{bad:?}").contains("canary"));
    }
}
