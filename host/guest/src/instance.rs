//! One instance of a guest in a store of its own: calls under deadline and limits, failures told apart.
//!
//! Owns the store and the rule that an instance that failed is never called again. Must not know what a call means:
//! `tracker`, `scorer` and `formatter` do.

use std::time::Duration;

use facestream_core::guest::{BudgetUse, SlotKind};
use facestream_core::{CameraId, FrameInfo};
use wasmtime::{Store, Trap};

use crate::bindings::types;
use crate::component::GuestComponent;
use crate::config::GuestLimits;
use crate::digest::Digest;
use crate::engine::Ticking;
use crate::error::{GuestFailure, Refusal, one_line};
use crate::host::limits::CallKind;
use crate::host::{GuestTime, HostState};
use crate::record::Recorder;

/// Longest text of a trap that is kept: message and backtrace.
const MAX_TRAP_TEXT: usize = 4096;

/// What an instance is told about where it runs.
#[derive(Clone, Debug)]
pub struct GuestEnv {
    /// The camera it works for.
    pub camera: CameraId,
    /// Name under which its log lines appear.
    pub guest: String,
    /// What it may use.
    pub limits: GuestLimits,
}

/// How much calls cost, since the instance began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallStats {
    /// Calls made.
    pub calls: u64,
    /// Nanoseconds on the wall in them.
    pub nanoseconds: u64,
    /// Nanoseconds of processor time in them. A call shorter than a millisecond counts with its time on the wall.
    pub cpu_nanoseconds: u64,
}

/// What an instance holds and has used, at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of memories and tables; they never shrink, so this is also the most it ever had.
    pub memory_bytes: u64,
    /// Bytes of pictures that it holds as crops.
    pub crop_bytes: u64,
    /// Log lines written.
    pub log_lines: u64,
    /// Log lines beyond its rate, left out.
    pub log_lines_left_out: u64,
    /// Calls and the time in them.
    pub calls: CallStats,
    /// Fuel used since the instance began; `None` unless its engine is metered.
    pub fuel: Option<u64>,
}

/// A store with one instance in it.
pub(crate) struct Sandbox {
    store: Store<HostState>,
    /// Its clock ticks as long as there is something to cut.
    _ticking: Ticking,
    digest: Digest,
    env: GuestEnv,
    bounded: bool,
    dead: bool,
    pub(crate) stats: CallStats,
    /// Notes the calls, in the slots of a camera.
    pub(crate) recorder: Option<Box<Recorder>>,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("digest", &self.digest).field("dead", &self.dead).finish_non_exhaustive()
    }
}

impl Sandbox {
    pub(crate) fn new(component: &GuestComponent, slot: SlotKind, env: &GuestEnv) -> Self {
        let state = HostState::new(&env.camera, slot, &env.guest, &env.limits);
        let mut store = Store::new(component.engine().wasmtime(), state);
        let bounded = component.engine().bounded();
        if bounded {
            store.limiter(|state| &mut state.memory);
            store.epoch_deadline_callback(|mut cx| Ok(cx.data_mut().deadline.check()));
            store.set_hostcall_fuel(env.limits.transfer_bytes());
        }
        if component.engine().is_metered() {
            // Fails only on an engine that does not count fuel.
            let _metered = store.set_fuel(u64::MAX);
        }
        Self {
            store,
            _ticking: component.engine().ticking(),
            digest: *component.digest(),
            env: env.clone(),
            bounded,
            dead: false,
            stats: CallStats::default(),
            recorder: None,
        }
    }

    /// Name under which its log lines appear.
    pub(crate) fn name(&self) -> &str {
        &self.env.guest
    }

    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    pub(crate) fn env(&self) -> &GuestEnv {
        &self.env
    }

    pub(crate) fn state(&self) -> &HostState {
        self.store.data()
    }

    pub(crate) fn state_mut(&mut self) -> &mut HostState {
        self.store.data_mut()
    }

    pub(crate) fn limits(&self) -> &GuestLimits {
        &self.env.limits
    }

    /// Says why the guest does not read a state: whoever swaps sees only that less was carried.
    pub(crate) fn tell_unread(&self, schema: &str, failure: &GuestFailure) {
        if matches!(failure, GuestFailure::Refused(_)) {
            let state = if schema.is_empty() { "of the contract's own form" } else { schema };
            let state = one_line(state, 128);
            tracing::info!(camera = %self.env.camera, guest = self.env.guest, state, %failure, "a guest did not read a state");
        }
    }

    /// Bytes of memories and tables.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.store.data().memory.used()
    }

    /// Bytes of crops that the guest holds.
    pub(crate) fn crop_bytes(&self) -> u64 {
        self.store.data().crops.held
    }

    /// Log lines written and left out.
    pub(crate) fn log_lines(&self) -> (u64, u64) {
        let log = &self.store.data().log;
        (log.written, log.left_out)
    }

    /// The most that was used within a second so far.
    pub(crate) fn busiest_second(&self) -> BudgetUse {
        self.store.data().budgets.busiest()
    }

    /// Goes on with the second that another instance of the same guest began.
    pub(crate) fn inherit_budgets(&mut self, from: &Self) {
        self.store.data_mut().budgets.inherit(&from.store.data().budgets);
    }

    /// See [`Usage`].
    pub(crate) fn usage(&self) -> Usage {
        let (log_lines, log_lines_left_out) = self.log_lines();
        Usage {
            memory_bytes: self.memory_bytes(),
            crop_bytes: self.crop_bytes(),
            log_lines,
            log_lines_left_out,
            calls: self.stats,
            fuel: self.store.get_fuel().ok().map(|left| u64::MAX - left),
        }
    }

    /// Starts the guest's random numbers anew from this seed.
    pub(crate) fn reseed(&mut self, seed: u64) {
        self.store.data_mut().random = crate::host::wasi::SeededRandom::new(seed);
    }

    /// Leaves so much fuel: the next call that needs more traps in the middle. `false` when the engine is not metered.
    pub(crate) fn leave_fuel(&mut self, fuel: u64) -> bool {
        self.store.set_fuel(fuel).is_ok()
    }

    /// Sets the time that the guest's clocks show in the next calls.
    pub(crate) fn set_time(&mut self, frame: &FrameInfo) {
        let state = self.store.data_mut();
        state.log.at(frame);
        state.time = GuestTime { monotonic_ns: frame.timestamp_ns, wall_ns: frame.captured_at_ns };
        state.frame = (frame.session, frame.sequence);
    }

    /// Moves the guest's clocks on to a later timestamp.
    pub(crate) fn set_timestamp(&mut self, timestamp_ns: u64) {
        let time = &mut self.store.data_mut().time;
        let by = timestamp_ns.saturating_sub(time.monotonic_ns);
        time.monotonic_ns = time.monotonic_ns.saturating_add(by);
        time.wall_ns = time.wall_ns.saturating_add(by);
    }

    /// What `configure` is told.
    pub(crate) fn camera(&self, config: &serde_json::Value) -> types::Camera {
        types::Camera {
            id: self.env.camera.to_string(),
            config: config.to_string(),
            max_message_bytes: self.env.limits.max_message_bytes,
        }
    }

    /// Makes the instance: `f` is the generated `instantiate`.
    pub(crate) fn instantiate<R>(
        &mut self,
        f: impl FnOnce(&mut Store<HostState>) -> wasmtime::Result<R>,
    ) -> Result<R, GuestFailure> {
        let made = self.run(CallKind::Start, f).map_err(|failure| match failure {
            GuestFailure::Trap(text) => GuestFailure::Instantiate(text),
            other => other,
        });
        // Calls are what is counted; being made is none.
        self.stats = CallStats::default();
        made
    }

    /// Calls an exported function that answers `result<T, guest-error>`.
    pub(crate) fn call<R>(
        &mut self,
        kind: CallKind,
        f: impl FnOnce(&mut Store<HostState>) -> wasmtime::Result<Result<R, types::GuestError>>,
    ) -> Result<R, GuestFailure> {
        let answer = self.run(kind, f)?;
        answer.map_err(|e| GuestFailure::Refused(Refusal::from(e)))
    }

    /// Runs something with the store outside of guest code (handles in and out).
    pub(crate) fn host<R>(&mut self, f: impl FnOnce(&mut HostState) -> wasmtime::Result<R>) -> Result<R, GuestFailure> {
        f(self.store.data_mut()).map_err(|e| {
            self.dead = true;
            GuestFailure::Invalid(text_of(&e))
        })
    }

    fn run<R>(
        &mut self,
        kind: CallKind,
        f: impl FnOnce(&mut Store<HostState>) -> wasmtime::Result<R>,
    ) -> Result<R, GuestFailure> {
        if self.dead {
            return Err(GuestFailure::Trap("this instance failed before and is not called again".to_owned()));
        }
        if !self.bounded {
            return f(&mut self.store).map_err(|e| GuestFailure::Trap(text_of(&e)));
        }
        let state = self.store.data_mut();
        state.memory.denied = false;
        if kind == CallKind::Frame {
            // What is used at the start goes to the first second: no frame has set the clock yet.
            state.budgets.begin(state.time.monotonic_ns);
        }
        let ticks = state.deadline.begin(kind);
        self.store.set_epoch_deadline(ticks);
        let result = f(&mut self.store);
        let state = self.store.data_mut();
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let elapsed = state.deadline.elapsed();
        let cpu = nanoseconds(state.deadline.cpu_used(elapsed));
        let elapsed = nanoseconds(elapsed);
        if kind == CallKind::Frame {
            state.budgets.cpu(cpu.saturating_sub(nanoseconds(state.deadline.excused())) / 1000);
        }
        let over = state.budgets.over();
        self.stats.calls += 1;
        self.stats.nanoseconds = self.stats.nanoseconds.saturating_add(elapsed);
        self.stats.cpu_nanoseconds = self.stats.cpu_nanoseconds.saturating_add(cpu);
        match (result, over) {
            (Ok(answer), None) => Ok(answer),
            (Ok(_), Some(over)) => {
                // Also when it answered in the end: what is above the budget is not to pay.
                self.dead = true;
                Err(over)
            }
            (Err(e), _) => {
                // After a trap the instance's memory is in an unknown state; wasmtime would refuse to enter it too.
                self.dead = true;
                Err(self.failure(&e))
            }
        }
    }

    fn failure(&self, error: &wasmtime::Error) -> GuestFailure {
        let state = self.store.data();
        if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
            let (deadline_ms, wall_deadline_ms) = state.deadline.allowed_ms();
            return GuestFailure::Deadline { deadline_ms, wall_deadline_ms };
        }
        if let Some(over) = state.budgets.over() {
            return over;
        }
        let text = text_of(error);
        if state.memory.denied {
            return GuestFailure::Memory { limit_bytes: state.memory.limit(), text };
        }
        GuestFailure::Trap(text)
    }
}

/// What happened, then the wasm backtrace on the way there, bounded: what is cut off must not be the cause.
fn text_of(error: &wasmtime::Error) -> String {
    let mut text = match error.chain().count() {
        1 => format!("{error:?}"),
        _ => format!("{}\n{error:?}", error.root_cause()),
    };
    if text.len() > MAX_TRAP_TEXT {
        let end = (0..=MAX_TRAP_TEXT).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
