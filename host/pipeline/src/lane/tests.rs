//! Order, bounds and fairness of lanes, with scripted work.

use std::sync::Arc;
use std::sync::mpsc;

use facestream_core::frame::{FrameInfo, Picture, PictureError, Planes};
use facestream_core::{CameraMetrics, Detection, DropReason, Frame, Rect};

use super::{GuestPool, LaneError, MAX_CALLS, WhenFull, Work};

#[derive(Debug)]
struct NoPixels;

impl Picture for NoPixels {
    fn width(&self) -> u32 {
        1
    }
    fn height(&self) -> u32 {
        1
    }
    fn planes(&self) -> Option<Planes<'_>> {
        None
    }
    fn crop(&self, _: Rect, _: u32) -> Result<Arc<dyn Picture>, PictureError> {
        Err(PictureError::OutOfFrame { width: 1, height: 1 })
    }
    fn bytes(&self) -> usize {
        0
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

fn frame(sequence: u64) -> Frame {
    Frame { info: FrameInfo { sequence, ..FrameInfo::default() }, picture: Arc::new(NoPixels) }
}

#[derive(Debug, PartialEq)]
enum Seen {
    Frame(u64),
    Tick(u64),
    Call,
}

/// Reports what it sees; frame 666 panics.
struct Recorder(mpsc::Sender<Seen>);

impl Work for Recorder {
    fn frame(&mut self, frame: Frame, _: Vec<Detection>) {
        assert_ne!(frame.info.sequence, 666, "as the test wants");
        self.0.send(Seen::Frame(frame.info.sequence)).unwrap();
    }
    fn tick(&mut self, now_ns: u64) {
        self.0.send(Seen::Tick(now_ns)).unwrap();
    }
}

/// Pool, lane, what the lane saw, the gate before its worker, its counters.
type Blocked = (GuestPool, Arc<super::Lane<Recorder>>, mpsc::Receiver<Seen>, mpsc::Sender<()>, Arc<CameraMetrics>);

/// A lane whose worker stands still until the returned gate is dropped.
fn blocked_lane(bound: usize, when_full: WhenFull) -> Blocked {
    let pool = GuestPool::start(1).unwrap();
    let (tx, rx) = mpsc::channel();
    let metrics = Arc::new(CameraMetrics::default());
    let lane = pool.lane("test", Recorder(tx), bound, when_full, Arc::clone(&metrics));
    let (gate, closed) = mpsc::channel::<()>();
    let (entered, inside) = mpsc::channel();
    lane.call(move |_| {
        entered.send(()).unwrap();
        // Returns when the gate is dropped.
        assert!(closed.recv().is_err());
    })
    .unwrap();
    inside.recv().unwrap();
    (pool, lane, rx, gate, metrics)
}

#[test]
fn a_full_live_lane_drops_its_oldest_frame_and_counts_it() {
    let (_pool, lane, seen, gate, metrics) = blocked_lane(2, WhenFull::DropOldest);
    for n in 0..5 {
        lane.frame(frame(n), Vec::new());
    }
    drop(gate);
    assert_eq!([seen.recv().unwrap(), seen.recv().unwrap()], [Seen::Frame(3), Seen::Frame(4)]);
    assert_eq!(metrics.drops(DropReason::GuestQueueFull), 3);
}

#[test]
fn a_full_lossless_lane_makes_its_producer_wait() {
    let (_pool, lane, seen, gate, metrics) = blocked_lane(2, WhenFull::Wait);
    let producer = std::thread::spawn({
        let lane = Arc::clone(&lane);
        move || (0..100).for_each(|n| lane.frame(frame(n), Vec::new()))
    });
    drop(gate);
    producer.join().unwrap();
    let got: Vec<Seen> = seen.iter().take(100).collect();
    assert_eq!(got, (0..100).map(Seen::Frame).collect::<Vec<_>>());
    assert!(metrics.all_drops().is_empty());
}

#[test]
fn calls_keep_their_place_among_frames_and_are_bounded() {
    let (_pool, lane, seen, gate, _) = blocked_lane(8, WhenFull::DropOldest);
    lane.frame(frame(0), Vec::new());
    lane.call(|work| work.0.send(Seen::Call).unwrap()).unwrap();
    lane.frame(frame(1), Vec::new());
    for _ in 1..MAX_CALLS {
        lane.call(|_| {}).unwrap();
    }
    assert_eq!(lane.call(|_| {}), Err(LaneError::Busy));
    drop(gate);
    let got: Vec<Seen> = seen.iter().take(3).collect();
    assert_eq!(got, [Seen::Frame(0), Seen::Call, Seen::Frame(1)]);
}

#[test]
fn ticks_do_not_pile_up_and_give_way_to_frames() {
    let (_pool, lane, seen, gate, _) = blocked_lane(8, WhenFull::DropOldest);
    lane.tick(1);
    lane.tick(2);
    lane.frame(frame(0), Vec::new());
    lane.tick(3);
    drop(gate);
    assert_eq!([seen.recv().unwrap(), seen.recv().unwrap()], [Seen::Tick(1), Seen::Frame(0)]);
}

#[test]
fn a_closed_lane_finishes_what_waits_and_takes_nothing_more() {
    let (_pool, lane, seen, gate, metrics) = blocked_lane(8, WhenFull::DropOldest);
    lane.frame(frame(0), Vec::new());
    lane.close(|work| work.0.send(Seen::Call).unwrap());
    lane.frame(frame(1), Vec::new());
    assert_eq!(lane.call(|_| {}), Err(LaneError::Closed));
    drop(gate);
    assert_eq!([seen.recv().unwrap(), seen.recv().unwrap()], [Seen::Frame(0), Seen::Call]);
    assert_eq!(metrics.drops(DropReason::ShutdownGrace), 1);
}

#[test]
fn a_panic_in_one_job_stops_neither_lane_nor_pool() {
    let (_pool, lane, seen, gate, _) = blocked_lane(8, WhenFull::DropOldest);
    lane.frame(frame(666), Vec::new());
    lane.frame(frame(1), Vec::new());
    drop(gate);
    assert_eq!(seen.recv().unwrap(), Seen::Frame(1));
}

#[test]
fn lanes_take_turns() {
    let pool = GuestPool::start(1).unwrap();
    let (tx, rx) = mpsc::channel();
    let metrics = Arc::new(CameraMetrics::default());
    let lane = |name: &str| pool.lane(name, Recorder(tx.clone()), 100, WhenFull::Wait, Arc::clone(&metrics));
    let (a, b) = (lane("a"), lane("b"));
    let (gate, closed) = mpsc::channel::<()>();
    // Returns when the gate is dropped.
    a.call(move |_| assert!(closed.recv().is_err())).unwrap();
    (0..20).for_each(|n| a.frame(frame(n), Vec::new()));
    (100..104).for_each(|n| b.frame(frame(n), Vec::new()));
    drop(gate);
    let got: Vec<Seen> = rx.iter().take(24).collect();
    let b_done = got.iter().position(|s| *s == Seen::Frame(103)).unwrap();
    assert!(b_done < 12, "b had to wait for all of a: {got:?}");
}
