//! What a camera has done, for tests, tables and load tests.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! stats {
    ($($(#[$meta:meta])* $name:ident),+ $(,)?) => {
        /// Counters of one camera since the simulator started, all sessions together.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct CameraStats { $($(#[$meta])* pub $name: u64),+ }

        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: AtomicU64),+ }

        impl Counters {
            pub(crate) fn snapshot(&self) -> CameraStats {
                CameraStats { $($name: self.$name.load(Ordering::Relaxed)),+ }
            }
        }
    };
}

stats! {
    /// Requests that named this camera.
    requests,
    /// Of them, those answered 401.
    unauthorized,
    /// Sessions made by SETUP.
    sessions,
    /// Sessions that play now.
    playing,
    /// Access units sent whole (of a faulty network: with packets lost on purpose).
    units_sent,
    /// Access units that a client was too slow for, or that fell into a stall.
    units_dropped,
    /// RTP packets sent.
    packets_sent,
    /// RTP packets lost on purpose.
    packets_lost,
    /// RTP bytes sent, headers included.
    bytes_sent,
    /// RTCP packets received from clients.
    reports_received,
    /// Sessions ended because the client was silent for too long.
    sessions_timed_out,
}

pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
