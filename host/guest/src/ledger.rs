//! The host's own book of a camera's tracks.
//!
//! Owns the promise that a track id is never used twice for one camera and that each track ends exactly once, whatever
//! guests do: a tracker's ids are translated. An id that the camera never saw stays as it is; one that was spent (by a
//! tracker that started anew, or took over without knowing which ids are spent) becomes the next free one. Within one
//! instance's life an id that was ended and comes back is nonsense, and told as such.

use std::collections::{HashMap, HashSet, VecDeque};

use facestream_core::{Track, TrackUpdate};

/// Ended ids that are remembered: to know late shots of them, and reuse. Beyond that an id counts as never seen.
const REMEMBERED: usize = 65_536;

/// A guest's id is kept when it is at most so far above the highest so far; one that jumps farther (a random or hostile
/// numbering) gets the next free id, so that it cannot use up the space of ids for its successors.
const MAX_JUMP: u64 = 1_000_000;

/// Ids of tracks, remembered up to a bound, oldest forgotten first.
#[derive(Debug, Default)]
struct Recent {
    order: VecDeque<u64>,
    set: HashSet<u64>,
}

impl Recent {
    fn add(&mut self, id: u64) {
        if self.set.insert(id) {
            self.order.push_back(id);
            if self.order.len() > REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.set.remove(&oldest);
            }
        }
    }

    fn has(&self, id: u64) -> bool {
        self.set.contains(&id)
    }

    fn clear(&mut self) {
        self.order.clear();
        self.set.clear();
    }
}

/// The book. Ids are the camera's unless a name says `guest`.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By the guest's id: the camera's id and the latest state (with the camera's id).
    live: HashMap<u64, Track>,
    /// The guest's ids in the order of its latest answer.
    order: Vec<u64>,
    highest: u64,
    ended: Recent,
    /// The guest's ids that this instance has ended.
    ended_by_guest: Recent,
}

/// What one answer of the tracker means.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Applied {
    /// Live tracks, in the guest's order.
    pub(crate) tracks: Vec<Track>,
    /// Last states of the tracks that ended, those first that the guest ended, in its order.
    pub(crate) ended: Vec<Track>,
    /// Tracks that began.
    pub(crate) began: u64,
    /// Tracks that the guest no longer mentioned without ending them: the host ended them.
    pub(crate) vanished: u64,
}

impl Ledger {
    /// Takes an answer into the book. Nothing is changed when it is refused.
    ///
    /// # Errors
    /// When an id was spent by the same instance, or one is ended that is not live.
    pub(crate) fn apply(&mut self, mut update: TrackUpdate) -> Result<Applied, String> {
        if let Some(t) = update.tracks.iter().find(|t| self.ended_by_guest.has(t.id)) {
            return Err(format!("track id {} was ended before and is used again", t.id));
        }
        if let Some(id) = update.ended.iter().find(|id| !self.live.contains_key(id)) {
            return Err(format!("track {id} is ended, but it is not live"));
        }
        let mut applied = Applied::default();
        for guest_id in &update.ended {
            self.ended_by_guest.add(*guest_id);
            applied.ended.extend(self.end(*guest_id));
        }
        // In ascending order, so that ids born in one frame stay as they are however the guest lists them.
        let mut born: Vec<u64> = update.tracks.iter().map(|t| t.id).filter(|id| !self.live.contains_key(id)).collect();
        born.sort_unstable();
        applied.began = born.len() as u64;
        let born: HashMap<u64, u64> = born.into_iter().map(|id| (id, self.fresh_id(id))).collect();
        for track in &mut update.tracks {
            let guest_id = track.id;
            track.id = match (self.live.get(&guest_id), born.get(&guest_id)) {
                (Some(known), _) => known.id,
                (None, Some(&id)) => id,
                // Unreachable: an id is live or was collected above. A free id keeps the promise all the same.
                (None, None) => self.fresh_id(guest_id),
            };
            self.live.insert(guest_id, *track);
            self.order.push(guest_id);
        }
        // `order` now holds the previous answer's ids, then this one's.
        let now = self.order.split_off(self.order.len() - update.tracks.len());
        let before = std::mem::replace(&mut self.order, now);
        if self.live.len() > self.order.len() {
            let mentioned: HashSet<u64> = self.order.iter().copied().collect();
            for guest_id in before.into_iter().filter(|id| !mentioned.contains(id)) {
                if let Some(track) = self.end(guest_id) {
                    applied.vanished += 1;
                    applied.ended.push(track);
                }
            }
        }
        applied.tracks = update.tracks;
        Ok(applied)
    }

    fn end(&mut self, guest_id: u64) -> Option<Track> {
        let track = self.live.remove(&guest_id)?;
        self.ended.add(track.id);
        Some(track)
    }

    fn fresh_id(&mut self, wanted: u64) -> u64 {
        let next = self.highest.saturating_add(1);
        let id = if wanted >= next && wanted - self.highest <= MAX_JUMP { wanted } else { next };
        self.highest = id;
        id
    }

    /// Another instance takes over: what the one before ended no longer binds it.
    pub(crate) fn new_instance(&mut self) {
        self.ended_by_guest.clear();
    }

    /// The live tracks under the guest's own ids, as a successor gets them.
    pub(crate) fn live_for_guest(&self) -> Vec<Track> {
        self.order.iter().filter_map(|id| self.live.get(id).map(|t| Track { id: *id, detection: None, ..*t })).collect()
    }

    /// Ends every live track.
    pub(crate) fn end_all(&mut self) -> Vec<Track> {
        std::mem::take(&mut self.order).into_iter().filter_map(|id| self.end(id)).collect()
    }

    /// Whether there are live tracks.
    pub(crate) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Whether a shot may speak of this track: it lives, or ended lately.
    pub(crate) fn knows(&self, id: u64) -> bool {
        self.ended.has(id) || self.live.values().any(|t| t.id == id)
    }

    /// Whether this track has ended.
    pub(crate) fn has_ended(&self, id: u64) -> bool {
        self.ended.has(id)
    }
}

#[cfg(test)]
mod tests {
    use facestream_core::{Point, Rect, TrackPhase};

    use super::*;

    fn track(id: u64) -> Track {
        Track {
            id,
            phase: TrackPhase::Confirmed,
            bbox: Rect::default(),
            velocity: Point::default(),
            confidence: 0.5,
            class_id: 0,
            detection: Some(0),
            first_seen_ns: 0,
            last_seen_ns: 0,
        }
    }

    fn update(live: &[u64], ended: &[u64]) -> TrackUpdate {
        TrackUpdate { tracks: live.iter().map(|&id| track(id)).collect(), ended: ended.to_vec() }
    }

    fn ids(tracks: &[Track]) -> Vec<u64> {
        tracks.iter().map(|t| t.id).collect()
    }

    #[test]
    fn ids_stay_as_they_are_and_each_track_ends_once() {
        let mut book = Ledger::default();
        let a = book.apply(update(&[5, 1, 2], &[])).unwrap();
        assert_eq!((ids(&a.tracks), a.began), (vec![5, 1, 2], 3));
        let a = book.apply(update(&[5, 2], &[1])).unwrap();
        assert_eq!((ids(&a.tracks), ids(&a.ended), a.began), (vec![5, 2], vec![1], 0));
        assert!(book.knows(1) && book.has_ended(1) && book.knows(2) && !book.knows(8));
        assert!(book.apply(update(&[5, 2], &[1])).unwrap_err().contains("not live"));
        assert!(book.apply(update(&[5, 2, 1], &[])).unwrap_err().contains("used again"));
        assert_eq!(ids(&book.end_all()), [5, 2]);
        assert!(book.is_empty());
    }

    #[test]
    fn a_successor_that_does_not_know_spent_ids_cannot_reuse_them() {
        let mut book = Ledger::default();
        book.apply(update(&[1, 2, 3], &[])).unwrap();
        book.apply(update(&[2], &[1, 3])).unwrap();
        book.new_instance();
        assert_eq!(ids(&book.live_for_guest()), [2]);
        // It counts on from its highest live id: 3, which is spent.
        let a = book.apply(update(&[2, 3], &[])).unwrap();
        assert_eq!(ids(&a.tracks), [2, 4]);
        let a = book.apply(update(&[2, 3, 4], &[])).unwrap();
        assert_eq!(ids(&a.tracks), [2, 4, 5]);
        assert_eq!(ids(&book.apply(update(&[2, 4], &[3])).unwrap().ended), [4]);
    }

    #[test]
    fn tracks_that_are_silently_dropped_are_ended_by_the_host() {
        let mut book = Ledger::default();
        book.apply(update(&[1, 2, 3], &[])).unwrap();
        let a = book.apply(update(&[3], &[1])).unwrap();
        assert_eq!((ids(&a.ended), a.vanished), (vec![1, 2], 1));
        assert_eq!(book.live_for_guest().len(), 1);
    }

    #[test]
    fn a_wild_numbering_does_not_use_up_the_ids() {
        let mut book = Ledger::default();
        let a = book.apply(update(&[crate::validate::MAX_TRACK_ID, 10], &[])).unwrap();
        assert_eq!(ids(&a.tracks), [11, 10]);
    }

    #[test]
    fn memory_of_ended_tracks_is_bounded() {
        let mut recent = Recent::default();
        for id in 0..REMEMBERED as u64 + 10 {
            recent.add(id);
        }
        assert_eq!((recent.order.len(), recent.set.len()), (REMEMBERED, REMEMBERED));
        assert!(!recent.has(9) && recent.has(10));
    }
}
