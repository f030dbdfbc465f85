//! Recorded detections, and the trackers run over them: as components in the guest host, and natively as a program.
//!
//! Owns scenes made from numbers, the text form that `guests/native` reads, and the text in which answers are compared to
//! the last bit. Must not know what a right answer is.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use facestream_core::{Affine, CameraId, Detection, FrameInfo, Landmarks, Point, Rect, Track, TrackPhase, TrackUpdate};
use facestream_guest_host::{GuestComponent, GuestConfig, GuestEngine, GuestEnv, GuestLimits, Snapshot, TrackerGuest};

/// One frame of a recording.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// When and how large.
    pub info: FrameInfo,
    /// How the camera moved.
    pub motion: Option<Affine>,
    /// What was found.
    pub detections: Vec<Detection>,
    /// Whether the tracker is asked for its state afterwards.
    pub save: bool,
}

/// A small generator, so that recordings are the same on every machine.
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// Uniform in [0, 1). xorshift64* (Vigna 2016).
    fn unit(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f32 / (1_u64 << 24) as f32
    }

    fn around(&mut self, by: f32) -> f32 {
        (self.unit() * 2.0 - 1.0) * by
    }
}

fn frame(session: u64, sequence: u64, at_ms: u64) -> FrameInfo {
    let timestamp_ns = at_ms * 1_000_000;
    let captured_at_ns = 1_770_800_172_000_000_000 + timestamp_ns;
    FrameInfo { session, sequence, timestamp_ns, captured_at_ns, width: 1920, height: 1080 }
}

fn face(bbox: Rect, confidence: f32, landmarks: bool) -> Detection {
    let at = |x: f32, y: f32| Point { x: bbox.x + bbox.width * x, y: bbox.y + bbox.height * y };
    let landmarks = landmarks
        .then(|| Landmarks::from_points([at(0.3, 0.4), at(0.7, 0.4), at(0.5, 0.6), at(0.35, 0.8), at(0.65, 0.8)]));
    Detection { bbox, confidence, class_id: 0, landmarks }
}

/// Everything that a tracker meets: `people` that walk at random through each other, in and out of the picture, with
/// noise, misses and weak confidences; false boxes; a shaking camera; frames left out; a new session; landmarks or none.
#[must_use]
pub fn crowd(people: usize, frames: u64, seed: u64) -> Vec<Recorded> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut walkers: Vec<_> = (0..people)
        .map(|_| {
            let size = 50.0 + 60.0 * random.unit();
            let bbox = Rect { x: 1900.0 * random.unit(), y: 1000.0 * random.unit(), width: size, height: size * 1.3 };
            (bbox, random.around(320.0), random.around(160.0))
        })
        .collect();
    let (mut at_ms, mut session) = (0, 1);
    let mut recorded = Vec::new();
    for n in 0..frames {
        // Now and then frames are left out; once the camera is away for a second and a half.
        let step = if n == frames / 2 { 1500 } else { [40, 40, 40, 40, 80, 33][n as usize % 6] };
        at_ms += step;
        session += u64::from(n == frames / 2);
        let motion = (n % 3 != 0).then(|| {
            let mut shake = |by: f32| random.around(by);
            Affine { a: 1.0 + shake(0.002), b: shake(0.002), tx: shake(3.0), c: shake(0.002), d: 1.0, ty: shake(3.0) }
        });
        let mut detections = Vec::new();
        for (bbox, vx, vy) in &mut walkers {
            bbox.x += *vx * step as f32 * 1e-3;
            bbox.y += *vy * step as f32 * 1e-3;
            // Well outside they turn round: some are away for longer than others.
            *vx = if bbox.x < -300.0 {
                vx.abs()
            } else if bbox.x > 2100.0 {
                -vx.abs()
            } else {
                *vx + random.around(12.0)
            };
            *vy = if bbox.y < -150.0 {
                vy.abs()
            } else if bbox.y > 1120.0 {
                -vy.abs()
            } else {
                *vy + random.around(6.0)
            };
            let inside = bbox.x + bbox.width > 0.0 && bbox.x < 1920.0 && bbox.y + bbox.height > 0.0 && bbox.y < 1080.0;
            if inside && random.unit() > 0.07 {
                let noisy = Rect { x: bbox.x + random.around(3.0), y: bbox.y + random.around(3.0), ..*bbox };
                let confidence =
                    if random.unit() < 0.15 { 0.3 + 0.4 * random.unit() } else { 0.7 + 0.25 * random.unit() };
                detections.push(face(noisy, confidence, n % 5 != 0));
            }
        }
        if random.unit() < 0.3 {
            let (x, y) = (1800.0 * random.unit(), 900.0 * random.unit());
            detections.push(face(Rect { x, y, width: 60.0, height: 70.0 }, 0.75, false));
        }
        recorded.push(Recorded { info: frame(session, n, at_ms), motion, detections, save: n % 20 == 19 });
    }
    recorded
}

/// For measurements: `n` faces on a grid, each swaying, one in nine of them weak; 25 frames a second.
#[must_use]
pub fn grid(n: usize, frames: u64, landmarks: bool) -> Vec<Recorded> {
    let detections = |k: u64| {
        let at = |i: usize| {
            let phase = ((k as usize * 3 + i * 37) % 120) as f32;
            let sway = if phase < 60.0 { phase } else { 120.0 - phase };
            let (x, y) = ((i % 10) as f32 * 120.0 + sway, (i / 10) as f32 * 110.0 + sway * 0.5);
            face(Rect { x, y, width: 60.0, height: 80.0 }, if i.is_multiple_of(9) { 0.5 } else { 0.9 }, landmarks)
        };
        (0..n).map(at).collect()
    };
    (0..frames)
        .map(|k| Recorded { info: frame(1, k, k * 40), motion: None, detections: detections(k), save: false })
        .collect()
}

/// As `guests/native` reads it.
#[must_use]
pub fn text(recording: &[Recorded]) -> String {
    let mut out = String::new();
    for f in recording {
        let FrameInfo { session, sequence, timestamp_ns, captured_at_ns, width, height } = f.info;
        out += &format!("frame {session} {sequence} {timestamp_ns} {captured_at_ns} {width} {height}\n");
        if let Some(m) = f.motion {
            out += &format!("motion{}\n", hex(&[m.a, m.b, m.tx, m.c, m.d, m.ty]));
        }
        for d in &f.detections {
            let Rect { x, y, width, height } = d.bbox;
            let points: Vec<f32> =
                d.landmarks.map_or_else(Vec::new, |l| l.points().iter().flat_map(|p| [p.x, p.y]).collect());
            out += &format!("box{} {}{}\n", hex(&[x, y, width, height, d.confidence]), d.class_id, hex(&points));
        }
        if f.save {
            out += "save\n";
        }
    }
    out
}

fn hex(values: &[f32]) -> String {
    values.iter().map(|v| format!(" {:08x}", v.to_bits())).collect()
}

/// An answer, to the last bit.
#[must_use]
pub fn answer(update: &TrackUpdate) -> String {
    let mut out = String::from("frame\n");
    for t in &update.tracks {
        let Track { id, phase, bbox, velocity, confidence, class_id, detection, first_seen_ns, last_seen_ns } = t;
        let phase = match phase {
            TrackPhase::Tentative => "tentative",
            TrackPhase::Confirmed => "confirmed",
            TrackPhase::Lost => "lost",
        };
        let floats = hex(&[bbox.x, bbox.y, bbox.width, bbox.height, velocity.x, velocity.y, *confidence]);
        out += &format!("track {id} {phase}{floats} {class_id} {detection:?} {first_seen_ns} {last_seen_ns}\n");
    }
    out + &format!("ended {:?}\n", update.ended)
}

/// A saved state, to the last bit.
#[must_use]
pub fn state(snapshot: &Snapshot) -> String {
    let mut out = format!("state {} ", snapshot.schema);
    for byte in &snapshot.data {
        out += &format!("{byte:02x}");
    }
    out + "\n"
}

/// An engine for a few guests.
///
/// # Panics
/// When this machine has none.
#[must_use]
pub fn engine() -> GuestEngine {
    GuestEngine::new(&GuestConfig { max_instances: 8, ..GuestConfig::default() }).unwrap_or_else(|e| panic!("{e}"))
}

/// A tracker component, compiled.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn compiled(engine: &GuestEngine, component: &[u8]) -> Arc<GuestComponent> {
    GuestComponent::load(engine, component).unwrap_or_else(|e| panic!("{e}"))
}

/// A fresh instance of it, not configured yet.
///
/// # Panics
/// When it does not start.
#[must_use]
pub fn instance(component: &GuestComponent) -> TrackerGuest {
    let camera = CameraId::new("camera").unwrap_or_else(|e| panic!("{e}"));
    let env = GuestEnv { camera, guest: "measured".to_owned(), limits: GuestLimits::default() };
    TrackerGuest::instantiate(component, &env).unwrap_or_else(|e| panic!("{e}"))
}

/// A fresh, configured instance of it.
///
/// # Panics
/// When it does not start.
#[must_use]
pub fn tracker(component: &GuestComponent) -> TrackerGuest {
    let mut guest = instance(component);
    guest.configure(&serde_json::json!({})).unwrap_or_else(|e| panic!("{e}"));
    guest
}

/// The program `facestream-native`, built with the flags of the components.
///
/// # Errors
/// When it does not build; in words.
pub fn native_program() -> Result<PathBuf, String> {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&guests).args([
        "build",
        "--quiet",
        "--locked",
        "--profile",
        "component",
        "-p",
        "facestream-native",
    ]);
    // A folder that this workspace's cargo was told of is not the guests'.
    cargo.env_remove("CARGO_TARGET_DIR");
    let built = cargo.output().map_err(|e| format!("cargo does not start: {e}"))?;
    if !built.status.success() {
        return Err(format!("guests/native does not build: {}", String::from_utf8_lossy(&built.stderr)));
    }
    Ok(guests.join("target/component/facestream-native"))
}
