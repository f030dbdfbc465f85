//! Cases about state: repeating, saving, restoring, being killed.
//!
//! A guest that cannot save is allowed to say so; its cases are then skipped, which the report shows as a warning.

use facestream_core::guest::SlotKind;
use facestream_core::{Quality, Rect, Shot, ShotReason};
use facestream_guest_host::{GuestFailure, GuestLimits, Refusal, Snapshot};

use super::common::differ;
use super::{Case, Failure, Outcome, Verdict, case, pass, sound};
use crate::guest::{Answer, Instance, Saved};
use crate::kit::{Kit, SEED};
use crate::scene::Random;

/// In this order.
pub(crate) const CASES: &[Case] = &[
    case(
        "determinism",
        determinism,
        "faces",
        "the same input gives the same output, whatever the random numbers: else no fault can be replayed, and a restart changes results",
    ),
    case(
        "saving-changes-nothing",
        saving_changes_nothing,
        "faces",
        "the host saves every second while the camera runs; nobody may see that in the output",
    ),
    case(
        "save-restore-every-frame",
        save_restore,
        "faces",
        "a hot swap at any frame must change nothing: ids go on, held pictures are kept, nothing is sent twice",
    ),
    case(
        "takes-over-from-strangers",
        neutral,
        "faces",
        "a swap from another kind of guest carries only the contract's neutral form: live tracks, held shots",
    ),
    case(
        "damaged-state",
        damaged_state,
        "faces",
        "state may come from a damaged file: it is to be refused in words, never to be trapped on",
    ),
    case(
        "killed-mid-call",
        killed,
        "faces",
        "an instance is ended in the middle of a call; a fresh one goes on from the last save as if the frame had been lost",
    ),
    case(
        "little-memory",
        little_memory,
        "five-hundred-faces",
        "at its memory limit a guest may fail, but must not answer nonsense, and its successor must go on from the last save",
    ),
];

/// What `save` gave, or why the case is skipped.
enum Save {
    Saved(Saved),
    Cannot(String),
}

fn save(instance: &mut Instance, scene: &'static str, frame: usize) -> Result<Save, Failure> {
    match instance.save() {
        Ok(saved) => Ok(Save::Saved(saved)),
        Err(GuestFailure::Refused(words)) => Ok(Save::Cannot(format!("the guest does not save its state: {words}"))),
        Err(other) => Err(Failure::at(scene, frame, format!("`save` failed: {other}"))),
    }
}

fn fresh(kit: &Kit) -> Result<Instance, Failure> {
    kit.fresh().map_err(|failure| Failure::new(failure.to_string()))
}

fn determinism(kit: &Kit, case: &Case) -> Outcome {
    let first = sound(kit, case.scene)?;
    let script = kit.script(case.scene);
    for (seed, what) in [(SEED, "the same random numbers"), (SEED + 1, "other random numbers")] {
        let second = kit.play(&script, &kit.limits, seed);
        if let Some(failure) = &second.failure {
            return Err(Failure::of(case.scene, failure));
        }
        for ((was, is), step) in first.lines(&script).iter().zip(second.lines(&script)).zip(&script.steps) {
            if let Some(found) = differ(was.as_deref(), is.as_deref()) {
                let seen = format!("a second instance, same input and {what}: {found}");
                return Err(Failure::at(case.scene, step.frame, seen));
            }
        }
    }
    pass()
}

fn saving_changes_nothing(kit: &Kit, case: &Case) -> Outcome {
    with_saves(kit, case, false)
}

fn save_restore(kit: &Kit, case: &Case) -> Outcome {
    with_saves(kit, case, true)
}

/// Plays with a save after every step; what was saved goes on in a fresh instance, or (a scorer's pictures) back into
/// the same one.
fn with_saves(kit: &Kit, case: &Case, renew: bool) -> Outcome {
    let undisturbed = sound(kit, case.scene)?;
    let script = kit.script(case.scene);
    let mut instance = fresh(kit)?;
    let mut largest = 0;
    for (n, step) in script.steps.iter().enumerate() {
        let answer = instance
            .call(&script.scene, &kit.studio, step)
            .map_err(|failure| Failure::at(case.scene, step.frame, failure.to_string()))?;
        let (was, is) = (undisturbed.answers[n].line(step.frame), answer.line(step.frame));
        if let Some(found) = differ(was.as_deref(), is.as_deref()) {
            let how = if renew { "saved and restored into a fresh instance" } else { "saved" };
            let seen = format!("{how} after every call, and the output is another: {found}");
            return Err(Failure::at(case.scene, step.frame, seen));
        }
        let saved = match save(&mut instance, case.scene, step.frame)? {
            Save::Saved(saved) => saved,
            Save::Cannot(why) => return Ok(Verdict::Skipped(why)),
        };
        largest = largest.max(saved.snapshot.data.len());
        if renew {
            instance = fresh(kit)?;
        }
        if renew || kit.kind() == SlotKind::Scorer {
            instance.restore(&saved).map_err(|failure| {
                Failure::at(case.scene, step.frame, format!("its own state was not taken back: {failure}"))
            })?;
        }
    }
    Ok(Verdict::Pass(if renew { format!("{largest} bytes of state at most") } else { String::new() }))
}

/// An instance in the middle of the scene, and its state.
fn half_way(kit: &Kit, scene: &'static str) -> Result<(usize, Save), Failure> {
    let script = kit.script(scene);
    let mut instance = fresh(kit)?;
    let half = script.steps.len() / 2;
    for step in &script.steps[..half] {
        instance
            .call(&script.scene, &kit.studio, step)
            .map_err(|failure| Failure::at(scene, step.frame, failure.to_string()))?;
    }
    let frame = script.steps[half].frame;
    Ok((half, save(&mut instance, scene, frame)?))
}

fn neutral(kit: &Kit, case: &Case) -> Outcome {
    let script = kit.script(case.scene);
    let (half, saved) = half_way(kit, case.scene)?;
    let frame = script.steps[half].frame;
    let mut saved = match saved {
        Save::Saved(saved) => saved,
        // It need not save to take over.
        Save::Cannot(_) => Saved { snapshot: Snapshot::default(), tracks: Vec::new(), shots: Vec::new() },
    };
    saved.snapshot = Snapshot { schema: "kit.stranger/1".to_owned(), data: (0..64).collect() };
    if kit.kind() == SlotKind::Scorer && saved.shots.is_empty() {
        saved.shots.extend(stranger_shot(kit, &script, half));
    }
    let mut instance = fresh(kit)?;
    match instance.restore(&saved) {
        Ok(()) => {}
        Err(GuestFailure::Refused(Refusal::UnsupportedSnapshot(words) | Refusal::Failed(words))) => {
            return Ok(Verdict::Advice(format!("refuses ({words}); a swap from another kind of guest is then undone")));
        }
        Err(other) => return Err(Failure::at(case.scene, frame, format!("`restore` of a stranger's state: {other}"))),
    }
    match kit.kind() {
        SlotKind::Tracker => keeps_ids(kit, case, &mut instance, half, &saved),
        SlotKind::Scorer => gives_up(kit, case, &mut instance, frame, &saved),
        SlotKind::Formatter => {
            for step in &script.steps[half..] {
                instance
                    .call(&script.scene, &kit.studio, step)
                    .map_err(|failure| Failure::at(case.scene, step.frame, failure.to_string()))?;
            }
            pass()
        }
    }
}

/// Tracks that are seen in the frame after the swap go on under their ids.
fn keeps_ids(kit: &Kit, case: &Case, instance: &mut Instance, half: usize, saved: &Saved) -> Outcome {
    let script = kit.script(case.scene);
    let mut missing = Vec::new();
    for step in &script.steps[half..(half + 3).min(script.steps.len())] {
        let answer = instance
            .call(&script.scene, &kit.studio, step)
            .map_err(|failure| Failure::at(case.scene, step.frame, failure.to_string()))?;
        let Answer::Tracks(update) = answer else { continue };
        let live = |id: u64| update.tracks.iter().any(|t| t.id == id);
        missing = saved.tracks.iter().map(|t| t.id).filter(|id| !live(*id) && !update.ended.contains(id)).collect();
    }
    if !missing.is_empty() {
        let frame = script.steps[half].frame;
        let seen = format!("tracks {missing:?} were handed over in neutral form and are gone");
        return Err(Failure::at(case.scene, frame, seen));
    }
    Ok(Verdict::Pass(format!("{} tracks taken over", saved.tracks.len())))
}

/// Held shots that were handed over come out again, at the latest when all is flushed.
fn gives_up(kit: &Kit, case: &Case, instance: &mut Instance, frame: usize, saved: &Saved) -> Outcome {
    let script = kit.script(case.scene);
    let flush = crate::script::Step { frame, call: crate::script::Call::Flush };
    let answer = instance
        .call(&script.scene, &kit.studio, &flush)
        .map_err(|failure| Failure::at(case.scene, frame, failure.to_string()))?;
    let Answer::Shots(shots) = answer else { return pass() };
    let lost =
        saved.shots.iter().filter(|s| !shots.iter().any(|g| (g.track_id, g.sequence) == (s.track_id, s.sequence)));
    match lost.count() {
        0 => Ok(Verdict::Pass(format!("{} held shots taken over", saved.shots.len()))),
        n => {
            Ok(Verdict::Advice(format!("{n} of {} held shots that were handed over never come out", saved.shots.len())))
        }
    }
}

/// A shot of a live track, as another scorer might hold it.
fn stranger_shot(kit: &Kit, script: &crate::kit::Script, half: usize) -> Option<Shot> {
    let step = &script.steps[half];
    let crate::script::Call::Observe { frame, tracks, .. } = &step.call else { return None };
    let (info, track) = (script.scene.frames[*frame].info, tracks.first()?);
    let picture = kit.studio.picture(&script.scene, *frame).ok()?;
    let picture = picture.crop(Rect { width: 40.0, height: 50.0, ..track.bbox }, 0).ok()?;
    Some(Shot {
        track_id: track.id,
        picture,
        bbox: track.bbox,
        confidence: 0.9,
        landmarks: None,
        quality: Quality { sharpness: 20.0, brightness: 50.0 },
        score: 29.0,
        captured_at_ns: info.captured_at_ns,
        session: info.session,
        sequence: info.sequence,
        reason: ShotReason::Improved,
    })
}

fn damaged_state(kit: &Kit, case: &Case) -> Outcome {
    let (half, saved) = half_way(kit, case.scene)?;
    let saved = match saved {
        Save::Saved(saved) => saved,
        Save::Cannot(why) => return Ok(Verdict::Skipped(why)),
    };
    let script = kit.script(case.scene);
    let frame = script.steps[half].frame;
    let whole = &saved.snapshot.data;
    let mut random = Random::new(9);
    let mut damaged: Vec<(String, Vec<u8>)> = Vec::new();
    for cut in [0, 1, whole.len() / 4, whole.len() / 2, whole.len().saturating_sub(1)] {
        if cut < whole.len() {
            damaged.push((format!("cut off after {cut} bytes"), whole[..cut].to_vec()));
        }
    }
    damaged.push(("with a byte too many".to_owned(), [&whole[..], &[0]].concat()));
    for _ in 0..40.min(whole.len()) {
        let at = (random.next() % whole.len() as u64) as usize;
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (random.next() % 8);
        damaged.push((format!("with a bit of byte {at} changed"), bytes));
    }
    damaged.push(("of random bytes".to_owned(), (0..4096).map(|_| random.next() as u8).collect()));
    let largest = usize::try_from(kit.limits.max_state_bytes).unwrap_or(usize::MAX).min(1 << 20);
    damaged.push((format!("of {largest} bytes 0xff"), vec![0xff; largest]));
    let mut taken = Vec::new();
    for (what, data) in damaged {
        let mut instance = fresh(kit)?;
        let state = Saved { snapshot: Snapshot { data, ..saved.snapshot.clone() }, ..saved.clone() };
        match instance.restore(&state) {
            Err(GuestFailure::Refused(_)) => continue,
            Err(other) => return Err(Failure::at(case.scene, frame, format!("on state {what}: {other}"))),
            Ok(()) => {}
        }
        // A changed bit can be a sound state all the same; then it has to work as one.
        for step in &script.steps[half..(half + 5).min(script.steps.len())] {
            if let Err(failure) = instance.call(&script.scene, &kit.studio, step) {
                let seen = format!("took state {what} as sound, then failed: {failure}");
                return Err(Failure::at(case.scene, step.frame, seen));
            }
        }
        if !what.contains("a bit of") {
            taken.push(what);
        }
    }
    if taken.is_empty() { pass() } else { Ok(Verdict::Advice(format!("took state {} as sound", taken.join(", ")))) }
}

/// Every so many steps the call is ended in its middle.
const KILL_EVERY: usize = 9;

fn killed(kit: &Kit, case: &Case) -> Outcome {
    let metered = match kit.metered() {
        Ok(component) => component,
        Err(why) => return Ok(Verdict::Skipped(why)),
    };
    let script = kit.script(case.scene);
    let start = |limits: &GuestLimits| {
        kit.fresh_with(metered, limits, SEED).map_err(|failure| Failure::new(failure.to_string()))
    };
    // Counting fuel takes time of its own, which is not the guest's.
    let patient = GuestLimits { deadline_ms: kit.limits.deadline_ms.saturating_mul(4), ..kit.limits.clone() };
    let mut instance = start(&patient)?;
    let mut fuel = Vec::with_capacity(script.steps.len());
    for step in &script.steps {
        let before = instance.usage().fuel.unwrap_or(0);
        instance
            .call(&script.scene, &kit.studio, step)
            .map_err(|failure| Failure::at(case.scene, step.frame, failure.to_string()))?;
        fuel.push(instance.usage().fuel.unwrap_or(0) - before);
    }

    // With kills. The lines that came out, and the steps that did not happen.
    let mut instance = start(&patient)?;
    let (mut lines, mut lost, mut calls) = (Vec::new(), Vec::new(), 0);
    for (n, step) in script.steps.iter().enumerate() {
        // Events that a formatter did not ask for are no calls.
        calls += usize::from(fuel[n] > 0);
        let every = if kit.kind() == SlotKind::Formatter { 3 } else { KILL_EVERY };
        let kill = fuel[n] > 0 && calls % every == 0 && n + 1 < script.steps.len();
        let mut saved = None;
        if kill {
            match save(&mut instance, case.scene, step.frame)? {
                Save::Cannot(why) => return Ok(Verdict::Skipped(why)),
                Save::Saved(state) => {
                    if kit.kind() == SlotKind::Scorer {
                        instance.restore(&state).map_err(|failure| {
                            Failure::at(case.scene, step.frame, format!("its own state was not taken back: {failure}"))
                        })?;
                    }
                    saved = Some(state);
                }
            }
            instance.leave_fuel(fuel[n] / 2);
        }
        match (instance.call(&script.scene, &kit.studio, step), saved) {
            (Ok(answer), _) => {
                lines.push((step.frame, answer.line(step.frame)));
                if kill {
                    instance.leave_fuel(u64::MAX);
                }
            }
            (Err(_), Some(state)) => {
                lost.push(n);
                instance = start(&patient)?;
                instance.restore(&state).map_err(|failure| {
                    Failure::at(case.scene, step.frame, format!("the successor does not take the state: {failure}"))
                })?;
            }
            (Err(failure), None) => return Err(Failure::at(case.scene, step.frame, failure.to_string())),
        }
    }
    if lost.is_empty() {
        return Ok(Verdict::Skipped("its calls are too short to be ended in the middle".to_owned()));
    }

    // Without these steps at all, never killed.
    let mut instance = fresh(kit)?;
    let mut expected = Vec::new();
    for (_, step) in script.steps.iter().enumerate().filter(|(n, _)| !lost.contains(n)) {
        let answer = instance
            .call(&script.scene, &kit.studio, step)
            .map_err(|failure| Failure::at(case.scene, step.frame, failure.to_string()))?;
        expected.push(answer.line(step.frame));
    }
    for (was, (frame, is)) in expected.iter().zip(&lines) {
        if let Some(found) = differ(was.as_deref(), is.as_deref()) {
            let seen = format!(
                "killed {} times and restored, and the output is not that of a run without these frames: {found}",
                lost.len()
            );
            return Err(Failure::at(case.scene, *frame, seen));
        }
    }
    Ok(Verdict::Pass(format!("killed {} times", lost.len())))
}

fn little_memory(kit: &Kit, case: &Case) -> Outcome {
    let begun = fresh(kit)?.usage().memory_bytes;
    let ordinary = kit.script("faces");
    let crowd = kit.script(case.scene);
    let limits = GuestLimits { max_memory_bytes: begun + 3 * 65_536, ..kit.limits.clone() };
    let mut instance = match kit.fresh_with(&kit.component, &limits, SEED) {
        Ok(instance) => instance,
        Err(GuestFailure::Memory { .. } | GuestFailure::Trap(_) | GuestFailure::Instantiate(_)) => {
            return Ok(Verdict::Pass("does not start with so little".to_owned()));
        }
        Err(other) => return Err(Failure::new(other.to_string())),
    };
    let mut saved = None;
    for step in &crowd.steps {
        match instance.call(&crowd.scene, &kit.studio, step) {
            Ok(_) => {}
            Err(GuestFailure::Invalid(text)) => {
                return Err(Failure::at(
                    case.scene,
                    step.frame,
                    format!("short of memory it answered nonsense: {text}"),
                ));
            }
            Err(_) => break,
        }
        if step.frame == 0 {
            match instance.save() {
                Ok(state) => {
                    if kit.kind() == SlotKind::Scorer && instance.restore(&state).is_err() {
                        break;
                    }
                    saved = Some(state);
                }
                Err(_) => break,
            }
        }
    }
    let peak = instance.usage().memory_bytes;
    drop(instance);
    let mut successor = fresh(kit)?;
    if let Some(state) = &saved {
        match successor.restore(state) {
            Ok(()) | Err(GuestFailure::Refused(_)) => {}
            Err(other) => return Err(Failure::at(case.scene, 0, format!("the successor: {other}"))),
        }
    }
    for step in &ordinary.steps[..ordinary.steps.len() / 4] {
        // A tracker's successor sees other faces in the same places: any sound answer will do.
        successor
            .call(&ordinary.scene, &kit.studio, step)
            .map_err(|failure| Failure::at("faces", step.frame, format!("the successor: {failure}")))?;
    }
    Ok(Verdict::Pass(format!("{} KiB at most of {} KiB", peak / 1024, limits.max_memory_bytes / 1024)))
}
