//! A guest author's first path as typed, outside of the repository: `guest new`, `guest build`, `guest test`.
#![allow(clippy::unwrap_used, reason = "a test: what is missing is a failure, and helpers are not seen as tests")]

use facestream_guest_build::{Prefer, Toolchain};
use facestream_test_support::skip;
use facestream_tests::program;

#[test]
fn each_template_builds_and_passes_the_conformance_kit() {
    if let Err(why) = Toolchain::find(Prefer::Wasi) {
        skip("guest_new", &why.to_string());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    for world in ["tracker", "scorer", "formatter"] {
        let name = format!("my-{world}");
        program::run(&["guest", "new", &name, "--world", world, "--path", &text(dir.path())]).succeeded();
        let folder = dir.path().join(&name);
        // One folder of results for all three: the standard library, where it is built, and serde are built once.
        let built = program::command(&["guest", "build", &text(&folder), "--release"])
            .env("CARGO_TARGET_DIR", dir.path().join("target"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "{world}: {said}");
        assert!(String::from_utf8_lossy(&built.stdout).contains(world), "{world}: the world is named");
        let component = folder.join(format!("{name}.wasm"));
        program::run(&["guest", "test", &text(&component)]).succeeded();
    }
}
