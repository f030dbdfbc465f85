//! Cases of trackers: following, losing, ending.
//!
//! How well a tracker follows is its author's choice: what goes beyond the contract is advice.

use std::collections::BTreeSet;

use facestream_core::TrackPhase;

use super::{Case, Failure, Outcome, Verdict, case, pass, rule, sound};
use crate::guest::Answer;
use crate::kit::Kit;

/// In this order.
pub(crate) const CASES: &[Case] = &[
    case(
        "follows-one-face",
        follows,
        "one-face",
        "a face in plain sight is to be a confirmed track that points to its detection",
    ),
    case(
        "miss-one-frame",
        keeps_id,
        "miss-one-frame",
        "detectors blink: a face missed in one frame must not become another person",
    ),
    case(
        "miss-half-a-second",
        advise_id,
        "miss-half-a-second",
        "a face turned away for half a second is still the same person",
    ),
    case("crossing", advise_id, "crossing", "two people who cross should keep their ids"),
    case(
        "leave-and-return",
        leave_and_return,
        "leave-and-return",
        "who comes back after a long time is a new track; the old one must have ended",
    ),
    case("ends-after-absence", ends, "long-absence", "a track that never ends holds its best shot back for ever"),
    case(
        "moving-camera",
        advise_id,
        "moving-camera",
        "a camera that pans tells its motion; faces that stand still should keep their ids",
    ),
    case("ids-in-a-crowd", advise_id, "busy", "sixty faces that stand nearly still should keep their ids"),
    case("one-end-per-track", rule, "", "scorers give a picture up when its track ends: twice would send it twice"),
    case("no-id-reuse", rule, "", "an id is never used twice for one camera: consumers count people by it"),
    case(
        "ends-are-told",
        rule,
        "",
        "a track that is gone without an end leaves its picture held until the host notices",
    ),
    case("ends-of-live-tracks", rule, "", "only a track that was live can end"),
];

/// Ids of each walker's confirmed tracks, in order, and how many of its detections no confirmed track took.
struct Followed {
    ids: Vec<Vec<(u64, usize)>>,
    missed: Vec<usize>,
}

fn followed(kit: &Kit, case: &Case) -> Result<Followed, Failure> {
    let played = sound(kit, case.scene)?;
    let script = kit.script(case.scene);
    let walkers = script.scene.frames.iter().flat_map(|f| &f.faces).map(|f| f.walker + 1).max().unwrap_or(0);
    let mut out = Followed { ids: vec![Vec::new(); walkers], missed: vec![0; walkers] };
    for (answer, step) in played.answers.iter().zip(&script.steps) {
        let Answer::Tracks(update) = answer else { continue };
        for (index, face) in script.scene.frames[step.frame].faces.iter().enumerate() {
            let taken = update
                .tracks
                .iter()
                .find(|t| t.detection.is_some_and(|d| d as usize == index) && t.phase == TrackPhase::Confirmed);
            match taken {
                Some(t) => {
                    let ids = &mut out.ids[face.walker];
                    if ids.last().is_none_or(|(id, _)| *id != t.id) {
                        ids.push((t.id, step.frame));
                    }
                }
                None => out.missed[face.walker] += 1,
            }
        }
    }
    Ok(out)
}

fn follows(kit: &Kit, case: &Case) -> Outcome {
    let followed = followed(kit, case)?;
    let frames = kit.script(case.scene).scene.frames.len();
    match (&followed.ids[0][..], followed.missed[0]) {
        ([], _) => Err(Failure::at(case.scene, frames - 1, "no confirmed track ever pointed to the face's detection")),
        ([_], missed) if missed * 2 > frames => {
            Ok(Verdict::Advice(format!("not followed in {missed} of {frames} frames")))
        }
        ([_], missed) => Ok(Verdict::Pass(format!("followed in {} of {frames} frames", frames - missed))),
        ([_, (id, frame), ..], _) => {
            Err(Failure::at(case.scene, *frame, format!("one face in plain sight got another id, {id}")))
        }
    }
}

fn keeps_id(kit: &Kit, case: &Case) -> Outcome {
    let followed = followed(kit, case)?;
    match &followed.ids[0][..] {
        [] => Err(Failure::at(case.scene, 0, "no confirmed track ever pointed to the face's detection")),
        [_] => pass(),
        [(was, _), (id, frame), ..] => {
            let seen = format!("the face was {was} before it was missed in one frame, and {id} after it");
            Err(Failure::at(case.scene, *frame, seen))
        }
    }
}

fn advise_id(kit: &Kit, case: &Case) -> Outcome {
    let followed = followed(kit, case)?;
    let switches: usize = followed.ids.iter().map(|ids| ids.len().saturating_sub(1)).sum();
    let faces = followed.ids.len();
    let first = followed.ids.iter().filter_map(|ids| ids.get(1)).map(|(_, frame)| *frame).min();
    match first {
        None => Ok(Verdict::Pass(format!("{faces} faces, no id switch"))),
        Some(frame) => {
            Ok(Verdict::Advice(format!("{faces} faces, {switches} id switches, the first in frame {frame}")))
        }
    }
}

fn leave_and_return(kit: &Kit, case: &Case) -> Outcome {
    let played = sound(kit, case.scene)?;
    let followed = followed(kit, case)?;
    let [(first, _), .., (last, frame)] = &followed.ids[0][..] else {
        return Ok(Verdict::Advice("after 50 s out of sight the face has its id again".to_owned()));
    };
    let ended: BTreeSet<u64> = played
        .answers
        .iter()
        .take(*frame)
        .flat_map(|a| if let Answer::Tracks(u) = a { u.ended.clone() } else { Vec::new() })
        .collect();
    if ended.contains(first) {
        return Ok(Verdict::Pass(format!("id {first} ended, the face came back as {last}")));
    }
    Err(Failure::at(
        case.scene,
        *frame,
        format!("the face came back as {last}, but track {first} had not ended in 50 s"),
    ))
}

fn ends(kit: &Kit, case: &Case) -> Outcome {
    let played = sound(kit, case.scene)?;
    let script = kit.script(case.scene);
    let live = played.answers.iter().rposition(|a| matches!(a, Answer::Tracks(u) if !u.tracks.is_empty()));
    let Some(live) = live else { return pass() };
    let frame = script.steps[live].frame;
    if live + 1 == played.answers.len() {
        return Err(Failure::at(case.scene, frame, "100 s after the only face left there is still a live track"));
    }
    let frames = &script.scene.frames;
    let last_face = frames.iter().rposition(|f| !f.faces.is_empty()).unwrap_or(0);
    let seconds = (frames[frame].info.timestamp_ns.saturating_sub(frames[last_face].info.timestamp_ns)) as f64 / 1e9;
    Ok(Verdict::Pass(format!("ended {seconds:.1} s after it was last seen")))
}
