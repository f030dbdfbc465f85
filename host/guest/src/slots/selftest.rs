//! A few made-up frames for a new guest, in an instance that is thrown away: one that traps on its first frame is refused
//! before it is near the camera.
//!
//! Refusals are answers: a guest may have reasons to want nothing of made-up frames. Only what would end an instance
//! fails the test.

use std::sync::Arc;

use facestream_core::frame::ColorMatrix;
use facestream_core::{
    CameraId, Detection, Frame, FrameInfo, Landmarks, Picture, Point, Quality, Rect, Shot, ShotReason, Track,
    TrackPhase,
};
use facestream_pixels::HostPicture;

use crate::error::GuestFailure;
use crate::formatter::{FormatEvent, FormatterGuest};
use crate::ledger::Ledger;
use crate::scorer::ScorerGuest;
use crate::slot::{Filling, Guest};
use crate::tracker::TrackerGuest;

const WIDTH: u32 = 640;
const HEIGHT: u32 = 360;
const FRAME_NS: u64 = 40_000_000;
/// Faces on each frame: some, none, more than before.
const FACES: [usize; 3] = [2, 0, 3];

/// What a kind of guest is tried with.
pub(super) trait SelfTest: Guest {
    /// Shows it the frames.
    ///
    /// # Errors
    /// What would end the instance.
    fn try_out(&mut self) -> Result<(), GuestFailure>;
}

/// Makes an instance and tries it.
pub(super) fn run<G: SelfTest>(filling: &Filling, camera: &CameraId) -> Result<(), GuestFailure> {
    // Its log lines must not be taken for those of the guest on the camera.
    let tried = Filling { reference: format!("{} (self-test)", filling.reference), ..filling.clone() };
    let mut guest: G = tried.start(camera)?;
    guest.try_out()
}

/// A refusal is an answer.
fn unless_refused<T>(answer: Result<T, GuestFailure>) -> Result<Option<T>, GuestFailure> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(GuestFailure::Refused(_)) => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn info(n: usize) -> FrameInfo {
    let n = n as u64;
    FrameInfo {
        session: 1,
        sequence: n,
        timestamp_ns: (n + 1) * FRAME_NS,
        captured_at_ns: 1_700_000_000_000_000_000 + n * FRAME_NS,
        width: WIDTH,
        height: HEIGHT,
    }
}

fn detections(n: usize) -> Vec<Detection> {
    let face = |i: usize| {
        let (x, y) = (40.0 + 160.0 * i as f32 + 4.0 * n as f32, 60.0);
        let point = |dx, dy| Point { x: x + dx, y: y + dy };
        let points = [point(24.0, 32.0), point(56.0, 32.0), point(40.0, 50.0), point(28.0, 68.0), point(52.0, 68.0)];
        Detection {
            bbox: Rect { x, y, width: 80.0, height: 96.0 },
            confidence: 0.9,
            class_id: 0,
            landmarks: Some(Landmarks::from_points(points)),
        }
    };
    (0..FACES[n]).map(face).collect()
}

fn tracks(detections: &[Detection], now: &FrameInfo) -> Vec<Track> {
    let track = |(i, d): (usize, &Detection)| Track {
        id: i as u64 + 1,
        phase: TrackPhase::Confirmed,
        bbox: d.bbox,
        velocity: Point { x: 100.0, y: 0.0 },
        confidence: d.confidence,
        class_id: d.class_id,
        detection: u32::try_from(i).ok(),
        first_seen_ns: FRAME_NS,
        last_seen_ns: now.timestamp_ns,
    };
    detections.iter().enumerate().map(track).collect()
}

/// Stripes, so that sharpness and brightness are those of something.
fn picture() -> Result<Arc<dyn Picture>, GuestFailure> {
    let luma = (0..WIDTH * HEIGHT).map(|i| if i % 16 < 8 { 60 } else { 190 });
    let chroma = 2 * (WIDTH.div_ceil(2) * HEIGHT.div_ceil(2)) as usize;
    let data = luma.chain(std::iter::repeat_n(128, chroma)).collect();
    match HostPicture::new(WIDTH, HEIGHT, data, false, ColorMatrix::Bt601) {
        Ok(picture) => Ok(Arc::new(picture)),
        // Cannot be: the size is that of the data.
        Err(error) => Err(GuestFailure::Instantiate(error.to_string())),
    }
}

impl SelfTest for TrackerGuest {
    fn try_out(&mut self) -> Result<(), GuestFailure> {
        let mut ledger = Ledger::default();
        for n in 0..FACES.len() {
            if let Some(update) = unless_refused(self.advance(&info(n), &detections(n), None))? {
                ledger.apply(update).map_err(GuestFailure::Invalid)?;
            }
        }
        Ok(())
    }
}

impl SelfTest for ScorerGuest {
    fn try_out(&mut self) -> Result<(), GuestFailure> {
        let picture = picture()?;
        let mut last = info(0);
        for n in 0..FACES.len() {
            last = info(n);
            let detections = detections(n);
            let tracks = tracks(&detections, &last);
            let frame = Frame { info: last, picture: Arc::clone(&picture) };
            // The first track ends when it is no longer seen.
            let ended: &[u64] = if n == 1 { &[1] } else { &[] };
            let tracks: Vec<Track> = tracks.into_iter().filter(|t| n < 2 || t.id > 1).collect();
            unless_refused(self.observe(&frame, &detections, &tracks, ended))?;
        }
        unless_refused(self.tick(last.timestamp_ns + 1_000_000_000))?;
        unless_refused(self.flush())?;
        Ok(())
    }
}

impl SelfTest for FormatterGuest {
    fn try_out(&mut self) -> Result<(), GuestFailure> {
        let (now, interest) = (info(0), self.interest());
        let detections = detections(0);
        let tracks = tracks(&detections, &now);
        self.sandbox_mut().set_time(&now);
        if interest.shots {
            let shot = Shot {
                track_id: 1,
                picture: picture()?
                    .crop(detections[0].bbox, 0)
                    .map_err(|error| GuestFailure::Instantiate(error.to_string()))?,
                bbox: detections[0].bbox,
                confidence: detections[0].confidence,
                landmarks: detections[0].landmarks,
                quality: Quality { sharpness: 40.0, brightness: 50.0 },
                score: 0.5,
                captured_at_ns: now.captured_at_ns,
                session: now.session,
                sequence: now.sequence,
                reason: ShotReason::Ended,
            };
            unless_refused(self.format(FormatEvent::Shot(&shot)))?;
        }
        if interest.endings {
            unless_refused(self.format(FormatEvent::Ending(&tracks[0])))?;
        }
        if interest.frames {
            unless_refused(self.format(FormatEvent::Frame(&now, &tracks)))?;
        }
        unless_refused(self.flush())?;
        Ok(())
    }
}
