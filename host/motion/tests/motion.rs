//! Known motions of a real, textured picture, and everything that must not be taken for one.
#![allow(clippy::unwrap_used, reason = "a test: what is missing is a failure, and helpers are not seen as tests")]

use std::any::Any;
use std::sync::{Arc, OnceLock};

use facestream_core::frame::{ColorMatrix, Frame, FrameInfo, Picture, PictureError, Planes};
use facestream_core::geometry::{Affine, Point, Rect};
use facestream_motion::{MotionEstimator, Unknown};
use facestream_pixels::HostPicture;
use facestream_test_support::asset;

const WIDTH: u32 = 1280;
const HEIGHT: u32 = 720;
/// Corner in the photo of what a camera sees before it moves.
const CORNER: (f32, f32) = (900.0, 700.0);

struct Grey {
    width: usize,
    height: usize,
    data: Vec<u8>,
}

impl Grey {
    /// Bilinear, (x, y) with pixels' centres at halves; mirrored at the edges.
    fn at(&self, x: f32, y: f32) -> f32 {
        let mirror = |v: f32, n: usize| {
            v.abs().min(2.0 * (n - 2) as f32 - v.min(2.0 * (n - 2) as f32)).clamp(0.0, (n - 2) as f32)
        };
        let (x, y) = (mirror(x - 0.5, self.width), mirror(y - 0.5, self.height));
        let (i, j) = (x as usize, y as usize);
        let (u, v) = (x - i as f32, y - j as f32);
        let p = |i: usize, j: usize| f32::from(self.data[j * self.width + i]);
        (p(i, j) * (1.0 - u) + p(i + 1, j) * u) * (1.0 - v) + (p(i, j + 1) * (1.0 - u) + p(i + 1, j + 1) * u) * v
    }
}

/// The photo that set-up provides; without it a generated texture of blocks.
fn photo() -> &'static Grey {
    static PHOTO: OnceLock<Grey> = OnceLock::new();
    PHOTO.get_or_init(|| match asset("clips/solvay.jpg") {
        Ok(path) => {
            let file = std::fs::read(path).unwrap();
            let options = zune_jpeg::zune_core::options::DecoderOptions::default()
                .jpeg_set_out_colorspace(zune_jpeg::zune_core::colorspace::ColorSpace::Luma);
            let reader = zune_jpeg::zune_core::bytestream::ZCursor::new(file);
            let mut decoder = zune_jpeg::JpegDecoder::new_with_options(reader, options);
            let data = decoder.decode().unwrap();
            let (width, height) = decoder.dimensions().unwrap();
            Grey { width, height, data }
        }
        Err(_) => {
            let (width, height) = (3000, 2171);
            let data = (0..width * height).map(|i| texture(i % width, i / width)).collect();
            Grey { width, height, data }
        }
    })
}

fn texture(x: usize, y: usize) -> u8 {
    let block = |size: usize| {
        let h = (x / size).wrapping_mul(0x9e37_79b1) ^ (y / size).wrapping_mul(0x85eb_ca6b) ^ size;
        (h ^ (h >> 13)).wrapping_mul(0x2c1b_3c6d) >> 9 & 63
    };
    (40 + block(71) + block(29) + block(11) / 2) as u8
}

fn similarity(scale: f32, degrees: f32, tx: f32, ty: f32) -> Affine {
    let (s, c) = degrees.to_radians().sin_cos();
    // About the frame's centre, so that a rotation does not move all of it away.
    let (x, y) = (WIDTH as f32 / 2.0, HEIGHT as f32 / 2.0);
    let (a, b) = (scale * c, scale * s);
    Affine { a, b: -b, tx: x - a * x + b * y + tx, c: b, d: a, ty: y - b * x - a * y + ty }
}

fn inverse(m: &Affine) -> Affine {
    let det = m.a * m.d - m.b * m.c;
    let (a, b, c, d) = (m.d / det, -m.b / det, -m.c / det, m.a / det);
    Affine { a, b, tx: -(a * m.tx + b * m.ty), c, d, ty: -(c * m.tx + d * m.ty) }
}

fn info(n: u64) -> FrameInfo {
    let at = n * 40_000_000;
    FrameInfo { session: 1, sequence: n, timestamp_ns: at, captured_at_ns: at, width: WIDTH, height: HEIGHT }
}

fn frame(n: u64, luma: impl Fn(f32, f32) -> f32) -> Frame {
    let mut data = Vec::with_capacity((WIDTH * HEIGHT * 3 / 2) as usize);
    for y in 0..HEIGHT {
        data.extend((0..WIDTH).map(|x| luma(x as f32 + 0.5, y as f32 + 0.5).round().clamp(0.0, 255.0) as u8));
    }
    data.resize((WIDTH * HEIGHT * 3 / 2) as usize, 128);
    let picture = HostPicture::new(WIDTH, HEIGHT, data, true, ColorMatrix::Bt601).unwrap();
    Frame { info: info(n), picture: Arc::new(picture) }
}

/// The photo as a camera sees it that has moved.
fn seen(moved: &Affine) -> impl Fn(f32, f32) -> f32 + use<> {
    let back = inverse(moved);
    move |x, y| {
        let p = back.apply(Point { x, y });
        photo().at(p.x + CORNER.0, p.y + CORNER.1)
    }
}

/// In [-by, by), different for each pixel and frame.
fn noise(n: u64, x: f32, y: f32, by: f32) -> f32 {
    let mut h = (x as u64) << 32 ^ (y as u64) << 8 ^ n;
    h = (h ^ (h >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    h = (h ^ (h >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((h >> 40) as f32 / (1_u64 << 24) as f32 * 2.0 - 1.0) * by
}

/// Largest distance between where two motions move the frame's corners, pixels of the source.
fn error(a: &Affine, b: &Affine) -> f32 {
    let corners = [(0.0, 0.0), (WIDTH as f32, 0.0), (0.0, HEIGHT as f32), (WIDTH as f32, HEIGHT as f32)];
    let apart = corners.map(|(x, y)| {
        let (p, q) = (a.apply(Point { x, y }), b.apply(Point { x, y }));
        f32::hypot(p.x - q.x, p.y - q.y)
    });
    apart.into_iter().fold(0.0, f32::max)
}

fn between(before: &Frame, after: &Frame, boxes: &[Rect]) -> Result<Affine, Unknown> {
    let mut estimator = MotionEstimator::new();
    assert_eq!(estimator.estimate(before, boxes), Err(Unknown::NoPrevious));
    estimator.estimate(after, boxes)
}

#[test]
fn known_motions_are_found_to_half_a_pixel() {
    let still = frame(0, seen(&Affine::IDENTITY));
    for (scale, degrees, tx, ty) in [
        (1.0, 0.0, 17.3, -8.6),
        (1.0, 0.0, -1.4, 0.9),
        (1.0, 0.0, 75.0, 30.0),
        (1.0, 2.0, 0.0, 0.0),
        (1.04, 0.0, 0.0, 0.0),
        (0.97, -1.5, -22.0, 11.0),
        (1.02, 3.0, 30.0, -25.0),
    ] {
        let truth = similarity(scale, degrees, tx, ty);
        let after = frame(1, |x, y| seen(&truth)(x, y) + noise(1, x, y, 3.0));
        let found = between(&still, &after, &[]).unwrap();
        let error = error(&found, &truth);
        println!("scale {scale}, {degrees} degrees, ({tx}, {ty}): error {error:.3} px");
        assert!(error < 0.5, "{found:?} is {error} px from {truth:?}");
    }
}

#[test]
fn motions_add_up_over_a_walk() {
    let mut estimator = MotionEstimator::new();
    let (mut summed, mut truth) = (Affine::IDENTITY, Affine::IDENTITY);
    for n in 0..12_u8 {
        let step = similarity(1.0 + f32::from(n % 3) * 0.004, f32::from(n % 5) - 2.0, f32::from(n) * 2.5, -6.0);
        truth = truth.then(&step);
        match estimator.estimate(&frame(n.into(), seen(&truth)), &[]) {
            Ok(moved) => summed = summed.then(&moved),
            Err(why) => {
                assert_eq!((n, why), (0, Unknown::NoPrevious));
                summed = truth;
            }
        }
    }
    assert!(error(&summed, &truth) < 1.5, "{} px after eleven steps", error(&summed, &truth));
}

#[test]
fn a_still_camera_gives_exactly_no_motion() {
    let noisy = |n: u64| frame(n, move |x, y| seen(&Affine::IDENTITY)(x, y) + noise(n, x, y, 6.0));
    let mut estimator = MotionEstimator::new();
    assert_eq!(estimator.estimate(&noisy(0), &[]), Err(Unknown::NoPrevious));
    for n in 1..6 {
        assert_eq!(estimator.estimate(&noisy(n), &[]), Ok(Affine::IDENTITY), "frame {n}");
    }
}

/// A picture in which a rectangle shows another part of the photo.
fn with_mover(background: &Affine, area: Rect, shift: f32) -> impl Fn(f32, f32) -> f32 + use<> {
    let behind = seen(background);
    let [x1, y1, x2, y2] = area.corners();
    move |x, y| {
        if (x1..x2).contains(&x) && (y1..y2).contains(&y) {
            photo().at(x - shift + 300.0, y + 250.0)
        } else {
            behind(x, y)
        }
    }
}

#[test]
fn what_moves_in_front_is_masked_out() {
    // It covers half of the frame and moves the other way.
    let area = Rect { x: 320.0, y: 0.0, width: 640.0, height: 720.0 };
    let box_ = Rect { x: 370.0, y: 50.0, width: 540.0, height: 620.0 };
    let truth = similarity(1.0, 0.0, -14.0, 6.0);
    let before = frame(0, with_mover(&Affine::IDENTITY, area, 0.0));
    let after = frame(1, with_mover(&truth, area, 31.0));
    let found = between(&before, &after, &[box_]).unwrap();
    assert!(error(&found, &truth) < 0.5, "{} px", error(&found, &truth));
}

#[test]
fn a_false_box_as_large_as_half_of_the_frame_leaves_the_other_half() {
    let truth = similarity(1.0, 0.0, -14.0, 6.0);
    let half = Rect { x: 606.0, y: -31.0, width: 667.0, height: 937.0 };
    let found = between(&frame(0, seen(&Affine::IDENTITY)), &frame(1, seen(&truth)), &[half]).unwrap();
    assert!(error(&found, &truth) < 0.5, "{} px", error(&found, &truth));
}

#[test]
fn a_still_camera_stays_still_behind_a_train() {
    // More than half of the texture moves, and no box says so.
    let area = Rect { x: 0.0, y: 0.0, width: 760.0, height: 720.0 };
    let before = frame(0, with_mover(&Affine::IDENTITY, area, 0.0));
    let after = frame(1, with_mover(&Affine::IDENTITY, area, 23.0));
    assert_eq!(between(&before, &after, &[]), Ok(Affine::IDENTITY));
}

#[test]
fn darkness_and_flat_pictures_give_none() {
    for (name, level) in [("black", 0.0), ("dark", 18.0), ("white", 255.0)] {
        let flat = |n: u64| frame(n, move |x, y| level + noise(n, x, y, 2.0));
        let found = between(&flat(0), &flat(1), &[]);
        assert_eq!(found, Err(Unknown::FewCorners), "{name}");
    }
    // A picture that detections cover wholly.
    let moved = similarity(1.0, 0.0, 9.0, 0.0);
    let all = Rect { x: 0.0, y: 0.0, width: WIDTH as f32, height: HEIGHT as f32 };
    let found = between(&frame(0, seen(&Affine::IDENTITY)), &frame(1, seen(&moved)), &[all]);
    assert_eq!(found, Err(Unknown::FewCorners));
}

#[test]
fn another_scene_gives_none() {
    let other = |x: f32, y: f32| photo().at(2900.0 - x * 0.7, y * 0.8);
    let found = between(&frame(0, seen(&Affine::IDENTITY)), &frame(1, other), &[]).unwrap_err();
    assert!(matches!(found, Unknown::NoConsensus | Unknown::FewCorners | Unknown::Uncertain), "{found:?}");
}

#[test]
fn texture_in_one_corner_says_nothing_about_the_whole() {
    let corner = |moved: Affine| {
        let all = seen(&moved);
        move |x: f32, y: f32| if x < 300.0 && y < 170.0 { all(x, y) } else { 90.0 }
    };
    let moved = similarity(1.0, 0.0, 7.0, 3.0);
    let found = between(&frame(0, corner(Affine::IDENTITY)), &frame(1, corner(moved)), &[]).unwrap_err();
    assert!(matches!(found, Unknown::Uncertain | Unknown::FewCorners), "{found:?}");
}

#[test]
fn frames_without_a_neighbour_give_none_and_the_next_ones_do() {
    let moved = similarity(1.0, 0.0, 11.0, 4.0);
    let at = |n: u64, moved: &Affine| frame(n, seen(moved));
    let mut estimator = MotionEstimator::new();
    assert_eq!(estimator.estimate(&at(0, &Affine::IDENTITY), &[]), Err(Unknown::NoPrevious));
    let mut reconnected = at(1, &Affine::IDENTITY);
    reconnected.info.session = 2;
    assert_eq!(estimator.estimate(&reconnected, &[]), Err(Unknown::NoPrevious));
    let mut late = at(2, &Affine::IDENTITY);
    late.info.session = 2;
    late.info.timestamp_ns = 2_040_000_001;
    assert_eq!(estimator.estimate(&late, &[]), Err(Unknown::NoPrevious), "more than two seconds later");
    let small = HostPicture::new(640, 360, vec![90; 640 * 360 * 3 / 2], true, ColorMatrix::Bt601).unwrap();
    let resized = Frame { info: FrameInfo { width: 640, height: 360, ..late.info }, picture: Arc::new(small) };
    assert_eq!(estimator.estimate(&resized, &[]), Err(Unknown::NoPrevious));
    assert_eq!(estimator.estimate(&late, &[]), Err(Unknown::NoPrevious));
    let mut next = at(3, &moved);
    next.info.session = 2;
    next.info.timestamp_ns = late.info.timestamp_ns + 40_000_000;
    assert!(error(&estimator.estimate(&next, &[]).unwrap(), &moved) < 0.5);
}

#[test]
fn tiny_pictures_do_no_harm() {
    for (width, height) in [(2_u32, 2_u32), (16, 16), (64, 8), (1, 300)] {
        let mut estimator = MotionEstimator::new();
        for n in 0..3 {
            let bytes = (width * height + 2 * width.div_ceil(2) * height.div_ceil(2)) as usize;
            let data = (0..bytes).map(|i| texture(i * 7, i / 3 + n as usize)).collect();
            let picture = HostPicture::new(width, height, data, true, ColorMatrix::Bt601).unwrap();
            let frame = Frame { info: FrameInfo { width, height, ..info(n) }, picture: Arc::new(picture) };
            assert!(estimator.estimate(&frame, &[]).is_err(), "{width}x{height}");
        }
    }
}

#[test]
fn the_same_frames_give_the_same_bits() {
    let run = || {
        let mut estimator = MotionEstimator::new();
        let of = |n: u8| similarity(1.01, 0.4 * f32::from(n), 6.0 * f32::from(n), 2.0);
        (0..5_u8).map(|n| estimator.estimate(&frame(n.into(), seen(&of(n))), &[])).collect::<Vec<_>>()
    };
    let bits = |of: &[Result<Affine, Unknown>]| -> Vec<_> {
        of.iter().map(|m| m.map(|m| [m.a, m.b, m.tx, m.c, m.d, m.ty].map(f32::to_bits))).collect()
    };
    let (first, second) = (run(), run());
    assert_eq!(bits(&first), bits(&second));
    assert_eq!(first.iter().filter(|m| m.is_ok()).count(), 4);
}

/// A mock of a picture on a device: no planes, only scaled copies, or none at all.
#[derive(Debug)]
struct OnDevice(Option<Frame>);

impl Picture for OnDevice {
    fn width(&self) -> u32 {
        WIDTH
    }

    fn height(&self) -> u32 {
        HEIGHT
    }

    fn planes(&self) -> Option<Planes<'_>> {
        None
    }

    fn crop(&self, area: Rect, max_side: u32) -> Result<Arc<dyn Picture>, PictureError> {
        let inner = self.0.as_ref().ok_or_else(|| PictureError::Device("unplugged".to_owned()))?;
        inner.picture.crop(area, max_side)
    }

    fn bytes(&self) -> usize {
        0
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[test]
fn a_picture_on_a_device_is_read_scaled() {
    let moved = similarity(1.0, 1.0, 13.0, 5.0);
    let device = |n: u64, m: &Affine| Frame { info: info(n), picture: Arc::new(OnDevice(Some(frame(n, seen(m))))) };
    let mut estimator = MotionEstimator::new();
    assert_eq!(estimator.estimate(&device(0, &Affine::IDENTITY), &[]), Err(Unknown::NoPrevious));
    assert!(error(&estimator.estimate(&device(1, &moved), &[]).unwrap(), &moved) < 0.5);
    let unplugged = Frame { info: info(2), picture: Arc::new(OnDevice(None)) };
    assert_eq!(estimator.estimate(&unplugged, &[]), Err(Unknown::NoPixels));
    assert_eq!(estimator.estimate(&device(3, &moved), &[]), Err(Unknown::NoPrevious), "nothing to compare with");
}
