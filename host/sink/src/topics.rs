//! Which topics are in use, in all and by each camera, and whether one more may be.
//!
//! Guests choose topics: one that makes them up must use up its own camera's share, not everybody's. A topic counts once
//! a sink took a message for it. Must not know sinks, or why they refuse.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use facestream_core::CameraId;

use crate::status::RefuseReason;

/// Cameras come and go without end: beyond so many the topics of each are counted anew. Many more than one host runs.
const MAX_CAMERAS: usize = 4096;

#[derive(Debug)]
pub(crate) struct Topics {
    max: usize,
    max_per_camera: usize,
    used: RwLock<Used>,
}

/// Bounded: the first by `max`, the second by `MAX_CAMERAS` times `max_per_camera`.
#[derive(Debug, Default)]
struct Used {
    all: BTreeMap<Arc<str>, Use>,
    by_camera: HashMap<CameraId, BTreeMap<Arc<str>, Use>>,
}

#[derive(Debug, Default)]
struct Use {
    /// A sink took a message for it.
    taken: bool,
    /// Messages that sinks are being asked about: a place is kept until they have answered.
    asking: usize,
}

impl Topics {
    pub(crate) fn new(max: usize, max_per_camera: usize) -> Self {
        Self { max, max_per_camera, used: RwLock::default() }
    }

    /// Whether sinks may be asked to take a message. `true`: the topic is a new one here, and the caller calls
    /// [`Topics::settle`] when they have answered.
    pub(crate) fn enter(&self, camera: &CameraId, topic: &str) -> Result<bool, RefuseReason> {
        if self.read().by_camera.get(camera).and_then(|topics| topics.get(topic)).is_some_and(|used| used.taken) {
            return Ok(false);
        }
        let mut used = self.write();
        let Used { all, by_camera } = &mut *used;
        let (known, count) = by_camera.get(camera).map_or((false, 0), |t| (t.contains_key(topic), t.len()));
        if !known && count >= self.max_per_camera {
            return Err(RefuseReason::TooManyTopicsOfCamera);
        }
        if !all.contains_key(topic) && all.len() >= self.max {
            return Err(RefuseReason::TooManyTopics);
        }
        if by_camera.len() >= MAX_CAMERAS && !by_camera.contains_key(camera) {
            by_camera.clear();
        }
        for topics in [all, by_camera.entry(camera.clone()).or_default()] {
            topics.entry(topic.into()).or_default().asking += 1;
        }
        Ok(true)
    }

    /// What became of a message whose topic was a new one.
    pub(crate) fn settle(&self, camera: &CameraId, topic: &str, taken: bool) {
        let mut used = self.write();
        let Used { all, by_camera } = &mut *used;
        for topics in [Some(all), by_camera.get_mut(camera)].into_iter().flatten() {
            // Not there when the cameras were counted anew meanwhile.
            let Some(used) = topics.get_mut(topic) else { continue };
            used.taken |= taken;
            used.asking = used.asking.saturating_sub(1);
            if !used.taken && used.asking == 0 {
                topics.remove(topic);
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Used> {
        self.used.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Used> {
        self.used.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera(n: usize) -> CameraId {
        CameraId::new(&format!("cam-{n}")).unwrap()
    }

    fn take(topics: &Topics, camera: &CameraId, topic: &str) -> Result<(), RefuseReason> {
        if topics.enter(camera, topic)? {
            topics.settle(camera, topic, true);
        }
        Ok(())
    }

    #[test]
    fn places_are_kept_while_sinks_are_asked_and_given_up_when_they_refuse() {
        let topics = Topics::new(2, 2);
        let (a, b) = (camera(1), camera(2));
        take(&topics, &a, "t").unwrap();
        // Two at the same time for the last place, with one topic and with another.
        assert_eq!((topics.enter(&a, "u"), topics.enter(&b, "u")), (Ok(true), Ok(true)));
        assert_eq!(topics.enter(&b, "v"), Err(RefuseReason::TooManyTopics));
        topics.settle(&a, "u", false);
        assert_eq!(topics.enter(&b, "v"), Err(RefuseReason::TooManyTopics), "one is still being asked about");
        topics.settle(&b, "u", false);
        assert_eq!(take(&topics, &b, "v"), Ok(()));
        assert_eq!(topics.enter(&b, "v"), Ok(false));
        assert_eq!(take(&topics, &a, "u"), Err(RefuseReason::TooManyTopics));
    }

    #[test]
    fn cameras_that_come_and_go_do_not_fill_the_memory() {
        let topics = Topics::new(8, 1);
        for n in 0..MAX_CAMERAS + 10 {
            take(&topics, &camera(n), "t").unwrap();
            assert!(topics.read().by_camera.len() <= MAX_CAMERAS);
        }
        assert_eq!(take(&topics, &camera(MAX_CAMERAS + 5), "u"), Err(RefuseReason::TooManyTopicsOfCamera));
        // Settled after the count began anew: nothing to do for that camera.
        topics.settle(&camera(0), "t", true);
        assert_eq!(take(&topics, &camera(0), "u"), Ok(()));
    }
}
