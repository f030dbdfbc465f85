//! Clips and clients that the tests of this crate share.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use facestream_core::SourceUrl;
use facestream_core::media::{Codec, StreamParams};
use facestream_sim::{Clip, ClipUnit};
use futures::StreamExt as _;
use retina::client::{Demuxed, PlayOptions, Session, SessionOptions, SetupOptions, Transport};
use retina::codec::CodecItem;
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Nothing here takes that long on a machine that works.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Real parameter sets (x264, High, 320x240) before units of made-up slices, all of them different.
pub(crate) fn h264(units: usize, gop: usize, bytes: usize) -> Arc<Clip> {
    let sets: &[u8] = &[
        0, 0, 0, 1, 0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41, 0x41, 0xfb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10,
        0x00, 0x00, 0x03, 0x03, 0x20, 0xf1, 0x42, 0x99, 0x60, 0, 0, 0, 1, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0,
    ];
    let params = StreamParams {
        codec: Codec::H264,
        size: Some((320, 240)),
        parameter_sets: Bytes::from_static(sets),
        frame_rate: Some(25.0),
    };
    // first_mb_in_slice = 0 is one set bit: each unit is one whole picture.
    made_up(params, units, gop, bytes, &[0x65, 0x88], &[0x41, 0x9a])
}

/// The same for H.265 (x265, Main, 320x240).
pub(crate) fn h265(units: usize, gop: usize, bytes: usize) -> Arc<Clip> {
    let sets = h265_parameter_sets();
    let params =
        StreamParams { codec: Codec::H265, size: Some((320, 240)), parameter_sets: sets, frame_rate: Some(25.0) };
    // IDR_W_RADL and TRAIL_R with first_slice_segment_in_pic_flag set.
    made_up(params, units, gop, bytes, &[0x26, 0x01, 0xaf], &[0x02, 0x01, 0xd0])
}

fn h265_parameter_sets() -> Bytes {
    let sets: [&[u8]; 3] = [VPS, SPS, PPS];
    sets.iter().flat_map(|set| [&[0, 0, 0, 1], *set].concat()).collect()
}

/// Parameter sets of x265, Main profile, 320x240, 25 frames a second.
const VPS: &[u8] = &[
    0x40, 0x01, 0x0c, 0x01, 0xff, 0xff, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03,
    0x00, 0x3c, 0x95, 0x98, 0x09,
];
/// See [`VPS`].
const SPS: &[u8] = &[
    0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x3c, 0xa0,
    0x0a, 0x08, 0x0f, 0x16, 0x59, 0x59, 0xa4, 0x93, 0x2b, 0xc0, 0x5a, 0x02, 0x00, 0x00, 0x03, 0x00, 0x02, 0x00, 0x00,
    0x03, 0x00, 0x32, 0x10,
];
/// See [`VPS`].
const PPS: &[u8] = &[0x44, 0x01, 0xc1, 0x72, 0xb4, 0x62, 0x40];

fn made_up(params: StreamParams, units: usize, gop: usize, bytes: usize, key: &[u8], delta: &[u8]) -> Arc<Clip> {
    let sets = params.parameter_sets.clone();
    let units = (0..units).map(|i| {
        let keyframe = i % gop == 0;
        let mut data = if keyframe { sets.to_vec() } else { Vec::new() };
        data.extend([0, 0, 0, 1]);
        data.extend(if keyframe { key } else { delta });
        // No zero bytes: nothing looks like a start code. Key frames are larger, as they are.
        let size = if keyframe { bytes * 4 } else { bytes };
        data.extend((0..size).map(|j| ((i * 7 + j * 3) % 250) as u8 + 1));
        ClipUnit { data: data.into(), pts_ns: i as u64 * 40_000_000, keyframe }
    });
    Arc::new(Clip::from_units(params, units.collect()).expect("made-up units are fine"))
}

/// NAL units of an Annex B stream, delimiters left out (retina does so, too).
pub(crate) fn nals(data: &[u8]) -> Vec<Vec<u8>> {
    let mut starts: Vec<usize> = data.windows(3).enumerate().filter(|(_, w)| *w == [0, 0, 1]).map(|(i, _)| i).collect();
    starts.push(data.len());
    starts.windows(2).map(|w| trim(&data[w[0] + 3..w[1]])).filter(|nal| !nal.is_empty()).collect()
}

fn trim(nal: &[u8]) -> Vec<u8> {
    let end = nal.iter().rposition(|&b| b != 0).map_or(0, |i| i + 1);
    nal[..end].to_vec()
}

/// What a client received.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) data: Vec<u8>,
    pub(crate) nals: Vec<Vec<u8>>,
    pub(crate) keyframe: bool,
    /// RTP ticks since the first.
    pub(crate) elapsed: i64,
    pub(crate) loss: u16,
}

/// A client we did not write.
pub(crate) struct Client(Demuxed);

impl Client {
    pub(crate) async fn open(url: &SourceUrl, udp: bool) -> Result<Self, retina::Error> {
        let credentials = url.user().map(|user| retina::client::Credentials {
            username: user.to_owned(),
            password: url.password().map(|p| p.expose_secret().to_owned()).unwrap_or_default(),
        });
        let options = SessionOptions::default().creds(credentials);
        let mut session = Session::describe(url.bare().clone(), options).await?;
        let transport = if udp { Transport::Udp(Default::default()) } else { Transport::Tcp(Default::default()) };
        let setup = SetupOptions::default().transport(transport).frame_format(retina::codec::FrameFormat::SIMPLE);
        session.setup(0, setup).await?;
        Ok(Self(session.play(PlayOptions::default()).await?.demuxed()?))
    }

    /// The next access unit; `None` at the end of the connection, orderly or not.
    pub(crate) async fn next(&mut self) -> Option<Received> {
        loop {
            match tokio::time::timeout(LIMIT, self.0.next()).await.expect("something comes within the limit")? {
                Ok(CodecItem::VideoFrame(frame)) => {
                    return Some(Received {
                        data: frame.data().to_vec(),
                        nals: nals(frame.data()),
                        keyframe: frame.is_random_access_point(),
                        elapsed: frame.timestamp().elapsed(),
                        loss: frame.loss(),
                    });
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    pub(crate) fn streams(&self) -> &[retina::client::Stream] {
        self.0.streams()
    }
}

/// A client that says what it is told to.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    cseq: u32,
}

impl Raw {
    pub(crate) async fn connect(address: std::net::SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the simulator listens");
        Self { stream, buffer: Vec::new(), cseq: 0 }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the simulator reads");
    }

    /// Sends a request and returns the answer's status line and headers.
    pub(crate) async fn ask(&mut self, method: &str, uri: &str, headers: &str) -> String {
        self.cseq += 1;
        let text = format!("{method} {uri} RTSP/1.0\r\nCSeq: {}\r\n{headers}\r\n", self.cseq);
        self.send(text.as_bytes()).await;
        self.answer().await.expect("the simulator answers")
    }

    /// The next answer with its body, interleaved data left out; `None` at the end.
    pub(crate) async fn answer(&mut self) -> Option<String> {
        loop {
            match self.message().await? {
                Ok(answer) => return Some(answer),
                Err(_data) => {}
            }
        }
    }

    /// The next answer, or interleaved data with its channel.
    pub(crate) async fn message(&mut self) -> Option<Result<String, (u8, Vec<u8>)>> {
        loop {
            if let Some(message) = self.take() {
                return Some(message);
            }
            let mut chunk = [0; 4096];
            let read = tokio::time::timeout(LIMIT, self.stream.read(&mut chunk)).await.expect("something comes");
            match read {
                Ok(n) if n > 0 => self.buffer.extend_from_slice(&chunk[..n]),
                _ => return None,
            }
        }
    }

    fn take(&mut self) -> Option<Result<String, (u8, Vec<u8>)>> {
        if self.buffer.first() == Some(&b'$') {
            let length = usize::from(u16::from_be_bytes([*self.buffer.get(2)?, *self.buffer.get(3)?]));
            let data = self.buffer.get(4..4 + length)?.to_vec();
            let channel = self.buffer[1];
            self.buffer.drain(..4 + length);
            return Some(Err((channel, data)));
        }
        let head = self.buffer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(&self.buffer[..head]).into_owned();
        let length = text.lines().find_map(|l| l.strip_prefix("Content-Length: ")).map_or(0, |n| n.parse().unwrap());
        let body = String::from_utf8_lossy(self.buffer.get(head..head + length)?).into_owned();
        self.buffer.drain(..head + length);
        Some(Ok(text + &body))
    }

    /// SETUP over TCP and PLAY; returns the session id.
    pub(crate) async fn play(&mut self, url: &str) -> String {
        let setup =
            self.ask("SETUP", &format!("{url}/trackID=0"), "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n").await;
        assert!(setup.starts_with("RTSP/1.0 200"), "{setup}");
        let id = header(&setup, "Session").split(';').next().unwrap().to_owned();
        let play = self.ask("PLAY", url, &format!("Session: {id}\r\nRange: npt=0-\r\n")).await;
        assert!(play.starts_with("RTSP/1.0 200"), "{play}");
        id
    }
}

/// A header's value; empty without it.
pub(crate) fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    answer.lines().find_map(|l| l.split_once(": ").filter(|(n, _)| *n == name)).map_or("", |(_, value)| value.trim())
}

pub(crate) fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
}
