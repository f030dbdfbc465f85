//! Recordings of guests' calls, as they lie on disk.
//!
//! Owns the words. What is in one the guest host knows, and where they lie the pipeline.

use super::SlotKind;

/// A recording on disk, as its name tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingFile {
    /// Name of the file.
    pub name: String,
    /// Whose guest.
    pub camera: String,
    /// Which slot.
    pub slot: SlotKind,
    /// `failure`, `swap` or `demand`.
    pub reason: String,
    /// Milliseconds since the Unix epoch.
    pub written_unix_ms: u64,
    /// Size of the file.
    pub bytes: u64,
}

/// A recording that was just written.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordingWritten {
    /// The file.
    pub file: RecordingFile,
    /// Calls of the guest in it.
    pub calls: u64,
    /// Different frames in it.
    pub frames: u64,
    /// From its first call to its last one, seconds of the frame clock.
    pub seconds: f64,
}
