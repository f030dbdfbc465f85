//! Where calls are noted: around each call of an instance.
//!
//! Owns what a note costs while nothing is recorded: one comparison. The guests' own files own the calls themselves
//! (`call_…`); the methods here, under the contract's names, are the ones that everybody else calls.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use facestream_core::guest::SlotKind;
use facestream_core::{Affine, Detection, Frame, FrameInfo, Shot, Track, TrackUpdate};
use serde_json::Value;

use super::bundle::{BUNDLE_FORMAT, Manifest, Reason, Recording};
use super::call::{Answer, Call, RecordedCall, ShotRecord, StateRecord};
use super::ring::{HARMLESS_STATE_BYTES, Ring, RingCopy};
use super::tape::{Noted, Tape};
use crate::component::GuestComponent;
use crate::convert::Snapshot;
use crate::digest::Digest;
use crate::error::GuestFailure;
use crate::formatter::{FormatEvent, FormatterGuest, Interest, WrittenMessage};
use crate::instance::Sandbox;
use crate::scorer::ScorerGuest;
use crate::tracker::TrackerGuest;

/// Components of which an instance was handed bytes made from a picture: the state of another instance may come from it.
static SEEN_PICTURES: LazyLock<Mutex<HashSet<Digest>>> = LazyLock::new(Mutex::default);

fn seen_pictures() -> MutexGuard<'static, HashSet<Digest>> {
    // Nothing panics while it is held; should it, the set is still whole.
    SEEN_PICTURES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The recorder of one instance.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) ring: Ring,
    kind: SlotKind,
    digest: Digest,
    wit_version: String,
    pictures: bool,
    on_failure: bool,
    /// All know that its component was handed bytes made from a picture.
    told_of_pictures: bool,
    /// It refused to save: it is not asked again for the recorder's sake.
    pub(crate) gives_no_state: bool,
}

/// What was true before a call.
#[derive(Clone, Copy)]
pub(crate) struct Before {
    nanoseconds: u64,
    random: u64,
}

/// What may be kept of a call.
#[derive(Clone, Copy)]
pub(crate) struct Keep {
    /// Pixels of crops.
    pictures: bool,
    /// Bytes that a guest made, which may show a picture.
    made: bool,
    kind: SlotKind,
}

impl Keep {
    fn state(self, state: &Snapshot) -> StateRecord {
        // A formatter is handed pictures as its work, so that its state may hold some of another instance's, too.
        let made = self.made && self.kind != SlotKind::Formatter;
        StateRecord::of(state, made || self.pictures || state.data.len() <= HARMLESS_STATE_BYTES)
    }
}

impl Recorder {
    /// Keeps what comes from now on also in a list that [`Recorder::take_feed`] empties.
    pub(crate) fn take_feed(&mut self) -> Option<Vec<std::sync::Arc<RecordedCall>>> {
        self.ring.feed.as_mut().map(std::mem::take)
    }
}

impl Sandbox {
    /// Notes calls from now on. A recorder that keeps nothing is there all the same: somebody may come to look on.
    pub(crate) fn start_recording(&mut self, component: &GuestComponent) {
        let (digest, info, config) = (self.digest(), component.info(), &component.engine().config().recorder);
        let tainted = seen_pictures().contains(&digest);
        // Of a guest that was never granted pixels there is no picture to keep.
        let pictures = config.pictures && info.imports.iter().any(|import| import.contains("/pixels@"));
        let ring = Ring::new(config);
        self.set_tape(ring.wants(), pictures, tainted);
        self.recorder = Some(Box::new(Recorder {
            ring,
            kind: info.kind,
            digest,
            wit_version: info.wit_version.clone(),
            pictures,
            on_failure: config.on_failure,
            told_of_pictures: tainted,
            gives_no_state: false,
        }));
    }

    /// Notes nothing any more.
    pub(crate) fn stop_recording(&mut self) {
        self.recorder = None;
        self.state_mut().tape = Tape::Off;
    }

    /// Starts or ends the feed of calls; `false` when this instance has no recorder.
    pub(crate) fn feed(&mut self, on: bool) -> bool {
        let Some(recorder) = &mut self.recorder else { return false };
        if on == recorder.ring.feed.is_some() {
            return true;
        }
        recorder.ring.feed = on.then(Vec::new);
        let (wants, pictures, digest) = (recorder.ring.wants(), recorder.pictures, recorder.digest);
        if wants != matches!(self.state().tape, Tape::Recording(_)) {
            let tainted = seen_pictures().contains(&digest);
            self.set_tape(wants, pictures, tainted);
        }
        true
    }

    fn set_tape(&mut self, wants: bool, pictures: bool, tainted: bool) {
        self.state_mut().tape = if wants { Tape::Recording(Noted::new(pictures, tainted)) } else { Tape::Off };
    }

    /// The last seconds of this instance; `None` when nothing was kept.
    pub(crate) fn recording(&self, seconds: Option<u32>, reason: Reason) -> Option<Recording> {
        let recorder = self.recorder.as_ref()?;
        let RingCopy { start, config, calls } = recorder.ring.copy(seconds);
        let (env, mut frames) = (self.env(), calls.iter().filter_map(|call| call.call.frame()).copied());
        let first = frames.next();
        let manifest = Manifest {
            format: BUNDLE_FORMAT,
            host_version: env!("CARGO_PKG_VERSION").to_owned(),
            wit_version: recorder.wit_version.clone(),
            camera: env.camera.to_string(),
            slot: recorder.kind,
            guest: env.guest.clone(),
            digest: recorder.digest.to_string(),
            config: serde_json::from_str(&config).unwrap_or_default(),
            limits: env.limits.clone(),
            start,
            first,
            last: frames.last().or(first),
            calls: calls.len() as u64,
            pictures: recorder.pictures,
            reason,
            written_unix_ms: 0,
            result: String::new(),
        };
        (!calls.is_empty()).then_some(Recording { manifest, calls })
    }

    /// The same after a failure, when that is wanted.
    pub(crate) fn failed_recording(&self, failure: &GuestFailure) -> Option<Recording> {
        self.recorder.as_ref().filter(|r| r.on_failure)?;
        self.recording(None, Reason::Failure { text: failure.to_string() })
    }

    /// Before a call; `None` when it is not to be noted.
    pub(crate) fn before(&mut self) -> Option<Before> {
        self.recorder.as_ref().filter(|r| r.ring.wants())?;
        Some(Before { nanoseconds: self.stats.nanoseconds, random: self.state().random.seed() })
    }

    /// After it.
    pub(crate) fn note(
        &mut self,
        before: Before,
        call: impl FnOnce(Keep) -> Call,
        answer: impl FnOnce(Keep) -> Answer,
    ) {
        let nanoseconds = self.stats.nanoseconds.saturating_sub(before.nanoseconds);
        let state = self.state_mut();
        let (time, host) = (state.time, state.tape.take());
        let tainted = matches!(&state.tape, Tape::Recording(noted) if noted.tainted);
        let Some(recorder) = &mut self.recorder else { return };
        // Once an instance: the lock is everybody's.
        if tainted && !std::mem::replace(&mut recorder.told_of_pictures, true) {
            seen_pictures().insert(recorder.digest);
        }
        let keep = Keep {
            pictures: recorder.pictures || recorder.ring.feed.is_some(),
            made: recorder.pictures || !tainted,
            kind: recorder.kind,
        };
        let mut answer = answer(keep);
        if let Answer::State { tracks, .. } = &mut answer
            && recorder.kind == SlotKind::Tracker
        {
            *tracks = recorder.ring.latest_tracks();
        }
        recorder.ring.push(RecordedCall {
            time_ns: time.monotonic_ns,
            wall_ns: time.wall_ns,
            random: before.random,
            nanoseconds,
            call: call(keep),
            host,
            answer,
        });
    }
}

fn configured(config: &Value) -> Call {
    Call::Configure { config: config.to_string() }
}

fn restoring(keep: Keep, state: &Snapshot, tracks: &[Track], shots: &[Shot]) -> Call {
    Call::Restore {
        state: keep.state(state),
        tracks: tracks.to_vec(),
        shots: shots.iter().map(|s| ShotRecord::of(s, keep.pictures)).collect(),
    }
}

fn saved(keep: Keep, state: &Snapshot, shots: &[Shot]) -> Answer {
    Answer::State {
        state: keep.state(state),
        tracks: Vec::new(),
        shots: shots.iter().map(|s| ShotRecord::of(s, keep.pictures)).collect(),
    }
}

/// Calls `$inner`, notes it when it is to be noted, answers what it answered.
macro_rules! noted {
    ($guest:expr, $inner:expr, $call:expr, $answer:expr) => {{
        let before = $guest.sandbox.before();
        let answer = $inner;
        if let Some(before) = before {
            $guest.sandbox.note(before, $call, |keep| Answer::of(&answer, |value| $answer(keep, value)));
        }
        answer
    }};
}

impl TrackerGuest {
    /// Settings: first call of a fresh instance, later new settings with state kept.
    ///
    /// # Errors
    /// `Refused(InvalidConfig)` from the guest; any other failure.
    pub fn configure(&mut self, config: &Value) -> Result<(), GuestFailure> {
        noted!(self, self.call_configure(config), |_| configured(config), |_, _: &()| Answer::Done)
    }

    /// One analysed frame. The answer is checked by itself (numbers, counts, ids once); against the camera's history
    /// it is checked by the slot.
    ///
    /// # Errors
    /// Any failure; all but `Refused` end the instance.
    pub fn advance(
        &mut self,
        frame: &FrameInfo,
        detections: &[Detection],
        motion: Option<Affine>,
    ) -> Result<TrackUpdate, GuestFailure> {
        noted!(
            self,
            self.call_advance(frame, detections, motion),
            |_| Call::Advance { frame: *frame, detections: detections.to_vec(), motion },
            |_, update| Answer::tracks(update)
        )
    }

    /// Private state; the instance goes on unchanged.
    ///
    /// # Errors
    /// Any failure.
    pub fn save(&mut self) -> Result<Snapshot, GuestFailure> {
        noted!(self, self.call_save(), |_| Call::Save, |keep, state| saved(keep, state, &[]))
    }

    /// Takes over: private state where the guest knows the schema, else the live tracks.
    ///
    /// # Errors
    /// `Refused(UnsupportedSnapshot)` from the guest; any other failure.
    pub fn restore(&mut self, state: &Snapshot, tracks: &[Track]) -> Result<(), GuestFailure> {
        noted!(self, self.call_restore(state, tracks), |keep| restoring(keep, state, tracks, &[]), |_, _: &()| {
            Answer::Done
        })
    }
}

impl ScorerGuest {
    /// Settings: first call of a fresh instance, later new settings with state kept.
    ///
    /// # Errors
    /// `Refused(InvalidConfig)` from the guest; any other failure.
    pub fn configure(&mut self, config: &Value) -> Result<(), GuestFailure> {
        noted!(self, self.call_configure(config), |_| configured(config), |_, _: &()| Answer::Done)
    }

    /// One analysed frame; gives up the shots that are due. The frame is lent for this call: a guest that keeps its
    /// handle traps.
    ///
    /// # Errors
    /// Any failure; all but `Refused` end the instance.
    pub fn observe(
        &mut self,
        frame: &Frame,
        detections: &[Detection],
        tracks: &[Track],
        ended: &[u64],
    ) -> Result<Vec<Shot>, GuestFailure> {
        noted!(
            self,
            self.call_observe(frame, detections, tracks, ended),
            |_| Call::Observe {
                frame: frame.info,
                detections: detections.to_vec(),
                tracks: tracks.to_vec(),
                ended: ended.to_vec(),
            },
            |keep: Keep, shots| Answer::shots(shots, keep.pictures)
        )
    }

    /// Time passes without a frame; gives up the shots that are due.
    ///
    /// # Errors
    /// As [`Self::observe`].
    pub fn tick(&mut self, timestamp_ns: u64) -> Result<Vec<Shot>, GuestFailure> {
        noted!(self, self.call_tick(timestamp_ns), |_| Call::Tick { timestamp_ns }, |keep: Keep, shots| Answer::shots(
            shots,
            keep.pictures
        ))
    }

    /// Gives up all that is held.
    ///
    /// # Errors
    /// As [`Self::observe`].
    pub fn flush(&mut self) -> Result<Vec<Shot>, GuestFailure> {
        noted!(self, self.call_flush(), |_| Call::Flush, |keep: Keep, shots| Answer::shots(shots, keep.pictures))
    }

    /// Private state and the shots held. The shots' pictures leave the instance: `restore` on it, or drop it.
    ///
    /// # Errors
    /// Any failure.
    pub fn save(&mut self) -> Result<(Snapshot, Vec<Shot>), GuestFailure> {
        noted!(self, self.call_save(), |_| Call::Save, |keep, held: &(Snapshot, Vec<Shot>)| saved(
            keep, &held.0, &held.1
        ))
    }

    /// Takes over: private state where the guest knows the schema, and the shots held so far.
    ///
    /// # Errors
    /// `Refused(UnsupportedSnapshot)` from the guest; `Invalid` when the shots do not fit the guest's crop budget; any
    /// other failure.
    pub fn restore(&mut self, state: &Snapshot, held: &[Shot]) -> Result<(), GuestFailure> {
        noted!(self, self.call_restore(state, held), |keep| restoring(keep, state, &[], held), |_, _: &()| Answer::Done)
    }
}

impl FormatterGuest {
    /// Settings: first call of a fresh instance, later new settings with state kept. Answers what it wants to hear of.
    ///
    /// # Errors
    /// `Refused(InvalidConfig)` from the guest; any other failure.
    pub fn configure(&mut self, config: &Value) -> Result<Interest, GuestFailure> {
        noted!(self, self.call_configure(config), |_| configured(config), |_, interest: &Interest| Answer::wants(
            *interest
        ))
    }

    /// One event to any number of messages. A shot's crop becomes the guest's, until it drops it.
    ///
    /// # Errors
    /// Any failure; all but `Refused` end the instance.
    pub fn format(&mut self, event: FormatEvent<'_>) -> Result<Vec<WrittenMessage>, GuestFailure> {
        noted!(
            self,
            self.call_format(event),
            |keep: Keep| Call::event(&event, keep.pictures),
            |keep: Keep, messages| Answer::messages(messages, keep.made)
        )
    }

    /// Gives up what was gathered.
    ///
    /// # Errors
    /// As [`Self::format`].
    pub fn flush(&mut self) -> Result<Vec<WrittenMessage>, GuestFailure> {
        noted!(self, self.call_flush(), |_| Call::Flush, |keep: Keep, messages| Answer::messages(messages, keep.made))
    }

    /// Private state; the instance goes on unchanged.
    ///
    /// # Errors
    /// Any failure.
    pub fn save(&mut self) -> Result<Snapshot, GuestFailure> {
        noted!(self, self.call_save(), |_| Call::Save, |keep, state| saved(keep, state, &[]))
    }

    /// Takes over private state.
    ///
    /// # Errors
    /// `Refused(UnsupportedSnapshot)` from the guest; any other failure.
    pub fn restore(&mut self, state: &Snapshot) -> Result<(), GuestFailure> {
        noted!(self, self.call_restore(state), |keep| restoring(keep, state, &[], &[]), |_, _: &()| Answer::Done)
    }
}
