//! Formatters: the messages that leave the system.
//!
//! Owns the trait, the glue to the component's functions and [`FormatterRunner`], which runs the very same glue natively.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::{self, Settings};
use crate::scorer::Shot;
use crate::state;
use crate::types::{Camera, FrameInfo, GuestError, Snapshot, Track};

pub use crate::bindings::formatter::exports::facestream::analytics::formatting::{Interest, Message};

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        let Self { topic, key, payload, headers, content_type } = self;
        *topic == other.topic
            && *key == other.key
            && *payload == other.payload
            && *headers == other.headers
            && *content_type == other.content_type
    }
}

impl Message {
    /// A JSON message without headers.
    #[must_use]
    pub fn json(topic: &str, key: &str, payload: Vec<u8>) -> Self {
        Self {
            topic: topic.to_owned(),
            key: key.as_bytes().to_vec(),
            payload,
            headers: Vec::new(),
            content_type: "application/json".to_owned(),
        }
    }
}

/// What a formatter is called for; only what its [`Formatter::interest`] names.
#[derive(Debug)]
pub enum Event {
    /// A picture was given up by the scorer.
    Shot(Shot),
    /// A track has ended; its last state.
    Ending(Track),
    /// One analysed frame with its live tracks.
    Frame(FrameInfo, Vec<Track>),
}

/// Writes messages. Called on one thread, in order.
pub trait Formatter: Sized {
    /// Settings, from the camera's configuration.
    type Config: Settings;
    /// Private state, as it travels over a hot swap; `()` when there is none.
    type State: Serialize + DeserializeOwned + Default;
    /// Name and version of `State`: change the number whenever the struct changes.
    const SCHEMA: &'static str;

    /// A fresh formatter.
    ///
    /// # Errors
    /// When it cannot work with these settings.
    fn new(config: Self::Config, camera: &Camera) -> Result<Self, GuestError>;

    /// New settings on a running formatter, state kept.
    ///
    /// # Errors
    /// When it cannot work with these settings; the old ones stay in force.
    fn reconfigure(&mut self, config: Self::Config, camera: &Camera) -> Result<(), GuestError> {
        let mut fresh = Self::new(config, camera)?;
        fresh.restore(self.save())?;
        *self = fresh;
        Ok(())
    }

    /// What it wants to hear of; asked once after each configuration.
    fn interest(&self) -> Interest;

    /// One event to any number of messages.
    ///
    /// # Errors
    /// The host counts the failure and may replace the instance.
    fn format(&mut self, event: Event) -> Result<Vec<Message>, GuestError>;

    /// The camera stops: gives up what was gathered.
    ///
    /// # Errors
    /// As for `format`.
    fn flush(&mut self) -> Result<Vec<Message>, GuestError> {
        Ok(Vec::new())
    }

    /// Private state for a swap.
    fn save(&self) -> Self::State {
        Self::State::default()
    }

    /// Takes private state of the same schema.
    ///
    /// # Errors
    /// When the state makes no sense.
    fn restore(&mut self, _state: Self::State) -> Result<(), GuestError> {
        Ok(())
    }
}

/// Runs a [`Formatter`] exactly as the component's exported functions do.
#[derive(Debug)]
pub struct FormatterRunner<T> {
    guest: Option<T>,
}

impl<T> Default for FormatterRunner<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> FormatterRunner<T> {
    /// Not configured yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { guest: None }
    }
}

#[allow(missing_docs, clippy::missing_errors_doc)]
impl<T: Formatter> FormatterRunner<T> {
    pub fn configure(&mut self, camera: &Camera) -> Result<Interest, GuestError> {
        crate::log::tell_panics();
        let config = config::parse(&camera.config)?;
        match &mut self.guest {
            Some(guest) => guest.reconfigure(config, camera)?,
            None => self.guest = Some(T::new(config, camera)?),
        }
        Ok(self.guest()?.interest())
    }

    fn guest(&mut self) -> Result<&mut T, GuestError> {
        self.guest.as_mut().ok_or_else(|| GuestError::failed("configure was not called before the first event"))
    }

    pub fn format(&mut self, event: Event) -> Result<Vec<Message>, GuestError> {
        self.guest()?.format(event)
    }

    pub fn flush(&mut self) -> Result<Vec<Message>, GuestError> {
        self.guest()?.flush()
    }

    pub fn save(&mut self) -> Result<Snapshot, GuestError> {
        state::encode(T::SCHEMA, 0, &self.guest()?.save())
    }

    /// State of another formatter means nothing here: a swap between kinds starts afresh.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), GuestError> {
        let guest = self.guest()?;
        match state::decode::<T::State>(T::SCHEMA, snapshot)? {
            Some(state) => guest.restore(state),
            None => Ok(()),
        }
    }
}

/// Makes a component of world `formatter` from a type that implements [`Formatter`]. Does nothing on native targets.
#[cfg(not(all(target_arch = "wasm32", not(feature = "fake-host"))))]
#[macro_export]
macro_rules! export_formatter {
    ($guest:ty) => {};
}

/// Makes a component of world `formatter` from a type that implements [`Formatter`].
#[cfg(all(target_arch = "wasm32", not(feature = "fake-host")))]
#[macro_export]
macro_rules! export_formatter {
    ($guest:ty) => {
        const _: () = {
            use ::std::cell::RefCell;
            use $crate::bindings::formatter::exports::facestream::analytics::formatting::{self, Guest};
            use $crate::{Camera, Event, FormatterRunner, GuestError, Interest, Message, Snapshot};

            ::std::thread_local! {
                static RUNNER: RefCell<FormatterRunner<$guest>> = const { RefCell::new(FormatterRunner::new()) };
            }
            struct Component;
            impl Guest for Component {
                fn configure(camera: Camera) -> Result<Interest, GuestError> {
                    RUNNER.with_borrow_mut(|r| r.configure(&camera))
                }
                fn format(event: formatting::Event) -> Result<Vec<Message>, GuestError> {
                    let event = match event {
                        formatting::Event::Shot(shot) => Event::Shot(shot.into()),
                        formatting::Event::Ending(track) => Event::Ending(track),
                        formatting::Event::Frame(analysed) => Event::Frame(analysed.frame, analysed.tracks),
                    };
                    RUNNER.with_borrow_mut(|r| r.format(event))
                }
                fn flush() -> Result<Vec<Message>, GuestError> {
                    RUNNER.with_borrow_mut(|r| r.flush())
                }
                fn save() -> Result<Snapshot, GuestError> {
                    RUNNER.with_borrow_mut(|r| r.save())
                }
                fn restore(state: Snapshot) -> Result<(), GuestError> {
                    RUNNER.with_borrow_mut(|r| r.restore(&state))
                }
            }
    $crate::bindings::formatter::export_formatter_world!(Component with_types_in $crate::bindings::formatter);
        };
    };
}
