//! Mailboxes before guests, and the fixed pool of threads that empties them.
//!
//! Owns order and bounds: one lane a camera, jobs of a lane strictly in order and never two at once, lanes in turn.
//! Must not know what a job does with a frame; that is [`Work`].
//!
//! Queues: a lane's mailbox holds at most `bound` frames (live: the oldest is dropped and counted `guest-queue-full`;
//! lossless: the producer waits) and at most [`MAX_CALLS`] calls (one more is refused). The pool's run queue holds a
//! lane at most once, so it is bounded by the number of cameras.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use facestream_core::{CameraMetrics, Detection, DropReason, Frame};

/// Calls (swaps, stops) that may wait in one lane.
pub const MAX_CALLS: usize = 32;

/// Jobs a worker does for one lane before the next lane has its turn.
const JOBS_A_TURN: usize = 4;

/// What a lane drives. All calls come from pool threads, one at a time.
pub trait Work: Send + 'static {
    /// One analysed frame, in order.
    fn frame(&mut self, frame: Frame, detections: Vec<Detection>);
    /// Time passed without a frame; monotonic host time in nanoseconds.
    fn tick(&mut self, now_ns: u64);
}

/// What to do with a frame that finds the mailbox full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Drop the oldest waiting frame and count it.
    DropOldest,
    /// Make the producer wait.
    Wait,
}

/// A lane was closed or has too many calls waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LaneError {
    /// The camera is stopping.
    #[error("the camera is stopping")]
    Closed,
    /// Too many calls wait already.
    #[error("{MAX_CALLS} changes are waiting for this camera already; try again")]
    Busy,
}

enum Job<W> {
    Frame(Frame, Vec<Detection>),
    Tick(u64),
    Call(Box<dyn FnOnce(&mut W) + Send>),
}

struct Mailbox<W> {
    jobs: VecDeque<Job<W>>,
    frames: usize,
    calls: usize,
    tick_waits: bool,
    /// In the pool's run queue, or being run.
    scheduled: bool,
    closed: bool,
}

/// One camera's mailbox and what it drives.
pub struct Lane<W> {
    name: String,
    mailbox: Mutex<Mailbox<W>>,
    room: Condvar,
    work: Mutex<W>,
    run_queue: Sender<Arc<dyn Turn>>,
    bound: usize,
    when_full: WhenFull,
    metrics: Arc<CameraMetrics>,
}

/// A poisoned lock here only means that a job panicked; the mailbox itself is changed by code that cannot.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<W: Work> Lane<W> {
    /// Adds a frame; by policy it may replace the oldest or wait. After [`Lane::close`] frames are refused and counted.
    pub fn frame(self: &Arc<Self>, frame: Frame, detections: Vec<Detection>) {
        let mut mailbox = lock(&self.mailbox);
        if self.when_full == WhenFull::Wait {
            while mailbox.frames >= self.bound && !mailbox.closed {
                mailbox = self.room.wait(mailbox).unwrap_or_else(PoisonError::into_inner);
            }
        }
        if mailbox.closed {
            self.metrics.dropped(DropReason::ShutdownGrace, 1);
            return;
        }
        if mailbox.frames >= self.bound {
            let oldest = mailbox.jobs.iter().position(|j| matches!(j, Job::Frame(..)));
            if let Some(at) = oldest {
                mailbox.jobs.remove(at);
                mailbox.frames -= 1;
                self.metrics.dropped(DropReason::GuestQueueFull, 1);
            }
        }
        mailbox.frames += 1;
        self.push(&mut mailbox, Job::Frame(frame, detections));
    }

    /// Tells that time passed; ignored when frames or a tick wait already.
    pub fn tick(self: &Arc<Self>, now_ns: u64) {
        let mut mailbox = lock(&self.mailbox);
        if !mailbox.closed && mailbox.frames == 0 && !mailbox.tick_waits {
            mailbox.tick_waits = true;
            self.push(&mut mailbox, Job::Tick(now_ns));
        }
    }

    /// Runs `call` between two frames, after the ones that wait already.
    ///
    /// # Errors
    /// When the lane is closed, or too many calls wait.
    pub fn call(self: &Arc<Self>, call: impl FnOnce(&mut W) + Send + 'static) -> Result<(), LaneError> {
        let mut mailbox = lock(&self.mailbox);
        if mailbox.closed {
            return Err(LaneError::Closed);
        }
        if mailbox.calls >= MAX_CALLS {
            return Err(LaneError::Busy);
        }
        mailbox.calls += 1;
        self.push(&mut mailbox, Job::Call(Box::new(call)));
        Ok(())
    }

    /// Takes one last call and nothing after it; what waits already is still done.
    pub fn close(self: &Arc<Self>, last: impl FnOnce(&mut W) + Send + 'static) {
        let mut mailbox = lock(&self.mailbox);
        if mailbox.closed {
            return;
        }
        mailbox.closed = true;
        mailbox.calls += 1;
        self.push(&mut mailbox, Job::Call(Box::new(last)));
        drop(mailbox);
        self.room.notify_all();
    }

    fn push(self: &Arc<Self>, mailbox: &mut Mailbox<W>, job: Job<W>) {
        mailbox.jobs.push_back(job);
        if !mailbox.scheduled {
            mailbox.scheduled = true;
            self.enqueue();
        }
    }

    fn enqueue(self: &Arc<Self>) {
        if self.run_queue.send(Arc::clone(self) as Arc<dyn Turn>).is_err() {
            // Only after the pool was dropped, when the host is going down and nothing runs any more.
            tracing::debug!(lane = self.name, "the guest pool is gone");
        }
    }
}

/// A lane as the pool sees it.
trait Turn: Send + Sync {
    fn turn(self: Arc<Self>);
}

impl<W: Work> Turn for Lane<W> {
    fn turn(self: Arc<Self>) {
        for _ in 0..JOBS_A_TURN {
            let job = {
                let mut mailbox = lock(&self.mailbox);
                let Some(job) = mailbox.jobs.pop_front() else {
                    mailbox.scheduled = false;
                    return;
                };
                match &job {
                    Job::Frame(..) => mailbox.frames -= 1,
                    Job::Tick(_) => mailbox.tick_waits = false,
                    Job::Call(_) => mailbox.calls -= 1,
                }
                job
            };
            if matches!(job, Job::Frame(..)) {
                self.room.notify_one();
            }
            let mut work = lock(&self.work);
            let done = catch_unwind(AssertUnwindSafe(|| match job {
                Job::Frame(frame, detections) => work.frame(frame, detections),
                Job::Tick(now) => work.tick(now),
                Job::Call(call) => call(&mut work),
            }));
            if done.is_err() {
                // The panic hook has logged message and place; the thread and the other cameras go on.
                tracing::error!(lane = self.name, "a job panicked: this is a bug in the host");
            }
        }
        let mut mailbox = lock(&self.mailbox);
        if mailbox.jobs.is_empty() {
            mailbox.scheduled = false;
        } else {
            drop(mailbox);
            self.enqueue();
        }
    }
}

/// The threads that run guests.
pub struct GuestPool {
    run_queue: Option<Sender<Arc<dyn Turn>>>,
    threads: Vec<JoinHandle<()>>,
}

impl GuestPool {
    /// Starts `threads` of them.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        // Bounded by the number of lanes: each is in it at most once.
        let (run_queue, turns) = crossbeam_channel::unbounded::<Arc<dyn Turn>>();
        let spawn = |n: usize| {
            let turns: Receiver<Arc<dyn Turn>> = turns.clone();
            std::thread::Builder::new().name(format!("guests-{n}")).spawn(move || {
                for lane in turns {
                    lane.turn();
                }
            })
        };
        let threads = (0..threads.max(1)).map(spawn).collect::<Result<_, _>>()?;
        Ok(Self { run_queue: Some(run_queue), threads })
    }

    /// A lane run by this pool.
    pub fn lane<W: Work>(
        &self,
        name: &str,
        work: W,
        bound: usize,
        when_full: WhenFull,
        metrics: Arc<CameraMetrics>,
    ) -> Arc<Lane<W>> {
        let run_queue = self.run_queue.clone().expect("the run queue is only taken when the pool is dropped");
        Arc::new(Lane {
            name: name.to_owned(),
            mailbox: Mutex::new(Mailbox {
                jobs: VecDeque::with_capacity(bound + 4),
                frames: 0,
                calls: 0,
                tick_waits: false,
                scheduled: false,
                closed: false,
            }),
            room: Condvar::new(),
            work: Mutex::new(work),
            run_queue,
            bound: bound.max(1),
            when_full,
            metrics,
        })
    }
}

impl Drop for GuestPool {
    fn drop(&mut self) {
        // Lanes hold senders too: threads end when the last lane is gone, so they are not joined here.
        self.run_queue = None;
        self.threads.clear();
    }
}

#[cfg(test)]
mod tests;
