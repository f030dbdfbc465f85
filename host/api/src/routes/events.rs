//! `/api/v1/events`: what happens, as server-sent events.
//!
//! Queue: the control's broadcast ring; full-policy: the oldest events are lost to the slow listener alone, and it gets
//! an event `lagged` that says how many.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use facestream_core::event::Event;
use futures::{Stream, StreamExt, stream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::extract::QueryParams;
use crate::problem::{Kind, Problem};
use crate::router::App;
use crate::views::requests::EventsQuery;

/// Often enough for proxies that cut idle connections after 30 s.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Listen to events
///
/// Server-sent events from now on: `camera` (it changed its state), `guest-failed`, `guest-restarted`, `guest-swapped`,
/// `guest-confirmed`, `guest-rolled-back`, `guest-degraded`, `guest-recovered`, `guest-recycled`, `rollout` (it began, goes back,
/// has ended), `rollout-camera` (a camera of one came to another state), `sink`, and `lagged` with the number of events that a
/// slow listener has missed.
#[utoipa::path(get, path = "/api/v1/events", tag = "system", params(EventsQuery), responses(
    (status = 200, description = "Events, one JSON object each.", body = String, content_type = "text/event-stream"),
))]
pub(crate) async fn events(
    State(app): State<App>,
    QueryParams(query): QueryParams<EventsQuery>,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, Problem> {
    let permit = app
        .listeners
        .clone()
        .try_acquire_owned()
        .map_err(|_| Problem::new(Kind::Busy, "as many listen as may (server.max_event_clients)"))?;
    let listener = Listener { receiver: app.control.events(), camera: query.camera, _permit: permit };
    let begin = stream::iter([Ok(Sent::default().comment("listening"))]);
    let events =
        begin.chain(stream::unfold(listener, Listener::next)).take_until(app.shutdown.clone().cancelled_owned());
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

struct Listener {
    receiver: Receiver<Event>,
    camera: Option<String>,
    _permit: OwnedSemaphorePermit,
}

impl Listener {
    async fn next(mut self) -> Option<(Result<Sent, Infallible>, Self)> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => {
                    if let Some(sent) = render(&event, self.camera.as_deref()) {
                        return Some((Ok(sent), self));
                    }
                }
                Err(RecvError::Lagged(missed)) => {
                    let sent =
                        Sent::default().event("lagged").data(format!("{{\"event\":\"lagged\",\"missed\":{missed}}}"));
                    return Some((Ok(sent), self));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// `None` when it is about another camera.
fn render(event: &Event, camera: Option<&str>) -> Option<Sent> {
    let value = serde_json::to_value(event)
        .map_err(|error| tracing::error!(%error, "An event could not be serialised."))
        .ok()?;
    let field = |name: &str| value.get(name).and_then(|v| v.as_str());
    if camera.is_some() && field("camera") != camera {
        return None;
    }
    Some(Sent::default().event(field("event").unwrap_or("event")).data(value.to_string()))
}
