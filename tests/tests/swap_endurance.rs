//! Swaps change nothing: four cameras at full speed, the guests of one replaced again and again, against the same recording
//! without a swap. And nothing is left behind: memory and instances stay flat.
//!
//! 30 swaps a slot in the default suite, 1,000 with `FACESTREAM_LONG=1` (10,000 for what is left behind). The pause of each
//! swap is printed, not asserted: it depends on the machine.
#![allow(clippy::unwrap_used, reason = "a test: what is missing is a failure, and helpers are not seen as tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use facestream_core::frame::ColorMatrix;
use facestream_core::guest::{SlotKind, SwapReport};
use facestream_core::metrics::Counter;
use facestream_core::{
    CameraId, CameraMetrics, Detection, Frame, FrameInfo, Message, Picture, Shot, SystemClock, Track, TrackPhase,
    TrackUpdate,
};
use facestream_guest_host::{CameraGuests, GuestComponent, GuestConfig, GuestEngine, GuestSet, SlotGuest};
use facestream_pipeline::lane::{GuestPool, Lane, WhenFull};
use facestream_pipeline::stage::{Observer, Outlet, Stage};
use facestream_pixels::HostPicture;
use facestream_test_support::{asset, assets_dir, resident_bytes, skip};
use facestream_tests::recordings::{self, Recorded};
use serde_json::json;

/// Frames between two rounds of swaps.
const EVERY: usize = 4;
const GUESTS: [&str; 4] = ["botsort", "bytetrack", "best-shot", "gate-and-mega"];

/// Tests of this file take turns: one of them measures the process's memory.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn long() -> bool {
    std::env::var_os("FACESTREAM_LONG").is_some()
}

/// Compiled guests by name.
struct Guests {
    engine: GuestEngine,
    components: BTreeMap<&'static str, Arc<GuestComponent>>,
}

impl Guests {
    fn compiled() -> Result<Self, String> {
        let engine = GuestEngine::new(&GuestConfig { max_instances: 64, ..GuestConfig::default() }).unwrap();
        let mut components = BTreeMap::new();
        for name in GUESTS {
            let bytes = std::fs::read(asset(&format!("guests/{name}.wasm"))?).unwrap();
            components.insert(name, GuestComponent::load(&engine, &bytes).unwrap());
        }
        Ok(Self { engine, components })
    }

    fn guest(&self, name: &str) -> SlotGuest {
        SlotGuest::new(name, Arc::clone(&self.components[name]), json!({}))
    }

    fn set(&self) -> GuestSet {
        GuestSet {
            tracker: self.guest("botsort"),
            scorer: self.guest("best-shot"),
            formatter: self.guest("gate-and-mega"),
        }
    }
}

macro_rules! guests_or_skip {
    ($test:literal) => {
        match Guests::compiled() {
            Ok(guests) => guests,
            Err(why) => {
                assert!(std::env::var_os("CI").is_none(), "{why} ({})", assets_dir().display());
                return skip(concat!("swap_endurance: ", $test), &why);
            }
        }
    };
}

/// Everything that came out of one camera, in order, to the last bit.
#[derive(Default)]
struct Log {
    lines: Vec<String>,
    frames: Vec<(u64, u64)>,
    /// Of each frame: ids of confirmed tracks, of all live ones, of those that ended.
    ids: Vec<(BTreeSet<u64>, BTreeSet<u64>, Vec<u64>)>,
    messages: Vec<String>,
    /// Ended outside of a frame.
    failed_frames: usize,
}

struct Watching(Arc<Mutex<Log>>);

impl Observer for Watching {
    fn frame(&mut self, info: &FrameInfo, _: &[Detection], tracks: Option<&[Track]>, ended: &[Track]) {
        let mut log = self.0.lock().unwrap();
        log.frames.push((info.session, info.sequence));
        let Some(tracks) = tracks else {
            log.failed_frames += 1;
            return;
        };
        let ended: Vec<u64> = ended.iter().map(|t| t.id).collect();
        let of = |wanted: &dyn Fn(&Track) -> bool| tracks.iter().filter(|t| wanted(t)).map(|t| t.id).collect();
        log.ids.push((of(&|t| t.phase == TrackPhase::Confirmed), of(&|_| true), ended.clone()));
        let update = TrackUpdate { tracks: tracks.to_vec(), ended };
        log.lines.push(format!("{} {} {}", info.session, info.sequence, recordings::answer(&update)));
    }

    fn shot(&mut self, shot: &Shot) {
        let Shot { track_id, score, session, sequence, reason, bbox, .. } = shot;
        let bits = [bbox.x, bbox.y, bbox.width, bbox.height, *score].map(f32::to_bits);
        let line = format!("shot {track_id} {session} {sequence} {} {bits:x?}", reason.as_str());
        self.0.lock().unwrap().lines.push(line);
    }

    fn message(&mut self, message: &Message) {
        let mut hash = DefaultHasher::new();
        (&message.payload, &message.key, &message.topic, &message.headers).hash(&mut hash);
        let mut log = self.0.lock().unwrap();
        log.lines.push(format!("message {} {} {:x}", message.id, message.payload.len(), hash.finish()));
        log.messages.push(message.id.to_string());
    }
}

struct Accept;

impl Outlet for Accept {
    fn accept(&self, _: Message) -> Result<(), String> {
        Ok(())
    }
}

/// A few pictures with texture, which crops and JPEGs differ by.
fn pictures() -> Vec<Arc<dyn Picture>> {
    let picture = |n: usize| -> Arc<dyn Picture> {
        let (width, height) = (1920_usize, 1080_usize);
        let data = (0..width * height * 3 / 2)
            .map(|i| {
                let (x, y) = (i % width, i / width);
                (40 + (x / 9 * 37 + y / 7 * 11 + n * 5) % 150 + (x * y + n) % 23) as u8
            })
            .collect();
        Arc::new(HostPicture::new(1920, 1080, data, true, ColorMatrix::Bt601).unwrap())
    };
    (0..3).map(picture).collect()
}

/// What to put into a slot after so many frames.
type Plan = dyn Fn(usize, SlotKind) -> Option<&'static str> + Sync;

struct Run {
    /// Logs of the four cameras.
    cameras: Vec<Log>,
    reports: Vec<SwapReport>,
    /// Failures and restarts over all slots.
    failures: u64,
}

/// Four cameras on two guest threads, each fed as fast as it goes; the second one's guests are replaced by plan.
fn run(guests: &Guests, recordings: &[Vec<Recorded>], plan: &Plan) -> Run {
    let pool = GuestPool::start(2).unwrap();
    let pictures = pictures();
    let outlet: Arc<dyn Outlet> = Arc::new(Accept);
    let config = GuestConfig { max_instances: 64, ..GuestConfig::default() };
    let start = |n: usize| {
        let id = CameraId::new(&format!("camera-{}", n + 1)).unwrap();
        let metrics = Arc::new(CameraMetrics::default());
        let cameras = CameraGuests::new(&id, guests.set(), &config, Arc::clone(&metrics)).unwrap();
        let factory = cameras.factory();
        let log = Arc::new(Mutex::new(Log::default()));
        let stage = Stage::new(cameras, Arc::clone(&outlet), Arc::clone(&metrics), Arc::new(SystemClock::default()))
            .observed_by(Box::new(Watching(Arc::clone(&log))));
        let slots = stage.slots();
        let lane = pool.lane(id.as_str(), stage, 4, WhenFull::Wait, Arc::clone(&metrics));
        (lane, factory, log, slots, metrics)
    };
    let cameras: Vec<_> = (0..recordings.len()).map(start).collect();
    let reports = std::thread::scope(|scope| {
        let feeding: Vec<_> = cameras
            .iter()
            .zip(recordings)
            .enumerate()
            .map(|(n, ((lane, factory, ..), recording))| {
                let pictures = &pictures;
                scope.spawn(move || {
                    let mut reports = Vec::new();
                    for (at, frame) in recording.iter().enumerate() {
                        let picture = Arc::clone(&pictures[at % pictures.len()]);
                        lane.frame(Frame { info: frame.info, picture }, frame.detections.clone());
                        for slot in SlotKind::ALL.into_iter().filter(|_| n == 1) {
                            if let Some(name) = plan(at + 1, slot) {
                                let prepared = factory.prepare(slot, guests.guest(name)).unwrap();
                                let kept = GuestConfig::default().probation_frames;
                                reports.push(swap(lane, prepared.on_probation_for(kept)));
                            }
                        }
                    }
                    reports
                })
            })
            .collect();
        feeding.into_iter().flat_map(|f| f.join().unwrap()).collect()
    });
    let mut failures = 0;
    let mut logs = Vec::new();
    for ((lane, _, log, slots, metrics), recording) in cameras.into_iter().zip(recordings) {
        let (done, finished) = mpsc::channel();
        lane.close(move |stage| {
            stage.finish();
            done.send(()).unwrap();
        });
        finished.recv().unwrap();
        failures += slots.lock().unwrap().iter().map(|s| s.failures + s.restarts).sum::<u64>();
        assert_eq!(metrics.all_drops(), BTreeMap::new(), "nothing was lost");
        let log = std::mem::take(&mut *log.lock().unwrap());
        assert_eq!(metrics.get(Counter::Messages), log.messages.len() as u64);
        let expected: Vec<_> = recording.iter().map(|r| (r.info.session, r.info.sequence)).collect();
        assert_eq!(log.frames, expected, "every frame exactly once, in order");
        logs.push(log);
    }
    Run { cameras: logs, reports, failures }
}

fn swap(lane: &Arc<Lane<Stage>>, prepared: facestream_guest_host::PreparedGuest) -> SwapReport {
    let (answer, swapped) = mpsc::channel();
    lane.call(move |stage| {
        let (report, outcome) = stage.guests.commit_swap(prepared).unwrap();
        stage.hand_over(outcome);
        answer.send(report).unwrap();
    })
    .unwrap();
    swapped.recv().unwrap()
}

fn recorded(frames: usize) -> Vec<Vec<Recorded>> {
    (1..=4).map(|seed| recordings::crowd(8, frames as u64, seed)).collect()
}

/// What must hold for any tracker: ids end once and stay away, tracks do not vanish, messages have an id of their own.
fn sound(log: &Log) {
    let mut ended = BTreeSet::new();
    let mut live = BTreeSet::new();
    for (n, (_, ids, ends)) in log.ids.iter().enumerate() {
        for id in ends {
            assert!(ended.insert(*id), "frame {n}: {id} ended twice");
        }
        assert!(ids.is_disjoint(&ended), "frame {n}: an id came back after its end");
        let gone: Vec<_> = live.difference(ids).filter(|id| !ended.contains(*id)).collect();
        assert!(gone.is_empty(), "frame {n}: {gone:?} vanished without an end");
        live.clone_from(ids);
    }
    let distinct: BTreeSet<_> = log.messages.iter().collect();
    assert_eq!(distinct.len(), log.messages.len(), "no message twice");
    assert!(ended.len() > 5 && !log.messages.is_empty(), "{} ends, {} messages", ended.len(), log.messages.len());
    assert_eq!(log.failed_frames, 0);
}

fn same(name: &str, a: &Log, b: &Log) {
    for (n, (a, b)) in a.lines.iter().zip(&b.lines).enumerate() {
        assert_eq!(a, b, "{name}, line {n}: left without swaps");
    }
    assert_eq!(a.lines.len(), b.lines.len(), "{name}");
}

fn pauses(what: &str, reports: &[SwapReport]) {
    for slot in SlotKind::ALL {
        let mut us: Vec<u64> = reports.iter().filter(|r| r.slot == slot).map(|r| r.pause_us).collect();
        us.sort_unstable();
        if let Some(most) = us.last() {
            let at = |share: usize| us[(us.len() - 1) * share / 100];
            println!(
                "{what}: {slot}: {} swaps, pause p50 {} us, p99 {} us, at most {most} us",
                us.len(),
                at(50),
                at(99)
            );
        }
    }
}

#[test]
fn swaps_of_every_slot_change_nothing_that_comes_out() {
    let _alone = alone();
    let guests = guests_or_skip!("swaps_of_every_slot_change_nothing_that_comes_out");
    let swaps = if long() { 1000 } else { 30 };
    let recordings = recorded(EVERY * swaps);
    let without = run(&guests, &recordings, &|_, _| None);
    let with = run(&guests, &recordings, &|at, slot| {
        at.is_multiple_of(EVERY).then_some(match slot {
            SlotKind::Tracker => "botsort",
            SlotKind::Scorer => "best-shot",
            SlotKind::Formatter => "gate-and-mega",
        })
    });
    assert_eq!(with.reports.len(), 3 * swaps);
    pauses("same guests", &with.reports);
    assert_eq!((without.failures, with.failures), (0, 0));
    for (n, (without, with)) in without.cameras.iter().zip(&with.cameras).enumerate() {
        sound(with);
        same(&format!("camera {}", n + 1), without, with);
    }
    let lines: usize = with.cameras.iter().map(|c| c.lines.len()).sum();
    let messages: usize = with.cameras.iter().map(|c| c.messages.len()).sum();
    println!("{lines} lines of four cameras are the same, {messages} messages among them");
}

#[test]
fn swaps_between_two_trackers_keep_every_id_in_sight() {
    let _alone = alone();
    let guests = guests_or_skip!("swaps_between_two_trackers_keep_every_id_in_sight");
    let swaps = if long() { 1000 } else { 30 };
    let recordings = recorded(EVERY * swaps);
    let without = run(&guests, &recordings, &|_, _| None);
    let with = run(&guests, &recordings, &|at, slot| {
        let name = if (at / EVERY).is_multiple_of(2) { "botsort" } else { "bytetrack" };
        (slot == SlotKind::Tracker && at.is_multiple_of(EVERY)).then_some(name)
    });
    assert_eq!(with.reports.len(), swaps);
    assert!(with.reports.iter().skip(1).all(|r| r.state == "neutral" || r.state == "none"), "{:?}", with.reports[1]);
    pauses("botsort and bytetrack in turns", &with.reports);
    assert_eq!((without.failures, with.failures), (0, 0));
    for n in [0, 2, 3] {
        same(&format!("camera {}", n + 1), &without.cameras[n], &with.cameras[n]);
    }
    let log = &with.cameras[1];
    sound(log);
    // After frame `at - 1` came the swap, frame `at` is the new tracker's first.
    for at in (EVERY..log.ids.len()).step_by(EVERY) {
        let session = |n: usize| recordings[1][n].info.session;
        let (seen, _, _) = &log.ids[at - 1];
        let (_, live, ended) = &log.ids[at];
        let lost: Vec<_> = seen.difference(live).collect();
        let kept = lost.is_empty() || session(at) != session(at - 1);
        assert!(kept, "swap before frame {at}: {lost:?} of {seen:?} are gone; ended {ended:?}");
    }
}

#[test]
fn swaps_leave_nothing_behind() {
    let _alone = alone();
    let guests = guests_or_skip!("swaps_leave_nothing_behind");
    let swaps = if long() { 10_000 } else { 300 };
    let recording = recordings::crowd(8, 400, 1);
    let pictures = pictures();
    let config = GuestConfig { max_instances: 64, ..GuestConfig::default() };
    let (id, metrics) = (CameraId::new("camera").unwrap(), Arc::new(CameraMetrics::default()));
    let mut camera = CameraGuests::new(&id, guests.set(), &config, metrics).unwrap();
    let factory = camera.factory();
    assert_eq!(guests.engine.live_instances(), 3);
    let mut samples = Vec::new();
    for n in 0..swaps {
        let slot = SlotKind::ALL[n % 3];
        let name = match slot {
            SlotKind::Tracker => ["botsort", "bytetrack"][n / 3 % 2],
            SlotKind::Scorer => "best-shot",
            SlotKind::Formatter => "gate-and-mega",
        };
        let prepared = factory.prepare(slot, guests.guest(name)).unwrap().on_probation_for(config.probation_frames);
        camera.commit_swap(prepared).unwrap();
        // The same scene over and over, as sessions of their own on a clock that goes on.
        let (round, at) = (n / recording.len(), n % recording.len());
        let mut info = recording[at].info;
        info.session += 2 * round as u64;
        info.timestamp_ns += round as u64 * 60_000_000_000;
        let picture = Arc::clone(&pictures[n % pictures.len()]);
        drop(camera.process(&Frame { info, picture }, &recording[at].detections, None));
        if n % (swaps / 10) == swaps / 10 - 1 {
            samples.push((guests.engine.live_instances(), resident_bytes()));
        }
    }
    let mib = |b: u64| b as f64 / f64::from(1 << 20);
    let shown: Vec<String> = samples.iter().map(|(n, r)| format!("{n}/{:.1}", mib(*r))).collect();
    println!("{swaps} swaps, instances/MiB at each tenth: {}", shown.join(" "));
    let instances: BTreeSet<u64> = samples.iter().map(|s| s.0).collect();
    assert!(instances.len() == 1 && samples[0].0 <= 6, "three and those before them on probation: {shown:?}");
    let (early, late) = (samples[1].1, samples[9].1);
    assert!(late <= early + early / 20, "{} MiB became {}", mib(early), mib(late));
    let failures: u64 = camera.status().iter().map(|s| s.failures + s.restarts).sum();
    assert_eq!(failures, 0);
    drop(camera.flush());
    drop(camera);
    assert_eq!(guests.engine.live_instances(), 0);
}
