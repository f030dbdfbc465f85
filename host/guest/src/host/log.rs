//! Log lines of guests, under the camera's and the guest's name, at a bounded rate.
//!
//! Owns the rate and the cleaning of text. Must not decide where lines go: `tracing` does.

use std::time::{Duration, Instant};

use facestream_core::guest::SlotKind;
use facestream_core::{CameraId, FrameInfo};

use super::HostState;
use crate::bindings::log::{self, Level};
use crate::config::GuestLimits;
use crate::error::one_line;

/// The log of one guest instance.
#[derive(Debug)]
pub(crate) struct GuestLog {
    camera: CameraId,
    slot: SlotKind,
    guest: String,
    per_second: u32,
    max_bytes: usize,
    window: Instant,
    in_window: u32,
    suppressed: u64,
    /// Lines written and left out since the instance began, for status and tests.
    pub(crate) written: u64,
    pub(crate) left_out: u64,
    partial: String,
    /// Session and sequence of the frame that the guest was last called for.
    frame: (u64, u64),
}

impl GuestLog {
    pub(crate) fn new(camera: &CameraId, slot: SlotKind, guest: &str, limits: &GuestLimits, now: Instant) -> Self {
        Self {
            camera: camera.clone(),
            slot,
            guest: guest.to_owned(),
            per_second: limits.max_log_lines_per_s,
            max_bytes: usize::try_from(limits.max_log_line_bytes).unwrap_or(usize::MAX),
            window: now,
            in_window: 0,
            suppressed: 0,
            written: 0,
            left_out: 0,
            partial: String::new(),
            frame: (0, 0),
        }
    }

    /// The lines that follow belong to this frame.
    pub(crate) fn at(&mut self, frame: &FrameInfo) {
        self.frame = (frame.session, frame.sequence);
    }

    /// Writes one line, or counts it as left out. A fixed window: at its end one line says how many were left out.
    pub(crate) fn line(&mut self, level: Level, text: &str, now: Instant) {
        if now.saturating_duration_since(self.window) >= Duration::from_secs(1) {
            self.window = now;
            self.in_window = 0;
            let suppressed = std::mem::take(&mut self.suppressed);
            if suppressed > 0 {
                tracing::warn!(target: "guest", camera = %self.camera, slot = %self.slot, guest = %self.guest, suppressed, "log lines of the guest were left out (limits.max_log_lines_per_s)");
            }
        }
        if self.in_window >= self.per_second {
            self.suppressed = self.suppressed.saturating_add(1);
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        self.in_window += 1;
        self.written = self.written.saturating_add(1);
        // Control characters would let a guest forge lines of others or drive a terminal.
        let text = one_line(text, self.max_bytes);
        let (camera, slot, guest) = (&self.camera, self.slot, &self.guest);
        let (session, frame) = self.frame;
        match level {
            Level::Trace => tracing::trace!(target: "guest", %camera, %slot, %guest, session, frame, "{text}"),
            Level::Debug => tracing::debug!(target: "guest", %camera, %slot, %guest, session, frame, "{text}"),
            Level::Info => tracing::info!(target: "guest", %camera, %slot, %guest, session, frame, "{text}"),
            Level::Warn => tracing::warn!(target: "guest", %camera, %slot, %guest, session, frame, "{text}"),
            Level::Error => tracing::error!(target: "guest", %camera, %slot, %guest, session, frame, "{text}"),
        }
    }

    /// Bytes that a guest printed to its standard output or error, cut into lines.
    pub(crate) fn printed(&mut self, bytes: &[u8], now: Instant) {
        for piece in String::from_utf8_lossy(bytes).split_inclusive('\n') {
            if self.partial.len() < self.max_bytes {
                self.partial.push_str(piece.trim_end_matches(['\n', '\r']));
            }
            if piece.ends_with('\n') {
                let line = std::mem::take(&mut self.partial);
                self.line(Level::Info, &line, now);
            }
        }
    }
}

impl log::Host for HostState {
    fn write(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        self.budgets.host_call()?;
        self.budgets.log(message.len())?;
        self.log.line(level, &message, Instant::now());
        Ok(())
    }

    /// By level alone: a line above the rate is written all the same, so that it is counted as left out.
    fn enabled(&mut self, level: Level) -> wasmtime::Result<bool> {
        Ok(match level {
            Level::Trace => tracing::enabled!(target: "guest", tracing::Level::TRACE),
            Level::Debug => tracing::enabled!(target: "guest", tracing::Level::DEBUG),
            Level::Info => tracing::enabled!(target: "guest", tracing::Level::INFO),
            Level::Warn => tracing::enabled!(target: "guest", tracing::Level::WARN),
            Level::Error => tracing::enabled!(target: "guest", tracing::Level::ERROR),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(now: Instant) -> GuestLog {
        let limits = GuestLimits { max_log_lines_per_s: 3, max_log_line_bytes: 8, ..GuestLimits::default() };
        GuestLog::new(&CameraId::new("c").unwrap(), SlotKind::Scorer, "g", &limits, now)
    }

    #[test]
    fn a_flood_is_counted_and_a_new_second_starts_anew() {
        let start = Instant::now();
        let mut log = log(start);
        for _ in 0..10 {
            log.line(Level::Info, "x", start);
        }
        assert_eq!((log.written, log.left_out), (3, 7));
        log.line(Level::Info, "x", start + Duration::from_secs(1));
        assert_eq!((log.written, log.left_out), (4, 7));
    }

    #[test]
    fn printed_text_becomes_lines_and_an_endless_line_is_bounded() {
        let start = Instant::now();
        let mut log = log(start);
        log.printed(b"one\r\ntwo", start);
        assert_eq!(log.written, 1);
        log.printed(b"\n", start);
        assert_eq!(log.written, 2);
        for _ in 0..1000 {
            log.printed(b"aaaa", start);
        }
        assert!(log.partial.len() < 20);
    }
}
