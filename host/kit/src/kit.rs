//! The kit: one guest, its engines, and scenes played through it.
//!
//! Owns instances and plays; keeps each scene's play, because many cases look at the same one. Must not judge: cases do.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use facestream_core::CameraId;
use facestream_core::guest::SlotKind;
use facestream_guest_host::{
    ComponentInfo, EngineError, GuestComponent, GuestConfig, GuestEngine, GuestEnv, GuestFailure, GuestLimits,
    Interest, LoadError, Usage,
};
use serde_json::Value;

use crate::guest::{Answer, Instance};
use crate::picture::Studio;
use crate::rules::{Broken, Watch};
use crate::scene::Scene;
use crate::scenes;
use crate::script::{Step, steps};

/// The kit's time on the wall is no measure of a guest: a laptop has other things to do. Processor time is limited as on
/// the host.
const PATIENT_WALL_MS: u32 = 60_000;

/// Seed of the guest's random numbers in ordinary plays.
pub(crate) const SEED: u64 = 1;

/// Why a guest cannot be tested at all.
#[derive(Debug, thiserror::Error)]
pub enum KitError {
    /// The engine could not be made.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The component was refused, as every host would refuse it.
    #[error("{guest} is not taken by the host: {error}")]
    Load {
        /// The reference.
        guest: String,
        /// Why.
        #[source]
        error: LoadError,
    },
    /// Limits that no host would take.
    #[error("the limits are wrong: {0}")]
    Limits(String),
    /// A benchmark's guest failed on the way.
    #[error("{0}")]
    Bench(String),
    /// A golden file could not be read or written.
    #[error("{path}: {error}")]
    Golden {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        error: std::io::Error,
    },
}

/// What the kit is to test with.
#[derive(Clone, Debug, Default)]
pub struct KitOptions {
    /// Settings of the guest: a JSON object; `null` for none.
    pub config: Value,
    /// Limits that it runs under.
    pub limits: GuestLimits,
    /// Where compiled components are kept; compiles anew without it.
    pub cache_dir: Option<PathBuf>,
}

/// One guest under test.
#[derive(Debug)]
pub struct Kit {
    pub(crate) reference: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) component: Arc<GuestComponent>,
    metered: OnceCell<Result<Arc<GuestComponent>, String>>,
    pub(crate) config: Value,
    pub(crate) limits: GuestLimits,
    engine_config: GuestConfig,
    camera: CameraId,
    pub(crate) studio: Studio,
    scenes: RefCell<HashMap<&'static str, Rc<Script>>>,
    played: RefCell<HashMap<&'static str, Rc<Played>>>,
}

/// A scene and the calls that it means for this guest.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) scene: Scene,
    pub(crate) steps: Vec<Step>,
}

/// What came of one play.
#[derive(Debug, Default)]
pub(crate) struct Played {
    /// One a step, up to the failure.
    pub(crate) answers: Vec<Answer>,
    /// What ended it early, and in which frame.
    pub(crate) failure: Option<(GuestFailure, usize)>,
    pub(crate) broken: Vec<Broken>,
    pub(crate) usage: Usage,
    pub(crate) interest: Option<Interest>,
    /// Time on the wall of each call.
    pub(crate) took: Vec<Duration>,
    /// Memory half-way and at the end, for leaks.
    pub(crate) memory_half: u64,
}

impl Kit {
    /// Loads a component as the host does.
    ///
    /// # Errors
    /// See [`KitError`].
    pub fn new(reference: &str, bytes: Vec<u8>, options: KitOptions) -> Result<Self, KitError> {
        let mut limits = options.limits;
        let problems = limits.validate("limits");
        if !problems.is_empty() {
            return Err(KitError::Limits(problems.join("; ")));
        }
        limits.wall_deadline_ms = limits.wall_deadline_ms.max(PATIENT_WALL_MS);
        let engine_config = GuestConfig {
            max_instances: 16,
            cache_dir: options.cache_dir,
            largest_memory_bytes: GuestConfig::default().largest_memory_bytes.max(limits.max_memory_bytes),
            ..GuestConfig::default()
        };
        let engine = GuestEngine::new(&engine_config)?;
        let component = GuestComponent::load(&engine, &bytes)
            .map_err(|error| KitError::Load { guest: reference.to_owned(), error })?;
        // Made of lower-case letters.
        let camera = CameraId::new("kit").map_err(|e| KitError::Limits(e.to_string()))?;
        let config = if options.config.is_null() { Value::Object(serde_json::Map::new()) } else { options.config };
        Ok(Self {
            reference: reference.to_owned(),
            bytes,
            component,
            metered: OnceCell::new(),
            config,
            limits,
            engine_config,
            camera,
            studio: Studio::default(),
            scenes: RefCell::default(),
            played: RefCell::default(),
        })
    }

    /// The limits that differ from those of a run without `--limits`.
    pub(crate) fn other_limits(&self) -> Value {
        let usual = GuestLimits { wall_deadline_ms: PATIENT_WALL_MS, ..GuestLimits::default() };
        match (serde_json::to_value(&self.limits), serde_json::to_value(&usual)) {
            (Ok(Value::Object(mut limits)), Ok(usual)) => {
                limits.retain(|name, value| usual.get(name) != Some(&*value));
                Value::Object(limits)
            }
            _ => Value::Object(serde_json::Map::new()),
        }
    }

    /// What the component says about itself.
    #[must_use]
    pub fn info(&self) -> &ComponentInfo {
        self.component.info()
    }

    pub(crate) fn kind(&self) -> SlotKind {
        self.component.kind()
    }

    /// The component on an engine that counts fuel, compiled when first asked for.
    pub(crate) fn metered(&self) -> Result<&Arc<GuestComponent>, String> {
        let made = self.metered.get_or_init(|| {
            let engine = GuestEngine::metered(&self.engine_config).map_err(|e| e.to_string())?;
            GuestComponent::load(&engine, &self.bytes).map_err(|e| e.to_string())
        });
        made.as_ref().map_err(Clone::clone)
    }

    pub(crate) fn env(&self, limits: &GuestLimits) -> GuestEnv {
        GuestEnv { camera: self.camera.clone(), guest: self.reference.clone(), limits: limits.clone() }
    }

    /// A fresh instance under the kit's limits, configured.
    pub(crate) fn fresh(&self) -> Result<Instance, GuestFailure> {
        self.fresh_with(&self.component, &self.limits, SEED)
    }

    pub(crate) fn fresh_with(
        &self,
        component: &GuestComponent,
        limits: &GuestLimits,
        seed: u64,
    ) -> Result<Instance, GuestFailure> {
        let mut made = Instance::start(component, &self.env(limits), seed)?;
        made.configure(&self.config)?;
        Ok(made)
    }

    /// A scene's calls.
    pub(crate) fn script(&self, name: &str) -> Rc<Script> {
        let (name, make) = *scenes::ALL
            .iter()
            .find(|(n, _)| *n == name)
            .unwrap_or_else(|| unreachable!("the kit's own cases name scenes that there are, not `{name}`"));
        if let Some(script) = self.scenes.borrow().get(name) {
            return Rc::clone(script);
        }
        let scene = make(name);
        let steps = steps(self.kind(), &scene, &self.studio)
            .unwrap_or_else(|e| unreachable!("frames of sizes above zero can be drawn: {e}"));
        let script = Rc::new(Script { scene, steps });
        self.scenes.borrow_mut().insert(name, Rc::clone(&script));
        script
    }

    /// One play of a scene through a fresh instance; played once, then kept.
    pub(crate) fn played(&self, name: &str) -> Rc<Played> {
        if let Some(played) = self.played.borrow().get(name) {
            return Rc::clone(played);
        }
        let script = self.script(name);
        let played = Rc::new(self.play(&script, &self.limits, SEED));
        self.played.borrow_mut().insert(script.scene.name, Rc::clone(&played));
        played
    }

    /// A new play under these limits.
    pub(crate) fn play(&self, script: &Script, limits: &GuestLimits, seed: u64) -> Played {
        match self.fresh_with(&self.component, limits, seed) {
            Ok(mut instance) => self.play_through(&mut instance, script),
            Err(failure) => Played { failure: Some((failure, 0)), ..Played::default() },
        }
    }

    /// Plays through an instance that is there.
    pub(crate) fn play_through(&self, instance: &mut Instance, script: &Script) -> Played {
        let mut played = Played { interest: instance.interest(), ..Played::default() };
        let mut watch = Watch::default();
        for (n, step) in script.steps.iter().enumerate() {
            let began = Instant::now();
            let answer = instance.call(&script.scene, &self.studio, step);
            played.took.push(began.elapsed());
            match answer {
                Ok(answer) => {
                    watch.see(&script.scene, step, &answer);
                    played.answers.push(answer);
                }
                Err(failure) => {
                    played.failure = Some((failure, step.frame));
                    break;
                }
            }
            if n == script.steps.len() / 2 {
                played.memory_half = instance.usage().memory_bytes;
            }
        }
        played.usage = instance.usage();
        played.broken = watch.broken;
        played
    }
}

impl Played {
    /// Its answers as lines, by step.
    pub(crate) fn lines(&self, script: &Script) -> Vec<Option<String>> {
        self.answers.iter().zip(&script.steps).map(|(a, s)| a.line(s.frame)).collect()
    }
}
