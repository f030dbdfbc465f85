//! Settings of a guest: a JSON object from the camera's configuration to a serde struct, with errors that say what to do.
//!
//! Owns parsing and the wording of errors. Must not know any guest's keys.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::types::GuestError;

/// A guest's settings. Derive `Deserialize` and put `#[serde(deny_unknown_fields, default)]` on the struct, so that a
/// misspelt key is an error and a missing one has a default.
pub trait Settings: DeserializeOwned {
    /// Everything that is wrong with the values, in words; empty when all is well.
    fn validate(&self) -> Vec<String> {
        Vec::new()
    }
}

/// For guests without settings: any key is an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

impl Settings for NoConfig {}

/// Parses and validates settings; empty text counts as an empty object.
///
/// # Errors
/// `invalid-config` with the key, the place, the near name of a misspelt key, or every problem that `validate` found.
pub fn parse<T: Settings>(json: &str) -> Result<T, GuestError> {
    let text = if json.trim().is_empty() { "{}" } else { json };
    // A list would fill a struct's fields in their order: never what was meant.
    if !text.trim_start().starts_with('{') {
        return Err(GuestError::InvalidConfig("settings are a JSON object, e.g. {\"key\": 1}".to_owned()));
    }
    let settings: T =
        serde_json::from_str(text).map_err(|error| GuestError::InvalidConfig(explain(&error.to_string())))?;
    let problems = settings.validate();
    if problems.is_empty() { Ok(settings) } else { Err(GuestError::InvalidConfig(problems.join("; "))) }
}

/// Adds the near name to serde's "unknown field" message, which lists the known ones in backticks.
fn explain(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((unknown, known)) if message.starts_with("unknown field") => {
            let near = known
                .iter()
                .map(|name| (strsim::damerau_levenshtein(unknown, name), *name))
                .min_by_key(|(distance, _)| *distance)
                .filter(|(distance, name)| *distance <= 3.max(name.len() / 3));
            match near {
                Some((_, name)) => format!("unknown setting `{unknown}`; did you mean `{name}`? ({message})"),
                None => format!("unknown setting `{unknown}` ({message})"),
            }
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Example {
        track_high_thresh: f32,
        track_buffer_ms: u64,
    }

    impl Default for Example {
        fn default() -> Self {
            Self { track_high_thresh: 0.7, track_buffer_ms: 2000 }
        }
    }

    impl Settings for Example {
        fn validate(&self) -> Vec<String> {
            let mut out = Vec::new();
            if !(0.0..=1.0).contains(&self.track_high_thresh) {
                out.push("track_high_thresh must be between 0 and 1".to_owned());
            }
            if self.track_buffer_ms == 0 {
                out.push("track_buffer_ms must be above 0".to_owned());
            }
            out
        }
    }

    fn error(json: &str) -> String {
        parse::<Example>(json).unwrap_err().message().to_owned()
    }

    #[test]
    fn nothing_means_defaults() {
        for json in ["", "{}", "  "] {
            assert_eq!(parse::<Example>(json).unwrap().track_buffer_ms, 2000);
        }
    }

    #[test]
    fn a_misspelt_key_names_the_near_one() {
        assert!(error(r#"{"track_hihg_thresh":0.5}"#).contains("did you mean `track_high_thresh`?"));
        assert!(!error(r#"{"zebra":1}"#).contains("did you mean"));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let text = error(r#"{"track_high_thresh":7,"track_buffer_ms":0}"#);
        assert!(text.contains("track_high_thresh") && text.contains("track_buffer_ms"), "{text}");
    }

    #[test]
    fn a_wrong_type_says_where() {
        assert!(error(r#"{"track_buffer_ms":"long"}"#).contains("line 1 column"));
    }

    #[test]
    fn no_config_takes_no_key() {
        assert!(parse::<NoConfig>("{}").is_ok());
        assert!(parse::<NoConfig>(r#"{"a":1}"#).is_err());
    }
}
