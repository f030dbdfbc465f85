//! Waking threads without losing a wake-up and without spinning.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A counter that threads can wait on. Read it, look at the state, then wait for it to have moved since.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    count: Mutex<u64>,
    moved: Condvar,
}

impl Signal {
    pub(crate) fn current(&self) -> u64 {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn bump(&self) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count = count.wrapping_add(1);
        drop(count);
        self.moved.notify_all();
    }

    /// Returns when the counter differs from `seen` or the time is over.
    pub(crate) fn wait(&self, seen: u64, at_most: Duration) {
        let end = Instant::now() + at_most;
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count == seen {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            count = self.moved.wait_timeout(count, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
