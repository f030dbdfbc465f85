//! The bodies of `gate-metric-detections` and `detectionMega`. The order of fields is the order on the wire.

use facestream_guest::{GuestError, Reason, Shot};
use serde::Serialize;

/// Body of a `gate-metric-detections` message.
#[derive(Debug, Serialize)]
pub struct Gate<'a> {
    /// The camera.
    pub camera_id: &'a str,
    /// Capture time, RFC 3339 in seconds.
    pub detection_time: String,
    /// JPEG in base64.
    pub image_base64: &'a str,
    /// Of the detection, in [0, 1].
    pub confidence: f32,
    /// Of the face.
    pub quality_metadata: QualityMetadata,
    /// Only when the settings ask for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

/// Sharpness 0 to 255, brightness 0 to 100.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs)]
pub struct QualityMetadata {
    pub sharpness: f32,
    pub brightness: f32,
}

/// Body of a `detectionMega` message.
#[derive(Debug, Serialize)]
pub struct Mega<'a> {
    /// The camera.
    pub camera_id: &'a str,
    /// Width of the face in source pixels, rounded.
    pub face_width: u32,
    /// Height of the face in source pixels, rounded.
    pub face_height: u32,
    /// 0 to 255.
    pub sharpness: f32,
    /// 0 to 100.
    pub brightness: f32,
    /// JPEG in base64.
    pub image_base64: &'a str,
    /// Only when the settings ask for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

/// Where a picture comes from: not part of the first FaceStream's messages.
#[derive(Clone, Debug, Serialize)]
pub struct Provenance {
    /// Track of the camera.
    pub track_id: u64,
    /// Session of the camera.
    pub session: u64,
    /// Frame of the session.
    pub sequence: u64,
    /// Why the picture was given up.
    pub reason: &'static str,
    /// The scorer's verdict.
    pub score: f32,
    /// `[x1, y1, x2, y2]` of the face in source pixels.
    #[serde(rename = "box")]
    pub bbox: [f32; 4],
    /// Five points in source pixels, image-left eye first, when the model gave them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub landmarks: Option<[[f32; 2]; 5]>,
}

impl<'a> Gate<'a> {
    /// Of a shot.
    #[must_use]
    pub fn new(camera_id: &'a str, detection_time: String, image_base64: &'a str, shot: &Shot, more: bool) -> Self {
        Self {
            camera_id,
            detection_time,
            image_base64,
            confidence: shot.confidence,
            quality_metadata: QualityMetadata {
                sharpness: shot.quality.sharpness,
                brightness: shot.quality.brightness,
            },
            provenance: more.then(|| Provenance::of(shot)),
        }
    }
}

impl<'a> Mega<'a> {
    /// Of a shot.
    #[must_use]
    pub fn new(camera_id: &'a str, image_base64: &'a str, shot: &Shot, more: bool) -> Self {
        Self {
            camera_id,
            face_width: shot.bbox.width.max(0.0).round() as u32,
            face_height: shot.bbox.height.max(0.0).round() as u32,
            sharpness: shot.quality.sharpness,
            brightness: shot.quality.brightness,
            image_base64,
            provenance: more.then(|| Provenance::of(shot)),
        }
    }
}

impl Provenance {
    /// Of a shot.
    #[must_use]
    pub fn of(shot: &Shot) -> Self {
        Self {
            track_id: shot.track_id,
            session: shot.session,
            sequence: shot.sequence,
            reason: reason_name(shot.reason),
            score: shot.score,
            bbox: shot.bbox.corners(),
            landmarks: shot.landmarks.map(|l| l.points().map(|p| [p.x, p.y])),
        }
    }
}

/// The name used in messages.
#[must_use]
pub fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::Improved => "improved",
        Reason::Interval => "interval",
        Reason::Inactive => "inactive",
        Reason::Ended => "ended",
        Reason::Flushed => "flushed",
    }
}

macro_rules! to_json {
    ($($shape:ident),*) => {$(
        impl $shape<'_> {
            /// The body as UTF-8 JSON.
            ///
            /// # Errors
            /// `failed` when the body cannot be written.
            pub fn to_json(&self) -> Result<Vec<u8>, GuestError> {
                serde_json::to_vec(self).map_err(|e| GuestError::failed(format!("the message cannot be written: {e}")))
            }
        }
    )*};
}
to_json!(Gate, Mega);
