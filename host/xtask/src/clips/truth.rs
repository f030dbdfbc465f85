//! The clips with known truth: faces of a public-domain photo move on known paths.
//!
//! Owns the scenes, and writes picture and truth from the same numbers: FFmpeg gets each path as an expression, the
//! truth file is the same expression computed here. Must not know detectors or trackers.
//!
//! `truth` (12 s, 1280x720, 25 frames a second), over a blurred background: `right` and `left` walk towards and past
//! each other, `left` in front, which hides `right` for about half a second; `still` stands; `back` leaves the picture
//! and is back within a second; `gone` stays away for four seconds, longer than trackers remember.
//!
//! `shake` (8 s), before a wall: the camera pans to and fro and shakes like one on a mast in the wind, from one frame to
//! the next by up to a face's width. Two stand beside each other, one stands alone, two walk past each other; all are
//! always in view.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::shell;

const WIDTH: u32 = 1280;
const HEIGHT: u32 = 720;
const FPS: u32 = 25;
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

/// A coordinate of the camera over the frames: around a value, with waves of amplitude, radians a frame, phase.
struct Swing(f64, &'static [(f64, f64, f64)]);

/// A camera that looks at a part of a larger world and moves.
struct View {
    /// Left, top, width, height in the photo of what becomes the world: no face in it.
    photo: [u32; 4],
    /// Width and height of the world.
    world: (u32, u32),
    x: Swing,
    y: Swing,
}

struct Scene {
    /// Name of the files.
    name: &'static str,
    frames: u32,
    /// Of the faces: the photo's are 88 to 93 pixels wide.
    scale: f64,
    /// From the back to the front.
    actors: &'static [Actor],
    /// `None`: the camera stands still before a blurred background.
    view: Option<View>,
    bits: &'static str,
}

const TRUTH: Scene = Scene { name: "truth", frames: 300, scale: 1.25, actors: &CROSSING, view: None, bits: "2M" };

const SHAKE: Scene = Scene {
    name: "shake",
    frames: 200,
    scale: 0.7,
    actors: &[
        Actor { name: "one", photo: [1584.0, 1128.0, 93.0, 122.0], start: (780.0, 300.0), walks: &[] },
        Actor { name: "two", photo: [1195.0, 1156.0, 88.0, 115.0], start: (880.0, 310.0), walks: &[] },
        Actor { name: "alone", photo: [2107.0, 1132.0, 90.0, 123.0], start: (1180.0, 330.0), walks: &[] },
        Actor {
            name: "right",
            photo: [546.0, 1154.0, 89.0, 114.0],
            start: (730.0, 640.0),
            walks: &[Walk(0.0, 8.0, 70.0)],
        },
        Actor {
            name: "left",
            photo: [2454.0, 1153.0, 87.0, 110.0],
            start: (1300.0, 500.0),
            walks: &[Walk(0.0, 8.0, -70.0)],
        },
    ],
    view: Some(View {
        photo: [1600, 0, 1400, 690],
        world: (2030, 1000),
        x: Swing(375.0, &[(240.0, 0.042, 0.0), (30.0, 2.1, 0.0), (12.0, 0.9, 0.0)]),
        y: Swing(140.0, &[(20.0, 1.7, 1.0)]),
    }),
    bits: "4M",
};

const CROSSING: [Actor; 5] = [
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

/// Makes the clips and their truths where they are missing or of an older scene.
pub(super) fn make(dir: &Path) -> anyhow::Result<()> {
    TRUTH.make(dir)?;
    SHAKE.make(dir)
}

impl Swing {
    /// As FFmpeg computes it for frame `n`; whole pixels.
    fn expression(&self) -> String {
        let waves = self.1.iter().map(|(by, rate, phase)| format!("+{by}*sin({rate}*n+{phase})"));
        format!("round({}{})", self.0, waves.collect::<String>())
    }

    fn at(&self, frame: u32) -> f64 {
        let wave = |(by, rate, phase): &(f64, f64, f64)| by * (rate * f64::from(frame) + phase).sin();
        (self.0 + self.1.iter().map(wave).sum::<f64>()).round()
    }
}

impl Scene {
    fn make(&self, dir: &Path) -> anyhow::Result<()> {
        let (clip, truth) = (dir.join(format!("{}.mp4", self.name)), dir.join(format!("{}.json", self.name)));
        let arguments = self.arguments();
        let made_by = json!({ "version": VERSION, "ffmpeg": arguments });
        let current = fs::read(&truth).ok().and_then(|t| serde_json::from_slice::<Value>(&t).ok());
        if clip.is_file() && current.is_some_and(|t| t["made_by"] == made_by) {
            return Ok(());
        }
        shell::say(&format!("making the clip {}.mp4 and its truth", self.name));
        let part = format!("part-{}.mp4", self.name);
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.current_dir(dir).args(["-v", "error", "-y", "-threads", "2", "-i", "solvay.jpg"]).args(&arguments);
        shell::run(ffmpeg.arg(&part))?;
        let of_frame = |n| self.actors.iter().map(|a| self.truth(a, n)).collect::<Vec<_>>();
        let frames: Vec<Value> = (0..self.frames).map(|n| json!(of_frame(n))).collect();
        let mut text = json!({ "made_by": made_by, "width": WIDTH, "height": HEIGHT, "fps": FPS, "frames": frames });
        if self.view.is_some() {
            text["camera"] = (0..self.frames).map(|n| json!(self.camera(n))).collect();
        }
        fs::rename(dir.join(part), clip)?;
        fs::write(&truth, serde_json::to_vec(&text)?).with_context(|| format!("could not write {}", truth.display()))
    }

    /// Where the picture's corner is in the world.
    fn camera(&self, frame: u32) -> (f64, f64) {
        self.view.as_ref().map_or((0.0, 0.0), |v| (v.x.at(frame), v.y.at(frame)))
    }

    /// What is behind the actors, one picture over and over.
    fn background(&self) -> String {
        let still = format!("loop=loop=-1:size=1:start=0,setpts=N/({FPS}*TB),trim=end_frame={}", self.frames);
        match &self.view {
            // The photo blurred beyond recognition.
            None => format!("scale={WIDTH}:{HEIGHT},gblur=sigma=30,format=yuv444p,{still}"),
            Some(View { photo: [x, y, w, h], world, .. }) => {
                format!("crop={w}:{h}:{x}:{y},scale={}:{}:flags=lanczos,format=yuv444p,{still}", world.0, world.1)
            }
        }
    }

    /// Everything between the input and the output file.
    fn arguments(&self) -> Vec<String> {
        let mut graph = format!("[0:v]split={}[photo]", self.actors.len() + 1);
        for a in self.actors {
            graph += &format!("[{}]", a.name);
        }
        graph += &format!(";[photo]{}[under0]", self.background());
        for (i, a) in self.actors.iter().enumerate() {
            let [x, y, w, h] = a.cutout();
            let (width, height) = a.size(self.scale);
            let name = a.name;
            // A soft oval, so that no straight edge moves with the face.
            graph += &format!(
                ";[{name}]crop={w}:{h}:{x}:{y},scale={width}:{height}:flags=lanczos,format=yuva444p,\
                 geq=lum='lum(X,Y)':cb='cb(X,Y)':cr='cr(X,Y)':a='255*clip(8*(1-hypot(2*X/W-1,2*Y/H-1)),0,1)'[cut{i}]"
            );
            let (offset_x, offset_y) = a.offset(self.scale);
            let mut to = format!("{}", a.start.0 - offset_x);
            for Walk(from, long, speed) in a.walks {
                to += &format!("+({speed})*clip(n/{FPS}-{from},0,{long})");
            }
            let y = (a.start.1 - offset_y).floor();
            let under = i + 1;
            graph +=
                &format!(";[under{i}][cut{i}]overlay=x='floor({to})':y={y}:eval=frame:format=yuv444[under{under}]");
        }
        let crop = self.view.as_ref().map_or_else(String::new, |v| {
            format!("crop={WIDTH}:{HEIGHT}:x='{}':y='{}':exact=1,", v.x.expression(), v.y.expression())
        });
        // The noise of a camera.
        graph += &format!(";[under{}]{crop}noise=c0s=4:c0f=t:all_seed=1,format=yuv420p[out]", self.actors.len());
        let words =
            ["-filter_complex", &graph, "-map", "[out]", "-c:v", "libx264", "-preset", "fast", "-b:v", self.bits];
        words.iter().chain(&["-g", "50", "-bf", "0"]).map(|w| (*w).to_owned()).collect()
    }

    /// Box and visible share of the face: inside the picture and under nobody nearer. Sampled on a grid of 40 x 40.
    fn truth(&self, actor: &Actor, frame: u32) -> Value {
        let [left, top, right, bottom] = actor.face(frame, self.scale);
        let (camera_x, camera_y) = self.camera(frame);
        let nearer = self.actors.iter().skip_while(|a| a.name != actor.name).skip(1);
        let grid = 40;
        let mut seen = 0;
        for (i, j) in (0..grid).flat_map(|i| (0..grid).map(move |j| (i, j))) {
            let at = |from: f64, to: f64, k: i32| from + (to - from) * (f64::from(k) + 0.5) / f64::from(grid);
            let (x, y) = (at(left, right, i), at(top, bottom, j));
            let inside =
                (0.0..f64::from(WIDTH)).contains(&(x - camera_x)) && (0.0..f64::from(HEIGHT)).contains(&(y - camera_y));
            seen += i32::from(inside && !nearer.clone().any(|a| a.covers(frame, (x, y), self.scale)));
        }
        let visible = f64::from(seen) / f64::from(grid * grid);
        let corners = [left - camera_x, top - camera_y, right - camera_x, bottom - camera_y];
        json!({ "name": actor.name, "box": corners, "visible": visible })
    }
}

impl Actor {
    /// Left, top, width, height in the photo, whole pixels.
    fn cutout(&self) -> [f64; 4] {
        let [x, y, w, h] = self.photo;
        let (side, above, below) = MARGIN;
        let (left, top) = ((x - side * w).floor(), (y - above * h).floor());
        [left, top, (x + w + side * w).ceil() - left, (y + h + below * h).ceil() - top]
    }

    /// Width and height of the cut-out in the world, whole pixels.
    fn size(&self, scale: f64) -> (f64, f64) {
        let [_, _, w, h] = self.cutout();
        ((w * scale).round(), (h * scale).round())
    }

    /// From the cut-out's corner to the face's centre, in the world.
    fn offset(&self, scale: f64) -> (f64, f64) {
        let [left, top, ..] = self.cutout();
        let [x, y, w, h] = self.photo;
        ((x + w / 2.0 - left) * scale, (y + h / 2.0 - top) * scale)
    }

    /// The cut-out's corner in the world: what the overlay's expression gives.
    fn corner(&self, frame: u32, scale: f64) -> (f64, f64) {
        let (offset_x, offset_y) = self.offset(scale);
        let mut x = self.start.0 - offset_x;
        for Walk(from, long, speed) in self.walks {
            x += speed * (f64::from(frame) / f64::from(FPS) - from).clamp(0.0, *long);
        }
        (x.floor(), (self.start.1 - offset_y).floor())
    }

    /// Left, top, right, bottom of the face in the world.
    fn face(&self, frame: u32, scale: f64) -> [f64; 4] {
        let ((x, y), (offset_x, offset_y)) = (self.corner(frame, scale), self.offset(scale));
        let (w, h) = (self.photo[2] * scale, self.photo[3] * scale);
        let (left, top) = (x + offset_x - w / 2.0, y + offset_y - h / 2.0);
        [left, top, left + w, top + h]
    }

    /// Whether the cut-out's oval covers a point of the world.
    fn covers(&self, frame: u32, (x, y): (f64, f64), scale: f64) -> bool {
        let ((left, top), (w, h)) = (self.corner(frame, scale), self.size(scale));
        f64::hypot(2.0 * (x - left) / w - 1.0, 2.0 * (y - top) / h - 1.0) < 1.0
    }
}
