//! Settings of inference.
//!
//! Owns names, defaults and their validation. Must not touch ONNX Runtime.

use std::path::PathBuf;

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
    /// Frames of different cameras in one run. 1 on CPUs, where batching does not pay; 8 is a good start on GPUs.
    pub max_batch: usize,
    /// How long a frame waits for others to fill its batch, milliseconds. Without meaning while `max_batch` is 1.
    pub max_wait_ms: u64,
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
    /// Execution providers in order of preference: `cpu`, `openvino`. One that cannot work here is named with its
    /// reason in the model's description and in the log, and the next one is taken; `cpu` always works.
    pub providers: Vec<Provider>,
    /// OpenVINO's plugin library (`libonnxruntime_providers_openvino_plugin.so` of `onnxruntime-ep-openvino`).
    pub openvino_library: Option<PathBuf>,
}

/// Size of the picture that the model sees. Models with a fixed input keep theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, untagged)]
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

/// An execution provider of ONNX Runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// ONNX Runtime's own kernels.
    Cpu,
    /// OpenVINO as a plugin, in bf16. Pays only on processors with `amx_bf16`, so it is used only there.
    OpenVino,
}

impl Provider {
    /// The name used in configuration and status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::OpenVino => "openvino",
        }
    }
}

/// A side longer than this is a slip of the keyboard: one input tensor would exceed 800 MB.
const MAX_SIDE: u32 = 8192;

impl Default for InferConfig {
    fn default() -> Self {
        Self {
            runtime_library: None,
            threads: 0,
            threads_per_session: 1,
            max_batch: 1,
            max_wait_ms: 10,
            score_threshold: 0.3,
            nms_iou: None,
            max_detections: 1000,
            class_filter: None,
            input_size: InputSize::default(),
            providers: vec![Provider::Cpu],
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
        check((1..=256).contains(&self.max_batch), format!("max_batch = {} is not in 1..=256", self.max_batch));
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
            max_batch: 0,
            max_wait_ms: 60_000,
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
        assert_eq!(problems.len(), 11);
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(toml::from_str::<InferConfig>("max_bach = 3").unwrap_err().to_string().contains("max_bach"));
        assert!(toml::from_str::<InferConfig>("input_size = { long_side = 640, x = 1 }").is_err());
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
