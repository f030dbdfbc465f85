//! A formatter of one's own: how many different people were seen, and most at once, in one message a minute.

use std::collections::BTreeSet;

use facestream_guest::prelude::*;

/// The minute under way; it survives a swap.
#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Count {
    since: Option<u64>,
    people: BTreeSet<u64>,
    at_once: usize,
}

pub struct PeopleCounter(Camera, Count);

impl Formatter for PeopleCounter {
    type Config = NoConfig;
    type State = Count;
    const SCHEMA: &'static str = "example.people-counter/1";

    fn new(_config: NoConfig, camera: &Camera) -> Result<Self, GuestError> {
        Ok(Self(camera.clone(), Count::default()))
    }

    fn interest(&self) -> Interest {
        Interest::FRAMES
    }

    fn format(&mut self, event: Event) -> Result<Vec<Message>, GuestError> {
        let Event::Frame(frame, tracks) = event else { return Ok(Vec::new()) };
        let since = *self.1.since.get_or_insert(frame.timestamp);
        let due = if frame.timestamp - since >= 60_000_000_000 { self.flush()? } else { Vec::new() };
        self.1.since.get_or_insert(frame.timestamp);
        self.1.at_once = self.1.at_once.max(tracks.iter().filter(|t| t.is_confirmed()).count());
        self.1.people.extend(tracks.iter().filter(|t| t.is_confirmed()).map(|t| t.id));
        Ok(due)
    }

    fn flush(&mut self) -> Result<Vec<Message>, GuestError> {
        let Count { since: Some(_), people, at_once } = std::mem::take(&mut self.1) else { return Ok(Vec::new()) };
        let body = serde_json::json!({ "camera_id": self.0.id, "people": people.len(), "at_once": at_once });
        Ok(vec![Message::json("people-a-minute", &self.0.id, body.to_string().into_bytes())])
    }

    fn save(&self) -> Count {
        self.1.clone()
    }

    fn restore(&mut self, count: Count) -> Result<(), GuestError> {
        self.1 = count;
        Ok(())
    }
}

facestream_guest::export_formatter!(PeopleCounter);
#[cfg(test)]
mod tests;
