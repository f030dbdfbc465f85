//! What a scene means for a guest of each world: the calls it gets, in order.
//!
//! Owns the stand-ins for the slots before the one under test: a tracker that knows the truth (for scorers and
//! formatters) and a scorer that takes each track's middle (for formatters). Must not call guests.

use std::collections::BTreeMap;

use facestream_core::guest::SlotKind;
use facestream_core::{FrameInfo, PictureError, Point, Quality, Rect, Shot, ShotReason, Track, TrackPhase};

use crate::picture::Studio;
use crate::scene::{FRAME_NS, Scene};

/// A track unseen for so long ends, in the stand-in tracker.
const LOST_FOR_NS: u64 = 1_000_000_000;
/// Detections until the stand-in tracker confirms a track.
const CONFIRMED_AFTER: u64 = 3;

/// One event for a formatter.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Shot(Box<Shot>),
    Ending(Track),
    Frame(FrameInfo, Vec<Track>),
}

/// One call.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    /// A tracker's frame: the scene's frame of this index.
    Advance(usize),
    /// A scorer's frame.
    Observe { frame: usize, tracks: Vec<Track>, ended: Vec<u64> },
    /// Time passes.
    Tick(u64),
    /// A formatter's event.
    Event(Event),
    /// All is given up.
    Flush,
}

/// One call and the frame (index in the scene) it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) frame: usize,
    pub(crate) call: Call,
}

/// The calls of a scene.
pub(crate) fn steps(kind: SlotKind, scene: &Scene, studio: &Studio) -> Result<Vec<Step>, PictureError> {
    match kind {
        SlotKind::Tracker => {
            Ok((0..scene.frames.len()).map(|frame| Step { frame, call: Call::Advance(frame) }).collect())
        }
        SlotKind::Scorer => Ok(scorer(scene)),
        SlotKind::Formatter => formatter(scene, studio),
    }
}

fn scorer(scene: &Scene) -> Vec<Step> {
    let mut truth = Truth::default();
    let mut steps = Vec::new();
    for frame in 0..scene.frames.len() {
        // Where the scene stands still for long, the host lets time pass: every 250 ms.
        if let Some(before) = frame.checked_sub(1) {
            let (from, to) = (scene.frames[before].info.timestamp_ns, scene.frames[frame].info.timestamp_ns);
            let ticks = (to.saturating_sub(from) / 250_000_000).min(40);
            steps.extend((1..=ticks).map(|n| Step { frame: before, call: Call::Tick(from + n * 250_000_000) }));
        }
        let (tracks, ended) = truth.advance(scene, frame);
        steps.push(Step { frame, call: Call::Observe { frame, tracks, ended: ended.iter().map(|t| t.id).collect() } });
    }
    steps.push(Step { frame: scene.frames.len().saturating_sub(1), call: Call::Flush });
    steps
}

fn formatter(scene: &Scene, studio: &Studio) -> Result<Vec<Step>, PictureError> {
    let mut truth = Truth::default();
    let mut held: BTreeMap<u64, Shot> = BTreeMap::new();
    let mut steps = Vec::new();
    for (n, frame) in scene.frames.iter().enumerate() {
        let (tracks, ended) = truth.advance(scene, n);
        let event = |event| Step { frame: n, call: Call::Event(event) };
        for track in &tracks {
            let Some(face) = track.detection.and_then(|i| frame.faces.get(i as usize)) else { continue };
            let age = frame.info.timestamp_ns - track.first_seen_ns;
            // The middle of the first half second stands for the best; one picture a track, as crops cost.
            let due = age == 10 * FRAME_NS || !held.contains_key(&track.id);
            if track.phase == TrackPhase::Confirmed && due {
                let picture = studio.picture(scene, n)?;
                let area = face.detection.bbox.with_margin(0.2);
                let Ok(crop) = picture.crop(area, 256) else { continue };
                let whole = Rect { x: 0.0, y: 0.0, width: crop.width() as f32, height: crop.height() as f32 };
                let quality = match crop.planes() {
                    Some(planes) => facestream_pixels::measure(planes, whole)?,
                    None => Quality::default(),
                };
                let shot = Shot {
                    track_id: track.id,
                    picture: crop,
                    bbox: face.detection.bbox,
                    confidence: face.detection.confidence,
                    landmarks: face.detection.landmarks,
                    quality,
                    score: face.detection.confidence * 10.0 + quality.sharpness,
                    captured_at_ns: frame.info.captured_at_ns,
                    session: frame.info.session,
                    sequence: frame.info.sequence,
                    reason: ShotReason::Improved,
                };
                if held.contains_key(&track.id) {
                    steps.push(event(Event::Shot(Box::new(shot.clone()))));
                }
                held.insert(track.id, shot);
            }
        }
        for track in &ended {
            if let Some(shot) = held.remove(&track.id) {
                steps.push(event(Event::Shot(Box::new(Shot { reason: ShotReason::Ended, ..shot }))));
            }
        }
        steps.extend(ended.into_iter().map(|track| event(Event::Ending(track))));
        steps.push(event(Event::Frame(frame.info, tracks)));
    }
    let last = scene.frames.len().saturating_sub(1);
    for shot in held.into_values() {
        let event = Event::Shot(Box::new(Shot { reason: ShotReason::Flushed, ..shot }));
        steps.push(Step { frame: last, call: Call::Event(event) });
    }
    steps.push(Step { frame: last, call: Call::Flush });
    Ok(steps)
}

/// A tracker that is told the truth.
#[derive(Debug, Default)]
struct Truth {
    /// By walker: the track, its latest box's timestamp and how often it was seen.
    live: BTreeMap<usize, (Track, u64)>,
    next: u64,
}

impl Truth {
    fn advance(&mut self, scene: &Scene, n: usize) -> (Vec<Track>, Vec<Track>) {
        let frame = &scene.frames[n];
        let now = frame.info.timestamp_ns;
        let mut ended = Vec::new();
        self.live.retain(|_, (track, _)| {
            let over = now.saturating_sub(track.last_seen_ns) > LOST_FOR_NS;
            if over {
                ended.push(Track { phase: TrackPhase::Lost, detection: None, ..*track });
            }
            !over
        });
        for (track, _) in self.live.values_mut() {
            (track.phase, track.detection) = (TrackPhase::Lost, None);
        }
        for (index, face) in frame.faces.iter().enumerate() {
            let detection = face.detection;
            let (track, seen) = self.live.entry(face.walker).or_insert_with(|| {
                self.next += 1;
                let track = Track {
                    id: self.next,
                    phase: TrackPhase::Tentative,
                    bbox: detection.bbox,
                    velocity: Point::default(),
                    confidence: detection.confidence,
                    class_id: detection.class_id,
                    detection: None,
                    first_seen_ns: now,
                    last_seen_ns: now,
                };
                (track, 0)
            });
            let seconds = now.saturating_sub(track.last_seen_ns) as f32 / 1e9;
            if seconds > 0.0 {
                let per = |d: f32| d / seconds;
                track.velocity =
                    Point { x: per(detection.bbox.x - track.bbox.x), y: per(detection.bbox.y - track.bbox.y) };
            }
            *seen += 1;
            track.phase = if *seen >= CONFIRMED_AFTER { TrackPhase::Confirmed } else { TrackPhase::Tentative };
            (track.bbox, track.confidence, track.class_id) = (detection.bbox, detection.confidence, detection.class_id);
            (track.detection, track.last_seen_ns) = (u32::try_from(index).ok(), now);
        }
        (self.live.values().map(|(track, _)| *track).collect(), ended)
    }
}
