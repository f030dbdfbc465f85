//! Streams that change or break midway, and codings beyond 8-bit 4:2:0.

mod common;

use std::sync::Arc;

use common::{Rig, luma, make, raw, text, units};
use facestream_core::frame::{ColorMatrix, PixelFormat};
use facestream_core::media::{AccessUnit, Codec};
use facestream_core::metrics::{CameraMetrics, Counter, DropReason};
use facestream_decode::{ClipReader, DamagedFrames, DecodeConfig, DecodeError, FileSource, FrameSelector};
use facestream_test_support::asset_or_skip;

fn config() -> DecodeConfig {
    DecodeConfig::default()
}

fn all(path: &std::path::Path) -> Vec<facestream_core::Frame> {
    let source = FileSource::open(path, &config(), None).expect("the clip opens");
    source.map(|frame| frame.expect("the clip is whole")).collect()
}

/// What the ffmpeg program decodes, in `format`.
fn reference(path: &std::path::Path, format: &str) -> Result<Vec<u8>, String> {
    let out = path.with_extension("raw");
    common::ffmpeg(&["-i", text(path), "-f", "rawvideo", "-pix_fmt", format, text(&out)])?;
    std::fs::read(out).map_err(|e| format!("what ffmpeg wrote cannot be read: {e}"))
}

const X264: [&str; 6] = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"];

#[test]
fn the_size_may_change_midway() {
    let dir = tempfile::tempdir().unwrap();
    let a = ok_or_skip!(make(dir.path(), "a.h264", "320x240", "1", &X264));
    let b = ok_or_skip!(make(dir.path(), "b.h264", "640x360", "1", &X264));
    let joined = dir.path().join("ab.h264");
    std::fs::write(&joined, [std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap()].concat()).unwrap();
    let sizes = |frames: &[facestream_core::Frame]| -> Vec<(u32, u32)> {
        frames.iter().map(|f| (f.info.width, f.info.height)).collect()
    };
    let wanted: Vec<_> = [vec![(320, 240); 25], vec![(640, 360); 25]].concat();
    assert_eq!(sizes(&all(&joined)), wanted);
    let units = units(&joined);
    let mut rig = Rig::new(&joined, &config());
    rig.feed(&units).unwrap();
    rig.flush().unwrap();
    assert_eq!(sizes(&rig.frames), wanted);
    assert_eq!(rig.metrics.drops(DropReason::DecodeError), 0);
    assert!(rig.frames.iter().all(|f| (f.picture.width(), f.picture.height()) == (f.info.width, f.info.height)));
}

#[test]
fn frames_of_b_frame_video_come_in_order_with_their_own_times() {
    let dir = tempfile::tempdir().unwrap();
    let path = ok_or_skip!(make(
        dir.path(),
        "b.mp4",
        "320x240",
        "2",
        &[&X264[..], &["-bf", "3", "-b_strategy", "0"]].concat()
    ));
    let mut units = units(&path);
    assert!(!units.is_sorted_by_key(|u| u.timestamp_ns), "the clip has B-frames");
    // A capture time that says which unit a frame came from.
    for unit in &mut units {
        unit.captured_at_ns = 7_000_000_000 + unit.timestamp_ns;
    }
    let mut rig = Rig::new(&path, &config());
    rig.feed(&units).unwrap();
    rig.flush().unwrap();
    assert_eq!(rig.frames.len(), 50);
    let expected = ok_or_skip!(reference(&path, "yuv420p"));
    let bytes = 320 * 240 * 3 / 2;
    for (i, frame) in rig.frames.iter().enumerate() {
        assert_eq!(frame.info.sequence, i as u64);
        assert_eq!(frame.info.timestamp_ns, i as u64 * 40_000_000);
        assert_eq!(frame.info.captured_at_ns, 7_000_000_000 + frame.info.timestamp_ns);
        assert!(raw(frame) == expected[i * bytes..(i + 1) * bytes], "frame {i}");
    }
}

/// Deterministic damage: a byte here and there, but not in parameter sets or slice headers of the first unit.
fn damage(units: &mut [AccessUnit], every: usize) {
    for (i, unit) in units.iter_mut().enumerate().skip(1) {
        if i % every == 0 {
            let mut data = unit.data.to_vec();
            for at in (40..data.len()).step_by(97) {
                data[at] ^= 0x5a;
            }
            unit.data = data.into();
        }
    }
}

#[test]
fn damage_is_survived_and_every_unit_is_accounted_for() {
    for clip in ["clips/pan720.mp4", "clips/pan720-h265.mp4"] {
        let path = asset_or_skip!(clip);
        let mut units = units(&path);
        damage(&mut units, 7);
        for damaged_frames in [DamagedFrames::Drop, DamagedFrames::Keep] {
            let mut rig = Rig::new(&path, &DecodeConfig { damaged_frames, ..config() });
            rig.feed(&units).unwrap();
            rig.flush().unwrap();
            let drops = rig.metrics.drops(DropReason::DecodeError);
            let decoded = rig.metrics.get(Counter::Decoded);
            assert_eq!(decoded, rig.frames.len() as u64);
            assert_eq!(drops, u64::from(rig.total.dropped));
            // FFmpeg's H.265 decoder does not say when it read nonsense from a slice.
            let noticed = rig.total.errors + rig.total.damaged > 0;
            assert!(noticed || clip.contains("h265"), "{clip}: the damage was noticed: {:?}", rig.total);
            assert!(decoded as usize > units.len() / 2, "{clip}: most frames come: {:?}", rig.total);
            if damaged_frames == DamagedFrames::Drop {
                assert_eq!(drops > 0, noticed);
                assert_eq!(decoded + drops, units.len() as u64, "{clip}: {:?}", rig.total);
            }
            assert!(rig.frames.is_sorted_by(|a, b| a.info.timestamp_ns < b.info.timestamp_ns));
            assert!(rig.frames.is_sorted_by(|a, b| a.info.sequence < b.info.sequence));
        }
    }
}

#[test]
fn a_frame_after_lost_packets_counts_as_damaged_unless_it_is_a_key_frame() {
    for clip in ["clips/pan720.mp4", "clips/pan720-h265.mp4"] {
        let path = asset_or_skip!(clip);
        let mut units = units(&path);
        let lossy = |u: &AccessUnit| u.sequence % 10 == 5 || (u.keyframe && u.sequence > 0);
        units.iter_mut().filter(|u| lossy(u)).for_each(|u| u.lost_packets = 2);
        let wanted = units.iter().filter(|u| lossy(u) && !u.keyframe).count();
        let mut rig = Rig::new(&path, &config());
        rig.feed(&units).unwrap();
        rig.flush().unwrap();
        assert_eq!(rig.metrics.drops(DropReason::DecodeError) as usize, wanted, "{clip}");
        assert_eq!(rig.frames.len(), units.len() - wanted, "{clip}");
        assert_eq!(rig.frames.last().unwrap().info.sequence as usize, units.len() - 1, "{clip}: a gap in the numbers");
    }
}

#[test]
fn a_run_of_damaged_frames_is_kept_after_its_bound() {
    let path = asset_or_skip!("clips/pan720.mp4");
    let mut units = units(&path);
    damage(&mut units, 1);
    let run = |max_damaged_run| {
        let mut rig = Rig::new(&path, &DecodeConfig { max_damaged_run, ..config() });
        rig.feed(&units).unwrap();
        rig.flush().unwrap();
        rig
    };
    let strict = run(u32::MAX);
    let lenient = run(5);
    assert!(strict.total.damaged > 50, "{:?}", strict.total);
    assert!(lenient.frames.len() > strict.frames.len() + 20, "{:?} {:?}", lenient.total, strict.total);
}

#[test]
fn rubbish_rebuilds_the_decoder_which_then_goes_on() {
    let path = asset_or_skip!("clips/pan720.mp4");
    let good = units(&path);
    let mut rig = Rig::new(&path, &DecodeConfig { rebuild_after_errors: 10, ..config() });
    rig.feed(&good[..20]).unwrap();
    let rubbish: Vec<_> = (0..30_u64)
        .map(|i| AccessUnit {
            sequence: 20 + i,
            timestamp_ns: 800_000_000 + i * 40_000_000,
            keyframe: false,
            data: (0..500_u64).map(|b| (b * 31 + i * 7) as u8).collect::<Vec<_>>().into(),
            ..good[0].clone()
        })
        .collect();
    rig.feed(&rubbish).unwrap();
    assert!(rig.total.rebuilt, "{:?}", rig.total);
    let before = rig.frames.len();
    let second: Vec<_> = good
        .iter()
        .map(|u| AccessUnit { timestamp_ns: u.timestamp_ns + 2_000_000_000, sequence: u.sequence + 50, ..u.clone() })
        .collect();
    rig.feed(&second).unwrap();
    rig.flush().unwrap();
    assert_eq!(rig.frames.len() - before, good.len(), "after the rubbish every frame comes");
    assert_eq!(rig.metrics.get(Counter::Decoded) + rig.metrics.drops(DropReason::DecodeError), 300);
    assert!(rig.frames.is_sorted_by(|a, b| a.info.timestamp_ns < b.info.timestamp_ns));
}

#[test]
fn empty_units_are_counted_not_taken_for_the_end() {
    let path = asset_or_skip!("clips/pan720.mp4");
    let mut units = units(&path);
    units.truncate(50);
    units.insert(10, AccessUnit { data: bytes::Bytes::new(), keyframe: false, ..units[10].clone() });
    let mut rig = Rig::new(&path, &config());
    rig.feed(&units).unwrap();
    rig.flush().unwrap();
    assert_eq!(rig.frames.len(), 50);
    assert_eq!(rig.metrics.drops(DropReason::DecodeError), 1);
}

#[test]
fn a_new_session_starts_numbers_anew_and_time_goes_on() {
    let path = asset_or_skip!("clips/pan720.mp4");
    let first: Vec<_> = units(&path).into_iter().take(60).collect();
    let second: Vec<_> = first
        .iter()
        .map(|u| AccessUnit { session: 1, received_ns: u.received_ns + 5_000_000_000, ..u.clone() })
        .collect();
    let mut rig = Rig::new(&path, &config());
    rig.feed(&first).unwrap();
    rig.feed(&second).unwrap();
    rig.flush().unwrap();
    assert_eq!(rig.frames.len(), 120, "what the first session held back was given out");
    for (i, frame) in rig.frames.iter().enumerate() {
        assert_eq!((frame.info.session, frame.info.sequence), ((i / 60) as u64, (i % 60) as u64));
    }
    assert!(rig.frames.is_sorted_by(|a, b| a.info.timestamp_ns < b.info.timestamp_ns));
    assert_eq!(rig.frames[61].info.timestamp_ns - rig.frames[60].info.timestamp_ns, 40_000_000);
}

#[test]
fn a_restart_takes_another_coding() {
    let (h264, h265) = (asset_or_skip!("clips/pan720.mp4"), asset_or_skip!("clips/pan720-h265.mp4"));
    let mut rig = Rig::new(&h264, &config());
    rig.feed(&units(&h264)[..50]).unwrap();
    let params = ClipReader::open(&h265).unwrap().params().clone();
    let frames = &mut rig.frames;
    rig.decoder.restart(&params, &mut |f| frames.push(f)).unwrap();
    assert_eq!(rig.frames.len(), 50);
    assert!(rig.decoder.describe().contains("hevc"), "{}", rig.decoder.describe());
    let second: Vec<_> = units(&h265).into_iter().map(|u| AccessUnit { session: 1, ..u }).collect();
    rig.feed(&second).unwrap();
    rig.flush().unwrap();
    assert_eq!(rig.frames.len(), 150);
    assert!(rig.frames.is_sorted_by(|a, b| a.info.timestamp_ns < b.info.timestamp_ns));
}

#[test]
fn key_frames_only_decodes_just_those_and_at_once() {
    let path = asset_or_skip!("clips/pan720.mp4");
    let units = units(&path);
    let keys = units.iter().filter(|u| u.keyframe).count();
    assert!(keys > 1 && keys < units.len());
    let mut rig = Rig::new(&path, &DecodeConfig { keyframes_only: true, ..config() });
    for unit in &units {
        let before = rig.frames.len();
        rig.feed([unit]).unwrap();
        assert_eq!(rig.frames.len() - before, usize::from(unit.keyframe), "a key frame comes with its unit");
    }
    assert_eq!(rig.metrics.get(Counter::Skipped) as usize, units.len() - keys);
    assert_eq!(rig.metrics.drops(DropReason::DecodeError), 0);
    let whole = all(&path);
    for frame in &rig.frames {
        let at = (frame.info.timestamp_ns / 40_000_000) as usize;
        assert!(luma(frame) == luma(&whole[at]), "key frame at {at}");
    }
}

#[test]
fn detect_fps_takes_its_share_of_a_real_clip() {
    let path = asset_or_skip!("clips/pan720.mp4");
    for (fps, wanted) in [(10.0, 100), (25.0, 250), (5.0, 50), (12.5, 125)] {
        let mut selector = FrameSelector::new(Some(fps), Arc::default());
        let source = FileSource::open(&path, &config(), None).unwrap();
        let taken = source.filter(|f| selector.take(&f.as_ref().unwrap().info)).count();
        assert_eq!(taken, wanted, "{fps} a second of 10 s at 25");
    }
}

#[test]
fn ten_bit_and_rarer_layouts_become_eight_bit_420() {
    let dir = tempfile::tempdir().unwrap();
    let x265 = |fmt| vec!["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none", "-pix_fmt", fmt];
    let path = ok_or_skip!(make(dir.path(), "ten.mp4", "160x120", "0.4", &x265("yuv420p10le")));
    let frames = all(&path);
    assert_eq!(frames.len(), 10);
    let expected = ok_or_skip!(reference(&path, "yuv420p"));
    for (i, frame) in frames.iter().enumerate() {
        let p = frame.picture.planes().unwrap();
        assert_eq!((p.format, p.full_range), (PixelFormat::I420, false));
        let bytes = 160 * 120 * 3 / 2;
        let difference = raw(frame).iter().zip(&expected[i * bytes..]).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(difference <= 1, "rounding apart the same as ffmpeg's: {difference}");
    }
    for (name, fmt, format) in [
        ("422.mp4", "yuv422p", PixelFormat::I422),
        ("444.mp4", "yuv444p", PixelFormat::I444),
        ("gray.mp4", "gray", PixelFormat::I420),
    ] {
        let path = ok_or_skip!(make(dir.path(), name, "160x120", "0.4", &["-c:v", "libx264", "-pix_fmt", fmt]));
        let frames = all(&path);
        assert_eq!(frames.len(), 10, "{name}");
        assert_eq!(frames[0].picture.planes().unwrap().format, format, "{name}");
        let expected = ok_or_skip!(reference(&path, if fmt == "gray" { "gray" } else { fmt }));
        assert!(luma(&frames[0]) == expected[..160 * 120], "{name}: luma as decoded");
    }
    let path = ok_or_skip!(make(dir.path(), "rgb.avi", "160x120", "0.4", &["-c:v", "rawvideo", "-pix_fmt", "bgr24"]));
    let frames = all(&path);
    assert_eq!(frames.len(), 10);
    let p = frames[0].picture.planes().unwrap();
    assert_eq!((p.format, p.full_range, p.matrix), (PixelFormat::I420, false, ColorMatrix::Bt601));
    let wanted = ok_or_skip!(reference(&path, "gray"));
    let grey = facestream_pixels::luma(p, 0).unwrap().data;
    let mean = grey.iter().zip(&wanted).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / grey.len() as f64;
    assert!(mean < 3.0, "bottom-up RGB is turned the right way: mean difference {mean}");
}

#[test]
fn motion_jpeg_live_and_from_files() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["m.avi", "m.mkv", "m.mjpeg"] {
        let path = ok_or_skip!(make(
            dir.path(),
            name,
            "320x240",
            "1",
            &["-c:v", "mjpeg", "-q:v", "3", "-pix_fmt", "yuvj420p"]
        ));
        let clip = ClipReader::open(&path).unwrap();
        assert_eq!(clip.params().codec, Codec::Mjpeg);
        let units = units(&path);
        assert_eq!(units.len(), 25, "{name}");
        assert!(units.iter().all(|u| u.keyframe && u.data.starts_with(&[0xff, 0xd8])), "{name}");
        let mut rig = Rig::new(&path, &config());
        rig.feed(&units).unwrap();
        assert_eq!(rig.frames.len(), 25, "{name}: a JPEG is never held back");
        let p = rig.frames[0].picture.planes().unwrap();
        assert_eq!((p.full_range, p.matrix), (true, ColorMatrix::Bt601));
        for (i, frame) in rig.frames.iter().enumerate() {
            assert_eq!(frame.info.timestamp_ns, i as u64 * 40_000_000, "{name}");
        }
    }
}

#[test]
fn other_codings_and_containers_come_as_frames() {
    let dir = tempfile::tempdir().unwrap();
    for (name, encoder) in [
        ("v.webm", vec!["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"]),
        ("v.avi", vec!["-c:v", "mpeg4", "-bf", "2"]),
        ("v.mpg", vec!["-c:v", "mpeg2video"]),
        ("v.ts", vec!["-c:v", "libx264", "-preset", "veryfast"]),
        ("v.mkv", vec!["-c:v", "libx264", "-preset", "veryfast"]),
        ("v.flv", vec!["-c:v", "libx264", "-preset", "veryfast"]),
        ("v.h265", vec!["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none"]),
    ] {
        let path = ok_or_skip!(make(dir.path(), name, "160x120", "1", &encoder));
        let frames = all(&path);
        assert_eq!(frames.len(), 25, "{name}");
        for (i, f) in frames.iter().enumerate() {
            // MKV and FLV count in milliseconds, MPEG-TS in 1/90000 s.
            let wanted = i as u64 * 40_000_000;
            assert!(f.info.timestamp_ns.abs_diff(wanted) < 1_000_000, "{name} {i}: {}", f.info.timestamp_ns);
        }
        assert_eq!(
            all(&path).iter().map(|f| f.info).collect::<Vec<_>>(),
            frames.iter().map(|f| f.info).collect::<Vec<_>>()
        );
    }
    let vp9 = ClipReader::open(dir.path().join("v.webm")).unwrap();
    assert_eq!((vp9.params().codec, vp9.codec_name()), (Codec::Other, "vp9"));
    let live = facestream_decode::open_decoder(
        vp9.params(),
        &config(),
        None,
        Arc::new(CameraMetrics::default()),
        Arc::new(facestream_core::SimulatedClock::at(0)),
    );
    assert!(matches!(live.err(), Some(DecodeError::UnsupportedCodec { .. })));
}

#[test]
fn a_picture_above_the_limit_is_refused_before_it_is_allocated() {
    let path = asset_or_skip!("clips/pan720.mp4");
    let small = DecodeConfig { max_width: 640, max_height: 480, ..config() };
    let refused = |e: Option<DecodeError>| matches!(e, Some(DecodeError::TooLarge { width: 1280, height: 720, .. }));
    assert!(refused(FileSource::open(&path, &small, None).err()));
    let clip = ClipReader::open(&path).unwrap();
    let open = |params| {
        facestream_decode::open_decoder(
            params,
            &small,
            None,
            Arc::default(),
            Arc::new(facestream_core::SimulatedClock::at(0)),
        )
    };
    assert!(refused(open(clip.params()).err()));
    // A camera that does not tell its size beforehand.
    let mut params = clip.params().clone();
    params.size = None;
    let mut decoder = open(&params).unwrap();
    let mut out = |_| panic!("no frame may come");
    let error = units(&path).iter().find_map(|u| decoder.decode(u, &mut out).err());
    assert!(refused(error));
}
