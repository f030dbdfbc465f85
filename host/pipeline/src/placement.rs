//! Which GPU a camera goes to, and whether one more fits.
//!
//! Owns the count of cameras on each GPU and the arithmetic of admission. Must not measure: loads come in as numbers, so
//! that the decision is the same for the same numbers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use facestream_core::media::Codec;
use facestream_gpu::{Gpu, GpuError};
use serde::{Deserialize, Serialize};

/// `[admission]` of the configuration: what a GPU can carry. Figures of an H200 (and, within 3 %, an H100).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdmissionConfig {
    /// Take cameras on whatever the numbers say; then all of them lose frames instead of the last one being refused.
    pub overcommit: bool,
    /// Frames of 1920x1080 in H.264 that one GPU decodes in a second; measure yours with `facestream bench gpu`.
    pub decode_fps_h264: f64,
    /// The same in H.265.
    pub decode_fps_h265: f64,
    /// Device memory that a camera of 1920x1080 takes, in MiB: decoder surfaces, and frames on their way.
    pub camera_memory_mib: u64,
    /// Device memory left alone, in MiB.
    pub reserve_memory_mib: u64,
    /// How much of decoders and inference may be taken, 0 to 1.
    pub max_load: f64,
    /// Frames a second that a camera is taken to send before it is known.
    pub assumed_fps: f64,
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        Self {
            overcommit: false,
            decode_fps_h264: 4_900.0,
            decode_fps_h265: 9_000.0,
            camera_memory_mib: 180,
            reserve_memory_mib: 1024,
            max_load: 0.95,
            assumed_fps: 30.0,
        }
    }
}

impl AdmissionConfig {
    /// Every problem, in words.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, value) in [
            ("decode_fps_h264", self.decode_fps_h264),
            ("decode_fps_h265", self.decode_fps_h265),
            ("assumed_fps", self.assumed_fps),
        ] {
            if !(value.is_finite() && value > 0.0) {
                problems.push(format!("{name} = {value} must be above 0"));
            }
        }
        if !(self.max_load > 0.0 && self.max_load <= 1.0) {
            problems.push(format!("max_load = {} must be above 0 and at most 1", self.max_load));
        }
        problems
    }
}

/// What one camera asks of its GPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// Coding, when known; H.264, the heavier one, otherwise.
    pub codec: Option<Codec>,
    /// Size, when known; 1920x1080 otherwise.
    pub size: Option<(u32, u32)>,
    /// Frames that come in a second.
    pub fps: f64,
    /// Frames that are analysed in a second.
    pub analysed_fps: f64,
}

impl Demand {
    /// A share of the GPU's decoders.
    fn decoding(&self, config: &AdmissionConfig) -> f64 {
        let ceiling = match self.codec {
            Some(Codec::H265) => config.decode_fps_h265,
            // The processor decodes those.
            Some(Codec::Mjpeg | Codec::Other) => return 0.0,
            _ => config.decode_fps_h264,
        };
        let (width, height) = self.size.unwrap_or((1920, 1080));
        let pixels = f64::from(width) * f64::from(height) / (1920.0 * 1080.0);
        self.fps * pixels / ceiling
    }
}

/// What a GPU can still give, and what its model takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Room {
    /// Free device memory in bytes.
    pub free_memory: u64,
    /// Images a second of the camera's model on this GPU, all sessions together.
    pub images_per_second: Option<f64>,
}

/// Why one more camera is refused, with the numbers.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "cuda:{gpu} is full with {cameras} cameras: {reason}; stop a camera, lower detect_fps, or set admission.overcommit"
)]
pub struct Full {
    /// Which GPU.
    pub gpu: usize,
    /// How many it has.
    pub cameras: usize,
    /// What is used up, with numbers.
    pub reason: String,
}

/// Whether `next` fits beside `running`.
///
/// # Errors
/// What is used up, in numbers.
pub fn admit(running: &[Demand], next: &Demand, room: &Room, config: &AdmissionConfig) -> Result<(), String> {
    if config.overcommit {
        return Ok(());
    }
    let needed = (config.camera_memory_mib + config.reserve_memory_mib) << 20;
    if room.free_memory < needed {
        return Err(format!(
            "{} MiB of its memory are free, a camera takes {} and {} are kept free",
            room.free_memory >> 20,
            config.camera_memory_mib,
            config.reserve_memory_mib
        ));
    }
    let all = || running.iter().chain([next]);
    let decoding: f64 = all().map(|d| d.decoding(config)).sum();
    if decoding > config.max_load {
        return Err(format!(
            "its decoders would be at {:.0} % of {} frames/s of 1080p H.264 ({:.0} % are allowed)",
            decoding * 100.0,
            config.decode_fps_h264,
            config.max_load * 100.0
        ));
    }
    if let Some(capacity) = room.images_per_second {
        let wanted: f64 = all().map(|d| d.analysed_fps).sum();
        if wanted > capacity * config.max_load {
            return Err(format!(
                "{wanted:.0} frames/s would be analysed, the model takes {capacity:.0} ({:.0} % are allowed)",
                config.max_load * 100.0
            ));
        }
    }
    Ok(())
}

/// The GPUs of this host.
#[derive(Debug, Default)]
pub struct Gpus {
    all: Mutex<Vec<(Arc<Gpu>, Arc<AtomicUsize>)>>,
}

/// A camera's place on a GPU; given up when dropped.
#[derive(Debug)]
pub struct Seat {
    gpu: Arc<Gpu>,
    cameras: Arc<AtomicUsize>,
}

impl Seat {
    /// The GPU.
    #[must_use]
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.cameras.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gpus {
    /// These GPUs, without a camera.
    #[must_use]
    pub fn new(gpus: Vec<Arc<Gpu>>) -> Self {
        Self { all: Mutex::new(gpus.into_iter().map(|gpu| (gpu, Arc::default())).collect()) }
    }

    /// A place on the wanted GPU, or on the one with the fewest cameras; `None` when there is none (of that number) that
    /// still answers.
    pub fn take(&self, wanted: Option<usize>) -> Option<Seat> {
        // Under the lock: two cameras that start at once go to two GPUs.
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let answering: Vec<_> = all.iter().filter(|(gpu, _)| gpu.lost().is_none()).collect();
        let counts: Vec<_> = answering.iter().map(|(gpu, n)| (gpu.ordinal(), n.load(Ordering::Relaxed))).collect();
        let (gpu, cameras) = answering.get(choose(&counts, wanted)?)?;
        cameras.fetch_add(1, Ordering::Relaxed);
        Some(Seat { gpu: Arc::clone(gpu), cameras: Arc::clone(cameras) })
    }

    /// GPUs that do not answer this process any more, with the reason and the remedy. Asks each of them.
    #[must_use]
    pub fn lost(&self) -> Vec<GpuError> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let ask = |gpu: &Gpu| {
            // What goes wrong in asking is noted by the GPU itself.
            drop(gpu.memory());
            gpu.lost()
        };
        all.iter().filter_map(|(gpu, _)| ask(gpu)).collect()
    }

    /// Each GPU with its number of cameras.
    #[must_use]
    pub fn counts(&self) -> Vec<(Arc<Gpu>, usize)> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(gpu, n)| (Arc::clone(gpu), n.load(Ordering::Relaxed))).collect()
    }
}

/// Index of the GPU of that number, or of the one with the fewest cameras (the first of equals).
fn choose(counts: &[(usize, usize)], wanted: Option<usize>) -> Option<usize> {
    match wanted {
        Some(ordinal) => counts.iter().position(|(o, _)| *o == ordinal),
        None => counts.iter().enumerate().min_by_key(|(_, (_, n))| *n).map(|(at, _)| at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { free_memory: 100 << 30, images_per_second: Some(6_000.0) };

    fn camera(codec: Codec, fps: f64) -> Demand {
        Demand { codec: Some(codec), size: Some((1920, 1080)), fps, analysed_fps: fps }
    }

    fn fitting(codec: Codec, room: &Room) -> (usize, String) {
        let config = AdmissionConfig::default();
        let mut running = Vec::new();
        loop {
            let next = camera(codec, 30.0);
            match admit(&running, &next, room, &config) {
                Ok(()) => running.push(next),
                Err(why) => return (running.len(), why),
            }
            assert!(running.len() < 1000, "never full");
        }
    }

    #[test]
    fn the_camera_that_would_slow_all_is_refused_with_the_numbers() {
        // 0.95 * 4,900 / 30.
        let (cameras, why) = fitting(Codec::H264, &ROOM);
        assert_eq!(cameras, 155);
        assert!(why.contains("decoders") && why.contains("4900"), "{why}");
        // Inference is what ends H.265: 0.95 * 6,000 / 30.
        let (cameras, why) = fitting(Codec::H265, &ROOM);
        assert_eq!(cameras, 190);
        assert!(why.contains("5730") && why.contains("6000"), "{why}");
        let (cameras, why) = fitting(Codec::H264, &Room { free_memory: 1 << 30, ..ROOM });
        assert_eq!(cameras, 0);
        assert!(why.contains("1024 MiB"), "{why}");
        let (cameras, _) = fitting(Codec::H264, &Room { images_per_second: None, ..ROOM });
        assert_eq!(cameras, 155);
    }

    #[test]
    fn overcommitting_takes_all_and_small_or_slow_cameras_count_less() {
        let full = vec![camera(Codec::H264, 30.0); 400];
        let over = AdmissionConfig { overcommit: true, ..AdmissionConfig::default() };
        assert_eq!(admit(&full, &camera(Codec::H264, 30.0), &ROOM, &over), Ok(()));
        let config = AdmissionConfig::default();
        let small = Demand { size: Some((960, 540)), analysed_fps: 5.0, ..camera(Codec::H264, 30.0) };
        assert_eq!(admit(&vec![small; 600], &small, &ROOM, &config), Ok(()));
        let unknown = Demand { codec: None, size: None, fps: 30.0, analysed_fps: 30.0 };
        assert!(admit(&vec![unknown; 155], &unknown, &ROOM, &config).is_err());
        assert_eq!(camera(Codec::Mjpeg, 30.0).decoding(&config), 0.0);
    }

    #[test]
    fn cameras_go_to_the_gpu_with_the_fewest_or_to_the_one_they_name() {
        let counts = [(0, 3), (1, 1), (2, 1)];
        assert_eq!(choose(&counts, None), Some(1));
        assert_eq!(choose(&counts, Some(0)), Some(0));
        assert_eq!(choose(&counts, Some(7)), None);
        assert_eq!(choose(&[], None), None);
    }

    #[test]
    fn settings_that_make_no_sense_are_told() {
        assert!(AdmissionConfig::default().validate().is_empty());
        let bad = AdmissionConfig { decode_fps_h264: 0.0, max_load: 1.5, ..AdmissionConfig::default() };
        assert_eq!(bad.validate().len(), 2);
    }
}
