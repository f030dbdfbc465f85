//! The clip with known truth: faces of a public-domain photo move on known paths over a blurred background.
//!
//! Owns the scene, and writes picture and truth from the same numbers: FFmpeg gets each path as an expression, the
//! truth file is the same expression computed here. Must not know detectors or trackers.
//!
//! What happens (12 s, 1280x720, 25 frames a second): `right` and `left` walk towards and past each other, `left` in
//! front, which hides `right` for about half a second; `still` stands; `back` leaves the picture and is back within a
//! second; `gone` stays away for four seconds, longer than trackers remember.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::shell;

const WIDTH: u32 = 1280;
const HEIGHT: u32 = 720;
const FPS: u32 = 25;
const FRAMES: u32 = 300;
/// The photo's faces are 88 to 93 pixels wide.
const SCALE: f64 = 1.25;
/// What is cut out around a face, as shares of its box: left and right, above, below.
const MARGIN: (f64, f64, f64) = (0.35, 0.45, 0.30);
/// Changes with everything that is not in the arguments of `ffmpeg`.
const VERSION: u32 = 1;

/// A stretch of constant motion: from second, for seconds, pixels a second to the right.
struct Walk(f64, f64, f64);

struct Actor {
    name: &'static str,
    /// Left, top, width, height of the face in the photo.
    photo: [f64; 4],
    /// Centre of the face at second 0.
    start: (f64, f64),
    walks: &'static [Walk],
}

/// From the back to the front.
const ACTORS: [Actor; 5] = [
    Actor {
        name: "right",
        photo: [1584.0, 1128.0, 93.0, 122.0],
        start: (120.0, 230.0),
        walks: &[Walk(0.0, 8.0, 130.0)],
    },
    Actor {
        name: "left",
        photo: [1195.0, 1156.0, 88.0, 115.0],
        start: (1160.0, 250.0),
        walks: &[Walk(0.0, 8.0, -130.0)],
    },
    Actor { name: "still", photo: [2107.0, 1132.0, 90.0, 123.0], start: (640.0, 560.0), walks: &[] },
    Actor {
        name: "back",
        photo: [546.0, 1154.0, 89.0, 114.0],
        start: (300.0, 550.0),
        walks: &[Walk(2.0, 1.5, -260.0), Walk(3.5, 1.5, 260.0)],
    },
    Actor {
        name: "gone",
        photo: [2454.0, 1153.0, 87.0, 110.0],
        start: (980.0, 550.0),
        walks: &[Walk(4.0, 1.5, 260.0), Walk(8.5, 1.5, -260.0)],
    },
];

/// Makes `truth.mp4` and `truth.json` where they are missing or of an older scene.
pub(super) fn make(dir: &Path) -> anyhow::Result<()> {
    let (clip, truth) = (dir.join("truth.mp4"), dir.join("truth.json"));
    let arguments = arguments();
    let made_by = json!({ "version": VERSION, "ffmpeg": arguments });
    let current = fs::read(&truth).ok().and_then(|t| serde_json::from_slice::<Value>(&t).ok());
    if clip.is_file() && current.is_some_and(|t| t["made_by"] == made_by) {
        return Ok(());
    }
    shell::say("making the clip truth.mp4 and its truth");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.current_dir(dir).args(["-v", "error", "-y", "-threads", "2", "-i", "solvay.jpg"]).args(&arguments);
    shell::run(ffmpeg.arg("part-truth.mp4"))?;
    let frames: Vec<Value> = (0..FRAMES).map(|n| json!(ACTORS.each_ref().map(|a| a.truth(n)))).collect();
    let text = json!({ "made_by": made_by, "width": WIDTH, "height": HEIGHT, "fps": FPS, "frames": frames });
    fs::rename(dir.join("part-truth.mp4"), clip)?;
    fs::write(&truth, serde_json::to_vec(&text)?).with_context(|| format!("could not write {}", truth.display()))
}

/// Everything between the input and the output file.
fn arguments() -> Vec<String> {
    let mut graph = format!("[0:v]split={}[photo]", ACTORS.len() + 1);
    for a in &ACTORS {
        graph += &format!("[{}]", a.name);
    }
    // The photo blurred beyond recognition, one picture over and over, under the noise of a camera.
    graph += &format!(
        ";[photo]scale={WIDTH}:{HEIGHT},gblur=sigma=30,format=yuv444p,loop=loop=-1:size=1:start=0,\
         setpts=N/({FPS}*TB),trim=end_frame={FRAMES}[under0]"
    );
    for (i, a) in ACTORS.iter().enumerate() {
        let [x, y, w, h] = a.cutout();
        let (width, height) = a.size();
        let name = a.name;
        // A soft oval, so that no straight edge moves with the face.
        graph += &format!(
            ";[{name}]crop={w}:{h}:{x}:{y},scale={width}:{height}:flags=lanczos,format=yuva444p,\
             geq=lum='lum(X,Y)':cb='cb(X,Y)':cr='cr(X,Y)':a='255*clip(8*(1-hypot(2*X/W-1,2*Y/H-1)),0,1)'[cut{i}]"
        );
        let (offset_x, offset_y) = a.offset();
        let mut to = format!("{}", a.start.0 - offset_x);
        for Walk(from, long, speed) in a.walks {
            to += &format!("+({speed})*clip(n/{FPS}-{from},0,{long})");
        }
        let y = (a.start.1 - offset_y).floor();
        graph += &format!(";[under{i}][cut{i}]overlay=x='floor({to})':y={y}:eval=frame:format=yuv444[under{}]", i + 1);
    }
    graph += &format!(";[under{}]noise=c0s=4:c0f=t:all_seed=1,format=yuv420p[out]", ACTORS.len());
    let words = ["-filter_complex", &graph, "-map", "[out]", "-c:v", "libx264", "-preset", "fast", "-b:v", "2M"];
    words.iter().chain(&["-g", "50", "-bf", "0"]).map(|w| (*w).to_owned()).collect()
}

impl Actor {
    /// Left, top, width, height in the photo, whole pixels.
    fn cutout(&self) -> [f64; 4] {
        let [x, y, w, h] = self.photo;
        let (side, above, below) = MARGIN;
        let (left, top) = ((x - side * w).floor(), (y - above * h).floor());
        [left, top, (x + w + side * w).ceil() - left, (y + h + below * h).ceil() - top]
    }

    /// Width and height of the cut-out in the clip, whole pixels.
    fn size(&self) -> (f64, f64) {
        let [_, _, w, h] = self.cutout();
        ((w * SCALE).round(), (h * SCALE).round())
    }

    /// From the cut-out's corner to the face's centre, in the clip.
    fn offset(&self) -> (f64, f64) {
        let [left, top, ..] = self.cutout();
        let [x, y, w, h] = self.photo;
        ((x + w / 2.0 - left) * SCALE, (y + h / 2.0 - top) * SCALE)
    }

    /// The cut-out's corner in a frame: what the overlay's expression gives.
    fn corner(&self, frame: u32) -> (f64, f64) {
        let (offset_x, offset_y) = self.offset();
        let mut x = self.start.0 - offset_x;
        for Walk(from, long, speed) in self.walks {
            x += speed * (f64::from(frame) / f64::from(FPS) - from).clamp(0.0, *long);
        }
        (x.floor(), (self.start.1 - offset_y).floor())
    }

    /// Left, top, right, bottom of the face in a frame; it may reach out of the picture.
    fn face(&self, frame: u32) -> [f64; 4] {
        let ((x, y), (offset_x, offset_y)) = (self.corner(frame), self.offset());
        let (w, h) = (self.photo[2] * SCALE, self.photo[3] * SCALE);
        let (left, top) = (x + offset_x - w / 2.0, y + offset_y - h / 2.0);
        [left, top, left + w, top + h]
    }

    /// Whether the cut-out's oval covers a point.
    fn covers(&self, frame: u32, (x, y): (f64, f64)) -> bool {
        let ((left, top), (w, h)) = (self.corner(frame), self.size());
        f64::hypot(2.0 * (x - left) / w - 1.0, 2.0 * (y - top) / h - 1.0) < 1.0
    }

    /// Box and visible share of the face: inside the picture and under nobody nearer. Sampled on a grid of 40 x 40.
    fn truth(&self, frame: u32) -> Value {
        let [left, top, right, bottom] = self.face(frame);
        let nearer = ACTORS.iter().skip_while(|a| a.name != self.name).skip(1);
        let grid = 40;
        let mut seen = 0;
        for (i, j) in (0..grid).flat_map(|i| (0..grid).map(move |j| (i, j))) {
            let at = |from: f64, to: f64, k: i32| from + (to - from) * (f64::from(k) + 0.5) / f64::from(grid);
            let (x, y) = (at(left, right, i), at(top, bottom, j));
            let inside = (0.0..f64::from(WIDTH)).contains(&x) && (0.0..f64::from(HEIGHT)).contains(&y);
            seen += i32::from(inside && !nearer.clone().any(|a| a.covers(frame, (x, y))));
        }
        let visible = f64::from(seen) / f64::from(grid * grid);
        json!({ "name": self.name, "box": [left, top, right, bottom], "visible": visible })
    }
}
