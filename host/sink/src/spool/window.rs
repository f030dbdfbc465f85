//! Which records were handed on and which of them are done.

use std::collections::VecDeque;

#[derive(Debug)]
struct Entry {
    seq: u64,
    accepted_ms: u64,
    bytes: u64,
    done: bool,
}

/// Records between the oldest one not done and the newest one read, by rising sequence number. Bounded by the spool's
/// size: a record has at least a head on the disk for the 32 bytes that it has here.
#[derive(Debug)]
pub(super) struct Window {
    /// Sequence number that is read next.
    frontier: u64,
    entries: VecDeque<Entry>,
    undone: u64,
}

impl Window {
    pub(super) fn starting_at(frontier: u64) -> Self {
        Self { frontier, entries: VecDeque::new(), undone: 0 }
    }

    /// Everything below is done.
    pub(super) fn base(&self) -> u64 {
        self.entries.front().map_or(self.frontier, |e| e.seq)
    }

    pub(super) fn frontier(&self) -> u64 {
        self.frontier
    }

    /// Records read and not done.
    pub(super) fn undone(&self) -> u64 {
        self.undone
    }

    pub(super) fn oldest_ms(&self) -> Option<u64> {
        self.entries.front().map(|e| e.accepted_ms)
    }

    /// Notes a record as read. `false` when it was read before and is done.
    pub(super) fn read(&mut self, seq: u64, accepted_ms: u64, bytes: u64) -> bool {
        if seq < self.frontier {
            return self.find(seq).is_some_and(|at| !self.entries[at].done);
        }
        self.entries.push_back(Entry { seq, accepted_ms, bytes, done: false });
        self.undone += 1;
        self.frontier = seq + 1;
        true
    }

    /// Moves the frontier over records that are not there.
    pub(super) fn skip_to(&mut self, seq: u64) {
        self.frontier = self.frontier.max(seq);
    }

    /// Marks a record as done and gives its size, the first time.
    pub(super) fn done(&mut self, seq: u64) -> Option<u64> {
        let at = self.find(seq)?;
        let entry = &mut self.entries[at];
        if std::mem::replace(&mut entry.done, true) {
            return None;
        }
        let bytes = entry.bytes;
        self.undone -= 1;
        while self.entries.front().is_some_and(|e| e.done) {
            self.entries.pop_front();
        }
        Some(bytes)
    }

    /// Marks records from `from` up to `to` that were read, are not done and cannot be read again as done: how many, and their
    /// bytes. Only after going back, when nobody has them in hand.
    pub(super) fn lose(&mut self, from: u64, to: u64) -> (u64, u64) {
        let numbers = self.entries.iter().filter(|e| !e.done && (from..to).contains(&e.seq)).map(|e| e.seq);
        let numbers: Vec<u64> = numbers.collect();
        let bytes = numbers.iter().filter_map(|&seq| self.done(seq)).sum();
        (numbers.len() as u64, bytes)
    }

    fn find(&self, seq: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&seq, |e| e.seq).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_follows_the_oldest_record_that_is_not_done() {
        let mut w = Window::starting_at(10);
        for seq in [10, 11, 15] {
            assert!(w.read(seq, seq, 1));
        }
        assert_eq!((w.base(), w.frontier(), w.undone()), (10, 16, 3));
        assert_eq!(w.done(11), Some(1));
        assert_eq!(w.done(11), None, "twice");
        assert_eq!(w.base(), 10);
        assert!(!w.read(11, 11, 1), "read again, done");
        assert!(w.read(10, 10, 1), "read again, not done");
        assert_eq!(w.done(10), Some(1));
        assert_eq!((w.base(), w.oldest_ms()), (15, Some(15)));
        assert!(!w.read(12, 12, 1), "never was");
        assert_eq!(w.done(15), Some(1));
        assert_eq!((w.base(), w.undone()), (16, 0));
        w.skip_to(20);
        assert_eq!(w.base(), 20);
        (20..25).for_each(|seq| assert!(w.read(seq, seq, 2)));
        w.done(21);
        assert_eq!(w.lose(20, 23), (2, 4), "20 and 22");
        assert_eq!((w.base(), w.undone(), w.lose(20, 23)), (23, 2, (0, 0)));
    }
}
