//! Guests in Python and JavaScript as their authors make them: `guest new`, `guest build` (which fetches the language's
//! tool into the guest's folder), `guest test` in the hosts' sandbox, and their own tests without one.
#![allow(clippy::unwrap_used, reason = "a test: what is missing is a failure, and helpers are not seen as tests")]

use std::path::Path;
use std::process::{Command, Output};

use facestream_test_support::skip;
use facestream_tests::program;

/// More time for a call than a busy machine needs: what is tested is what the guests answer.
const LIMITS: &str = r#"{"deadline_ms": 5000, "wall_deadline_ms": 60000, "max_cpu_ms_per_s": 200000}"#;

/// Both outputs as text.
fn said(out: &Output) -> String {
    [&out.stdout, &out.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
}

/// Makes a scorer in a language, builds it and gives it to the conformance kit; `own_tests` are its author's. `absent`:
/// what `guest build` says where the language or its registry cannot be had, which is no failure of ours.
#[track_caller]
fn new_build_test(lang: &str, absent: &[&str], own_tests: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let name = format!("{lang}-scorer");
    let new = ["guest", "new", &name, "--world", "scorer", "--lang", lang, "--path", &path(dir.path())];
    program::run(&new).succeeded();
    let folder = dir.path().join(&name);
    let built = program::command(&["guest", "build", &path(&folder)]).output().unwrap();
    let words = said(&built);
    if !built.status.success() && absent.iter().any(|a| words.contains(a)) {
        let why = words.lines().rev().find(|l| l.starts_with("error: ")).unwrap_or("no tool").to_owned();
        skip(&format!("guest_languages: {lang}"), &why);
        return;
    }
    assert!(built.status.success(), "{words}");
    assert!(words.contains("scorer, WIT 0.1"), "{words}");

    let own =
        Command::new(own_tests[0]).args(&own_tests[1..]).current_dir(&folder).env("PYTHONPATH", "bindings").output();
    let own = own.unwrap();
    assert!(own.status.success(), "{}", said(&own));

    // The kit counts fuel, which makes these three times as slow, and a crowd of 500 is near the default deadline as it is.
    let component = path(&folder.join(format!("{name}.wasm")));
    let tested = program::command(&["guest", "test", &component, "--limits", LIMITS]).output().unwrap();
    let words = said(&tested);
    assert!(tested.status.success() && words.contains(", 0 failed"), "{words}");
}

#[test]
fn a_scorer_in_python() {
    let absent = ["there is no python3", "messages of python3 -m venv", "messages of pip install"];
    new_build_test("python", &absent, &["python3", "-m", "unittest"]);
}

#[test]
fn a_scorer_in_javascript() {
    let absent = ["there is no node", "there is no npm", "messages of npm"];
    new_build_test("js", &absent, &["node", "--test"]);
}
