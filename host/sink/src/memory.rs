//! A sink that keeps messages in memory: for tests and for `facestream run`, which prints them itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use facestream_core::Message;

use crate::sinks::{Left, Sink};
use crate::status::{Counters, RefuseReason, SinkState, SinkStatus};

/// Keeps up to so many messages; refuses more until some are taken.
#[derive(Debug)]
pub struct MemorySink {
    bound: usize,
    messages: Mutex<Vec<Message>>,
    closed: AtomicBool,
    counters: Counters,
}

impl MemorySink {
    /// One that keeps `bound` messages.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self { bound, messages: Mutex::default(), closed: AtomicBool::new(false), counters: Counters::default() }
    }

    /// Takes what is there, in order.
    #[must_use]
    pub fn take(&self) -> Vec<Message> {
        std::mem::take(&mut self.messages.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sink for MemorySink {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn accept(&self, message: &Message) -> Result<(), RefuseReason> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(self.counters.refuse(RefuseReason::Closed));
        }
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        if messages.len() >= self.bound {
            return Err(self.counters.refuse(RefuseReason::QueueFull));
        }
        messages.push(message.clone());
        drop(messages);
        Counters::add(&self.counters.accepted, 1);
        self.counters.deliver(&message.topic, 1);
        Ok(())
    }

    fn status(&self) -> SinkStatus {
        self.counters.status(self.name(), SinkState::Ok)
    }

    fn close(&self, _deadline: Instant) -> Left {
        self.closed.store(true, Ordering::SeqCst);
        Left::default()
    }
}
