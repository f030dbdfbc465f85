//! From a camera's clocks to ours: presentation times that never go back, and capture times.
//!
//! Owns the arithmetic. Must not read clocks: callers pass the time in.

use crate::connection::{RtpTime, SenderReport};

const MS: i64 = 1_000_000;

/// A camera's media time may run ahead of or behind the host's clock by this much before it is pulled back hard. Above
/// it the camera's clock is broken (ticks at another rate than declared) or what it sends is no live stream.
const MAX_SKEW_NS: i64 = 10_000 * MS;
/// Below this difference nothing is corrected: it is network delay, not drift.
const SLEW_ABOVE_NS: i64 = 500 * MS;
/// Drift is taken out by at most 1/200 of the time that passed: unnoticeable to a tracker, yet 100 times the error of
/// the worst quartz (50 ppm).
const SLEW_DIVISOR: i64 = 200;
/// A step forward that is longer than the time that passed on the host by more than this is a jump of the camera's clock.
const FORWARD_JUMP_NS: i64 = 2_000 * MS;
/// How far back B-frames may reach in decoding order: 16 frames (the deepest reordering of H.264 and H.265) at 8 a second.
const REORDER_NS: i64 = 2_000 * MS;
const REORDER_FRAMES: u32 = 16;
/// Pictures after which the reach of a stream's reordering is known: one group of pictures shows its pattern.
const REORDER_SHOWS_WITHIN: u32 = 64;
/// What a known reach is widened to: encoders choose the number of B-frames by content.
const REORDER_SLACK_NS: i64 = 200 * MS;
/// A step that is absorbed still moves time on: two pictures are never of one moment.
const LEAST_STEP_NS: i64 = MS;

/// Presentation times of one camera over all its sessions, nanoseconds.
///
/// Within a session they follow the camera's media clock (even spacing, whatever the network does), anchored to the
/// host's monotonic clock at the session's first picture and kept within [`MAX_SKEW_NS`] of it. They never go back, but
/// for B-frames, which are shown before pictures that are decoded earlier; these never reach behind the session's start
/// nor behind a jump of the camera's clock, which is replaced by the time that passed on the host.
#[derive(Debug, Default)]
pub(crate) struct MediaClock {
    /// The latest time given out.
    highest: Option<i64>,
    session: Option<Session>,
}

#[derive(Debug)]
struct Session {
    /// Nothing of this session is before it, and after an absorbed jump nothing is before that.
    floor: i64,
    /// Of the previous picture in decoding order.
    previous: RtpTime,
    previous_ns: i64,
    previous_arrival: i64,
    /// Pictures in a row that are not after `highest`.
    behind: u32,
    /// Pictures so far, up to [`REORDER_SHOWS_WITHIN`].
    pictures: u32,
    /// How far any picture was behind `highest`.
    reach: i64,
}

impl MediaClock {
    /// A new session begins: its first picture is anchored to the host's clock.
    pub(crate) fn begin_session(&mut self) {
        self.session = None;
    }

    /// The presentation time of the next picture in decoding order. `arrival_ns` is on the host's monotonic clock.
    pub(crate) fn stamp(&mut self, time: RtpTime, keyframe: bool, arrival_ns: u64) -> u64 {
        let arrival = i64::try_from(arrival_ns).unwrap_or(i64::MAX);
        let least = self.highest.map_or(0, |h| h.saturating_add(LEAST_STEP_NS));
        let at = match &mut self.session {
            None => {
                let at = arrival.max(least);
                self.session = Some(Session {
                    floor: at,
                    previous: time,
                    previous_ns: at,
                    previous_arrival: arrival,
                    behind: 0,
                    pictures: 1,
                    reach: 0,
                });
                at
            }
            Some(session) => session.next(time, keyframe, arrival, self.highest.unwrap_or(0)),
        };
        self.highest = Some(self.highest.map_or(at, |h| h.max(at)));
        u64::try_from(at).unwrap_or(0)
    }
}

impl Session {
    fn next(&mut self, time: RtpTime, keyframe: bool, arrival: i64, highest: i64) -> i64 {
        let passed = arrival.saturating_sub(self.previous_arrival).max(0);
        let step = ns_between(self.previous, time);
        let mut at = self.previous_ns.saturating_add(step);
        let behind = at <= highest;
        self.behind = if behind { self.behind + 1 } else { 0 };
        let reach = match self.reach {
            _ if self.pictures < REORDER_SHOWS_WITHIN => REORDER_NS,
            0 => 0,
            seen => seen.saturating_mul(2).clamp(REORDER_SLACK_NS, REORDER_NS),
        };
        // A key frame is shown after everything that is decoded before it, so one that is not comes from a clock that
        // was set back; so do more pictures in a row than can be reordered, and any beyond the stream's reordering.
        // A clock that stands still is one that was set back by the time that passed.
        let stepped_back = behind && (keyframe || step == 0 || at < highest - reach || self.behind > REORDER_FRAMES);
        let jumped_ahead = step > passed.saturating_add(FORWARD_JUMP_NS);
        if stepped_back || jumped_ahead {
            at = highest.saturating_add(passed.clamp(LEAST_STEP_NS, MAX_SKEW_NS));
            self.floor = highest.saturating_add(LEAST_STEP_NS);
            self.behind = 0;
        } else if behind {
            self.reach = self.reach.max(highest - at);
        } else {
            let skew = arrival.saturating_sub(at);
            if skew.abs() > SLEW_ABOVE_NS {
                let most = step.max(0) / SLEW_DIVISOR;
                at = at.saturating_add(skew.clamp(-most, most));
            }
        }
        // The hard limits come last; the upper one never takes time back.
        let ahead = arrival.saturating_add(MAX_SKEW_NS).max(highest.saturating_add(1));
        at = at.clamp(arrival.saturating_sub(MAX_SKEW_NS).min(ahead), ahead).max(self.floor);
        self.pictures = (self.pictures + 1).min(REORDER_SHOWS_WITHIN);
        self.previous = time;
        self.previous_ns = at;
        self.previous_arrival = arrival;
        at
    }
}

/// From one media time to another, nanoseconds; at most ± 2^62.
fn ns_between(from: RtpTime, to: RtpTime) -> i64 {
    let ticks = i128::from(to.ticks) - i128::from(from.ticks);
    let ns = ticks * 1_000_000_000 / i128::from(to.rate.get());
    let most = 1i128 << 62;
    i64::try_from(ns.clamp(-most, most)).unwrap_or(0)
}

/// Capture times: the camera's word where it is plausible, else the host's.
#[derive(Debug)]
pub(crate) struct CaptureClock {
    tolerance_ns: u64,
    report: Option<SenderReport>,
}

impl CaptureClock {
    pub(crate) fn new(tolerance_ns: u64) -> Self {
        Self { tolerance_ns, report: None }
    }

    /// Reports of an earlier session say nothing about a new one's media clock.
    pub(crate) fn begin_session(&mut self) {
        self.report = None;
    }

    pub(crate) fn report(&mut self, report: SenderReport) {
        self.report = Some(report);
    }

    /// Capture time, nanoseconds since the Unix epoch, of a picture that arrives at `wall_ns`.
    pub(crate) fn captured_at(&self, time: RtpTime, wall_ns: u64) -> u64 {
        let told = self.report.and_then(|r| r.unix_ns.checked_add_signed(ns_between(r.time, time)));
        told.filter(|t| t.abs_diff(wall_ns) <= self.tolerance_ns).unwrap_or(wall_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    const SECOND: u64 = 1_000_000_000;
    const FRAME: u64 = SECOND / 25;

    fn at(ticks: i64) -> RtpTime {
        RtpTime { ticks, rate: NonZeroU32::new(90_000).unwrap() }
    }

    /// Stamps 25 pictures a second with the given ticks, arriving evenly from `start`.
    fn run(clock: &mut MediaClock, start: u64, ticks: impl IntoIterator<Item = i64>) -> Vec<u64> {
        ticks
            .into_iter()
            .enumerate()
            .map(|(i, t)| clock.stamp(at(t), false, start + FRAME * u64::try_from(i).unwrap()))
            .collect()
    }

    fn assert_forward(times: &[u64]) {
        for pair in times.windows(2) {
            assert!(pair[0] < pair[1], "{} then {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn spacing_follows_the_media_clock_not_the_network() {
        let mut clock = MediaClock::default();
        let arrivals = [100, 140, 300, 301, 302, 303, 340, 380].map(|ms| ms * SECOND / 1_000);
        let times: Vec<u64> = arrivals
            .iter()
            .enumerate()
            .map(|(i, &a)| clock.stamp(at(i64::try_from(i).unwrap() * 3_600), false, a))
            .collect();
        let expected: Vec<u64> = (0..8).map(|i| SECOND / 10 + i * FRAME).collect();
        assert_eq!(times, expected);
    }

    #[test]
    fn sessions_follow_each_other_whatever_the_camera_says() {
        let mut clock = MediaClock::default();
        let mut times = run(&mut clock, SECOND, (0..50).map(|i| 5_000_000 + i * 3_600));
        // The camera restarts at zero, three seconds later.
        clock.begin_session();
        times.extend(run(&mut clock, 6 * SECOND, (0..50).map(|i| i * 3_600)));
        assert_eq!(times[50], 6 * SECOND);
        // And at once, so early that the first session's media time is ahead of the host.
        clock.begin_session();
        times.extend(run(&mut clock, 6 * SECOND, (0..50).map(|i| i * 3_600)));
        assert_forward(&times);
    }

    #[test]
    fn jumps_of_the_cameras_clock_are_absorbed() {
        // From the 101st picture on, in ticks.
        for jump in
            [i64::from(i32::MAX), 90_000 * 3_600, 90_000 * 3, -90_000 * 3_600, -90_000, -9_000, -3_600, i64::MIN / 2]
        {
            let mut clock = MediaClock::default();
            let ticks = (0..200).map(|i: i64| i * 3_600 + if i >= 100 { jump } else { 0 });
            let times = run(&mut clock, SECOND, ticks);
            assert_forward(&times);
            let across = times[100] - times[99];
            assert!((FRAME / 2..=FRAME * 2).contains(&across), "jump {jump}: {across} ns");
            assert!(times[199] - times[100] == 99 * FRAME, "jump {jump}: spacing after it");
        }
    }

    #[test]
    fn a_gap_in_which_no_picture_came_is_no_jump() {
        let mut clock = MediaClock::default();
        let before = clock.stamp(at(0), true, SECOND);
        let after = clock.stamp(at(90_000 * 30), false, 31 * SECOND);
        assert_eq!(after - before, 30 * SECOND);
    }

    #[test]
    fn b_frames_keep_their_places() {
        // Decoding order I P B B P B B …, one frame of delay.
        let order = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8, 12, 10, 11];
        let mut clock = MediaClock::default();
        let times = run(&mut clock, SECOND, order.iter().map(|i| i * 3_600));
        for (time, i) in times.iter().zip(order) {
            assert_eq!(*time, SECOND + FRAME * u64::try_from(i).unwrap());
        }
    }

    #[test]
    fn a_small_step_back_is_told_from_b_frames() {
        // 0 3 1 2 6 4 5 9 7 8 …, set back by half a second after 100 pictures.
        let mut clock = MediaClock::default();
        let order = (0..200i64).map(|i| {
            if i % 3 == 1 {
                i + 2
            } else if i == 0 {
                0
            } else {
                i - 1
            }
        });
        let ticks = order.enumerate().map(|(i, p)| p * 3_600 - if i >= 100 { 45_000 } else { 0 });
        let times = run(&mut clock, SECOND, ticks);
        let mut highest = 0;
        for (i, &time) in times.iter().enumerate() {
            assert!(time + 3 * FRAME > highest, "picture {i}: {time} after {highest}");
            highest = highest.max(time);
        }
    }

    #[test]
    fn a_step_back_shows_at_the_next_key_frame_even_where_b_frames_are() {
        let mut clock = MediaClock::default();
        let order = [0, 3, 1, 2, 6, 4, 5];
        let before = run(&mut clock, SECOND, order.iter().map(|i| i * 3_600));
        let highest = *before.iter().max().unwrap();
        // Set back by 0.2 s, key frame.
        let key = clock.stamp(at(2 * 3_600), true, SECOND + 8 * FRAME);
        let next = clock.stamp(at(3_600), false, SECOND + 9 * FRAME);
        assert!(key > highest && next > highest, "{highest} {key} {next}");
    }

    #[test]
    fn drift_is_taken_out_slowly_and_never_backwards() {
        for ppm in [-200i64, 200] {
            let mut clock = MediaClock::default();
            let mut last = 0;
            let frames = 25 * 3_600 * 6;
            for i in 0..frames {
                let ticks = i * 3_600 + i * 3_600 * ppm / 1_000_000;
                let now = SECOND + FRAME * u64::try_from(i).unwrap();
                let t = clock.stamp(at(ticks), i % 50 == 0, now);
                let fits = i == 0 || (t > last && t - last < FRAME * 102 / 100);
                assert!(fits, "{ppm} ppm, picture {i}: {last} then {t}");
                last = t;
            }
            let now = SECOND + FRAME * u64::try_from(frames - 1).unwrap();
            assert!(last.abs_diff(now) < SECOND, "{ppm} ppm: {} ns off after six hours", last.abs_diff(now));
        }
    }

    #[test]
    fn a_clock_of_the_wrong_rate_stays_near_the_hosts() {
        for (numerator, denominator) in [(1, 2), (2, 1), (0, 1), (50, 1)] {
            let mut clock = MediaClock::default();
            let mut last = 0;
            for i in 0..25 * 120i64 {
                let now = SECOND + FRAME * u64::try_from(i).unwrap();
                let t = clock.stamp(at(i * 3_600 * numerator / denominator), i % 50 == 0, now);
                assert!(t > last, "{numerator}/{denominator}, picture {i}");
                assert!(t.abs_diff(now) <= 10 * SECOND + FRAME, "{numerator}/{denominator}, picture {i}: {t} at {now}");
                last = t;
            }
        }
    }

    #[test]
    fn nothing_a_camera_says_overflows() {
        let mut clock = MediaClock::default();
        let mut last = 0;
        let wild = [0, i64::MAX, i64::MIN, -1, 1, i64::MAX / 2, 0, i64::MIN / 2];
        for (i, ticks) in wild.into_iter().cycle().take(200).enumerate() {
            let rate = if i % 3 == 0 { 1 } else { u32::MAX };
            let time = RtpTime { ticks, rate: NonZeroU32::new(rate).unwrap() };
            let t = clock.stamp(time, true, SECOND + FRAME * u64::try_from(i).unwrap());
            assert!(t > last, "{i}: {last} then {t}");
            last = t;
        }
    }

    #[test]
    fn capture_time_is_the_cameras_where_plausible() {
        let wall = 1_700_000_000 * SECOND;
        let mut clock = CaptureClock::new(5 * SECOND);
        assert_eq!(clock.captured_at(at(0), wall), wall, "no report yet");
        clock.report(SenderReport { time: at(90_000), unix_ns: wall - SECOND });
        assert_eq!(clock.captured_at(at(90_000), wall), wall - SECOND);
        assert_eq!(clock.captured_at(at(90_000 + 45_000), wall), wall - SECOND / 2);
        assert_eq!(clock.captured_at(at(0), wall), wall - 2 * SECOND, "pictures before the report too");
        // An hour off (a time zone), decades off (no battery), and a jump of the media clock.
        for (report, time) in [
            (SenderReport { time: at(0), unix_ns: wall + 3_600 * SECOND }, at(0)),
            (SenderReport { time: at(0), unix_ns: 0 }, at(0)),
            (SenderReport { time: at(0), unix_ns: wall }, at(i64::MAX)),
            (SenderReport { time: at(i64::MAX), unix_ns: u64::MAX }, at(i64::MIN)),
        ] {
            clock.report(report);
            assert_eq!(clock.captured_at(time, wall), wall);
        }
        clock.report(SenderReport { time: at(0), unix_ns: wall });
        clock.begin_session();
        assert_eq!(clock.captured_at(at(90_000), wall + 9), wall + 9, "an old session's report");
    }
}
