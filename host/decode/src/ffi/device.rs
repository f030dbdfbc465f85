//! FFmpeg's hardware decoders on a CUDA context and stream of ours.
//!
//! Owns the device context and the hook that accepts frames on it. Falls back to nothing by itself: what the device
//! cannot decode is refused, and `live.rs` decides.

use std::sync::Arc;

use facestream_gpu::{Gpu, GpuError, Stream, SurfaceLayout};
use ffmpeg_next::{Error, ffi as sys, frame};

use super::{SizeLimit, check};

/// `AVCUDADeviceContext` of libavutil/hwcontext_cuda.h, whose header needs CUDA's own to be compiled.
#[repr(C)]
struct CudaDeviceContext {
    context: *mut std::ffi::c_void,
    stream: *mut std::ffi::c_void,
    internal: *mut std::ffi::c_void,
}

/// An `AVHWDeviceContext` over the process's one CUDA context, with a stream of its own.
///
/// Not `av_hwdevice_ctx_create(.., "0", ..)`: that makes a second context, whose pointers inference cannot use.
pub(crate) struct HwDevice {
    // Declared first: FFmpeg's context goes before the stream that it uses.
    context: Reference,
    stream: Stream,
}

struct Reference(*mut sys::AVBufferRef);

// SAFETY: an AVBufferRef is counted atomically and has no thread affinity.
unsafe impl Send for Reference {}

impl Drop for Reference {
    fn drop(&mut self) {
        // SAFETY: `Self` owns one reference.
        unsafe { sys::av_buffer_unref(&mut self.0) }
    }
}

/// Why a device cannot be handed to FFmpeg.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HwError {
    #[error("this FFmpeg was built without CUDA")]
    NotBuiltIn,
    #[error("FFmpeg refuses the device: {0}")]
    Refused(Error),
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

/// Whether these FFmpeg libraries can decode on NVIDIA GPUs.
pub(crate) fn has_cuda() -> bool {
    // SAFETY: allocates a context or gives null; the reference is given up at once.
    unsafe { !Reference(sys::av_hwdevice_ctx_alloc(sys::AVHWDeviceType::AV_HWDEVICE_TYPE_CUDA)).0.is_null() }
}

impl HwDevice {
    pub(crate) fn new(gpu: &Arc<Gpu>) -> Result<Self, HwError> {
        let stream = gpu.urgent_stream()?;
        // SAFETY: a fresh device context of type CUDA has an AVCUDADeviceContext as `hwctx`, whose first two fields are
        // ours to set before it is initialised (libavutil/hwcontext_cuda.h). Context and stream outlive it.
        unsafe {
            let context = Reference(sys::av_hwdevice_ctx_alloc(sys::AVHWDeviceType::AV_HWDEVICE_TYPE_CUDA));
            if context.0.is_null() {
                return Err(HwError::NotBuiltIn);
            }
            let device = (*context.0).data.cast::<sys::AVHWDeviceContext>();
            let cuda = (*device).hwctx.cast::<CudaDeviceContext>();
            (*cuda).context = gpu.raw_context();
            (*cuda).stream = stream.raw();
            check(sys::av_hwdevice_ctx_init(context.0)).map_err(HwError::Refused)?;
            Ok(Self { context, stream })
        }
    }

    /// The stream that decoding is ordered by.
    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Makes a decoder that is not yet open use it.
    ///
    /// # Safety
    /// `context` is valid and not yet open, and its `opaque` is a [`SizeLimit`] that outlives it.
    pub(super) unsafe fn attach(&self, context: *mut sys::AVCodecContext) {
        // SAFETY: as above; the reference is FFmpeg's from here on.
        unsafe {
            (*context).hw_device_ctx = sys::av_buffer_ref(self.context.0);
            (*context).get_format = Some(want_cuda);
            // Threads gain nothing here, and each one costs surfaces.
            (*context).thread_count = 1;
            // Frames are copied as they come: one in hand, one in reserve.
            (*context).extra_hw_frames = 2;
        }
    }
}

/// Called by the decoder with the formats it could give for this stream.
unsafe extern "C" fn want_cuda(
    context: *mut sys::AVCodecContext,
    mut formats: *const sys::AVPixelFormat,
) -> sys::AVPixelFormat {
    use sys::AVPixelFormat as F;
    // SAFETY: FFmpeg passes a valid context and a list that ends with NONE; `opaque` is a live SizeLimit.
    unsafe {
        // 8-bit 4:2:0 comes as NV12, which the kernels read; anything else is the processor's.
        let plain = matches!((*context).sw_pix_fmt, F::AV_PIX_FMT_YUV420P | F::AV_PIX_FMT_YUVJ420P);
        let limit = (*context).opaque.cast::<SizeLimit>().as_ref();
        let (width, height) = ((*context).width, (*context).height);
        let allowed = limit.is_none_or(|l| l.allows(width.unsigned_abs(), height.unsigned_abs()));
        while *formats != F::AV_PIX_FMT_NONE {
            if *formats == F::AV_PIX_FMT_CUDA && plain && allowed {
                return F::AV_PIX_FMT_CUDA;
            }
            formats = formats.add(1);
        }
        if let Some(limit) = limit {
            if allowed {
                limit.refuse_device();
            } else {
                limit.refuse(width.unsigned_abs(), height.unsigned_abs());
            }
        }
    }
    F::AV_PIX_FMT_NONE
}

/// Where a frame of the device lies; `None` when it has no planes there.
pub(crate) fn surface(video: &frame::Video) -> Option<SurfaceLayout> {
    // SAFETY: `video` owns a valid AVFrame; in AV_PIX_FMT_CUDA `data` holds device pointers (libavutil/pixfmt.h).
    let (data, lines, width, height) = unsafe {
        let f = &*video.as_ptr();
        (f.data, f.linesize, f.width, f.height)
    };
    let pitch = |n: usize| usize::try_from(lines[n]).ok().filter(|p| *p > 0 && !data[n].is_null());
    Some(SurfaceLayout {
        luma: data[0] as u64,
        luma_pitch: pitch(0)?,
        chroma: data[1] as u64,
        chroma_pitch: pitch(1)?,
        width: u32::try_from(width).ok()?,
        height: u32::try_from(height).ok()?,
    })
}
