//! Writing: answers, reports and media of one connection, without ever waiting.
//!
//! Owns what is half written. A unit in progress comes first, as a packet must not be torn; then answers and reports.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use rand::Rng as _;
use tokio::net::TcpStream;

use super::session::{Channel, Session};
use crate::clip::Clip;
use crate::faults::CameraFaults;
use crate::packetize::{MAX_PACKET_BYTES, Packet, RTP_HEADER_BYTES};
use crate::player::Outgoing;
use crate::server::Shared;
use crate::stats::add;

/// `$`, channel, length (RFC 2326 10.12).
const INTERLEAVED_BYTES: usize = 4;
const HEAD_BYTES: usize = INTERLEAVED_BYTES + RTP_HEADER_BYTES;
/// Packets of one vectored write: two slices each, and the system takes 1024 slices (IOV_MAX).
const MAX_PACKETS_A_WRITE: usize = 512;
/// A key frame at once would overflow a client's default receive buffer (212,992 bytes on Linux, which holds some 90
/// packets): cameras pace their packets, so does this.
const DATAGRAMS_A_BURST: usize = 24;
const DATAGRAM_PAUSE: Duration = Duration::from_millis(1);

/// How far writing got.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing is left.
    Done,
    /// The client has to read first.
    Blocked,
    /// Go on after a pause.
    Paced(Duration),
}

#[derive(Clone, Debug)]
struct InProgress {
    clip: Arc<Clip>,
    camera: usize,
    /// Where datagrams go; `None`: interleaved.
    client: Option<SocketAddr>,
    lost: usize,
}

#[derive(Debug, Default)]
pub(super) struct Output {
    /// Answers and reports.
    control: BytesMut,
    /// The unit in progress; it outlives its session, as a packet begun on a connection has to be finished.
    unit: Option<InProgress>,
    /// Packets of the unit in progress with their headers.
    packets: Vec<([u8; HEAD_BYTES], Packet)>,
    /// How many of them are out.
    next: usize,
    /// Bytes of the next one that are out already.
    written: usize,
}

impl Output {
    /// Bytes of answers and reports that wait.
    pub(super) fn unsent(&self) -> usize {
        self.control.len()
    }

    /// Queues an answer.
    pub(super) fn answer(&mut self, bytes: &[u8]) {
        self.control.extend_from_slice(bytes);
    }

    /// Sends or queues an RTCP packet. It may get lost when the client does not read: the next one tells the same.
    pub(super) fn report(&mut self, shared: &Shared, session: &Session, packet: &[u8]) {
        match &session.channel {
            Channel::Tcp { rtcp, .. } if self.control.len() < super::MAX_UNSENT_BYTES => {
                // RTCP packets here have less than 300 bytes.
                let length = (packet.len() as u16).to_be_bytes();
                self.control.extend_from_slice(&[b'$', *rtcp, length[0], length[1]]);
                self.control.extend_from_slice(packet);
            }
            Channel::Tcp { .. } => {}
            Channel::Udp { rtcp, .. } => {
                if let Err(error) = shared.udp.rtcp.try_send_to(packet, *rtcp) {
                    tracing::debug!(%error, client = %rtcp, "report not sent");
                }
            }
        }
    }

    /// Takes the next unit; the one before must be out.
    pub(super) fn load(&mut self, unit: Outgoing, session: &mut Session, faults: &CameraFaults) {
        debug_assert_eq!(self.next, self.packets.len());
        self.packets.clear();
        self.next = 0;
        self.written = 0;
        let (channel, client) = match session.channel {
            Channel::Tcp { rtp, .. } => (rtp, None),
            Channel::Udp { rtp, .. } => (0, Some(rtp)),
        };
        let payloads = unit.clip.payloads();
        let mut lost = 0;
        for (i, &packet) in payloads.unit(unit.unit).iter().enumerate() {
            if faults.lose_one_in > 0 && session.random.random_range(0..faults.lose_one_in) == 0 {
                lost += 1;
                continue;
            }
            let mut head = [0; HEAD_BYTES];
            let length = RTP_HEADER_BYTES + payloads.payload(packet).len();
            head[0] = b'$';
            head[1] = channel;
            // At most MAX_PACKET_BYTES.
            head[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            head[4] = 0x80;
            head[5] = session.payload_type | if packet.marker { 0x80 } else { 0 };
            // The index wraps as sequence numbers do.
            head[6..8].copy_from_slice(&unit.sequence.wrapping_add(i as u16).to_be_bytes());
            head[8..12].copy_from_slice(&unit.timestamp.to_be_bytes());
            head[12..16].copy_from_slice(&unit.ssrc.to_be_bytes());
            self.packets.push((head, packet));
        }
        self.unit = Some(InProgress { clip: unit.clip, camera: session.camera, client, lost });
    }

    /// Forgets what is left of the unit in progress, but for a packet that has begun.
    pub(super) fn cut(&mut self) {
        self.packets.truncate(self.next + usize::from(self.written > 0));
    }

    /// Writes until nothing is left or the client has to read first.
    pub(super) fn write(
        &mut self,
        shared: &Shared,
        stream: &TcpStream,
        session: Option<&mut Session>,
        faults: &CameraFaults,
    ) -> io::Result<Progress> {
        let limit = if faults.write_bytes == 0 { usize::MAX } else { faults.write_bytes };
        if let Some(unit) = self.unit.clone() {
            let progress = match unit.client {
                None => self.write_interleaved(&unit.clip, stream, limit)?,
                Some(client) => self.write_datagrams(&unit.clip, shared, client),
            };
            if progress != Progress::Done {
                // Datagrams do not hold up answers.
                let held = progress != Progress::Blocked && self.write_control(stream, limit)? == Progress::Blocked;
                return Ok(if held { Progress::Blocked } else { progress });
            }
            self.account(&unit, shared, session);
        }
        self.write_control(stream, limit)
    }

    /// Counts a unit that is out.
    fn account(&mut self, unit: &InProgress, shared: &Shared, session: Option<&mut Session>) {
        let counters = &shared.cameras[unit.camera].counters;
        let payloads = unit.clip.payloads();
        let bytes: usize = self.packets.iter().map(|(_, packet)| payloads.payload(*packet).len()).sum();
        let packets = self.packets.len();
        add(&counters.units_sent, 1);
        add(&counters.packets_sent, packets as u64);
        add(&counters.packets_lost, unit.lost as u64);
        add(&counters.bytes_sent, (bytes + packets * RTP_HEADER_BYTES) as u64);
        if let Some(session) = session {
            // Counts of sender reports wrap at 32 bits (RFC 3550 6.4.1).
            session.packets = session.packets.wrapping_add(packets as u32);
            session.payload_bytes = session.payload_bytes.wrapping_add(bytes as u32);
        }
        self.packets.clear();
        self.next = 0;
        self.unit = None;
    }

    fn write_control(&mut self, stream: &TcpStream, limit: usize) -> io::Result<Progress> {
        while !self.control.is_empty() {
            let end = self.control.len().min(limit);
            match stream.try_write(&self.control[..end]) {
                Ok(n) => self.control.advance(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::Blocked),
                Err(error) => return Err(error),
            }
        }
        Ok(Progress::Done)
    }

    fn write_interleaved(&mut self, clip: &Clip, stream: &TcpStream, limit: usize) -> io::Result<Progress> {
        let payloads = clip.payloads();
        while self.next < self.packets.len() {
            let batch = &self.packets[self.next..self.packets.len().min(self.next + MAX_PACKETS_A_WRITE)];
            let mut slices = Vec::with_capacity(batch.len() * 2);
            let mut skip = self.written;
            for (head, packet) in batch {
                for part in [head.as_slice(), payloads.payload(*packet)] {
                    let rest = &part[skip.min(part.len())..];
                    skip = skip.saturating_sub(part.len());
                    if !rest.is_empty() {
                        slices.push(IoSlice::new(rest));
                    }
                }
            }
            let result = match slices.first() {
                Some(first) if limit < usize::MAX => stream.try_write(&first[..first.len().min(limit)]),
                _ => stream.try_write_vectored(&slices),
            };
            match result {
                Ok(n) => self.forward(clip, n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::Blocked),
                Err(error) => return Err(error),
            }
        }
        Ok(Progress::Done)
    }

    /// Notes that so many bytes are out.
    fn forward(&mut self, clip: &Clip, bytes: usize) {
        self.written += bytes;
        while let Some((_, packet)) = self.packets.get(self.next) {
            let length = HEAD_BYTES + clip.payloads().payload(*packet).len();
            if self.written < length {
                return;
            }
            self.written -= length;
            self.next += 1;
        }
    }

    fn write_datagrams(&mut self, clip: &Clip, shared: &Shared, client: SocketAddr) -> Progress {
        let mut datagram = [0u8; MAX_PACKET_BYTES];
        for _ in 0..DATAGRAMS_A_BURST {
            let Some((head, packet)) = self.packets.get(self.next) else { return Progress::Done };
            let payload = clip.payloads().payload(*packet);
            let length = RTP_HEADER_BYTES + payload.len();
            datagram[..RTP_HEADER_BYTES].copy_from_slice(&head[INTERLEAVED_BYTES..]);
            datagram[RTP_HEADER_BYTES..length].copy_from_slice(payload);
            match shared.udp.rtp.try_send_to(&datagram[..length], client) {
                // Our own send buffer is full: the pause lets it drain.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Paced(DATAGRAM_PAUSE),
                Err(error) => tracing::debug!(%error, %client, "datagram not sent"),
                Ok(_) => {}
            }
            self.next += 1;
        }
        if self.next < self.packets.len() { Progress::Paced(DATAGRAM_PAUSE) } else { Progress::Done }
    }
}
