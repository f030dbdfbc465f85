//! The few FFmpeg calls that `ffmpeg-next` has no safe form for: bitstream filters, plane slices, the buffer hook
//! that bounds picture sizes, the log callback.
//!
//! The ONLY module of the crate with `unsafe`. Offers safe types; no raw pointer leaves it.
#![allow(unsafe_code)]

mod device;

use std::ffi::CStr;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ffmpeg_next::codec::packet::Mut as _;
use ffmpeg_next::codec::{Context, Parameters, decoder};
use ffmpeg_next::format::Pixel;
use ffmpeg_next::software::scaling::{Context as Scaler, Flags};
use ffmpeg_next::{Codec, Dictionary, Error, Frame, Packet, Rational, ffi as sys, frame};

pub(crate) use device::{HwDevice, HwError, has_cuda, surface};

/// Rows of one plane, `None` when the decoder stored it bottom up (negative stride) or not at all.
///
/// The slice ends with the last byte of the last row, not with its padding: a cropped picture's last row may end where
/// its buffer ends.
pub(crate) fn plane(video: &frame::Video, index: usize, rows: usize, row_bytes: usize) -> Option<(&[u8], usize)> {
    if index >= 4 || rows == 0 || row_bytes == 0 {
        return None;
    }
    // SAFETY: `video` owns a valid AVFrame for as long as the borrow lives; `data` and `linesize` have 8 entries.
    let (data, stride) = unsafe { ((*video.as_ptr()).data[index], (*video.as_ptr()).linesize[index]) };
    let stride = usize::try_from(stride).ok().filter(|&s| s >= row_bytes)?;
    if data.is_null() {
        return None;
    }
    // SAFETY: an AVFrame in a planar 8-bit format holds `rows` rows of `row_bytes` bytes, `stride` apart, in each
    // plane (libavutil/frame.h, AVFrame::data); callers pass the rows and bytes of the frame's own format and size.
    // The buffer is reference counted and lives as long as `video`; decoders do not write to a frame after they have
    // given it out.
    Some((unsafe { std::slice::from_raw_parts(data, stride * (rows - 1) + row_bytes) }, stride))
}

/// Bytes of the buffers that a frame keeps alive.
pub(crate) fn buffer_bytes(video: &frame::Video) -> usize {
    let mut total = 0;
    // SAFETY: `video` owns a valid AVFrame; `buf` has 8 entries, each null or a valid AVBufferRef that it holds.
    unsafe {
        for buf in (*video.as_ptr()).buf {
            if let Some(buf) = buf.as_ref() {
                total += buf.size;
            }
        }
    }
    total
}

/// Picture size of a stream, as its container says.
pub(crate) fn parameters_size(parameters: &Parameters) -> (i32, i32) {
    // SAFETY: `parameters` owns, or keeps the owner of, a valid AVCodecParameters.
    unsafe { ((*parameters.as_ptr()).width, (*parameters.as_ptr()).height) }
}

/// FFmpeg's own version text.
pub(crate) fn version() -> String {
    // SAFETY: returns a static, zero-terminated string.
    unsafe { CStr::from_ptr(sys::av_version_info()) }.to_string_lossy().into_owned()
}

/// A bitstream filter, e.g. `h264_mp4toannexb`.
pub(crate) struct BitstreamFilter(NonNull<sys::AVBSFContext>);

// SAFETY: an AVBSFContext has no thread affinity; all use is through `&mut self`.
unsafe impl Send for BitstreamFilter {}

impl BitstreamFilter {
    pub(crate) fn new(name: &CStr, parameters: &Parameters, time_base: Rational) -> Result<Self, Error> {
        // SAFETY: `name` is zero-terminated; the filter descriptor is static. `av_bsf_alloc` writes a context on
        // success, which `Self` frees; `par_in` is allocated by it and the copy is deep.
        unsafe {
            let filter = sys::av_bsf_get_by_name(name.as_ptr());
            if filter.is_null() {
                return Err(Error::BsfNotFound);
            }
            let mut context = ptr::null_mut();
            check(sys::av_bsf_alloc(filter, &mut context))?;
            let Some(context) = NonNull::new(context) else { return Err(Error::Bug) };
            let this = Self(context);
            check(sys::avcodec_parameters_copy((*context.as_ptr()).par_in, parameters.as_ptr()))?;
            (*context.as_ptr()).time_base_in = time_base.into();
            check(sys::av_bsf_init(context.as_ptr()))?;
            Ok(this)
        }
    }

    /// The extradata after filtering: parameter sets in Annex B form.
    pub(crate) fn extradata(&self) -> Vec<u8> {
        // SAFETY: the context was initialised, so `par_out` is valid; extradata is null or `extradata_size` bytes.
        unsafe {
            let out = (*self.0.as_ptr()).par_out;
            let (data, size) = ((*out).extradata, usize::try_from((*out).extradata_size).unwrap_or(0));
            if data.is_null() || size == 0 { Vec::new() } else { std::slice::from_raw_parts(data, size).to_vec() }
        }
    }

    pub(crate) fn send(&mut self, mut packet: Packet) -> Result<(), Error> {
        // SAFETY: both pointers are valid; the filter takes the packet's content, or leaves it to us on an error.
        unsafe { check(sys::av_bsf_send_packet(self.0.as_ptr(), packet.as_mut_ptr())) }
    }

    /// `None` when the filter wants more input.
    pub(crate) fn receive(&mut self) -> Result<Option<Packet>, Error> {
        let mut packet = Packet::empty();
        // SAFETY: both pointers are valid and the packet is clean, as the function demands.
        match unsafe { check(sys::av_bsf_receive_packet(self.0.as_ptr(), packet.as_mut_ptr())) } {
            Ok(()) => Ok(Some(packet)),
            Err(Error::Eof | Error::Other { errno: ffmpeg_next::error::EAGAIN }) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

impl Drop for BitstreamFilter {
    fn drop(&mut self) {
        let mut context = self.0.as_ptr();
        // SAFETY: `Self` owns the context; nothing uses it afterwards.
        unsafe { sys::av_bsf_free(&mut context) }
    }
}

/// The largest picture a decoder may allocate, the last size it was refused, and whether its device was.
#[derive(Debug)]
pub(crate) struct SizeLimit {
    pub(crate) max_width: u32,
    pub(crate) max_height: u32,
    refused: AtomicU64,
    device_refused: AtomicBool,
}

impl SizeLimit {
    pub(crate) fn new(max_width: u32, max_height: u32) -> Self {
        Self { max_width, max_height, refused: AtomicU64::new(0), device_refused: AtomicBool::new(false) }
    }

    pub(crate) fn allows(&self, width: u32, height: u32) -> bool {
        width <= self.max_width && height <= self.max_height
    }

    /// The size that was refused since the last call, if one was.
    pub(crate) fn take_refused(&self) -> Option<(u32, u32)> {
        let packed = self.refused.swap(0, Ordering::Relaxed);
        (packed != 0).then_some(((packed >> 32) as u32, packed as u32))
    }

    /// Whether the device turned out not to decode this stream.
    pub(crate) fn device_refused(&self) -> bool {
        self.device_refused.load(Ordering::Relaxed)
    }

    fn refuse_device(&self) {
        self.device_refused.store(true, Ordering::Relaxed);
    }

    fn refuse(&self, width: u32, height: u32) {
        self.refused.store(u64::from(width) << 32 | u64::from(height), Ordering::Relaxed);
    }
}

/// An open video decoder that refuses to allocate pictures above its limit.
pub(crate) struct LimitedDecoder {
    // Declared first: freed before the limit its context points to.
    decoder: decoder::Video,
    limit: Arc<SizeLimit>,
}

impl LimitedDecoder {
    pub(crate) fn open(
        mut context: Context,
        codec: Codec,
        limit: Arc<SizeLimit>,
        options: Dictionary,
        device: Option<&HwDevice>,
    ) -> Result<Self, Error> {
        // SAFETY: the context is valid and not yet open. `opaque` is ours to use (libavcodec/avcodec.h) and points to
        // a SizeLimit that `Self` keeps alive until after the context is freed; the hook only reads it.
        unsafe {
            (*context.as_mut_ptr()).opaque = Arc::as_ptr(&limit).cast_mut().cast();
            (*context.as_mut_ptr()).get_buffer2 = Some(get_buffer);
            if let Some(device) = device {
                device.attach(context.as_mut_ptr());
            }
        }
        let decoder = context.decoder().open_as_with(codec, options)?.video()?;
        Ok(Self { decoder, limit })
    }

    pub(crate) fn limit(&self) -> &SizeLimit {
        &self.limit
    }

    pub(crate) fn send(&mut self, packet: &Packet) -> Result<(), Error> {
        self.decoder.send_packet(packet)
    }

    pub(crate) fn send_eof(&mut self) -> Result<(), Error> {
        self.decoder.send_eof()
    }

    pub(crate) fn receive(&mut self, frame: &mut Frame) -> Result<(), Error> {
        self.decoder.receive_frame(frame)
    }

    pub(crate) fn flush(&mut self) {
        self.decoder.flush();
    }
}

/// Called by the decoder before it allocates a picture.
unsafe extern "C" fn get_buffer(context: *mut sys::AVCodecContext, frame: *mut sys::AVFrame, flags: i32) -> i32 {
    // SAFETY: FFmpeg passes the context that `LimitedDecoder::open` prepared and a frame whose size is set. `opaque`
    // points to the SizeLimit that lives as long as the decoder; with frame threads FFmpeg copies it to each thread's
    // context, and SizeLimit is Sync.
    unsafe {
        if let Some(limit) = (*context).opaque.cast::<SizeLimit>().as_ref() {
            // The context has the picture's size, the frame the coded one (padded to whole blocks).
            let side = |picture: i32, coded: i32| {
                u32::try_from(if picture > 0 { picture.min(coded) } else { coded }).unwrap_or(u32::MAX)
            };
            let width = side((*context).width, (*frame).width);
            let height = side((*context).height, (*frame).height);
            if !limit.allows(width, height) {
                limit.refuse(width, height);
                return sys::AVERROR(ffmpeg_next::error::EINVAL);
            }
        }
        sys::avcodec_default_get_buffer2(context, frame, flags)
    }
}

/// Converts frames of one format and size to another format, same size.
pub(crate) struct Converter(Scaler);

// SAFETY: an SwsContext has no thread affinity; all use is through `&mut self`.
unsafe impl Send for Converter {}

impl Converter {
    pub(crate) fn new(from: Pixel, width: u32, height: u32, to: Pixel) -> Result<Self, Error> {
        // Exact arithmetic: the same frame gives the same bytes on every processor.
        let flags = Flags::BILINEAR | Flags::ACCURATE_RND | Flags::BITEXACT | Flags::FULL_CHR_H_INP;
        Ok(Self(Scaler::get(from, width, height, to, width, height, flags)?))
    }

    pub(crate) fn takes(&self, video: &frame::Video) -> bool {
        let input = self.0.input();
        (input.format, input.width, input.height) == (video.format(), video.width(), video.height())
    }

    pub(crate) fn run(&mut self, video: &frame::Video) -> Result<frame::Video, Error> {
        let mut out = frame::Video::empty();
        self.0.run(video, &mut out)?;
        Ok(out)
    }
}

/// Whether a format's samples are colours rather than luma and chroma (RGB, palette, bitmap, Bayer).
pub(crate) fn is_rgb(format: Pixel) -> bool {
    let flags = sys::AV_PIX_FMT_FLAG_RGB
        | sys::AV_PIX_FMT_FLAG_PAL
        | sys::AV_PIX_FMT_FLAG_BITSTREAM
        | sys::AV_PIX_FMT_FLAG_BAYER;
    // SAFETY: a descriptor that is there is static.
    format.descriptor().is_some_and(|d| unsafe { (*d.as_ptr()).flags } & flags as u64 != 0)
}

/// Sends FFmpeg's messages to `tracing` (target `ffmpeg`, debug) instead of to stderr. Idempotent.
pub(crate) fn capture_log() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // The type of a C va_list differs between architectures; elsewhere FFmpeg is silenced.
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the callback has the type that FFmpeg expects, is thread-safe and never unwinds.
        unsafe {
            sys::av_log_set_callback(Some(log_line));
        }
        #[cfg(not(target_arch = "x86_64"))]
        ffmpeg_next::log::set_level(ffmpeg_next::log::Level::Quiet);
    });
}

#[cfg(target_arch = "x86_64")]
unsafe extern "C" fn log_line(
    source: *mut std::ffi::c_void,
    level: i32,
    format: *const std::ffi::c_char,
    arguments: *mut sys::__va_list_tag,
) {
    // Damaged streams make thousands of lines a second: nothing is formatted that nobody reads.
    if level > sys::AV_LOG_WARNING || !tracing::enabled!(target: "ffmpeg", tracing::Level::DEBUG) {
        return;
    }
    let mut line = [0 as std::ffi::c_char; 512];
    let mut print_prefix = 1;
    // SAFETY: FFmpeg passes a valid format with its arguments; the buffer's length is its own, and the result is
    // always zero-terminated (libavutil/log.h).
    let text = unsafe {
        sys::av_log_format_line2(source, level, format, arguments, line.as_mut_ptr(), 512, &mut print_prefix);
        CStr::from_ptr(line.as_ptr())
    };
    let text = text.to_string_lossy();
    // A subscriber that panics must not unwind into C.
    if std::panic::catch_unwind(|| tracing::debug!(target: "ffmpeg", "{}", text.trim_end())).is_err() {
        std::process::abort();
    }
}

fn check(code: i32) -> Result<(), Error> {
    if code < 0 { Err(Error::from(code)) } else { Ok(()) }
}
