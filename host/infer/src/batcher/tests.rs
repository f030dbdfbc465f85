//! The state machine alone: no threads, time as a number.

use super::*;
use crate::testing::{frame_of, metrics, tally};
use proptest::prelude::*;

const WAIT: Duration = Duration::from_millis(10);

struct Bench {
    batcher: Batcher,
    start: Instant,
    metrics: Vec<Arc<CameraMetrics>>,
}

impl Bench {
    fn new(max_batch: usize, live_limit: usize, feeds: &[FeedKind]) -> Self {
        let start = Instant::now();
        let mut batcher = Batcher::new(max_batch, WAIT, live_limit, 1);
        let metrics: Vec<_> = feeds.iter().map(|_| metrics()).collect();
        for (kind, m) in feeds.iter().zip(&metrics) {
            batcher.attach(*kind, Arc::clone(m), Arc::new(|_, _| ()));
        }
        Self { batcher, start, metrics }
    }

    fn offer(&mut self, feed: u64, sequence: u64, ms: u64) -> bool {
        let at = self.start + Duration::from_millis(ms);
        self.batcher.offer(feed, frame_of(feed, sequence, 10), 0, at).is_ok()
    }

    /// Feed and sequence of what a worker gets now.
    fn run(&mut self, ms: u64) -> (Vec<(u64, u64)>, Vec<Job>) {
        match self.batcher.next(self.start + Duration::from_millis(ms)) {
            Next::Run(jobs) => (jobs.iter().map(|j| (j.feed, j.frame.info.sequence)).collect(), jobs),
            other => panic!("nothing to run: {other:?}"),
        }
    }

    /// Hands over what may be handed over now: feed and sequence.
    fn deliver(&mut self, feed: u64) -> Vec<u64> {
        let me = std::thread::current().id();
        let mut out = Vec::new();
        while let Some(d) = self.batcher.begin_delivery(feed, me) {
            out.push(d.frame.info.sequence);
            self.batcher.end_delivery(feed);
        }
        out
    }
}

const LIVE: FeedKind = FeedKind::Live;

#[test]
fn the_newest_frame_of_a_camera_wins() {
    let mut b = Bench::new(1, 1, &[LIVE]);
    for n in 0..5 {
        assert!(b.offer(0, n, n));
    }
    assert_eq!(b.run(9).0, [(0, 4)]);
    assert_eq!(tally(&b.metrics[0]), [0, 4, 0, 0]);
    assert!(matches!(b.batcher.next(b.start), Next::Idle));
}

#[test]
fn feeds_take_turns_whatever_they_offer() {
    let mut b = Bench::new(1, 1, &[FeedKind::Lossless { depth: 100 }, LIVE, LIVE]);
    for n in 0..6 {
        assert!(b.offer(0, n, 0));
    }
    assert!(b.offer(1, 0, 0) && b.offer(2, 0, 0));
    let mut order = Vec::new();
    for _ in 0..3 {
        order.extend(b.run(0).0);
    }
    assert_eq!(order, [(0, 0), (1, 0), (2, 0)]);
    // A camera that comes back is next after the file, not after all its frames.
    b.batcher.feeds.get_mut(&1).unwrap().taken = 0;
    assert!(b.offer(1, 1, 0));
    assert_eq!([b.run(0).0, b.run(0).0].concat(), [(0, 1), (1, 1)]);
}

#[test]
fn a_batch_fires_when_full_or_when_its_oldest_frame_has_waited() {
    let mut b = Bench::new(3, 2, &[LIVE, LIVE, LIVE, LIVE]);
    assert!(b.offer(0, 0, 0));
    let Next::Wait(left) = b.batcher.next(b.start + Duration::from_millis(4)) else { panic!("fired early") };
    assert_eq!(left, Duration::from_millis(6));
    // A newer frame takes the place, not the time already waited.
    assert!(b.offer(0, 1, 8));
    assert!(b.offer(1, 0, 8));
    let Next::Wait(left) = b.batcher.next(b.start + Duration::from_millis(9)) else { panic!("fired early") };
    assert_eq!(left, Duration::from_millis(1));
    assert_eq!(b.run(10).0, [(0, 1), (1, 0)]);
    for feed in 0..3 {
        assert!(b.offer(feed, 2, 20));
    }
    assert_eq!(b.run(20).0.len(), 3);
}

#[test]
fn what_cannot_come_is_not_waited_for() {
    let mut b = Bench::new(8, 2, &[LIVE, FeedKind::Lossless { depth: 2 }]);
    assert!(b.offer(0, 0, 0) && b.offer(1, 0, 0));
    assert!(matches!(b.batcher.next(b.start), Next::Wait(_)));
    assert!(b.offer(1, 1, 0));
    assert!(!b.offer(1, 2, 0), "a full file must wait");
    assert_eq!(b.run(0).0, [(0, 0), (1, 0), (1, 1)]);
    // A feed that drains brings nothing more.
    let mut b = Bench::new(8, 2, &[FeedKind::Lossless { depth: 9 }]);
    assert!(b.offer(0, 0, 0));
    b.batcher.set_draining(0, true);
    assert_eq!(b.run(0).0, [(0, 0)]);
}

#[test]
fn groups_do_not_mix_and_none_starves() {
    let mut b = Bench::new(4, 1, &[LIVE, LIVE, LIVE]);
    for (feed, group) in [(0, 7), (1, 8), (2, 7)] {
        b.batcher.offer(feed, frame_of(feed, 0, 10), group, b.start).unwrap();
    }
    assert_eq!(b.run(99).0, [(0, 0), (2, 0)]);
    assert_eq!(b.run(99).0, [(1, 0)]);
    // Frames of one feed never overtake each other.
    let mut b = Bench::new(4, 1, &[FeedKind::Lossless { depth: 9 }]);
    for (n, group) in [(0, 7), (1, 8), (2, 7)] {
        b.batcher.offer(0, frame_of(0, n, 10), group, b.start).unwrap();
    }
    for n in 0..3 {
        assert_eq!(b.run(99).0, [(0, n)]);
    }
}

#[test]
fn results_leave_in_the_order_of_frames() {
    let mut b = Bench::new(1, 3, &[FeedKind::Lossless { depth: 3 }]);
    for n in 0..3 {
        assert!(b.offer(0, n, 0));
    }
    let mut jobs: Vec<Job> = (0..3).flat_map(|_| b.run(0).1).collect();
    b.batcher.finish(jobs.pop().unwrap(), Ok(vec![]));
    assert_eq!(b.deliver(0), [] as [u64; 0]);
    assert!(!b.offer(0, 3, 0), "what waits for delivery counts");
    b.batcher.finish(jobs.remove(0), Err(InferError::Picture("bad".to_owned())));
    assert_eq!(b.deliver(0), [0]);
    b.batcher.finish(jobs.pop().unwrap(), Ok(vec![]));
    assert_eq!(b.deliver(0), [1, 2]);
    assert_eq!(tally(&b.metrics[0]), [2, 0, 1, 0]);
    assert!(b.batcher.is_drained(0));
}

#[test]
fn a_feed_is_delivered_to_by_one_thread_at_a_time() {
    let mut b = Bench::new(1, 3, &[LIVE]);
    let me = std::thread::current().id();
    for n in 0..2 {
        assert!(b.offer(0, n, 0));
        let (_, jobs) = b.run(0);
        jobs.into_iter().for_each(|j| b.batcher.finish(j, Ok(vec![])));
    }
    assert!(b.batcher.begin_delivery(0, me).is_some());
    assert!(b.batcher.begin_delivery(0, me).is_none());
    b.batcher.end_delivery(0);
    assert!(b.batcher.begin_delivery(0, me).is_some());
}

#[test]
fn a_live_feed_has_a_limit_on_its_way() {
    let mut b = Bench::new(1, 2, &[LIVE]);
    let mut jobs = Vec::new();
    for n in 0..2 {
        assert!(b.offer(0, n, 0));
        jobs.extend(b.run(0).1);
    }
    assert!(b.offer(0, 2, 0));
    assert!(matches!(b.batcher.next(b.start), Next::Idle));
    // An analysed frame that cannot be delivered yet does not make room: a slow sink must not fill memory.
    b.batcher.finish(jobs.pop().unwrap(), Ok(vec![]));
    assert!(matches!(b.batcher.next(b.start), Next::Idle));
    b.batcher.finish(jobs.pop().unwrap(), Ok(vec![]));
    assert_eq!(b.deliver(0), [0, 1]);
    assert_eq!(b.run(0).0, [(0, 2)]);
}

#[test]
fn what_a_leaving_feed_had_is_counted() {
    let mut b = Bench::new(1, 9, &[FeedKind::Lossless { depth: 9 }]);
    for n in 0..5 {
        assert!(b.offer(0, n, 0));
    }
    let mut jobs: Vec<Job> = (0..3).flat_map(|_| b.run(0).1).collect();
    // One analysed but behind another, two with workers, two waiting.
    b.batcher.finish(jobs.pop().unwrap(), Ok(vec![]));
    b.batcher.detach(0);
    for job in jobs {
        b.batcher.finish(job, Ok(vec![]));
    }
    assert_eq!(tally(&b.metrics[0]), [1, 0, 0, 5]);
    assert!(matches!(b.batcher.next(b.start), Next::Idle));
    assert!(!b.offer(0, 9, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Offer(u64),
    Run,
    Finish(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u64..4).prop_map(Step::Offer),
        2 => Just(Step::Run),
        2 => any::<usize>().prop_map(Step::Finish),
    ]
}

proptest! {
    /// Whatever happens in whatever order: files lose nothing, cameras lose only what is counted, order holds.
    #[test]
    fn nothing_is_lost_uncounted(steps in proptest::collection::vec(step(), 1..300), max_batch in 1usize..5) {
        let depth = 3;
        let mut b = Bench::new(max_batch, 2, &[LIVE, FeedKind::Lossless { depth }, LIVE, FeedKind::Lossless { depth }]);
        let mut offered = [0u64; 4];
        let mut delivered: [Vec<u64>; 4] = Default::default();
        let mut running = Vec::new();
        // At the end everything is run and finished.
        let finale = (0..600).map(|n| if n % 2 == 0 { Step::Run } else { Step::Finish(n) });
        for step in steps.into_iter().chain(finale) {
            match step {
                Step::Offer(feed) => {
                    let n = offered[feed as usize];
                    if b.offer(feed, n, 0) {
                        offered[feed as usize] += 1;
                    } else {
                        prop_assert!(feed % 2 == 1, "a camera never waits");
                    }
                }
                Step::Run => {
                    if let Next::Run(jobs) = b.batcher.next(b.start + WAIT) {
                        prop_assert!(!jobs.is_empty() && jobs.len() <= max_batch);
                        running.extend(jobs);
                    }
                }
                Step::Finish(n) if !running.is_empty() => {
                    let job: Job = running.swap_remove(n % running.len());
                    let feed = job.feed;
                    b.batcher.finish(job, Ok(vec![]));
                    delivered[feed as usize].extend(b.deliver(feed));
                }
                Step::Finish(_) => {}
            }
            for f in b.batcher.feeds.values() {
                let bound = if f.kind == LIVE { 1 } else { depth };
                prop_assert!(f.waiting.len() <= bound && f.done.len() <= f.taken);
                let most = if f.kind == LIVE { 2 } else { depth };
                prop_assert!(f.taken <= most);
            }
        }
        for feed in 0..4usize {
            prop_assert!(delivered[feed].is_sorted_by(|a, b| a < b));
            let lost = tally(&b.metrics[feed])[1];
            prop_assert_eq!(delivered[feed].len() as u64 + lost, offered[feed]);
            prop_assert!(feed % 2 == 0 || lost == 0);
        }
    }
}
