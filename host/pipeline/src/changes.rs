//! Which cameras are being started, stopped or changed right now: one change a camera at a time.
//!
//! Owns marks and waiting for them, on async tasks and on threads. Must not know what a change does. All changes come to
//! an end, so whoever waits does too; who comes first is not decided here.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use facestream_core::CameraId;
use tokio::sync::Notify;

/// The cameras that change.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    ids: Mutex<BTreeSet<CameraId>>,
    /// A change has ended: for threads and for tasks.
    ended: Condvar,
    told: Notify,
}

/// Marks a camera as changing until dropped.
#[derive(Debug)]
pub(crate) struct Changing<'a> {
    changes: &'a Changes,
    id: CameraId,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.changes.lock().remove(&self.id);
        self.changes.ended.notify_all();
        self.changes.told.notify_waiters();
    }
}

impl Changes {
    /// Marks a camera, unless it is marked.
    pub(crate) fn begin(&self, id: &CameraId) -> Option<Changing<'_>> {
        self.lock().insert(id.clone()).then(|| self.marked(id))
    }

    /// Marks a camera once nobody else has it; blocks the thread until then.
    pub(crate) fn begin_blocking(&self, id: &CameraId) -> Changing<'_> {
        let mut ids = self.lock();
        while !ids.insert(id.clone()) {
            ids = self.ended.wait(ids).unwrap_or_else(PoisonError::into_inner);
        }
        drop(ids);
        self.marked(id)
    }

    /// Marks a camera once nobody else has it.
    pub(crate) async fn begin_later(&self, id: &CameraId) -> Changing<'_> {
        loop {
            // Before looking: an end that comes in between is not missed.
            let told = self.told.notified();
            if let Some(changing) = self.begin(id) {
                return changing;
            }
            told.await;
        }
    }

    /// Waits until no camera changes.
    pub(crate) async fn none(&self) {
        loop {
            let told = self.told.notified();
            if self.lock().is_empty() {
                return;
            }
            told.await;
        }
    }

    fn marked(&self, id: &CameraId) -> Changing<'_> {
        Changing { changes: self, id: id.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<CameraId>> {
        // Nothing panics while it is held; should it, the set is still whole.
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_camera_is_changed_by_one_at_a_time_and_everybody_has_their_turn() {
        let changes = Arc::new(Changes::default());
        let (id, other) = (CameraId::new("a").unwrap(), CameraId::new("b").unwrap());
        let first = changes.begin(&id).unwrap();
        assert!(changes.begin(&id).is_none());
        assert!(changes.begin(&other).is_some(), "another camera is another matter");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let (inside, done) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let turn = |inside: &AtomicU32, done: &AtomicU32| {
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "alone");
            std::thread::yield_now();
            inside.fetch_sub(1, Ordering::SeqCst);
            done.fetch_add(1, Ordering::SeqCst);
        };
        let mut waiting = Vec::new();
        for _ in 0..4 {
            let (changes, id, inside, done) = (Arc::clone(&changes), id.clone(), inside.clone(), done.clone());
            waiting.push(std::thread::spawn(move || {
                let _changing = changes.begin_blocking(&id);
                turn(&inside, &done);
            }));
        }
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let (changes, id, inside, done) = (Arc::clone(&changes), id.clone(), inside.clone(), done.clone());
                runtime.spawn(async move {
                    let _changing = changes.begin_later(&id).await;
                    turn(&inside, &done);
                })
            })
            .collect();
        assert_eq!(done.load(Ordering::SeqCst), 0);
        drop(first);
        waiting.into_iter().for_each(|thread| thread.join().unwrap());
        runtime.block_on(async {
            for task in tasks {
                task.await.unwrap();
            }
            changes.none().await;
        });
        assert_eq!(done.load(Ordering::SeqCst), 8);
    }
}
