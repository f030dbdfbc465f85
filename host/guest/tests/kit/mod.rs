//! Guests for tests, written as WebAssembly text and made into components in the test's own process: no toolchain.
//!
//! Owns three well-behaved guests whose functions can each be replaced by a hostile body, and frames to feed them.
//! Layouts follow the canonical ABI of `wit/`: offsets are noted beside each use.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used, clippy::missing_panics_doc)]

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use facestream_core::frame::{ColorMatrix, PixelFormat};
use facestream_core::{
    CameraId, CameraMetrics, Detection, Frame, FrameInfo, Picture, PictureError, Planes, Point, Rect,
};
use facestream_guest_host::{CameraGuests, GuestComponent, GuestConfig, GuestEngine, GuestSet, SlotGuest};
use wit_component::{ComponentEncoder, StringEncoding};

/// The contract as it is.
pub const WIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
/// The contract as it was at 0.1.0, frozen.
pub const WIT_0_1_0: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/wit-0.1.0");

/// Encodes a core module as a component of a world of `wit/`. The text names the interfaces at 0.1.0, whatever the
/// version of `wit/` is.
pub fn component(world: &str, wat: &str) -> Vec<u8> {
    component_against(WIT, world, wat)
}

/// The same against the WIT package in a folder.
pub fn component_against(wit: &str, world: &str, wat: &str) -> Vec<u8> {
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_path(wit).unwrap();
    let version = resolve.packages[package].name.version.as_ref().unwrap();
    let wat = wat.replace("@0.1.0", &format!("@{version}"));
    encode(&resolve, resolve.select_world(&[package], Some(world)).unwrap(), &wat)
}

/// The same against WIT text given here.
pub fn component_of(wit: &str, world: &str, wat: &str) -> Vec<u8> {
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_str("test.wit", wit).unwrap();
    encode(&resolve, resolve.select_world(&[package], Some(world)).unwrap(), wat)
}

fn encode(resolve: &wit_parser::Resolve, world: wit_parser::WorldId, wat: &str) -> Vec<u8> {
    let mut module = wat::parse_str(wat).unwrap_or_else(|e| panic!("{e}\n{wat}"));
    wit_component::embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap_or_else(|e| panic!("{e:?}"))
}

/// Memory, bump allocator (reset after each call by the `cabi_post_` functions), strings.
const COMMON: &str = r#"
  (memory (export "memory") 4)
  (global $heap (mut i32) (i32.const 131072))
  (data (i32.const 16) "test/1")
  (data (i32.const 32) "faces")
  (data (i32.const 48) "endings")
  (data (i32.const 64) "frames")
  (data (i32.const 80) "application/octet-stream")
  (data (i32.const 112) "no")
  (func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 15)) (i32.const -16)))
    (global.set $heap (i32.add (local.get $at) (local.get $size)))
    (loop $more
      (if (i32.gt_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536)))
        (then
          (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (unreachable)))
          (br $more))))
    (memory.copy (local.get $at) (local.get $old) (local.get $old_size))
    (local.get $at))
  (func $reset (global.set $heap (i32.const 131072)))
  ;; result::ok(unit) and result::ok(list of nothing) look alike: zeros at 1024.
  (func $ok (result i32) (memory.fill (i32.const 1024) (i32.const 0) (i32.const 64)) (i32.const 1024))
  ;; result::err(failed("no"))
  (func $no (result i32)
    (drop (call $ok))
    (i32.store8 (i32.const 1024) (i32.const 1))
    (i32.store8 (i32.const 1028) (i32.const 2))
    (i32.store (i32.const 1032) (i32.const 112))
    (i32.store (i32.const 1036) (i32.const 2))
    (i32.const 1024))
  ;; result::ok(snapshot { schema: "test/1", data: eight bytes at 512 })
  (func $snapshot (result i32)
    (drop (call $ok))
    (i32.store (i32.const 1028) (i32.const 16)) (i32.store (i32.const 1032) (i32.const 6))
    (i32.store (i32.const 1036) (i32.const 512)) (i32.store (i32.const 1040) (i32.const 8))
    (i32.const 1024))
"#;

/// One replaceable function: its name in the template and its body.
pub type Body<'a> = (&'a str, &'a str);

fn pick<'a>(bodies: &[Body<'a>], name: &str, default: &'a str) -> &'a str {
    bodies.iter().find(|(n, _)| *n == name).map_or(default, |(_, body)| body)
}

/// A tracker that gives detection `i` the track id `i + 1`. Bodies: `extra`, `configure`, `advance`, `save`, `restore`.
/// The eight bytes at 512 count calls of `advance` and are its state.
pub fn tracker(bodies: &[Body<'_>]) -> Vec<u8> {
    component("tracker", &tracker_wat(bodies))
}

pub fn tracker_wat(bodies: &[Body<'_>]) -> String {
    let extra = pick(bodies, "extra", "");
    let configure = pick(bodies, "configure", "(call $ok)");
    let advance = pick(bodies, "advance", "(call $echo (local.get $n) (local.get $detections) (local.get $timestamp))");
    let save = pick(bodies, "save", "(call $snapshot)");
    let restore = pick(bodies, "restore", RESTORE_COUNT);
    format!(
        r#"(module
  (import "facestream:analytics/log@0.1.0" "write" (func $log (param i32 i32 i32)))
  {COMMON}
  {extra}
  ;; Tracks at 8192, 72 bytes each: id 0, phase 8, box 12, velocity 28, confidence 36, class 40, detection 44/48,
  ;; first seen 56, last seen 64. Detections, 68 bytes each: box 0, confidence 16.
  (func $echo (param $n i32) (param $detections i32) (param $timestamp i64) (result i32)
    (local $i i32) (local $t i32)
    (i64.store (i32.const 512) (i64.add (i64.load (i32.const 512)) (i64.const 1)))
    (memory.fill (i32.const 8192) (i32.const 0) (i32.mul (local.get $n) (i32.const 72)))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
      (local.set $t (i32.add (i32.const 8192) (i32.mul (local.get $i) (i32.const 72))))
      (i64.store (local.get $t) (i64.extend_i32_u (i32.add (local.get $i) (i32.const 1))))
      (i32.store8 offset=8 (local.get $t) (i32.const 1))
      (memory.copy (i32.add (local.get $t) (i32.const 12))
        (i32.add (local.get $detections) (i32.mul (local.get $i) (i32.const 68))) (i32.const 16))
      (f32.store offset=36 (local.get $t) (f32.const 0.5))
      (i32.store8 offset=44 (local.get $t) (i32.const 1))
      (i32.store offset=48 (local.get $t) (local.get $i))
      (i64.store offset=64 (local.get $t) (local.get $timestamp))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
    (drop (call $ok))
    (i32.store (i32.const 1028) (i32.const 8192))
    (i32.store (i32.const 1032) (local.get $n))
    (i32.const 1024))
  (func (export "facestream:analytics/tracking@0.1.0#configure")
    (param $id i32) (param $id_len i32) (param $config i32) (param $config_len i32) (param i32) (result i32) {configure})
  (func (export "facestream:analytics/tracking@0.1.0#advance")
    (param $session i64) (param $sequence i64) (param $timestamp i64) (param i64) (param i32) (param i32)
    (param $detections i32) (param $n i32) (param i32) (param f32 f32 f32 f32 f32 f32) (result i32) {advance})
  (func (export "facestream:analytics/tracking@0.1.0#save") (result i32) {save})
  (func (export "facestream:analytics/tracking@0.1.0#restore")
    (param $schema i32) (param $schema_len i32) (param $data i32) (param $data_len i32)
    (param $tracks i32) (param $tracks_len i32) (result i32) {restore})
  (func (export "cabi_post_facestream:analytics/tracking@0.1.0#configure") (param i32) (call $reset))
  (func (export "cabi_post_facestream:analytics/tracking@0.1.0#advance") (param i32) (call $reset))
  (func (export "cabi_post_facestream:analytics/tracking@0.1.0#save") (param i32) (call $reset))
  (func (export "cabi_post_facestream:analytics/tracking@0.1.0#restore") (param i32) (call $reset)))"#
    )
}

const RESTORE_COUNT: &str = "
  (if (i32.eq (local.get $data_len) (i32.const 8))
    (then (i64.store (i32.const 512) (i64.load (local.get $data)))))
  (call $ok)";

/// A scorer that crops each track (ids below 64) when it first sees it, holds the crop, and gives it up when the track
/// ends or all is flushed. Bodies: `extra`, `configure`, `observe`, `tick`, `flush`, `save`, `restore`.
pub fn scorer(bodies: &[Body<'_>]) -> Vec<u8> {
    component("scorer", &scorer_wat(bodies))
}

pub fn scorer_wat(bodies: &[Body<'_>]) -> String {
    let extra = pick(bodies, "extra", "");
    let configure = pick(bodies, "configure", "(call $ok)");
    let observe = pick(
        bodies,
        "observe",
        "(call $see (local.get $session) (local.get $sequence) (local.get $frame) (local.get $tracks) (local.get $tracks_len))
         (call $drop_frame (local.get $frame))
         (call $give (local.get $ended) (local.get $ended_len))",
    );
    let tick = pick(bodies, "tick", "(call $ok)");
    let flush = pick(bodies, "flush", "(call $give_all (i32.const 4)) (call $given)");
    let save = pick(
        bodies,
        "save",
        "(call $give_all (i32.const 0)) (drop (call $snapshot))
         (i32.store (i32.const 1044) (i32.const 32768)) (i32.store (i32.const 1048) (global.get $count))
         (global.set $count (i32.const 0)) (i32.const 1024)",
    );
    let restore = pick(bodies, "restore", "(call $take (local.get $shots) (local.get $shots_len)) (call $ok)");
    format!(
        r#"(module
  (import "facestream:analytics/log@0.1.0" "write" (func $log (param i32 i32 i32)))
  (import "facestream:analytics/pixels@0.1.0" "[method]frame.crop"
    (func $crop (param i32 f32 f32 f32 f32 f32 i32 i32)))
  (import "facestream:analytics/pixels@0.1.0" "[resource-drop]frame" (func $drop_frame (param i32)))
  (import "facestream:analytics/pixels@0.1.0" "[resource-drop]crop" (func $drop_crop (param i32)))
  {COMMON}
  {extra}
  ;; Held shots at 16384 + id * 120; flag of presence at 4096 + id. Shots given up at 32768. A shot: track 0, picture 8,
  ;; box 12, confidence 28, landmarks 32, quality 76, score 84, captured 88, session 96, sequence 104, reason 112.
  (global $count (mut i32) (i32.const 0))
  (func $held (param $id i32) (result i32) (i32.add (i32.const 16384) (i32.mul (local.get $id) (i32.const 120))))
  (func $see (param $session i64) (param $sequence i64) (param $frame i32) (param $tracks i32) (param $n i32)
    (local $i i32) (local $t i32) (local $id i32) (local $s i32)
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
      (local.set $t (i32.add (local.get $tracks) (i32.mul (local.get $i) (i32.const 72))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (local.set $id (i32.wrap_i64 (i64.load (local.get $t))))
      (br_if $next (i32.ge_u (local.get $id) (i32.const 64)))
      (br_if $next (i32.load8_u offset=4096 (local.get $id)))
      (call $crop (local.get $frame)
        (f32.load offset=12 (local.get $t)) (f32.load offset=16 (local.get $t))
        (f32.load offset=20 (local.get $t)) (f32.load offset=24 (local.get $t))
        (f32.const 0) (i32.const 0) (i32.const 256))
      (br_if $next (i32.load8_u (i32.const 256)))
      (i32.store8 offset=4096 (local.get $id) (i32.const 1))
      (local.set $s (call $held (local.get $id)))
      (memory.fill (local.get $s) (i32.const 0) (i32.const 120))
      (i64.store (local.get $s) (i64.load (local.get $t)))
      (i32.store offset=8 (local.get $s) (i32.load (i32.const 260)))
      (memory.copy (i32.add (local.get $s) (i32.const 12)) (i32.add (local.get $t) (i32.const 12)) (i32.const 16))
      (f32.store offset=28 (local.get $s) (f32.const 0.5))
      (i64.store offset=96 (local.get $s) (local.get $session))
      (i64.store offset=104 (local.get $s) (local.get $sequence))
      (br $next))))
  (func $give_one (param $id i32) (param $reason i32)
    (local $out i32)
    (local.set $out (i32.add (i32.const 32768) (i32.mul (global.get $count) (i32.const 120))))
    (memory.copy (local.get $out) (call $held (local.get $id)) (i32.const 120))
    (i32.store8 offset=112 (local.get $out) (local.get $reason))
    (i32.store8 offset=4096 (local.get $id) (i32.const 0))
    (global.set $count (i32.add (global.get $count) (i32.const 1))))
  (func $give_all (param $reason i32)
    (local $id i32)
    (loop $next
      (if (i32.load8_u offset=4096 (local.get $id)) (then (call $give_one (local.get $id) (local.get $reason))))
      (local.set $id (i32.add (local.get $id) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $id) (i32.const 64)))))
  (func $given (result i32)
    (drop (call $ok))
    (i32.store (i32.const 1028) (i32.const 32768)) (i32.store (i32.const 1032) (global.get $count))
    (global.set $count (i32.const 0))
    (i32.const 1024))
  (func $give (param $ended i32) (param $n i32) (result i32)
    (local $i i32) (local $id i32)
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
      (local.set $id (i32.wrap_i64 (i64.load (i32.add (local.get $ended) (i32.mul (local.get $i) (i32.const 8))))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.ge_u (local.get $id) (i32.const 64)))
      (if (i32.load8_u offset=4096 (local.get $id)) (then (call $give_one (local.get $id) (i32.const 3))))
      (br $next)))
    (call $given))
  (func $take (param $shots i32) (param $n i32)
    (local $i i32) (local $s i32) (local $id i32)
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
      (local.set $s (i32.add (local.get $shots) (i32.mul (local.get $i) (i32.const 120))))
      (local.set $id (i32.wrap_i64 (i64.load (local.get $s))))
      (memory.copy (call $held (local.get $id)) (local.get $s) (i32.const 120))
      (i32.store8 offset=4096 (local.get $id) (i32.const 1))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next))))
  (func (export "facestream:analytics/scoring@0.1.0#configure")
    (param i32 i32 i32 i32 i32) (result i32) {configure})
  (func (export "facestream:analytics/scoring@0.1.0#observe")
    (param $session i64) (param $sequence i64) (param $timestamp i64) (param i64) (param i32) (param i32)
    (param $frame i32) (param $detections i32) (param $detections_len i32)
    (param $tracks i32) (param $tracks_len i32) (param $ended i32) (param $ended_len i32) (result i32) {observe})
  (func (export "facestream:analytics/scoring@0.1.0#tick") (param $timestamp i64) (result i32) {tick})
  (func (export "facestream:analytics/scoring@0.1.0#flush") (result i32) {flush})
  (func (export "facestream:analytics/scoring@0.1.0#save") (result i32) {save})
  (func (export "facestream:analytics/scoring@0.1.0#restore")
    (param $schema i32) (param $schema_len i32) (param $data i32) (param $data_len i32)
    (param $shots i32) (param $shots_len i32) (result i32) {restore})
  (func (export "cabi_post_facestream:analytics/scoring@0.1.0#configure") (param i32) (call $reset))
  (func (export "cabi_post_facestream:analytics/scoring@0.1.0#observe") (param i32) (call $reset))
  (func (export "cabi_post_facestream:analytics/scoring@0.1.0#tick") (param i32) (call $reset))
  (func (export "cabi_post_facestream:analytics/scoring@0.1.0#flush") (param i32) (call $reset))
  (func (export "cabi_post_facestream:analytics/scoring@0.1.0#save") (param i32) (call $reset))
  (func (export "cabi_post_facestream:analytics/scoring@0.1.0#restore") (param i32) (call $reset)))"#
    )
}

/// A formatter that writes one message an event: topics `faces`, `endings`, `frames`; payload the eight bytes of the
/// track id (of the timestamp for frames). Its interest are the flags in the global `$interest` (1 shots, 2 endings, 4
/// frames). Bodies: `extra`, `configure`, `format`, `flush`, `save`, `restore`.
pub fn formatter(bodies: &[Body<'_>]) -> Vec<u8> {
    component("formatter", &formatter_wat(bodies))
}

pub fn formatter_wat(bodies: &[Body<'_>]) -> String {
    let extra = pick(bodies, "extra", "");
    let configure =
        pick(bodies, "configure", "(drop (call $ok)) (i32.store8 (i32.const 1028) (i32.const 7)) (i32.const 1024)");
    let format = pick(bodies, "format", "(call $write (local.get $event))");
    let flush = pick(bodies, "flush", "(call $ok)");
    let save = pick(bodies, "save", "(call $snapshot)");
    let restore = pick(bodies, "restore", RESTORE_COUNT);
    format!(
        r#"(module
  (import "facestream:analytics/log@0.1.0" "write" (func $log (param i32 i32 i32)))
  (import "facestream:analytics/pixels@0.1.0" "[resource-drop]crop" (func $drop_crop (param i32)))
  {COMMON}
  {extra}
  ;; An event: case 0, payload from 8 (shot, track or frame-info). A message at 2048: topic 0, key 8, payload 16,
  ;; headers 24, content type 32.
  (func $message (param $topic i32) (param $topic_len i32) (param $payload i32) (param $payload_len i32) (result i32)
    (memory.fill (i32.const 2048) (i32.const 0) (i32.const 40))
    (i32.store (i32.const 2048) (local.get $topic)) (i32.store (i32.const 2052) (local.get $topic_len))
    (i32.store (i32.const 2064) (local.get $payload)) (i32.store (i32.const 2068) (local.get $payload_len))
    (i32.store (i32.const 2080) (i32.const 80)) (i32.store (i32.const 2084) (i32.const 24))
    (drop (call $ok))
    (i32.store (i32.const 1028) (i32.const 2048)) (i32.store (i32.const 1032) (i32.const 1))
    (i32.const 1024))
  (func $write (param $event i32) (result i32)
    (i64.store (i32.const 512) (i64.add (i64.load (i32.const 512)) (i64.const 1)))
    (if (i32.eqz (i32.load8_u (local.get $event)))
      (then
        (call $drop_crop (i32.load offset=16 (local.get $event)))
        (return (call $message (i32.const 32) (i32.const 5) (i32.add (local.get $event) (i32.const 8)) (i32.const 8)))))
    (if (i32.eq (i32.load8_u (local.get $event)) (i32.const 1))
      (then
        (return (call $message (i32.const 48) (i32.const 7) (i32.add (local.get $event) (i32.const 8)) (i32.const 8)))))
    (call $message (i32.const 64) (i32.const 6) (i32.add (local.get $event) (i32.const 24)) (i32.const 8)))
  (func (export "facestream:analytics/formatting@0.1.0#configure")
    (param i32 i32 i32 i32 i32) (result i32) {configure})
  (func (export "facestream:analytics/formatting@0.1.0#format") (param $event i32) (result i32) {format})
  (func (export "facestream:analytics/formatting@0.1.0#flush") (result i32) {flush})
  (func (export "facestream:analytics/formatting@0.1.0#save") (result i32) {save})
  (func (export "facestream:analytics/formatting@0.1.0#restore")
    (param $schema i32) (param $schema_len i32) (param $data i32) (param $data_len i32) (result i32) {restore})
  (func (export "cabi_post_facestream:analytics/formatting@0.1.0#configure") (param i32) (call $reset))
  (func (export "cabi_post_facestream:analytics/formatting@0.1.0#format") (param i32) (call $reset))
  (func (export "cabi_post_facestream:analytics/formatting@0.1.0#flush") (param i32) (call $reset))
  (func (export "cabi_post_facestream:analytics/formatting@0.1.0#save") (param i32) (call $reset))
  (func (export "cabi_post_facestream:analytics/formatting@0.1.0#restore") (param i32) (call $reset)))"#
    )
}

/// Pictures alive right now: for tests of leaks.
pub static PICTURES: AtomicU64 = AtomicU64::new(0);

/// A grey picture in host memory.
#[derive(Debug)]
pub struct Grey {
    width: u32,
    height: u32,
    data: Vec<u8>,
}

impl Grey {
    pub fn picture(width: u32, height: u32) -> Arc<dyn Picture> {
        PICTURES.fetch_add(1, Ordering::SeqCst);
        let luma = (width * height) as usize;
        let chroma = (width.div_ceil(2) * height.div_ceil(2)) as usize;
        Arc::new(Self { width, height, data: vec![128; luma + 2 * chroma] })
    }
}

impl Drop for Grey {
    fn drop(&mut self) {
        PICTURES.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Picture for Grey {
    fn width(&self) -> u32 {
        self.width
    }
    fn height(&self) -> u32 {
        self.height
    }
    fn planes(&self) -> Option<Planes<'_>> {
        let luma = (self.width * self.height) as usize;
        let (cw, ch) = (self.width.div_ceil(2) as usize, self.height.div_ceil(2) as usize);
        let (y, uv) = self.data.split_at(luma);
        let (u, v) = uv.split_at(cw * ch);
        Some(Planes {
            format: PixelFormat::I420,
            width: self.width,
            height: self.height,
            y,
            y_stride: self.width as usize,
            u,
            u_stride: cw,
            v,
            v_stride: cw,
            full_range: false,
            matrix: ColorMatrix::Bt601,
        })
    }
    fn crop(&self, area: Rect, _max_side: u32) -> Result<Arc<dyn Picture>, PictureError> {
        let (width, height) = (self.width, self.height);
        let part = area.clipped(width, height).ok_or(PictureError::OutOfFrame { width, height })?;
        Ok(Self::picture((part.width as u32).max(1), (part.height as u32).max(1)))
    }
    fn bytes(&self) -> usize {
        self.data.len()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

pub const FRAME_NS: u64 = 40_000_000;

/// Frame `n` of 640 x 360 at 25 frames a second.
pub fn frame(n: u64) -> Frame {
    let info = FrameInfo {
        session: 1,
        sequence: n,
        timestamp_ns: (n + 1) * FRAME_NS,
        captured_at_ns: 1_700_000_000_000_000_000 + n * FRAME_NS,
        width: 640,
        height: 360,
    };
    Frame { info, picture: Grey::picture(640, 360) }
}

/// `n` detections side by side.
pub fn detections(n: usize) -> Vec<Detection> {
    (0..n)
        .map(|i| Detection {
            bbox: Rect { x: (i % 30) as f32 * 20.0, y: (i / 30) as f32 * 20.0, width: 16.0, height: 16.0 },
            confidence: 0.9,
            class_id: 0,
            landmarks: Some(facestream_core::Landmarks::from_points([Point { x: 1.0, y: 2.0 }; 5])),
        })
        .collect()
}

pub fn config() -> GuestConfig {
    GuestConfig { max_instances: 40, ..GuestConfig::default() }
}

pub fn engine() -> GuestEngine {
    GuestEngine::new(&config()).unwrap()
}

pub fn load(engine: &GuestEngine, bytes: &[u8]) -> Arc<GuestComponent> {
    GuestComponent::load(engine, bytes).unwrap_or_else(|e| panic!("{e}"))
}

pub fn slot_guest(name: &str, component: &Arc<GuestComponent>) -> SlotGuest {
    SlotGuest::new(name, Arc::clone(component), serde_json::json!({}))
}

/// One camera with its guests and counters.
pub struct Rig {
    pub engine: GuestEngine,
    pub metrics: Arc<CameraMetrics>,
    pub guests: CameraGuests,
}

/// A camera whose three guests are the ones given, or the well-behaved ones.
pub fn rig(config: GuestConfig, tracker: Option<Vec<u8>>, scorer: Option<Vec<u8>>, formatter: Option<Vec<u8>>) -> Rig {
    let engine = GuestEngine::new(&config).unwrap();
    let set = GuestSet {
        tracker: slot_guest("tracker", &load(&engine, &tracker.unwrap_or_else(|| self::tracker(&[])))),
        scorer: slot_guest("scorer", &load(&engine, &scorer.unwrap_or_else(|| self::scorer(&[])))),
        formatter: slot_guest("formatter", &load(&engine, &formatter.unwrap_or_else(|| self::formatter(&[])))),
    };
    let metrics = Arc::new(CameraMetrics::default());
    let camera = CameraId::new("cam-1").unwrap();
    let guests = CameraGuests::new(&camera, set, &config, Arc::clone(&metrics)).unwrap_or_else(|e| panic!("{e}"));
    Rig { engine, metrics, guests }
}
