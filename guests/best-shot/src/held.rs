//! The pictures that are held, one a track at most, and what was already given up.
//!
//! Owns the promise that a track's end gives up its picture once. A track given up while out of sight and seen again
//! holds a new picture only if that beats the one already sent, so its end sends nothing worse twice. Must not choose
//! candidates.

use std::collections::BTreeMap;

use facestream_guest::{Reason, Shot};
use serde::{Deserialize, Serialize};

/// Records of tracks that ended without the tracker saying so are dropped above this number, oldest sighting first.
const MAX_RECORDS: usize = 4096;

/// What is remembered of a track beside its picture.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrackRecord {
    id: u64,
    /// Timestamp; `None` until the first call after a takeover from another kind of scorer.
    last_seen: Option<u64>,
    /// Timestamp of the latest giving up, at first of the first sighting.
    given_at: Option<u64>,
    /// Highest score given up so far.
    given_score: Option<f32>,
}

impl TrackRecord {
    fn new(id: u64) -> Self {
        Self { id, last_seen: None, given_at: None, given_score: None }
    }

    fn give(&mut self, shot: Shot, reason: Reason, now: u64) -> Shot {
        self.given_at = Some(now);
        self.given_score = Some(self.given_score.map_or(shot.score, |s| s.max(shot.score)));
        shot.because(reason)
    }
}

#[derive(Debug)]
struct Entry {
    record: TrackRecord,
    shot: Option<Shot>,
}

/// All tracks, in the order of their ids, so that output is the same run after run.
#[derive(Debug, Default)]
pub(crate) struct Tracks {
    entries: BTreeMap<u64, Entry>,
    held: usize,
}

impl Tracks {
    /// From what another instance saved; of two pictures of one track the better one stays.
    pub(crate) fn restored(records: Vec<TrackRecord>, shots: Vec<Shot>) -> Self {
        let mut tracks = Self::default();
        for record in records.into_iter().take(MAX_RECORDS) {
            tracks.entries.insert(record.id, Entry { record, shot: None });
        }
        for shot in shots {
            let held = tracks.entry(shot.track_id).shot.as_ref();
            if held.is_none_or(|h| shot.score > h.score) {
                tracks.keep(shot);
            }
        }
        tracks
    }

    fn entry(&mut self, id: u64) -> &mut Entry {
        if self.entries.len() >= MAX_RECORDS && !self.entries.contains_key(&id) {
            let idle =
                self.entries.values().filter(|e| e.shot.is_none()).min_by_key(|e| (e.record.last_seen, e.record.id));
            if let Some(id) = idle.map(|e| e.record.id) {
                self.entries.remove(&id);
            }
        }
        self.entries.entry(id).or_insert_with(|| Entry { record: TrackRecord::new(id), shot: None })
    }

    pub(crate) fn seen(&mut self, id: u64, now: u64) {
        let record = &mut self.entry(id).record;
        record.last_seen = Some(now);
        record.given_at.get_or_insert(now);
    }

    pub(crate) fn held(&self) -> usize {
        self.held
    }

    pub(crate) fn holds(&self, id: u64) -> bool {
        self.entries.get(&id).is_some_and(|e| e.shot.is_some())
    }

    /// Better than what is held and than what was given up already. The first picture of a track always is.
    pub(crate) fn is_better(&self, id: u64, score: f32, min_gain: f32) -> bool {
        self.entries.get(&id).is_none_or(|e| {
            let beats = |old: f32| score > old + min_gain;
            e.shot.as_ref().is_none_or(|s| beats(s.score)) && e.record.given_score.is_none_or(beats)
        })
    }

    pub(crate) fn keep(&mut self, shot: Shot) {
        let before = self.entry(shot.track_id).shot.replace(shot);
        if before.is_none() {
            self.held += 1;
        }
    }

    /// The track has ended; its record goes.
    pub(crate) fn end(&mut self, id: u64) -> Option<Shot> {
        let shot = self.entries.remove(&id)?.shot?;
        self.held -= 1;
        Some(shot.because(Reason::Ended))
    }

    /// Pictures of tracks unseen for so long.
    pub(crate) fn give_up_inactive(&mut self, now: u64, after_ns: u64) -> Vec<Shot> {
        self.give_up_where(now, Reason::Inactive, |r| {
            let last_seen = *r.last_seen.get_or_insert(now);
            now.saturating_sub(last_seen) >= after_ns
        })
    }

    /// Pictures that were held for a whole interval. Each interval has a best of its own.
    pub(crate) fn give_up_at_interval(&mut self, now: u64, every_ns: u64) -> Vec<Shot> {
        let given = self.give_up_where(now, Reason::Interval, |r| {
            let given_at = *r.given_at.get_or_insert(now);
            now.saturating_sub(given_at) >= every_ns
        });
        for shot in &given {
            self.entry(shot.track_id).record.given_score = None;
        }
        given
    }

    fn give_up_where(&mut self, now: u64, reason: Reason, mut due: impl FnMut(&mut TrackRecord) -> bool) -> Vec<Shot> {
        let mut out = Vec::new();
        for Entry { record, shot } in self.entries.values_mut() {
            if due(record)
                && let Some(shot) = shot.take()
            {
                out.push(record.give(shot, reason, now));
            }
        }
        self.held -= out.len();
        out
    }

    /// The track's picture, unless one was given up within the spacing.
    pub(crate) fn give_up_improved(&mut self, id: u64, now: u64, spacing_ns: u64) -> Option<Shot> {
        let Entry { record, shot } = self.entries.get_mut(&id)?;
        let first = record.given_score.is_none();
        let since = now.saturating_sub(record.given_at.unwrap_or(now));
        if !first && since < spacing_ns {
            return None;
        }
        let shot = shot.take()?;
        self.held -= 1;
        Some(record.give(shot, Reason::Improved, now))
    }

    /// The picture of the track unseen for longest, if any holder is out of sight.
    pub(crate) fn give_up_unseen(&mut self, now: u64) -> Option<Shot> {
        let unseen = self.entries.values_mut().filter(|e| e.shot.is_some() && e.record.last_seen != Some(now));
        let Entry { record, shot } = unseen.min_by_key(|e| (e.record.last_seen, e.record.id))?;
        let shot = shot.take()?;
        self.held -= 1;
        Some(record.give(shot, Reason::Inactive, now))
    }

    /// Everything, which leaves: the records, and the pictures as given up by a flush.
    pub(crate) fn take_all(&mut self) -> (Vec<TrackRecord>, Vec<Shot>) {
        self.held = 0;
        let entries = std::mem::take(&mut self.entries);
        let mut records = Vec::with_capacity(entries.len());
        let mut shots = Vec::new();
        for Entry { record, shot } in entries.into_values() {
            records.push(record);
            shots.extend(shot.map(|s| s.because(Reason::Flushed)));
        }
        (records, shots)
    }
}
