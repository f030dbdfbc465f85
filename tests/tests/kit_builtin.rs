//! The guests that come with the host, and the example, pass the conformance kit as it is shipped: by the command.
#![allow(clippy::unwrap_used, reason = "a test: what is missing is a failure, and helpers are not seen as tests")]

use facestream_test_support::asset_or_skip;
use facestream_tests::program;
use serde_json::Value;

/// The report of a guest that must pass.
#[track_caller]
fn passes(guest: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (json, junit) = (dir.path().join("report.json"), dir.path().join("report.xml"));
    let args = ["guest", "test", guest, "--json", json.to_str().unwrap(), "--junit", junit.to_str().unwrap()];
    let ended = program::run(&args);
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    let report: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(report["passed"], true);
    let cases = report["cases"].as_array().unwrap();
    assert!(cases.len() > 25, "{}", cases.len());
    assert_eq!(report["summary"]["failed"], 0);
    assert!(report["summary"]["passed"].as_u64().unwrap() > 25, "{report}");
    let xml = std::fs::read_to_string(junit).unwrap();
    assert_eq!(xml.matches("<testcase ").count(), cases.len());
    assert!(!xml.contains("<failure"), "{xml}");
}

#[test]
fn the_trackers_pass() {
    let _assets = asset_or_skip!("guests/botsort.wasm");
    passes("botsort");
    passes("bytetrack");
}

#[test]
fn the_scorer_and_the_example_pass() {
    let _assets = asset_or_skip!("guests/best-shot.wasm");
    passes("best-shot");
    passes(asset_or_skip!("examples/steady-shot.wasm").to_str().unwrap());
}

#[test]
fn the_formatters_pass() {
    let _assets = asset_or_skip!("guests/gate-and-mega.wasm");
    for guest in ["gate-and-mega", "gate-metric", "mega", "frame-tracks"] {
        passes(guest);
    }
}

#[test]
fn what_cannot_be_tested_has_an_exit_code_of_its_own() {
    let _assets = asset_or_skip!("guests/botsort.wasm");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("no.wasm");
    std::fs::write(&file, "not wasm").unwrap();
    for args in [
        &["guest", "test", file.to_str().unwrap()][..],
        &["guest", "test", "nobody"],
        &["guest", "test", "botsort", "--config", "[1]"],
        &["guest", "test", "botsort", "--filter", "no-such-case"],
        &["guest", "test", "botsort", "--limits", r#"{"deadline_ms": 0}"#],
    ] {
        let ended = program::run(args);
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains("error: "), "{ended:?}");
    }
}

#[test]
fn outputs_are_kept_and_a_difference_is_shown() {
    let _assets = asset_or_skip!("guests/botsort.wasm");
    let dir = tempfile::tempdir().unwrap();
    let golden = dir.path().to_str().unwrap();
    let test = |more: &[&str]| {
        program::run(&[&["guest", "test", "botsort", "--filter", "golden", "--golden", golden][..], more].concat())
    };
    assert_eq!(test(&["--update-golden"]).code, Some(0));
    assert_eq!(test(&[]).code, Some(0), "the same guest gives the same output");
    let other = test(&["--config", r#"{"track_buffer_ms": 200}"#, "--limits", r#"{"deadline_ms": 30}"#]);
    assert_eq!(other.code, Some(1));
    assert!(other.stdout.contains("became"), "{}", other.stdout);
    let again = r#"botsort --config '{"track_buffer_ms":200}' --limits '{"deadline_ms":30}' --golden"#;
    assert!(other.stdout.contains(again), "{}", other.stdout);
}

#[test]
fn inspect_says_in_words_what_a_guest_can_reach() {
    let _assets = asset_or_skip!("guests/botsort.wasm");
    let words = program::run(&["guest", "inspect", "botsort"]).succeeded();
    assert!(words.contains("never sees a picture") && words.contains("sha256:"), "{words}");
    let json = program::run(&["guest", "inspect", "best-shot", "--json"]).succeeded();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["kind"], "scorer");
    assert!(json["reach"][0].as_str().unwrap().starts_with("sees each frame"), "{json}");
    assert!(json["memories"][0]["initial_bytes"].as_u64().unwrap() > 0, "{json}");
}

#[test]
fn bench_counts_the_same_fuel_each_time() {
    let _assets = asset_or_skip!("guests/botsort.wasm");
    let measured = || -> Value {
        let args = ["guest", "bench", "botsort", "--boxes", "10", "--frames", "20", "--against", "bytetrack", "--json"];
        serde_json::from_str(&program::run(&args).succeeded()).unwrap()
    };
    let (first, second) = (measured(), measured());
    for n in 0..2 {
        assert!(first[n]["fuel_per_frame"].as_u64().unwrap() > 1000, "{first}");
        assert_eq!(first[n]["fuel_per_frame"], second[n]["fuel_per_frame"]);
        assert!(first[n]["p99_us"].as_f64().unwrap() >= first[n]["p50_us"].as_f64().unwrap());
    }
}
