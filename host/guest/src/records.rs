//! Detections and tracks on their way through the boundary: the two records that come by the dozen in every frame.
//!
//! Owns their layout in a guest's memory and how lists of them are written and read: a record at a time, as a block of
//! bytes of fixed length. wasmtime's derived code goes field by field, and each field looks up the instance and checks
//! bounds anew: some 10 ns a number, most of a call's cost. Everything else of these types (type checks, flat values)
//! is the derived code's. Must not check values: `validate` does, after lifting.
//!
//! Layout: canonical ABI of `wit/types.wit`, fields in order at their alignment, option and enum tags one byte. The
//! tests compare with derived code over random values and random bytes.

use std::mem::MaybeUninit;

use facestream_core::{Detection as CoreDetection, Track as CoreTrack, TrackPhase};
use facestream_core::{Point, Rect};
use wasmtime::Result;
use wasmtime::component::__internal::{CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext, LowerContext};
use wasmtime::component::{ComponentType, Lift, Lower};

use crate::bindings::derived;
use crate::convert;

/// A detection that crosses as `types.detection`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(transparent)]
#[allow(unreachable_pub, reason = "a field of generated types, which are all public")]
pub struct Detection(pub CoreDetection);

/// A track that crosses as `types.track`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(transparent)]
#[allow(unreachable_pub, reason = "a field of generated types, which are all public")]
pub struct Track(pub CoreTrack);

/// Bytes of a detection in a guest's memory.
const DETECTION_BYTES: usize = <derived::Detection as ComponentType>::SIZE32;
/// Bytes of a track in a guest's memory.
const TRACK_BYTES: usize = <derived::Track as ComponentType>::SIZE32;

const _: () = assert!(DETECTION_BYTES == 68 && TRACK_BYTES == 72, "the offsets below are of these layouts");

/// A list of detections as it is, for lowering.
pub(crate) fn detections(list: &[CoreDetection]) -> &[Detection] {
    // SAFETY: `Detection` is `repr(transparent)` over the element, so that size, alignment and validity are the same;
    // the lifetime is that of the argument.
    #[allow(unsafe_code)]
    unsafe {
        std::slice::from_raw_parts(list.as_ptr().cast(), list.len())
    }
}

/// A list of tracks as it is, for lowering.
pub(crate) fn tracks(list: &[CoreTrack]) -> &[Track] {
    // SAFETY: as for detections.
    #[allow(unsafe_code)]
    unsafe {
        std::slice::from_raw_parts(list.as_ptr().cast(), list.len())
    }
}

/// The tracks that a guest gave.
pub(crate) fn core_tracks(list: Vec<Track>) -> Vec<CoreTrack> {
    // Collected in place: no copy.
    list.into_iter().map(|t| t.0).collect()
}

#[inline(always)]
fn put<const N: usize, const L: usize>(out: &mut [u8; L], at: usize, bytes: [u8; N]) {
    out[at..at + N].copy_from_slice(&bytes);
}

#[inline(always)]
fn put_f32s<const L: usize>(out: &mut [u8; L], at: usize, values: &[f32]) {
    for (i, v) in values.iter().enumerate() {
        put(out, at + 4 * i, v.to_le_bytes());
    }
}

#[inline(always)]
fn get<const N: usize, const L: usize>(bytes: &[u8; L], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[inline(always)]
fn get_f32<const L: usize>(bytes: &[u8; L], at: usize) -> f32 {
    f32::from_le_bytes(get(bytes, at))
}

/// Box 0, confidence 16, class 20, landmarks: tag 24, ten numbers from 28.
#[inline(always)]
fn write_detection(d: &CoreDetection, out: &mut [u8; DETECTION_BYTES]) {
    put_f32s(out, 0, &[d.bbox.x, d.bbox.y, d.bbox.width, d.bbox.height, d.confidence]);
    put(out, 20, d.class_id.to_le_bytes());
    put(out, 24, u32::from(d.landmarks.is_some()).to_le_bytes());
    if let Some(l) = &d.landmarks {
        let [a, b, c, d, e] = l.points();
        put_f32s(out, 28, &[a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y, e.x, e.y]);
    }
}

/// Id 0, phase 8, box 12, velocity 28, confidence 36, class 40, detection: tag 44, index 48; first seen 56, last 64.
#[inline(always)]
fn write_track(t: &CoreTrack, out: &mut [u8; TRACK_BYTES]) {
    let phase: u32 = match t.phase {
        TrackPhase::Tentative => 0,
        TrackPhase::Confirmed => 1,
        TrackPhase::Lost => 2,
    };
    put(out, 0, t.id.to_le_bytes());
    put(out, 8, phase.to_le_bytes());
    let (b, v) = (&t.bbox, &t.velocity);
    put_f32s(out, 12, &[b.x, b.y, b.width, b.height, v.x, v.y, t.confidence]);
    put(out, 40, t.class_id.to_le_bytes());
    put(out, 44, u32::from(t.detection.is_some()).to_le_bytes());
    put(out, 48, t.detection.unwrap_or(0).to_le_bytes());
    put(out, 56, t.first_seen_ns.to_le_bytes());
    put(out, 64, t.last_seen_ns.to_le_bytes());
}

#[inline(always)]
fn read_track(bytes: &[u8; TRACK_BYTES]) -> Result<CoreTrack> {
    let phase = match bytes[8] {
        0 => TrackPhase::Tentative,
        1 => TrackPhase::Confirmed,
        2 => TrackPhase::Lost,
        other => return Err(impossible("unexpected discriminant of track-phase", other)),
    };
    let detection = match bytes[44] {
        0 => None,
        1 => Some(u32::from_le_bytes(get(bytes, 48))),
        other => return Err(impossible("invalid option discriminant", other)),
    };
    let f = |at| get_f32(bytes, at);
    Ok(CoreTrack {
        id: u64::from_le_bytes(get(bytes, 0)),
        phase,
        bbox: Rect { x: f(12), y: f(16), width: f(20), height: f(24) },
        velocity: Point { x: f(28), y: f(32) },
        confidence: f(36),
        class_id: u32::from_le_bytes(get(bytes, 40)),
        detection,
        first_seen_ns: u64::from_le_bytes(get(bytes, 56)),
        last_seen_ns: u64::from_le_bytes(get(bytes, 64)),
    })
}

#[cold]
fn impossible(what: &str, tag: u8) -> wasmtime::Error {
    wasmtime::Error::msg(format!("{what}: {tag}"))
}

// SAFETY (of all implementations below): the trait asks that `Lower` is made of `ValRaw`s, that `ABI` is the type's and
// that `typecheck` lets only this type pass: all three are the derived record's own. What the functions then write and
// read is checked code: slices of the guest's memory whose bounds panic if the caller's checks were wrong.
#[allow(unsafe_code)]
unsafe impl ComponentType for Detection {
    type Lower = <derived::Detection as ComponentType>::Lower;
    const ABI: CanonicalAbiInfo = <derived::Detection as ComponentType>::ABI;
    const MAY_REQUIRE_REALLOC: bool = <derived::Detection as ComponentType>::MAY_REQUIRE_REALLOC;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        derived::Detection::typecheck(ty, types)
    }
}

#[allow(unsafe_code)]
unsafe impl Lower for Detection {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        dst: &mut MaybeUninit<Self::Lower>,
    ) -> Result<()> {
        convert::detection_to_wit(&self.0).linear_lower_to_flat(cx, ty, dst)
    }

    fn linear_lower_to_memory<T>(&self, cx: &mut LowerContext<'_, T>, _ty: InterfaceType, offset: usize) -> Result<()> {
        write_detection(&self.0, cx.get(offset));
        Ok(())
    }

    fn linear_store_list_to_memory<T>(
        cx: &mut LowerContext<'_, T>,
        _ty: InterfaceType,
        offset: usize,
        items: &[Self],
    ) -> Result<()> {
        let memory = &mut cx.as_slice_mut()[offset..][..items.len() * DETECTION_BYTES];
        for (out, item) in memory.as_chunks_mut().0.iter_mut().zip(items) {
            write_detection(&item.0, out);
        }
        Ok(())
    }
}

#[allow(unsafe_code)]
unsafe impl ComponentType for Track {
    type Lower = <derived::Track as ComponentType>::Lower;
    const ABI: CanonicalAbiInfo = <derived::Track as ComponentType>::ABI;
    const MAY_REQUIRE_REALLOC: bool = <derived::Track as ComponentType>::MAY_REQUIRE_REALLOC;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        derived::Track::typecheck(ty, types)
    }
}

#[allow(unsafe_code)]
unsafe impl Lower for Track {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        dst: &mut MaybeUninit<Self::Lower>,
    ) -> Result<()> {
        convert::track_to_wit(&self.0).linear_lower_to_flat(cx, ty, dst)
    }

    fn linear_lower_to_memory<T>(&self, cx: &mut LowerContext<'_, T>, _ty: InterfaceType, offset: usize) -> Result<()> {
        write_track(&self.0, cx.get(offset));
        Ok(())
    }

    fn linear_store_list_to_memory<T>(
        cx: &mut LowerContext<'_, T>,
        _ty: InterfaceType,
        offset: usize,
        items: &[Self],
    ) -> Result<()> {
        let memory = &mut cx.as_slice_mut()[offset..][..items.len() * TRACK_BYTES];
        for (out, item) in memory.as_chunks_mut().0.iter_mut().zip(items) {
            write_track(&item.0, out);
        }
        Ok(())
    }
}

#[allow(unsafe_code)]
unsafe impl Lift for Track {
    fn linear_lift_from_flat(cx: &mut LiftContext<'_>, ty: InterfaceType, src: &Self::Lower) -> Result<Self> {
        derived::Track::linear_lift_from_flat(cx, ty, src).map(|t| Self(convert::track_from_wit(&t)))
    }

    #[inline]
    fn linear_lift_from_memory(_cx: &mut LiftContext<'_>, _ty: InterfaceType, bytes: &[u8]) -> Result<Self> {
        match bytes.as_array() {
            Some(bytes) => read_track(bytes).map(Self),
            None => Err(wasmtime::Error::msg("a track of another size")),
        }
    }
}

#[cfg(test)]
#[path = "records/tests.rs"]
mod tests;
