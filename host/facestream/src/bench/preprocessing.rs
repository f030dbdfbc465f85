//! The letterbox kernel: pictures a second and bytes a second, beside the card's own copying.

use std::time::Instant;

use facestream_core::frame::ColorMatrix;
use facestream_gpu::{Buffer, Colour, Colours, DevicePicture, Placement, Tap, Target};
use serde::Serialize;

use super::Bench;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Line {
    images_per_launch: usize,
    microseconds_per_launch: f64,
    /// NV12 in, tensor out.
    gigabytes_per_second: f64,
    /// Device memory to device memory, read and written.
    copy_gigabytes_per_second: f64,
}

/// 1920x1080 to 640x360 inside 640x640, the usual case.
const SIDE: u32 = 640;
const INNER: (u32, u32) = (640, 360);
const SOURCE: (u32, u32) = (1920, 1080);

pub(super) fn measure(bench: &Bench<'_>) -> anyhow::Result<Line> {
    let (gpu, images, launches) = (&bench.gpu, 16, 200);
    let stream = gpu.stream()?;
    let colour = Colour { full_range: false, matrix: ColorMatrix::Bt709 };
    let grey = vec![128u8; (SOURCE.0 * SOURCE.1 * 3 / 2) as usize];
    let pictures = (0..images)
        .map(|_| DevicePicture::upload(&grey, SOURCE.0, SOURCE.1, colour, &stream))
        .collect::<Result<Vec<_>, _>>()?;
    // Every third pixel, as bilinear scaling by exactly three takes them.
    let taps: Vec<Tap> = (0..INNER.0 + INNER.1)
        .map(|n| if n < INNER.0 { n } else { n - INNER.0 })
        .map(|n| Tap { first: 3 * n + 1, second: 3 * n + 2, weight: 0.0 })
        .collect();
    let table = Buffer::new(gpu, size_of_val(taps.as_slice()))?;
    stream.upload(&taps, &table, 0)?;
    let tensor_bytes = images * 3 * (SIDE * SIDE) as usize * size_of::<f32>();
    let tensor = Buffer::new(gpu, tensor_bytes)?;
    let colours = Colours { y_offset: 16.0, gain: 1.164, rv: 1.793, gu: -0.213, gv: -0.533, bu: 2.112 };
    let placements: Vec<Placement<'_>> = pictures
        .iter()
        .enumerate()
        .map(|(slot, picture)| Placement { picture, slot, taps: &table, inner: INNER, offset: (0, 140), colours })
        .collect();
    let target = Target { width: SIDE as i32, height: SIDE as i32, red: 0, blue: 2, scale: 1.0 / 255.0, fill: 114.0 };
    let timed = |work: &dyn Fn() -> anyhow::Result<()>| -> anyhow::Result<f64> {
        for _ in 0..10 {
            work()?;
        }
        stream.synchronize()?;
        let started = Instant::now();
        for _ in 0..launches {
            work()?;
        }
        stream.synchronize()?;
        Ok(started.elapsed().as_secs_f64() / f64::from(launches))
    };
    let seconds = timed(&|| Ok(stream.letterbox(&placements, &target, &tensor)?))?;
    let bytes = images * grey.len() + tensor_bytes;
    let (from, to) = (Buffer::new(gpu, 1 << 28)?, Buffer::new(gpu, 1 << 28)?);
    let copying = timed(&|| Ok(stream.copy(&from, &to)?))?;
    let line = Line {
        images_per_launch: images,
        microseconds_per_launch: seconds * 1e6,
        gigabytes_per_second: bytes as f64 / seconds / 1e9,
        copy_gigabytes_per_second: 2.0 * f64::from(1 << 28) / copying / 1e9,
    };
    println!(
        "preprocess: {} images of 1080p in {:.1} us = {:.0} GB/s (copying: {:.0} GB/s)",
        line.images_per_launch, line.microseconds_per_launch, line.gigabytes_per_second, line.copy_gigabytes_per_second
    );
    Ok(line)
}
