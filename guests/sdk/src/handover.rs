//! From one scorer to another of its kind in the same instance: new settings on a running guest.
//!
//! Owns that nothing is lost when the other one does not take over. Must not know what is handed over.

use crate::scorer::Scorer;
use crate::state;
use crate::types::GuestError;

/// Replaces a scorer by a fresh one that takes over state and held shots; on an error it stays, with what it held.
pub(crate) fn hand_over<T: Scorer>(old: &mut T, mut fresh: T) -> Result<(), GuestError> {
    let (state, shots) = old.save()?;
    // The state alone first: pictures that are handed to a `restore` which fails are gone.
    let rehearsed = state::encode(T::SCHEMA, 0, &state).and_then(|copy| {
        fresh.restore(state::decode(T::SCHEMA, &copy)?, Vec::new())?;
        Ok(copy)
    });
    let copy = match rehearsed {
        Ok(copy) => copy,
        Err(error) => {
            old.restore(Some(state), shots)?;
            return Err(error);
        }
    };
    let held = shots.len();
    let Err(error) = fresh.restore(Some(state), shots) else {
        *old = fresh;
        return Ok(());
    };
    // It was the pictures that it refused. Those that it took before it did come back.
    let (_, kept) = fresh.save().unwrap_or_default();
    if kept.len() < held {
        crate::log_warn!("{} of {held} held pictures went with the settings that were refused", held - kept.len());
    }
    old.restore(state::decode(T::SCHEMA, &copy)?, kept)?;
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;
    use crate::testing::{FakeHost, camera, detection, frame, track};
    use crate::{HeldShots, Quality};

    /// Refuses a state above `most_seen`, and pictures beyond `most_held`.
    #[derive(Clone, serde::Deserialize)]
    struct Config {
        most_seen: u32,
        most_held: usize,
    }
    impl Settings for Config {}

    struct Picky {
        config: Config,
        seen: u32,
        held: HeldShots,
    }

    impl Scorer for Picky {
        type Config = Config;
        type State = u32;
        const SCHEMA: &'static str = "test.picky/1";

        fn new(config: Config, _camera: &Camera) -> Result<Self, GuestError> {
            Ok(Self { config, seen: 0, held: HeldShots::new() })
        }

        fn observe(
            &mut self,
            _frame: &FrameInfo,
            _picture: &Frame<'_>,
            _detections: &[Detection],
            _tracks: &[Track],
            _ended: &[u64],
        ) -> Result<Vec<Shot>, GuestError> {
            Ok(Vec::new())
        }

        fn held(&mut self) -> Option<&mut HeldShots> {
            Some(&mut self.held)
        }

        fn save(&mut self) -> Result<(u32, Vec<Shot>), GuestError> {
            Ok((self.seen, self.held.take()))
        }

        fn restore(&mut self, state: Option<u32>, shots: Vec<Shot>) -> Result<(), GuestError> {
            self.seen = state.unwrap_or_default();
            if self.seen > self.config.most_seen {
                return Err(GuestError::failed("too many seen"));
            }
            for shot in shots {
                if self.held.len() == self.config.most_held {
                    return Err(GuestError::failed("too many held"));
                }
                self.held.keep(shot);
            }
            Ok(())
        }
    }

    /// A scorer that has seen 7 faces and holds pictures of two tracks.
    fn running(host: &FakeHost) -> Picky {
        let mut picky = Picky::new(Config { most_seen: 100, most_held: 100 }, &camera("{}")).unwrap();
        picky.seen = 7;
        let (info, face) = (frame(1, 40), detection(10.0, 10.0, 80.0, 100.0, 0.9));
        let quality = Quality { sharpness: 20.0, brightness: 50.0 };
        for id in [1, 2] {
            let crop = host.crop(80, 100, quality);
            picky.held.keep(Shot::new(&info, &track(id, &info, &face, 0), &face, crop, quality));
        }
        picky
    }

    #[test]
    fn new_settings_keep_state_and_pictures() {
        let host = FakeHost::default();
        let mut picky = running(&host);
        picky.reconfigure(Config { most_seen: 7, most_held: 2 }, &camera("{}")).unwrap();
        assert_eq!((picky.config.most_held, picky.seen, picky.held.len()), (2, 7, 2));
    }

    #[test]
    fn a_fresh_one_that_refuses_the_state_leaves_the_old_one_with_all_that_it_held() {
        let host = FakeHost::default();
        let mut picky = running(&host);
        let error = picky.reconfigure(Config { most_seen: 6, most_held: 100 }, &camera("{}")).unwrap_err();
        assert_eq!(error, GuestError::failed("too many seen"));
        assert_eq!((picky.config.most_seen, picky.seen, picky.held.len()), (100, 7, 2));
    }

    #[test]
    fn a_fresh_one_that_refuses_pictures_gives_back_what_it_took() {
        let host = FakeHost::default();
        let mut picky = running(&host);
        drop(crate::testing::take_logs());
        let error = picky.reconfigure(Config { most_seen: 100, most_held: 1 }, &camera("{}")).unwrap_err();
        assert_eq!(error, GuestError::failed("too many held"));
        assert_eq!((picky.config.most_held, picky.seen, picky.held.len()), (100, 7, 1));
        assert!(crate::testing::take_logs()[0].1.starts_with("1 of 2 held pictures"));
    }
}
