//! Device memory, page-locked host memory and queues of work, each freed by its owner.

use std::fmt;
use std::sync::{Arc, PoisonError};

use cudarc::driver::{CudaStream, result, sys};

use crate::device::Gpu;
use crate::error::GpuError;
use crate::kernels::{MAX_BLOCKS, RawBlock};

/// A queue of work on one GPU: what is put in runs in order.
pub struct Stream {
    pub(crate) gpu: Arc<Gpu>,
    pub(crate) raw: Arc<CudaStream>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream(cuda:{})", self.gpu.ordinal())
    }
}

impl Stream {
    pub(crate) fn new(gpu: Arc<Gpu>, raw: Arc<CudaStream>) -> Self {
        Self { gpu, raw }
    }

    /// The GPU it runs on.
    #[must_use]
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// The `CUstream`, for libraries that take one.
    #[must_use]
    pub fn raw(&self) -> *mut std::ffi::c_void {
        self.raw.cu_stream().cast()
    }

    /// Waits until everything put in has run. The thread sleeps meanwhile.
    ///
    /// # Errors
    /// What went wrong on the GPU since the last wait.
    pub fn synchronize(&self) -> Result<(), GpuError> {
        self.gpu.bind()?;
        self.raw.synchronize().map_err(|e| self.gpu.failed("waiting for it", e))
    }

    /// Copies numbers to the device; complete once the stream was waited for. `from` must live until then.
    ///
    /// # Errors
    /// When the driver refuses, or `from` does not fit.
    pub fn upload<T: Copy>(&self, from: &[T], to: &Buffer, offset: usize) -> Result<(), GpuError> {
        let bytes = std::mem::size_of_val(from);
        to.check(offset, bytes)?;
        self.gpu.bind()?;
        // SAFETY: `to` holds `bytes` bytes from `offset` on (checked); `from` is a live slice of that many, and callers
        // keep it until they have waited (pageable memory is copied before the call returns).
        unsafe { result::memcpy_htod_async(to.address + offset as u64, from, self.raw.cu_stream()) }
            .map_err(|e| self.gpu.failed("copying to it", e))
    }

    /// Copies numbers from the device; they are there once the stream was waited for.
    ///
    /// # Errors
    /// When the driver refuses, or the buffer is shorter.
    pub fn download<T: Copy>(&self, from: &Buffer, offset: usize, to: &mut [T]) -> Result<(), GpuError> {
        let bytes = std::mem::size_of_val(to);
        from.check(offset, bytes)?;
        self.gpu.bind()?;
        // SAFETY: `from` holds `bytes` bytes from `offset` on (checked), `to` has room for them.
        unsafe { result::memcpy_dtoh_async(to, from.address + offset as u64, self.raw.cu_stream()) }
            .map_err(|e| self.gpu.failed("copying from it", e))
    }

    /// Copies as much of one buffer to another as fits both.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn copy(&self, from: &Buffer, to: &Buffer) -> Result<(), GpuError> {
        self.gpu.bind()?;
        let bytes = from.bytes.min(to.bytes);
        // SAFETY: both hold that many bytes, and callers keep both until they have waited for the stream.
        unsafe { result::memcpy_dtod_async(to.address, from.address, bytes, self.raw.cu_stream()) }
            .map_err(|e| self.gpu.failed("copying memory", e))
    }

    /// Sets the first bytes of a buffer to zero.
    ///
    /// # Errors
    /// When the driver refuses, or the buffer is shorter.
    pub fn zero(&self, buffer: &Buffer, bytes: usize) -> Result<(), GpuError> {
        buffer.check(0, bytes)?;
        self.gpu.bind()?;
        // SAFETY: the buffer holds that many bytes (checked).
        unsafe { result::memset_d8_async(buffer.address, 0, bytes, self.raw.cu_stream()) }
            .map_err(|e| self.gpu.failed("clearing memory", e))
    }
}

/// A piece of device memory.
#[derive(Debug)]
pub struct Buffer {
    gpu: Arc<Gpu>,
    pub(crate) address: sys::CUdeviceptr,
    bytes: usize,
}

impl Buffer {
    /// Takes memory from the GPU.
    ///
    /// # Errors
    /// `OutOfMemory`, or what the driver says.
    pub fn new(gpu: &Arc<Gpu>, bytes: usize) -> Result<Self, GpuError> {
        Ok(Self { address: gpu.allocate(bytes.max(1))?, gpu: Arc::clone(gpu), bytes })
    }

    /// Its device address, for libraries that take one.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its size.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether `bytes` from `offset` on lie inside.
    pub(crate) fn check(&self, offset: usize, bytes: usize) -> Result<(), GpuError> {
        if offset.checked_add(bytes).is_some_and(|end| end <= self.bytes) {
            return Ok(());
        }
        let reason = format!("{bytes} bytes at {offset} are outside of a buffer of {}", self.bytes);
        Err(GpuError::Call { gpu: self.gpu.ordinal(), what: "copying", reason })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.gpu.free(self.address);
    }
}

/// Host memory that the GPU copies to and from without a detour.
pub struct Pinned<T> {
    gpu: Arc<Gpu>,
    at: *mut T,
    len: usize,
}

// SAFETY: it owns its memory like a Vec; `T` is plain numbers.
unsafe impl<T: Send> Send for Pinned<T> {}

impl<T> fmt::Debug for Pinned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pinned({})", self.len)
    }
}

/// Plain numbers, for which every pattern of bits is a value.
pub trait Number: Copy + Default {}
impl Number for u8 {}
impl Number for u32 {}
impl Number for f32 {}

impl<T: Number> Pinned<T> {
    /// `len` numbers, all zero.
    ///
    /// # Errors
    /// When the system has no such memory left.
    pub fn new(gpu: &Arc<Gpu>, len: usize) -> Result<Self, GpuError> {
        gpu.bind()?;
        let bytes = (len * size_of::<T>()).max(1);
        // SAFETY: the context is current; freed in `drop`.
        let at =
            unsafe { result::malloc_host(bytes, 0) }.map_err(|e| gpu.failed("locking host memory", e))?.cast::<T>();
        // SAFETY: fresh memory of that many bytes, aligned to a page.
        unsafe { at.cast::<u8>().write_bytes(0, bytes) };
        Ok(Self { gpu: Arc::clone(gpu), at, len })
    }

    /// Its address, which is the same for the GPU.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.at as u64
    }

    /// The numbers.
    #[must_use]
    pub fn slice(&self) -> &[T] {
        // SAFETY: `len` numbers, initialised in `new`, owned by `self`.
        unsafe { std::slice::from_raw_parts(self.at, self.len) }
    }

    /// The numbers, to be written.
    pub fn slice_mut(&mut self) -> &mut [T] {
        // SAFETY: as `slice`, and borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.len) }
    }
}

impl<T> Drop for Pinned<T> {
    fn drop(&mut self) {
        if self.gpu.bind().is_ok() {
            // SAFETY: came from `malloc_host`; nothing uses it any more.
            if unsafe { result::free_host(self.at.cast()) }.is_err() {
                tracing::debug!(gpu = self.gpu.ordinal(), "page-locked memory could not be freed: the context is gone");
            }
        }
    }
}

/// Page-locked memory that goes back to its GPU for the next reader when it is dropped.
pub(crate) struct Lent {
    /// There until `drop`.
    memory: Option<Pinned<u8>>,
    gpu: Arc<Gpu>,
}

// SAFETY: shared readers only read; `Pinned` owns its memory like a Vec.
unsafe impl Sync for Lent {}

impl Lent {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |m| m.slice())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.gpu.idle().memories.push(memory);
        }
    }
}

/// What readers leave behind for each other. Bounded by how many read at once.
#[derive(Default)]
pub(crate) struct Idle {
    streams: Vec<Stream>,
    memories: Vec<Pinned<u8>>,
}

/// A rectangle of bytes in device memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) address: sys::CUdeviceptr,
    pub(crate) pitch: usize,
    pub(crate) width: usize,
    pub(crate) rows: usize,
}

impl Gpu {
    fn idle(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads rectangles back, each packed row after row, one after the other: one launch a [`MAX_BLOCKS`] of them, one wait
    /// for all. The GPU writes into host memory itself.
    ///
    /// # Errors
    /// When the driver refuses.
    pub(crate) fn read_blocks(self: &Arc<Self>, blocks: &[Block]) -> Result<Lent, GpuError> {
        let total: usize = blocks.iter().map(|b| b.width * b.rows).sum();
        let mut to = 0;
        let raw: Vec<RawBlock> = blocks
            .iter()
            .map(|b| {
                let at = to;
                to += b.width * b.rows;
                RawBlock {
                    from: b.address,
                    pitch: b.pitch as i32,
                    width: b.width as i32,
                    rows: b.rows as i32,
                    to: at as i32,
                }
            })
            .collect();
        self.written(total, |stream, to| {
            raw.chunks(MAX_BLOCKS).try_for_each(|some| {
                // SAFETY: the rectangles lie in pictures that the caller holds until this function returns, which is after
                // what was launched has run; there is room for `total` bytes.
                unsafe { stream.pack(some, to) }
            })
        })
    }

    /// Has `total` bytes of host memory written by the GPU itself: `launch` gets a stream, which is waited for, and their
    /// address.
    pub(crate) fn written(
        self: &Arc<Self>,
        total: usize,
        launch: impl FnOnce(&Stream, u64) -> Result<(), GpuError>,
    ) -> Result<Lent, GpuError> {
        let (stream, memory) = {
            let mut idle = self.idle();
            let fitting = idle.memories.iter().position(|m| m.len >= total);
            (idle.streams.pop(), fitting.map(|at| idle.memories.swap_remove(at)))
        };
        let stream = stream.map_or_else(|| self.urgent_stream(), Ok)?;
        let memory = memory.map_or_else(|| Pinned::new(self, total.next_power_of_two().max(1 << 18)), Ok)?;
        // The driver's host memory is mapped for the GPU at its own address (CUDA driver API, "Unified Addressing").
        launch(&stream, memory.address())?;
        stream.synchronize()?;
        self.idle().streams.push(stream);
        Ok(Lent { memory: Some(memory), gpu: Arc::clone(self) })
    }

    /// Copies a rectangle of device memory to another, in order with the stream's other work.
    ///
    /// # Errors
    /// When the driver refuses.
    pub(crate) fn copy_block(&self, from: Block, to: Block, stream: &Stream) -> Result<(), GpuError> {
        let copy = sys::CUDA_MEMCPY2D {
            srcXInBytes: 0,
            srcY: 0,
            srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
            srcHost: std::ptr::null(),
            srcDevice: from.address,
            srcArray: std::ptr::null_mut(),
            srcPitch: from.pitch,
            dstXInBytes: 0,
            dstY: 0,
            dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
            dstHost: std::ptr::null_mut(),
            dstDevice: to.address,
            dstArray: std::ptr::null_mut(),
            dstPitch: to.pitch,
            WidthInBytes: from.width,
            Height: from.rows,
        };
        self.bind()?;
        // SAFETY: callers hold both pieces of memory, and wait for the stream before they give either up.
        unsafe { sys::cuMemcpy2DAsync_v2(&copy, stream.raw.cu_stream()) }
            .result()
            .map_err(|e| self.failed("copying a picture", e))
    }
}
