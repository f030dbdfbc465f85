//! Reads a spool in order, stepping over damage.
//!
//! Must not hold the spool's lock while it reads: those who append never wait for it.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use facestream_core::Message;

use super::failing::{Failing, Unread};
use super::record::{self, HEAD, Head};
use super::{File, Spool};
use crate::codec;
use crate::status::LossReason;

/// Read at once. Large enough that a backlog is read with few calls, small enough to be nothing in memory.
const READ_AHEAD: u64 = 256 << 10;

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

/// A record that was read.
#[derive(Debug)]
pub(crate) struct SpoolRecord {
    pub(crate) seq: u64,
    pub(crate) location: Location,
    pub(crate) message: Message,
}

/// The one reader of a spool.
#[derive(Debug)]
pub(crate) struct Reader {
    spool: Arc<Spool>,
    /// First number of the segment that is read; the file when it is open.
    segment: u64,
    file: Option<Box<dyn File>>,
    offset: u64,
    /// Number expected next; a higher one found means that records between are lost.
    expected: u64,
    buffer: Vec<u8>,
    buffer_at: u64,
    failing: Failing,
    /// How far it has ever come (segment, offset): going back must not count or keep the same bytes again.
    furthest: (u64, u64),
}

/// What the spool knows about the segment at hand.
struct View {
    len: u64,
    end_seq: u64,
    /// First number of the segment after it; `None` when it is the newest.
    next: Option<u64>,
}

impl Reader {
    /// Starts at the oldest record that is not done.
    pub(crate) fn new(spool: Arc<Spool>) -> Self {
        let mut reader = Self {
            spool,
            segment: 0,
            file: None,
            offset: 0,
            expected: 0,
            buffer: Vec::new(),
            buffer_at: 0,
            failing: Failing::default(),
            furthest: (0, 0),
        };
        reader.rewind();
        reader
    }

    /// Goes back to the oldest record that is not done; those that are done are left out from there on.
    pub(crate) fn rewind(&mut self) {
        let base = self.spool.lock().window.base();
        self.expected = base;
        self.enter(base);
    }

    fn enter(&mut self, segment: u64) {
        self.segment = segment;
        self.file = None;
        self.offset = 0;
        self.buffer.clear();
    }

    /// The next record, `None` when all were read.
    ///
    /// # Errors
    /// When the disk fails. Trying again is right: a segment that is gone, or that the disk refuses for minutes, is given
    /// up and its records count as lost.
    pub(crate) fn next(&mut self, now: Instant) -> io::Result<Option<SpoolRecord>> {
        loop {
            let Some(view) = self.view() else { return Ok(None) };
            if self.offset >= view.len {
                self.lost_up_to(view.end_seq);
                let Some(next) = view.next else { return Ok(None) };
                self.enter(next);
                continue;
            }
            match self.step(&view) {
                Ok(Some(record)) => {
                    self.failing = Failing::default();
                    return Ok(Some(record));
                }
                Ok(None) => self.failing = Failing::default(),
                Err(error) => {
                    if self.failing.failed(self.segment, &error, now) == Unread::Later {
                        self.file = None;
                        return Err(error);
                    }
                    tracing::error!(segment = self.segment, %error, "A segment of the spool cannot be read and is given up.");
                    self.failing = Failing::default();
                    self.give_up(&view);
                }
            }
        }
    }

    /// Reads one record again.
    ///
    /// # Errors
    /// When the disk fails, or the record is not there (any more).
    pub(crate) fn read(&self, location: Location) -> io::Result<Message> {
        let file = self.spool.fs.open(&self.spool.segment_path(location.segment), false)?;
        let mut head = [0; HEAD];
        file.read_at(&mut head, location.offset)?;
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the record is damaged");
        let head = Head::read(&head).ok_or_else(damaged)?;
        let left = file.size()?.saturating_sub(location.offset + HEAD as u64);
        if u64::from(head.body_len) > left {
            return Err(damaged());
        }
        let mut body = vec![0; head.body_len as usize];
        let n = file.read_at(&mut body, location.offset + HEAD as u64)?;
        body.truncate(n);
        if crc32fast::hash(&body) != head.body_crc {
            return Err(damaged());
        }
        codec::decode(&body).ok_or_else(damaged)
    }

    /// The segment that holds `expected` at or after the one at hand.
    fn view(&mut self) -> Option<View> {
        let (first_seq, view) = {
            let inner = self.spool.lock();
            let at = inner.segments.partition_point(|s| s.end_seq <= self.expected);
            // At the end of the newest one there is nothing to read, but there may be a tail of damage to step over.
            let at = if at == inner.segments.len() { at.checked_sub(1)? } else { at };
            // Stay in a segment until its end: what is left of it may be damage that must be set aside.
            let at = inner.segments.binary_search_by_key(&self.segment, |s| s.first_seq).unwrap_or(at);
            let s = &inner.segments[at];
            let next = inner.segments.get(at + 1).map(|s| s.first_seq);
            (s.first_seq, View { len: s.len, end_seq: s.end_seq, next })
        };
        if first_seq != self.segment || (self.file.is_none() && self.offset == 0) {
            if first_seq > self.expected {
                self.lost_up_to(first_seq);
            }
            if first_seq != self.segment {
                self.enter(first_seq);
            }
        }
        Some(view)
    }

    /// Reads at the offset. `None`: nothing to hand on here, go on.
    fn step(&mut self, view: &View) -> io::Result<Option<SpoolRecord>> {
        let offset = self.offset;
        let expected = self.expected;
        let head = Head::read(self.bytes(offset, HEAD as u64, view.len)?)
            .filter(|h| h.record_len() <= view.len - offset && h.seq < view.end_seq);
        let Some(head) = head else { return self.step_over_damage(view) };
        let next_offset = offset + head.record_len();
        if head.seq < expected {
            // Done before the last start, or before going back.
            if self.first_time(next_offset) {
                self.spool.not_waiting(head.record_len());
            }
            self.offset = next_offset;
            return Ok(None);
        }
        let body = &self.bytes(offset, head.record_len(), view.len)?[HEAD..];
        let intact = crc32fast::hash(body) == head.body_crc;
        let message = if intact { codec::decode(body) } else { None };
        let Some(message) = message else {
            let bytes = self.bytes(offset, head.record_len(), view.len)?.to_vec();
            self.set_aside(&bytes, next_offset);
            self.offset = next_offset;
            return Ok(None);
        };
        self.lost_up_to(head.seq);
        self.first_time(next_offset);
        self.offset = next_offset;
        self.expected = head.seq + 1;
        let location = Location { segment: self.segment, offset };
        let wanted = self.spool.lock().window.read(head.seq, head.accepted_ms, head.record_len());
        Ok(wanted.then_some(SpoolRecord { seq: head.seq, location, message }))
    }

    /// Sets bytes aside up to the next whole record of this segment, or to its end.
    fn step_over_damage(&mut self, view: &View) -> io::Result<Option<SpoolRecord>> {
        let offset = self.offset;
        let rest = self.bytes(offset, view.len - offset, view.len)?.to_vec();
        let end = record::resync(&rest, 1).unwrap_or(rest.len());
        // A file shorter than it should be has nothing up to where it should end.
        let next_offset = if end == rest.len() { view.len } else { offset + end as u64 };
        self.set_aside(&rest[..end], next_offset);
        self.offset = next_offset;
        self.buffer.clear();
        Ok(None)
    }

    /// Keeps damaged bytes from the offset on, the first time that they are seen.
    fn set_aside(&mut self, bytes: &[u8], next_offset: u64) {
        let from = self.offset;
        if self.first_time(next_offset) {
            self.spool.quarantine(self.segment, from, bytes);
            self.spool.not_waiting(next_offset - from);
        }
    }

    /// Whether the bytes before `end` were never reached before.
    fn first_time(&mut self, end: u64) -> bool {
        let here = (self.segment, end);
        let first = here > self.furthest;
        self.furthest = self.furthest.max(here);
        first
    }

    /// Up to `len` bytes at `offset`, fewer only when the file is shorter than the spool thinks.
    fn bytes(&mut self, offset: u64, len: u64, limit: u64) -> io::Result<&[u8]> {
        let held = self.buffer_at..self.buffer_at + self.buffer.len() as u64;
        if !(held.contains(&offset) && offset + len <= held.end) {
            if self.file.is_none() {
                self.file = Some(self.spool.fs.open(&self.spool.segment_path(self.segment), false)?);
            }
            let Some(file) = &self.file else { unreachable!("opened above") };
            let size = len.max(READ_AHEAD).min(limit - offset);
            self.buffer.resize(usize::try_from(size).map_err(io::Error::other)?, 0);
            self.buffer_at = offset;
            match file.read_at(&mut self.buffer, offset) {
                Ok(n) => self.buffer.truncate(n),
                Err(error) => {
                    self.buffer.clear();
                    return Err(error);
                }
            }
        }
        // Both fit: the buffer is a vector and holds both ends.
        let from = (offset - self.buffer_at) as usize;
        let to = (from + len as usize).min(self.buffer.len());
        Ok(&self.buffer[from.min(to)..to])
    }

    /// Counts the records from the expected one up to `seq` as lost, unless they are done.
    fn lost_up_to(&mut self, seq: u64) {
        if seq <= self.expected {
            return;
        }
        let n = self.spool.pass_over(self.expected, seq);
        if n > 0 {
            tracing::error!(segment = self.segment, records = n, "Records of the spool were damaged and are lost.");
            self.spool.counters.lose(LossReason::SpoolCorrupt, n);
        }
        self.expected = seq;
    }

    /// Leaves the segment at hand for good.
    fn give_up(&mut self, view: &View) {
        let n = self.spool.pass_over(self.expected, view.end_seq);
        self.spool.counters.lose(LossReason::SpoolMissing, n);
        self.expected = self.expected.max(view.end_seq);
        self.offset = view.len;
        // The newest one may be written to still: what comes must not go where nobody can read it.
        self.spool.lock().seal();
    }
}

impl Spool {
    /// Records from `from` up to `to` are not there: how many of them are lost by that. Those that were read before going
    /// back and are not done are among them; nothing else would ever make them done, and the spool would fill up behind
    /// them.
    fn pass_over(&self, from: u64, to: u64) -> u64 {
        let mut inner = self.lock();
        let (read_before, bytes) = inner.window.lose(from, to);
        let unread = to.saturating_sub(inner.window.frontier().max(from));
        inner.window.skip_to(to);
        inner.queued_bytes = inner.queued_bytes.saturating_sub(bytes);
        read_before + unread
    }

    /// Bytes that were passed over no longer count as waiting.
    fn not_waiting(&self, bytes: u64) {
        let mut inner = self.lock();
        inner.queued_bytes = inner.queued_bytes.saturating_sub(bytes);
    }
}
