//! `facestream serve`: the service from configuration to a clean stop.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use facestream_api::control::CameraDefaults;
use facestream_core::{Clock, Message, SystemClock};
use facestream_pipeline::camera::Shared;
use facestream_pipeline::lane::GuestPool;
use facestream_pipeline::recordings::Recordings;
use facestream_pipeline::stage::Outlet;
use facestream_pipeline::supervisor::Parts;
use facestream_pipeline::wanted::SqliteWanted;
use facestream_pipeline::{Gpus, Supervisor};
use facestream_registry::Registries;
use facestream_sink::Sinks;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::audit::AuditLog;
use crate::cli::ServeArgs;
use crate::config::Config;
use crate::control::Host;
use crate::interrupts::Interrupts;
use crate::parts;

/// Events that a slow listener may fall behind by before it loses the oldest.
const EVENTS: usize = 1024;

/// Sinks as the guests' threads see them.
struct ToSinks(Arc<Sinks>);

impl Outlet for ToSinks {
    fn accept(&self, message: Message) -> Result<(), String> {
        self.0.accept(&message).map_err(|e| e.to_string())
    }
}

/// Runs until interrupted.
///
/// # Errors
/// When the configuration is wrong, or a part cannot start.
pub fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    // What the command line says goes the way of the environment, so that everything is checked once, as it will be.
    let listen = args.listen.map(|l| l.to_string());
    let data = args.data.as_ref().map(|d| d.display().to_string());
    let config = Config::load(args.config.as_deref(), &|name| match name {
        "FACESTREAM_SERVER_LISTEN" if listen.is_some() => listen.clone(),
        "FACESTREAM_SERVER_DATA_DIR" if data.is_some() => data.clone(),
        name => std::env::var(name).ok(),
    })
    .map_err(|errors| {
        let errors = if listen.is_some() { errors.told_by("--listen", "FACESTREAM_SERVER_LISTEN") } else { errors };
        if data.is_some() { errors.told_by("--data", "FACESTREAM_SERVER_DATA_DIR") } else { errors }
    })?;
    if args.check {
        println!("the configuration is valid");
        return Ok(ExitCode::SUCCESS);
    }
    crate::logging::start(config.log.json(), &config.log.level);
    more_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(config))?;
    Ok(ExitCode::SUCCESS)
}

/// Takes all the open files that the system grants: shells and service managers begin with 1024, and a hundred cameras,
/// clients and uploads share them.
fn more_files() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) => tracing::debug!(files, "open files allowed"),
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it was (`ulimit -n`)"),
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let begun = Instant::now();
    let data = config.server.data_dir.clone();
    // Before anything is there that must be stopped in order.
    let interrupts = Interrupts::catch()?;
    // Next, so that a taken port is found before anything else starts.
    let server = facestream_api::Server::bind(&config.server).await?;
    let registries =
        Registries::open(&config.registries, &|name| std::env::var(name).ok()).map_err(anyhow::Error::msg)?;
    let _lock = data_folder(&data)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let (events, _) = broadcast::channel(EVENTS);

    let sinks = {
        let (config, data, clock, events) = (config.sinks.clone(), data.clone(), Arc::clone(&clock), events.clone());
        // Opening the spool reads what the last run left in it.
        tokio::task::spawn_blocking(move || {
            let tell = Arc::new(move |event| drop(events.send(event)));
            Sinks::open(&config, &data, clock, tell)
        })
        .await??
    };
    let sinks = Arc::new(sinks);
    let mut ingest = config.ingest.clone();
    // A camera on this very machine is a risk only where others can ask for it.
    ingest.addresses.allow_loopback |= config.server.listen.ip().is_loopback();
    let (guests, _engine) = parts::guest_store(&config.guests, Some(&data))?;
    let gpus = parts::gpus(&config.infer)?;
    let has_gpus = !gpus.is_empty();
    let gpus = Arc::new(Gpus::new(gpus));
    let lost = config.infer.exit_on_lost_gpu.then(|| {
        let gpus = Arc::clone(&gpus);
        move || gpus.lost().iter().map(ToString::to_string).collect::<Vec<_>>()
    });
    let supervisor = Supervisor::new(Parts {
        shared: Arc::new(Shared {
            clock: Arc::clone(&clock),
            ingest: facestream_ingest::IngestEnv::with_clock(ingest, Arc::clone(&clock)),
            decode: config.decode.clone(),
            mailbox_frames: config.pipeline.mailbox_frames,
            drain: Duration::from_millis(config.pipeline.drain_ms),
            pool: GuestPool::start(config.pipeline.threads()).context("cannot start the guest threads")?,
            events,
        }),
        models: parts::models(&config.infer, &config.defaults.model, Some(&data), has_gpus)?,
        gpus,
        admission: config.admission.clone(),
        guests,
        guest_config: config.guests.clone(),
        recordings: Recordings::open(&data.join("recordings"), &config.guests.recorder, Arc::clone(&clock))?,
        outlet: Arc::new(ToSinks(Arc::clone(&sinks))),
        wanted: Box::new(SqliteWanted::open(&data.join("cameras.db"))?),
        runtime: tokio::runtime::Handle::current(),
        tick: Duration::from_millis(config.pipeline.tick_ms),
    });
    let defaults = CameraDefaults {
        model: None,
        detect_fps: config.defaults.detect_fps,
        camera_motion: config.pipeline.camera_motion,
        guests: config.defaults.guests.clone(),
    };
    let audit = data.join("audit");
    let audit = AuditLog::open(&audit).with_context(|| format!("cannot make {}", audit.display()))?;
    let audit = Arc::new(audit);
    let (supervisor_of_host, sinks_of_host) = (Arc::clone(&supervisor), Arc::clone(&sinks));
    let host = Host { supervisor: supervisor_of_host, sinks: sinks_of_host, defaults, audit, registries };
    let host = Arc::new(host);

    let stop = CancellationToken::new();
    let listen = server.local_addr();
    let api = tokio::spawn(server.run(host, stop.clone()));
    tracing::info!(listen = %listen, data = %data.display(), started_in = ?begun.elapsed(), "serving");
    let restoring = Arc::clone(&supervisor);
    let mut restoring = tokio::task::spawn_blocking(move || restoring.restore());
    // The second signal is heard also while it stops for a lost GPU.
    let told = interrupts.told_to_stop("what is neither delivered nor on disk is lost");
    let mut end = std::pin::pin!(end(told.cancelled_owned(), lost));
    let (unfinished, why) = tokio::select! {
        restored = &mut restoring => {
            let restored = restored??;
            if restored > 0 {
                tracing::info!(restored, "cameras of the last run are back");
            }
            (None, None)
        }
        why = &mut end => (Some(restoring), why),
    };
    let why = if let Some(restoring) = unfinished {
        // Ended while cameras were coming back: the one that is being started is waited for, others stay wanted.
        supervisor.start_no_more();
        restoring.await??;
        why
    } else {
        end.await
    };
    if let Some(lost) = &why {
        tracing::error!(%lost, "stopping, as infer.exit_on_lost_gpu says");
    }
    // Cameras first: their last messages need sinks, and REST may still be asked what is going on.
    supervisor.shutdown().await;
    stop.cancel();
    let deadline = Instant::now() + Duration::from_millis(config.server.grace_ms);
    let left = tokio::task::spawn_blocking(move || sinks.close(deadline)).await?;
    for (sink, left) in left {
        if left.messages > 0 {
            tracing::warn!(sink, messages = left.messages, kept_for_next_start = left.kept, "not delivered");
        }
    }
    api.await?;
    tracing::info!("stopped");
    match why {
        Some(lost) => {
            anyhow::bail!("{lost}; ended because of infer.exit_on_lost_gpu, for a supervisor to start it again")
        }
        None => Ok(()),
    }
}

/// How often GPUs are asked whether they still answer.
const GPUS_ASKED_EVERY: Duration = Duration::from_secs(1);

/// Waits for what ends the service: an interrupt, or a GPU that is lost (`lost` asks and gives the reasons), and then why.
async fn end<F>(interrupt: impl Future<Output = ()>, lost: Option<F>) -> Option<String>
where
    F: Fn() -> Vec<String> + Send + Sync + 'static,
{
    let lost = async {
        let Some(lost) = lost else { return std::future::pending().await };
        let lost = Arc::new(lost);
        loop {
            tokio::time::sleep(GPUS_ASKED_EVERY).await;
            let ask = Arc::clone(&lost);
            // A driver in trouble answers late.
            match tokio::task::spawn_blocking(move || ask()).await {
                Ok(reasons) if reasons.is_empty() => {}
                Ok(reasons) => return reasons.join("; "),
                Err(error) => return format!("asking the GPUs failed: {error}"),
            }
        }
    };
    tokio::select! {
        () = interrupt => None,
        lost = lost => Some(lost),
    }
}

/// Makes the data folder, open to its owner only (it holds camera addresses with passwords, pictures and messages), and
/// takes it for this process alone: two hosts would run the same cameras and write the same files. The lock goes with the
/// process.
fn data_folder(path: &Path) -> anyhow::Result<File> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the data folder {} (server.data_dir, --data)", path.display()))?;
    close_to_others(path)?;
    let lock = path.join(".lock");
    let file = File::create(&lock).with_context(|| format!("cannot write {}", lock.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => anyhow::bail!(
            "the data folder {} is used by another facestream; stop it, or give this one its own (--data DIR)",
            path.display()
        ),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", lock.display())),
    }
}

/// What people put into a data folder before the first start.
const PREPARED: [&str; 2] = ["guests", "models"];

/// Takes the rights of others off a folder that was there already, when it may.
fn close_to_others(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(mode) = to_be_closed(path)? else { return Ok(()) };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).with_context(|| {
        format!(
            "the data folder {} is open to other users (mode {mode:03o}) and cannot be closed to them; its owner can, with \
             `chmod 700 {}`",
            path.display(),
            path.display()
        )
    })?;
    tracing::info!(data = %path.display(), was = format!("{mode:03o}"), "the data folder is closed to other users now");
    Ok(())
}

/// The mode of a data folder that is open to others and may be closed to them: a host has run in it, or it is as good as
/// empty. Any other open one (a home folder, a shared one) is not ours to close, and so no place for passwords.
///
/// # Errors
/// When it is such a folder, or cannot be read.
pub(crate) fn to_be_closed(path: &Path) -> anyhow::Result<Option<u32>> {
    use std::os::unix::fs::PermissionsExt as _;
    let cannot = || format!("cannot read the data folder {} (server.data_dir, --data)", path.display());
    let mode = std::fs::metadata(path).with_context(cannot)?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(None);
    }
    let ours = path.join("cameras.db").exists();
    for entry in std::fs::read_dir(path).with_context(cannot)? {
        let name = entry.with_context(cannot)?.file_name();
        anyhow::ensure!(
            ours || name == ".lock" || PREPARED.iter().any(|prepared| name == *prepared),
            "the data folder {} is open to other users (mode {mode:03o}) and holds other things ({}): give facestream a \
             folder of its own (--data DIR), or close this one with `chmod 700 {}`",
            path.display(),
            name.display(),
            path.display()
        );
    }
    Ok(Some(mode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_interrupt_or_a_lost_gpu_ends_the_service() {
        let never = std::future::pending;
        let asked = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let lost_at_the_third = move || match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 | 1 => Vec::new(),
            _ => vec!["cuda:1 is lost".to_owned()],
        };
        assert_eq!(end(never(), Some(lost_at_the_third)).await.as_deref(), Some("cuda:1 is lost"));
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 3);
        assert_eq!(end(std::future::ready(()), None::<fn() -> Vec<String>>).await, None);
        let nobody_asks = tokio::time::timeout(Duration::from_secs(3600), end(never(), None::<fn() -> Vec<String>>));
        assert!(nobody_asks.await.is_err(), "without the setting a lost GPU ends nothing");
    }

    #[test]
    fn a_folder_of_ours_is_closed_to_others_and_one_of_somebody_else_refused() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let mode = || std::fs::metadata(&data).unwrap().permissions().mode() & 0o777;
        let open = || std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
        drop(data_folder(&data).unwrap());
        assert_eq!(mode(), 0o700, "a new one");
        open();
        std::fs::create_dir(data.join("models")).unwrap();
        drop(data_folder(&data).unwrap());
        assert_eq!(mode(), 0o700, "one that was there, with a model put into it");
        open();
        std::fs::write(data.join("letters.txt"), "").unwrap();
        let error = data_folder(&data).unwrap_err().to_string();
        assert!(error.contains("letters.txt") && error.contains("mode 755") && error.contains("chmod 700"), "{error}");
        assert_eq!(mode(), 0o755, "and left as it was");
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).unwrap();
        drop(data_folder(&data).unwrap());
        open();
        std::fs::write(data.join("cameras.db"), "").unwrap();
        data_folder(&data).unwrap();
        assert_eq!(mode(), 0o700, "a host has run in it, whatever lies beside");
    }
}
