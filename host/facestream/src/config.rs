//! The configuration of the whole host: one strict TOML file, environment overrides, every problem reported at once.
//!
//! Owns the list of sections and how a file becomes a [`Config`]. What a section holds, its defaults and its checks are
//! the business of the crate it belongs to. Must not start anything.
//!
//! Every key can be overridden by the environment: `FACESTREAM_` and its path in capitals, dots as underscores, so
//! `FACESTREAM_INGEST_WATCHDOG_MS=5000` is `[ingest] watchdog_ms = 5000`. Text is taken as it is, everything else is
//! written as in TOML; lists of texts may also be separated by commas. A variable that was probably meant for a key and
//! names none is a problem, as an unknown key is.

mod errors;
mod load;
mod schema;
#[cfg(test)]
mod tests;
mod tree;

use std::path::Path;

use facestream_api::ServerConfig;
use facestream_core::guest::{GuestsSpec, SlotKind, SlotSpec};
use facestream_decode::DecodeConfig;
use facestream_guest_host::config::GuestConfig;
use facestream_infer::InferConfig;
use facestream_ingest::IngestConfig;
use facestream_pipeline::{AdmissionConfig, PipelineConfig};
use facestream_registry::RegistriesConfig;
use facestream_sink::SinkConfig;
use serde::{Deserialize, Deserializer};

pub use errors::{ConfigErrors, ConfigProblem, Source};
pub(crate) use tree::near;

/// Settings of the host. The default works with no file at all.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// REST and dashboard: where, and who may use them.
    pub server: ServerConfig,
    /// How cameras are reached, watched and retried.
    pub ingest: IngestConfig,
    /// Decoding.
    pub decode: DecodeConfig,
    /// Inference.
    pub infer: InferConfig,
    /// The stages between decoding and sinks.
    pub pipeline: PipelineConfig,
    /// How many cameras a GPU takes.
    pub admission: AdmissionConfig,
    /// What guests may use.
    pub guests: GuestConfig,
    /// From where guests may be pulled.
    pub registries: RegistriesConfig,
    /// Where messages go.
    pub sinks: SinkConfig,
    /// What a camera gets that its start request does not say.
    pub defaults: DefaultsConfig,
    /// Log lines.
    pub log: LogConfig,
}

/// `[defaults]`: what a camera gets that its start request does not say.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DefaultsConfig {
    /// Name of the model, or path of an ONNX file.
    pub model: String,
    /// Frames a second to analyse; without it all.
    pub detect_fps: Option<f32>,
    /// What fills the slots.
    #[serde(deserialize_with = "guests")]
    pub guests: GuestsSpec,
}

impl Default for DefaultsConfig {
    fn default() -> Self {
        Self { model: "yunet".to_owned(), detect_fps: None, guests: GuestsSpec::default() }
    }
}

impl DefaultsConfig {
    /// Every problem, each beginning with the key it is about.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.model.trim().is_empty() {
            problems.push("model must name a model, such as `yunet`".to_owned());
        }
        // Written so that NaN fails too.
        if self.detect_fps.is_some_and(|fps| !(fps > 0.0 && fps <= 1000.0)) {
            problems
                .push("detect_fps must be above 0 and at most 1000; leave it out to analyse every frame".to_owned());
        }
        for kind in SlotKind::ALL {
            let slot = self.guests.slot(kind);
            if slot.guest.trim().is_empty() {
                problems.push(format!("guests.{kind}.guest must name a guest, such as `{}`", kind.default_guest()));
            }
            if !slot.config.is_object() {
                problems.push(format!("guests.{kind}.config must be a table"));
            }
        }
        problems
    }
}

/// Reads `[defaults.guests]`, where a slot or its guest may be left out.
fn guests<'de, D: Deserializer<'de>>(deserializer: D) -> Result<GuestsSpec, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Slot {
        guest: Option<String>,
        config: Option<serde_json::Value>,
    }
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Slots {
        tracker: Slot,
        scorer: Slot,
        formatter: Slot,
    }
    let Slots { tracker, scorer, formatter } = Slots::deserialize(deserializer)?;
    let fill = |kind: SlotKind, slot: Slot| {
        let mut spec = SlotSpec::named(slot.guest.as_deref().unwrap_or(kind.default_guest()));
        if let Some(config) = slot.config {
            spec.config = config;
        }
        spec
    };
    Ok(GuestsSpec {
        tracker: fill(SlotKind::Tracker, tracker),
        scorer: fill(SlotKind::Scorer, scorer),
        formatter: fill(SlotKind::Formatter, formatter),
    })
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[log]`: log lines, on standard error.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `text` or `json`.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace` or `off`, or directives such as `info,facestream_ingest=debug`, in which a
    /// target always has its level. `RUST_LOG` wins.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

impl LogConfig {
    /// Whether lines are JSON.
    #[must_use]
    pub fn json(&self) -> bool {
        self.format == LogFormat::Json
    }

    /// Every problem, each beginning with the key it is about.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        match tracing_subscriber::EnvFilter::try_new(&self.level) {
            Ok(_) if self.level.trim().is_empty() => vec!["level must not be empty; `info` is usual".to_owned()],
            Ok(_) => self.no_level().into_iter().collect(),
            Err(error) => vec![format!("level = \"{}\" cannot be read: {error}", self.level)],
        }
    }

    /// A bare word that is no level stands for a target of that name, so `loud` would silence everything else. A target
    /// is therefore only taken with its level.
    fn no_level(&self) -> Option<String> {
        const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
        let level = |word: &&str| word.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
        // Not trimmed: the filter itself takes ` warn` for a target, too.
        let word = self.level.split(',').find(|word| !word.contains(['=', '[']) && !level(word))?;
        let lower = word.to_ascii_lowercase();
        let meant = near(&lower, LEVELS.into_iter())
            .or_else(|| LEVELS.into_iter().find(|known| lower.starts_with(known) || known.starts_with(&lower)));
        let hint = meant.map_or_else(
            || format!("known are {}; of a target write `{word}=debug`", LEVELS.join(", ")),
            |meant| format!("did you mean `{meant}`?"),
        );
        Some(format!("level = \"{}\": `{word}` is no level; {hint}", self.level))
    }
}

impl Config {
    /// Reads a file, puts the environment over it, and checks everything. Without a file: the defaults and the environment.
    ///
    /// # Errors
    /// With every problem: what cannot be read, unknown keys, wrong types, values that make no sense, each with its line.
    pub fn load(path: Option<&Path>, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        // Whoever gives the values need not know the names; one of the process that has no value there is not asked for.
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        let names: Vec<String> = names.filter(|name| name.starts_with("FACESTREAM_") && env(name).is_some()).collect();
        load::load(path, env, &names)
    }

    /// [`Config::load`] with the process's own environment.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_file(path: Option<&Path>) -> Result<Self, ConfigErrors> {
        Self::load(path, &|name| std::env::var(name).ok())
    }

    /// The names of all environment variables that override a key, in order of the sections.
    #[must_use]
    pub fn environment_names() -> Vec<String> {
        schema::of_config().leaves().iter().map(|leaf| schema::environment_name(&leaf.path)).collect()
    }

    /// Every problem of every section: (section, problem).
    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut section =
            |name: &'static str, found: Vec<String>| problems.extend(found.into_iter().map(|p| (name, p)));
        section("server", self.server.validate());
        section("ingest", self.ingest.validate());
        section("decode", self.decode.validate());
        section("infer", self.infer.validate());
        section("pipeline", self.pipeline.validate());
        section("admission", self.admission.validate());
        section("guests", self.guests.validate());
        section("registries", self.registries.validate());
        section("sinks", self.sinks.validate());
        section("defaults", self.defaults.validate());
        section("log", self.log.validate());
        problems
    }
}
