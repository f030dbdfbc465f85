//! Messages on their way out, and their identity.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;

use crate::camera::CameraId;

/// Identity of a message, so that a consumer can drop duplicates: `camera/session/sequence/track/reason/n`, where `n`
/// counts the messages that one event produced. The same input gives the same id, run after run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct MessageId(pub String);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One message, as a formatter wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Whose.
    pub camera: CameraId,
    /// Identity, also sent as header `message-id`.
    pub id: MessageId,
    /// Topic name, valid by Kafka's rules (checked by the host).
    pub topic: String,
    /// Partition key.
    pub key: Bytes,
    /// Body.
    pub payload: Bytes,
    /// In order; names may repeat.
    pub headers: Vec<(String, String)>,
    /// MIME type of the body.
    pub content_type: String,
}
