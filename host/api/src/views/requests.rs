//! Request bodies. All are strict: an unknown field is an error, so that a typo does not silently mean a default.

use facestream_core::camera::{CameraId, CameraSpec, Transport};
use facestream_core::guest::{GuestsSpec, SlotKind};
use facestream_core::secret::SourceUrl;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::slot_requests::{GuestChoice, reference_problem};
use crate::control::{CameraDefaults, CameraRef, FieldProblem};
use crate::problem::Problem;

macro_rules! camera_bodies {
    ($($(#[$meta:meta])* $field:ident: $type:ty,)+) => {
        /// Body of `POST /camera/start`. Only `rtsp_link` and `camera_id` are needed.
        #[derive(Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct StartRequest {
            /// Name of the camera: 1 to 128 of `A-Z a-z 0-9 . _ : -`, a letter or digit first.
            #[schema(example = "550e8400-e29b-41d4-a716-446655440000", min_length = 1, max_length = 128)]
            camera_id: String,
            $($(#[$meta])* $field: $type,)+
        }

        /// Body of `PUT /api/v1/cameras/{id}`. Only `rtsp_link` is needed.
        #[derive(Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct CameraRequest {
            $($(#[$meta])* $field: $type,)+
        }

        impl StartRequest {
            /// Checks everything and fills in the defaults.
            pub(crate) fn into_spec(self, defaults: CameraDefaults) -> Result<CameraSpec, Problem> {
                let Self { camera_id, $($field),+ } = self;
                let id = CameraId::new(&camera_id).map_err(|e| FieldProblem::new("/camera_id", e.to_string()));
                CameraRequest { $($field),+ }.spec(id, defaults)
            }
        }
    };
}

camera_bodies! {
    /// Address of the camera, with its credentials. Never shown again but without them.
    #[schema(example = "rtsp://192.168.1.100:554/stream", write_only)]
    rtsp_link: String,
    /// What fills its slots; a slot left out gets the host's default.
    #[serde(default)]
    guests: Option<GuestChoices>,
    /// Settings of its guests, by slot.
    #[serde(default)]
    config: Option<SlotSettings>,
    /// Name of the model, from `GET /api/v1/models`.
    #[serde(default)]
    #[schema(example = "yunet")]
    model: Option<String>,
    /// Frames a second to analyse; all when left out.
    #[serde(default)]
    #[schema(example = 10.0)]
    detect_fps: Option<f64>,
    /// Estimate the camera's own motion and tell the tracker: for cameras that pan, tilt, zoom or shake. The host's
    /// default when left out.
    #[serde(default)]
    #[schema(example = false)]
    camera_motion: Option<bool>,
    /// How RTP travels: `tcp` (default) or `udp`.
    #[serde(default)]
    #[schema(example = "tcp")]
    transport: Option<String>,
    /// Decode and analyse key frames only.
    #[serde(default)]
    keyframes_only: bool,
    /// Number of the GPU that shall decode and analyse the camera; without it the one with the fewest cameras.
    #[serde(default)]
    #[schema(example = 0)]
    gpu: Option<usize>,
    /// Give up after so many connects in a row without a frame; never when left out.
    #[serde(default)]
    #[schema(minimum = 1)]
    max_attempts: Option<u32>,
}

impl CameraRequest {
    /// Checks everything and fills in the defaults.
    pub(crate) fn into_spec(self, id: CameraId, defaults: CameraDefaults) -> Result<CameraSpec, Problem> {
        self.spec(Ok(id), defaults)
    }

    fn spec(self, id: Result<CameraId, FieldProblem>, defaults: CameraDefaults) -> Result<CameraSpec, Problem> {
        let mut problems = Vec::new();
        let mut wrong = |pointer: &str, detail: String| problems.push(FieldProblem::new(pointer, detail));

        let url = SourceUrl::parse(&self.rtsp_link).map_err(|e| wrong("/rtsp_link", e.to_string())).ok();
        let transport = match self.transport.as_deref() {
            None | Some("tcp") => Transport::Tcp,
            Some("udp") => Transport::Udp,
            Some(_) => {
                wrong("/transport", "must be `tcp` or `udp`".to_owned());
                Transport::Tcp
            }
        };
        if self.model.as_ref().is_some_and(|m| m.is_empty() || m.len() > 256) {
            wrong("/model", "must be a name of 1 to 256 bytes".to_owned());
        }
        if self.detect_fps.is_some_and(|fps| !(fps > 0.0 && fps <= 1000.0)) {
            wrong("/detect_fps", "must be above 0 and at most 1000".to_owned());
        }
        if self.max_attempts == Some(0) {
            wrong("/max_attempts", "must be at least 1; leave it out to try for ever".to_owned());
        }
        let guests = merge(defaults.guests, self.guests, self.config, &mut wrong);
        let id = id.map_err(|problem| problems.insert(0, problem)).ok();

        match (id, url) {
            (Some(id), Some(url)) if problems.is_empty() => Ok(CameraSpec {
                id,
                url,
                transport,
                model: self.model.or(defaults.model),
                #[expect(clippy::cast_possible_truncation, reason = "checked to be within 0 to 1000")]
                detect_fps: self.detect_fps.map(|fps| fps as f32).or(defaults.detect_fps),
                keyframes_only: self.keyframes_only,
                gpu: self.gpu,
                camera_motion: self.camera_motion.unwrap_or(defaults.camera_motion),
                max_attempts: self.max_attempts,
                guests,
            }),
            _ => Err(Problem::invalid(problems)),
        }
    }
}

/// The default guests, with those of the request and their settings put over them. Settings for a slot whose guest is
/// not named go to the default guest.
fn merge(
    mut guests: GuestsSpec,
    choices: Option<GuestChoices>,
    settings: Option<SlotSettings>,
    wrong: &mut impl FnMut(&str, String),
) -> GuestsSpec {
    let choices = choices.unwrap_or_default();
    let settings = settings.unwrap_or_default();
    let slots = [
        (SlotKind::Tracker, choices.tracker, settings.tracker),
        (SlotKind::Scorer, choices.scorer, settings.scorer),
        (SlotKind::Formatter, choices.formatter, settings.formatter),
    ];
    for (kind, choice, settings) in slots {
        if choice.as_ref().is_some_and(GuestChoice::has_config) && settings.is_some() {
            wrong(
                &format!("/config/{kind}"),
                format!("settings are also given in /guests/{kind}/config; give them once"),
            );
        }
        let slot = guests.slot_mut(kind);
        if let Some(choice) = choice {
            if let Some(problem) = reference_problem(choice.guest()) {
                wrong(&format!("/guests/{kind}"), problem);
            }
            *slot = choice.into_slot();
        }
        if let Some(settings) = settings {
            slot.config = Value::Object(settings);
        }
    }
    guests
}

/// What fills the slots of a camera.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GuestChoices {
    /// Detections to tracks.
    #[serde(default)]
    tracker: Option<GuestChoice>,
    /// Tracks and pixels to shots.
    #[serde(default)]
    scorer: Option<GuestChoice>,
    /// Events to messages.
    #[serde(default)]
    formatter: Option<GuestChoice>,
}

/// Settings by slot: a JSON object each.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SlotSettings {
    /// For the tracker.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    tracker: Option<Map<String, Value>>,
    /// For the scorer.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    scorer: Option<Map<String, Value>>,
    /// For the formatter.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    formatter: Option<Map<String, Value>>,
}

/// Body of `POST /camera/stop`: one of the two.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StopRequest {
    /// Name of the camera.
    #[serde(default)]
    #[schema(example = "550e8400-e29b-41d4-a716-446655440000")]
    camera_id: Option<String>,
    /// Number of its worker.
    #[serde(default)]
    worker_id: Option<u64>,
}

impl StopRequest {
    pub(crate) fn camera(self) -> Result<CameraRef, Problem> {
        match (self.camera_id, self.worker_id) {
            (Some(id), None) => CameraId::new(&id)
                .map(CameraRef::Camera)
                .map_err(|e| Problem::invalid(vec![FieldProblem::new("/camera_id", e.to_string())])),
            (None, Some(worker)) => Ok(CameraRef::Worker(worker)),
            (None, None) => Err(Problem::invalid(vec![FieldProblem::new("", "give `camera_id` or `worker_id`")])),
            (Some(_), Some(_)) => {
                Err(Problem::invalid(vec![FieldProblem::new("", "give either `camera_id` or `worker_id`, not both")]))
            }
        }
    }
}

/// Body of `POST /api/v1/guests/pull`. Only `reference` is needed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PullRequest {
    /// The artifact by the digest of its manifest; a tag is refused, because it may mean other bytes tomorrow.
    #[schema(
        example = "oci://ghcr.io/team/my-scorer@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    )]
    pub(crate) reference: String,
    /// Name of the guest; left out: the artifact's (`org.opencontainers.image.title`), else the last part of the repository.
    #[serde(default)]
    #[schema(example = "my-scorer")]
    pub(crate) name: Option<String>,
    /// Version of the guest; left out: the artifact's (`org.opencontainers.image.version`).
    #[serde(default)]
    #[schema(example = "1.0.0")]
    pub(crate) version: Option<String>,
    /// Signature over name, version and component; left out: the artifact's (`facestream.guest.signature`).
    #[serde(default)]
    pub(crate) signature: Option<String>,
}

/// Query of `POST /api/v1/guests` for a raw body.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UploadQuery {
    /// Name of the guest; left out: the one in the component's metadata.
    pub(crate) name: Option<String>,
    /// Version of the guest; left out: the one in the component's metadata.
    pub(crate) version: Option<String>,
    /// Signature over name, version and component, `ed25519:<64 hex digits>:<128 hex digits>` (`facestream guest sign`).
    pub(crate) signature: Option<String>,
}

/// Bytes of the content type.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct Binary(Vec<u8>);

/// Form of `POST /api/v1/guests`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used; the fields are read one by one")]
pub(crate) struct UploadForm {
    /// Name of the guest; left out: the one in the component's metadata.
    name: Option<String>,
    /// Version of the guest; left out: the one in the component's metadata.
    version: Option<String>,
    /// Signature over name, version and component.
    signature: Option<String>,
    /// The WebAssembly component.
    #[schema(value_type = String, format = Binary, content_media_type = "application/wasm")]
    component: Vec<u8>,
}

/// Query of `GET /api/v1/audit`.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditQuery {
    /// How many entries; left out: 100, at most 1000.
    pub(crate) limit: Option<usize>,
}

/// Query of `GET /api/v1/events`.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// Only events of this camera; left out: all.
    pub(crate) camera: Option<String>,
}
