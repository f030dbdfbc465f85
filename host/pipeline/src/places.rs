//! The places beside guests where candidates run.
//!
//! Owns how many there are and who is in them. Must not know what a candidate does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use facestream_core::CameraId;
use facestream_core::guest::SlotKind;

/// Candidates that run beside guests at once, over all cameras: they share the guest threads with what is delivered.
pub const MAX_CANDIDATES: usize = 16;

/// Who is in a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Occupant {
    pub(crate) camera: CameraId,
    pub(crate) slot: SlotKind,
    /// Digest of its component.
    pub(crate) digest: String,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    by: BTreeMap<u64, Occupant>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Places(Arc<Mutex<Taken>>);

/// One of them, given up when this goes: a candidate holds its place for as long as it lives, however it ends.
#[derive(Debug)]
pub struct Place {
    taken: Arc<Mutex<Taken>>,
    number: u64,
}

impl Places {
    /// A place, while one is left. Whoever comes at the same time takes another.
    pub(crate) fn take(&self, occupant: Occupant) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.by.len() >= MAX_CANDIDATES {
            return None;
        }
        let number = taken.next;
        taken.next += 1;
        taken.by.insert(number, occupant);
        Some(Place { taken: Arc::clone(&self.0), number })
    }

    /// A candidate of this component.
    pub(crate) fn occupant(&self, digest: &str) -> Option<Occupant> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.by.values().find(|occupant| occupant.digest == digest).cloned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).by.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    fn occupant(digest: &str) -> Occupant {
        let camera = CameraId::new("door").unwrap();
        Occupant { camera, slot: SlotKind::Scorer, digest: digest.to_owned() }
    }

    #[test]
    fn those_who_come_at_the_same_time_never_get_more_places_than_there_are() {
        let (places, begin, held) = (Places::default(), Barrier::new(8), Mutex::new(Vec::new()));
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| {
                    begin.wait();
                    let some = (0..8).filter_map(|_| places.take(occupant("a")));
                    some.for_each(|place| held.lock().unwrap().push(place));
                });
            }
        });
        let mut held = held.into_inner().unwrap();
        assert_eq!(held.len(), MAX_CANDIDATES);
        assert!(places.take(occupant("b")).is_none());
        held.pop();
        let place = places.take(occupant("b")).expect("a place that is given up can be taken");
        assert_eq!(places.occupant("b"), Some(occupant("b")));
        drop(place);
        assert_eq!(places.occupant("b"), None, "nobody is where nobody runs any more");
    }
}
