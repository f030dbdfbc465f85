//! A tracker: each detection goes to the nearest track whose box it overlaps; who is away too long has ended. A start,
//! not a good tracker: the built-in `botsort` predicts where people walk.

use facestream_guest::prelude::*;

/// Settings, from the camera's configuration. A key that is not here is an error that names the near one.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Detections below this confidence begin no track.
    new_track_thresh: f32,
    /// Overlap (intersection over union) from which a box is taken for the same face.
    min_iou: f32,
    /// A track that was not seen for so long ends.
    track_buffer_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { new_track_thresh: 0.6, min_iou: 0.2, track_buffer_ms: 1_000 }
    }
}

impl Settings for Config {
    fn validate(&self) -> Vec<String> {
        let shares = [("new_track_thresh", self.new_track_thresh), ("min_iou", self.min_iou)];
        let wrong = shares.iter().filter(|(_, value)| !(0.0..=1.0).contains(value));
        wrong.map(|(key, value)| format!("{key} is {value}; it must be from 0 to 1")).collect()
    }
}

pub struct Mine {
    config: Config,
    tracks: Vec<Track>,
    next_id: u64,
}

impl Mine {
    /// Pairs of track and detection, best overlap first, each of both at most once.
    fn pairs(&self, detections: &[Detection]) -> Vec<(usize, usize)> {
        let mut all: Vec<(f32, usize, usize)> = Vec::new();
        for (t, track) in self.tracks.iter().enumerate() {
            for (d, detection) in detections.iter().enumerate() {
                let iou = track.bbox.iou(&detection.bbox);
                if iou >= self.config.min_iou && iou > 0.0 {
                    all.push((iou, t, d));
                }
            }
        }
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let (mut tracks, mut taken) = (vec![false; self.tracks.len()], vec![false; detections.len()]);
        all.retain(|&(_, t, d)| {
            let free = !tracks[t] && !taken[d];
            (tracks[t], taken[d]) = (tracks[t] || free, taken[d] || free);
            free
        });
        all.into_iter().map(|(_, t, d)| (t, d)).collect()
    }
}

impl Tracker for Mine {
    type Config = Config;
    type State = (Vec<Track>, u64);
    const SCHEMA: &'static str = "{{name}}/1";

    fn new(config: Config, _camera: &Camera) -> Result<Self, GuestError> {
        Ok(Self { config, tracks: Vec::new(), next_id: 1 })
    }

    fn advance(
        &mut self,
        frame: &FrameInfo,
        detections: &[Detection],
        _motion: Option<&Affine>,
    ) -> Result<Update, GuestError> {
        let pairs = self.pairs(detections);
        for track in &mut self.tracks {
            track.detection = None;
            track.phase = TrackPhase::Lost;
        }
        let mut begins: Vec<bool> = detections.iter().map(|d| d.confidence >= self.config.new_track_thresh).collect();
        for (t, d) in pairs {
            begins[d] = false;
            let (track, seen) = (&mut self.tracks[t], &detections[d]);
            // Times, not counts of frames: the host may drop frames, and cameras differ.
            let seconds = frame.timestamp.saturating_sub(track.last_seen) as f32 / 1e9;
            let (now, before) = (seen.bbox.center(), track.bbox.center());
            if seconds > 0.0 {
                track.velocity = Point { x: (now.x - before.x) / seconds, y: (now.y - before.y) / seconds };
            }
            (track.bbox, track.confidence, track.detection) = (seen.bbox, seen.confidence, Some(d as u32));
            (track.last_seen, track.phase) = (frame.timestamp, TrackPhase::Confirmed);
        }
        let buffer = self.config.track_buffer_ms.saturating_mul(1_000_000);
        // What lies far outside of the picture does not come back; a damaged state may say that it is there.
        let limit = 2.0 * frame.width.max(frame.height) as f32;
        let far = |b: &Rect| [b.x, b.y, b.width, b.height].iter().any(|v| v.abs() > limit);
        let over = |t: &Track| frame.timestamp.saturating_sub(t.last_seen) > buffer || far(&t.bbox);
        let ended = self.tracks.iter().filter(|t| over(t)).map(|t| t.id).collect();
        self.tracks.retain(|t| !over(t));
        for (d, detection) in detections.iter().enumerate().filter(|(d, _)| begins[*d]) {
            self.tracks.push(Track {
                id: self.next_id,
                phase: TrackPhase::Tentative,
                bbox: detection.bbox,
                velocity: Point { x: 0.0, y: 0.0 },
                confidence: detection.confidence,
                class_id: detection.class_id,
                detection: Some(d as u32),
                first_seen: frame.timestamp,
                last_seen: frame.timestamp,
            });
            self.next_id += 1;
        }
        Ok(Update { tracks: self.tracks.clone(), ended })
    }

    fn next_id(&self) -> u64 {
        self.next_id
    }

    fn save(&self) -> Self::State {
        (self.tracks.clone(), self.next_id)
    }

    fn load(&mut self, (tracks, next_id): Self::State) -> Result<(), GuestError> {
        let sound = |t: &Track| {
            let numbers = [t.velocity.x, t.velocity.y, t.confidence];
            let times = t.first_seen <= t.last_seen;
            t.bbox.is_valid() && numbers.iter().all(|v| v.is_finite()) && times && t.id < next_id
        };
        if !tracks.iter().all(sound) {
            return Err(GuestError::UnsupportedSnapshot("a track has impossible numbers".to_owned()));
        }
        (self.tracks, self.next_id) = (tracks, next_id);
        Ok(())
    }

    fn adopt(&mut self, tracks: &[Track], next_id: u64) -> Result<(), GuestError> {
        let above = tracks.iter().map(|t| t.id.saturating_add(1)).max().unwrap_or(1);
        (self.tracks, self.next_id) = (tracks.to_vec(), next_id.max(above));
        Ok(())
    }
}

facestream_guest::export_tracker!(Mine);

#[cfg(test)]
mod tests;
