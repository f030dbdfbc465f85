//! Which frames of which cameras go into the next run, and in which order results go back.
//!
//! Owns the queues as a plain state machine: no threads, no waiting, time comes in as a value. The engine puts it under
//! one lock and adds threads. Invariants, each with a test:
//! - a feed's results leave in the order its frames were taken, one at a time;
//! - a lossless feed loses nothing and never has more than `depth` frames waiting or on their way;
//! - a live feed has at most `live_queue` frames waiting and `live_limit` on their way; what a newer frame replaces is
//!   counted;
//! - feeds take turns: between two frames of one feed, every other feed whose frame waits and fits gets its turn.
//!
//! Queues (all per feed): `waiting`, bound `live_queue` (live: the oldest goes, counted `superseded`) or `depth` (lossless:
//! the offerer waits); `done`, results that wait for an earlier frame of their feed, bound `live_limit` or `depth`.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use facestream_core::metrics::{CameraMetrics, Counter, DropReason};
use facestream_core::{Detection, Frame};

use crate::error::InferError;

/// How a feed behaves when inference is slower than its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedKind {
    /// A camera: its newest frames wait (`InferConfig::live_queue`, usually one), older ones are dropped and counted.
    /// Offering never blocks.
    Live,
    /// A file: every frame is analysed. Offering waits while `depth` frames are waiting or on their way (at least 1).
    Lossless {
        /// Frames accepted and not yet delivered.
        depth: usize,
    },
}

/// Where results go: called in the order of frames, never twice at the same time for one feed, on a worker's thread. It
/// must be quick and must not wait for anything slow: a worker that waits in a sink analyses no other camera's frames. A
/// source that must be slowed down is slowed down where it offers.
pub type Sink = Arc<dyn Fn(Frame, Result<Vec<Detection>, InferError>) + Send + Sync>;

/// One frame on its way through a session.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) feed: u64,
    ticket: u64,
    pub(crate) frame: Frame,
    metrics: Arc<CameraMetrics>,
}

/// A result whose turn has come.
pub(crate) struct Delivery {
    pub(crate) sink: Sink,
    pub(crate) frame: Frame,
    pub(crate) result: Result<Vec<Detection>, InferError>,
}

/// What a worker shall do now.
#[derive(Debug)]
pub(crate) enum Next {
    /// Analyse these, all of one group.
    Run(Vec<Job>),
    /// Wait this long for more frames.
    Wait(Duration),
    /// Wait for a frame.
    Idle,
}

struct Waiting {
    frame: Frame,
    group: u64,
    /// When it came; for a frame that took another one's place, when that one came: a source faster than `max_wait`
    /// must not put its own turn off for ever.
    since: Instant,
}

struct FeedState {
    kind: FeedKind,
    waiting: VecDeque<Waiting>,
    /// Taken by a worker and not yet delivered.
    taken: usize,
    next_ticket: u64,
    next_out: u64,
    done: BTreeMap<u64, (Frame, Result<Vec<Detection>, InferError>)>,
    delivering: Option<ThreadId>,
    draining: bool,
    metrics: Arc<CameraMetrics>,
    sink: Sink,
}

impl FeedState {
    /// Frames it could still be given right now.
    fn room(&self, live_queue: usize) -> usize {
        match self.kind {
            FeedKind::Live => live_queue.saturating_sub(self.waiting.len()),
            FeedKind::Lossless { depth } => depth.max(1).saturating_sub(self.waiting.len() + self.taken),
        }
    }

    /// Waiting frames that may be taken now and are of this group, without overtaking one of another group.
    fn ready(&self, group: u64, live_limit: usize) -> usize {
        match self.kind {
            FeedKind::Live if self.taken >= live_limit => 0,
            _ => self.waiting.iter().take_while(|w| w.group == group).count(),
        }
    }
}

/// The feeds and their queues.
pub(crate) struct Batcher {
    feeds: BTreeMap<u64, FeedState>,
    /// Feeds with a frame waiting; the front one is next.
    ring: VecDeque<u64>,
    next_id: u64,
    max_batch: usize,
    max_wait: Duration,
    live_limit: usize,
    live_queue: usize,
}

impl fmt::Debug for Batcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher").field("feeds", &self.feeds.len()).field("ring", &self.ring).finish_non_exhaustive()
    }
}

impl Batcher {
    /// `live_limit`: frames of one live feed on their way at once; the number of workers lets one camera use them all.
    /// `live_queue`: frames of one live feed that may wait.
    pub(crate) fn new(max_batch: usize, max_wait: Duration, live_limit: usize, live_queue: usize) -> Self {
        Self {
            feeds: BTreeMap::new(),
            ring: VecDeque::new(),
            next_id: 0,
            max_batch: max_batch.max(1),
            max_wait,
            live_limit: live_limit.max(1),
            live_queue: live_queue.max(1),
        }
    }

    pub(crate) fn attach(&mut self, kind: FeedKind, metrics: Arc<CameraMetrics>, sink: Sink) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let feed = FeedState {
            kind,
            waiting: VecDeque::new(),
            taken: 0,
            next_ticket: 0,
            next_out: 0,
            done: BTreeMap::new(),
            delivering: None,
            draining: false,
            metrics,
            sink,
        };
        self.feeds.insert(id, feed);
        id
    }

    /// Takes a frame, or gives it back when the feed is lossless and full.
    pub(crate) fn offer(&mut self, id: u64, frame: Frame, group: u64, now: Instant) -> Result<(), Frame> {
        let live_queue = self.live_queue;
        let Some(feed) = self.feeds.get_mut(&id) else { return Err(frame) };
        if feed.room(live_queue) == 0 {
            if feed.kind != FeedKind::Live {
                return Err(frame);
            }
            let since = feed.waiting.pop_front().map_or(now, |replaced| replaced.since);
            feed.metrics.dropped(DropReason::Superseded, 1);
            feed.waiting.push_back(Waiting { frame, group, since: now });
            // A source faster than `max_wait` must not put its own turn off for ever.
            if let Some(front) = feed.waiting.front_mut() {
                front.since = front.since.min(since);
            }
            return Ok(());
        }
        if feed.waiting.is_empty() {
            self.ring.push_back(id);
        }
        feed.waiting.push_back(Waiting { frame, group, since: now });
        Ok(())
    }

    /// What a worker shall do. With `Run`, the frames are taken.
    pub(crate) fn next(&mut self, now: Instant) -> Next {
        let live_limit = self.live_limit;
        let takeable = |feed: &FeedState| {
            let group = feed.waiting.front()?.group;
            (feed.ready(group, live_limit) > 0).then_some(group)
        };
        let group = self.ring.iter().find_map(|id| takeable(self.feeds.get(id)?));
        let Some(group) = group else { return Next::Idle };
        if self.max_batch > 1 {
            let fitting = self.ring.iter().filter_map(|id| self.feeds.get(id)).map(|f| (f, f.ready(group, live_limit)));
            let (mut available, mut oldest) = (0, now);
            for (feed, n) in fitting.filter(|(_, n)| *n > 0) {
                available += n;
                oldest = feed.waiting.front().map_or(oldest, |w| oldest.min(w.since));
            }
            // Feeds that have nothing more to give are not waited for.
            let more = self.feeds.values().any(|f| {
                !f.draining && f.room(self.live_queue) > 0 && (f.kind != FeedKind::Live || f.taken < live_limit)
            });
            let waited = now.saturating_duration_since(oldest);
            if available < self.max_batch && more && waited < self.max_wait {
                return Next::Wait(self.max_wait - waited);
            }
        }
        Next::Run(self.take(group))
    }

    /// Takes up to a batch of one group, a frame a feed and turn.
    fn take(&mut self, group: u64) -> Vec<Job> {
        let mut jobs = Vec::new();
        loop {
            let before = jobs.len();
            let mut passed_over = Vec::new();
            for _ in 0..self.ring.len() {
                if jobs.len() == self.max_batch {
                    break;
                }
                let Some(id) = self.ring.pop_front() else { break };
                let Some(feed) = self.feeds.get_mut(&id) else { continue };
                if feed.ready(group, self.live_limit) == 0 {
                    passed_over.push(id);
                    continue;
                }
                if let Some(Waiting { frame, .. }) = feed.waiting.pop_front() {
                    jobs.push(Job { feed: id, ticket: feed.next_ticket, frame, metrics: Arc::clone(&feed.metrics) });
                    feed.next_ticket += 1;
                    feed.taken += 1;
                }
                if !feed.waiting.is_empty() {
                    self.ring.push_back(id);
                }
            }
            // They keep their place at the front: their turn comes with the next batch.
            for id in passed_over.into_iter().rev() {
                self.ring.push_front(id);
            }
            if jobs.len() == before || jobs.len() == self.max_batch {
                return jobs;
            }
        }
    }

    /// Takes a result back and counts it.
    pub(crate) fn finish(&mut self, job: Job, result: Result<Vec<Detection>, InferError>) {
        let Some(feed) = self.feeds.get_mut(&job.feed) else {
            // The camera went away meanwhile.
            job.metrics.dropped(DropReason::ShutdownGrace, 1);
            return;
        };
        match &result {
            Ok(found) => {
                job.metrics.add(Counter::Analysed, 1);
                job.metrics.add(Counter::Detections, found.len() as u64);
            }
            Err(_) => job.metrics.dropped(DropReason::InferenceError, 1),
        }
        feed.done.insert(job.ticket, (job.frame, result));
    }

    /// The feed's next result, if its turn has come and no other thread is delivering for this feed.
    pub(crate) fn begin_delivery(&mut self, id: u64, thread: ThreadId) -> Option<Delivery> {
        let feed = self.feeds.get_mut(&id)?;
        if feed.delivering.is_some() {
            return None;
        }
        let (frame, result) = feed.done.remove(&feed.next_out)?;
        feed.next_out += 1;
        feed.delivering = Some(thread);
        Some(Delivery { sink: Arc::clone(&feed.sink), frame, result })
    }

    pub(crate) fn end_delivery(&mut self, id: u64) {
        if let Some(feed) = self.feeds.get_mut(&id) {
            feed.delivering = None;
            feed.taken -= 1;
        }
    }

    /// The thread that is inside this feed's sink now.
    pub(crate) fn delivering(&self, id: u64) -> Option<ThreadId> {
        self.feeds.get(&id)?.delivering
    }

    /// Whether nothing of this feed is waiting or on its way.
    pub(crate) fn is_drained(&self, id: u64) -> bool {
        self.feeds.get(&id).is_none_or(|f| f.waiting.is_empty() && f.taken == 0)
    }

    /// A feed that drains is not waited for when batches are filled.
    pub(crate) fn set_draining(&mut self, id: u64, draining: bool) {
        if let Some(feed) = self.feeds.get_mut(&id) {
            feed.draining = draining;
        }
    }

    /// Forgets frames that nobody will analyse or deliver any more, counted. Those that a worker has right now are
    /// counted when they come back.
    pub(crate) fn discard(&mut self, id: u64) {
        self.ring.retain(|other| *other != id);
        if let Some(feed) = self.feeds.get_mut(&id) {
            feed.metrics.dropped(DropReason::ShutdownGrace, feed.waiting.len() as u64);
            feed.waiting.clear();
        }
    }

    /// Takes a feed out; what is on its way is counted as lost to stopping.
    pub(crate) fn detach(&mut self, id: u64) {
        self.discard(id);
        if let Some(feed) = self.feeds.remove(&id) {
            // Analysed already, but never delivered.
            feed.metrics.dropped(DropReason::ShutdownGrace, feed.done.len() as u64);
        }
    }

    pub(crate) fn feeds(&self) -> Vec<u64> {
        self.feeds.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests;
