//! The benchmark of one guest: time a call, fuel a frame, memory, size; alone or in turns with another.
//!
//! Owns what is measured. Times are of the machine that it runs on; fuel is the same everywhere.

use std::time::{Duration, Instant};

use facestream_core::guest::SlotKind;
use facestream_guest_host::{Digest, GuestComponent, GuestConfig, GuestEngine, GuestLimits};
use serde::Serialize;

use crate::guest::Instance;
use crate::kit::{Kit, KitError, SEED, Script};
use crate::scene::{Scene, crowd};
use crate::script::{Call, steps};

/// Instances made to time how long that takes.
const INSTANCES: usize = 200;
/// Frames whose fuel is counted: it does not vary with the machine, so few are enough.
const FUEL_FRAMES: u64 = 50;

/// The value at a share of the sorted samples; zero when there are none.
pub(crate) fn percentile(samples: &mut [Duration], share: f64) -> Duration {
    samples.sort_unstable();
    let at = (samples.len().saturating_sub(1) as f64 * share) as usize;
    samples.get(at).copied().unwrap_or_default()
}

/// What one guest costs.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// As it was named.
    pub guest: String,
    /// Digest of its bytes.
    pub digest: Digest,
    /// Its world.
    pub world: SlotKind,
    /// Faces in every frame.
    pub boxes: usize,
    /// Frames measured.
    pub frames: u64,
    /// Microseconds of wall time a frame, all its calls together: half the frames take less.
    pub p50_us: f64,
    /// 99 of 100 frames take less.
    pub p99_us: f64,
    /// The slowest frame.
    pub max_us: f64,
    /// Fuel a frame, mean: about one unit an instruction, the same on every machine.
    pub fuel_per_frame: u64,
    /// Most bytes of linear memory and tables.
    pub peak_memory_bytes: u64,
    /// Microseconds to make an instance, median, and 99 of 100.
    pub instantiate_p50_us: f64,
    /// See `instantiate_p50_us`.
    pub instantiate_p99_us: f64,
    /// Bytes of the component.
    pub component_bytes: u64,
    /// Milliseconds to compile it, without cache.
    pub compile_ms: f64,
    /// Share of one core at 30 frames a second, by the mean of the frames.
    pub core_share_at_30_fps: f64,
}

/// Frames for the benchmark: so many faces, each drifting.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Faces a frame.
    pub boxes: usize,
    /// Frames.
    pub frames: u64,
}

struct Runner<'a> {
    kit: &'a Kit,
    script: Script,
    instance: Instance,
    /// Sum of the calls of each frame.
    frames: Vec<Duration>,
    at: usize,
}

impl<'a> Runner<'a> {
    fn new(kit: &'a Kit, share: Share) -> Result<Self, String> {
        let scene = Scene::of("bench", share.frames, &crowd(share.boxes)).with_pictures(16);
        let steps = steps(kit.kind(), &scene, &kit.studio).map_err(|e| e.to_string())?;
        let instance = kit.fresh().map_err(|e| e.to_string())?;
        Ok(Self { kit, script: Script { scene, steps }, instance, frames: Vec::new(), at: 0 })
    }

    /// Goes through the frames up to `end`.
    fn advance(&mut self, end: usize) -> Result<(), String> {
        while let Some(step) =
            self.script.steps.get(self.at).filter(|s| s.frame < end && !matches!(s.call, Call::Flush))
        {
            // The picture is drawn before the clock starts: a scorer is not to pay for the kit's drawing.
            if let Call::Observe { frame, .. } = step.call {
                drop(self.kit.studio.picture(&self.script.scene, frame));
            }
            let before = self.instance.usage().calls.nanoseconds;
            self.instance
                .call(&self.script.scene, &self.kit.studio, step)
                .map_err(|e| format!("{}, frame {}: {e}", self.kit.reference, step.frame))?;
            let took = Duration::from_nanos(self.instance.usage().calls.nanoseconds - before);
            match self.frames.get_mut(step.frame) {
                Some(frame) => *frame += took,
                None => self.frames.resize(step.frame + 1, took),
            }
            self.at += 1;
        }
        Ok(())
    }

    fn measured(mut self, share: Share) -> Result<Measured, String> {
        let kit = self.kit;
        let us = |d: Duration| d.as_nanos() as f64 / 1000.0;
        let mean = self.frames.iter().sum::<Duration>().as_secs_f64() / self.frames.len().max(1) as f64;
        let mut made = Vec::with_capacity(INSTANCES);
        for _ in 0..INSTANCES {
            let began = Instant::now();
            let instance = Instance::start(&kit.component, &kit.env(&kit.limits), SEED).map_err(|e| e.to_string())?;
            made.push(began.elapsed());
            drop(instance);
        }
        let info = kit.info();
        Ok(Measured {
            guest: kit.reference.clone(),
            digest: info.digest,
            world: info.kind,
            boxes: share.boxes,
            frames: share.frames,
            p50_us: us(percentile(&mut self.frames, 0.5)),
            p99_us: us(percentile(&mut self.frames, 0.99)),
            max_us: us(percentile(&mut self.frames, 1.0)),
            fuel_per_frame: fuel(kit, share)?,
            peak_memory_bytes: self.instance.usage().memory_bytes,
            instantiate_p50_us: us(percentile(&mut made, 0.5)),
            instantiate_p99_us: us(percentile(&mut made, 0.99)),
            component_bytes: info.bytes,
            compile_ms: compile(kit)?,
            core_share_at_30_fps: mean * 30.0,
        })
    }
}

fn fuel(kit: &Kit, share: Share) -> Result<u64, String> {
    let metered = kit.metered()?;
    let patient = GuestLimits { deadline_ms: kit.limits.deadline_ms.saturating_mul(4), ..kit.limits.clone() };
    let share = Share { frames: share.frames.min(FUEL_FRAMES), ..share };
    let mut runner = Runner::new(kit, share)?;
    runner.instance = kit.fresh_with(metered, &patient, SEED).map_err(|e| e.to_string())?;
    let before = runner.instance.usage().fuel.unwrap_or(0);
    runner.advance(usize::MAX)?;
    let used = runner.instance.usage().fuel.unwrap_or(0) - before;
    Ok(used / share.frames.max(1))
}

fn compile(kit: &Kit) -> Result<f64, String> {
    let engine =
        GuestEngine::new(&GuestConfig { max_instances: 4, ..GuestConfig::default() }).map_err(|e| e.to_string())?;
    let began = Instant::now();
    GuestComponent::load(&engine, &kit.bytes).map_err(|e| e.to_string())?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// Frames that one guest runs before the other has its turn.
const TURN: usize = 50;

/// Measures guests in turns on the same frames, so that what else the machine does meets all alike.
///
/// # Errors
/// When a guest fails on the way.
pub fn compare(kits: &[&Kit], share: Share) -> Result<Vec<Measured>, KitError> {
    let measure = || -> Result<Vec<Measured>, String> {
        let mut runners = kits.iter().map(|kit| Runner::new(kit, share)).collect::<Result<Vec<_>, _>>()?;
        let frames = usize::try_from(share.frames).unwrap_or(usize::MAX);
        for end in (TURN..frames + TURN).step_by(TURN) {
            for runner in &mut runners {
                runner.advance(end.min(frames))?;
            }
        }
        runners.into_iter().map(|runner| runner.measured(share)).collect()
    };
    measure().map_err(KitError::Bench)
}
