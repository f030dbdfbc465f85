//! Hostile guests: well-behaved ones of `kit` with one function replaced.
//!
//! Owns what each tries. What must come of it is with the tests.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::sync::Arc;

use facestream_core::guest::SlotKind;
use facestream_guest_host::{GuestComponent, GuestLimits, SlotGuest};

use crate::kit::{self, Body};

/// How the slot's status tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// It fails, always in this way.
    Failing(&'static str),
    /// It is held to its limits and never counts as failed.
    Bounded,
}

/// One hostile guest.
pub struct Hostile {
    pub name: &'static str,
    pub slot: SlotKind,
    pub component: Vec<u8>,
    pub limits: GuestLimits,
    pub ends: Ends,
}

impl Hostile {
    pub fn guest(&self, component: &Arc<GuestComponent>) -> SlotGuest {
        SlotGuest { limits: Some(self.limits.clone()), ..kit::slot_guest(self.name, component) }
    }

    fn with(mut self, change: impl FnOnce(&mut GuestLimits)) -> Self {
        change(&mut self.limits);
        self
    }
}

fn hostile(name: &'static str, slot: SlotKind, ends: Ends, component: Vec<u8>) -> Hostile {
    Hostile { name, slot, component, limits: GuestLimits::default(), ends }
}

fn tracker(name: &'static str, ends: Ends, bodies: &[Body<'_>]) -> Hostile {
    hostile(name, SlotKind::Tracker, ends, kit::tracker(bodies))
}

fn scorer(name: &'static str, ends: Ends, bodies: &[Body<'_>]) -> Hostile {
    hostile(name, SlotKind::Scorer, ends, kit::scorer(bodies))
}

fn formatter(name: &'static str, ends: Ends, bodies: &[Body<'_>]) -> Hostile {
    hostile(name, SlotKind::Formatter, ends, kit::formatter(bodies))
}

/// Echoes the detections as tracks, then changes the answer (first track at 8192, the answer itself at 1024).
fn echo_then(change: &str) -> String {
    format!(
        "(drop (call $echo (local.get $n) (local.get $detections) (local.get $timestamp))) {change} (i32.const 1024)"
    )
}

const GROW: &str = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)";

const CROP: &str = "(call $crop (local.get $frame) (f32.const 0) (f32.const 0) (f32.const 64) (f32.const 64)
    (f32.const 0) (i32.const 0) (i32.const 256))";

pub fn endless_loop() -> Hostile {
    tracker("endless loop", Ends::Failing("deadline"), &[("advance", "(loop $l (br $l)) (unreachable)")])
        .with(|l| l.deadline_ms = 5)
}

/// The host calls the guest's allocator while it hands the detections over: from the 20th call on it never returns.
pub fn endless_loop_in_the_allocator() -> Hostile {
    let wat = kit::tracker_wat(&[]).replace(
        "(local $at i32)\n    (local.set $at",
        "(local $at i32)
         (if (i64.gt_u (i64.load (i32.const 512)) (i64.const 20)) (then (loop $l (br $l))))
         (local.set $at",
    );
    assert!(wat.contains("i64.const 20"), "the template of the kit has changed");
    hostile(
        "endless loop in the allocator",
        SlotKind::Tracker,
        Ends::Failing("deadline"),
        kit::component("tracker", &wat),
    )
    .with(|l| l.deadline_ms = 5)
}

pub fn deep_recursion() -> Hostile {
    let deep = "(func $deep (param i32) (result i32)
      (i32.add (call $deep (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))";
    let advance = "(drop (call $deep (i32.const 0))) (call $ok)";
    tracker("deep recursion", Ends::Failing("trap"), &[("extra", deep), ("advance", advance)])
        .with(|l| l.deadline_ms = 400)
}

pub fn memory_bomb() -> Hostile {
    tracker("memory bomb", Ends::Failing("memory"), &[("advance", GROW)])
}

/// A second memory, of a module of its own, takes all that the limit leaves before the first call; then the first grows.
pub fn two_memory_bomb() -> Hostile {
    let second = "(core module $second (memory 1)
      (func $bomb (loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))))
      (start $bomb))
      (core instance (instantiate $second))";
    let component = with_nested(kit::tracker(&[("advance", GROW)]), second);
    hostile("two-memory bomb", SlotKind::Tracker, Ends::Failing("memory"), component)
        .with(|l| l.max_memory_bytes = 8 << 20)
}

pub fn table_bomb() -> Hostile {
    let grow =
        "(loop $l (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))) (unreachable)";
    tracker("table bomb", Ends::Failing("memory"), &[("extra", "(table $t 0 funcref)"), ("advance", grow)])
        .with(|l| l.max_memory_bytes = 4 * 65_536 + 50_000)
}

pub fn gigantic_list() -> Hostile {
    let body = echo_then("(drop (memory.grow (i32.const 60))) (i32.store (i32.const 1032) (i32.const 50000))");
    tracker("gigantic list", Ends::Failing("invalid"), &[("advance", &body)])
}

/// A key of 60 MB: all of it is in the guest's memory, none of it may get across.
pub fn gigantic_string() -> Hostile {
    let body = "(drop (memory.grow (i32.const 950)))
      (drop (call $write (local.get $event)))
      (i32.store (i32.const 2056) (i32.const 131072)) (i32.store (i32.const 2060) (i32.const 60000000))
      (i32.const 1024)";
    formatter("gigantic string", Ends::Failing("trap"), &[("format", body)]).with(|l| l.deadline_ms = 400)
}

/// 60,000 headers whose names and values are all the same megabyte: a terabyte, if each were copied.
pub fn strings_that_share_one_megabyte() -> Hostile {
    let body = "(local $at i32)
      (drop (call $write (local.get $event)))
      (if (i32.lt_u (memory.size) (i32.const 60)) (then (drop (memory.grow (i32.const 64)))))
      (local.set $at (i32.const 2000000))
      (loop $l
        (i32.store (local.get $at) (i32.const 500000)) (i32.store offset=4 (local.get $at) (i32.const 1000000))
        (i32.store offset=8 (local.get $at) (i32.const 500000)) (i32.store offset=12 (local.get $at) (i32.const 1000000))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (br_if $l (i32.lt_u (local.get $at) (i32.const 2960000))))
      (i32.store (i32.const 2072) (i32.const 2000000)) (i32.store (i32.const 2076) (i32.const 60000))
      (i32.const 1024)";
    formatter("strings that share one megabyte", Ends::Failing("trap"), &[("format", body)])
        .with(|l| l.deadline_ms = 400)
}

pub fn nan_boxes() -> Hostile {
    let body = echo_then("(f32.store (i32.const 8204) (f32.const nan))");
    tracker("NaN boxes", Ends::Failing("invalid"), &[("advance", &body)])
}

pub fn infinite_boxes() -> Hostile {
    let body = echo_then("(f32.store (i32.const 8212) (f32.const inf))");
    tracker("infinite boxes", Ends::Failing("invalid"), &[("advance", &body)])
}

pub fn negative_boxes() -> Hostile {
    let body = echo_then("(f32.store (i32.const 8216) (f32.const -5))");
    tracker("negative boxes", Ends::Failing("invalid"), &[("advance", &body)])
}

/// Gives all pictures up at once, the first as of a track that never was.
pub fn unknown_ids() -> Hostile {
    let body = "(call $see (local.get $session) (local.get $sequence) (local.get $frame) (local.get $tracks) (local.get $tracks_len))
      (call $drop_frame (local.get $frame))
      (call $give_all (i32.const 0)) (i64.store (i32.const 32768) (i64.const 4242)) (call $given)";
    scorer("unknown ids", Ends::Failing("invalid"), &[("observe", body)])
}

pub fn repeated_ids() -> Hostile {
    let body = echo_then("(i64.store (i32.const 8192) (i64.const 2))");
    tracker("repeated ids", Ends::Failing("invalid"), &[("advance", &body)])
}

pub fn ended_twice() -> Hostile {
    let body = echo_then(
        "(i64.store (i32.const 600) (i64.const 9)) (i64.store (i32.const 608) (i64.const 9))
         (i32.store (i32.const 1036) (i32.const 600)) (i32.store (i32.const 1040) (i32.const 2))",
    );
    tracker("ended twice", Ends::Failing("invalid"), &[("advance", &body)])
}

fn trapping_at(call: u32) -> String {
    format!(
        "(if (i64.eq (i64.load (i32.const 512)) (i64.const {call})) (then (unreachable)))
         (call $echo (local.get $n) (local.get $detections) (local.get $timestamp))"
    )
}

pub fn trap_on_call_20() -> Hostile {
    tracker("trap on call 20", Ends::Failing("trap"), &[("advance", &trapping_at(20))])
}

/// Well below its deadline, and far above what a tracker needs.
pub fn slow_by_ten_times() -> Hostile {
    let body = "(local $i i32)
      (loop $l (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $l (i32.lt_u (local.get $i) (i32.const 2000000))))
      (call $echo (local.get $n) (local.get $detections) (local.get $timestamp))";
    tracker("slow by ten times", Ends::Bounded, &[("advance", body)]).with(|l| {
        (l.deadline_ms, l.wall_deadline_ms) = (5_000, 60_000);
    })
}

/// Below its budget of host calls, far above the lines that are written.
pub fn log_flood() -> Hostile {
    let body = "(local $i i32)
      (loop $l (call $log (i32.const 4) (i32.const 32) (i32.const 5))
        (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $l (i32.lt_u (local.get $i) (i32.const 100))))
      (call $echo (local.get $n) (local.get $detections) (local.get $timestamp))";
    tracker("log flood", Ends::Bounded, &[("advance", body)]).with(|l| {
        (l.deadline_ms, l.wall_deadline_ms) = (400, 4_000);
    })
}

/// Takes crops until it is refused one, keeps all of them, and goes on.
pub fn holding_all_crops() -> Hostile {
    let body = format!(
        "(loop $l {CROP} (br_if $l (i32.eqz (i32.load8_u (i32.const 256)))))
         (call $drop_frame (local.get $frame)) (call $ok)"
    );
    scorer("holding all crops", Ends::Bounded, &[("observe", &body)]).with(|l| {
        (l.max_crop_bytes, l.deadline_ms, l.wall_deadline_ms) = (1 << 20, 400, 4_000);
    })
}

pub fn handles_dropped_twice() -> Hostile {
    let body = format!(
        "{CROP} (call $drop_crop (i32.load (i32.const 260))) (call $drop_crop (i32.load (i32.const 260))) (call $ok)"
    );
    scorer("handles dropped twice", Ends::Failing("trap"), &[("observe", &body)])
}

pub fn frame_kept_after_the_call() -> Hostile {
    scorer("frame kept after the call", Ends::Failing("trap"), &[("observe", "(call $ok)")])
}

pub fn answer_outside_its_memory() -> Hostile {
    let body = echo_then("(i32.store (i32.const 1028) (i32.const 0x7ffffff8))");
    tracker("answer outside its memory", Ends::Failing("trap"), &[("advance", &body)])
}

pub fn refusing_every_call() -> Hostile {
    tracker("refusing every call", Ends::Failing("refused"), &[("advance", "(call $no)")])
}

/// A topic with a slash and no letters is none: it would be a path elsewhere.
pub fn hostile_topic() -> Hostile {
    let body = "(call $message (i32.const 80) (i32.const 24) (i32.const 16) (i32.const 1))";
    formatter("hostile topic", Ends::Failing("invalid"), &[("format", body)])
}

pub fn oversize_message() -> Hostile {
    let body = "(call $message (i32.const 32) (i32.const 5) (i32.const 16) (i32.const 101))";
    formatter("oversize message", Ends::Failing("invalid"), &[("format", body)]).with(|l| l.max_message_bytes = 100)
}

/// Good for more frames than any self-test has, then never again: `restore` brings the count back with the state.
pub fn passes_its_test_then_traps() -> Hostile {
    let body = "(if (i64.ge_u (i64.load (i32.const 512)) (i64.const 30)) (then (unreachable)))
      (call $write (local.get $event))";
    formatter("passes its test, then traps", Ends::Failing("trap"), &[("format", body)])
}

/// Not in the table: it never runs a frame.
pub fn starting() -> Hostile {
    never_starting("start function that loops", &[("extra", "(func $spin (loop $l (br $l))) (start $spin)")])
}

/// Not in the table: it never runs a frame.
pub fn configuring() -> Hostile {
    never_starting("configure that never returns", &[("configure", "(loop $l (br $l)) (unreachable)")])
}

/// Not in the table: it never runs a frame.
pub fn trapping_at_once() -> Hostile {
    never_starting("trap on the first frame", &[("advance", "(unreachable)")])
}

fn never_starting(name: &'static str, bodies: &[Body<'_>]) -> Hostile {
    tracker(name, Ends::Failing("deadline"), bodies).with(|l| l.start_deadline_ms = 20)
}

/// Components that are refused by what they are, with a name for the table.
pub fn refused_at_the_door() -> Vec<(&'static str, Vec<u8>)> {
    let good = kit::tracker(&[]);
    let mut seed = 7_u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    };
    vec![
        ("truncated bytes", good[..good.len() / 2].to_vec()),
        ("random bytes", (0..4096).map(|_| random()).collect()),
        ("a file of 100 MB", {
            // A sound component with a custom section (id 0, size as LEB128) of zeros behind it.
            let mut big = good.clone();
            let mut size = 100_000_000_u32;
            big.push(0);
            while size >= 0x80 {
                big.push((size & 0x7f) as u8 | 0x80);
                size >>= 7;
            }
            big.push(size as u8);
            big.resize(big.len() + 100_000_000, 0);
            big
        }),
        ("a plain module", wat::parse_str(kit::tracker_wat(&[])).unwrap()),
        ("sockets", importing("wasi:sockets", "0.2.3", "tcp")),
        ("a future version of the contract", exporting("9.0.0")),
    ]
}

/// A tracker that also imports an interface of another package.
fn importing(package: &str, version: &str, interface: &str) -> Vec<u8> {
    let wit = format!(
        "package test:guest;
         world w {{ import {package}/{interface}@{version}; export facestream:analytics/tracking@0.1.0; }}
         package facestream:analytics@0.1.0 {{ interface tracking {{ f: func(); }} }}
         package {package}@{version} {{ interface {interface} {{ f: func(); }} }}"
    );
    let wat = format!(
        r#"(module (import "{package}/{interface}@{version}" "f" (func))
           (func (export "facestream:analytics/tracking@0.1.0#f")))"#
    );
    kit::component_of(&wit, "w", &wat)
}

/// A tracker of another version of the contract.
fn exporting(version: &str) -> Vec<u8> {
    let wit = format!(
        "package test:guest; world w {{ export facestream:analytics/tracking@{version}; }}
         package facestream:analytics@{version} {{ interface tracking {{ f: func(); }} }}"
    );
    let wat = format!(r#"(module (func (export "facestream:analytics/tracking@{version}#f")))"#);
    kit::component_of(&wit, "w", &wat)
}

/// Appends a nested component (its fields as text) and one instance of it. Sections of a component may be appended; what
/// is instantiated is named by its index, which counts the nested components that are there already.
fn with_nested(mut component: Vec<u8>, fields: &str) -> Vec<u8> {
    let nested = wasmparser::Parser::new(0)
        .parse_all(&component)
        .scan(0_u32, |depth, payload| {
            use wasmparser::Payload::{ComponentSection, End, ModuleSection};
            let payload = payload.unwrap();
            let outermost = *depth == 0;
            match payload {
                ComponentSection { .. } => *depth += 1,
                ModuleSection { .. } => *depth += 1,
                End(_) => *depth = depth.saturating_sub(1),
                _ => {}
            }
            Some(outermost && matches!(payload, ComponentSection { .. }))
        })
        .filter(|&is_nested| is_nested)
        .count();
    let before = "(component)".repeat(nested);
    let text = format!("(component {before} (component {fields}) (instance (instantiate {nested})))");
    let appended = wat::parse_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    // Behind the 8 bytes of the header, each empty component is a section of 10 bytes: id, length, its own header.
    component.extend_from_slice(&appended[8 + 10 * nested..]);
    component
}

/// All that run frames.
pub fn all() -> Vec<Hostile> {
    vec![
        endless_loop(),
        endless_loop_in_the_allocator(),
        deep_recursion(),
        memory_bomb(),
        two_memory_bomb(),
        table_bomb(),
        gigantic_list(),
        gigantic_string(),
        strings_that_share_one_megabyte(),
        nan_boxes(),
        infinite_boxes(),
        negative_boxes(),
        unknown_ids(),
        repeated_ids(),
        ended_twice(),
        trap_on_call_20(),
        slow_by_ten_times(),
        log_flood(),
        holding_all_crops(),
        handles_dropped_twice(),
        frame_kept_after_the_call(),
        answer_outside_its_memory(),
        refusing_every_call(),
        hostile_topic(),
        oversize_message(),
        passes_its_test_then_traps(),
    ]
}
