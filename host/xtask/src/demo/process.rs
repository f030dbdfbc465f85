//! The processes of the demo: started on free ports of loopback, ended by their own id, also when the demo fails.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// A child process that never outlives the demo.
pub(super) struct Process {
    name: &'static str,
    child: Child,
}

impl Process {
    fn spawn(name: &'static str, command: &mut Command) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::null()).spawn().with_context(|| format!("could not start the {name}"))?;
        Ok(Self { name, child })
    }

    /// An error when it has ended by itself.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the {} ended by itself ({status}); see target/demo/", self.name),
        }
    }

    /// Asks it to end (SIGTERM) and waits; an error when it does not end well in time.
    pub(super) fn stop(&mut self, grace: Duration) -> anyhow::Result<()> {
        let pid = self.child.id().to_string();
        crate::shell::output(Command::new("kill").args(["-TERM", &pid]))?;
        let end = Instant::now() + grace;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                if status.success() {
                    return Ok(());
                }
                bail!("the {} ended with {status}; see target/demo/", self.name);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the {} did not end within {} s", self.name, grace.as_secs());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Only after an error: the ordinary way is `stop`.
            let killed = self.child.kill().and_then(|()| self.child.wait());
            if let Err(error) = killed {
                eprintln!("   could not end the {}: {error}", self.name);
            }
        }
    }
}

fn facestream(root: &Path) -> Command {
    let mut command = Command::new(crate::facestream(root));
    command.current_dir(root).env("FACESTREAM_ASSETS", crate::assets(root));
    command
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").context("no free port on loopback")?.local_addr()?.port())
}

/// `facestream sim`: gives one address a camera, with credentials in it.
pub(super) fn simulator(root: &Path, out: &Path, clip: &Path, cameras: u32) -> anyhow::Result<(Process, Vec<String>)> {
    let listen = format!("127.0.0.1:{}", free_port()?);
    let mut command = facestream(root);
    command.arg("sim").arg(clip).args(["--cameras", &cameras.to_string(), "--listen", &listen, "--user", "demo:demo"]);
    command.stdout(Stdio::piped()).stderr(File::create(out.join("sim.log"))?);
    let mut process = Process::spawn("simulator", &mut command)?;
    let stdout = process.child.stdout.take().context("standard output is piped")?;
    let lines = BufReader::new(stdout).lines();
    let urls: Vec<String> = lines.take(cameras as usize).collect::<Result<_, _>>()?;
    if urls.len() < cameras as usize {
        bail!("the simulator ended early; see target/demo/sim.log");
    }
    Ok((process, urls))
}

/// `facestream serve` with all it keeps under `target/demo`.
pub(super) fn host(root: &Path, out: &Path) -> anyhow::Result<(Process, String)> {
    let address = format!("127.0.0.1:{}", free_port()?);
    let log = File::create(out.join("host.log"))?;
    let mut command = facestream(root);
    command.args(["serve", "--listen", &address, "--data"]).arg(out);
    command.stdout(log.try_clone()?).stderr(log);
    if let Some(brokers) = std::env::var_os("KAFKA_BOOTSTRAP") {
        command.env("FACESTREAM_SINKS_KAFKA_BROKERS", brokers);
    }
    Ok((Process::spawn("host", &mut command)?, address))
}
