//! Invariants of the repository as a whole, of those in `ARCHITECTURE.md` that no single crate can guard.
#![allow(clippy::unwrap_used, reason = "a test: what is missing is a failure, and helpers are not seen as tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use facestream_sim::SimConfig;
use facestream_test_support::skip;
use facestream_tests::cameras::Cameras;
use facestream_tests::host::Host;
use facestream_tests::wait::until;
use facestream_tests::{clips, components};
use serde_json::json;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Files of the repository below a folder, without what is built.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            // `shared` and the like may lie beside a checkout's files; only what is listed here belongs to it.
            if !["target", ".git", "node_modules"].iter().any(|skip| name == *skip) {
                files(&path, found);
            }
        } else {
            found.push(path);
        }
    }
}

/// What belongs to the project, path by path relative to the root.
fn project() -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for folder in ["host", "guests", "tests", "wit", "examples", "models"] {
        files(&root().join(folder), &mut found);
    }
    for name in
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "Cargo.toml", "clippy.toml", "deny.toml", "rustfmt.toml"]
    {
        found.push(root().join(name));
    }
    let relative = |path: &Path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    let mut named: Vec<_> = found.into_iter().map(|path| (relative(&path), path)).collect();
    named.sort();
    assert!(named.len() > 200, "the project's files are found: {}", named.len());
    named
}

/// What a crate is built from.
const BUILT: &[&str] = &["dependencies", "build-dependencies"];
/// That, and what its tests use.
const TESTED: &[&str] = &["dependencies", "build-dependencies", "dev-dependencies"];

/// Direct dependencies of each crate of the host's workspace, by the folder of the crate: under their true names, of
/// these kinds and for every target.
fn dependencies(kinds: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let parse = |path: &Path| -> toml::Table { std::fs::read_to_string(path).unwrap().parse().unwrap() };
    let workspace = parse(&root().join("Cargo.toml"));
    let shared = workspace["workspace"]["dependencies"].as_table().unwrap();
    let members = workspace["workspace"]["members"].as_array().unwrap();
    let true_name = |name: &str, spec: &toml::Value| {
        let inherited = spec.get("workspace").is_some();
        let spec = if inherited { &shared[name] } else { spec };
        spec.get("package").and_then(|p| p.as_str()).unwrap_or(name).to_owned()
    };
    let of_table = |table: &toml::Table| -> Vec<String> {
        let tables = kinds.iter().filter_map(|kind| table.get(*kind)?.as_table());
        tables.flatten().map(|(name, spec)| true_name(name, spec)).collect()
    };
    let of_member = |member: &toml::Value| {
        let folder = member.as_str().unwrap().to_owned();
        let manifest = parse(&root().join(&folder).join("Cargo.toml"));
        let mut all: BTreeSet<String> = of_table(&manifest).into_iter().collect();
        for target in manifest.get("target").and_then(|t| t.as_table()).into_iter().flatten() {
            all.extend(of_table(target.1.as_table().unwrap()));
        }
        (folder, all)
    };
    members.iter().map(of_member).collect()
}

/// The crates that depend on one whose name begins so.
fn users_of(dependencies: &BTreeMap<String, BTreeSet<String>>, prefix: &str) -> Vec<String> {
    let uses = |(_, all): &(&String, &BTreeSet<String>)| {
        all.iter().any(|d| d == prefix || d.starts_with(&format!("{prefix}-")))
    };
    dependencies.iter().filter(uses).map(|(folder, _)| folder.clone()).collect()
}

#[test]
fn each_heavy_library_has_one_crate_that_knows_it() {
    let tested = dependencies(TESTED);
    assert!(tested.len() >= 14, "{:?}", tested.keys());
    assert_eq!(users_of(&tested, "wasmtime"), ["host/guest"]);
    assert_eq!(users_of(&tested, "ffmpeg"), ["host/decode"]);
    assert_eq!(users_of(&tested, "ort"), ["host/infer"]);
    assert_eq!(users_of(&tested, "cudarc"), ["host/gpu"]);
    let dependencies = dependencies(BUILT);
    assert_eq!(users_of(&dependencies, "retina"), ["host/ingest"]);
    assert_eq!(users_of(&dependencies, "rusqlite"), ["host/pipeline"]);
    // What tests stand up beside the program is no part of it.
    assert_eq!(users_of(&dependencies, "axum"), ["host/api", "tests"]);
    assert_eq!(users_of(&dependencies, "oci-client"), ["host/registry"]);
    for (folder, all) in &dependencies {
        let ours: Vec<&str> = all.iter().filter_map(|d| d.strip_prefix("facestream-")).collect();
        let only = |allowed: &[&str]| {
            let foreign: Vec<_> = ours.iter().filter(|d| !allowed.contains(d)).collect();
            assert!(foreign.is_empty(), "{folder} must not know {foreign:?}");
        };
        // The arrows of the map in ARCHITECTURE.md.
        match folder.as_str() {
            "host/core" | "host/build" | "host/registry" | "tests/support" => only(&[]),
            "host/xtask" => only(&["guest-build"]),
            "host/pixels" => only(&["core"]),
            "host/motion" => only(&["core", "pixels"]),
            "host/gpu" => only(&["core", "pixels"]),
            "host/sink" | "host/api" => only(&["core"]),
            "host/infer" => only(&["core", "gpu"]),
            "host/ingest" => only(&["core"]),
            "host/decode" => only(&["core", "gpu", "pixels"]),
            "host/guest" => only(&["core", "pixels"]),
            "host/kit" => only(&["core", "guest-host", "pixels"]),
            "host/sim" => only(&["core", "decode"]),
            "host/pipeline" => only(&["core", "decode", "gpu", "guest-host", "infer", "ingest", "motion", "pixels"]),
            _ => {}
        }
    }
}

#[test]
fn every_source_file_says_what_it_is() {
    for (name, path) in project().iter().filter(|(name, _)| name.ends_with(".rs")) {
        let text = std::fs::read_to_string(path).unwrap();
        let first = text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//! ") && first.len() > 20, "{name} opens with `{first}`");
        assert!(!name.ends_with("/mod.rs") || name.contains("/tests/"), "{name}: `foo.rs` beside `foo/` is the rule");
    }
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    // Put together here, so that this file is no example of them.
    let places = ["work", "root", "home", "Users"].map(|place| format!("/{place}/"));
    let ends = ["rs", "toml", "md", "wit", "py", "json", "html", "yml", "sh"];
    for (name, path) in project() {
        if !ends.iter().any(|end| name.ends_with(&format!(".{end}"))) {
            continue;
        }
        for (n, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            for place in &places {
                // A part of a longer path is none of the machine's.
                let found = line
                    .match_indices(place.as_str())
                    .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || "_.-}*".contains(c)));
                assert!(!found, "{name}:{}: {line}", n + 1);
            }
        }
    }
}

/// Processor time that the threads of a process have used, by the beginning of their names, in clock ticks.
fn ticks(pid: u32, prefix: &str) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |stat: String| -> Option<u64> {
        // `pid (name) state …`; the name may hold anything, so the last parenthesis counts.
        let (head, rest) = stat.rsplit_once(") ")?;
        let name = head.split_once('(')?.1;
        let fields: Vec<&str> = rest.split(' ').collect();
        name.starts_with(prefix).then_some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    };
    // A thread may end between listing and reading it.
    tasks.flatten().filter_map(|t| of(std::fs::read_to_string(t.path().join("stat")).ok()?)).sum()
}

#[test]
fn guests_run_on_threads_of_their_own() {
    // In the sources: the guests' crate cannot reach the async runtime, and the pipeline calls guests from the lane's
    // work alone.
    let dependencies = dependencies(BUILT);
    assert!(!dependencies["host/guest"].iter().any(|d| d.starts_with("tokio")), "host/guest knows no async runtime");
    for (name, path) in project().iter().filter(|(name, _)| name.starts_with("host/") && name.contains("/src/")) {
        if !name.ends_with(".rs") || name.starts_with("host/guest/") || name == "host/pipeline/src/stage.rs" {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        for call in ["guests.process(", "guests.tick(", "guests.flush("] {
            assert!(!text.contains(call), "{name} calls `{call}…)`; only a lane's work may");
        }
    }

    // In the running program: the time that a slow guest takes is spent on guest threads.
    let home = tempfile::tempdir().unwrap();
    let still = match clips::still(home.path()) {
        Ok(clip) => clip,
        Err(why) => return skip("structure: guests_run_on_threads_of_their_own", &why),
    };
    let cameras = Cameras::start(&[&still], None, SimConfig::default());
    let host = Host::start(home.path(), "[guests.limits]\ndeadline_ms = 1000\nwall_deadline_ms = 5000\n");
    // About ten million turns of a loop a frame, then no tracks.
    let slow = "(local.set $i (i64.const 10000000))
        (loop $l (local.set $i (i64.sub (local.get $i) (i64.const 1))) (br_if $l (i64.ne (local.get $i) (i64.const 0))))
        (call $ok)";
    host.api.upload("slow", "1.0.0", &components::tracker(slow)).json(201);
    host.start_camera("a", &cameras.url(0), &json!({ "guests": { "tracker": "slow" } }));
    host.camera_runs("a");
    let (guests, runtime) = (ticks(host.pid(), "guests-"), ticks(host.pid(), "tokio"));
    let spent = until("a second of processor time on guest threads", || {
        let spent = ticks(host.pid(), "guests-") - guests;
        if spent >= 100 { Ok(spent) } else { Err(format!("{spent} ticks")) }
    });
    let others = ticks(host.pid(), "tokio") - runtime;
    assert!(others * 4 < spent, "{spent} ticks on guest threads, {others} on those of the runtime");
    assert_eq!(host.api.camera("a")["slots"][0]["failures"], 0, "the slow guest did its work");
    host.stop();
}
