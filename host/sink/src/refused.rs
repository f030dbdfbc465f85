//! Messages that no broker will ever take, kept for whoever wants to know: `refused/<sink>.jsonl` of the data folder.
//!
//! The same lines as the JSONL sink's, with `reason` last.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use facestream_core::Message;

use crate::fs::FileSystem;
use crate::jsonl::{RotatingFile, line};

/// A file and how many rotated ones before it: refusals are rare, and a guest gone wild must not fill the disk.
const ROTATE_BYTES: u64 = 64 << 20;
const KEEP: u32 = 2;

#[derive(Debug)]
pub(crate) struct RefusedLog(Mutex<RotatingFile>);

impl RefusedLog {
    pub(crate) fn new(fs: Arc<dyn FileSystem>, data: &Path, sink: &str) -> Self {
        let path = data.join("refused").join(format!("{sink}.jsonl"));
        Self(Mutex::new(RotatingFile::new(fs, path, ROTATE_BYTES, KEEP)))
    }

    /// Writes a message down. The counters say that it was refused, whether or not this succeeds.
    pub(crate) fn write(&self, message: &Message, reason: &str) {
        let result =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).append(&line(message, &[("reason", reason)]));
        tracing::warn!(camera = %message.camera, id = %message.id, topic = message.topic, reason, "A message was refused.");
        if let Err(error) = result {
            tracing::warn!(id = %message.id, %error, "A refused message could not be written down.");
        }
    }
}
