//! Guests in OCI registries, and TLS on the way to the host: what is pulled is what the digest stands for, or nothing.
//!
//! A real registry is used where one is installed; the stand-in of `facestream_tests::registry` answers as broken and
//! hostile ones do.
#![allow(clippy::unwrap_used, reason = "a test: what is missing is a failure, and helpers are not seen as tests")]

use std::path::Path;

use facestream_guest_host::Digest;
use facestream_test_support::skip;
use facestream_tests::api::Answer;
use facestream_tests::host::Host;
use facestream_tests::registry::{Distribution, Lie, StandIn};
use facestream_tests::tls::Door;
use facestream_tests::{components, program};
use serde_json::json;

const WASM: &str = "application/wasm";

fn guest() -> Vec<u8> {
    components::tracker("(call $ok)")
}

/// Configuration of a host that pulls from this registry.
fn allowing(registry: &str, more: &str) -> String {
    format!("[[registries.allow]]\nhost = \"{registry}\"\n{more}\n")
}

fn pull(host: &Host, reference: &str) -> Answer {
    host.api.post("/api/v1/guests/pull", &json!({ "reference": reference, "name": "pulled", "version": "1.0.0" }))
}

/// The last line that `guest push --oci` prints: the reference by digest.
fn pushed(printed: &str) -> String {
    printed.lines().last().unwrap().to_owned()
}

/// The audit log's latest entry.
fn latest(host: &Host) -> serde_json::Value {
    host.api.get("/api/v1/audit?limit=1").json(200)["entries"][0].clone()
}

#[test]
fn from_a_push_to_a_registry_to_a_pull_by_digest_on_a_host() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name).to_string_lossy().into_owned();
    let component = guest();
    std::fs::write(at("mine.wasm"), &component).unwrap();
    let stand_in = StandIn::start();
    stand_in.only("reader", "canary-registry-password");
    let address = stand_in.address.to_string();
    let place = format!("oci://{address}/team/mine:1.0");
    let args =
        ["guest", "push", &at("mine.wasm"), "--oci", &place, "--name", "mine", "--version", "1.2.0", "--plain-http"];
    program::run(&args).failed_with(&["refuses", "FACESTREAM_REGISTRY_PASSWORD"]);
    let who = ["--registry-user", "reader", "--registry-password", "canary-registry-password"];
    let reference = pushed(&program::run(&[&args[..], &who].concat()).succeeded());
    assert!(reference.starts_with(&format!("oci://{address}/team/mine@sha256:")), "{reference}");
    assert_eq!(pushed(&program::run(&[&args[..], &who].concat()).succeeded()), reference, "the same again");

    let toml = allowing(&address, "plain_http = true\nuser = \"reader\"\npassword = \"canary-registry-password\"");
    let host = Host::start(home.path(), &toml);
    let told = host.api.post("/api/v1/guests/pull", &json!({ "reference": reference })).json(201);
    let own = Digest::of(&component).to_string();
    let manifest = reference.rsplit_once('@').unwrap().1;
    assert_eq!((&told["name"], &told["version"]), (&"mine".into(), &"1.2.0".into()), "the artifact says so: {told}");
    assert_eq!((&told["digest"], &told["manifest_digest"]), (&own.as_str().into(), &manifest.into()), "{told}");
    assert_eq!(told["source"], reference, "{told}");
    host.api.post("/api/v1/guests/pull", &json!({ "reference": reference })).json(200);
    let entry = latest(&host);
    assert_eq!((&entry["action"], &entry["result"]), (&"pull".into(), &"done".into()), "{entry}");
    assert_eq!((&entry["guest"], &entry["digest"]), (&"mine@1.2.0".into(), &own.as_str().into()), "{entry}");
    assert_eq!(entry["source"], reference, "{entry}");

    let out = at("out.wasm");
    let args = ["guest", "pull", &reference, "--plain-http", "--out", &out];
    assert!(program::run(&[&args[..], &who].concat()).succeeded().contains(&own));
    assert_eq!(std::fs::read(&out).unwrap(), component);

    // A password that is wrong is not repeated either.
    stand_in.only("reader", "another");
    pull(&host, &reference).problem(502, "registry-failed", &["refuses", "registries.allow"]);
    let everything = format!("{} {} {}", host.log(), told, host.api.get("/api/v1/audit?limit=100").text());
    assert!(!everything.contains("canary"), "the password leaves the configuration for the registry alone");
    host.stop();
}

#[test]
fn whatever_a_registry_does_nothing_but_the_digest_s_bytes_gets_in() {
    let home = tempfile::tempdir().unwrap();
    let stand_in = StandIn::start();
    let toml = allowing(&stand_in.address.to_string(), "plain_http = true") + "[server]\nmax_upload_bytes = 100000\n";
    let host = Host::start(home.path(), &toml);
    let component = guest();
    let sound = stand_in.keep("team/mine", &component, WASM, component.len());
    for (lie, words) in [
        (Lie::Manifests, "other bytes"),
        (Lie::Blobs, "other bytes"),
        (Lie::Short, "other bytes"),
        (Lie::Endless, "does not end"),
        (Lie::Status(500), "500"),
        (Lie::Status(403), "403"),
    ] {
        stand_in.lie(lie.clone());
        pull(&host, &sound).problem(502, "registry-failed", &[words]);
        assert_eq!(latest(&host)["result"], "registry-failed", "{lie:?}");
    }
    // The socket's buffers may hold some; what matters is that it ends.
    assert!(stand_in.streamed() < 64 << 20, "{} bytes of a blob without end", stand_in.streamed());
    stand_in.lie(Lie::None);

    let large = stand_in.keep("team/large", &vec![0; 100_001], WASM, 100_001);
    drop(stand_in.asked());
    pull(&host, &large).problem(413, "too-large", &["100001", "100000", "server.max_upload_bytes"]);
    let asked = stand_in.asked();
    assert!(!asked.iter().any(|a| a.contains("/blobs/")), "the manifest says enough: {asked:?}");
    // A manifest that makes it smaller than it is.
    let understated = stand_in.keep("team/understated", &vec![0; 100_001], WASM, 10);
    pull(&host, &understated).problem(502, "registry-failed", &["does not end after the 10 bytes"]);

    let other = stand_in.keep("team/text", b"hello", "text/plain", 5);
    pull(&host, &other).problem(422, "guest-refused", &["text/plain", "application/wasm"]);
    let junk = stand_in.keep("team/junk", b"hello", WASM, 5);
    pull(&host, &junk).problem(422, "guest-refused", &["not a WebAssembly component"]);

    let nobody = format!("oci://{}/team/nobody@sha256:{}", stand_in.address, "0".repeat(64));
    pull(&host, &nobody).problem(404, "not-in-registry", &["manifest", "no such manifest"]);
    let by_tag = format!("oci://{}/team/mine:latest", stand_in.address);
    pull(&host, &by_tag).problem(
        422,
        "invalid-request",
        &["/reference", "tag may mean other bytes", "guest push --oci"],
    );
    program::run(&["guest", "pull", &by_tag, "--plain-http"]).failed_with(&["names no digest"]);
    drop(stand_in.asked());
    let elsewhere = format!("oci://localhost:{}/team/mine@sha256:{}", stand_in.address.port(), "0".repeat(64));
    pull(&host, &elsewhere).problem(403, "registry-not-allowed", &["[[registries.allow]]", "localhost"]);
    pull(&host, &sound.replace("oci://", "oci://user:canary@")).problem(422, "invalid-request", &["no credentials"]);
    assert_eq!(stand_in.asked(), Vec::<String>::new(), "nobody is called who is not allowed");
    assert_eq!(host.api.get("/api/v1/guests/pulled").status, 404, "nothing of all this was kept");
    pull(&host, &sound).json(201);
    assert!(!host.log().contains("canary"));

    drop(stand_in);
    pull(&host, &sound).problem(502, "registry-failed", &["cannot be reached", "refused"]);
    host.stop();

    // By default nobody is called at all.
    let nowhere = Host::start(home.path(), "");
    pull(&nowhere, &sound).problem(403, "registry-not-allowed", &["none at all", "[[registries.allow]]"]);
    nowhere.stop();
}

#[test]
fn the_policy_on_signatures_holds_for_what_is_pulled() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name).to_string_lossy().into_owned();
    let (file, key, sig) = (at("mine.wasm"), at("release"), at("mine.wasm.sig"));
    std::fs::write(&file, guest()).unwrap();
    let _ = program::run(&["guest", "keygen", &key]).succeeded();
    let named = ["--name", "mine", "--version", "1.0.0"];
    let _ = program::run(&[&["guest", "sign", &file, "--key", &at("release.key")][..], &named].concat()).succeeded();
    let stand_in = StandIn::start();
    let place = format!("oci://{}/team/mine", stand_in.address);
    let push = |more: &[&str]| {
        let args = ["guest", "push", &file, "--oci", &place, "--plain-http"];
        pushed(&program::run(&[&args[..], &named, more].concat()).succeeded())
    };
    let (unsigned, signed) = (push(&[]), push(&["--sig", &sig]));
    assert_ne!(unsigned, signed, "the signature is part of the artifact");
    let public = std::fs::read_to_string(at("release.pub")).unwrap();
    let toml = allowing(&stand_in.address.to_string(), "plain_http = true")
        + &format!(
            "[guests.signatures]\npolicy = \"required\"\n[[guests.signatures.keys]]\nname = \"release\"\nkey = \"{}\"\n",
            public.trim()
        );
    let host = Host::start(home.path(), &toml);
    let ask = |body: serde_json::Value| host.api.post("/api/v1/guests/pull", &body);
    ask(json!({ "reference": unsigned })).problem(422, "guest-refused", &["not signed"]);
    ask(json!({ "reference": signed, "version": "2.0.0" })).problem(422, "guest-refused", &["changed after signing"]);
    assert_eq!(ask(json!({ "reference": signed })).json(201)["signed_by"], public.trim());
    // A signature that came another way does as well.
    let text = std::fs::read_to_string(&sig).unwrap();
    ask(json!({ "reference": unsigned, "signature": text.trim() })).json(200);
    host.stop();
}

#[test]
fn a_real_registry_takes_and_gives_guests() {
    let home = tempfile::tempdir().unwrap();
    let registry = match Distribution::start(home.path()) {
        Ok(registry) => registry,
        Err(why) => return skip("guest_registry: a_real_registry_takes_and_gives_guests", &why),
    };
    let at = |name: &str| home.path().join(name).to_string_lossy().into_owned();
    let component = guest();
    std::fs::write(at("mine.wasm"), &component).unwrap();
    let place = format!("oci://{}/team/mine:1.0", registry.address);
    let args =
        ["guest", "push", &at("mine.wasm"), "--oci", &place, "--name", "mine", "--version", "1.0.0", "--plain-http"];
    let reference = pushed(&program::run(&args).succeeded());
    let host = Host::start(home.path(), &allowing(&registry.address, "plain_http = true"));
    let told = host.api.post("/api/v1/guests/pull", &json!({ "reference": reference })).json(201);
    let own = Digest::of(&component).to_string();
    assert_eq!(told["digest"], own, "{told}");
    let (out, out_again) = (at("out.wasm"), at("again.wasm"));
    let _ = program::run(&["guest", "pull", &reference, "--plain-http", "--out", &out]).succeeded();
    assert_eq!(std::fs::read(&out).unwrap(), component);
    let nobody = format!("oci://{}/team/mine@sha256:{}", registry.address, "0".repeat(64));
    pull(&host, &nobody).problem(404, "not-in-registry", &["manifest"]);
    let nowhere = format!("oci://{}/team/nobody@sha256:{}", registry.address, "0".repeat(64));
    pull(&host, &nowhere).problem(404, "not-in-registry", &[]);

    // Its disk goes bad under it: the same digest, other bytes.
    let hex = own.trim_start_matches("sha256:");
    let blob = home.path().join("registry/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data");
    let mut bytes = std::fs::read(&blob).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    pull(&host, &reference).problem(502, "registry-failed", &["other bytes"]);
    program::run(&["guest", "pull", &reference, "--plain-http", "--out", &out_again]).failed_with(&["other bytes"]);
    assert!(!Path::new(&out_again).exists());
    host.stop();
}

#[test]
fn tls_to_hosts_and_registries_with_an_authority_of_one_s_own() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("mine.wasm").to_string_lossy().into_owned();
    std::fs::write(&file, guest()).unwrap();
    let token = "canary-token-canary-token";
    let toml = format!("[[server.tokens]]\nname = \"ci\"\nrole = \"guest-admin\"\ntoken = \"{token}\"\n");
    let stand_in = StandIn::start();
    let registry = Door::open(stand_in.address, home.path());
    let ca = registry.ca.to_string_lossy().into_owned();
    let toml = toml + &allowing(&registry.name(), &format!("ca_file = \"{ca}\""));
    let host = Host::start(home.path(), &toml);
    let behind = host.api.base().trim_start_matches("http://").parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let door = Door::open(behind, dir.path());
    let url = format!("https://{}", door.name());
    let args = ["guest", "push", &file, "--name", "mine", "--version", "1.0.0", "--token", token, "--url", &url];
    program::run(&args).failed_with(&["no answer from https://localhost"]);
    program::run(&[&args[..], &["--ca", &ca]].concat()).failed_with(&["no answer from https://localhost"]);
    let door_ca = door.ca.to_string_lossy().into_owned();
    assert!(
        program::run(&[&args[..], &["--ca", &door_ca]].concat()).succeeded().contains("mine@1.0.0 stored as sha256:")
    );

    // A token in clear text only where nobody can listen, or where somebody says so.
    let other = ["guest", "push", &file, "--name", "mine", "--version", "1.0.0", "--token", token, "--url"];
    program::run(&[&other[..], &["http://192.0.2.1:8080"]].concat())
        .failed_with(&["in clear text", "--token-in-clear"]);
    assert!(program::run(&[&other[..], &[host.api.base()]].concat()).succeeded().contains("stored already"));
    program::run(&["guest", "push", &file, "--name", "a", "--version", "1", "--url", "ftp://x"])
        .failed_with(&["http://"]);

    let place = format!("oci://{}/team/mine", registry.name());
    let reference = pushed(&program::run(&["guest", "push", &file, "--oci", &place, "--ca", &ca]).succeeded());
    program::run(&["guest", "pull", &reference, "--out", &file]).failed_with(&["cannot be reached"]);
    let _ = program::run(&["guest", "pull", &reference, "--out", &file, "--ca", &ca]).succeeded();
    let body = json!({ "reference": reference, "name": "other", "version": "1.0.0" }).to_string();
    let answer = ureq::post(format!("{}/api/v1/guests/pull", host.api.base()))
        .header("authorization", format!("Bearer {token}"))
        .content_type("application/json")
        .send(body.as_bytes());
    assert_eq!(answer.unwrap().status(), 201);
    assert!(!host.log().contains("canary"));
    host.stop();
}
