//! The messages of the built-in formatters, field for field as the first FaceStream wrote them.
//!
//! Owns the two shapes, their times, and fitting a picture into the camera's message size. Must not know topics'
//! settings of one guest or keep state.

pub mod picture;
pub mod shapes;
pub mod times;

use facestream_guest::{Camera, GuestError};

pub use picture::{PictureConfig, fitted};
pub use shapes::{Gate, Mega, Provenance};
pub use times::{rfc3339_millis, rfc3339_seconds};

/// What is wrong with a topic name by Kafka's rules; `None` when nothing is.
#[must_use]
pub fn topic_problem(setting: &str, topic: &str) -> Option<String> {
    let legal = topic.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    let ok = legal && (1..=249).contains(&topic.len()) && topic != "." && topic != "..";
    (!ok).then(|| format!("{setting} `{topic}` is not a topic name: 1 to 249 of A-Z a-z 0-9 . _ -"))
}

/// Bytes left for the picture beside an otherwise complete body.
///
/// # Errors
/// `failed` when the camera's messages are too small for the body alone.
pub fn room(camera: &Camera, body_without_picture: &[u8]) -> Result<usize, GuestError> {
    (camera.max_message_bytes as usize).checked_sub(body_without_picture.len()).ok_or_else(|| {
        let (body, max) = (body_without_picture.len(), camera.max_message_bytes);
        GuestError::failed(format!(
            "a message has {body} bytes without its picture, more than max_message_bytes ({max})"
        ))
    })
}
