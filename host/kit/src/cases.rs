//! The named cases, and how one is run.
//!
//! Owns the list and the order. Each case stands in the file of its world; `common` has what all worlds must hold.

mod common;
mod formatter;
mod scorer;
mod state;
mod tracker;

use std::time::Instant;

use facestream_core::guest::SlotKind;
use facestream_guest_host::GuestFailure;

use crate::kit::{Kit, Played};
use crate::report::{CaseResult, Status};

/// One case: what is tried, and why.
#[derive(Clone, Copy)]
pub struct Case {
    /// Name, of `a-z0-9-`.
    pub name: &'static str,
    /// Why there is such a case, in a sentence.
    pub reason: &'static str,
    run: fn(&Kit, &Case) -> Outcome,
    /// A scene that it plays, for cases that only differ in that.
    scene: &'static str,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// What came of it, when it did not fail.
pub(crate) enum Verdict {
    /// As it must be; what was seen, may be empty.
    Pass(String),
    /// Allowed, but worth knowing.
    Advice(String),
    /// Could not be tried.
    Skipped(String),
}

/// What was wrong.
#[derive(Debug)]
pub(crate) struct Failure {
    seen: String,
    scene: Option<&'static str>,
    frame: Option<usize>,
}

pub(crate) type Outcome = Result<Verdict, Failure>;

impl Failure {
    pub(crate) fn new(seen: impl Into<String>) -> Self {
        Self { seen: seen.into(), scene: None, frame: None }
    }

    pub(crate) fn at(scene: &'static str, frame: usize, seen: impl Into<String>) -> Self {
        Self { seen: seen.into(), scene: Some(scene), frame: Some(frame) }
    }

    fn of(scene: &'static str, (failure, frame): &(GuestFailure, usize)) -> Self {
        Self::at(scene, *frame, failure.to_string())
    }
}

/// An uneventful pass.
pub(crate) fn pass() -> Outcome {
    Ok(Verdict::Pass(String::new()))
}

const fn case(name: &'static str, run: fn(&Kit, &Case) -> Outcome, scene: &'static str, reason: &'static str) -> Case {
    Case { name, reason, run, scene }
}

/// The cases of a world, in the order in which they are run.
#[must_use]
pub fn cases(world: SlotKind) -> Vec<Case> {
    let own = match world {
        SlotKind::Tracker => tracker::CASES,
        SlotKind::Scorer => scorer::CASES,
        SlotKind::Formatter => formatter::CASES,
    };
    let mut all = common::FIRST.to_vec();
    all.extend_from_slice(own);
    all.extend_from_slice(common::SCENES);
    all.extend_from_slice(state::CASES);
    all.extend_from_slice(common::COSTS);
    all
}

impl Kit {
    /// Runs one case.
    #[must_use]
    pub fn run(&self, case: &Case) -> CaseResult {
        let began = Instant::now();
        let outcome = (case.run)(self, case);
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (status, seen, scene, frame) = match outcome {
            Ok(Verdict::Pass(seen)) => (Status::Pass, seen, None, None),
            Ok(Verdict::Advice(seen)) => (Status::Advice, seen, None, None),
            Ok(Verdict::Skipped(why)) => (Status::Skipped, why, None, None),
            Err(Failure { seen, scene, frame }) => (Status::Fail, seen, scene, frame),
        };
        CaseResult {
            name: case.name.to_owned(),
            reason: case.reason.to_owned(),
            status,
            seen: shortened(seen),
            scene: scene.map(str::to_owned),
            frame,
            reproduce: (status != Status::Pass).then(|| self.again(case.name)),
            duration_ms,
        }
    }

    /// The result of a case that was not tried because the guest does not even start.
    #[must_use]
    pub fn not_run(&self, case: &Case, why: &str) -> CaseResult {
        CaseResult {
            name: case.name.to_owned(),
            reason: case.reason.to_owned(),
            status: Status::Skipped,
            seen: why.to_owned(),
            scene: None,
            frame: None,
            reproduce: None,
            duration_ms: 0,
        }
    }

    /// The command that runs one case again.
    pub(crate) fn again(&self, case: &str) -> String {
        let option = |name: &str, value: &serde_json::Value| {
            if value.as_object().is_some_and(serde_json::Map::is_empty) {
                return String::new();
            }
            // In single quotes of a shell; a quote inside ends them, stands escaped, and begins them anew.
            format!(" --{name} '{}'", value.to_string().replace('\'', r"'\''"))
        };
        let (config, limits) = (option("config", &self.config), option("limits", &self.other_limits()));
        format!("facestream guest test {}{config}{limits} --filter {case}", self.reference)
    }
}

/// Backtraces of traps are long; the first lines say where.
fn shortened(text: String) -> String {
    const LINES: usize = 12;
    if text.lines().count() <= LINES {
        return text;
    }
    let mut short: Vec<&str> = text.lines().take(LINES).collect();
    short.push("…");
    short.join("\n")
}

/// The play of a scene, which must not fail.
pub(crate) fn sound(kit: &Kit, scene: &'static str) -> Result<std::rc::Rc<Played>, Failure> {
    let played = kit.played(scene);
    match &played.failure {
        Some(failure) => Err(Failure::of(scene, failure)),
        None => Ok(played),
    }
}

/// A rule over time, in every scene.
pub(crate) fn rule(kit: &Kit, case: &Case) -> Outcome {
    for (scene, _) in crate::scenes::ALL {
        let played = kit.played(scene);
        if let Some(broken) = played.broken.iter().find(|b| b.rule == case.name) {
            return Err(Failure::at(scene, broken.frame, broken.seen.clone()));
        }
    }
    Ok(Verdict::Pass(format!("held in {} scenes", crate::scenes::ALL.len())))
}
