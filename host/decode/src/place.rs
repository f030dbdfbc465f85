//! Where a stream is decoded: on a GPU, or on the processor and why there.
//!
//! Owns that choice at opening, and its words. Must not know sessions or files; leaving a GPU later is for those who feed
//! the decoder, since they know what to send again.

use std::sync::Arc;

use facestream_gpu::Gpu;
use ffmpeg_next::codec::{Id, Parameters};

use crate::config::{Acceleration, DecodeConfig};
use crate::engine::Engine;
use crate::error::DecodeError;

/// Where a decoder decodes.
#[derive(Debug)]
pub(crate) enum Place {
    Gpu(Arc<Gpu>),
    /// The processor, and why not the GPU that was wanted.
    Cpu(Option<String>),
}

/// Opens a decoder on `gpu` where there is one, `config` allows it and it decodes this coding; on the processor
/// otherwise, or where the GPU refuses and may be done without.
pub(crate) fn open(
    id: Id,
    parameters: Option<Parameters>,
    config: &DecodeConfig,
    gpu: Option<&Arc<Gpu>>,
) -> Result<(Engine, Place), DecodeError> {
    // NVDEC's JPEG needs a core for 480 frames a second (measured on an H200), as much as the processor's own.
    let decodes_it = matches!(id, Id::H264 | Id::HEVC);
    let Some(gpu) = gpu.filter(|_| decodes_it && config.acceleration != Acceleration::Cpu) else {
        return Ok((Engine::open(id, parameters, config, None)?, Place::Cpu(None)));
    };
    match Engine::open(id, parameters.clone(), config, Some(gpu)) {
        Ok(engine) => Ok((engine, Place::Gpu(Arc::clone(gpu)))),
        Err(error) if config.acceleration == Acceleration::Auto => {
            tracing::warn!(%error, "the processor decodes this stream");
            Ok((Engine::open(id, parameters, config, None)?, Place::Cpu(Some(error.to_string()))))
        }
        Err(error) => Err(error),
    }
}

/// What an error of the decoder means where it decodes: the reason to leave the GPU for the processor, or an error that
/// stays one.
pub(crate) fn leave(error: DecodeError, config: &DecodeConfig) -> Result<String, DecodeError> {
    if !matches!(error, DecodeError::Device { .. }) || config.acceleration != Acceleration::Auto {
        return Err(error);
    }
    tracing::warn!(%error, "the processor decodes this stream from here on");
    Ok(error.to_string())
}

impl Place {
    /// Whether its GPU does not answer any more. FFmpeg takes packets for a GPU that is gone without a word, and gives no
    /// pictures.
    pub(crate) fn lost(&self, engine: &Engine) -> Option<DecodeError> {
        let Self::Gpu(gpu) = self else { return None };
        let codec = engine.name().to_owned();
        gpu.lost().map(|lost| DecodeError::Device { codec, reason: lost.to_string() })
    }

    /// For logs and status, e.g. `h264 (FFmpeg 5.1.9, cpu, 1 thread)`.
    pub(crate) fn describe(&self, engine: &Engine, config: &DecodeConfig) -> String {
        let (name, version, threads) = (engine.name(), crate::ffi::version(), config.threads);
        match self {
            Self::Gpu(gpu) => format!("{name} (FFmpeg {version}, NVDEC, cuda:{})", gpu.ordinal()),
            Self::Cpu(Some(why)) => format!("{name} (FFmpeg {version}, cpu, {threads} thread; {why})"),
            Self::Cpu(None) => format!("{name} (FFmpeg {version}, cpu, {threads} thread)"),
        }
    }
}
