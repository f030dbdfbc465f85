//! The hand-written records against the code that wasmtime derives, through a component that shows its memory.

use facestream_core::Landmarks;
use proptest::prelude::*;
use wasmtime::component::{Component, ComponentNamedList, Instance, Linker, TypedFunc};
use wasmtime::{Config, Engine, Store};
use wit_component::{ComponentEncoder, StringEncoding};

use super::*;

const WIT: &str = "package test:records;
interface echo {
  use facestream:analytics/types@0.1.1.{detection, track};
  show-detections: func(of: list<detection>) -> list<u8>;
  show-tracks: func(of: list<track>) -> list<u8>;
  as-tracks: func(bytes: list<u8>) -> list<track>;
  flat-track: func(of: track) -> list<u8>;
}
world w { export echo; }";

/// Gives the memory in which its argument lies, or takes bytes for tracks. Fresh memory is zero and never used twice.
const WAT: &str = r#"(module
  (memory (export "memory") 64)
  (global $heap (mut i32) (i32.const 1024))
  (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get $size)))
    (local.get $at))
  (func $list (param $at i32) (param $n i32) (result i32)
    (i32.store (i32.const 16) (local.get $at)) (i32.store (i32.const 20) (local.get $n)) (i32.const 16))
  (func (export "test:records/echo#show-detections") (param $at i32) (param $n i32) (result i32)
    (call $list (local.get $at) (i32.mul (local.get $n) (i32.const 68))))
  (func (export "test:records/echo#show-tracks") (param $at i32) (param $n i32) (result i32)
    (call $list (local.get $at) (i32.mul (local.get $n) (i32.const 72))))
  (func (export "test:records/echo#as-tracks") (param $at i32) (param $n i32) (result i32)
    (call $list (local.get $at) (i32.div_u (local.get $n) (i32.const 72))))
  (func (export "test:records/echo#flat-track")
    (param $id i64) (param $phase i32) (param f32 f32 f32 f32 f32 f32 f32) (param $class i32) (param $has i32)
    (param $detection i32) (param $first i64) (param $last i64) (result i32)
    (i64.store (i32.const 32) (local.get $id)) (i32.store (i32.const 40) (local.get $phase))
    (f32.store (i32.const 44) (local.get 2)) (f32.store (i32.const 48) (local.get 8))
    (i32.store (i32.const 52) (local.get $detection)) (i64.store (i32.const 56) (local.get $last))
    (call $list (i32.const 32) (i32.const 32)))
)"#;

struct Echo {
    store: Store<()>,
    instance: Instance,
    component: Component,
}

impl Echo {
    fn new() -> Self {
        let mut resolve = wit_parser::Resolve::default();
        resolve.push_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit")).unwrap();
        let package = resolve.push_str("test.wit", WIT).unwrap();
        let world = resolve.select_world(&[package], Some("w")).unwrap();
        let mut module = wat::parse_str(WAT).unwrap();
        wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        let bytes = ComponentEncoder::default().module(&module).unwrap().encode().unwrap();
        let mut config = Config::new();
        config.concurrency_support(false);
        let engine = Engine::new(&config).unwrap();
        let component = Component::new(&engine, bytes).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Linker::new(&engine).instantiate(&mut store, &component).unwrap();
        Self { store, instance, component }
    }

    fn call<P, R>(&mut self, name: &str, params: P) -> wasmtime::Result<R>
    where
        P: ComponentNamedList + Lower,
        (R,): ComponentNamedList + Lift + 'static,
    {
        let interface = self.component.get_export_index(None, "test:records/echo").unwrap();
        let index = self.component.get_export_index(Some(&interface), name).unwrap();
        let f: TypedFunc<P, (R,)> = self.instance.get_typed_func(&mut self.store, index)?;
        f.call(&mut self.store, params).map(|r| r.0)
    }
}

/// Any bits are a number: NaN and infinities cross as they are.
fn number() -> impl Strategy<Value = f32> {
    any::<u32>().prop_map(f32::from_bits)
}

fn point() -> impl Strategy<Value = Point> {
    (number(), number()).prop_map(|(x, y)| Point { x, y })
}

fn rect() -> impl Strategy<Value = Rect> {
    [number(), number(), number(), number()].prop_map(|[x, y, width, height]| Rect { x, y, width, height })
}

fn detection() -> impl Strategy<Value = CoreDetection> {
    let landmarks = [point(), point(), point(), point(), point()].prop_map(Landmarks::from_points);
    (rect(), number(), any::<u32>(), proptest::option::of(landmarks))
        .prop_map(|(bbox, confidence, class_id, landmarks)| CoreDetection { bbox, confidence, class_id, landmarks })
}

fn track() -> impl Strategy<Value = CoreTrack> {
    let phase = prop_oneof![Just(TrackPhase::Tentative), Just(TrackPhase::Confirmed), Just(TrackPhase::Lost)];
    let words = [any::<u64>(), any::<u64>(), any::<u64>()];
    (words, phase, rect(), point(), number(), any::<u32>(), any::<Option<u32>>()).prop_map(
        |([id, first_seen_ns, last_seen_ns], phase, bbox, velocity, confidence, class_id, detection)| CoreTrack {
            id,
            phase,
            bbox,
            velocity,
            confidence,
            class_id,
            detection,
            first_seen_ns,
            last_seen_ns,
        },
    )
}

/// For comparison: NaN is not equal to itself, bytes are.
fn bytes_of(t: &CoreTrack) -> [u8; TRACK_BYTES] {
    let mut out = [0; TRACK_BYTES];
    write_track(t, &mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lists_lie_in_memory_as_the_derived_code_puts_them(
        found in proptest::collection::vec(detection(), 0..40),
        live in proptest::collection::vec(track(), 0..40),
    ) {
        let mut echo = Echo::new();
        let ours: Vec<u8> = echo.call("show-detections", (detections(&found),)).unwrap();
        let derived: Vec<_> = found.iter().map(convert::detection_to_wit).collect();
        let theirs: Vec<u8> = echo.call("show-detections", (derived,)).unwrap();
        prop_assert_eq!(ours, theirs);

        let ours: Vec<u8> = echo.call("show-tracks", (tracks(&live),)).unwrap();
        let derived: Vec<_> = live.iter().map(convert::track_to_wit).collect();
        let theirs: Vec<u8> = echo.call("show-tracks", (derived,)).unwrap();
        prop_assert_eq!(&ours, &theirs);

        let back: Vec<Track> = echo.call("as-tracks", (&ours[..],)).unwrap();
        let back: Vec<u8> = core_tracks(back).iter().flat_map(bytes_of).collect();
        prop_assert_eq!(back, ours, "what was written is read back");

        for t in live.iter().take(3) {
            let ours: Vec<u8> = echo.call("flat-track", (Track(*t),)).unwrap();
            let theirs: Vec<u8> = echo.call("flat-track", (convert::track_to_wit(t),)).unwrap();
            prop_assert_eq!(ours, theirs);
        }
    }

    /// Tags are small numbers now and then, so that whole lists pass too; the rest is noise.
    #[test]
    fn hostile_bytes_are_refused_where_the_derived_code_refuses_them(
        mut bytes in proptest::collection::vec(any::<u8>(), TRACK_BYTES * 3),
        tags in proptest::collection::vec((0_u8..4, 0_u8..3), 3),
    ) {
        let mut echo = Echo::new();
        for (track, (phase, some)) in bytes.chunks_exact_mut(TRACK_BYTES).zip(&tags) {
            (track[8], track[44]) = (*phase, *some);
        }
        let ours: wasmtime::Result<Vec<Track>> = echo.call("as-tracks", (&bytes[..],));
        // A store that trapped is not entered again.
        let theirs: wasmtime::Result<Vec<derived::Track>> = Echo::new().call("as-tracks", (&bytes[..],));
        let sound = tags.iter().all(|(phase, some)| *phase < 3 && *some < 2);
        prop_assert_eq!(ours.is_ok(), sound);
        prop_assert_eq!(theirs.is_ok(), sound);
        if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
            let theirs: Vec<_> = theirs.iter().map(|t| bytes_of(&convert::track_from_wit(t))).collect();
            let ours: Vec<_> = ours.iter().map(|t| bytes_of(&t.0)).collect();
            prop_assert_eq!(ours, theirs);
        }
    }
}

#[test]
fn a_list_of_another_type_is_no_list_of_tracks() {
    let mut echo = Echo::new();
    let error = echo.call::<_, Vec<u8>>("show-detections", (tracks(&[]),)).unwrap_err();
    assert!(format!("{error:#}").contains("type mismatch"), "{error:#}");
}
