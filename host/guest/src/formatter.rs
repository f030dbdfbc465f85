//! A formatter guest: events in, messages out.

use facestream_core::guest::SlotKind;
use facestream_core::{FrameInfo, Shot, Track};

use crate::bindings::{formatter, formatting};
use crate::component::{GuestComponent, Pre};
use crate::convert::{self, Snapshot};
use crate::error::GuestFailure;
use crate::host::limits::CallKind;
use crate::instance::{GuestEnv, Sandbox, Usage};
use crate::records;
use crate::tracker::wrong_slot;
use crate::validate;

/// What a formatter wants to be called for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Interest {
    pub shots: bool,
    pub endings: bool,
    pub frames: bool,
}

/// What a formatter is called for.
#[derive(Clone, Copy, Debug)]
pub enum FormatEvent<'a> {
    /// A picture was given up by the scorer.
    Shot(&'a Shot),
    /// A track has ended; its last state.
    Ending(&'a Track),
    /// One analysed frame with its live tracks.
    Frame(&'a FrameInfo, &'a [Track]),
}

/// A message as the guest wrote it, checked but not yet identified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenMessage {
    /// Valid by Kafka's rules.
    pub topic: String,
    /// Partition key.
    pub key: Vec<u8>,
    /// At most `max_message_bytes`.
    pub payload: Vec<u8>,
    /// In order; names may repeat.
    pub headers: Vec<(String, String)>,
    /// MIME type.
    pub content_type: String,
}

/// One instance of a formatter, for one camera.
#[derive(Debug)]
pub struct FormatterGuest {
    pub(crate) sandbox: Sandbox,
    exports: Exports,
    interest: Interest,
}

struct Exports(formatter::Formatter);

impl std::fmt::Debug for Exports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Formatter")
    }
}

impl FormatterGuest {
    /// A fresh instance; `configure` comes next.
    ///
    /// # Errors
    /// When the component is no formatter, the pool is exhausted or its start-up code fails.
    pub fn instantiate(component: &GuestComponent, env: &GuestEnv) -> Result<Self, GuestFailure> {
        let Pre::Formatter(pre) = &component.pre else { return Err(wrong_slot(SlotKind::Formatter, component)) };
        let mut sandbox = Sandbox::new(component, SlotKind::Formatter, env);
        let exports = Exports(sandbox.instantiate(|store| pre.instantiate(store))?);
        Ok(Self { sandbox, exports, interest: Interest::default() })
    }

    /// What the instance holds and has used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.sandbox.usage()
    }

    /// Starts the random numbers that WASI gives this guest from a seed of the caller's, where the camera's own is not to
    /// decide: a test kit shows with two seeds whether the output depends on chance.
    pub fn reseed(&mut self, seed: u64) {
        self.sandbox.reseed(seed);
    }

    /// Leaves the instance so much fuel, so that a call that needs more traps in its middle: fault injection that hits the
    /// same instruction every time. `false` when the engine is not metered.
    pub fn leave_fuel(&mut self, fuel: u64) -> bool {
        self.sandbox.leave_fuel(fuel)
    }

    /// Settings: first call of a fresh instance, later new settings with state kept. Answers what it wants to hear of.
    ///
    /// # Errors
    /// `Refused(InvalidConfig)` from the guest; any other failure.
    pub(crate) fn call_configure(&mut self, config: &serde_json::Value) -> Result<Interest, GuestFailure> {
        let camera = self.sandbox.camera(config);
        let guest = self.exports.0.facestream_analytics_formatting();
        let interest = self.sandbox.call(CallKind::Start, |store| guest.call_configure(store, &camera))?;
        self.interest = Interest {
            shots: interest.contains(formatting::Interest::SHOTS),
            endings: interest.contains(formatting::Interest::ENDINGS),
            frames: interest.contains(formatting::Interest::FRAMES),
        };
        Ok(self.interest)
    }

    /// What it answered to `configure`.
    #[must_use]
    pub fn interest(&self) -> Interest {
        self.interest
    }

    /// One event to any number of messages. A shot's crop becomes the guest's, until it drops it.
    ///
    /// # Errors
    /// Any failure; all but `Refused` end the instance.
    pub(crate) fn call_format(&mut self, event: FormatEvent<'_>) -> Result<Vec<WrittenMessage>, GuestFailure> {
        let event = match event {
            FormatEvent::Shot(shot) => match self.sandbox.host(|state| state.hand_shot(shot))? {
                Some(shot) => formatting::Event::Shot(shot),
                None => {
                    let held = self.sandbox.crop_bytes();
                    return Err(GuestFailure::Invalid(format!(
                        "it holds {held} bytes of crops, so that the next one does not fit its budget (limits.max_crop_bytes)"
                    )));
                }
            },
            FormatEvent::Ending(track) => formatting::Event::Ending(records::Track(*track)),
            FormatEvent::Frame(frame, tracks) => formatting::Event::Frame(formatting::AnalysedFrame {
                frame: convert::frame_to_wit(frame),
                tracks: records::tracks(tracks).to_vec(),
            }),
        };
        let guest = self.exports.0.facestream_analytics_formatting();
        let written = self.sandbox.call(CallKind::Frame, |store| guest.call_format(store, &event))?;
        self.checked(written)
    }

    /// Gives up what was gathered.
    ///
    /// # Errors
    /// As [`Self::format`].
    pub(crate) fn call_flush(&mut self) -> Result<Vec<WrittenMessage>, GuestFailure> {
        let guest = self.exports.0.facestream_analytics_formatting();
        let written = self.sandbox.call(CallKind::Frame, |store| guest.call_flush(store))?;
        self.checked(written)
    }

    /// Private state; the instance goes on unchanged.
    ///
    /// # Errors
    /// Any failure.
    pub(crate) fn call_save(&mut self) -> Result<Snapshot, GuestFailure> {
        let guest = self.exports.0.facestream_analytics_formatting();
        let snapshot = self.sandbox.call(CallKind::Frame, |store| guest.call_save(store))?;
        let snapshot = convert::snapshot_from_wit(snapshot);
        validate::snapshot(&snapshot, self.sandbox.limits()).map_err(GuestFailure::Invalid)?;
        Ok(snapshot)
    }

    /// Takes over private state.
    ///
    /// # Errors
    /// `Refused(UnsupportedSnapshot)` from the guest; any other failure.
    pub(crate) fn call_restore(&mut self, state: &Snapshot) -> Result<(), GuestFailure> {
        let guest = self.exports.0.facestream_analytics_formatting();
        let wit = convert::snapshot_to_wit(state);
        self.sandbox
            .call(CallKind::Frame, |store| guest.call_restore(store, &wit))
            .inspect_err(|failure| self.sandbox.tell_unread(&state.schema, failure))
    }

    fn checked(&self, written: Vec<formatting::Message>) -> Result<Vec<WrittenMessage>, GuestFailure> {
        let messages: Vec<WrittenMessage> = written
            .into_iter()
            .map(|m| WrittenMessage {
                topic: m.topic,
                key: m.key,
                payload: m.payload,
                headers: m.headers,
                content_type: m.content_type,
            })
            .collect();
        validate::messages(&messages, self.sandbox.limits()).map_err(GuestFailure::Invalid)?;
        Ok(messages)
    }
}
