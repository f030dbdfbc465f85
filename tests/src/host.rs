//! `facestream serve` as a child process: started, watched, stopped as an operator would, and never left behind.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use facestream_test_support::free_port;
use serde_json::{Value, json};

use crate::api::Api;
use crate::messages::{self, Line};
use crate::program;
use crate::wait::{PATIENCE, until};

/// A running service. Dropping it ends the process; of a test that fails the log is printed.
#[derive(Debug)]
pub struct Host {
    /// Its REST calls.
    pub api: Api,
    child: Child,
    home: PathBuf,
}

impl Host {
    /// Starts it with its data in `home/data`, and waits until it is ready. Started again with the same `home`, it goes on
    /// with what it had. `toml` is its configuration.
    ///
    /// # Panics
    /// When it does not become ready.
    #[track_caller]
    #[must_use]
    pub fn start(home: &Path, toml: &str) -> Self {
        let host = Self::start_alive(home, toml);
        until("the host to be ready", || host.api.alive("/readyz"));
        host
    }

    /// The same, but returns as soon as it answers at all: cameras of the last run may still be on their way.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    #[must_use]
    pub fn start_alive(home: &Path, toml: &str) -> Self {
        let config = home.join("facestream.toml");
        std::fs::write(&config, toml).unwrap_or_else(|e| panic!("{}: {e}", config.display()));
        // Another process may take a port between finding it free and its use.
        for _ in 0..5 {
            let address = format!("127.0.0.1:{}", free_port());
            let log = File::options().create(true).append(true).open(home.join("host.log"));
            let log = log.unwrap_or_else(|e| panic!("host.log: {e}"));
            let (data, config) = (home.join("data"), config.to_string_lossy().into_owned());
            let args = ["serve", "--config", &config, "--listen", &address, "--data", &data.to_string_lossy()];
            let child = program::command(&args)
                .stdout(log.try_clone().unwrap_or_else(|e| panic!("host.log: {e}")))
                .stderr(log)
                .spawn()
                .unwrap_or_else(|e| panic!("cannot start the program: {e}"));
            let mut host = Self { api: Api::new(&address), child, home: home.to_owned() };
            if host.wait_alive() {
                return host;
            }
        }
        panic!("five ports in a row were taken");
    }

    /// False when the port was taken.
    fn wait_alive(&mut self) -> bool {
        until("the host to answer", || {
            if let Ok(Some(status)) = self.child.try_wait() {
                let log = self.log();
                assert!(log.contains("in use"), "the host ended ({status}):\n{log}");
                return Ok(false);
            }
            self.api.alive("/healthz").map(|()| true)
        })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has logged, earlier runs of the same home included.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.home.join("host.log")).unwrap_or_default()).into_owned()
    }

    /// The folder of its data.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// Whole lines of a topic so far.
    #[must_use]
    pub fn messages(&self, topic: &str) -> Vec<Line> {
        messages::read(&self.data(), topic)
    }

    /// Starts a camera; `more` are further fields of the request.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn start_camera(&self, id: &str, url: &str, more: &Value) -> Value {
        let mut body = json!({ "camera_id": id, "rtsp_link": url });
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        self.api.post("/camera/start", &body).json(200)
    }

    /// Waits until a camera is as wanted.
    ///
    /// # Panics
    /// When it does not become so.
    #[track_caller]
    pub fn camera_until(&self, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(&format!("camera {id}: {what}"), || {
            let camera = self.api.camera(id);
            if wanted(&camera) { Ok(camera) } else { Err(camera.to_string()) }
        })
    }

    /// Waits until a camera runs and frames of it were analysed.
    #[track_caller]
    pub fn camera_runs(&self, id: &str) -> Value {
        self.camera_until(id, "running, with frames analysed", |c| {
            c["state"] == "running"
                && c["fps"].as_f64().is_some_and(|fps| fps > 0.0)
                && c["counters"]["analysed"].as_u64() > Some(0)
        })
    }

    /// Waits until a topic has a message that is wanted.
    #[track_caller]
    pub fn message_until(&self, topic: &str, what: &str, wanted: impl Fn(&Line) -> bool) -> Line {
        until(&format!("a message of {topic}: {what}"), || {
            let lines = self.messages(topic);
            lines.iter().rev().find(|l| wanted(l)).cloned().ok_or_else(|| format!("{} others", lines.len()))
        })
    }

    /// Asks it to stop, as service managers do.
    ///
    /// # Panics
    /// When it does not end with exit code 0.
    #[track_caller]
    pub fn stop(self) {
        self.terminate();
        self.ends_with(0);
    }

    /// Sends SIGTERM.
    ///
    /// # Panics
    /// When it cannot be sent.
    #[track_caller]
    pub fn terminate(&self) {
        // The shell's own `kill`: there is always one, and no unsafe code is needed here.
        let sent = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.pid())]).status();
        assert!(sent.is_ok_and(|s| s.success()), "SIGTERM can be sent to a child of ours");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end, or with another exit code.
    #[track_caller]
    pub fn ends_with(mut self, code: i32) {
        let ended = program::ended(&mut self.child, PATIENCE);
        assert_eq!(ended, Some(Some(code)), "how it ended:\n{}", self.log());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It has mostly ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().rev().take(60).collect();
            println!("end of the host's log:\n{}", lines.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}
