//! Settings of ingest, with defaults that work without a file.
//!
//! Owns names, units, defaults and their checks. Must not read files or the environment.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// How cameras are reached, watched and retried. One for the whole host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IngestConfig {
    /// From the start of the TCP connection to the answer to PLAY, milliseconds.
    pub connect_timeout_ms: u64,
    /// From PLAY to the first decoded frame, milliseconds. Longer than `watchdog_ms`: a camera may finish a group of
    /// pictures (10 s are common) before it sends a key frame.
    pub first_frame_timeout_ms: u64,
    /// A camera without a decoded frame for so long is connected anew, milliseconds.
    pub watchdog_ms: u64,
    /// The same for cameras with `keyframes_only`, of which only key frames are decoded, milliseconds. "Smart" codings
    /// stretch groups of pictures far beyond 10 s.
    pub keyframe_watchdog_ms: u64,
    /// The shortest wait before a retry, milliseconds.
    pub backoff_min_ms: u64,
    /// The longest wait before a retry, milliseconds.
    pub backoff_max_ms: u64,
    /// Connects a second, all cameras of this host together.
    pub connects_per_second: u32,
    /// How long a stopping or reconnecting camera may take to answer TEARDOWN, milliseconds.
    pub teardown_timeout_ms: u64,
    /// Access units that may wait for a camera's decoder.
    pub queue_access_units: usize,
    /// An access unit above this size ends its session, bytes.
    pub max_access_unit_bytes: usize,
    /// A camera's own clock (RTCP sender reports) is believed while it is this close to the host's, milliseconds.
    pub camera_clock_tolerance_ms: u64,
    /// Which addresses cameras may have.
    pub addresses: AddressConfig,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 10_000,
            first_frame_timeout_ms: 20_000,
            watchdog_ms: 10_000,
            keyframe_watchdog_ms: 60_000,
            backoff_min_ms: 1_000,
            backoff_max_ms: 30_000,
            connects_per_second: 20,
            teardown_timeout_ms: 1_000,
            queue_access_units: 64,
            max_access_unit_bytes: 16 << 20,
            camera_clock_tolerance_ms: 5_000,
            addresses: AddressConfig::default(),
        }
    }
}

/// Which addresses cameras may have. Cameras live on private networks, so these are not refused by default; what no
/// camera ever has (unspecified, multicast, link-local, cloud metadata) is refused whatever is set here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AddressConfig {
    /// URL schemes; only `rtsp` is implemented.
    pub allow_schemes: Vec<String>,
    /// Host names; `*.example.org` stands for every name below it. Empty: any name. An address written as digits need
    /// not be listed when `allow_cidrs` covers it.
    pub allow_hosts: Vec<String>,
    /// Networks that the resolved address must lie in, such as `192.168.10.0/24`. Empty: any.
    pub allow_cidrs: Vec<IpNet>,
    /// TCP ports. Empty: any.
    pub allow_ports: Vec<u16>,
    /// Whether cameras may be on this machine itself (127.0.0.0/8, ::1), as simulated ones are.
    pub allow_loopback: bool,
}

impl Default for AddressConfig {
    fn default() -> Self {
        Self {
            allow_schemes: vec!["rtsp".to_owned()],
            allow_hosts: Vec::new(),
            allow_cidrs: Vec::new(),
            allow_ports: Vec::new(),
            allow_loopback: false,
        }
    }
}

/// An hour: any timeout above it is a typing error rather than a wish.
const LONGEST_MS: u64 = 3_600_000;

impl IngestConfig {
    /// Every problem, one line each, empty when there is none.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let times = [
            ("connect_timeout_ms", self.connect_timeout_ms, 100),
            ("first_frame_timeout_ms", self.first_frame_timeout_ms, 100),
            ("watchdog_ms", self.watchdog_ms, 100),
            ("keyframe_watchdog_ms", self.keyframe_watchdog_ms, 100),
            ("backoff_min_ms", self.backoff_min_ms, 10),
            ("backoff_max_ms", self.backoff_max_ms, 10),
            ("teardown_timeout_ms", self.teardown_timeout_ms, 0),
            ("camera_clock_tolerance_ms", self.camera_clock_tolerance_ms, 0),
        ];
        for (name, value, least) in times {
            if !(least..=LONGEST_MS).contains(&value) {
                problems.push(format!("{name} = {value}: must be {least} to {LONGEST_MS}"));
            }
        }
        if self.backoff_min_ms > self.backoff_max_ms {
            problems.push(format!(
                "backoff_min_ms = {} is above backoff_max_ms = {}",
                self.backoff_min_ms, self.backoff_max_ms
            ));
        }
        if self.first_frame_timeout_ms < self.watchdog_ms {
            problems.push(format!(
                "first_frame_timeout_ms = {} is below watchdog_ms = {}; the first frame takes longer than later ones",
                self.first_frame_timeout_ms, self.watchdog_ms
            ));
        }
        if !(1..=10_000).contains(&self.connects_per_second) {
            problems.push(format!("connects_per_second = {}: must be 1 to 10000", self.connects_per_second));
        }
        if !(2..=4_096).contains(&self.queue_access_units) {
            problems.push(format!("queue_access_units = {}: must be 2 to 4096", self.queue_access_units));
        }
        if !(64 << 10..=256 << 20).contains(&self.max_access_unit_bytes) {
            problems.push(format!(
                "max_access_unit_bytes = {}: must be 65536 (64 KiB) to 268435456 (256 MiB)",
                self.max_access_unit_bytes
            ));
        }
        problems.extend(self.addresses.validate().into_iter().map(|p| format!("addresses.{p}")));
        problems
    }
}

impl AddressConfig {
    /// Every problem, one line each, empty when there is none.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.allow_schemes.is_empty() {
            problems.push("allow_schemes is empty: no camera could be started; write [\"rtsp\"]".to_owned());
        }
        for scheme in self.allow_schemes.iter().filter(|s| *s != "rtsp") {
            problems.push(format!("allow_schemes: `{scheme}` is not supported; only `rtsp` is"));
        }
        for host in &self.allow_hosts {
            let name = host.strip_prefix("*.").unwrap_or(host);
            let name = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
            let written = name.parse::<std::net::IpAddr>().is_ok()
                || (!name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
            if !written {
                problems.push(format!(
                    "allow_hosts: `{host}` is no host name; write `cam1.example.org`, `*.example.org` or an address"
                ));
            }
        }
        if self.allow_ports.contains(&0) {
            problems.push("allow_ports: 0 is no port".to_owned());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_has_no_problem_and_needs_no_file() {
        let config: IngestConfig = toml::from_str("").unwrap();
        assert_eq!(config, IngestConfig::default());
        assert_eq!(config.validate(), Vec::<String>::new());
        let again: IngestConfig = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
        assert_eq!(again, config);
    }

    #[test]
    fn unknown_keys_and_bad_networks_are_refused() {
        for bad in ["watchdog = 3", "[addresses]\nallow_cidr = []", "[addresses]\nallow_cidrs = ['10.0.0.0/33']"] {
            assert!(toml::from_str::<IngestConfig>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let config = IngestConfig {
            connect_timeout_ms: 0,
            first_frame_timeout_ms: 5_000,
            backoff_min_ms: 40_000,
            connects_per_second: 0,
            queue_access_units: 1,
            max_access_unit_bytes: 1,
            addresses: AddressConfig {
                allow_schemes: vec!["rtsps".into()],
                allow_hosts: vec!["rtsp://cam/".into()],
                allow_ports: vec![0],
                ..AddressConfig::default()
            },
            ..IngestConfig::default()
        };
        let problems = config.validate();
        for word in [
            "connect_timeout_ms",
            "first_frame_timeout_ms",
            "backoff_min_ms",
            "connects_per_second",
            "queue_access_units",
            "max_access_unit_bytes",
            "`rtsps` is not supported",
            "allow_hosts",
            "allow_ports",
        ] {
            assert_eq!(problems.iter().filter(|p| p.contains(word)).count(), 1, "{word}: {problems:#?}");
        }
        assert_eq!(problems.len(), 9);
    }
}
