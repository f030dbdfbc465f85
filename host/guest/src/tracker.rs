//! A tracker guest: detections in, tracks out.

use facestream_core::guest::SlotKind;
use facestream_core::{Affine, Detection, FrameInfo, Track, TrackUpdate};

use crate::bindings::tracker;
use crate::component::{GuestComponent, Pre};
use crate::convert::{self, Snapshot};
use crate::error::GuestFailure;
use crate::host::limits::CallKind;
use crate::instance::{GuestEnv, Sandbox, Usage};
use crate::records;
use crate::validate;

/// One instance of a tracker, for one camera.
#[derive(Debug)]
pub struct TrackerGuest {
    pub(crate) sandbox: Sandbox,
    exports: Exports,
}

struct Exports(tracker::Tracker);

impl std::fmt::Debug for Exports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tracker")
    }
}

impl TrackerGuest {
    /// A fresh instance; `configure` comes next.
    ///
    /// # Errors
    /// When the component is no tracker, the pool is exhausted or its start-up code fails.
    pub fn instantiate(component: &GuestComponent, env: &GuestEnv) -> Result<Self, GuestFailure> {
        let Pre::Tracker(pre) = &component.pre else { return Err(wrong_slot(SlotKind::Tracker, component)) };
        let mut sandbox = Sandbox::new(component, SlotKind::Tracker, env);
        let exports = Exports(sandbox.instantiate(|store| pre.instantiate(store))?);
        Ok(Self { sandbox, exports })
    }

    /// What the instance holds and has used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.sandbox.usage()
    }

    /// Starts the random numbers that WASI gives this guest from a seed of the caller's, where the camera's own is not to
    /// decide: a test kit shows with two seeds whether the output depends on chance.
    pub fn reseed(&mut self, seed: u64) {
        self.sandbox.reseed(seed);
    }

    /// Leaves the instance so much fuel, so that a call that needs more traps in its middle: fault injection that hits the
    /// same instruction every time. `false` when the engine is not metered.
    pub fn leave_fuel(&mut self, fuel: u64) -> bool {
        self.sandbox.leave_fuel(fuel)
    }

    /// Settings: first call of a fresh instance, later new settings with state kept.
    ///
    /// # Errors
    /// `Refused(InvalidConfig)` from the guest; any other failure.
    pub(crate) fn call_configure(&mut self, config: &serde_json::Value) -> Result<(), GuestFailure> {
        let camera = self.sandbox.camera(config);
        let guest = self.exports.0.facestream_analytics_tracking();
        self.sandbox.call(CallKind::Start, |store| guest.call_configure(store, &camera))
    }

    /// One analysed frame. The answer is checked by itself (numbers, counts, ids once); against the camera's history
    /// it is checked by the slot.
    ///
    /// # Errors
    /// Any failure; all but `Refused` end the instance.
    pub(crate) fn call_advance(
        &mut self,
        frame: &FrameInfo,
        detections: &[Detection],
        motion: Option<Affine>,
    ) -> Result<TrackUpdate, GuestFailure> {
        self.sandbox.set_time(frame);
        let guest = self.exports.0.facestream_analytics_tracking();
        let (boxes, info) = (records::detections(detections), convert::frame_to_wit(frame));
        let motion = motion.map(convert::affine_to_wit);
        let update = self.sandbox.call(CallKind::Frame, |store| guest.call_advance(store, info, boxes, motion))?;
        let update = TrackUpdate { tracks: records::core_tracks(update.tracks), ended: update.ended };
        validate::update(&update, frame, detections.len(), self.sandbox.limits()).map_err(GuestFailure::Invalid)?;
        Ok(update)
    }

    /// Private state; the instance goes on unchanged.
    ///
    /// # Errors
    /// Any failure.
    pub(crate) fn call_save(&mut self) -> Result<Snapshot, GuestFailure> {
        let guest = self.exports.0.facestream_analytics_tracking();
        let snapshot = self.sandbox.call(CallKind::Frame, |store| guest.call_save(store))?;
        let snapshot = convert::snapshot_from_wit(snapshot);
        validate::snapshot(&snapshot, self.sandbox.limits()).map_err(GuestFailure::Invalid)?;
        Ok(snapshot)
    }

    /// Takes over: private state where the guest knows the schema, else the live tracks.
    ///
    /// # Errors
    /// `Refused(UnsupportedSnapshot)` from the guest; any other failure.
    pub(crate) fn call_restore(&mut self, state: &Snapshot, tracks: &[Track]) -> Result<(), GuestFailure> {
        let guest = self.exports.0.facestream_analytics_tracking();
        let wit = convert::snapshot_to_wit(state);
        let tracks = records::tracks(tracks);
        self.sandbox
            .call(CallKind::Frame, |store| guest.call_restore(store, &wit, tracks))
            .inspect_err(|failure| self.sandbox.tell_unread(&state.schema, failure))
    }
}

pub(crate) fn wrong_slot(wanted: SlotKind, component: &GuestComponent) -> GuestFailure {
    GuestFailure::Instantiate(format!("{} is a {}, not a {wanted}", component.digest(), component.kind()))
}
