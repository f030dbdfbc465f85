//! What a read that failed means: a record that is lost, or one to be read later.
//!
//! Must not take a disk or a process in trouble for damage: what cannot be read now may be read in a minute.

use std::io;
use std::time::{Duration, Instant};

use crate::status::LossReason;

/// What the disk has refused for so long is given up: one bad sector must not stop everything for ever, and a disk that
/// is away for a moment must cost nothing.
const READ_FOR: Duration = Duration::from_secs(300);
/// And not before so many tries: time may pass in which nothing is read.
const READ_TRIES: u32 = 10;

/// Reads of one segment that failed one after the other.
#[derive(Debug, Default)]
pub(crate) struct Failing {
    segment: u64,
    since: Option<Instant>,
    tries: u32,
}

/// What a read that failed means for the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It is damaged or gone, or its segment was refused for too long.
    Lost(LossReason),
    /// Nothing is known of it: it must be tried again.
    Later,
}

impl Failing {
    /// A read of the segment failed.
    pub(crate) fn failed(&mut self, segment: u64, error: &io::Error, now: Instant) -> Unread {
        match error.kind() {
            io::ErrorKind::NotFound => return Unread::Lost(LossReason::SpoolMissing),
            io::ErrorKind::InvalidData => return Unread::Lost(LossReason::SpoolCorrupt),
            _ => {}
        }
        // The process or the machine is short of something. That says nothing about the segment, however long it lasts.
        let short = [libc::EMFILE, libc::ENFILE, libc::ENOMEM];
        let short = error.raw_os_error().is_some_and(|code| short.contains(&code));
        if short || self.segment != segment {
            *self = Self { segment, ..Self::default() };
        }
        if short {
            return Unread::Later;
        }
        self.tries += 1;
        let since = *self.since.get_or_insert(now);
        let over = self.tries >= READ_TRIES && now.saturating_duration_since(since) >= READ_FOR;
        if over { Unread::Lost(LossReason::SpoolMissing) } else { Unread::Later }
    }
}
