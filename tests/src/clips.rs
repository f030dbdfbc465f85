//! Clips made for one test with the `ffmpeg` program, which set-up installs.

use std::path::{Path, PathBuf};
use std::process::Command;

use facestream_test_support::asset;

/// Runs a program of FFmpeg's.
///
/// # Errors
/// When it is missing or fails, in words fit for a skipped test.
pub fn tool(program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(["-v", "error"]).args(args).output();
    let output = output.map_err(|e| format!("cannot run {program} ({e}): apt-get install ffmpeg"))?;
    if !output.status.success() {
        return Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A camera that looks at a photo: the same faces on every frame, so ids must never change. 640x360, 25 frames a second,
/// two seconds, a key frame a second.
///
/// # Errors
/// When the photo or FFmpeg is missing.
pub fn still(dir: &Path) -> Result<PathBuf, String> {
    let (photo, clip) = (asset("clips/solvay.jpg")?, dir.join("still.mp4"));
    let filter = "scale=1500:-2,crop=640:360:420:420,format=yuv420p";
    let x264 = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-g", "25", "-bf", "0"];
    let (photo, out) = (photo.to_string_lossy(), clip.to_string_lossy());
    let input = ["-y", "-loop", "1", "-framerate", "25", "-i", &photo, "-t", "2", "-vf", filter];
    tool("ffmpeg", &[&input[..], &x264, &[&out]].concat())?;
    Ok(clip)
}

/// Pictures in a video file, as `ffprobe` counts them by decoding.
///
/// # Errors
/// When `ffprobe` is missing or fails.
pub fn frames(clip: &Path) -> Result<u64, String> {
    let clip = clip.to_string_lossy();
    let show = "stream=nb_read_frames";
    let text =
        tool("ffprobe", &["-count_frames", "-select_streams", "v:0", "-show_entries", show, "-of", "csv=p=0", &clip])?;
    text.trim().trim_end_matches(',').parse().map_err(|e| format!("ffprobe said `{}`: {e}", text.trim()))
}
