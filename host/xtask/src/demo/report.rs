//! What the demo shows and leaves behind: the live table, best-shot pictures, the summary.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, IsTerminal as _};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use serde_json::{Value, json};

/// Pictures written out; the messages hold them all.
const PICTURES: usize = 200;

/// A table that redraws itself on a terminal and appears every five seconds elsewhere.
#[derive(Default)]
pub(super) struct Table {
    notes: Vec<String>,
    drawn_lines: usize,
    last_second: u64,
}

impl Table {
    /// Adds a line under the table.
    pub(super) fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
        if !std::io::stdout().is_terminal() {
            println!("{text}");
        }
    }

    pub(super) fn show(&mut self, cameras: &[Value], elapsed: Duration) {
        if std::io::stdout().is_terminal() {
            if self.drawn_lines > 0 {
                // Up to where the last one began, and clear from there.
                print!("\x1b[{}A\x1b[J", self.drawn_lines);
            }
            let text = self.text(cameras, elapsed);
            self.drawn_lines = text.lines().count();
            print!("{text}");
        } else if elapsed.as_secs() >= self.last_second + 5 {
            self.last_second = elapsed.as_secs();
            print!("{}", self.text(cameras, elapsed));
        }
    }

    pub(super) fn end(&mut self, cameras: &[Value], elapsed: Duration) {
        self.last_second = 0;
        self.show(cameras, elapsed.max(Duration::from_secs(5)));
    }

    fn text(&self, cameras: &[Value], elapsed: Duration) -> String {
        let mut out = format!(
            "{:>4} s  {:<10} {:<16} {:>5} {:>8} {:>7} {:>6} {:>9} {:>6}\n",
            elapsed.as_secs(),
            "camera",
            "state",
            "fps",
            "faces",
            "tracks",
            "shots",
            "messages",
            "drops"
        );
        for camera in cameras {
            let drops: u64 = camera["drops"].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum();
            out += &format!(
                "        {:<10} {:<16} {:>5.1} {:>8} {:>7} {:>6} {:>9} {:>6}\n",
                camera["camera_id"].as_str().unwrap_or("?"),
                camera["state"].as_str().unwrap_or("?"),
                camera["fps"].as_f64().unwrap_or(0.0),
                counter(camera, "detections"),
                counter(camera, "tracks"),
                counter(camera, "shots"),
                counter(camera, "messages"),
                drops,
            );
        }
        // Elsewhere than on a terminal a note was printed once, when it came.
        for note in self.notes.iter().filter(|_| std::io::stdout().is_terminal()) {
            out += &format!("        {note}\n");
        }
        out
    }
}

fn counter(camera: &Value, name: &str) -> u64 {
    camera["counters"][name].as_u64().unwrap_or(0)
}

/// What the demo did, from the host's counters and from the files it wrote.
pub(super) struct Summary {
    frames: u64,
    faces: u64,
    tracks: u64,
    shots: u64,
    messages: u64,
    /// Messages that the host accepted and that are not in the files.
    pub(super) lost: u64,
    frames_by_camera: BTreeMap<String, u64>,
    messages_by_camera: BTreeMap<String, u64>,
    pictures: Vec<(String, Vec<u8>)>,
    swap: Option<Value>,
    sinks: Vec<Value>,
}

impl Summary {
    /// Reads everything back: messages are counted in the files, not in the host's own words.
    pub(super) fn collect(out: &Path, cameras: &[Value], sinks: &[Value], swap: Option<Value>) -> anyhow::Result<Self> {
        let total = |name: &str| cameras.iter().map(|c| counter(c, name)).sum();
        let mut summary = Self {
            frames: total("analysed"),
            faces: total("detections"),
            tracks: total("tracks"),
            shots: 0,
            messages: 0,
            lost: 0,
            frames_by_camera: cameras
                .iter()
                .map(|c| (c["camera_id"].as_str().unwrap_or("?").to_owned(), counter(c, "analysed")))
                .collect(),
            messages_by_camera: BTreeMap::new(),
            pictures: Vec::new(),
            swap,
            sinks: sinks.to_vec(),
        };
        summary.read_messages(&out.join("messages"))?;
        // As messages are: what was given up when the cameras stopped is in the files, and no longer in their counters.
        summary.shots = summary.pictures.len() as u64;
        let accepted = |kind: &str| -> u64 {
            sinks.iter().filter(|s| s["kind"] == kind).filter_map(|s| s["accepted"].as_u64()).sum()
        };
        let undelivered: u64 = sinks
            .iter()
            .filter(|s| s["kind"] != "jsonl")
            .map(|s| s["accepted"].as_u64().unwrap_or(0).saturating_sub(s["delivered"].as_u64().unwrap_or(0)))
            .sum();
        let given_up: u64 = sinks
            .iter()
            .filter_map(|s| s["lost"].as_object())
            .flat_map(|lost| lost.values().filter_map(Value::as_u64).collect::<Vec<_>>())
            .sum();
        summary.lost = accepted("jsonl").saturating_sub(summary.messages).max(given_up) + undelivered;
        Ok(summary)
    }

    fn read_messages(&mut self, dir: &Path) -> anyhow::Result<()> {
        let mut files: Vec<_> = fs::read_dir(dir)
            .with_context(|| format!("the host wrote no messages to {}", dir.display()))?
            .map(|e| e.map(|e| e.path()))
            .collect::<Result<_, _>>()?;
        files.sort();
        for path in files.iter().filter(|p| p.to_string_lossy().contains(".jsonl")) {
            for line in BufReader::new(fs::File::open(path)?).lines() {
                let message: Value = serde_json::from_str(&line?).with_context(|| format!("in {}", path.display()))?;
                let camera = message["key"].as_str().unwrap_or("?").to_owned();
                self.messages += 1;
                *self.messages_by_camera.entry(camera.clone()).or_default() += 1;
                let picture = message["payload"]["image_base64"].as_str();
                // Both topics carry the same picture; one of them is enough.
                if let (Some(text), "gate-metric-detections") = (picture, message["topic"].as_str().unwrap_or("")) {
                    let jpeg = base64::engine::general_purpose::STANDARD.decode(text).context("image_base64")?;
                    self.pictures.push((camera, jpeg));
                }
            }
        }
        Ok(())
    }

    /// Cameras without a frame or without a message.
    pub(super) fn mute_cameras(&self, ids: &[String]) -> Vec<String> {
        let some = |map: &BTreeMap<String, u64>, id: &String| map.get(id).is_some_and(|&n| n > 0);
        ids.iter()
            .filter(|id| !some(&self.frames_by_camera, id) || !some(&self.messages_by_camera, id))
            .cloned()
            .collect()
    }
}

/// Writes pictures and `summary.json`, says where, and prints the last line.
pub(super) fn finish(out: &Path, summary: &Summary) -> anyhow::Result<()> {
    let shots = out.join("shots");
    fs::create_dir_all(&shots)?;
    for (n, (camera, jpeg)) in summary.pictures.iter().take(PICTURES).enumerate() {
        fs::write(shots.join(format!("{camera}-{n:04}.jpg")), jpeg)?;
    }
    let cameras = summary.frames_by_camera.len();
    let json = json!({
        "cameras": cameras,
        "frames": summary.frames,
        "faces": summary.faces,
        "tracks": summary.tracks,
        "shots": summary.shots,
        "messages": summary.messages,
        "lost": summary.lost,
        "messages_by_camera": summary.messages_by_camera,
        "swap": summary.swap,
        "sinks": summary.sinks,
    });
    fs::write(out.join("summary.json"), serde_json::to_string_pretty(&json)? + "\n")?;
    println!("best-shot pictures: target/demo/shots/ ({})", summary.pictures.len().min(PICTURES));
    println!("messages:           target/demo/messages/<topic>.jsonl");
    println!("summary:            target/demo/summary.json");
    println!(
        "demo: cameras={cameras} frames={} faces={} tracks={} shots={} messages={} lost={}",
        summary.frames, summary.faces, summary.tracks, summary.shots, summary.messages, summary.lost
    );
    Ok(())
}
