//! A recording run again in the real sandbox: no camera, no model, no pictures.
//!
//! The recorded guest must give the recorded answers bit for bit; what it gave only because it had a picture that is not
//! in the recording is compared as far as it can be, and counted. Another guest is compared instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use facestream_core::guest::SlotKind;
use facestream_core::{CameraId, FrameInfo, Picture, Track};
use serde::Serialize;
use serde_json::Value;

use super::bundle::{Bundle, BundleError, Manifest};
use super::call::{Answer, Call, PictureRecord, RecordedCall, ShotRecord, StateRecord};
use super::compare::{Comparison, ComparisonReport, Verdict, same};
use super::kept::Kept;
use super::ring::Start;
use super::runner::{Pictures, Runner, handed};
use super::tape::{ReplayPicture, Replaying, Tape};
use crate::carry::{NEUTRAL, NONE, PRIVATE};
use crate::component::GuestComponent;
use crate::config::GuestLimits;
use crate::error::{GuestFailure, Refusal};
use crate::instance::GuestEnv;

/// Longest words about one answer.
const MAX_TEXT: usize = 400;

/// What to replay with.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    /// Settings other than the recorded ones.
    pub config: Option<Value>,
    /// Limits other than the recorded ones.
    pub limits: Option<GuestLimits>,
    /// Name under which the log lines of the replayed guest appear; by default the recorded guest's.
    pub name: Option<String>,
}

/// Why nothing was replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The recording.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The component is for another slot.
    #[error("the recording is of a {wanted}, the component is a {found}")]
    WrongSlot {
        /// Of the recording.
        wanted: SlotKind,
        /// Of the component.
        found: SlotKind,
    },
    /// The guest does not start.
    #[error("the guest did not start: {0}")]
    Start(GuestFailure),
}

/// Two answers that are not the same.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Number of the call, from 0.
    pub call: u64,
    /// Which function.
    pub function: &'static str,
    /// Session of its frame, when it has one.
    pub session: Option<u64>,
    /// Sequence of its frame.
    pub sequence: Option<u64>,
    /// What was recorded.
    pub recorded: String,
    /// What came now.
    pub replayed: String,
}

/// A failure of the replayed guest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FailureReport {
    /// Number of the call, from 0.
    pub call: u64,
    /// `trap`, `deadline`, ….
    pub kind: String,
    /// In words, with its backtrace.
    pub text: String,
    /// The recording has a failure of that kind in that place.
    pub reproduced: bool,
}

/// How a replay went.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplayReport {
    /// Whose recording.
    pub camera: String,
    /// Which slot.
    pub slot: SlotKind,
    /// The recorded guest.
    pub recorded_guest: String,
    /// Digest of its component.
    pub recorded_digest: String,
    /// Digest of the component that ran now.
    pub replayed_digest: String,
    /// The recorded component with the recorded settings: the answers must be the same.
    pub same_guest: bool,
    /// Where the recording begins.
    pub start: Start,
    /// What state the replayed guest began with: `private`, `neutral` or `none`.
    pub state: &'static str,
    /// Settings that it ran with.
    pub config: Value,
    /// Calls in the recording.
    pub calls: u64,
    /// Calls made now; fewer when the guest failed.
    pub replayed: u64,
    /// Answers that were the same to the bit.
    pub equal: u64,
    /// Answers that were the same in all but bytes made from a picture that is not in the recording.
    pub in_part: u64,
    /// Answers that were not the same.
    pub different: u64,
    /// The first of them.
    pub first_difference: Option<Difference>,
    /// Questions to the host that the recording has no answer to.
    pub missing_answers: u64,
    /// Answers of the host whose bytes were left out of the recording, with zeros in their place.
    pub stand_ins: u64,
    /// The replayed guest failed.
    pub failure: Option<FailureReport>,
    /// Both guests, as two sides.
    pub comparison: ComparisonReport,
}

impl ReplayReport {
    /// Whether it went as recorded: a failure that is in the recording included.
    #[must_use]
    pub fn as_recorded(&self) -> bool {
        self.different == 0 && self.replayed == self.calls && self.failure.as_ref().is_none_or(|f| f.reproduced)
    }
}

/// Pictures of a recording: sizes, and pixels where they were kept.
#[derive(Default)]
pub(super) struct Recorded {
    pub(super) missing: Arc<AtomicU64>,
}

impl Pictures for Recorded {
    fn frame(&self, info: &FrameInfo) -> Arc<dyn Picture> {
        let record = PictureRecord { width: info.width, height: info.height, bytes: 0, kept: Kept::default() };
        ReplayPicture::of(&record, &self.missing)
    }

    fn shot(&self, shot: &ShotRecord) -> Arc<dyn Picture> {
        ReplayPicture::of(&shot.picture, &self.missing)
    }
}

/// Runs a recording on a component.
///
/// # Errors
/// See [`ReplayError`]; a guest that fails on the way is told in the report.
pub fn replay(bundle: &Bundle, component: &Arc<GuestComponent>, with: &Replay) -> Result<ReplayReport, ReplayError> {
    let manifest = &bundle.manifest;
    if component.kind() != manifest.slot {
        return Err(ReplayError::WrongSlot { wanted: manifest.slot, found: component.kind() });
    }
    let digest = component.digest().to_string();
    let same_component = digest == manifest.digest;
    let missing = Arc::new(AtomicU64::new(0));
    let pictures = Recorded { missing: Arc::clone(&missing) };
    let (mut runner, config) = start(manifest, component, with, same_component, &missing)?;
    let mut session = Session::new(manifest.slot, same_component && config == manifest.config);
    for step in steps(bundle) {
        session.step(step?, manifest.start, &mut runner, &pictures);
        if session.failure.is_some() {
            break;
        }
    }
    let stand_ins = stood_in(&mut runner);
    Ok(ReplayReport {
        camera: manifest.camera.clone(),
        slot: manifest.slot,
        recorded_guest: manifest.guest.clone(),
        recorded_digest: manifest.digest.clone(),
        replayed_digest: digest,
        same_guest: session.exact,
        start: manifest.start,
        state: session.state,
        config,
        calls: manifest.calls,
        replayed: session.replayed,
        equal: session.equal,
        in_part: session.in_part,
        different: session.different,
        first_difference: session.first_difference,
        missing_answers: missing.load(Ordering::Relaxed),
        stand_ins,
        failure: session.failure,
        comparison: session.comparison.report(),
    })
}

/// A call of a recording.
pub(super) struct Step {
    /// Its number, from 0.
    n: u64,
    pub(super) recorded: RecordedCall,
    /// The next call hands a state over.
    restored_next: bool,
}

/// The calls of a recording in order; ends after the first that is damaged.
pub(super) fn steps(bundle: &Bundle) -> impl Iterator<Item = Result<Step, BundleError>> {
    let mut calls = bundle.calls().zip(0..).peekable();
    std::iter::from_fn(move || {
        let (recorded, n) = calls.next()?;
        let restored_next = matches!(calls.peek(), Some((Ok(next), _)) if matches!(next.call, Call::Restore { .. }));
        Some(recorded.map(|recorded| Step { n, recorded, restored_next }))
    })
}

/// A configured instance, and the settings that it took.
pub(super) fn start(
    manifest: &Manifest,
    component: &Arc<GuestComponent>,
    with: &Replay,
    same_component: bool,
    missing: &Arc<AtomicU64>,
) -> Result<(Runner, Value), ReplayError> {
    let env = GuestEnv {
        camera: CameraId::new(&manifest.camera).map_err(|e| BundleError::NotOne(format!("its camera is none: {e}")))?,
        guest: with.name.clone().unwrap_or_else(|| manifest.guest.clone()),
        limits: with.limits.clone().unwrap_or_else(|| manifest.limits.clone()),
    };
    let fresh = |config: &Value| {
        let mut runner = Runner::instantiate(component, &env)?;
        runner.sandbox().state_mut().tape = Tape::Replaying(Replaying::new(Arc::clone(missing)));
        runner.configure(config).map(|()| runner)
    };
    let asked = with.config.as_ref().unwrap_or(&manifest.config);
    match fresh(asked) {
        Ok(runner) => Ok((runner, asked.clone())),
        // Settings belong to a guest: another one may not know them. Its defaults are then the fairest guess.
        Err(GuestFailure::Refused(Refusal::InvalidConfig(_))) if with.config.is_none() && !same_component => {
            let defaults = Value::Object(serde_json::Map::new());
            fresh(&defaults).map(|runner| (runner, defaults)).map_err(ReplayError::Start)
        }
        Err(failure) => Err(ReplayError::Start(failure)),
    }
}

fn stood_in(runner: &mut Runner) -> u64 {
    match &runner.sandbox().state().tape {
        Tape::Replaying(replaying) => replaying.stood_in,
        _ => 0,
    }
}

/// What has been found out so far.
pub(super) struct Session {
    exact: bool,
    comparison: Comparison,
    /// What came along before its first work.
    state: &'static str,
    /// It was asked for more than to take settings and state.
    working: bool,
    replayed: u64,
    equal: u64,
    in_part: u64,
    different: u64,
    first_difference: Option<Difference>,
    failure: Option<FailureReport>,
}

impl Session {
    pub(super) fn new(slot: SlotKind, exact: bool) -> Self {
        Self {
            exact,
            comparison: Comparison::new(slot),
            state: NONE,
            working: false,
            replayed: 0,
            equal: 0,
            in_part: 0,
            different: 0,
            first_difference: None,
            failure: None,
        }
    }

    /// Whether anything was not as it was recorded.
    pub(super) fn has_differed(&self) -> bool {
        self.different > 0 || self.failure.is_some()
    }

    pub(super) fn step(&mut self, step: Step, start: Start, runner: &mut Runner, pictures: &Recorded) {
        let Step { n, recorded, restored_next } = step;
        prepare(runner, &recorded);
        let take_over = |runner: &mut Runner, state: &StateRecord, tracks: &[Track], shots: &[ShotRecord]| {
            runner.take_over(state.snapshot().as_ref(), tracks, &handed(shots, pictures))
        };
        let took_over = match (&recorded.call, &recorded.answer) {
            // Configured already; of a fresh instance it is the first call.
            (Call::Configure { .. }, _) if n == 0 || !self.exact => Some(Ok(self.state)),
            // The state that all begins with; a scorer is handed it back in the next call.
            (Call::Save, Answer::State { state, tracks, shots }) if n == 0 && start == Start::Snapshot => {
                Some(if restored_next { Ok(self.state) } else { take_over(runner, state, tracks, shots) })
            }
            // The recorded guest may have been given a second form after a first that it did not read: one that has taken
            // something over is not given more.
            (Call::Restore { state, tracks, shots }, _) if !self.exact && !self.working && self.state == NONE => {
                Some(take_over(runner, state, tracks, shots))
            }
            _ => None,
        };
        self.replayed += 1;
        let of_state = matches!(recorded.call, Call::Configure { .. } | Call::Save | Call::Restore { .. });
        self.working |= !of_state;
        match took_over {
            Some(Ok(state)) => {
                self.state = state;
                return;
            }
            Some(Err(failure)) => {
                let answer = Answer::of(&Err::<(), _>(failure), |()| Answer::Done);
                return self.compare(n, &recorded, &answer, 0, false);
            }
            None => {}
        }
        if !self.exact && matches!(recorded.call, Call::Save | Call::Restore { .. }) {
            // When a camera saves is its own affair; another guest has other state.
            return;
        }
        if !runner.wants(&recorded.call) {
            self.comparison.unasked(&recorded.call, (&recorded.answer, recorded.nanoseconds));
            return self.judge(n, &recorded, &Answer::Messages(Vec::new()), false);
        }
        let before = runner.sandbox().stats.nanoseconds;
        let answer = runner.run(&recorded.call, pictures);
        if let (Call::Restore { state, .. }, Answer::Done, false) = (&recorded.call, &answer, self.working) {
            self.state = if state.schema.is_empty() { NEUTRAL } else { PRIVATE };
        }
        let nanoseconds = runner.sandbox().stats.nanoseconds.saturating_sub(before);
        let in_part = stood_in(runner) > 0;
        self.compare(n, &recorded, &answer, nanoseconds, in_part);
    }

    fn compare(&mut self, n: u64, recorded: &RecordedCall, answer: &Answer, nanoseconds: u64, stood_in: bool) {
        if !matches!(recorded.call, Call::Save | Call::Restore { .. } | Call::Configure { .. }) {
            self.comparison.add(&recorded.call, (&recorded.answer, recorded.nanoseconds), (answer, nanoseconds));
        }
        self.judge(n, recorded, answer, stood_in);
        if let Answer::Failed { kind, text } = answer
            && kind != "refused"
        {
            let reproduced = recorded.answer.failure().is_some_and(|(recorded, _)| recorded == kind);
            self.failure = Some(FailureReport { call: n, kind: kind.clone(), text: text.clone(), reproduced });
        }
    }

    fn judge(&mut self, n: u64, recorded: &RecordedCall, answer: &Answer, stood_in: bool) {
        match same(&recorded.answer, answer, stood_in) {
            Verdict::Same => self.equal += 1,
            Verdict::InPart => self.in_part += 1,
            Verdict::Different => {
                self.different += 1;
                self.first_difference.get_or_insert_with(|| {
                    let (before, now) = words(&recorded.answer, answer);
                    Difference {
                        call: n,
                        function: recorded.call.name(),
                        session: recorded.call.frame().map(|f| f.session),
                        sequence: recorded.call.frame().map(|f| f.sequence),
                        recorded: before,
                        replayed: now,
                    }
                });
            }
        }
    }
}

/// Sets clocks, random numbers and the host's answers to what they were.
fn prepare(runner: &mut Runner, recorded: &RecordedCall) {
    let state = runner.sandbox().state_mut();
    state.time.monotonic_ns = recorded.time_ns;
    state.time.wall_ns = recorded.wall_ns;
    state.random.set_seed(recorded.random);
    if let Some(frame) = recorded.call.frame() {
        state.frame = (frame.session, frame.sequence);
    }
    if let Tape::Replaying(replaying) = &mut state.tape {
        replaying.load(recorded.host.clone());
    }
}

/// Two answers in words: of two lists the first elements that are not the same, of those from the field on that is not.
fn words(recorded: &Answer, replayed: &Answer) -> (String, String) {
    fn first<T: PartialEq + std::fmt::Debug>(a: &[T], b: &[T], what: &str) -> [(String, String); 2] {
        let at = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len()));
        [a, b].map(|list| match list.get(at) {
            Some(element) => (format!("{} {what}, number {at}: ", list.len()), format!("{element:?}")),
            None => (format!("{} {what}", list.len()), String::new()),
        })
    }
    let [a, b] =
        match (recorded, replayed) {
            (Answer::Tracks { tracks, ended }, Answer::Tracks { tracks: theirs, ended: others }) => {
                if tracks == theirs { first(ended, others, "ended tracks") } else { first(tracks, theirs, "tracks") }
            }
            (Answer::Shots(a), Answer::Shots(b)) => first(a, b, "shots"),
            (Answer::Messages(a), Answer::Messages(b)) => first(a, b, "messages"),
            (a, b) => [a, b].map(|answer| (String::new(), format!("{answer:?}"))),
        };
    let same = a.1.char_indices().zip(b.1.chars()).find(|((_, a), b)| a != b).map_or(0, |((at, _), _)| at);
    // From the field's name on, and only where the difference would be cut off.
    let from = if same > MAX_TEXT / 2 { a.1[..same].rfind(", ").map_or(0, |at| at + 2) } else { 0 };
    let text = |(head, body): (String, String)| {
        let skipped = if from > 0 { "… " } else { "" };
        crate::error::one_line(&format!("{head}{skipped}{}", body.get(from..).unwrap_or(&body)), MAX_TEXT)
    };
    (text(a), text(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_from_the_field_on_that_differs() {
        let ended = |ids: &[u64]| Answer::Tracks { tracks: Vec::new(), ended: ids.to_vec() };
        let (a, b) = words(&ended(&[7, 8]), &ended(&[7, 9]));
        assert!(a == "2 ended tracks, number 1: 8" && b == "2 ended tracks, number 1: 9", "{a} {b}");
        let long = |end: &str| Answer::Failed { kind: "trap".to_owned(), text: format!("{}{end}", "x, ".repeat(400)) };
        let (a, b) = words(&long("one"), &long("two"));
        assert!(a.starts_with("… one") && b.starts_with("… two"), "{a} {b}");
        let (a, b) = words(&ended(&[]), &ended(&[7]));
        assert!(a == "0 ended tracks" && b == "1 ended tracks, number 0: 7", "{a} {b}");
    }
}
