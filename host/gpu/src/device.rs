//! Finding a GPU and the one context that everything on it shares.
//!
//! Owns the primary context (which ONNX Runtime and TensorRT use as well), the kernels loaded into it, and the pool of
//! picture memory. Must not know what runs on it.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cudarc::driver::{CudaContext, result, sys};
use serde::Serialize;

use crate::buffer::{Idle, Stream};
use crate::error::{GpuError, words};
use crate::kernels::Kernels;

/// CUDA 12.4: what the embedded PTX (version 8.4) asks of a driver.
const LEAST_CUDA: i32 = 12_040;

/// Unused picture memory kept for the next frames; more is given back to the driver at once.
const MAX_SPARE_BYTES: usize = 1 << 30;

/// What is known of a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GpuInfo {
    /// Its number, from 0.
    pub ordinal: usize,
    /// The maker's name of it.
    pub name: String,
    /// Compute capability, e.g. `9.0`.
    pub capability: String,
    /// Device memory in bytes.
    pub memory: u64,
    /// CUDA version that the driver supports, e.g. `13.0`.
    pub driver: String,
}

/// Device memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GpuMemory {
    /// Not in use by anybody on the machine.
    pub free: u64,
    /// All there is.
    pub total: u64,
}

/// One GPU, opened. One for each number in a process.
pub struct Gpu {
    info: GpuInfo,
    pub(crate) context: Arc<CudaContext>,
    pub(crate) kernels: Kernels,
    spare: Mutex<Spare>,
    pub(crate) idle: Mutex<Idle>,
    /// Bytes of pictures in device memory now, used ones and spare ones.
    pictures: AtomicU64,
    /// Why it does not answer any more.
    lost: OnceLock<GpuError>,
}

/// Memory of pictures that are gone, by size.
#[derive(Default)]
struct Spare {
    by_size: HashMap<usize, Vec<sys::CUdeviceptr>>,
    bytes: usize,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu({}: {})", self.info.ordinal, self.info.name)
    }
}

static OPEN: Mutex<Vec<Arc<Gpu>>> = Mutex::new(Vec::new());

/// How many GPUs this machine has.
///
/// # Errors
/// `NoDriver`, `Init`, `OldDriver`.
pub fn count() -> Result<usize, GpuError> {
    // SAFETY: loading the driver's library runs its initialisers and nothing else; cudarc keeps it loaded.
    if !unsafe { sys::is_culib_present() } {
        return Err(GpuError::NoDriver);
    }
    result::init().map_err(|e| GpuError::Init(words(e)))?;
    new_enough(driver_version()?)?;
    let count = result::device::get_count().map_err(|e| GpuError::Init(words(e)))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

fn driver_version() -> Result<i32, GpuError> {
    let mut version = 0;
    // SAFETY: writes one int.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(|e| GpuError::Init(words(e)))?;
    Ok(version)
}

/// Whether a driver of this CUDA version runs the kernels.
fn new_enough(found: i32) -> Result<(), GpuError> {
    if found >= LEAST_CUDA {
        return Ok(());
    }
    Err(GpuError::OldDriver { found: version(found), needed: version(LEAST_CUDA) })
}

fn version(n: i32) -> String {
    format!("{}.{}", n / 1000, n % 1000 / 10)
}

impl Gpu {
    /// Opens a GPU, or gives the one that is open already.
    ///
    /// # Errors
    /// When there is no driver, it is too old, there is no such GPU, or it refuses.
    pub fn open(ordinal: usize) -> Result<Arc<Self>, GpuError> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gpu) = open.iter().find(|gpu| gpu.info.ordinal == ordinal) {
            return Ok(Arc::clone(gpu));
        }
        let found = count()?;
        if ordinal >= found {
            return Err(GpuError::NoSuchGpu { asked: ordinal, found });
        }
        let gpu = Arc::new(Self::new(ordinal)?);
        open.push(Arc::clone(&gpu));
        Ok(gpu)
    }

    fn new(ordinal: usize) -> Result<Self, GpuError> {
        let failed = |what| move |e| GpuError::of(ordinal, what, e);
        let number = i32::try_from(ordinal).map_err(|_| GpuError::NoSuchGpu { asked: ordinal, found: 0 })?;
        let device = result::device::get(number).map_err(failed("finding it"))?;
        // Threads sleep while they wait for the GPU: with a decode thread a camera, spinning would burn every core. It
        // must be said before anything makes the context; if something has, it stays as it is, which only costs speed.
        // SAFETY: `device` is a valid device of an initialised driver.
        let flags =
            unsafe { sys::cuDevicePrimaryCtxSetFlags_v2(device, sys::CUctx_flags::CU_CTX_SCHED_BLOCKING_SYNC as u32) };
        if let Err(e) = flags.result() {
            tracing::debug!(gpu = ordinal, "the context exists already, its threads spin: {}", words(e));
        }
        let context = CudaContext::new(ordinal).map_err(failed("making its context"))?;
        // Memory is ours and streams are waited for by hand; see the crate's documentation.
        // SAFETY: no CudaSlice of cudarc's is used anywhere in this crate.
        unsafe { context.disable_event_tracking() };
        let (major, minor) = context.compute_capability().map_err(failed("asking what it can do"))?;
        let info = GpuInfo {
            ordinal,
            name: context.name().map_err(failed("asking its name"))?,
            capability: format!("{major}.{minor}"),
            memory: context.total_mem().map_err(failed("asking its memory"))? as u64,
            driver: version(driver_version()?),
        };
        let kernels = Kernels::load(&context).map_err(failed("loading the kernels"))?;
        Ok(Self {
            info,
            context,
            kernels,
            spare: Mutex::default(),
            idle: Mutex::default(),
            pictures: AtomicU64::new(0),
            lost: OnceLock::new(),
        })
    }

    /// What is known of it.
    #[must_use]
    pub fn info(&self) -> &GpuInfo {
        &self.info
    }

    /// Its number.
    #[must_use]
    pub fn ordinal(&self) -> usize {
        self.info.ordinal
    }

    /// Device memory now.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn memory(&self) -> Result<GpuMemory, GpuError> {
        let (free, total) = self.context.mem_get_info().map_err(|e| self.failed("asking its memory", e))?;
        Ok(GpuMemory { free: free as u64, total: total as u64 })
    }

    /// Bytes of pictures in device memory: those in use and those kept for the next frames.
    #[must_use]
    pub fn picture_bytes(&self) -> u64 {
        self.pictures.load(Ordering::Relaxed)
    }

    /// Makes its context the calling thread's.
    ///
    /// # Errors
    /// When the context is gone.
    pub fn bind(&self) -> Result<(), GpuError> {
        self.context.bind_to_thread().map_err(|e| self.failed("entering its context", e))
    }

    /// A new queue of work.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn stream(self: &Arc<Self>) -> Result<Stream, GpuError> {
        self.bind()?;
        let raw = self.context.new_stream().map_err(|e| self.failed("making a stream", e))?;
        Ok(Stream::new(Arc::clone(self), raw))
    }

    /// A new queue for short work that others wait for: it goes before inference, which keeps the GPU busy for
    /// milliseconds at a time.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn urgent_stream(self: &Arc<Self>) -> Result<Stream, GpuError> {
        self.bind()?;
        let failed = |e| self.failed("making a stream", e);
        let (_least, greatest) = result::stream::get_priority_range().map_err(failed)?;
        let raw = self.context.new_stream_with_priority(greatest).map_err(failed)?;
        Ok(Stream::new(Arc::clone(self), raw))
    }

    /// The `CUcontext`, for libraries that take one (FFmpeg).
    #[must_use]
    pub fn raw_context(&self) -> *mut std::ffi::c_void {
        self.context.cu_ctx().cast()
    }

    /// Why this process cannot use it any more, if that was seen.
    #[must_use]
    pub fn lost(&self) -> Option<GpuError> {
        self.lost.get().cloned()
    }

    /// Asks whether it still answers: libraries on it (ONNX Runtime, FFmpeg) report a lost GPU in words of their own.
    /// Waits until its work is done.
    ///
    /// # Errors
    /// `Lost`, also if it was before; or what else the driver says.
    pub fn check(&self) -> Result<(), GpuError> {
        match self.lost() {
            Some(lost) => Err(lost),
            None => self.context.synchronize().map_err(|e| self.failed("asking it to answer", e)),
        }
    }

    pub(crate) fn failed(&self, what: &'static str, error: cudarc::driver::DriverError) -> GpuError {
        let error = GpuError::of(self.info.ordinal, what, error);
        if error.is_lost() && self.lost.set(error.clone()).is_ok() {
            tracing::error!(gpu = self.info.ordinal, "{error}");
        }
        error
    }

    /// Device memory, aligned for anything.
    pub(crate) fn allocate(&self, bytes: usize) -> Result<sys::CUdeviceptr, GpuError> {
        self.bind()?;
        // SAFETY: the context is current; the pointer is freed by `free`.
        unsafe { result::malloc_sync(bytes) }.map_err(|e| match self.failed("allocating memory", e) {
            GpuError::OutOfMemory { gpu, .. } => GpuError::OutOfMemory { gpu, wanted: bytes },
            other => other,
        })
    }

    /// Gives memory back to the driver. Errors at this point mean that the context is gone, and the memory with it.
    pub(crate) fn free(&self, address: sys::CUdeviceptr) {
        if self.bind().is_ok() {
            // SAFETY: `address` came from `allocate`, and its owner gives it up.
            if let Err(e) = unsafe { result::free_sync(address) } {
                tracing::debug!(gpu = self.info.ordinal, "freeing memory failed: {}", words(e));
            }
        }
    }

    /// Memory for a picture: spare memory of that size, or new one.
    pub(crate) fn take_picture(&self, bytes: usize) -> Result<sys::CUdeviceptr, GpuError> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = spare.by_size.get_mut(&bytes).and_then(Vec::pop) {
            spare.bytes -= bytes;
            return Ok(address);
        }
        drop(spare);
        let address = self.allocate(bytes)?;
        self.pictures.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(address)
    }

    /// A picture is gone.
    pub(crate) fn give_picture(&self, address: sys::CUdeviceptr, bytes: usize) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.bytes + bytes <= MAX_SPARE_BYTES {
            spare.bytes += bytes;
            spare.by_size.entry(bytes).or_default().push(address);
            return;
        }
        drop(spare);
        self.pictures.fetch_sub(bytes as u64, Ordering::Relaxed);
        self.free(address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_older_than_the_kernels_is_told_apart() {
        assert_eq!(new_enough(LEAST_CUDA), Ok(()));
        assert_eq!(new_enough(13_000), Ok(()));
        let text = new_enough(11_080).unwrap_err().to_string();
        assert!(text.contains("11.8") && text.contains("12.4") && text.contains("update the driver"), "{text}");
    }
}
