//! Crops, measures, conversions and JPEG over all layouts, checked against plain arithmetic and another JPEG decoder.

use facestream_core::frame::{ColorMatrix, Picture, PictureError, PixelFormat, Planes};
use facestream_core::geometry::Rect;
use facestream_pixels::{HostPicture, JpegError, crop_planes, jpeg, luma, measure, rgb};
use proptest::prelude::*;

/// A picture in any layout, with padded rows.
struct Source {
    format: PixelFormat,
    size: (u32, u32),
    full_range: bool,
    matrix: ColorMatrix,
    planes: [(Vec<u8>, usize); 3],
}

const LAYOUTS: [PixelFormat; 4] = [PixelFormat::I420, PixelFormat::I422, PixelFormat::I444, PixelFormat::Nv12];
const PAD: usize = 7;

impl Source {
    /// `yuv` gives the colour of each pixel; chroma is taken at the first pixel that shares a sample.
    fn new(format: PixelFormat, (width, height): (u32, u32), yuv: impl Fn(u32, u32) -> [u8; 3]) -> Self {
        let (sx, sy) = match format {
            PixelFormat::I420 | PixelFormat::Nv12 => (2, 2),
            PixelFormat::I422 => (2, 1),
            PixelFormat::I444 => (1, 1),
        };
        let plane = |channels: &[usize], sx: u32, sy: u32| {
            let (w, h) = (width.div_ceil(sx), height.div_ceil(sy));
            let stride = w as usize * channels.len() + PAD;
            let mut data = vec![0xAA; stride * h as usize];
            for y in 0..h {
                for x in 0..w {
                    for (i, &c) in channels.iter().enumerate() {
                        data[y as usize * stride + x as usize * channels.len() + i] = yuv(x * sx, y * sy)[c];
                    }
                }
            }
            // Like a decoder's: the last row ends with its last sample.
            data.truncate(data.len() - PAD);
            (data, stride)
        };
        let y = plane(&[0], 1, 1);
        let planes = match format {
            PixelFormat::Nv12 => [y, plane(&[1, 2], 2, 2), (Vec::new(), 0)],
            _ => [y, plane(&[1], sx, sy), plane(&[2], sx, sy)],
        };
        Self { format, size: (width, height), full_range: false, matrix: ColorMatrix::Bt601, planes }
    }

    fn colour(mut self, full_range: bool, matrix: ColorMatrix) -> Self {
        (self.full_range, self.matrix) = (full_range, matrix);
        self
    }

    fn view(&self) -> Planes<'_> {
        let [(y, y_stride), (u, u_stride), (v, v_stride)] = &self.planes;
        Planes {
            format: self.format,
            width: self.size.0,
            height: self.size.1,
            y,
            y_stride: *y_stride,
            u,
            u_stride: *u_stride,
            v,
            v_stride: *v_stride,
            full_range: self.full_range,
            matrix: self.matrix,
        }
    }
}

fn whole(p: &Planes<'_>) -> Rect {
    Rect { x: 0.0, y: 0.0, width: p.width as f32, height: p.height as f32 }
}

/// Smooth in luma and chroma, within limited range.
fn gradient(x: u32, y: u32) -> [u8; 3] {
    [(40 + (x * 3 + y * 2) % 160) as u8, (100 + x % 50) as u8, (150 - y % 40) as u8]
}

fn smooth(x: u32, y: u32) -> [u8; 3] {
    [(60 + x / 2 + y / 4).min(220) as u8, (100 + x / 4).min(200) as u8, (160 - (y / 4).min(80)) as u8]
}

fn decode(bytes: &[u8]) -> (usize, usize, Vec<u8>) {
    use zune_jpeg::JpegDecoder;
    use zune_jpeg::zune_core::bytestream::ZCursor;
    let mut decoder = JpegDecoder::new(ZCursor::new(bytes));
    let pixels = decoder.decode().expect("the JPEG is valid");
    let info = decoder.info().expect("the header was read");
    (usize::from(info.width), usize::from(info.height), pixels)
}

/// (mean, largest) absolute difference.
fn difference(a: &[u8], b: &[u8]) -> (f64, u8) {
    assert_eq!(a.len(), b.len());
    let sum: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    (sum as f64 / a.len() as f64, a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0))
}

#[test]
fn an_unscaled_crop_has_the_sources_samples() {
    for format in LAYOUTS {
        let source = Source::new(format, (64, 48), gradient);
        let crop = crop_planes(source.view(), Rect { x: 11.3, y: 6.0, width: 20.0, height: 17.2 }, 0).unwrap();
        // Outwards, the corner to even pixels: x 10..32, y 6..24.
        assert_eq!((crop.width(), crop.height()), (22, 18), "{format:?}");
        let p = crop.view();
        for y in 0..18 {
            for x in 0..22 {
                assert_eq!(p.y[y * p.y_stride + x], gradient(x as u32 + 10, y as u32 + 6)[0], "{format:?} {x},{y}");
            }
        }
        if matches!(format, PixelFormat::I420 | PixelFormat::Nv12) {
            for y in 0..9 {
                for x in 0..11 {
                    let [_, u, v] = gradient(2 * x as u32 + 10, 2 * y as u32 + 6);
                    assert_eq!((p.u[y * p.u_stride + x], p.v[y * p.v_stride + x]), (u, v), "{format:?} {x},{y}");
                }
            }
        }
    }
}

#[test]
fn crops_at_borders_and_of_nothing() {
    let source = Source::new(PixelFormat::I420, (33, 21), gradient);
    let crop = |x: f32, y: f32, width: f32, height: f32| crop_planes(source.view(), Rect { x, y, width, height }, 0);
    let size = |p: HostPicture| (p.width(), p.height());
    assert_eq!(crop(-10.0, -10.0, 15.0, 15.0).map(size), Ok((5, 5)));
    assert_eq!(crop(30.0, 18.0, 100.0, 100.0).map(size), Ok((3, 3)), "odd sizes keep their last column and row");
    assert_eq!(crop(-1e9, -1e9, 2e9, 2e9).map(size), Ok((33, 21)));
    let none = Err(PictureError::OutOfFrame { width: 33, height: 21 });
    for (x, y, w, h) in [
        (33.0, 0.0, 5.0, 5.0),
        (-5.0, 0.0, 5.0, 5.0),
        (0.0, 40.0, 5.0, 5.0),
        (1.0, 1.0, 0.5, 5.0),
        (1.0, 1.0, -5.0, 5.0),
        (f32::NAN, 1.0, 5.0, 5.0),
        (1.0, 1.0, f32::INFINITY, 5.0),
    ] {
        assert_eq!(crop(x, y, w, h).map(size), none, "{x} {y} {w} {h}");
    }
}

#[test]
fn scaling_down_keeps_the_aspect_and_never_scales_up() {
    for format in LAYOUTS {
        let source = Source::new(format, (200, 100), smooth);
        let whole = whole(&source.view());
        let crop = crop_planes(source.view(), whole, 50).unwrap();
        assert_eq!((crop.width(), crop.height()), (50, 25));
        let p = crop.view();
        for (x, y) in [(5, 5), (25, 12), (45, 20)] {
            let wanted = smooth(x * 4 + 2, y * 4 + 2)[0];
            assert!(p.y[(y * 50 + x) as usize].abs_diff(wanted) <= 2, "{format:?}");
            let [_, u, v] = smooth(x * 4, y * 4);
            let at = (y / 2) as usize * p.u_stride + (x / 2) as usize;
            assert!(p.u[at].abs_diff(u) <= 3 && p.v[at].abs_diff(v) <= 3, "{format:?} {x},{y}: {} {u}", p.u[at]);
        }
        let same = crop_planes(source.view(), whole, 500).unwrap();
        assert_eq!((same.width(), same.height()), (200, 100));
        let thin = crop_planes(source.view(), Rect { x: 0.0, y: 0.0, width: 200.0, height: 2.0 }, 10).unwrap();
        assert_eq!((thin.width(), thin.height()), (10, 1), "no side becomes zero");
    }
}

#[test]
fn a_jpeg_shows_the_colours_of_the_picture() {
    for format in LAYOUTS {
        for full in [false, true] {
            for matrix in [ColorMatrix::Bt601, ColorMatrix::Bt709] {
                let source = Source::new(format, (161, 95), smooth).colour(full, matrix);
                let wanted = rgb(source.view(), 0).unwrap();
                let (w, h, got) = decode(&jpeg(source.view(), 95).unwrap());
                assert_eq!((w, h), (161, 95));
                let (mean, largest) = difference(&got, &wanted.data);
                assert!(
                    mean < 1.5 && largest < 24,
                    "{format:?} full={full} {matrix:?}: mean {mean}, largest {largest}"
                );
            }
        }
    }
}

#[test]
fn colour_bars_come_out_as_their_colours() {
    // 75 % bars of BT.601 and BT.709 in limited-range codes (SMPTE EG 1 / RP 219) and their RGB.
    let bars = |matrix| match matrix {
        ColorMatrix::Bt601 => [
            [180, 128, 128],
            [162, 44, 142],
            [131, 156, 44],
            [112, 72, 58],
            [84, 184, 198],
            [65, 100, 212],
            [35, 212, 114],
        ],
        ColorMatrix::Bt709 => [
            [180, 128, 128],
            [168, 44, 136],
            [145, 147, 44],
            [133, 63, 52],
            [63, 193, 204],
            [51, 109, 212],
            [28, 212, 120],
        ],
    };
    let colours: [[u8; 3]; 7] =
        [[191; 3], [191, 191, 0], [0, 191, 191], [0, 191, 0], [191, 0, 191], [191, 0, 0], [0, 0, 191]];
    for matrix in [ColorMatrix::Bt601, ColorMatrix::Bt709] {
        for format in LAYOUTS {
            let source =
                Source::new(format, (7 * 32, 64), |x, _| bars(matrix)[(x / 32) as usize]).colour(false, matrix);
            let packed = rgb(source.view(), 0).unwrap();
            let (w, _, decoded) = decode(&jpeg(source.view(), 95).unwrap());
            for (i, wanted) in colours.iter().enumerate() {
                let at = (32 * w + i * 32 + 16) * 3;
                for (name, data) in [("rgb", &packed.data), ("jpeg", &decoded)] {
                    for (got, want) in data[at..at + 3].iter().zip(wanted) {
                        assert!(
                            got.abs_diff(*want) <= 5,
                            "{name} {matrix:?} {format:?} bar {i}: {:?}",
                            &data[at..at + 3]
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn luma_is_expanded_to_full_range() {
    let grey = |full| {
        Source::new(PixelFormat::I420, (8, 8), |x, _| [if x < 4 { 16 } else { 235 }, 128, 128])
            .colour(full, ColorMatrix::Bt601)
    };
    let limited = luma(grey(false).view(), 0).unwrap();
    assert_eq!(&limited.data[..8], &[0, 0, 0, 0, 255, 255, 255, 255]);
    let full = luma(grey(true).view(), 0).unwrap();
    assert_eq!(&full.data[..8], &[16, 16, 16, 16, 235, 235, 235, 235]);
    let small = luma(grey(false).view(), 4).unwrap();
    assert_eq!((small.width, small.height, small.data.len()), (4, 4, 16));
}

#[test]
fn the_smallest_picture_goes_through_everything() {
    for format in LAYOUTS {
        let source = Source::new(format, (1, 1), |_, _| [235, 128, 128]);
        let area = whole(&source.view());
        let crop = crop_planes(source.view(), area, 0).unwrap();
        assert_eq!((crop.width(), crop.height()), (1, 1));
        assert_eq!(rgb(source.view(), 0).unwrap().data, [255, 255, 255]);
        assert_eq!(luma(source.view(), 1).unwrap().data, [255]);
        let quality = measure(source.view(), area).unwrap();
        assert_eq!((quality.sharpness, quality.brightness), (0.0, 100.0));
        let (w, h, pixels) = decode(&jpeg(source.view(), 90).unwrap());
        assert_eq!((w, h), (1, 1));
        assert!(pixels.iter().all(|&p| p > 250), "{pixels:?}");
    }
}

#[test]
fn measures_follow_blur_light_and_range_but_not_size() {
    // Stripes with a soft edge of growing width.
    let stripes = |side: u32, period: f32, edge: f32| {
        Source::new(PixelFormat::I420, (side, side), move |x, _| {
            let phase = (x as f32 / side as f32 * period * std::f32::consts::TAU).sin();
            [(126.0 + 90.0 * (phase / edge).clamp(-1.0, 1.0)) as u8, 128, 128]
        })
    };
    let sharpness = |s: &Source| measure(s.view(), whole(&s.view())).unwrap().sharpness;
    // A checkerboard through a box blur of growing radius.
    let checker = |radius: i32| {
        Source::new(PixelFormat::I420, (224, 224), move |x, y| {
            let (mut sum, mut n) = (0, 0);
            for dy in -radius..=radius {
                for dx in -radius..=radius {
                    let (cx, cy) = ((x as i32 + dx).clamp(0, 223) / 28, (y as i32 + dy).clamp(0, 223) / 28);
                    sum += if (cx + cy) % 2 == 0 { 40 } else { 210 };
                    n += 1;
                }
            }
            [(sum / n) as u8, 128, 128]
        })
    };
    let blurred: Vec<f32> = [2, 8, 14, 20].map(|r| sharpness(&checker(r))).to_vec();
    assert!(blurred.windows(2).all(|w| w[0] > w[1]), "less sharp with each blur: {blurred:?}");
    let (small, large) = (sharpness(&stripes(112, 4.0, 0.5)), sharpness(&stripes(448, 4.0, 0.5)));
    assert!((small - large).abs() / small < 0.1, "one content at two sizes: {small} and {large}");
    let grey = |y: u8, full| {
        let s = Source::new(PixelFormat::I420, (50, 50), move |_, _| [y, 128, 128]).colour(full, ColorMatrix::Bt601);
        measure(s.view(), whole(&s.view())).unwrap()
    };
    assert_eq!(grey(16, false).brightness, 0.0);
    assert_eq!(grey(235, false).brightness, 100.0);
    assert!((grey(126, false).brightness - grey(128, true).brightness).abs() < 0.5);
    assert_eq!(grey(90, false).sharpness, 0.0);
}

#[test]
fn measuring_an_area_is_measuring_its_crop() {
    let source = Source::new(PixelFormat::I420, (320, 240), |x, y| [((x * 7 + y * 13) % 200 + 20) as u8, 128, 128]);
    let area = Rect { x: 40.0, y: 60.0, width: 100.0, height: 120.0 };
    let crop = crop_planes(source.view(), area, 0).unwrap();
    assert_eq!(measure(source.view(), area), measure(crop.view(), whole(&crop.view())));
}

#[test]
fn planes_shorter_than_they_say_are_refused() {
    let source = Source::new(PixelFormat::I420, (64, 48), gradient);
    let mut short = source.view();
    short.u = &short.u[..10];
    assert!(matches!(jpeg(short, 90), Err(JpegError::Picture(PictureError::Device(_)))));
    assert!(matches!(rgb(short, 0), Err(PictureError::Device(_))));
    assert!(matches!(crop_planes(short, whole(&short), 0), Err(PictureError::Device(_))));
    let mut short = source.view();
    short.y = &short.y[..100];
    assert!(matches!(measure(short, whole(&short)), Err(PictureError::Device(_))));
    assert!(matches!(luma(short, 8), Err(PictureError::Device(_))));
    assert_eq!(jpeg(source.view(), 0), Err(JpegError::Quality(0)));
    assert_eq!(jpeg(source.view(), 101), Err(JpegError::Quality(101)));
    assert!(HostPicture::new(4, 4, vec![0; 23], true, ColorMatrix::Bt601).is_err());
    assert!(HostPicture::new(0, 4, vec![], true, ColorMatrix::Bt601).is_err());
}

#[test]
fn quality_trades_size_for_error() {
    let source = Source::new(PixelFormat::I420, (128, 128), |x, y| [((x * x + y * 37) % 200 + 20) as u8, 110, 140]);
    let sizes = [10, 50, 90].map(|q| jpeg(source.view(), q).unwrap().len());
    assert!(sizes.is_sorted() && sizes[0] * 2 < sizes[2], "{sizes:?}");
}

#[test]
fn rgb_goes_to_a_picture_and_back() {
    let (w, h) = (31_u32, 17_u32);
    let data: Vec<u8> = (0..w * h).flat_map(|i| [(i % w * 8) as u8, (i / w * 15) as u8, 100]).collect();
    let picture = HostPicture::from_rgb(w, h, &data).unwrap();
    let back = rgb(picture.view(), 0).unwrap();
    let (mean, _) = difference(&back.data, &data);
    assert!(mean < 3.0, "{mean}");
    assert!(HostPicture::from_rgb(w, h, &data[1..]).is_err());
    assert!(picture.bytes() >= (w * h * 3 / 2) as usize);
}

#[test]
fn a_box_is_drawn_inwards_and_clipped() {
    let source = Source::new(PixelFormat::I420, (20, 20), |_, _| [50, 90, 90]);
    let mut picture = HostPicture::from_planes(source.view()).unwrap();
    picture.draw_box(Rect { x: 4.0, y: 4.0, width: 10.0, height: 10.0 }, 2, 200);
    let p = picture.view();
    let at = |x: usize, y: usize| p.y[y * p.y_stride + x];
    assert_eq!(
        [at(3, 8), at(4, 8), at(5, 8), at(6, 8), at(13, 8), at(14, 8), at(8, 4), at(8, 8)],
        [50, 200, 200, 50, 200, 50, 200, 50]
    );
    picture.draw_box(Rect { x: -50.0, y: -50.0, width: 500.0, height: 500.0 }, 3, 10);
    picture.draw_box(Rect { x: 50.0, y: 50.0, width: 5.0, height: 5.0 }, 3, 10);
    picture.draw_box(Rect { x: 19.9, y: 19.9, width: 5.0, height: 5.0 }, 3, 10);
    assert_eq!(picture.view().y[0], 10);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn any_crop_lies_within_the_picture_and_its_bound(
        layout in 0..4_usize, w in 1..70_u32, h in 1..70_u32,
        x in -80.0..80.0_f32, y in -80.0..80.0_f32, cw in -2.0..90.0_f32, ch in -2.0..90.0_f32,
        max_side in 0..40_u32,
    ) {
        let source = Source::new(LAYOUTS[layout], (w, h), gradient);
        let area = Rect { x, y, width: cw, height: ch };
        let touches = cw >= 1.0 && ch >= 1.0 && area.clipped(w, h).is_some();
        match crop_planes(source.view(), area, max_side) {
            Err(e) => {
                prop_assert_eq!(e, PictureError::OutOfFrame { width: w, height: h });
                prop_assert!(!touches);
            }
            Ok(crop) => {
                prop_assert!(touches);
                prop_assert!(crop.width() >= 1 && crop.height() >= 1);
                prop_assert!(crop.width() <= w && crop.height() <= h);
                // Rounded outwards by less than a pixel on one side and two on the other.
                prop_assert!(crop.width() as f32 <= cw + 3.0 && crop.height() as f32 <= ch + 3.0);
                prop_assert!(max_side == 0 || crop.width().max(crop.height()) <= max_side);
                let bytes = jpeg(crop.view(), 75).unwrap();
                let (jw, jh, _) = decode(&bytes);
                prop_assert_eq!((jw as u32, jh as u32), (crop.width(), crop.height()));
                measure(source.view(), area).unwrap();
                rgb(crop.view(), max_side).unwrap();
            }
        }
    }
}
