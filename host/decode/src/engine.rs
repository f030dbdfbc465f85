//! FFmpeg's decoder for one stream, on the processor or a GPU: packets in, pictures out.
//!
//! Owns opening it with our bounds, and reading what it says about damage. Knows no sessions, times or cameras: a packet
//! carries a tag (in its pts), which comes back with the picture after reordering.

use std::sync::Arc;

use facestream_core::Picture;
use facestream_gpu::Gpu;
use ffmpeg_next::codec::{Context, Id, Parameters, decoder, threading};
use ffmpeg_next::{Dictionary, Error, Packet, frame};

use crate::config::DecodeConfig;
use crate::error::DecodeError;
use crate::ffi::{self, HwDevice, LimitedDecoder, SizeLimit};
use crate::picture::PictureMaker;

/// More pictures than this cannot come out of one packet: H.264 and H.265 hold back at most 16.
const MAX_OUT: usize = 64;

pub(crate) struct Engine {
    decoder: LimitedDecoder,
    // After the decoder: FFmpeg still uses the device while it frees its surfaces.
    device: Option<HwDevice>,
    maker: PictureMaker,
    codec: String,
}

/// One picture as the decoder gave it.
pub(crate) struct Decoded {
    pub(crate) picture: Arc<dyn Picture>,
    /// Tag of the packet it came from; `None` when the decoder lost it.
    pub(crate) tag: Option<i64>,
    /// FFmpeg concealed something: lost slices, missing references, an invalid bitstream.
    pub(crate) damaged: bool,
    /// One of two fields made it; the other field's packet gives no picture of its own.
    pub(crate) interlaced: bool,
}

impl Engine {
    /// `parameters`: what the container says, for files; live streams carry all they need in-band. With a GPU it decodes
    /// there or not at all: a stream that the GPU refuses ends in `DecodeError::Device` at its first picture.
    pub(crate) fn open(
        id: Id,
        parameters: Option<Parameters>,
        config: &DecodeConfig,
        gpu: Option<&Arc<Gpu>>,
    ) -> Result<Self, DecodeError> {
        ffi::capture_log();
        let name = id.name().to_owned();
        let codec = decoder::find(id).ok_or_else(|| DecodeError::UnsupportedCodec { codec: name.clone() })?;
        let failed = |e: Error| DecodeError::Open { codec: name.clone(), reason: e.to_string() };
        let mut context = match parameters {
            Some(parameters) => Context::from_parameters(parameters).map_err(failed)?,
            None => Context::new_with_codec(codec),
        };
        let threads = usize::try_from(config.threads).unwrap_or(1).max(1);
        context.set_threading(threading::Config {
            kind: if threads > 1 { threading::Type::Frame } else { threading::Type::None },
            ..threading::Config::count(threads)
        });
        let limit = Arc::new(SizeLimit::new(config.max_width, config.max_height));
        // `get_buffer` refuses by width and height; this bounds the tables that decoders allocate before it is asked.
        let mut options = Dictionary::new();
        let pixels = (u64::from(config.max_width) + 64) * (u64::from(config.max_height) + 64) * 4;
        options.set("max_pixels", &pixels.min(i32::MAX as u64).to_string());
        let on_device = |e: ffi::HwError| DecodeError::Device { codec: name.clone(), reason: e.to_string() };
        let device = gpu.map(HwDevice::new).transpose().map_err(on_device)?;
        let decoder = LimitedDecoder::open(context, codec, limit, options, device.as_ref()).map_err(failed)?;
        Ok(Self { decoder, device, maker: PictureMaker::default(), codec: codec.name().to_owned() })
    }

    /// FFmpeg's name of the decoder in use, e.g. `h264`, `libdav1d`.
    pub(crate) fn name(&self) -> &str {
        &self.codec
    }

    /// Decodes one packet. Gives the number of errors met on the way; pictures may come all the same.
    ///
    /// # Errors
    /// `TooLarge`, and `Device` where a GPU was to decode: anything else is damage, which the next packets may mend.
    pub(crate) fn decode(&mut self, packet: &Packet, out: &mut dyn FnMut(Decoded)) -> Result<u32, DecodeError> {
        let sent = self.decoder.send(packet);
        self.refused()?;
        Ok(u32::from(sent.is_err()) + self.receive(out)?)
    }

    /// Gives out all pictures held back, and makes the decoder ready for a new start.
    pub(crate) fn drain(&mut self, out: &mut dyn FnMut(Decoded)) -> Result<u32, DecodeError> {
        // An error here means that it was drained already; receiving says the same.
        let sent = self.decoder.send_eof();
        let errors = if sent.is_ok() { self.receive(out)? } else { 0 };
        self.decoder.flush();
        Ok(errors)
    }

    fn receive(&mut self, out: &mut dyn FnMut(Decoded)) -> Result<u32, DecodeError> {
        let mut errors = 0;
        for _ in 0..MAX_OUT {
            let mut video = frame::Video::empty();
            match self.decoder.receive(&mut video) {
                Ok(()) => {}
                Err(Error::Eof | Error::Other { errno: ffmpeg_next::error::EAGAIN }) => break,
                Err(_) => {
                    self.refused()?;
                    errors += 1;
                    continue;
                }
            }
            let (width, height) = (video.width(), video.height());
            if !self.decoder.limit().allows(width, height) {
                return Err(self.too_large(width, height));
            }
            let (tag, interlaced) = (video.pts(), video.is_interlaced());
            let damaged = video.is_corrupt() || video.has_decode_errors();
            let made: Result<Arc<dyn Picture>, _> = match &self.device {
                Some(device) => Ok(Arc::new(self.maker.copy(&video, device).map_err(|e| self.on_device(&e))?)),
                None => self.maker.make(video).map(|picture| Arc::new(picture) as _),
            };
            match made {
                Ok(picture) => out(Decoded { picture, tag, damaged, interlaced }),
                Err(e) => {
                    tracing::debug!(error = %e, "a picture could not be converted");
                    errors += 1;
                }
            }
        }
        Ok(errors)
    }

    fn on_device(&self, reason: &dyn std::fmt::Display) -> DecodeError {
        DecodeError::Device { codec: self.codec.clone(), reason: reason.to_string() }
    }

    fn refused(&self) -> Result<(), DecodeError> {
        if self.decoder.limit().device_refused() {
            return Err(
                self.on_device(&"the GPU does not decode this stream (its profile, its chroma or its bit depth)")
            );
        }
        match self.decoder.limit().take_refused() {
            Some((width, height)) => Err(self.too_large(width, height)),
            None => Ok(()),
        }
    }

    fn too_large(&self, width: u32, height: u32) -> DecodeError {
        let limit = self.decoder.limit();
        DecodeError::TooLarge { width, height, max_width: limit.max_width, max_height: limit.max_height }
    }
}
