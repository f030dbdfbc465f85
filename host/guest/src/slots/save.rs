//! Saving the state of scorer and formatter from time to time, so that a failure loses little.
//!
//! The tracker is not saved: the host's own book has its live tracks. On probation every frame is followed by a save,
//! so that going back to the guest before loses nothing that the new one held.

use super::{CameraGuests, Outcome};
use crate::error::GuestFailure;
use crate::slot::Question;

impl CameraGuests {
    pub(super) fn save_if_due(&mut self, out: &mut Outcome) {
        let every = self.config().save_every_frames;
        self.frames_since_save = self.frames_since_save.saturating_add(1);
        let due = every > 0 && self.frames_since_save >= every;
        if due {
            self.frames_since_save = 0;
        }
        if due || self.scorer.on_probation() {
            self.save_scorer(out);
        }
        if due || self.formatter.on_probation() {
            self.save_formatter(out);
        }
    }

    fn save_scorer(&mut self, out: &mut Outcome) {
        // The held shots leave the guest with `save`, so they are handed back right away.
        let saved = self.scorer.call(Question::Save, self.now.timestamp_ns, &mut out.events, |guest| {
            let saved = match guest.save() {
                // A guest that does not support saving is left alone: it starts from nothing after a failure.
                Err(GuestFailure::Refused(_)) => return Ok(None),
                saved => saved?,
            };
            guest.restore(&saved.0, &saved.1)?;
            Ok(Some(saved))
        });
        match saved {
            Some(Some(saved)) => {
                self.scorer_saved = Some(saved);
                self.given.clear();
                self.spent.clear();
            }
            Some(None) => {}
            None => {
                self.roll_back_scorer(out);
            }
        }
    }

    fn save_formatter(&mut self, out: &mut Outcome) {
        // Its latest event may be long ago: the recorder cuts by the time of saves.
        let now = self.now;
        self.formatter.set_time(&now);
        let saved =
            self.formatter.call(Question::Save, self.now.timestamp_ns, &mut out.events, |guest| match guest.save() {
                Err(GuestFailure::Refused(_)) => Ok(None),
                saved => saved.map(Some),
            });
        match saved {
            Some(saved) => self.formatter_saved = saved,
            None => {
                self.roll_back_formatter(out);
            }
        }
    }
}
