//! What a scorer thought of pictures that it let go again: run once more, and asked for its state after each frame.
//!
//! Owns only that. A scorer tells scores of shots that it gives up or saves; of a picture that a better one replaced in
//! between nobody knows unless it is asked in between, which saving is there for (it changes nothing, by the contract).

use std::collections::HashMap;
use std::sync::Arc;

use super::bundle::Bundle;
use super::call::{Answer, Call};
use super::replay::{Recorded, Replay, ReplayError, Session, start, steps};
use super::ring::Start;
use crate::component::GuestComponent;

/// Track, session and sequence of a shot.
pub(crate) type ShotKey = (u64, u64, u64);

/// Scores of all shots that the scorer of a recording held after any frame in it, as far as the replay is what was recorded;
/// and why it ended before the end of the recording, when it did.
///
/// # Errors
/// As a replay.
pub(crate) fn held_scores(
    bundle: &Bundle,
    component: &Arc<GuestComponent>,
) -> Result<(HashMap<ShotKey, f32>, Option<&'static str>), ReplayError> {
    let pictures = Recorded::default();
    let manifest = &bundle.manifest;
    let with = Replay { name: Some(format!("{} (explain)", manifest.guest)), ..Replay::default() };
    let (mut runner, _) = start(manifest, component, &with, true, &pictures.missing)?;
    let mut session = Session::new(manifest.slot, true);
    let mut scores = HashMap::new();
    if manifest.start == Start::Midway {
        return Ok((scores, Some("the recording begins in the middle")));
    }
    for step in steps(bundle) {
        let step = step?;
        let is_frame = matches!(step.recorded.call, Call::Observe { .. });
        session.step(step, manifest.start, &mut runner, &pictures);
        // What comes after a difference may be another story.
        if session.has_differed() {
            return Ok((scores, Some("the scorer did not answer again as it did")));
        }
        if !is_frame {
            continue;
        }
        let Answer::State { state, shots, .. } = runner.run(&Call::Save, &pictures) else {
            return Ok((scores, Some("the scorer does not give its state")));
        };
        scores.extend(shots.iter().map(|s| ((s.track_id, s.session, s.sequence), s.score)));
        let back = Call::Restore { state, tracks: Vec::new(), shots };
        if !matches!(runner.run(&back, &pictures), Answer::Done) {
            return Ok((scores, Some("the scorer does not take its state back")));
        }
    }
    Ok((scores, None))
}
