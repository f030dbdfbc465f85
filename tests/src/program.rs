//! The program under test: where it is, an environment of its own, commands that end by themselves.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use facestream_test_support::assets_dir;

use crate::wait::PATIENCE;

/// The folder of build results that this test lies in (`target/release`).
fn build_dir() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_else(|e| panic!("a test knows its own file: {e}"));
    let dir = test.parent().and_then(Path::parent);
    dir.unwrap_or_else(|| panic!("{} lies in no build folder", test.display())).to_owned()
}

/// The program, which cargo does not build for tests of another package; `FACESTREAM_PROGRAM` where tests run without their
/// build folder.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn path() -> PathBuf {
    let program = std::env::var_os("FACESTREAM_PROGRAM").map_or_else(|| build_dir().join("facestream"), PathBuf::from);
    assert!(program.is_file(), "{} is missing: cargo build --release --workspace --bin facestream", program.display());
    program
}

/// A folder that all tests share, so that each guest is compiled to machine code once.
#[must_use]
pub fn cache_dir() -> PathBuf {
    build_dir().join("../tmp/guest-cache")
}

/// The program with these arguments. Settings of whoever runs the tests do not reach it.
#[must_use]
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(path());
    for (name, _) in std::env::vars_os() {
        let ours =
            name.to_str().is_some_and(|n| n.starts_with("FACESTREAM_") || n == "RUST_LOG" || n == "ORT_DYLIB_PATH");
        if ours {
            command.env_remove(name);
        }
    }
    command
        .args(args)
        .env("FACESTREAM_ASSETS", assets_dir())
        .env("FACESTREAM_GUESTS_CACHE_DIR", cache_dir())
        .stdin(Stdio::null());
    command
}

/// What a command left behind.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// Asserts success and gives standard output.
    ///
    /// # Panics
    /// When it failed; with its standard error.
    #[track_caller]
    pub fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// Asserts that it ended with exit code 1 and one line that begins with `error: ` and has all these words.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn failed_with(&self, words: &[&str]) {
        assert_eq!(self.code, Some(1), "{self:?}");
        let error = self.stderr.lines().find(|l| l.starts_with("error: "));
        let error = error.unwrap_or_else(|| panic!("no line begins with `error: `: {}", self.stderr));
        for word in words {
            assert!(error.contains(word), "`{word}` not in `{error}`");
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }
}

/// Runs the program to its end.
///
/// # Panics
/// When it cannot be started, or does not end within [`PATIENCE`].
#[track_caller]
#[must_use]
pub fn run(args: &[&str]) -> Ended {
    finish(&mut command(args))
}

/// Runs a [`command`] to its end.
///
/// # Panics
/// As [`run`].
#[track_caller]
#[must_use]
pub fn finish(command: &mut Command) -> Ended {
    let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("a folder for output: {e}"));
    let create = |name: &str| File::create(dir.path().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    // Files, not pipes: whatever it writes, it never waits for us.
    let mut child = command
        .stdout(create("stdout"))
        .stderr(create("stderr"))
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start the program: {e}"));
    let code = ended(&mut child, PATIENCE);
    let read = |name: &str| {
        let bytes = std::fs::read(dir.path().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (stdout, stderr) = (read("stdout"), read("stderr"));
    match code {
        Some(code) => Ended { code, stdout, stderr },
        None => panic!("{command:?} did not end within {PATIENCE:?}: {stderr}"),
    }
}

/// Waits for the end of a child; kills it and gives `None` when it does not come.
pub(crate) fn ended(child: &mut Child, limit: Duration) -> Option<Option<i32>> {
    let end = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.code()),
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(10)),
            _ => {
                // It may have ended by itself just now.
                drop(child.kill());
                drop(child.wait());
                return None;
            }
        }
    }
}
