//! A guest author's first path as typed, outside of the repository: from an empty folder to a guest on a running camera,
//! and the other ways to build one in Rust.
#![allow(clippy::unwrap_used, reason = "a test: what is missing is a failure, and helpers are not seen as tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use facestream_guest_build::{Prefer, Toolchain, WASI_TARGET, target_installed};
use facestream_sim::SimConfig;
use facestream_test_support::{asset_or_skip, skip};
use facestream_tests::cameras::Cameras;
use facestream_tests::host::Host;
use facestream_tests::program;
use facestream_tests::wait::until;
use serde_json::json;

/// The target that `cargo component` builds for.
const COMPONENT_TARGET: &str = "wasm32-wasip1";

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Results of all guests here, kept between runs: serde, and the standard library where it is built, are built once.
fn target_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest-new")
}

/// `facestream guest new` in a folder of tests.
fn made(dir: &Path, name: &str, world: &str) -> PathBuf {
    program::run(&["guest", "new", name, "--world", world, "--path", &text(dir)]).succeeded();
    dir.join(name)
}

/// Runs a command, which takes as long as it takes; gives both of its outputs.
#[track_caller]
fn done(command: &mut Command) -> String {
    let out = command.env("CARGO_TARGET_DIR", target_dir()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = [out.stdout, out.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(out.status.success(), "{command:?}: {said}");
    said
}

fn cargo(folder: &Path, args: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(args).current_dir(folder);
    cargo
}

/// `facestream guest build --release`, and the component.
#[track_caller]
fn built(folder: &Path, name: &str, world: &str) -> PathBuf {
    let said = done(&mut program::command(&["guest", "build", &text(folder), "--release"]));
    assert!(said.contains(world), "the world is named: {said}");
    folder.join(format!("{name}.wasm"))
}

#[test]
fn each_template_builds_and_passes_the_conformance_kit() {
    if let Err(why) = Toolchain::find(Prefer::Wasi) {
        skip("guest_new: each template", &why.to_string());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for world in ["tracker", "scorer", "formatter"] {
        let name = format!("my-{world}");
        let folder = made(dir.path(), &name, world);
        let component = built(&folder, &name, world);
        program::run(&["guest", "test", &text(&component)]).succeeded();
    }
}

#[test]
fn from_an_empty_folder_to_a_running_camera() {
    if let Err(why) = Toolchain::find(Prefer::Wasi) {
        skip("guest_new: from an empty folder", &why.to_string());
        return;
    }
    let clip = asset_or_skip!("clips/pan720.mp4");
    let home = tempfile::tempdir().unwrap();
    let cameras = Cameras::start(&[&clip], None, SimConfig::default());
    let host = Host::start(home.path(), "");
    host.start_camera("door", &cameras.url(0), &json!({ "detect_fps": 8 }));

    let dir = tempfile::tempdir().unwrap();
    let folder = made(dir.path(), "porch", "scorer");
    let said = done(&mut cargo(&folder, &["test"]));
    assert!(said.contains("the_sharpest_picture_is_sent_when_the_track_ends ... ok"), "{said}");
    let component = built(&folder, "porch", "scorer");
    program::run(&["guest", "test", &text(&component)]).succeeded();
    let push = ["guest", "push", &text(&component), "--url", host.api.base()];
    let said = program::run(&push).succeeded();

    host.camera_runs("door");
    let slot = "/api/v1/cameras/door/guests/scorer";
    let before = host.api.get(slot).json(200);
    let report = host.api.put(slot, &json!({ "guest": "porch@0.1.0", "probation_frames": 4 })).json(200);
    let digest = report["new_digest"].as_str().unwrap();
    assert!(said.contains(digest), "what was pushed: {said}");
    assert_eq!(report["old_digest"], before["digest"], "{report}");
    let now = until("the new guest to be asked about frames, past its probation", || {
        let now = host.api.get(slot).json(200);
        let asked = now["calls"].as_u64() > Some(6) && now["probation"].is_null();
        if asked { Ok(now) } else { Err(now.to_string()) }
    });
    assert_eq!((now["digest"].as_str(), &now["failures"]), (Some(digest), &json!(0)), "{now}");
    let camera = host.api.camera("door");
    let scorer = camera["slots"].as_array().unwrap().iter().find(|s| s["slot"] == "scorer").unwrap();
    assert_eq!((scorer["digest"].as_str(), &camera["counters"]["sessions"]), (Some(digest), &json!(1)), "{camera}");
    host.stop();
}

/// The runner by which cargo runs tests that were compiled for a target of WASI.
fn runner() -> String {
    format!("{} guest run-tests", text(&program::path()))
}

#[test]
fn plain_cargo_builds_the_same_and_its_tests_run_in_the_sandbox() {
    if !target_installed(WASI_TARGET) {
        skip("guest_new: plain cargo", "the target is not installed: rustup target add wasm32-wasip2");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = made(dir.path(), "plain", "scorer");
    done(&mut cargo(&folder, &["build", "--profile", "component", "--target", WASI_TARGET]));
    let component = target_dir().join(WASI_TARGET).join("component/plain.wasm");
    program::run(&["guest", "test", &text(&component)]).succeeded();
    let tests = ["test", "--target", WASI_TARGET];
    let said = done(cargo(&folder, &tests).env("CARGO_TARGET_WASM32_WASIP2_RUNNER", runner()));
    assert!(said.contains("the_sharpest_picture_is_sent_when_the_track_ends ... ok"), "{said}");
}

/// What `cargo component` needs beside itself: nothing where rustup's target is installed, else Debian's compiler, which
/// builds the standard library, and its C library.
struct ComponentTools {
    variables: Vec<(&'static str, String)>,
    build_std: &'static [&'static str],
}

impl ComponentTools {
    fn find() -> Result<Self, &'static str> {
        if target_installed(COMPONENT_TARGET) {
            return Ok(Self { variables: Vec::new(), build_std: &[] });
        }
        let there = |path: &str| Path::new(path).exists();
        let debian = ["/usr/bin/cargo", "/usr/bin/wasm-ld", "/usr/lib/rustlib/src/rust/library", DEBIAN_CRT];
        if !debian.into_iter().all(there) {
            return Err("the target is not installed: rustup target add wasm32-wasip1");
        }
        // cargo component looks for the folder before it builds; its standard library is built, not found there.
        if !there("/usr/lib/rustlib/wasm32-wasip1") {
            return Err("Debian's compiler lacks a folder: mkdir /usr/lib/rustlib/wasm32-wasip1");
        }
        let path = std::env::var("PATH").unwrap_or_default();
        let variables = vec![("PATH", format!("/usr/bin:{path}")), ("RUSTC_BOOTSTRAP", "1".to_owned())];
        Ok(Self { variables, build_std: &["-Z", "build-std=std,panic_abort,test", "--target", COMPONENT_TARGET] })
    }

    fn cargo(&self, folder: &Path, args: &[&str], flags: &str) -> Command {
        let mut cargo = match self.build_std {
            [] => Command::new("cargo"),
            _ => Command::new("/usr/bin/cargo"),
        };
        cargo.args(args).args(self.build_std).current_dir(folder).envs(self.variables.iter().cloned());
        if !self.build_std.is_empty() {
            cargo.env("RUSTFLAGS", format!("-Clinker=wasm-ld -Clink-self-contained=no -L/usr/lib/wasm32-wasi {flags}"));
        }
        cargo
    }
}

/// Debian's start of a command; a guest has none.
const DEBIAN_CRT: &str = "/usr/lib/wasm32-wasi/crt1-command.o";

#[test]
fn cargo_component_builds_what_the_host_takes_and_its_tests_run_in_the_sandbox() {
    let version = Command::new("cargo").args(["component", "--version"]).output();
    if !version.is_ok_and(|out| out.status.success()) {
        let why = "cargo component is not installed: cargo install cargo-component --version 0.21.1 --locked";
        skip("guest_new: cargo component", why);
        return;
    }
    let tools = match ComponentTools::find() {
        Ok(tools) => tools,
        Err(why) => return skip("guest_new: cargo component", why),
    };
    let dir = tempfile::tempdir().unwrap();
    let folder = made(dir.path(), "boxed", "scorer");
    done(&mut tools.cargo(&folder, &["component", "build", "--release"], ""));
    let component = target_dir().join(COMPONENT_TARGET).join("release/boxed.wasm");
    program::run(&["guest", "test", &text(&component)]).succeeded();
    // Debian's C library is older than the standard library and has no threads, which no test starts.
    let flags = format!("-Clink-arg={DEBIAN_CRT} -Clink-arg=--unresolved-symbols=ignore-all");
    let mut test = tools.cargo(&folder, &["component", "test"], &flags);
    let said = done(test.env("CARGO_TARGET_WASM32_WASIP1_RUNNER", runner()));
    assert!(said.contains("the_sharpest_picture_is_sent_when_the_track_ends ... ok"), "{said}");
}
