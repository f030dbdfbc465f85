//! Cases of formatters: what is written for what.

use std::sync::Arc;

use facestream_core::{Quality, Rect, Shot, ShotReason};
use facestream_guest_host::{GuestFailure, GuestLimits, Refusal};

use super::{Case, Failure, Outcome, Verdict, case, pass, rule, sound};
use crate::guest::Answer;
use crate::kit::{Kit, SEED};
use crate::picture::noise;
use crate::scene::info;
use crate::script::{Call, Event, Step};

/// In this order.
pub(crate) const CASES: &[Case] = &[
    case(
        "asks-for-something",
        interest,
        "faces",
        "a formatter is called for what it names in its answer to `configure`, and for nothing else",
    ),
    case(
        "writes-messages",
        writes,
        "faces",
        "what it was called for must leave the system as a message, by the time of `flush`",
    ),
    case("payload-is-what-it-says", rule, "", "a consumer that reads `application/json` must find JSON"),
    case(
        "one-key",
        one_key,
        "",
        "messages with one key stay in order on one partition; those of a camera belong together",
    ),
    case(
        "oversize-picture",
        oversize,
        "",
        "a picture that does not fit is made smaller or refused in words, never written beyond the limit",
    ),
    case(
        "crops-are-returned",
        crops,
        "faces",
        "crops are pictures in the host's memory; those that are never dropped use the budget up",
    ),
];

fn interest(kit: &Kit, case: &Case) -> Outcome {
    let played = sound(kit, case.scene)?;
    let wants = played.interest.unwrap_or_default();
    let names = [(wants.shots, "shots"), (wants.endings, "endings"), (wants.frames, "frames")];
    let names: Vec<&str> = names.into_iter().filter(|(wanted, _)| *wanted).map(|(_, name)| name).collect();
    if names.is_empty() {
        return Ok(Verdict::Advice("it asks for nothing, so that it is never called".to_owned()));
    }
    Ok(Verdict::Pass(names.join(", ")))
}

/// Messages, and events that it was called for.
fn counts(answers: &[Answer]) -> (usize, usize) {
    let mut counted = (0_usize, 0_usize);
    for answer in answers {
        if let Answer::Messages(messages) = answer {
            counted = (counted.0 + messages.len(), counted.1 + 1);
        }
    }
    // The last call is `flush`.
    (counted.0, counted.1.saturating_sub(1))
}

fn writes(kit: &Kit, case: &Case) -> Outcome {
    let played = sound(kit, case.scene)?;
    let (messages, events) = counts(&played.answers);
    let seen = format!("{messages} messages for {events} events");
    match (messages, events) {
        (_, 0) => Ok(Verdict::Advice("it was called for nothing in this scene".to_owned())),
        (0, _) => Err(Failure::at(case.scene, kit.script(case.scene).scene.frames.len() - 1, seen)),
        (m, e) if m < e => Ok(Verdict::Advice(format!("{seen}: some are gathered or left out"))),
        _ => Ok(Verdict::Pass(seen)),
    }
}

/// The rule, as advice: a key a person is unusual but possible.
fn one_key(kit: &Kit, case: &Case) -> Outcome {
    match rule(kit, case) {
        Err(Failure { seen, .. }) => Ok(Verdict::Advice(seen)),
        kept => kept,
    }
}

fn oversize(kit: &Kit, _: &Case) -> Outcome {
    let limits = GuestLimits { max_message_bytes: 20_000, ..kit.limits.clone() };
    let failed = |failure: GuestFailure| Failure::new(failure.to_string());
    let mut instance = kit.fresh_with(&kit.component, &limits, SEED).map_err(failed)?;
    if !instance.interest().unwrap_or_default().shots {
        return Ok(Verdict::Skipped("it does not ask for shots".to_owned()));
    }
    // As large as the default scorer's crops, and noise: no JPEG of it comes near the limit.
    let picture = noise(512, 512).map_err(|e| Failure::new(e.to_string()))?;
    let now = info(0);
    let shot = Shot {
        track_id: 1,
        picture: Arc::new(picture),
        bbox: Rect { x: 0.0, y: 0.0, width: 600.0, height: 350.0 },
        confidence: 0.9,
        landmarks: None,
        quality: Quality { sharpness: 100.0, brightness: 50.0 },
        score: 100.0,
        captured_at_ns: now.captured_at_ns,
        session: now.session,
        sequence: now.sequence,
        reason: ShotReason::Ended,
    };
    let script = kit.script("faces");
    let step = Step { frame: 0, call: Call::Event(Event::Shot(Box::new(shot))) };
    match instance.call(&script.scene, &kit.studio, &step) {
        Ok(Answer::Messages(messages)) => {
            let largest = messages.iter().map(|m| m.payload.len()).max().unwrap_or(0);
            Ok(Verdict::Pass(format!("{} messages of at most {largest} of 20000 bytes", messages.len())))
        }
        Ok(_) => pass(),
        Err(GuestFailure::Refused(Refusal::Failed(words))) if !words.trim().is_empty() => {
            Ok(Verdict::Advice(format!("refused in words: {words}")))
        }
        Err(GuestFailure::Deadline { deadline_ms, .. }) => Err(Failure::new(format!(
            "making a 512x512 picture of noise fit into 20000 bytes took longer than the deadline of {deadline_ms} ms"
        ))),
        Err(other) => Err(Failure::new(format!("a 512x512 picture where a message has 20000 bytes: {other}"))),
    }
}

fn crops(kit: &Kit, case: &Case) -> Outcome {
    let played = sound(kit, case.scene)?;
    let held = played.usage.crop_bytes;
    if held > 0 {
        let frame = kit.script(case.scene).scene.frames.len() - 1;
        let seen = format!("{held} bytes of crops are still held after `flush`: their handles were never dropped");
        return Err(Failure::at(case.scene, frame, seen));
    }
    pass()
}
