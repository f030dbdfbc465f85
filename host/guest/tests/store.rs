//! The store: what names mean over time, who may put something under them, and how much.
#![allow(clippy::unwrap_used)]

mod kit;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use facestream_core::SimulatedClock;
use facestream_guest_host::{
    Digest, GuestConfig, GuestEngine, GuestStore, SecretKey, SignatureConfig, SignaturePolicy, SignatureProblem,
    SignerConfig, StoreError, StoredGuest,
};

fn key() -> SecretKey {
    SecretKey::from_seed(&[1; 32])
}

fn stranger() -> SecretKey {
    SecretKey::from_seed(&[2; 32])
}

fn config(policy: SignaturePolicy) -> GuestConfig {
    let keys = vec![SignerConfig { name: "release".into(), key: key().public().to_string() }];
    GuestConfig { signatures: SignatureConfig { policy, keys }, ..kit::config() }
}

fn open(config: &GuestConfig, dir: &Path) -> GuestStore {
    let engine = GuestEngine::new(config).unwrap();
    let clock = SimulatedClock::at(1_700_000_000_000_000_000);
    GuestStore::open_with_clock(&engine, dir, None, Arc::new(clock)).unwrap()
}

/// Pushes with a signature by `key` over what is pushed.
fn push(store: &GuestStore, bytes: &[u8], version: &str, key: &SecretKey) -> Result<StoredGuest, StoreError> {
    let signature = key.sign("mine", version, &Digest::of(bytes)).to_string();
    store.add_signed(bytes, "mine", version, Some(&signature))
}

#[track_caller]
fn problem<T: std::fmt::Debug>(result: Result<T, StoreError>) -> SignatureProblem {
    match result.unwrap_err() {
        StoreError::Signature { problem, .. } => problem,
        other => panic!("{other}"),
    }
}

fn two() -> (Vec<u8>, Vec<u8>) {
    (kit::scorer(&[]), kit::scorer(&[("tick", "(call $given)")]))
}

#[test]
fn a_deleted_name_and_version_never_means_other_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = two();
    let store = open(&kit::config(), dir.path());
    let added = store.add(&first, "mine", "1.0.0").unwrap();
    assert_eq!(added.added_unix_ms, Some(1_700_000_000_000));
    store.remove("mine@1.0.0").unwrap();
    assert!(matches!(store.resolve("mine").unwrap_err(), StoreError::NotFound { .. }));
    assert!(matches!(store.add(&second, "mine", "1.0.0").unwrap_err(), StoreError::VersionGone { .. }));

    // Nor after a restart; the same bytes may come back.
    drop(store);
    let store = open(&kit::config(), dir.path());
    let error = store.add(&second, "mine", "1.0.0").unwrap_err();
    assert!(error.to_string().contains(&added.info.digest.to_string()), "{error}");
    store.add(&second, "mine", "1.0.1").unwrap();
    store.add(&first, "mine", "1.0.0").unwrap();
    store.load("mine@1.0.0").unwrap();
}

#[test]
fn the_store_takes_so_many_bytes_and_its_files_are_its_owners() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = two();
    let most = first.len() as u64 + 10;
    let store = open(&GuestConfig { max_stored_bytes: most, ..kit::config() }, dir.path());
    store.add(&first, "mine", "1.0.0").unwrap();
    store.add(&first, "same-bytes", "1.0.0").unwrap();
    let error = store.add(&second, "mine", "2.0.0").unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(error.to_string().contains("guests.max_stored_bytes"), "{error}");
    store.remove("mine").unwrap();
    store.remove("same-bytes").unwrap();
    store.add(&second, "mine", "2.0.0").unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("index.json")), 0o600);
    assert_eq!(mode(&dir.path().join("sha256")), 0o700);
}

#[test]
fn required_signatures_refuse_the_unsigned_the_tampered_the_unknown_and_the_downgrade() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = two();
    let store = open(&config(SignaturePolicy::Required), dir.path());
    assert_eq!(problem(store.add(&first, "mine", "1.0.0")), SignatureProblem::Unsigned);
    let unknown = SignatureProblem::UnknownSigner { key: stranger().public().to_string() };
    assert_eq!(problem(push(&store, &first, "1.0.0", &stranger())), unknown);
    let of_first = key().sign("mine", "1.0.0", &Digest::of(&first)).to_string();
    for (bytes, name, version) in [(&second, "mine", "1.0.0"), (&first, "other", "1.0.0"), (&first, "mine", "9.0.0")] {
        let result = store.add_signed(bytes, name, version, Some(&of_first));
        assert_eq!(problem(result), SignatureProblem::Tampered, "{name}@{version}");
    }
    assert_eq!(problem(store.add_signed(&first, "mine", "1.0.0", Some("abc"))), SignatureProblem::Malformed);
    assert!(matches!(problem(push(&store, &first, "latest", &key())), SignatureProblem::NoOrder(_)));
    assert!(store.list().is_empty(), "nothing of these is in");

    let added = push(&store, &second, "1.10.0", &key()).unwrap();
    assert_eq!(added.signed_by, Some(key().public().to_string()));
    // By number, not by letter; and also when the newer one was deleted.
    let downgrade = SignatureProblem::Downgrade { highest: "1.10.0".to_owned() };
    assert_eq!(problem(push(&store, &first, "1.9.0", &key())), downgrade);
    store.remove("mine").unwrap();
    assert_eq!(problem(push(&store, &first, "1.9.0", &key())), downgrade);
    push(&store, &first, "2.0.0", &key()).unwrap();
    store.load("mine").unwrap();
}

#[test]
fn signatures_are_checked_again_when_a_guest_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = two();
    let store = open(&config(SignaturePolicy::Off), dir.path());
    store.add(&second, "unsigned", "1.0.0").unwrap();
    let digest = push(&store, &first, "1.0.0", &key()).unwrap().info.digest;
    drop(store);

    // What came in before signatures were required does not run after.
    let store = open(&config(SignaturePolicy::Required), dir.path());
    store.load("mine").unwrap();
    assert_eq!(problem(store.load("unsigned")), SignatureProblem::Unsigned);

    let sidecar = dir.path().join("sha256").join(format!("{}.sig", digest.hex()));
    let sound = std::fs::read_to_string(&sidecar).unwrap();
    let foreign = stranger().sign("mine", "1.0.0", &digest);
    std::fs::write(&sidecar, format!("mine@1.0.0 {foreign}\n")).unwrap();
    assert!(matches!(problem(store.load("mine")), SignatureProblem::UnknownSigner { .. }));
    let other = key().sign("mine", "1.0.1", &digest);
    std::fs::write(&sidecar, format!("mine@1.0.0 {other}\n")).unwrap();
    assert_eq!(problem(store.load("mine")), SignatureProblem::Tampered);
    std::fs::remove_file(&sidecar).unwrap();
    assert_eq!(problem(store.load("mine")), SignatureProblem::Unsigned);
    std::fs::write(&sidecar, sound).unwrap();
    store.load("mine").unwrap();
}

#[test]
fn a_guest_that_was_signed_stays_signed_even_where_nobody_must() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = two();
    let store = open(&config(SignaturePolicy::Off), dir.path());
    push(&store, &first, "1.0.0", &key()).unwrap();
    assert_eq!(problem(store.add(&second, "mine", "1.1.0")), SignatureProblem::UnsignedAfterSigned);
    store.remove("mine").unwrap();
    assert_eq!(problem(store.add(&second, "mine", "1.1.0")), SignatureProblem::UnsignedAfterSigned);
    store.add(&second, "another", "1.1.0").unwrap();
    assert!(matches!(problem(push(&store, &second, "1.1.0", &stranger())), SignatureProblem::UnknownSigner { .. }));
}
