//! Two-stage association over time: the part that BoT-SORT and ByteTrack have in common.
//!
//! Order of one frame (ByteTrack section 3, BoT-SORT algorithm 1 without re-identification):
//! end what is too old; predict; move with the camera; match followed and lost tracks with confident detections; match
//! still unmatched followed tracks with weak ones, then those lost a moment ago; match tentative tracks; look for lost tracks nearby; start new
//! tracks; merge duplicates.
//!
//! Where this differs from the papers' code, and why:
//! - Time, not frames: buffer and motion follow the frames' timestamps, so analysis at 5 frames a second or dropped
//!   frames change neither. A track older than the buffer ends before matching: after a gap of an hour nothing is the
//!   same face because it stands in the same place.
//! - Lost tracks are looked for once more with widened boxes (C-BIoU, Yang et al., WACV 2023): a face that turned or
//!   braked while it was hidden keeps its id. Only detections that no track wanted take part.
//! - A track lost a moment ago may also come back by a weak detection, after the followed tracks had their choice: who
//!   steps out from behind somebody is half hidden at first, and unsure detections are what a detector makes of that.
//!   Waiting for a confident one lets the prediction drift until it meets nothing.
//! - An unsure detection's box is believed less (its measurement noise grows as confidence falls; after NSA Kalman, Du
//!   et al., GIAOTracker, ICCVW 2021, who scale it by 1 - confidence): a half-hidden face pulls velocity and size off.
//! - Of a followed and a lost track that overlap nearly wholly, the older id lives on with the younger's state; the
//!   papers' code drops one of the two and may lose the object for a frame.
//! - A lost track whose centre left the picture stops moving: who turns round beyond the edge is seen again where the
//!   edge cuts the box, and a box that had moved on would not meet that. It also stays finite and near.
//! - Ids are the engine's own, from 1; no counter is shared between cameras.
//!
//! Must not log, allocate per pair, or read a clock.

use facestream_guest::{Affine, Detection, FrameInfo, Point, Rect, Track, TrackPhase, Update};
use serde::{Deserialize, Serialize};

use crate::assignment::{Assignment, Edge};
use crate::kalman::{Motion, Step};
use crate::live::{Live, Phase};
use crate::overlap::{Overlaps, Pair};
use crate::params::Params;

/// Everything that a swap carries over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EngineState<M> {
    tracks: Vec<Live<M>>,
    next_id: u64,
    clock: Option<(u64, u64)>,
}

/// State that cannot be true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsound(pub String);

impl std::fmt::Display for Unsound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unsound {}

/// Candidates of one stage and scratch memory, kept between frames.
#[derive(Clone, Debug, Default)]
struct Scratch {
    /// Detections that no track has taken, by confidence.
    high: Vec<u32>,
    low: Vec<u32>,
    /// Tracks without a detection: followed and lost ones, and tentative ones.
    waiting: Vec<u32>,
    tentative: Vec<u32>,
    /// Of one stage.
    rows: Vec<u32>,
    edges: Vec<Edge>,
    solver: Assignment,
    overlaps: Overlaps,
}

/// What a stage compares.
#[derive(Clone, Copy)]
enum Cost {
    Iou,
    Fused,
    Widened(f32),
}

/// The tracker proper, for one camera.
#[derive(Clone, Debug)]
pub struct Engine<M> {
    params: Params,
    tracks: Vec<Live<M>>,
    next_id: u64,
    /// Session and timestamp of the latest frame.
    clock: Option<(u64, u64)>,
    scratch: Scratch,
}

impl<M: Motion> Engine<M> {
    /// Without tracks; the first id is 1.
    #[must_use]
    pub fn new(params: Params) -> Self {
        Self { params, tracks: Vec::new(), next_id: 1, clock: None, scratch: Scratch::default() }
    }

    /// New parameters; tracks stay.
    pub fn set_params(&mut self, params: Params) {
        self.params = params;
    }

    /// The smallest id never given out.
    #[must_use]
    pub fn next_id(&self) -> u64 {
        self.next_id
    }

    /// Live tracks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tracks.len()
    }

    /// Whether nothing is followed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tracks.is_empty()
    }

    /// One analysed frame. Detections that are not finite, or without size, are passed over.
    pub fn advance(&mut self, frame: &FrameInfo, detections: &[Detection], motion: Option<&Affine>) -> Update {
        let mut s = std::mem::take(&mut self.scratch);
        let fresh = self.clock.is_none() && self.tracks.is_empty();
        let same_session = self.clock.is_none_or(|(session, _)| session == frame.session);
        // A clock that went back (it must not) counts as standing still.
        let elapsed = self.clock.map_or(0, |(_, at)| frame.timestamp.saturating_sub(at));
        let now = self.clock.map_or(frame.timestamp, |(_, at)| frame.timestamp.max(at));
        self.clock = Some((frame.session, now));

        self.age(now, same_session);
        let motion = motion.filter(|m| self.params.camera_motion && same_session && m.is_finite());
        self.predict(elapsed, frame, motion);

        self.sort(&mut s, detections);
        let p = &self.params;
        let (first, second, unconfirmed) = (p.match_cost, p.second_cost, p.unconfirmed_cost);
        let (recovery, margin, weak_return) = (p.recovery_cost, p.recovery_margin, p.weak_return_ns);
        let fused = if p.fuse_score { Cost::Fused } else { Cost::Iou };

        let [mut high, mut low, mut waiting] = [&mut s.high, &mut s.low, &mut s.waiting].map(std::mem::take);
        let tentative = std::mem::take(&mut s.tentative);
        self.stage(&mut s, &waiting, |_| true, detections, &mut high, fused, first, now);
        waiting.retain(|&i| self.tracks[i as usize].detection.is_none());
        // Tracks seen in the previous frame choose first among weak detections, then those lost a moment ago; to come back
        // after longer takes a confident one.
        self.stage(&mut s, &waiting, |t| t.phase == Phase::Followed, detections, &mut low, Cost::Iou, second, now);
        if weak_return > 0 {
            let recent = |t: &Live<M>| t.phase == Phase::Lost && now.saturating_sub(t.last_seen) <= weak_return;
            self.stage(&mut s, &waiting, recent, detections, &mut low, Cost::Iou, second, now);
        }
        self.stage(&mut s, &tentative, |_| true, detections, &mut high, fused, unconfirmed, now);
        for &i in waiting.iter().chain(&tentative) {
            let t = &mut self.tracks[i as usize];
            if t.detection.is_none() {
                t.phase = if t.phase == Phase::Tentative { Phase::Ended } else { Phase::Lost };
            }
        }
        if margin > 0.0 {
            high.retain(|&i| detections[i as usize].confidence >= self.params.new_track);
            let lost = |t: &Live<M>| t.phase == Phase::Lost;
            self.stage(&mut s, &waiting, lost, detections, &mut high, Cost::Widened(margin), recovery, now);
        }
        for &i in &high {
            let d = &detections[i as usize];
            if d.confidence >= self.params.new_track {
                self.start(i, d, now, fresh);
            }
        }
        self.merge_duplicates(&waiting);
        (s.high, s.low, s.waiting, s.tentative) = (high, low, waiting, tentative);
        self.scratch = s;
        self.report()
    }

    /// What there is to be matched: detections by confidence, and tracks.
    #[inline(never)]
    fn sort(&self, s: &mut Scratch, detections: &[Detection]) {
        let Scratch { high, low, waiting, tentative, .. } = s;
        for list in [&mut *high, low, waiting, tentative] {
            list.clear();
        }
        high.reserve(detections.len());
        for (i, d) in (0_u32..).zip(detections) {
            if !d.bbox.is_valid() || !d.confidence.is_finite() {
                continue;
            }
            if d.confidence >= self.params.high {
                high.push(i);
            } else if d.confidence >= self.params.low {
                low.push(i);
            }
        }
        waiting.reserve(self.tracks.len());
        for (i, t) in (0_u32..).zip(&self.tracks) {
            match t.phase {
                Phase::Followed | Phase::Lost => waiting.push(i),
                Phase::Tentative => tentative.push(i),
                Phase::Ended => {}
            }
        }
    }

    #[inline(never)]
    fn age(&mut self, now: u64, same_session: bool) {
        let p = &self.params;
        for t in &mut self.tracks {
            t.detection = None;
            if !same_session {
                t.phase = match t.phase {
                    Phase::Followed | Phase::Lost if p.keep_across_sessions => Phase::Lost,
                    _ => Phase::Ended,
                };
            }
            if now.saturating_sub(t.last_seen) > p.buffer_ns {
                t.phase = Phase::Ended;
            }
        }
    }

    #[inline(never)]
    fn predict(&mut self, elapsed_ns: u64, frame: &FrameInfo, motion: Option<&Affine>) {
        // Longer gaps than the buffer have ended every track already.
        let step = Step::of(elapsed_ns.min(self.params.buffer_ns) as f64 * 1e-9 * self.params.reference_fps);
        // Over so long a step a size that was changing would grow or vanish; it is kept, as for lost tracks.
        let long = elapsed_ns >= 500_000_000;
        for t in self.tracks.iter_mut().filter(|t| t.phase != Phase::Ended) {
            t.motion.predict(&step, long || t.phase == Phase::Lost);
            if let Some(m) = motion {
                t.motion.warp(m);
            }
            t.bbox = t.motion.rect();
            let (centre, width, height) = (t.bbox.center(), frame.width.max(1) as f32, frame.height.max(1) as f32);
            let gone = !(0.0..=width).contains(&centre.x) || !(0.0..=height).contains(&centre.y);
            if !t.motion.is_sound() || !t.bbox.is_valid() || far_away(&t.bbox, frame) {
                // A long step at high speed, or absurd camera motion: nothing that far away comes back.
                t.phase = Phase::Ended;
            } else if gone && t.phase == Phase::Lost {
                t.motion.set_velocity(Point { x: 0.0, y: 0.0 });
            }
        }
    }

    /// Matches the tracks of `pool` that have no detection yet and that `who` selects with `columns`; matched columns leave.
    #[allow(clippy::too_many_arguments)]
    fn stage(
        &mut self,
        s: &mut Scratch,
        pool: &[u32],
        who: impl Fn(&Live<M>) -> bool,
        detections: &[Detection],
        columns: &mut Vec<u32>,
        cost: Cost,
        limit: f32,
        now: u64,
    ) {
        if columns.is_empty() {
            return;
        }
        let free = |i: &&u32| {
            let t = &self.tracks[**i as usize];
            t.detection.is_none() && who(t)
        };
        s.rows.clear();
        s.rows.extend(pool.iter().filter(free));
        if s.rows.is_empty() {
            return;
        }
        let margin = if let Cost::Widened(margin) = cost { margin } else { 0.0 };
        s.overlaps.find(
            s.rows.iter().map(|&i| self.tracks[i as usize].bbox.with_margin(margin)),
            columns.iter().map(|&i| detections[i as usize].bbox.with_margin(margin)),
        );
        self.weigh(s, detections, columns, cost, limit);
        if s.edges.is_empty() {
            return;
        }
        s.solver.solve(s.rows.len(), columns.len(), &s.edges, limit);
        self.take(s, detections, columns, now);
    }

    /// The pairs that overlap and cost less than `limit`.
    // Not inlined, as other steps here: see `Overlaps::search`.
    #[inline(never)]
    fn weigh(&self, s: &mut Scratch, detections: &[Detection], columns: &[u32], cost: Cost, limit: f32) {
        let Scratch { rows, edges, overlaps, .. } = s;
        edges.clear();
        for &Pair { row, col } in &overlaps.pairs {
            let track = &self.tracks[rows[row as usize] as usize];
            let d = &detections[columns[col as usize] as usize];
            let iou = overlaps.rows[row as usize].iou(&overlaps.cols[col as usize]);
            let cost = match cost {
                Cost::Iou => 1.0 - iou,
                Cost::Fused => 1.0 - iou * if d.confidence < 1.0 { d.confidence } else { 1.0 },
                // Widening hides that two boxes differ in size; a face does not double while hidden.
                Cost::Widened(_) if !similar_size(&track.bbox, &d.bbox) => continue,
                Cost::Widened(_) => 1.0 - iou,
            };
            if cost < limit && (!self.params.class_aware || track.class_id == d.class_id) {
                edges.push(Edge { row, col, cost });
            }
        }
    }

    /// Gives each matched row its detection; matched columns leave.
    #[inline(never)]
    fn take(&mut self, s: &Scratch, detections: &[Detection], columns: &mut Vec<u32>, now: u64) {
        for (row, &track) in s.rows.iter().enumerate() {
            if let Some(col) = s.solver.col_of(row) {
                let index = columns[col];
                self.tracks[track as usize].matched(index, &detections[index as usize], now, &self.params);
            }
        }
        let mut col = 0;
        columns.retain(|_| {
            col += 1;
            s.solver.row_of(col - 1).is_none()
        });
    }

    fn start(&mut self, index: u32, d: &Detection, now: u64, fresh: bool) {
        if self.tracks.iter().filter(|t| t.phase != Phase::Ended).count() >= self.params.max_tracks {
            // The lost track unseen for longest makes room; where all are followed, the newcomer waits.
            let oldest = self.tracks.iter_mut().filter(|t| t.phase == Phase::Lost).min_by_key(|t| (t.last_seen, t.id));
            match oldest {
                Some(t) => t.phase = Phase::Ended,
                None => return,
            }
        }
        // As in the papers' code, what is there in the very first frame is believed at once.
        let confirmed = fresh || self.params.confirm_hits <= 1;
        self.tracks.push(Live {
            id: self.next_id,
            phase: if confirmed { Phase::Followed } else { Phase::Tentative },
            motion: M::start(&d.bbox),
            bbox: d.bbox,
            confidence: d.confidence,
            class_id: d.class_id,
            detection: Some(index),
            first_seen: now,
            last_seen: now,
            hits: 1,
        });
        self.next_id += 1;
    }

    /// `waiting`: where lost tracks stand.
    #[inline(never)]
    fn merge_duplicates(&mut self, waiting: &[u32]) {
        for lost in waiting.iter().map(|&i| i as usize) {
            if self.tracks[lost].phase != Phase::Lost {
                continue;
            }
            let overlapping = |t: &Live<M>| {
                t.phase == Phase::Followed && t.bbox.iou(&self.tracks[lost].bbox) > self.params.duplicate_iou
            };
            let Some(followed) = self.tracks.iter().position(overlapping) else { continue };
            // Tracks stand in the order of their ids: the earlier one is the older.
            if lost < followed {
                let younger = self.tracks[followed].clone();
                let older = &mut self.tracks[lost];
                *older = Live {
                    id: older.id,
                    first_seen: older.first_seen,
                    hits: older.hits.saturating_add(younger.hits),
                    ..younger
                };
                self.tracks[followed].phase = Phase::Ended;
            } else {
                self.tracks[lost].phase = Phase::Ended;
            }
        }
    }

    #[inline(never)]
    fn report(&mut self) -> Update {
        let mut ended = Vec::new();
        if self.tracks.iter().any(|t| t.phase == Phase::Ended) {
            ended.extend(self.tracks.iter().filter(|t| t.phase == Phase::Ended).map(|t| t.id));
            self.tracks.retain(|t| t.phase != Phase::Ended);
        }
        let fps = self.params.reference_fps as f32;
        Update { tracks: self.tracks.iter().map(|t| t.report(fps)).collect(), ended }
    }

    /// Private state; the engine goes on unchanged.
    #[must_use]
    pub fn save(&self) -> EngineState<M> {
        EngineState { tracks: self.tracks.clone(), next_id: self.next_id, clock: self.clock }
    }

    /// Takes private state, in place of what was there.
    ///
    /// # Errors
    /// When it cannot be true: ids out of order or not below the next one, numbers that are not finite.
    pub fn load(&mut self, state: EngineState<M>) -> Result<(), Unsound> {
        let sound = |t: &Live<M>| {
            t.motion.is_sound() && t.bbox.is_valid() && t.phase != Phase::Ended && t.confidence.is_finite()
        };
        if let Some(t) = state.tracks.iter().find(|t| !sound(t)) {
            return Err(Unsound(format!("track {} has impossible numbers", t.id)));
        }
        if !state.tracks.is_sorted_by(|a, b| a.id < b.id) {
            return Err(Unsound("track ids are not in order".to_owned()));
        }
        if state.next_id == 0 || state.tracks.last().is_some_and(|t| t.id >= state.next_id) {
            return Err(Unsound(format!("next id {} was given out already", state.next_id)));
        }
        (self.tracks, self.next_id, self.clock) = (state.tracks, state.next_id, state.clock);
        Ok(())
    }

    /// Takes the live tracks of another tracker. Ids go on above all of them and not below `next_id`. The clock
    /// starts at the latest sighting, so the first frame predicts across the gap.
    ///
    /// # Errors
    /// Ids that repeat, or boxes that are none.
    pub fn adopt(&mut self, tracks: &[Track], next_id: u64) -> Result<(), Unsound> {
        let mut live = Vec::with_capacity(tracks.len());
        for t in tracks {
            let finite = t.velocity.x.is_finite() && t.velocity.y.is_finite() && t.confidence.is_finite();
            if !t.bbox.is_valid() || !finite || t.id == u64::MAX {
                return Err(Unsound(format!("track {} has impossible numbers", t.id)));
            }
            let mut motion = M::start(&t.bbox);
            let fps = self.params.reference_fps as f32;
            motion.set_velocity(Point { x: t.velocity.x / fps, y: t.velocity.y / fps });
            live.push(Live {
                id: t.id,
                phase: match t.phase {
                    TrackPhase::Tentative => Phase::Tentative,
                    TrackPhase::Confirmed => Phase::Followed,
                    TrackPhase::Lost => Phase::Lost,
                },
                motion,
                bbox: t.bbox,
                confidence: t.confidence,
                class_id: t.class_id,
                detection: None,
                first_seen: t.first_seen,
                last_seen: t.last_seen,
                hits: if t.phase == TrackPhase::Tentative { 1 } else { self.params.confirm_hits },
            });
        }
        live.sort_by_key(|t| t.id);
        if let Some(pair) = live.windows(2).find(|w| w[0].id == w[1].id) {
            return Err(Unsound(format!("track id {} comes twice", pair[0].id)));
        }
        let above = live.last().map_or(1, |t| t.id + 1);
        self.next_id = self.next_id.max(above).max(next_id);
        self.tracks = live;
        self.clock = None;
        Ok(())
    }
}

/// More than twice the frame's longer side away, or larger than that.
fn far_away(bbox: &Rect, frame: &FrameInfo) -> bool {
    let limit = 2.0 * frame.width.max(frame.height).max(1) as f32;
    let [x1, y1, x2, y2] = bbox.corners();
    x1 < -limit || y1 < -limit || x2 > 2.0 * limit || y2 > 2.0 * limit
}

fn similar_size(a: &Rect, b: &Rect) -> bool {
    let near = |p: f32, q: f32| p < 1.7 * q && q < 1.7 * p;
    near(a.width, b.width) && near(a.height, b.height)
}
