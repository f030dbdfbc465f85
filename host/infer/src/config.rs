//! Settings of inference.
//!
//! Owns names, defaults and their validation. Must not touch ONNX Runtime.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::geometry::STRIDE;

/// Settings of one model's sessions and of the batcher in front of them. The default works with no file at all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InferConfig {
    /// ONNX Runtime's shared library. Without it: the environment variable `ORT_DYLIB_PATH`, then the system's loader.
    pub runtime_library: Option<PathBuf>,
    /// Processor threads of inference; 0: one per core. On a CPU they become as many sessions of `threads_per_session`.
    pub threads: usize,
    /// Threads inside one session. 1 is the fastest in sum (measured: two sessions of one thread 467 frames/s, one
    /// session of two 374); more shortens the time of a single frame.
    pub threads_per_session: usize,
    /// Frames of different cameras in one run; 0: 1 on processors, where batching does not pay, and 32 on GPUs (16 with `cuda`).
    pub max_batch: usize,
    /// How long a frame waits for others to fill its batch, milliseconds. Without meaning while `max_batch` is 1; while
    /// it is 0, nothing waits: a session that is idle takes what is there, so that batches grow with the load.
    pub max_wait_ms: u64,
    /// Frames of a live camera that may wait for inference; when there is one more, the oldest goes (counted
    /// `superseded`). 1 gives the shortest delay, more gets over a moment in which the machine stalls.
    pub live_queue: usize,
    /// Detections below this score are not reported at all, in (0, 1). Low on purpose: trackers use weak boxes too.
    pub score_threshold: f32,
    /// Of two boxes that overlap more than this, the weaker one goes, in (0, 1]. Without it: what the family's
    /// reference implementation uses (YuNet and CenterFace 0.3, YOLO 0.7).
    pub nms_iou: Option<f32>,
    /// At most so many detections a frame, the best ones.
    pub max_detections: usize,
    /// Class indices to report; without it all. Face models have class 0 only.
    pub class_filter: Option<Vec<u32>>,
    /// Size of the picture that the model sees.
    pub input_size: InputSize,
    /// Where models run and video is decoded: `auto` (every GPU there is, else the processor), `cpu`, or `cuda:N`.
    pub device: Device,
    /// Execution providers in order of preference: `tensorrt`, `cuda`, `openvino`, `cpu`. One that cannot work here is
    /// named with its reason in the model's description and in the log, and the next one is taken; `cpu` always works.
    /// `tensorrt` and `cuda` are only tried where `device` gives a GPU.
    pub providers: Vec<Provider>,
    /// Sessions of a model on each GPU: two overlap copying, waiting and computing.
    pub gpu_sessions: usize,
    /// Capture a model's run of `max_batch` pictures on a GPU once and replay it for batches that fill at least three quarters
    /// of it (TensorRT). Saves the launching of kernels, which is what a GPU near its limit waits for; takes a second copy of
    /// the model in device memory for each session, and of an ONNX file a second engine, built for exactly that size.
    pub cuda_graphs: bool,
    /// How hard TensorRT looks for fast kernels when it builds an engine, 0 to 5 (its builder optimisation level). More takes
    /// longer, once: YOLOv12n 8 minutes at 3, 15 at 5.
    pub engine_level: u8,
    /// End the service, in order and with an error, when a GPU is lost. No process gets a lost GPU back, so whoever
    /// supervises this one (systemd, Kubernetes) starts it anew, and its cameras come back. Without: the host stays, says so
    /// under `/readyz`, and its cameras go on without faces.
    pub exit_on_lost_gpu: bool,
    /// Where TensorRT keeps the engines that it builds from ONNX files (minutes each, once). Without it: `cache/engines`
    /// under the data folder, or the user's cache folder.
    pub engine_cache: Option<PathBuf>,
    /// OpenVINO's plugin library (`libonnxruntime_providers_openvino_plugin.so` of `onnxruntime-ep-openvino`).
    pub openvino_library: Option<PathBuf>,
}

/// Size of the picture that the model sees. Models with a fixed input keep theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    untagged,
    expecting = "is no size; write { long_side = 640 } or { width = 640, height = 384 }"
)]
pub enum InputSize {
    /// Follows the source's aspect: `{ long_side = 640 }`. Both sides become multiples of 32.
    Auto {
        /// Pixels of the longer side, a multiple of 32.
        long_side: u32,
    },
    /// The same for every source: `{ width = 640, height = 384 }`.
    Fixed {
        /// Pixels, a multiple of 32.
        width: u32,
        /// Pixels, a multiple of 32.
        height: u32,
    },
}

/// Where models run and video is decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Device {
    /// Every GPU there is, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// One GPU, by its number.
    Cuda(usize),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|n| n.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| format!("`{text}` is no device; it is `auto`, `cpu`, or `cuda:0`, `cuda:1`, …")),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

/// An execution provider of ONNX Runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// ONNX Runtime's own kernels.
    Cpu,
    /// OpenVINO as a plugin, in bf16. Pays only on processors with `amx_bf16`, so it is used only there.
    OpenVino,
    /// TensorRT on an NVIDIA GPU, in fp16.
    TensorRt,
    /// ONNX Runtime's own CUDA kernels on an NVIDIA GPU.
    Cuda,
}

impl Provider {
    /// The name used in configuration and status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::OpenVino => "openvino",
            Self::TensorRt => "tensorrt",
            Self::Cuda => "cuda",
        }
    }
}

/// Pictures in one run on a GPU: larger batches gain little (YOLOv12n on an H200: 4,893 images a second at 16, 5,732 at 32).
pub(crate) const GPU_BATCH: usize = 32;

/// The same for ONNX Runtime's own CUDA kernels, which run every batch at this size whatever is in it: a smaller one wastes
/// less where few cameras are, and gives away a tenth where many are (YuNet on an H100: 4,821 images a second, 5,461 at 32).
pub(crate) const CUDA_BATCH: usize = 16;

/// A side longer than this is a slip of the keyboard: one input tensor would exceed 800 MB.
const MAX_SIDE: u32 = 8192;

impl Default for InferConfig {
    fn default() -> Self {
        Self {
            runtime_library: None,
            threads: 0,
            threads_per_session: 1,
            max_batch: 0,
            max_wait_ms: 10,
            live_queue: 1,
            score_threshold: 0.3,
            nms_iou: None,
            max_detections: 1000,
            class_filter: None,
            input_size: InputSize::default(),
            device: Device::Auto,
            providers: vec![Provider::TensorRt, Provider::Cuda, Provider::Cpu],
            gpu_sessions: 2,
            cuda_graphs: false,
            engine_level: 3,
            exit_on_lost_gpu: false,
            engine_cache: None,
            openvino_library: None,
        }
    }
}

impl Default for InputSize {
    fn default() -> Self {
        Self::Auto { long_side: 640 }
    }
}

impl InferConfig {
    /// Every problem of these settings, in words; empty when there is none.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |ok: bool, problem: String| {
            if !ok {
                problems.push(problem);
            }
        };
        check(self.threads <= 1024, format!("threads = {} is more than 1024", self.threads));
        check(
            (1..=256).contains(&self.threads_per_session),
            format!("threads_per_session = {} is not in 1..=256", self.threads_per_session),
        );
        check(self.max_batch <= 256, format!("max_batch = {} is not in 0..=256", self.max_batch));
        check((1..=64).contains(&self.live_queue), format!("live_queue = {} is not in 1..=64", self.live_queue));
        check((1..=16).contains(&self.gpu_sessions), format!("gpu_sessions = {} is not in 1..=16", self.gpu_sessions));
        check(self.engine_level <= 5, format!("engine_level = {} is not in 0..=5", self.engine_level));
        check(self.max_wait_ms <= 10_000, format!("max_wait_ms = {} is more than 10000", self.max_wait_ms));
        // Written so that NaN fails too.
        check(
            self.score_threshold > 0.0 && self.score_threshold < 1.0,
            format!("score_threshold = {} is not between 0 and 1", self.score_threshold),
        );
        check(
            self.nms_iou.is_none_or(|iou| iou > 0.0 && iou <= 1.0),
            format!("nms_iou = {} is not above 0 and at most 1", self.nms_iou.unwrap_or_default()),
        );
        check(
            (1..=10_000).contains(&self.max_detections),
            format!("max_detections = {} is not in 1..=10000", self.max_detections),
        );
        check(
            self.class_filter.as_ref().is_none_or(|c| !c.is_empty()),
            "class_filter = [] would report nothing; leave it out to report every class".to_owned(),
        );
        let sides = match self.input_size {
            InputSize::Auto { long_side } => [("input_size.long_side", long_side); 2],
            InputSize::Fixed { width, height } => [("input_size.width", width), ("input_size.height", height)],
        };
        for (name, side) in &sides[..if sides[0] == sides[1] { 1 } else { 2 }] {
            check(
                (STRIDE..=MAX_SIDE).contains(side) && side % STRIDE == 0,
                format!("{name} = {side} is not a multiple of {STRIDE} from {STRIDE} to {MAX_SIDE}"),
            );
        }
        check(!self.providers.is_empty(), "providers = [] leaves nothing to run on; use [\"cpu\"]".to_owned());
        problems
    }

    /// Sessions, and so worker threads, of one engine: at least one.
    #[must_use]
    pub fn sessions(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = if self.threads == 0 { cores() } else { self.threads };
        (threads / self.threads_per_session.max(1)).max(1)
    }

    /// Threads inside each session, never more than `threads` in all.
    #[must_use]
    pub fn intra_threads(&self) -> usize {
        if self.threads == 0 { self.threads_per_session } else { self.threads_per_session.min(self.threads) }.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_survives_toml() {
        let config = InferConfig::default();
        assert_eq!(config.validate(), Vec::<String>::new());
        assert_eq!(toml::from_str::<InferConfig>("").unwrap(), config);
        assert_eq!(toml::from_str::<InferConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
        let fixed: InferConfig =
            toml::from_str("input_size = { width = 640, height = 384 }\nproviders = [\"openvino\", \"cpu\"]").unwrap();
        assert_eq!(fixed.input_size, InputSize::Fixed { width: 640, height: 384 });
        assert_eq!(fixed.providers, [Provider::OpenVino, Provider::Cpu]);
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let bad = InferConfig {
            threads: 2000,
            threads_per_session: 0,
            max_batch: 1000,
            max_wait_ms: 60_000,
            live_queue: 0,
            gpu_sessions: 0,
            engine_level: 6,
            score_threshold: f32::NAN,
            nms_iou: Some(0.0),
            max_detections: 0,
            class_filter: Some(vec![]),
            input_size: InputSize::Fixed { width: 100, height: 0 },
            providers: vec![],
            ..InferConfig::default()
        };
        let problems = bad.validate();
        for key in [
            "threads =",
            "threads_per_session",
            "max_batch",
            "max_wait_ms",
            "live_queue",
            "gpu_sessions",
            "engine_level",
            "score_threshold",
            "nms_iou",
            "max_detections",
            "class_filter",
            "width",
            "height",
            "providers",
        ] {
            assert!(problems.iter().any(|p| p.contains(key)), "{key} is missing in {problems:?}");
        }
        assert_eq!(problems.len(), 14);
    }

    #[test]
    fn devices_are_written_as_they_are_read() {
        for text in ["auto", "cpu", "cuda:0", "cuda:7"] {
            assert_eq!(text.parse::<Device>().unwrap().to_string(), text);
        }
        for text in ["gpu", "cuda", "cuda:", "cuda:-1", "CUDA:0", ""] {
            assert!(text.parse::<Device>().unwrap_err().contains("cuda:0"), "{text}");
        }
        let error = toml::from_str::<InferConfig>("device = \"gpu\"").unwrap_err().to_string();
        assert!(error.contains("`gpu` is no device"), "{error}");
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(toml::from_str::<InferConfig>("max_bach = 3").unwrap_err().to_string().contains("max_bach"));
        for wrong in ["{ long_side = 640, x = 1 }", "3", "\"640x384\"", "{ width = 640 }"] {
            let error = toml::from_str::<InferConfig>(&format!("input_size = {wrong}")).unwrap_err().to_string();
            assert!(error.contains("write { long_side = 640 } or { width = 640, height = 384 }"), "{wrong}: {error}");
        }
    }

    #[test]
    fn threads_become_sessions() {
        let of = |threads, per| {
            let c = InferConfig { threads, threads_per_session: per, ..InferConfig::default() };
            (c.sessions(), c.intra_threads())
        };
        assert_eq!(of(4, 1), (4, 1));
        assert_eq!(of(4, 2), (2, 2));
        assert_eq!(of(1, 4), (1, 1));
        assert!(of(0, 1).0 >= 1);
    }
}
