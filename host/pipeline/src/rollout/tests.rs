//! The state machine by itself: every step and every piece of news told by hand.

use facestream_core::guest::SlotKind;

use super::*;

fn id(name: &str) -> CameraId {
    CameraId::new(name).unwrap()
}

/// A rollout that begins.
pub(crate) fn status(slot: SlotKind, cameras: &[&str]) -> RolloutStatus {
    RolloutStatus {
        id: 7,
        slot,
        guest: "new".to_owned(),
        digest: "sha256:new".to_owned(),
        who: "tester".to_owned(),
        config: serde_json::json!({ "a": 1 }),
        probation_frames: Some(3),
        share: Some(100),
        only_from: None,
        batch: 1,
        max_failures: 0,
        state: RolloutState::Running,
        reason: None,
        began_unix_ms: 1,
        ended_unix_ms: None,
        cameras: cameras.iter().map(|c| RolloutCamera::pending(id(c))).collect(),
    }
}

fn rollout(cameras: &[&str], batch: usize, max_failures: usize) -> Rollout {
    Rollout::new(RolloutStatus { batch, max_failures, ..status(SlotKind::Tracker, cameras) })
}

/// The guest is put in, on probation.
fn put_in(rollout: &mut Rollout, camera: &str) {
    assert_eq!(rollout.next(2), Next::Swap(id(camera)));
    rollout.told(&id(camera), Told::PutIn { probation: true }, 2);
    rollout.swapped(&id(camera), SwapEnd::Changed("sha256:old".to_owned()), 2);
}

fn confirmed(rollout: &mut Rollout, camera: &str) {
    rollout.told(&id(camera), Told::Confirmed, 3);
}

fn traps(rollout: &mut Rollout, camera: &str) {
    rollout.told(&id(camera), Told::Failed("trap".to_owned()), 3);
    rollout.told(&id(camera), Told::RolledBack("trap".to_owned()), 3);
}

fn back(rollout: &mut Rollout, camera: &str) {
    assert_eq!(rollout.next(4), Next::RollBack(id(camera)));
    rollout.told(&id(camera), Told::Superseded, 4);
    rollout.taken_back(&id(camera), BackEnd::Back(None), 4);
}

fn steps(rollout: &Rollout) -> Vec<&'static str> {
    rollout.status().cameras.iter().map(|c| c.step.as_str()).collect()
}

fn ended(rollout: &mut Rollout, state: RolloutState, expected: &[&str]) {
    assert_eq!(rollout.next(9), Next::End);
    assert_eq!((rollout.status().state, steps(rollout)), (state, expected.to_vec()), "{:?}", rollout.status());
    assert_eq!(rollout.status().ended_unix_ms, Some(9));
}

#[test]
fn a_good_guest_goes_from_camera_to_camera() {
    let mut r = rollout(&["a", "b", "c"], 1, 0);
    for camera in ["a", "b", "c"] {
        put_in(&mut r, camera);
        assert_eq!(r.next(2), Next::Wait, "until its probation is over");
        confirmed(&mut r, camera);
    }
    ended(&mut r, RolloutState::Done, &["done", "done", "done"]);
    let a = &r.status().cameras[0];
    assert!(a.guest_is_in && a.old_digest.as_deref() == Some("sha256:old") && a.began_unix_ms == Some(2), "{a:?}");
    let events = r.take_events();
    let told: Vec<_> = events
        .iter()
        .map(|event| match event {
            Event::Rollout { state, .. } => state.as_str().to_owned(),
            Event::RolloutCamera { camera, step, .. } => format!("{camera} {}", step.as_str()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told[..4], ["running", "a swapping", "a probation", "a done"]);
    assert_eq!((told.len(), told[10].as_str()), (11, "done"));
}

#[test]
fn a_batch_is_watched_together_before_the_next_one() {
    let mut r = rollout(&["a", "b", "c"], 2, 0);
    put_in(&mut r, "a");
    put_in(&mut r, "b");
    assert_eq!(r.on_probation(), [id("a"), id("b")]);
    confirmed(&mut r, "b");
    assert_eq!(r.next(3), Next::Wait, "a is still on probation");
    confirmed(&mut r, "a");
    put_in(&mut r, "c");
    confirmed(&mut r, "c");
    ended(&mut r, RolloutState::Done, &["done", "done", "done"]);
}

#[test]
fn a_trap_on_probation_ends_it_and_the_others_go_back_newest_first() {
    let mut r = rollout(&["a", "b", "c", "d"], 1, 0);
    for camera in ["a", "b"] {
        put_in(&mut r, camera);
        confirmed(&mut r, camera);
    }
    put_in(&mut r, "c");
    traps(&mut r, "c");
    back(&mut r, "b");
    back(&mut r, "a");
    ended(&mut r, RolloutState::RolledBack, &["rolled-back", "rolled-back", "failed", "skipped"]);
    let status = r.status();
    assert_eq!((status.failures(), status.at(RolloutStep::RolledBack)), (1, 2));
    assert_eq!(status.reason.as_deref(), Some("1 failed, 0 may (camera c: trap)"));
    assert_eq!(status.cameras[3].began_unix_ms, None, "never touched");
    assert_eq!(status.summary(), "of 4 cameras 1 failed, 2 rolled-back, 1 skipped; 1 failed, 0 may (camera c: trap)");
}

#[test]
fn as_many_may_fail_as_were_allowed() {
    let mut r = rollout(&["a", "b", "c", "d"], 1, 1);
    assert_eq!(r.next(2), Next::Swap(id("a")));
    r.swapped(&id("a"), SwapEnd::Refused("self-test".to_owned()), 2);
    put_in(&mut r, "b");
    confirmed(&mut r, "b");
    put_in(&mut r, "c");
    confirmed(&mut r, "c");
    // After its probation it counts while the rollout goes on, and its slot's own policy has it.
    r.told(&id("b"), Told::Failed("deadline".to_owned()), 3);
    back(&mut r, "c");
    back(&mut r, "b");
    ended(&mut r, RolloutState::RolledBack, &["failed", "rolled-back", "rolled-back", "skipped"]);
    assert_eq!(r.status().cameras[1].reason.as_deref(), Some("deadline"), "why stays to be seen");

    let mut r = rollout(&["a", "b"], 1, 1);
    put_in(&mut r, "a");
    traps(&mut r, "a");
    put_in(&mut r, "b");
    confirmed(&mut r, "b");
    ended(&mut r, RolloutState::Done, &["failed", "done"]);
}

#[test]
fn of_a_batch_no_further_camera_is_touched_once_one_has_failed() {
    let mut r = rollout(&["a", "b", "c"], 3, 0);
    put_in(&mut r, "a");
    put_in(&mut r, "b");
    traps(&mut r, "a");
    back(&mut r, "b");
    ended(&mut r, RolloutState::RolledBack, &["failed", "rolled-back", "skipped"]);
}

#[test]
fn cameras_that_go_are_skipped_and_those_that_are_away_not_waited_for() {
    let mut r = rollout(&["a", "b", "c", "d"], 1, 0);
    r.gone(&id("b"), 2);
    put_in(&mut r, "a");
    r.gone(&id("a"), 2);
    // Its frames stop coming between the swap's beginning and its end.
    assert_eq!(r.next(2), Next::Swap(id("c")));
    r.frames(&id("c"), Some("connection refused".to_owned()), 2);
    r.told(&id("c"), Told::PutIn { probation: true }, 2);
    put_in(&mut r, "d");
    assert_eq!(steps(&r), ["skipped", "skipped", "skipped", "probation"]);
    assert!(r.status().cameras[2].reason.as_ref().unwrap().contains("connection refused"));
    // Back again, and so is the waiting.
    r.frames(&id("c"), None, 3);
    confirmed(&mut r, "d");
    assert_eq!(r.next(3), Next::Wait);
    traps(&mut r, "c");
    back(&mut r, "d");
    ended(&mut r, RolloutState::RolledBack, &["skipped", "skipped", "failed", "rolled-back"]);
}

#[test]
fn what_is_away_goes_back_with_the_others() {
    let mut r = rollout(&["a", "b"], 1, 0);
    put_in(&mut r, "a");
    r.frames(&id("a"), Some("no frames".to_owned()), 2);
    put_in(&mut r, "b");
    traps(&mut r, "b");
    back(&mut r, "a");
    ended(&mut r, RolloutState::RolledBack, &["rolled-back", "failed"]);
}

#[test]
fn an_operator_stops_it_with_or_without_a_way_back() {
    let mut r = rollout(&["a", "b", "c"], 1, 0);
    put_in(&mut r, "a");
    confirmed(&mut r, "a");
    assert_eq!(r.next(2), Next::Swap(id("b")));
    r.stop(true, "ops", 2).unwrap();
    assert_eq!(r.status().state, RolloutState::Running, "the swap that is being made is waited for");
    r.told(&id("b"), Told::PutIn { probation: true }, 2);
    r.swapped(&id("b"), SwapEnd::Changed(String::new()), 2);
    assert_eq!(r.next(2), Next::RollBack(id("b")));
    assert_eq!(r.stop(false, "ops", 2), Err(NoStop::GoesBack));
    assert_eq!(r.stop(true, "ops", 2), Ok(()), "which it does");
    r.taken_back(&id("b"), BackEnd::Failed("the guest before is gone".to_owned()), 2);
    back(&mut r, "a");
    ended(&mut r, RolloutState::RolledBack, &["rolled-back", "rollback-failed", "skipped"]);
    assert!(r.status().cameras[1].guest_is_in);
    assert_eq!(r.stop(true, "ops", 9), Err(NoStop::Over(RolloutState::RolledBack)));

    let mut r = rollout(&["a", "b"], 1, 0);
    put_in(&mut r, "a");
    r.stop(false, "ops", 9).unwrap();
    assert_eq!(r.status().state, RolloutState::Stopped, "at once");
    r.told(&id("a"), Told::Confirmed, 10);
    ended(&mut r, RolloutState::Stopped, &["probation", "skipped"]);
    assert_eq!(r.status().reason.as_deref(), Some("ops has stopped it"));
}

#[test]
fn what_somebody_else_has_changed_is_left_alone() {
    let mut r = rollout(&["a", "b", "c"], 1, 0);
    put_in(&mut r, "a");
    confirmed(&mut r, "a");
    r.told(&id("a"), Told::Superseded, 3);
    put_in(&mut r, "b");
    r.told(&id("b"), Told::Superseded, 3);
    put_in(&mut r, "c");
    traps(&mut r, "c");
    ended(&mut r, RolloutState::RolledBack, &["done", "skipped", "failed"]);
    assert!(r.status().cameras[0].reason.is_some());
}

#[test]
fn a_guest_that_gives_way_by_itself_on_the_way_back_is_back() {
    let mut r = rollout(&["a"], 1, 0);
    put_in(&mut r, "a");
    r.stop(true, "ops", 2).unwrap();
    assert_eq!(r.next(2), Next::RollBack(id("a")));
    traps(&mut r, "a");
    r.taken_back(&id("a"), BackEnd::Skip("nothing to take back".to_owned()), 3);
    ended(&mut r, RolloutState::RolledBack, &["rolled-back"]);
}

#[test]
fn no_probation_and_nothing_to_change_are_done_at_once() {
    let mut r = rollout(&["a", "b", "c"], 1, 0);
    assert_eq!(r.next(2), Next::Swap(id("a")));
    r.told(&id("a"), Told::PutIn { probation: false }, 2);
    r.swapped(&id("a"), SwapEnd::Changed(String::new()), 2);
    assert_eq!(r.next(2), Next::Swap(id("b")));
    r.swapped(&id("b"), SwapEnd::Unchanged, 2);
    assert_eq!(r.next(2), Next::Swap(id("c")));
    r.told(&id("c"), Told::PutIn { probation: false }, 2);
    r.swapped(&id("c"), SwapEnd::NotRemembered("disk full".to_owned()), 2);
    back(&mut r, "c");
    back(&mut r, "a");
    ended(&mut r, RolloutState::RolledBack, &["rolled-back", "done", "rolled-back"]);
}

#[test]
fn a_host_that_ends_leaves_cameras_as_they_are() {
    let mut r = rollout(&["a", "b"], 1, 0);
    put_in(&mut r, "a");
    r.interrupt(9);
    ended(&mut r, RolloutState::Stopped, &["skipped", "skipped"]);
    assert!(r.status().reason.as_ref().unwrap().contains("host"));
}
