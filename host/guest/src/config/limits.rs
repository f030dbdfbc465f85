//! What one guest may use and return: the host's limits, and how far a camera may lift them.
//!
//! Owns names, defaults and ceilings, each written once.

use facestream_core::guest::Limits;
use serde::{Deserialize, Serialize};

use super::MIB;

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr, at most $ceiling:expr;)+) => {
        /// What one guest may use and return.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct GuestLimits {
            $($(#[$doc])* pub $name: $type),+
        }

        impl Default for GuestLimits {
            fn default() -> Self {
                Self { $($name: $default),+ }
            }
        }

        /// How far a camera may lift the limits of a slot: a request for more is refused. What `guests.limits` gives to
        /// everybody is allowed in any case.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct GuestCeilings {
            $($(#[$doc])* pub $name: $type),+
        }

        impl Default for GuestCeilings {
            fn default() -> Self {
                Self { $($name: $ceiling),+ }
            }
        }

        impl GuestLimits {
            /// These, but for what a slot asks for.
            pub(super) fn with(&self, wanted: &Limits) -> Self {
                Self { $($name: wanted.$name.unwrap_or(self.$name)),+ }
            }

            /// All of them, as a status shows them.
            #[must_use]
            pub fn all(&self) -> Limits {
                Limits { $($name: Some(self.$name)),+ }
            }
        }

        impl GuestCeilings {
            /// Each wish that is above: name, what was asked for, what is allowed.
            pub(super) fn exceeded_by(&self, wanted: &Limits) -> Vec<(&'static str, u64, u64)> {
                let all = [$((stringify!($name), wanted.$name.map(u64::from), u64::from(self.$name))),+];
                all.into_iter().filter_map(|(name, asked, most)| Some((name, asked.filter(|&a| a > most)?, most))).collect()
            }

            /// The wishes, none of them above.
            pub(super) fn cut(&self, wanted: &Limits) -> Limits {
                Limits { $($name: wanted.$name.map(|w| w.min(self.$name))),+ }
            }

            /// At least what these limits allow.
            pub(super) fn at_least(&self, limits: &GuestLimits) -> Self {
                Self { $($name: self.$name.max(limits.$name)),+ }
            }
        }
    };
}

limits! {
    /// Processor time one call may take.
    deadline_ms: u32 = 20, at most 500;
    /// Time on the wall that one call may take, for a guest whose thread was kept waiting by others. At least
    /// `deadline_ms`; the processor time decides on a machine that is not overloaded.
    wall_deadline_ms: u32 = 400, at most 2_000;
    /// Time on the wall that instantiation and the first `configure` may take: start-up code of interpreted languages.
    start_deadline_ms: u32 = 2_000, at most 10_000;
    /// All linear memories and tables of an instance together.
    max_memory_bytes: u64 = 64 * MIB, at most 512 * MIB;
    /// Bytes of pictures that an instance holds as crops.
    max_crop_bytes: u64 = 32 * MIB, at most 256 * MIB;
    /// Log lines a second; more are counted and left out.
    max_log_lines_per_s: u32 = 20, at most 200;
    /// Bytes of one log line; more are cut off.
    max_log_line_bytes: u32 = 4096, at most 65_536;
    /// Live tracks that a tracker may return.
    max_tracks: u32 = 4096, at most 16_384;
    /// Shots that one call of a scorer may return, or hold in its neutral state.
    max_shots: u32 = 512, at most 4096;
    /// Messages that one call of a formatter may return.
    max_messages: u32 = 64, at most 1024;
    /// Bytes of one message's payload. Kafka's default for a whole message is 1,000,000 (librdkafka) to 1,048,588
    /// (broker); the rest is room for key and headers.
    max_message_bytes: u32 = 990_000, at most 16 * 1024 * 1024;
    /// Bytes of saved state.
    max_state_bytes: u32 = 4 * 1024 * 1024, at most 64 * 1024 * 1024;
    /// Processor time of all calls within a second of the frames' clock. More is a failure. Well above what a camera's
    /// frames can need, because the end of a crowd is many calls at once.
    max_cpu_ms_per_s: u32 = 4_000, at most 20_000;
    /// Calls of the host's functions (pictures, log, print) within a second of the frames' clock. More is a failure.
    max_host_calls_per_s: u32 = 100_000, at most 1_000_000;
    /// Bytes of log text handed over within a second of the frames' clock, written or left out. More is a failure.
    max_log_bytes_per_s: u32 = 1024 * 1024, at most 16 * 1024 * 1024;
    /// Bytes of pictures asked for (crops, grey, RGB and JPEG copies) within a second of the frames' clock. More is a
    /// failure.
    max_crop_bytes_per_s: u64 = 512 * MIB, at most 4096 * MIB;
}

impl GuestLimits {
    /// What makes no sense: the limit's name and a sentence.
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let positive = [
            ("deadline_ms", u64::from(self.deadline_ms)),
            ("start_deadline_ms", self.start_deadline_ms.into()),
            ("max_memory_bytes", self.max_memory_bytes),
            ("max_tracks", self.max_tracks.into()),
            ("max_messages", self.max_messages.into()),
            ("max_message_bytes", self.max_message_bytes.into()),
            ("max_cpu_ms_per_s", self.max_cpu_ms_per_s.into()),
        ];
        for (name, _) in positive.into_iter().filter(|(_, value)| *value == 0) {
            problems.push((name, "is 0; a guest could do nothing".to_owned()));
        }
        if self.wall_deadline_ms < self.deadline_ms {
            let (wall, cpu) = (self.wall_deadline_ms, self.deadline_ms);
            problems.push(("wall_deadline_ms", format!("({wall}) is below deadline_ms ({cpu})")));
        }
        problems
    }

    /// Every problem, each key prefixed by `section`.
    #[must_use]
    pub fn validate(&self, section: &str) -> Vec<String> {
        self.problems().into_iter().map(|(name, problem)| format!("{section}.{name} {problem}")).collect()
    }

    /// Bytes that a guest may hand over in one call, all strings and lists together. Wasmtime counts them while it
    /// reads, so that a list of a million strings that all lie on the same megabyte does not become a terabyte here.
    #[must_use]
    pub(crate) fn transfer_bytes(&self) -> usize {
        let messages = u64::from(self.max_messages.min(16)) * u64::from(self.max_message_bytes);
        let tracks = u64::from(self.max_tracks) * 256;
        let all = messages + tracks + u64::from(self.max_state_bytes) + MIB;
        usize::try_from(all).unwrap_or(usize::MAX)
    }
}
