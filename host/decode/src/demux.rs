//! Local files to packets of their video stream, through libavformat.
//!
//! Owns what may be opened: regular files in formats that hold their own pictures. Never a URL, never a playlist
//! (which could name other files). Decodes nothing.

use std::path::{Path, PathBuf};

use ffmpeg_next::codec::{Id, Parameters, packet};
use ffmpeg_next::format::context::Input;
use ffmpeg_next::{Dictionary, Error, Packet, Rational, media};

use crate::error::DecodeError;
use crate::ffi;

/// Formats that hold their own pictures. Playlists and scripts (hls, concat, dash, sdp, lavfi, image2 patterns) are
/// left out: an uploaded file of those could make the host read other files of its machine.
const FORMATS: &str = "mov,matroska,webm,avi,h264,hevc,mjpeg,mjpeg_2000,mpegts,mpeg,mpegvideo,m4v,flv,ivf,obu,av1,\
                       nut,asf,mxf,ogg,gif,apng,yuv4mpegpipe,rm,wtv,dv,dhav,vc1,h263,swf,jpeg_pipe,png_pipe,\
                       bmp_pipe,webp_pipe,wav,mp3,flac,aac";

/// Elementary streams: no timestamps, only an assumed frame rate.
const UNTIMED: [&str; 9] = ["h264", "hevc", "mjpeg", "m4v", "mpegvideo", "obu", "vc1", "h263", "mjpeg_2000"];

/// What a stream that declares no rate is taken for, as FFmpeg's elementary stream demuxers do.
const FALLBACK_FPS: f64 = 25.0;

/// An open file.
pub(crate) struct Demuxer {
    input: Input,
    pub(crate) path: PathBuf,
    stream: usize,
    time_base: Rational,
    start: Option<i64>,
    /// What the container's times say.
    pub(crate) times: Times,
    /// Declared or estimated frames a second.
    pub(crate) frame_rate: Option<f64>,
    pub(crate) duration_ns: Option<u64>,
    container_ns: Option<u64>,
    /// Pictures that the container's index declares (MP4); `None` where it has no such index.
    pub(crate) declared: Option<u64>,
    pub(crate) codec: Id,
    pub(crate) size: Option<(u32, u32)>,
    read: u64,
    corrupt: bool,
    time_bases: Vec<Rational>,
    /// The container's header declares where the longest stream ends.
    end_declared: bool,
    /// Where the latest packet of any stream ends.
    end_ns: u64,
}

/// What a container's times say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Times {
    /// When a picture is shown.
    Presentation,
    /// When a picture is decoded; shown ones come in the same rhythm (AVI).
    Decoding,
    /// There are none (elementary streams).
    None,
}

/// What reading a packet gave.
pub(crate) enum Read {
    Packet(Packet),
    /// The regular end.
    End,
    /// The end came early.
    Broken(String),
}

impl Demuxer {
    pub(crate) fn open(path: &Path) -> Result<Self, DecodeError> {
        ffi::capture_log();
        // Texts of FFmpeg's own error codes; it never fails.
        if let Err(e) = ffmpeg_next::init() {
            tracing::debug!(error = %e, "ffmpeg init");
        }
        let owned = || path.to_path_buf();
        let meta = std::fs::metadata(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound if path.to_string_lossy().contains("://") => {
                DecodeError::NotAFile { path: owned() }
            }
            std::io::ErrorKind::NotFound => DecodeError::NotFound { path: owned() },
            _ => DecodeError::Io { path: owned(), source },
        })?;
        if !meta.is_file() {
            return Err(DecodeError::NotAFile { path: owned() });
        }
        if meta.len() == 0 {
            return Err(DecodeError::Empty { path: owned() });
        }
        // Told apart here: libavformat would call a file without permission "not a video".
        std::fs::File::open(path).map_err(|source| DecodeError::Io { path: owned(), source })?;
        let not_a_video = |reason: String| DecodeError::NotAVideo { path: owned(), reason };
        let Some(text) = path.to_str().filter(|t| !t.contains('\0')) else {
            return Err(not_a_video("its name is not valid UTF-8; rename it".to_owned()));
        };
        let mut options = Dictionary::new();
        options.set("protocol_whitelist", "file");
        options.set("format_whitelist", FORMATS);
        // The prefix keeps a file called `concat:a` or `http:x` a file.
        let input = ffmpeg_next::format::input_with_dictionary(&format!("file:{text}"), options)
            .map_err(|e| not_a_video(open_reason(e)))?;
        Self::of(input, path)
    }

    fn of(input: Input, path: &Path) -> Result<Self, DecodeError> {
        let (stream, time_base, start, frame_rate, declared, codec, size, stream_duration);
        {
            // Pictures attached to audio files (covers) are not video.
            let attached = ffmpeg_next::format::stream::Disposition::ATTACHED_PIC;
            let best = input
                .streams()
                .best(media::Type::Video)
                .filter(|s| !s.disposition().contains(attached))
                .ok_or_else(|| DecodeError::NoVideoStream { path: path.to_path_buf() })?;
            stream = best.index();
            time_base = best.time_base();
            start = Some(best.start_time()).filter(|&t| t != ffmpeg_next::ffi::AV_NOPTS_VALUE);
            frame_rate = rate(best.avg_frame_rate()).or_else(|| rate(best.rate()));
            declared = u64::try_from(best.frames()).ok().filter(|&n| n > 0);
            let parameters = best.parameters();
            codec = parameters.id();
            let (w, h) = ffi::parameters_size(&parameters);
            size = Option::zip(u32::try_from(w).ok(), u32::try_from(h).ok()).filter(|&(w, h)| w > 0 && h > 0);
            stream_duration = Some(best.duration()).filter(|&d| d > 0);
        }
        let format = input.format();
        let is = |names: &[&str]| format.name().split(',').any(|name| names.contains(&name));
        let times = match () {
            () if is(&UNTIMED) => Times::None,
            () if is(&["avi"]) => Times::Decoding,
            () => Times::Presentation,
        };
        let timed = times != Times::None;
        let end_declared = is(&["matroska", "flv"]);
        let time_bases = input.streams().map(|s| s.time_base()).collect();
        let container_ns =
            u64::try_from(input.duration()).ok().filter(|&d| d > 0 && timed).map(|us| us.saturating_mul(1000));
        let duration_ns = stream_duration.filter(|_| timed).map(|d| to_ns(d, time_base)).or(container_ns);
        Ok(Self {
            stream,
            time_base,
            start,
            times,
            time_bases,
            end_declared,
            end_ns: 0,
            frame_rate,
            duration_ns,
            container_ns,
            declared,
            codec,
            size,
            read: 0,
            corrupt: false,
            path: path.to_path_buf(),
            input,
        })
    }

    /// Container format, e.g. `mov,mp4,m4a,3gp,3g2,mj2`.
    pub(crate) fn format_name(&self) -> String {
        self.input.format().name().to_owned()
    }

    pub(crate) fn parameters(&self) -> Parameters {
        // The index came from this very context.
        self.input.stream(self.stream).map(|s| s.parameters()).unwrap_or_default()
    }

    pub(crate) fn time_base(&self) -> Rational {
        self.time_base
    }

    /// Nanoseconds between two pictures at the declared rate.
    pub(crate) fn period_ns(&self) -> f64 {
        1e9 / self.frame_rate.unwrap_or(FALLBACK_FPS)
    }

    /// Time of a packet from the stream's start, as `times` says; `None` where there is none.
    pub(crate) fn timestamp_ns(&mut self, packet: &Packet) -> Option<u64> {
        let time = match self.times {
            Times::Presentation => packet.pts()?,
            Times::Decoding => packet.dts()?,
            Times::None => return None,
        };
        let start = *self.start.get_or_insert(time);
        Some(to_ns(time.saturating_sub(start), self.time_base))
    }

    /// The next packet of the video stream.
    pub(crate) fn next_packet(&mut self) -> Read {
        // A demuxer finds its place again after damage; one that never does is not waited for.
        let mut invalid = 0;
        loop {
            let mut packet = Packet::empty();
            match packet.read(&mut self.input) {
                Ok(()) => {
                    self.note_end(&packet);
                    if packet.stream() != self.stream || packet.size() == 0 {
                        continue;
                    }
                    self.read += 1;
                    self.corrupt = packet.flags().contains(packet::Flags::CORRUPT);
                    return Read::Packet(packet);
                }
                Err(Error::Eof) => return self.ended(),
                Err(Error::InvalidData) if invalid < 1000 => invalid += 1,
                Err(e) => return Read::Broken(e.to_string()),
            }
        }
    }

    fn note_end(&mut self, packet: &Packet) {
        if let (Some(pts), Some(&base)) = (packet.pts(), self.time_bases.get(packet.stream())) {
            self.end_ns = self.end_ns.max(to_ns(pts.saturating_add(packet.duration()), base));
        }
    }

    fn ended(&self) -> Read {
        // A second: the slack that muxers leave between a declared and a real end.
        let declared_end = self.container_ns.filter(|_| self.end_declared);
        if let Some(declared) = declared_end.filter(|&d| self.end_ns.saturating_add(1_000_000_000) < d) {
            let seconds = |ns: u64| ns as f64 / 1e9;
            let (declared, end) = (seconds(declared), seconds(self.end_ns));
            return Read::Broken(format!("its header declares {declared:.1} s, the data ends at {end:.1} s"));
        }
        match self.declared {
            Some(declared) if self.read < declared => {
                Read::Broken(format!("its index declares {declared} pictures, the data ends after {}", self.read))
            }
            _ if self.corrupt && self.times != Times::None => {
                Read::Broken("the data ends in the middle of a picture".to_owned())
            }
            _ => Read::End,
        }
    }
}

fn rate(r: Rational) -> Option<f64> {
    let value = f64::from(r.numerator()) / f64::from(r.denominator());
    // r_frame_rate of an MPEG-TS or MKV without rates is its time base: 90000 is no frame rate.
    (value.is_finite() && value > 0.0 && value <= 1000.0).then_some(value)
}

/// Never negative: what lies before the stream's start is shown at its start.
fn to_ns(ticks: i64, base: Rational) -> u64 {
    let ns = i128::from(ticks) * i128::from(base.numerator()) * 1_000_000_000 / i128::from(base.denominator().max(1));
    u64::try_from(ns.max(0)).unwrap_or(u64::MAX)
}

fn open_reason(error: Error) -> String {
    match error {
        Error::InvalidData => "no known container or video stream; it may be truncated (an MP4 without its index), \
                               or no video at all"
            .to_owned(),
        other => other.to_string(),
    }
}
