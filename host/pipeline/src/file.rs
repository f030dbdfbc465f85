//! One video file through model and guests at full speed, with nothing dropped.
//!
//! Owns back-pressure from guests to the demuxer: every queue on the way waits. Same input, same output, bit for bit.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use facestream_core::{CameraMetrics, Clock};
use facestream_decode::{DecodeConfig, DecodeError, FileSource, FrameSelector};
use facestream_gpu::Gpu;
use facestream_infer::{Engine, FeedKind, InferError};

use crate::lane::{GuestPool, WhenFull};
use crate::stage::Stage;

/// How long the last frames of a file may take; only a model that hangs takes so long.
const DRAIN: Duration = Duration::from_secs(300);

/// Why a file was not analysed to its end.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read or decoded. What was read before was analysed.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Inference failed on a frame.
    #[error("{path}: inference failed: {source}")]
    Infer {
        /// The file.
        path: PathBuf,
        /// Why.
        source: InferError,
    },
    /// The model did not answer.
    #[error("{0}: the last frames did not come back from inference within 5 minutes")]
    Stuck(PathBuf),
    /// The guests' lane went down, which only a bug in the host can cause.
    #[error("{0}: the guests did not finish; the log says why")]
    Lane(PathBuf),
}

/// What a file run needs besides the file.
pub struct FileRun {
    /// Runs the guests.
    pub pool: Arc<GuestPool>,
    /// Runs the model.
    pub engine: Arc<Engine>,
    /// Decoder settings.
    pub decode: DecodeConfig,
    /// Where it is decoded, where there is one.
    pub gpu: Option<Arc<Gpu>>,
    /// Time, for measuring only.
    pub clock: Arc<dyn Clock>,
    /// Frames a second of video to analyse; `None`: all.
    pub detect_fps: Option<f32>,
    /// Frames that may be in inference at once; more than the engine's sessions, so that none waits for work.
    pub depth: usize,
}

impl FileRun {
    /// Analyses a file to its end. `progress` hears of every decoded frame and the estimated total, and may break off;
    /// then what was decoded is still handed over.
    ///
    /// # Errors
    /// See [`FileError`]. Guests are flushed also after an error, so that what was analysed is not lost.
    pub fn run(
        &self,
        path: &Path,
        stage: Stage,
        metrics: &Arc<CameraMetrics>,
        progress: &mut dyn FnMut(u64, Option<u64>) -> ControlFlow<()>,
    ) -> Result<(), FileError> {
        let source = FileSource::open(path, &self.decode, self.gpu.as_ref())?;
        tracing::info!(file = %path.display(), decoder = source.describe(), "decoding");
        let total = source.frame_count_estimate();
        let name = path.display().to_string();
        let lane = self.pool.lane(&name, stage, self.depth, WhenFull::Wait, Arc::clone(metrics));
        let (failed, failure) = crossbeam_channel::bounded::<InferError>(1);
        let feed = {
            let lane = Arc::clone(&lane);
            self.engine.attach(
                FeedKind::Lossless { depth: self.depth },
                Arc::clone(metrics),
                Arc::new(move |frame, result| match result {
                    Ok(detections) => lane.frame(frame, detections),
                    // The first failure is enough; the others are counted by the engine.
                    Err(error) => drop(failed.try_send(error)),
                }),
            )
        };
        let mut selector = FrameSelector::new(self.detect_fps, Arc::clone(metrics));
        let mut outcome = Ok(());
        let mut decoded = 0;
        for frame in source {
            match frame {
                Ok(frame) => {
                    decoded += 1;
                    metrics.decoded_at(self.clock.monotonic_ns());
                    if selector.take(&frame.info) {
                        feed.offer(frame);
                    }
                    if progress(decoded, total).is_break() {
                        break;
                    }
                }
                Err(error) => outcome = Err(error.into()),
            }
            if let Ok(source) = failure.try_recv() {
                outcome = Err(FileError::Infer { path: path.to_owned(), source });
                break;
            }
        }
        if !feed.drain(DRAIN) {
            outcome = outcome.and(Err(FileError::Stuck(path.to_owned())));
        }
        if let Ok(source) = failure.try_recv() {
            outcome = outcome.and(Err(FileError::Infer { path: path.to_owned(), source }));
        }
        let (done, finished) = crossbeam_channel::bounded(1);
        lane.close(move |stage| {
            stage.finish();
            // The receiver waits below.
            done.send(()).ok();
        });
        if finished.recv().is_err() {
            outcome = outcome.and(Err(FileError::Lane(path.to_owned())));
        }
        outcome
    }
}
