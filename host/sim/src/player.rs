//! Where one session stands in the clip: which unit is next, when, and with which sequence number and timestamp.
//!
//! Owns pacing, looping with continuous timestamps and dropping for slow clients. Pure: time comes in as nanoseconds since
//! the server's start, so tests need no clock. Must not do I/O.

use std::sync::Arc;

use crate::clip::Clip;

/// What a session has to do now.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Send this unit.
    Send(Outgoing),
    /// Nothing before this time.
    Wait(u64),
    /// The clip is over and is not repeated.
    Finished,
}

/// A unit with its place in the RTP stream.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) clip: Arc<Clip>,
    pub(crate) unit: usize,
    /// Sequence number of its first packet.
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
}

/// First values of an RTP stream: random, as RFC 3550 5.1 asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seeds {
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
}

/// How a session plays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) speed: f64,
    pub(crate) repeat: bool,
    /// A client may lag behind by this much.
    pub(crate) backlog_ns: u64,
    /// Sends happen when the server's time, modulo the frame interval, is this; `None`: begin at once.
    pub(crate) phase_ns: Option<u64>,
}

/// See the module. Media time counts from the session's first unit at normal speed.
#[derive(Debug)]
pub(crate) struct Player {
    clip: Arc<Clip>,
    unit: usize,
    /// Media time at which this pass of the clip began; negative in the first pass of a session that begins later in it.
    pass_ns: i64,
    /// Server time of media time zero; moves when playing pauses.
    origin_ns: u64,
    pace: Pace,
    seeds: Seeds,
    finished: bool,
    /// Units sent or dropped.
    passed: u64,
    dropped: u64,
}

impl Player {
    /// Stands before a key frame of a clip.
    pub(crate) fn new(clip: Arc<Clip>, unit: usize, pace: Pace, seeds: Seeds) -> Self {
        let pass_ns = -signed(clip.due_ns(unit));
        Self { clip, unit, pass_ns, origin_ns: 0, pace, seeds, finished: false, passed: 0, dropped: 0 }
    }

    /// Begins or goes on: the next unit is due now, or at the next moment of the phase.
    pub(crate) fn play(&mut self, now_ns: u64) {
        let wait = self.pace.phase_ns.map_or(0, |phase| {
            let interval = self.scaled(signed(self.clip.interval_ns())).max(1);
            // Distance from now up to the next moment that leaves remainder `phase`.
            (phase % interval + interval - now_ns % interval) % interval
        });
        // Media already played lies before `now`, except when the server is younger than the session's media time, which
        // cannot be: it was sent in this server's time, at the pace of its clock.
        self.origin_ns = (now_ns + wait).saturating_sub(self.scaled(self.media_ns()));
    }

    /// What to do now. Drops units when the client lags too far behind; see [`Self::take_dropped`].
    pub(crate) fn step(&mut self, now_ns: u64) -> Step {
        if self.finished {
            return Step::Finished;
        }
        self.drop_late(now_ns);
        if self.finished {
            return Step::Finished;
        }
        let due = self.due_ns();
        if due > now_ns {
            return Step::Wait(due);
        }
        let out = Outgoing {
            clip: Arc::clone(&self.clip),
            unit: self.unit,
            sequence: self.seeds.sequence,
            timestamp: self.timestamp(),
            ssrc: self.seeds.ssrc,
        };
        self.advance();
        Step::Send(out)
    }

    /// Drops units when the client lags too far behind; tells when to look again if it goes on not reading.
    pub(crate) fn drop_late(&mut self, now_ns: u64) -> u64 {
        if !self.finished && now_ns.saturating_sub(self.due_ns()) > self.pace.backlog_ns {
            self.drop_to_key_frame(now_ns);
        }
        self.due_ns().saturating_add(self.pace.backlog_ns + 1)
    }

    /// Sequence number, timestamp and SSRC of the next unit, for `RTP-Info`.
    pub(crate) fn next(&self) -> Seeds {
        Seeds { timestamp: self.timestamp(), ..self.seeds }
    }

    /// The RTP timestamp of this very moment, for sender reports.
    pub(crate) fn timestamp_at(&self, now_ns: u64) -> u32 {
        self.seeds.timestamp.wrapping_add(ticks(signed(now_ns) - signed(self.origin_ns)))
    }

    /// Units sent or dropped so far.
    pub(crate) fn passed(&self) -> u64 {
        self.passed
    }

    /// Units dropped since the last call.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Goes on with another clip, from its beginning, timestamps continuous.
    pub(crate) fn switch(&mut self, clip: Arc<Clip>) {
        self.pass_ns = self.media_ns();
        self.unit = 0;
        self.clip = clip;
        self.finished = false;
    }

    /// Moves all later timestamps.
    pub(crate) fn jump(&mut self, by_ms: i64) {
        self.seeds.timestamp = self.seeds.timestamp.wrapping_add(ticks(by_ms.saturating_mul(1_000_000)));
    }

    /// Goes on as another source.
    pub(crate) fn reseed(&mut self, ssrc: u32, sequence: u16) {
        self.seeds = Seeds { ssrc, sequence, ..self.seeds };
    }

    /// Media time of sending the next unit.
    fn media_ns(&self) -> i64 {
        self.pass_ns + signed(self.clip.due_ns(self.unit))
    }

    fn due_ns(&self) -> u64 {
        self.origin_ns + self.scaled(self.media_ns())
    }

    fn timestamp(&self) -> u32 {
        let presented = self.pass_ns + signed(self.clip.units()[self.unit].pts_ns);
        self.seeds.timestamp.wrapping_add(ticks(self.scaled_signed(presented)))
    }

    fn scaled(&self, media_ns: i64) -> u64 {
        u64::try_from(self.scaled_signed(media_ns)).unwrap_or(0)
    }

    fn scaled_signed(&self, media_ns: i64) -> i64 {
        // Exact at normal speed: a float would lose nanoseconds after 104 days.
        if self.pace.speed == 1.0 { media_ns } else { (media_ns as f64 / self.pace.speed) as i64 }
    }

    fn advance(&mut self) {
        // A packet count beyond 65,535 wraps as the sequence number does.
        let packets = self.clip.payloads().unit(self.unit).len() as u16;
        self.seeds.sequence = self.seeds.sequence.wrapping_add(packets);
        self.passed += 1;
        if self.unit + 1 < self.clip.units().len() {
            self.unit += 1;
        } else if self.pace.repeat {
            self.unit = 0;
            self.pass_ns += signed(self.clip.duration_ns());
        } else {
            self.finished = true;
        }
    }

    /// At least one unit goes, and all up to a key frame that is not too late.
    fn drop_to_key_frame(&mut self, now_ns: u64) {
        loop {
            self.advance();
            self.dropped += 1;
            let late = now_ns.saturating_sub(self.due_ns()) > self.pace.backlog_ns;
            if self.finished || (self.clip.units()[self.unit].keyframe && !late) {
                return;
            }
        }
    }
}

fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

/// Nanoseconds to ticks of the 90 kHz clock that all video payload formats here have; wraps as RTP timestamps do.
fn ticks(ns: i64) -> u32 {
    (i128::from(ns) * 9).div_euclid(100_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::tests::synthetic;

    const MS: u64 = 1_000_000;

    fn player(clip: Clip, unit: usize, pace: Pace) -> Player {
        Player::new(Arc::new(clip), unit, pace, Seeds { sequence: 65_530, timestamp: u32::MAX - 3600, ssrc: 7 })
    }

    fn pace() -> Pace {
        Pace { speed: 1.0, repeat: true, backlog_ns: 400 * MS, phase_ns: None }
    }

    /// Plays until a time, with a client that takes everything at once.
    fn play(player: &mut Player, until_ns: u64) -> Vec<(u64, Outgoing)> {
        let mut now = 0;
        let mut sent = Vec::new();
        loop {
            match player.step(now) {
                Step::Send(out) => sent.push((now, out)),
                Step::Wait(due) if due <= until_ns => now = due,
                Step::Wait(_) | Step::Finished => return sent,
            }
        }
    }

    #[test]
    fn timestamps_and_sequence_numbers_are_continuous_over_loops() {
        // 3000 bytes: three fragments a unit.
        let mut player = player(synthetic(10, 5, 3000), 0, pace());
        player.play(0);
        let sent = play(&mut player, 30 * 40 * MS - 1);
        assert_eq!(sent.len(), 30);
        for (i, (when, out)) in sent.iter().enumerate() {
            assert_eq!(*when, i as u64 * 40 * MS);
            assert_eq!(out.unit, i % 10);
            assert_eq!(out.timestamp, (u32::MAX - 3600).wrapping_add(i as u32 * 3600));
        }
        for pair in sent.windows(2) {
            let packets = pair[0].1.clip.payloads().unit(pair[0].1.unit).len() as u16;
            assert_eq!(pair[1].1.sequence, pair[0].1.sequence.wrapping_add(packets));
        }
    }

    #[test]
    fn a_clip_that_is_not_repeated_ends() {
        let mut player = player(synthetic(10, 5, 10), 5, Pace { repeat: false, ..pace() });
        player.play(0);
        assert_eq!(play(&mut player, 10_000 * MS).len(), 5);
        assert!(matches!(player.step(0), Step::Finished));
    }

    #[test]
    fn speed_shortens_both_waiting_and_timestamps() {
        let mut player = player(synthetic(10, 5, 10), 0, Pace { speed: 4.0, ..pace() });
        player.play(0);
        let sent = play(&mut player, 100 * MS - 1);
        assert_eq!(sent.len(), 10);
        assert_eq!(sent[9].1.timestamp.wrapping_sub(sent[0].1.timestamp), 9 * 900);
    }

    #[test]
    fn the_phase_decides_when_a_unit_is_due() {
        let mut player = player(synthetic(10, 5, 10), 0, Pace { phase_ns: Some(15 * MS), ..pace() });
        player.play(1_000 * MS + 7);
        assert!(matches!(player.step(1_000 * MS + 7), Step::Wait(due) if due == 1_015 * MS));
    }

    #[test]
    fn a_slow_client_goes_on_with_a_key_frame_and_sees_the_gap() {
        let mut player = player(synthetic(100, 10, 10), 0, pace());
        player.play(0);
        let first = match player.step(0) {
            Step::Send(out) => out,
            other => panic!("{other:?}"),
        };
        // Blocked for one second: unit 25 is due now, the backlog reaches back to unit 15; the next key frame is 20.
        let next = match player.step(1_000 * MS) {
            Step::Send(out) => out,
            other => panic!("{other:?}"),
        };
        assert_eq!(next.unit, 20);
        assert_eq!(player.take_dropped(), 19);
        assert_eq!(player.take_dropped(), 0);
        assert_eq!(next.sequence, first.sequence.wrapping_add(24), "each of two key frames has two parameter sets");
        assert_eq!(next.timestamp, first.timestamp.wrapping_add(20 * 3600));
        assert_eq!(player.passed(), 21);
        // Just within its bound it loses nothing.
        assert!(matches!(player.step(21 * 40 * MS + 400 * MS), Step::Send(out) if out.unit == 21));
    }

    #[test]
    fn with_one_key_frame_a_slow_client_waits_for_the_next_loop() {
        let mut player = player(synthetic(50, 50, 10), 0, pace());
        player.play(0);
        assert!(matches!(player.step(1_000 * MS), Step::Wait(due) if due == 2_000 * MS));
        assert_eq!(player.take_dropped(), 50);
    }

    #[test]
    fn pausing_leaves_no_gap_and_switching_clips_keeps_time() {
        let mut player = player(synthetic(10, 5, 10), 0, pace());
        player.play(0);
        let before = play(&mut player, 5 * 40 * MS);
        player.play(60_000 * MS);
        let next = player.next();
        assert_eq!(next.timestamp, before.last().unwrap().1.timestamp.wrapping_add(3600));
        player.switch(Arc::new(synthetic(4, 2, 10)));
        assert_eq!(player.next().timestamp, next.timestamp);
        player.jump(-1000);
        assert_eq!(player.next().timestamp, next.timestamp.wrapping_sub(90_000));
        player.reseed(99, 5);
        assert!(
            matches!(player.step(60_000 * MS), Step::Send(out) if (out.unit, out.ssrc, out.sequence) == (0, 99, 5))
        );
    }

    #[test]
    fn a_report_at_the_moment_of_sending_tells_the_timestamp_sent() {
        let mut player = player(synthetic(10, 5, 10), 5, pace());
        player.play(3_000 * MS);
        assert_eq!(player.timestamp_at(3_000 * MS), player.next().timestamp);
        assert!(matches!(player.step(3_000 * MS), Step::Send(_)));
        assert_eq!(player.timestamp_at(3_040 * MS), player.next().timestamp);
    }
}
