//! Messages as lines in files: `messages/<topic>.jsonl` of the data folder.
//!
//! Queue `jsonl`: lines between accepting and writing; bound `queue_messages` and `queue_bytes`; when full, accepting
//! waits up to `accept_wait_ms` while the disk works and refuses otherwise. One thread writes. What waits in memory is
//! lost when the process is killed (at most `flush_interval_ms` of lines while the disk works); what was written and
//! not synced is lost at a power cut (at most `fsync_interval_ms`).

mod file;
mod line;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use facestream_core::{Clock, Message};

pub(crate) use file::{RotatingFile, topic_file_name};
pub(crate) use line::line;

use crate::config::JsonlConfig;
use crate::fs::FileSystem;
use crate::signal::Signal;
use crate::sinks::{Left, Sink};
use crate::status::{Cause, Counters, Health, LossReason, OnEvent, RefuseReason, SinkStatus};

/// Lines of one topic written with one call, at most.
const BATCH_BYTES: usize = 1 << 20;
/// A topic whose file failed is tried again after so long.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Line {
    bytes: Vec<u8>,
    accepted_ms: u64,
}

/// Lines by topic, oldest first. Those that are being written are still here.
#[derive(Debug, Default)]
struct Queue {
    topics: BTreeMap<String, VecDeque<Line>>,
    messages: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Shared {
    config: JsonlConfig,
    fs: Arc<dyn FileSystem>,
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    queue: Mutex<Queue>,
    /// Moves when lines come or the sink closes.
    work: Signal,
    /// Moves when lines go.
    room: Signal,
    closing: AtomicBool,
    stop: AtomicBool,
    counters: Counters,
    health: Health,
}

/// The sink.
#[derive(Debug)]
pub struct JsonlSink {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl JsonlSink {
    /// Starts writing into `data/messages`.
    ///
    /// # Errors
    /// When no thread can be started. A disk that does not work is no error: the sink is degraded until it does.
    pub fn open(
        config: JsonlConfig,
        data: &Path,
        fs: Arc<dyn FileSystem>,
        clock: Arc<dyn Clock>,
        on_event: OnEvent,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            config,
            fs,
            clock,
            dir: data.join("messages"),
            queue: Mutex::default(),
            work: Signal::default(),
            room: Signal::default(),
            closing: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            counters: Counters::default(),
            health: Health::new("jsonl", on_event),
        });
        let writer = Writer { shared: Arc::clone(&shared), files: BTreeMap::new() };
        let thread = std::thread::Builder::new().name("jsonl-sink".into()).spawn(move || writer.run())?;
        Ok(Self { shared, writer: Mutex::new(Some(thread)) })
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        self.clock.wall_ns() / 1_000_000
    }
}

impl Sink for JsonlSink {
    fn name(&self) -> &'static str {
        "jsonl"
    }

    fn accept(&self, message: &Message) -> Result<(), RefuseReason> {
        let s = &*self.shared;
        let bytes = line(message, &[]);
        let end = Instant::now() + Duration::from_millis(s.config.accept_wait_ms);
        loop {
            let seen = s.room.current();
            if s.closing.load(Ordering::SeqCst) {
                return Err(s.counters.refuse(RefuseReason::Closed));
            }
            let mut queue = s.queue();
            // A line larger than the whole queue passes when nothing else is there.
            let fits = queue.messages < s.config.queue_messages
                && (queue.bytes + bytes.len() <= s.config.queue_bytes || queue.messages == 0);
            if fits {
                queue.messages += 1;
                queue.bytes += bytes.len();
                let line = Line { bytes, accepted_ms: s.now_ms() };
                match queue.topics.get_mut(&message.topic) {
                    Some(lines) => lines.push_back(line),
                    None => drop(queue.topics.insert(message.topic.clone(), VecDeque::from([line]))),
                }
                // Counted before anybody can see it delivered.
                Counters::add(&s.counters.accepted, 1);
                drop(queue);
                s.work.bump();
                return Ok(());
            }
            drop(queue);
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || s.health.has(Cause::DiskWrite) {
                return Err(s.counters.refuse(RefuseReason::QueueFull));
            }
            s.room.wait(seen, left);
        }
    }

    fn status(&self) -> SinkStatus {
        let s = &*self.shared;
        let mut status = s.counters.status(self.name(), s.health.state());
        let queue = s.queue();
        status.queued_messages = queue.messages as u64;
        status.queued_bytes = queue.bytes as u64;
        let oldest = queue.topics.values().filter_map(|lines| lines.front()).map(|l| l.accepted_ms).min();
        status.oldest_age_ms = oldest.map(|ms| s.now_ms().saturating_sub(ms));
        status
    }

    fn close(&self, deadline: Instant) -> Left {
        let s = &*self.shared;
        s.closing.store(true, Ordering::SeqCst);
        s.work.bump();
        loop {
            let seen = s.room.current();
            let left = deadline.saturating_duration_since(Instant::now());
            if s.queue().messages == 0 || left.is_zero() {
                break;
            }
            s.room.wait(seen, left);
        }
        s.stop.store(true, Ordering::SeqCst);
        s.work.bump();
        s.room.bump();
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|t| t.join().is_err()) {
            tracing::error!("The thread of the JSONL sink panicked.");
        }
        // Nothing keeps them past the process.
        let mut queue = s.queue();
        let left = Left { messages: queue.messages as u64, bytes: queue.bytes as u64, kept: false };
        s.counters.lose(LossReason::ShutdownGrace, left.messages);
        *queue = Queue::default();
        left
    }
}

impl Drop for JsonlSink {
    fn drop(&mut self) {
        self.close(Instant::now());
    }
}

struct Writer {
    shared: Arc<Shared>,
    files: BTreeMap<String, TopicFile>,
}

struct TopicFile {
    file: RotatingFile,
    retry_at: Option<Instant>,
}

impl Writer {
    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let flush = Duration::from_millis(shared.config.flush_interval_ms);
        let fsync = Duration::from_millis(shared.config.fsync_interval_ms);
        let mut synced = Instant::now();
        loop {
            let seen = shared.work.current();
            let stop = shared.stop.load(Ordering::SeqCst);
            let closing = shared.closing.load(Ordering::SeqCst);
            let wrote = self.write_all(closing);
            if stop || synced.elapsed() >= fsync {
                self.sync();
                synced = Instant::now();
            }
            if stop {
                return;
            }
            if wrote && !closing {
                // Lines that come meanwhile share the next write; a wake-up for each would cost more than the line.
                let before = shared.work.current();
                if !shared.closing.load(Ordering::SeqCst) && shared.queue().bytes < BATCH_BYTES {
                    self.pause(flush, before);
                }
            } else {
                shared.work.wait(seen, fsync.min(RETRY));
            }
        }
    }

    /// Waits for the time, or until there is a batch's worth or the sink closes.
    fn pause(&self, time: Duration, mut seen: u64) {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let enough = self.shared.closing.load(Ordering::SeqCst) || self.shared.queue().bytes >= BATCH_BYTES;
            if left.is_zero() || enough {
                return;
            }
            self.shared.work.wait(seen, left);
            seen = self.shared.work.current();
        }
    }

    /// Writes what waits, topic by topic: one whose file fails does not hold up the others. `true`: something was written.
    fn write_all(&mut self, closing: bool) -> bool {
        let topics: Vec<String> = self.shared.queue().topics.keys().cloned().collect();
        let mut wrote = false;
        for topic in topics {
            while self.write_batch(&topic, closing) {
                wrote = true;
            }
        }
        if self.files.values().all(|f| f.retry_at.is_none()) {
            self.shared.health.mend(Cause::DiskWrite);
        }
        wrote
    }

    fn write_batch(&mut self, topic: &str, closing: bool) -> bool {
        let shared = Arc::clone(&self.shared);
        let entry = self.files.entry(topic.to_owned()).or_insert_with(|| TopicFile {
            file: RotatingFile::new(
                Arc::clone(&shared.fs),
                shared.dir.join(topic_file_name(topic)),
                shared.config.rotate_bytes,
                shared.config.keep_files,
            ),
            retry_at: None,
        });
        // At the end there may be no later.
        if entry.retry_at.is_some_and(|at| !closing && Instant::now() < at) {
            return false;
        }
        let (mut batch, mut lines) = (Vec::new(), 0);
        if let Some(waiting) = shared.queue().topics.get(topic) {
            for line in waiting {
                let beyond = batch.len() + line.bytes.len();
                if lines > 0 && (beyond > BATCH_BYTES || beyond as u64 > shared.config.rotate_bytes) {
                    break;
                }
                batch.extend_from_slice(&line.bytes);
                lines += 1;
            }
        }
        if lines == 0 {
            entry.retry_at = None;
            return false;
        }
        let written = entry.file.append(&batch);
        let torn = entry.file.take_torn();
        if torn > 0 {
            shared.counters.lose(LossReason::TornTail, torn);
        }
        match written {
            Ok(()) => {
                entry.retry_at = None;
                self.forget(topic, |n, _| n < lines);
                shared.counters.deliver(topic, lines as u64);
                true
            }
            Err(error) => {
                entry.retry_at = Some(Instant::now() + RETRY);
                shared
                    .health
                    .degrade(Cause::DiskWrite, format!("cannot write messages/{}: {error}", topic_file_name(topic)));
                let oldest = shared.now_ms().saturating_sub(shared.config.retry_for_ms);
                let lost = self.forget(topic, |_, line| line.accepted_ms < oldest);
                shared.counters.lose(LossReason::WriteFailed, lost);
                // With its last line gone nothing would ever try the file again, and so find it mended.
                if !shared.queue().topics.contains_key(topic)
                    && let Some(file) = self.files.get_mut(topic)
                {
                    file.retry_at = None;
                }
                // Those who wait for room must learn that the disk fails.
                shared.room.bump();
                false
            }
        }
    }

    /// Takes lines from the front of a topic's queue while they match.
    fn forget(&self, topic: &str, matches: impl Fn(usize, &Line) -> bool) -> u64 {
        let mut queue = self.shared.queue();
        let queue = &mut *queue;
        let mut gone = 0;
        if let Some(lines) = queue.topics.get_mut(topic) {
            while let Some(line) = lines.pop_front_if(|line| matches(gone, line)) {
                queue.messages -= 1;
                queue.bytes -= line.bytes.len();
                gone += 1;
            }
            if lines.is_empty() {
                queue.topics.remove(topic);
            }
        }
        self.shared.room.bump();
        gone as u64
    }

    fn sync(&mut self) {
        for (topic, file) in &mut self.files {
            match file.file.sync() {
                // Nothing will be written that could show that the disk works again; lines that wait will.
                Ok(()) if !self.shared.queue().topics.contains_key(topic) => file.retry_at = None,
                Ok(()) => {}
                Err(error) => {
                    file.retry_at = Some(Instant::now() + RETRY);
                    self.shared
                        .health
                        .degrade(Cause::DiskWrite, format!("cannot sync messages/{}: {error}", topic_file_name(topic)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
