//! `facestream run`: what scripts rely on. Shapes of lines, no frame left out, the same bytes whatever the threads.
#![allow(clippy::unwrap_used, reason = "a test: what is missing is a failure, and helpers are not seen as tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use facestream_sim::SimConfig;
use facestream_test_support::{asset, asset_or_skip, skip};
use facestream_tests::cameras::Cameras;
use facestream_tests::messages::assert_jpeg_base64;
use facestream_tests::{clips, program};
use serde_json::Value;

const PAN: &str = "clips/pan720.mp4";
const ALL: &str = "detections,tracks,shots,messages";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn parsed(output: &str) -> Vec<Value> {
    assert!(output.is_empty() || output.ends_with('\n'), "whole lines");
    output.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

/// Lines of a run over this input, with quiet standard error.
#[track_caller]
fn lines(input: &Path, more: &[&str]) -> Vec<Value> {
    parsed(&program::run(&[&["run", text(input), "--quiet"], more].concat()).succeeded())
}

fn of<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|l| l["type"] == kind).collect()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect()
}

#[track_caller]
fn assert_box(value: &Value, width: f64, height: f64) {
    let corners = numbers(value);
    let [x1, y1, x2, y2] = corners[..] else { panic!("{value} are no four corners") };
    assert!(x1 < x2 && y1 < y2, "{value}");
    // A face at the border may reach out of the picture, by no more than its own size.
    assert!(x2 > 0.0 && y2 > 0.0 && x1 < width && y1 < height, "{value} lies outside of the frame");
}

/// Asserts the documented shape of each line of detections, and that frames are counted from 0 without a gap.
#[track_caller]
fn assert_detections(lines: &[&Value], frames: u64, width: f64, height: f64) {
    assert_eq!(lines.len() as u64, frames, "a line for every frame");
    let mut found = 0;
    let mut last = None;
    for (n, line) in lines.iter().enumerate() {
        assert_eq!(keys(line), ["type", "frame", "timestamp_ns", "detections"]);
        assert_eq!(line["frame"], n as u64);
        let at = line["timestamp_ns"].as_u64().unwrap();
        assert!(last.is_none_or(|last| at > last), "time goes on: {last:?}, then {at}");
        last = Some(at);
        for d in line["detections"].as_array().unwrap() {
            assert_eq!(keys(d), ["box", "score", "class", "landmarks"]);
            assert_box(&d["box"], width, height);
            assert!((0.0..=1.0).contains(&d["score"].as_f64().unwrap()), "{d}");
            assert_eq!(d["class"], 0);
            let points = d["landmarks"].as_array().unwrap();
            assert!(points.len() == 5 && points.iter().all(|p| numbers(p).len() == 2), "{d}");
            found += 1;
        }
    }
    assert!(found > lines.len(), "several faces a frame: {found}");
}

#[test]
fn every_frame_has_its_lines_in_the_documented_shape() {
    let clip = asset_or_skip!(PAN);
    let frames = match clips::frames(&clip) {
        Ok(frames) => frames,
        Err(why) => return skip("run: every_frame_has_its_lines_in_the_documented_shape", &why),
    };
    let dir = tempfile::tempdir().unwrap();
    let mot = dir.path().join("tracks.txt");
    let lines = lines(&clip, &["--emit", ALL, "--mot", text(&mot)]);
    assert_detections(&of(&lines, "detections"), frames, 1280.0, 720.0);

    let tracks = of(&lines, "tracks");
    assert_eq!(tracks.len() as u64, frames);
    let mut rows = BTreeMap::new();
    let (mut begun, mut ended) = (BTreeSet::new(), BTreeSet::new());
    for (n, line) in tracks.iter().enumerate() {
        assert_eq!(keys(line), ["type", "frame", "timestamp_ns", "tracks", "ended"]);
        assert_eq!(line["frame"], n as u64);
        for t in line["tracks"].as_array().unwrap() {
            assert_eq!(keys(t), ["id", "phase", "box", "score", "class", "detection", "velocity"]);
            let id = t["id"].as_u64().unwrap();
            assert!(!ended.contains(&id), "track {id} has ended and does not come back");
            begun.insert(id);
            assert!(["tentative", "confirmed", "lost"].contains(&t["phase"].as_str().unwrap()), "{t}");
            if t["phase"] == "confirmed" && !t["detection"].is_null() {
                assert_box(&t["box"], 1280.0, 720.0);
                assert_eq!(rows.insert((n as u64 + 1, id), numbers(&t["box"])), None, "an id is on a frame once");
            }
        }
        for id in line["ended"].as_array().unwrap() {
            assert!(ended.insert(id.as_u64().unwrap()), "a track ends once: {id}");
        }
    }
    assert!(ended.is_subset(&begun) && ended.len() > 3, "the pan leaves faces behind: {ended:?}");

    // The same tracks as MOTChallenge rows.
    let written = std::fs::read_to_string(&mot).unwrap();
    assert_eq!(written.lines().count(), rows.len());
    for row in written.lines() {
        let fields: Vec<f64> = row.split(',').map(|f| f.parse().unwrap()).collect();
        let [frame, id, x, y, width, height, score, -1.0, -1.0, -1.0] = fields[..] else { panic!("{row}") };
        let found = rows.remove(&(frame as u64, id as u64)).unwrap_or_else(|| panic!("{row} is no line's track"));
        for (a, b) in [x, y, x + width, y + height].iter().zip(found) {
            assert!((a - b).abs() < 0.03, "{row}: {a} is {b} in the lines");
        }
        assert!((0.0..=1.0).contains(&score), "{row}");
    }

    let shots = of(&lines, "shot");
    assert!(shots.len() >= 10, "the pan shows many faces: {}", shots.len());
    for shot in &shots {
        let expected =
            ["type", "track", "frame", "reason", "score", "confidence", "sharpness", "brightness", "box", "size"];
        assert_eq!(keys(shot), expected);
        assert!(begun.contains(&shot["track"].as_u64().unwrap()), "{shot}");
        assert!(shot["frame"].as_u64().unwrap() < frames);
    }
    let messages = of(&lines, "message");
    assert_eq!(messages.len(), 2 * shots.len(), "one of each topic for every shot");
    let ids: BTreeSet<_> = messages.iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), messages.len(), "every message has an id of its own");
    for message in messages {
        assert_eq!(keys(message), ["type", "id", "topic", "key", "headers", "content_type", "payload"]);
        assert_eq!(message["key"], message["payload"]["camera_id"]);
        assert_jpeg_base64(&message["payload"]["image_base64"]);
    }
}

#[test]
fn the_same_input_gives_the_same_bytes_whatever_the_threads() {
    let clip = asset_or_skip!("clips/pan720-h265.mp4");
    let dir = tempfile::tempdir().unwrap();
    let run = |threads: &str, name: &str| {
        let (out, mot) = (dir.path().join(format!("{name}.jsonl")), dir.path().join(format!("{name}.txt")));
        let files = ["--out", text(&out), "--mot", text(&mot)];
        let ended =
            program::run(&[&["run", text(&clip), "--quiet", "--emit", ALL, "--threads", threads], &files[..]].concat());
        assert_eq!(ended.succeeded(), "", "the lines are in the file");
        (std::fs::read(out).unwrap(), std::fs::read(mot).unwrap())
    };
    let first = run("1", "a");
    assert!(first.0.len() > 100_000 && !first.1.is_empty());
    assert!(first == run("1", "b"), "twice the same");
    assert!(first == run("2", "c"), "also on two threads");
}

#[test]
fn what_is_printed_is_what_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let clip = match clips::still(dir.path()) {
        Ok(clip) => clip,
        Err(why) => return skip("run: what_is_printed_is_what_was_asked_for", &why),
    };
    let all = lines(&clip, &["--emit", ALL]);
    for (emit, kinds) in [
        ("detections", &["detections"][..]),
        ("tracks", &["tracks"]),
        ("shots", &["shot"]),
        ("messages", &["message"]),
        ("messages,tracks", &["tracks", "message"]),
    ] {
        let expected: Vec<_> = all.iter().filter(|l| kinds.contains(&l["type"].as_str().unwrap())).cloned().collect();
        assert!(!expected.is_empty());
        assert!(lines(&clip, &["--emit", emit]) == expected, "--emit {emit} is that part of everything");
    }
    let messages: Vec<_> = all.iter().filter(|l| l["type"] == "message").cloned().collect();
    assert!(lines(&clip, &[]) == messages, "messages are the default");

    // `-` is standard output, and the summary goes beside it.
    let loud = program::run(&["run", text(&clip), "--emit", "shots", "--out", "-"]);
    assert!(loud.stderr.contains("frames=50 analysed=50") && !loud.stderr.contains("dropped"), "{}", loud.stderr);
    assert_eq!(parsed(&loud.succeeded()).len(), of(&all, "shot").len());

    // The same faces on every frame: ids never change.
    let ids = |line: &Value| -> BTreeSet<u64> {
        line["tracks"].as_array().unwrap().iter().map(|t| t["id"].as_u64().unwrap()).collect()
    };
    let tracks = of(&all, "tracks");
    let first = ids(tracks[2]);
    assert!(first.len() >= 10 && tracks[2..].iter().all(|l| ids(l) == first), "{first:?}");

    // A tracker by its file is the tracker by its name; another one is another one.
    let by_name = lines(&clip, &["--emit", "tracks", "--tracker", "bytetrack"]);
    let file = asset("guests/bytetrack.wasm").unwrap();
    assert!(lines(&clip, &["--emit", "tracks", "--tracker", text(&file)]) == by_name);
    assert_eq!(by_name.len(), 50);

    // Settings reach the guests.
    let crowded = ["--emit", "shots", "--scorer-config", r#"{"interval_ms": 500}"#];
    assert!(lines(&clip, &crowded).len() > of(&all, "shot").len(), "a picture every half second");
    let ids = ["--emit", "messages", "--formatter", "frame-tracks", "--formatter-config", r#"{"every_nth": 10}"#];
    assert_eq!(lines(&clip, &ids).len(), 5);
    let strict = lines(&clip, &["--emit", "detections", "--score-threshold", "0.92"]);
    let scores = |lines: &[&Value]| -> Vec<f64> {
        let faces = lines.iter().flat_map(|l| l["detections"].as_array().unwrap());
        faces.map(|d| d["score"].as_f64().unwrap()).collect()
    };
    let (few, many) = (scores(&strict.iter().collect::<Vec<_>>()), scores(&of(&all, "detections")));
    assert!(!few.is_empty() && few.len() < many.len() && few.iter().all(|s| *s >= 0.92));
}

#[test]
fn a_rate_leaves_frames_out_evenly_and_their_numbers_stay() {
    let clip = asset_or_skip!("clips/pan720-h265.mp4");
    let some = lines(&clip, &["--emit", "detections", "--detect-fps", "5"]);
    let frames: Vec<u64> = some.iter().map(|l| l["frame"].as_u64().unwrap()).collect();
    assert_eq!(frames, (0..100).step_by(5).collect::<Vec<_>>(), "every fifth of 25 a second, by its own number");
    let all = lines(&clip, &["--emit", "detections"]);
    for line in &some {
        assert_eq!(*line, all[line["frame"].as_u64().unwrap() as usize], "analysed as if all were");
    }
}

#[test]
fn several_inputs_are_told_apart_and_codings_agree() {
    let (h264, h265) = (asset_or_skip!(PAN), asset_or_skip!("clips/pan720-h265.mp4"));
    let both = parsed(
        &program::run(&["run", text(&h265), text(&h264), "--quiet", "--emit", "detections", "--detect-fps", "5"])
            .succeeded(),
    );
    let of_input = |input: &Path| -> Vec<Value> {
        let mut lines: Vec<Value> = both.iter().filter(|l| l["input"] == text(input)).cloned().collect();
        for line in &mut lines {
            line.as_object_mut().unwrap().remove("input");
        }
        lines
    };
    let (first, second) = (of_input(&h265), of_input(&h264));
    assert_eq!((first.len(), second.len(), both.len()), (20, 50, 70), "each input's own frames, and nothing else");
    assert!(second == lines(&h264, &["--emit", "detections", "--detect-fps", "5"]), "as if it were alone");
    // The same pictures in another coding: about the same faces.
    let faces = |lines: &[Value]| lines[..20].iter().map(|l| l["detections"].as_array().unwrap().len()).sum::<usize>();
    let (a, b) = (faces(&first), faces(&second));
    assert!(a > 20 && a.abs_diff(b) * 10 < a.max(b), "{a} faces in H.265, {b} in H.264");
}

#[test]
fn another_model_by_name_and_by_file() {
    let file = asset_or_skip!("models/centerface.onnx");
    let dir = tempfile::tempdir().unwrap();
    let clip = match clips::still(dir.path()) {
        Ok(clip) => clip,
        Err(why) => return skip("run: another_model_by_name_and_by_file", &why),
    };
    let lines = |model: &str| lines(&clip, &["--emit", "detections", "--detect-fps", "5", "--model", model]);
    let named = lines("centerface");
    assert_eq!(named.len(), 10);
    assert!(named.iter().all(|l| l["detections"].as_array().unwrap().len() >= 10), "it finds the faces, too");
    assert!(named == lines(text(&file)), "the file is the same model");
    assert!(named != lines("yunet"), "and another one than the default");
}

#[test]
fn a_stream_is_analysed_until_its_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let clip = match clips::still(dir.path()) {
        Ok(clip) => clip,
        Err(why) => return skip("run: a_stream_is_analysed_until_its_time_is_over", &why),
    };
    let cameras = Cameras::start(&[&clip], Some("viewer:canary-password"), SimConfig::default());
    let url = cameras.url(0);
    let ended = program::run(&["run", &url, "--emit", "detections", "--seconds", "3"]);
    assert!(!ended.stderr.contains("canary"), "{}", ended.stderr);
    assert!(ended.stderr.contains("frames="), "{}", ended.stderr);
    let lines = parsed(&ended.succeeded());
    assert!(lines.len() > 5 && lines.iter().all(|l| l["type"] == "detections"), "{} lines", lines.len());
    assert!(lines.iter().all(|l| l["detections"].as_array().unwrap().len() >= 10));
    let wrong = cameras.url_as("viewer:canary-wrong", 0);
    let ended = program::run(&["run", &wrong, "--seconds", "2"]);
    ended.failed_with(&["no frame came"]);
    assert!(!ended.stderr.contains("canary"), "{}", ended.stderr);
    assert!(ended.stderr.contains("unauthori"), "{}", ended.stderr);
}

#[test]
fn exit_codes_tell_misuse_from_failure() {
    let clip = asset_or_skip!(PAN);
    for args in [
        &["run"][..],
        &["run", "x.mp4", "--emit", "faces"],
        &["run", "x.mp4", "--threads", "0"],
        &["run", "x.mp4", "--detect-fps", "often"],
        &["run", "x.mp4", "--no-such-option"],
        &["no-such-command"],
    ] {
        let ended = program::run(args);
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("Usage") || ended.stderr.contains("--help"), "{}", ended.stderr);
    }
    let clip = text(&clip);
    program::run(&["run", clip, "--out", "/no/such/folder/x"]).failed_with(&["cannot write", "/no/such/folder/x"]);
    program::run(&["run", clip, "--mot", "/no/such/folder/x"]).failed_with(&["cannot write", "/no/such/folder/x"]);
    program::run(&["run", clip, "rtsp://127.0.0.1:9/"]).failed_with(&["either files or stream addresses"]);
    program::run(&["run", clip, "--detect-fps=-1"]).failed_with(&["--detect-fps must be above 0"]);
    program::run(&["run", clip, "--tracker-config", "{"]).failed_with(&["--tracker-config is no JSON"]);
    program::run(&["run", clip, "--tracker-config", "{\"track_bufer_ms\": 5}"]).failed_with(&["track_buffer_ms"]);
    program::run(&["run", clip, "--tracker", "best-shot"]).failed_with(&["is a scorer, not a tracker"]);
    program::run(&["run", clip, "--scorer", "no-such"]).failed_with(&["no scorer `no-such`", "best-shot"]);
    assert!(program::run(&["--help"]).succeeded().contains("serve"));
    assert!(program::run(&["--version"]).succeeded().starts_with("facestream 0."));
}

/// ONNX Runtime's builds write a device identifier and events below the home folder, to be sent off, unless they are told not
/// to before they are loaded. (They do not either where `CI` is set.)
#[test]
fn nothing_is_kept_to_be_reported_to_anybody() {
    let clip = asset_or_skip!(PAN);
    asset_or_skip!("onnxruntime/libonnxruntime.so");
    let home = tempfile::tempdir().unwrap();
    let mut command = program::command(&["run", text(&clip), "--quiet"]);
    for (name, _) in std::env::vars_os() {
        // What build services are known by, the switch itself, and what points out of the home folder.
        let name = name.to_str().unwrap_or_default();
        if name == "CI" || name.starts_with("ORT_") || name.starts_with("XDG_") || name.starts_with("GITHUB_") {
            command.env_remove(name);
        }
    }
    program::finish(command.env("HOME", home.path())).succeeded();
    let kept: Vec<_> = std::fs::read_dir(home.path().join(".cache")).into_iter().flatten().flatten().collect();
    let of_ours = |name: &std::ffi::OsStr| name == "facestream";
    let foreign: Vec<_> = kept.iter().map(std::fs::DirEntry::file_name).filter(|n| !of_ours(n)).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}

#[test]
fn what_is_there_is_not_overwritten_by_mistake() {
    let clip = asset_or_skip!(PAN);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (video, kept) = (at("video.mp4"), at("kept.txt"));
    std::fs::copy(&clip, &video).unwrap();
    std::fs::write(&kept, "kept").unwrap();
    std::os::unix::fs::symlink(&video, at("link.mp4")).unwrap();
    for (option, output) in [("--out", &video), ("--mot", &video), ("--out", &at("link.mp4"))] {
        program::run(&["run", &video, "--quiet", option, output]).failed_with(&[option, "is an input"]);
    }
    program::run(&["run", &at("missing.mp4"), "--quiet", "--out", &kept]).failed_with(&["missing.mp4", "no such file"]);
    program::run(&["run", &video, "--quiet", "--mot", &kept, "--out", &kept]).failed_with(&["the same file"]);
    std::fs::write(at("text.mp4"), "no video").unwrap();
    program::run(&["run", &at("text.mp4"), "--quiet", "--out", &kept]).failed_with(&["text.mp4"]);
    assert_eq!(std::fs::read(&video).unwrap(), std::fs::read(&clip).unwrap(), "the video is whole");
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "kept");
    program::run(&["run", &video, "--quiet", "--out", &kept]).succeeded();
    assert!(std::fs::read_to_string(&kept).unwrap().starts_with('{'), "what was there is replaced by lines");
}

/// `facestream doctor | head -1`, and a disk that is full.
#[test]
fn commands_end_without_a_panic_when_their_output_is_not_taken() {
    let told = |output: std::process::Stdio| {
        let mut command = program::command(&["doctor"]);
        let done = command.stdout(output).stderr(std::process::Stdio::piped()).output().unwrap();
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(told(writer.into()), (Some(0), String::new()), "nobody reads on");
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let (code, error) = told(full.into());
    assert_eq!(code, Some(1), "{error}");
    assert!(error.starts_with("error: cannot write the output") && !error.contains("panicked"), "{error}");
}
