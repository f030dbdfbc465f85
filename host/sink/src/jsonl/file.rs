//! A file of lines that rotates by size and heals its own end.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fs::{File, FileSystem};

/// Read at once while looking for the last line break.
const CHUNK: u64 = 64 << 10;

/// Appends whole lines. After an error the next append opens the file anew and cuts off what was half written.
#[derive(Debug)]
pub(crate) struct RotatingFile {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    rotate_bytes: u64,
    keep: u32,
    open: Option<Open>,
    /// A file that ended in half a line when it was opened, since asked last.
    torn: u64,
}

#[derive(Debug)]
struct Open {
    file: Box<dyn File>,
    dirty: bool,
}

impl RotatingFile {
    pub(crate) fn new(fs: Arc<dyn FileSystem>, path: PathBuf, rotate_bytes: u64, keep: u32) -> Self {
        Self { fs, path, rotate_bytes, keep, open: None, torn: 0 }
    }

    /// Appends whole lines: all of them, or none and an error.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let result = self.try_append(lines);
        if result.is_err() {
            self.open = None;
        }
        result
    }

    fn try_append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.ensure_open()?;
        let Some(open) = &self.open else { unreachable!("opened above") };
        // Asked each time: somebody may have cut the file.
        let size = open.file.size()?;
        if size > 0 && size + lines.len() as u64 > self.rotate_bytes {
            open.file.sync()?;
            self.rotate()?;
            self.ensure_open()?;
        }
        let Some(open) = &mut self.open else { unreachable!("opened above") };
        let size = open.file.size()?;
        open.dirty = true;
        open.file.write_at(lines, size).inspect_err(|_| {
            // If this fails too, opening the file anew does it.
            drop(open.file.set_size(size));
        })
    }

    /// Makes written lines durable.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        match &mut self.open {
            Some(open) if open.dirty => open.file.sync().map(|()| open.dirty = false),
            _ => Ok(()),
        }
    }

    /// Half-written lines cut off since this was asked last.
    pub(crate) fn take_torn(&mut self) -> u64 {
        std::mem::take(&mut self.torn)
    }

    fn ensure_open(&mut self) -> io::Result<()> {
        if self.open.is_some() {
            return Ok(());
        }
        if let Some(dir) = self.path.parent() {
            self.fs.create_dir_all(dir)?;
        }
        let file = self.fs.open(&self.path, true)?;
        let size = file.size()?;
        let whole = end_of_last_line(&*file, size)?;
        if whole < size {
            tracing::warn!(path = %self.path.display(), bytes = size - whole, "A half-written line was cut off.");
            file.set_size(whole)?;
            self.torn += 1;
        }
        self.open = Some(Open { file, dirty: false });
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        if self.keep == 0 {
            return self.fs.remove(&self.path);
        }
        // From the oldest on; a gap from an earlier failure is no error.
        for n in (1..self.keep).rev() {
            ignore_missing(self.fs.rename(&numbered(&self.path, n), &numbered(&self.path, n + 1)))?;
        }
        self.fs.rename(&self.path, &numbered(&self.path, 1))
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn numbered(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}

fn end_of_last_line(file: &dyn File, size: u64) -> io::Result<u64> {
    let mut end = size;
    let mut chunk = Vec::new();
    while end > 0 {
        let from = end.saturating_sub(CHUNK);
        chunk.resize((end - from) as usize, 0);
        let n = file.read_at(&mut chunk, from)?;
        if let Some(at) = chunk[..n].iter().rposition(|&b| b == b'\n') {
            return Ok(from + at as u64 + 1);
        }
        end = from;
    }
    Ok(0)
}

/// A file name for a topic. Longest names get a sum instead of their end: with `.jsonl` and a number they would be
/// longer than file systems allow (255 bytes). `~` is in no topic, so no two topics meet.
pub(crate) fn topic_file_name(topic: &str) -> String {
    if topic.len() <= 230 {
        format!("{topic}.jsonl")
    } else {
        format!("{}~{:08x}.jsonl", &topic[..200], crc32fast::hash(topic.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::mem_fs::MemFs;

    fn file(fs: &MemFs, keep: u32) -> RotatingFile {
        RotatingFile::new(Arc::new(fs.clone()), "/m/t.jsonl".into(), 10, keep)
    }

    fn text(fs: &MemFs, path: &str) -> Option<String> {
        fs.read(Path::new(path)).map(|b| String::from_utf8(b).unwrap())
    }

    #[test]
    fn it_rotates_and_keeps_so_many() {
        let fs = MemFs::default();
        let mut f = file(&fs, 2);
        for n in 0..5 {
            f.append(format!("line {n}\n").as_bytes()).unwrap();
        }
        f.append(b"one that is longer than a file may be\n").unwrap();
        assert_eq!(text(&fs, "/m/t.jsonl").unwrap(), "one that is longer than a file may be\n");
        assert_eq!(text(&fs, "/m/t.jsonl.1").unwrap(), "line 4\n");
        assert_eq!(text(&fs, "/m/t.jsonl.2").unwrap(), "line 3\n");
        assert_eq!(fs.paths().len(), 3);
        let fs = MemFs::default();
        let mut f = file(&fs, 0);
        f.append(b"aaaaaaaa\n").unwrap();
        f.append(b"bbbbbbbb\n").unwrap();
        assert_eq!((fs.paths().len(), text(&fs, "/m/t.jsonl").unwrap().as_str()), (1, "bbbbbbbb\n"));
    }

    #[test]
    fn a_half_written_line_is_cut_off_at_the_start_and_after_a_full_disk() {
        let fs = MemFs::default();
        fs.write(Path::new("/m/t.jsonl"), b"a\nhalf");
        let mut f = file(&fs, 1);
        f.append(b"b\n").unwrap();
        assert_eq!((text(&fs, "/m/t.jsonl").unwrap().as_str(), f.take_torn(), f.take_torn()), ("a\nb\n", 1, 0));
        fs.set_space(Some(3));
        assert!(f.append(b"ccccc\n").is_err());
        assert_eq!(text(&fs, "/m/t.jsonl").unwrap(), "a\nb\n");
        fs.set_space(None);
        f.append(b"d\n").unwrap();
        assert_eq!((text(&fs, "/m/t.jsonl").unwrap().as_str(), f.take_torn()), ("a\nb\nd\n", 0));
    }

    #[test]
    fn every_topic_has_a_file_name_that_fits() {
        let long = "x".repeat(249);
        assert!(topic_file_name(&long).len() + ".10000".len() <= 255);
        assert_ne!(topic_file_name(&long), topic_file_name(&format!("{}y", &long[..248])));
        assert_eq!(topic_file_name("a.b"), "a.b.jsonl");
    }
}
