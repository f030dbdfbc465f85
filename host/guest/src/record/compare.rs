//! Two guests that were told the same: how far their answers agree, and what each costs.
//!
//! Owns the numbers of a comparison, bounded however long it lasts. Says nothing about which of the two is right.

use std::collections::{HashMap, HashSet, VecDeque};

use facestream_core::guest::SlotKind;
use facestream_core::{Rect, Track};
use serde::Serialize;

use super::call::{Answer, Call, MessageRecord, ShotRecord};

/// Ids and shots that are remembered a side; what comes beyond is not compared across calls.
const REMEMBERED: usize = 16_384;
/// Latest calls that percentiles are made of.
const TIMINGS: usize = 4_096;
/// Boxes of one id that overlap at least so far (intersection over union) are of one object.
const SAME_OBJECT: f32 = 0.5;

/// What calls cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Timing {
    /// Calls made.
    pub calls: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Mean microseconds a call.
    pub mean_us: f64,
    /// Median of the latest calls, microseconds.
    pub p50_us: f64,
    /// 99 of 100 of the latest calls took no longer, microseconds.
    pub p99_us: f64,
    /// Bytes of messages written, or of crops given up.
    pub bytes: u64,
}

/// A comparison so far.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparisonReport {
    /// Calls that both were made.
    pub calls: u64,
    /// Of these, those with an analysed frame.
    pub frames: u64,
    /// Calls whose answers were the same to the bit.
    pub equal: u64,
    /// Calls whose answers were not.
    pub different: u64,
    /// The one that runs, or ran when it was recorded.
    pub active: Timing,
    /// The other.
    pub candidate: Timing,
    /// Trackers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracks: Option<TracksReport>,
    /// Scorers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shots: Option<ShotsReport>,
    /// Formatters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<MessagesReport>,
}

/// How two trackers agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TracksReport {
    /// Ids that both gave to the same object (IoU 0.5 at least) at some time.
    pub ids_kept: u64,
    /// The candidate's other ids.
    pub ids_new: u64,
    /// The active one's other ids.
    pub ids_lost: u64,
    /// Tracks, summed over frames, that have the same id on the same object.
    pub matched: u64,
    /// The same id on boxes that hardly overlap.
    pub misplaced: u64,
    /// Tracks of one side without that id on the other in the same frame.
    pub unmatched: u64,
    /// Mean distance of matched boxes' corners, pixels.
    pub mean_box_shift_px: f64,
    /// Largest one.
    pub max_box_shift_px: f64,
}

/// How two scorers agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ShotsReport {
    /// Pictures that both chose: same track, same frame.
    pub same: u64,
    /// Chosen by the active one where the candidate chose another picture of the same track.
    pub other_picture: u64,
    /// Chosen by the active one; the candidate chose none of that track.
    pub only_active: u64,
    /// Chosen by the candidate alone.
    pub only_candidate: u64,
    /// Mean difference of the two scores of a picture that both chose.
    pub mean_score_difference: f64,
    /// Largest one.
    pub max_score_difference: f64,
}

/// How two formatters agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MessagesReport {
    /// The same in topic, key, headers and payload.
    pub equal: u64,
    /// In the same place, but not the same.
    pub different: u64,
    /// Written by the active one alone.
    pub only_active: u64,
    /// Written by the candidate alone.
    pub only_candidate: u64,
}

#[derive(Clone, Debug, Default)]
struct Side {
    timing: Timing,
    total_ns: u64,
    latest_ns: VecDeque<u64>,
}

impl Side {
    fn add(&mut self, answer: &Answer, nanoseconds: u64) {
        self.timing.calls += 1;
        self.total_ns = self.total_ns.saturating_add(nanoseconds);
        if self.latest_ns.len() == TIMINGS {
            self.latest_ns.pop_front();
        }
        self.latest_ns.push_back(nanoseconds);
        let bytes: u64 = match answer {
            Answer::Failed { .. } => {
                self.timing.failures += 1;
                0
            }
            Answer::Messages(messages) => messages.iter().map(|m| m.payload.len()).sum(),
            Answer::Shots(shots) => shots.iter().map(|s| s.picture.bytes).sum(),
            _ => 0,
        };
        self.timing.bytes = self.timing.bytes.saturating_add(bytes);
    }

    fn report(&self) -> Timing {
        let mut sorted: Vec<u64> = self.latest_ns.iter().copied().collect();
        sorted.sort_unstable();
        let at = |share: f64| {
            let index = ((sorted.len().max(1) - 1) as f64 * share).round() as usize;
            sorted.get(index).map_or(0.0, |&ns| ns as f64 / 1000.0)
        };
        let mean_us =
            if self.timing.calls == 0 { 0.0 } else { self.total_ns as f64 / self.timing.calls as f64 / 1000.0 };
        Timing { mean_us, p50_us: at(0.5), p99_us: at(0.99), ..self.timing }
    }
}

type ShotKey = (u64, u64, u64);

/// Two guests of one slot, call by call.
#[derive(Clone, Debug)]
pub struct Comparison {
    slot: SlotKind,
    calls: u64,
    frames: u64,
    equal: u64,
    different: u64,
    active: Side,
    candidate: Side,
    ids: [HashSet<u64>; 2],
    /// Ids that both gave to the same object at least once.
    kept: HashSet<u64>,
    tracks: TracksReport,
    shift_sum: f64,
    chosen: [HashMap<ShotKey, f32>; 2],
    messages: MessagesReport,
}

impl Comparison {
    /// Nothing compared yet.
    #[must_use]
    pub fn new(slot: SlotKind) -> Self {
        Self {
            slot,
            calls: 0,
            frames: 0,
            equal: 0,
            different: 0,
            active: Side::default(),
            candidate: Side::default(),
            ids: Default::default(),
            kept: HashSet::new(),
            tracks: TracksReport::default(),
            shift_sum: 0.0,
            chosen: Default::default(),
            messages: MessagesReport::default(),
        }
    }

    /// One call that both were made, with what it cost in nanoseconds.
    pub fn add(&mut self, call: &Call, active: (&Answer, u64), candidate: (&Answer, u64)) {
        self.calls += 1;
        self.frames += u64::from(call.frame().is_some());
        self.active.add(active.0, active.1);
        self.candidate.add(candidate.0, candidate.1);
        if matches!(same(active.0, candidate.0, false), Verdict::Different) {
            self.different += 1;
        } else {
            self.equal += 1;
        }
        match (active.0, candidate.0) {
            (Answer::Tracks { tracks: a, .. }, Answer::Tracks { tracks: b, .. }) => self.add_tracks(a, b),
            (Answer::Shots(a), Answer::Shots(b)) => {
                for (side, shots) in self.chosen.iter_mut().zip([a, b]) {
                    for s in shots {
                        if side.len() < REMEMBERED {
                            side.insert((s.track_id, s.session, s.sequence), s.score);
                        }
                    }
                }
            }
            (Answer::Messages(a), Answer::Messages(b)) => {
                let equal = a.iter().zip(b).filter(|(a, b)| same_message(a, b)).count();
                let both = a.len().min(b.len());
                self.messages.equal += equal as u64;
                self.messages.different += (both - equal) as u64;
                self.messages.only_active += (a.len() - both) as u64;
                self.messages.only_candidate += (b.len() - both) as u64;
            }
            _ => {}
        }
    }

    fn add_tracks(&mut self, a: &[Track], b: &[Track]) {
        for (ids, tracks) in self.ids.iter_mut().zip([a, b]) {
            for t in tracks {
                if ids.len() < REMEMBERED {
                    ids.insert(t.id);
                }
            }
        }
        let theirs: HashMap<u64, Rect> = b.iter().map(|t| (t.id, t.bbox)).collect();
        let mut met = 0;
        for t in a {
            match theirs.get(&t.id) {
                Some(bbox) if t.bbox.iou(bbox) >= SAME_OBJECT => {
                    let corners = t.bbox.corners().into_iter().zip(bbox.corners());
                    let shift = corners.map(|(p, q)| f64::from((p - q).abs())).sum::<f64>() / 4.0;
                    self.shift_sum += shift;
                    self.tracks.max_box_shift_px = self.tracks.max_box_shift_px.max(shift);
                    self.tracks.matched += 1;
                    if self.ids[0].contains(&t.id) {
                        self.kept.insert(t.id);
                    }
                    met += 1;
                }
                Some(_) => {
                    self.tracks.misplaced += 1;
                    met += 1;
                }
                None => self.tracks.unmatched += 1,
            }
        }
        self.tracks.unmatched += (b.len() as u64).saturating_sub(met);
    }

    /// The candidate was not called, because it did not want this.
    pub fn unasked(&mut self, call: &Call, active: (&Answer, u64)) {
        self.add(call, active, (&Answer::Messages(Vec::new()), 0));
        self.candidate.timing.calls -= 1;
        self.candidate.latest_ns.pop_back();
    }

    /// The numbers so far.
    #[must_use]
    pub fn report(&self) -> ComparisonReport {
        let tracks = (self.slot == SlotKind::Tracker).then(|| {
            let kept = self.kept.len() as u64;
            let matched = self.tracks.matched;
            TracksReport {
                ids_kept: kept,
                ids_new: self.ids[1].difference(&self.kept).count() as u64,
                ids_lost: self.ids[0].difference(&self.kept).count() as u64,
                mean_box_shift_px: if matched == 0 { 0.0 } else { self.shift_sum / matched as f64 },
                ..self.tracks
            }
        });
        ComparisonReport {
            calls: self.calls,
            frames: self.frames,
            equal: self.equal,
            different: self.different,
            active: self.active.report(),
            candidate: self.candidate.report(),
            tracks,
            shots: (self.slot == SlotKind::Scorer).then(|| self.shots()),
            messages: (self.slot == SlotKind::Formatter).then_some(self.messages),
        }
    }

    fn shots(&self) -> ShotsReport {
        let [a, b] = &self.chosen;
        let theirs: HashSet<u64> = b.keys().map(|key| key.0).collect();
        let (mut report, mut sum) = (ShotsReport::default(), 0.0);
        for (key, score) in a {
            match b.get(key) {
                Some(other) => {
                    let difference = f64::from((score - other).abs());
                    report.same += 1;
                    sum += difference;
                    report.max_score_difference = report.max_score_difference.max(difference);
                }
                None if theirs.contains(&key.0) => report.other_picture += 1,
                None => report.only_active += 1,
            }
        }
        report.only_candidate = b.keys().filter(|key| !a.contains_key(key)).count() as u64;
        report.mean_score_difference = if report.same == 0 { 0.0 } else { sum / report.same as f64 };
        report
    }
}

/// Whether two answers are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// To the bit.
    Same,
    /// In all but bytes that were made from a picture which is not there.
    InPart,
    /// No.
    Different,
}

fn same_message(a: &MessageRecord, b: &MessageRecord) -> bool {
    same_head(a, b) && a.payload.same(&b.payload)
}

fn same_head(a: &MessageRecord, b: &MessageRecord) -> bool {
    a.topic == b.topic && a.key == b.key && a.headers == b.headers && a.content_type == b.content_type
}

/// `stood_in`: zeros have stood in for picture bytes, so that payloads can only be compared by their length.
pub(crate) fn same(a: &Answer, b: &Answer, stood_in: bool) -> Verdict {
    let verdict = |same: bool, in_part: bool| match (same, in_part) {
        (true, _) => Verdict::Same,
        (false, true) => Verdict::InPart,
        (false, false) => Verdict::Different,
    };
    match (a, b) {
        (Answer::Messages(a), Answer::Messages(b)) => {
            let pairs = || a.iter().zip(b);
            let same = a.len() == b.len() && pairs().all(|(a, b)| same_message(a, b));
            let alike =
                |(a, b): (&MessageRecord, &MessageRecord)| same_head(a, b) && a.payload.len() == b.payload.len();
            verdict(same, stood_in && a.len() == b.len() && pairs().all(alike))
        }
        (Answer::State { state: a, shots: s, .. }, Answer::State { state: b, shots: t, .. }) => {
            let rest = a.schema == b.schema && same_shots(s, t);
            verdict(rest && a.data.same(&b.data), rest && stood_in)
        }
        (Answer::Shots(a), Answer::Shots(b)) => verdict(same_shots(a, b), false),
        // The words of a failure hold addresses of the build; its kind is what counts.
        (Answer::Failed { kind: a, .. }, Answer::Failed { kind: b, .. }) => verdict(a == b, false),
        (a, b) => verdict(matches!((a.fingerprint(), b.fingerprint()), (Ok(a), Ok(b)) if a == b), false),
    }
}

fn same_shots(a: &[ShotRecord], b: &[ShotRecord]) -> bool {
    let bits = |shots: &[ShotRecord]| Answer::Shots(shots.to_vec()).fingerprint().ok();
    bits(a) == bits(b)
}
