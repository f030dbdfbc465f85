//! How many connects a second this host makes.
//!
//! Owns the turn-taking among cameras. Must not know what a connect is.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// Spaces connects evenly, first come, first served. A switch that loses its power takes a hundred cameras away at
/// once; without a limit their return is a flood of handshakes for the host, the switch and any recorder beside them.
///
/// Queue: the waiting cameras, one entry each, so bounded by the number of cameras; nothing is refused.
#[derive(Debug)]
pub struct ConnectLimiter {
    interval: Duration,
    next: Mutex<Option<Instant>>,
}

impl ConnectLimiter {
    /// At most `per_second` connects a second (at least 1), evenly spaced.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        Self { interval: Duration::from_secs(1) / per_second.max(1), next: Mutex::new(None) }
    }

    /// Waits for a turn. Cancel-safe: a camera that stops waiting takes no turn away.
    pub async fn acquire(&self) {
        // The mutex is tokio's fair one: whoever holds it waits for its slot, the others queue in order behind it.
        let mut next = self.next.lock().await;
        if let Some(at) = *next {
            tokio::time::sleep_until(at).await;
        }
        *next = Some(Instant::now() + self.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn turns_are_evenly_spaced_and_in_order() {
        let limiter = Arc::new(ConnectLimiter::new(20));
        let start = Instant::now();
        let waiting: Vec<_> = (0..100)
            .map(|i| {
                let limiter = limiter.clone();
                tokio::spawn(async move {
                    limiter.acquire().await;
                    (i, start.elapsed().as_millis())
                })
            })
            .collect();
        for (i, task) in waiting.into_iter().enumerate() {
            let (order, at) = task.await.unwrap();
            assert_eq!(order, i);
            // tokio's timer rounds up to a millisecond.
            let due = u128::try_from(i).unwrap() * 50;
            assert!((due..=due + u128::try_from(i).unwrap() + 1).contains(&at), "{i}: {at} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_up_takes_no_turn() {
        let limiter = Arc::new(ConnectLimiter::new(10));
        limiter.acquire().await;
        let start = Instant::now();
        let cancelled: Vec<_> = (0..50)
            .map(|_| {
                let limiter = limiter.clone();
                tokio::spawn(async move { limiter.acquire().await })
            })
            .collect();
        tokio::task::yield_now().await;
        for task in &cancelled {
            task.abort();
        }
        limiter.acquire().await;
        assert!(start.elapsed() <= Duration::from_millis(102), "{:?}", start.elapsed());
    }
}
