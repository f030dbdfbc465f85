//! Limits that one slot asks for.
//!
//! Owns the names. What they default to, and how far they may be lifted, the guest host's configuration says.

use serde::{Deserialize, Serialize};

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $type:ty),+ $(,)?) => {
        /// What one guest may use and return. In a wish each may be left out, and the host's own holds; in a status all
        /// are given.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Limits {
            $($(#[$doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $name: Option<$type>),+
        }

        impl Limits {
            /// Whether nothing is asked for.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                *self == Self::default()
            }

            /// Each limit that is given, by name.
            pub fn given(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name.map(u64::from))),+].into_iter().filter_map(|(n, v)| Some((n, v?)))
            }
        }
    };
}

/// Calls a macro with every limit: documentation, name and type of each, as in a struct. The list is here alone; whoever
/// shows limits in another form (the API's document) makes that of it too.
#[macro_export]
macro_rules! for_each_limit {
    ($callback:ident) => {
        $callback! {
            /// Processor time of one call, milliseconds.
            deadline_ms: u32,
            /// Time on the wall of one call, milliseconds.
            wall_deadline_ms: u32,
            /// Time that instantiation and the first `configure` may take, milliseconds.
            start_deadline_ms: u32,
            /// Memories and tables of an instance together, bytes.
            max_memory_bytes: u64,
            /// Pictures that an instance holds as crops, bytes.
            max_crop_bytes: u64,
            /// Log lines a second that are written.
            max_log_lines_per_s: u32,
            /// One log line, bytes.
            max_log_line_bytes: u32,
            /// Live tracks of a tracker.
            max_tracks: u32,
            /// Shots of one call of a scorer.
            max_shots: u32,
            /// Messages of one call of a formatter.
            max_messages: u32,
            /// Payload of one message, bytes.
            max_message_bytes: u32,
            /// Saved state, bytes.
            max_state_bytes: u32,
            /// Processor time of all calls of a second, milliseconds.
            max_cpu_ms_per_s: u32,
            /// Calls of the host's functions in a second.
            max_host_calls_per_s: u32,
            /// Log text handed over in a second, bytes.
            max_log_bytes_per_s: u32,
            /// Pictures asked for in a second, bytes.
            max_crop_bytes_per_s: u64,
        }
    };
}

for_each_limit!(limits);
