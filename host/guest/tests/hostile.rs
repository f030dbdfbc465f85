//! Guests that mean harm, one test each: the host lives, three other cameras of the same engine give the same bytes as
//! without it, and its slot can be given to another guest afterwards with nothing left behind.
//!
//! What each ends with is in `contain.rs`; here is what it does to others. Components are written as text in
//! `hostile_guests/`.
// Helpers outside of `#[test]` functions unwrap too: a failure there is the test's.
#![allow(clippy::unwrap_used)]

mod hostile_guests;
mod kit;

use std::sync::{Arc, OnceLock};

use facestream_core::guest::{SlotKind, SlotStatus};
use facestream_core::{CameraId, CameraMetrics};
use facestream_guest_host::{
    CameraGuests, GuestComponent, GuestConfig, GuestEngine, GuestSet, LoadError, Outcome, SlotGuest, SwapError,
};
use hostile_guests::{Ends, Hostile};
use kit::{detections, frame};

/// Frames of a run: two seconds and a half, so that budgets of a second turn and restarts have their waits.
const FRAMES: u64 = 64;

/// Cameras of a run; the second has the hostile guest.
const CAMERAS: [&str; 4] = ["cam-1", "cam-2", "cam-3", "cam-4"];
const VICTIM: usize = 1;

/// Four cameras on one engine, their components shared as the store shares them.
struct Host {
    engine: GuestEngine,
    tracker: Arc<GuestComponent>,
    scorer: Arc<GuestComponent>,
    formatter: Arc<GuestComponent>,
    cameras: Vec<CameraGuests>,
}

impl Host {
    /// `hostile` fills its slot of camera 2.
    fn start(hostile: Option<&Hostile>) -> Self {
        let config = GuestConfig { max_instances: 64, ..GuestConfig::default() };
        let engine = GuestEngine::new(&config).unwrap();
        let tracker = kit::load(&engine, &kit::tracker(&[]));
        let scorer = kit::load(&engine, &kit::scorer(&[]));
        let formatter = kit::load(&engine, &kit::formatter(&[]));
        let mut cameras = Vec::new();
        for (n, id) in CAMERAS.into_iter().enumerate() {
            let mut set = GuestSet {
                tracker: kit::slot_guest("tracker", &tracker),
                scorer: kit::slot_guest("scorer", &scorer),
                formatter: kit::slot_guest("formatter", &formatter),
            };
            if let Some(hostile) = hostile.filter(|_| n == VICTIM) {
                let guest = hostile.guest(&kit::load(&engine, &hostile.component));
                match hostile.slot {
                    SlotKind::Tracker => set.tracker = guest,
                    SlotKind::Scorer => set.scorer = guest,
                    SlotKind::Formatter => set.formatter = guest,
                }
            }
            let camera = CameraId::new(id).unwrap();
            let metrics = Arc::new(CameraMetrics::default());
            cameras.push(CameraGuests::new(&camera, set, &config, metrics).unwrap_or_else(|e| panic!("{id}: {e}")));
        }
        Self { engine, tracker, scorer, formatter, cameras }
    }

    fn good(&self, slot: SlotKind) -> SlotGuest {
        match slot {
            SlotKind::Tracker => kit::slot_guest("tracker", &self.tracker),
            SlotKind::Scorer => kit::slot_guest("scorer", &self.scorer),
            SlotKind::Formatter => kit::slot_guest("formatter", &self.formatter),
        }
    }

    /// Frames `from..to` through all four, in turns as lanes take them; what each camera gave, byte by byte.
    fn run(&mut self, from: u64, to: u64) -> Vec<Vec<String>> {
        let mut given = vec![Vec::new(); self.cameras.len()];
        for n in from..to {
            for (camera, given) in self.cameras.iter_mut().zip(&mut given) {
                let outcome = camera.process(&frame(n), &faces(n), None);
                given.push(written(&outcome));
            }
        }
        given
    }

    fn status(&self, slot: SlotKind) -> SlotStatus {
        self.cameras[VICTIM].status().into_iter().find(|s| s.slot == slot).unwrap()
    }
}

/// Faces that come and go, so that every slot has work: tracks begin and end, shots are taken and given up.
fn faces(n: u64) -> Vec<facestream_core::Detection> {
    detections(2 + usize::try_from(n / 5 % 4).unwrap())
}

/// Everything that leaves the guests of a camera for one frame.
fn written(outcome: &Outcome) -> String {
    format!("{:?} {:?} {:?}", outcome.tracks, outcome.ended, outcome.messages)
}

/// What the four give when all are good.
fn undisturbed() -> &'static [Vec<String>] {
    static RUN: OnceLock<Vec<Vec<String>>> = OnceLock::new();
    RUN.get_or_init(|| Host::start(None).run(0, FRAMES))
}

/// The other three cameras gave what they give without a hostile guest.
fn others_unharmed(given: &[Vec<String>], name: &str) {
    for (n, camera) in CAMERAS.iter().enumerate().filter(|(n, _)| *n != VICTIM) {
        assert_eq!(given[n], undisturbed()[n], "{name} changed what {camera} gives");
    }
}

/// Runs a hostile guest on camera 2, then takes it out again.
fn contained(hostile: &Hostile) {
    let name = hostile.name;
    let mut host = Host::start(Some(hostile));
    let given = host.run(0, FRAMES);
    others_unharmed(&given, name);

    let status = host.status(hostile.slot);
    let kinds: Vec<&str> = status.failures_by_kind.keys().copied().collect();
    match hostile.ends {
        Ends::Failing(kind) => assert_eq!(kinds, [kind], "{name}: {status:?}"),
        Ends::Bounded => assert!(kinds.is_empty(), "{name}: {status:?}"),
    }
    assert!(status.memory_bytes <= status.limits.max_memory_bytes.unwrap(), "{name}: {status:?}");

    // Another guest takes the slot over, the others do not notice, and nothing of the hostile one is left.
    let prepared = host.cameras[VICTIM].factory().prepare(hostile.slot, host.good(hostile.slot)).unwrap();
    let swapped = host.cameras[VICTIM].commit_swap(prepared);
    assert!(swapped.is_ok(), "{name}: {swapped:?}");
    let after = host.run(FRAMES, FRAMES + 8);
    assert!(after[VICTIM].iter().all(|given| given.contains("frame/0")), "{name}: {:?}", after[VICTIM]);
    let fresh = Host::start(None);
    assert_eq!(host.engine.live_instances(), fresh.engine.live_instances(), "{name} left an instance behind");
    let memory = |host: &Host| host.status(hostile.slot).memory_bytes;
    assert_eq!(memory(&host), memory(&fresh), "{name} left memory behind");
}

macro_rules! contained {
    ($($name:ident),+ $(,)?) => {
        $(#[test]
        fn $name() {
            contained(&hostile_guests::$name());
        })+

        /// The names above, so that a component that nobody runs is noticed.
        const RUN: &[&str] = &[$(stringify!($name)),+];
    };
}

contained!(
    endless_loop,
    endless_loop_in_the_allocator,
    deep_recursion,
    memory_bomb,
    two_memory_bomb,
    table_bomb,
    gigantic_list,
    gigantic_string,
    strings_that_share_one_megabyte,
    nan_boxes,
    infinite_boxes,
    negative_boxes,
    unknown_ids,
    repeated_ids,
    ended_twice,
    trap_on_call_20,
    slow_by_ten_times,
    log_flood,
    holding_all_crops,
    handles_dropped_twice,
    frame_kept_after_the_call,
    answer_outside_its_memory,
    refusing_every_call,
    hostile_topic,
    oversize_message,
    passes_its_test_then_traps,
);

#[test]
fn there_are_at_least_twenty_and_each_is_run() {
    assert!(RUN.len() >= 20);
    let written = include_str!("hostile_guests/mod.rs").matches("() -> Hostile {").count();
    // Three never run a frame: see `what_never_starts_disturbs_nobody`.
    assert_eq!(RUN.len() + 3, written, "a hostile guest that is written is not run");
    let named: std::collections::BTreeSet<&str> = hostile_guests::all().iter().map(|hostile| hostile.name).collect();
    assert_eq!(named.len(), RUN.len(), "{named:?}");
}

/// Components that never get near a camera: what is offered, and how it is refused.
#[test]
fn what_is_refused_disturbs_nobody() {
    let limit = GuestConfig::default().max_component_bytes;
    for (name, bytes) in hostile_guests::refused_at_the_door() {
        let mut host = Host::start(None);
        let first = host.run(0, FRAMES / 2);
        let error = GuestComponent::load(&host.engine, &bytes).unwrap_err();
        let expected = match name {
            "truncated bytes" => matches!(error, LoadError::Malformed(_)),
            "random bytes" => matches!(error, LoadError::NotWasm),
            "a file of 100 MB" => matches!(error, LoadError::TooBig { bytes, limit: l } if l == limit && bytes > l),
            "a plain module" => matches!(error, LoadError::PlainModule),
            "sockets" => error.to_string().contains("wasi:sockets/tcp"),
            "a future version of the contract" => matches!(error, LoadError::WitVersion { .. }),
            other => panic!("{other}: how is it refused?"),
        };
        assert!(expected, "{name}: {error}");
        let given: Vec<Vec<String>> =
            first.into_iter().zip(host.run(FRAMES / 2, FRAMES)).map(|(a, b)| [a, b].concat()).collect();
        assert_eq!(given, undisturbed(), "{name}");
    }
}

/// Guests whose start-up code or `configure` never comes back: found before the old guest is touched.
#[test]
fn what_never_starts_disturbs_nobody() {
    for hostile in [hostile_guests::starting(), hostile_guests::configuring(), hostile_guests::trapping_at_once()] {
        let mut host = Host::start(None);
        let first = host.run(0, FRAMES / 2);
        let component = kit::load(&host.engine, &hostile.component);
        let refused = host.cameras[VICTIM].factory().prepare(hostile.slot, hostile.guest(&component)).unwrap_err();
        assert!(matches!(refused, SwapError::Start { .. } | SwapError::SelfTest { .. }), "{}: {refused}", hostile.name);
        let given: Vec<Vec<String>> =
            first.into_iter().zip(host.run(FRAMES / 2, FRAMES)).map(|(a, b)| [a, b].concat()).collect();
        assert_eq!(given, undisturbed(), "{}", hostile.name);
        assert_eq!(host.engine.live_instances(), 12, "{} left an instance behind", hostile.name);
    }
}
