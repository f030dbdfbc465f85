//! Clips for the tests: made by the `ffmpeg` program where it is installed, so that none lies in the repository.
#![allow(dead_code, unreachable_pub)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use facestream_core::clock::{Clock, SimulatedClock};
use facestream_core::frame::Frame;
use facestream_core::media::AccessUnit;
use facestream_core::metrics::CameraMetrics;
use facestream_decode::{ClipReader, DecodeConfig, DecodeError, DecodeReport, Decoder, open_decoder};

/// Runs `ffmpeg`; `Err` says why the test is to be skipped (no program, or it lacks what was asked for).
pub fn ffmpeg(arguments: &[&str]) -> Result<(), String> {
    let run = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y"])
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    match run {
        Err(e) => Err(format!("the ffmpeg program cannot be run: {e}")),
        Ok(o) if o.status.success() => Ok(()),
        Ok(o) => Err(format!("ffmpeg {arguments:?}: {}", String::from_utf8_lossy(&o.stderr).trim())),
    }
}

/// A moving test picture encoded with `encoder` arguments into `name`.
pub fn make(dir: &Path, name: &str, size: &str, seconds: &str, encoder: &[&str]) -> Result<PathBuf, String> {
    let path = dir.join(name);
    let source = format!("testsrc2=size={size}:rate=25:duration={seconds}");
    let mut arguments = vec!["-f", "lavfi", "-i", &source];
    arguments.extend(encoder);
    let text = path.to_str().expect("temporary paths are UTF-8");
    arguments.push(text);
    ffmpeg(&arguments)?;
    Ok(path)
}

/// `value`, or an early return that records the test as skipped.
#[macro_export]
macro_rules! ok_or_skip {
    ($value:expr) => {
        match $value {
            Ok(value) => value,
            Err(why) => {
                assert!(std::env::var_os("CI").is_none(), "{why}");
                facestream_test_support::skip(concat!(module_path!(), ":", line!()), &why);
                return;
            }
        }
    };
}

pub fn units(path: &Path) -> Vec<AccessUnit> {
    ClipReader::open(path).expect("the clip opens").map(|u| u.expect("the clip is whole")).collect()
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

/// A decoder with its metrics.
pub struct Rig {
    pub decoder: Box<dyn Decoder>,
    pub metrics: Arc<CameraMetrics>,
    pub frames: Vec<Frame>,
    pub total: DecodeReport,
}

impl Rig {
    pub fn new(path: &Path, config: &DecodeConfig) -> Self {
        let metrics = Arc::new(CameraMetrics::default());
        let clock: Arc<dyn Clock> = Arc::new(SimulatedClock::at(0));
        let clip = ClipReader::open(path).expect("the clip opens");
        let decoder =
            open_decoder(clip.params(), config, None, Arc::clone(&metrics), clock).expect("the decoder opens");
        Self { decoder, metrics, frames: Vec::new(), total: DecodeReport::default() }
    }

    fn add(&mut self, r: DecodeReport) {
        self.total.frames += r.frames;
        self.total.skipped += r.skipped;
        self.total.errors += r.errors;
        self.total.damaged += r.damaged;
        self.total.dropped += r.dropped;
        self.total.rebuilt |= r.rebuilt;
    }

    pub fn feed<'a>(&mut self, units: impl IntoIterator<Item = &'a AccessUnit>) -> Result<(), DecodeError> {
        for unit in units {
            let frames = &mut self.frames;
            let report = self.decoder.decode(unit, &mut |f| frames.push(f))?;
            self.add(report);
        }
        Ok(())
    }

    pub fn flush(&mut self) -> Result<(), DecodeError> {
        let frames = &mut self.frames;
        let report = self.decoder.flush(&mut |f| frames.push(f))?;
        self.add(report);
        Ok(())
    }
}

/// Luma rows without padding.
pub fn luma(frame: &Frame) -> Vec<u8> {
    let p = frame.picture.planes().expect("software frames lie in host memory");
    (0..p.height as usize).flat_map(|y| p.y[y * p.y_stride..][..p.width as usize].iter().copied()).collect()
}

/// All planes as `ffmpeg -f rawvideo` writes them.
pub fn raw(frame: &Frame) -> Vec<u8> {
    use facestream_core::frame::PixelFormat;
    let p = frame.picture.planes().expect("software frames lie in host memory");
    let (w, h) = (p.width as usize, p.height as usize);
    let (cw, ch) = match p.format {
        PixelFormat::I420 => (w.div_ceil(2), h.div_ceil(2)),
        PixelFormat::I422 => (w.div_ceil(2), h),
        PixelFormat::I444 => (w, h),
        PixelFormat::Nv12 => panic!("no test clip decodes to NV12"),
    };
    let mut out = luma(frame);
    for (plane, stride) in [(p.u, p.u_stride), (p.v, p.v_stride)] {
        out.extend((0..ch).flat_map(|y| plane[y * stride..][..cw].iter().copied()));
    }
    out
}
