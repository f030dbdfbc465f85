//! What SETUP makes: where media goes, what plays, and the numbers of its RTP stream.

use std::net::SocketAddr;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::player::{Pace, Player, Seeds};
use crate::rtcp::{self, SenderReport};
use crate::sdp::payload_type;
use crate::server::{Playing, Seen, Shared};
use crate::stats::add;

/// How media reaches the client.
#[derive(Debug)]
pub(crate) enum Channel {
    /// Interleaved in the RTSP connection, on these channels.
    Tcp { rtp: u8, rtcp: u8 },
    /// Datagrams to these addresses.
    Udp { rtp: SocketAddr, rtcp: SocketAddr, seen: Seen },
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) camera: usize,
    pub(crate) channel: Channel,
    pub(crate) player: Player,
    pub(crate) payload_type: u8,
    /// Present while it plays.
    pub(crate) playing: Option<Playing>,
    pub(crate) half_open: bool,
    /// Script steps below this number of units have been followed.
    pub(crate) script_from: u64,
    /// The lasting choice of clip that was last followed; an event may have switched since.
    pub(crate) lasting_clip: usize,
    pub(crate) next_report_ns: u64,
    pub(crate) packets: u32,
    pub(crate) payload_bytes: u32,
    pub(crate) random: StdRng,
}

impl Session {
    pub(crate) fn new(shared: &Arc<Shared>, camera: usize, clip_index: usize, channel: Channel) -> Self {
        let config = &shared.config;
        let number = shared.next_session();
        // Equal seeds, equal streams: what differs is told apart by multiplying with large odd numbers (splitmix64).
        let seed = config.seed
            ^ (camera as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ number.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mut random = StdRng::seed_from_u64(seed);
        let clip = Arc::clone(&shared.clips[clip_index]);
        let unit = if config.stagger { clip.key_frame_for(camera, config.cameras) } else { 0 };
        let phase_ns =
            config.stagger.then(|| (shared.cameras[camera].phase * clip.interval_ns() as f64 / config.speed) as u64);
        let pace =
            Pace { speed: config.speed, repeat: config.repeat, backlog_ns: config.backlog_ms * 1_000_000, phase_ns };
        // Clients take a first sequence number of 0 or 1 for a mistake of the camera.
        let seeds =
            Seeds { sequence: random.random_range(2..=u16::MAX), timestamp: random.random(), ssrc: random.random() };
        add(&shared.cameras[camera].counters.sessions, 1);
        Self {
            id: format!("{:016X}", rand::random::<u64>()),
            camera,
            channel,
            payload_type: payload_type(clip.params().codec),
            player: Player::new(clip, unit, pace, seeds),
            playing: None,
            half_open: false,
            script_from: 0,
            lasting_clip: clip_index,
            next_report_ns: 0,
            packets: 0,
            payload_bytes: 0,
            random,
        }
    }

    /// Goes on with another clip.
    pub(crate) fn show(&mut self, shared: &Shared, clip: usize) {
        let clip = Arc::clone(&shared.clips[clip]);
        self.payload_type = payload_type(clip.params().codec);
        self.player.switch(clip);
    }

    /// Tells the camera's counters what the player dropped.
    pub(crate) fn count_dropped(&mut self, shared: &Shared) {
        let dropped = self.player.take_dropped();
        if dropped > 0 {
            add(&shared.cameras[self.camera].counters.units_dropped, dropped);
        }
    }

    /// Goes on as another RTP source.
    pub(crate) fn reseed(&mut self) {
        self.player.reseed(self.random.random(), self.random.random());
        self.packets = 0;
        self.payload_bytes = 0;
        self.next_report_ns = 0;
    }

    /// A sender report of this moment.
    pub(crate) fn report(&self, shared: &Shared, now_ns: u64) -> Vec<u8> {
        rtcp::sender_report(&SenderReport {
            ssrc: self.player.next().ssrc,
            wall_ns: shared.config.clock.wall_ns(),
            timestamp: self.player.timestamp_at(now_ns),
            packets: self.packets,
            payload_bytes: self.payload_bytes,
            canonical_name: &shared.cameras[self.camera].path,
        })
    }

    /// The end of the stream.
    pub(crate) fn goodbye(&self) -> Vec<u8> {
        rtcp::goodbye(self.player.next().ssrc)
    }
}
