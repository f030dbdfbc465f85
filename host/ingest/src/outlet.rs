//! The queue between a camera's task and its decoder.
//!
//! Owns the bound and what happens when it is reached. Must not wait.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use facestream_core::metrics::CameraMetrics;
use facestream_core::{AccessUnit, DropReason, StreamParams};

/// What the decoder's thread is told.
#[derive(Clone, Debug)]
pub enum IngestEvent {
    /// A new session begins: forget the old stream. Always before the session's first access unit, never lost.
    Started {
        /// Session number; the next session's is higher by one.
        session: u64,
        /// What is known of the stream.
        params: StreamParams,
    },
    /// One coded picture.
    AccessUnit(AccessUnit),
    /// The last event: the camera was stopped or has failed for good.
    Ended,
}

/// Places of the queue that only [`IngestEvent::Started`] may take.
pub const STARTED_RESERVE: usize = 4;

/// The consumer is gone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Disconnected;

/// Queue `access-units`: one per camera, from its task to its decode thread.
///
/// Bound: `queue_access_units`, plus [`STARTED_RESERVE`] places for starts and one for the end. Full-policy: an access
/// unit that finds it full is dropped with everything up to the next key frame (what follows it could not be decoded),
/// each counted as [`DropReason::DecodeQueueFull`]. Starts are never dropped: while the reserve is used up the camera is
/// not connected anew.
#[derive(Debug)]
pub(crate) struct Outlet {
    tx: Sender<IngestEvent>,
    access_units: usize,
    until_keyframe: bool,
    metrics: Arc<CameraMetrics>,
}

impl Outlet {
    pub(crate) fn new(access_units: usize, metrics: Arc<CameraMetrics>) -> (Self, Receiver<IngestEvent>) {
        let (tx, rx) = bounded(access_units + STARTED_RESERVE + 1);
        (Self { tx, access_units, until_keyframe: false, metrics }, rx)
    }

    /// Whether a start would find room. Nobody else sends, so room does not go away.
    pub(crate) fn has_room_for_start(&self) -> bool {
        self.tx.len() < self.access_units + STARTED_RESERVE
    }

    /// Announces a session; to be called with room only.
    pub(crate) fn start(&mut self, session: u64, params: StreamParams) -> Result<(), Disconnected> {
        debug_assert!(self.has_room_for_start());
        self.until_keyframe = false;
        self.tx.try_send(IngestEvent::Started { session, params }).map_err(|_| Disconnected)
    }

    /// Hands an access unit over, or drops and counts it. Whether it was handed over.
    pub(crate) fn offer(&mut self, unit: AccessUnit) -> Result<bool, Disconnected> {
        if self.until_keyframe && !unit.keyframe || self.tx.len() >= self.access_units {
            self.until_keyframe = true;
            self.metrics.dropped(DropReason::DecodeQueueFull, 1);
            return Ok(false);
        }
        self.until_keyframe = false;
        match self.tx.try_send(IngestEvent::AccessUnit(unit)) {
            Ok(()) => Ok(true),
            Err(TrySendError::Disconnected(_)) => Err(Disconnected),
            // Ruled out by the length above: nobody else sends.
            Err(TrySendError::Full(_)) => {
                self.until_keyframe = true;
                self.metrics.dropped(DropReason::DecodeQueueFull, 1);
                Ok(false)
            }
        }
    }

    /// Says that no more will come. A consumer that is gone knows already.
    pub(crate) fn finish(self) {
        let sent = self.tx.try_send(IngestEvent::Ended);
        debug_assert!(!matches!(sent, Err(TrySendError::Full(_))), "one place is kept for the end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use facestream_core::Codec;

    fn unit(sequence: u64, keyframe: bool) -> AccessUnit {
        AccessUnit {
            session: 0,
            sequence,
            timestamp_ns: 0,
            received_ns: 0,
            captured_at_ns: 0,
            keyframe,
            lost_packets: 0,
            data: Bytes::new(),
        }
    }

    fn params() -> StreamParams {
        StreamParams { codec: Codec::H264, size: None, parameter_sets: Bytes::new(), frame_rate: None }
    }

    fn sequences(rx: &Receiver<IngestEvent>) -> Vec<String> {
        rx.try_iter()
            .map(|e| match e {
                IngestEvent::Started { session, .. } => format!("start {session}"),
                IngestEvent::AccessUnit(u) => format!("{}{}", u.sequence, if u.keyframe { "k" } else { "" }),
                IngestEvent::Ended => "end".to_owned(),
            })
            .collect()
    }

    #[test]
    fn a_full_queue_drops_up_to_the_next_key_frame() {
        let metrics = Arc::new(CameraMetrics::default());
        let (mut outlet, rx) = Outlet::new(3, metrics.clone());
        outlet.start(7, params()).unwrap();
        // The start takes a place of its own kind only as long as access units leave it.
        let taken: Vec<bool> = (0..6).map(|i| outlet.offer(unit(i, i == 0)).unwrap()).collect();
        assert_eq!(taken, [true, true, false, false, false, false]);
        assert_eq!(metrics.drops(DropReason::DecodeQueueFull), 4);
        assert_eq!(sequences(&rx), ["start 7", "0k", "1"]);
        // Room again, but these depend on what was dropped.
        assert!(!outlet.offer(unit(6, false)).unwrap());
        assert!(!outlet.offer(unit(7, false)).unwrap());
        assert!(outlet.offer(unit(8, true)).unwrap());
        assert!(outlet.offer(unit(9, false)).unwrap());
        assert_eq!(metrics.drops(DropReason::DecodeQueueFull), 6);
        assert_eq!(sequences(&rx), ["8k", "9"]);
    }

    #[test]
    fn starts_and_the_end_find_room_in_a_full_queue() {
        let metrics = Arc::new(CameraMetrics::default());
        let (mut outlet, rx) = Outlet::new(2, metrics);
        for i in 0..10 {
            outlet.offer(unit(i, true)).unwrap();
        }
        let mut starts = 0;
        while outlet.has_room_for_start() {
            outlet.start(starts, params()).unwrap();
            starts += 1;
        }
        assert_eq!(starts, u64::try_from(STARTED_RESERVE).unwrap());
        outlet.finish();
        assert_eq!(sequences(&rx), ["0k", "1k", "start 0", "start 1", "start 2", "start 3", "end"]);
    }

    #[test]
    fn a_key_frame_that_finds_no_room_is_dropped_too() {
        let metrics = Arc::new(CameraMetrics::default());
        let (mut outlet, rx) = Outlet::new(1, metrics.clone());
        assert!(outlet.offer(unit(0, true)).unwrap());
        assert!(!outlet.offer(unit(1, true)).unwrap());
        assert_eq!(sequences(&rx), ["0k"]);
        assert!(!outlet.offer(unit(2, false)).unwrap(), "its key frame was dropped");
        assert_eq!(metrics.drops(DropReason::DecodeQueueFull), 2);
    }

    #[test]
    fn a_consumer_that_is_gone_is_noticed() {
        let (mut outlet, rx) = Outlet::new(2, Arc::new(CameraMetrics::default()));
        drop(rx);
        assert_eq!(outlet.offer(unit(0, true)), Err(Disconnected));
        assert_eq!(outlet.start(1, params()), Err(Disconnected));
        outlet.finish();
    }
}
