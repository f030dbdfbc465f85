//! A recording as one file: a zip of `manifest.json` (what it is, for people and tools) and `calls.bin` (the calls).
//!
//! Owns the format and every check on reading: a file may come from anywhere. `calls.bin` is a sequence of calls, each its
//! length (u32, little endian) and its postcard encoding, so that one call at a time is in memory as values.

use std::collections::HashSet;
use std::io::{Cursor, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use facestream_core::FrameInfo;
use facestream_core::guest::SlotKind;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::asked::HostAnswer;
use super::call::{Answer, Call, PictureRecord, RecordedCall, ShotRecord};
use super::kept::Kept;
use super::ring::Start;
use crate::config::GuestLimits;
use crate::digest::{Digest, hex};

/// The format that this host writes, and the only one it reads.
pub const BUNDLE_FORMAT: u32 = 1;

/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 96 << 20;
/// Largest manifest.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// Largest `calls.bin`, unpacked.
const MAX_LOG_BYTES: u64 = 256 << 20;
/// Largest call in it. A list of small things can be some forty times as large in memory as in the file.
const MAX_CALL_BYTES: usize = 8 << 20;

const MANIFEST: &str = "manifest.json";
const CALLS: &str = "calls.bin";

/// Why a recording was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Reason {
    /// The guest failed.
    Failure {
        /// As it was logged.
        text: String,
    },
    /// It was about to be replaced.
    Swap,
    /// Somebody asked for it.
    Demand,
}

impl Reason {
    /// The name used in file names and REST.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Failure { .. } => "failure",
            Self::Swap => "swap",
            Self::Demand => "demand",
        }
    }
}

/// What a recording is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`BUNDLE_FORMAT`].
    pub format: u32,
    /// Version of the host that wrote it.
    pub host_version: String,
    /// Version of the contract that the guest was built against.
    pub wit_version: String,
    /// Whose guest.
    pub camera: String,
    /// Which slot.
    pub slot: SlotKind,
    /// The reference it was asked for by.
    pub guest: String,
    /// Of the component, `sha256:<hex>`.
    pub digest: String,
    /// Settings in force before the first call.
    pub config: serde_json::Value,
    /// Limits in force.
    pub limits: GuestLimits,
    /// Where it begins.
    pub start: Start,
    /// The first frame in it.
    pub first: Option<FrameInfo>,
    /// The last frame in it.
    pub last: Option<FrameInfo>,
    /// Calls in it.
    pub calls: u64,
    /// Whether crops and what was made of them are in it.
    pub pictures: bool,
    /// Why it was written.
    pub reason: Reason,
    /// Milliseconds since the Unix epoch.
    pub written_unix_ms: u64,
    /// Digest of all answers in order, `sha256:<hex>`.
    pub result: String,
}

/// A recording in memory: what a slot hands over.
#[derive(Clone, Debug)]
pub struct Recording {
    /// What it is; `result` and `written_unix_ms` are filled in on writing.
    pub manifest: Manifest,
    /// The calls, in order.
    pub calls: Vec<Arc<RecordedCall>>,
}

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file system says no.
    #[error("the recording cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// Too large to be one.
    #[error("{what} has more than {limit} bytes; no recording of this host is so large")]
    TooBig {
        /// The file, or a part of it.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Not a zip, or a part is missing.
    #[error("this is no recording: {0}")]
    NotOne(String),
    /// Of another host.
    #[error("the recording has format {0}; this host reads {BUNDLE_FORMAT} only")]
    Format(u32),
    /// Truncated or changed.
    #[error("the recording is damaged: {0}")]
    Damaged(String),
    /// Too large to be written.
    #[error("the recording cannot be written: {0}")]
    Write(String),
}

impl Recording {
    /// How many different frames its calls are about.
    #[must_use]
    pub fn frames(&self) -> u64 {
        let frames = self.calls.iter().filter_map(|call| match &call.call {
            Call::Shot(shot) => Some((shot.session, shot.sequence)),
            call => call.frame().map(|frame| (frame.session, frame.sequence)),
        });
        frames.collect::<HashSet<_>>().len() as u64
    }

    /// Seconds of the frame clock from its first call about frames to its last one.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        // Configured before the first frame: its clock does not run yet.
        let mut times = self.calls.iter().map(|call| call.time_ns).filter(|&ns| ns > 0);
        let first = times.next().unwrap_or(0);
        times.next_back().unwrap_or(first).saturating_sub(first) as f64 / 1e9
    }

    /// The manifest with what is known of the calls, and `calls.bin`.
    fn packed(&self, written_unix_ms: u64) -> Result<(Manifest, Vec<u8>), BundleError> {
        let wrong = |e: postcard::Error| BundleError::Write(e.to_string());
        let (mut log, mut results) = (Vec::new(), Results::default());
        for call in &self.calls {
            let mut bytes = encode(call, self.manifest.pictures).map_err(wrong)?;
            if bytes.len() > MAX_CALL_BYTES && self.manifest.pictures {
                bytes = encode(call, false).map_err(wrong)?;
            }
            if bytes.len() > MAX_CALL_BYTES {
                return Err(BundleError::Write(format!("a call of {} has {} bytes", call.call.name(), bytes.len())));
            }
            results.add(&call.answer)?;
            // Checked to be below 8 MiB.
            log.extend((bytes.len() as u32).to_le_bytes());
            log.extend(bytes);
        }
        let (calls, result) = (self.calls.len() as u64, results.digest());
        Ok((Manifest { calls, written_unix_ms, result, ..self.manifest.clone() }, log))
    }

    /// As a file's bytes.
    ///
    /// # Errors
    /// `Write` when a single call is larger than the format allows.
    pub fn to_bytes(&self, written_unix_ms: u64) -> Result<Vec<u8>, BundleError> {
        let wrong = |e: &dyn std::fmt::Display| BundleError::Write(e.to_string());
        let (manifest, log) = self.packed(written_unix_ms)?;
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        zip.start_file(CALLS, options).map_err(|e| wrong(&e))?;
        zip.write_all(&log)?;
        zip.start_file(MANIFEST, options).map_err(|e| wrong(&e))?;
        zip.write_all(&serde_json::to_vec_pretty(&manifest).map_err(|e| wrong(&e))?)?;
        Ok(zip.finish().map_err(|e| wrong(&e))?.into_inner())
    }
}

fn encode(call: &Arc<RecordedCall>, pictures: bool) -> Result<Vec<u8>, postcard::Error> {
    if pictures || !call.has_pictures() {
        return postcard::to_allocvec(&**call);
    }
    let mut bare = RecordedCall::clone(call);
    bare.strip();
    postcard::to_allocvec(&bare)
}

/// Digest of answers, in order.
#[derive(Default)]
struct Results(Sha256);

impl Results {
    fn add(&mut self, answer: &Answer) -> Result<(), BundleError> {
        let bytes = answer.fingerprint().map_err(|e| BundleError::Write(e.to_string()))?;
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        Ok(())
    }

    fn digest(self) -> String {
        format!("sha256:{}", hex(&self.0.finalize()))
    }
}

/// A recording that was read and checked.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// What it is.
    pub manifest: Manifest,
    log: Vec<u8>,
}

impl Bundle {
    /// Reads a file.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        Self::from_bytes(&bytes)
    }

    /// Reads a file's bytes; every call is decoded once and the digest of the answers compared.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BundleError> {
        let (manifest, mut archive) = open(bytes)?;
        let log = part(&mut archive, CALLS, MAX_LOG_BYTES)?;
        let bundle = Self { manifest, log };
        let (mut calls, mut results) = (0, Results::default());
        for call in bundle.calls() {
            results.add(&call?.answer)?;
            calls += 1;
        }
        let (told, found) = (&bundle.manifest.result, results.digest());
        if calls != bundle.manifest.calls || *told != found {
            return Err(BundleError::Damaged(format!(
                "its manifest tells of {} calls with answers {told}, there are {calls} with {found}",
                bundle.manifest.calls
            )));
        }
        Ok(bundle)
    }

    /// Reads only what it is.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn read_manifest(bytes: &[u8]) -> Result<Manifest, BundleError> {
        Ok(open(bytes)?.0)
    }

    /// From memory, as if it had been written and read.
    ///
    /// # Errors
    /// As [`Recording::to_bytes`].
    pub fn from_recording(recording: &Recording) -> Result<Self, BundleError> {
        let (manifest, log) = recording.packed(0)?;
        Ok(Self { manifest, log })
    }

    /// The calls in order, decoded one by one; ends after the first that is damaged.
    pub fn calls(&self) -> impl Iterator<Item = Result<RecordedCall, BundleError>> {
        let mut rest = self.log.as_slice();
        let mut over = false;
        std::iter::from_fn(move || {
            if over || rest.is_empty() {
                return None;
            }
            let call = next_call(&mut rest);
            over = call.is_err();
            Some(call)
        })
    }
}

fn next_call(rest: &mut &[u8]) -> Result<RecordedCall, BundleError> {
    let damaged = |text: &str| BundleError::Damaged(text.to_owned());
    let (len, after) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("it ends within a call's length"))?;
    let len = u32::from_le_bytes(*len) as usize;
    if len > MAX_CALL_BYTES {
        return Err(BundleError::TooBig { what: "a call", limit: MAX_CALL_BYTES as u64 });
    }
    let (call, after) = after.split_at_checked(len).ok_or_else(|| damaged("it ends within a call"))?;
    *rest = after;
    match postcard::take_from_bytes::<RecordedCall>(call) {
        Ok((call, [])) => Ok(call),
        Ok(_) => Err(damaged("a call has bytes left over")),
        Err(e) => Err(BundleError::Damaged(format!("a call cannot be decoded: {e}"))),
    }
}

type Archive<'a> = ZipArchive<Cursor<&'a [u8]>>;

fn open(bytes: &[u8]) -> Result<(Manifest, Archive<'_>), BundleError> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(BundleError::TooBig { what: "the file", limit: MAX_FILE_BYTES });
    }
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|e| BundleError::NotOne(e.to_string()))?;
    let manifest = part(&mut archive, MANIFEST, MAX_MANIFEST_BYTES)?;
    // The format first: another one may have another manifest.
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let wrong = |e: serde_json::Error| BundleError::NotOne(format!("its manifest cannot be read: {e}"));
    let Format { format } = serde_json::from_slice(&manifest).map_err(wrong)?;
    if format != BUNDLE_FORMAT {
        return Err(BundleError::Format(format));
    }
    Ok((serde_json::from_slice(&manifest).map_err(wrong)?, archive))
}

fn part(archive: &mut Archive<'_>, name: &'static str, limit: u64) -> Result<Vec<u8>, BundleError> {
    let file = archive.by_name(name).map_err(|e| BundleError::NotOne(format!("{name}: {e}")))?;
    let mut bytes = Vec::new();
    // What a file says of its unpacked size is not believed.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| BundleError::Damaged(format!("{name}: {e}")))?;
    if bytes.len() as u64 > limit {
        return Err(BundleError::TooBig { what: name, limit });
    }
    Ok(bytes)
}

fn strip_shots(shots: &mut [ShotRecord]) {
    shots.iter_mut().for_each(|s| s.picture.kept = Kept::default());
}

fn any_kept<'a>(mut pictures: impl Iterator<Item = &'a PictureRecord>) -> bool {
    pictures.any(|p| p.kept.picture().is_some())
}

impl RecordedCall {
    fn has_pictures(&self) -> bool {
        let call = match &self.call {
            Call::Shot(shot) => any_kept(std::iter::once(&shot.picture)),
            Call::Restore { shots, .. } => any_kept(shots.iter().map(|s| &s.picture)),
            _ => false,
        };
        let host = any_kept(self.host.iter().filter_map(|h| match &h.answer {
            HostAnswer::Crop(picture) => Some(picture),
            _ => None,
        }));
        call || host || self.answer.has_pictures()
    }

    /// Takes the pixels out.
    fn strip(&mut self) {
        match &mut self.call {
            Call::Shot(shot) => strip_shots(std::slice::from_mut(shot)),
            Call::Restore { shots, .. } => strip_shots(shots),
            _ => {}
        }
        for host in &mut self.host {
            if let HostAnswer::Crop(picture) = &mut host.answer {
                picture.kept = Kept::default();
            }
        }
        self.answer.strip();
    }
}

impl Answer {
    fn has_pictures(&self) -> bool {
        match self {
            Self::Shots(shots) | Self::State { shots, .. } => any_kept(shots.iter().map(|s| &s.picture)),
            _ => false,
        }
    }

    fn strip(&mut self) {
        if let Self::Shots(shots) | Self::State { shots, .. } = self {
            strip_shots(shots);
        }
    }

    /// Its encoding without pixels: two answers are the same when these bytes are.
    pub(crate) fn fingerprint(&self) -> Result<Vec<u8>, postcard::Error> {
        if !self.has_pictures() {
            return postcard::to_allocvec(self);
        }
        let mut bare = self.clone();
        bare.strip();
        postcard::to_allocvec(&bare)
    }
}

impl Manifest {
    /// The component, when its digest can be read.
    #[must_use]
    pub fn component(&self) -> Option<Digest> {
        Digest::parse(&self.digest)
    }
}
