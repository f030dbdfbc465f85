//! Makes the clips for demo and tests from a public-domain group photo, encoded as real H.264.

mod truth;

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::shell;

/// Encodes the clips that are missing in `assets/clips`.
pub(crate) fn make(root: &Path) -> anyhow::Result<()> {
    let dir = crate::assets(root).join("clips");
    // The pan is periodic in the clip's length, so that a looping camera does not jump; one key frame every 2 s, no
    // B-frames, as most cameras send.
    let demo = [
        "-t",
        "20",
        "-r",
        "25",
        "-vf",
        "scale=2400:-2,crop=1280:720:x='(iw-1280)/2*(1+sin(2*PI*t/20))':y='(ih-720)/2*(1+0.6*cos(2*PI*t/20))',format=yuv420p",
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-b:v",
        "2M",
        "-g",
        "50",
        "-bf",
        "0",
    ];
    encode(&dir, "demo.mp4", &["-loop", "1", "-i", "solvay.jpg"], &demo)?;
    // Short ones for tests: the same pan in both codings.
    let pan =
        "scale=1920:-2,crop=1280:720:x='(iw-1280)*(0.5+0.5*sin(t/2))':y='(ih-720)*(0.5+0.5*cos(t/3))',format=yuv420p";
    let h264 = ["-t", "10", "-r", "25", "-vf", pan, "-c:v", "libx264", "-preset", "fast", "-b:v", "2M", "-g", "50"];
    encode(&dir, "pan720.mp4", &["-loop", "1", "-i", "solvay.jpg"], &h264)?;
    let h265 = ["-t", "4", "-c:v", "libx265", "-x265-params", "log-level=error", "-preset", "ultrafast"];
    encode(&dir, "pan720-h265.mp4", &["-i", "pan720.mp4"], &h265)?;
    truth::make(&dir)
}

fn encode(dir: &Path, name: &str, input: &[&str], options: &[&str]) -> anyhow::Result<()> {
    if dir.join(name).is_file() {
        return Ok(());
    }
    shell::say(&format!("making the clip {name}"));
    let part = format!("part-{name}");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.current_dir(dir).args(["-v", "error", "-y", "-threads", "2"]).args(input).args(options).arg(&part);
    shell::run(&mut ffmpeg)?;
    fs::rename(dir.join(part), dir.join(name))?;
    Ok(())
}
