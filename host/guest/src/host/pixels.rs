//! The `pixels` interface: frames lent for a call, crops that a guest owns.
//!
//! Owns the mapping of requests to `facestream-pixels` and the budget of crop bytes. Must not convert pixels itself.

use std::sync::Arc;

use facestream_core::frame::{Fetched, LumaUse};
use facestream_core::{Picture, PictureError, Quality, Rect};
use wasmtime::Result;
use wasmtime::component::Resource;

use super::HostState;
use super::limits::Deadline;
use crate::bindings::pixels::{self as wit, CropOptions, GrayImage, PixelError, RgbImage};
use crate::bindings::types;
use crate::bindings::{HeldCrop, LentFrame};
use crate::convert;
use crate::record::{CropOrigin, HostRequest};

type Pixels<T> = Result<std::result::Result<T, PixelError>>;

impl wit::Host for HostState {}

impl wit::HostFrame for HostState {
    fn crop(
        &mut self,
        frame: Resource<LentFrame>,
        area: types::Rect,
        options: CropOptions,
    ) -> Pixels<Resource<HeldCrop>> {
        self.budgets.host_call()?;
        let area = convert::rect_from_wit(area);
        let (margin, max_side) = (options.margin, options.max_side);
        let request = || HostRequest::Crop { area, margin, max_side };
        let (session, sequence) = self.frame;
        let origin = CropOrigin::Frame { session, sequence, area, margin, max_side };
        let cut = match self.tape.replay_crop(request) {
            Some(replayed) => replayed,
            None => {
                let picture = &self.table.get(&frame)?.picture;
                match widened(area, margin) {
                    Some(area) => {
                        if picture.planes().is_none() {
                            // Waiting for a device is not the guest's time, what is done with the pixels is.
                            self.deadline.excusing(|| picture.prepare(area, max_side));
                        }
                        picture.crop(area, max_side).map_err(|e| pixel_error(&e))
                    }
                    None => Err(PixelError::OutOfFrame),
                }
            }
        };
        let answer = match cut {
            Ok(crop) => {
                self.budgets.crop(crop.bytes())?;
                match self.hand_crop(Arc::clone(&crop), origin)? {
                    Some(handle) => Ok((handle, crop)),
                    None => Err(PixelError::OverBudget),
                }
            }
            Err(e) => Err(e),
        };
        self.tape.note_crop(request, answer.as_ref().map(|(_, crop)| crop));
        Ok(answer.map(|(handle, _)| handle))
    }

    fn measure(&mut self, frame: Resource<LentFrame>, area: types::Rect) -> Pixels<wit::Quality> {
        self.budgets.host_call()?;
        let area = convert::rect_from_wit(area);
        let request = || HostRequest::Measure { area };
        if let Some(replayed) = self.tape.replay_quality(request) {
            return Ok(replayed);
        }
        let picture = &self.table.get(&frame)?.picture;
        let answer = measure(picture, area, &mut self.deadline).map(convert::quality_to_wit);
        self.tape.note_quality(request, &answer);
        Ok(answer)
    }

    fn luma(&mut self, frame: Resource<LentFrame>, max_side: u32) -> Pixels<GrayImage> {
        self.budgets.host_call()?;
        let request = || HostRequest::Luma { max_side };
        if let Some(replayed) = self.tape.replay_luma(request) {
            return Ok(replayed);
        }
        let picture = &self.table.get(&frame)?.picture;
        let answer = luma(picture, max_side, &mut self.deadline);
        self.budgets.crop(answer.as_ref().map_or(0, |i| i.data.len()))?;
        self.tape.note_luma(request, &answer);
        Ok(answer)
    }

    fn drop(&mut self, frame: Resource<LentFrame>) -> Result<()> {
        // Guests only ever borrow frames, so that the component model never calls this; an own handle cannot exist.
        self.table.delete(frame)?;
        Ok(())
    }
}

impl wit::HostCrop for HostState {
    fn size(&mut self, crop: Resource<HeldCrop>) -> Result<(u32, u32)> {
        self.budgets.host_call()?;
        let picture = &self.table.get(&crop)?.picture;
        Ok((picture.width(), picture.height()))
    }

    fn measure(&mut self, crop: Resource<HeldCrop>) -> Result<wit::Quality> {
        self.budgets.host_call()?;
        let HeldCrop { picture, origin: of, .. } = self.table.get(&crop)?;
        let request = || HostRequest::CropMeasure { of: *of };
        let answer = match self.tape.replay_quality(request) {
            Some(replayed) => replayed,
            None => {
                let answer = measure(picture, whole(picture), &mut self.deadline).map(convert::quality_to_wit);
                self.tape.note_quality(request, &answer);
                answer
            }
        };
        if answer.is_err() && self.tape.replaying() {
            // A recording without this answer: counted as missing. A trap would hide what the guest does next.
            return Ok(wit::Quality { sharpness: 0.0, brightness: 0.0 });
        }
        // The interface has no error here, and a crop in host memory gives none.
        answer.map_err(|e| wasmtime::Error::msg(format!("measuring a crop: {e:?}")))
    }

    fn luma(&mut self, crop: Resource<HeldCrop>, max_side: u32) -> Pixels<GrayImage> {
        self.budgets.host_call()?;
        let HeldCrop { picture, origin: of, .. } = self.table.get(&crop)?;
        let request = || HostRequest::CropLuma { of: *of, max_side };
        if let Some(replayed) = self.tape.replay_luma(request) {
            return Ok(replayed);
        }
        let answer = luma(picture, max_side, &mut self.deadline);
        self.budgets.crop(answer.as_ref().map_or(0, |i| i.data.len()))?;
        self.tape.note_luma(request, &answer);
        Ok(answer)
    }

    fn rgb(&mut self, crop: Resource<HeldCrop>, max_side: u32) -> Pixels<RgbImage> {
        self.budgets.host_call()?;
        let HeldCrop { picture, origin: of, .. } = self.table.get(&crop)?;
        let request = || HostRequest::CropRgb { of: *of, max_side };
        if let Some(replayed) = self.tape.replay_rgb(request) {
            return Ok(replayed);
        }
        let answer = with_planes(picture, &mut self.deadline, |planes| {
            let image = facestream_pixels::rgb(planes, max_side).map_err(|e| pixel_error(&e))?;
            Ok(RgbImage { width: image.width, height: image.height, data: image.data })
        });
        self.budgets.crop(answer.as_ref().map_or(0, |i| i.data.len()))?;
        self.tape.note_rgb(request, &answer);
        Ok(answer)
    }

    fn jpeg(&mut self, crop: Resource<HeldCrop>, quality: u8) -> Pixels<Vec<u8>> {
        self.budgets.host_call()?;
        let HeldCrop { picture, origin: of, .. } = self.table.get(&crop)?;
        if !(1..=100).contains(&quality) {
            return Ok(Err(PixelError::Failed(format!("JPEG quality {quality} is not from 1 to 100"))));
        }
        let request = || HostRequest::CropJpeg { of: *of, quality };
        if let Some(replayed) = self.tape.replay_jpeg(request) {
            return Ok(replayed);
        }
        let answer = with_planes(picture, &mut self.deadline, |planes| {
            facestream_pixels::jpeg(planes, quality).map_err(|e| PixelError::Failed(e.to_string()))
        });
        self.budgets.crop(answer.as_ref().map_or(0, Vec::len))?;
        self.tape.note_jpeg(request, &answer);
        Ok(answer)
    }

    fn drop(&mut self, crop: Resource<HeldCrop>) -> Result<()> {
        self.take_crop(crop)?;
        Ok(())
    }
}

/// The rectangle with its margin, when both make sense. A margin of ten times the object's size is a mistake.
fn widened(area: Rect, margin: f32) -> Option<Rect> {
    (area.is_valid() && margin.is_finite() && (0.0..=10.0).contains(&margin)).then(|| area.with_margin(margin))
}

fn whole(picture: &Arc<dyn Picture>) -> Rect {
    Rect { x: 0.0, y: 0.0, width: picture.width() as f32, height: picture.height() as f32 }
}

fn measure(
    picture: &Arc<dyn Picture>,
    area: Rect,
    deadline: &mut Deadline,
) -> std::result::Result<Quality, PixelError> {
    match picture.planes() {
        Some(planes) => facestream_pixels::measure(planes, area).map_err(|e| pixel_error(&e)),
        // On a device: the part that counts is scaled there, or brought here as it is and measured in its own place.
        None => {
            let scaled = deadline.excusing(|| picture.scaled_luma(LumaUse::Measure(area)));
            if let Some(scaled) = scaled.map_err(|e| pixel_error(&e))? {
                let quality = facestream_pixels::quality(&scaled.data, scaled.full_range);
                return quality.ok_or_else(|| PixelError::Failed("the device scaled to another size".to_owned()));
            }
            let fetched = deadline.excusing(|| picture.fetch(area)).map_err(|e| pixel_error(&e))?;
            let Some(Fetched { picture: part, origin }) = fetched else {
                return Err(PixelError::Failed("the picture cannot be read from its device".to_owned()));
            };
            let window = facestream_pixels::measured_window(picture.width(), picture.height(), area);
            let window = window.map_err(|e| pixel_error(&e))?;
            let moved = window.seen_from(origin);
            with_planes(&part, deadline, |planes| {
                facestream_pixels::measure(planes, moved).map_err(|e| pixel_error(&e))
            })
        }
    }
}

fn luma(
    picture: &Arc<dyn Picture>,
    max_side: u32,
    deadline: &mut Deadline,
) -> std::result::Result<GrayImage, PixelError> {
    if picture.planes().is_none() {
        let scaled = deadline.excusing(|| picture.scaled_luma(LumaUse::Copy(max_side)));
        if let Some(mut scaled) = scaled.map_err(|e| pixel_error(&e))? {
            facestream_pixels::full_range(&mut scaled.data, scaled.full_range);
            return Ok(GrayImage { width: scaled.width, height: scaled.height, data: scaled.data });
        }
    }
    with_planes(picture, deadline, |planes| {
        let image = facestream_pixels::luma(planes, max_side).map_err(|e| pixel_error(&e))?;
        Ok(GrayImage { width: image.width, height: image.height, data: image.data })
    })
}

/// Runs `f` on the picture's planes, read back from the device first where it lies on one.
fn with_planes<T>(
    picture: &Arc<dyn Picture>,
    deadline: &mut Deadline,
    f: impl FnOnce(facestream_core::Planes<'_>) -> std::result::Result<T, PixelError>,
) -> std::result::Result<T, PixelError> {
    if let Some(planes) = picture.planes() {
        return f(planes);
    }
    deadline.excusing(|| picture.prepare(whole(picture), 0));
    let copy = picture.crop(whole(picture), 0).map_err(|e| pixel_error(&e))?;
    match copy.planes() {
        Some(planes) => f(planes),
        None => Err(PixelError::Failed("the picture cannot be read from its device".to_owned())),
    }
}

fn pixel_error(error: &PictureError) -> PixelError {
    match error {
        PictureError::OutOfFrame { .. } => PixelError::OutOfFrame,
        PictureError::Device(text) => PixelError::Failed(text.clone()),
    }
}
