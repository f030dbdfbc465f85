//! Errors of the host's parts in the words of [`facestream_api::Control`].
//!
//! Owns which kind of problem each error is to a client. Must not decide anything else.

use facestream_api::control::{ControlError, FieldProblem};
use facestream_core::guest::SlotKind;
use facestream_guest_host::{GuestStore, StoreError};
use facestream_infer::InferError;
use facestream_pipeline::StartError;
use facestream_pipeline::models::ModelError;
use facestream_pipeline::supervisor::SwapFailure;
use facestream_registry::RegistryError;

use crate::config::near;

/// Names in an answer about a guest that there is not; a store may hold thousands.
const MAX_NAMES: usize = 16;

pub(super) fn start_error(error: StartError) -> ControlError {
    let invalid = |pointer: &str, detail: String| ControlError::Invalid(vec![FieldProblem::new(pointer, detail)]);
    match error {
        StartError::Conflict { camera, difference } => ControlError::CameraConflict { camera, difference },
        StartError::Address(error) => invalid("/rtsp_link", error.to_string()),
        StartError::Invalid(text) => invalid("/detect_fps", text),
        StartError::NoSuchGpu { there: 0, .. } => {
            invalid("/gpu", "this host uses no GPU (`facestream doctor` says why); leave `gpu` out".to_owned())
        }
        error @ StartError::NoSuchGpu { .. } => invalid("/gpu", error.to_string()),
        StartError::Model(error @ ModelError::Unknown { .. }) => invalid("/model", error.to_string()),
        StartError::Guest { slot, reason, .. } => invalid(&format!("/guests/{slot}"), reason),
        StartError::Limit { slot, limit, reason } => invalid(&format!("/guests/{slot}/limits/{limit}"), reason),
        // A file that can never run, as opposed to a library that is missing now.
        StartError::Model(
            ref error @ ModelError::Load {
                reason: InferError::NotOnnx { .. } | InferError::UnknownFamily { .. } | InferError::Unreadable { .. },
                ..
            },
        ) => invalid("/model", error.to_string()),
        error @ (StartError::Busy(_) | StartError::Later(_) | StartError::Stopping | StartError::Lost(_)) => {
            ControlError::Unavailable(error.to_string())
        }
        error @ StartError::Full(_) => ControlError::NoCapacity(error.to_string()),
        error @ StartError::Model(_) => ControlError::Unavailable(error.to_string()),
        StartError::Wanted(error) => {
            ControlError::Unavailable(format!("the camera could not be written down: {}", chain(&error)))
        }
        error @ StartError::Spawn(_) => ControlError::internal(error),
    }
}

pub(super) fn store_error(error: StoreError) -> ControlError {
    match error {
        StoreError::NotFound { reference, .. } => ControlError::unknown_guest(reference),
        error @ (StoreError::VersionTaken { .. } | StoreError::VersionGone { .. }) => {
            ControlError::GuestConflict(error.to_string())
        }
        error if error.is_for_now() => ControlError::Unavailable(chain(&error)),
        error @ StoreError::Full { .. } => ControlError::NoCapacity(error.to_string()),
        error @ (StoreError::BadReference(_) | StoreError::Load { .. } | StoreError::Signature { .. }) => {
            ControlError::GuestRefused(chain(&error))
        }
        error => ControlError::internal(error),
    }
}

/// Says of a guest that there is not which one was probably meant, or which there are for the slot.
pub(super) fn with_guests_of(slot: SlotKind, store: &GuestStore, error: ControlError) -> ControlError {
    let reference = match error {
        ControlError::UnknownGuest { reference, .. } => reference,
        other => return other,
    };
    let stored: Vec<_> = store.list().into_iter().filter(|guest| guest.info.kind == slot).collect();
    let mut names: Vec<&str> = stored.iter().map(|guest| guest.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let name = reference.split('@').next().unwrap_or_default();
    let hint = if names.contains(&name) {
        let versions = stored.iter().filter(|guest| guest.name == name).map(|guest| guest.version.as_str());
        let latest: Vec<&str> = versions.rev().take(MAX_NAMES).collect();
        format!("of `{name}` there is {}", latest.join(", "))
    } else if let Some(meant) = near(name, names.iter().copied()) {
        format!("did you mean `{meant}`?")
    } else if names.len() <= MAX_NAMES {
        format!("for the {slot} there are: {}", names.join(", "))
    } else {
        return ControlError::unknown_guest(reference);
    };
    ControlError::UnknownGuest { reference, hint }
}

pub(super) fn swap_error(error: SwapFailure) -> ControlError {
    match error {
        SwapFailure::UnknownCamera(id) => ControlError::UnknownCamera(id),
        SwapFailure::Limits(problems) => {
            let problem = |(limit, reason): (&str, String)| FieldProblem::new(format!("/limits/{limit}"), reason);
            ControlError::Invalid(problems.into_iter().map(problem).collect())
        }
        SwapFailure::Guest { unknown: true, guest, .. } => ControlError::unknown_guest(guest),
        SwapFailure::Guest { reason, .. } => ControlError::GuestRefused(reason),
        SwapFailure::NothingBefore(slot) => ControlError::NothingBefore(slot),
        SwapFailure::BeforeGone { slot, guest, digest } => ControlError::UnknownGuest {
            reference: guest,
            hint: format!(
                "it ran in the {slot} before ({digest}) and was deleted: upload it again, or put another guest in"
            ),
        },
        // Of rollouts, which take it as an answer, and of settings alone, which are for the guest that was looked at.
        error @ SwapFailure::ChangedSince(_) => ControlError::Unavailable(error.to_string()),
        SwapFailure::Later(reason) => ControlError::Unavailable(reason),
        SwapFailure::Lane(error) => ControlError::Unavailable(error.to_string()),
        SwapFailure::Wanted(error) => ControlError::Unavailable(format!(
            "the change is made, but could not be written down ({}): a restart of the host may undo it; ask again when that is mended",
            chain(&error)
        )),
    }
}

pub(super) fn registry_error(error: RegistryError) -> ControlError {
    let told = error.to_string();
    match error {
        RegistryError::BadReference(_) | RegistryError::NoDigest => {
            ControlError::Invalid(vec![FieldProblem::new("/reference", told)])
        }
        RegistryError::NotAllowed { .. } => ControlError::RegistryNotAllowed(told),
        RegistryError::NotFound { .. } => ControlError::NotInRegistry(told),
        RegistryError::TooLarge { .. } => ControlError::TooLarge(format!("{told} (server.max_upload_bytes)")),
        RegistryError::NotAGuest(_) => ControlError::GuestRefused(told),
        RegistryError::Denied { .. }
        | RegistryError::Unreachable { .. }
        | RegistryError::Failed { .. }
        | RegistryError::WrongBytes { .. }
        | RegistryError::Time { .. }
        | RegistryError::Client { .. } => ControlError::RegistryFailed(told),
    }
}

/// An error with its causes, each once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}
