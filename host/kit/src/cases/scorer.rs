//! Cases of scorers: which pictures are given up, and what happens to those that are held.

use std::collections::BTreeSet;

use facestream_core::Shot;
use facestream_guest_host::{GuestFailure, GuestLimits};

use super::{Case, Failure, Outcome, Verdict, case, pass, rule, sound};
use crate::guest::Answer;
use crate::kit::{Kit, SEED};
use crate::script::{Call, Step};

/// In this order.
pub(crate) const CASES: &[Case] = &[
    case("sends-a-portrait", portrait, "portrait", "a large, frontal, sharp face is what the system is for"),
    case(
        "chooses-the-sharp-moment",
        sharp,
        "portrait",
        "of a face that is a blur but for a moment, that moment should be chosen",
    ),
    case("flush-gives-up-all", flush, "faces", "after `flush` the guest is removed: what it still held is lost"),
    case(
        "time-alone",
        time_alone,
        "long-gap",
        "no frame comes for a while: `tick` may make a shot due, and must not fail",
    ),
    case("shots-of-known-tracks", rule, "", "a shot of a track that the guest was never told of belongs to nobody"),
    case("shots-of-seen-frames", rule, "", "a shot says of which frame it is; consumers look that frame up"),
    case("no-shot-twice", rule, "", "the same picture twice is a duplicate for every consumer"),
    case(
        "crops-are-returned",
        crops,
        "faces",
        "crops are pictures in the host's memory; those that are never dropped use the budget up",
    ),
    case(
        "crop-budget",
        crop_budget,
        "busy",
        "where the budget is used up a crop is refused; that is an answer, no failure",
    ),
];

fn shots(answers: &[Answer]) -> Vec<&Shot> {
    answers.iter().flat_map(|a| if let Answer::Shots(shots) = a { &shots[..] } else { &[] }).collect()
}

fn portrait(kit: &Kit, case: &Case) -> Outcome {
    let played = sound(kit, case.scene)?;
    let given = shots(&played.answers);
    if given.is_empty() {
        return Ok(Verdict::Advice("no shot of a large, frontal face that is sharp for 0.8 s".to_owned()));
    }
    let reasons: BTreeSet<&str> = given.iter().map(|s| s.reason.as_str()).collect();
    Ok(Verdict::Pass(format!("{} shots ({})", given.len(), reasons.into_iter().collect::<Vec<_>>().join(", "))))
}

fn sharp(kit: &Kit, case: &Case) -> Outcome {
    let played = sound(kit, case.scene)?;
    let given = shots(&played.answers);
    let Some(best) = given.iter().max_by(|a, b| a.score.total_cmp(&b.score)) else {
        return Ok(Verdict::Advice("no shot was given up".to_owned()));
    };
    let seen = format!("the best shot is of frame {}; the face is sharp from 20 to 39", best.sequence);
    if (20..40).contains(&best.sequence) { Ok(Verdict::Pass(seen)) } else { Ok(Verdict::Advice(seen)) }
}

fn flush(kit: &Kit, case: &Case) -> Outcome {
    sound(kit, case.scene)?;
    let script = kit.script(case.scene);
    let mut instance = kit.fresh().map_err(|failure| Failure::new(failure.to_string()))?;
    let last = script.steps.len() - 1;
    let mut failed = |step: &Step| {
        let answer = instance.call(&script.scene, &kit.studio, step);
        answer.map_err(|failure| Failure::at(case.scene, step.frame, failure.to_string()))
    };
    for step in &script.steps {
        failed(step)?;
    }
    let frame = script.steps[last].frame;
    if let Answer::Shots(again) = failed(&Step { frame, call: Call::Flush })?
        && !again.is_empty()
    {
        let seen = format!("a second `flush` gave up {} more shots: the first had not given up all", again.len());
        return Err(Failure::at(case.scene, frame, seen));
    }
    match instance.save() {
        Ok(saved) if !saved.shots.is_empty() => {
            let seen = format!("after `flush` it still holds {} shots", saved.shots.len());
            Err(Failure::at(case.scene, frame, seen))
        }
        Ok(_) | Err(GuestFailure::Refused(_)) => pass(),
        Err(other) => Err(Failure::at(case.scene, frame, format!("`save` after `flush` failed: {other}"))),
    }
}

fn time_alone(kit: &Kit, case: &Case) -> Outcome {
    let played = sound(kit, case.scene)?;
    let script = kit.script(case.scene);
    let ticks = script.steps.iter().zip(&played.answers).filter(|(s, _)| matches!(s.call, Call::Tick(_)));
    let (mut count, mut given) = (0, 0);
    for (_, answer) in ticks {
        count += 1;
        given += if let Answer::Shots(shots) = answer { shots.len() } else { 0 };
    }
    Ok(Verdict::Pass(format!("{count} ticks, {given} shots became due by time alone")))
}

fn crops(kit: &Kit, case: &Case) -> Outcome {
    for scene in [case.scene, "flow"] {
        let played = sound(kit, scene)?;
        let held = played.usage.crop_bytes;
        if held > 0 {
            let frame = kit.script(scene).scene.frames.len() - 1;
            let seen = format!("{held} bytes of crops are still held after `flush`: their handles were never dropped");
            return Err(Failure::at(scene, frame, seen));
        }
    }
    pass()
}

fn crop_budget(kit: &Kit, case: &Case) -> Outcome {
    let script = kit.script(case.scene);
    let limits = GuestLimits { max_crop_bytes: 64 * 1024, ..kit.limits.clone() };
    let played = kit.play(&script, &limits, SEED);
    match &played.failure {
        Some((failure, frame)) => {
            Err(Failure::at(case.scene, *frame, format!("with 64 KiB of crops for 60 faces: {failure}")))
        }
        None => Ok(Verdict::Pass(format!("{} shots with 64 KiB of crops", shots(&played.answers).len()))),
    }
}
