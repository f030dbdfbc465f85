//! A formatter: a JSON message for each person who has left, saying how long they were in sight. Change `Body` and
//! `interest` to make it yours.

use facestream_guest::prelude::*;

/// Settings, from the camera's configuration. A key that is not here is an error that names the near one.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    topic: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { topic: "{{name}}".to_owned() }
    }
}

impl Settings for Config {
    fn validate(&self) -> Vec<String> {
        if self.topic.is_empty() { vec!["topic must not be empty".to_owned()] } else { Vec::new() }
    }
}

#[derive(serde::Serialize)]
struct Body<'a> {
    camera_id: &'a str,
    track_id: u64,
    seconds_in_sight: f64,
}

pub struct Mine {
    topic: String,
    camera_id: String,
}

impl Formatter for Mine {
    type Config = Config;
    type State = ();
    const SCHEMA: &'static str = "{{name}}/1";

    fn new(config: Config, camera: &Camera) -> Result<Self, GuestError> {
        Ok(Self { topic: config.topic, camera_id: camera.id.clone() })
    }

    /// Pictures come with `Interest::SHOTS`, every analysed frame with `Interest::FRAMES`.
    fn interest(&self) -> Interest {
        Interest::ENDINGS
    }

    fn format(&mut self, event: Event) -> Result<Vec<Message>, GuestError> {
        let Event::Ending(track) = event else { return Ok(Vec::new()) };
        let seconds_in_sight = track.last_seen.saturating_sub(track.first_seen) as f64 / 1e9;
        let body = Body { camera_id: &self.camera_id, track_id: track.id, seconds_in_sight };
        let payload = serde_json::to_vec(&body).map_err(|e| GuestError::failed(e.to_string()))?;
        Ok(vec![Message::json(&self.topic, &self.camera_id, payload)])
    }
}

facestream_guest::export_formatter!(Mine);

#[cfg(test)]
mod tests;
