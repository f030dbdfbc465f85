//! The demo clips: units, frames, and agreement with the ffmpeg program to the last bit.

mod common;

use common::{Rig, luma, raw, text, units};
use facestream_core::media::Codec;
use facestream_core::metrics::{Counter, DropReason};
use facestream_decode::{ClipReader, DecodeConfig, FileSource};
use facestream_test_support::asset_or_skip;

fn nal_kinds(codec: Codec, data: &[u8]) -> Vec<u8> {
    data.windows(4)
        .filter(|w| w[..3] == [0, 0, 1])
        .map(|w| if codec == Codec::H264 { w[3] & 0x1f } else { (w[3] >> 1) & 0x3f })
        .collect()
}

#[test]
fn h264_units_are_annex_b_with_parameter_sets_at_key_frames() {
    let path = asset_or_skip!("clips/pan720.mp4");
    let clip = ClipReader::open(&path).unwrap();
    assert_eq!(clip.params().codec, Codec::H264);
    assert_eq!(clip.params().size, Some((1280, 720)));
    assert_eq!(clip.frame_rate(), Some(25.0));
    assert_eq!(clip.duration_ns(), Some(10_000_000_000));
    assert_eq!(clip.frame_count_estimate(), Some(250));
    assert!(clip.params().parameter_sets.starts_with(&[0, 0, 0, 1]));
    let units = units(&path);
    assert_eq!(units.len(), 250);
    assert!(units[0].keyframe);
    for (i, unit) in units.iter().enumerate() {
        assert_eq!(unit.sequence, i as u64);
        assert!(unit.data.starts_with(&[0, 0, 0, 1]) || unit.data.starts_with(&[0, 0, 1]));
        let kinds = nal_kinds(Codec::H264, &unit.data);
        assert_eq!(unit.keyframe, kinds.contains(&5), "unit {i}: {kinds:?}");
        if unit.keyframe {
            assert!(kinds.contains(&7) && kinds.contains(&8), "unit {i}: {kinds:?}");
        }
    }
    let mut times: Vec<_> = units.iter().map(|u| u.timestamp_ns).collect();
    times.sort_unstable();
    assert!(times.iter().enumerate().all(|(i, &t)| t == i as u64 * 40_000_000), "25 a second from 0");
}

#[test]
fn h265_units_carry_vps_sps_pps() {
    let path = asset_or_skip!("clips/pan720-h265.mp4");
    let clip = ClipReader::open(&path).unwrap();
    assert_eq!(clip.params().codec, Codec::H265);
    let units = units(&path);
    assert_eq!(units.len(), 100);
    for unit in units.iter().filter(|u| u.keyframe) {
        let kinds = nal_kinds(Codec::H265, &unit.data);
        assert!([32, 33, 34].iter().all(|k| kinds.contains(k)), "{kinds:?}");
    }
}

#[test]
fn live_and_file_decoding_agree_and_nothing_is_lost() {
    for clip in ["clips/pan720.mp4", "clips/pan720-h265.mp4"] {
        let path = asset_or_skip!(clip);
        let units = units(&path);
        let mut rig = Rig::new(&path, &DecodeConfig::default());
        rig.feed(&units).unwrap();
        rig.flush().unwrap();
        assert_eq!(rig.frames.len(), units.len());
        assert_eq!(rig.metrics.get(Counter::Decoded), units.len() as u64);
        assert_eq!(rig.metrics.drops(DropReason::DecodeError), 0);
        let mut file = FileSource::open(&path, &DecodeConfig::default(), None).unwrap();
        for (i, live) in rig.frames.iter().enumerate() {
            let from_file = file.next().expect("as many frames").unwrap();
            assert_eq!(live.info, from_file.info, "frame {i} of {clip}");
            assert_eq!(live.info.sequence, i as u64);
            assert_eq!(live.info.timestamp_ns, i as u64 * 40_000_000);
            assert_eq!(live.info.captured_at_ns, live.info.timestamp_ns);
            if i % 25 == 0 {
                assert_eq!(luma(live), luma(&from_file), "frame {i} of {clip}");
            }
        }
        assert!(file.next().is_none());
        assert_eq!((file.errors(), file.damaged()), (0, 0));
    }
}

#[test]
fn decoded_bytes_equal_those_of_the_ffmpeg_program() {
    for clip in ["clips/pan720.mp4", "clips/pan720-h265.mp4"] {
        let path = asset_or_skip!(clip);
        let dir = tempfile::tempdir().unwrap();
        let expected = dir.path().join("out.yuv");
        ok_or_skip!(common::ffmpeg(&["-i", text(&path), "-frames:v", "30", "-f", "rawvideo", text(&expected)]));
        let expected = std::fs::read(expected).unwrap();
        let got: Vec<u8> = FileSource::open(&path, &DecodeConfig::default(), None)
            .unwrap()
            .take(30)
            .flat_map(|frame| raw(&frame.unwrap()))
            .collect();
        assert_eq!(got.len(), expected.len());
        assert!(
            got == expected,
            "{clip}: first difference at byte {:?}",
            got.iter().zip(&expected).position(|(a, b)| a != b)
        );
    }
}

#[test]
fn frames_share_the_decoders_memory_and_outlive_it() {
    let path = asset_or_skip!("clips/pan720.mp4");
    let mut source = FileSource::open(&path, &DecodeConfig::default(), None).unwrap();
    let first = source.next().unwrap().unwrap();
    let before = luma(&first);
    assert!(first.picture.bytes() >= 1280 * 720 * 3 / 2 && first.picture.bytes() < 1280 * 720 * 3);
    let held: Vec<_> = source.by_ref().take(40).map(Result::unwrap).collect();
    drop(source);
    assert_eq!(luma(&first), before, "a frame that is held is never written again");
    assert_eq!(held.len(), 40);
    let crop = first.picture.crop(facestream_core::Rect { x: 100.0, y: 50.0, width: 64.0, height: 80.0 }, 0).unwrap();
    assert_eq!((crop.width(), crop.height()), (64, 80));
    let planes = crop.planes().unwrap();
    assert_eq!(&planes.y[..64], &before[50 * 1280 + 100..][..64]);
}
