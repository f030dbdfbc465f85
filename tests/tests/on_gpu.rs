//! What a GPU must compute as the processor does. Skipped, with the reason, where there is none; `cargo xtask gpu-test`
//! runs it with `FACESTREAM_REQUIRE_GPU=1`, and then a GPU that is missing is a failure.
//!
//! `FACESTREAM_GPU_ENGINES` names a folder with `centerface640.engine` and its note; without it TensorRT builds the engine
//! from the ONNX file, which takes minutes.
#![allow(clippy::unwrap_used, reason = "a test: what is missing is a failure, and helpers are not seen as tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use clap::Parser as _;
use facestream::cli::{self, Cli};
use facestream_core::frame::{ColorMatrix, LumaUse, PixelFormat, Planes};
use facestream_core::{CameraMetrics, Detection, Frame, Picture, Rect, SystemClock};
use facestream_decode::{Acceleration, ClipReader, DecodeConfig, FileSource, open_decoder};
use facestream_gpu::{Buffer, Colour, DevicePicture, Gpu};
use facestream_infer::{
    Channels, DeviceLetterbox, Fit, Geometry, InferConfig, InputSize, InputSpec, Letterbox, Provider,
};
use facestream_pixels::{crop_planes, full_range, jpeg, luma, measure, measured_window, quality};
use facestream_sim::SimConfig;
use facestream_test_support::{asset, asset_or_skip, free_port, skip};
use facestream_tests::api::Api;
use facestream_tests::cameras::Cameras;
use facestream_tests::host::Host;
use facestream_tests::program;
use facestream_tests::wait::until;
use serde_json::{Value, json};

/// The GPU, or the reason why the test is skipped.
macro_rules! gpu_or_skip {
    () => {
        match Gpu::open(0) {
            Ok(gpu) => gpu,
            Err(error) => {
                assert!(std::env::var_os("FACESTREAM_REQUIRE_GPU").is_none(), "{error}");
                skip(concat!(module_path!(), ":", line!()), &error.to_string());
                return;
            }
        }
    };
}

/// Noise, the same on every run.
fn noise(len: usize, mut seed: u32) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn nv12(data: &[u8], (width, height): (u32, u32), colour: Colour) -> Planes<'_> {
    let (w, h, cw) = (width as usize, height as usize, width.div_ceil(2) as usize * 2);
    Planes {
        format: PixelFormat::Nv12,
        width,
        height,
        y: &data[..w * h],
        y_stride: w,
        u: &data[w * h..][..cw * height.div_ceil(2) as usize],
        u_stride: cw,
        v: &[],
        v_stride: 0,
        full_range: colour.full_range,
        matrix: colour.matrix,
    }
}

fn bytes_of((width, height): (u32, u32)) -> usize {
    (width * height) as usize + width.div_ceil(2) as usize * 2 * height.div_ceil(2) as usize
}

const SIZES: [(u32, u32); 8] =
    [(1920, 1080), (1280, 720), (1366, 768), (720, 1280), (352, 288), (2560, 1440), (37, 21), (641, 479)];

#[test]
fn the_letterbox_equals_the_processors_bit_for_bit() {
    let gpu = gpu_or_skip!();
    let stream = gpu.stream().unwrap();
    let spec =
        |channels, scale, fit, fill| InputSpec { channels, scale, fit, fill, fixed_size: None, fixed_batch: None };
    let specs = [
        spec(Channels::Rgb, 1.0, Fit::Stretch, 0),
        spec(Channels::Rgb, 1.0 / 255.0, Fit::Centre, 114),
        spec(Channels::Bgr, 1.0, Fit::TopLeft, 0),
    ];
    let mut compared = 0usize;
    for spec in specs {
        for input in [(640, 640), (640, 384), (320, 256)] {
            let mut on_gpu = DeviceLetterbox::new(spec, input);
            let mut on_cpu = Letterbox::new(spec);
            let slot = on_gpu.slot();
            let tensor = Buffer::new(&gpu, SIZES.len() * slot * 4).unwrap();
            let colours = [(false, ColorMatrix::Bt709), (false, ColorMatrix::Bt601), (true, ColorMatrix::Bt601)];
            let data: Vec<_> = SIZES.iter().zip(0..).map(|(s, n)| noise(bytes_of(*s), n)).collect();
            let colour = |n: usize| {
                let (full_range, matrix) = colours[n % colours.len()];
                Colour { full_range, matrix }
            };
            let pictures: Vec<_> = SIZES
                .iter()
                .zip(&data)
                .enumerate()
                .map(|(n, (s, d))| DevicePicture::upload(d, s.0, s.1, colour(n), &stream).unwrap())
                .collect();
            let geometries: Vec<_> = SIZES.iter().map(|s| Geometry::new(*s, input, spec.fit)).collect();
            let laid: Vec<_> = pictures.iter().zip(&geometries).enumerate().map(|(n, (p, g))| (n, p, *g)).collect();
            on_gpu.lay(&stream, &laid, &tensor).unwrap();
            let mut all = vec![0f32; SIZES.len() * slot];
            stream.download(&tensor, 0, &mut all).unwrap();
            stream.synchronize().unwrap();
            for (n, (size, geometry)) in SIZES.iter().zip(&geometries).enumerate() {
                let mut expected = vec![0f32; slot];
                on_cpu.write(&nv12(&data[n], *size, colour(n)), geometry, &mut expected).unwrap();
                let found = &all[n * slot..][..slot];
                let wrong = found.iter().zip(&expected).position(|(a, b)| a.to_bits() != b.to_bits());
                if let Some(at) = wrong {
                    panic!("{size:?} in {input:?} {spec:?}: number {at} is {} instead of {}", found[at], expected[at]);
                }
                compared += slot;
            }
        }
    }
    println!("letterbox: {compared} numbers equal");
}

#[test]
fn crops_and_measures_equal_those_from_host_memory() {
    let gpu = gpu_or_skip!();
    let stream = gpu.stream().unwrap();
    for (n, size) in SIZES.iter().enumerate() {
        let data = noise(bytes_of(*size), 77 + n as u32);
        let colour = Colour { full_range: false, matrix: ColorMatrix::Bt709 };
        let planes = nv12(&data, *size, colour);
        let picture = DevicePicture::upload(&data, size.0, size.1, colour, &stream).unwrap();
        let (w, h) = (size.0 as f32, size.1 as f32);
        let whole = Rect { x: 0.0, y: 0.0, width: w, height: h };
        let part = Rect { x: w * 0.31, y: h * 0.17, width: w * 0.4, height: h * 0.55 };
        let edge = Rect { x: w * 0.8, y: -3.0, width: w, height: h * 0.3 };
        for (area, side) in [(whole, 0), (whole, 64), (part, 0), (part, 112), (edge, 0), (edge, 40)] {
            let expected = crop_planes(planes, area, side).unwrap();
            let found = picture.crop(area, side).unwrap();
            let found = found.planes().unwrap();
            let expected = expected.view();
            assert_eq!((found.width, found.height), (expected.width, expected.height));
            assert!(
                found.y == expected.y && found.u == expected.u && found.v == expected.v,
                "{size:?} {area:?} {side}"
            );
        }
        // With and without having been told what will be looked at, inside and beside it.
        picture.expect([part, edge]);
        for area in [part, edge, Rect { x: 3.3, y: 1.7, width: w * 0.2, height: h * 0.3 }] {
            let fetched = picture.fetch(area).unwrap().unwrap();
            let window = measured_window(size.0, size.1, area).unwrap();
            let found = measure(fetched.picture.planes().unwrap(), window.seen_from(fetched.origin)).unwrap();
            assert_eq!(found, measure(planes, area).unwrap(), "{size:?} {area:?}");
            let expected = crop_planes(planes, area.with_margin(0.2), 90).unwrap();
            let crop = picture.crop(area.with_margin(0.2), 90).unwrap();
            assert!(crop.planes().unwrap().y == expected.view().y, "{size:?} {area:?}");
        }
        let outside = Rect { x: w + 10.0, ..part };
        assert!(picture.crop(outside, 0).is_err());
        assert!(picture.scaled_luma(LumaUse::Measure(outside)).is_err());
    }
}

/// Much of a large picture made small: the GPU scales it, and little is read back.
#[test]
fn what_the_gpu_scales_equals_what_the_processor_scales() {
    let gpu = gpu_or_skip!();
    let stream = gpu.stream().unwrap();
    let (mut on_device, mut elsewhere) = (0, 0);
    for (n, size) in SIZES.iter().enumerate() {
        let data = noise(bytes_of(*size), 177 + n as u32);
        let colour = Colour { full_range: n % 2 == 0, matrix: ColorMatrix::Bt601 };
        let planes = nv12(&data, *size, colour);
        let (w, h) = (size.0 as f32, size.1 as f32);
        let areas = [(0.0, 0.0, w, h), (w * 0.11, h * 0.07, w * 0.77, h * 0.9), (1.0, h * 0.4, w * 0.3, h * 0.31)];
        for (x, y, width, height) in areas {
            let area = Rect { x, y, width, height };
            for side in [16, 112, 320, 333, 640] {
                let picture = DevicePicture::upload(&data, size.0, size.1, colour, &stream).unwrap();
                let alone = picture.bytes();
                picture.prepare(area, side);
                let brought = picture.bytes() - alone;
                let found = picture.crop(area, side).unwrap();
                assert_eq!(picture.bytes() - alone, brought, "nothing more was brought for the crop itself");
                let (found, expected) = (found.planes().unwrap(), crop_planes(planes, area, side).unwrap());
                let expected = expected.view();
                assert_eq!((found.width, found.height), (expected.width, expected.height));
                assert!(
                    found.y == expected.y && found.u == expected.u && found.v == expected.v,
                    "{size:?} {area:?} {side}"
                );
                if brought == expected.y.len() + 2 * expected.u.len() {
                    on_device += 1;
                } else {
                    elsewhere += 1;
                }
                if let Some(copy) = picture.scaled_luma(LumaUse::Copy(side)).unwrap() {
                    let mut copied = copy.data;
                    full_range(&mut copied, copy.full_range);
                    let expected = luma(planes, side).unwrap();
                    assert!((copy.width, copy.height) == (expected.width, expected.height));
                    assert!(copied == expected.data, "{size:?} {side}");
                    on_device += 1;
                }
            }
            let picture = DevicePicture::upload(&data, size.0, size.1, colour, &stream).unwrap();
            if let Some(scaled) = picture.scaled_luma(LumaUse::Measure(area)).unwrap() {
                let found = quality(&scaled.data, scaled.full_range).unwrap();
                assert_eq!(found, measure(planes, area).unwrap(), "{size:?} {area:?}");
                on_device += 1;
            }
        }
    }
    println!("{on_device} scaled on the GPU and equal, {elsewhere} on the processor");
    assert!(on_device > 60, "{on_device}");
    // One small picture of a large one is bounded work, and comes out all the same.
    let size = (2560, 1440);
    let data = noise(bytes_of(size), 5);
    let colour = Colour { full_range: true, matrix: ColorMatrix::Bt709 };
    let picture = DevicePicture::upload(&data, size.0, size.1, colour, &stream).unwrap();
    assert!(picture.scaled_luma(LumaUse::Copy(1)).unwrap().is_none());
    let times = |what: &str, look: &dyn Fn(&DevicePicture)| {
        let fresh = || DevicePicture::upload(&data, size.0, size.1, colour, &stream).unwrap();
        let mut all: Vec<_> = (0..40)
            .map(|_| {
                let picture = fresh();
                let begun = std::time::Instant::now();
                look(&picture);
                begun.elapsed()
            })
            .collect();
        all.sort();
        println!("{what}: {:?} (median of {})", all[all.len() / 2], all.len());
    };
    let whole = Rect { x: 0.0, y: 0.0, width: 2560.0, height: 1440.0 };
    times("crop of 2560x1440 to 320, GPU", &|p| drop(p.crop(whole, 320).unwrap()));
    times("crop of 2560x1440 to 320, processor", &|p| {
        let part = p.fetch(whole).unwrap().unwrap();
        drop(crop_planes(part.picture.planes().unwrap(), whole, 320).unwrap());
    });
    times("measure of 2560x1440, GPU", &|p| drop(p.scaled_luma(LumaUse::Measure(whole)).unwrap().unwrap()));
    times("measure of 2560x1440, processor", &|p| {
        let part = p.fetch(whole).unwrap().unwrap();
        measure(part.picture.planes().unwrap(), whole).unwrap();
    });
    let crop = picture.crop(Rect { x: 700.0, y: 300.0, width: 160.0, height: 200.0 }, 0).unwrap();
    times("JPEG of 160x200 at quality 90, processor", &|_| {
        jpeg(crop.planes().unwrap(), 90).unwrap();
    });
    let face = Rect { x: 700.0, y: 300.0, width: 260.0, height: 300.0 };
    times("measure of 260x300, GPU", &|p| drop(p.scaled_luma(LumaUse::Measure(face)).unwrap().unwrap()));
    times("measure of 260x300, processor", &|p| {
        let part = p.fetch(face).unwrap().unwrap();
        let seen = Rect { x: face.x - part.origin.0 as f32, y: face.y - part.origin.1 as f32, ..face };
        measure(part.picture.planes().unwrap(), seen).unwrap();
    });
}

/// All of a frame's planes, from wherever it lies.
fn bytes(frame: &Frame) -> Vec<u8> {
    let whole = Rect { x: 0.0, y: 0.0, width: frame.picture.width() as f32, height: frame.picture.height() as f32 };
    let copy = frame.picture.crop(whole, 0).unwrap();
    let planes = copy.planes().unwrap();
    [planes.y, planes.u, planes.v].concat()
}

/// Every frame's bytes, by the decoder asked for.
fn decoded(path: &Path, gpu: Option<&Arc<Gpu>>) -> (Vec<(u64, Vec<u8>)>, String) {
    let clip = ClipReader::open(path).unwrap();
    let acceleration = if gpu.is_some() { Acceleration::Cuda } else { Acceleration::Cpu };
    let config = DecodeConfig { acceleration, ..DecodeConfig::default() };
    let (metrics, clock) = (Arc::new(CameraMetrics::default()), Arc::new(SystemClock::default()));
    let mut decoder = open_decoder(clip.params(), &config, gpu, metrics, clock).unwrap();
    let mut frames = Vec::new();
    let mut take = |frame: Frame| {
        assert_eq!(frame.picture.planes().is_none(), gpu.is_some(), "where the picture lies");
        frames.push((frame.info.timestamp_ns, bytes(&frame)));
    };
    for unit in clip {
        decoder.decode(&unit.unwrap(), &mut take).unwrap();
    }
    decoder.flush(&mut take).unwrap();
    (frames, decoder.describe())
}

/// The same of `facestream run`'s way to read a file.
fn of_file(path: &Path, gpu: Option<&Arc<Gpu>>) -> (Vec<(u64, Vec<u8>)>, String) {
    let mut source = FileSource::open(path, &DecodeConfig::default(), gpu).unwrap();
    let mut frames = Vec::new();
    for (n, frame) in source.by_ref().enumerate() {
        let frame = frame.unwrap();
        assert_eq!(frame.info.sequence, n as u64, "each frame once");
        frames.push((frame.info.timestamp_ns, bytes(&frame)));
    }
    (frames, source.describe())
}

#[test]
fn nvdec_gives_the_bytes_that_the_processor_gives() {
    let gpu = gpu_or_skip!();
    for clip in ["clips/pan720.mp4", "clips/pan720-h265.mp4", "clips/truth.mp4"] {
        let path = asset_or_skip!(clip);
        let (expected, _) = decoded(&path, None);
        let (found, how) = decoded(&path, Some(&gpu));
        assert!(how.contains("NVDEC"), "{how}");
        assert_eq!(found.len(), expected.len(), "{clip}");
        for (n, (a, b)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(a.0, b.0, "{clip} frame {n}: times");
            assert!(a.1 == b.1, "{clip} frame {n}: pixels");
        }
        println!("{clip}: {} frames equal, {how}", found.len());
        let (file, how) = of_file(&path, Some(&gpu));
        assert!(how.contains("NVDEC"), "{how}");
        assert!(file == of_file(&path, None).0, "{clip}: as a file");
    }
}

#[test]
fn a_stream_that_the_gpu_does_not_decode_goes_to_the_processor_with_the_reason() {
    let gpu = gpu_or_skip!();
    // 4:2:2 is refused by this code before NVDEC is asked.
    let Some(path) =
        std::env::var_os("FACESTREAM_CLIP_422").map(PathBuf::from).or_else(|| asset("clips/yuv422.mp4").ok())
    else {
        skip("a_stream_that_the_gpu_does_not_decode", "no 4:2:2 clip (FACESTREAM_CLIP_422)");
        return;
    };
    let clip = ClipReader::open(&path).unwrap();
    let units: Vec<_> = ClipReader::open(&path).unwrap().map(Result::unwrap).collect();
    let open = |acceleration| {
        let config = DecodeConfig { acceleration, ..DecodeConfig::default() };
        let (metrics, clock) = (Arc::new(CameraMetrics::default()), Arc::new(SystemClock::default()));
        open_decoder(clip.params(), &config, Some(&gpu), metrics, clock).unwrap()
    };
    let mut decoder = open(Acceleration::Auto);
    let mut frames = 0;
    for unit in &units {
        decoder.decode(unit, &mut |_| frames += 1).unwrap();
    }
    decoder.flush(&mut |_| frames += 1).unwrap();
    assert_eq!(frames, units.len(), "not one frame is lost to the change");
    assert!(decoder.describe().contains("the GPU does not decode"), "{}", decoder.describe());
    let (file, how) = of_file(&path, Some(&gpu));
    assert_eq!(file.len(), units.len(), "nor of a file");
    assert!(how.contains("the GPU does not decode"), "{how}");
    let refused = open(Acceleration::Cuda).decode(&units[0], &mut |_| {}).unwrap_err().to_string();
    assert!(refused.contains("cannot be decoded on the GPU"), "{refused}");
}

fn config() -> InferConfig {
    // The engine of this test is made for 640x640.
    let input_size = InputSize::Fixed { width: 640, height: 640 };
    let runtime = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let engine_cache = Some(std::env::temp_dir().join("facestream-test-engines"));
    InferConfig { runtime_library: runtime, input_size, engine_cache, ..InferConfig::default() }
}

fn centerface() -> Option<(PathBuf, PathBuf)> {
    let onnx = asset("models/centerface.onnx").ok()?;
    let engine = std::env::var_os("FACESTREAM_GPU_ENGINES").map(|f| Path::new(&f).join("centerface640.engine"));
    Some((onnx.clone(), engine.unwrap_or(onnx)))
}

fn frames(path: &Path, gpu: Option<&Arc<Gpu>>) -> Vec<Frame> {
    let clip = ClipReader::open(path).unwrap();
    let (metrics, clock) = (Arc::new(CameraMetrics::default()), Arc::new(SystemClock::default()));
    let mut decoder = open_decoder(clip.params(), &DecodeConfig::default(), gpu, metrics, clock).unwrap();
    let mut all = Vec::new();
    for unit in clip {
        decoder.decode(&unit.unwrap(), &mut |frame| all.push(frame)).unwrap();
    }
    decoder.flush(&mut |frame| all.push(frame)).unwrap();
    all
}

/// Every box of either side that scores `sure` or more has one in the other that overlaps it by 0.95.
fn agree(a: &[Detection], b: &[Detection], sure: f32) -> Result<usize, String> {
    let mut boxes = 0;
    for (from, to) in [(a, b), (b, a)] {
        for d in from.iter().filter(|d| d.confidence >= sure) {
            let best = to.iter().map(|o| o.bbox.iou(&d.bbox)).fold(0.0, f32::max);
            if best < 0.95 {
                return Err(format!("{:?} at {:.3} overlaps by {best:.3} only", d.bbox, d.confidence));
            }
            boxes += 1;
        }
    }
    Ok(boxes / 2)
}

#[test]
fn centerface_finds_the_same_faces_in_any_batch_and_from_any_memory() {
    let gpu = gpu_or_skip!();
    let clip = asset_or_skip!("clips/truth.mp4");
    let Some((onnx, for_gpu)) = centerface() else {
        skip("centerface_finds_the_same_faces", "no centerface model: run `cargo xtask setup`");
        return;
    };
    let (on_gpu, info) = facestream_infer::load(&for_gpu, &config(), Some(&gpu)).unwrap();
    assert_eq!((info.provider, info.gpu), (Provider::TensorRt, Some(0)), "{info}");
    let cpu = InferConfig { providers: vec![Provider::Cpu], ..config() };
    let on_cpu = facestream_infer::load(&onnx, &cpu, None).unwrap().0;
    let host: Vec<_> = frames(&clip, None).into_iter().step_by(10).collect();
    let device: Vec<_> = frames(&clip, Some(&gpu)).into_iter().step_by(10).collect();
    let mut session = on_gpu.open().unwrap();
    let alone: Vec<_> = device.iter().map(|f| session.infer(std::slice::from_ref(f)).unwrap().remove(0)).collect();
    let mut boxes = 0;
    let mut processor = on_cpu.open().unwrap();
    for (n, frame) in host.iter().enumerate() {
        let expected = processor.infer(std::slice::from_ref(frame)).unwrap().remove(0);
        // Borders of 0.3 fall to either side in fp16: what is sure on one side is there, maybe weaker, on the other.
        boxes += agree(&expected, &alone[n], 0.33).unwrap_or_else(|e| panic!("frame {n}: {e}"));
    }
    assert!(boxes > 20, "{boxes} boxes are too few to say anything");
    for batch in [3, 8, 17, 32] {
        for (n, some) in device.chunks(batch).enumerate() {
            let found = session.infer(some).unwrap();
            for (k, one) in found.iter().enumerate() {
                assert_eq!(one, &alone[n * batch + k], "batch {batch}, frame {}", n * batch + k);
            }
        }
    }
    // Pictures in host memory, and both kinds in one batch.
    let mixed: Vec<_> = host.iter().zip(&device).take(8).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
    for (n, pair) in session.infer(&mixed).unwrap().chunks(2).enumerate() {
        assert_eq!(pair[0], pair[1], "frame {n}: from host and from device memory");
        assert_eq!(pair[1], alone[n], "frame {n}");
    }
    // A GPU decodes and the processor analyses.
    assert_eq!(processor.infer(&device[..2]).unwrap(), processor.infer(&host[..2]).unwrap(), "read back");
    println!("{info}: {} frames, {boxes} boxes agree with the processor's; batches equal", host.len());
}

/// `facestream run` over the clip with real guests; rows of MOTChallenge by frame and id.
fn tracks(model: &Path, clip: &Path, device: &str, dir: &Path) -> BTreeMap<(u64, u64), Rect> {
    let (mot, toml) = (dir.join(format!("{device}.txt")), dir.join(format!("{device}.toml")));
    let config = format!("[infer]\ndevice = \"{device}\"\ninput_size = {{ width = 640, height = 640 }}\n");
    std::fs::write(&toml, config).unwrap();
    let out = Command::new(program::path())
        .arg("run")
        .args([clip, Path::new("--model"), model, Path::new("--mot"), &mot, Path::new("--config"), &toml])
        .args(["--quiet", "--out", "/dev/null"])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = std::fs::read_to_string(mot).unwrap();
    let rows = text.lines().map(|line| {
        let n: Vec<f64> = line.split(',').map(|v| v.trim().parse().unwrap()).collect();
        let rect = Rect { x: n[2] as f32, y: n[3] as f32, width: n[4] as f32, height: n[5] as f32 };
        ((n[0] as u64, n[1] as u64), rect)
    });
    rows.collect()
}

#[test]
fn tracks_are_the_same_on_the_clip_with_known_truth() {
    let _gpu = gpu_or_skip!();
    let clip = asset_or_skip!("clips/truth.mp4");
    let Some((onnx, for_gpu)) = centerface() else {
        skip("tracks_are_the_same", "no centerface model: run `cargo xtask setup`");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    // A weak box that fp16 lifts over the tracker's threshold for a frame takes a number and nothing else: people are told
    // apart by the order in which they come.
    let in_order = |rows: BTreeMap<(u64, u64), Rect>| -> BTreeMap<(u64, u64), Rect> {
        let mut names = BTreeMap::new();
        let mut name = |id: u64| {
            let next = names.len() as u64 + 1;
            *names.entry(id).or_insert(next)
        };
        rows.into_iter().map(|((frame, id), rect)| ((frame, name(id)), rect)).collect()
    };
    let expected = in_order(tracks(&onnx, &clip, "cpu", dir.path()));
    let found = in_order(tracks(&for_gpu, &clip, "cuda:0", dir.path()));
    let mut missing = 0;
    for (key, rect) in &expected {
        match found.get(key) {
            Some(other) => assert!(rect.iou(other) >= 0.9, "{key:?}: {rect:?} and {other:?}"),
            None => missing += 1,
        }
    }
    let extra = found.keys().filter(|key| !expected.contains_key(key)).count();
    println!("tracks: {} rows, {missing} missing, {extra} more on the GPU", expected.len());
    let ids = |rows: &BTreeMap<(u64, u64), Rect>| rows.keys().map(|k| k.1).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(ids(&expected), ids(&found), "the same people");
    // A face at the very border of a threshold may begin or end a frame earlier.
    assert!((missing + extra) * 100 <= expected.len(), "{missing} and {extra} of {}", expected.len());
}

#[test]
fn two_hundred_starts_leave_nothing_in_device_memory() {
    let gpu = gpu_or_skip!();
    let path = asset_or_skip!("clips/pan720.mp4");
    let clip = ClipReader::open(&path).unwrap();
    let units: Vec<_> = ClipReader::open(&path).unwrap().take(5).map(Result::unwrap).collect();
    let used = || {
        let memory = gpu.memory().unwrap();
        (memory.total - memory.free) >> 20
    };
    let mut after_some = 0;
    for n in 0..200 {
        let config = DecodeConfig { acceleration: Acceleration::Cuda, ..DecodeConfig::default() };
        let (metrics, clock) = (Arc::new(CameraMetrics::default()), Arc::new(SystemClock::default()));
        let mut decoder = open_decoder(clip.params(), &config, Some(&gpu), metrics, clock).unwrap();
        let mut frames = 0;
        for unit in &units {
            decoder.decode(unit, &mut |_| frames += 1).unwrap();
        }
        decoder.flush(&mut |_| frames += 1).unwrap();
        assert!(frames > 0);
        if n == 19 {
            after_some = used();
        }
    }
    let end = used();
    println!("device memory: {after_some} MiB after 20 starts, {end} MiB after 200");
    assert!(end <= after_some + 16, "{after_some} MiB after 20 starts, {end} after 200");
}

/// A guest that looks at ever other places of one frame must not fill the host's memory with them.
#[test]
fn what_is_kept_of_a_picture_in_host_memory_is_bounded() {
    let gpu = gpu_or_skip!();
    let (stream, size) = (gpu.stream().unwrap(), (1920, 1080));
    let colour = Colour { full_range: false, matrix: ColorMatrix::Bt709 };
    let picture = DevicePicture::upload(&noise(bytes_of(size), 9), size.0, size.1, colour, &stream).unwrap();
    let alone = picture.bytes();
    for n in 0..100u32 {
        // Each one a little larger than the one before, so that none holds the next.
        let side = 400.0 + 4.0 * n as f32;
        let area = Rect { x: 0.0, y: 0.0, width: 2.0 * side, height: side };
        assert_eq!(picture.crop(area, 0).unwrap().height(), side as u32);
    }
    let kept = picture.bytes() - alone;
    assert!(kept > 0 && kept <= alone + (1 << 20), "{kept} bytes are kept of a picture of {alone}");
}

#[test]
fn what_does_not_fit_or_was_built_elsewhere_is_told_with_the_remedy() {
    let gpu = gpu_or_skip!();
    let error = Buffer::new(&gpu, 1 << 50).unwrap_err().to_string();
    assert!(error.contains("out of memory") && error.contains("fewer cameras"), "{error}");
    assert!(Buffer::new(&gpu, 1 << 20).is_ok(), "and the GPU goes on");

    let dir = tempfile::tempdir().unwrap();
    let engine = dir.path().join("face.engine");
    std::fs::write(&engine, noise(100_000, 5)).unwrap();
    let tensors = "inputs = [{ name = \"x\", shape = [-1, 3, 640, 640] }]\n\
                   outputs = [{ name = \"y\", shape = [-1, 5, 8400] }]\nmax_batch = 8";
    std::fs::write(dir.path().join("face.engine.toml"), tensors).unwrap();
    let error = facestream_infer::load(&engine, &config(), Some(&gpu)).err().unwrap().to_string();
    println!("{error}");
    assert!(error.contains("tensorrt on cuda:0") && error.contains("build it again"), "{error}");
}

/// In a process of its own, which cannot use the GPU afterwards.
#[test]
fn a_lost_gpu_is_named_with_the_remedy_and_its_cameras_go_on_decoding() {
    const CHILD: &str = "FACESTREAM_TEST_LOSE_THE_GPU";
    let gpu = gpu_or_skip!();
    let clip = asset_or_skip!("clips/truth.mp4");
    let Some((_, model)) = centerface() else {
        skip("a_lost_gpu", "no centerface model: run `cargo xtask setup`");
        return;
    };
    if std::env::var_os(CHILD).is_none() {
        let this = "a_lost_gpu_is_named_with_the_remedy_and_its_cameras_go_on_decoding";
        let mut child = Command::new(std::env::current_exe().unwrap());
        let done = child.args(["--exact", this, "--nocapture"]).env(CHILD, "1").output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        print!("{said}");
        assert!(said.contains("everything was said"), "{said}{}", String::from_utf8_lossy(&done.stderr));
        assert!(gpu.check().is_ok(), "other processes keep it");
        return;
    }
    let frames = frames(&clip, Some(&gpu));
    let (detector, _) = facestream_infer::load(&model, &config(), Some(&gpu)).unwrap();
    let mut session = detector.open().unwrap();
    assert!(session.infer(&frames[..1]).is_ok());
    let reader = ClipReader::open(&clip).unwrap();
    let units: Vec<_> = ClipReader::open(&clip).unwrap().take(200).map(Result::unwrap).collect();
    let (metrics, clock) = (Arc::new(CameraMetrics::default()), Arc::new(SystemClock::default()));
    let mut decoder =
        open_decoder(reader.params(), &DecodeConfig::default(), Some(&gpu), Arc::clone(&metrics), clock).unwrap();
    let (mut on_device, mut on_host) = (0, 0);
    let mut count = |frame: Frame| match frame.picture.planes() {
        Some(_) => on_host += 1,
        None => on_device += 1,
    };
    for unit in &units[..20] {
        decoder.decode(unit, &mut count).unwrap();
    }
    assert!(gpu.lost().is_none());
    let mut file = FileSource::open(&clip, &DecodeConfig::default(), Some(&gpu)).unwrap();
    let began = file.by_ref().take(50).map(|f| f.unwrap().info.sequence).collect::<Vec<_>>();
    gpu.lose_for_test().unwrap();
    assert!(gpu.lost().is_none(), "nobody used it since");
    let error = session.infer(&frames[1..2]).unwrap_err().to_string();
    assert!(error.contains("is lost") && error.contains("restart FaceStream"), "{error}");
    let lost = gpu.lost().expect("inference noticed it").to_string();
    assert!(lost.contains("cuda:0 is lost") && lost.contains("restart FaceStream"), "{lost}");
    assert!(gpu.memory().unwrap_err().is_lost());
    let mut refused = 0;
    for unit in &units[20..] {
        refused += u32::from(decoder.decode(unit, &mut count).is_err());
    }
    let how = decoder.describe();
    println!(
        "{error}\ndecoding: {on_device} on the GPU, then {on_host} on the processor, {refused} units refused; {how}"
    );
    // What the GPU had given already may still come from its memory: only numbers are looked at.
    let numbers: Vec<u64> = began.into_iter().chain(file.by_ref().map(|f| f.unwrap().info.sequence)).collect();
    let all = FileSource::open(&clip, &DecodeConfig::default(), None).unwrap().count() as u64;
    assert!(numbers.iter().copied().eq(0..all), "a file goes on behind its last frame: {numbers:?} of {all}");
    assert!(file.describe().contains("is lost"), "{}", file.describe());
    let gpus = facestream_pipeline::Gpus::new(vec![Arc::clone(&gpu)]);
    assert!(gpus.take(None).is_none() && gpus.take(Some(0)).is_none(), "no camera is placed on it");
    assert_eq!(gpus.lost().len(), 1);
    assert!(on_device > 0 && on_host > 0 && refused == 0, "{on_device}, {on_host} and {refused}: {how}");
    println!("everything was said");
}

/// The whole service in a process that loses its GPU: `/readyz` tells it with the remedy and cameras go on decoding, or the
/// process ends in order, as `infer.exit_on_lost_gpu` says.
#[test]
fn a_service_tells_that_its_gpu_is_lost_or_ends() {
    const CHILD: &str = "FACESTREAM_TEST_LOSE_THE_SERVICES_GPU";
    const URL: &str = "FACESTREAM_TEST_CAMERA";
    let gpu = gpu_or_skip!();
    let clip = asset_or_skip!("clips/truth.mp4");
    let Some((_, model)) = centerface() else {
        skip("a_service_tells_that_its_gpu_is_lost", "no centerface model: run `cargo xtask setup`");
        return;
    };
    let Ok(ends) = std::env::var(CHILD) else {
        let cameras = Cameras::start(&[&clip], None, SimConfig::default());
        for ends in ["false", "true"] {
            let dir = tempfile::tempdir().unwrap();
            let toml = format!(
                "[infer]\ndevice = \"cuda:0\"\nexit_on_lost_gpu = {ends}\ninput_size = {{ width = 640, height = 640 }}\n\
                 [defaults]\nmodel = {:?}\n",
                model.to_str().unwrap()
            );
            // The program first, which compiles guests and builds engines, as a test's process cannot.
            let host = Host::start(dir.path(), &toml);
            host.start_camera("door", &cameras.url(0), &json!({}));
            host.camera_runs("door");
            host.stop();
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "a_service_tells_that_its_gpu_is_lost_or_ends", "--nocapture"]).env(CHILD, ends);
            child.env("FACESTREAM_GUESTS_CACHE_DIR", program::cache_dir()).env(URL, cameras.url(0));
            let done = child.current_dir(dir.path()).output().unwrap();
            let said = String::from_utf8_lossy(&done.stdout);
            print!("{said}");
            assert!(said.contains("everything was said"), "{said}{}", String::from_utf8_lossy(&done.stderr));
        }
        assert!(gpu.check().is_ok(), "other processes keep it");
        return;
    };
    let address = format!("127.0.0.1:{}", free_port());
    let line = ["facestream", "serve", "--config", "facestream.toml", "--data", "data", "--listen", &address];
    let Cli { command: cli::Command::Serve(args) } = Cli::parse_from(line) else {
        panic!("the line is that of `serve`");
    };
    let service = std::thread::spawn(move || facestream::serve::run(&args).map_err(|e| facestream::told(&e)));
    let api = Api::new(&address);
    until("the service to be ready", || api.alive("/readyz"));
    let decoded = |camera: &Value| camera["counters"]["decoded"].as_u64().unwrap_or(0);
    let runs = until("frames of the GPU", || {
        let camera = api.camera("door");
        let analysed = camera["counters"]["analysed"].as_u64() > Some(20);
        if analysed && camera["gpu"] == 0 { Ok(camera) } else { Err(camera.to_string()) }
    });
    gpu.lose_for_test().unwrap();
    if ends == "true" {
        let error = service.join().unwrap().unwrap_err();
        println!("ended: {error}");
        assert!(error.contains("cuda:0 is lost") && error.contains("infer.exit_on_lost_gpu"), "{error}");
    } else {
        let ready = until("readiness to tell it", || {
            let ready = api.get("/readyz");
            if ready.status == 503 { Ok(ready) } else { Err(ready.text()) }
        });
        println!("/readyz: {}", ready.text());
        ready.problem(503, "not-ready", &["cuda:0 is lost", "restart FaceStream"]);
        assert_eq!(api.get("/healthz").status, 200, "it lives");
        let before = decoded(&runs);
        let on = until("the camera to go on decoding on the processor", || {
            let camera = api.camera("door");
            if decoded(&camera) > before + 60 { Ok(camera) } else { Err(camera.to_string()) }
        });
        println!("decoder: {}", on["decoder"]);
        let url = std::env::var(URL).unwrap();
        let other = api.post("/camera/start", &json!({ "camera_id": "gate", "rtsp_link": url }));
        println!("another camera: {} {}", other.status, other.text());
        assert_eq!(other.status, 503, "no camera is placed on a GPU that is lost");
    }
    println!("everything was said");
}
