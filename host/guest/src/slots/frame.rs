//! One frame through the three guests.
//!
//! Owns who is asked what, and what of the answers is believed. When the tracker is away, frames count as
//! `tracker-failed`, the scorer gets ticks, and after `orphan_tracks_after_ms` the host ends the live tracks itself. When
//! the scorer is away, ended tracks are remembered and told to it when it is back, so that shots it held are given up
//! then. When the formatter is away, events count as `formatter-failed`.
//!
//! A failed tracker is given the live tracks of the last good frame in neutral form: a private state from some frames
//! ago would bring tracks back that have ended. A failed scorer and formatter get their state of the last save
//! (`save_every_frames`); shots given up since that save are not given up twice.
//!
//! A guest that fails on probation costs nothing: the guest before it is asked the same again.

use std::collections::HashSet;

use facestream_core::metrics::Counter;
use facestream_core::{Affine, Detection, DropReason, Frame, FrameInfo, Shot, Track};

use super::{CameraGuests, Outcome, ShotKey, emit, key};
use crate::convert::Snapshot;
use crate::error::GuestFailure;
use crate::formatter::FormatEvent;
use crate::ledger::{Applied, Ledger};
use crate::scorer::ScorerGuest;
use crate::slot::Question;
use crate::tracker::TrackerGuest;

/// Endings kept for a scorer that is away; beyond that the oldest are not told.
const MAX_PENDING_ENDINGS: usize = 4096;

impl CameraGuests {
    pub(super) fn advance_clock(&mut self, timestamp_ns: u64) {
        let by = timestamp_ns.saturating_sub(self.now.timestamp_ns);
        self.now.timestamp_ns = self.now.timestamp_ns.saturating_add(by);
        self.now.captured_at_ns = self.now.captured_at_ns.saturating_add(by);
    }

    pub(super) fn track(
        &mut self,
        frame: &FrameInfo,
        detections: &[Detection],
        motion: Option<Affine>,
        out: &mut Outcome,
    ) -> Option<Applied> {
        let now = frame.timestamp_ns;
        loop {
            self.ensure_tracker(out)?;
            let ledger = &mut self.ledger;
            let applied = self.tracker.call(Question::Frame, now, &mut out.events, |guest| {
                let update = guest.advance(frame, detections, motion)?;
                ledger.apply(update).map_err(GuestFailure::Invalid)
            });
            let Some(applied) = applied else {
                if self.roll_back_tracker(out) {
                    continue;
                }
                return None;
            };
            if applied.vanished > 0 {
                tracing::warn!(
                    camera = %self.factory.camera(), guest = %self.tracker.filling.reference, tracks = applied.vanished,
                    "the tracker no longer mentions live tracks without ending them; the host ended them"
                );
            }
            return Some(applied);
        }
    }

    pub(super) fn ensure_tracker(&mut self, out: &mut Outcome) -> Option<&mut TrackerGuest> {
        let ledger = &mut self.ledger;
        let revive = |guest: &mut TrackerGuest| {
            ledger.new_instance();
            let live = ledger.live_for_guest();
            if live.is_empty() { Ok(()) } else { guest.restore(&Snapshot::default(), &live) }
        };
        self.tracker.ensure(&self.now, &mut out.events, revive)
    }

    pub(super) fn without_tracker(&mut self, frame: &Frame, out: &mut Outcome) {
        let patience = self.config().orphan_tracks_after_ms.saturating_mul(1_000_000);
        let orphaned = self.tracker.down_for_ns(frame.info.timestamp_ns).is_some_and(|down| down >= patience);
        if orphaned && !self.ledger.is_empty() {
            out.ended = self.ledger.end_all();
            self.pending_endings.extend(out.ended.iter().map(|t| t.id));
            self.observe(frame, &[], &[], out);
            self.announce_endings(out);
        } else {
            self.tick_scorer(out);
        }
    }

    pub(super) fn ensure_scorer(&mut self, out: &mut Outcome) -> Option<&mut ScorerGuest> {
        let held = Held {
            saved: &mut self.scorer_saved,
            spent: &mut self.spent,
            given: &mut self.given,
            ledger: &self.ledger,
            pending: &self.pending_endings,
        };
        self.scorer.ensure(&self.now, &mut out.events, |guest| held.give_back(guest))
    }

    /// Gives the instance in the slot what was last saved of it, or of its predecessor.
    pub(super) fn revive_scorer(&mut self) -> Result<(), GuestFailure> {
        let held = Held {
            saved: &mut self.scorer_saved,
            spent: &mut self.spent,
            given: &mut self.given,
            ledger: &self.ledger,
            pending: &self.pending_endings,
        };
        self.scorer.running().map_or(Ok(()), |guest| held.give_back(guest))
    }

    pub(super) fn observe(&mut self, frame: &Frame, detections: &[Detection], tracks: &[Track], out: &mut Outcome) {
        let over = self.pending_endings.len().saturating_sub(MAX_PENDING_ENDINGS);
        self.pending_endings.drain(..over);
        let ended = self.pending_endings.clone();
        if self.ask_scorer(Question::Frame, out, |guest| guest.observe(frame, detections, tracks, &ended)) {
            self.pending_endings.clear();
        } else {
            self.metrics.dropped(DropReason::ScorerFailed, 1);
        }
    }

    pub(super) fn tick_scorer(&mut self, out: &mut Outcome) {
        let now = self.now.timestamp_ns;
        self.ask_scorer(Question::Tick, out, |guest| guest.tick(now));
    }

    pub(super) fn flush_scorer(&mut self, out: &mut Outcome) {
        if !self.ask_scorer(Question::Flush, out, ScorerGuest::flush) {
            self.metrics.dropped(DropReason::ScorerFailed, 1);
        }
        self.scorer_saved = None;
        self.given.clear();
        self.spent.clear();
    }

    /// Asks the scorer and passes on what it gives up; false when it is away or failed instead.
    fn ask_scorer(
        &mut self,
        question: Question,
        out: &mut Outcome,
        ask: impl Fn(&mut ScorerGuest) -> Result<Vec<Shot>, GuestFailure>,
    ) -> bool {
        loop {
            if self.ensure_scorer(out).is_none() {
                return false;
            }
            let (ledger, now) = (&self.ledger, &self.now);
            let given = self.scorer.call(question, now.timestamp_ns, &mut out.events, |guest| {
                let shots = ask(guest)?;
                believable(&shots, ledger, now).map_err(GuestFailure::Invalid)?;
                Ok(shots)
            });
            match given {
                Some(shots) => {
                    self.pass_on(shots, out);
                    return true;
                }
                None if self.roll_back_scorer(out) => {}
                None => return false,
            }
        }
    }

    fn pass_on(&mut self, shots: Vec<Shot>, out: &mut Outcome) {
        for shot in shots {
            if self.spent.remove(&key(&shot)) {
                // Given up before the scorer failed and was set back to its last save.
                continue;
            }
            // Only what a save holds can be given up twice, after going back to it.
            if self.scorer_saved.as_ref().is_some_and(|(_, held)| held.iter().any(|h| key(h) == key(&shot))) {
                self.given.insert(key(&shot));
            }
            self.metrics.add(Counter::Shots, 1);
            if self.interest.shots {
                self.emit_shot(&shot, out);
            }
            out.shots.push(shot);
        }
    }

    pub(super) fn announce_endings(&mut self, out: &mut Outcome) {
        self.metrics.add(Counter::TracksEnded, out.ended.len() as u64);
        if self.interest.endings {
            for track in std::mem::take(&mut out.ended) {
                self.emit(FormatEvent::Ending(&track), &emit::Origin::ending(&self.now, &track), out);
                out.ended.push(track);
            }
        }
    }
}

/// What a scorer is given back when it begins anew.
struct Held<'a> {
    saved: &'a mut Option<(Snapshot, Vec<Shot>)>,
    spent: &'a mut HashSet<ShotKey>,
    given: &'a mut HashSet<ShotKey>,
    ledger: &'a Ledger,
    pending: &'a [u64],
}

impl Held<'_> {
    fn give_back(self, guest: &mut ScorerGuest) -> Result<(), GuestFailure> {
        let Self { saved, spent, given, ledger, pending } = self;
        spent.extend(given.drain());
        let Some((state, shots)) = saved else { return Ok(()) };
        // Of tracks whose end the scorer was told: it would hold such a shot for ever.
        shots.retain(|s| !spent.contains(&key(s)) && (!ledger.has_ended(s.track_id) || pending.contains(&s.track_id)));
        match guest.restore(state, shots) {
            Err(GuestFailure::Refused(_)) => guest.restore(&Snapshot::default(), shots),
            answer => answer,
        }
    }
}

/// Shots are of tracks that the camera has or had, and of frames that have been.
fn believable(shots: &[Shot], ledger: &Ledger, now: &FrameInfo) -> Result<(), String> {
    for s in shots {
        if !ledger.knows(s.track_id) {
            return Err(format!("a shot of track {}, which the camera never had", s.track_id));
        }
        if (s.session, s.sequence) > (now.session, now.sequence) {
            let (session, sequence) = (s.session, s.sequence);
            return Err(format!("a shot of frame {session}/{sequence}, which is yet to come"));
        }
    }
    Ok(())
}
