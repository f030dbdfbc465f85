//! Counters of one camera, shared by the stages it passes.
//!
//! Owns the names. Nothing is dropped silently: whoever drops calls `dropped` with a reason from the closed list here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! closed_list {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant),+ }
        impl $name {
            /// Every member, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The name used in status and metrics.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

closed_list! {
    /// Why something was not passed on.
    DropReason {
        /// An RTP packet was lost on the network.
        PacketLost = "packet-lost",
        /// An access unit found the decoder's queue full and waited for the next key frame.
        DecodeQueueFull = "decode-queue-full",
        /// An access unit could not be decoded.
        DecodeError = "decode-error",
        /// A newer frame of the same camera took its place before inference had time for it.
        Superseded = "superseded",
        /// Inference failed on the frame.
        InferenceError = "inference-error",
        /// The camera's mailbox before its guests was full.
        GuestQueueFull = "guest-queue-full",
        /// A tracker failed on the frame; later slots did not see it.
        TrackerFailed = "tracker-failed",
        /// A scorer failed on the frame; its shots are missing.
        ScorerFailed = "scorer-failed",
        /// A formatter failed on an event; its messages are missing.
        FormatterFailed = "formatter-failed",
        /// The frame or the message was still on its way when the host's grace period for stopping ran out.
        ShutdownGrace = "shutdown-grace",
        /// A message could not be accepted by any sink.
        SinkRefused = "sink-refused",
    }
}

closed_list! {
    /// What a camera has done.
    Counter {
        /// Connections made.
        Sessions = "sessions",
        /// Access units received.
        AccessUnits = "access-units",
        /// Bytes of them.
        Bytes = "bytes",
        /// Frames decoded.
        Decoded = "decoded",
        /// Frames left out on purpose (`detect_fps`, `keyframes_only`); not drops.
        Skipped = "skipped",
        /// Frames analysed by a model.
        Analysed = "analysed",
        /// Objects found.
        Detections = "detections",
        /// Tracks begun.
        Tracks = "tracks",
        /// Tracks ended.
        TracksEnded = "tracks-ended",
        /// Shots given up by the scorer.
        Shots = "shots",
        /// Messages written by the formatter and accepted by the sinks.
        Messages = "messages",
        /// Watchdog firings: no decoded frame for too long.
        Stalls = "stalls",
        /// Frames for which the camera's motion was estimated (`camera_motion`).
        MotionEstimated = "motion-estimated",
        /// Frames without an estimate: the first of a session or size, or after a long gap.
        MotionNoPrevious = "motion-no-previous",
        /// Frames without an estimate: the pixels could not be read.
        MotionNoPixels = "motion-no-pixels",
        /// Frames without an estimate: dark, flat, blurred or full of detections.
        MotionFewCorners = "motion-few-corners",
        /// Frames without an estimate: corners move in all directions, or the scene changed.
        MotionNoConsensus = "motion-no-consensus",
        /// Frames without an estimate: the corners that agree lie in one part of the frame.
        MotionUncertain = "motion-uncertain",
        /// Frames without an estimate: what was found is beyond what a camera does.
        MotionImplausible = "motion-implausible",
        /// Microseconds spent on estimating the camera's motion.
        MotionMicroseconds = "motion-microseconds",
    }
}

/// Counters of one camera. All relaxed: each number is right, a set of them is only nearly of one instant.
#[derive(Debug)]
pub struct CameraMetrics {
    counters: Vec<AtomicU64>,
    drops: Vec<AtomicU64>,
    /// Monotonic time (ns) of the latest decoded frame; 0 before the first.
    last_decoded_ns: AtomicU64,
}

impl Default for CameraMetrics {
    fn default() -> Self {
        let zeros = |n: usize| (0..n).map(|_| AtomicU64::new(0)).collect();
        Self {
            counters: zeros(Counter::ALL.len()),
            drops: zeros(DropReason::ALL.len()),
            last_decoded_ns: AtomicU64::new(0),
        }
    }
}

impl CameraMetrics {
    /// Adds to a counter.
    pub fn add(&self, counter: Counter, n: u64) {
        self.counters[counter as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// Reads a counter.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Ordering::Relaxed)
    }

    /// Counts `n` things that were not passed on.
    pub fn dropped(&self, reason: DropReason, n: u64) {
        self.drops[reason as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// Drops of one reason.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize].load(Ordering::Relaxed)
    }

    /// Called by the decode stage for each frame; the watchdog reads it.
    pub fn decoded_at(&self, monotonic_ns: u64) {
        self.add(Counter::Decoded, 1);
        self.last_decoded_ns.store(monotonic_ns.max(1), Ordering::Relaxed);
    }

    /// Monotonic time (ns) of the latest decoded frame; `None` before the first.
    #[must_use]
    pub fn last_decoded_ns(&self) -> Option<u64> {
        Some(self.last_decoded_ns.load(Ordering::Relaxed)).filter(|&t| t != 0)
    }

    /// All counters by name.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        Counter::ALL.iter().map(|&c| (c.as_str(), self.get(c))).collect()
    }

    /// Drops above zero by reason.
    #[must_use]
    pub fn all_drops(&self) -> BTreeMap<&'static str, u64> {
        DropReason::ALL.iter().map(|&r| (r.as_str(), self.drops(r))).filter(|&(_, n)| n > 0).collect()
    }
}
