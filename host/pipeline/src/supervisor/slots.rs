//! Changing a camera's guests while it runs.
//!
//! Owns how a request becomes a change (another guest, new settings, or nothing to do) and that what is remembered is
//! what runs. Blocks while guests load; to be called where that is allowed.

use std::sync::Arc;

use facestream_core::CameraId;
use facestream_core::guest::{
    ChangeKind, ChangeOutcome, GuestRef, Limits, OnFailure, SlotChange, SlotKind, SlotRequest, SlotSpec, SwapReport,
};
use facestream_guest_host::{GuestFailure, SlotGuest, StoreError, SwapError};

use super::{Supervisor, SwapFailure};
use crate::book::{Ran, SlotBook};
use crate::camera::RunningCamera;
use crate::changes::Changing;
use crate::wanted::WantedError;

impl Supervisor {
    /// Makes a slot run what is asked for, between two frames. The guest that runs already takes new settings as it is,
    /// when it can; else an instance of its own takes over from it. Blocks while the guest loads.
    ///
    /// # Errors
    /// See [`SwapFailure`].
    pub fn swap(&self, id: &CameraId, slot: SlotKind, request: &SlotRequest) -> Result<SwapReport, SwapFailure> {
        self.change_slot(id, slot, request, ChangeKind::Swap)
    }

    /// Back to the guest before, with its settings.
    ///
    /// # Errors
    /// See [`SwapFailure`].
    pub fn roll_back(&self, id: &CameraId, slot: SlotKind, who: &str) -> Result<SwapReport, SwapFailure> {
        self.roll_back_for(id, slot, who, None)
    }

    /// The same for a rollout: only while the guest that it put in is in the slot.
    pub(super) fn roll_back_for(
        &self,
        id: &CameraId,
        slot: SlotKind,
        who: &str,
        rollout: Option<u64>,
    ) -> Result<SwapReport, SwapFailure> {
        let camera = self.running(id)?;
        if rollout.is_some_and(|rollout| !camera.book().is_of_rollout(slot, rollout)) {
            return Err(SwapFailure::ChangedSince(slot));
        }
        let before = camera.book().previous(slot).ok_or(SwapFailure::NothingBefore(slot))?;
        if let Err(StoreError::NotFound { .. }) = self.parts.guests.resolve(&before.digest) {
            let Ran { spec, digest } = before;
            return Err(SwapFailure::BeforeGone { slot, guest: spec.guest, digest });
        }
        let wanted = self.by_component(before.spec, &before.digest);
        // It has run here before: no probation.
        let request = SlotRequest { wanted, probation_frames: Some(0), who: who.to_owned(), rollout, only_while: None };
        self.change_slot(id, slot, &request, ChangeKind::Rollback)
    }

    /// What a slot wants now, and the digest of its component; named by that where the name means another by now.
    ///
    /// # Errors
    /// `UnknownCamera`; `Lane`.
    pub fn wish(&self, id: &CameraId, slot: SlotKind) -> Result<(SlotSpec, String), SwapFailure> {
        let camera = self.running(id)?;
        let book = Arc::clone(camera.book());
        // Both change on that thread, together.
        let (wanted, digest) = camera.ask(move |stage| (book.wanted(slot), stage.guests.wanted(slot).digest))?;
        Ok((self.by_component(wanted, &digest), digest))
    }

    /// The same wish, by the component's digest where its name means another version by now.
    pub(super) fn by_component(&self, wanted: SlotSpec, digest: &str) -> SlotSpec {
        let means = self.parts.guests.resolve(&wanted.guest).ok().map(|g| g.info.digest.to_string());
        if means.as_deref() == Some(digest) { wanted } else { SlotSpec { guest: digest.to_owned(), ..wanted } }
    }

    /// Changes of a slot, the newest first. `None` when there is no such camera.
    #[must_use]
    pub fn history(&self, id: &CameraId, slot: SlotKind) -> Option<Vec<SlotChange>> {
        if let Some(camera) = self.camera(id) {
            return Some(camera.book().history(slot));
        }
        let (_, spec) = self.absent.get(id)?;
        Some(SlotBook::new(spec, self.records(id)).history(slot))
    }

    pub(super) fn change_slot(
        &self,
        id: &CameraId,
        slot: SlotKind,
        request: &SlotRequest,
        kind: ChangeKind,
    ) -> Result<SwapReport, SwapFailure> {
        let camera = self.running(id)?;
        let wanted = &request.wanted;
        self.parts.guest_config.limits_for(&wanted.limits).map_err(SwapFailure::Limits)?;
        let mut entry = self.entry(&camera, slot, request, kind);
        let refused = |entry: SlotChange, failure: SwapFailure| {
            let entry = SlotChange { outcome: ChangeOutcome::Refused, reason: Some(failure.to_string()), ..entry };
            camera.book().refused(slot, entry);
            failure
        };
        let failed = |entry, error: SwapError| refused(entry, SwapFailure::refused(&wanted.guest, error.to_string()));
        let guest = match self.slot_guest(wanted) {
            Ok(guest) => guest,
            Err(error) => {
                return Err(match SwapFailure::of_store(&wanted.guest, &error) {
                    later @ SwapFailure::Later(_) => later,
                    failure => refused(entry, failure),
                });
            }
        };
        entry.to.digest = guest.component.digest().to_string();

        // In a rollout new settings are on probation, too, which takes an instance of their own.
        let unchanged = camera.book().wanted(slot).config == wanted.config;
        let as_it_is = request.rollout.is_none() || unchanged;
        let same_guest = as_it_is && self.is_same_guest(&camera, slot, wanted, &entry.to);
        // Instantiated, configured and tried here, so that the camera stands still for save and restore alone. New settings
        // of the guest that runs are tried, too: they would break it without a guest before it to go back to.
        let prepare = |guest| match camera.factory().prepare(slot, guest) {
            Ok(prepared) => Ok(prepared),
            Err(error) => Err(failed(entry.clone(), error)),
        };
        let prepared = if same_guest && unchanged { None } else { Some(prepare(guest.clone())?) };
        if same_guest {
            let changing = self.changing_of(&camera)?;
            match self.reconfigure(&camera, slot, wanted, entry.clone())? {
                Ok(report) => {
                    self.remember(&camera)?;
                    return Ok(report);
                }
                // It does not take these settings while it runs, or is not there any more: an instance of its own.
                Err(SwapError::Start { failure: GuestFailure::Refused(_) | GuestFailure::Instantiate(_), .. }) => {}
                Err(error) => return Err(failed(entry, error)),
            }
            drop(changing);
        }

        let frames = request.probation_frames.unwrap_or(self.parts.guest_config.probation_frames);
        let prepared = match prepared {
            Some(prepared) => prepared,
            None => prepare(guest)?,
        };
        let prepared = prepared.on_probation_for(frames);
        // From here on no stop and no other swap of this camera comes between what runs and what is remembered.
        let _changing = self.changing_of(&camera)?;
        let (book, to_be, mut made) = (Arc::clone(camera.book()), wanted.clone(), entry.clone());
        let only_of = request.rollout.filter(|_| kind == ChangeKind::Rollback);
        let only_while = request.only_while.clone();
        let report = camera.ask(move |stage| {
            // Here nothing comes in between any more.
            if only_of.is_some_and(|rollout| !book.is_of_rollout(slot, rollout)) {
                return None;
            }
            made.from = stage.guests.wanted(slot);
            if only_while.is_some_and(|digest| digest != made.from.digest) {
                return None;
            }
            stage.record_before_swap(slot);
            let report = stage.guests.commit_swap(prepared).map(|(report, outcome)| {
                made.state = Some(report.state.to_owned());
                made.pause_us = Some(report.pause_us);
                made.outcome = if frames > 0 { ChangeOutcome::Probation } else { ChangeOutcome::Done };
                // Before what comes of it is told: a rollback must find it.
                book.changed(slot, to_be, made);
                stage.hand_over(outcome);
                report
            });
            stage.publish_status();
            Some(report)
        })?;
        let report = report.ok_or(SwapFailure::ChangedSince(slot))?.map_err(|error| failed(entry, error))?;
        self.remember(&camera)?;
        Ok(report)
    }

    /// Gives the guest that runs new settings.
    fn reconfigure(
        &self,
        camera: &RunningCamera,
        slot: SlotKind,
        wanted: &SlotSpec,
        mut entry: SlotChange,
    ) -> Result<Result<SwapReport, SwapError>, SwapFailure> {
        let digest = entry.to.digest.clone();
        let (book, wanted) = (Arc::clone(camera.book()), wanted.clone());
        Ok(camera.ask(move |stage| {
            // A guest on probation may have given way to the one before it since it was looked at. The book is written on this
            // thread.
            let now = book.wanted(slot);
            let same_limits = now.limits == wanted.limits && now.on_failure == wanted.on_failure;
            if stage.guests.digest(slot).to_string() != digest || !same_limits {
                let failure = GuestFailure::Instantiate("another guest has taken its place".to_owned());
                return Err(SwapError::Start { slot, guest: wanted.guest, failure });
            }
            if now.config == wanted.config {
                let (old_digest, new_digest) = (digest.clone(), digest);
                let (change, state, pause_us, probation_frames) = ("unchanged", "private", 0, 0);
                return Ok(SwapReport { slot, change, old_digest, new_digest, state, pause_us, probation_frames });
            }
            entry.from = stage.guests.wanted(slot);
            let report = stage.guests.reconfigure(slot, wanted.config.clone()).map(|(report, outcome)| {
                entry.change = ChangeKind::Reconfigure;
                entry.state = Some(report.state.to_owned());
                entry.pause_us = Some(report.pause_us);
                entry.outcome = ChangeOutcome::Done;
                book.changed(slot, wanted, entry);
                stage.hand_over(outcome);
                report
            });
            stage.publish_status();
            report
        })?)
    }

    /// Whether settings are all that is to change, and the guest is there to take them.
    fn is_same_guest(&self, camera: &RunningCamera, slot: SlotKind, wanted: &SlotSpec, to: &GuestRef) -> bool {
        let now = camera.book().wanted(slot);
        let runs = camera.status().slots.into_iter().find(|s| s.slot == slot);
        now.guest == wanted.guest
            && now.limits == wanted.limits
            && now.on_failure == wanted.on_failure
            && runs.is_some_and(|s| s.digest == to.digest && matches!(s.state, "running" | "probation"))
    }

    fn entry(&self, camera: &RunningCamera, slot: SlotKind, request: &SlotRequest, change: ChangeKind) -> SlotChange {
        let runs = camera.status().slots.into_iter().find(|s| s.slot == slot);
        SlotChange {
            at_unix_ms: self.parts.shared.clock.wall_ns() / 1_000_000,
            who: request.who.clone(),
            change,
            from: runs.map_or_else(
                || GuestRef { guest: camera.book().wanted(slot).guest, digest: String::new() },
                |s| s.wanted,
            ),
            to: GuestRef { guest: request.wanted.guest.clone(), digest: String::new() },
            state: None,
            pause_us: None,
            outcome: ChangeOutcome::Done,
            reason: None,
            rollout: request.rollout,
        }
    }

    /// Waits until nobody else changes this camera, which must still be there then.
    fn changing_of(&self, camera: &Arc<RunningCamera>) -> Result<Changing<'_>, SwapFailure> {
        let id = camera.id();
        let changing = self.changes.begin_blocking(id);
        if self.camera(id).is_some_and(|now| Arc::ptr_eq(&now, camera)) {
            Ok(changing)
        } else {
            Err(SwapFailure::UnknownCamera(id.clone()))
        }
    }

    /// Writes down what is new about a camera. Blocks on the disk.
    pub(super) fn remember(&self, camera: &RunningCamera) -> Result<(), WantedError> {
        camera.book().save_with(|spec, slots| {
            self.parts.wanted.put(camera.worker(), spec)?;
            self.parts.wanted.put_slots(&spec.id, slots)
        })
    }

    /// Limits of a slot's wish that this host does not allow.
    pub(super) fn refused_limits(&self, limits: &Limits) -> Vec<(&'static str, String)> {
        self.parts.guest_config.limits_for(limits).err().unwrap_or_default()
    }

    /// Finds and, the first time, compiles what a slot asks for.
    pub(super) fn slot_guest(&self, spec: &SlotSpec) -> Result<SlotGuest, StoreError> {
        let component = self.parts.guests.load(&spec.guest)?;
        let mut guest = SlotGuest::new(&spec.guest, component, spec.config.clone());
        // A wish that was accepted under higher ceilings must not keep a camera from coming back.
        guest.limits = Some(self.parts.guest_config.limits_within(&spec.limits));
        guest.on_failure = spec.on_failure;
        if spec.on_failure == OnFailure::Fallback {
            // Compiled now: when it is needed, frames wait for it.
            let name = guest.component.kind().default_guest();
            let stand_in = SlotGuest::new(name, self.parts.guests.load(name)?, serde_json::json!({}));
            guest.stand_in = Some(Box::new(stand_in));
        }
        Ok(guest)
    }

    /// The camera and slot that want a guest of this digest, running or not.
    #[must_use]
    pub fn user_of(&self, digest: &str) -> Option<(CameraId, SlotKind)> {
        let resolves = |spec: &SlotSpec| {
            self.parts.guests.resolve(&spec.guest).is_ok_and(|guest| guest.info.digest.to_string() == digest)
        };
        let running = self.statuses().into_iter().find_map(|camera| {
            let uses = |s: &facestream_core::guest::SlotStatus| {
                s.digest == digest
                    || s.wanted.digest == digest
                    || s.probation.as_ref().is_some_and(|p| p.instead_of.digest == digest)
            };
            camera.slots.iter().find(|s| uses(s)).map(|s| (camera.camera_id.clone(), s.slot))
        });
        // A store that cannot be read has been logged; what runs is known without it.
        running.or_else(|| {
            let wanted = self.parts.wanted.all().map(|w| w.cameras).unwrap_or_default();
            wanted.into_iter().find_map(|(_, spec)| {
                let slot = SlotKind::ALL.into_iter().find(|&kind| resolves(spec.guests.slot(kind)))?;
                Some((spec.id, slot))
            })
        })
    }
}
