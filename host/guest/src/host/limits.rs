//! Memory and time that a guest may use.
//!
//! Owns the count of memory over all memories and tables of an instance, and the decision whether a call is over its
//! time. Must not know what the call was for.

use std::cell::Cell;
use std::time::{Duration, Instant};

use wasmtime::{ResourceLimiter, UpdateDeadline};

use crate::config::GuestLimits;
use crate::engine::TICK;

/// Bytes that one table element takes.
const TABLE_ELEMENT_BYTES: u64 = 8;

/// Limits the sum of all memories and tables: a limit for each alone is doubled by a guest with two memories.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    used: u64,
    limit: u64,
    /// The latest growth, to be taken back when the allocator fails it after all.
    pending: u64,
    /// Whether the guest was refused memory since this was last cleared: tells why it trapped.
    pub(crate) denied: bool,
}

impl MemoryLimiter {
    pub(crate) fn new(limit: u64) -> Self {
        Self { used: 0, limit, pending: 0, denied: false }
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Bytes allowed.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    fn grow(&mut self, by: u64) -> bool {
        match self.used.checked_add(by) {
            Some(sum) if sum <= self.limit => {
                self.used = sum;
                self.pending = by;
                true
            }
            _ => {
                self.denied = true;
                self.pending = 0;
                false
            }
        }
    }

    fn undo(&mut self) {
        self.used = self.used.saturating_sub(std::mem::take(&mut self.pending));
        self.denied = true;
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|max| desired > max) {
            // The guest's own maximum, or the pool's: it would fail anyway, without our count being undone.
            self.denied = true;
            self.pending = 0;
            return Ok(false);
        }
        Ok(self.grow(desired.saturating_sub(current) as u64))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.undo();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|max| desired > max) {
            self.denied = true;
            self.pending = 0;
            return Ok(false);
        }
        Ok(self.grow((desired.saturating_sub(current) as u64).saturating_mul(TABLE_ELEMENT_BYTES)))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.undo();
        Ok(())
    }
}

/// Decides at an epoch whether the running call goes on.
///
/// The budget is *processor* time: on a machine whose cores are all busy a guest's thread can be kept off them for
/// longer than its whole budget, which is no fault of the guest. A loop uses processor time as fast as the wall clock
/// runs, so it is still cut within two ticks. A ceiling on wall time bounds the rest.
///
/// A virtual machine can stand still, too, and its kernel may charge that to the thread that happened to run: `botsort`,
/// 18 us a call, was found to have "used" 20 ms now and then (a few of 100,000 calls with 148 cameras). So a call that is
/// over goes on once, for a [`LAST`] bit: what only stood still is done in it, a loop is not.
///
/// Reading processor time is a system call (0.8 us measured on a virtual machine, where an empty call takes as much), the wall clock is not. So
/// it is read once a tick at most: a thread cannot have used more of the processor than has passed on the wall since the
/// latest reading, and a call shorter than a tick not more than it lasted.
#[derive(Debug)]
pub(crate) struct Deadline {
    call: Budget,
    start: Budget,
    active: Budget,
    cpu_at_start: Duration,
    /// Processor time that went into waiting for a device: the driver spins on locks of its own there.
    excused: Duration,
    began: Instant,
    /// When the next check is due, from the beginning.
    due: Duration,
    /// Whether the call has been over and was let go on.
    overrun: bool,
}

/// How long a call that is over goes on: to the next tick, so that a loop is cut within two.
const LAST: u64 = 1;

/// By how much the check of a call that runs may be late; one that comes later shows that the thread stood still.
const LATE: Duration = TICK.saturating_mul(2);

#[derive(Clone, Copy, Debug)]
struct Budget {
    cpu: Duration,
    wall: Duration,
}

/// Which budget a call runs under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallKind {
    /// Instantiation and the first `configure`.
    Start,
    /// Everything else.
    Frame,
}

impl Deadline {
    pub(crate) fn new(limits: &GuestLimits) -> Self {
        let ms = |v: u32| Duration::from_millis(v.into());
        let call = Budget { cpu: ms(limits.deadline_ms), wall: ms(limits.wall_deadline_ms) };
        let start = ms(limits.start_deadline_ms);
        let start = Budget { cpu: start, wall: start.saturating_mul(5) };
        Self {
            call,
            start,
            active: call,
            cpu_at_start: Duration::ZERO,
            excused: Duration::ZERO,
            began: Instant::now(),
            due: Duration::ZERO,
            overrun: false,
        }
    }

    /// Begins a call; returns the ticks to the first check.
    pub(crate) fn begin(&mut self, kind: CallKind) -> u64 {
        self.active = match kind {
            CallKind::Start => self.start,
            CallKind::Frame => self.call,
        };
        self.began = Instant::now();
        self.excused = Duration::ZERO;
        self.overrun = false;
        self.cpu_at_start = most_cpu_time(self.began);
        self.in_ticks(ticks(self.active.cpu), Duration::ZERO)
    }

    /// Wall time since the call began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Processor time of the call that has ended after so much wall time: to a tick.
    pub(crate) fn cpu_used(&self, elapsed: Duration) -> Duration {
        if elapsed < TICK { elapsed } else { thread_cpu_time().saturating_sub(self.cpu_at_start).min(elapsed) }
    }

    /// Does for the guest what only waits for a device. How long that takes is not the guest's doing: with 240 cameras on one
    /// GPU a reading that takes 0.1 ms took 20 of processor time now and then, in the driver's locks (13 of 864,000
    /// frames). In all not more than once the call's own budget is excused, whatever a guest asks for.
    pub(crate) fn excusing<T>(&mut self, f: impl FnOnce() -> T) -> T {
        let before = thread_cpu_time();
        let result = f();
        let excused = self.excused.saturating_add(thread_cpu_time().saturating_sub(before));
        self.excused = excused.min(self.active.cpu);
        result
    }

    /// Of the running call, or the latest one.
    pub(crate) fn excused(&self) -> Duration {
        self.excused
    }

    /// Milliseconds allowed in the call that runs: of processor, of wall time.
    pub(crate) fn allowed_ms(&self) -> (u32, u32) {
        let ms = |d: Duration| u32::try_from(d.as_millis()).unwrap_or(u32::MAX);
        (ms(self.active.cpu), ms(self.active.wall))
    }

    /// At the end of the ticks: over, or so many more.
    pub(crate) fn check(&mut self) -> UpdateDeadline {
        let cpu = thread_cpu_time().saturating_sub(self.cpu_at_start).saturating_sub(self.excused);
        self.decide(cpu, self.began.elapsed())
    }

    fn decide(&mut self, cpu: Duration, wall: Duration) -> UpdateDeadline {
        let Budget { cpu: budget, wall: ceiling } = self.active;
        let left = budget.saturating_sub(cpu).min(ceiling.saturating_sub(wall));
        // Less than half a tick left is over: ticks and clocks do not agree to the microsecond.
        let more = if left >= TICK / 2 {
            ticks(left)
        } else if self.overrun {
            return UpdateDeadline::Interrupt;
        } else {
            self.overrun = true;
            let stood_still = wall > self.due + LATE;
            if stood_still { ticks(budget / 4) } else { LAST }
        };
        UpdateDeadline::Continue(self.in_ticks(more, wall))
    }

    /// The next check comes after so many ticks.
    fn in_ticks(&mut self, ticks: u64, wall: Duration) -> u64 {
        self.due = wall.saturating_add(TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX)));
        ticks
    }
}

fn ticks(time: Duration) -> u64 {
    // One more, because the current tick is already under way.
    u64::try_from(time.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX / 2).saturating_add(1)
}

thread_local! {
    /// The latest reading of this thread's processor time, and when it was taken.
    static LATEST: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

/// The most that this thread's processor time can be now; at most a tick above what it is.
fn most_cpu_time(now: Instant) -> Duration {
    if let Some((at, cpu)) = LATEST.get() {
        let passed = now.saturating_duration_since(at);
        if passed < TICK {
            return cpu + passed;
        }
    }
    let cpu = thread_cpu_time();
    LATEST.set(Some((now, cpu)));
    cpu
}

/// Processor time of this thread.
fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec that the kernel fills.
    #[allow(unsafe_code)]
    let rc = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    if rc != 0 {
        // No such clock (a very old kernel): zero stands still, so that the wall ceiling decides.
        return Duration::ZERO;
    }
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_share_one_limit() {
        let mut limiter = MemoryLimiter::new(3 * 65_536);
        assert!(limiter.memory_growing(0, 65_536, None).unwrap());
        assert!(limiter.memory_growing(0, 65_536, None).unwrap(), "a second memory");
        assert!(!limiter.denied);
        assert!(!limiter.table_growing(0, 8193, None).unwrap(), "8193 elements are 8 bytes more than is left");
        assert!(limiter.denied);
        assert!(limiter.table_growing(0, 8192, None).unwrap());
        assert_eq!(limiter.used(), 3 * 65_536);
        limiter.table_grow_failed(wasmtime::Error::msg("no slot")).unwrap();
        assert_eq!(limiter.used(), 2 * 65_536);
    }

    /// A call that has begun, of 20 ms.
    fn begun() -> Deadline {
        let limits = GuestLimits { deadline_ms: 20, wall_deadline_ms: 400, ..GuestLimits::default() };
        let mut deadline = Deadline::new(&limits);
        assert_eq!(deadline.begin(CallKind::Frame), 21);
        deadline
    }

    /// What is decided after so many milliseconds of processor and wall time: more ticks, or none.
    fn decided(deadline: &mut Deadline, cpu: u64, wall: u64) -> Option<u64> {
        match deadline.decide(Duration::from_millis(cpu), Duration::from_millis(wall)) {
            UpdateDeadline::Continue(ticks) => Some(ticks),
            UpdateDeadline::Interrupt => None,
            _ => panic!("nothing else is decided"),
        }
    }

    #[test]
    fn waiting_threads_get_more_ticks_and_busy_ones_do_not() {
        let mut busy = begun();
        assert_eq!(decided(&mut busy, 20, 21), Some(LAST), "it may be done at once");
        assert_eq!(decided(&mut busy, 21, 22), None, "two ticks after its deadline");
        let mut waiting = begun();
        assert_eq!(decided(&mut waiting, 5, 21), Some(16));
        assert_eq!(decided(&mut waiting, 20, 37), Some(LAST), "its share of a busy processor is no standing still");
        assert_eq!(decided(&mut waiting, 21, 38), None);
        let mut kept_away = begun();
        assert_eq!(decided(&mut kept_away, 0, 395), Some(6));
        assert_eq!(decided(&mut kept_away, 0, 401), Some(LAST), "the wall ceiling");
        assert_eq!(decided(&mut kept_away, 0, 402), None);
    }

    #[test]
    fn a_call_whose_thread_stood_still_is_let_finish_once() {
        let mut deadline = begun();
        assert_eq!(decided(&mut deadline, 35, 35), Some(6), "a quarter of its time");
        assert_eq!(decided(&mut deadline, 60, 60), None);
        deadline.begin(CallKind::Frame);
        assert_eq!(decided(&mut deadline, 35, 35), Some(6), "each call by itself");
    }

    #[test]
    fn processor_time_of_a_thread_moves_on() {
        let before = thread_cpu_time();
        let mut x = 1_u64;
        while thread_cpu_time() <= before {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(thread_cpu_time() > before);
    }

    #[test]
    fn a_reading_is_used_again_for_a_tick_and_never_told_to_be_less_than_it_is() {
        LATEST.set(None);
        let now = Instant::now();
        let first = most_cpu_time(now);
        assert_eq!(most_cpu_time(now + TICK / 2), first + TICK / 2, "as if the thread had run all the time");
        let later = most_cpu_time(now + TICK);
        assert!(later >= first && later <= thread_cpu_time(), "a new reading");
    }

    #[test]
    fn a_call_is_charged_what_it_lasted_or_what_the_processor_says() {
        let mut deadline = Deadline::new(&GuestLimits::default());
        deadline.begin(CallKind::Frame);
        assert_eq!(deadline.cpu_used(TICK / 3), TICK / 3);
        // A wait of ten seconds would be a call that used next to nothing.
        assert!(deadline.cpu_used(Duration::from_secs(10)) < Duration::from_secs(5));
    }

    #[test]
    fn waiting_for_a_device_is_not_the_guests_time() {
        let limits = GuestLimits { deadline_ms: 20, ..GuestLimits::default() };
        let spin = |ms: u64| {
            let until = thread_cpu_time() + Duration::from_millis(ms);
            while thread_cpu_time() < until {}
        };
        let mut deadline = Deadline::new(&limits);
        deadline.begin(CallKind::Frame);
        deadline.excusing(|| spin(15));
        assert!(deadline.excused() >= Duration::from_millis(15));
        spin(8);
        assert!(matches!(deadline.check(), UpdateDeadline::Continue(_)), "23 ms, of which 8 are its own");
        spin(15);
        assert!(matches!(deadline.check(), UpdateDeadline::Continue(_)), "over: the last bit");
        assert!(matches!(deadline.check(), UpdateDeadline::Interrupt), "its own time counts as before");
        deadline.begin(CallKind::Frame);
        deadline.excusing(|| spin(45));
        assert_eq!(deadline.excused(), Duration::from_millis(20), "once its budget");
        assert!(matches!(deadline.check(), UpdateDeadline::Continue(_)), "over: the last bit");
        assert!(matches!(deadline.check(), UpdateDeadline::Interrupt));
        deadline.begin(CallKind::Frame);
        assert_eq!(deadline.excused(), Duration::ZERO, "each call by itself");
    }
}
