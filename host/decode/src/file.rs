//! Video files as frames, at full speed.
//!
//! Owns the file contract: every frame the file holds, numbered from 0, the same on every run. Live streams go through
//! [`crate::Decoder`].

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use facestream_core::frame::{Frame, FrameInfo};
use facestream_core::media::Codec;
use facestream_gpu::Gpu;

use crate::clip::{codec_of, estimate};
use crate::config::DecodeConfig;
use crate::demux::{Demuxer, Read, Times};
use crate::engine::{Decoded, Engine};
use crate::error::DecodeError;
use crate::place::{self, Place};
use crate::timeline::Timeline;

/// A video file of any coding that FFmpeg decodes, as an iterator of frames in presentation order.
///
/// `sequence` counts decoded frames from 0; `session` is 0. `timestamp_ns` is the presentation time from the stream's
/// start (strictly increasing), and `captured_at_ns` the same, as if recording had begun at the Unix epoch: the same
/// file gives the same frames on every run. In elementary streams, which carry no times, frame n is at n divided by the
/// declared rate (25 a second without one).
///
/// Frames that FFmpeg had to conceal are delivered too ([`FileSource::damaged`] counts them): no frame of a file is left
/// out. Packets that give no frame are counted by [`FileSource::errors`]. A file that ends in the middle gives all it
/// has, then [`DecodeError::Truncated`] as the last item. Rotation tags are not applied.
///
/// A GPU gives the same pictures as the processor, bit for bit. Where one refuses the file or fails in its middle, the
/// processor begins it anew and goes on behind the last frame given out.
pub struct FileSource {
    demuxer: Demuxer,
    engine: Engine,
    place: Place,
    config: DecodeConfig,
    /// Frames below this number were given out before the processor took over.
    resume_at: u64,
    ready: VecDeque<Frame>,
    state: State,
    phase: Phase,
}

#[derive(Default)]
struct State {
    /// Times of packets sent, by tag (their order), until their frames come.
    times: VecDeque<(i64, Option<u64>)>,
    next_tag: i64,
    sequence: u64,
    timeline: Timeline,
    damaged: u64,
    errors: u64,
}

enum Phase {
    Reading,
    /// All frames given out but this last word.
    Last(DecodeError),
    Done,
}

/// Times kept for frames that have not come: as many as any decoder holds back, and some.
const MAX_TIMES: usize = 256;

impl std::fmt::Debug for FileSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileSource({}, frame {})", self.demuxer.path.display(), self.state.sequence)
    }
}

impl FileSource {
    /// Opens a local file. Never a URL or a playlist. The caller counts the frames it takes, and `errors`. H.264 and H.265
    /// are decoded on `gpu` where there is one and `config` allows it.
    ///
    /// # Errors
    /// When it is missing, empty, no video, without a video stream, too large, or of a coding without decoder.
    pub fn open(path: impl AsRef<Path>, config: &DecodeConfig, gpu: Option<&Arc<Gpu>>) -> Result<Self, DecodeError> {
        let demuxer = Demuxer::open(path.as_ref())?;
        if let Some((width, height)) = demuxer.size
            && (width > config.max_width || height > config.max_height)
        {
            let (max_width, max_height) = (config.max_width, config.max_height);
            return Err(DecodeError::TooLarge { width, height, max_width, max_height });
        }
        let (engine, place) = place::open(demuxer.codec, Some(demuxer.parameters()), config, gpu)?;
        let (ready, state, phase, config) = (VecDeque::new(), State::default(), Phase::Reading, config.clone());
        Ok(Self { demuxer, engine, place, config, resume_at: 0, ready, state, phase })
    }

    /// What decodes, for logs, e.g. `h264 (FFmpeg 5.1.9, cpu, 1 thread)`.
    #[must_use]
    pub fn describe(&self) -> String {
        self.place.describe(&self.engine, &self.config)
    }

    /// Coding of the video.
    #[must_use]
    pub fn codec(&self) -> Codec {
        codec_of(self.demuxer.codec)
    }

    /// FFmpeg's name of the coding, e.g. `h264`, `vp9`.
    #[must_use]
    pub fn codec_name(&self) -> &'static str {
        self.demuxer.codec.name()
    }

    /// Size of the first pictures, when the container tells it.
    #[must_use]
    pub fn size(&self) -> Option<(u32, u32)> {
        self.demuxer.size
    }

    /// Declared or estimated frames a second.
    #[must_use]
    pub fn frame_rate(&self) -> Option<f64> {
        self.demuxer.frame_rate
    }

    /// Length in nanoseconds, where the container tells it.
    #[must_use]
    pub fn duration_ns(&self) -> Option<u64> {
        self.demuxer.duration_ns
    }

    /// About how many frames there are (for a progress bar): the index's count, else length times rate.
    #[must_use]
    pub fn frame_count_estimate(&self) -> Option<u64> {
        estimate(&self.demuxer)
    }

    /// Frames delivered so far that FFmpeg had to conceal in part.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.state.damaged
    }

    /// Decoding errors so far: packets that gave no frame, or only a part of one.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.state.errors
    }

    /// Reads one packet, or drains the decoder at the end.
    fn step(&mut self) -> Result<(), DecodeError> {
        if let Some(lost) = self.place.lost(&self.engine) {
            return Err(lost);
        }
        let Self { demuxer, engine, ready, state, phase, resume_at, .. } = self;
        let (times, period) = (demuxer.times, demuxer.period_ns());
        let packet = demuxer.next_packet();
        let mut out = |state: &mut State, decoded| {
            let frame = state.frame(decoded, times, period);
            if frame.info.sequence >= *resume_at {
                ready.push_back(frame);
            }
        };
        match packet {
            Read::Packet(mut packet) => {
                let tag = state.send(demuxer.timestamp_ns(&packet));
                packet.set_pts(Some(tag));
                packet.set_dts(Some(tag));
                let errors = engine.decode(&packet, &mut |decoded| out(state, decoded))?;
                state.errors += u64::from(errors);
            }
            end => {
                let errors = engine.drain(&mut |decoded| out(state, decoded))?;
                state.errors += u64::from(errors);
                *phase = match end {
                    Read::Broken(reason) => {
                        let path = demuxer.path.clone();
                        Phase::Last(DecodeError::Truncated { path, read: state.sequence, reason })
                    }
                    _ => Phase::Done,
                };
            }
        }
        Ok(())
    }

    /// The processor begins the file anew, where a GPU failed and may be done without.
    fn fall_back(&mut self, error: DecodeError) -> Result<(), DecodeError> {
        let why = place::leave(error, &self.config)?;
        self.demuxer = Demuxer::open(&self.demuxer.path)?;
        let parameters = Some(self.demuxer.parameters());
        (self.engine, _) = place::open(self.demuxer.codec, parameters, &self.config, None)?;
        self.place = Place::Cpu(Some(why));
        self.resume_at = std::mem::take(&mut self.state).sequence;
        Ok(())
    }
}

impl State {
    /// Notes a packet's time; gives the tag to send it with.
    fn send(&mut self, timestamp_ns: Option<u64>) -> i64 {
        let tag = self.next_tag;
        self.next_tag += 1;
        self.times.push_back((tag, timestamp_ns));
        if self.times.len() > MAX_TIMES {
            self.times.pop_front();
        }
        tag
    }

    fn time_of(&mut self, tag: Option<i64>) -> Option<u64> {
        let at = self.times.iter().position(|&(t, _)| Some(t) == tag)?;
        self.times.remove(at)?.1
    }

    /// The n-th frame shown has the n-th time of decoding. Times of packets that gave no frame are left behind once they
    /// are further back than any decoder reorders.
    fn next_time(&mut self, tag: Option<i64>) -> Option<u64> {
        while let (Some(tag), Some(&(oldest, _))) = (tag, self.times.front())
            && oldest < tag - 16
        {
            self.times.pop_front();
        }
        self.times.pop_front()?.1
    }

    fn frame(&mut self, decoded: Decoded, times: Times, period_ns: f64) -> Frame {
        let Decoded { picture, tag, damaged, .. } = decoded;
        self.damaged += u64::from(damaged);
        let time = match times {
            Times::Presentation => self.time_of(tag),
            Times::Decoding => self.next_time(tag),
            Times::None => None,
        };
        let time = time.unwrap_or_else(|| (self.sequence as f64 * period_ns).round() as u64);
        let timestamp_ns = self.timeline.stamp(0, time, time);
        let info = FrameInfo {
            session: 0,
            sequence: self.sequence,
            timestamp_ns,
            captured_at_ns: timestamp_ns,
            width: picture.width(),
            height: picture.height(),
        };
        self.sequence += 1;
        Frame { info, picture }
    }
}

impl Iterator for FileSource {
    type Item = Result<Frame, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(Ok(frame));
            }
            match std::mem::replace(&mut self.phase, Phase::Done) {
                Phase::Done => return None,
                Phase::Last(error) => return Some(Err(error)),
                Phase::Reading => {
                    self.phase = Phase::Reading;
                    if let Err(error) = self.step().or_else(|error| self.fall_back(error)) {
                        // Frames that came before it are given out first.
                        self.phase = Phase::Last(error);
                    }
                }
            }
        }
    }
}
