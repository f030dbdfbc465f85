//! Programs in the sandbox: a WASI 0.1 module, as `cargo test --target wasm32-wasip1` makes, from `_start` to its exit
//! code, through the adapter.
// Helpers outside of `#[test]` functions unwrap too: a failure there is the test's.
#![allow(clippy::unwrap_used)]

mod kit;

use std::time::Duration;

use facestream_guest_host::{CommandError, CommandLimits, run_command};

const LIMITS: CommandLimits = CommandLimits { max_memory_bytes: 16 << 20, wall: Duration::from_secs(20) };

/// A module whose `_start` has this body. `$args` is the number of arguments; `(call $exit (i32.const N))` ends it.
fn program(body: &str) -> Vec<u8> {
    wat::parse_str(format!(
        r#"(module
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 64) "hello\n")
          (func $args (result i32)
            (drop (call $sizes (i32.const 0) (i32.const 4))) (i32.load (i32.const 0)))
          (func $say (result i32)
            (i32.store (i32.const 16) (i32.const 64)) (i32.store (i32.const 20) (i32.const 6))
            (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24)))
          (func (export "_start") {body}))"#
    ))
    .unwrap()
}

fn run(body: &str, arguments: &[&str]) -> Result<u8, CommandError> {
    let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
    run_command(&kit::engine(), &program(body), arguments, LIMITS)
}

#[test]
fn a_program_runs_with_its_arguments_and_its_exit_code_comes_back() {
    assert_eq!(run("", &["p"]).unwrap(), 0, "`_start` returned");
    assert_eq!(run("(call $exit (i32.const 0))", &["p"]).unwrap(), 0);
    assert_eq!(run("(call $exit (i32.const 101))", &["p"]).unwrap(), 1, "WASI 0.2 knows success and failure");
    let three = "(if (i32.ne (call $args) (i32.const 3)) (then (call $exit (i32.const 1))))";
    assert_eq!(run(three, &["p", "--nocapture", "name"]).unwrap(), 0);
    assert_eq!(run(three, &["p"]).unwrap(), 1);
    assert_eq!(run("(if (call $say) (then (call $exit (i32.const 1))))", &["p"]).unwrap(), 0);
}

#[test]
fn a_program_has_no_environment_and_no_folder() {
    let environment = "(drop (call $environ (i32.const 0) (i32.const 4)))
      (if (i32.load (i32.const 0)) (then (call $exit (i32.const 1))))";
    assert_eq!(run(environment, &["p"]).unwrap(), 0);
    // Descriptor 3 would be the first folder: 8 is EBADF.
    let folder =
        "(if (i32.ne (call $prestat (i32.const 3) (i32.const 0)) (i32.const 8)) (then (call $exit (i32.const 1))))";
    assert_eq!(run(folder, &["p"]).unwrap(), 0);
}

#[test]
fn a_program_that_traps_loops_or_eats_memory_ends_with_words() {
    assert!(
        matches!(run("(unreachable)", &["p"]).unwrap_err(), CommandError::Trap(text) if text.contains("unreachable"))
    );
    let limits = CommandLimits { wall: Duration::from_millis(50), ..LIMITS };
    let looping = run_command(&kit::engine(), &program("(loop $l (br $l))"), vec!["p".to_owned()], limits);
    assert!(matches!(looping.unwrap_err(), CommandError::Deadline { .. }));
    let grow = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)";
    assert!(matches!(run(grow, &["p"]).unwrap_err(), CommandError::Memory { .. }));
}

#[test]
fn what_is_no_program_is_told_apart() {
    let run = |bytes: &[u8]| run_command(&kit::engine(), bytes, vec!["p".to_owned()], LIMITS).unwrap_err();
    assert!(matches!(run(b"no wasm"), CommandError::Refused(_)));
    assert!(matches!(run(&kit::tracker(&[])), CommandError::NoMain), "a guest is no program");
    let sockets = "(module (import \"elsewhere\" \"f\" (func)) (func (export \"_start\")))";
    assert!(matches!(run(&wat::parse_str(sockets).unwrap()), CommandError::Refused(_)));
}
