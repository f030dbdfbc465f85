//! `facestream doctor`: what works on this machine, what does not, and what to do about it.
//!
//! Every check really uses the thing: a model is loaded and tried, a guest is compiled and linked, a broker is asked.

use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;

use facestream_core::guest::SlotKind;
use facestream_gpu::GpuError;
use facestream_guest_host::WIT_VERSIONS;

use crate::assets::Assets;
use crate::cli::DoctorArgs;
use crate::config::Config;
use crate::parts;

/// How a check went.
enum Verdict {
    /// It works.
    Ok(String),
    /// Something optional is not there; what to do to have it.
    Note(String, String),
    /// Something needed does not work; what to do.
    Bad(String, String),
}

use Verdict::{Bad, Note, Ok as Good};

/// Prints a line per check; fails when something needed does not work.
///
/// # Errors
/// When the configuration cannot be read.
pub fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    crate::logging::start(false, "error");
    let config = Config::from_file(args.config.as_deref())?;
    let mut bad = 0;
    let mut show = |what: &str, verdict: Verdict| match verdict {
        Good(detail) => println!("ok    {what:<14} {detail}"),
        Note(detail, remedy) => println!("note  {what:<14} {detail}\n      {:<14} -> {remedy}", ""),
        Bad(detail, remedy) => {
            bad += 1;
            println!("FAIL  {what:<14} {detail}\n      {:<14} -> {remedy}", "");
        }
    };

    show("machine", machine());
    for (what, verdict) in ffmpeg() {
        show(&what, verdict);
    }
    match Assets::find() {
        Ok(assets) => show("assets", Good(assets.root().display().to_string())),
        Err(error) => show("assets", Bad(error.to_string(), "cargo xtask setup".to_owned())),
    }
    for (what, verdict) in inference(&config) {
        show(&what, verdict);
    }
    for (name, verdict) in gpu(&config) {
        show(&name, verdict);
    }
    for (what, verdict) in guests(&config) {
        show(&what, verdict);
    }
    show("kafka", kafka(&config));
    show("port", port(&config));
    show("data folder", data(&config.server.data_dir));
    if bad == 0 {
        println!("everything that is needed works");
        Ok(ExitCode::SUCCESS)
    } else {
        println!("{bad} of the things that are needed do not work");
        Ok(ExitCode::FAILURE)
    }
}

fn machine() -> Verdict {
    let threads = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has = |flag: &str| flags.split_whitespace().any(|f| f == flag);
    let simd: Vec<&str> = ["avx2", "avx512f", "amx_bf16"].into_iter().filter(|f| has(f)).collect();
    Good(format!(
        "{threads} processor threads, {}",
        if simd.is_empty() { "no AVX2".to_owned() } else { simd.join(" ") }
    ))
}

fn ffmpeg() -> Vec<(String, Verdict)> {
    let report = facestream_decode::available();
    let mut lines = vec![("ffmpeg".to_owned(), Good(report.version.clone()))];
    for found in &report.decoders {
        let verdict = match &found.decoder {
            Some(name) => Good(format!("decoder {name}")),
            None => Bad(
                "no decoder".to_owned(),
                "install FFmpeg's full codec libraries (Debian: libavcodec-extra)".to_owned(),
            ),
        };
        lines.push((format!("  {}", found.codec), verdict));
    }
    lines
}

fn inference(config: &Config) -> Vec<(String, Verdict)> {
    let (gpus, _) = facestream_infer::gpus(config.infer.device).unwrap_or_default();
    let data = Some(config.server.data_dir.as_path());
    let models = match parts::models(&config.infer, &config.defaults.model, data, !gpus.is_empty()) {
        Ok(models) => models,
        Err(error) => return vec![("onnxruntime".to_owned(), Bad(error.to_string(), "cargo xtask setup".to_owned()))],
    };
    let mut lines = Vec::new();
    match facestream_infer::available(models.config()) {
        Ok(info) => {
            let providers = info.providers.join(", ");
            lines.push(("onnxruntime".to_owned(), Good(format!("{}; providers: {providers}", info.library.display()))));
            for note in info.notes {
                lines.push((
                    "  provider".to_owned(),
                    Note(note, "set infer.providers to what this machine has".to_owned()),
                ));
            }
        }
        Err(error) => {
            let remedy =
                "cargo xtask setup, or set infer.runtime_library / ORT_DYLIB_PATH to libonnxruntime.so (1.22 or newer)";
            lines.push(("onnxruntime".to_owned(), Bad(error.to_string(), remedy.to_owned())));
            return lines;
        }
    }
    let statuses = models.statuses();
    if statuses.is_empty() {
        lines.push(("models".to_owned(), Bad("none found".to_owned(), "cargo xtask setup".to_owned())));
    }
    if !statuses.iter().any(|m| m.default) {
        let wanted = &config.defaults.model;
        let text = format!("`{wanted}`, the default, is neither a known model nor a file");
        lines.push(("default model".to_owned(), Bad(text, "name one of those below in defaults.model".to_owned())));
    }
    for model in statuses {
        let verdict = match models.engine(Some(&model.name), gpus.first()) {
            Ok(_) => Good(models.describe(&model.name).unwrap_or_default()),
            Err(error) if model.default => Bad(error.to_string(), "name another in defaults.model".to_owned()),
            Err(error) => Note(error.to_string(), format!("remove {}", model.path.display())),
        };
        lines.push((format!("  {}", model.name), verdict));
    }
    lines
}

fn gpu(config: &Config) -> Vec<(String, Verdict)> {
    let found = match facestream_infer::gpus(config.infer.device) {
        Ok((gpus, None)) if gpus.is_empty() => {
            let text = "not used: infer.device = \"cpu\"".to_owned();
            return vec![("gpu".to_owned(), Note(text, "set it to \"auto\" to use what there is".to_owned()))];
        }
        Ok((gpus, None)) => gpus,
        Ok((_, Some(GpuError::NoDriver))) => {
            let text = "no NVIDIA driver; the processor decodes and analyses".to_owned();
            let remedy = "nothing to do, unless this machine should have a GPU".to_owned();
            return vec![("gpu".to_owned(), Note(text, remedy))];
        }
        Ok((_, Some(error))) => {
            let remedy = "until then the processor decodes and analyses".to_owned();
            return vec![("gpu".to_owned(), Note(error.to_string(), remedy))];
        }
        Err(error) => {
            let remedy = format!("change infer.device = \"{}\"", config.infer.device);
            return vec![("gpu".to_owned(), Bad(error.to_string(), remedy))];
        }
    };
    let mut lines = Vec::new();
    for gpu in &found {
        let info = gpu.info();
        let free = gpu.memory().map_or_else(|e| e.to_string(), |m| format!("{} MiB free", m.free >> 20));
        let text = format!(
            "{}, compute {}, driver for CUDA {}, {} MiB, {free}",
            info.name,
            info.capability,
            info.driver,
            info.memory >> 20
        );
        lines.push((format!("cuda:{}", info.ordinal), Good(text)));
    }
    let decoding = if facestream_decode::available().cuda {
        Good("NVDEC through FFmpeg".to_owned())
    } else {
        let remedy = "install an FFmpeg built with NVDEC, or let the processor decode".to_owned();
        Note("this FFmpeg was built without CUDA: the processor decodes".to_owned(), remedy)
    };
    lines.push(("  decoding".to_owned(), decoding));
    let tensorrt = match facestream_infer::tensorrt_version() {
        Ok(version) => Good(format!("TensorRT {version}")),
        Err(why) => Note(why, "without it models run on ONNX Runtime's CUDA kernels, or on the processor".to_owned()),
    };
    lines.push(("  tensorrt".to_owned(), tensorrt));
    lines
}

fn guests(config: &Config) -> Vec<(String, Verdict)> {
    let store =
        match parts::guest_store(&config.guests, Some(&config.server.data_dir).filter(|d| d.is_dir()).map(|p| &**p)) {
            Ok((store, _)) => store,
            Err(error) => {
                return vec![("guests".to_owned(), Bad(format!("{error:#}"), "cargo xtask guests".to_owned()))];
            }
        };
    let list = store.list();
    let mut lines = Vec::new();
    for kind in SlotKind::ALL {
        let wanted = config.defaults.guests.slot(kind);
        let verdict = match store.load(&wanted.guest) {
            Ok(_) => Good(format!("{} (default {kind})", wanted.guest)),
            Err(error) => Bad(error.to_string(), "cargo xtask guests, or name another in defaults.guests".to_owned()),
        };
        lines.push((format!("  {kind}"), verdict));
    }
    let names: Vec<&str> = list.iter().map(|g| g.name.as_str()).collect();
    let wit = format!("{} (WIT {WIT_VERSIONS})", names.join(", "));
    lines.insert(0, ("guests".to_owned(), Good(wit)));
    lines
}

fn kafka(config: &Config) -> Verdict {
    let Some(kafka) = &config.sinks.kafka else {
        return Note(
            "not configured; messages go to files".to_owned(),
            "set sinks.kafka.brokers (or FACESTREAM_SINKS_KAFKA_BROKERS)".to_owned(),
        );
    };
    match facestream_sink::reach(kafka, std::time::Duration::from_secs(5)) {
        Ok(found) => Good(found),
        Err(reason) => Bad(
            reason,
            "check sinks.kafka.brokers and that this machine may reach them; the service starts without and delivers later".to_owned(),
        ),
    }
}

fn port(config: &Config) -> Verdict {
    let listen = config.server.listen;
    match TcpListener::bind(listen) {
        Ok(_) => Good(format!("{listen} is free")),
        Err(error) => Note(
            format!("{listen}: {error}"),
            "stop what uses it (a running facestream?), or choose another with --listen".to_owned(),
        ),
    }
}

fn data(path: &Path) -> Verdict {
    const REMEDY: &str = "choose another with --data or server.data_dir";
    // As `serve` looks at it, which closes what it may; here nothing is changed.
    if path.exists()
        && let Err(error) = crate::serve::to_be_closed(path)
    {
        return Bad(format!("{error:#}"), REMEDY.to_owned());
    }
    let there = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("."));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    match tempfile::Builder::new().prefix(".facestream-doctor").tempfile_in(there) {
        Ok(_) => Good(format!("{} can be written", path.display())),
        Err(error) => Bad(format!("{}: {error}", path.display()), REMEDY.to_owned()),
    }
}
