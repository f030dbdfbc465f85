//! Two threads with a rhythm: one keeps the spool, one asks whether brokers are there.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rdkafka::producer::Producer as _;

use super::{Shared, client};
use crate::status::Cause;

/// While nobody answers, and while everything is fine and nothing is sent.
const ASK_OFTEN: Duration = Duration::from_secs(1);
const ASK_SELDOM: Duration = Duration::from_secs(30);
/// One question waits so long. The client cannot be replaced meanwhile, so it is short.
const ANSWER: Duration = Duration::from_millis(1500);
/// Records in flight and no delivery for so long: something is wrong even though brokers answer.
const STALLED: Duration = Duration::from_secs(15);

/// Syncs, saves progress and deletes what is done, again and again.
pub(super) fn keep(shared: &Arc<Shared>, interval: Duration) {
    while !shared.sleep(interval) {
        let synced = shared.spool.tick();
        if let Err(error) = synced {
            shared.health.degrade(Cause::DiskWrite, format!("cannot sync the spool: {error}"));
        } else if !shared.append_failed.load(Ordering::SeqCst) {
            shared.health.mend(Cause::DiskWrite);
        }
        // Here and not with each message: at the edge of full a small one passes and a large one does not, in turn.
        if shared.spool.has_room() {
            shared.health.mend(Cause::Full);
        }
    }
}

/// Asks for metadata while that tells something deliveries do not.
pub(super) fn watch(shared: &Arc<Shared>) {
    let mut quiet = ASK_SELDOM;
    loop {
        let now_ns = shared.clock.monotonic_ns();
        let (busy, waited) = {
            let in_flight = shared.in_flight();
            (!in_flight.by_seq.is_empty(), Duration::from_nanos(now_ns.saturating_sub(in_flight.progress_ns)))
        };
        if busy && waited > STALLED {
            shared.health.degrade(Cause::Stalled, format!("no delivery was acknowledged for {} s", waited.as_secs()));
        } else {
            shared.health.mend(Cause::Stalled);
        }
        let unsure = shared.health.has(Cause::Broker) || shared.health.has(Cause::Stalled);
        quiet += ASK_OFTEN;
        if unsure || (!busy && quiet >= ASK_SELDOM) {
            quiet = Duration::ZERO;
            ask(shared);
        }
        if shared.sleep(ASK_OFTEN) {
            return;
        }
    }
}

fn ask(shared: &Shared) {
    let producer = shared.producer.read().unwrap_or_else(PoisonError::into_inner);
    let Some(producer) = producer.as_ref() else { return };
    match producer.client().fetch_metadata(None, ANSWER) {
        Ok(metadata) if !metadata.brokers().is_empty() => shared.health.mend(Cause::Broker),
        Ok(_) => shared.health.degrade(Cause::Broker, "the cluster names no broker"),
        Err(error) => {
            let last = shared.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let why = if last.is_empty() { client::describe(&error) } else { last };
            shared.health.degrade(Cause::Broker, format!("no broker answers: {why}"));
        }
    }
}
