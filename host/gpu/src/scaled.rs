//! Parts of pictures scaled down where they lie, so that few bytes are read back.
//!
//! Owns the launches and the tables on the device. What the numbers are is `facestream-pixels`' business ([`Scaling`]), whose
//! processor's scaler comes to the same bytes.

use std::sync::Arc;

use cudarc::driver::result;
use facestream_pixels::{Scaling, Taps};

use crate::buffer::{Lent, Stream};
use crate::device::Gpu;
use crate::error::GpuError;
use crate::kernels::{RawAxis, RawScaling};

/// A sample costs a thread as many steps as samples that it is made of. Beyond these one small picture of a large one would
/// keep threads busy for milliseconds.
const MOST_STEPS: usize = 4096;

/// Bytes of tables that are worth sending.
const MOST_TABLES: usize = 1 << 20;

/// A plane of samples in device memory, `step` bytes apart: as many planes as that, whose samples take turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Samples {
    pub(crate) address: u64,
    pub(crate) pitch: usize,
    pub(crate) step: usize,
}

/// Whether the device is to do it.
pub(crate) fn worthwhile(planes: &[(Samples, Scaling)]) -> bool {
    let steps = |s: &Scaling| s.columns.row.saturating_mul(s.rows.row);
    planes.iter().all(|(_, s)| steps(s) <= MOST_STEPS) && table_bytes(planes) <= MOST_TABLES
}

fn axes(planes: &[(Samples, Scaling)]) -> impl Iterator<Item = &Taps> {
    planes.iter().flat_map(|(_, s)| [&s.columns, &s.rows])
}

fn table_bytes(planes: &[(Samples, Scaling)]) -> usize {
    axes(planes).map(|axis| size_of_val(axis.table.as_slice())).sum()
}

/// Device memory for the tables, from the pictures' spare memory and back to it.
struct Tables {
    gpu: Arc<Gpu>,
    address: u64,
    bytes: usize,
}

impl Drop for Tables {
    fn drop(&mut self) {
        self.gpu.give_picture(self.address, self.bytes);
    }
}

impl Tables {
    /// One after the other, in order with the stream's other work.
    fn send(gpu: &Arc<Gpu>, numbers: &[i32], stream: &Stream) -> Result<Self, GpuError> {
        // Few sizes, so that spare memory fits.
        let bytes = size_of_val(numbers).next_power_of_two().max(1 << 18);
        let tables = Self { address: gpu.take_picture(bytes)?, gpu: Arc::clone(gpu), bytes };
        gpu.bind()?;
        // SAFETY: there is room for them; pageable memory is copied before the call returns.
        unsafe { result::memcpy_htod_async(tables.address, numbers, stream.raw.cu_stream()) }
            .map_err(|e| gpu.failed("copying to it", e))?;
        Ok(tables)
    }
}

impl Gpu {
    /// Reads planes back scaled, one after the other, rows without padding: one wait for all.
    ///
    /// # Errors
    /// When memory or the GPU is gone.
    ///
    /// # Safety
    /// The scalings name samples of their planes only, which live until this returns.
    pub(crate) unsafe fn read_scaled(self: &Arc<Self>, planes: &[(Samples, Scaling)]) -> Result<Lent, GpuError> {
        let bytes = |(samples, s): &(Samples, Scaling)| samples.step * s.size.0 as usize * s.size.1 as usize;
        let numbers: Vec<i32> = axes(planes).flat_map(|axis| &axis.table).copied().collect();
        let mut tables = None;
        self.written(planes.iter().map(bytes).sum(), |stream, mut to| {
            let sent = tables.insert(Tables::send(self, &numbers, stream)?);
            let mut table = sent.address;
            let mut axis = |taps: &Taps| {
                let axis = RawAxis { table, row: taps.row as i32, precision: taps.precision as i32 };
                table += size_of_val(taps.table.as_slice()) as u64;
                axis
            };
            for plane in planes {
                let (samples, scaling) = plane;
                let raw = RawScaling {
                    from: samples.address,
                    to,
                    columns: axis(&scaling.columns),
                    rows: axis(&scaling.rows),
                    pitch: samples.pitch as i32,
                    step: samples.step as i32,
                    width: scaling.size.0 as i32,
                    height: scaling.size.1 as i32,
                };
                // SAFETY: the tables were sent before on this stream and live until it was waited for, as the samples do
                // (the caller's promise); `to` has room for each plane at its place.
                unsafe { stream.scale(&raw) }?;
                to += bytes(plane) as u64;
            }
            Ok(())
        })
    }
}
