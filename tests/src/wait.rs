//! Waiting for something to become so, never for time to pass.
//!
//! Owns the one bound. It is generous: it tells a hang from a slow machine, not fast from slow.

use std::time::{Duration, Instant};

/// How long anything may take on a busy machine before it counts as broken.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Looks again and again until `look` finds what is wanted; an error says what it saw instead.
///
/// # Panics
/// When it does not come; with what was seen last.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if Instant::now() > end => panic!("waited {PATIENCE:?} in vain for {what}; last seen: {seen}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
