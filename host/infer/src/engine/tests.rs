//! Threads, with a backend that does what the test says. Tests wait for events with a generous bound, never for time.

use super::*;
use crate::testing::{frame_of, metrics, tally};
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, Sender, channel};

const LONG: Duration = Duration::from_secs(30);

/// What happens to a frame, by its sequence.
type Script = dyn Fn(&Frame) -> Result<Vec<Detection>, InferError> + Send + Sync;

struct Scripted {
    script: Arc<Script>,
    /// Every run: sequences of its frames.
    runs: Arc<Mutex<Vec<Vec<u64>>>>,
    opened: AtomicUsize,
    /// Opening fails while this is above zero.
    failing_opens: AtomicUsize,
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

impl Scripted {
    fn new(script: impl Fn(&Frame) -> Result<Vec<Detection>, InferError> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            script: Arc::new(script),
            runs: Arc::default(),
            opened: AtomicUsize::new(0),
            failing_opens: AtomicUsize::new(0),
        })
    }
}

struct Session {
    script: Arc<Script>,
    runs: Arc<Mutex<Vec<Vec<u64>>>>,
}

impl Backend for Session {
    fn infer(&mut self, frames: &[Frame]) -> Result<Vec<Vec<Detection>>, InferError> {
        self.runs.lock().unwrap().push(frames.iter().map(|f| f.info.sequence).collect());
        frames.iter().map(|f| (self.script)(f)).collect()
    }
}

impl Detector for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }
    fn open(&self) -> Result<Box<dyn Backend>, InferError> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        let failing = |n: usize| n.checked_sub(1);
        if self.failing_opens.fetch_update(Ordering::SeqCst, Ordering::SeqCst, failing).is_ok() {
            return Err(InferError::Config("cannot open".to_owned()));
        }
        Ok(Box::new(Session { script: Arc::clone(&self.script), runs: Arc::clone(&self.runs) }))
    }
    fn group(&self, frame: &Frame) -> u64 {
        u64::from(frame.picture.width())
    }
}

fn config(threads: usize, max_batch: usize, max_wait_ms: u64) -> InferConfig {
    InferConfig { threads, max_batch, max_wait_ms, ..InferConfig::default() }
}

type Heard = (u64, Result<usize, InferError>);

fn listener() -> (Sink, Receiver<Heard>) {
    let (tx, rx): (Sender<Heard>, _) = channel();
    let sink: Sink = Arc::new(move |frame: Frame, found: Found| {
        // The receiver may be gone when a test ends.
        drop(tx.send((frame.info.sequence, found.map(|f| f.len()))));
    });
    (sink, rx)
}

fn hear(rx: &Receiver<Heard>, n: usize) -> Vec<Heard> {
    (0..n).map(|_| rx.recv_timeout(LONG).expect("a result comes")).collect()
}

/// Blocks whoever passes until it is opened; tells when somebody has come.
#[derive(Default)]
struct Gate {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        self.changed.notify_all();
        drop(self.changed.wait_timeout_while(state, LONG, |s| !s.1).unwrap());
    }
    fn arrived(&self, n: usize) {
        let state = self.state.lock().unwrap();
        let (state, _) = self.changed.wait_timeout_while(state, LONG, |s| s.0 < n).unwrap();
        assert!(state.0 >= n, "nobody came to the gate");
    }
    fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

#[test]
fn a_file_loses_nothing_and_keeps_its_order_over_many_workers() {
    // Workers finish in an order that has nothing to do with the frames'.
    let detector = Scripted::new(|f| {
        for _ in 0..(f.info.sequence * 7919 % 13) {
            std::thread::yield_now();
        }
        Ok(vec![])
    });
    let engine = Engine::start(detector, &config(4, 1, 0)).unwrap();
    let (sink, rx) = listener();
    let m = metrics();
    let feed = engine.attach(FeedKind::Lossless { depth: 5 }, Arc::clone(&m), sink);
    for n in 0..2000 {
        assert!(feed.offer(frame_of(0, n, 10)));
    }
    assert!(feed.drain(LONG));
    let order: Vec<u64> = rx.try_iter().map(|(n, _)| n).collect();
    assert_eq!(order, (0..2000).collect::<Vec<_>>());
    assert_eq!(tally(&m), [2000, 0, 0, 0]);
    assert_eq!(engine.stats().frames, 2000);
}

#[test]
fn a_busy_engine_drops_old_frames_of_a_camera_and_counts_them() {
    let gate = Arc::new(Gate::default());
    let inside = Arc::clone(&gate);
    let detector = Scripted::new(move |f| {
        if f.info.sequence == 0 {
            inside.pass();
        }
        Ok(vec![])
    });
    let engine = Engine::start(detector, &config(1, 1, 0)).unwrap();
    let (sink, rx) = listener();
    let m = metrics();
    let feed = engine.attach(FeedKind::Live, Arc::clone(&m), sink);
    assert!(feed.offer(frame_of(0, 0, 10)));
    gate.arrived(1);
    for n in 1..10 {
        assert!(feed.offer(frame_of(0, n, 10)));
    }
    gate.open();
    assert_eq!(hear(&rx, 2), [(0, Ok(0)), (9, Ok(0))]);
    assert!(feed.drain(LONG));
    assert_eq!(tally(&m), [2, 8, 0, 0]);
}

#[test]
fn frames_of_cameras_share_a_run() {
    let detector = Scripted::new(|_| Ok(vec![]));
    let runs = Arc::clone(&detector.runs);
    // An hour to wait: only a full batch can fire.
    let engine = Engine::start(detector, &config(1, 3, 10_000)).unwrap();
    let (sink, rx) = listener();
    let feeds: Vec<_> = (0..3).map(|_| engine.attach(FeedKind::Live, metrics(), Arc::clone(&sink))).collect();
    for (n, feed) in feeds.iter().enumerate() {
        assert!(feed.offer(frame_of(0, n as u64, 10)));
    }
    hear(&rx, 3);
    assert_eq!(*runs.lock().unwrap(), [vec![0, 1, 2]]);
}

#[test]
fn a_lonely_frame_fires_when_its_time_is_over() {
    let engine = Engine::start(Scripted::new(|_| Ok(vec![])), &config(1, 8, 5)).unwrap();
    let (sink, rx) = listener();
    let feed = engine.attach(FeedKind::Live, metrics(), Arc::clone(&sink));
    let _quiet = engine.attach(FeedKind::Live, metrics(), sink);
    assert!(feed.offer(frame_of(0, 4, 10)));
    assert_eq!(hear(&rx, 1), [(4, Ok(0))]);
}

#[test]
fn one_bad_frame_does_not_cost_its_batch() {
    let bad = InferError::Picture("torn".to_owned());
    let error = bad.clone();
    let detector = Scripted::new(move |f| if f.info.sequence == 1 { Err(error.clone()) } else { Ok(vec![]) });
    let runs = Arc::clone(&detector.runs);
    let engine = Engine::start(detector, &config(1, 3, 10_000)).unwrap();
    let (sink, rx) = listener();
    let m = metrics();
    let feed = engine.attach(FeedKind::Lossless { depth: 3 }, Arc::clone(&m), sink);
    for n in 0..3 {
        assert!(feed.offer(frame_of(0, n, 10)));
    }
    assert_eq!(hear(&rx, 3), [(0, Ok(0)), (1, Err(bad)), (2, Ok(0))]);
    assert_eq!(tally(&m), [2, 0, 1, 0]);
    assert_eq!(*runs.lock().unwrap(), [vec![0, 1, 2], vec![0], vec![1], vec![2]]);
    assert_eq!(engine.stats().errors, 1);
}

#[test]
fn a_panic_is_contained_and_the_worker_opens_a_fresh_session() {
    let detector =
        Scripted::new(|f| if f.info.sequence == 1 { panic!("boom {}", f.info.sequence) } else { Ok(vec![]) });
    let engine = Engine::start(Arc::clone(&detector) as Arc<dyn Detector>, &config(1, 1, 0)).unwrap();
    let (sink, rx) = listener();
    let feed = engine.attach(FeedKind::Lossless { depth: 8 }, metrics(), sink);
    // The first attempt to open again fails, which costs one more frame and not the worker.
    detector.failing_opens.store(1, Ordering::SeqCst);
    for n in 0..4 {
        assert!(feed.offer(frame_of(0, n, 10)));
    }
    let heard = hear(&rx, 4);
    assert_eq!(heard[1].1, Err(InferError::Panicked("boom 1".to_owned())));
    assert_eq!(heard[2].1, Err(InferError::Config("cannot open".to_owned())));
    assert_eq!((&heard[0].1, &heard[3].1), (&Ok(0), &Ok(0)));
    assert_eq!(detector.opened.load(Ordering::SeqCst), 3);
    assert_eq!(engine.stats().panics, 1);
}

#[test]
fn a_backend_that_miscounts_is_an_error() {
    #[derive(Debug)]
    struct Short;
    impl Detector for Short {
        fn name(&self) -> &str {
            "short"
        }
        fn open(&self) -> Result<Box<dyn Backend>, InferError> {
            Ok(Box::new(Short))
        }
        fn group(&self, _: &Frame) -> u64 {
            0
        }
    }
    impl Backend for Short {
        fn infer(&mut self, _: &[Frame]) -> Result<Vec<Vec<Detection>>, InferError> {
            Ok(vec![])
        }
    }
    let engine = Engine::start(Arc::new(Short), &config(1, 1, 0)).unwrap();
    let (sink, rx) = listener();
    let feed = engine.attach(FeedKind::Live, metrics(), sink);
    assert!(feed.offer(frame_of(0, 0, 10)));
    assert!(hear(&rx, 1)[0].1.as_ref().unwrap_err().to_string().contains("0 results for 1 frames"));
}

#[test]
fn a_sink_that_panics_costs_only_its_own_frame() {
    let engine = Engine::start(Scripted::new(|_| Ok(vec![])), &config(1, 1, 0)).unwrap();
    let (sink, rx) = listener();
    let wild: Sink = Arc::new(|_, _| panic!("sink"));
    let bad = engine.attach(FeedKind::Lossless { depth: 2 }, metrics(), wild);
    let good = engine.attach(FeedKind::Live, metrics(), sink);
    for n in 0..5 {
        assert!(bad.offer(frame_of(0, n, 10)));
    }
    assert!(bad.drain(LONG));
    assert!(good.offer(frame_of(1, 0, 10)));
    assert_eq!(hear(&rx, 1), [(0, Ok(0))]);
}

#[test]
fn after_a_feed_is_dropped_its_sink_is_silent() {
    let gate = Arc::new(Gate::default());
    let inside = Arc::clone(&gate);
    let detector = Scripted::new(move |_| {
        inside.pass();
        Ok(vec![])
    });
    let engine = Engine::start(detector, &config(1, 1, 0)).unwrap();
    let (sink, rx) = listener();
    let m = metrics();
    let feed = engine.attach(FeedKind::Lossless { depth: 3 }, Arc::clone(&m), sink);
    for n in 0..3 {
        assert!(feed.offer(frame_of(0, n, 10)));
    }
    gate.arrived(1);
    drop(feed);
    gate.open();
    engine.stop();
    assert_eq!(rx.try_iter().count(), 0);
    assert_eq!(tally(&m), [0, 0, 0, 3]);
}

#[test]
fn dropping_a_feed_waits_for_the_call_of_its_sink() {
    let gate = Arc::new(Gate::default());
    let inside = Arc::clone(&gate);
    let done = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&done);
    let sink: Sink = Arc::new(move |_, _| {
        inside.pass();
        count.fetch_add(1, Ordering::SeqCst);
    });
    let engine = Engine::start(Scripted::new(|_| Ok(vec![])), &config(2, 1, 0)).unwrap();
    let feed = engine.attach(FeedKind::Live, metrics(), sink);
    assert!(feed.offer(frame_of(0, 0, 10)));
    gate.arrived(1);
    let dropper = std::thread::spawn(move || drop(feed));
    gate.open();
    dropper.join().unwrap();
    assert_eq!(done.load(Ordering::SeqCst), 1);
}

#[test]
fn stopping_delivers_what_runs_and_counts_what_waits() {
    let gate = Arc::new(Gate::default());
    let inside = Arc::clone(&gate);
    let detector = Scripted::new(move |_| {
        inside.pass();
        Ok(vec![])
    });
    let engine = Engine::start(detector, &config(1, 1, 0)).unwrap();
    let (sink, rx) = listener();
    let m = metrics();
    let feed = Arc::new(engine.attach(FeedKind::Lossless { depth: 2 }, Arc::clone(&m), sink));
    assert!(feed.offer(frame_of(0, 0, 10)) && feed.offer(frame_of(0, 1, 10)));
    gate.arrived(1);
    // This one finds no room and waits; stopping must wake it.
    let waiter = Arc::clone(&feed);
    let offerer = std::thread::spawn(move || waiter.offer(frame_of(0, 2, 10)));
    let stopper = {
        let engine = Arc::clone(&engine);
        std::thread::spawn(move || engine.stop())
    };
    assert!(!offerer.join().unwrap());
    gate.open();
    stopper.join().unwrap();
    assert_eq!(hear(&rx, 1), [(0, Ok(0))]);
    assert!(!feed.offer(frame_of(0, 3, 10)));
    assert!(feed.drain(LONG));
    assert_eq!(tally(&m), [1, 0, 0, 3]);
}

#[test]
fn a_session_that_cannot_be_opened_is_an_answer() {
    let detector = Scripted::new(|_| Ok(vec![]));
    detector.failing_opens.store(1, Ordering::SeqCst);
    assert!(Engine::start(detector, &config(2, 1, 0)).is_err());
}

/// Many cameras and files at once: order and counts hold for each.
#[test]
fn everything_adds_up_under_load() {
    let detector = Scripted::new(|f| {
        let n = f.info.sequence;
        if n % 17 == 0 { Err(InferError::Picture("x".to_owned())) } else { Ok(vec![]) }
    });
    let engine = Engine::start(detector, &config(3, 4, 1)).unwrap();
    std::thread::scope(|scope| {
        for camera in 0..8u64 {
            let engine = &engine;
            scope.spawn(move || {
                let kind = if camera % 2 == 0 { FeedKind::Live } else { FeedKind::Lossless { depth: 4 } };
                let (sink, rx) = listener();
                let m = metrics();
                let feed = engine.attach(kind, Arc::clone(&m), sink);
                for n in 0..500 {
                    assert!(feed.offer(frame_of(camera, n, 10 + (camera % 3) as u32)));
                }
                assert!(feed.drain(LONG));
                let heard: Vec<_> = rx.try_iter().collect();
                assert!(heard.is_sorted_by(|a, b| a.0 < b.0));
                let [analysed, superseded, errors, lost] = tally(&m);
                assert_eq!((analysed + superseded + errors, lost), (500, 0));
                assert_eq!(analysed + errors, heard.len() as u64);
                assert!(camera % 2 == 0 || superseded == 0);
            });
        }
    });
}
