//! One slot of a camera: the component that fills it, its instance, its failures and restarts.
//!
//! Owns when an instance is made again (back-off on the frame clock) and the numbers of its status. Must not know what
//! the guests of different slots do: `slots` does.

use std::sync::Arc;

use facestream_core::event::Event;
use facestream_core::guest::{SlotKind, SlotStatus};
use facestream_core::{CameraId, FrameInfo};
use serde_json::Value;

use crate::component::GuestComponent;
use crate::config::{GuestLimits, RestartConfig};
use crate::error::{GuestFailure, one_line};
use crate::formatter::FormatterGuest;
use crate::instance::{CallStats, GuestEnv, Sandbox};
use crate::scorer::ScorerGuest;
use crate::tracker::TrackerGuest;

/// Refusals in a row after which a guest counts as failed: it answers, but never with a result.
const MAX_REFUSALS: u32 = 5;

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
}

impl Filling {
    pub(crate) fn env(&self, camera: &CameraId) -> GuestEnv {
        GuestEnv { camera: camera.clone(), guest: self.reference.clone(), limits: self.limits.clone() }
    }
}

/// Waits between restarts, on the frame clock.
#[derive(Debug)]
struct Backoff {
    config: RestartConfig,
    streak: u32,
    last_failure_ns: Option<u64>,
    next_try_ns: u64,
}

impl Backoff {
    fn failed(&mut self, now_ns: u64) {
        let stable = self.config.stable_after_ms.saturating_mul(1_000_000);
        if self.last_failure_ns.is_none_or(|last| now_ns.saturating_sub(last) >= stable) {
            self.streak = 0;
        }
        let wait_ms = match self.streak {
            0 => 0,
            n => self.config.backoff_ms.saturating_mul(1 << (n - 1).min(32)).min(self.config.max_backoff_ms),
        };
        self.streak = self.streak.saturating_add(1);
        self.last_failure_ns = Some(now_ns);
        self.next_try_ns = now_ns.saturating_add(wait_ms.saturating_mul(1_000_000));
    }
}

/// Totals since the camera started.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    calls: u64,
    nanoseconds: u64,
    failures: u64,
    restarts: u64,
}

/// One slot.
#[derive(Debug)]
pub(crate) struct Slot<G> {
    kind: SlotKind,
    camera: CameraId,
    pub(crate) filling: Filling,
    guest: Option<G>,
    backoff: Backoff,
    refusals: u32,
    totals: Totals,
    last_error: Option<String>,
    /// Frame clock of the first failure since a call last went well: restarts alone do not count as being back.
    down_since_ns: Option<u64>,
}

impl<G: Guest> Slot<G> {
    pub(crate) fn new(kind: SlotKind, camera: &CameraId, filling: Filling, guest: G, restart: &RestartConfig) -> Self {
        Self {
            kind,
            camera: camera.clone(),
            filling,
            guest: Some(guest),
            backoff: Backoff { config: restart.clone(), streak: 0, last_failure_ns: None, next_try_ns: 0 },
            refusals: 0,
            totals: Totals::default(),
            last_error: None,
            down_since_ns: None,
        }
    }

    /// The instance, if it runs.
    pub(crate) fn running(&mut self) -> Option<&mut G> {
        self.guest.as_mut()
    }

    /// How long no call has gone well since a failure, nanoseconds; `None` when all is well.
    pub(crate) fn down_for_ns(&self, now_ns: u64) -> Option<u64> {
        self.down_since_ns.map(|since| now_ns.saturating_sub(since))
    }

    /// The instance, made again if it is away and its time has come. `revive` gives a fresh one its state back; when it
    /// fails, a second fresh instance starts from nothing: state may be what the guest fails on.
    pub(crate) fn ensure(
        &mut self,
        now_ns: u64,
        events: &mut Vec<Event>,
        revive: impl FnOnce(&mut G) -> Result<(), GuestFailure>,
    ) -> Option<&mut G> {
        if self.guest.is_none() {
            if now_ns < self.backoff.next_try_ns {
                return None;
            }
            let env = self.filling.env(&self.camera);
            let start = || G::start(&self.filling.component, &env, &self.filling.config);
            let started = start().and_then(|mut guest| match revive(&mut guest) {
                Ok(()) => Ok(guest),
                Err(failure) => {
                    tracing::warn!(camera = %self.camera, slot = %self.kind, guest = %self.filling.reference, %failure, "the restarted guest did not take its saved state; it starts without");
                    drop(guest);
                    start()
                }
            });
            match started {
                Ok(guest) => {
                    self.guest = Some(guest);
                    self.refusals = 0;
                    self.totals.restarts += 1;
                    tracing::info!(camera = %self.camera, slot = %self.kind, guest = %self.filling.reference, "guest restarted");
                    events.push(Event::GuestRestarted {
                        camera: self.camera.clone(),
                        slot: self.kind,
                        guest: self.filling.reference.clone(),
                    });
                }
                Err(failure) => self.failed(&failure, now_ns, events),
            }
        }
        self.guest.as_mut()
    }

    /// Takes the answer of a call: a failure is counted and, unless it was a refusal that may pass, ends the instance.
    pub(crate) fn settle<T>(
        &mut self,
        answer: Result<T, GuestFailure>,
        now_ns: u64,
        events: &mut Vec<Event>,
    ) -> Option<T> {
        match answer {
            Ok(value) => {
                self.refusals = 0;
                self.down_since_ns = None;
                Some(value)
            }
            Err(failure @ GuestFailure::Refused(_)) if self.refusals + 1 < MAX_REFUSALS => {
                self.refusals += 1;
                self.totals.failures += 1;
                tracing::warn!(camera = %self.camera, slot = %self.kind, guest = %self.filling.reference, %failure, "guest refused a call");
                self.last_error = Some(one_line(&failure.to_string(), 1024));
                None
            }
            Err(failure) => {
                self.failed(&failure, now_ns, events);
                None
            }
        }
    }

    /// Ends the instance because of a failure.
    pub(crate) fn failed(&mut self, failure: &GuestFailure, now_ns: u64, events: &mut Vec<Event>) {
        self.retire();
        self.totals.failures += 1;
        self.down_since_ns.get_or_insert(now_ns);
        self.backoff.failed(now_ns);
        let reason = failure.to_string();
        tracing::warn!(
            camera = %self.camera, slot = %self.kind, guest = %self.filling.reference, kind = failure.kind(), failures = self.totals.failures,
            "guest failed: {reason}"
        );
        let reason = one_line(&reason, 1024);
        self.last_error = Some(reason.clone());
        events.push(Event::GuestFailed {
            camera: self.camera.clone(),
            slot: self.kind,
            guest: self.filling.reference.clone(),
            reason,
        });
    }

    /// Takes the instance out, its numbers into the totals.
    pub(crate) fn retire(&mut self) -> Option<G> {
        let guest = self.guest.take()?;
        let stats = guest.sandbox().stats;
        self.totals.calls += stats.calls;
        self.totals.nanoseconds = self.totals.nanoseconds.saturating_add(stats.nanoseconds);
        Some(guest)
    }

    /// Puts an instance back that [`Self::retire`] took out.
    pub(crate) fn put_back(&mut self, mut guest: G) {
        guest.sandbox_mut().stats = CallStats::default();
        self.guest = Some(guest);
    }

    /// Another component or configuration runs from now on.
    pub(crate) fn install(&mut self, filling: Filling, guest: G) {
        self.filling = filling;
        self.put_back(guest);
        self.backoff.streak = 0;
        self.backoff.last_failure_ns = None;
        self.backoff.next_try_ns = 0;
        self.refusals = 0;
        self.last_error = None;
        self.down_since_ns = None;
    }

    /// Sets the guest's clocks.
    pub(crate) fn set_time(&mut self, frame: &FrameInfo) {
        if let Some(guest) = &mut self.guest {
            guest.sandbox_mut().set_time(frame);
        }
    }

    pub(crate) fn status(&self) -> SlotStatus {
        let stats = self.guest.as_ref().map(|g| g.sandbox().stats).unwrap_or_default();
        let calls = self.totals.calls + stats.calls;
        let nanoseconds = self.totals.nanoseconds.saturating_add(stats.nanoseconds);
        SlotStatus {
            slot: self.kind,
            guest: self.filling.reference.clone(),
            digest: self.filling.component.digest().to_string(),
            config: self.filling.config.clone(),
            state: if self.guest.is_some() { "running" } else { "restarting" },
            calls,
            mean_call_us: if calls == 0 { 0.0 } else { nanoseconds as f64 / calls as f64 / 1000.0 },
            failures: self.totals.failures,
            restarts: self.totals.restarts,
            memory_bytes: self.guest.as_ref().map_or(0, |g| g.sandbox().memory_bytes()),
            last_error: self.last_error.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_at_once_and_later_ones_wait_longer_and_longer() {
        let config = RestartConfig { backoff_ms: 1_000, max_backoff_ms: 3_000, stable_after_ms: 60_000 };
        let mut backoff = Backoff { config, streak: 0, last_failure_ns: None, next_try_ns: 0 };
        let second = 1_000_000_000;
        let mut now = 10 * second;
        for wait in [0, 1, 2, 3, 3] {
            backoff.failed(now);
            assert_eq!(backoff.next_try_ns, now + wait * second);
            now = backoff.next_try_ns;
        }
        backoff.failed(now + 60 * second);
        assert_eq!(backoff.next_try_ns, now + 60 * second, "it was stable in between");
    }
}
