//! Time as an injected dependency, so that tests advance it by hand.
//!
//! Owns reading clocks. Waiting is the runtime's business (tokio's time, which tests can pause).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Reads a monotonic and a wall clock. Both in nanoseconds.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Nanoseconds since an arbitrary start; never goes back.
    fn monotonic_ns(&self) -> u64;
    /// Nanoseconds since the Unix epoch; may jump when the machine's clock is set.
    fn wall_ns(&self) -> u64;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn wall_ns(&self) -> u64 {
        // A machine set to before 1970 reads as the epoch itself.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A clock that stands still until it is told to move; for tests.
#[derive(Debug)]
pub struct SimulatedClock {
    monotonic: AtomicU64,
    wall: AtomicU64,
}

impl SimulatedClock {
    /// Starts at monotonic zero and the given wall time.
    #[must_use]
    pub fn at(wall_ns: u64) -> Self {
        Self { monotonic: AtomicU64::new(0), wall: AtomicU64::new(wall_ns) }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: std::time::Duration) {
        let ns = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.monotonic.fetch_add(ns, Ordering::SeqCst);
        self.wall.fetch_add(ns, Ordering::SeqCst);
    }

    /// Sets the wall clock, as an operator or NTP would; the monotonic clock does not notice.
    pub fn set_wall(&self, wall_ns: u64) {
        self.wall.store(wall_ns, Ordering::SeqCst);
    }
}

impl Clock for SimulatedClock {
    fn monotonic_ns(&self) -> u64 {
        self.monotonic.load(Ordering::SeqCst)
    }

    fn wall_ns(&self) -> u64 {
        self.wall.load(Ordering::SeqCst)
    }
}
