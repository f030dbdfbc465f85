//! Answering requests (RFC 2326 10): who may, what exists, which state it needs.
//!
//! Owns the order of checks. Nothing of a request is put into an answer but its URI, which the parser holds to printable
//! ASCII without spaces, and its sequence number.

use std::net::SocketAddr;
use std::sync::Arc;

use super::session::{Channel, Session};
use super::{Connection, Watched};
use crate::auth::Verdict;
use crate::faults::Answer;
use crate::protocol::{Request, Response, TransportOffer, transport_offers};
use crate::sdp::{self, TRACK};
use crate::server::{Playing, Udp};
use crate::stats::add;

impl Connection {
    /// Answers one request, or stays silent where that is the camera's fault.
    pub(super) fn answer(&mut self, request: &Request) {
        let cseq = request.header("CSeq").and_then(|value| value.trim().parse::<u32>().ok());
        let previous = std::mem::replace(&mut self.last_cseq, cseq);
        let Some(mut response) = self.respond(request, cseq) else { return };
        let parameter = matches!(request.method.as_str(), "GET_PARAMETER" | "SET_PARAMETER");
        let told = if parameter && self.faults.quirks.stale_cseq { previous.or(cseq) } else { cseq };
        if let (Some(session), 200) = (&self.session, response.status) {
            let timeout = self.shared.config.session_timeout_s;
            let value = if self.faults.quirks.no_session_timeout {
                session.id.clone()
            } else {
                format!("{};timeout={timeout}", session.id)
            };
            response = response.with("Session", value);
        }
        self.output.answer(&response.encode(told));
    }

    fn respond(&mut self, request: &Request, cseq: Option<u32>) -> Option<Response> {
        if !request.version_1 {
            return Some(Response::new(505));
        }
        if cseq.is_none() {
            return Some(Response::new(400));
        }
        let camera = request.path().and_then(|path| self.shared.camera_at(path));
        if let Some(camera) = camera {
            add(&self.shared.cameras[camera].counters.requests, 1);
            self.watch(camera);
            match self.faults.answer {
                Answer::Normal => {}
                Answer::Never => return None,
                Answer::Status(status) => return Some(Response::new(status)),
            }
        }
        let method = request.method.as_str();
        match method {
            "OPTIONS" => return Some(Response::new(200).with("Public", self.methods())),
            "DESCRIBE" | "SETUP" | "PLAY" | "PAUSE" | "TEARDOWN" | "SET_PARAMETER" => {}
            "GET_PARAMETER" if !self.faults.quirks.no_get_parameter => {}
            "GET_PARAMETER" | "ANNOUNCE" | "RECORD" | "REDIRECT" => {
                return Some(Response::new(405).with("Allow", self.methods()));
            }
            _ => return Some(Response::new(501).with("Public", self.methods())),
        }
        match self.shared.guard.check(method, &request.uri, request.header("Authorization")) {
            Verdict::Welcome => {}
            verdict => {
                if let Some(camera) = camera {
                    add(&self.shared.cameras[camera].counters.unauthorized, 1);
                }
                let challenge = self.shared.guard.challenge(verdict == Verdict::Stale);
                return Some(Response::new(401).with("WWW-Authenticate", challenge));
            }
        }
        if request.header("Require").is_some() {
            // No extension is supported, so none can be required. Its name is not repeated: it comes from the network.
            return Some(Response::new(551));
        }
        let keepalive = matches!(method, "GET_PARAMETER" | "SET_PARAMETER");
        let Some(camera) = camera else {
            return Some(if keepalive && request.path().is_none() {
                self.parameter(request)
            } else {
                Response::new(404)
            });
        };
        Some(match method {
            "DESCRIBE" => self.describe(request, camera),
            "SETUP" => self.setup(request, camera),
            "GET_PARAMETER" | "SET_PARAMETER" => self.parameter(request),
            _ if !self.is_session_of(request, camera) => Response::new(454),
            "PLAY" => self.play(request),
            "PAUSE" => {
                if let Some(session) = &mut self.session {
                    session.playing = None;
                }
                Response::new(200)
            }
            // TEARDOWN.
            _ => {
                self.session = None;
                self.output.cut();
                Response::new(200)
            }
        })
    }

    fn methods(&self) -> &'static str {
        if self.faults.quirks.no_get_parameter {
            "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, TEARDOWN, SET_PARAMETER"
        } else {
            "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, TEARDOWN, GET_PARAMETER, SET_PARAMETER"
        }
    }

    /// From now on the faults of this camera hold.
    fn watch(&mut self, camera: usize) {
        if self.watched.as_ref().is_some_and(|watched| watched.camera == camera) || self.session.is_some() {
            return;
        }
        let state = &self.shared.cameras[camera].faults;
        let mut lasting = state.lasting.subscribe();
        self.faults = Arc::clone(&lasting.borrow_and_update());
        self.watched = Some(Watched { camera, lasting, events: state.events.subscribe() });
    }

    fn is_session_of(&self, request: &Request, camera: usize) -> bool {
        let named = request.session();
        self.session.as_ref().is_some_and(|session| session.camera == camera && named == Some(&session.id))
    }

    fn describe(&self, request: &Request, camera: usize) -> Response {
        let clip = &self.shared.clips[self.faults.clip];
        let rate = clip.frame_rate() * self.shared.config.speed;
        let sets = !self.faults.quirks.no_parameter_sets_in_sdp;
        let body = sdp::describe(clip, self.local.ip(), camera as u64 + 1, rate, sets);
        let base = match &self.faults.quirks.content_base {
            None => Some(base_of(&request.uri)),
            Some(base) => Some(base.clone()).filter(|base| !base.is_empty()),
        };
        let response = Response::new(200).with_body("application/sdp", body);
        match base {
            Some(base) => response.with("Content-Base", base),
            None => response,
        }
    }

    fn setup(&mut self, request: &Request, camera: usize) -> Response {
        match (request.session(), &self.session) {
            (Some(named), Some(session)) if session.id == named && session.camera == camera => {}
            (Some(_), _) => return Response::new(454),
            (None, _) => {}
        }
        if self.session.as_ref().is_some_and(|session| session.playing.is_some()) {
            return Response::new(455);
        }
        let quirks = &self.faults.quirks;
        let wanted =
            transport_offers(request.header("Transport").unwrap_or_default()).into_iter().find(|offer| match offer {
                TransportOffer::Tcp(_) => !quirks.udp_only,
                TransportOffer::Udp(..) => !quirks.tcp_only,
            });
        let (channel, told) = match wanted {
            None => return Response::new(461),
            Some(TransportOffer::Tcp(channels)) => {
                let (rtp, rtcp) = channels.unwrap_or((0, 1));
                (Channel::Tcp { rtp, rtcp }, ("RTP/AVP/TCP;unicast", format!("interleaved={rtp}-{rtcp}")))
            }
            Some(TransportOffer::Udp(rtp, rtcp)) => {
                // Only to where the connection comes from: a `destination` would let anybody aim the stream at others.
                let ip = self.client.ip();
                let ports = self.shared.udp.ports;
                let told = format!("client_port={rtp}-{rtcp};server_port={}-{}", ports.0, ports.1);
                let rtcp = SocketAddr::new(ip, rtcp);
                let seen = Udp::watch(&self.shared, rtcp);
                (Channel::Udp { rtp: SocketAddr::new(ip, rtp), rtcp, seen }, ("RTP/AVP;unicast", told))
            }
        };
        let ssrc_first = quirks.ssrc_first;
        let session = match self.session.take() {
            Some(mut session) if session.camera == camera && request.session().is_some() => {
                session.channel = channel;
                session
            }
            _ => Session::new(&self.shared, camera, self.faults.clip, channel),
        };
        let ssrc = format!("ssrc={:08X}", session.player.next().ssrc);
        self.session = Some(session);
        let (profile, addresses) = told;
        let transport = if ssrc_first {
            format!("{profile};{ssrc};{addresses};mode=\"PLAY\"")
        } else {
            format!("{profile};{addresses};{ssrc};mode=\"PLAY\"")
        };
        Response::new(200).with("Transport", transport)
    }

    fn play(&mut self, request: &Request) -> Response {
        let now_ns = self.shared.now_ns();
        // `respond` has checked that there is one.
        let Some(session) = &mut self.session else { return Response::new(454) };
        let response = Response::new(200).with("Range", "npt=0.000-");
        let quirks = &self.faults.quirks;
        let next = session.player.next();
        let (sequence, timestamp) = if quirks.zero_rtp_info { (0, 0) } else { (next.sequence, next.timestamp) };
        if session.playing.is_none() {
            session.player.play(now_ns);
            session.playing = Some(Playing::new(&self.shared, session.camera));
        }
        if quirks.no_rtp_info {
            return response;
        }
        let url = format!("{}{TRACK}", base_of(&request.uri));
        response.with("RTP-Info", format!("url={url};seq={sequence};rtptime={timestamp}"))
    }

    /// GET_PARAMETER and SET_PARAMETER: without content they keep the session alive, and no parameter exists.
    fn parameter(&self, request: &Request) -> Response {
        if request.method == "SET_PARAMETER" && self.faults.quirks.reject_set_parameter {
            return Response::new(400);
        }
        match request.session() {
            Some(named) if self.session.as_ref().is_none_or(|session| session.id != named) => Response::new(454),
            _ if !request.body.is_empty() => Response::new(451),
            _ => Response::new(200),
        }
    }
}

/// The camera's URL with a slash at its end, without query and track: what the track's name is appended to.
fn base_of(uri: &str) -> String {
    let plain = uri.split(['?', '#']).next().unwrap_or(uri).trim_end_matches('/');
    let camera = plain.strip_suffix(TRACK).unwrap_or(plain).trim_end_matches('/');
    format!("{camera}/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_is_the_cameras_url_whatever_was_asked_for() {
        for uri in ["rtsp://h/cam1", "rtsp://h/cam1/", "rtsp://h/cam1/trackID=0", "rtsp://h/cam1?x=1"] {
            assert_eq!(base_of(uri), "rtsp://h/cam1/");
        }
    }
}
