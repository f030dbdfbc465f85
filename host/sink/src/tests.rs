//! What tests of this crate share, and tests of all sinks together.

pub(crate) mod mem_fs;
mod together;

use bytes::Bytes;
use facestream_core::{CameraId, Message, MessageId};

/// A message of camera `cam-1` with a payload of so many bytes that are no JSON.
pub(crate) fn message(n: u64, bytes: usize) -> Message {
    let mut payload = format!("#{n} ").into_bytes();
    payload.resize(bytes.max(1), b'x');
    Message {
        camera: CameraId::new("cam-1").unwrap(),
        id: MessageId(format!("cam-1/0/{n}/1/improved/0")),
        topic: "t".into(),
        key: Bytes::from_static(b"cam-1"),
        payload: payload.into(),
        headers: Vec::new(),
        content_type: "text/plain".into(),
    }
}

/// Waits for something to become true, for as long as a slow machine may need, and not a moment longer than it takes.
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(120);
    while !holds() {
        assert!(std::time::Instant::now() < end, "waited in vain for: {what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// An `OnEvent` that remembers.
pub(crate) fn events() -> (crate::OnEvent, std::sync::Arc<std::sync::Mutex<Vec<facestream_core::event::Event>>>) {
    let heard = std::sync::Arc::<std::sync::Mutex<Vec<_>>>::default();
    let into = std::sync::Arc::clone(&heard);
    (std::sync::Arc::new(move |event| into.lock().unwrap().push(event)), heard)
}
