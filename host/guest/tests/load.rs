//! What a component must be to be taken, and how each refusal reads.
// Helpers outside of `#[test]` functions unwrap too: a failure there is the test's.
#![allow(clippy::unwrap_used)]

mod kit;

use facestream_core::guest::SlotKind;
use facestream_guest_host::{
    GuestComponent, GuestConfig, GuestEngine, GuestStore, LoadError, StoreError, WIT_VERSION, inspect,
};

const LIMIT: u64 = 1 << 20;

/// A component of world `w` of some WIT whose interfaces all have one function, `f: func()`.
fn dummy(wit: &str, imports: &[&str], exports: &[&str]) -> Vec<u8> {
    let mut wat = "(module".to_owned();
    for import in imports {
        wat.push_str(&format!("(import \"{import}\" \"f\" (func))"));
    }
    for export in exports {
        wat.push_str(&format!("(func (export \"{export}#f\"))"));
    }
    wat.push(')');
    kit::component_of(wit, "w", &wat)
}

const TRACKING: &str = "facestream:analytics/tracking@0.1.0";
const SCORING: &str = "facestream:analytics/scoring@0.1.0";

fn refusal(bytes: &[u8]) -> LoadError {
    inspect(bytes, LIMIT).unwrap_err()
}

#[test]
fn the_three_worlds_are_recognised_by_what_they_export() {
    for (bytes, kind, pixels) in [
        (kit::tracker(&[]), SlotKind::Tracker, false),
        (kit::scorer(&[]), SlotKind::Scorer, true),
        (kit::formatter(&[]), SlotKind::Formatter, true),
    ] {
        let info = inspect(&bytes, LIMIT).unwrap();
        assert_eq!((info.kind, info.wit_version.as_str(), info.bytes), (kind, WIT_VERSION, bytes.len() as u64));
        assert_eq!(info.imports.iter().any(|i| i.starts_with("facestream:analytics/pixels@")), pixels);
    }
}

#[test]
fn files_that_are_no_components_are_told_apart() {
    assert_eq!(refusal(b"MZ and so on"), LoadError::NotWasm);
    assert_eq!(refusal(b""), LoadError::NotWasm);
    assert_eq!(refusal(&wat::parse_str("(module)").unwrap()), LoadError::PlainModule);
    assert!(refusal(&wat::parse_str("(module)").unwrap()).to_string().contains("wasm32-wasip2"));
    let bytes = kit::tracker(&[]);
    assert!(matches!(refusal(&bytes[..bytes.len() / 2]), LoadError::Malformed(_)));
    let mut damaged = bytes.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 40].fill(0xff);
    assert!(matches!(refusal(&damaged), LoadError::Malformed(_)));
    assert_eq!(inspect(&bytes, 100).unwrap_err(), LoadError::TooBig { bytes: bytes.len() as u64, limit: 100 });
}

#[test]
fn random_bytes_after_a_sound_header_never_panic() {
    let mut seed = 1_u64;
    for len in [9_usize, 100, 1000] {
        for _ in 0..200 {
            let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
            bytes.extend((0..len).map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (seed >> 56) as u8
            }));
            assert!(matches!(refusal(&bytes), LoadError::Malformed(_)));
        }
    }
}

#[test]
fn precompiled_code_is_never_taken() {
    let dir = tempfile::tempdir().unwrap();
    let engine = GuestEngine::new(&GuestConfig { cache_dir: Some(dir.path().to_owned()), ..kit::config() }).unwrap();
    kit::load(&engine, &kit::tracker(&[]));
    let mut files = Vec::new();
    for engine_dir in std::fs::read_dir(dir.path()).unwrap() {
        for file in std::fs::read_dir(engine_dir.unwrap().path()).unwrap() {
            files.push(file.unwrap().path());
        }
    }
    assert_eq!(files.len(), 1);
    // Ours has a header; what wasmtime serialised comes after it.
    let ours = std::fs::read(&files[0]).unwrap();
    assert_eq!(GuestComponent::load(&engine, &ours[40..]).unwrap_err(), LoadError::Precompiled);
    assert_eq!(GuestComponent::load(&engine, &ours).unwrap_err(), LoadError::NotWasm);
}

#[test]
fn a_damaged_cache_is_compiled_over() {
    let dir = tempfile::tempdir().unwrap();
    let config = GuestConfig { cache_dir: Some(dir.path().to_owned()), ..kit::config() };
    let bytes = kit::tracker(&[]);
    kit::load(&GuestEngine::new(&config).unwrap(), &bytes);
    let engine_dir = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let file = std::fs::read_dir(&engine_dir).unwrap().next().unwrap().unwrap().path();
    let sound = std::fs::read(&file).unwrap();
    let mut damaged = sound.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x40;
    std::fs::write(&file, &damaged).unwrap();
    kit::load(&GuestEngine::new(&config).unwrap(), &bytes);
    assert_eq!(std::fs::read(&file).unwrap(), sound, "compiled anew, to the same code");
}

#[test]
fn imports_outside_the_contract_are_refused_by_name() {
    let refused = |import: &str, definition: &str| {
        let wit = format!(
            "package test:guest;
             world w {{ import {import}; export facestream:analytics/tracking@0.1.0; }}
             package facestream:analytics@0.1.0 {{ interface tracking {{ f: func(); }} interface pixels {{ f: func(); }} interface other {{ f: func(); }} }}
             {definition}"
        );
        refusal(&dummy(&wit, &[import], &[TRACKING]))
    };
    for (import, package, interface) in [
        ("wasi:sockets/tcp@0.2.3", "wasi:sockets@0.2.3", "tcp"),
        ("wasi:http/outgoing-handler@0.2.0", "wasi:http@0.2.0", "outgoing-handler"),
        ("evil:corp/thing", "evil:corp", "thing"),
        ("wasi:cli/environment@0.3.0", "wasi:cli@0.3.0", "environment"),
        ("wasi:cli/run@0.2.3", "wasi:cli@0.2.3", "run"),
    ] {
        let error = refused(import, &format!("package {package} {{ interface {interface} {{ f: func(); }} }}"));
        assert!(matches!(&error, LoadError::ImportRefused { import: found, .. } if found == import), "{error}");
        assert!(error.to_string().contains(import), "{error}");
    }
    let error = refused("facestream:analytics/pixels@0.1.0", "");
    assert!(error.to_string().contains("a tracker sees no pictures"), "{error}");
    let error = refused("facestream:analytics/other@0.1.0", "");
    assert!(matches!(error, LoadError::ImportRefused { .. }), "{error}");
}

#[test]
fn missing_exports_other_versions_and_double_guests_are_told() {
    let error = refusal(&dummy(
        "package test:guest; world w { export test:x/y; } package test:x { interface y { f: func(); } }",
        &[],
        &["test:x/y"],
    ));
    assert!(error.to_string().contains("test:x/y"), "{error}");
    assert!(matches!(error, LoadError::NoExport { .. }));
    for version in ["0.2.0", "1.0.0", "0.10.0"] {
        let error = refusal(&dummy(
            &format!(
                "package test:guest; world w {{ export facestream:analytics/tracking@{version}; }}
             package facestream:analytics@{version} {{ interface tracking {{ f: func(); }} }}"
            ),
            &[],
            &[&format!("facestream:analytics/tracking@{version}")],
        ));
        assert!(matches!(&error, LoadError::WitVersion { found, .. } if found == version), "{error}");
    }
    let error = refusal(&dummy(
        "package test:guest; world w { export facestream:analytics/tracking@0.1.0; export facestream:analytics/scoring@0.1.0; }
         package facestream:analytics@0.1.0 { interface tracking { f: func(); } interface scoring { f: func(); } }",
        &[],
        &[TRACKING, SCORING],
    ));
    assert_eq!(error, LoadError::SeveralExports("tracker and scorer".to_owned()));
}

#[test]
fn right_names_with_wrong_functions_are_a_mismatch() {
    let bytes = dummy(
        "package test:guest; world w { export facestream:analytics/tracking@0.1.0; }
         package facestream:analytics@0.1.0 { interface tracking { f: func(); } }",
        &[],
        &[TRACKING],
    );
    let error = GuestComponent::load(&kit::engine(), &bytes).unwrap_err();
    assert!(matches!(error, LoadError::Mismatch { kind: SlotKind::Tracker, .. }), "{error}");
}

#[test]
fn features_that_guests_do_not_need_are_off() {
    use wasmparser::WasmFeatures as W;
    // What guests get; each of these differs from a component that is taken in one feature alone, so the validator must
    // take it once that feature is on: the refusal is for the feature and nothing else.
    let mut base = W::WASM2 | W::COMPONENT_MODEL | W::EXTENDED_CONST;
    base.remove(W::GC_TYPES);
    let check = |feature: &str, missing: W, text: &str| {
        let bytes = wat::parse_str(text).unwrap_or_else(|e| panic!("{feature}: {e}"));
        assert!(matches!(refusal(&bytes), LoadError::Malformed(_)), "{feature}: {}", refusal(&bytes));
        let valid = |features| wasmparser::Validator::new_with_features(features).validate_all(&bytes).map(drop);
        assert!(valid(base).is_err(), "{feature}");
        valid(base | missing).unwrap_or_else(|e| panic!("{feature}: refused also with the feature on: {e}"));
    };
    // Modules are the core module of a component that exports nothing of ours: features are checked before exports are.
    for (feature, missing, module) in [
        ("threads", W::THREADS, "(memory 1 1 shared)"),
        ("memory64", W::MEMORY64, "(memory i64 1)"),
        ("multi-memory", W::MULTI_MEMORY, "(memory 1) (memory 1)"),
        ("exceptions", W::EXCEPTIONS | W::GC_TYPES, "(tag)"),
        ("gc", W::GC | W::GC_TYPES | W::FUNCTION_REFERENCES, "(type (struct (field i32)))"),
        ("tail calls", W::TAIL_CALL, "(func $f return_call $f)"),
        ("relaxed simd", W::RELAXED_SIMD, "(func (result v128) (i32x4.relaxed_trunc_f32x4_s (v128.const i64x2 0 0)))"),
    ] {
        check(feature, missing, &format!("(component (core module $m {module}))"));
    }
    check("component async", W::CM_ASYNC, "(component (core func (canon task.cancel)))");
}

#[test]
fn the_store_keeps_names_versions_and_bytes_apart() {
    let dir = tempfile::tempdir().unwrap();
    let builtin = dir.path().join("builtin");
    std::fs::create_dir(&builtin).unwrap();
    std::fs::write(builtin.join("botsort.wasm"), kit::tracker(&[])).unwrap();
    let engine = kit::engine();
    let open = || GuestStore::open(&engine, &dir.path().join("guests"), Some(&builtin)).unwrap();
    let store = open();

    let first = kit::scorer(&[]);
    let second = kit::scorer(&[("tick", "(call $given)")]);
    let one = store.add(&first, "mine", "1.0.0").unwrap();
    assert_eq!(store.add(&first, "mine", "1.0.0").unwrap(), one, "the same again is fine");
    assert!(matches!(store.add(&second, "mine", "1.0.0").unwrap_err(), StoreError::VersionTaken { .. }));
    let two = store.add(&second, "mine", "1.1.0").unwrap();
    assert!(matches!(store.add(&first, "botsort", "9").unwrap_err(), StoreError::VersionTaken { .. }));
    assert!(matches!(store.add(b"x", "bad", "1").unwrap_err(), StoreError::Load { .. }));
    for bad in ["", "../x", "a/b", "UPPER", "-x"] {
        assert!(matches!(store.add(&first, bad, "1").unwrap_err(), StoreError::BadReference(_)), "{bad}");
    }

    // A new process sees the same.
    drop(store);
    let store = open();
    let resolve = |r: &str| store.resolve(r).unwrap().info.digest;
    assert_eq!(resolve("mine"), two.info.digest);
    assert_eq!(resolve("mine@1.0.0"), one.info.digest);
    assert_eq!(resolve(&one.info.digest.to_string()), one.info.digest);
    assert!(store.resolve("botsort").unwrap().builtin);
    assert_eq!(store.list().len(), 3);
    let missing = store.resolve("nobody").unwrap_err().to_string();
    assert!(missing.contains("botsort, mine"), "{missing}");
    assert!(matches!(store.resolve("sha256:12").unwrap_err(), StoreError::BadReference(_)));

    // One component a digest, shared while somebody has it.
    let (a, b) = (store.load("mine").unwrap(), store.load("mine@1.1.0").unwrap());
    assert!(std::sync::Arc::ptr_eq(&a, &b));
    let blob = dir.path().join("guests/sha256").join(format!("{}.wasm", one.info.digest.hex()));
    std::fs::write(&blob, &second).unwrap();
    assert!(matches!(store.load("mine@1.0.0").unwrap_err(), StoreError::DigestMismatch { .. }));

    std::fs::write(dir.path().join("guests/index.json"), b"{").unwrap();
    let error = GuestStore::open(&engine, &dir.path().join("guests"), None).unwrap_err();
    assert!(matches!(error, StoreError::Index { .. }), "{error}");
}

/// Two components in one, each with a memory, the second calling the first with a string: what is between them needs both
/// memories at once.
const COMPOSED: &str = r#"(component
  (component $a
    (core module $m
      (memory (export "memory") 1)
      (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 0)
      (func (export "f") (param i32 i32)))
    (core instance $i (instantiate $m))
    (func (export "f") (param "s" string)
      (canon lift (core func $i "f") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))
  (component $b
    (import "f" (func $f (param "s" string)))
    (core module $memory (memory (export "memory") 1))
    (core instance $memory (instantiate $memory))
    (core func $lowered (canon lower (func $f) (memory (core memory $memory "memory"))))
    (core module $m
      (import "a" "f" (func $f (param i32 i32)))
      (func (export "f") (call $f (i32.const 0) (i32.const 0))))
    (core instance $i (instantiate $m (with "a" (instance (export "f" (func $lowered))))))
    (func (export "f") (canon lift (core func $i "f"))))
  (instance $a (instantiate $a))
  (instance $b (instantiate $b (with "f" (func $a "f"))))
  (instance $tracking (export "f" (func $b "f")))
  (export "facestream:analytics/tracking@0.1.0" (instance $tracking)))"#;

#[test]
fn a_component_that_the_compiler_panics_on_is_refused_in_words() {
    let bytes = wat::parse_str(COMPOSED).unwrap();
    let engine = kit::engine();
    let error = GuestComponent::load(&engine, &bytes).unwrap_err();
    assert!(matches!(&error, LoadError::Compile(why) if why.contains("multiple memories")), "{error}");
    kit::load(&engine, &kit::tracker(&[]));
}
