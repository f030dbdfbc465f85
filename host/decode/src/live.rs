//! Live decoding of one camera, on the processor or on a GPU.
//!
//! Owns sessions, frame numbers, times through reordering, what is dropped and counted, rebuilding a decoder that has
//! lost its way, and leaving a GPU for the processor. The bitstream is `engine`'s business, the choice between them `place`'s.

use std::collections::VecDeque;
use std::sync::Arc;

use facestream_core::clock::Clock;
use facestream_core::frame::{Frame, FrameInfo};
use facestream_core::media::{AccessUnit, Codec, StreamParams};
use facestream_core::metrics::{CameraMetrics, Counter, DropReason};
use ffmpeg_next::Packet;
use ffmpeg_next::codec::Id;

use facestream_gpu::Gpu;

use crate::config::{DamagedFrames, DecodeConfig};
use crate::engine::{Decoded, Engine};
use crate::error::DecodeError;
use crate::place::{self, Place};
use crate::timeline::Timeline;
use crate::{DecodeReport, Decoder};

/// Units sent whose picture has not come yet. H.264 and H.265 reorder at most 16; one older than this never comes.
const MAX_PENDING: usize = 48;

/// Larger access units are damage or malice: an 8K key frame at the highest level is below 20 MB.
const MAX_UNIT_BYTES: usize = 64 << 20;

struct Pending {
    tag: i64,
    timestamp_ns: u64,
    received_ns: u64,
    captured_at_ns: u64,
    /// Packets before it were lost, and it may refer to what they held.
    lossy: bool,
    /// It was counted as an error already.
    counted: bool,
}

/// [`Decoder`] on FFmpeg's decoders.
pub(crate) struct LiveDecoder {
    engine: Engine,
    params: StreamParams,
    config: DecodeConfig,
    /// Where it shall decode.
    gpu: Option<Arc<Gpu>>,
    place: Place,
    clock: Arc<dyn Clock>,
    state: State,
    next_tag: i64,
    /// Parameter sets go before the next unit: the decoder is new.
    needs_sets: bool,
    errors_in_a_row: u32,
}

/// What pictures are turned into frames with; apart from the engine, which lends them.
struct State {
    metrics: Arc<CameraMetrics>,
    damaged_frames: DamagedFrames,
    max_damaged_run: u32,
    pending: VecDeque<Pending>,
    session: Option<u64>,
    sequence: u64,
    timeline: Timeline,
    damaged_run: u32,
    interlaced: bool,
    /// Times of the unit sent last, for a picture whose tag was lost.
    latest: (u64, u64, u64),
}

impl LiveDecoder {
    pub(crate) fn open(
        params: &StreamParams,
        config: &DecodeConfig,
        gpu: Option<&Arc<Gpu>>,
        metrics: Arc<CameraMetrics>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, DecodeError> {
        let (engine, place) = open_engine(params, config, gpu)?;
        let state = State {
            metrics,
            damaged_frames: config.damaged_frames,
            max_damaged_run: config.max_damaged_run,
            pending: VecDeque::with_capacity(MAX_PENDING + 1),
            session: None,
            sequence: 0,
            timeline: Timeline::default(),
            damaged_run: 0,
            interlaced: false,
            latest: (0, 0, 0),
        };
        Ok(Self {
            engine,
            params: params.clone(),
            config: config.clone(),
            gpu: gpu.cloned(),
            place,
            clock,
            state,
            next_tag: 0,
            needs_sets: true,
            errors_in_a_row: 0,
        })
    }

    fn drain(&mut self, report: &mut DecodeReport, out: &mut dyn FnMut(Frame)) -> Result<(), DecodeError> {
        let Self { engine, state, clock, .. } = self;
        match engine.drain(&mut |decoded| state.deliver(decoded, clock.as_ref(), report, out)) {
            Ok(errors) => report.errors += errors,
            Err(error) => self.fall_back(error, report)?,
        }
        report.dropped += self.state.forget_pending(0);
        Ok(())
    }

    fn packet(&mut self, unit: &AccessUnit) -> Packet {
        let sets = if self.needs_sets { &self.params.parameter_sets[..] } else { &[] };
        self.needs_sets = false;
        let mut packet = if sets.is_empty() {
            Packet::copy(&unit.data)
        } else {
            let mut joined = Vec::with_capacity(sets.len() + unit.data.len());
            joined.extend_from_slice(sets);
            joined.extend_from_slice(&unit.data);
            Packet::copy(&joined)
        };
        packet.set_pts(Some(self.next_tag));
        packet.set_dts(Some(self.next_tag));
        if unit.keyframe {
            packet.set_flags(ffmpeg_next::codec::packet::Flags::KEY);
        }
        packet
    }

    fn rebuild(&mut self, report: &mut DecodeReport) -> Result<(), DecodeError> {
        tracing::warn!(
            codec = self.params.codec.as_str(),
            errors = self.errors_in_a_row,
            "too many decoding errors in a row: the decoder is built anew"
        );
        report.dropped += self.state.forget_pending(0);
        report.rebuilt = true;
        self.reopen(self.gpu.clone())
    }

    /// A new decoder, on this GPU if there is one.
    fn reopen(&mut self, gpu: Option<Arc<Gpu>>) -> Result<(), DecodeError> {
        (self.engine, self.place) = open_engine(&self.params, &self.config, gpu.as_ref())?;
        self.needs_sets = true;
        self.errors_in_a_row = 0;
        Ok(())
    }

    /// Leaves the GPU for the processor, or says that it must not. What the GPU held back is lost and counted.
    fn fall_back(&mut self, error: DecodeError, report: &mut DecodeReport) -> Result<(), DecodeError> {
        let why = place::leave(error, &self.config)?;
        // The unit in hand is sent again.
        let in_hand = self.state.pending.pop_back();
        report.dropped += self.state.forget_pending(0);
        self.state.pending.extend(in_hand);
        report.rebuilt = true;
        self.reopen(None)?;
        self.place = Place::Cpu(Some(why));
        Ok(())
    }

    /// Sends one unit, and once more to the processor when the GPU fails.
    fn send(
        &mut self,
        unit: &AccessUnit,
        report: &mut DecodeReport,
        out: &mut dyn FnMut(Frame),
    ) -> Result<u32, DecodeError> {
        if let Some(lost) = self.place.lost(&self.engine) {
            self.fall_back(lost, report)?;
        }
        let packet = self.packet(unit);
        let Self { engine, state, clock, .. } = self;
        let failed = match engine.decode(&packet, &mut |decoded| state.deliver(decoded, clock.as_ref(), report, out)) {
            Ok(errors) => return Ok(errors),
            Err(error) => error,
        };
        self.fall_back(failed, report)?;
        let packet = self.packet(unit);
        let Self { engine, state, clock, .. } = self;
        engine.decode(&packet, &mut |decoded| state.deliver(decoded, clock.as_ref(), report, out))
    }
}

impl Decoder for LiveDecoder {
    fn decode(&mut self, unit: &AccessUnit, out: &mut dyn FnMut(Frame)) -> Result<DecodeReport, DecodeError> {
        let mut report = DecodeReport::default();
        if self.state.session != Some(unit.session) {
            self.drain(&mut report, out)?;
            self.state.session = Some(unit.session);
            self.state.sequence = 0;
            self.state.damaged_run = 0;
            self.needs_sets = true;
            self.errors_in_a_row = 0;
        }
        if self.config.keyframes_only && !unit.keyframe {
            self.state.metrics.add(Counter::Skipped, 1);
            report.skipped += 1;
            return Ok(report);
        }
        // An empty packet would tell FFmpeg that the stream has ended.
        if unit.data.is_empty() || unit.data.len() > MAX_UNIT_BYTES {
            self.state.metrics.dropped(DropReason::DecodeError, 1);
            report.errors += 1;
            report.dropped += 1;
            return Ok(report);
        }
        let tag = self.next_tag;
        self.state.latest = (unit.timestamp_ns, unit.received_ns, unit.captured_at_ns);
        self.state.pending.push_back(Pending {
            tag,
            timestamp_ns: unit.timestamp_ns,
            received_ns: unit.received_ns,
            captured_at_ns: unit.captured_at_ns,
            lossy: unit.lost_packets > 0 && !unit.keyframe,
            counted: false,
        });
        let sent = self.send(unit, &mut report, out);
        self.next_tag += 1;
        let errors = sent?;
        if errors > 0 {
            report.errors += errors;
            report.dropped += self.state.count_failed(tag);
        }
        report.dropped += self.state.forget_pending(MAX_PENDING);
        if self.config.keyframes_only {
            // A decoder holds pictures back until later ones show their order; key frames need none.
            self.drain(&mut report, out)?;
        }
        self.errors_in_a_row = if report.frames > 0 { 0 } else { self.errors_in_a_row.saturating_add(errors) };
        if self.errors_in_a_row >= self.config.rebuild_after_errors.max(1) {
            self.rebuild(&mut report)?;
        }
        Ok(report)
    }

    fn flush(&mut self, out: &mut dyn FnMut(Frame)) -> Result<DecodeReport, DecodeError> {
        let mut report = DecodeReport::default();
        self.drain(&mut report, out)?;
        Ok(report)
    }

    fn restart(&mut self, params: &StreamParams, out: &mut dyn FnMut(Frame)) -> Result<DecodeReport, DecodeError> {
        let report = self.flush(out)?;
        self.params = params.clone();
        // The GPU has another chance: this may be another coding, and what failed may have passed.
        self.reopen(self.gpu.clone())?;
        Ok(report)
    }

    fn describe(&self) -> String {
        self.place.describe(&self.engine, &self.config)
    }
}

impl State {
    /// Numbers and times a picture and passes it on, or drops it as damaged.
    fn deliver(&mut self, decoded: Decoded, clock: &dyn Clock, report: &mut DecodeReport, out: &mut dyn FnMut(Frame)) {
        let Decoded { picture, tag, damaged, interlaced } = decoded;
        self.interlaced = interlaced;
        let found = tag.and_then(|tag| self.pending.iter().position(|p| p.tag == tag));
        let pending = found.and_then(|at| self.pending.remove(at));
        // FFmpeg's H.265 decoder conceals missing references without saying so; the network's count does.
        if damaged || pending.as_ref().is_some_and(|p| p.lossy) {
            report.damaged += 1;
            self.damaged_run = self.damaged_run.saturating_add(1);
            if self.damaged_frames == DamagedFrames::Drop && self.damaged_run <= self.max_damaged_run {
                if !pending.is_some_and(|p| p.counted) {
                    self.metrics.dropped(DropReason::DecodeError, 1);
                    report.dropped += 1;
                }
                // It was decoded: numbers count it, so that a gap shows.
                self.sequence += 1;
                return;
            }
        } else {
            self.damaged_run = 0;
        }
        let (timestamp_ns, received_ns, captured_at_ns) =
            pending.map_or(self.latest, |p| (p.timestamp_ns, p.received_ns, p.captured_at_ns));
        let session = self.session.unwrap_or(0);
        let info = FrameInfo {
            session,
            sequence: self.sequence,
            timestamp_ns: self.timeline.stamp(session, timestamp_ns, received_ns),
            captured_at_ns,
            width: picture.width(),
            height: picture.height(),
        };
        self.sequence += 1;
        report.frames += 1;
        self.metrics.decoded_at(clock.monotonic_ns());
        out(Frame { info, picture });
    }

    /// Counts the unit that made the decoder fail, unless its picture came all the same.
    fn count_failed(&mut self, tag: i64) -> u32 {
        match self.pending.iter_mut().find(|p| p.tag == tag && !p.counted) {
            Some(p) => {
                p.counted = true;
                self.metrics.dropped(DropReason::DecodeError, 1);
                1
            }
            None => 0,
        }
    }

    /// Gives up the oldest units until `keep` are left; those never made a picture. In interlaced video every second
    /// unit may be the second field of a picture that came under the first one's tag: those are no loss.
    fn forget_pending(&mut self, keep: usize) -> u32 {
        let mut lost = 0;
        while self.pending.len() > keep {
            let Some(p) = self.pending.pop_front() else { break };
            lost += u32::from(!p.counted && !self.interlaced);
        }
        self.metrics.dropped(DropReason::DecodeError, u64::from(lost));
        lost
    }
}

fn open_engine(
    params: &StreamParams,
    config: &DecodeConfig,
    gpu: Option<&Arc<Gpu>>,
) -> Result<(Engine, Place), DecodeError> {
    if let Some((width, height)) = params.size
        && (width > config.max_width || height > config.max_height)
    {
        let (max_width, max_height) = (config.max_width, config.max_height);
        return Err(DecodeError::TooLarge { width, height, max_width, max_height });
    }
    let id = match params.codec {
        Codec::H264 => Id::H264,
        Codec::H265 => Id::HEVC,
        Codec::Mjpeg => Id::MJPEG,
        Codec::Other => {
            return Err(DecodeError::UnsupportedCodec { codec: "a coding other than H.264, H.265, MJPEG".to_owned() });
        }
    };
    place::open(id, None, config, gpu)
}
