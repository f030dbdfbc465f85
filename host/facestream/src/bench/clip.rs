//! The clip of a measurement that brings none: the set-up's photo, panned, 1080p at 30 frames a second and 4 Mb/s.
//!
//! Owns the making of it with the program `ffmpeg`, once; the file is kept in the cache. No B-frames and a key frame every
//! two seconds, as most cameras send. Must not be used where results have to be equal: encoders differ.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use clap::ValueEnum;

/// How the clip is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClipCodec {
    /// H.264, by x264
    H264,
    /// H.265, by x265
    H265,
}

/// Seconds; the pan comes back to where it began, so that a loop has no cut.
const SECONDS: u32 = 10;

/// The clip, made if it is not there.
///
/// # Errors
/// When there is no `ffmpeg`, or it cannot make it.
pub(super) fn make(codec: ClipCodec, photo: &Path, cache: &Path) -> anyhow::Result<PathBuf> {
    let coding = match codec {
        ClipCodec::H264 => "h264",
        ClipCodec::H265 => "h265",
    };
    let shows = if photo.is_file() { "faces" } else { "pattern" };
    let name = format!("bench-{shows}-{coding}-1080p30.mp4");
    let file = cache.join(&name);
    if !photo.is_file() {
        println!(
            "no photo with faces is there (`cargo xtask setup` brings one): the clip shows a test pattern, guests idle"
        );
    }
    if file.is_file() {
        return Ok(file);
    }
    std::fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
    println!("making a clip: {} ({SECONDS} s)", file.display());
    let part = cache.join(format!("part-{}-{name}", std::process::id()));
    let done = Command::new("ffmpeg").args(arguments(codec, photo)).arg(&part).stdin(Stdio::null()).output();
    let done = done.context(
        "no clip was given and the program ffmpeg, which would make one, cannot be started: \
         give --clip FILE (H.264 or H.265), or install ffmpeg",
    )?;
    if !done.status.success() {
        // Nothing more can be done about what it left.
        drop(std::fs::remove_file(&part));
        let said = String::from_utf8_lossy(&done.stderr);
        bail!("ffmpeg cannot make a clip ({}): give --clip FILE instead", said.trim());
    }
    std::fs::rename(&part, &file).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

fn arguments(codec: ClipCodec, photo: &Path) -> Vec<String> {
    let turn = format!("2*PI*t/{SECONDS}");
    let mut all: Vec<String> = ["-v", "error", "-y"].map(str::to_owned).into();
    if photo.is_file() {
        all.extend(["-loop", "1", "-i"].map(str::to_owned));
        all.push(photo.display().to_string());
        let pan = format!(
            "scale=3000:-2,crop=1920:1080:x='(iw-1920)/2*(1+sin({turn}))':y='(ih-1080)/2*(1+0.6*cos({turn}))',format=yuv420p"
        );
        all.extend(["-vf".to_owned(), pan]);
    } else {
        // Without the set-up's photo: a picture without faces, which loads all but the guests.
        all.extend(["-f", "lavfi", "-i", "testsrc2=size=1920x1080:rate=30", "-pix_fmt", "yuv420p"].map(str::to_owned));
    }
    all.extend(["-t", &SECONDS.to_string(), "-r", "30", "-b:v", "4M", "-g", "60", "-bf", "0"].map(str::to_owned));
    let coder: &[&str] = match codec {
        ClipCodec::H264 => &["-c:v", "libx264", "-preset", "veryfast"],
        ClipCodec::H265 => &["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:bframes=0"],
    };
    all.extend(coder.iter().map(|&a| a.to_owned()));
    all
}

#[cfg(test)]
mod tests {
    use facestream_decode::ClipReader;

    use super::*;

    #[test]
    fn a_clip_of_each_codec_is_made_once() {
        if Command::new("ffmpeg").arg("-version").stdout(Stdio::null()).status().is_err() {
            facestream_test_support::skip("bench clip", "no program ffmpeg");
            return;
        }
        let cache = tempfile::tempdir().unwrap();
        for codec in [ClipCodec::H264, ClipCodec::H265] {
            let file = make(codec, Path::new("/no/photo"), cache.path()).unwrap();
            let clip = ClipReader::open(&file).unwrap();
            assert_eq!(clip.params().codec.as_str(), if codec == ClipCodec::H264 { "h264" } else { "h265" });
            assert_eq!(clip.count(), 300);
            let made = file.metadata().unwrap().modified().unwrap();
            assert_eq!(make(codec, Path::new("/no/photo"), cache.path()).unwrap(), file);
            assert_eq!(file.metadata().unwrap().modified().unwrap(), made, "not made again");
        }
    }
}
