//! `/metrics`: numbers of cameras, guests, sinks and of the API itself, in the OpenMetrics text format.
//!
//! Owns names and labels. Label values come from closed lists, camera ids, guest references and sink names, so the
//! number of series is bounded by what is configured. Must not be asked more than the statuses say.

use std::fmt;
use std::sync::Arc;

use axum::http::{Method, StatusCode};
use facestream_core::CameraStatus;
use facestream_core::metrics::{Counter, DropReason};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::control::{Control, MetricFamily, MetricKind, SinkStatus};

/// MIME type of the answer.
pub(crate) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The names of [`facestream_core::CameraState`], for one series a state.
const STATES: [&str; 6] = ["connecting", "running", "waiting-to-retry", "stopping", "stopped", "failed"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: String,
    status: u16,
}

/// Requests answered since the start, by method, route (not path) and status.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestMetrics(Arc<Family<RequestLabels, counter::Counter>>);

impl RequestMetrics {
    pub(crate) fn count(&self, method: &Method, route: &str, status: StatusCode) {
        // A closed list: clients may invent methods.
        let method = match *method {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::DELETE => "DELETE",
            _ => "other",
        };
        self.0.get_or_create(&RequestLabels { method, route: route.to_owned(), status: status.as_u16() }).inc();
    }
}

/// Everything there is to show, as text.
///
/// # Errors
/// When a name or label cannot be written, which only a wrong extra metric can cause.
pub(crate) fn render(control: &dyn Control, requests: &RequestMetrics) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register("facestream_api_requests", "Requests answered, by route and status", Family::clone(&requests.0));
    registry.register_collector(Box::new(Snapshot {
        cameras: control.statuses(),
        sinks: control.sinks(),
        ready: control.not_ready().is_empty(),
        extra: control.metrics(),
    }));
    let mut text = String::with_capacity(64 << 10);
    encode(&mut text, &registry)?;
    Ok(text)
}

/// The host at one instant.
#[derive(Debug)]
struct Snapshot {
    cameras: Vec<CameraStatus>,
    sinks: Vec<SinkStatus>,
    ready: bool,
    extra: Vec<MetricFamily>,
}

/// Writes one metric, row by row.
struct Rows<'a>(MetricEncoder<'a>, MetricKind);

impl Rows<'_> {
    fn row(&mut self, labels: &[(&str, &str)], value: f64) -> fmt::Result {
        if labels.is_empty() {
            return write(&mut self.0, self.1, value);
        }
        write(&mut self.0.encode_family(&labels)?, self.1, value)
    }
}

fn write(row: &mut MetricEncoder<'_>, kind: MetricKind, value: f64) -> fmt::Result {
    // Whole numbers print as such: counters are read by people too.
    let whole = value.fract() == 0.0 && (0.0..9e15).contains(&value);
    match (kind, whole) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked: whole, not negative, below 2^53"
        )]
        (MetricKind::Counter, true) => row.encode_counter::<NoLabelSet, u64, f64>(&(value as u64), None),
        (MetricKind::Counter, false) => row.encode_counter::<NoLabelSet, f64, f64>(&value, None),
        #[expect(clippy::cast_possible_truncation, reason = "checked: whole, below 2^53")]
        (MetricKind::Gauge, true) => row.encode_gauge(&(value as i64)),
        (MetricKind::Gauge, false) => row.encode_gauge(&value),
    }
}

fn family<'a>(
    encoder: &'a mut DescriptorEncoder<'_>,
    name: &'a str,
    help: &str,
    kind: MetricKind,
) -> Result<Rows<'a>, fmt::Error> {
    let metric_type = match kind {
        MetricKind::Counter => MetricType::Counter,
        MetricKind::Gauge => MetricType::Gauge,
    };
    Ok(Rows(encoder.encode_descriptor(name, help, None, metric_type)?, kind))
}

#[expect(clippy::cast_precision_loss, reason = "a count beyond 2^53 may lose its last digit on a dashboard")]
fn float(n: u64) -> f64 {
    n as f64
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        family(encoder, "facestream_build_info", "Version of the host.", MetricKind::Gauge)?
            .row(&[("version", env!("CARGO_PKG_VERSION"))], 1.0)?;
        family(encoder, "facestream_ready", "1 when the host is ready to take cameras.", MetricKind::Gauge)?
            .row(&[], f64::from(u8::from(self.ready)))?;
        family(encoder, "facestream_cameras", "Cameras that are wanted.", MetricKind::Gauge)?
            .row(&[], float(self.cameras.len() as u64))?;
        self.cameras(encoder)?;
        self.guests(encoder)?;
        self.sinks(encoder)?;
        for extra in &self.extra {
            let mut rows = family(encoder, &extra.name, &extra.help, extra.kind)?;
            for sample in &extra.samples {
                let labels: Vec<(&str, &str)> = sample.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
                rows.row(&labels, sample.value)?;
            }
        }
        Ok(())
    }
}

impl Snapshot {
    fn cameras(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut rows =
            family(encoder, "facestream_camera_state", "1 for the state that the camera is in.", MetricKind::Gauge)?;
        for camera in &self.cameras {
            for state in STATES {
                let is = f64::from(u8::from(camera.state.as_str() == state));
                rows.row(&[("camera", camera.camera_id.as_str()), ("state", state)], is)?;
            }
        }
        let mut rows = family(encoder, "facestream_camera_fps", "Decoded frames a second, lately.", MetricKind::Gauge)?;
        for camera in &self.cameras {
            rows.row(&[("camera", camera.camera_id.as_str())], camera.fps)?;
        }
        let mut rows =
            family(encoder, "facestream_camera_analysed_fps", "Analysed frames a second, lately.", MetricKind::Gauge)?;
        for camera in &self.cameras {
            rows.row(&[("camera", camera.camera_id.as_str())], camera.analysed_fps)?;
        }
        for &counter in Counter::ALL {
            let name = counter.as_str().replace('-', "_");
            // In the base unit, as the names of all other times are.
            let (name, unit) = match name.strip_suffix("_microseconds") {
                Some(what) => (format!("facestream_camera_{what}_seconds"), 1e6),
                None => (format!("facestream_camera_{name}"), 1.0),
            };
            let mut rows = family(encoder, &name, counter_help(counter), MetricKind::Counter)?;
            for camera in &self.cameras {
                let n = camera.counters.get(counter.as_str()).copied().unwrap_or(0);
                rows.row(&[("camera", camera.camera_id.as_str())], float(n) / unit)?;
            }
        }
        let mut rows =
            family(encoder, "facestream_camera_drops", "What was not passed on, by reason.", MetricKind::Counter)?;
        for camera in &self.cameras {
            // Zeros too: a series that appears with its first drop hides that drop from `rate()`.
            for &reason in DropReason::ALL {
                let n = camera.drops.get(reason.as_str()).copied().unwrap_or(0);
                rows.row(&[("camera", camera.camera_id.as_str()), ("reason", reason.as_str())], float(n))?;
            }
        }
        Ok(())
    }

    fn guests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Read = fn(&facestream_core::guest::SlotStatus) -> f64;
        let families: [(&str, &str, MetricKind, Read); 13] = [
            ("facestream_guest_calls", "Calls made to the slot's guests.", MetricKind::Counter, |s| float(s.calls)),
            ("facestream_guest_failures", "Calls to the slot's guests that failed.", MetricKind::Counter, |s| {
                float(s.failures)
            }),
            ("facestream_guest_restarts", "Instances made again after a failure.", MetricKind::Counter, |s| {
                float(s.restarts)
            }),
            (
                "facestream_guest_call_mean_seconds",
                "Mean duration of a call of the guest that runs now.",
                MetricKind::Gauge,
                |s| s.mean_call_us / 1e6,
            ),
            ("facestream_guest_memory_bytes", "Linear memory of the instance.", MetricKind::Gauge, |s| {
                float(s.memory_bytes)
            }),
            ("facestream_guest_up", "1 while the slot's guest runs.", MetricKind::Gauge, |s| {
                f64::from(u8::from(matches!(s.state, "running" | "probation")))
            }),
            ("facestream_guest_cpu_seconds", "Processor time in calls.", MetricKind::Counter, |s| {
                float(s.cpu_us) / 1e6
            }),
            (
                "facestream_guest_recycles",
                "Instances made anew because their memory had grown.",
                MetricKind::Counter,
                |s| float(s.recycles),
            ),
            (
                "facestream_guest_instances",
                "Instances of the slot that live: two on probation.",
                MetricKind::Gauge,
                |s| float(s.instances.into()),
            ),
            (
                "facestream_guest_degraded",
                "1 while the built-in guest stands in for the wanted one, or nobody does.",
                MetricKind::Gauge,
                |s| f64::from(u8::from(s.degraded())),
            ),
            (
                "facestream_guest_busiest_second_cpu_seconds",
                "The most processor time in a second of the frames' clock.",
                MetricKind::Gauge,
                |s| float(s.busiest_second.cpu_us) / 1e6,
            ),
            (
                "facestream_guest_busiest_second_host_calls",
                "The most calls of the host's functions in such a second.",
                MetricKind::Gauge,
                |s| float(s.busiest_second.host_calls),
            ),
            (
                "facestream_guest_busiest_second_crop_bytes",
                "The most bytes of pictures asked for in such a second.",
                MetricKind::Gauge,
                |s| float(s.busiest_second.crop_bytes),
            ),
        ];
        let slots = || self.cameras.iter().flat_map(|c| c.slots.iter().map(|s| (c.camera_id.as_str(), s)));
        for (name, help, kind, read) in families {
            let mut rows = family(encoder, name, help, kind)?;
            for (camera, slot) in slots() {
                let labels = [("camera", camera), ("slot", slot.slot.as_str()), ("guest", slot.guest.as_str())];
                // Counters go on over swaps, so they are the slot's and name no guest; `facestream_guest_info` does.
                let named = if kind == MetricKind::Counter { 2 } else { 3 };
                rows.row(&labels[..named], read(slot))?;
            }
        }
        let mut rows = family(encoder, "facestream_guest_info", "1 for the guest in the slot.", MetricKind::Gauge)?;
        for (camera, slot) in slots() {
            let labels = [
                ("camera", camera),
                ("slot", slot.slot.as_str()),
                ("guest", slot.guest.as_str()),
                ("digest", slot.digest.as_str()),
            ];
            rows.row(&labels, 1.0)?;
        }
        let mut rows =
            family(encoder, "facestream_guest_breaker", "1 for the state of the slot's breaker.", MetricKind::Gauge)?;
        for (camera, slot) in slots() {
            for state in ["closed", "open", "half-open"] {
                let labels = [("camera", camera), ("slot", slot.slot.as_str()), ("state", state)];
                rows.row(&labels, f64::from(u8::from(slot.breaker == state)))?;
            }
        }
        let mut rows = family(encoder, "facestream_guest_failures_by_kind", "Failures, by kind.", MetricKind::Counter)?;
        for (camera, slot) in slots() {
            for kind in ["trap", "deadline", "memory", "budget", "invalid", "refused", "instantiate"] {
                let n = slot.failures_by_kind.get(kind).copied().unwrap_or(0);
                rows.row(&[("camera", camera), ("slot", slot.slot.as_str()), ("kind", kind)], float(n))?;
            }
        }
        let mut rows =
            family(encoder, "facestream_guest_swaps", "Changes of guests, by outcome.", MetricKind::Counter)?;
        for (camera, slot) in slots() {
            let swaps = slot.swaps;
            let outcomes = [
                ("swapped", swaps.swapped),
                ("confirmed", swaps.confirmed),
                ("rolled-back", swaps.rolled_back),
                ("reconfigured", swaps.reconfigured),
            ];
            for (outcome, n) in outcomes {
                rows.row(&[("camera", camera), ("slot", slot.slot.as_str()), ("outcome", outcome)], float(n))?;
            }
        }
        Ok(())
    }

    fn sinks(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Read = fn(&SinkStatus) -> f64;
        let families: [(&str, &str, MetricKind, Read); 5] = [
            ("facestream_sink_degraded", "1 while messages wait instead of getting through.", MetricKind::Gauge, |s| {
                f64::from(u8::from(s.degraded))
            }),
            ("facestream_sink_accepted", "Messages accepted.", MetricKind::Counter, |s| float(s.accepted)),
            ("facestream_sink_delivered", "Messages whose delivery was confirmed.", MetricKind::Counter, |s| {
                float(s.delivered)
            }),
            ("facestream_sink_queued_messages", "Messages accepted and not confirmed yet.", MetricKind::Gauge, |s| {
                float(s.queued)
            }),
            ("facestream_sink_queued_bytes", "Bytes of those.", MetricKind::Gauge, |s| float(s.queued_bytes)),
        ];
        for (name, help, kind, read) in families {
            let mut rows = family(encoder, name, help, kind)?;
            for sink in &self.sinks {
                rows.row(&[("sink", &sink.name)], read(sink))?;
            }
        }
        let mut rows = family(encoder, "facestream_sink_lost", "Messages lost, by reason.", MetricKind::Counter)?;
        for sink in &self.sinks {
            for (reason, &n) in &sink.lost {
                rows.row(&[("sink", &sink.name), ("reason", reason)], float(n))?;
            }
        }
        Ok(())
    }
}

fn counter_help(counter: Counter) -> &'static str {
    match counter {
        Counter::Sessions => "Connections made to the camera.",
        Counter::AccessUnits => "Access units received.",
        Counter::Bytes => "Bytes of access units received.",
        Counter::Decoded => "Frames decoded.",
        Counter::Skipped => "Frames left out on purpose.",
        Counter::Analysed => "Frames analysed by a model.",
        Counter::Detections => "Objects found.",
        Counter::Tracks => "Tracks begun.",
        Counter::TracksEnded => "Tracks ended.",
        Counter::Shots => "Shots given up by the scorer.",
        Counter::Messages => "Messages accepted by the sinks.",
        Counter::Stalls => "Times that no frame was decoded for too long.",
        Counter::MotionEstimated => "Frames for which the camera's motion was estimated.",
        Counter::MotionNoPrevious => "Frames without an estimate of motion: nothing to compare with.",
        Counter::MotionNoPixels => "Frames without an estimate of motion: pixels not readable.",
        Counter::MotionFewCorners => "Frames without an estimate of motion: too few corners.",
        Counter::MotionNoConsensus => "Frames without an estimate of motion: corners do not agree.",
        Counter::MotionUncertain => "Frames without an estimate of motion: agreeing corners too close together.",
        Counter::MotionImplausible => "Frames without an estimate of motion: beyond what a camera does.",
        Counter::MotionMicroseconds => "Time spent on estimating the camera's motion.",
        #[allow(unreachable_patterns, reason = "the list grows in another crate")]
        _ => "A counter of the camera.",
    }
}
