//! Components that import WASI, as toolchains make them: they load, run, and get nothing from it.
//!
//! Two ways in: a wasip1 module with the adapter that cargo-component, TinyGo and others put in front of it (its real
//! bytes), and imports of WASI 0.2 itself in the version that the component names, as wasm32-wasip2 makes them.
// Helpers outside of `#[test]` functions unwrap too: a failure there is the test's.
#![allow(clippy::unwrap_used)]

mod kit;

use facestream_core::CameraId;
use facestream_guest_host::{GuestEnv, GuestFailure, GuestLimits, LoadError, TrackerGuest, inspect};
use kit::{Body, FRAME_NS, frame};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::{ComponentEncoder, StringEncoding};

/// What the guests of this file tell, through `save`: 96 bytes from address 4096.
const TELL: &str = "(drop (call $snapshot)) (i32.store (i32.const 1036) (i32.const 4096))
    (i32.store (i32.const 1040) (i32.const 96)) (i32.const 1024)";

const ECHO: &str = "(call $echo (local.get $n) (local.get $detections) (local.get $timestamp))";

/// A tracker of the kit with more imports before its own, as text.
fn tracker_wat(imports: &str, bodies: &[Body<'_>]) -> String {
    let all: Vec<Body<'_>> = bodies.iter().copied().chain([("save", TELL)]).collect();
    let wat = kit::tracker_wat(&all);
    let own = "(import \"facestream:analytics/log@0.1.0\"";
    assert!(wat.contains(own));
    wat.replacen(own, &format!("{imports}\n  {own}"), 1)
}

fn env(camera: &str) -> GuestEnv {
    GuestEnv { camera: CameraId::new(camera).unwrap(), guest: "wasi".to_owned(), limits: GuestLimits::default() }
}

fn started(bytes: &[u8], camera: &str) -> TrackerGuest {
    let component = kit::load(&kit::engine(), bytes);
    let mut guest = TrackerGuest::instantiate(&component, &env(camera)).unwrap();
    guest.configure(&serde_json::json!({})).unwrap();
    guest
}

/// What a guest told: a number of four bytes at each offset.
struct Told(Vec<u8>);

impl Told {
    fn after_frame(guest: &mut TrackerGuest, n: u64) -> Self {
        let update = guest.advance(&frame(n).info, &kit::detections(3), None).unwrap();
        assert_eq!(update.tracks.len(), 3, "it tracks as any other guest");
        Self(guest.save().unwrap().data.to_vec())
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap())
    }
}

/// The version of the contract, in place of the one that the kit's text names.
fn contract(resolve: &wit_parser::Resolve, package: wit_parser::PackageId) -> String {
    format!("@{}", resolve.packages[package].name.version.as_ref().unwrap())
}

/// A core module of wasip1, a tracker, made a component by the adapter.
fn from_preview1(wat: &str) -> Vec<u8> {
    from_preview1_against(kit::WIT, "tracker", wat)
}

fn from_preview1_against(wit: &str, world: &str, wat: &str) -> Vec<u8> {
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_path(wit).unwrap();
    let wat = wat.replace("@0.1.0", &contract(&resolve, package));
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let mut module = wat::parse_str(&wat).unwrap_or_else(|e| panic!("{e}\n{wat}"));
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    let encoder = ComponentEncoder::default().validate(true).module(&module).unwrap();
    encoder
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)
        .unwrap()
        .encode()
        .unwrap_or_else(|e| panic!("{e:?}"))
}

const PREVIEW1: &str = r#"
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#;

/// Asks for everything that a program asks for, each answer at its place.
const ASK_PREVIEW1: &str = r#"
  (i32.store (i32.const 4096) (call $args (i32.const 4100) (i32.const 5000)))
  (i32.store (i32.const 4104) (call $environ (i32.const 4108) (i32.const 5000)))
  (i32.store (i32.const 4112) (call $prestat (i32.const 3) (i32.const 5000)))
  (i32.store (i32.const 4116) (call $open (i32.const 3) (i32.const 0) (i32.const 32) (i32.const 5) (i32.const 0)
    (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 5000)))
  ;; One buffer of 64 bytes at 6000.
  (i32.store (i32.const 5008) (i32.const 6000)) (i32.store (i32.const 5012) (i32.const 64))
  (i32.store (i32.const 4120) (call $read (i32.const 0) (i32.const 5008) (i32.const 1) (i32.const 4124)))
  ;; "faces" and a line's end, to standard output and to standard error.
  (i32.store (i32.const 5016) (i32.const 32)) (i32.store (i32.const 5020) (i32.const 5))
  (i32.store8 (i32.const 5032) (i32.const 10))
  (i32.store (i32.const 5024) (i32.const 5032)) (i32.store (i32.const 5028) (i32.const 1))
  (i32.store (i32.const 4128) (call $write (i32.const 1) (i32.const 5016) (i32.const 1) (i32.const 5000)))
  (i32.store (i32.const 4132) (call $write (i32.const 1) (i32.const 5024) (i32.const 1) (i32.const 5000)))
  (drop (call $write (i32.const 2) (i32.const 5016) (i32.const 1) (i32.const 5000)))
  (drop (call $write (i32.const 2) (i32.const 5024) (i32.const 1) (i32.const 5000)))
  (i32.store (i32.const 4136) (i32.or
    (call $clock (i32.const 0) (i64.const 1) (i32.const 4144)) (call $clock (i32.const 1) (i64.const 1) (i32.const 4152))))
  (i32.store (i32.const 4140) (call $random (i32.const 4160) (i32.const 8)))
  ;; Sleeping for an hour: a subscription of 48 bytes at 7000, tag 0 (clock), clock 1, relative.
  (memory.fill (i32.const 7000) (i32.const 0) (i32.const 48))
  (i32.store (i32.const 7016) (i32.const 1)) (i64.store (i32.const 7024) (i64.const 3600000000000))
  (i32.store (i32.const 4168) (call $poll (i32.const 7000) (i32.const 7100) (i32.const 1) (i32.const 4172)))"#;

/// `EBADF` of preview 1.
const BAD_DESCRIPTOR: u32 = 8;

#[test]
fn a_wasip1_program_finds_no_files_no_environment_and_the_frames_clock() {
    let bytes = from_preview1(&tracker_wat(PREVIEW1, &[("advance", &format!("{ASK_PREVIEW1} {ECHO}"))]));
    let info = inspect(&bytes, 1 << 20).unwrap();
    for import in
        ["wasi:cli/environment@0.2", "wasi:filesystem/types@0.2", "wasi:io/poll@0.2", "wasi:clocks/wall-clock@0.2"]
    {
        assert!(info.imports.iter().any(|i| i.starts_with(import)), "{import} is exercised: {:?}", info.imports);
    }
    let mut guest = started(&bytes, "cam-1");
    let told = Told::after_frame(&mut guest, 7);
    assert_eq!((told.u32(0), told.u32(4)), (0, 0), "no arguments");
    assert_eq!((told.u32(8), told.u32(12)), (0, 0), "no environment");
    assert_eq!(told.u32(16), BAD_DESCRIPTOR, "no directory was opened for it");
    assert_eq!(told.u32(20), BAD_DESCRIPTOR, "and it opens none");
    assert_eq!((told.u32(24), told.u32(28)), (0, 0), "standard input is at its end");
    assert_eq!((told.u32(32), told.u32(36)), (0, 0), "it may print");
    assert_eq!(guest.log_lines(), (2, 0), "and what it prints are lines of its log");
    let at = frame(7).info;
    assert_eq!((told.u32(40), told.u32(44)), (0, 0));
    assert_eq!((told.u64(48), told.u64(56)), (at.captured_at_ns, at.timestamp_ns), "the frame's time, no other");
    assert_eq!((told.u32(72), told.u32(76)), (0, 1), "sleeping is over at once: nothing waits in a guest");
    let later = Told::after_frame(&mut guest, 8);
    assert_eq!(later.u64(56) - told.u64(56), FRAME_NS, "the clock goes on with the frames");
    assert_ne!(later.u64(64), told.u64(64), "randomness goes on");
}

#[test]
fn randomness_repeats_from_run_to_run_and_differs_between_cameras() {
    let bytes = from_preview1(&tracker_wat(PREVIEW1, &[("advance", &format!("{ASK_PREVIEW1} {ECHO}"))]));
    let run = |camera| {
        let mut guest = started(&bytes, camera);
        [0, 1, 2].map(|n| Told::after_frame(&mut guest, n).u64(64))
    };
    assert_eq!(run("cam-1"), run("cam-1"));
    assert_ne!(run("cam-1"), run("cam-2"));
}

#[test]
fn leaving_the_process_is_a_trap_that_says_so() {
    let bytes = from_preview1(&tracker_wat(PREVIEW1, &[("advance", "(call $exit (i32.const 0)) (call $ok)")]));
    let failure = started(&bytes, "cam-1").advance(&frame(0).info, &[], None).unwrap_err();
    assert!(matches!(&failure, GuestFailure::Trap(text) if text.contains("called exit (success)")), "{failure}");
}

#[test]
fn a_wasip1_program_with_sockets_gets_none() {
    let imports = r#"(import "wasi_snapshot_preview1" "sock_shutdown" (func $shut (param i32 i32) (result i32)))"#;
    let shut = "(i32.store (i32.const 4096) (call $shut (i32.const 3) (i32.const 0)))";
    let bytes = from_preview1(&tracker_wat(imports, &[("advance", &format!("{shut} {ECHO}"))]));
    // The adapter's choice: it carries sockets, which the host refuses by name, or has none and says so to the program.
    match inspect(&bytes, 1 << 20) {
        Err(LoadError::ImportRefused { import, why }) => {
            assert!(import.starts_with("wasi:sockets/") && why.contains("no network"), "{import}: {why}");
        }
        Err(other) => panic!("{other}"),
        Ok(info) => {
            assert!(!info.imports.iter().any(|i| i.contains("sockets")), "{:?}", info.imports);
            assert_ne!(Told::after_frame(&mut started(&bytes, "cam-1"), 0).u32(0), 0, "an error");
        }
    }
}

/// What comes out of three guests when some faces come and go.
fn messages([tracker, scorer, formatter]: [Vec<u8>; 3]) -> Vec<Vec<u8>> {
    let mut rig = kit::rig(kit::config(), Some(tracker), Some(scorer), Some(formatter));
    let frames = (0..40).flat_map(|n| rig.guests.process(&frame(n), &kit::detections((n % 7) as usize), None).messages);
    let mut messages: Vec<_> = frames.collect();
    messages.extend(rig.guests.flush().messages);
    assert!(rig.metrics.all_drops().is_empty(), "{:?}", rig.metrics.all_drops());
    messages.into_iter().map(|m| m.payload.to_vec()).collect()
}

#[test]
fn every_world_of_every_version_gets_wasi_beside_the_contract() {
    let worlds =
        [("tracker", kit::tracker_wat(&[])), ("scorer", kit::scorer_wat(&[])), ("formatter", kit::formatter_wat(&[]))];
    let clock = r#"(import "wasi_snapshot_preview1" "clock_time_get" (func (param i32 i64 i32) (result i32)))"#;
    for wit in [kit::WIT_0_1_0, kit::WIT] {
        let plain = worlds.each_ref().map(|(world, wat)| kit::component_against(wit, world, wat));
        let with_wasi = worlds.each_ref().map(|(world, wat)| {
            let bytes = from_preview1_against(wit, world, &wat.replacen("(module", &format!("(module {clock}"), 1));
            let imports = inspect(&bytes, 1 << 20).unwrap().imports;
            assert!(imports.iter().any(|i| i.starts_with("wasi:clocks/")), "{imports:?}");
            bytes
        });
        // The kit's scorer asks for pictures and the formatter is handed them: functions and resources of the contract
        // are the host's, not stubs.
        let expected = messages(plain);
        assert!(expected.len() > 20, "{}", expected.len());
        assert_eq!(messages(with_wasi), expected, "{wit}");
    }
}

/// A module that imports WASI 0.2 itself, in this version.
fn from_preview2(version: &str, imports: &str, bodies: &[Body<'_>]) -> Vec<u8> {
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_path(kit::WIT).unwrap();
    let contract = contract(&resolve, package);
    let wit = WASI.replace("VERSION", version).replace("@0.1.0", &contract);
    let package = resolve.push_str("test.wit", &wit).unwrap();
    let world = resolve.select_world(&[package], Some("w")).unwrap();
    let wat = tracker_wat(&imports.replace("VERSION", version), bodies).replace("@0.1.0", &contract);
    let mut module = wat::parse_str(&wat).unwrap_or_else(|e| panic!("{e}\n{wat}"));
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    let mut encoder = ComponentEncoder::default().validate(true).module(&module).unwrap();
    encoder.encode().unwrap_or_else(|e| panic!("{e:?}"))
}

/// The functions of WASI 0.2 that are used here, as its WIT declares them.
const WASI: &str = r#"
package test:guest;
world w {
  include facestream:analytics/tracker@0.1.0;
  import wasi:cli/environment@VERSION;
  import wasi:cli/stdin@VERSION;
  import wasi:cli/stdout@VERSION;
  import wasi:cli/terminal-stdout@VERSION;
  import wasi:clocks/monotonic-clock@VERSION;
  import wasi:clocks/wall-clock@VERSION;
  import wasi:clocks/timezone@VERSION;
  import wasi:filesystem/preopens@VERSION;
  import wasi:random/random@VERSION;
  import wasi:random/insecure@VERSION;
  import wasi:random/insecure-seed@VERSION;
}
package wasi:io@VERSION {
  interface error { resource error; }
  interface poll {
    resource pollable { ready: func() -> bool; block: func(); }
    poll: func(in: list<borrow<pollable>>) -> list<u32>;
  }
  interface streams {
    use error.{error};
    use poll.{pollable};
    variant stream-error { last-operation-failed(error), closed }
    resource input-stream {
      blocking-read: func(len: u64) -> result<list<u8>, stream-error>;
      subscribe: func() -> pollable;
    }
    resource output-stream {
      check-write: func() -> result<u64, stream-error>;
      write: func(contents: list<u8>) -> result<_, stream-error>;
      blocking-flush: func() -> result<_, stream-error>;
      subscribe: func() -> pollable;
      blocking-write-zeroes-and-flush: func(len: u64) -> result<_, stream-error>;
    }
  }
}
package wasi:cli@VERSION {
  interface environment {
    get-environment: func() -> list<tuple<string, string>>;
    get-arguments: func() -> list<string>;
    initial-cwd: func() -> option<string>;
  }
  interface stdin { use wasi:io/streams@VERSION.{input-stream}; get-stdin: func() -> input-stream; }
  interface stdout { use wasi:io/streams@VERSION.{output-stream}; get-stdout: func() -> output-stream; }
  interface terminal-output { resource terminal-output; }
  interface terminal-stdout {
    use terminal-output.{terminal-output};
    get-terminal-stdout: func() -> option<terminal-output>;
  }
}
package wasi:clocks@VERSION {
  interface monotonic-clock {
    use wasi:io/poll@VERSION.{pollable};
    now: func() -> u64;
    resolution: func() -> u64;
    subscribe-duration: func(when: u64) -> pollable;
  }
  interface wall-clock { record datetime { seconds: u64, nanoseconds: u32 } now: func() -> datetime; }
  interface timezone { use wall-clock.{datetime}; utc-offset: func(when: datetime) -> s32; }
}
package wasi:filesystem@VERSION {
  interface types { resource descriptor { sync: func(); } }
  interface preopens {
    use types.{descriptor};
    get-directories: func() -> list<tuple<descriptor, string>>;
  }
}
package wasi:random@VERSION {
  interface random { get-random-bytes: func(len: u64) -> list<u8>; get-random-u64: func() -> u64; }
  interface insecure { get-insecure-random-u64: func() -> u64; }
  interface insecure-seed { insecure-seed: func() -> tuple<u64, u64>; }
}
"#;

const PREVIEW2: &str = r#"
  (import "wasi:cli/environment@VERSION" "get-environment" (func $environ (param i32)))
  (import "wasi:cli/environment@VERSION" "get-arguments" (func $args (param i32)))
  (import "wasi:cli/environment@VERSION" "initial-cwd" (func $cwd (param i32)))
  (import "wasi:cli/stdin@VERSION" "get-stdin" (func $stdin (result i32)))
  (import "wasi:cli/stdout@VERSION" "get-stdout" (func $stdout (result i32)))
  (import "wasi:cli/terminal-stdout@VERSION" "get-terminal-stdout" (func $terminal (param i32)))
  (import "wasi:clocks/monotonic-clock@VERSION" "now" (func $now (result i64)))
  (import "wasi:clocks/monotonic-clock@VERSION" "subscribe-duration" (func $later (param i64) (result i32)))
  (import "wasi:clocks/wall-clock@VERSION" "now" (func $wall (param i32)))
  (import "wasi:clocks/timezone@VERSION" "utc-offset" (func $offset (param i64 i32) (result i32)))
  (import "wasi:filesystem/preopens@VERSION" "get-directories" (func $directories (param i32)))
  (import "wasi:io/poll@VERSION" "poll" (func $poll (param i32 i32 i32)))
  (import "wasi:io/poll@VERSION" "[method]pollable.ready" (func $ready (param i32) (result i32)))
  (import "wasi:io/poll@VERSION" "[method]pollable.block" (func $block (param i32)))
  (import "wasi:io/poll@VERSION" "[resource-drop]pollable" (func $drop_pollable (param i32)))
  (import "wasi:io/streams@VERSION" "[method]input-stream.blocking-read" (func $read (param i32 i64 i32)))
  (import "wasi:io/streams@VERSION" "[method]input-stream.subscribe" (func $subscribe (param i32) (result i32)))
  (import "wasi:io/streams@VERSION" "[resource-drop]input-stream" (func $drop_input (param i32)))
  (import "wasi:io/streams@VERSION" "[method]output-stream.check-write" (func $check (param i32 i32)))
  (import "wasi:io/streams@VERSION" "[method]output-stream.write" (func $write (param i32 i32 i32 i32)))
  (import "wasi:io/streams@VERSION" "[method]output-stream.blocking-flush" (func $flush (param i32 i32)))
  (import "wasi:io/streams@VERSION" "[method]output-stream.blocking-write-zeroes-and-flush"
    (func $zeroes (param i32 i64 i32)))
  (import "wasi:io/streams@VERSION" "[resource-drop]output-stream" (func $drop_output (param i32)))
  (import "wasi:random/random@VERSION" "get-random-bytes" (func $bytes (param i64 i32)))
  (import "wasi:random/random@VERSION" "get-random-u64" (func $random (result i64)))
  (import "wasi:random/insecure@VERSION" "get-insecure-random-u64" (func $insecure (result i64)))
  (import "wasi:random/insecure-seed@VERSION" "insecure-seed" (func $seed (param i32)))"#;

const ASK_PREVIEW2: &str = r#"
  (local $stream i32) (local $pollable i32)
  ;; Answers longer than a number are written to 5000: a list is pointer and length, an option begins with its case.
  (call $environ (i32.const 5000)) (i32.store (i32.const 4096) (i32.load (i32.const 5004)))
  (call $args (i32.const 5000)) (i32.store (i32.const 4100) (i32.load (i32.const 5004)))
  (call $directories (i32.const 5000)) (i32.store (i32.const 4104) (i32.load (i32.const 5004)))
  (call $cwd (i32.const 5000)) (i32.store (i32.const 4108) (i32.load8_u (i32.const 5000)))
  (call $terminal (i32.const 5000)) (i32.store (i32.const 4112) (i32.load8_u (i32.const 5000)))
  ;; result<list<u8>, stream-error>: case at 0, the error's case at 4.
  (local.set $stream (call $stdin))
  (call $read (local.get $stream) (i64.const 10) (i32.const 5000))
  (i32.store (i32.const 4116) (i32.load8_u (i32.const 5000))) (i32.store (i32.const 4120) (i32.load8_u (i32.const 5004)))
  (local.set $pollable (call $subscribe (local.get $stream)))
  (i32.store (i32.const 4124) (call $ready (local.get $pollable)))
  ;; Two pollables at 5100, one of them due in an hour: both are ready.
  (i32.store (i32.const 5100) (local.get $pollable))
  (i32.store (i32.const 5104) (call $later (i64.const 3600000000000)))
  (call $poll (i32.const 5100) (i32.const 2) (i32.const 5000))
  (i32.store (i32.const 4128) (i32.load (i32.const 5004)))
  (call $block (i32.load (i32.const 5104)))
  (call $drop_pollable (i32.load (i32.const 5104))) (call $drop_pollable (local.get $pollable))
  (call $drop_input (local.get $stream))
  ;; "frames", "faces" and a line's end: one line.
  (local.set $stream (call $stdout))
  (call $check (local.get $stream) (i32.const 5000))
  (i32.store (i32.const 4132) (i32.load8_u (i32.const 5000))) (i64.store (i32.const 4136) (i64.load (i32.const 5008)))
  (call $write (local.get $stream) (i32.const 64) (i32.const 6) (i32.const 5000))
  (call $write (local.get $stream) (i32.const 32) (i32.const 5) (i32.const 5000))
  (i32.store8 (i32.const 5032) (i32.const 10))
  (call $write (local.get $stream) (i32.const 5032) (i32.const 1) (i32.const 5000))
  (call $flush (local.get $stream) (i32.const 5000))
  (call $drop_output (local.get $stream))
  (i64.store (i32.const 4144) (call $now))
  (call $wall (i32.const 5000))
  (i64.store (i32.const 4152) (i64.load (i32.const 5000))) (i32.store (i32.const 4160) (i32.load (i32.const 5008)))
  (call $bytes (i64.const 20) (i32.const 5000)) (i32.store (i32.const 4164) (i32.load (i32.const 5004)))
  (i64.store (i32.const 4168) (i64.xor (call $random) (call $insecure)))
  (call $seed (i32.const 5000)) (i64.store (i32.const 4176) (i64.xor (i64.load (i32.const 5000)) (i64.load (i32.const 5008))))"#;

#[test]
fn a_wasip2_component_runs_in_every_version_of_wasi_0_2() {
    // What rustc 1.82, cargo-component, a recent rustc and wit-bindgen have written into components.
    for version in ["0.2.0", "0.2.3", "0.2.6", "0.2.12"] {
        let bytes = from_preview2(version, PREVIEW2, &[("advance", &format!("{ASK_PREVIEW2} {ECHO}"))]);
        let mut guest = started(&bytes, "cam-1");
        for n in 0..3 {
            let told = Told::after_frame(&mut guest, n);
            let at = frame(n).info;
            assert_eq!([0, 4, 8, 12, 16].map(|i| told.u32(i)), [0; 5], "{version}: no environment, files or terminal");
            assert_eq!((told.u32(20), told.u32(24)), (1, 1), "{version}: standard input is closed");
            assert_eq!((told.u32(28), told.u32(32)), (1, 2), "{version}: nothing is waited for");
            assert_eq!((told.u32(36), told.u64(40)), (0, 65_536), "{version}: output is taken");
            assert_eq!(told.u64(48), at.timestamp_ns, "{version}");
            assert_eq!(told.u64(56) * 1_000_000_000 + u64::from(told.u32(64)), at.captured_at_ns, "{version}");
            assert_eq!(told.u32(68), 20, "{version}");
            assert_ne!((told.u64(72), told.u64(80)), (0, 0), "{version}");
        }
        assert_eq!(guest.log_lines(), (3, 0), "{version}");
    }
}

fn trap_of(body: &str) -> String {
    let body = format!("{body} {ECHO}");
    let bytes = from_preview2("0.2.3", PREVIEW2, &[("advance", &body)]);
    match started(&bytes, "cam-1").advance(&frame(0).info, &[], None).unwrap_err() {
        GuestFailure::Trap(text) => text,
        other => panic!("{other}"),
    }
}

#[test]
fn what_the_empty_wasi_lacks_traps_when_it_is_called() {
    let text = trap_of("(drop (call $offset (i64.const 0) (i32.const 0)))");
    assert!(text.contains("utc-offset"), "{text}");
    let text = trap_of("(call $zeroes (call $stdout) (i64.const 10) (i32.const 5000))");
    assert!(text.contains("blocking-write-zeroes-and-flush"), "{text}");
}

#[test]
fn wasi_is_no_way_around_the_limits() {
    // Handles without end.
    let text = trap_of("(loop $l (drop (call $stdin)) (br $l))");
    assert!(text.contains("resource table"), "{text}");
    // A gigabyte of randomness.
    let text = trap_of("(call $bytes (i64.const 1073741824) (i32.const 5000))");
    assert!(text.contains("at most 65536"), "{text}");
    // Nothing to poll.
    let text = trap_of("(call $poll (i32.const 5100) (i32.const 0) (i32.const 5000))");
    assert!(text.contains("poll on an empty list"), "{text}");
    // Waiting for a clock that stands still until the call ends.
    let spin = "(local $t i64) (local.set $t (call $now)) (loop $l (br_if $l (i64.eq (local.get $t) (call $now))))";
    let bytes = from_preview2("0.2.3", PREVIEW2, &[("advance", &format!("{spin} {ECHO}"))]);
    let failure = started(&bytes, "cam-1").advance(&frame(0).info, &[], None).unwrap_err();
    assert!(matches!(failure, GuestFailure::Deadline { .. }), "{failure}");
}
