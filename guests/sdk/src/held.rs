//! The best picture of each track so far: what most scorers hold between calls.
//!
//! Owns holding, comparing by score and giving up. Must not measure or crop: a scorer decides what a picture is worth.

use std::collections::BTreeMap;

use crate::scorer::{Reason, Shot};

/// At most one shot a track. A scorer that names its own in [`crate::Scorer::held`] need not write `flush`, `save` and
/// `restore`: their defaults give up, hand over and take over what is in here.
///
/// ```
/// use facestream_guest::testing::{FakeHost, detection, frame, track};
/// use facestream_guest::{HeldShots, Quality, Reason, Shot};
///
/// let quality = Quality { sharpness: 20.0, brightness: 50.0 };
/// let (host, info, face) = (FakeHost::default(), frame(1, 40), detection(10.0, 10.0, 80.0, 100.0, 0.9));
/// let shot = Shot::new(&info, &track(7, &info, &face, 0), &face, host.crop(80, 100, quality), quality);
///
/// let mut held = HeldShots::default();
/// assert!(held.is_better(7, 3.0), "nothing is held of track 7 yet");
/// held.keep(shot.scored(3.0));
/// assert!(!held.is_better(7, 2.5));
/// assert_eq!(held.end(&[7, 8])[0].reason, Reason::Ended);
/// assert!(held.is_empty());
/// ```
#[derive(Debug, Default)]
pub struct HeldShots {
    best: BTreeMap<u64, Shot>,
}

impl HeldShots {
    /// Holds nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { best: BTreeMap::new() }
    }

    /// Whether a picture with this score would be the best of its track. Ask before cropping: crops cost memory.
    #[must_use]
    pub fn is_better(&self, track_id: u64, score: f32) -> bool {
        self.best.get(&track_id).is_none_or(|held| score > held.score)
    }

    /// Holds a shot in place of the one of the same track, whose crop is dropped.
    pub fn keep(&mut self, shot: Shot) {
        self.best.insert(shot.track_id, shot);
    }

    /// The shot of a track.
    #[must_use]
    pub fn get(&self, track_id: u64) -> Option<&Shot> {
        self.best.get(&track_id)
    }

    /// All of them, by track.
    pub fn iter(&self) -> impl Iterator<Item = &Shot> {
        self.best.values()
    }

    /// How many are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.best.len()
    }

    /// Nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.best.is_empty()
    }

    /// Gives up the shot of one track.
    pub fn give_up(&mut self, track_id: u64, reason: Reason) -> Option<Shot> {
        self.best.remove(&track_id).map(|shot| shot.because(reason))
    }

    /// Gives up the shots of tracks that have ended.
    pub fn end(&mut self, ended: &[u64]) -> Vec<Shot> {
        ended.iter().filter_map(|id| self.give_up(*id, Reason::Ended)).collect()
    }

    /// Gives up all.
    pub fn flush(&mut self) -> Vec<Shot> {
        self.take().into_iter().map(|shot| shot.because(Reason::Flushed)).collect()
    }

    /// Takes all out as they are, for `save`.
    pub fn take(&mut self) -> Vec<Shot> {
        std::mem::take(&mut self.best).into_values().collect()
    }

    /// Holds these and no others, for `restore`. Of two of one track the better stays.
    pub fn replace(&mut self, shots: Vec<Shot>) {
        self.best.clear();
        for shot in shots {
            if self.is_better(shot.track_id, shot.score) {
                self.keep(shot);
            }
        }
    }
}
