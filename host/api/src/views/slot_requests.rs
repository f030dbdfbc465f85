//! What may be asked of a slot: a guest by its name, or with settings, limits and a policy.
//!
//! Owns the bodies and what is checked before the host is asked. How slots are doing is in `slots`.

use facestream_core::guest::{SlotRequest, SlotSpec};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::slots::{LimitsView, OnFailureView};
use crate::control::FieldProblem;
use crate::problem::Problem;

/// Why a text is no reference to a guest.
pub(crate) fn reference_problem(reference: &str) -> Option<String> {
    let ok = !reference.is_empty() && reference.len() <= 256 && reference.bytes().all(|b| b.is_ascii_graphic());
    (!ok).then(|| "must be `name`, `name@version` or `sha256:<hex>` of a guest in the store".to_owned())
}

/// A guest with its settings.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GuestWithConfig {
    /// `name`, `name@version` or `sha256:<hex>` of a guest in the store.
    #[schema(example = "botsort")]
    guest: String,
    /// Settings for the guest.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    config: Option<Map<String, Value>>,
    /// Limits other than the host's, up to its ceilings.
    #[serde(default)]
    limits: LimitsView,
    /// What happens when it fails again and again: `restart` when left out.
    #[serde(default)]
    on_failure: OnFailureView,
}

/// A guest by its reference, or with settings.
pub(crate) struct GuestChoice(GuestWithConfig);

/// What a slot is to run from now on.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SwapWithConfig {
    /// `name`, `name@version` or `sha256:<hex>` of a guest in the store. Left out: the one that runs keeps its limits and
    /// policy and gets the settings in `config`.
    #[serde(default)]
    #[schema(example = "botsort")]
    guest: Option<String>,
    /// Settings for the guest.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    config: Option<Map<String, Value>>,
    /// Limits other than the host's, up to its ceilings: all of them, those that are left out are the host's own.
    #[serde(default)]
    #[schema(value_type = LimitsView)]
    limits: Option<LimitsView>,
    /// What happens when it fails again and again: `restart` when left out.
    #[serde(default)]
    #[schema(value_type = OnFailureView)]
    on_failure: Option<OnFailureView>,
    /// For so many frames the guest before is kept, and comes back with the state when this one fails; 0: it goes at
    /// once. Left out: the host's own number (`guests.probation_frames`).
    #[serde(default)]
    #[schema(maximum = 1000000)]
    probation_frames: Option<u32>,
    /// Only try it: the answer tells what a swap would do, and nothing changes.
    #[serde(default)]
    dry_run: bool,
}

/// Body of a change of a slot: a guest by its reference, or with settings.
pub(crate) struct SwapRequest(SwapWithConfig);

/// The longest probation.
const MAX_PROBATION_FRAMES: u32 = 1_000_000;

impl GuestChoice {
    pub(crate) fn guest(&self) -> &str {
        &self.0.guest
    }

    pub(crate) fn has_config(&self) -> bool {
        self.0.config.is_some()
    }

    /// The guest, when its reference can be one.
    pub(crate) fn checked(self) -> Result<SlotSpec, Problem> {
        match reference_problem(&self.0.guest) {
            Some(problem) => Err(Problem::invalid(vec![FieldProblem::new("/guest", problem)])),
            None => Ok(self.into_slot()),
        }
    }

    pub(crate) fn into_slot(self) -> SlotSpec {
        let GuestWithConfig { guest, config, limits, on_failure } = self.0;
        slot_spec(guest, config, limits, on_failure)
    }
}

/// A slot's wish, of its parts.
pub(crate) fn slot_spec(
    guest: String,
    config: Option<Map<String, Value>>,
    limits: LimitsView,
    on_failure: OnFailureView,
) -> SlotSpec {
    let config = Value::Object(config.unwrap_or_default());
    SlotSpec { limits: limits.into(), on_failure: on_failure.into(), ..SlotSpec::new(guest, config) }
}

/// Refuses a probation that is too long.
pub(crate) fn checked_probation(frames: Option<u32>) -> Result<(), Problem> {
    match probation_problem(frames) {
        Some(problem) => Err(Problem::invalid(vec![problem])),
        None => Ok(()),
    }
}

pub(crate) fn probation_problem(frames: Option<u32>) -> Option<FieldProblem> {
    frames
        .filter(|&frames| frames > MAX_PROBATION_FRAMES)
        .map(|_| FieldProblem::new("/probation_frames", format!("must be at most {MAX_PROBATION_FRAMES}")))
}

impl SwapRequest {
    /// Whether nothing is to change.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.0.dry_run
    }

    /// Whether it names no guest: the one that runs is meant.
    pub(crate) fn is_for_the_same_guest(&self) -> bool {
        self.0.guest.is_none()
    }

    /// The change, when it can be one. `runs`: what the slot wants now and its digest, for one that names no guest.
    pub(crate) fn checked(self, who: String, runs: Option<(SlotSpec, String)>) -> Result<SlotRequest, Problem> {
        let SwapWithConfig { guest, config, limits, on_failure, probation_frames, dry_run: _ } = self.0;
        let mut problems = Vec::new();
        problems.extend(probation_problem(probation_frames));
        let (wanted, only_while) = match runs {
            Some((runs, digest)) => {
                if config.is_none() || limits.is_some() || on_failure.is_some() {
                    let text = "name a guest; without one only `config`, its new settings, is taken";
                    problems.push(FieldProblem::new("/guest", text));
                }
                (SlotSpec { config: Value::Object(config.unwrap_or_default()), ..runs }, Some(digest))
            }
            None => {
                let guest = guest.unwrap_or_default();
                problems.extend(reference_problem(&guest).map(|p| FieldProblem::new("/guest", p)));
                (slot_spec(guest, config, limits.unwrap_or_default(), on_failure.unwrap_or_default()), None)
            }
        };
        if !problems.is_empty() {
            return Err(Problem::invalid(problems));
        }
        Ok(SlotRequest { wanted, probation_frames, who, rollout: None, only_while })
    }
}

/// A JSON string that is a guest's name, or an object that says more. By hand: `serde(untagged)` would answer every
/// mistake with "did not match any variant".
macro_rules! name_or_object {
    ($type:ident, $object:ident, $says:literal, $about:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Choice;
                impl<'de> Visitor<'de> for Choice {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($says)
                    }
                    fn visit_str<E>(self, name: &str) -> Result<$type, E> {
                        Ok($type($object { guest: name.to_owned().into(), ..$object::default() }))
                    }
                    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<$type, A::Error> {
                        $object::deserialize(MapAccessDeserializer::new(map)).map($type)
                    }
                }
                deserializer.deserialize_any(Choice)
            }
        }

        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                let name = ObjectBuilder::new()
                    .schema_type(Type::String)
                    .description(Some("`name`, `name@version` or `sha256:<hex>` of a guest in the store"))
                    .build();
                OneOfBuilder::new()
                    .description(Some($about))
                    .item(name)
                    .item(Ref::from_schema_name(stringify!($object)))
                    .into()
            }
        }

        impl ToSchema for $type {
            fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                schemas.push((stringify!($object).to_owned(), $object::schema()));
                $object::schemas(schemas);
            }
        }
    };
}

name_or_object!(
    GuestChoice,
    GuestWithConfig,
    "the name of a guest, or {\"guest\": name, \"config\": {…}}",
    "A guest, with or without settings."
);
name_or_object!(
    SwapRequest,
    SwapWithConfig,
    "the name of a guest, {\"guest\": name, \"config\": {…}, \"probation_frames\": 50}, or {\"config\": {…}} for the guest that runs",
    "What a slot is to run from now on: a guest, with or without settings."
);
