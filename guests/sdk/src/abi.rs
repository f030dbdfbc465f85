//! `tracking.advance` as it crosses the boundary, read and answered in place.
//!
//! Owns one pair of functions in place of those that `wit-bindgen` generates. Those build every detection anew from its
//! fields and take every track apart into a second list: with 60 boxes a sixth of a tracker's time. The generated
//! records are `repr(C)`, and that layout *is* the one in which they cross (the canonical ABI); where a compiler lays an
//! option out differently, the generated functions are used. Everything else of a tracker is the generated code's.
#![allow(unsafe_code, missing_docs)]

use std::alloc::{Layout, dealloc};
use std::mem::{offset_of, size_of, transmute};

use crate::bindings::tracker::exports::facestream::analytics::tracking as generated;
use crate::bindings::tracker::exports::facestream::analytics::tracking::{Guest, Update};
use crate::types::{Affine, Detection, FrameInfo, GuestError, Landmarks, Point, Track};

/// A tracker that can be called without its arguments being moved into it. `export_tracker!` implements it.
pub trait Advance: Guest {
    /// As `Guest::advance`.
    fn advance_in_place(
        frame: &FrameInfo,
        detections: &[Detection],
        motion: Option<&Affine>,
    ) -> Result<Update, GuestError>;
}

/// Where the tag of a detection's landmarks lies; they follow it at 28.
const LANDMARKS_TAG: usize = 24;

/// Whether this compiler lays both records out as they cross.
const IN_PLACE: bool = {
    let zero = Point { x: 0.0, y: 0.0 };
    let landmarks = Landmarks { left_eye: zero, right_eye: zero, nose: zero, mouth_left: zero, mouth_right: zero };
    let detection = size_of::<Detection>() == 68
        && offset_of!(Detection, bbox) == 0
        && offset_of!(Detection, confidence) == 16
        && offset_of!(Detection, class_id) == 20
        && offset_of!(Detection, landmarks) == LANDMARKS_TAG
        && size_of::<Option<Landmarks>>() == 44;
    let track = size_of::<Track>() == 72
        && offset_of!(Track, id) == 0
        && offset_of!(Track, phase) == 8
        && offset_of!(Track, bbox) == 12
        && offset_of!(Track, velocity) == 28
        && offset_of!(Track, confidence) == 36
        && offset_of!(Track, class_id) == 40
        && offset_of!(Track, detection) == 44
        && offset_of!(Track, first_seen) == 56
        && offset_of!(Track, last_seen) == 64
        && size_of::<Option<u32>>() == 8;
    // SAFETY: both options are a tag of four bytes and a payload without padding (the sizes say so; the compiler
    // refuses to evaluate this if it were not so), every bit of which is a value; a tag of zero is `None` or, where
    // the tag lies elsewhere, tells that by the comparison.
    let tags = unsafe {
        let some: [u8; 44] = transmute(Some(landmarks));
        let none: Option<Landmarks> = transmute([0_u8; 44]);
        let index: [u32; 2] = transmute(Some(7_u32));
        let nothing: Option<u32> = transmute([0_u32, 7]);
        some[0] == 1 && some[4] == 0 && none.is_none() && index[0] == 1 && index[1] == 7 && nothing.is_none()
    };
    detection && track && tags
};

/// What crosses back: five words, and the lists that they point to until the host has read them.
struct Answer {
    words: [usize; 5],
    given: Option<Result<Update, GuestError>>,
}

/// A component has one thread, and no call comes while another one runs.
static mut ANSWER: Answer = Answer { words: [0; 5], given: None };

/// In place of the generated function of this name: flat parameters in, the address of the answer out.
///
/// # Safety
/// Called by the host alone, with what the canonical ABI says.
#[doc(hidden)]
#[allow(clippy::too_many_arguments)]
pub unsafe fn _export_advance_cabi<T: Advance>(
    session: i64,
    sequence: i64,
    timestamp: i64,
    captured_at: i64,
    width: i32,
    height: i32,
    boxes: *mut u8,
    count: usize,
    has_motion: i32,
    a: f32,
    b: f32,
    tx: f32,
    c: f32,
    d: f32,
    ty: f32,
) -> *mut u8 {
    if !IN_PLACE {
        // SAFETY: the caller's.
        return unsafe {
            generated::_export_advance_cabi::<T>(
                session,
                sequence,
                timestamp,
                captured_at,
                width,
                height,
                boxes,
                count,
                has_motion,
                a,
                b,
                tx,
                c,
                d,
                ty,
            )
        };
    }
    wit_bindgen::rt::run_ctors_once();
    let frame = FrameInfo {
        session: session as u64,
        sequence: sequence as u64,
        timestamp: timestamp as u64,
        captured_at: captured_at as u64,
        width: width as u32,
        height: height as u32,
    };
    let motion = (has_motion != 0).then_some(Affine { a, b, tx, c, d, ty });
    let detections: &[Detection] = if count == 0 {
        &[]
    } else {
        // SAFETY: the host wrote `count` detections of 68 bytes here, into memory that it had allocated for them by
        // `cabi_realloc` at their alignment, and that is this function's from now on.
        unsafe {
            // What crosses is one byte of tag; the three behind it are nobody's and may hold anything.
            for i in 0..count {
                let tag = boxes.add(i * size_of::<Detection>() + LANDMARKS_TAG);
                tag.cast::<u32>().write(u32::from(tag.read() != 0));
            }
            std::slice::from_raw_parts(boxes.cast(), count)
        }
    };
    let given = T::advance_in_place(&frame, detections, motion.as_ref());
    if count > 0 {
        // SAFETY: as it was allocated; nothing borrows it any more.
        unsafe { dealloc(boxes, Layout::from_size_align_unchecked(count * size_of::<Detection>(), 4)) };
    }
    let words = match &given {
        Ok(Update { tracks, ended }) => {
            [0, tracks.as_ptr() as usize, tracks.len(), ended.as_ptr() as usize, ended.len()]
        }
        Err(error) => {
            let (case, text) = match error {
                GuestError::InvalidConfig(text) => (0, text),
                GuestError::UnsupportedSnapshot(text) => (1, text),
                GuestError::Failed(text) => (2, text),
            };
            [1, case, text.as_ptr() as usize, text.len(), 0]
        }
    };
    // SAFETY: see `ANSWER`.
    unsafe {
        ANSWER = Answer { words, given: Some(given) };
        (&raw mut ANSWER.words).cast()
    }
}

/// In place of the generated function of this name: the host has read the answer.
///
/// # Safety
/// Called by the host alone, after [`_export_advance_cabi`], with what that gave.
#[doc(hidden)]
pub unsafe fn __post_return_advance<T: Advance>(answer: *mut u8) {
    // SAFETY: the caller's, and see `ANSWER`.
    unsafe {
        if IN_PLACE {
            ANSWER.given = None;
        } else {
            generated::__post_return_advance::<T>(answer);
        }
    }
}

/// The generated module with the two functions replaced, for the export macro.
pub mod tracker {
    pub mod exports {
        pub mod facestream {
            pub mod analytics {
                pub mod tracking {
                    pub use crate::abi::{__post_return_advance, _export_advance_cabi};
                    pub use crate::bindings::tracker::exports::facestream::analytics::tracking::*;
                }
            }
        }
    }
}
