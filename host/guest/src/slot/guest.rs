//! What the three kinds of instance have in common, and what a slot is to run.
//!
//! Must not decide when an instance is made or given up: the slot does.

use std::sync::Arc;

use facestream_core::CameraId;
use facestream_core::guest::{GuestRef, OnFailure};
use serde_json::Value;

use crate::component::GuestComponent;
use crate::config::GuestLimits;
use crate::error::GuestFailure;
use crate::formatter::FormatterGuest;
use crate::instance::{CallStats, GuestEnv, Sandbox};
use crate::scorer::ScorerGuest;
use crate::tracker::TrackerGuest;

/// What the three kinds of instance have in common.
pub(crate) trait Guest: Sized {
    fn start(component: &GuestComponent, env: &GuestEnv, config: &Value) -> Result<Self, GuestFailure>;
    fn sandbox(&self) -> &Sandbox;
    fn sandbox_mut(&mut self) -> &mut Sandbox;
}

macro_rules! guest {
    ($type:ty) => {
        impl $type {
            /// Calls made and time in them.
            #[must_use]
            pub fn call_stats(&self) -> CallStats {
                self.sandbox.stats
            }

            /// Bytes of memories and tables.
            #[must_use]
            pub fn memory_bytes(&self) -> u64 {
                self.sandbox.memory_bytes()
            }

            /// Bytes of pictures that the guest holds as crops.
            #[must_use]
            pub fn crop_bytes(&self) -> u64 {
                self.sandbox.crop_bytes()
            }

            /// Log lines of the guest: written, left out.
            #[must_use]
            pub fn log_lines(&self) -> (u64, u64) {
                self.sandbox.log_lines()
            }
        }

        impl Guest for $type {
            fn start(component: &GuestComponent, env: &GuestEnv, config: &Value) -> Result<Self, GuestFailure> {
                let mut guest = Self::instantiate(component, env)?;
                guest.sandbox.start_recording(component);
                guest.configure(config)?;
                Ok(guest)
            }
            fn sandbox(&self) -> &Sandbox {
                &self.sandbox
            }
            fn sandbox_mut(&mut self) -> &mut Sandbox {
                &mut self.sandbox
            }
        }
    };
}
guest!(TrackerGuest);
guest!(ScorerGuest);
guest!(FormatterGuest);

/// A component with its settings: what a slot is to run.
#[derive(Clone, Debug)]
pub(crate) struct Filling {
    pub(crate) reference: String,
    pub(crate) component: Arc<GuestComponent>,
    pub(crate) config: Value,
    pub(crate) limits: GuestLimits,
    pub(crate) on_failure: OnFailure,
    /// What runs instead while this one fails again and again, with `OnFailure::Fallback`.
    pub(crate) stand_in: Option<Box<Filling>>,
}

impl Filling {
    pub(crate) fn env(&self, camera: &CameraId) -> GuestEnv {
        GuestEnv { camera: camera.clone(), guest: self.reference.clone(), limits: self.limits.clone() }
    }

    /// A fresh instance of it.
    pub(crate) fn start<G: Guest>(&self, camera: &CameraId) -> Result<G, GuestFailure> {
        G::start(&self.component, &self.env(camera), &self.config)
    }

    pub(crate) fn name(&self) -> GuestRef {
        GuestRef { guest: self.reference.clone(), digest: self.component.digest().to_string() }
    }
}
