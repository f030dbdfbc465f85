//! Events to the formatter, messages from it: identity and standard headers.

use facestream_core::guest::SlotKind;
use facestream_core::{DropReason, FrameInfo, Message, MessageId, Shot, Track};

use super::{CameraGuests, Outcome};
use crate::error::GuestFailure;
use crate::formatter::{FormatEvent, FormatterGuest, WrittenMessage};
use crate::slot::Question;

/// Headers that the host writes on every message; a formatter's own of these names are left out.
pub(crate) const STANDARD_HEADERS: [&str; 8] =
    ["message-id", "camera-id", "session", "sequence", "content-type", "degraded-by", "guest-digests", "config-digest"];

/// Where a message comes from: the middle of its identity.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    session: u64,
    sequence: u64,
    /// Track id, or `-`.
    track: String,
    reason: &'static str,
    /// Number of the first message.
    first: u64,
}

impl Origin {
    fn shot(shot: &Shot) -> Self {
        let track = shot.track_id.to_string();
        Self { session: shot.session, sequence: shot.sequence, track, reason: shot.reason.as_str(), first: 0 }
    }

    pub(super) fn ending(now: &FrameInfo, track: &Track) -> Self {
        let track = track.id.to_string();
        Self { session: now.session, sequence: now.sequence, track, reason: "ending", first: 0 }
    }

    fn frame(now: &FrameInfo) -> Self {
        Self { session: now.session, sequence: now.sequence, track: "-".to_owned(), reason: "frame", first: 0 }
    }

    fn flush(now: &FrameInfo, first: u64) -> Self {
        Self { session: now.session, sequence: now.sequence, track: "-".to_owned(), reason: "flush", first }
    }
}

impl CameraGuests {
    pub(super) fn emit_shot(&mut self, shot: &Shot, out: &mut Outcome) {
        self.emit(FormatEvent::Shot(shot), &Origin::shot(shot), out);
    }

    pub(super) fn emit_frame(&mut self, tracks: &[Track], out: &mut Outcome) {
        let now = self.now;
        self.emit(FormatEvent::Frame(&now, tracks), &Origin::frame(&now), out);
    }

    /// One event to the formatter; its messages to the outcome, or the event to the drops.
    pub(super) fn emit(&mut self, event: FormatEvent<'_>, origin: &Origin, out: &mut Outcome) {
        let question = match event {
            FormatEvent::Shot(..) => Question::Shot,
            FormatEvent::Frame(..) => Question::Frame,
            FormatEvent::Ending(..) => Question::Ending,
        };
        match self.ask_formatter(question, out, |guest| guest.format(event)) {
            Some(written) => self.identify(written, origin, out),
            None => self.metrics.dropped(DropReason::FormatterFailed, 1),
        }
    }

    pub(super) fn flush_formatter(&mut self, out: &mut Outcome) {
        match self.ask_formatter(Question::Flush, out, FormatterGuest::flush) {
            Some(written) => self.identify_flushed(written, out),
            None => self.metrics.dropped(DropReason::FormatterFailed, 1),
        }
        self.formatter_saved = None;
    }

    /// Asks the formatter; nothing when it is away or failed instead.
    fn ask_formatter(
        &mut self,
        question: Question,
        out: &mut Outcome,
        ask: impl Fn(&mut FormatterGuest) -> Result<Vec<WrittenMessage>, GuestFailure>,
    ) -> Option<Vec<WrittenMessage>> {
        loop {
            self.ensure_formatter(out)?;
            let written = self.formatter.call(question, self.now.timestamp_ns, &mut out.events, &ask);
            if written.is_some() || !self.roll_back_formatter(out) {
                return written;
            }
        }
    }

    pub(super) fn identify_flushed(&mut self, written: Vec<WrittenMessage>, out: &mut Outcome) {
        let origin = Origin::flush(&self.now, self.flushed);
        self.flushed = self.flushed.saturating_add(written.len() as u64);
        self.identify(written, &origin, out);
    }

    fn ensure_formatter(&mut self, out: &mut Outcome) -> Option<&mut FormatterGuest> {
        let now = self.now;
        let saved = &self.formatter_saved;
        let revive = |guest: &mut FormatterGuest| match saved {
            Some(state) => match guest.restore(state) {
                Err(GuestFailure::Refused(_)) | Ok(()) => Ok(()),
                failed => failed,
            },
            None => Ok(()),
        };
        self.formatter.ensure(&now, &mut out.events, revive)?;
        self.formatter.set_time(&now);
        let guest = self.formatter.running()?;
        self.interest = guest.interest();
        Some(guest)
    }

    fn identify(&mut self, written: Vec<WrittenMessage>, origin: &Origin, out: &mut Outcome) {
        if written.is_empty() {
            return;
        }
        let provenance = self.provenance();
        let camera = self.factory.camera();
        let degraded = self.degraded_by();
        for (n, m) in written.into_iter().enumerate() {
            let Origin { session, sequence, track, reason, first } = origin;
            let n = first + n as u64;
            let id = MessageId(format!("{camera}/{session}/{sequence}/{track}/{reason}/{n}"));
            let mut headers = vec![
                ("message-id".to_owned(), id.0.clone()),
                ("camera-id".to_owned(), camera.to_string()),
                ("session".to_owned(), session.to_string()),
                ("sequence".to_owned(), sequence.to_string()),
                ("content-type".to_owned(), m.content_type.clone()),
            ];
            headers.extend_from_slice(&provenance);
            headers.extend(degraded.iter().map(|by| ("degraded-by".to_owned(), by.clone())));
            headers.extend(
                m.headers
                    .into_iter()
                    .filter(|(name, _)| !STANDARD_HEADERS.iter().any(|standard| name.eq_ignore_ascii_case(standard))),
            );
            out.messages.push(Message {
                camera: camera.clone(),
                id,
                topic: m.topic,
                key: m.key.into(),
                payload: m.payload.into(),
                headers,
                content_type: m.content_type,
            });
        }
    }

    /// `slot/guest` of each guest that another stands in for, or that was given up: a reader may weigh such a message
    /// less.
    fn degraded_by(&self) -> Vec<String> {
        let slots = [
            (SlotKind::Tracker, self.tracker.degraded_by()),
            (SlotKind::Scorer, self.scorer.degraded_by()),
            (SlotKind::Formatter, self.formatter.degraded_by()),
        ];
        slots.into_iter().filter_map(|(slot, guest)| Some(format!("{slot}/{}", guest?))).collect()
    }
}
