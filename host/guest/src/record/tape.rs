//! The host's answers to a guest's own calls: noted while recording, given again while replaying.
//!
//! Owns what is noted of an answer (numbers and sizes; bytes made from a picture only where pictures are kept) and which
//! noted answer fits a question asked again. Must not compute an answer: `host::pixels` does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use facestream_core::{Picture, PictureError, Planes, Rect};

use super::asked::{HostAnswer, HostCall, HostRequest};
use super::call::{Blob, PictureRecord};
use crate::bindings::pixels::{GrayImage, PixelError, Quality, RgbImage};

/// Host calls of one guest call that are noted; more than that are answered but not kept.
const MAX_NOTED: usize = 16_384;

/// Largest stand-in for bytes that were left out.
const MAX_STAND_IN: u64 = 64 << 20;

/// What one instance's store does with the host's answers.
#[derive(Debug, Default)]
pub(crate) enum Tape {
    /// Nothing.
    #[default]
    Off,
    /// Notes them.
    Recording(Noted),
    /// Gives noted ones again.
    Replaying(Replaying),
}

/// Answers since the call began.
#[derive(Debug)]
pub(crate) struct Noted {
    calls: Vec<HostCall>,
    /// Keep bytes made from pictures.
    pub(crate) pictures: bool,
    /// The guest was handed bytes made from a picture: from then on its state and messages may show it.
    pub(crate) tainted: bool,
}

/// Answers to give.
#[derive(Debug)]
pub(crate) struct Replaying {
    calls: Vec<HostCall>,
    next: usize,
    /// Questions that no noted answer fits.
    pub(crate) missing: Arc<AtomicU64>,
    /// Answers whose bytes were left out: as many zeros stood in.
    pub(crate) stood_in: u64,
}

impl Noted {
    pub(crate) fn new(pictures: bool, tainted: bool) -> Self {
        Self { calls: Vec::new(), pictures, tainted }
    }
}

impl Replaying {
    pub(crate) fn new(missing: Arc<AtomicU64>) -> Self {
        Self { calls: Vec::new(), next: 0, missing, stood_in: 0 }
    }

    pub(crate) fn load(&mut self, calls: Vec<HostCall>) {
        self.calls = calls;
        self.next = 0;
    }

    /// The answer at the place in order, else any of this call's that was given to the same question.
    fn find(&mut self, request: &HostRequest) -> Option<HostAnswer> {
        let in_turn = self.calls.get(self.next).is_some_and(|c| c.request == *request);
        let at = if in_turn { Some(self.next) } else { self.calls.iter().position(|c| c.request == *request) }?;
        if in_turn {
            self.next += 1;
        }
        Some(self.calls[at].answer.clone())
    }
}

/// Bytes to hand to a guest in place of a blob.
fn stand_in(blob: Blob, stood_in: &mut u64) -> Option<Vec<u8>> {
    match blob {
        Blob::Kept(bytes) => Some(bytes),
        Blob::LeftOut { len, .. } if len <= MAX_STAND_IN => {
            *stood_in += 1;
            Some(vec![0; usize::try_from(len).ok()?])
        }
        Blob::LeftOut { .. } => None,
    }
}

fn error(answer: HostAnswer) -> PixelError {
    match answer {
        HostAnswer::OutOfFrame => PixelError::OutOfFrame,
        HostAnswer::OverBudget => PixelError::OverBudget,
        HostAnswer::Failed(text) => PixelError::Failed(text),
        other => PixelError::Failed(format!("the recording has another kind of answer here: {other:?}")),
    }
}

fn noted_error(error: &PixelError) -> HostAnswer {
    match error {
        PixelError::OutOfFrame => HostAnswer::OutOfFrame,
        PixelError::OverBudget => HostAnswer::OverBudget,
        PixelError::Failed(text) => HostAnswer::Failed(text.clone()),
    }
}

type Pixels<T> = Result<T, PixelError>;

impl Tape {
    /// Whether answers are given again.
    pub(crate) fn replaying(&self) -> bool {
        matches!(self, Self::Replaying(_))
    }

    fn find(&mut self, request: impl FnOnce() -> HostRequest) -> Option<(HostAnswer, &mut Replaying)> {
        let Self::Replaying(replaying) = self else { return None };
        Some((replaying.find(&request())?, replaying))
    }

    fn note(&mut self, request: impl FnOnce() -> HostRequest, answer: impl FnOnce(&mut Noted) -> HostAnswer) {
        if let Self::Recording(noted) = self
            && noted.calls.len() < MAX_NOTED
        {
            let answer = answer(noted);
            noted.calls.push(HostCall { request: request(), answer });
        }
    }

    /// What was noted since the last call of this.
    pub(crate) fn take(&mut self) -> Vec<HostCall> {
        match self {
            Self::Recording(noted) => std::mem::take(&mut noted.calls),
            _ => Vec::new(),
        }
    }

    /// A noted measurement.
    pub(crate) fn replay_quality(&mut self, request: impl FnOnce() -> HostRequest) -> Option<Pixels<Quality>> {
        Some(match self.find(request)?.0 {
            HostAnswer::Quality(q) => Ok(Quality { sharpness: q.sharpness, brightness: q.brightness }),
            other => Err(error(other)),
        })
    }

    pub(crate) fn note_quality(&mut self, request: impl FnOnce() -> HostRequest, answer: &Pixels<Quality>) {
        self.note(request, |_| match answer {
            Ok(q) => HostAnswer::Quality(facestream_core::Quality { sharpness: q.sharpness, brightness: q.brightness }),
            Err(e) => noted_error(e),
        });
    }

    /// A noted crop, as a picture of its size.
    pub(crate) fn replay_crop(&mut self, request: impl FnOnce() -> HostRequest) -> Option<Pixels<Arc<dyn Picture>>> {
        let (answer, replaying) = self.find(request)?;
        Some(match answer {
            HostAnswer::Crop(record) => Ok(ReplayPicture::of(&record, &replaying.missing)),
            other => Err(error(other)),
        })
    }

    pub(crate) fn note_crop(
        &mut self,
        request: impl FnOnce() -> HostRequest,
        answer: Result<&Arc<dyn Picture>, &PixelError>,
    ) {
        self.note(request, |noted| match answer {
            Ok(picture) => HostAnswer::Crop(PictureRecord::of(picture, noted.pictures)),
            Err(e) => noted_error(e),
        });
    }

    /// A noted grey picture.
    pub(crate) fn replay_luma(&mut self, request: impl FnOnce() -> HostRequest) -> Option<Pixels<GrayImage>> {
        let (answer, replaying) = self.find(request)?;
        match answer {
            HostAnswer::Image { width, height, data } => {
                Some(Ok(GrayImage { width, height, data: stand_in(data, &mut replaying.stood_in)? }))
            }
            other => Some(Err(error(other))),
        }
    }

    pub(crate) fn note_luma(&mut self, request: impl FnOnce() -> HostRequest, answer: &Pixels<GrayImage>) {
        self.note_image(request, answer.as_ref().map(|i| (i.width, i.height, i.data.as_slice())));
    }

    /// A noted colour picture.
    pub(crate) fn replay_rgb(&mut self, request: impl FnOnce() -> HostRequest) -> Option<Pixels<RgbImage>> {
        let (answer, replaying) = self.find(request)?;
        match answer {
            HostAnswer::Image { width, height, data } => {
                Some(Ok(RgbImage { width, height, data: stand_in(data, &mut replaying.stood_in)? }))
            }
            other => Some(Err(error(other))),
        }
    }

    pub(crate) fn note_rgb(&mut self, request: impl FnOnce() -> HostRequest, answer: &Pixels<RgbImage>) {
        self.note_image(request, answer.as_ref().map(|i| (i.width, i.height, i.data.as_slice())));
    }

    fn note_image(&mut self, request: impl FnOnce() -> HostRequest, answer: Result<(u32, u32, &[u8]), &PixelError>) {
        self.note(request, |noted| match answer {
            Ok((width, height, data)) => {
                noted.tainted = true;
                HostAnswer::Image { width, height, data: Blob::of(data, noted.pictures) }
            }
            Err(e) => noted_error(e),
        });
    }

    /// A noted JPEG, or as many zeros.
    pub(crate) fn replay_jpeg(&mut self, request: impl FnOnce() -> HostRequest) -> Option<Pixels<Vec<u8>>> {
        let (answer, replaying) = self.find(request)?;
        match answer {
            HostAnswer::Jpeg(blob) => Some(Ok(stand_in(blob, &mut replaying.stood_in)?)),
            other => Some(Err(error(other))),
        }
    }

    pub(crate) fn note_jpeg(&mut self, request: impl FnOnce() -> HostRequest, answer: &Pixels<Vec<u8>>) {
        self.note(request, |noted| match answer {
            Ok(bytes) => {
                noted.tainted = true;
                HostAnswer::Jpeg(Blob::of(bytes, noted.pictures))
            }
            Err(e) => noted_error(e),
        });
    }
}

/// A picture of which a recording knows the size, and the pixels only where they were kept.
#[derive(Debug)]
pub(crate) struct ReplayPicture {
    record: PictureRecord,
    missing: Arc<AtomicU64>,
}

impl ReplayPicture {
    /// `missing` counts what is asked of it and cannot be answered.
    pub(crate) fn of(record: &PictureRecord, missing: &Arc<AtomicU64>) -> Arc<dyn Picture> {
        Arc::new(Self { record: record.clone(), missing: Arc::clone(missing) })
    }
}

impl Picture for ReplayPicture {
    fn width(&self) -> u32 {
        self.record.width
    }

    fn height(&self) -> u32 {
        self.record.height
    }

    fn planes(&self) -> Option<Planes<'_>> {
        self.record.kept.picture()?.planes()
    }

    fn crop(&self, area: Rect, max_side: u32) -> Result<Arc<dyn Picture>, PictureError> {
        match self.record.kept.picture() {
            Some(picture) => picture.crop(area, max_side),
            None => {
                self.missing.fetch_add(1, Ordering::Relaxed);
                Err(PictureError::Device("the recording has no answer to this, and no pictures".to_owned()))
            }
        }
    }

    fn bytes(&self) -> usize {
        usize::try_from(self.record.bytes).unwrap_or(usize::MAX)
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
