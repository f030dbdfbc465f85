//! What tests of every crate share: where set-up put its assets, how a test says that it was skipped, free ports, the
//! process's memory.
//!
//! A leaf: depends on no other crate of ours, so that any of them can use it as a dev-dependency.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The folder that `cargo xtask setup` fills: `onnxruntime/`, `models/`, `guests/`, `clips/`.
#[must_use]
pub fn assets_dir() -> PathBuf {
    std::env::var_os("FACESTREAM_ASSETS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/assets"), PathBuf::from)
}

/// A file that set-up provides.
///
/// # Errors
/// When it is not there, in words fit for [`skip`].
pub fn asset(relative: &str) -> Result<PathBuf, String> {
    let path = assets_dir().join(relative);
    if path.exists() { Ok(path) } else { Err(format!("asset {relative} is missing: run `cargo xtask setup`")) }
}

/// Records that the running test could not have what it needs. libtest knows no skipping at run time, so the test
/// returns right after this; `cargo xtask test` collects these lines and counts such tests as skipped, not as passed.
/// Under `CI=true` an asset of set-up that is missing is a failure of set-up, so such a test must not call this.
pub fn skip(test: &str, why: &str) {
    let line = format!("skipped: {test}: {why}\n");
    print!("{line}");
    if let Some(path) = std::env::var_os("FACESTREAM_SKIPS") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        if let Ok(mut file) = file {
            // One write per line: lines of parallel tests do not mix.
            file.write_all(line.as_bytes()).expect("the file of skipped tests can be written");
        }
    }
}

/// An asset's path, or an early return that records the running test as skipped. Panics instead when `CI` is set.
#[macro_export]
macro_rules! asset_or_skip {
    ($relative:expr) => {
        match $crate::asset($relative) {
            Ok(path) => path,
            Err(why) => {
                assert!(std::env::var_os("CI").is_none(), "{why}");
                $crate::skip(concat!(module_path!(), ":", line!()), &why);
                return;
            }
        }
    };
}

/// A TCP port on loopback that was free a moment ago.
///
/// # Panics
/// When loopback has no free port.
#[must_use]
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Resident memory of this process, bytes.
///
/// # Panics
/// Where Linux does not tell it.
#[must_use]
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux shows a process its own status");
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).and_then(|rest| rest.split_whitespace().next());
    kib.and_then(|kib| kib.parse::<u64>().ok()).expect("it says VmRSS in KiB") * 1024
}
