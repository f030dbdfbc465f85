//! The book of a camera: what a rollback goes to, what comes of probation, what is written down.

use facestream_core::guest::GuestRef;
use facestream_core::{CameraId, SourceUrl};

use super::*;

const SLOT: SlotKind = SlotKind::Tracker;

fn book() -> SlotBook {
    let spec = CameraSpec::new(CameraId::new("c").unwrap(), SourceUrl::parse("rtsp://10.0.0.1/s").unwrap());
    SlotBook::new(spec, SlotRecords::default())
}

/// A swap to a guest; its digest is its name and a number.
fn swap(book: &SlotBook, guest: &str, digest: &str, from: &str, outcome: ChangeOutcome) {
    let name = |guest: &str, digest: &str| GuestRef { guest: guest.to_owned(), digest: digest.to_owned() };
    let change = SlotChange {
        at_unix_ms: 1,
        who: "tester".to_owned(),
        change: ChangeKind::Swap,
        from: name(&book.wanted(SLOT).guest, from),
        to: name(guest, digest),
        state: Some("private".to_owned()),
        pause_us: Some(80),
        outcome,
        reason: None,
        rollout: None,
    };
    book.changed(SLOT, SlotSpec::named(guest), change);
}

fn rolled_back(book: &SlotBook) {
    let (guest, back_to) = (book.wanted(SLOT).guest, String::new());
    let camera = CameraId::new("c").unwrap();
    book.note(&Event::GuestRolledBack { camera, slot: SLOT, guest, back_to, reason: "it trapped".to_owned() });
}

fn outcomes(book: &SlotBook) -> Vec<ChangeOutcome> {
    book.history(SLOT).iter().map(|c| c.outcome).collect()
}

#[test]
fn a_guest_that_fails_on_probation_is_no_longer_wanted() {
    let book = book();
    swap(&book, "a@1", "d:a1", "d:botsort", ChangeOutcome::Done);
    swap(&book, "b@1", "d:b1", "d:a1", ChangeOutcome::Probation);
    assert_eq!((book.wanted(SLOT).guest.as_str(), book.previous(SLOT).unwrap().spec.guest.as_str()), ("b@1", "a@1"));
    rolled_back(&book);
    assert_eq!(book.wanted(SLOT).guest, "a@1");
    assert_eq!(book.previous(SLOT).unwrap().spec.guest, "botsort", "as before the swap that failed");
    assert_eq!(outcomes(&book), [ChangeOutcome::RolledBack, ChangeOutcome::Done]);
    assert_eq!(book.history(SLOT)[0].reason.as_deref(), Some("it trapped"));
}

#[test]
fn a_name_that_means_the_failed_version_by_now_is_replaced_by_the_digest_that_ran() {
    let book = book();
    swap(&book, "mine", "d:1", "d:botsort", ChangeOutcome::Done);
    swap(&book, "mine", "d:2", "d:1", ChangeOutcome::Probation);
    rolled_back(&book);
    assert_eq!(book.wanted(SLOT).guest, "d:1");
}

#[test]
fn of_a_row_of_unproven_guests_the_one_before_them_all_comes_back() {
    let book = book();
    swap(&book, "a", "d:a", "d:botsort", ChangeOutcome::Probation);
    swap(&book, "b", "d:b", "d:a", ChangeOutcome::Probation);
    assert_eq!(book.previous(SLOT).unwrap().spec.guest, "botsort");
    rolled_back(&book);
    assert_eq!(book.wanted(SLOT).guest, "botsort");
    assert_eq!(outcomes(&book), [ChangeOutcome::RolledBack, ChangeOutcome::Superseded]);
}

#[test]
fn back_by_hand_within_a_probation_is_back_to_what_was_before_that_too() {
    let book = book();
    swap(&book, "a", "d:a", "d:botsort", ChangeOutcome::Done);
    swap(&book, "b", "d:b", "d:a", ChangeOutcome::Probation);
    swap(&book, "a", "d:a", "d:b", ChangeOutcome::Probation);
    assert_eq!(book.previous(SLOT).unwrap().spec.guest, "botsort", "not the guest that runs");
    rolled_back(&book);
    assert_eq!(
        (book.wanted(SLOT).guest.as_str(), book.previous(SLOT).unwrap().spec.guest.as_str()),
        ("d:a", "botsort")
    );
}

#[test]
fn settings_given_to_a_guest_on_probation_are_taken_back_with_it() {
    let book = book();
    swap(&book, "a", "d:a", "d:botsort", ChangeOutcome::Probation);
    let entry =
        SlotChange { change: ChangeKind::Reconfigure, outcome: ChangeOutcome::Done, ..book.history(SLOT)[0].clone() };
    book.changed(SLOT, SlotSpec::named("a"), entry);
    rolled_back(&book);
    assert_eq!(outcomes(&book), [ChangeOutcome::RolledBack, ChangeOutcome::RolledBack]);
    assert_eq!(book.history(SLOT)[0].reason.as_deref(), Some("it trapped"));
}

#[test]
fn what_is_new_is_given_out_once_and_again_when_it_could_not_be_written() {
    let book = book();
    book.save_with(|_, _| Err("nothing is new")).unwrap();
    swap(&book, "a", "d:a", "d:botsort", ChangeOutcome::Probation);
    assert_eq!(book.save_with(|_, _| Err("disk full")), Err("disk full"));
    let mut kept = None;
    book.save_with(|spec, records| {
        kept = Some((spec.clone(), records.clone()));
        Ok::<_, ()>(())
    })
    .unwrap();
    assert!(!book.is_unsaved());
    // Another run of the host begins with it.
    let (spec, records) = kept.unwrap();
    let json = serde_json::to_string(&records).unwrap();
    let again = SlotBook::new(spec, serde_json::from_str(&json).unwrap());
    assert_eq!(again.wanted(SLOT).guest, "a");
    assert_eq!(again.previous(SLOT).unwrap().digest, "d:botsort");
    assert_eq!(outcomes(&again), [ChangeOutcome::Unknown], "its probation ended with the host");
    // A camera that is forgotten is not written down again.
    swap(&again, "b", "d:b", "d:a", ChangeOutcome::Done);
    again.close_with(|| Ok::<_, ()>(())).unwrap();
    again.save_with(|_, _| Err("it is gone")).unwrap();
}

#[test]
fn the_start_that_made_a_camera_means_it_after_a_swap_and_a_restart() {
    let book = book();
    let started = book.spec();
    swap(&book, "a", "d:a", "d:botsort", ChangeOutcome::Done);
    assert_ne!(book.spec(), started);
    assert!(book.is_asked_for_by(&started) && book.is_asked_for_by(&book.spec()));
    let mut kept = None;
    book.save_with(|spec, records| {
        kept = Some((spec.clone(), serde_json::to_string(records).unwrap()));
        Ok::<_, ()>(())
    })
    .unwrap();
    let (spec, json) = kept.unwrap();
    let again = SlotBook::new(spec, serde_json::from_str(&json).unwrap());
    assert!(again.is_asked_for_by(&started) && again.is_asked_for_by(&again.spec()));
    let mut other = started.clone();
    other.guests.slot_mut(SLOT).guest = "b".to_owned();
    assert!(!again.is_asked_for_by(&other), "guests of neither");
    other = started;
    other.detect_fps = Some(3.5);
    assert!(!again.is_asked_for_by(&other), "another setting");
}

#[test]
fn the_history_is_bounded() {
    let book = book();
    for n in 0..HISTORY + 10 {
        swap(&book, &format!("g{n}"), "d", "d", ChangeOutcome::Done);
    }
    let history = book.history(SLOT);
    assert_eq!((history.len(), history[0].to.guest.as_str()), (HISTORY, format!("g{}", HISTORY + 9).as_str()));
}

#[test]
fn a_rollout_hears_what_becomes_of_its_change_until_somebody_else_changes_the_slot() {
    let (tell, told) = std::sync::mpsc::channel();
    let tell = Mutex::new(tell);
    let book = book().telling(Box::new(move |id, _, told| lock(&tell).send((id, told)).unwrap()));
    let camera = CameraId::new("c").unwrap();
    let changed = |change: ChangeKind, rollout: Option<u64>, outcome: ChangeOutcome| {
        swap(&book, "new", "d:new", "d:old", ChangeOutcome::Refused);
        let entry = SlotChange { change, rollout, outcome, ..book.history(SLOT)[0].clone() };
        book.changed(SLOT, SlotSpec::named("new"), entry);
    };
    let failed =
        || Event::GuestFailed { camera: camera.clone(), slot: SLOT, guest: "new".into(), reason: "trap".into() };
    let confirmed = || Event::GuestConfirmed { camera: camera.clone(), slot: SLOT, guest: "new".into() };
    let heard = || told.try_iter().collect::<Vec<_>>();

    changed(ChangeKind::Swap, Some(7), ChangeOutcome::Probation);
    assert!(book.is_of_rollout(SLOT, 7) && !book.is_of_rollout(SLOT, 8) && !book.is_of_rollout(SlotKind::Scorer, 7));
    book.note(&confirmed());
    book.note(&failed());
    assert_eq!(
        heard(),
        [(7, Told::PutIn { probation: true }), (7, Told::Confirmed), (7, Told::Failed("trap".to_owned()))]
    );
    // New settings by somebody else: going back now would undo those, not the rollout's change.
    changed(ChangeKind::Reconfigure, None, ChangeOutcome::Done);
    assert_eq!(heard(), [(7, Told::Superseded)]);
    book.note(&failed());
    assert!(heard().is_empty() && !book.is_of_rollout(SLOT, 7));

    changed(ChangeKind::Swap, Some(8), ChangeOutcome::Probation);
    rolled_back(&book);
    assert_eq!(heard(), [(8, Told::PutIn { probation: true }), (8, Told::RolledBack("it trapped".to_owned()))]);
    changed(ChangeKind::Swap, Some(9), ChangeOutcome::Done);
    changed(ChangeKind::Rollback, Some(9), ChangeOutcome::Done);
    assert_eq!(heard(), [(9, Told::PutIn { probation: false }), (9, Told::Superseded)]);
    assert_eq!(book.history(SLOT)[0].rollout, Some(9), "the history says so");
}
