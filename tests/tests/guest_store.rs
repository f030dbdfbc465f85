//! The store of guests of a running host: components that would keep the compiler busy for ever, signatures from the
//! command line to the store, what the store tells about a guest.
#![allow(clippy::unwrap_used, reason = "a test: what is missing is a failure, and helpers are not seen as tests")]

use std::path::Path;

use facestream_tests::host::Host;
use facestream_tests::wait::until;
use facestream_tests::{components, program};
use serde_json::Value;

/// A sound tracker whose one function is so long that compiling it takes seconds and hundreds of megabytes.
fn bulky() -> Vec<u8> {
    let step =
        "(local.set $i (i64.xor (i64.mul (local.get $i) (i64.const 31)) (i64.rem_s (local.get $i) (i64.const 7))))";
    components::tracker(&(step.repeat(500_000) + "(call $ok)"))
}

fn well_behaved() -> Vec<u8> {
    components::tracker("(call $ok)")
}

/// Processes that the host has started and that still run.
fn children(host: &Host) -> String {
    std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", host.pid())).unwrap()
}

/// Uploads something that is refused, while the host answers others; gives the refusal.
#[track_caller]
fn refused_while_the_host_answers(host: &Host, bytes: &[u8]) -> Value {
    std::thread::scope(|scope| {
        let upload = scope.spawn(|| host.api.upload("bulky", "1.0.0", bytes));
        until("the upload to be answered", || {
            host.api.get("/healthz").json(200);
            host.api.get("/api/v1/guests").json(200);
            if upload.is_finished() { Ok(()) } else { Err("it is not".to_owned()) }
        });
        upload.join().unwrap().json(422)
    })
}

#[test]
fn a_component_that_takes_too_long_or_too_much_to_compile_is_refused_and_the_host_lives_on() {
    let bulky = bulky();
    for (toml, key) in [
        ("[guests.compile]\ntimeout_ms = 300\nthreads = 1\n", "guests.compile.timeout_ms"),
        ("[guests.compile]\nmax_memory_bytes = 300000000\nthreads = 1\n", "guests.compile.max_memory_bytes"),
    ] {
        let home = tempfile::tempdir().unwrap();
        let host = Host::start(home.path(), toml);
        let refusal = refused_while_the_host_answers(&host, &bulky);
        assert_eq!(refusal["type"], "urn:facestream:problem:guest-refused", "{refusal}");
        assert!(refusal["detail"].as_str().unwrap().contains(key), "{refusal}");
        assert_eq!(children(&host), "", "the compiling process is gone");
        assert_eq!(host.api.get("/api/v1/guests/bulky").status, 404, "nothing of it is kept");
        if key.ends_with("max_memory_bytes") {
            // The compiler is free for the next one. Not asked where the clock is so tight that a busy machine may not
            // compile even a small one in time.
            host.api.upload("small", "1.0.0", &well_behaved()).json(201);
        }
    }
}

#[test]
fn signed_guests_from_the_key_to_the_store() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name).to_string_lossy().into_owned();
    let key = at("release");
    let _ = program::run(&["guest", "keygen", &key]).succeeded();
    program::run(&["guest", "keygen", &key]).failed_with(&["release.key", "choose another name"]);
    let mode = |path: &str| std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(Path::new(path)).unwrap()) & 0o777;
    assert_eq!(mode(&at("release.key")), 0o600);
    let public = std::fs::read_to_string(at("release.pub")).unwrap();
    let toml = format!(
        "[guests.signatures]\npolicy = \"required\"\n[[guests.signatures.keys]]\nname = \"release\"\nkey = \"{}\"\n",
        public.trim()
    );
    let host = Host::start(home.path(), &toml);
    let component = at("mine.wasm");
    std::fs::write(&component, well_behaved()).unwrap();
    let url = host.api.base().to_owned();
    let push = |version: &str, more: &[&str]| {
        let args = ["guest", "push", &component, "--name", "mine", "--version", version, "--url", &url];
        program::run(&[&args[..], more].concat())
    };
    push("1.2.0", &[]).failed_with(&["not signed"]);
    let (secret, sig) = (at("release.key"), at("mine.wasm.sig"));
    let sign = |version: &str| {
        let args = ["guest", "sign", &component, "--key", &secret, "--name", "mine", "--version", version];
        program::run(&args).succeeded()
    };
    assert!(sign("1.2.0").contains(public.trim()));
    push("1.3.0", &["--sig", &sig]).failed_with(&["changed after signing"]);
    assert!(push("1.2.0", &["--sig", &sig]).succeeded().contains("mine@1.2.0 stored as sha256:"));
    assert!(push("1.2.0", &["--sig", &sig]).succeeded().contains("stored already"));
    sign("1.1.0");
    push("1.1.0", &["--sig", &sig]).failed_with(&["1.2.0", "only go up"]);

    let told = host.api.get("/api/v1/guests/mine").json(200);
    assert_eq!((&told["signed_by"], &told["version"]), (&public.trim().into(), &"1.2.0".into()), "{told}");
    assert!(told["added_unix_ms"].as_u64().unwrap() > 1_700_000_000_000, "{told}");
    assert!(told["wit_version"].as_str().unwrap().starts_with("0.1."), "{told}");
    assert!(told["producers"].as_array().is_some(), "{told}");
    let log = std::fs::read_to_string(home.path().join("host.log")).unwrap();
    assert!(!log.contains(std::fs::read_to_string(&secret).unwrap().trim()), "the secret key stays where it was");
}
