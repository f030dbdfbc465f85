//! What is wrong with a configuration: all of it, each with its place.
//!
//! Must not repeat values that may be secret.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A line of the file, from 1.
    Line(usize),
    /// A variable of the environment.
    Environment(String),
    /// An option of the command line, which goes the way of a variable.
    Option(&'static str),
    /// Neither: a default, or the file as a whole.
    Nowhere,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Where.
    pub source: Source,
    /// The key in full, such as `ingest.watchdog_ms`; empty when it is about no single key.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Everything that is wrong with a configuration, in order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file, when there is one.
    pub file: Option<PathBuf>,
    /// At least one.
    pub problems: Vec<ConfigProblem>,
}

impl ConfigErrors {
    /// The same, where the value of a variable came from an option of the command line.
    #[must_use]
    pub fn told_by(mut self, option: &'static str, variable: &str) -> Self {
        for problem in &mut self.problems {
            if problem.source == Source::Environment(variable.to_owned()) {
                problem.source = Source::Option(option);
            }
        }
        self
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.problems.len() == 1 { "problem" } else { "problems" };
        write!(f, "the configuration has {} {what}:", self.problems.len())?;
        for problem in &self.problems {
            f.write_str("\n  ")?;
            match (&problem.source, &self.file) {
                (Source::Line(line), Some(file)) => write!(f, "{}:{line}: ", file.display())?,
                (Source::Line(line), None) => write!(f, "line {line}: ")?,
                (Source::Environment(name), _) => write!(f, "environment variable {name}: ")?,
                (Source::Option(name), _) => write!(f, "option {name}: ")?,
                (Source::Nowhere, Some(file)) => write!(f, "{}: ", file.display())?,
                (Source::Nowhere, None) => {}
            }
            if !problem.key.is_empty() {
                write!(f, "{}: ", problem.key)?;
            }
            f.write_str(&problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
