//! What stands behind a guest's imports: the data of one store.
//!
//! Owns the per-instance budgets, handles and clocks. Must not know slots or what is done with results.

pub(crate) mod budget;
pub(crate) mod limits;
pub(crate) mod log;
pub(crate) mod pixels;
pub(crate) mod wasi;

use std::sync::Arc;
use std::time::Instant;

use facestream_core::guest::SlotKind;
use facestream_core::{CameraId, Picture, Shot};
use wasmtime::component::{Resource, ResourceTable};

use crate::bindings::{HeldCrop, LentFrame, shots, types};
use crate::config::GuestLimits;
use crate::convert;
use crate::record::{CropOrigin, Tape};

/// Handles that one guest can hold: crops, streams, pollables. Bytes of crops are limited apart.
const MAX_HANDLES: usize = 8192;

/// Time as a guest sees it: that of the frame it is called for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GuestTime {
    /// Nanoseconds, never goes back.
    pub(crate) monotonic_ns: u64,
    /// Nanoseconds since the Unix epoch.
    pub(crate) wall_ns: u64,
}

/// The data of one guest instance's store.
pub(crate) struct HostState {
    pub(crate) memory: limits::MemoryLimiter,
    pub(crate) deadline: limits::Deadline,
    pub(crate) budgets: budget::Budgets,
    pub(crate) table: ResourceTable,
    pub(crate) crops: CropBudget,
    pub(crate) log: log::GuestLog,
    pub(crate) time: GuestTime,
    pub(crate) random: wasi::SeededRandom,
    /// Session and sequence of the frame that the guest is called for.
    pub(crate) frame: (u64, u64),
    /// Notes or gives again what the host answers.
    pub(crate) tape: Tape,
    /// Only of programs (tests of a crate): guests have no arguments, no output of their own and no exit.
    pub(crate) program: Option<Program>,
}

/// What a program has that a guest has not.
#[derive(Debug)]
pub(crate) struct Program {
    /// Its name and arguments.
    pub(crate) arguments: Vec<String>,
    /// The code it ended with, once it did.
    pub(crate) exit: Option<u8>,
}

impl HostState {
    pub(crate) fn new(camera: &CameraId, slot: SlotKind, guest: &str, limits: &GuestLimits) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        Self {
            memory: limits::MemoryLimiter::new(limits.max_memory_bytes),
            deadline: limits::Deadline::new(limits),
            budgets: budget::Budgets::new(limits),
            table,
            crops: CropBudget { held: 0, limit: limits.max_crop_bytes },
            log: log::GuestLog::new(camera, slot, guest, limits, Instant::now()),
            time: GuestTime::default(),
            random: wasi::SeededRandom::for_slot(camera, slot),
            frame: (0, 0),
            tape: Tape::Off,
            program: None,
        }
    }

    /// Lends a frame for one call. The guest's handle ends with the call; the host's entry with [`Self::take_back`].
    pub(crate) fn lend(&mut self, picture: Arc<dyn Picture>) -> wasmtime::Result<Resource<LentFrame>> {
        Ok(self.table.push(LentFrame { picture })?)
    }

    pub(crate) fn take_back(&mut self, frame: Resource<LentFrame>) -> wasmtime::Result<()> {
        self.table.delete(frame)?;
        Ok(())
    }

    /// Hands a crop to the guest, on its budget; `None` when the budget is used up.
    pub(crate) fn hand_crop(
        &mut self,
        picture: Arc<dyn Picture>,
        origin: CropOrigin,
    ) -> wasmtime::Result<Option<Resource<HeldCrop>>> {
        let bytes = u64::try_from(picture.bytes()).unwrap_or(u64::MAX);
        if !self.crops.take(bytes) {
            return Ok(None);
        }
        match self.table.push(HeldCrop { picture, bytes, origin }) {
            Ok(handle) => Ok(Some(handle)),
            Err(e) => {
                self.crops.give(bytes);
                Err(e.into())
            }
        }
    }

    /// Takes a crop from the guest that gave it up.
    pub(crate) fn take_crop(&mut self, handle: Resource<HeldCrop>) -> wasmtime::Result<Arc<dyn Picture>> {
        let crop = self.table.delete(handle)?;
        self.crops.give(crop.bytes);
        Ok(crop.picture)
    }

    /// A shot on its way into the guest; `None` when its crop does not fit the guest's budget.
    pub(crate) fn hand_shot(&mut self, shot: &Shot) -> wasmtime::Result<Option<shots::Shot>> {
        Ok(self
            .hand_crop(Arc::clone(&shot.picture), CropOrigin::of(shot))?
            .map(|picture| convert::shot_to_wit(shot, picture)))
    }

    /// A shot on its way out of the guest.
    pub(crate) fn take_shot(&mut self, shot: shots::Shot) -> wasmtime::Result<Shot> {
        let picture = self.take_crop(Resource::new_own(shot.picture.rep()))?;
        Ok(convert::shot_from_wit(&shot, picture))
    }
}

/// Bytes of pictures that a guest holds.
#[derive(Debug)]
pub(crate) struct CropBudget {
    pub(crate) held: u64,
    limit: u64,
}

impl CropBudget {
    fn take(&mut self, bytes: u64) -> bool {
        match self.held.checked_add(bytes) {
            Some(sum) if sum <= self.limit => {
                self.held = sum;
                true
            }
            _ => false,
        }
    }

    fn give(&mut self, bytes: u64) {
        self.held = self.held.saturating_sub(bytes);
    }
}

impl types::Host for HostState {}
impl shots::Host for HostState {}
