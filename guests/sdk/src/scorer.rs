//! Scorers: which pictures of a track are worth sending on.
//!
//! Owns the trait, the glue to the component's functions and [`ScorerRunner`], which runs the very same glue natively.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::{self, Settings};
use crate::handover;
use crate::held::HeldShots;
use crate::pixels::{Crop, Frame, Quality};
use crate::state;
use crate::types::{Camera, Detection, FrameInfo, GuestError, Landmarks, Rect, Snapshot, Track};

pub use crate::bindings::scorer::facestream::analytics::shots::Reason;

/// A picture of a track that was worth keeping. Owns its crop.
#[derive(Debug)]
pub struct Shot {
    /// The track it shows.
    pub track_id: u64,
    /// The crop.
    pub picture: Crop,
    /// Where in the source frame the object was (not the crop's own, widened rectangle).
    pub bbox: Rect,
    /// Of the detection, in [0, 1].
    pub confidence: f32,
    /// The facial points in source pixels, when the model gave them.
    pub landmarks: Option<Landmarks>,
    /// Measured on the object's rectangle.
    pub quality: Quality,
    /// The scorer's verdict; higher is better.
    pub score: f32,
    /// Capture time of the frame, nanoseconds since the Unix epoch.
    pub captured_at: u64,
    /// Session of the frame.
    pub session: u64,
    /// Sequence of the frame.
    pub sequence: u64,
    /// Why it is given up.
    pub reason: Reason,
}

impl Shot {
    /// A shot of one detection of the current frame.
    #[must_use]
    pub fn new(frame: &FrameInfo, track: &Track, detection: &Detection, picture: Crop, quality: Quality) -> Self {
        Self {
            track_id: track.id,
            picture,
            bbox: detection.bbox,
            confidence: detection.confidence,
            landmarks: detection.landmarks,
            quality,
            score: 0.0,
            captured_at: frame.captured_at,
            session: frame.session,
            sequence: frame.sequence,
            reason: Reason::Improved,
        }
    }

    /// The same with its score.
    #[must_use]
    pub fn scored(self, score: f32) -> Self {
        Self { score, ..self }
    }

    /// The same with the reason why it is given up.
    #[must_use]
    pub fn because(self, reason: Reason) -> Self {
        Self { reason, ..self }
    }
}

/// Chooses the pictures of a track that are worth sending on. Called on one thread, in the order of frames.
///
/// [`Scorer::observe`] is all that a scorer has to write besides [`Scorer::new`], when it holds its pictures in a
/// [`HeldShots`] and says so in [`Scorer::held`]:
///
/// ```
/// use facestream_guest::prelude::*;
///
/// /// Of each confirmed face the largest picture, sent when the face has gone.
/// #[derive(Default)]
/// struct Largest(HeldShots);
///
/// impl Scorer for Largest {
///     type Config = NoConfig;
///     type State = ();
///     const SCHEMA: &'static str = "example.largest/1";
///
///     fn new(_config: NoConfig, _camera: &Camera) -> Result<Self, GuestError> {
///         Ok(Self::default())
///     }
///
///     fn observe(
///         &mut self, frame: &FrameInfo, picture: &Frame<'_>, detections: &[Detection], tracks: &[Track], ended: &[u64],
///     ) -> Result<Vec<Shot>, GuestError> {
///         for track in tracks.iter().filter(|t| t.is_confirmed()) {
///             let Some(face) = track.seen_in(detections) else { continue };
///             if self.0.is_better(track.id, face.bbox.area())
///                 && let (Ok(quality), Ok(crop)) = (picture.measure(face.bbox), picture.crop(face.bbox, CropOptions::default()))
///             {
///                 self.0.keep(Shot::new(frame, track, face, crop, quality).scored(face.bbox.area()));
///             }
///         }
///         Ok(self.0.end(ended))
///     }
///
///     fn held(&mut self) -> Option<&mut HeldShots> {
///         Some(&mut self.0)
///     }
/// }
///
/// facestream_guest::export_scorer!(Largest);
/// ```
pub trait Scorer: Sized {
    /// Settings, from the camera's configuration.
    type Config: Settings;
    /// Private state, as it travels over a hot swap beside the held shots; `()` when there is none.
    type State: Serialize + DeserializeOwned + Default;
    /// Name and version of `State`: change the number whenever the struct changes.
    const SCHEMA: &'static str;

    /// A fresh scorer.
    ///
    /// # Errors
    /// When it cannot work with these settings.
    fn new(config: Self::Config, camera: &Camera) -> Result<Self, GuestError>;

    /// New settings on a running scorer; what it holds stays. The default makes a fresh one and hands over; one that does
    /// not take over is dropped, and this one goes on with what it held.
    ///
    /// # Errors
    /// When it cannot work with these settings; the old ones stay in force.
    fn reconfigure(&mut self, config: Self::Config, camera: &Camera) -> Result<(), GuestError> {
        let fresh = Self::new(config, camera)?;
        handover::hand_over(self, fresh)
    }

    /// One analysed frame; gives up what is due. `tracks` point into `detections` by index.
    ///
    /// # Errors
    /// The host counts the failure and may replace the instance.
    fn observe(
        &mut self,
        frame: &FrameInfo,
        picture: &Frame<'_>,
        detections: &[Detection],
        tracks: &[Track],
        ended: &[u64],
    ) -> Result<Vec<Shot>, GuestError>;

    /// No frame came for a while; gives up what time alone makes due. `timestamp` is on the frames' clock.
    ///
    /// # Errors
    /// As for `observe`.
    fn tick(&mut self, _timestamp: u64) -> Result<Vec<Shot>, GuestError> {
        Ok(Vec::new())
    }

    /// The shots that it holds between calls, for the defaults of `flush`, `save` and `restore`; `None` when it holds
    /// none, or has its own of those three.
    fn held(&mut self) -> Option<&mut HeldShots> {
        None
    }

    /// The camera stops: gives up all that is held. The default gives up what [`Scorer::held`] names.
    ///
    /// # Errors
    /// As for `observe`.
    fn flush(&mut self) -> Result<Vec<Shot>, GuestError> {
        Ok(self.held().map_or_else(Vec::new, HeldShots::flush))
    }

    /// Private state and the held shots, which leave this scorer: the host hands them to the next one, or back. The
    /// default gives the empty state and what [`Scorer::held`] names.
    ///
    /// # Errors
    /// As for `observe`.
    fn save(&mut self) -> Result<(Self::State, Vec<Shot>), GuestError> {
        Ok((Self::State::default(), self.held().map_or_else(Vec::new, HeldShots::take)))
    }

    /// Takes over: `state` is `None` when the scorer before was of another kind. Replaces whatever was there. The
    /// default puts the shots where [`Scorer::held`] says; one that holds none logs how many it leaves behind.
    ///
    /// # Errors
    /// When the state makes no sense.
    fn restore(&mut self, _state: Option<Self::State>, shots: Vec<Shot>) -> Result<(), GuestError> {
        match self.held() {
            Some(held) => held.replace(shots),
            None if shots.is_empty() => {}
            None => crate::log_warn!("{} held pictures are not taken over: this scorer holds none", shots.len()),
        }
        Ok(())
    }
}

/// Runs a [`Scorer`] exactly as the component's exported functions do.
#[derive(Debug)]
pub struct ScorerRunner<T> {
    guest: Option<T>,
}

impl<T> Default for ScorerRunner<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> ScorerRunner<T> {
    /// Not configured yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { guest: None }
    }
}

#[allow(missing_docs, clippy::missing_errors_doc)]
impl<T: Scorer> ScorerRunner<T> {
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

    pub fn observe(
        &mut self,
        frame: &FrameInfo,
        picture: &Frame<'_>,
        detections: &[Detection],
        tracks: &[Track],
        ended: &[u64],
    ) -> Result<Vec<Shot>, GuestError> {
        self.guest()?.observe(frame, picture, detections, tracks, ended)
    }

    pub fn tick(&mut self, timestamp: u64) -> Result<Vec<Shot>, GuestError> {
        self.guest()?.tick(timestamp)
    }

    pub fn flush(&mut self) -> Result<Vec<Shot>, GuestError> {
        self.guest()?.flush()
    }

    pub fn save(&mut self) -> Result<(Snapshot, Vec<Shot>), GuestError> {
        let (state, shots) = self.guest()?.save()?;
        Ok((state::encode(T::SCHEMA, 0, &state)?, shots))
    }

    pub fn restore(&mut self, snapshot: &Snapshot, shots: Vec<Shot>) -> Result<(), GuestError> {
        let guest = self.guest()?;
        let state = state::decode::<T::State>(T::SCHEMA, snapshot)?;
        guest.restore(state, shots)
    }
}

#[cfg(all(target_arch = "wasm32", not(feature = "fake-host")))]
mod convert {
    use super::{Crop, Shot};
    use crate::bindings::scorer::facestream::analytics::shots as wire;

    impl From<Shot> for wire::Shot {
        fn from(s: Shot) -> Self {
            let Shot {
                track_id,
                picture,
                bbox,
                confidence,
                landmarks,
                quality,
                score,
                captured_at,
                session,
                sequence,
                reason,
            } = s;
            let picture = picture.into_host();
            Self {
                track_id,
                picture,
                bbox,
                confidence,
                landmarks,
                quality,
                score,
                captured_at,
                session,
                sequence,
                reason,
            }
        }
    }

    impl From<wire::Shot> for Shot {
        fn from(s: wire::Shot) -> Self {
            let wire::Shot {
                track_id,
                picture,
                bbox,
                confidence,
                landmarks,
                quality,
                score,
                captured_at,
                session,
                sequence,
                reason,
            } = s;
            let picture = Crop::from_host(picture);
            Self {
                track_id,
                picture,
                bbox,
                confidence,
                landmarks,
                quality,
                score,
                captured_at,
                session,
                sequence,
                reason,
            }
        }
    }
}

/// Makes a component of world `scorer` from a type that implements [`Scorer`]. Does nothing on native targets.
#[cfg(not(all(target_arch = "wasm32", not(feature = "fake-host"))))]
#[macro_export]
macro_rules! export_scorer {
    ($guest:ty) => {};
}

/// Makes a component of world `scorer` from a type that implements [`Scorer`].
#[cfg(all(target_arch = "wasm32", not(feature = "fake-host")))]
#[macro_export]
macro_rules! export_scorer {
    ($guest:ty) => {
        const _: () = {
            use ::std::cell::RefCell;
            use $crate::bindings::scorer::exports::facestream::analytics::scoring::Guest;
            use $crate::bindings::scorer::facestream::analytics::{pixels, shots};
            use $crate::{Camera, Detection, Frame, FrameInfo, GuestError, ScorerRunner, Snapshot, Track};

            ::std::thread_local! {
                static RUNNER: RefCell<ScorerRunner<$guest>> = const { RefCell::new(ScorerRunner::new()) };
            }
            fn wire(shots: Vec<$crate::Shot>) -> Vec<shots::Shot> {
                shots.into_iter().map(Into::into).collect()
            }
            struct Component;
            impl Guest for Component {
                fn configure(camera: Camera) -> Result<(), GuestError> {
                    RUNNER.with_borrow_mut(|r| r.configure(&camera))
                }
                fn observe(
                    frame: FrameInfo,
                    picture: &pixels::Frame,
                    detections: Vec<Detection>,
                    tracks: Vec<Track>,
                    ended: Vec<u64>,
                ) -> Result<Vec<shots::Shot>, GuestError> {
                    let picture = Frame::new(picture);
                    RUNNER.with_borrow_mut(|r| r.observe(&frame, &picture, &detections, &tracks, &ended)).map(wire)
                }
                fn tick(timestamp: u64) -> Result<Vec<shots::Shot>, GuestError> {
                    RUNNER.with_borrow_mut(|r| r.tick(timestamp)).map(wire)
                }
                fn flush() -> Result<Vec<shots::Shot>, GuestError> {
                    RUNNER.with_borrow_mut(|r| r.flush()).map(wire)
                }
                fn save() -> Result<(Snapshot, Vec<shots::Shot>), GuestError> {
                    RUNNER.with_borrow_mut(|r| r.save()).map(|(state, held)| (state, wire(held)))
                }
                fn restore(state: Snapshot, shots: Vec<shots::Shot>) -> Result<(), GuestError> {
                    let shots = shots.into_iter().map(Into::into).collect();
                    RUNNER.with_borrow_mut(|r| r.restore(&state, shots))
                }
            }
    $crate::bindings::scorer::export_scorer_world!(Component with_types_in $crate::bindings::scorer);
        };
    };
}
