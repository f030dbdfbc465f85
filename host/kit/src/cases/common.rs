//! Cases of all worlds: starting, settings, faults of the input, what a guest costs.

use std::time::Duration;

use facestream_core::guest::SlotKind;
use facestream_guest_host::{GuestFailure, Refusal};
use serde_json::{Value, json};

use super::{Case, Failure, Outcome, Verdict, case, pass, sound};
use crate::bench::percentile;
use crate::diff::difference;
use crate::kit::Kit;

/// Before everything else.
pub(crate) const FIRST: &[Case] = &[
    case(
        "starts",
        starts,
        "faces",
        "a guest that does not start, or fails on ordinary faces, is of no use to any camera",
    ),
    case(
        "settings-refused-in-words",
        settings_refused,
        "",
        "whoever mistypes a setting is told so by the start or the swap, not by a camera that behaves oddly",
    ),
    case(
        "settings-again",
        settings_again,
        "faces",
        "settings can change while the camera runs; what the guest holds must survive it",
    ),
];

/// Faults and oddities of the input that every guest has to live with.
pub(crate) const SCENES: &[Case] = &[
    case("no-faces", played, "no-faces", "most frames of most cameras show nobody, and are passed all the same"),
    case(
        "session-change",
        played,
        "session-change",
        "cameras reconnect: sequence numbers begin again, pictures may differ",
    ),
    case(
        "clock-step",
        clock_step,
        "clock-step",
        "a camera's clock is set back or forth by hours; only `timestamp` never goes back",
    ),
    case("frame-loss", played, "frame-loss", "a loaded host drops frames; sequence numbers then have gaps"),
    case("batch-delay", played, "batch-delay", "frames come in bursts: milliseconds apart, then a pause"),
    case(
        "equal-timestamps",
        played,
        "equal-timestamps",
        "`timestamp` never goes back, but two frames may have the same: no division by the time between them",
    ),
    case("long-gap", played, "long-gap", "a camera is away for an hour and comes back"),
    case("frame-size", played, "frame-size", "a camera's resolution is changed while it runs"),
    case("no-landmarks", played, "no-landmarks", "not every model gives facial points"),
    case(
        "classes",
        played,
        "classes",
        "models of several classes number them; a guest must not take every box for a face of class 0",
    ),
    case("edges", played, "edges", "faces are cut by the frame's edge, fill it, or have less than a pixel"),
    case("weak-detections", played, "weak-detections", "models report boxes of little confidence too"),
    case(
        "five-hundred-faces",
        played,
        "five-hundred-faces",
        "a crowd, or a model gone wild, must not end the guest: within its deadline and memory",
    ),
];

/// What it uses.
pub(crate) const COSTS: &[Case] = &[
    case("time-budget", time_budget, "busy", "a call past the deadline is cut off, and its frame's result is lost"),
    case(
        "bounded-memory",
        bounded_memory,
        "flow",
        "cameras run for months; what grows with every track ends at the memory limit",
    ),
    case(
        "quiet-log",
        quiet_log,
        "busy",
        "lines beyond the host's rate are left out, and with them the one that mattered",
    ),
];

fn starts(kit: &Kit, _: &Case) -> Outcome {
    let mut instance = kit.fresh().map_err(|failure| Failure::new(failure.to_string()))?;
    let script = kit.script("faces");
    for step in &script.steps {
        instance
            .call(&script.scene, &kit.studio, step)
            .map_err(|failure| Failure::at("faces", step.frame, failure.to_string()))?;
    }
    Ok(Verdict::Pass(format!("{} KiB of memory", instance.usage().memory_bytes / 1024)))
}

fn settings_refused(kit: &Kit, _: &Case) -> Outcome {
    let mut accepted = Vec::new();
    let wrong: [(&str, Value); 3] = [
        ("a text", json!("settings")),
        ("a list", json!([1, 2])),
        ("an unknown key", json!({ "no-such-setting-7": 1 })),
    ];
    for (what, config) in wrong {
        let mut instance = crate::guest::Instance::start(&kit.component, &kit.env(&kit.limits), crate::kit::SEED)
            .map_err(|failure| Failure::new(failure.to_string()))?;
        match instance.configure(&config) {
            Ok(()) => accepted.push(what),
            Err(GuestFailure::Refused(Refusal::InvalidConfig(words))) if !words.trim().is_empty() => {}
            Err(GuestFailure::Refused(Refusal::InvalidConfig(_))) => {
                return Err(Failure::new(format!("settings that are {what} were refused without a word of why")));
            }
            Err(other) => {
                return Err(Failure::new(format!(
                    "settings that are {what} must be answered by `invalid-config` with words; the guest answered: {other}"
                )));
            }
        }
    }
    if accepted.is_empty() {
        return pass();
    }
    Ok(Verdict::Advice(format!("settings that are {} were taken without a word", accepted.join(", "))))
}

fn settings_again(kit: &Kit, _: &Case) -> Outcome {
    let script = kit.script("faces");
    let undisturbed = sound(kit, "faces")?;
    let mut instance = kit.fresh().map_err(|failure| Failure::new(failure.to_string()))?;
    let half = script.steps.len() / 2;
    let mut refused = None;
    for (n, step) in script.steps.iter().enumerate() {
        if n == half {
            match instance.configure(&kit.config) {
                Ok(()) => {}
                Err(GuestFailure::Refused(Refusal::InvalidConfig(words))) => refused = Some(words),
                Err(other) => {
                    return Err(Failure::at("faces", step.frame, format!("`configure` on a running guest: {other}")));
                }
            }
        }
        let answer = instance
            .call(&script.scene, &kit.studio, step)
            .map_err(|failure| Failure::at("faces", step.frame, failure.to_string()))?;
        let (was, is) = (undisturbed.answers[n].line(step.frame), answer.line(step.frame));
        if let Some(found) = differ(was.as_deref(), is.as_deref()) {
            let seen = format!("the same settings again, and the output is another: {found}");
            return Err(Failure::at("faces", step.frame, seen));
        }
    }
    match refused {
        None => pass(),
        Some(words) => {
            Ok(Verdict::Advice(format!("takes settings only when it starts ({words}); a change needs a swap")))
        }
    }
}

/// A difference between two answers as lines.
pub(crate) fn differ(was: Option<&str>, is: Option<&str>) -> Option<String> {
    match (was, is) {
        (Some(was), Some(is)) => difference(was, is),
        (None, None) => None,
        (was, is) => Some(format!("{} became {}", was.unwrap_or("no call"), is.unwrap_or("no call"))),
    }
}

/// The scene plays to its end.
pub(crate) fn played(kit: &Kit, case: &Case) -> Outcome {
    let played = sound(kit, case.scene)?;
    if case.scene == "no-faces" {
        for (n, answer) in played.answers.iter().enumerate() {
            let made_up = match answer {
                crate::guest::Answer::Tracks(update) => update.tracks.len() + update.ended.len(),
                crate::guest::Answer::Shots(shots) => shots.len(),
                _ => 0,
            };
            if made_up > 0 {
                return Err(Failure::at("no-faces", n, format!("{made_up} tracks or shots where there is nobody")));
            }
        }
    }
    pass()
}

fn clock_step(kit: &Kit, case: &Case) -> Outcome {
    let stepped = sound(kit, case.scene)?;
    if kit.kind() == SlotKind::Formatter {
        // Its messages may well say when a picture was taken.
        return pass();
    }
    let steady = sound(kit, "faces")?;
    let script = kit.script(case.scene);
    for (n, step) in script.steps.iter().enumerate() {
        let (was, is) = (steady.answers[n].line(step.frame), stepped.answers[n].line(step.frame));
        if let Some(found) = differ(was.as_deref(), is.as_deref()) {
            let seen = format!("decisions follow `captured-at`, which may step; `timestamp` never does: {found}");
            return Err(Failure::at(case.scene, step.frame, seen));
        }
    }
    pass()
}

fn time_budget(kit: &Kit, case: &Case) -> Outcome {
    let played = sound(kit, case.scene)?;
    let mut took = played.took.clone();
    let (p50, p99) = (percentile(&mut took, 0.5), percentile(&mut took, 0.99));
    let deadline = Duration::from_millis(kit.limits.deadline_ms.into());
    let us = |d: Duration| d.as_secs_f64() * 1e6;
    let seen =
        format!("60 faces: p50 {:.0} us, p99 {:.0} us a call, deadline {:.0} us", us(p50), us(p99), us(deadline));
    if p99 > deadline / 2 { Ok(Verdict::Advice(seen)) } else { Ok(Verdict::Pass(seen)) }
}

/// Pages of memory that may still be added in the second half: allocators settle late.
const SETTLING: u64 = 4 * 65_536;

/// Frames before the memory limit that are too few: the time of a guest that is made anew every few minutes goes into that.
const SOON: u64 = 10 * 60 * 30;

fn bounded_memory(kit: &Kit, case: &Case) -> Outcome {
    let played = sound(kit, case.scene)?;
    let frames = kit.script(case.scene).scene.frames.len();
    let (half, end) = (played.memory_half, played.usage.memory_bytes);
    let seen = format!("{} KiB after {} frames, {} KiB after {frames}", half / 1024, frames / 2, end / 1024);
    let grown = end.saturating_sub(half);
    if grown <= SETTLING {
        return Ok(Verdict::Pass(seen));
    }
    // At the pace of the second half.
    let left = kit.limits.max_memory_bytes.saturating_sub(end).saturating_mul((frames - frames / 2) as u64) / grown;
    let minutes = left / (30 * 60);
    if left < SOON {
        let seen = format!("memory grows and grows: {seen}; at its limit {minutes} min later at 30 frames/s");
        return Err(Failure::at(case.scene, frames - 1, seen));
    }
    Ok(Verdict::Advice(format!(
        "{seen}: at its limit {minutes} min later at 30 frames/s, if the host did not make the instance anew before \
         (guests.recycle_above_percent)"
    )))
}

fn quiet_log(kit: &Kit, case: &Case) -> Outcome {
    let played = sound(kit, case.scene)?;
    let usage = played.usage;
    if usage.log_lines_left_out > 0 {
        return Ok(Verdict::Advice(format!(
            "{} log lines written and {} left out in {} calls",
            usage.log_lines, usage.log_lines_left_out, usage.calls.calls
        )));
    }
    Ok(Verdict::Pass(format!("{} log lines in {} calls", usage.log_lines, usage.calls.calls)))
}
