//! An empty WASI 0.2: what toolchains drag in (wasm32-wasip2, cargo-component, Python, JavaScript), without authority.
//!
//! No arguments, no environment, no files, standard input at its end, standard output and error to the log, clocks that
//! show the frame's time, randomness seeded by camera and slot (a run repeats bit for bit). Written here rather than
//! taken from wasmtime-wasi: that crate carries an implementation of files and sockets, an async runtime, and the
//! advisories that go with them; what is left when all of it is empty are the few functions below. Every function not
//! defined here traps when called, which for files cannot happen: without a directory handle there is nothing to call
//! them on. `wasi:sockets`, `wasi:http` and everything else are refused when the component is loaded.

use std::time::Instant;

use facestream_core::CameraId;
use facestream_core::guest::SlotKind;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower, Resource, ResourceType};
use wasmtime::{Result, StoreContextMut};

use super::HostState;
use crate::digest::Digest;

/// Interfaces of WASI 0.2 that a component may import.
pub(crate) const ALLOWED: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:clocks/timezone",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/random",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
];

/// Most bytes of randomness in one call.
const MAX_RANDOM: u64 = 65_536;

/// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014). Not for secrets: a
/// guest has none, and a run must repeat.
#[derive(Debug)]
pub(crate) struct SeededRandom(u64);

impl SeededRandom {
    /// Where it stands.
    pub(crate) fn seed(&self) -> u64 {
        self.0
    }

    /// Goes on from there.
    pub(crate) fn set_seed(&mut self, seed: u64) {
        self.0 = seed;
    }

    pub(crate) fn for_slot(camera: &CameraId, slot: SlotKind) -> Self {
        let digest = Digest::of(format!("{camera}/{slot}").as_bytes());
        Self(digest.bytes().iter().take(8).fold(0, |seed, &b| seed << 8 | u64::from(b)))
    }

    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        if len > MAX_RANDOM {
            return Err(wasmtime::Error::msg(format!("{len} random bytes asked for; at most {MAX_RANDOM} are given")));
        }
        let len = usize::try_from(len)?;
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            out.extend_from_slice(&self.next().to_le_bytes());
        }
        out.truncate(len);
        Ok(out)
    }
}

/// Standard input: at its end.
struct InputStream;
/// Standard output or error: a guest's go to the log, a program's to those of this process.
#[derive(Clone, Copy)]
enum OutputStream {
    Output,
    Error,
}

impl OutputStream {
    fn write(self, bytes: &[u8]) -> std::io::Result<()> {
        use std::io::Write as _;
        match self {
            Self::Output => {
                let mut out = std::io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()
            }
            Self::Error => std::io::stderr().lock().write_all(bytes),
        }
    }
}
/// Always ready: nothing here ever waits.
struct Pollable;
/// Details of a failed stream operation; none ever fails that way.
struct StreamFailure;
struct Terminal;
struct Descriptor;

#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    LastOperationFailed(Resource<StreamFailure>),
    #[component(name = "closed")]
    Closed,
}

#[derive(ComponentType, Lift, Lower, Clone, Copy)]
#[component(record)]
struct Datetime {
    #[component(name = "seconds")]
    seconds: u64,
    #[component(name = "nanoseconds")]
    nanoseconds: u32,
}

type Cx<'a> = StoreContextMut<'a, HostState>;

/// Defines one imported interface, `name` without its version. Resources that an interface takes over from another one
/// (`use`) are defined in it too, as the same type: a component imports them with the interface, and what is missing here
/// would be stubbed as a resource of its own, which then is not the same as the other interface's.
pub(crate) fn define(name: &str, i: &mut LinkerInstance<'_, HostState>) -> Result<()> {
    match name {
        "wasi:cli/environment" => {
            i.func_wrap("get-environment", |_: Cx<'_>, ()| Ok((Vec::<(String, String)>::new(),)))?;
            i.func_wrap("get-arguments", |cx: Cx<'_>, ()| {
                Ok((cx.data().program.as_ref().map(|p| p.arguments.clone()).unwrap_or_default(),))
            })?;
            i.func_wrap("initial-cwd", |_: Cx<'_>, ()| Ok((None::<String>,)))
        }
        "wasi:cli/exit" => {
            i.func_wrap("exit", |mut cx: Cx<'_>, (status,): (std::result::Result<(), ()>,)| -> Result<()> {
                let how = if status.is_ok() { "success" } else { "failure" };
                if let Some(program) = &mut cx.data_mut().program {
                    program.exit = Some(u8::from(status.is_err()));
                    return Err(wasmtime::Error::msg("the program ended"));
                }
                Err(wasmtime::Error::msg(format!(
                    "the guest called exit ({how}); a guest stays until the host removes it"
                )))
            })
        }
        "wasi:cli/stdin" => {
            resource::<InputStream>(i, "input-stream")?;
            i.func_wrap("get-stdin", |mut cx: Cx<'_>, ()| Ok((cx.data_mut().table.push(InputStream)?,)))
        }
        "wasi:cli/stdout" => {
            resource::<OutputStream>(i, "output-stream")?;
            i.func_wrap("get-stdout", |mut cx: Cx<'_>, ()| Ok((cx.data_mut().table.push(OutputStream::Output)?,)))
        }
        "wasi:cli/stderr" => {
            resource::<OutputStream>(i, "output-stream")?;
            i.func_wrap("get-stderr", |mut cx: Cx<'_>, ()| Ok((cx.data_mut().table.push(OutputStream::Error)?,)))
        }
        "wasi:cli/terminal-input" => resource::<Terminal>(i, "terminal-input"),
        "wasi:cli/terminal-output" => resource::<Terminal>(i, "terminal-output"),
        "wasi:cli/terminal-stdin" => {
            resource::<Terminal>(i, "terminal-input")?;
            i.func_wrap("get-terminal-stdin", |_: Cx<'_>, ()| Ok((None::<Resource<Terminal>>,)))
        }
        "wasi:cli/terminal-stdout" => {
            resource::<Terminal>(i, "terminal-output")?;
            i.func_wrap("get-terminal-stdout", |_: Cx<'_>, ()| Ok((None::<Resource<Terminal>>,)))
        }
        "wasi:cli/terminal-stderr" => {
            resource::<Terminal>(i, "terminal-output")?;
            i.func_wrap("get-terminal-stderr", |_: Cx<'_>, ()| Ok((None::<Resource<Terminal>>,)))
        }
        "wasi:clocks/monotonic-clock" => {
            resource::<Pollable>(i, "pollable")?;
            i.func_wrap("now", |cx: Cx<'_>, ()| {
                let state = cx.data();
                // A program has no frames; libtest shows how long its tests took.
                let since = if state.program.is_some() { state.deadline.elapsed().as_nanos() } else { 0 };
                Ok((state.time.monotonic_ns.saturating_add(u64::try_from(since).unwrap_or(u64::MAX)),))
            })?;
            i.func_wrap("resolution", |_: Cx<'_>, ()| Ok((1_u64,)))?;
            i.func_wrap("subscribe-instant", |mut cx: Cx<'_>, (_,): (u64,)| {
                Ok((cx.data_mut().table.push(Pollable)?,))
            })?;
            i.func_wrap("subscribe-duration", |mut cx: Cx<'_>, (_,): (u64,)| {
                Ok((cx.data_mut().table.push(Pollable)?,))
            })
        }
        "wasi:clocks/wall-clock" => {
            i.func_wrap("now", |cx: Cx<'_>, ()| {
                let ns = cx.data().time.wall_ns;
                // The remainder is below 10^9.
                Ok((Datetime { seconds: ns / 1_000_000_000, nanoseconds: (ns % 1_000_000_000) as u32 },))
            })?;
            i.func_wrap("resolution", |_: Cx<'_>, ()| Ok((Datetime { seconds: 0, nanoseconds: 1 },)))
        }
        "wasi:filesystem/preopens" => {
            resource::<Descriptor>(i, "descriptor")?;
            i.func_wrap("get-directories", |_: Cx<'_>, ()| Ok((Vec::<(Resource<Descriptor>, String)>::new(),)))
        }
        "wasi:filesystem/types" => {
            resource::<StreamFailure>(i, "error")?;
            resource::<InputStream>(i, "input-stream")?;
            resource::<OutputStream>(i, "output-stream")?;
            resource::<Descriptor>(i, "descriptor")?;
            resource::<Descriptor>(i, "directory-entry-stream")
        }
        "wasi:io/error" => resource::<StreamFailure>(i, "error"),
        "wasi:io/poll" => {
            resource::<Pollable>(i, "pollable")?;
            i.func_wrap("[method]pollable.ready", |_: Cx<'_>, (_,): (Resource<Pollable>,)| Ok((true,)))?;
            i.func_wrap("[method]pollable.block", |_: Cx<'_>, (_,): (Resource<Pollable>,)| Ok(()))?;
            i.func_wrap("poll", |_: Cx<'_>, (list,): (Vec<Resource<Pollable>>,)| {
                let count = u32::try_from(list.len())?;
                if count == 0 {
                    return Err(wasmtime::Error::msg("poll on an empty list"));
                }
                Ok(((0..count).collect::<Vec<u32>>(),))
            })
        }
        "wasi:io/streams" => streams(i),
        "wasi:random/random" => {
            i.func_wrap("get-random-bytes", |mut cx: Cx<'_>, (n,): (u64,)| Ok((cx.data_mut().random.bytes(n)?,)))?;
            i.func_wrap("get-random-u64", |mut cx: Cx<'_>, ()| Ok((cx.data_mut().random.next(),)))
        }
        "wasi:random/insecure" => {
            i.func_wrap("get-insecure-random-bytes", |mut cx: Cx<'_>, (n,): (u64,)| {
                Ok((cx.data_mut().random.bytes(n)?,))
            })?;
            i.func_wrap("get-insecure-random-u64", |mut cx: Cx<'_>, ()| Ok((cx.data_mut().random.next(),)))
        }
        "wasi:random/insecure-seed" => i.func_wrap("insecure-seed", |mut cx: Cx<'_>, ()| {
            let random = &mut cx.data_mut().random;
            Ok(((random.next(), random.next()),))
        }),
        // Allowed, but with nothing worth defining: its functions trap when called.
        _ => Ok(()),
    }
}

/// A resource type of ours: dropping a handle frees its entry.
fn resource<T: 'static>(i: &mut LinkerInstance<'_, HostState>, name: &str) -> Result<()> {
    i.resource(name, ResourceType::host::<T>(), |mut cx, rep| {
        cx.data_mut().table.delete(Resource::<T>::new_own(rep))?;
        Ok(())
    })
}

type Io<T> = std::result::Result<T, StreamError>;

fn streams(i: &mut LinkerInstance<'_, HostState>) -> Result<()> {
    resource::<StreamFailure>(i, "error")?;
    resource::<Pollable>(i, "pollable")?;
    resource::<InputStream>(i, "input-stream")?;
    resource::<OutputStream>(i, "output-stream")?;
    for read in ["[method]input-stream.read", "[method]input-stream.blocking-read"] {
        i.func_wrap(read, |_: Cx<'_>, (_, _): (Resource<InputStream>, u64)| {
            Ok((Io::<Vec<u8>>::Err(StreamError::Closed),))
        })?;
    }
    for skip in ["[method]input-stream.skip", "[method]input-stream.blocking-skip"] {
        i.func_wrap(skip, |_: Cx<'_>, (_, _): (Resource<InputStream>, u64)| {
            Ok((Io::<u64>::Err(StreamError::Closed),))
        })?;
    }
    i.func_wrap("[method]input-stream.subscribe", |mut cx: Cx<'_>, (_,): (Resource<InputStream>,)| {
        Ok((cx.data_mut().table.push(Pollable)?,))
    })?;
    i.func_wrap("[method]output-stream.check-write", |_: Cx<'_>, (_,): (Resource<OutputStream>,)| {
        Ok((Io::<u64>::Ok(65_536),))
    })?;
    for write in ["[method]output-stream.write", "[method]output-stream.blocking-write-and-flush"] {
        i.func_wrap(write, |mut cx: Cx<'_>, (stream, bytes): (Resource<OutputStream>, Vec<u8>)| {
            if cx.data().program.is_some() {
                let stream = *cx.data().table.get(&stream)?;
                // A closed pipe (`… | head`) is an end of the stream for the program too.
                return Ok((stream.write(&bytes).map_err(|_| StreamError::Closed),));
            }
            let state = cx.data_mut();
            state.budgets.host_call()?;
            state.budgets.log(bytes.len())?;
            state.log.printed(&bytes, Instant::now());
            Ok((Io::<()>::Ok(()),))
        })?;
    }
    for flush in ["[method]output-stream.flush", "[method]output-stream.blocking-flush"] {
        i.func_wrap(flush, |_: Cx<'_>, (_,): (Resource<OutputStream>,)| Ok((Io::<()>::Ok(()),)))?;
    }
    i.func_wrap("[method]output-stream.subscribe", |mut cx: Cx<'_>, (_,): (Resource<OutputStream>,)| {
        Ok((cx.data_mut().table.push(Pollable)?,))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn randomness_repeats_for_a_slot_and_differs_between_slots() {
        let camera = CameraId::new("c1").unwrap();
        let draw = |slot| SeededRandom::for_slot(&camera, slot).bytes(20).unwrap();
        assert_eq!(draw(SlotKind::Scorer), draw(SlotKind::Scorer));
        assert_ne!(draw(SlotKind::Scorer), draw(SlotKind::Tracker));
        assert!(SeededRandom(0).bytes(MAX_RANDOM + 1).is_err());
    }
}
