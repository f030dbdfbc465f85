//! Guests written as WebAssembly text and made into components in the test's own process: no toolchain is needed.
//!
//! Offsets follow the canonical ABI of `wit/`. The guest host's own tests have many more; these are for whole-program
//! tests of what one bad guest does to its camera and to the others.

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::{Resolve, WorldId};

fn encode(resolve: &Resolve, world: WorldId, wat: &str) -> Vec<u8> {
    let mut module = wat::parse_str(wat).unwrap_or_else(|e| panic!("{e}\n{wat}"));
    wit_component::embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8)
        .unwrap_or_else(|e| panic!("{e:?}"));
    let encoder = ComponentEncoder::default().module(&module).unwrap_or_else(|e| panic!("{e:?}"));
    encoder.validate(true).encode().unwrap_or_else(|e| panic!("{e:?}"))
}

/// A tracker whose `advance` has this body; `$n` is the number of detections, `$ok` gives no tracks at all.
///
/// # Panics
/// When the text is wrong.
#[must_use]
pub fn tracker(advance: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    let (package, _) = resolve.push_path(&wit).unwrap_or_else(|e| panic!("{e:?}"));
    let world = resolve.select_world(&[package], Some("tracker")).unwrap_or_else(|e| panic!("{e:?}"));
    let wat = format!(
        r#"(module
  (memory (export "memory") 4)
  (global $heap (mut i32) (i32.const 131072))
  (data (i32.const 16) "test/1")
  (func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 15)) (i32.const -16)))
    (global.set $heap (i32.add (local.get $at) (local.get $size)))
    (if (i32.gt_u (global.get $heap) (i32.const 262144)) (then (unreachable)))
    (memory.copy (local.get $at) (local.get $old) (local.get $old_size))
    (local.get $at))
  (func $reset (global.set $heap (i32.const 131072)))
  (func $ok (result i32) (memory.fill (i32.const 1024) (i32.const 0) (i32.const 64)) (i32.const 1024))
  ;; One confirmed track, id 1 at 8192, whose box is filled in by whoever calls: phase 8, box 12, detection 44 and 48.
  (func $one (param $timestamp i64) (result i32)
    (memory.fill (i32.const 8192) (i32.const 0) (i32.const 72))
    (i64.store (i32.const 8192) (i64.const 1))
    (i32.store8 (i32.const 8200) (i32.const 1))
    (f32.store (i32.const 8228) (f32.const 0.5))
    (i64.store (i32.const 8256) (local.get $timestamp))
    (drop (call $ok))
    (i32.store (i32.const 1028) (i32.const 8192))
    (i32.store (i32.const 1032) (i32.const 1))
    (i32.const 1024))
  (func (export "facestream:analytics/tracking@0.1.0#configure") (param i32 i32 i32 i32 i32) (result i32) (call $ok))
  (func (export "facestream:analytics/tracking@0.1.0#advance")
    (param $session i64) (param $sequence i64) (param $timestamp i64) (param i64) (param i32) (param i32)
    (param $detections i32) (param $n i32) (param i32) (param f32 f32 f32 f32 f32 f32) (result i32)
    (local $i i64)
    {advance})
  (func (export "facestream:analytics/tracking@0.1.0#save") (result i32)
    (drop (call $ok))
    (i32.store (i32.const 1028) (i32.const 16)) (i32.store (i32.const 1032) (i32.const 6))
    (i32.const 1024))
  (func (export "facestream:analytics/tracking@0.1.0#restore") (param i32 i32 i32 i32 i32 i32) (result i32) (call $ok))
  (func (export "cabi_post_facestream:analytics/tracking@0.1.0#configure") (param i32) (call $reset))
  (func (export "cabi_post_facestream:analytics/tracking@0.1.0#advance") (param i32) (call $reset))
  (func (export "cabi_post_facestream:analytics/tracking@0.1.0#save") (param i32) (call $reset))
  (func (export "cabi_post_facestream:analytics/tracking@0.1.0#restore") (param i32) (call $reset)))"#
    );
    // The text above names the interfaces at 0.1.0, whatever the version of `wit/` is.
    let version = resolve.packages[package].name.version.as_ref().map(ToString::to_string).unwrap_or_default();
    encode(&resolve, world, &wat.replace("@0.1.0", &format!("@{version}")))
}

/// A component of a world `w` of this WIT, whose interfaces have one function each, `f: func()`.
///
/// # Panics
/// When the WIT is wrong.
#[must_use]
pub fn dummy(wit: &str, imports: &[&str], exports: &[&str]) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("test.wit", wit).unwrap_or_else(|e| panic!("{e:?}"));
    let world = resolve.select_world(&[package], Some("w")).unwrap_or_else(|e| panic!("{e:?}"));
    let imports = imports.iter().map(|i| format!("(import \"{i}\" \"f\" (func))"));
    let exports = exports.iter().map(|e| format!("(func (export \"{e}#f\"))"));
    encode(&resolve, world, &format!("(module {})", imports.chain(exports).collect::<String>()))
}

/// The same component with another digest: a custom section, which has no meaning, is added.
#[must_use]
pub fn relabelled(component: &[u8], label: &str) -> Vec<u8> {
    let name = b"test-label";
    let mut bytes = component.to_vec();
    let length = 1 + name.len() + label.len();
    assert!(length < 128, "one byte says how long the section is");
    bytes.extend([0, length as u8, name.len() as u8]);
    bytes.extend(name);
    bytes.extend(label.as_bytes());
    bytes
}
