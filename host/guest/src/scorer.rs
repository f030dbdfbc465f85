//! A scorer guest: tracks and pixels in, shots out.

use std::sync::Arc;

use facestream_core::guest::SlotKind;
use facestream_core::{Detection, Frame, Shot, Track};
use wasmtime::component::Resource;

use crate::bindings::{scorer, shots};
use crate::component::{GuestComponent, Pre};
use crate::convert::{self, Snapshot};
use crate::error::GuestFailure;
use crate::host::limits::CallKind;
use crate::instance::{GuestEnv, Sandbox, Usage};
use crate::records;
use crate::tracker::wrong_slot;
use crate::validate;

/// One instance of a scorer, for one camera.
#[derive(Debug)]
pub struct ScorerGuest {
    pub(crate) sandbox: Sandbox,
    exports: Exports,
}

struct Exports(scorer::Scorer);

impl std::fmt::Debug for Exports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scorer")
    }
}

impl ScorerGuest {
    /// A fresh instance; `configure` comes next.
    ///
    /// # Errors
    /// When the component is no scorer, the pool is exhausted or its start-up code fails.
    pub fn instantiate(component: &GuestComponent, env: &GuestEnv) -> Result<Self, GuestFailure> {
        let Pre::Scorer(pre) = &component.pre else { return Err(wrong_slot(SlotKind::Scorer, component)) };
        let mut sandbox = Sandbox::new(component, SlotKind::Scorer, env);
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
        let guest = self.exports.0.facestream_analytics_scoring();
        self.sandbox.call(CallKind::Start, |store| guest.call_configure(store, &camera))
    }

    /// One analysed frame; gives up the shots that are due. The frame is lent for this call: a guest that keeps its
    /// handle traps.
    ///
    /// # Errors
    /// Any failure; all but `Refused` end the instance.
    pub(crate) fn call_observe(
        &mut self,
        frame: &Frame,
        detections: &[Detection],
        tracks: &[Track],
        ended: &[u64],
    ) -> Result<Vec<Shot>, GuestFailure> {
        self.sandbox.set_time(&frame.info);
        let lent = self.sandbox.host(|state| state.lend(Arc::clone(&frame.picture)))?;
        let info = convert::frame_to_wit(&frame.info);
        let (detections, tracks) = (records::detections(detections), records::tracks(tracks));
        let guest = self.exports.0.facestream_analytics_scoring();
        let handle = Resource::new_borrow(lent.rep());
        let given = self
            .sandbox
            .call(CallKind::Frame, |store| guest.call_observe(store, info, handle, detections, tracks, ended));
        self.sandbox.host(|state| state.take_back(lent))?;
        let given = given?;
        self.taken(given)
    }

    /// Time passes without a frame; gives up the shots that are due.
    ///
    /// # Errors
    /// As [`Self::observe`].
    pub(crate) fn call_tick(&mut self, timestamp_ns: u64) -> Result<Vec<Shot>, GuestFailure> {
        self.sandbox.set_timestamp(timestamp_ns);
        let guest = self.exports.0.facestream_analytics_scoring();
        let given = self.sandbox.call(CallKind::Frame, |store| guest.call_tick(store, timestamp_ns))?;
        self.taken(given)
    }

    /// Gives up all that is held.
    ///
    /// # Errors
    /// As [`Self::observe`].
    pub(crate) fn call_flush(&mut self) -> Result<Vec<Shot>, GuestFailure> {
        let guest = self.exports.0.facestream_analytics_scoring();
        let given = self.sandbox.call(CallKind::Frame, |store| guest.call_flush(store))?;
        self.taken(given)
    }

    /// Private state and the shots held. The shots' pictures leave the instance: `restore` on it, or drop it.
    ///
    /// # Errors
    /// Any failure.
    pub(crate) fn call_save(&mut self) -> Result<(Snapshot, Vec<Shot>), GuestFailure> {
        let guest = self.exports.0.facestream_analytics_scoring();
        let (snapshot, held) = self.sandbox.call(CallKind::Frame, |store| guest.call_save(store))?;
        let snapshot = convert::snapshot_from_wit(snapshot);
        validate::snapshot(&snapshot, self.sandbox.limits()).map_err(GuestFailure::Invalid)?;
        Ok((snapshot, self.taken(held)?))
    }

    /// Takes over: private state where the guest knows the schema, and the shots held so far.
    ///
    /// # Errors
    /// `Refused(UnsupportedSnapshot)` from the guest; `Invalid` when the shots do not fit the guest's crop budget; any
    /// other failure.
    pub(crate) fn call_restore(&mut self, state: &Snapshot, held: &[Shot]) -> Result<(), GuestFailure> {
        let given =
            self.sandbox.host(|host| held.iter().map(|shot| host.hand_shot(shot)).collect::<Result<Vec<_>, _>>())?;
        let Some(given) = given.into_iter().collect::<Option<Vec<shots::Shot>>>() else {
            return Err(GuestFailure::Invalid(
                "the held shots do not fit the guest's crop budget (limits.max_crop_bytes)".to_owned(),
            ));
        };
        let guest = self.exports.0.facestream_analytics_scoring();
        let wit = convert::snapshot_to_wit(state);
        self.sandbox
            .call(CallKind::Frame, |store| guest.call_restore(store, &wit, &given))
            .inspect_err(|failure| self.sandbox.tell_unread(&state.schema, failure))
    }

    /// Takes shots with their pictures out of the guest's hands and checks them.
    fn taken(&mut self, given: Vec<shots::Shot>) -> Result<Vec<Shot>, GuestFailure> {
        let taken = self
            .sandbox
            .host(|state| given.into_iter().map(|shot| state.take_shot(shot)).collect::<Result<Vec<_>, _>>())?;
        validate::shots(&taken, self.sandbox.limits()).map_err(GuestFailure::Invalid)?;
        Ok(taken)
    }
}
