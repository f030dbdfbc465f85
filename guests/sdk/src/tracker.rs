//! Trackers: one frame's detections to tracks.
//!
//! Owns the trait, the glue to the component's functions and [`TrackerRunner`], which runs the very same glue natively.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::{self, Settings};
use crate::state;
use crate::types::{Affine, Camera, Detection, FrameInfo, GuestError, Snapshot, Track};

pub use crate::bindings::tracker::exports::facestream::analytics::tracking::Update;

/// Turns one frame's detections into tracks. Called on one thread, in the order of frames.
pub trait Tracker: Sized {
    /// Settings, from the camera's configuration.
    type Config: Settings;
    /// Private state, as it travels over a hot swap.
    type State: Serialize + DeserializeOwned;
    /// Name and version of `State`: change the number whenever the struct changes.
    const SCHEMA: &'static str;

    /// A fresh tracker.
    ///
    /// # Errors
    /// When it cannot work with these settings.
    fn new(config: Self::Config, camera: &Camera) -> Result<Self, GuestError>;

    /// New settings on a running tracker; tracks stay. The default makes a fresh one and hands over.
    ///
    /// # Errors
    /// When it cannot work with these settings; the old ones stay in force.
    fn reconfigure(&mut self, config: Self::Config, camera: &Camera) -> Result<(), GuestError> {
        let mut fresh = Self::new(config, camera)?;
        fresh.load(self.save())?;
        *self = fresh;
        Ok(())
    }

    /// One analysed frame. `motion` is how the camera itself moved since the previous frame, where the host knows.
    ///
    /// # Errors
    /// The host counts the failure and may replace the instance.
    fn advance(
        &mut self,
        frame: &FrameInfo,
        detections: &[Detection],
        motion: Option<&Affine>,
    ) -> Result<Update, GuestError>;

    /// The smallest id that this tracker has never given out.
    fn next_id(&self) -> u64;

    /// Private state for a swap; the tracker goes on unchanged.
    fn save(&self) -> Self::State;

    /// Takes private state of the same schema, in place of whatever it had.
    ///
    /// # Errors
    /// When the state makes no sense (it may come from a damaged file).
    fn load(&mut self, state: Self::State) -> Result<(), GuestError>;

    /// Takes over from a tracker of another kind: its live tracks, and an id below which all are spent.
    ///
    /// # Errors
    /// When the tracks make no sense.
    fn adopt(&mut self, tracks: &[Track], next_id: u64) -> Result<(), GuestError>;
}

/// Runs a [`Tracker`] exactly as the component's exported functions do.
#[derive(Debug)]
pub struct TrackerRunner<T> {
    guest: Option<T>,
}

impl<T> Default for TrackerRunner<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> TrackerRunner<T> {
    /// Not configured yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { guest: None }
    }
}

impl<T: Tracker> TrackerRunner<T> {
    /// First call; again with new settings, state kept.
    ///
    /// # Errors
    /// `invalid-config`.
    pub fn configure(&mut self, camera: &Camera) -> Result<(), GuestError> {
        crate::log::tell_panics();
        let config = config::parse(&camera.config)?;
        match &mut self.guest {
            Some(guest) => guest.reconfigure(config, camera),
            None => {
                self.guest = Some(T::new(config, camera)?);
                Ok(())
            }
        }
    }

    fn guest(&mut self) -> Result<&mut T, GuestError> {
        self.guest.as_mut().ok_or_else(|| GuestError::failed("configure was not called before the first frame"))
    }

    /// One analysed frame.
    ///
    /// # Errors
    /// The tracker's own.
    pub fn advance(
        &mut self,
        frame: &FrameInfo,
        detections: &[Detection],
        motion: Option<&Affine>,
    ) -> Result<Update, GuestError> {
        self.guest()?.advance(frame, detections, motion)
    }

    /// Private state in its envelope.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn save(&mut self) -> Result<Snapshot, GuestError> {
        let guest = self.guest()?;
        state::encode(T::SCHEMA, guest.next_id(), &guest.save())
    }

    /// Private state where the schema is known, else the neutral tracks.
    ///
    /// # Errors
    /// `unsupported-snapshot` for damaged state.
    pub fn restore(&mut self, snapshot: &Snapshot, tracks: &[Track]) -> Result<(), GuestError> {
        let guest = self.guest()?;
        match state::decode::<T::State>(T::SCHEMA, snapshot)? {
            Some(state) => guest.load(state),
            None => guest.adopt(tracks, state::next_id(snapshot)),
        }
    }
}

/// Makes a component of world `tracker` from a type that implements [`Tracker`]. Does nothing on native targets.
#[cfg(not(all(target_arch = "wasm32", not(feature = "fake-host"))))]
#[macro_export]
macro_rules! export_tracker {
    ($guest:ty) => {};
}

/// Makes a component of world `tracker` from a type that implements [`Tracker`].
#[cfg(all(target_arch = "wasm32", not(feature = "fake-host")))]
#[macro_export]
macro_rules! export_tracker {
    ($guest:ty) => {
        const _: () = {
            use ::std::cell::RefCell;
            use $crate::bindings::tracker::exports::facestream::analytics::tracking::Guest;
            use $crate::{Affine, Camera, Detection, FrameInfo, GuestError, Snapshot, Track, TrackerRunner, Update};

            ::std::thread_local! {
                static RUNNER: RefCell<TrackerRunner<$guest>> = const { RefCell::new(TrackerRunner::new()) };
            }
            struct Component;
            impl Guest for Component {
                fn configure(camera: Camera) -> Result<(), GuestError> {
                    RUNNER.with_borrow_mut(|r| r.configure(&camera))
                }
                fn advance(
                    frame: FrameInfo,
                    detections: Vec<Detection>,
                    motion: Option<Affine>,
                ) -> Result<Update, GuestError> {
                    <Self as $crate::abi::Advance>::advance_in_place(&frame, &detections, motion.as_ref())
                }
                fn save() -> Result<Snapshot, GuestError> {
                    RUNNER.with_borrow_mut(|r| r.save())
                }
                fn restore(state: Snapshot, tracks: Vec<Track>) -> Result<(), GuestError> {
                    RUNNER.with_borrow_mut(|r| r.restore(&state, &tracks))
                }
            }
            impl $crate::abi::Advance for Component {
                fn advance_in_place(
                    frame: &FrameInfo,
                    detections: &[Detection],
                    motion: Option<&Affine>,
                ) -> Result<Update, GuestError> {
                    RUNNER.with_borrow_mut(|r| r.advance(frame, detections, motion))
                }
            }
    $crate::bindings::tracker::export_tracker_world!(Component with_types_in $crate::abi::tracker);
        };
    };
}
