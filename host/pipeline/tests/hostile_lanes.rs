//! Guests that mean harm on a running camera: four cameras share two guest threads, as in the service; each hostile guest
//! of the guest platform's tests is put into camera 2 and taken out again.
//!
//! The other three give the same bytes, frame by frame, as without it; the process's memory and the pictures that are alive
//! are back when it is gone. One test alone in this process, because it measures the process.
#![allow(clippy::unwrap_used, reason = "a test: what is missing is a failure, and helpers are not seen as tests")]

#[path = "../../guest/tests/hostile_guests/mod.rs"]
mod hostile_guests;
#[path = "../../guest/tests/kit/mod.rs"]
mod kit;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};

use facestream_core::guest::{SlotKind, SlotStatus};
use facestream_core::{CameraId, CameraMetrics, Detection, FrameInfo, Message, Shot, SystemClock, Track};
use facestream_guest_host::{
    CameraGuests, GuestComponent, GuestConfig, GuestEngine, GuestSet, PreparedGuest, SlotGuest, SwapError,
};
use facestream_pipeline::lane::{GuestPool, Lane, WhenFull};
use facestream_pipeline::stage::{Observer, Outlet, Stage};
use facestream_test_support::resident_bytes;
use hostile_guests::Ends;

/// Frames before the hostile guest comes, with it, and after it.
const PHASES: [u64; 3] = [8, 56, 8];
const CAMERAS: usize = 4;
/// More than any machine needs.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
/// Camera 2.
const VICTIM: usize = 1;

#[derive(Clone, Default)]
struct Given(Arc<Mutex<Vec<String>>>);

impl Given {
    fn line(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

impl Observer for Given {
    fn frame(&mut self, info: &FrameInfo, _: &[Detection], tracks: Option<&[Track]>, ended: &[Track]) {
        self.line(format!("{}/{} {tracks:?} {ended:?}", info.session, info.sequence));
    }

    fn shot(&mut self, shot: &Shot) {
        self.line(format!("{shot:?}"));
    }

    fn message(&mut self, message: &Message) {
        self.line(format!("{message:?}"));
    }
}

struct Nowhere;

impl Outlet for Nowhere {
    fn accept(&self, _: Message) -> Result<(), String> {
        Ok(())
    }
}

struct Host {
    config: GuestConfig,
    engine: GuestEngine,
    pool: GuestPool,
    good: [(SlotKind, Arc<GuestComponent>); 3],
}

impl Host {
    fn new() -> Self {
        let config = GuestConfig { max_instances: 64, ..GuestConfig::default() };
        let engine = GuestEngine::new(&config).unwrap();
        let good = [
            (SlotKind::Tracker, kit::load(&engine, &kit::tracker(&[]))),
            (SlotKind::Scorer, kit::load(&engine, &kit::scorer(&[]))),
            (SlotKind::Formatter, kit::load(&engine, &kit::formatter(&[]))),
        ];
        Self { config, engine, pool: GuestPool::start(2).unwrap(), good }
    }

    fn good(&self, slot: SlotKind) -> SlotGuest {
        let (_, component) = self.good.iter().find(|(kind, _)| *kind == slot).unwrap();
        kit::slot_guest(slot.as_str(), component)
    }

    /// What each camera gave, frame by frame, and the slots of camera 2 at the end. `hostile` comes into camera 2 by a swap; when its own self-test refuses it,
    /// camera 2 begins with it instead.
    fn run(&self, hostile: Option<&(SlotGuest, SlotKind)>) -> (Vec<Vec<String>>, Vec<SlotStatus>) {
        let refused =
            hostile.is_some_and(|(guest, slot)| self.factory_of_a_camera().prepare(*slot, guest.clone()).is_err());
        let cameras: Vec<_> = (0..CAMERAS)
            .map(|n| {
                let mut set = GuestSet {
                    tracker: self.good(SlotKind::Tracker),
                    scorer: self.good(SlotKind::Scorer),
                    formatter: self.good(SlotKind::Formatter),
                };
                if let Some((guest, slot)) = hostile.filter(|_| refused && n == VICTIM) {
                    match slot {
                        SlotKind::Tracker => set.tracker = guest.clone(),
                        SlotKind::Scorer => set.scorer = guest.clone(),
                        SlotKind::Formatter => set.formatter = guest.clone(),
                    }
                }
                let id = CameraId::new(&format!("camera-{}", n + 1)).unwrap();
                let metrics = Arc::new(CameraMetrics::default());
                let guests = CameraGuests::new(&id, set, &self.config, Arc::clone(&metrics)).unwrap();
                let (factory, given) = (guests.factory(), Given::default());
                let clock = Arc::new(SystemClock::default());
                let stage = Stage::new(guests, Arc::new(Nowhere), Arc::clone(&metrics), clock)
                    .observed_by(Box::new(given.clone()));
                (self.pool.lane(id.as_str(), stage, 4, WhenFull::Wait, metrics), factory, given)
            })
            .collect();
        std::thread::scope(|scope| {
            for (n, (lane, factory, _)) in cameras.iter().enumerate() {
                scope.spawn(move || {
                    let mut at = 0;
                    for (phase, frames) in PHASES.into_iter().enumerate() {
                        if let Some((guest, slot)) = hostile.filter(|_| n == VICTIM) {
                            let wanted = match phase {
                                1 if !refused => Some(guest.clone()),
                                2 => Some(self.good(*slot)),
                                _ => None,
                            };
                            if let Some(wanted) = wanted {
                                put_in(lane, factory.prepare(*slot, wanted).unwrap()).unwrap();
                            }
                        }
                        for n in at..at + frames {
                            lane.frame(kit::frame(n), faces(n));
                        }
                        at += frames;
                    }
                });
            }
        });
        let mut slots = Vec::new();
        let given = cameras
            .into_iter()
            .enumerate()
            .map(|(n, (lane, _, given))| {
                let (done, finished) = mpsc::channel();
                lane.close(move |stage| {
                    stage.finish();
                    done.send(stage.guests.status()).unwrap();
                });
                let status = finished.recv_timeout(PATIENCE).unwrap();
                if n == VICTIM {
                    slots = status;
                }
                std::mem::take(&mut *given.0.lock().unwrap())
            })
            .collect();
        (given, slots)
    }

    /// No instance and no picture is alive any more; guest threads end a moment after their last lane.
    fn is_empty(&self, name: &str) {
        let began = std::time::Instant::now();
        loop {
            let alive = (self.engine.live_instances(), kit::PICTURES.load(Ordering::SeqCst));
            if alive == (0, 0) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{name} keeps instances and pictures: {alive:?}");
            std::thread::yield_now();
        }
    }

    fn factory_of_a_camera(&self) -> facestream_guest_host::GuestFactory {
        let set = GuestSet {
            tracker: self.good(SlotKind::Tracker),
            scorer: self.good(SlotKind::Scorer),
            formatter: self.good(SlotKind::Formatter),
        };
        let id = CameraId::new("trial").unwrap();
        CameraGuests::new(&id, set, &self.config, Arc::new(CameraMetrics::default())).unwrap().factory()
    }
}

fn put_in(lane: &Arc<Lane<Stage>>, prepared: PreparedGuest) -> Result<(), SwapError> {
    let (answer, swapped) = mpsc::channel();
    lane.call(move |stage| {
        let report = stage.guests.commit_swap(prepared).map(|(_, outcome)| stage.hand_over(outcome));
        answer.send(report).unwrap();
    })
    .unwrap();
    swapped.recv_timeout(PATIENCE).unwrap()
}

/// Faces that come and go, so that every slot has work.
fn faces(n: u64) -> Vec<Detection> {
    kit::detections(2 + usize::try_from(n / 5 % 4).unwrap())
}

#[test]
fn hostile_guests_change_no_byte_of_other_cameras_and_leave_no_memory_behind() {
    let host = Host::new();
    let (undisturbed, _) = host.run(None);
    assert!(undisturbed.iter().all(|given| given.len() as u64 > PHASES.iter().sum::<u64>()));
    let guests: Vec<(&str, Ends, (SlotGuest, SlotKind))> = hostile_guests::all()
        .into_iter()
        .map(|hostile| {
            let guest = hostile.guest(&kit::load(&host.engine, &hostile.component));
            (hostile.name, hostile.ends, (guest, hostile.slot))
        })
        .collect();
    let contained = |name: &str, ends: Ends, hostile: &(SlotGuest, SlotKind)| {
        let (given, slots) = host.run(Some(hostile));
        let slot = slots.iter().find(|s| s.slot == hostile.1).unwrap();
        let kinds: Vec<&str> = slot.failures_by_kind.keys().copied().collect();
        match ends {
            Ends::Failing(kind) => assert_eq!(kinds, [kind], "{name} did what it is there for: {slot:?}"),
            Ends::Bounded => assert!(kinds.is_empty() && slot.calls > slot.guest_calls, "{name} was called: {slot:?}"),
        }
        for n in (0..CAMERAS).filter(|n| *n != VICTIM) {
            let differs = given[n].iter().zip(&undisturbed[n]).find(|(a, b)| a != b);
            assert!(
                differs.is_none() && given[n].len() == undisturbed[n].len(),
                "{name}, camera {}: {differs:?}",
                n + 1
            );
        }
        let last = given[VICTIM].iter().rev().find(|line| line.starts_with("1/")).unwrap();
        assert!(last.contains("Some(["), "{name}: the good guest works in its place: {last}");
        host.is_empty(name);
    };
    // What is there once for all comes with the first rounds: machine code, what the allocator keeps for each thread, tables for
    // backtraces.
    for _ in 0..6 {
        guests.iter().for_each(|(name, ends, hostile)| contained(name, *ends, hostile));
    }
    let (begin, mut worst) = (resident_bytes(), (0.0, ""));
    for (name, ends, hostile) in &guests {
        // What it leaves behind it leaves behind every time; what the allocator keeps for once it does not.
        let grown = (0..3).map(|_| {
            let before = resident_bytes();
            contained(name, *ends, hostile);
            resident_bytes() as f64 / before as f64 - 1.0
        });
        let grown = grown.fold(f64::INFINITY, f64::min);
        if grown > worst.0 {
            worst = (grown, name);
        }
        assert!(grown <= 0.05, "{name} leaves {:.1} % of {} MiB behind", grown * 100.0, begin >> 20);
    }
    let all = resident_bytes() as f64 / begin as f64 - 1.0;
    println!(
        "left behind: at most {:.1} % ({}), {:.1} % after all of {} MiB",
        worst.0 * 100.0,
        worst.1,
        all * 100.0,
        begin >> 20
    );
    assert!(all <= 0.05, "all of them leave {:.1} % behind", all * 100.0);
}
