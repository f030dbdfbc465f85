//! Programs for the sandbox: a crate's tests compiled to WebAssembly, run from `main` to their exit code.
//!
//! Owns the step from a WASI 0.1 module to a component (by the adapter of the Bytecode Alliance) and the run of
//! `wasi:cli/run`. The WASI is the guests' empty one, with three things more: arguments, standard output and error that
//! go through, and an exit. Must not be reachable from cameras: it takes whatever program it is given.

use std::time::Duration;

use facestream_core::CameraId;
use facestream_core::guest::SlotKind;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wasmtime::Store;
use wasmtime::component::{Component, Linker};

use crate::component::{instance_exports, top_level_names};
use crate::config::GuestLimits;
use crate::engine::GuestEngine;
use crate::error::{CommandError, one_line};
use crate::host::limits::CallKind;
use crate::host::{HostState, Program, wasi};

/// Name and interface of a program's `main`.
const RUN: &str = "wasi:cli/run@0.2.";

/// What a program may use.
#[derive(Clone, Copy, Debug)]
pub struct CommandLimits {
    /// Linear memories and tables together.
    pub max_memory_bytes: u64,
    /// Processor time for the whole run.
    pub wall: Duration,
}

/// Runs a program (a WASI 0.1 module with `_start`, or a component that exports `wasi:cli/run`) with these arguments, the
/// first being its name, and gives its exit code. Standard output and error are this process's.
///
/// # Errors
/// See [`CommandError`].
pub fn run_command(
    engine: &GuestEngine,
    bytes: &[u8],
    arguments: Vec<String>,
    limits: CommandLimits,
) -> Result<u8, CommandError> {
    let converted;
    let bytes = if wasmparser::Parser::is_core_wasm(bytes) {
        converted = component_of(bytes)?;
        &converted
    } else {
        bytes
    };
    let refused = |e: wasmtime::Error| CommandError::Refused(one_line(&format!("{e:#}"), 1024));
    let names = top_level_names(bytes).map_err(|e| CommandError::Refused(e.to_string()))?;
    let run = instance_exports(bytes).into_iter().find(|name| name.starts_with(RUN));
    let run = run.ok_or(CommandError::NoMain)?;
    for import in &names {
        let (name, version) = import.split_once('@').unwrap_or((import, ""));
        if !wasi::ALLOWED.contains(&name) || !version.starts_with("0.2.") {
            return Err(CommandError::Import(one_line(import, 256)));
        }
    }

    let component = Component::from_binary(engine.wasmtime(), bytes).map_err(refused)?;
    let mut linker = Linker::<HostState>::new(engine.wasmtime());
    for import in &names {
        let name = import.split_once('@').map_or(import.as_str(), |(name, _)| name);
        let mut instance = linker.instance(import).map_err(refused)?;
        wasi::define(name, &mut instance).map_err(refused)?;
    }
    // What touches files is there to be linked; without a directory nothing can call it.
    linker.define_unknown_imports_as_traps(&component).map_err(refused)?;

    let milliseconds = u32::try_from(limits.wall.as_millis()).unwrap_or(u32::MAX);
    let guest_limits = GuestLimits {
        deadline_ms: milliseconds,
        wall_deadline_ms: milliseconds,
        start_deadline_ms: milliseconds,
        max_memory_bytes: limits.max_memory_bytes,
        ..GuestLimits::default()
    };
    // A name for a log that a program without our interfaces never writes to.
    let camera = CameraId::new("program").map_err(|e| CommandError::Refused(e.to_string()))?;
    let mut state = HostState::new(&camera, SlotKind::Tracker, "program", &guest_limits);
    state.program = Some(Program { arguments, exit: None });
    let _ticking = engine.ticking();
    let mut store = Store::new(engine.wasmtime(), state);
    store.limiter(|state| &mut state.memory);
    store.epoch_deadline_callback(|mut cx| Ok(cx.data_mut().deadline.check()));
    let ticks = store.data_mut().deadline.begin(CallKind::Frame);
    store.set_epoch_deadline(ticks);

    let ended = (|| {
        let instance = linker.instantiate(&mut store, &component)?;
        let interface = instance
            .get_export_index(&mut store, None, &run)
            .and_then(|i| instance.get_export_index(&mut store, Some(&i), "run"))
            .ok_or_else(|| wasmtime::Error::msg("wasi:cli/run has no function `run`"))?;
        let main = instance.get_typed_func::<(), (Result<(), ()>,)>(&mut store, interface)?;
        main.call(&mut store, ())
    })();
    // `exit` ends the program by a trap of ours; the code was kept.
    match (store.data().program.as_ref().and_then(|p| p.exit), ended) {
        (Some(code), _) => Ok(code),
        (None, Ok((Ok(()),))) => Ok(0),
        (None, Ok((Err(()),))) => Ok(1),
        (None, Err(e)) if e.downcast_ref::<wasmtime::Trap>() == Some(&wasmtime::Trap::Interrupt) => {
            Err(CommandError::Deadline { seconds: limits.wall.as_secs() })
        }
        (None, Err(_)) if store.data().memory.denied => {
            Err(CommandError::Memory { limit_bytes: limits.max_memory_bytes })
        }
        (None, Err(e)) => Err(CommandError::Trap(format!("{e:?}"))),
    }
}

/// A module that speaks WASI 0.1 made a component that speaks 0.2.
fn component_of(module: &[u8]) -> Result<Vec<u8>, CommandError> {
    let refused = |e: &dyn std::fmt::Debug| CommandError::Refused(one_line(&format!("{e:?}"), 1024));
    wit_component::ComponentEncoder::default()
        .module(module)
        .and_then(|e| e.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER))
        .and_then(|e| e.validate(true).encode())
        .map_err(|e| refused(&e))
}
