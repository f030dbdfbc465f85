//! Compiled components on disk, so that a host with known guests starts at once.
//!
//! Owns the files `<dir>/<engine>/<digest>.bin`. Machine code is run as it is, so only files written by this process's
//! user, readable by nobody else, whose own checksum is right, are ever given to wasmtime; anything else is compiled
//! anew and overwritten. Must not take bytes from anywhere else.
//!
//! A file is: 8 bytes of magic, 32 bytes SHA-256 of the rest, the code as wasmtime serialises it. The checksum catches
//! damage (a full disk, a crash), not an attacker: who can write as this user owns the process anyway.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;

const MAGIC: &[u8; 8] = b"FSGUEST1";
const HEADER: usize = 8 + 32;

/// A folder of compiled components for one engine.
#[derive(Debug)]
pub(crate) struct CompiledCache {
    dir: PathBuf,
}

impl CompiledCache {
    /// `engine` names everything that the machine code depends on.
    pub(crate) fn new(dir: PathBuf, engine: &str) -> Self {
        Self { dir: dir.join(engine) }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{}.bin", digest.hex()))
    }

    /// The code of a component, if a sound file of ours has it. A file that is there but not sound is reported in the
    /// log and taken as absent: the caller compiles and overwrites it.
    pub(crate) fn read(&self, digest: &Digest) -> Option<Vec<u8>> {
        let path = self.path(digest);
        match read_checked(&path) {
            Ok(code) => Some(code),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => {
                tracing::warn!(path = %path.display(), error = %e, "a compiled guest in the cache is not usable; compiling it anew");
                None
            }
        }
    }

    /// Keeps the code of a component. Written aside and renamed, so that a crash leaves the old file or the new one.
    pub(crate) fn write(&self, digest: &Digest, code: &[u8]) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let path = self.path(digest);
        let aside = self.dir.join(format!(".{}.{}.tmp", digest.hex(), std::process::id()));
        let result = (|| {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
            file.write_all(MAGIC)?;
            file.write_all(&Sha256::digest(code))?;
            file.write_all(code)?;
            file.sync_all()?;
            fs::rename(&aside, &path)
        })();
        if result.is_err() {
            // Best effort: the error that matters is already in hand.
            let _removed = fs::remove_file(&aside);
        }
        result
    }
}

fn read_checked(path: &Path) -> io::Result<Vec<u8>> {
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    // O_NOFOLLOW: a link planted in the folder must not lead elsewhere.
    let mut file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let meta = file.metadata()?;
    // SAFETY: geteuid has no preconditions and cannot fail.
    #[allow(unsafe_code)]
    let me = unsafe { libc::geteuid() };
    if !meta.is_file() || meta.uid() != me || meta.mode() & 0o077 != 0 {
        return Err(bad("it is not a plain file that this user alone can reach"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0));
    io::Read::read_to_end(&mut file, &mut bytes)?;
    if bytes.len() < HEADER || !bytes.starts_with(MAGIC) {
        return Err(bad("it does not begin as our files do"));
    }
    if Sha256::digest(&bytes[HEADER..]).as_slice() != &bytes[8..HEADER] {
        return Err(bad("its checksum is wrong"));
    }
    bytes.drain(..HEADER);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_sound_files_of_ours_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let cache = CompiledCache::new(dir.path().to_owned(), "engine");
        let digest = Digest::of(b"x");
        assert_eq!(cache.read(&digest), None);
        cache.write(&digest, b"code").unwrap();
        assert_eq!(cache.read(&digest).as_deref(), Some(&b"code"[..]));
        let path = cache.path(&digest);
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));

        let sound = fs::read(&path).unwrap();
        let mut flipped = sound.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for damaged in [&flipped[..], &sound[..20], b""] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(cache.read(&digest), None);
        }
        fs::write(&path, &sound).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(cache.read(&digest), None, "others could have written it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert_eq!(cache.read(&digest), None, "a link is not followed");
    }
}
