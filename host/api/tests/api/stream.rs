//! `/api/v1/events`.

use axum::body::Body;
use axum::http::Method;
use facestream_api::ServerConfig;
use facestream_core::CameraId;
use facestream_core::camera::CameraState;
use facestream_core::event::Event;
use http_body_util::BodyExt;
use tower::ServiceExt;

use crate::client::{Api, request};

fn running(camera: &str) -> Event {
    Event::Camera { camera: CameraId::new(camera).unwrap(), status: CameraState::Running }
}

/// An open stream.
struct Stream(Body);

impl Stream {
    async fn open(api: &Api, path: &str) -> Self {
        let response =
            api.router.clone().oneshot(request(Method::GET, path).body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut stream = Self(response.into_body());
        assert_eq!(stream.next().await.unwrap(), ": listening\n\n");
        stream
    }

    async fn next(&mut self) -> Option<String> {
        let frame = self.0.frame().await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }
}

#[tokio::test]
async fn what_happens_is_told() {
    let api = Api::new();
    let mut stream = Stream::open(&api, "/api/v1/events").await;
    api.control.events.send(running("a")).unwrap();
    assert_eq!(
        stream.next().await.unwrap(),
        "event: camera\ndata: {\"event\":\"camera\",\"camera\":\"a\",\"status\":{\"state\":\"running\"}}\n\n"
    );
    api.control
        .events
        .send(Event::Sink { sink: "kafka".into(), degraded: true, reason: Some("no broker".into()) })
        .unwrap();
    assert!(
        stream
            .next()
            .await
            .unwrap()
            .starts_with("event: sink\ndata: {\"event\":\"sink\",\"sink\":\"kafka\",\"degraded\":true")
    );
}

#[tokio::test]
async fn one_camera_can_be_listened_to() {
    let api = Api::new();
    let mut stream = Stream::open(&api, "/api/v1/events?camera=b").await;
    api.control.events.send(running("a")).unwrap();
    api.control.events.send(Event::Sink { sink: "kafka".into(), degraded: false, reason: None }).unwrap();
    api.control.events.send(running("b")).unwrap();
    assert!(stream.next().await.unwrap().contains("\"camera\":\"b\""));
    api.get("/api/v1/events?cam=b").await.problem(400, "malformed-request");
}

#[tokio::test]
async fn a_slow_listener_is_told_what_it_missed() {
    let api = Api::new();
    let mut stream = Stream::open(&api, "/api/v1/events").await;
    for _ in 0..11 {
        api.control.events.send(running("a")).unwrap();
    }
    // The double's ring holds 8.
    assert_eq!(stream.next().await.unwrap(), "event: lagged\ndata: {\"event\":\"lagged\",\"missed\":3}\n\n");
    assert!(stream.next().await.unwrap().starts_with("event: camera"));
}

#[tokio::test]
async fn listeners_are_bounded_and_make_room_when_they_leave() {
    let api = Api::with(&ServerConfig { max_event_clients: 1, ..ServerConfig::default() });
    let stream = Stream::open(&api, "/api/v1/events").await;
    api.get("/api/v1/events").await.problem(429, "busy");
    drop(stream);
    Stream::open(&api, "/api/v1/events").await;
}

#[tokio::test]
async fn streams_end_when_the_host_stops() {
    let api = Api::new();
    let mut stream = Stream::open(&api, "/api/v1/events").await;
    api.shutdown.cancel();
    assert_eq!(stream.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_stays_alive() {
    let api = Api::new();
    let mut stream = Stream::open(&api, "/api/v1/events").await;
    assert_eq!(stream.next().await.unwrap(), ":\n\n");
}
