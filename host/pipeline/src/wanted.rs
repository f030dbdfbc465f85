//! The wanted cameras and the latest rollouts, kept over a restart of the host.
//!
//! Owns the SQLite file (mode 0600: addresses hold passwords). Must not start anything. A trait stands before it, so
//! that a shared store (a compacted Kafka topic, say) can take its place.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use facestream_core::camera::Transport;
use facestream_core::guest::{GuestsSpec, RolloutStatus};
use facestream_core::{CameraId, CameraSpec, SourceUrl, WorkerId};
use rusqlite::{Connection, OptionalExtension as _, params};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use crate::book::SlotRecords;

/// Rollouts that are remembered.
pub const ROLLOUTS: usize = 32;

/// Remembers which cameras are wanted, and what was rolled out over them.
pub trait WantedStore: Send + Sync {
    /// Adds or replaces one.
    ///
    /// # Errors
    /// When it could not be kept.
    fn put(&self, worker: WorkerId, spec: &CameraSpec) -> Result<(), WantedError>;
    /// Forgets one, and tells whether there was one.
    ///
    /// # Errors
    /// When the store could not be changed.
    fn remove(&self, id: &CameraId) -> Result<bool, WantedError>;
    /// Keeps what was changed in a camera's slots, until the camera is forgotten.
    ///
    /// # Errors
    /// When it could not be kept.
    fn put_slots(&self, id: &CameraId, slots: &SlotRecords) -> Result<(), WantedError>;
    /// What was changed in a camera's slots; nothing when nothing was.
    ///
    /// # Errors
    /// When the store could not be read, or holds it in a form of another version.
    fn slots(&self, id: &CameraId) -> Result<SlotRecords, WantedError>;
    /// Keeps how a rollout stands; of all that were given the latest [`ROLLOUTS`] are kept.
    ///
    /// # Errors
    /// When it could not be kept.
    fn put_rollout(&self, rollout: &RolloutStatus) -> Result<(), WantedError>;
    /// The rollouts that are kept, the oldest first; one in a form of another version is left out.
    ///
    /// # Errors
    /// When the store could not be read.
    fn rollouts(&self) -> Result<Vec<RolloutStatus>, WantedError>;
    /// All of them, by worker id.
    ///
    /// # Errors
    /// When the store could not be read.
    fn all(&self) -> Result<Wanted, WantedError>;
}

/// What a store holds.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Cameras, by worker id.
    pub cameras: Vec<(WorkerId, CameraSpec)>,
    /// Entries that this version cannot read: one of them must not keep the others from running.
    pub unreadable: Vec<WantedError>,
}

/// The store of wanted cameras failed.
#[derive(Debug, thiserror::Error)]
pub enum WantedError {
    /// SQLite's own words.
    #[error("the store of wanted cameras failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file could not be made.
    #[error("the store of wanted cameras could not be opened at {path}: {source}")]
    Open {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// How a rollout stands could not be written down.
    #[error("rollout {id} could not be written down: {source}")]
    Rollout {
        /// Which.
        id: u64,
        /// Why.
        source: serde_json::Error,
    },
    /// A row that this version cannot read. Holds no address.
    #[error("the store holds camera {camera} in a form that this version cannot read: {reason}")]
    Row {
        /// Which camera.
        camera: String,
        /// Why.
        reason: String,
    },
}

/// The form in which a camera is written down. Grows by optional fields only.
#[derive(Serialize, Deserialize)]
struct Row {
    url: String,
    transport: Transport,
    model: Option<String>,
    detect_fps: Option<f32>,
    keyframes_only: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gpu: Option<usize>,
    max_attempts: Option<u32>,
    #[serde(default)]
    camera_motion: bool,
    guests: GuestsSpec,
}

/// The embedded store: one SQLite file.
pub struct SqliteWanted {
    connection: Mutex<Connection>,
}

impl SqliteWanted {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// When it cannot be made, or is no database of ours.
    pub fn open(path: &Path) -> Result<Self, WantedError> {
        use std::fs::Permissions;
        use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
        // Made before SQLite sees it, so that it is never readable by others, not even for a moment.
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            // A file that was there already, restored from a copy say, may have been open to others.
            .and_then(|file| file.set_permissions(Permissions::from_mode(0o600)))
            .map_err(|source| WantedError::Open { path: path.display().to_string(), source })?;
        Self::with(Connection::open(path)?)
    }

    /// In memory only; for runs that keep nothing.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn in_memory() -> Result<Self, WantedError> {
        Self::with(Connection::open_in_memory()?)
    }

    fn with(connection: Connection) -> Result<Self, WantedError> {
        connection.execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA secure_delete = ON;
             CREATE TABLE IF NOT EXISTS cameras (
                 id TEXT PRIMARY KEY, worker_id INTEGER NOT NULL, spec TEXT NOT NULL
             ) STRICT;
             CREATE TABLE IF NOT EXISTS slots (
                 camera TEXT PRIMARY KEY, records TEXT NOT NULL
             ) STRICT;
             CREATE TABLE IF NOT EXISTS rollouts (
                 id INTEGER PRIMARY KEY, status TEXT NOT NULL
             ) STRICT;",
        )?;
        Ok(Self { connection: Mutex::new(connection) })
    }
}

impl WantedStore for SqliteWanted {
    fn put(&self, worker: WorkerId, spec: &CameraSpec) -> Result<(), WantedError> {
        let row = Row {
            url: spec.url.expose().expose_secret().to_owned(),
            transport: spec.transport,
            model: spec.model.clone(),
            detect_fps: spec.detect_fps,
            keyframes_only: spec.keyframes_only,
            gpu: spec.gpu,
            max_attempts: spec.max_attempts,
            camera_motion: spec.camera_motion,
            guests: spec.guests.clone(),
        };
        let json = serde_json::to_string(&row).map_err(|e| bad_row(spec.id.as_str(), &e))?;
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        connection.execute(
            "INSERT INTO cameras (id, worker_id, spec) VALUES (?1, ?2, ?3)
             ON CONFLICT (id) DO UPDATE SET worker_id = ?2, spec = ?3",
            params![spec.id.as_str(), worker.cast_signed(), json],
        )?;
        Ok(())
    }

    fn remove(&self, id: &CameraId) -> Result<bool, WantedError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let both = connection.transaction()?;
        both.execute("DELETE FROM slots WHERE camera = ?1", params![id.as_str()])?;
        let removed = both.execute("DELETE FROM cameras WHERE id = ?1", params![id.as_str()])? > 0;
        both.commit()?;
        // Its address may hold a password, and older pages stay in the log until it is started over. The camera is
        // forgotten already, so a disk that has no room for this is only noted.
        if removed && let Err(error) = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::warn!(camera = %id, %error, "its address may stay in the log of the database until the next stop");
        }
        Ok(removed)
    }

    fn put_slots(&self, id: &CameraId, slots: &SlotRecords) -> Result<(), WantedError> {
        let json = serde_json::to_string(slots).map_err(|e| bad_row(id.as_str(), &e))?;
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        connection.execute(
            "INSERT INTO slots (camera, records) VALUES (?1, ?2) ON CONFLICT (camera) DO UPDATE SET records = ?2",
            params![id.as_str(), json],
        )?;
        Ok(())
    }

    fn slots(&self, id: &CameraId) -> Result<SlotRecords, WantedError> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let json: Option<String> = connection
            .query_row("SELECT records FROM slots WHERE camera = ?1", params![id.as_str()], |r| r.get(0))
            .optional()?;
        json.map_or_else(
            || Ok(SlotRecords::default()),
            |json| serde_json::from_str(&json).map_err(|e| bad_row(id.as_str(), &e)),
        )
    }

    fn put_rollout(&self, rollout: &RolloutStatus) -> Result<(), WantedError> {
        // Not its cameras' addresses: a rollout knows names alone.
        let json = serde_json::to_string(rollout).map_err(|source| WantedError::Rollout { id: rollout.id, source })?;
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let both = connection.transaction()?;
        both.execute(
            "INSERT INTO rollouts (id, status) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET status = ?2",
            params![rollout.id.cast_signed(), json],
        )?;
        both.execute(
            "DELETE FROM rollouts WHERE id NOT IN (SELECT id FROM rollouts ORDER BY id DESC LIMIT ?1)",
            params![ROLLOUTS as i64],
        )?;
        both.commit()?;
        Ok(())
    }

    fn rollouts(&self) -> Result<Vec<RolloutStatus>, WantedError> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let mut query = connection.prepare("SELECT id, status FROM rollouts ORDER BY id")?;
        let rows = query.query_map([], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, String>(1)?)))?;
        let mut rollouts = Vec::new();
        for row in rows {
            let (id, json) = row?;
            match serde_json::from_str(&json) {
                Ok(rollout) => rollouts.push(rollout),
                Err(error) => {
                    tracing::warn!(rollout = id, %error, "a rollout is kept in a form that this version cannot read")
                }
            }
        }
        Ok(rollouts)
    }

    fn all(&self) -> Result<Wanted, WantedError> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let mut query = connection.prepare("SELECT id, worker_id, spec FROM cameras ORDER BY worker_id")?;
        let rows =
            query.query_map([], |r| Ok((r.get::<_, String>(0)?, r.get::<_, i64>(1)?, r.get::<_, String>(2)?)))?;
        let mut wanted = Wanted::default();
        for row in rows {
            let (id, worker, json) = row?;
            match read(&id, &json) {
                Ok(spec) => wanted.cameras.push((worker.cast_unsigned(), spec)),
                Err(error) => wanted.unreadable.push(error),
            }
        }
        Ok(wanted)
    }
}

fn read(id: &str, json: &str) -> Result<CameraSpec, WantedError> {
    let row: Row = serde_json::from_str(json).map_err(|e| bad_row(id, &e))?;
    Ok(CameraSpec {
        id: CameraId::new(id).map_err(|e| bad_row(id, &e))?,
        url: SourceUrl::parse(&row.url).map_err(|e| bad_row(id, &e))?,
        transport: row.transport,
        model: row.model,
        detect_fps: row.detect_fps,
        keyframes_only: row.keyframes_only,
        gpu: row.gpu,
        max_attempts: row.max_attempts,
        camera_motion: row.camera_motion,
        guests: row.guests,
    })
}

fn bad_row(camera: &str, reason: &dyn std::fmt::Display) -> WantedError {
    WantedError::Row { camera: camera.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn spec(id: &str) -> CameraSpec {
        CameraSpec {
            id: CameraId::new(id).unwrap(),
            url: SourceUrl::parse("rtsp://u:p@10.0.0.1/s").unwrap(),
            transport: Transport::Udp,
            model: Some("yunet".to_owned()),
            detect_fps: Some(12.5),
            keyframes_only: true,
            gpu: Some(1),
            max_attempts: Some(5),
            camera_motion: true,
            guests: GuestsSpec::default(),
        }
    }

    #[test]
    fn cameras_come_back_as_they_were_and_only_the_owner_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cameras.db");
        let store = SqliteWanted::open(&path).unwrap();
        store.put(2, &spec("b")).unwrap();
        store.put(1, &spec("a")).unwrap();
        store.put(3, &spec("gone")).unwrap();
        assert!(store.remove(&CameraId::new("gone").unwrap()).unwrap());
        assert!(!store.remove(&CameraId::new("gone").unwrap()).unwrap(), "there is none any more");
        drop(store);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let again = SqliteWanted::open(&path).unwrap();
        assert_eq!(again.all().unwrap().cameras, [(1, spec("a")), (2, spec("b"))]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_password_of_a_forgotten_camera_is_in_no_file_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteWanted::open(&dir.path().join("cameras.db")).unwrap();
        let kept = CameraSpec { url: SourceUrl::parse("rtsp://u:Kept-7@10.0.0.1/s").unwrap(), ..spec("kept") };
        let gone = CameraSpec { url: SourceUrl::parse("rtsp://u:Gone-7@10.0.0.1/s").unwrap(), ..spec("gone") };
        store.put(1, &kept).unwrap();
        store.put(2, &gone).unwrap();
        let holds = |password: &str| {
            let files = std::fs::read_dir(dir.path()).unwrap().map(|f| std::fs::read(f.unwrap().path()).unwrap());
            files.filter(|bytes| bytes.windows(password.len()).any(|w| w == password.as_bytes())).count()
        };
        assert!(holds("Gone-7") > 0, "as it must be, to come back");
        store.remove(&gone.id).unwrap();
        assert_eq!(holds("Gone-7"), 0);
        assert!(holds("Kept-7") > 0);
    }

    #[test]
    fn a_row_from_before_camera_motion_has_none() {
        let store = SqliteWanted::in_memory().unwrap();
        store.put(1, &spec("a")).unwrap();
        let forget = "UPDATE cameras SET spec = json_remove(spec, '$.camera_motion')";
        assert_eq!(store.connection.lock().unwrap().execute(forget, []).unwrap(), 1);
        let expected = CameraSpec { camera_motion: false, ..spec("a") };
        assert_eq!(store.all().unwrap().cameras, [(1, expected)]);
    }

    #[test]
    fn a_row_of_another_version_is_named_shows_no_address_and_stops_no_other() {
        let store = SqliteWanted::in_memory().unwrap();
        store.put(2, &spec("good")).unwrap();
        let json = r#"{"url":"rtsp://u:secret@h/"}"#;
        let insert = "INSERT INTO cameras VALUES ('odd', 1, ?1)";
        store.connection.lock().unwrap().execute(insert, params![json]).unwrap();
        let wanted = store.all().unwrap();
        assert_eq!(wanted.cameras, [(2, spec("good"))]);
        let error = wanted.unreadable[0].to_string();
        assert!(error.contains("odd") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn the_latest_rollouts_are_kept() {
        use facestream_core::guest::{RolloutState, SlotKind};
        let store = SqliteWanted::in_memory().unwrap();
        let begun = crate::rollout::tests::status(SlotKind::Scorer, &["a"]);
        let rollout = |id: u64, state: RolloutState| RolloutStatus { id, state, ..begun.clone() };
        for id in 0..ROLLOUTS as u64 + 5 {
            store.put_rollout(&rollout(id, RolloutState::Running)).unwrap();
            store.put_rollout(&rollout(id, RolloutState::Done)).unwrap();
        }
        let kept = store.rollouts().unwrap();
        assert_eq!((kept.len(), kept[0].id), (ROLLOUTS, 5));
        assert_eq!(kept[ROLLOUTS - 1], rollout(ROLLOUTS as u64 + 4, RolloutState::Done), "as it stood last");
        store.connection.lock().unwrap().execute("UPDATE rollouts SET status = '{}' WHERE id = 7", []).unwrap();
        assert_eq!(store.rollouts().unwrap().len(), ROLLOUTS - 1, "one that cannot be read hides no other");
    }
}
