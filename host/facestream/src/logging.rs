//! Log lines: where they go and how they look.

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_subscriber::EnvFilter;

/// Sends log lines to standard error, so that standard output stays the command's own. `RUST_LOG` wins over `level`.
pub(crate) fn start(json: bool, level: &str) {
    let mut filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    // Last, so that it wins: the RTSP library's own lines can hold addresses.
    if let Ok(directive) = facestream_ingest::LOG_DIRECTIVE.parse() {
        filter = filter.add_directive(directive);
    }
    let colours = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| OrLost(io::stderr()))
        // It would tell of a line that cannot be written by `eprintln!`, which panics then.
        .log_internal_errors(false)
        .with_ansi(colours);
    let set = if json { builder.json().try_init() } else { builder.try_init() };
    if set.is_err() {
        // A test process starts it more than once; the first one stays.
        tracing::debug!("logging was started already");
    }
}

/// Log lines that standard error did not take since the last that it took.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Takes lines for another writer and loses those that it does not take: a full disk or a log collector that is gone must
/// not end what the lines speak of. The next line that is taken is preceded by how many were lost.
struct OrLost<W>(W);

impl<W: Write> Write for OrLost<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let lost = LOST.swap(0, Ordering::Relaxed);
        let told =
            if lost > 0 { writeln!(self.0, "{lost} log lines could not be written and are lost") } else { Ok(()) };
        if told.and_then(|()| self.0.write_all(line)).is_err() {
            LOST.fetch_add(lost + 1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes nothing until it has room again.
    struct Full(bool, Vec<u8>);

    impl Write for &mut Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 { Err(io::ErrorKind::StorageFull.into()) } else { self.1.write(bytes) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_lost_and_counted() {
        let mut disk = Full(true, Vec::new());
        for _ in 0..3 {
            assert_eq!(OrLost(&mut disk).write(b"a line\n").unwrap(), 7);
        }
        disk.0 = false;
        OrLost(&mut disk).write_all(b"the next\n").unwrap();
        OrLost(&mut disk).write_all(b"and one more\n").unwrap();
        let text = String::from_utf8(disk.1).unwrap();
        assert_eq!(text, "3 log lines could not be written and are lost\nthe next\nand one more\n");
    }
}
