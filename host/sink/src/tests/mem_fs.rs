//! A disk in memory whose power can be cut and whose space can run out, at any call.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::fs::{File, FileSystem};

#[derive(Debug, Default, Clone)]
struct Data {
    bytes: Vec<u8>,
    /// What a power cut leaves.
    durable: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<PathBuf, Arc<Mutex<Data>>>,
    /// Names that a power cut leaves, and what they name.
    durable_names: BTreeMap<PathBuf, Arc<Mutex<Data>>>,
    locked: BTreeSet<PathBuf>,
    /// Bytes that may still be written.
    space: Option<u64>,
    /// Calls that change something until every call fails; the one that fails has half an effect.
    calls_left: Option<u64>,
    sync_fails: bool,
    /// A file that cannot be synced.
    sync_fails_of: Option<Arc<Mutex<Data>>>,
    read_fails: bool,
    /// Number of the error that opening a file that is there gives.
    open_error: Option<i32>,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct MemFs(Arc<Mutex<State>>);

#[derive(Debug)]
struct MemFile {
    fs: MemFs,
    data: Arc<Mutex<Data>>,
}

fn no_space() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "no space left on device")
}

impl MemFs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// So many bytes may be written from now on; `None`: as many as you like.
    pub(crate) fn set_space(&self, bytes: Option<u64>) {
        self.state().space = bytes;
    }

    pub(crate) fn fail_syncs(&self, fail: bool) {
        self.state().sync_fails = fail;
    }

    pub(crate) fn fail_syncs_of(&self, path: &Path) {
        let mut state = self.state();
        state.sync_fails_of = state.files.get(path).cloned();
    }

    pub(crate) fn fail_reads(&self, fail: bool) {
        self.state().read_fails = fail;
    }

    pub(crate) fn fail_opens(&self, error: Option<i32>) {
        self.state().open_error = error;
    }

    /// After so many more calls that change something, all fail.
    pub(crate) fn die_after(&self, calls: u64) {
        self.state().calls_left = Some(calls);
    }

    /// What is left when the process is killed: everything that was written.
    pub(crate) fn after_kill(&self) -> Self {
        self.copy(|state| &state.files, |data| data.bytes.clone())
    }

    /// What is left when the power is cut: what was synced.
    pub(crate) fn after_power_cut(&self) -> Self {
        self.copy(|state| &state.durable_names, |data| data.durable.clone())
    }

    fn copy(
        &self,
        names: impl Fn(&State) -> &BTreeMap<PathBuf, Arc<Mutex<Data>>>,
        bytes: impl Fn(&Data) -> Vec<u8>,
    ) -> Self {
        let fs = Self::default();
        for (path, data) in names(&self.state()) {
            fs.write(path, &bytes(&data.lock().unwrap()));
        }
        fs
    }

    pub(crate) fn write(&self, path: &Path, bytes: &[u8]) {
        let data = Arc::new(Mutex::new(Data { bytes: bytes.to_vec(), durable: bytes.to_vec() }));
        let mut state = self.state();
        state.durable_names.insert(path.into(), Arc::clone(&data));
        state.files.insert(path.into(), data);
    }

    pub(crate) fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let data = Arc::clone(self.state().files.get(path)?);
        let bytes = data.lock().unwrap().bytes.clone();
        Some(bytes)
    }

    /// Flips a bit of a byte.
    pub(crate) fn flip(&self, path: &Path, at: usize) {
        let data = Arc::clone(&self.state().files[path]);
        let mut data = data.lock().unwrap();
        data.bytes[at] ^= 4;
        data.durable = data.bytes.clone();
    }

    pub(crate) fn cut(&self, path: &Path, size: usize) {
        let data = Arc::clone(&self.state().files[path]);
        data.lock().unwrap().bytes.truncate(size);
    }

    pub(crate) fn delete(&self, path: &Path) {
        self.state().files.remove(path).unwrap();
    }

    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.state().files.keys().cloned().collect()
    }

    /// Counts a call that changes something. `Err`: it fails, having had half its effect if it can.
    fn call(&self) -> io::Result<()> {
        match &mut self.state().calls_left {
            Some(0) => Err(io::Error::other("the machine is dead")),
            Some(n) => {
                *n -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl FileSystem for MemFs {
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let state = self.state();
        let here = state.files.iter().filter(|(path, _)| path.parent() == Some(dir));
        Ok(here
            .map(|(p, d)| (p.file_name().unwrap().to_str().unwrap().into(), d.lock().unwrap().bytes.len() as u64))
            .collect())
    }

    fn dirs(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let names: BTreeSet<String> = state
            .files
            .keys()
            .filter_map(|path| {
                let mut rest = path.strip_prefix(dir).ok()?.components();
                let first = rest.next()?;
                rest.next().map(|_| first.as_os_str().to_str().unwrap().to_owned())
            })
            .collect();
        Ok(names.into_iter().collect())
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn File>> {
        let state = self.state();
        if let Some(error) = state.open_error.filter(|_| !create) {
            return Err(io::Error::from_raw_os_error(error));
        }
        let there = state.files.get(path).cloned();
        drop(state);
        let data = match there {
            Some(data) => data,
            None if create => {
                self.call()?;
                let data = Arc::<Mutex<Data>>::default();
                self.state().files.insert(path.into(), Arc::clone(&data));
                data
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Box::new(MemFile { fs: self.clone(), data }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call()?;
        self.state().files.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call()?;
        let mut state = self.state();
        let data = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.files.insert(to.into(), data);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.call()?;
        let mut state = self.state();
        let here = |path: &Path| path.parent() == Some(dir);
        let now: Vec<_> =
            state.files.iter().filter(|(p, _)| here(p)).map(|(p, d)| (p.clone(), Arc::clone(d))).collect();
        state.durable_names.retain(|p, _| !here(p));
        state.durable_names.extend(now);
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        struct Lock(MemFs, PathBuf);
        impl Drop for Lock {
            fn drop(&mut self) {
                self.0.state().locked.remove(&self.1);
            }
        }
        if self.state().locked.insert(path.into()) {
            Ok(Box::new(Lock(self.clone(), path.into())))
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }
}

impl File for MemFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.data.lock().unwrap().bytes.len() as u64)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.fs.state().read_fails {
            return Err(io::Error::other("read error"));
        }
        let data = self.data.lock().unwrap();
        let from = (offset as usize).min(data.bytes.len());
        let n = into.len().min(data.bytes.len() - from);
        into[..n].copy_from_slice(&data.bytes[from..from + n]);
        Ok(n)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let dead = self.fs.call();
        let mut data = self.data.lock().unwrap();
        // What was written once has its place.
        let there = data.bytes.len().saturating_sub(offset as usize).min(bytes.len());
        let room = match &mut self.fs.state().space {
            Some(space) => {
                let n = (*space).min((bytes.len() - there) as u64);
                *space -= n;
                there + n as usize
            }
            None => bytes.len(),
        };
        let n = if dead.is_err() { room.min(bytes.len() / 2) } else { room };
        let end = offset as usize + n;
        if data.bytes.len() < end {
            data.bytes.resize(end, 0);
        }
        data.bytes[offset as usize..end].copy_from_slice(&bytes[..n]);
        drop(data);
        dead?;
        if n < bytes.len() { Err(no_space()) } else { Ok(()) }
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.fs.call()?;
        let mut data = self.data.lock().unwrap();
        data.bytes.resize(bytes as usize, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.fs.call()?;
        let state = self.fs.state();
        if state.sync_fails || state.sync_fails_of.as_ref().is_some_and(|bad| Arc::ptr_eq(bad, &self.data)) {
            return Err(io::Error::other("sync error"));
        }
        drop(state);
        let mut data = self.data.lock().unwrap();
        data.durable = data.bytes.clone();
        Ok(())
    }
}
